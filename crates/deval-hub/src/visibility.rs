//! A repository as such: that it exists, and who may see it.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::http::{Api, OnPause};
use crate::remote::model_url;
use crate::{HubError, RepoId};

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
