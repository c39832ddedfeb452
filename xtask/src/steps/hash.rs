//! `hash`: what the validator will compute over the weights, and whether they are healthy.

use std::{fs, io};

use anyhow::Context as _;
use deval_model::{Explanation, WeightsDigest};
use deval_report::{Inputs, Report, Section, Step};
use serde::Serialize;

use super::{Outcome, Pure, ensure};
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
        let diagnostics = digest.health.findings();
        Ok(Outcome { diagnostics, result: Some(digest), timing: serde_json::Value::Null })
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
