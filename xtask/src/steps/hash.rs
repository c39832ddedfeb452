//! `hash`: what the validator will compute over the weights, and whether they are healthy.

use deval_model::WeightsDigest;
use deval_report::{Inputs, Section, Step};

use super::{Outcome, Pure};
use crate::context::Context;

/// The step.
pub(crate) struct Hash;

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
        vec![
            Section::new("Hash")
                .row("model hash", &digest.model_hash)
                .row("bytes", digest.bytes)
                .table(&["file", "bytes", "sha256"], rows.collect()),
        ]
    }
}
