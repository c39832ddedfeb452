//! `evaluate --snapshot`: an accepted evaluation result, held by insta.
//!
//! insta is made for test runs: it is configured by environment variables, prints to standard output and panics. So the assertion runs in a
//! process of its own, this program started again with a hidden command, and only its outcome comes back.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use deval_eval::{
    Evaluation, ExampleSet,
    snapshot::{Answers, Comparison, Snapshot},
};
use deval_manifest::Reading;
use deval_report::{Diagnostic, Section};
use insta::comparator::Comparator;
use serde::Serialize;

use crate::{cli::SnapshotMode, context::Context};

/// Folder of the snapshots, beside the manifest; `cargo insta review` looks into packages, and `tests` is one.
const FOLDER: &str = "tests/snapshots";
/// Hidden command that runs the assertion.
pub(crate) const ASSERT_COMMAND: &str = "assert-snapshot";

/// What became of the assertion.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// File of the snapshot, relative to the manifest.
    pub(crate) path: String,
    /// The comparison with the accepted result; absent when there is none yet.
    pub(crate) comparison: Option<Comparison>,
    #[serde(skip)]
    pub(crate) findings: Vec<Diagnostic>,
}

fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()))
}

/// Checks an evaluation against its accepted snapshot, or accepts it.
///
/// # Errors
/// Accepting where `CI` is set; a folder that cannot be written.
pub(crate) fn run(context: &Context, evaluation: &Evaluation, mode: SnapshotMode) -> anyhow::Result<Outcome> {
    if mode == SnapshotMode::Update && is_ci() {
        bail!(
            "a snapshot is accepted by a person, never in CI: run `cargo xtask evaluate --snapshot update` on your machine and commit it"
        );
    }
    let is_sampled = evaluation.backend.reading.as_deref() == Some(Reading::Generate.name()) || evaluation.samples > 1;
    let answers = if is_sampled { Answers::Sampled } else { Answers::Greedy };
    let device = evaluation.backend.evidence.get("device").map_or(context.device_class()?, String::as_str);
    let snapshot = Snapshot { file: set_file(context), ..Snapshot::of(evaluation, device, answers) };
    let folder = context.root().join(FOLDER);
    let unreferenced = unreferenced(context, &folder, &snapshot)?;
    let (passed, comparison) = assert_apart(context, &folder, &snapshot, mode)?;
    let path = format!("{FOLDER}/{}.snap", snapshot.name());
    let mut findings: Vec<_> = unreferenced.into_iter().map(no_longer_checked).collect();
    if !passed && comparison.is_none() && context.root().join(&path).exists() {
        let finding = Diagnostic::error("snapshot.unreadable", "the accepted result cannot be read").in_file(&path);
        findings.push(
            finding.help("bring it back from git, or accept a new one with `cargo xtask evaluate --snapshot update`"),
        );
    } else if !passed {
        findings.push(failed(&path, comparison.as_ref()));
    }
    Ok(Outcome { path, comparison, findings })
}

impl Outcome {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let state = match &self.comparison {
            Some(comparison) if comparison.holds() && comparison.flips.is_empty() => "holds, no answer changed",
            Some(comparison) if comparison.holds() => "holds",
            Some(_) => "does not hold",
            None if self.findings.is_empty() => "accepted",
            None => "not accepted yet",
        };
        let section = Section::new("Snapshot").row("file", &self.path).row("state", state);
        let flips = self.comparison.iter().filter(|comparison| !comparison.flips.is_empty()).map(Comparison::section);
        std::iter::once(section).chain(flips).collect()
    }
}

fn failed(path: &str, comparison: Option<&Comparison>) -> Diagnostic {
    let finding = match comparison {
        None => Diagnostic::error("snapshot.new", "there is no accepted result for this example set and device"),
        Some(comparison) => Diagnostic::error("snapshot.changed", "the result is not the accepted one")
            .found(comparison.broken.join("; ")),
    };
    finding
        .in_file(path)
        .help("look at it with `cargo insta review` (or accept it with `cargo xtask evaluate --snapshot update`)")
}

fn no_longer_checked(name: String) -> Diagnostic {
    Diagnostic::error("snapshot.unreferenced", "no example set in use belongs to this snapshot any more")
        .in_file(format!("{FOLDER}/{name}"))
        .help("delete it, or bring back the example set that it was made from")
}

/// Snapshots that nothing checks any more: of an older edition of the same set on the same class of device, or of a file that is gone or
/// holds other examples.
fn unreferenced(context: &Context, folder: &Path, snapshot: &Snapshot) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    let names: BTreeSet<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let current = format!("{}.snap", snapshot.name());
    Ok(names
        .into_iter()
        .filter(|name| *name != current && name.ends_with(".snap"))
        .filter(|name| {
            snapshot.is_older_edition(name.trim_end_matches(".snap")) || has_lost_its_set(context, &folder.join(name))
        })
        .collect())
}

/// Whether the file that an accepted result was made from is gone or holds other examples.
fn has_lost_its_set(context: &Context, snap: &Path) -> bool {
    // insta puts the content behind a header of its own.
    let text = fs::read_to_string(snap).unwrap_or_default();
    let content = text.find("\n{").and_then(|at| serde_json::from_str::<Snapshot>(&text[at..]).ok());
    let Some((digest, file)) = content.and_then(|accepted| Some((accepted.digest, accepted.file?))) else {
        return false;
    };
    let set = fs::read_to_string(context.path(&file)).map(|text| ExampleSet::read(&file, &text).0);
    set.map_or(true, |set| set.info.digest != digest)
}

/// The file of the example set, relative to the manifest, if it lies below it.
fn set_file(context: &Context) -> Option<String> {
    let file = context.path(context.manifest.evaluate.examples.as_ref()?);
    Some(file.strip_prefix(context.root()).ok()?.to_string_lossy().into_owned())
}

/// Runs the assertion in a process of its own. Whether it passed, and the comparison that was made.
fn assert_apart(
    context: &Context,
    folder: &Path,
    snapshot: &Snapshot,
    mode: SnapshotMode,
) -> anyhow::Result<(bool, Option<Comparison>)> {
    let work = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (content, outcome) = (work.path().join("content.json"), work.path().join("outcome.json"));
    let text = serde_json::to_string_pretty(snapshot).context("a snapshot is plain data")?;
    fs::write(&content, text).with_context(|| format!("cannot write {}", content.display()))?;
    let update = match mode {
        SnapshotMode::Update => "always",
        SnapshotMode::Check if is_ci() => "no",
        SnapshotMode::Check => "new",
    };
    let program = env::current_exe().context("cannot find this program")?;
    let status = Command::new(program)
        .arg(ASSERT_COMMAND)
        .args([folder, Path::new(&snapshot.name()), &content, &outcome])
        .env("INSTA_WORKSPACE_ROOT", context.root())
        .env("INSTA_UPDATE", update)
        .env("INSTA_OUTPUT", "none")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot start this program again")?;
    let comparison = match fs::read(&outcome) {
        Ok(text) => Some(serde_json::from_slice(&text).context("the assertion left an unreadable outcome")?),
        Err(_) => None,
    };
    Ok((status.success(), comparison))
}

/// Arguments of the hidden command.
#[derive(Debug, clap::Args)]
pub(crate) struct Assertion {
    folder: PathBuf,
    name: String,
    content: PathBuf,
    outcome: PathBuf,
}

/// The hidden command: one insta assertion. It panics when the snapshot does not hold; the caller looks at the exit code only.
pub(crate) fn assert(assertion: &Assertion) -> anyhow::Result<()> {
    let content = fs::read_to_string(&assertion.content).context("cannot read the content")?;
    let snapshot: Snapshot = serde_json::from_str(&content).context("the content is no snapshot")?;
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(&assertion.folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(format!("{} by {}", snapshot.set, snapshot.class));
    settings.set_comparator(Box::new(Tolerant { outcome: assertion.outcome.clone() }));
    settings.bind(|| insta::assert_snapshot!(assertion.name.as_str(), content));
    Ok(())
}

/// Compares as [`Snapshot::compare`] does and leaves the comparison behind.
#[derive(Clone)]
struct Tolerant {
    outcome: PathBuf,
}

impl Comparator for Tolerant {
    fn matches(&self, reference: &insta::Snapshot, test: &insta::Snapshot) -> bool {
        let read = |snapshot: &insta::Snapshot| serde_json::from_str::<Snapshot>(&snapshot.as_text()?.to_string()).ok();
        let (Some(accepted), Some(new)) = (read(reference), read(test)) else { return false };
        let comparison = accepted.compare(&new);
        let written = serde_json::to_vec(&comparison).is_ok_and(|text| fs::write(&self.outcome, text).is_ok());
        written && comparison.holds()
    }

    fn dyn_clone(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}
