//! hf-hub 1.0.0, held to what this crate was given: no token, cache or endpoint of its own finding, one try per call (the
//! waiting is [`Api::repeat`]'s, because hf-hub's own does not wait as long as a 429 asks), and this crate's errors.

use std::error::Error as _;

use hf_hub::{HFClient, HFError, RepoTypeModel};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde_json::json;

use crate::http::{Api, OnPause, USER_AGENT, body_message, build, copy, shown, transport};
use crate::remote::model_url;
use crate::{HubError, RepoId};

/// Given to hf-hub when there is no token. Left without one it would take the user's from `HF_TOKEN` or a file; one that no header
/// can hold makes it send none.
const NO_TOKEN: &str = "\n";

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
            .client(transport(endpoint, Policy::none())?)
            .user_agent(USER_AGENT)
            .cache_enabled(false)
            .retry_max_attempts(0)
            .build()
            .map_err(|e| HubError::Endpoint { endpoint: shown(endpoint), reason: e.to_string() })?;
        Ok(Self { api, repo, client })
    }

    /// Creates the repository, private. `false` when there is one, which an earlier request with a lost answer may have made, or one in
    /// the making.
    pub(crate) async fn create_private(&self, on_pause: OnPause<'_>) -> Result<bool, HubError> {
        let (id, name) = (self.repo.as_str(), self.repo.name());
        let body = json!({"name": name, "organization": self.repo.namespace(), "type": "model", "private": true});
        let same = self.api.request(Method::POST, self.api.url(["api", "repos", "create"])).json(&body);
        let create = || async move {
            let call = self.client.create_repository().repo_id(id).repo_type(RepoTypeModel).private(true);
            call.send().await.map(drop)
        };
        match self.repeat(on_pause, create, same).await {
            Ok(()) => Ok(true),
            Err(error) if error.status() == Some(StatusCode::CONFLICT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks for a visibility.
    pub(crate) async fn set_private(&self, private: bool) -> Result<(), HubError> {
        let url = model_url(self.api, self.repo, &["settings"]);
        let same = self.api.request(Method::PUT, url).json(&json!({"private": private}));
        let model = &self.client.model(self.repo.namespace(), self.repo.name());
        let update = || async move { model.update_settings().private(private).send().await.map(drop) };
        self.repeat(&|_, _| {}, update, same).await
    }

    /// hf-hub does not tell how long a 429 asks to wait by its `RateLimit` header; then the `same` request, made here, tells.
    async fn repeat<F>(&self, on_pause: OnPause<'_>, call: impl Fn() -> F, same: RequestBuilder) -> Result<(), HubError>
    where
        F: Future<Output = Result<(), HFError>>,
    {
        let (call, same) = (&call, &build(same)?);
        let once = || async move {
            match call().await.map_err(|error| self.error(error)) {
                Err(HubError::RateLimited { wait: None, .. }) => self.api.once(copy(same)).await.map(drop),
                told => told,
            }
        };
        self.api.repeat(on_pause, once).await
    }

    fn error(&self, error: HFError) -> HubError {
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

/// Presigned URLs keep their secret in the query.
fn without_queries(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').map(|word| word.split('?').next().unwrap_or_default()).collect();
    words.join(" ")
}
