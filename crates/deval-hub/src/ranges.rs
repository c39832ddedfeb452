//! Parts of files: what reads headers and samples of weights without downloading them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::header::{CONTENT_RANGE, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::http::{Api, refused, shown};
use crate::remote::{self, RemoteFile, Snapshot};
use crate::{HubError, RepoId};

/// Redirects that are followed from `resolve` to the bytes.
const HOPS: usize = 5;

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
        Ok(Self { api: api.clone(), repo: repo.clone(), snapshot, targets: Mutex::default(), read: AtomicU64::new(0) })
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

    /// The bytes of a file in this range, which must lie within it.
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
            let response = self.ask(&url, range).await?;
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

    async fn ask(&self, url: &Url, range: &Range<u64>) -> Result<Response, HubError> {
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        // Retries are the caller's, so that they cover the body too.
        self.api.headers_of(self.api.request(Method::GET, url.clone()).header(RANGE, header)).await
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
    let length = response.content_length();
    let no_range = |found: String| HubError::NoRange { url: shown(url), wanted: wanted.clone(), found };
    if status != StatusCode::PARTIAL_CONTENT || found.as_ref() != Some(&wanted) {
        return Err(no_range(format!("{status}, {}", found.unwrap_or_else(|| "no Content-Range".to_owned()))));
    }
    let size = range.end - range.start;
    if length.is_some_and(|length| length != size) {
        return Err(no_range(format!("a body of {} bytes", length.unwrap_or_default())));
    }
    let bytes = response.bytes().await.map_err(|error| api.broken(url, &error))?;
    if bytes.len() as u64 != size {
        return Err(no_range(format!("a body of {} bytes", bytes.len())));
    }
    Ok(bytes.to_vec())
}
