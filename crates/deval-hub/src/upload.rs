//! Carrying a plan out: create private, send contents, ONE Hub commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::http::{Answer, Api, LOCK_TRIES, Tries, shown};
use crate::journal::{Effect, Journal};
use crate::lfs;
use crate::plan::{LocalFile, UploadPlan, plan};
use crate::remote::{self, RemoteRepo, RemoteState, model_url};
use crate::xet::{self, Transferred};
use crate::{HubError, RepoId, visibility};

/// Largest file that is sent inside the Hub commit, in bytes. The Hub itself asks for LFS from 10 MB on.
const INLINE_LIMIT: u64 = 10_000_000;
/// Most files the Hub takes in one preupload call.
const PREUPLOAD_BATCH: usize = 256;
/// Bytes of a file the Hub wants to see to tell text from binary.
const SAMPLE: u64 = 512;

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
        /// Share of the bytes dealt with that need not be sent, because the content store knows them; 0 to 1.
        known: f64,
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
    /// The content store promised contents that it does not have; everything is sent again.
    SendingAgain,
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
    /// Whether the tree was right already, so that this run made no Hub commit.
    pub nothing_to_do: bool,
    /// Whether it was right because a run that was interrupted had made the Hub commit.
    pub resumed: bool,
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

/// One upload.
pub(crate) struct Upload<'a> {
    pub(crate) api: &'a Api,
    pub(crate) repo: &'a RepoId,
    pub(crate) local: &'a [LocalFile],
    pub(crate) journal: &'a Journal,
    pub(crate) progress: OnProgress<'a>,
    /// Where the record of what the content store has of this repository lies.
    pub(crate) cache: PathBuf,
}

impl Upload<'_> {
    pub(crate) async fn run(&self, planned: &UploadPlan) -> Result<UploadOutcome, HubError> {
        let (plan, created) = if planned.creates { self.create(planned).await? } else { (planned.clone(), false) };
        if plan.is_empty() {
            return self.nothing(plan, created);
        }
        let adds = self.adds(&plan)?;
        let modes = self.modes(&adds).await?;
        let (lfs, git): (Vec<_>, Vec<_>) = adds.into_iter().partition(|file| modes[&file.path] == Mode::Lfs);
        let inline = self.inline(&git).await?;
        let mut transferred = self.transfer(&lfs).await?;
        let revision = match self.commit(plan.clone(), &lfs, &inline).await {
            // What this machine remembers of the content store, or the store itself, promised contents that are gone.
            Err(error) if error.misses_contents() => {
                (self.progress)(UploadEvent::SendingAgain);
                self.forget()?;
                let again = self.transfer(&lfs).await?;
                transferred.sent += again.sent;
                self.commit(plan, &lfs, &inline).await.map_err(|error| self.lost(error))?
            }
            result => result?,
        };
        Ok(UploadOutcome { revision, created, nothing_to_do: false, resumed: false, transferred })
    }

    fn nothing(&self, plan: UploadPlan, created: bool) -> Result<UploadOutcome, HubError> {
        let revision = plan.parent.ok_or_else(|| self.unexpected("an empty repository has no revision"))?;
        let resumed = self.journal.pending(Effect::HubCommit).is_some();
        if resumed {
            self.journal.done(Effect::HubCommit, Some(&revision))?;
        }
        let transferred = Transferred::default();
        Ok(UploadOutcome { revision, created, nothing_to_do: true, resumed, transferred })
    }

    /// Creates the repository and makes the plan that fits it. The second value tells whether it was new.
    async fn create(&self, planned: &UploadPlan) -> Result<(UploadPlan, bool), HubError> {
        (self.progress)(UploadEvent::Creating);
        self.journal.intend(Effect::Create, None)?;
        // The record of an earlier repository of this name may promise contents that are gone with it.
        self.forget()?;
        let (found, created) = self.create_and_see().await?;
        let plan = self.plan_for_new(found, planned)?;
        self.journal.done(Effect::Create, plan.parent.as_deref())?;
        Ok((plan, created))
    }

    /// Creates until the repository can be seen: a conflict may mean that it exists, or that another request is creating it, and
    /// a read right after may be behind.
    async fn create_and_see(&self) -> Result<(RemoteRepo, bool), HubError> {
        let mut tries = Tries::new(self.api.retry);
        let mut created = false;
        loop {
            created |=
                visibility::create_private(self.api, self.repo, &|error, pause| self.waiting(error, pause)).await?;
            if let RemoteState::Present(found) = remote::state(self.api, self.repo).await? {
                return Ok((found, created));
            }
            let error = self.unexpected("the repository was created, but cannot be seen");
            let Some(pause) = tries.backoff(LOCK_TRIES) else { return Err(error) };
            self.waiting(&error, pause);
            tokio::time::sleep(pause).await;
        }
    }

    /// The plan for a repository that the miner was told would be new: it must be private and hold nothing foreign.
    fn plan_for_new(&self, found: RemoteRepo, planned: &UploadPlan) -> Result<UploadPlan, HubError> {
        let private = found.private;
        let state = RemoteState::Present(found);
        let plan = plan(self.local, &state, planned.half);
        if !plan.deletes.is_empty() {
            return Err(self.moved(planned, &plan));
        }
        if !private {
            return Err(HubError::Visibility { repo: self.repo.to_string(), private: true });
        }
        Ok(plan)
    }

    /// Drops the record of what the content store has.
    fn forget(&self) -> Result<(), HubError> {
        match std::fs::remove_dir_all(&self.cache) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(HubError::disk(&self.cache)(e)),
            _ => Ok(()),
        }
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

    /// Sends the contents of LFS files in the way that the Hub asks for, never inside the Hub commit.
    async fn transfer(&self, files: &[&LocalFile]) -> Result<Transferred, HubError> {
        if files.is_empty() {
            return Ok(Transferred::default());
        }
        // The same content under two names is one object.
        let mut known = HashSet::new();
        let distinct: Vec<&LocalFile> = files.iter().copied().filter(|f| known.insert(&f.sha256)).collect();
        let batches = lfs::ask(self, &distinct).await?;
        self.journal.intend(Effect::Transfer, None)?;
        require_unchanged(&distinct)?;
        let transferred = match batches {
            None => xet::transfer(self.api, self.repo, &distinct, &self.cache, self.progress).await?,
            Some(objects) => lfs::send(self, &distinct, objects).await?,
        };
        // Their digests come from the hash step, so what was sent must still be what was hashed.
        require_unchanged(&distinct)?;
        self.journal.done(Effect::Transfer, None)?;
        Ok(transferred)
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, HubError> {
        self.api.send(request, &|error, pause| self.waiting(error, pause)).await
    }

    pub(crate) fn waiting(&self, error: &HubError, pause: Duration) {
        (self.progress)(UploadEvent::Waiting { reason: error.to_string(), pause });
    }

    pub(crate) fn unexpected(&self, what: &str) -> HubError {
        HubError::Answer { url: shown(&model_url(self.api, self.repo, &[])), what: what.to_owned() }
    }

    /// The contents are missing although they were just sent.
    fn lost(&self, error: HubError) -> HubError {
        match error {
            HubError::Status { message, .. } if message.contains("does not exist") => {
                HubError::LostContents { repo: self.repo.to_string(), message }
            }
            other => other,
        }
    }
}

fn require_unchanged(files: &[&LocalFile]) -> Result<(), HubError> {
    files.iter().try_for_each(|file| file.require_unchanged())
}

async fn read_start(file: &LocalFile) -> Result<Vec<u8>, HubError> {
    let opened = tokio::fs::File::open(&file.source).await.map_err(HubError::disk(&file.source))?;
    let mut bytes = Vec::new();
    opened.take(SAMPLE).read_to_end(&mut bytes).await.map_err(HubError::disk(&file.source))?;
    Ok(bytes)
}
