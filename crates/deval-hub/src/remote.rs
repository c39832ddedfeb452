//! What the Hub holds, by own reads of the raw API: hf-hub 1.0.0 has no way to see a remote sha256.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::{Api, next_page, shown};
use crate::{HubError, RepoId};

/// The digest the Hub keeps of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Digest {
    /// sha256 of the bytes, for files in LFS or Xet; lower-case hex.
    Sha256(String),
    /// git blob sha1, for files kept in git; lower-case hex.
    GitSha1(String),
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(hex) => write!(f, "sha256 {hex}"),
            Self::GitSha1(hex) => write!(f, "git sha1 {hex}"),
        }
    }
}

/// One file of the remote tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// Path in the repository, `/` as separator.
    pub path: String,
    /// Bytes; for LFS the size of the content, not of the pointer.
    pub size: u64,
    /// Digest of the content.
    pub digest: Digest,
    /// RFC 3339 date of the last Hub commit that touched it, when the Hub says so (GATES 14).
    pub last_commit: Option<String>,
}

/// A Hub commit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RemoteCommit {
    /// Revision.
    pub id: String,
    /// First line of its message.
    #[serde(default)]
    pub title: String,
    /// RFC 3339.
    #[serde(default)]
    pub date: String,
}

/// A repository that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemoteRepo {
    /// Revision `main` stands at; `None` before the first Hub commit.
    pub head: Option<String>,
    /// Only its owners may read it.
    pub private: bool,
    /// Readers have to ask first.
    pub gated: bool,
    /// Taken down by the Hub.
    pub disabled: bool,
    /// The tree at `head`, sorted by path, without directories.
    pub files: Vec<RemoteFile>,
    /// Newest Hub commit on `main` (GATES 12, 33).
    pub last_commit: Option<RemoteCommit>,
}

impl RemoteCommit {
    /// How long ago it was made; zero for one of the future, `None` for a date that is none.
    pub fn age(&self) -> Option<Duration> {
        let date = humantime::parse_rfc3339_weak(&self.date).ok()?;
        Some(SystemTime::now().duration_since(date).unwrap_or_default())
    }
}

impl RemoteRepo {
    /// Sum of all file sizes in bytes, `.gitattributes` included: what the validator measures (GATES 15).
    pub fn total_size(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum()
    }
}

/// One revision of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Id of the Hub commit.
    pub(crate) revision: String,
    /// Its tree, sorted by path, without directories.
    pub(crate) files: Vec<RemoteFile>,
}

/// What stands behind a repository id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteState {
    /// Nothing, or nothing this client may see.
    Missing,
    /// A repository.
    Present(RemoteRepo),
}

#[derive(Deserialize)]
struct Info {
    sha: Option<String>,
    #[serde(default)]
    private: bool,
    /// `false`, `"auto"` or `"manual"`.
    #[serde(default)]
    gated: Value,
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Lfs>,
    last_commit: Option<EntryCommit>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

#[derive(Deserialize)]
struct EntryCommit {
    date: String,
}

impl From<TreeEntry> for RemoteFile {
    fn from(entry: TreeEntry) -> Self {
        let (size, digest) = match entry.lfs {
            Some(lfs) => (lfs.size, Digest::Sha256(lfs.oid)),
            None => (entry.size, Digest::GitSha1(entry.oid)),
        };
        Self { path: entry.path, size, digest, last_commit: entry.last_commit.map(|c| c.date) }
    }
}

/// Reads visibility, head, tree and newest Hub commit.
pub(crate) async fn state(api: &Api, repo: &RepoId) -> Result<RemoteState, HubError> {
    let Some(info) = info(api, repo).await? else { return Ok(RemoteState::Missing) };
    let mut found = RemoteRepo {
        private: info.private,
        gated: !matches!(info.gated, Value::Null | Value::Bool(false)),
        disabled: info.disabled,
        ..RemoteRepo::default()
    };
    if let Some(head) = info.sha {
        found.files = tree(api, repo, &head).await?;
        found.last_commit = newest_commit(api, repo).await?;
        found.head = Some(head);
    }
    Ok(RemoteState::Present(found))
}

/// Reads the tree of a branch, a tag or a Hub commit.
pub(crate) async fn snapshot(api: &Api, repo: &RepoId, revision: &str) -> Result<Snapshot, HubError> {
    let url = model_url(api, repo, &["revision", revision]);
    let info: Info = api.get(url.clone()).await?.json()?;
    let missing = || HubError::Answer { url: shown(&url), what: "no Hub commit stands there".to_owned() };
    let revision = info.sha.ok_or_else(missing)?;
    let files = tree(api, repo, &revision).await?;
    Ok(Snapshot { revision, files })
}

/// Whether the repository is private now; `None` when it is missing.
pub(crate) async fn is_private(api: &Api, repo: &RepoId) -> Result<Option<bool>, HubError> {
    Ok(info(api, repo).await?.map(|info| info.private))
}

async fn info(api: &Api, repo: &RepoId) -> Result<Option<Info>, HubError> {
    match api.get(model_url(api, repo, &[])).await {
        Ok(answer) => answer.json().map(Some),
        Err(error) if says_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Anonymous callers get 401 for a repository that is missing or private, others 404.
fn says_missing(error: &HubError) -> bool {
    match error {
        HubError::Status { status: StatusCode::NOT_FOUND, .. } => true,
        HubError::Status { status: StatusCode::UNAUTHORIZED, code, .. } => code == "RepoNotFound",
        _ => false,
    }
}

async fn tree(api: &Api, repo: &RepoId, revision: &str) -> Result<Vec<RemoteFile>, HubError> {
    let mut url = model_url(api, repo, &["tree", revision]);
    url.set_query(Some("recursive=true&expand=true"));
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    loop {
        if !seen.insert(url.clone()) {
            return Err(HubError::Answer { url: shown(&url), what: "its pages form a circle".to_owned() });
        }
        let answer = api.get(url.clone()).await?;
        let entries: Vec<TreeEntry> = answer.json()?;
        files.extend(entries.into_iter().filter(|e| e.kind == "file").map(RemoteFile::from));
        let Some(next) = next_page(&answer.headers) else { break };
        url = url.join(next).map_err(|e| HubError::Answer { url: shown(&url), what: format!("next page: {e}") })?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

async fn newest_commit(api: &Api, repo: &RepoId) -> Result<Option<RemoteCommit>, HubError> {
    let commits: Vec<RemoteCommit> = api.get(model_url(api, repo, &["commits", "main"])).await?.json()?;
    Ok(commits.into_iter().next())
}

/// `/api/models/{namespace}/{name}/{rest…}`.
pub(crate) fn model_url(api: &Api, repo: &RepoId, rest: &[&str]) -> Url {
    api.url(["api", "models", repo.namespace(), repo.name()].into_iter().chain(rest.iter().copied()))
}
