//! `[package] obfuscate = true`: PyArmor on the sources, and the proof that it changed nothing.

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use deval_model::{Obfuscated, python_source};
use deval_python::{
    PythonError,
    armor::{self, Armor, Armored, Sources},
    proof::{self, Claim},
};
use deval_report::{Diagnostic, Section};
use serde_json::{Value, json};

use crate::{context::Context, findings::Findings, python};

/// Longest that one of the two pipelines may take for all requests.
const PATIENCE: Duration = Duration::from_secs(300);

/// What came of it.
pub(super) struct Obfuscation {
    /// The obfuscated tree and what is known of it; none where findings left nothing to stage.
    pub(super) made: Option<(PathBuf, Obfuscated)>,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) timing: Value,
}

/// Obfuscates the shipped sources and asks both pipelines.
///
/// # Errors
/// [`Findings`] for what the machine lacks: no report keeps them, because nothing of the submission has to change.
pub(super) fn make(context: &Context, shipped: &BTreeMap<String, PathBuf>) -> anyhow::Result<Obfuscation> {
    let folder = folder(context);
    let begun = Instant::now();
    let armored = match armored(context, shipped, &folder) {
        Ok(armored) => armored,
        Err(PythonError::Lacking(finding)) => {
            return Err(Findings::from(context.place(*finding, "package.obfuscate")).into());
        }
        Err(PythonError::Sources(diagnostics)) => {
            return Ok(Obfuscation { made: None, diagnostics, timing: Value::Null });
        }
        Err(error) => return Err(error.into()),
    };
    let obfuscate_seconds = begun.elapsed().as_secs_f64();
    python::prepare(context.ui)?;
    let spinner = context.ui.spinner("asking the plain and the obfuscated pipeline");
    let begun = Instant::now();
    let interpreter = python::interpreter();
    let claim = Claim { python: &interpreter, shipped, armored: &armored.dir, folder: &folder, patience: PATIENCE };
    let outcome = proof::prove(claim);
    spinner.finish_and_clear();
    let outcome = outcome?;
    let timing = json!({"obfuscate_seconds": obfuscate_seconds, "proof_seconds": begun.elapsed().as_secs_f64()});
    let Armored { dir, files, kept, remarks } = armored;
    let obfuscated = Obfuscated { pyarmor: armor::VERSION.to_owned(), files, kept, proof: outcome.proof };
    let diagnostics = remarks.into_iter().chain(outcome.findings).collect();
    Ok(Obfuscation { made: Some((dir, obfuscated)), diagnostics, timing })
}

fn armored(context: &Context, shipped: &BTreeMap<String, PathBuf>, folder: &str) -> Result<Armored, PythonError> {
    let inner = format!("{}/", python_source::FOLDER);
    let files = shipped.iter().filter_map(|(path, from)| Some((path.strip_prefix(&inner)?.to_owned(), from.clone())));
    let files = files.collect();
    let armor = Armor::ensure(&context.out("pyarmor"), &env::var_os("PATH").unwrap_or_default())?;
    armor.obfuscate(Sources { files: &files, folder }, &context.out("obfuscated"), context.rerun)
}

/// The pipeline folder as findings name it.
fn folder(context: &Context) -> String {
    let dir = context.pipeline_dir();
    dir.strip_prefix(context.root()).unwrap_or(&dir).to_string_lossy().into_owned()
}

/// What is told of it.
pub(super) fn rows(section: Section, obfuscated: &Obfuscated) -> Section {
    let kept = if obfuscated.kept { ", kept from an earlier run" } else { "" };
    let section =
        section.row("obfuscated", format!("{} files by PyArmor {}{kept}", obfuscated.files, obfuscated.pyarmor));
    match &obfuscated.proof {
        Some(proof) => section.row(
            "proof",
            format!(
                "{} answers equal to the plain pipeline's ({} requests, tiny models: {}), {} of them different from each other",
                proof.answers,
                proof.requests,
                proof.models.join(", "),
                proof.distinct
            ),
        ),
        None => section.row("proof", "none"),
    }
}
