//! Sending file contents to the Hub's content store.
//!
//! hf-xet, the engine inside hf-hub and Python's `hf_xet`, is used directly: hf-hub 1.0.0 ties the transfer to the Hub commit in one
//! call, so that a Hub commit that has to wait (409, 429) would hash and chunk all weights again, and falls back to sending
//! weights inside the Hub commit.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use xet::XetError;
use xet::xet_session::{Sha256Policy, XetCommitReport, XetConfig, XetSession, XetSessionBuilder, XetUploadCommit};

use crate::http::Api;
use crate::remote::model_url;
use crate::upload::{OnProgress, UploadEvent};
use crate::{HubError, LocalFile, RepoId};

/// Pause between two progress events.
const TICK: Duration = Duration::from_millis(200);

/// Blocks on their way at the same time. Each takes 64 MiB of memory, one more waits and one grows meanwhile; hf-xet's own bound is 64.
const PARALLEL_BLOCKS: usize = 2;

/// The same for a store on this disk, which makes a second copy of a block before it writes it.
const PARALLEL_BLOCKS_ON_DISK: usize = 1;

/// Files read at the same time; one already keeps the chunker busier than a network can be.
const PARALLEL_FILES: usize = 1;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WriteToken {
    access_token: String,
    exp: u64,
    cas_url: String,
}

/// What went over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transferred {
    /// Sum of the file sizes, in bytes.
    pub total: u64,
    /// Bytes really sent; the rest was known to the content store.
    pub sent: u64,
}

/// Sends files, in the given order, under the digests of the hash step: hf-xet does not compute them again.
///
/// `cache` holds hf-xet's record of what the content store knows. It must be dropped when the repository is new, because a record
/// that outlives its store makes hf-xet send nothing.
pub(crate) async fn transfer(
    api: &Api,
    repo: &RepoId,
    files: &[&LocalFile],
    cache: &Path,
    progress: OnProgress<'_>,
) -> Result<Transferred, HubError> {
    let url = model_url(api, repo, &["xet-write-token", "main"]);
    let token: WriteToken = api.get(url.clone()).await?.json()?;
    let failed = |e: XetError| HubError::Xet { cas: store_name(&token.cas_url), reason: e.to_string() };
    let commit = session(cache, &token.cas_url)
        .and_then(|session| session.new_upload_commit())
        .map_err(failed)?
        .with_endpoint(token.cas_url.clone())
        .with_token_info(token.access_token.clone(), token.exp)
        .with_token_refresh_url(url, api.auth_headers())
        .build()
        .await
        .map_err(failed)?;
    for file in files {
        let digest = Sha256Policy::from_hex(&file.sha256);
        commit.upload_from_path(file.source.clone(), digest).await.map_err(failed)?;
    }
    let total = files.iter().map(|f| f.size).sum();
    let report = finish(&commit, total, progress).await.map_err(failed)?;
    Ok(Transferred { total, sent: report.dedup_metrics.total_bytes_uploaded })
}

fn session(cache: &Path, cas_url: &str) -> Result<XetSession, XetError> {
    let is_remote = cas_url.starts_with("http");
    let blocks = if is_remote { PARALLEL_BLOCKS } else { PARALLEL_BLOCKS_ON_DISK };
    let mut config = XetConfig::new();
    config.telemetry.enabled = false;
    config.data.max_concurrent_file_ingestion = PARALLEL_FILES;
    config.client.ac_initial_upload_concurrency = blocks;
    config.client.ac_max_upload_concurrency = blocks;
    XetSessionBuilder::new_with_config(config).with_cache_dir(cache).build()
}

async fn finish(commit: &XetUploadCommit, total: u64, progress: OnProgress<'_>) -> Result<XetCommitReport, XetError> {
    let mut done = std::pin::pin!(commit.commit());
    let mut tick = tokio::time::interval(TICK);
    loop {
        let result = tokio::select! {
            result = &mut done => Some(result),
            _ = tick.tick() => None,
        };
        let now = commit.progress();
        let (done, sent) = (now.total_bytes_completed.min(total), now.total_transfer_bytes_completed);
        let known = if done == 0 { 0.0 } else { 1.0 - (now.total_transfer_bytes as f64 / done as f64).min(1.0) };
        progress(UploadEvent::Transfer { done, total, sent, known, rate: now.total_bytes_completion_rate });
        if let Some(result) = result {
            return result;
        }
    }
}

/// The store's address without anything secret in it.
fn store_name(cas_url: &str) -> String {
    cas_url.split(['?', '#']).next().unwrap_or_default().to_owned()
}
