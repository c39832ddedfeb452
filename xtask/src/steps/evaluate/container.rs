//! The container backend: the staged package in the validator's container.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, exit},
};

use anyhow::Context as _;
use deval_container::{
    Engine, Event, Expected, Gpu, Image, Lane, LaneOptions, Limits, Recipe, Refused, RunOptions, Source, podman_socket,
    remove_leftovers,
};
use deval_eval::Evaluation;
use deval_manifest::{Gpu as GpuKey, NetworkAccess};
use deval_model::{Package as Staged, WeightsDigest};
use deval_report::{
    Diagnostic, Inputs, Severity, Step,
    gates::{GateStatus, GateVerdict, Outcome as Cost, gate},
};
use indicatif::ProgressBar;

use crate::{context::Context, findings::Findings, steps::result_of, steps::tree, wallet};

/// What an image is built on by default (upstream `deval/api/dockerfile`; its slim counterpart for machines without a GPU).
const BASES: [(&str, &str); 2] =
    [("cpu", "python:3.11-slim"), ("cuda", "pytorch/pytorch:2.4.0-cuda12.4-cudnn9-runtime")];
/// Exit code after an interrupt, as shells count it.
const INTERRUPTED: i32 = 130;

/// What the answers depend on beside the package.
pub(super) fn inputs(context: &Context, inputs: &mut Inputs) -> anyhow::Result<()> {
    let settings = &context.manifest.container;
    inputs.add("container.image", Recipe::of_pipeline(&image_dir(context)?)?.digest());
    inputs.add("container.base", settings.base.as_deref().unwrap_or("default"));
    inputs.add("container.gpu", settings.gpu.to_string());
    inputs.add("container.memory_gib", settings.memory_gib);
    inputs.add("container.network", format!("{:?}", settings.network).to_lowercase());
    inputs.add("container.fetch", context.flags.container.fetch);
    inputs.add("container.serial_exact", context.flags.container.is_serial_exact());
    Ok(())
}

fn image_dir(context: &Context) -> Result<PathBuf, Findings> {
    let name = &context.manifest.container.image_dir;
    let dir = context.path(name);
    if dir.join("Dockerfile").is_file() {
        return Ok(dir);
    }
    let finding =
        Diagnostic::error("container.image", "there is no image to build: `container.image_dir` has no Dockerfile");
    let finding = finding.found(name).expected("the folder with the Dockerfile of the miner API");
    let finding = finding.help("name the `pipeline` folder of this project in [container] of deval.toml");
    Err(context.place(finding, "container.image_dir").into())
}

/// A container that is ready to be asked, its image built if need be.
///
/// # Errors
/// [`Findings`] when a validator would not ask it anything.
pub(super) fn open(context: &Context, set: &str, spinner: &ProgressBar) -> anyhow::Result<Lane> {
    use_podman()?;
    let engine = Engine::connect()?;
    let removed = remove_leftovers(&engine)?;
    if removed > 0 {
        context.ui.say(format!("removed {removed} containers of killed runs"));
    }
    let settings = &context.manifest.container;
    let gpu = gpu(settings.gpu);
    let (device, default_base) = BASES[usize::from(gpu.is_wanted(&engine))];
    let base = settings.base.as_deref().unwrap_or(default_base);
    let recipe = Recipe::of_pipeline(&image_dir(context)?)?.argument("BASE", base).argument("DEVICE", device);
    let evidence = [("base", base.to_owned()), ("device", device.to_owned()), ("image", recipe.digest())];
    let options = options(context, set, evidence.map(|(name, value)| (name.to_owned(), value)).into())?;
    options.run.check(&engine)?;
    let image = build(context, &engine, &recipe, spinner)?;
    let mut progress = |event| spinner.set_message(phase(&event));
    match Lane::open(&engine, &image, options, &mut progress) {
        Ok(lane) => Ok(lane),
        Err(Refused::Findings(findings)) => Err(Findings(findings).into()),
        Err(Refused::Failed(error)) => Err(error.into()),
    }
}

/// testcontainers finds a Podman service only by `DOCKER_HOST`, which a process cannot safely set for itself: so it starts itself again.
fn use_podman() -> anyhow::Result<()> {
    let Some(socket) = podman_socket() else { return Ok(()) };
    let program = std::env::current_exe().context("cannot find this program")?;
    let host = format!("unix://{}", socket.display());
    let status = Command::new(program).args(std::env::args_os().skip(1)).env("DOCKER_HOST", host).status();
    exit(status.context("cannot start this program again")?.code().unwrap_or(2));
}

fn build(context: &Context, engine: &Engine, recipe: &Recipe, spinner: &ProgressBar) -> anyhow::Result<Image> {
    let mut is_told = false;
    let image = recipe.ensure(engine, &mut |line| {
        if !std::mem::replace(&mut is_told, true) {
            context.ui.say(format!("building the image {}: some minutes, once", recipe.tag()));
        }
        let line: String = line.chars().take(90).collect();
        spinner.set_message(line);
    });
    Ok(image?)
}

fn phase(event: &Event) -> String {
    match event {
        Event::Phase(phase) => {
            let seconds = phase.seconds.map(|seconds| format!(" after {seconds:.1} s")).unwrap_or_default();
            format!("the container's `{}` is over{seconds}", phase.name)
        }
        Event::Ready(seconds) => format!("the container is ready after {seconds:.1} s"),
    }
}

fn options(context: &Context, set: &str, mut evidence: BTreeMap<String, String>) -> anyhow::Result<LaneOptions> {
    let staged: Staged = result_of(context, Step::Package)?;
    let weights: WeightsDigest = result_of(context, Step::Hash)?;
    evidence.insert("package".to_owned(), staged.listing_digest);
    evidence.insert("model_hash".to_owned(), weights.model_hash.clone());
    let flags = &context.flags.container;
    let settings = &context.manifest.container;
    let out = context.out("container");
    let mut run = RunOptions::new(&context.manifest.submission.model_url, &tree(context), &out.join("owners"));
    if flags.fetch {
        run.source = fetched(context)?;
    }
    run.gpu = gpu(settings.gpu);
    run.memory = u64::from(settings.memory_gib) << 30;
    run.is_open = settings.network == NetworkAccess::Open;
    Ok(LaneOptions {
        run,
        expected: Expected { model_hash: weights.model_hash, coldkey: wallet::coldkey_address(context)? },
        package_bytes: staged.bytes,
        evidence,
        journal: Some((out.join("journal"), set.to_owned())),
        is_serial_exact: flags.is_serial_exact(),
        limits: Limits::default(),
        on_interrupt: Some(|| exit(INTERRUPTED)),
    })
}

fn gpu(key: GpuKey) -> Gpu {
    match key {
        GpuKey::Auto => Gpu::Auto,
        GpuKey::All => Gpu::All,
        GpuKey::None => Gpu::None,
        GpuKey::Count(count) => Gpu::Count(count),
    }
}

/// From where a validator's container would take it.
fn fetched(context: &Context) -> anyhow::Result<Source> {
    let token = context.secrets.get(&["HUGGINGFACE_TOKEN", "HF_TOKEN"]).unwrap_or_else(|| "hf_local".to_owned());
    let endpoint = Some(context.hub_endpoint()?).filter(|endpoint| endpoint != "https://huggingface.co");
    Ok(Source::Fetched { token, endpoint })
}

/// Whether a finding of the run itself tells already why the gate fails.
pub(super) fn is_told(evaluation: &Evaluation, code: &str) -> bool {
    evaluation.run["told"].as_array().into_iter().flatten().any(|told| told == code)
}

/// A failed gate as a finding: an error where it costs the round, else a warning.
pub(super) fn finding(verdict: &GateVerdict) -> Option<Diagnostic> {
    let gate = gate(&verdict.code)?;
    let severity = match (verdict.status, gate.outcome) {
        (GateStatus::Fail, Cost::Skip | Cost::Invalid | Cost::Lost) => Severity::Error,
        (GateStatus::Fail, Cost::MinusOne | Cost::ZeroReward | Cost::None) | (GateStatus::Warn, _) => Severity::Warning,
        (GateStatus::Pass | GateStatus::Unknown, _) => return None,
    };
    Some(Diagnostic::new(severity, gate.code, gate.why).found(&verdict.detail).expected(gate.checks).help(gate.fix))
}
