//! File bytes: `resolve`, and the `/cdn` that LFS files are redirected to.

use std::io::SeekFrom;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LINK, LOCATION, RANGE};
use axum::http::response::Builder;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::answer::{Refusal, base_url};
use super::store::{Content, Repo};
use super::{Hub, HubError, cas, is_sha256};

/// Bytes of a file in memory at a time.
const PIECE: usize = 256 << 10;

/// Bytes of a range that is read from the Xet store at once.
const FEW: u64 = 1 << 20;

/// Serves regular files itself and redirects to [`cdn`] for LFS files, as the Hub does.
pub(super) async fn resolve(
    State(hub): State<Arc<Hub>>,
    Path((ns, name, rev, path)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let repo = hub.downloadable(&headers, &ns, &name)?;
    let commit = hub.revision(&repo, &rev)?;
    let entry = commit.files.get(&path).ok_or_else(|| Refusal::no_entry(&path, &rev))?;
    let answer = Response::builder().header("x-repo-commit", &commit.stamp.id);
    match &entry.content {
        Content::Lfs { sha256, size, xet_hash } => {
            let mut answer = answer.header("x-linked-etag", format!("\"{sha256}\"")).header("x-linked-size", *size);
            if let Some(xet_hash) = xet_hash {
                let link = xet_auth_link(&base_url(&headers), &repo, &commit.stamp.id);
                answer = answer.header("x-xet-hash", xet_hash).header(LINK, link);
            }
            let location = format!("{}/cdn/{sha256}?commit={}", hub.cdn_url(&headers), commit.stamp.id);
            finish(answer.status(StatusCode::FOUND).header(LOCATION, location), Body::empty())
        }
        Content::Regular { oid, .. } => send(&hub.store.blob_path(oid), oid, &headers, answer).await,
    }
}

fn xet_auth_link(base: &str, repo: &Repo, commit: &str) -> String {
    format!("<{base}/api/models/{}/xet-read-token/{commit}>; rel=\"xet-auth\"", repo.id)
}

#[derive(Deserialize)]
pub(super) struct From {
    commit: Option<String>,
}

/// An LFS file by SHA-256. Like the Hub's CDN it asks for no token: whoever knows the address may read. huggingface_hub 2 follows a redirect
/// on one host before it looks for the commit, so the address names that.
pub(super) async fn cdn(
    State(hub): State<Arc<Hub>>,
    Path(oid): Path<String>,
    Query(From { commit }): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if !is_sha256(&oid) {
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("{oid:?} is no SHA-256")));
    }
    let commit = || commit.iter().fold(Response::builder(), |answer, commit| answer.header("x-repo-commit", commit));
    if let Some(answer) = few_bytes(&hub, &oid, &headers, commit())? {
        return Ok(answer);
    }
    let sha256 = oid.clone();
    let work = tokio::task::spawn_blocking(move || hub.store.lfs_file(&hub.cas, &sha256));
    let path = match work.await.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))? {
        Err(error @ HubError::LostObject { .. }) => return Err(Refusal::new(StatusCode::NOT_FOUND, error.to_string())),
        other => other?,
    };
    send(&path, &oid, &headers, commit()).await
}

/// A small range of a file that is not put together yet: nobody needs all of it for that.
fn few_bytes(hub: &Hub, oid: &str, headers: &HeaderMap, answer: Builder) -> Result<Option<Response>, Refusal> {
    if hub.store.lfs_path(oid).is_file() {
        return Ok(None);
    }
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let (Some(range), Some(file)) = (range, hub.cas.find(oid)?) else { return Ok(None) };
    let Asked::Part(part) = parse_range(range, file.size) else { return Ok(None) };
    if part.end - part.start > FEW {
        return Ok(None);
    }
    let bytes = cas::read(&hub.cas, &file, &part)?;
    let answer = answer
        .status(StatusCode::PARTIAL_CONTENT)
        .header(CONTENT_RANGE, format!("bytes {}-{}/{}", part.start, part.end - 1, file.size));
    finish(described(answer, oid), Body::from(bytes)).map(Some)
}

fn described(answer: Builder, etag: &str) -> Builder {
    answer
        .header(ETAG, format!("\"{etag}\""))
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_TYPE, "application/octet-stream")
}

/// Streams the file, or the one range asked for.
pub(super) async fn send(
    path: &FilePath,
    etag: &str,
    headers: &HeaderMap,
    answer: Builder,
) -> Result<Response, Refusal> {
    let mut file = File::open(path).await.map_err(HubError::io(path))?;
    let size = file.metadata().await.map_err(HubError::io(path))?.len();
    let answer = described(answer, etag);
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok()).map(|range| parse_range(range, size));
    let (answer, range) = match range {
        None | Some(Asked::Whole) => (answer, 0..size),
        Some(Asked::Part(part)) => {
            let content_range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            (answer.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, content_range), part)
        }
        Some(Asked::Outside) => {
            let answer = answer.status(StatusCode::RANGE_NOT_SATISFIABLE);
            return finish(answer.header(CONTENT_RANGE, format!("bytes */{size}")), Body::empty());
        }
    };
    file.seek(SeekFrom::Start(range.start)).await.map_err(HubError::io(path))?;
    let length = range.end - range.start;
    finish(answer.header(CONTENT_LENGTH, length), stream(file, length))
}

fn finish(answer: Builder, body: Body) -> Result<Response, Refusal> {
    answer.body(body).map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn stream(file: File, length: u64) -> Body {
    let pieces = futures::stream::try_unfold(file.take(length), async |mut file| {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(piece), file)))
    });
    Body::from_stream(pieces)
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// No range this server understands; RFC 9110 says to ignore it.
    Whole,
    Part(Range<u64>),
    Outside,
}

/// One range of `bytes=a-b`, `bytes=a-` or `bytes=-n` in a file of `size` bytes.
pub(super) fn parse_range(header: &str, size: u64) -> Asked {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Asked::Whole;
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..size.min(last.saturating_add(1)),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(count)) if first.is_empty() => size.saturating_sub(count)..size,
        _ => return Asked::Whole,
    };
    if range.is_empty() { Asked::Outside } else { Asked::Part(range) }
}

#[cfg(test)]
mod tests {
    use super::{Asked, parse_range};

    #[test]
    fn ranges() {
        let cases = [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-", Asked::Part(2..10)),
            ("bytes=2-99", Asked::Part(2..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=10-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=0-18446744073709551615", Asked::Part(0..10)),
            ("bytes=5-2", Asked::Whole),
            ("bytes=0-1,4-5", Asked::Whole),
            ("items=0-1", Asked::Whole),
        ];
        for (header, expected) in cases {
            assert_eq!(parse_range(header, 10), expected, "{header}");
        }
    }
}
