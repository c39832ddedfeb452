//! What a repository is: `whoami`, creation, settings, model info, history.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Hub;
use super::answer::{Caller, Page, Refusal, USER, base_url};
use super::store::{Commit, Draft, MAIN, Repo, RepoId, Settings};
use super::tree::{Flags, lfs_json};
use super::{date, upload};

/// Commits on one page of the history.
const COMMITS_PAGE: usize = 50;

/// The user is a member of every namespace there is; a stranger of none.
pub(super) async fn whoami(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let caller = Caller::user(&headers)?;
    let (user, role) = caller.user_and_role();
    let org = |name: String| json!({ "type": "org", "name": name, "fullname": name, "roleInOrg": "write" });
    let others = hub.store.namespaces()?.into_iter().filter(|name| name != USER);
    let orgs: Vec<Value> = if user == USER { others.map(org).collect() } else { Vec::new() };
    Ok(Json(json!({
        "type": "user", "id": user, "name": user, "fullname": "User of the local Hub", "isPro": false, "orgs": orgs,
        "auth": { "type": "access_token", "accessToken": { "displayName": "localnet", "role": role } },
    })))
}

#[derive(Deserialize)]
pub(super) struct Card {
    #[serde(default)]
    content: String,
}

/// Python asks this before a commit that has a README.md. Only what is there is looked at, not what it means.
pub(super) async fn validate_yaml(Json(Card { content }): Json<Card>) -> Json<Value> {
    let block = content.strip_prefix("---\n").map(|rest| rest.split_once("\n---").map(|(block, _)| block));
    let (error, warning) = match block {
        None => (None, Some("empty or missing yaml metadata in repo card")),
        Some(None) => (Some("the yaml metadata does not end: a line `---` is missing"), None),
        Some(Some(block)) if block.lines().any(|line| line.starts_with('\t')) => {
            (Some("the yaml metadata is indented with a tab"), None)
        }
        Some(Some(_)) => (None, None),
    };
    let list =
        |message: Option<&str>| message.map(|message| json!({ "message": message })).into_iter().collect::<Vec<_>>();
    Json(json!({ "errors": list(error), "warnings": list(warning) }))
}

#[derive(Deserialize)]
pub(super) struct Creation {
    name: String,
    organization: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    private: Option<bool>,
    visibility: Option<Visibility>,
}

/// What newer clients (huggingface_hub 2) send in the place of `private`.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Visibility {
    Public,
    Private,
}

/// Whether a request asks for a private or a public repository, if it says.
fn is_private(private: Option<bool>, visibility: Option<Visibility>) -> Option<bool> {
    private.or(visibility.map(|visibility| visibility == Visibility::Private))
}

pub(super) async fn create(
    State(hub): State<Arc<Hub>>,
    headers: HeaderMap,
    Json(creation): Json<Creation>,
) -> Result<Response, Refusal> {
    Caller::writer(&headers)?;
    if creation.kind.as_deref().is_some_and(|kind| kind != "model") {
        return Err(Refusal::bad_request("the local Hub has models only"));
    }
    let ns = creation.organization.as_deref().unwrap_or(USER);
    let (ns, name) = creation.name.split_once('/').unwrap_or((ns, &creation.name));
    let id = RepoId::new(ns, name)
        .ok_or_else(|| Refusal::bad_request(format!("{ns:?}/{name:?} is no valid repository id")))?;
    let private = is_private(creation.private, creation.visibility).unwrap_or(false);
    let settings = Settings { private, gated: json!(false), created_at: date::now(), disabled: false };
    let _writing = hub.store.lock();
    let created = hub.store.create(&id, &settings, initial_commit(&hub)?)?;
    let url = format!("{}/{id}", base_url(&headers));
    let body = json!({ "url": url, "name": id.to_string(), "id": id.to_string() });
    if created {
        return Ok(Json(body).into_response());
    }
    let error = json!({ "error": "You already created this model repo", "url": url });
    Ok((StatusCode::CONFLICT, Json(error)).into_response())
}

#[derive(Deserialize)]
pub(super) struct Deletion {
    name: String,
    organization: Option<String>,
}

pub(super) async fn delete(
    State(hub): State<Arc<Hub>>,
    headers: HeaderMap,
    Json(Deletion { name, organization }): Json<Deletion>,
) -> Result<StatusCode, Refusal> {
    let ns = organization.as_deref().unwrap_or(USER);
    let (ns, name) = name.split_once('/').unwrap_or((ns, &name));
    let _writing = hub.store.lock();
    hub.store.delete(&hub.writable(&headers, ns, name)?)?;
    Ok(StatusCode::OK)
}

fn initial_commit(hub: &Hub) -> Result<Draft, Refusal> {
    let attributes = hub.store.add_blob(upload::git_attributes().as_bytes())?;
    Ok(Draft {
        title: "initial commit".into(),
        description: String::new(),
        author: USER.into(),
        files: BTreeMap::from([(".gitattributes".into(), attributes)]),
    })
}

#[derive(Deserialize)]
pub(super) struct SettingsChange {
    private: Option<bool>,
    visibility: Option<Visibility>,
    gated: Option<Value>,
}

/// Changes visibility. Makes no commit, so the date of the last commit stays.
pub(super) async fn settings(
    State(hub): State<Arc<Hub>>,
    Path((ns, name)): Path<(String, String)>,
    headers: HeaderMap,
    Json(change): Json<SettingsChange>,
) -> Result<Json<Value>, Refusal> {
    let _writing = hub.store.lock();
    let mut repo = hub.writable(&headers, &ns, &name)?;
    if let Some(private) = is_private(change.private, change.visibility) {
        repo.settings.private = private;
    }
    if let Some(gated) = change.gated {
        if ![json!(false), json!("auto"), json!("manual")].contains(&gated) {
            return Err(Refusal::bad_request(format!("gated is false, \"auto\" or \"manual\", not {gated}")));
        }
        repo.settings.gated = gated;
    }
    hub.store.save_settings(&repo)?;
    Ok(Json(json!({ "private": repo.settings.private, "gated": repo.settings.gated })))
}

pub(super) async fn model(
    hub: State<Arc<Hub>>,
    Path((ns, name)): Path<(String, String)>,
    flags: Query<Flags>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    model_at(hub, Path((ns, name, MAIN.into())), flags, headers).await
}

pub(super) async fn model_at(
    State(hub): State<Arc<Hub>>,
    Path((ns, name, rev)): Path<(String, String, String)>,
    Query(flags): Query<Flags>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let repo = hub.readable(&headers, &ns, &name)?;
    let commit = hub.revision(&repo, &rev)?;
    let head = hub.store.head(&repo)?;
    Ok(Json(model_json(&repo, &commit, &head, flags.has("blobs"))))
}

fn model_json(repo: &Repo, commit: &Commit, head: &Commit, blobs: bool) -> Value {
    let id = repo.id.to_string();
    let used: u64 = head.files.values().map(|entry| entry.content.size()).sum();
    json!({
        "_id": id, "id": id, "modelId": id, "author": repo.id.namespace(),
        "sha": commit.stamp.id, "lastModified": head.stamp.date, "createdAt": repo.settings.created_at,
        "private": repo.settings.private, "gated": repo.settings.gated, "disabled": repo.settings.disabled,
        "downloads": 0, "likes": 0, "tags": [], "spaces": [], "usedStorage": used,
        "siblings": siblings(commit, blobs),
    })
}

fn siblings(commit: &Commit, blobs: bool) -> Vec<Value> {
    let sibling = |(path, entry): (&String, &super::store::Entry)| {
        let mut value = json!({ "rfilename": path });
        if blobs {
            value["size"] = json!(entry.content.size());
            value["blobId"] = json!(entry.content.git_oid());
            if let Some(lfs) = lfs_json(&entry.content, "sha256") {
                value["lfs"] = lfs;
            }
        }
        value
    };
    commit.files.iter().map(sibling).collect()
}

/// Newest first.
pub(super) async fn commits(
    State(hub): State<Arc<Hub>>,
    Path((ns, name, rev)): Path<(String, String, String)>,
    Query(flags): Query<Flags>,
    OriginalUri(address): OriginalUri,
    headers: HeaderMap,
) -> Result<Page, Refusal> {
    let repo = hub.readable(&headers, &ns, &name)?;
    let newest = hub.revision(&repo, &rev)?;
    let commit = |commit: Commit| {
        let description = commit.message.split_once("\n\n").map_or("", |(_, rest)| rest);
        json!({
            "id": commit.stamp.id, "title": commit.stamp.title, "message": description, "date": commit.stamp.date,
            "authors": [{ "user": commit.author }],
        })
    };
    let size = hub.options.page_size.map_or(COMMITS_PAGE, NonZeroUsize::get);
    let entries = hub.store.history(&repo, newest)?.into_iter().map(commit).collect();
    Ok(Page::new(entries, flags.cursor(), size, &base_url(&headers), &address))
}
