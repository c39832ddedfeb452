//! Findings that end a run: they travel as an error, and become exit code 1.

use std::fmt;

use deval_report::Diagnostic;

/// What is wrong with the submission.
#[derive(Debug)]
pub(crate) struct Findings(pub(crate) Vec<Diagnostic>);

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} findings", self.0.len())
    }
}

impl std::error::Error for Findings {}

impl From<Diagnostic> for Findings {
    fn from(finding: Diagnostic) -> Self {
        Self(vec![finding])
    }
}
