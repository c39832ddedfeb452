use std::io;
use std::path::{Path, PathBuf};

/// Why a submission could not be looked at or put together. What is wrong *with* it is a diagnostic, not one of these.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
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
    /// A folder is named like weights; upstream's hash raises `IsADirectoryError` there.
    #[error("{} is not a file, but its name ends in .safetensors, so the validator's hash would break on it", .0.display())]
    NotAFile(PathBuf),
    /// A name that is not UTF-8 has no place in the validator's order and none on the Hub.
    #[error("{} has a name that is not UTF-8", .0.display())]
    Name(PathBuf),
    /// Weights that no loader would take.
    #[error("{}: {message}", path.display())]
    Unsound {
        /// The file, or its folder.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A model that does not lie on this machine could not be read.
    #[error("cannot read {what}: {source}")]
    Remote {
        /// Which part of what.
        what: String,
        /// What the other side said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody wrote to the weights while they were read.
    #[error("{} changed while it was read; let the training or download finish first", .0.display())]
    Changed(PathBuf),
    /// A link in the model folder points out of it.
    #[error("{} is a link to {}, outside the model folder; replace it by the file itself", link.display(), target.display())]
    Escape {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A file of the package holds a secret.
    #[error("{path}: {what} must not be published; remove it and make it invalid where it was issued")]
    Secret {
        /// Path in the package.
        path: String,
        /// What it looks like.
        what: &'static str,
    },
    /// The coldkey to be written is no address.
    #[error("`{0}` is not an SS58 address of the Bittensor network (prefix 42, 48 characters)")]
    Address(String),
    /// Staging would replace the folder that the package is made from.
    #[error("the package cannot be staged to {}: it would replace {}", out.display(), from.display())]
    Overlap {
        /// Folder of the package.
        out: PathBuf,
        /// Folder of the model or the pipeline.
        from: PathBuf,
    },
    /// The package has no weights, no config or no pipeline.
    #[error("the package has no {0}")]
    Incomplete(String),
}

impl ModelError {
    /// Turns the system's error into one that says what was done to which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
