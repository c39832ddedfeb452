//! hf-hub 1.0.0 tells whom a token belongs to. It is held to what this crate was given: no token, cache or endpoint of its own finding,
//! one try per call (the waiting is [`Api::repeat`]'s), and this crate's errors.

use hf_hub::{HFClient, HFError};
use reqwest::redirect::Policy;

use crate::HubError;
use crate::http::{Api, USER_AGENT, body_message, shown, transport};

/// Whom a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Handle of the user.
    pub name: String,
    /// Handles of the organizations that the user belongs to.
    pub organizations: Vec<String>,
}

impl Account {
    /// Whether repositories of a namespace are the user's own, or those of an organization of the user.
    pub fn may_own(&self, namespace: &str) -> bool {
        self.name == namespace || self.organizations.iter().any(|name| name == namespace)
    }
}

/// Asks the Hub; nothing without a token.
pub(crate) async fn account(api: &Api) -> Result<Option<Account>, HubError> {
    let Some(token) = api.token() else { return Ok(None) };
    let endpoint = api.endpoint();
    let client = HFClient::builder()
        .endpoint(endpoint.as_str())
        .token(token)
        .client(transport(endpoint, Policy::none(), api.stall)?)
        .user_agent(USER_AGENT)
        .cache_enabled(false)
        .retry_max_attempts(0)
        .build()
        .map_err(|e| HubError::Endpoint { endpoint: shown(endpoint), reason: e.to_string() })?;
    let (client, api) = (&client, api);
    let user = api.repeat(&|_, _| {}, || async move { client.whoami().send().await.map_err(|e| told(api, e)) }).await?;
    let organizations = user.orgs.into_iter().flatten().filter_map(|organization| organization.name).collect();
    Ok(Some(Account { name: user.username, organizations }))
}

fn told(api: &Api, error: HFError) -> HubError {
    let url = shown(&api.url(["api", "whoami-v2"]));
    match error {
        HFError::RateLimited { retry_after, .. } => HubError::RateLimited { url, wait: retry_after },
        HFError::Http { context } | HFError::AuthRequired { context } | HFError::Forbidden { context } => {
            HubError::Status {
                url,
                status: context.status,
                message: context.server_message.unwrap_or_else(|| body_message(context.body.as_bytes())),
                code: context.error_code.unwrap_or_default(),
                wait: None,
            }
        }
        HFError::Request { source, .. } if !source.is_decode() => api.broken(&api.url(["api", "whoami-v2"]), &source),
        other => HubError::Answer { url, what: other.to_string() },
    }
}
