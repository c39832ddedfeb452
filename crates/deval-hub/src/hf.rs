//! hf-hub 1.0.0, held to what this crate was given: no token, cache or endpoint of its own finding, one try per call (the
//! waiting is [`Api::repeat`]'s, because hf-hub's own does not wait as long as a 429 asks), and this crate's errors.

use std::error::Error as _;
use std::path::Path;

use hf_hub::{HFClient, HFError};
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode, Url};
use serde_json::json;

use crate::http::{Api, OnPause, USER_AGENT, body_message, shown, transport};
use crate::remote::model_url;
use crate::{HubError, RepoId};

/// Given to hf-hub when there is no token. Left without one it would take the user's from `HF_TOKEN` or a file; one that no header
/// can hold makes it send none.
const NO_TOKEN: &str = "\n";

/// Creates the repository, private. `false` when there is one, which an earlier request with a lost answer may have made, or one in
/// the making. Not hf-hub's own call: it does not tell how long a 429 asks to wait.
pub(crate) async fn create_private(api: &Api, repo: &RepoId, on_pause: OnPause<'_>) -> Result<bool, HubError> {
    let url = api.url(["api", "repos", "create"]);
    let body = json!({"name": repo.name(), "organization": repo.namespace(), "type": "model", "private": true});
    match api.send(api.request(Method::POST, url).json(&body), on_pause).await {
        Ok(_) => Ok(true),
        Err(error) if error.status() == Some(StatusCode::CONFLICT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Asks for a visibility.
pub(crate) async fn set_private(api: &Api, repo: &RepoId, private: bool) -> Result<(), HubError> {
    let url = model_url(api, repo, &["settings"]);
    api.send(api.request(Method::PUT, url).json(&json!({"private": private})), &|_, _| {}).await.map(drop)
}

/// hf-hub's client of one repository.
pub(crate) struct HfHub<'a> {
    api: &'a Api,
    repo: &'a RepoId,
    client: HFClient,
}

impl<'a> HfHub<'a> {
    pub(crate) fn new(api: &'a Api, repo: &'a RepoId) -> Result<Self, HubError> {
        let endpoint = api.endpoint();
        let client = HFClient::builder()
            .endpoint(endpoint.as_str())
            .token(api.token().unwrap_or(NO_TOKEN))
            .client(transport(endpoint, redirects(endpoint))?)
            .user_agent(USER_AGENT)
            .cache_enabled(false)
            .retry_max_attempts(0)
            .build()
            .map_err(|e| HubError::Endpoint { endpoint: shown(endpoint), reason: e.to_string() })?;
        Ok(Self { api, repo, client })
    }

    /// Downloads one file to its place under `dir`, whatever stands there.
    ///
    /// File by file, not `snapshot_download`: that one keeps files that exist, leaves out files that answer 404, and uses hf-xet with
    /// the user's cache. This goes through the redirects that the validator's client takes.
    pub(crate) async fn download(&self, revision: &str, path: &str, dir: &Path) -> Result<(), HubError> {
        let model = &self.client.model(self.repo.namespace(), self.repo.name());
        let call = || async move {
            let call = model.download_file().filename(path).revision(revision).local_dir(dir);
            call.send().await.map_err(|error| self.error(error, &dir.join(path)))
        };
        self.api.repeat(&|_, _| {}, call).await.map(drop)
    }

    /// `path` is the file that the call writes.
    fn error(&self, error: HFError, path: &Path) -> HubError {
        match error {
            HFError::RateLimited { retry_after, context } => {
                HubError::RateLimited { url: shown(&self.url(Some(&context.url))), wait: retry_after }
            }
            HFError::Http { context }
            | HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::Conflict { context }
            | HFError::RepoNotFound { context: Some(context), .. }
            | HFError::RevisionNotFound { context: Some(context), .. }
            | HFError::EntryNotFound { context: Some(context), .. } => HubError::Status {
                url: shown(&self.url(Some(&context.url))),
                status: context.status,
                message: context.server_message.unwrap_or_else(|| body_message(context.body.as_bytes())),
                code: context.error_code.unwrap_or_default(),
                wait: None,
            },
            HFError::Request { source, url } => self.broken(&source, url.as_deref()),
            HFError::Io(source) => HubError::Disk { path: path.to_owned(), source },
            other => HubError::Answer { url: shown(self.api.endpoint()), what: without_queries(&other.to_string()) },
        }
    }

    /// An answer that is not JSON comes as a broken request, be it cut short or complete.
    fn broken(&self, error: &reqwest::Error, url: Option<&str>) -> HubError {
        match error.source().and_then(|cause| cause.downcast_ref::<serde_json::Error>()) {
            Some(cause) => {
                HubError::Answer { url: shown(&self.url(url)), what: format!("not the promised JSON: {cause}") }
            }
            None => self.api.broken(&self.url(url), error),
        }
    }

    fn url(&self, url: Option<&str>) -> Url {
        url.and_then(|url| Url::parse(url).ok()).unwrap_or_else(|| self.api.endpoint().clone())
    }
}

/// Downloads are redirected; a redirect of an API call would reach into another repository.
fn redirects(endpoint: &Url) -> Policy {
    let api = format!("{}/api/", endpoint.path().trim_end_matches('/'));
    Policy::custom(move |attempt| {
        let first = attempt.previous().first();
        if first.is_some_and(|url| url.path().starts_with(&api)) {
            return attempt.stop();
        }
        if attempt.previous().len() > 10 { attempt.error("more than 10 redirects") } else { attempt.follow() }
    })
}

/// Presigned URLs keep their secret in the query.
fn without_queries(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').map(|word| word.split('?').next().unwrap_or_default()).collect();
    words.join(" ")
}
