//! Hugging Face Hub: plan, upload, verify, visibility.
//!
//! The order that protects a miner: [`HubClient::remote_state`] → [`HubClient::plan`] → [`HubClient::upload`] (the repository is
//! created private, everything goes into ONE Hub commit with a parent) → [`HubClient::verify`] → chain commitment →
//! [`HubClient::set_private`]`(false)` → [`HubClient::verify`] anonymously.
//!
//! [`HubClient::fetch`] is the way back: a verified copy of any repository. [`HubClient::open`] reads parts of its files.
//!
//! # What is own code and what is not
//! hf-hub 1.0.0 tells whom the token belongs to. File contents go to the Hub's content store by the crates under hf-xet, the engine of
//! Hugging Face's own clients: formats, records and requests are theirs, what fills the xorbs is here (`xet::sender`). To a Hub without Xet
//! they go by Git LFS. The other requests are made here, because hf-hub does not wait as long as a 429 asks, cannot read a remote sha256,
//! cannot go on with a part of a file, cannot repeat a Hub commit without hashing all weights again, and sends weights inside the Hub
//! commit when the Hub does not offer Xet.
//!
//! # Environment
//! Nothing needs to be set. Telemetry is switched off and the cache put under the client's `work_dir` by configuration; a token comes
//! only from the caller, whatever hf-hub would find in `HF_TOKEN` or its token file. hf-xet's tuning variables (`HF_XET_*`) are honoured.

mod commit;
mod error;
mod fetch;
mod hf;
mod http;
mod journal;
mod lfs;
mod names;
mod plan;
mod ranges;
mod remote;
mod repo_id;
#[cfg(test)]
mod tests;
mod token;
mod upload;
mod verify;
mod visibility;
mod xet;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deval_report::Diagnostic;
use sha2::Digest as _;

pub use crate::error::HubError;
pub use crate::fetch::{Fetched, is_unfinished};
pub use crate::hf::Account;
use crate::http::Api;
pub use crate::journal::{Effect, Journal, Phase, Record, Subject};
pub use crate::plan::{Half, LocalFile, PlannedAdd, Stamp, UploadPlan, listing_digest};
pub use crate::ranges::RemoteFiles;
pub use crate::remote::{Digest, RemoteCommit, RemoteFile, RemoteRepo, RemoteState};
pub use crate::repo_id::RepoId;
pub use crate::token::Token;
use crate::upload::Upload;
pub use crate::upload::{UploadEvent, UploadOutcome};
pub use crate::verify::{Expected, Verified, closed};
pub use crate::xet::Transferred;

/// A client of one Hub. Cheap to clone; needs a tokio runtime.
#[derive(Clone)]
pub struct HubClient {
    api: Api,
    work_dir: PathBuf,
}

impl HubClient {
    /// A client for the Hub at `endpoint` (`http` or `https`). `work_dir` takes the record of what the content store has, one
    /// folder per endpoint and repository; it is created when first needed.
    ///
    /// # Errors
    /// [`HubError::Endpoint`].
    pub fn new(endpoint: &str, token: Option<Token>, work_dir: &Path) -> Result<Self, HubError> {
        Ok(Self { api: Api::new(endpoint, token.as_ref())?, work_dir: work_dir.to_owned() })
    }

    /// Reads what stands behind a repository id: visibility, head, tree with digests, newest Hub commit.
    ///
    /// # Errors
    /// Any of the request errors; a repository that cannot be seen is [`RemoteState::Missing`], not an error.
    pub async fn remote_state(&self, repo: &RepoId) -> Result<RemoteState, HubError> {
        remote::state(&self.api, repo).await
    }

    /// Whom the token belongs to; nothing without a token.
    ///
    /// # Errors
    /// Request errors, a refused token among them.
    pub async fn account(&self) -> Result<Option<Account>, HubError> {
        hf::account(&self.api).await
    }

    /// What has to change so that the remote tree equals `local`, or, with a half, so that this half does. Pure.
    pub fn plan(local: &[LocalFile], remote: &RemoteState, half: Option<Half>) -> UploadPlan {
        plan::plan(local, remote, half)
    }

    /// The endpoint, without anything secret in it.
    pub fn endpoint(&self) -> String {
        http::shown(self.api.endpoint())
    }

    /// Carries a plan out: creates the repository private if it is missing, sends contents by Xet, makes one Hub commit.
    ///
    /// Killed at any point and run again with a fresh plan, it completes without a second Hub commit: the tree on the Hub decides
    /// what is left to do, and `parentCommit` refuses a repetition.
    ///
    /// # Errors
    /// Everything but success leaves either nothing new on the Hub, or contents without a Hub commit, which cost nothing; after
    /// a broken connection the Hub commit itself may stand, which the next run finds out.
    pub async fn upload(
        &self,
        repo: &RepoId,
        plan: &UploadPlan,
        local: &[LocalFile],
        journal: &Journal,
        progress: &(dyn Fn(UploadEvent) + Sync),
    ) -> Result<UploadOutcome, HubError> {
        let cache = self.xet_cache(repo);
        Upload { api: &self.api, repo, local, journal, progress, cache }.run(plan).await
    }

    /// Reads `main` back and compares it with what is expected: set of files, sizes, digests, head, that contents can be fetched, and
    /// the hosts that LFS files redirect to (gates 12–14, 16, 23).
    ///
    /// With `anonymous` no token is sent, and what a validator needs is checked too: public, not gated, not disabled (gates 10, 24). The
    /// size gate (15) is [`RemoteRepo::total_size`] against the network's limits and is left to the caller.
    ///
    /// # Errors
    /// Request errors. Anything wrong with the repository is a finding.
    pub async fn verify(&self, repo: &RepoId, expected: Expected<'_>, anonymous: bool) -> Result<Verified, HubError> {
        let api = if anonymous { self.api.anonymous() } else { self.api.clone() };
        verify::verify(&api, repo, expected, anonymous).await
    }

    /// How many of three reads in a row, without a token and without a second try, the Hub answers (GATES 11).
    ///
    /// # Errors
    /// When a request cannot even be built.
    pub async fn three_answers(&self, repo: &RepoId) -> Result<usize, HubError> {
        verify::three_answers(&self.api.anonymous(), repo).await
    }

    /// The hosts that the bytes of the files come from, with their number, and a warning for every host that the firewall of the
    /// validator's container does not let through (GATES 23).
    ///
    /// # Errors
    /// Request errors.
    pub async fn hosts(&self, files: &RemoteFiles) -> Result<(BTreeMap<String, usize>, Vec<Diagnostic>), HubError> {
        let mut hosts = BTreeMap::new();
        for file in files.files().iter().filter(|file| matches!(file.digest, Digest::Sha256(_)) && file.size > 0) {
            *hosts.entry(files.host(file).await?).or_default() += 1;
        }
        let findings = verify::check_hosts(&self.api, &hosts);
        Ok((hosts, findings))
    }

    /// A client that sends no token.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { api: self.api.anonymous(), work_dir: self.work_dir.clone() }
    }

    /// Makes a repository private or public, and reads it back. No Hub commit is made, so its date does not move (GATES 33).
    ///
    /// # Errors
    /// Request errors, or [`HubError::Visibility`] when the Hub did not do it.
    pub async fn set_private(&self, repo: &RepoId, private: bool) -> Result<(), HubError> {
        visibility::set_private(&self.api, repo, private).await?;
        match remote::is_private(&self.api, repo).await? {
            Some(now) if now == private => Ok(()),
            _ => Err(HubError::Visibility { repo: repo.to_string(), private }),
        }
    }

    /// Downloads the wanted files of a revision (branch, tag or Hub commit) into `dir` and compares every file with the sha256 or git
    /// sha1 that the Hub lists. `wanted` is asked with each path; `progress` hears the bytes that are there and those of all files.
    ///
    /// `dir` may hold files of this revision already; they are compared and kept. Anything else in it is refused, and nothing in it is
    /// replaced. Each file appears when all of its bytes have passed; of a run that broke off the parts stay in `.deval-fetch`, and
    /// the next run asks for the missing ones only.
    ///
    /// # Errors
    /// [`HubError::NotEmpty`], [`HubError::Differs`], [`HubError::Corrupt`], [`HubError::Disk`], request errors.
    pub async fn fetch(
        &self,
        repo: &RepoId,
        revision: &str,
        dir: &Path,
        wanted: &(dyn Fn(&str) -> bool + Sync),
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Fetched, HubError> {
        fetch::fetch(&self.api, repo, revision, dir, wanted, progress).await
    }

    /// The files of a revision (branch, tag or Hub commit), to be read in ranges. Nothing of them is read yet.
    ///
    /// # Errors
    /// Request errors.
    pub async fn open(&self, repo: &RepoId, revision: &str) -> Result<RemoteFiles, HubError> {
        RemoteFiles::open(&self.api, repo, revision).await
    }

    fn xet_cache(&self, repo: &RepoId) -> PathBuf {
        let key = sha2::Sha256::digest(format!("{}\n{repo}", self.api.endpoint()));
        self.work_dir.join("xet").join(&hex::encode(key)[..16])
    }
}
