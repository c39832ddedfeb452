//! Sending file contents to the Hub's content store.
//!
//! The formats, the deduplication records and the requests are those of Hugging Face's own crates under hf-xet. What lies between them is
//! here, because hf-xet's session keeps the bytes of every xorb that is being built or sent twice, and copies them once more: see
//! [`sender`]. hf-hub 1.0.0 moreover ties the transfer to the Hub commit in one call, so that a Hub commit that has to wait (409, 429)
//! would hash and chunk all weights again, and falls back to sending weights inside the Hub commit.

mod chunks;
mod sender;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use xet_client::cas_client::auth::{AuthConfig, DirectRefreshRouteTokenRefresher};
use xet_client::common::http_client::build_http_client;
use xet_core_structures::xorb_object::CompressionScheme;
use xet_data::DataError;
use xet_data::processing::configurations::{SessionContext, TranslatorConfig};
use xet_runtime::config::XetConfig;
use xet_runtime::core::XetContext;

use self::sender::{Broken, Progress, Sender};
use crate::http::Api;
use crate::remote::model_url;
use crate::upload::OnProgress;
use crate::{HubError, LocalFile, RepoId};

/// What this client calls its session with the content store.
const SESSION: &str = "deval";

/// Pause between two progress events.
const TICK: Duration = Duration::from_millis(200);

/// Xorbs on their way at the same time. hf-xet's own bound is 64, and with it memory for all of them.
const PARALLEL_XORBS: usize = 4;

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

/// Sends files under the digests of the hash step, which are not computed again.
///
/// `cache` holds the record of what the content store knows. It must be dropped when the repository is new: a record that outlives its
/// store makes this send nothing.
pub(crate) async fn transfer(
    api: &Api,
    repo: &RepoId,
    files: &[&LocalFile],
    cache: &Path,
    progress: OnProgress<'_>,
) -> Result<Transferred, HubError> {
    let url = model_url(api, repo, &["xet-write-token", "main"]);
    let token: WriteToken = api.get(url.clone()).await?.json()?;
    let store = store_name(&token.cas_url);
    let failed = |broken| match broken {
        Broken::File(error) => error,
        broken => HubError::Xet { cas: store.clone(), reason: broken.to_string() },
    };
    let session = session(api, token, url.as_str(), cache).map_err(failed)?;
    let compression = compression(files)?;
    let counted = Arc::new(Progress::of(files));
    let sending = async {
        let mut sender = Sender::new(session, compression, counted.clone()).await?;
        for file in files {
            sender.send(file).await?;
        }
        sender.finish().await
    };
    let mut sending = std::pin::pin!(sending);
    let mut tick = tokio::time::interval(TICK);
    let sent = loop {
        let result = tokio::select! {
            result = &mut sending => Some(result),
            _ = tick.tick() => None,
        };
        progress(counted.event());
        if let Some(result) = result {
            break result.map_err(failed)?;
        }
    };
    Ok(Transferred { total: files.iter().map(|f| f.size).sum(), sent })
}

/// Where the store is, how it is asked, and where its records lie.
fn session(api: &Api, token: WriteToken, refresh: &str, cache: &Path) -> Result<TranslatorConfig, Broken> {
    let mut config = XetConfig::new();
    // The content store is given as many tries as the Hub, and more time: six times the pause, three times the silence.
    config.client.retry_max_attempts = api.retry.tries as usize;
    config.client.retry_base_delay = api.retry.base * 6;
    config.client.read_timeout = api.stall * 3;
    config.telemetry.enabled = false;
    config.client.ac_initial_upload_concurrency = PARALLEL_XORBS;
    config.client.ac_max_upload_concurrency = PARALLEL_XORBS;
    let context = XetContext::with_config(config).map_err(DataError::from)?;
    let client = build_http_client(&context, SESSION, None, Some(Arc::new(api.auth_headers())))?;
    let refresher = DirectRefreshRouteTokenRefresher::new(context.clone(), refresh, client, None);
    let session = SessionContext {
        endpoint: token.cas_url,
        auth: AuthConfig::maybe_new(Some(token.access_token), Some(token.exp), Some(Arc::new(refresher))),
        custom_headers: None,
        repo_paths: Vec::new(),
        session_id: Some(SESSION.to_owned()),
        cache_root: Some(cache.to_owned()),
    };
    Ok(TranslatorConfig::new(&context, session)?)
}

/// The store's address without anything secret in it.
fn store_name(cas_url: &str) -> String {
    cas_url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// How chunks are to be packed: trying it on each costs time, and samples of the files tell whether anything is to be gained.
fn compression(files: &[&LocalFile]) -> Result<CompressionScheme, HubError> {
    let (mut all, mut saved) = (0.0, 0.0);
    for file in files {
        all += file.size as f64;
        saved += file.size as f64 * saving(file).map_err(HubError::disk(&file.source))?;
    }
    Ok(if saved < LEAST_SAVING * all { CompressionScheme::None } else { CompressionScheme::Auto })
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
        assert_eq!(compression(&[&noise]).unwrap(), CompressionScheme::None);
        assert_eq!(compression(&[&halves]).unwrap(), CompressionScheme::Auto, "one byte of two is always the same");
        assert_eq!(compression(&[&noise, &text]).unwrap(), CompressionScheme::None, "what is small weighs little");
        assert_eq!(compression(&[]).unwrap(), CompressionScheme::Auto);
    }
}
