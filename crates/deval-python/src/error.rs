use std::io;
use std::path::{Path, PathBuf};

use deval_model::ModelError;
use deval_report::Diagnostic;

/// Why there is no obfuscated pipeline, or no proof of it.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// What the machine lacks, with the remedy. The same sources may do after it was mended.
    #[error("{}", .0.message)]
    Lacking(Box<Diagnostic>),
    /// What is wrong with the sources.
    #[error("{} findings about the sources", .0.len())]
    Sources(Vec<Diagnostic>),
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended in a way that it never should.
    #[error("{program} answered what it never should: {said}")]
    Answer {
        /// The program.
        program: String,
        /// The end of what it said.
        said: String,
    },
    /// The sources could not be looked at.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl PythonError {
    /// Turns the system's error into one that says what was done to which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl From<Diagnostic> for PythonError {
    fn from(finding: Diagnostic) -> Self {
        Self::Sources(vec![finding])
    }
}
