//! The plain and the obfuscated pipeline are asked the same, each in a process of its own, and have to answer the same.
//!
//! Mirrors upstream `deval/api/miner_api.py`: `sys.path.append(root)`, `from model.pipeline import DeValPipeline`,
//! `DeValPipeline("de_val", model_dir=root)`, `pipe("", tasks=…, rag_context=…, query=…, llm_response=…)`.

mod compare;
mod root;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use deval_model::Proof;
use deval_report::Diagnostic;
use serde::Deserialize;
use tempfile::TempDir;

use crate::PythonError;
use crate::process::{self, Ended};

const SCRIPT: &str = include_str!("../python/prove.py");

/// Exit code of [`SCRIPT`] when importing the pipeline raises.
const IMPORT_RAISED: i32 = 90;

/// What is proven.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Interpreter of an environment with the validator's torch and transformers.
    pub python: &'a Path,
    /// The files that are shipped, by their path in the repository, sources plain.
    pub shipped: &'a BTreeMap<String, PathBuf>,
    /// The obfuscated tree: `model/` and its runtime.
    pub armored: &'a Path,
    /// The pipeline folder as findings name it.
    pub folder: &'a str,
    /// Longest that one process may take.
    pub patience: Duration,
}

/// How a proof ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was compared, when all of it was equal.
    pub proof: Option<Proof>,
    /// Why there is no proof: an error when the obfuscated pipeline is to blame (`obfuscate.proof`) or the plain one raises while it is
    /// imported (`G35`), a warning (`obfuscate.not-proven`) when the plain one does not run on a tiny model or does not repeat itself.
    pub findings: Vec<Diagnostic>,
}

/// Texts by model, one for each request.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(transparent)]
struct Answers(BTreeMap<String, Vec<String>>);

/// What a pipeline said that gave no answers.
#[derive(Debug)]
struct Silent {
    said: String,
    /// Whether importing it raised, other than for a package that this machine may lack.
    at_import: bool,
}

/// Asks both pipelines on two tiny models. Both start with the same seeds; the models' own settings are greedy.
///
/// # Errors
/// The file system refuses, or Python cannot be started.
pub fn prove(claim: Claim<'_>) -> Result<Outcome, PythonError> {
    let dir = TempDir::with_prefix("deval-proof-").map_err(PythonError::io("write to", &std::env::temp_dir()))?;
    let (plain, armored) = (dir.path().join("plain"), dir.path().join("armored"));
    root::write(&plain, claim.shipped, None)?;
    root::write(&armored, claim.shipped, Some(claim.armored))?;
    let (plainly, armoredly) = thread::scope(|scope| {
        let plainly = scope.spawn(|| ask(claim, &plain));
        let armoredly = ask(claim, &armored);
        (plainly.join().expect("asking does not panic"), armoredly)
    });
    let (expected, found) = match (plainly?, armoredly?) {
        (Err(silent), _) if silent.at_import => return Ok(not_importable(claim, silent.said)),
        (Err(silent), _) => {
            return Ok(not_proven(claim, "the plain pipeline does not run on a tiny model", silent.said));
        }
        (Ok(_), Err(silent)) => {
            return Ok(failed(claim, "the obfuscated pipeline does not run, the plain one does", silent.said));
        }
        (Ok(expected), Ok(found)) => (expected, found),
    };
    if let Some(first) = compare::first_difference(&expected, &found) {
        // Whether it is the obfuscation's doing shows when both are asked once more.
        let repeats =
            |repository, answers| Ok::<_, PythonError>(ask(claim, repository)?.is_ok_and(|again| again == answers));
        let steady = repeats(&plain, expected)? && repeats(&armored, found)?;
        let message = "asked again, the pipeline answers the same request differently";
        return Ok(if steady { first.finding(claim.folder).into() } else { not_proven(claim, message, first.told()) });
    }
    match compare::proof(&expected) {
        Some(proof) => Ok(Outcome { proof: Some(proof), findings: Vec::new() }),
        None => Ok(not_proven(claim, "the plain pipeline answers no request on a tiny model", expected.first())),
    }
}

impl From<Diagnostic> for Outcome {
    fn from(finding: Diagnostic) -> Self {
        Self { proof: None, findings: vec![finding] }
    }
}

fn not_proven(claim: Claim<'_>, message: &str, why: String) -> Outcome {
    let message = format!("it is not proven that the obfuscated pipeline answers as the plain one: {message}");
    let finding = Diagnostic::warning("obfuscate.not-proven", message).in_file(claim.folder).found(why);
    finding.help("ask both by hand, as the validator's container does, before you publish").into()
}

fn not_importable(claim: Claim<'_>, why: String) -> Outcome {
    let finding =
        Diagnostic::error("G35", "importing `model.pipeline` raises, obfuscated or not").in_file(claim.folder);
    finding.found(why).expected("`from model.pipeline import DeValPipeline` works").help("correct the source").into()
}

fn failed(claim: Claim<'_>, message: &str, why: String) -> Outcome {
    let help = "a source that reads its own text, its file name or the stack does not bear obfuscation";
    Diagnostic::error("obfuscate.proof", message).in_file(claim.folder).found(why).help(help).into()
}

/// What the pipeline of a repository answers.
fn ask(claim: Claim<'_>, repository: &Path) -> Result<Result<Answers, Silent>, PythonError> {
    let out = repository.with_extension("json");
    let scratch = repository.with_extension("scratch");
    fs::create_dir_all(&scratch).map_err(PythonError::io("make", &scratch))?;
    let mut command = process::python(claim.python);
    // Not `-I`, which would take the fixed hash seed away; `-P` keeps the current folder off the path.
    command.args(["-P", "-c", SCRIPT]).arg(repository).arg(&out);
    for (name, dir) in root::models(repository) {
        command.arg(format!("{name}={}", dir.display()));
    }
    command.current_dir(&scratch).env("HOME", &scratch).env("HF_HOME", &scratch).envs([
        ("PYTHONHASHSEED", "0"),
        ("HF_HUB_OFFLINE", "1"),
        ("CUDA_VISIBLE_DEVICES", ""),
        ("OMP_NUM_THREADS", "1"),
        // Else sums depend on where in memory a matrix lies.
        ("MKL_CBWR", "COMPATIBLE"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ]);
    let ended = process::run(&mut command, claim.patience)?;
    let answers = fs::read(&out).ok().filter(|_| ended.succeeded());
    let silent = || Silent {
        said: why(&ended, claim.patience),
        at_import: ended.status.is_some_and(|status| status.code() == Some(IMPORT_RAISED)),
    };
    Ok(answers.and_then(|text| serde_json::from_slice(&text).ok()).ok_or_else(silent))
}

fn why(ended: &Ended, patience: Duration) -> String {
    let said = ended.last_lines(6);
    match ended.status {
        None => format!("no end after {} s\n{said}", patience.as_secs()).trim_end().to_owned(),
        Some(status) if said.is_empty() => status.to_string(),
        Some(_) => said,
    }
}

#[cfg(test)]
mod tests;
