//! `hash`: what the validator will compute over the weights, and whether they are healthy.

use std::{fs, io};

use anyhow::Context as _;
use deval_model::{Explanation, Package as Staged, WeightsDigest};
use deval_report::{Diagnostic, Inputs, Report, Section, Step};
use serde::Serialize;

use super::{Outcome, Pure, ensure, result_of};
use crate::{Verdict, cli::HashArgs, context::Context};

/// The step.
pub(crate) struct Hash;

/// The step's result, and with `--explain` how it came about.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    digest: WeightsDigest,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
}

/// `cargo xtask hash`.
pub(crate) fn run(context: &Context, arguments: HashArgs) -> anyhow::Result<Verdict> {
    if arguments.no_cache {
        forget(context)?;
    }
    let Report { schema, step, fingerprint, inputs, diagnostics, result, run } = ensure::<Hash>(context)?;
    let mut sections = result.as_ref().map(Hash::sections).unwrap_or_default();
    let explain = |digest: WeightsDigest| -> anyhow::Result<Explained> {
        let explanation = arguments.explain.then(|| digest.explain(&context.model_dir())).transpose()?;
        Ok(Explained { digest, explanation })
    };
    let result = result.map(explain).transpose()?;
    if let Some(Explained { digest, explanation: Some(explanation) }) = &result {
        sections.extend(explanation.sections(digest));
    }
    let report = Report { schema, step, fingerprint, inputs, diagnostics, result, run };
    context.ui.report(&report, &sections);
    Ok(if report.is_ok() { Verdict::Ok } else { Verdict::Findings })
}

/// Throws the side cache away, so that every weight byte is read again; what it holds then is new.
fn forget(context: &Context) -> anyhow::Result<()> {
    let cache = context.weights_cache();
    match fs::remove_file(&cache) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", cache.display()))
        }
        _ => Ok(()),
    }
}

const UNLIKE: &str = "hash.stage";

/// The validator hashes what is staged: a digest over other files is not the model's hash.
fn unlike(staged: &Staged, digest: &WeightsDigest) -> Option<Diagnostic> {
    let hashed: Vec<_> = digest.files.iter().map(|file| (file.name.as_str(), file.size)).collect();
    let weights = staged.files.iter().filter(|file| file.path.ends_with(".safetensors") && !file.path.contains('/'));
    let weights: Vec<_> = weights.map(|file| (file.path.as_str(), file.size)).collect();
    let names = |files: &[(&str, u64)]| {
        files.iter().map(|(name, size)| format!("{name} ({size} bytes)")).collect::<Vec<_>>().join(", ")
    };
    (hashed != weights).then(|| {
        Diagnostic::error(UNLIKE, "the weights of the model folder are not those of the staged package")
            .in_file("target/deval/package")
            .found(names(&weights))
            .expected(names(&hashed))
            .help("run `cargo xtask package --rerun`, and leave no weights out by a rule")
    })
}

impl Pure for Hash {
    const STEP: Step = Step::Hash;
    type Output = WeightsDigest;

    fn inputs(_context: &Context) -> anyhow::Result<Inputs> {
        // The package's fingerprint covers the weights.
        Ok(Inputs::default())
    }

    fn run(context: &Context) -> anyhow::Result<Outcome<WeightsDigest>> {
        // Where the digests come from is no part of the result.
        let digest = WeightsDigest { from_cache: false, ..context.weights()?.clone() };
        let mut diagnostics = digest.health.findings();
        diagnostics.extend(unlike(&result_of(context, Step::Package)?, &digest));
        let sound = !diagnostics.iter().any(|finding| finding.code == UNLIKE);
        Ok(Outcome { diagnostics, result: sound.then_some(digest), timing: serde_json::Value::Null })
    }

    fn sections(digest: &WeightsDigest) -> Vec<Section> {
        let rows = digest.files.iter().map(|file| vec![file.name.clone(), file.size.to_string(), file.sha256.clone()]);
        let counts = digest.health.totals;
        vec![
            Section::new("Hash")
                .row("model hash", &digest.model_hash)
                .row("bytes", digest.bytes)
                .row("tensors", digest.tensors.len())
                .row("health", format!("{} NaN, {} infinities, {} zeros", counts.nan, counts.inf, counts.zero))
                .table(&["file", "bytes", "sha256"], rows.collect()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_over_other_files_than_the_staged_ones_is_a_finding() {
        let digest: WeightsDigest = serde_json::from_value(serde_json::json!({
            "model_hash": "00", "bytes": 3,
            "files": [{"name": "a.safetensors", "size": 1, "sha256": ""}, {"name": "b.safetensors", "size": 2, "sha256": ""}],
            "health": deval_model::Health::default()
        }))
        .expect("a digest");
        let mut staged: Staged = serde_json::from_value(serde_json::json!({
            "files": [
                {"path": "a.safetensors", "size": 1}, {"path": "b.safetensors", "size": 2}, {"path": "config.json", "size": 9}
            ],
            "listing_digest": "", "bytes": 12, "linked": 2, "copied": 0, "left_out": []
        }))
        .expect("a package");
        assert_eq!(unlike(&staged, &digest), None);
        staged.files.remove(1);
        let finding = unlike(&staged, &digest).expect("one of two");
        assert_eq!(finding.found.as_deref(), Some("a.safetensors (1 bytes)"));
        assert!(finding.is_error() && finding.help.is_some() && finding.place.is_some());
    }
}
