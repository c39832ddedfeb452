//! Sending file contents to the Hub's content store.
//!
//! hf-xet, the engine inside hf-hub and Python's `hf_xet`, is used directly: hf-hub 1.0.0 ties the transfer to the Hub commit in one
//! call, so that a Hub commit that has to wait (409, 429) would hash and chunk all weights again, and falls back to sending
//! weights inside the Hub commit.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use tokio::task::spawn_blocking;
use xet::XetError;
use xet::xet_session::{Sha256Policy, XetCommitReport, XetConfig, XetSession, XetSessionBuilder, XetUploadCommit};
use xet_core_structures::xorb_object::CompressionScheme;

use crate::http::Api;
use crate::remote::model_url;
use crate::upload::{OnProgress, UploadEvent};
use crate::{HubError, LocalFile, RepoId};

/// Pause between two progress events.
const TICK: Duration = Duration::from_millis(200);

/// Files that are read and chunked at the same time, each on a core of its own.
const PARALLEL_FILES: usize = 2;

/// Xorbs on their way at the same time, of 64 MiB each. hf-xet's own bound is 64, and with it memory for all of them.
const PARALLEL_XORBS: usize = 4;

/// Bytes read at a time: small enough to be chunked and hashed while they are in the processor's cache.
const BLOCK: usize = 2 << 20;

/// Bytes of a sample, and how many of them tell whether a file can be compressed.
const SAMPLE: usize = 64 << 10;
const SAMPLES: u64 = 8;

/// Least share of the bytes that compression must save: below, it costs more time than it spares on any network.
const LEAST_SAVING: f64 = 0.02;

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

/// Sends files under the digests of the hash step: hf-xet does not compute them again.
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
    let commit = session(api, cache, compression(files)?)
        .and_then(|session| session.new_upload_commit())
        .map_err(failed)?
        .with_endpoint(token.cas_url.clone())
        .with_token_info(token.access_token.clone(), token.exp)
        .with_token_refresh_url(url, api.auth_headers())
        .build()
        .await
        .map_err(failed)?;
    let sending = async {
        let blocks = Blocks::default();
        let sent = files.iter().map(|file| send(&commit, file, &blocks, &failed));
        stream::iter(sent).buffer_unordered(PARALLEL_FILES).try_collect::<()>().await?;
        commit.commit().await.map_err(failed)
    };
    let total = files.iter().map(|f| f.size).sum();
    let report = watched(sending, &commit, total, progress).await?;
    Ok(Transferred { total, sent: report.dedup_metrics.total_bytes_uploaded })
}

fn session(api: &Api, cache: &Path, compression: &str) -> Result<XetSession, XetError> {
    let mut config = XetConfig::new();
    // The content store is given as many tries as the Hub, and more time: six times the pause, three times the silence.
    config.client.retry_max_attempts = api.retry.tries as usize;
    config.client.retry_base_delay = api.retry.base * 6;
    config.client.read_timeout = api.stall * 3;
    config.telemetry.enabled = false;
    config.xorb.compression_policy.try_set(compression).map_err(XetError::other)?;
    config.client.ac_initial_upload_concurrency = PARALLEL_XORBS;
    config.client.ac_max_upload_concurrency = PARALLEL_XORBS;
    XetSessionBuilder::new_with_config(config).with_cache_dir(cache).build()
}

/// hf-xet's name for how the chunks are to be packed. It tries on each chunk what the first one of 32 promises; samples of the files tell
/// whether anything is to be gained.
fn compression(files: &[&LocalFile]) -> Result<&'static str, HubError> {
    let (mut all, mut saved) = (0.0, 0.0);
    for file in files {
        all += file.size as f64;
        saved += file.size as f64 * saving(file).map_err(HubError::disk(&file.source))?;
    }
    Ok(if saved < LEAST_SAVING * all { "none" } else { "auto" })
}

/// The share of a file that compression saves, by samples.
fn saving(file: &LocalFile) -> std::io::Result<f64> {
    let mut source = File::open(&file.source)?;
    let (mut plain, mut packed) = (0, 0);
    for sample in 0..SAMPLES {
        // Elements stay whole, because bytes are grouped by their place in them.
        let bytes = read_at(&mut source, file.size / SAMPLES * sample / 8 * 8)?;
        let scheme = CompressionScheme::choose_from_data(&bytes);
        plain += bytes.len();
        packed += scheme.compress_from_slice(&bytes).map_or(bytes.len(), |packed| packed.len().min(bytes.len()));
    }
    Ok(1.0 - packed as f64 / plain.max(1) as f64)
}

fn read_at(source: &mut File, at: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(SAMPLE);
    source.seek(SeekFrom::Start(at))?;
    source.take(SAMPLE as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file once and hands its blocks over without a copy.
async fn send(
    commit: &XetUploadCommit,
    file: &LocalFile,
    blocks: &Blocks,
    failed: &impl Fn(XetError) -> HubError,
) -> Result<(), HubError> {
    let upload = commit.upload_stream(Some(file.path.clone()), Sha256Policy::from_hex(&file.sha256)).await;
    let upload = upload.map_err(failed)?;
    let mut source = File::open(&file.source).map_err(HubError::disk(&file.source))?;
    loop {
        let mut block = blocks.take();
        let read = spawn_blocking(move || {
            let read = (&source).take(BLOCK as u64).read_to_end(&mut block.bytes);
            read.map(|_| (source, block))
        });
        let (back, block) = read.await.expect("reading does not panic").map_err(HubError::disk(&file.source))?;
        source = back;
        if block.bytes.is_empty() {
            break;
        }
        upload.write(Bytes::from_owner(block)).await.map_err(failed)?;
    }
    upload.finish().await.map_err(failed)?;
    Ok(())
}

/// Memory for blocks that goes round: hf-xet lets go of a block when its chunks are packed, and the allocator would keep the pieces.
#[derive(Clone, Default)]
struct Blocks(Arc<Mutex<Vec<Vec<u8>>>>);

struct Block {
    bytes: Vec<u8>,
    home: Blocks,
}

impl Blocks {
    fn take(&self) -> Block {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Block { bytes: free.unwrap_or_else(|| Vec::with_capacity(BLOCK)), home: self.clone() }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

/// Tells of the progress until `sending` is done.
async fn watched(
    sending: impl Future<Output = Result<XetCommitReport, HubError>>,
    commit: &XetUploadCommit,
    total: u64,
    progress: OnProgress<'_>,
) -> Result<XetCommitReport, HubError> {
    let mut sending = std::pin::pin!(sending);
    let mut tick = tokio::time::interval(TICK);
    loop {
        let result = tokio::select! {
            result = &mut sending => Some(result),
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

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::Stamp;

    #[test]
    fn what_samples_save_decides_whether_chunks_are_packed() {
        let dir = tempfile::tempdir().unwrap();
        let noise: Vec<u8> = (0..20_000u32).flat_map(|number| Sha256::digest(number.to_le_bytes())).collect();
        let halves: Vec<u8> = noise.iter().flat_map(|byte| [*byte, 0x3c]).collect();
        let file = |name: &str, bytes: &[u8]| {
            let source = dir.path().join(name);
            std::fs::write(&source, bytes).unwrap();
            let (path, stamp) = (name.to_owned(), Stamp::of(&source).unwrap());
            LocalFile { path, size: bytes.len() as u64, sha256: String::new(), git_sha1: String::new(), stamp, source }
        };
        let (noise, halves, text) = (file("noise", &noise), file("halves", &halves), file("text", &[b'a'; 5000]));
        assert_eq!(compression(&[&noise]).unwrap(), "none");
        assert_eq!(compression(&[&halves]).unwrap(), "auto", "one byte of two is always the same");
        assert_eq!(compression(&[&noise, &text]).unwrap(), "none", "what is small weighs little");
        assert_eq!(compression(&[]).unwrap(), "auto");
    }
}
