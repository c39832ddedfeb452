//! A fake Hugging Face Hub: a test double, for a closed machine. It says so in every answer (`X-Deval-Localnet: fake-hub`).
//!
//! It speaks the part of the Hub's HTTP API that publishing and validating one De-Val submission needs, to the clients that do it:
//! hf-hub (Rust), huggingface_hub 0.25.1 and 0.27.1 (Python: the validator host and the miner's container) and the newest, and their
//! command lines. Model weights are uploaded over Xet (see [`cas`]) or over LFS (see [`lfs`]); clients without Xet get the same bytes from
//! `/cdn`.
//!
//! What it is not: tokens are told apart by how they begin (see [`answer::Caller`]) and open nothing real; there are no branches but
//! `main`, no pull requests, no datasets or spaces; `.gitattributes` is stored but never read back, `.gitignore` in its plain forms only.
//!
//! What it shall do wrong is told by a fault script ([`faults`]); what it was asked is in the journal.
//!
//! All state lies below one directory and is re-read from there on every request, so a restarted Hub serves the same:
//! ```text
//! repos/<ns>/<name>/settings.json   visibility; `disabled` can be set here only
//! repos/<ns>/<name>/main            id of the newest commit
//! repos/<ns>/<name>/commits/<id>.json   a commit and its whole tree
//! blobs/<git sha1>                  regular files
//! lfs/<sha256>                      LFS files put together from Xet chunks, after the commit
//! cas/                              the Xet store, see [`xet`]
//! parts/<sha256>/<number>           parts of multipart uploads that are not complete
//! journal.jsonl                     one line per request: time, method, path, caller, range, bytes, fault, status (null: no answer)
//! tmp/                              half-written files; emptied at start
//! ```
//! Every file appears by rename, `main` last: a process killed at any point leaves the state before or after a commit.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};
use tokio::net::TcpListener;

mod answer;
mod cas;
mod commit;
mod date;
mod download;
mod faults;
mod info;
mod lfs;
mod observe;
mod quota;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod upload;
mod xet;

pub(crate) use faults::Fault;

use faults::FaultScript;
use lfs::Transfer;
use observe::Journal;
use quota::Quota;
use store::Store;
use xet::Cas;

/// Regular files travel inside the commit request, base64, all at once.
const MAX_BODY: usize = 512 << 20;

/// How this Hub differs from what it is by itself.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct HubOptions {
    /// The best way that the Hub offers to send LFS files.
    #[arg(long = "hub-transfer", value_enum, default_value = "xet")]
    transfer: Transfer,
    /// Host that LFS files are redirected to, such as `localhost`, which is not the Hub's own `127.0.0.1`; the Hub's own without this.
    #[arg(long = "hub-cdn-host", value_name = "HOST")]
    cdn_host: Option<String>,
    /// Entries on a page of a list, in the place of the Hub's 1000, 50 and 50.
    #[arg(long = "hub-page-size", value_name = "N")]
    page_size: Option<NonZeroUsize>,
    /// API requests of one caller in five seconds; no limit without this.
    #[arg(long = "hub-quota", value_name = "N")]
    quota: Option<u32>,
}

/// Where the Hub keeps its state, and what it is told to do wrong.
#[derive(Debug, Clone)]
pub(crate) struct HubConfig {
    /// Directory of all state; created if missing. Give it to one Hub at a time.
    pub(crate) state_dir: PathBuf,
    /// How this Hub differs from what it is by itself.
    pub(crate) options: HubOptions,
    /// Applied in order: a request meets the first fault that matches it and is not used up.
    pub(crate) faults: Vec<Fault>,
}

/// The fake Hub could not do its work. A client's mistake is never one of these: it is an HTTP answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    /// A file of the state directory could not be read or written.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A file of the state directory is not what this Hub wrote.
    #[error("{}: not a state file of the local Hub: {source}", path.display())]
    State { path: PathBuf, source: serde_json::Error },
    /// A shard or xorb of the Xet store does not parse.
    #[error("{}: {source}", path.display())]
    Cas { path: PathBuf, source: xet_core_structures::CoreError },
    /// A xorb of the Xet store is cut off, or has fewer chunks than a shard says.
    #[error("{}: does not hold the chunks that it should", path.display())]
    NoSuchChunks { path: PathBuf },
    /// No shard of the Xet store knows the file, or a xorb it needs is gone.
    #[error("LFS object {oid} is not in the Xet store")]
    LostObject { oid: String },
    /// The Xet store gave other bytes than its shard promises.
    #[error("LFS object {oid} ({size} bytes) came out of the Xet store as {found} ({found_size} bytes)")]
    WrongObject { oid: String, size: u64, found: String, found_size: u64 },
    /// The listening socket failed.
    #[error("serving the local Hub: {0}")]
    Serve(io::Error),
}

impl HubError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    fn cas<E: Into<xet_core_structures::CoreError>>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Cas { path, source: source.into() }
    }
}

/// What the handlers share.
struct Hub {
    store: Store,
    cas: Cas,
    journal: Journal,
    faults: FaultScript,
    quota: Quota,
    options: HubOptions,
}

impl Hub {
    fn open(config: HubConfig) -> Result<Self, HubError> {
        let HubConfig { state_dir, options, faults } = config;
        std::fs::create_dir_all(&state_dir).map_err(HubError::io(&state_dir))?;
        Ok(Self {
            store: Store::open(&state_dir)?,
            cas: Cas::open(state_dir.join("cas"))?,
            journal: Journal::open(state_dir.join("journal.jsonl"))?,
            faults: FaultScript::new(faults),
            quota: Quota::new(options.quota),
            options,
        })
    }
}

/// Serves the fake Hub on `listener` until the task is dropped or the process ends.
///
/// # Errors
/// When the state directory cannot be opened or the socket fails.
pub(crate) async fn serve(listener: TcpListener, config: HubConfig) -> Result<(), HubError> {
    axum::serve(listener, router(config)?).await.map_err(HubError::Serve)
}

/// Opens the state directory and builds the routes over it.
///
/// # Errors
/// When the state directory cannot be created, read or written.
pub(crate) fn router(config: HubConfig) -> Result<Router, HubError> {
    let hub = Arc::new(Hub::open(config)?);
    Ok(Router::new()
        .route("/api/whoami-v2", get(info::whoami))
        .route("/api/validate-yaml", post(info::validate_yaml))
        .route("/api/repos/create", post(info::create))
        .route("/api/repos/delete", delete(info::delete))
        .nest("/api/models/{ns}/{name}", model_routes())
        .nest("/_cas", cas::routes())
        .route("/{ns}/{name}/info/lfs/objects/batch", post(lfs::batch))
        .route("/{ns}/{name}/info/lfs/objects/verify", post(lfs::verify))
        .route("/_lfs/{oid}", put(lfs::put))
        .route("/_lfs/{oid}/{part}", put(lfs::put_part))
        .route("/_lfs/{oid}/complete", post(lfs::complete))
        .route("/{ns}/{name}/resolve/{rev}/{*path}", get(download::resolve))
        .route("/cdn/{oid}", get(download::cdn))
        .fallback(answer::no_such_route)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(hub.clone(), observe::observe))
        .route("/_localnet/faults", put(observe::replace_faults))
        .with_state(hub))
}

/// Whether this is the name of an LFS file: 64 lower-case hex digits.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn model_routes() -> Router<Arc<Hub>> {
    Router::new()
        .route("/", get(info::model))
        .route("/revision/{rev}", get(info::model_at))
        .route("/settings", put(info::settings))
        .route("/commits/{rev}", get(info::commits))
        .route("/tree/{rev}", get(tree::list_root))
        .route("/tree/{rev}/{*path}", get(tree::list))
        .route("/paths-info/{rev}", post(tree::paths_info))
        .route("/preupload/{rev}", post(upload::preupload))
        .route("/commit/{rev}", post(commit::commit))
        .route("/xet-write-token/{rev}", get(upload::write_token))
        .route("/xet-read-token/{rev}", get(upload::read_token))
}
