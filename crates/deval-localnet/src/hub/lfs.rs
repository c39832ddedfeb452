//! Uploads over Git LFS: the batch call that chooses a transfer, and the `basic` and `multipart` transfers.
//!
//! The addresses that the batch call gives carry no token, as presigned ones of the Hub; a SHA-256 that does not fit is refused.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use clap::ValueEnum;
use futures::TryStreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::answer::{Refusal, base_url};
use super::store::digest;
use super::{Hub, HubError, is_sha256};

/// Bytes of one part: the least that S3 takes.
pub(super) const PART: u64 = 5 << 20;

/// The best way that the Hub offers to send LFS files. A client that does not speak it gets the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Transfer {
    /// One `PUT` for each file.
    Basic,
    /// Parts of 5 MiB.
    Multipart,
    /// Chunks into a content store.
    #[default]
    Xet,
}

impl Transfer {
    fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Multipart => "multipart",
            Self::Xet => "xet",
        }
    }
}

#[derive(Deserialize)]
struct LfsBatch {
    /// None stands for `basic` alone, as in Git LFS.
    #[serde(default)]
    transfers: Vec<String>,
    objects: Vec<LfsObject>,
}

#[derive(Deserialize)]
struct LfsObject {
    oid: String,
    size: u64,
}

impl Hub {
    /// The transfer for a client that speaks these.
    fn transfer(&self, spoken: &[String]) -> Transfer {
        let known = [Transfer::Xet, Transfer::Multipart];
        let fits = |transfer: &Transfer| {
            *transfer <= self.options.transfer && spoken.iter().any(|name| name == transfer.name())
        };
        known.into_iter().find(fits).unwrap_or(Transfer::Basic)
    }

    /// Size and, where it came over Xet, Xet hash of the LFS file with this SHA-256, if it is stored.
    pub(super) fn stored(&self, sha256: &str) -> Result<Option<(u64, Option<String>)>, HubError> {
        if let Some(file) = self.cas.find(sha256)? {
            return Ok(Some((file.size, Some(file.hash.clone()))));
        }
        let file = std::fs::metadata(self.store.lfs_path(sha256)).ok().filter(std::fs::Metadata::is_file);
        Ok(file.map(|file| (file.len(), None)))
    }
}

pub(super) async fn batch(
    State(hub): State<Arc<Hub>>,
    Path((ns, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let name = name.strip_suffix(".git").unwrap_or(&name);
    let repo = hub.writable(&headers, &ns, name)?;
    // The content type is git-lfs's own, which the `Json` extractor refuses.
    let batch: LfsBatch = serde_json::from_slice(&body).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let transfer = hub.transfer(&batch.transfers);
    let base = base_url(&headers);
    let verify = format!("{base}/{}.git/info/lfs/objects/verify", repo.id);
    let object = |LfsObject { oid, size }: &LfsObject| {
        let mut answer = json!({ "oid": oid, "size": size });
        if !is_sha256(oid) || *size == 0 {
            answer["error"] = json!({ "code": 422, "message": "not the SHA-256 and size of a file that has bytes" });
        } else if transfer != Transfer::Xet && hub.stored(oid)?.is_none() {
            answer["actions"] =
                json!({ "upload": upload_action(transfer, &base, oid, *size), "verify": { "href": verify } });
        }
        Ok::<_, Refusal>(answer)
    };
    let objects = batch.objects.iter().map(object).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(json!({ "transfer": transfer.name(), "objects": objects })))
}

fn upload_action(transfer: Transfer, base: &str, oid: &str, size: u64) -> Value {
    let href = format!("{base}/_lfs/{oid}");
    if transfer != Transfer::Multipart || size <= PART {
        return json!({ "href": href });
    }
    let mut header = json!({ "chunk_size": PART.to_string() });
    for part in 1..=size.div_ceil(PART) {
        header[format!("{part:05}")] = json!(format!("{href}/{part}"));
    }
    json!({ "href": format!("{href}/complete"), "header": header })
}

/// The `basic` transfer.
pub(super) async fn put(
    State(hub): State<Arc<Hub>>,
    Path(oid): Path<String>,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let staged = receive(&hub, body, |_| ()).await?;
    blocking(move || hub.keep(staged, &oid)).await?;
    Ok(StatusCode::OK)
}

/// A part of the `multipart` transfer, numbered from 1.
pub(super) async fn put_part(
    State(hub): State<Arc<Hub>>,
    Path((oid, part)): Path<(String, u32)>,
    body: Body,
) -> Result<Response, Refusal> {
    let path = hub.part(&oid, part)?;
    let staged = receive(&hub, body, |_| ()).await?;
    let etag = blocking(move || {
        let etag = etag_of(staged.path())?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(HubError::io(parent))?;
        }
        staged.persist(&path).map_err(|error| HubError::Io { path, source: error.error })?;
        Ok(etag)
    });
    Ok(([(ETAG, format!("\"{}\"", etag.await?))], StatusCode::OK).into_response())
}

/// What tells a part from others; S3 has an MD5 here.
fn etag_of(part: &std::path::Path) -> Result<String, Refusal> {
    let (sha256, _) = digest(part)?;
    Ok(sha256[..32].to_owned())
}

#[derive(Deserialize)]
struct Completion {
    parts: Vec<CompletedPart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CompletedPart {
    part_number: u32,
    etag: String,
}

/// The end of the `multipart` transfer.
pub(super) async fn complete(
    State(hub): State<Arc<Hub>>,
    Path(oid): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let Completion { parts } =
        serde_json::from_slice(&body).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let paths = parts.iter().map(|part| hub.part(&oid, part.part_number)).collect::<Result<Vec<_>, _>>()?;
    if paths.is_empty() {
        return Err(Refusal::bad_request("there is at least one part"));
    }
    blocking(move || {
        let mut whole = hub.store.stage()?;
        for (path, CompletedPart { etag, .. }) in paths.iter().zip(&parts) {
            // The parts of what is complete are gone, as S3 has it.
            if !path.is_file() {
                return Err(Refusal::new(
                    StatusCode::NOT_FOUND,
                    "NoSuchUpload: the upload does not exist, or is complete",
                ));
            }
            if etag.trim_matches('"') != etag_of(path)? {
                return Err(Refusal::bad_request("InvalidPart: a part has another ETag"));
            }
            let mut part = std::fs::File::open(path).map_err(HubError::io(path))?;
            io::copy(&mut part, &mut whole).map_err(HubError::io(path))?;
        }
        hub.keep(whole, &oid)?;
        for path in &paths {
            std::fs::remove_file(path).map_err(HubError::io(path))?;
        }
        Ok(())
    })
    .await?;
    Ok(Json(json!({ "success": true })))
}

/// What a client asks after an upload.
pub(super) async fn verify(
    State(hub): State<Arc<Hub>>,
    Path((ns, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    hub.writable(&headers, &ns, name.strip_suffix(".git").unwrap_or(&name))?;
    let LfsObject { oid, size } =
        serde_json::from_slice(&body).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let stored = if is_sha256(&oid) { hub.stored(&oid)? } else { None };
    match stored {
        Some((found, _)) if found == size => Ok(Json(json!({}))),
        Some((found, _)) => Err(Refusal::bad_request(format!("{size} bytes announced, {found} stored"))),
        None => Err(Refusal::new(StatusCode::NOT_FOUND, "no such LFS object")),
    }
}

impl Hub {
    /// Keeps an LFS file that has come, if it is what its address says.
    fn keep(&self, staged: NamedTempFile, oid: &str) -> Result<(), Refusal> {
        let (found, size) = digest(staged.path())?;
        if found != oid {
            return Err(Refusal::bad_request(format!("{size} bytes came with the SHA-256 {found}, not {oid}")));
        }
        let path = self.store.lfs_path(oid);
        staged.persist(&path).map_err(|error| HubError::Io { path, source: error.error })?;
        Ok(())
    }

    fn part(&self, oid: &str, part: u32) -> Result<PathBuf, Refusal> {
        if is_sha256(oid) { Ok(self.store.part_path(oid, part)) } else { Err(Refusal::bad_request("no SHA-256")) }
    }
}

/// Keeps a body in a file that waits for its place; `see` sees the bytes as they come.
pub(super) async fn receive(hub: &Hub, body: Body, mut see: impl FnMut(&[u8])) -> Result<NamedTempFile, Refusal> {
    let mut staged = hub.store.stage()?;
    let mut pieces = body.into_data_stream();
    let broken = |error: axum::Error| Refusal::bad_request(format!("the body broke off: {error}"));
    while let Some(piece) = pieces.try_next().await.map_err(broken)? {
        see(&piece);
        staged.write_all(&piece).map_err(HubError::io(staged.path()))?;
    }
    Ok(staged)
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
}
