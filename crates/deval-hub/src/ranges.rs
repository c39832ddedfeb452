//! Parts of files: what reads headers and samples of weights without downloading them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::header::{CONTENT_RANGE, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::http::{Api, refused, shown};
use crate::names;
use crate::remote::{self, RemoteFile, Snapshot};
use crate::{HubError, RepoId};

/// Redirects that are followed from `resolve` to the bytes.
const HOPS: usize = 5;

/// Bytes of one part of a stream.
const PIECE: usize = 8 << 20;

/// Parts of a stream that are asked for at the same time.
const AHEAD: usize = 4;

/// The files of one revision, read in ranges.
///
/// `resolve` is asked once for each file; its redirect, to another host as a rule, is kept and gets the ranges, without the token.
pub struct RemoteFiles {
    api: Api,
    repo: RepoId,
    snapshot: Snapshot,
    /// Where the bytes of a file lie, by its path.
    targets: Mutex<HashMap<String, Url>>,
    read: AtomicU64,
}

impl RemoteFiles {
    pub(crate) async fn open(api: &Api, repo: &RepoId, revision: &str) -> Result<Self, HubError> {
        let snapshot = remote::snapshot(api, repo, revision).await?;
        names::check(api, repo, &snapshot.files)?;
        Ok(Self { api: api.clone(), repo: repo.clone(), snapshot, targets: Mutex::default(), read: AtomicU64::new(0) })
    }

    /// Hands the bytes of a file on in their order, while the next parts are on their way: at most [`AHEAD`] parts of [`PIECE`] bytes
    /// are in memory.
    ///
    /// # Errors
    /// As [`RemoteFiles::read`].
    pub async fn stream(&self, file: &RemoteFile, mut take: impl FnMut(&[u8])) -> Result<(), HubError> {
        let starts = (0..file.size).step_by(PIECE);
        let ranges = starts.map(|start| start..file.size.min(start + PIECE as u64));
        let mut parts = futures::stream::iter(ranges).map(|range| self.read(file, range)).buffered(AHEAD);
        while let Some(part) = parts.try_next().await? {
            take(&part);
        }
        Ok(())
    }

    /// The host that gives the bytes of a file: the one that `resolve` redirects to, which for LFS is another than the Hub's own.
    ///
    /// # Errors
    /// Request errors; a redirect that leads nowhere.
    pub async fn host(&self, file: &RemoteFile) -> Result<String, HubError> {
        let url = self.resolve_url(file);
        let head = self.api.peek(self.api.request(Method::HEAD, url.clone())).await?;
        let status = head.status();
        let target = match status {
            _ if status.is_redirection() => self.next(&url, &head)?,
            _ if status.is_success() => url,
            _ => return Err(refused(&url, status, head.headers(), &[])),
        };
        Ok(target.host_str().unwrap_or_default().to_owned())
    }

    /// The Hub commit that is read.
    pub fn revision(&self) -> &str {
        &self.snapshot.revision
    }

    /// Its tree, sorted by path.
    pub fn files(&self) -> &[RemoteFile] {
        &self.snapshot.files
    }

    /// Bytes of file contents that were received so far.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The bytes of a file in this range, which must lie within it. A whole file is asked for without naming a range, because not
    /// everything that serves small files knows ranges.
    ///
    /// # Errors
    /// [`HubError::NoRange`] when the answer is not this range of a file of the listed size; request errors.
    pub async fn read(&self, file: &RemoteFile, range: Range<u64>) -> Result<Vec<u8>, HubError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = self.api.repeat(&|_, _| {}, || self.once(file, &range)).await?;
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    async fn once(&self, file: &RemoteFile, range: &Range<u64>) -> Result<Vec<u8>, HubError> {
        let known = self.targets().get(&file.path).cloned();
        let (mut url, known) = match known {
            Some(target) => (target, true),
            None => (self.resolve_url(file), false),
        };
        for _ in 0..=HOPS {
            let response = self.ask(&url, file, range).await?;
            let status = response.status();
            if status.is_redirection() {
                url = self.next(&url, &response)?;
                continue;
            }
            if known && matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                // A signed address has expired; the Hub gives a new one.
                self.targets().remove(&file.path);
                return Box::pin(self.once(file, range)).await;
            }
            let bytes = checked(&self.api, &url, response, file, range).await?;
            self.targets().insert(file.path.clone(), url);
            return Ok(bytes);
        }
        Err(HubError::Answer { url: shown(&url), what: format!("it is the end of more than {HOPS} redirects") })
    }

    fn targets(&self) -> std::sync::MutexGuard<'_, HashMap<String, Url>> {
        self.targets.lock().expect("nothing panics while it is held")
    }

    fn resolve_url(&self, file: &RemoteFile) -> Url {
        let ids = [self.repo.namespace(), self.repo.name(), "resolve", &self.snapshot.revision];
        self.api.url(ids.into_iter().chain(file.path.split('/')))
    }

    async fn ask(&self, url: &Url, file: &RemoteFile, range: &Range<u64>) -> Result<Response, HubError> {
        let mut request = self.api.request(Method::GET, url.clone());
        if *range != (0..file.size) {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        // Retries are the caller's, so that they cover the body too.
        self.api.headers_of(request).await
    }

    /// Where a redirect leads; never from an encrypted address to an open one.
    fn next(&self, url: &Url, response: &Response) -> Result<Url, HubError> {
        let answer = |what: &str| HubError::Answer { url: shown(url), what: what.to_owned() };
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| url.join(location).ok());
        let next = next.ok_or_else(|| answer("a redirect without a place to go"))?;
        match (url.scheme(), next.scheme()) {
            (_, "https") | ("http", "http") => Ok(next),
            _ => Err(answer("a redirect from an encrypted address to one that is not")),
        }
    }
}

/// The body, once the headers say that it is the range asked for. A whole file in its place is not read.
async fn checked(
    api: &Api,
    url: &Url,
    response: Response,
    file: &RemoteFile,
    range: &Range<u64>,
) -> Result<Vec<u8>, HubError> {
    let (status, headers) = (response.status(), response.headers());
    if !status.is_success() {
        return Err(refused(url, status, headers, &[]));
    }
    let wanted = format!("bytes {}-{}/{}", range.start, range.end - 1, file.size);
    let found = headers.get(CONTENT_RANGE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let no_range = |found: String| HubError::NoRange { url: shown(url), wanted: wanted.clone(), found };
    let is_whole = status == StatusCode::OK && *range == (0..file.size);
    if !is_whole && (status != StatusCode::PARTIAL_CONTENT || found.as_ref() != Some(&wanted)) {
        return Err(no_range(format!("{status}, {}", found.unwrap_or_else(|| "no Content-Range".to_owned()))));
    }
    let size = range.end - range.start;
    match response.content_length() {
        Some(length) if length != size => Err(no_range(format!("a body of {length} bytes"))),
        _ => body(api, url, response, size).await?.map_err(|length| no_range(format!("a body of {length} bytes"))),
    }
}

/// A body of this many bytes; else how many bytes were taken of it, never many more than promised.
async fn body(api: &Api, url: &Url, mut response: Response, size: u64) -> Result<Result<Vec<u8>, u64>, HubError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    while let Some(piece) = response.chunk().await.map_err(|error| api.broken(url, &error))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > size {
            break;
        }
    }
    let taken = bytes.len() as u64;
    Ok(if taken == size { Ok(bytes) } else { Err(taken) })
}
