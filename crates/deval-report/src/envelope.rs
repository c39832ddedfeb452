//! The envelope around every step's result.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Diagnostic, Inputs, Stale};

/// Version of the report format; raised when a reader of the older one would misread the newer.
pub const SCHEMA: u32 = 1;

/// What a step leaves behind: `target/deval/<step>.json`, and `--format json` on standard output.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Report<T> {
    /// Version of this format.
    pub schema: u32,
    /// The step or view that made it.
    pub step: String,
    /// Digest of `inputs`.
    pub fingerprint: String,
    /// What the result depends on, readable.
    pub inputs: Inputs,
    /// Findings about the submission.
    pub diagnostics: Vec<Diagnostic>,
    /// What was found or done; absent when the findings left nothing to do.
    pub result: Option<T>,
    /// All that may differ between two runs on the same inputs.
    pub run: Run,
}

/// The part of a report that may differ between two runs on the same inputs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Version of this program.
    pub version: String,
    /// Start, seconds since 1970-01-01 UTC.
    pub started_unix: u64,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Why the step ran; empty when the earlier report was taken.
    pub because: Vec<Stale>,
    /// Measurements that vary: latencies, rates.
    #[serde(skip_serializing_if = "serde_json::Value::is_null", default)]
    pub timing: serde_json::Value,
}

impl<T> Report<T> {
    /// A report of a step or view on `inputs`.
    pub fn new(step: &str, inputs: Inputs, diagnostics: Vec<Diagnostic>, result: Option<T>) -> Self {
        let fingerprint = inputs.fingerprint(step);
        Self { schema: SCHEMA, step: step.to_owned(), fingerprint, inputs, diagnostics, result, run: Run::default() }
    }

    /// Whether no finding fails the step.
    pub fn is_ok(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_finding_fails_the_step_and_survives_json() {
        let finding = Diagnostic::error("G30", "ends with a newline").in_file("coldkey.txt").help("remove it");
        let report = Report::new("validate", Inputs::default(), vec![finding], Some(1_u32));
        let text = serde_json::to_string(&report).expect("plain data");
        let back: Report<u32> = serde_json::from_str(&text).expect("what was written");
        assert!(!back.is_ok());
        assert_eq!(back.diagnostics, report.diagnostics);
        assert_eq!(back.fingerprint, report.fingerprint);
    }
}
