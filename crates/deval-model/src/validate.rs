//! Everything that the disk decides, collected at once.

mod gates;

use std::path::{Path, PathBuf};

use deval_report::gates::GateVerdict;
use deval_report::{Diagnostic, Network};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::gates::judge;
use crate::files::{self, Label};
use crate::package::{self, PackagePlan};
use crate::python_source::{self, Sources};
use crate::weights::{self, Weights};
use crate::{ModelError, coldkey, config_check, repo};

/// Stands for the wallet's address where only its length matters.
const SOME_ADDRESS: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

/// A submission as the manifest describes it.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The manifest's folder; findings name files relative to it.
    pub root: PathBuf,
    /// Folder of the model.
    pub model_dir: PathBuf,
    /// Folder with `pipeline.py`.
    pub pipeline_dir: PathBuf,
    /// SS58 address of the wallet's coldkey, when there is a wallet.
    pub coldkey_expected: Option<String>,
    /// What is wrong with a wallet that is there and cannot be read.
    pub wallet_fault: Option<Diagnostic>,
    /// Name of the repository, `namespace/name`.
    pub model_url: String,
    /// Where it is submitted; decides how much the size matters.
    pub network: Network,
    /// Root files of the model folder that stay out of the package.
    pub ignore: Vec<String>,
    /// Whether it stands on the Hub already, so that nothing of it is left to be packaged.
    pub published: bool,
}

/// What was found, and how each gate stands that the disk has a say in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Findings {
    /// All findings, in the order of the checks.
    pub diagnostics: Vec<Diagnostic>,
    /// Verdicts in the validator's order. Gates that need Hub, chain or a run are not among them.
    pub gates: Vec<GateVerdict>,
}

/// What the checks saw, for the margins. A part is `None` when its folder is missing.
#[derive(Debug, Default)]
struct Seen {
    weights: Option<Weights>,
    sources: Option<Sources>,
    /// Sizes of the package's files, in listing order.
    sizes: Option<Vec<u64>>,
}

/// Looks at everything that can be decided from the disk and collects all findings at once.
///
/// # Errors
/// When a file or folder that is there cannot be read.
pub fn validate(submission: &Submission) -> Result<Findings, ModelError> {
    let mut diagnostics = repo::check_url(&submission.model_url);
    let mut seen = Seen::default();
    if folder(&submission.model_dir, "model_dir", "G13", submission, &mut diagnostics) {
        let weights = model(submission, &mut diagnostics);
        seen.weights = with_names(weights, submission, &mut diagnostics)?;
    }
    if folder(&submission.pipeline_dir, "pipeline_dir", "G35", submission, &mut diagnostics) {
        let sources = python_source::check(&submission.pipeline_dir, &submission.root, &mut diagnostics);
        seen.sources = with_names(sources, submission, &mut diagnostics)?;
    }
    owner(submission, &mut diagnostics)?;
    if !submission.published && seen.weights.is_some() && seen.sources.is_some() {
        seen.sizes = package(submission, &mut diagnostics)?;
    }
    let gates = gates::verdicts(submission, &seen, &diagnostics);
    Ok(Findings { diagnostics, gates })
}

fn folder(dir: &Path, key: &str, code: &str, submission: &Submission, findings: &mut Vec<Diagnostic>) -> bool {
    if dir.is_dir() {
        return true;
    }
    let label = Label::new(&submission.root, dir);
    let what = if dir.exists() { "is not a folder" } else { "does not exist" };
    let finding = Diagnostic::error(code, format!("submission.{key} `{}` {what}", label.folder()));
    findings.push(finding.in_file(label.folder()).help(format!("set submission.{key} in deval.toml")));
    false
}

/// A name that is not UTF-8 is wrong with the submission; every other error keeps the work from being done.
fn with_names<T>(
    looked_at: Result<T, ModelError>,
    submission: &Submission,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<T>, ModelError> {
    match looked_at {
        Err(ModelError::Name(path)) => {
            let message = "the name is not UTF-8, so the Hub cannot take the file and Python may not find it";
            let finding = Diagnostic::error("model.name", message).in_file(name(submission, &path));
            findings.push(finding.help("rename it, or move it out of the folder"));
            Ok(None)
        }
        looked_at => looked_at.map(Some),
    }
}

fn model(submission: &Submission, findings: &mut Vec<Diagnostic>) -> Result<Weights, ModelError> {
    let Submission { model_dir, root, .. } = submission;
    let weights = weights::scan(model_dir, root, findings)?;
    config_check::check(model_dir, root, &weights, findings)?;
    findings.extend(unreadable(submission)?);
    Ok(weights)
}

/// The first weight file that only its owner can read (gate G39).
fn unreadable(submission: &Submission) -> Result<Option<Diagnostic>, ModelError> {
    use std::os::unix::fs::PermissionsExt;
    let entries = files::weight_entries(&submission.model_dir)?;
    let mode = |entry: &files::Entry| entry.meta.as_ref().map_or(0o444, |meta| meta.permissions().mode());
    let closed = entries.iter().find(|entry| mode(entry) & 0o444 != 0o444);
    Ok(closed.map(|entry| {
        let message = "only its owner can read this file; `cargo xtask package` makes it readable for everyone";
        let finding =
            Diagnostic::note("G39", message).found(format!("mode {:04o}", mode(entry) & 0o7777)).expected("mode 0644");
        finding.in_file(Label::new(&submission.root, &submission.model_dir).file(&entry.name))
    }))
}

/// `coldkey.txt` and the wallet (gates G30 and G31). The file may be missing: the package writes it.
fn owner(submission: &Submission, findings: &mut Vec<Diagnostic>) -> Result<(), ModelError> {
    let expected = submission.coldkey_expected.as_deref();
    findings.extend(submission.wallet_fault.clone());
    if let Some(address) = expected.filter(|address| coldkey::account(address).is_none()) {
        let finding = Diagnostic::error("G30", "the wallet's coldkey is not an SS58 address with prefix 42");
        let start: String = address.chars().take(64).collect();
        findings.push(finding.found(start).help("look at ss58Address in the wallet's coldkeypub.txt"));
    }
    let label = Label::new(&submission.root, &submission.model_dir).file(coldkey::FILE);
    match files::read_small(&submission.model_dir.join(coldkey::FILE), "G30", &label)? {
        Ok(Some(bytes)) => findings.extend(coldkey::check(&bytes, expected, &label)),
        Ok(None) if expected.is_none() && submission.wallet_fault.is_none() => {
            let message = "there is neither a wallet nor a coldkey.txt, so nobody owns the model";
            let finding = Diagnostic::error("G31", message).in_file(label);
            findings.push(finding.help("name the wallet under [wallet] in deval.toml"));
        }
        Ok(None) => {}
        Err(finding) => findings.push(*finding),
    }
    findings.extend(misnamed(submission)?);
    Ok(())
}

/// The guide's heading writes `Coldkey.txt`; the validator opens `coldkey.txt`.
fn misnamed(submission: &Submission) -> Result<Option<Diagnostic>, ModelError> {
    let dir = &submission.model_dir;
    let entries = if dir.is_dir() { files::list(dir).or_else(unnamed)? } else { Vec::new() };
    let other = |entry: &&files::Entry| {
        entry.name != coldkey::FILE && entry.name.trim_end_matches(".txt").eq_ignore_ascii_case("coldkey")
    };
    Ok(entries.iter().find(other).map(|entry| {
        let message = format!("`{}` is not the file that the validator reads", entry.name);
        let finding = Diagnostic::warning("G31", message).expected(coldkey::FILE);
        let place = Label::new(&submission.root, dir).file(&entry.name);
        finding.in_file(place).help("rename it to coldkey.txt, in lower case, or remove it")
    }))
}

/// A name that is not UTF-8 was told before.
fn unnamed(error: ModelError) -> Result<Vec<files::Entry>, ModelError> {
    if matches!(error, ModelError::Name(_)) { Ok(Vec::new()) } else { Err(error) }
}

/// The package as it would be staged: its size, secrets in it, links out of it.
fn package(submission: &Submission, findings: &mut Vec<Diagnostic>) -> Result<Option<Vec<u64>>, ModelError> {
    let plan = PackagePlan {
        model_dir: submission.model_dir.clone(),
        pipeline_dir: submission.pipeline_dir.clone(),
        coldkey_ss58: submission.coldkey_expected.clone().unwrap_or_else(|| SOME_ADDRESS.into()),
        out_dir: PathBuf::new(),
        ignore: submission.ignore.clone(),
        model_url: submission.model_url.clone(),
    };
    findings.extend(rules_elsewhere(submission));
    let listing = match package::collect(&plan) {
        Ok(listing) => listing,
        Err(error) => {
            findings.push(unpackable(&error, submission));
            return Ok(None);
        }
    };
    findings.extend(package::check(&plan, &listing, |path| name(submission, path))?);
    let sizes: Vec<u64> = listing.items.iter().map(|item| item.size).collect();
    findings.extend(repo::check_size(repo::size_gb(sizes.iter().copied()), submission.network));
    Ok(Some(sizes))
}

/// Rules beside the manifest, where nothing reads them.
fn rules_elsewhere(submission: &Submission) -> Option<Diagnostic> {
    let beside = submission.root.join(package::IGNORE);
    let same = std::fs::canonicalize(&submission.root).ok() == std::fs::canonicalize(&submission.model_dir).ok();
    let read = Label::new(&submission.root, &submission.model_dir).file(package::IGNORE);
    (!same && beside.exists()).then(|| {
        let message = format!("the {} beside the manifest is not read", package::IGNORE);
        let finding = Diagnostic::warning("package.ignore", message).in_file(package::IGNORE).expected(&read);
        finding.help(format!("move it to {read}, or write its patterns under [package] ignore"))
    })
}

/// Why there is no package: the first file that could not be taken.
fn unpackable(error: &ModelError, submission: &Submission) -> Diagnostic {
    let (path, help) = match error {
        ModelError::Escape { link, .. } => (Some(link), "replace the link by the file itself, or ignore it"),
        ModelError::Io { path, .. } => (Some(path), "restore the file, or remove what points to it"),
        ModelError::Name(path) | ModelError::Unsound { path, .. } => (Some(path), "rename it, or move it out"),
        _ => (None, "see [package] in deval.toml"),
    };
    let finding = Diagnostic::error("package.source", error.to_string()).help(help);
    match path {
        Some(path) => finding.in_file(name(submission, path)),
        None => finding,
    }
}

/// A file as findings name it. Links were resolved, so a path may have left the manifest's folder.
fn name(submission: &Submission, path: &Path) -> String {
    let root = std::fs::canonicalize(&submission.root).unwrap_or_else(|_| submission.root.clone());
    let shown = path.strip_prefix(&root).or_else(|_| path.strip_prefix(&submission.root)).unwrap_or(path);
    Label::new(Path::new(""), shown).folder().to_owned()
}

#[cfg(test)]
mod tests;
