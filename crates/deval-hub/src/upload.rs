//! Carrying a plan out: create private, send contents, ONE Hub commit.
//!
//! The Hub commit names its parent. A lost answer can therefore be asked for again: the repeated request is refused with 412, the
//! head is read, and if its tree is ours the first request had succeeded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::hf::HfHub;
use crate::http::{Answer, Api, Tries, build, copy, shown};
use crate::journal::{Journal, Phase, Record};
use crate::plan::{LocalFile, UploadPlan, listing_digest, plan};
use crate::remote::{self, RemoteState, model_url};
use crate::xet::{self, Transferred};
use crate::{HubError, RepoId};

/// Largest file that is sent inside the Hub commit, in bytes. The Hub itself asks for LFS from 10 MB on.
const INLINE_LIMIT: u64 = 10_000_000;
/// Most files the Hub takes in one preupload call.
const PREUPLOAD_BATCH: usize = 256;
/// Objects of one LFS batch call.
const LFS_BATCH: usize = 100;
/// Bytes of a file the Hub wants to see to tell text from binary.
const SAMPLE: u64 = 512;
/// Tries while another Hub commit holds the repository's lock (409).
const LOCK_TRIES: u32 = 12;
/// Tries while the Hub says the head moved (412) but still shows the old one: its caches lag.
const LAG_TRIES: u32 = 5;

/// What an upload is doing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum UploadEvent {
    /// The repository does not exist and is being created, private.
    Creating,
    /// File contents are on their way.
    Transfer {
        /// Bytes of the files dealt with so far, sent or found to be known.
        done: u64,
        /// Bytes of all files.
        total: u64,
        /// Bytes sent so far.
        sent: u64,
        /// Bytes dealt with per second, once known.
        rate: Option<f64>,
    },
    /// A request is repeated after a pause.
    Waiting {
        /// Why.
        reason: String,
        /// For how long.
        pause: Duration,
    },
    /// The Hub commit is being made.
    Committing,
}

impl UploadEvent {
    /// Bytes of the contents dealt with so far, for events that tell.
    pub fn bytes_done(&self) -> Option<u64> {
        match self {
            Self::Transfer { done, .. } => Some(*done),
            _ => None,
        }
    }
}

/// Hears about progress; called from the uploading task, must not block.
pub(crate) type OnProgress<'a> = &'a (dyn Fn(UploadEvent) + Sync);

/// What an upload left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadOutcome {
    /// Revision whose tree is the submission.
    pub revision: String,
    /// Whether this run created the repository.
    pub created: bool,
    /// Whether the tree was right already, so that no Hub commit was made.
    pub nothing_to_do: bool,
    /// Bytes of the contents that went to the content store.
    pub transferred: Transferred,
}

/// How the Hub keeps a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Git,
    Lfs,
}

#[derive(Deserialize)]
struct Preupload {
    files: Vec<PreuploadFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreuploadFile {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

#[derive(Deserialize)]
struct Batch {
    transfer: Option<String>,
    #[serde(default)]
    objects: Vec<BatchObject>,
}

#[derive(Deserialize)]
struct BatchObject {
    oid: String,
    error: Option<BatchError>,
}

#[derive(Deserialize)]
struct BatchError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Committed {
    commit_oid: Option<String>,
}

/// One upload.
pub(crate) struct Upload<'a> {
    pub(crate) api: &'a Api,
    pub(crate) repo: &'a RepoId,
    pub(crate) local: &'a [LocalFile],
    pub(crate) journal: &'a Journal,
    pub(crate) progress: OnProgress<'a>,
    /// hf-xet's cache for this repository.
    pub(crate) cache: PathBuf,
}

impl Upload<'_> {
    pub(crate) async fn run(&self, planned: &UploadPlan) -> Result<UploadOutcome, HubError> {
        let (plan, created) = if planned.creates { self.create().await? } else { (planned.clone(), false) };
        if plan.is_empty() {
            let revision = plan.parent.ok_or_else(|| self.unexpected("an empty repository has no revision"))?;
            if self.journal.pending("commit").is_some() {
                self.note("commit", Phase::Outcome, Some(&revision))?;
            }
            let transferred = Transferred::default();
            return Ok(UploadOutcome { revision, created, nothing_to_do: true, transferred });
        }
        let adds = self.adds(&plan)?;
        let modes = self.modes(&adds).await?;
        let (lfs, git): (Vec<_>, Vec<_>) = adds.into_iter().partition(|file| modes[&file.path] == Mode::Lfs);
        let inline = self.inline(&git).await?;
        let transferred = self.transfer(&lfs).await?;
        let revision = self.commit(&plan, self.body(&plan, &lfs, inline)).await?;
        Ok(UploadOutcome { revision, created, nothing_to_do: false, transferred })
    }

    /// Creates the repository and makes the plan that fits it. The second value tells whether it was new.
    async fn create(&self) -> Result<(UploadPlan, bool), HubError> {
        (self.progress)(UploadEvent::Creating);
        self.note("create", Phase::Intent, None)?;
        // hf-xet's record of an earlier repository of this name may promise contents that are gone with it.
        match std::fs::remove_dir_all(&self.cache) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(HubError::disk(&self.cache)(e)),
            _ => {}
        }
        let hub = HfHub::new(self.api, self.repo)?;
        let created = hub.create_private(&|error, pause| self.waiting(error, pause)).await?;
        let plan = self.plan_for_new().await?;
        self.note("create", Phase::Outcome, plan.parent.as_deref())?;
        Ok((plan, created))
    }

    /// The plan for a repository that the miner was told would be new: it must be private and hold nothing foreign.
    async fn plan_for_new(&self) -> Result<UploadPlan, HubError> {
        let state = remote::state(self.api, self.repo).await?;
        let RemoteState::Present(found) = &state else {
            return Err(self.unexpected("the repository was created, but cannot be seen"));
        };
        let plan = plan(self.local, &state);
        if !plan.deletes.is_empty() {
            return Err(self.moved("no repository", found.head.as_deref()));
        }
        if !found.private {
            return Err(HubError::Visibility { repo: self.repo.to_string(), private: true });
        }
        Ok(plan)
    }

    fn adds(&self, plan: &UploadPlan) -> Result<Vec<&LocalFile>, HubError> {
        let local: BTreeMap<&str, &LocalFile> = self.local.iter().map(|f| (f.path.as_str(), f)).collect();
        let find = |path: &str| local.get(path).copied().ok_or_else(|| HubError::NotLocal { path: path.to_owned() });
        plan.adds.iter().map(|add| find(&add.path)).collect()
    }

    /// Asks the Hub how it wants each file.
    async fn modes(&self, files: &[&LocalFile]) -> Result<HashMap<String, Mode>, HubError> {
        let mut modes = HashMap::new();
        let mut ignored = Vec::new();
        for batch in files.chunks(PREUPLOAD_BATCH) {
            for file in self.preupload(batch).await? {
                if file.should_ignore {
                    ignored.push(file.path.clone());
                }
                modes.insert(file.path, if file.upload_mode == "lfs" { Mode::Lfs } else { Mode::Git });
            }
        }
        if !ignored.is_empty() {
            return Err(HubError::Ignored { repo: self.repo.to_string(), paths: ignored });
        }
        for file in files {
            let mode = modes.get_mut(&file.path);
            let mode = mode.ok_or_else(|| self.unexpected(&format!("no upload mode for `{}`", file.path)))?;
            if file.size == 0 {
                *mode = Mode::Git; // the Hub's object store refuses empty objects
            }
            if *mode == Mode::Git && file.size > INLINE_LIMIT {
                return Err(HubError::TooBigToInline { path: file.path.clone(), size: file.size, limit: INLINE_LIMIT });
            }
        }
        Ok(modes)
    }

    async fn preupload(&self, files: &[&LocalFile]) -> Result<Vec<PreuploadFile>, HubError> {
        let mut entries = Vec::with_capacity(files.len());
        for file in files {
            let sample = BASE64.encode(read_start(file).await?);
            entries.push(json!({"path": file.path, "size": file.size, "sample": sample}));
        }
        let url = model_url(self.api, self.repo, &["preupload", "main"]);
        let answer = self.send(self.api.request(Method::POST, url).json(&json!({"files": entries}))).await?;
        Ok(answer.json::<Preupload>()?.files)
    }

    /// Lines of the Hub commit for files kept in git, content included.
    async fn inline(&self, files: &[&LocalFile]) -> Result<Vec<Value>, HubError> {
        let mut lines = Vec::with_capacity(files.len());
        for file in files {
            let bytes = tokio::fs::read(&file.source).await.map_err(HubError::disk(&file.source))?;
            let found = hex::encode(Sha256::digest(&bytes));
            if found != file.sha256 {
                return Err(HubError::Changed { path: file.source.clone(), planned: file.sha256.clone(), found });
            }
            let value = json!({"path": file.path, "content": BASE64.encode(bytes), "encoding": "base64"});
            lines.push(json!({"key": "file", "value": value}));
        }
        Ok(lines)
    }

    /// Sends the contents of LFS files; refuses before the first byte when the Hub has no Xet.
    async fn transfer(&self, files: &[&LocalFile]) -> Result<Transferred, HubError> {
        if files.is_empty() {
            return Ok(Transferred::default());
        }
        for batch in files.chunks(LFS_BATCH) {
            self.probe(batch).await?;
        }
        // The same content under two names is one object.
        let mut known = HashSet::new();
        let distinct: Vec<&LocalFile> = files.iter().copied().filter(|f| known.insert(&f.sha256)).collect();
        self.note("transfer", Phase::Intent, None)?;
        let transferred = xet::transfer(self.api, self.repo, &distinct, &self.cache, self.progress).await?;
        self.note("transfer", Phase::Outcome, None)?;
        Ok(transferred)
    }

    async fn probe(&self, files: &[&LocalFile]) -> Result<(), HubError> {
        const LFS_JSON: &str = "application/vnd.git-lfs+json";
        let name = format!("{}.git", self.repo.name());
        let url = self.api.url([self.repo.namespace(), &name, "info", "lfs", "objects", "batch"]);
        let objects: Vec<Value> = files.iter().map(|f| json!({"oid": f.sha256, "size": f.size})).collect();
        let body = json!({
            "operation": "upload", "transfers": ["basic", "multipart", "xet"], "objects": objects,
            "hash_algo": "sha256", "ref": {"name": "main"},
        });
        let request = self.api.request(Method::POST, url.clone()).json(&body);
        let answer: Batch = self.send(request.header(ACCEPT, LFS_JSON).header(CONTENT_TYPE, LFS_JSON)).await?.json()?;
        for object in answer.objects {
            if let Some(BatchError { code, message }) = object.error {
                let path = files.iter().find(|f| f.sha256 == object.oid).map_or(object.oid, |f| f.path.clone());
                return Err(HubError::Lfs { path, code, message });
            }
        }
        match answer.transfer.as_deref() {
            Some("xet") => Ok(()),
            other => Err(HubError::NotXet { url: shown(&url), transfer: other.unwrap_or("basic").to_owned() }),
        }
    }

    /// The Hub commit as newline-delimited JSON. Deletes come first, so that a file may become a directory.
    fn body(&self, plan: &UploadPlan, lfs: &[&LocalFile], inline: Vec<Value>) -> Vec<u8> {
        let listing = listing_digest(self.local);
        let mut header = json!({"summary": format!("De-Val submission {}", &listing[..12]), "description": listing});
        if let Some(parent) = &plan.parent {
            header["parentCommit"] = json!(parent);
        }
        let deletes = plan.deletes.iter().map(|path| json!({"key": "deletedFile", "value": {"path": path}}));
        let lfs = lfs.iter().map(
            |f| json!({"key": "lfsFile", "value": {"path": f.path, "algo": "sha256", "oid": f.sha256, "size": f.size}}),
        );
        let header = json!({"key": "header", "value": header});
        let lines = std::iter::once(header).chain(deletes).chain(inline).chain(lfs);
        lines.flat_map(|line| format!("{line}\n").into_bytes()).collect()
    }

    /// Makes the one Hub commit, whatever happens to its answer.
    async fn commit(&self, plan: &UploadPlan, body: Vec<u8>) -> Result<String, HubError> {
        (self.progress)(UploadEvent::Committing);
        self.note("commit", Phase::Intent, plan.parent.as_deref())?;
        let url = model_url(self.api, self.repo, &["commit", "main"]);
        let request = self.api.request(Method::POST, url).header(CONTENT_TYPE, "application/x-ndjson").body(body);
        let request = build(request)?;
        let mut tries = Tries::new(self.api.retry);
        let revision = loop {
            let error = match self.api.once(copy(&request)).await {
                Ok(answer) => break self.committed(plan, &answer).await?,
                Err(error) => error,
            };
            let Some(pause) = commit_pause(&mut tries, &error) else { return Err(error) };
            self.waiting(&error, pause);
            tokio::time::sleep(pause).await;
            if let Some(revision) = self.landed(plan).await? {
                break revision;
            }
        };
        self.note("commit", Phase::Outcome, Some(&revision))?;
        Ok(revision)
    }

    async fn committed(&self, plan: &UploadPlan, answer: &Answer) -> Result<String, HubError> {
        if let Some(revision) = answer.json::<Committed>()?.commit_oid {
            return Ok(revision);
        }
        let revision = self.landed(plan).await?;
        revision.ok_or_else(|| self.unexpected("the Hub commit was accepted, but the head did not move"))
    }

    /// The head if its tree is the submission, `None` if it is still the parent.
    async fn landed(&self, planned: &UploadPlan) -> Result<Option<String>, HubError> {
        let state = remote::state(self.api, self.repo).await?;
        let now = plan(self.local, &state);
        if now.is_empty() {
            return Ok(now.parent);
        }
        if now.parent == planned.parent {
            return Ok(None);
        }
        Err(self.moved(planned.parent.as_deref().unwrap_or("an empty repository"), now.parent.as_deref()))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, HubError> {
        self.api.send(request, &|error, pause| self.waiting(error, pause)).await
    }

    fn waiting(&self, error: &HubError, pause: Duration) {
        (self.progress)(UploadEvent::Waiting { reason: error.to_string(), pause });
    }

    fn note(&self, step: &str, phase: Phase, revision: Option<&str>) -> Result<(), HubError> {
        self.journal.write(Record {
            step: step.to_owned(),
            phase,
            target: self.repo.to_string(),
            revision: revision.map(str::to_owned),
            listing: listing_digest(self.local),
        })
    }

    fn moved(&self, planned: &str, found: Option<&str>) -> HubError {
        HubError::HeadMoved {
            repo: self.repo.to_string(),
            planned: planned.to_owned(),
            found: found.unwrap_or("no Hub commit").to_owned(),
        }
    }

    fn unexpected(&self, what: &str) -> HubError {
        HubError::Answer { url: shown(&model_url(self.api, self.repo, &[])), what: what.to_owned() }
    }
}

fn commit_pause(tries: &mut Tries, error: &HubError) -> Option<Duration> {
    match error.status() {
        Some(StatusCode::CONFLICT) => tries.backoff(LOCK_TRIES),
        Some(StatusCode::PRECONDITION_FAILED) => tries.backoff(LAG_TRIES),
        _ => tries.pause(error),
    }
}

async fn read_start(file: &LocalFile) -> Result<Vec<u8>, HubError> {
    let opened = tokio::fs::File::open(&file.source).await.map_err(HubError::disk(&file.source))?;
    let mut bytes = Vec::new();
    opened.take(SAMPLE).read_to_end(&mut bytes).await.map_err(HubError::disk(&file.source))?;
    Ok(bytes)
}
