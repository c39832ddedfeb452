//! The steps, what each needs, and what kind of thing it does.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step of the build, in the order of the whole way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Every gate that can be decided from the disk.
    Validate,
    /// The staged repository tree.
    Package,
    /// Model hash, per-file digests, weight health.
    Hash,
    /// Rewards on examples.
    Evaluate,
    /// One Hub commit, read back.
    Publish,
    /// The chain commitment, read back.
    Commit,
    /// The axon that tells validators where the model is.
    Serve,
}

/// What running a step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Looks; skipped when fresh.
    Check,
    /// Writes under `target/deval/`; skipped when fresh.
    Build,
    /// Changes something outside the machine; needs `--execute`, never skipped by fingerprint alone.
    Effect,
    /// Runs until stopped; needs `--execute`.
    LongRunning,
}

impl Step {
    /// All steps in the order of the whole way.
    pub const ALL: [Self; 7] =
        [Self::Validate, Self::Package, Self::Hash, Self::Evaluate, Self::Publish, Self::Commit, Self::Serve];

    /// Name on the command line and of the report file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Package => "package",
            Self::Hash => "hash",
            Self::Evaluate => "evaluate",
            Self::Publish => "publish",
            Self::Commit => "commit",
            Self::Serve => "serve",
        }
    }

    /// The steps whose reports this step reads.
    pub fn needs(self) -> &'static [Self] {
        match self {
            Self::Validate => &[],
            Self::Package => &[Self::Validate],
            Self::Hash => &[Self::Package],
            Self::Evaluate => &[Self::Package, Self::Hash],
            Self::Publish => &[Self::Validate, Self::Package, Self::Hash, Self::Evaluate],
            Self::Commit => &[Self::Publish],
            Self::Serve => &[Self::Commit],
        }
    }

    /// What running it means.
    pub fn kind(self) -> Kind {
        match self {
            Self::Validate | Self::Hash | Self::Evaluate => Kind::Check,
            Self::Package => Kind::Build,
            Self::Publish | Self::Commit => Kind::Effect,
            Self::Serve => Kind::LongRunning,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
