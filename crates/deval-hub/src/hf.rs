//! hf-hub 1.0.0, held to what this crate was given: no token, cache or endpoint of its own finding, one try per call (the
//! waiting is [`Api::repeat`]'s, because hf-hub's own does not wait as long as a 429 asks), and this crate's errors.

use std::error::Error as _;

use hf_hub::{HFClient, HFError, RepoTypeModel};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use crate::http::{Api, OnPause, USER_AGENT, body_message, shown, transport};
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

    /// Creates the repository, private. `false` when there is one, which an earlier request with a lost answer may have made.
    pub(crate) async fn create_private(&self, on_pause: OnPause<'_>) -> Result<bool, HubError> {
        let id = self.repo.as_str();
        let call = || async move {
            let call = self.client.create_repository().repo_id(id).repo_type(RepoTypeModel).private(true);
            call.send().await.map_err(|error| self.error(error))
        };
        match self.api.repeat(on_pause, call).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(StatusCode::CONFLICT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks for a visibility.
    pub(crate) async fn set_private(&self, private: bool) -> Result<(), HubError> {
        let model = &self.client.model(self.repo.namespace(), self.repo.name());
        let call =
            || async move { model.update_settings().private(private).send().await.map_err(|error| self.error(error)) };
        self.api.repeat(&|_, _| {}, call).await
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
