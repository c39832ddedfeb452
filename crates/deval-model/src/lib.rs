//! The submission on disk: shards, index, config, coldkey.txt, package tree and digests.
//!
//! Everything here is decided from files alone. What is wrong with a submission is a [`deval_report::Diagnostic`], coded by the
//! validator's gate where there is one; what keeps the work from being done is a [`ModelError`].

pub mod coldkey;
mod config_check;
mod digest;
mod error;
mod files;
pub mod fuzz;
#[cfg(test)]
mod golden;
pub mod lineage;
mod outline;
mod package;
pub mod python_source;
pub mod repo;
mod secrets;
pub mod tiny;
mod validate;
pub mod weights;

pub use config_check::check as check_config;
pub use digest::{
    Content, Counts, Explanation, FileDigest, Health, Outside, Piece, TensorDigest, TensorHealth, WeightsDigest,
    digest_weights,
};
pub use error::ModelError;
pub use outline::{file_sha256, outline};
pub use package::{Copied, Obfuscated, Package, PackageFile, PackagePlan, Proof, shipped, stage};
pub use validate::{Findings, Submission, judge, validate};
