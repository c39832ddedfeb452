//! The one Hub commit.
//!
//! It names its parent. A lost answer can therefore be asked for again: the repeated request is refused with 412, the head is read,
//! and if its tree is ours the first request had succeeded. A head that somebody else moved is looked at: when the files are the ones
//! that the plan was made for, the plan still fits and is carried out on the new head; else nothing is overwritten.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

use crate::HubError;
use crate::http::{Answer, LOCK_TRIES, Tries, build, copy};
use crate::journal::Effect;
use crate::plan::{LocalFile, UploadPlan, differences, listing_digest, plan};
use crate::remote::{self, model_url};
use crate::upload::{Upload, UploadEvent};

/// Tries while the Hub says the head moved (412) but still shows the old one: its caches lag.
const LAG_TRIES: u32 = 5;
/// Times that a plan is moved on to a head with the same files.
const MOVES: u32 = 3;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Committed {
    commit_oid: Option<String>,
}

/// Where `main` stands after a Hub commit whose fate is unknown.
enum Head {
    /// It is the submission.
    Ours(String),
    /// It is still the parent.
    Parent,
    /// Another one with the files of the parent; the plan for it.
    Same(UploadPlan),
}

impl Upload<'_> {
    /// Lines of the Hub commit for files kept in git, content included.
    pub(crate) async fn inline(&self, files: &[&LocalFile]) -> Result<Vec<Value>, HubError> {
        let mut lines = Vec::with_capacity(files.len());
        for file in files {
            let bytes = tokio::fs::read(&file.source).await.map_err(HubError::disk(&file.source))?;
            let found = hex::encode(Sha256::digest(&bytes));
            if found != file.sha256 {
                return Err(HubError::Changed { path: file.source.clone() });
            }
            let value = json!({"path": file.path, "content": BASE64.encode(bytes), "encoding": "base64"});
            lines.push(json!({"key": "file", "value": value}));
        }
        Ok(lines)
    }

    /// The Hub commit as newline-delimited JSON. Deletes come first, so that a file may become a directory.
    fn body(&self, plan: &UploadPlan, lfs: &[&LocalFile], inline: &[Value]) -> Vec<u8> {
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
        let lines = std::iter::once(header).chain(deletes).chain(inline.iter().cloned()).chain(lfs);
        lines.flat_map(|line| format!("{line}\n").into_bytes()).collect()
    }

    /// Makes the one Hub commit, whatever happens to its answer.
    pub(crate) async fn commit(
        &self,
        mut plan: UploadPlan,
        lfs: &[&LocalFile],
        inline: &[Value],
    ) -> Result<String, HubError> {
        (self.progress)(UploadEvent::Committing);
        self.journal.intend(Effect::HubCommit, plan.parent.as_deref())?;
        let mut tries = Tries::new(self.api.retry);
        let mut request = self.request(&plan, lfs, inline)?;
        let mut moves = 0;
        let revision = loop {
            let error = match self.api.once(copy(&request)).await {
                Ok(answer) => break self.committed(&plan, &answer).await?,
                Err(error) => error,
            };
            let Some(pause) = pause(&mut tries, &error) else { return Err(error) };
            self.waiting(&error, pause);
            tokio::time::sleep(pause).await;
            match self.head(&plan).await? {
                Head::Ours(revision) => break revision,
                Head::Parent => {}
                Head::Same(moved) if moves < MOVES => {
                    (moves, plan) = (moves + 1, moved);
                    self.journal.intend(Effect::HubCommit, plan.parent.as_deref())?;
                    request = self.request(&plan, lfs, inline)?;
                }
                Head::Same(moved) => return Err(self.moved(&plan, &moved)),
            }
        };
        self.journal.done(Effect::HubCommit, Some(&revision))?;
        Ok(revision)
    }

    fn request(&self, plan: &UploadPlan, lfs: &[&LocalFile], inline: &[Value]) -> Result<reqwest::Request, HubError> {
        let url = model_url(self.api, self.repo, &["commit", "main"]);
        let request = self.api.request(Method::POST, url).header(CONTENT_TYPE, "application/x-ndjson");
        build(request.body(self.body(plan, lfs, inline)))
    }

    async fn committed(&self, plan: &UploadPlan, answer: &Answer) -> Result<String, HubError> {
        if let Some(revision) = answer.json::<Committed>()?.commit_oid {
            return Ok(revision);
        }
        match self.head(plan).await? {
            Head::Ours(revision) => Ok(revision),
            _ => Err(self.unexpected("the Hub commit was accepted, but the head is not ours")),
        }
    }

    async fn head(&self, planned: &UploadPlan) -> Result<Head, HubError> {
        let state = remote::state(self.api, self.repo).await?;
        let now = plan(self.local, &state, planned.half);
        if now.is_empty() && differences(&planned.kept, &now.kept).is_empty() {
            let revision = now.parent.ok_or_else(|| self.unexpected("an empty repository has no revision"))?;
            return Ok(Head::Ours(revision));
        }
        if now.parent == planned.parent {
            return Ok(Head::Parent);
        }
        if !now.creates && differences(&planned.base, &now.base).is_empty() {
            return Ok(Head::Same(now));
        }
        Err(self.moved(planned, &now))
    }

    /// Somebody else was faster: what the plan was made for, and what stands there now.
    pub(crate) fn moved(&self, planned: &UploadPlan, now: &UploadPlan) -> HubError {
        let name = |plan: &UploadPlan| match (&plan.parent, plan.creates) {
            (_, true) => "no repository".to_owned(),
            (Some(head), _) => head.clone(),
            (None, _) => "an empty repository".to_owned(),
        };
        let changes = differences(&planned.base, &now.base);
        let changes = if changes.is_empty() { "no file has changed".to_owned() } else { changes.join(", ") };
        HubError::HeadMoved { repo: self.repo.to_string(), planned: name(planned), found: name(now), changes }
    }
}

fn pause(tries: &mut Tries, error: &HubError) -> Option<Duration> {
    match error.status() {
        Some(StatusCode::CONFLICT) => tries.backoff(LOCK_TRIES),
        Some(StatusCode::PRECONDITION_FAILED) => tries.backoff(LAG_TRIES),
        _ => tries.pause(error),
    }
}
