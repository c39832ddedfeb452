//! `evaluate`: what the submission earns on examples, with an honest interval.

mod conformance;
mod container;
pub(crate) mod view;

use std::path::Path;

use anyhow::Context as _;
use deval_backend::{AnswerParser, Native, NativeOptions, PromptFiles, Prompts, Replay};
use deval_eval::{
    Backend, EvaluateOptions, Evaluation, ExampleSet, ModelSize, Speed, Task, Until, evaluate, gates, speed,
    stats::plan::{self, Goal},
};
use deval_examples::generate_set;
use deval_llama::{Engine, EngineOptions, LlamaError, ModelInfo};
use deval_report::{Diagnostic, Inputs, Report, Section, Step, gates::GateVerdict};
use indicatif::ProgressBar;

use super::{Outcome, Pure, ensure};
use crate::{Verdict, context::Context, embedder, examples::text_of, findings::Findings, snapshot, store, ui::Unit};

/// The step.
pub(crate) struct Evaluate;

impl Pure for Evaluate {
    const STEP: Step = Step::Evaluate;
    type Output = Evaluation;

    /// A run with flags is kept apart from the submission's own evaluation, which later steps need.
    fn report_name(context: &Context) -> anyhow::Result<String> {
        if context.flags.ask_nothing_else() {
            return Ok(Self::STEP.name().to_owned());
        }
        let fingerprint = Self::inputs(context)?.fingerprint(Self::STEP.name());
        Ok(format!("evaluations/{}", &fingerprint[..12]))
    }

    /// Recorded answers need no model.
    fn needs(context: &Context) -> &'static [Step] {
        if context.flags.answers.is_some() { &[] } else { Self::STEP.needs() }
    }

    fn inputs(context: &Context) -> anyhow::Result<Inputs> {
        let settings = &context.manifest.evaluate;
        let mut inputs = Inputs::default();
        match &context.flags.answers {
            Some(answers) => inputs.add("evaluate.answers", deval_model::file_sha256(answers)?),
            None => {
                inputs.add("evaluate.backend", settings.backend.name());
                match settings.backend {
                    deval_manifest::Backend::Native => {
                        inputs.add("evaluate.reading", settings.reading.name());
                        inputs.add("evaluate.device", context.device_class()?);
                        inputs.add("evaluate.max_new_tokens", settings.max_new_tokens);
                        inputs.add("evaluate.prompts", serde_json::to_string(&settings.prompts)?);
                        if let Some(file) = &settings.prompts.file {
                            inputs.add(
                                "evaluate.prompts.file",
                                deval_model::file_sha256(&context.path(file)).unwrap_or_default(),
                            );
                        }
                    }
                    deval_manifest::Backend::Container => container::inputs(context, &mut inputs)?,
                }
            }
        }
        inputs.add("evaluate.seed", settings.seed);
        inputs.add("evaluate.samples", settings.samples);
        inputs.add("evaluate.until", settings.until.name());
        inputs.add("evaluate.label_noise", settings.label_noise);
        let set = example_set(context)?.info;
        inputs.add("evaluate.set", set.name);
        inputs.add("evaluate.examples", set.digest);
        inputs.add("evaluate.engine", env!("CARGO_PKG_VERSION"));
        if let Some(encoder) = embedder::fingerprint(context) {
            inputs.add("evaluate.embedder", encoder);
        }
        Ok(inputs)
    }

    fn run(context: &Context) -> anyhow::Result<Outcome<Evaluation>> {
        let set = example_set(context)?;
        needs_encoder(context, &set)?;
        let spinner = context.ui.spinner("loading the model");
        let embedder = embedder::load(context)?;
        let (mut backend, size) = backend(context, &set, &spinner)?;
        spinner.finish_and_clear();
        let bar = context.ui.bar("evaluating", set.examples.len() as u64, Unit::Items);
        let mut evaluation = evaluate(&mut *backend, &set, &*embedder, &options(context), &mut |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        gates::complete(&mut evaluation, context.network());
        if let Some(size) = size {
            evaluation.findings.extend(speed::beyond_context(&evaluation.results, size.context));
            evaluation.speed = Speed::of(&evaluation.results, size, context.manifest.evaluate.max_new_tokens as usize);
        }
        let mut diagnostics = evaluation.findings.clone();
        let told = |gate: &&GateVerdict| !container::is_told(&evaluation, &gate.code);
        diagnostics.extend(evaluation.gates.iter().filter(told).filter_map(container::finding));
        let timing = timing(&evaluation).context("timing is plain data")?;
        Ok(Outcome { diagnostics, result: Some(evaluation), timing })
    }

    fn sections(evaluation: &Evaluation) -> Vec<Section> {
        view::sections(evaluation)
    }
}

/// All that may differ between two runs.
fn timing(evaluation: &Evaluation) -> serde_json::Result<serde_json::Value> {
    let mut timing = serde_json::to_value(&evaluation.timing)?;
    match evaluation.backend.name.as_str() {
        _ if evaluation.run.is_null() => {}
        "container" => {
            timing["margins"] = serde_json::to_value(&evaluation.margins)?;
            timing["container"] = evaluation.run.clone();
        }
        _ => timing["engine"] = evaluation.run.clone(),
    }
    Ok(timing)
}

/// `cargo xtask evaluate`: the step, then what its flags ask for beside it.
pub(crate) fn run(context: &Context) -> anyhow::Result<Verdict> {
    if context.flags.container.conformance {
        return conformance::run(context);
    }
    let mut report = ensure::<Evaluate>(context)?;
    let mut sections = report.result.as_ref().map(view::sections).unwrap_or_default();
    sections.extend(view::container(&report));
    sections.extend(view::here(&report));
    if let (Some(lead), Some(evaluation)) = (context.flags.lead, &report.result) {
        sections.extend(plan::sections(&evaluation.plans(Goal::new(lead))));
    }
    if let Some(file) = &context.flags.save {
        save(&report, file)?;
        context.ui.say(format!("written to {}", file.display()));
    }
    if let (Some(mode), Some(evaluation)) = (context.flags.snapshot, &report.result) {
        let outcome = snapshot::run(context, evaluation, mode)?;
        sections.extend(outcome.sections());
        report.diagnostics.extend(outcome.findings);
    }
    context.ui.report(&report, &sections);
    Ok(if report.is_ok() { Verdict::Ok } else { Verdict::Findings })
}

fn save(report: &Report<Evaluation>, file: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(report).context("cannot write the report as JSON")?;
    store::write_atomically(&std::path::absolute(file)?, &text)
}

fn options(context: &Context) -> EvaluateOptions {
    let settings = &context.manifest.evaluate;
    EvaluateOptions {
        samples: settings.samples,
        seed: settings.seed,
        label_noise: Some(settings.label_noise).filter(|share| *share > 0.0),
        until: match settings.until {
            deval_manifest::Until::All => Until::All,
            deval_manifest::Until::Settled => Until::Settled,
        },
    }
}

/// The examples that are asked: the file of the flag or the manifest, else generated ones.
fn example_set(context: &Context) -> anyhow::Result<ExampleSet> {
    let settings = &context.manifest.evaluate;
    let Some(file) = &settings.examples else {
        return Ok(generate_set(settings.seed, settings.examples_per_task as usize, &Task::ALL));
    };
    let path = context.path(file);
    let text = text_of(&path)?;
    let (set, diagnostics) = ExampleSet::read(file, &text);
    if diagnostics.iter().any(Diagnostic::is_error) { Err(Findings(diagnostics).into()) } else { Ok(set) }
}

/// Asks for a sentence encoder before the first question, not at the first summary.
fn needs_encoder(context: &Context, set: &ExampleSet) -> Result<(), Findings> {
    let summaries = set.examples.iter().filter(|example| example.task == Task::SummaryCompleteness).count();
    if summaries == 0 || embedder::is_configured(context) {
        return Ok(());
    }
    let finding = Diagnostic::error("evaluate.embedder", "the relevance reward needs a sentence encoder")
        .found(format!("{summaries} examples of summary_completeness and no `evaluate.embedder_dir`"))
        .expected("a BERT-type model; validators use WhereIsAI/UAE-Large-V1")
        .help(
            "set `embedder_repo` or `embedder_dir` in the [evaluate] table; `cargo xtask demo` unpacks all-MiniLM-L6-v2 for a first \
             estimate",
        );
    Err(context.place(finding, "evaluate").into())
}

/// What answers, and the size of the model where the built-in engine does.
fn backend(
    context: &Context,
    set: &ExampleSet,
    spinner: &ProgressBar,
) -> anyhow::Result<(Box<dyn Backend>, Option<ModelSize>)> {
    let settings = &context.manifest.evaluate;
    if let Some(file) = &context.flags.answers {
        let text = text_of(file)?;
        let replay = Replay::read(&file.to_string_lossy(), &text, &set.examples, settings.samples).map_err(Findings)?;
        return Ok((Box::new(replay), None));
    }
    match settings.backend {
        deval_manifest::Backend::Native => {
            let prompts = prompts(context)?;
            let answers = AnswerParser::new(&settings.prompts).map_err(|faults| placed(context, faults))?;
            let options = NativeOptions {
                reading: settings.reading,
                max_new_tokens: settings.max_new_tokens as usize,
                seed: settings.seed,
                model: context.manifest.submission.model_url.clone(),
                own_stops: settings.prompts.stop_tokens.is_some(),
            };
            let mut engine = engine(context)?;
            let size = model_size(engine.info());
            if let Some(names) = &settings.prompts.stop_tokens {
                engine.stop_at(names).map_err(|error| {
                    let finding = Diagnostic::error("evaluate.prompts.stop_tokens", "a stop token cannot be used");
                    let help = "name tokens as `tokenizer.json` has them";
                    placed(context, vec![finding.found(error.to_string()).help(help)])
                })?;
            }
            if let Some(date) = &settings.prompts.date {
                engine.set_template_variable("date_string", date);
            }
            Ok((Box::new(Native::new(engine, prompts, answers, options)), Some(size)))
        }
        deval_manifest::Backend::Container => {
            Ok((Box::new(container::open(context, &set.info.digest, spinner)?), None))
        }
    }
}

fn engine(context: &Context) -> anyhow::Result<Engine> {
    let options = EngineOptions { device: context.device()?, ..EngineOptions::default() };
    Engine::load_with(&context.model_dir(), options).map_err(|error| match error {
        LlamaError::Device { .. } => {
            let finding = Diagnostic::error("evaluate.device", error.to_string());
            let finding =
                finding.found(format!("{:?}", context.manifest.evaluate.device)).help("\"cpu\" works everywhere");
            Findings::from(context.place(finding, "evaluate.device")).into()
        }
        error => {
            let finding = Diagnostic::error("evaluate.model", "the built-in engine cannot run the model");
            let help =
                "mend what it names; where the validator's transformers takes it as it is, use `--backend container`";
            Findings::from(finding.found(format!("{:#}", anyhow::Error::from(error))).help(help)).into()
        }
    })
}

fn model_size(info: &ModelInfo) -> ModelSize {
    let table = if info.tied { 0 } else { (info.vocab * info.hidden) as u64 };
    ModelSize {
        layers: info.layers,
        multiplied: info.parameters - table,
        parameters: info.parameters,
        bytes: info.bytes,
        cache_numbers: info.cache_numbers as u64,
        query_width: info.query_width as u64,
        context: info.context,
    }
}

fn prompts(context: &Context) -> anyhow::Result<Prompts> {
    let files = PromptFiles {
        pipeline: &context.pipeline_dir(),
        pipeline_label: &context.manifest.submission.pipeline_dir,
        root: context.root(),
    };
    Prompts::load(&context.manifest.evaluate.prompts, files).map_err(|faults| placed(context, faults).into())
}

/// Findings about a key of the manifest get its place.
fn placed(context: &Context, faults: Vec<Diagnostic>) -> Findings {
    let place = |finding: Diagnostic| match finding.place {
        Some(_) => finding,
        None => {
            let key = finding.code.clone();
            context.place(finding, &key)
        }
    };
    Findings(faults.into_iter().map(place).collect())
}
