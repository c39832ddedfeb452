//! What a repository is: `whoami`, creation, settings, model info, history.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Hub;
use super::answer::{Caller, Refusal, USER, base_url};
use super::store::{Commit, Draft, MAIN, Repo, RepoId, Settings};
use super::tree::{Flags, lfs_json};
use super::{date, upload};

/// Every token is the same user, a member of every namespace there is.
pub(super) async fn whoami(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    Caller::user(&headers)?;
    let org = |name: String| json!({ "type": "org", "name": name, "fullname": name, "roleInOrg": "write" });
    let orgs: Vec<Value> = hub.store.namespaces()?.into_iter().filter(|name| name != USER).map(org).collect();
    Ok(Json(json!({
        "type": "user", "id": USER, "name": USER, "fullname": "Local Hub user", "isPro": false, "orgs": orgs,
        "auth": { "type": "access_token", "accessToken": { "displayName": USER, "role": "write" } },
    })))
}

/// Python asks this before a commit that has a README.md.
pub(super) async fn validate_yaml() -> Json<Value> {
    Json(json!({ "errors": [], "warnings": [] }))
}

#[derive(Deserialize)]
pub(super) struct Creation {
    name: String,
    organization: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    private: bool,
}

pub(super) async fn create(
    State(hub): State<Arc<Hub>>,
    headers: HeaderMap,
    Json(creation): Json<Creation>,
) -> Result<Response, Refusal> {
    Caller::user(&headers)?;
    if creation.kind.as_deref().is_some_and(|kind| kind != "model") {
        return Err(Refusal::bad_request("the local Hub has models only"));
    }
    let ns = creation.organization.as_deref().unwrap_or(USER);
    let (ns, name) = creation.name.split_once('/').unwrap_or((ns, &creation.name));
    let id = RepoId::new(ns, name)
        .ok_or_else(|| Refusal::bad_request(format!("{ns:?}/{name:?} is no valid repository id")))?;
    let settings = Settings { private: creation.private, gated: json!(false), created_at: date::now() };
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
    if let Some(private) = change.private {
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
        "private": repo.settings.private, "gated": repo.settings.gated, "disabled": false,
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

/// Newest first, on one page.
pub(super) async fn commits(
    State(hub): State<Arc<Hub>>,
    Path((ns, name, rev)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let repo = hub.readable(&headers, &ns, &name)?;
    let newest = hub.revision(&repo, &rev)?;
    let commit = |commit: Commit| {
        let description = commit.message.split_once("\n\n").map_or("", |(_, rest)| rest);
        json!({
            "id": commit.stamp.id, "title": commit.stamp.title, "message": description, "date": commit.stamp.date,
            "authors": [{ "user": commit.author }],
        })
    };
    Ok(Json(hub.store.history(&repo, newest)?.into_iter().map(commit).collect()))
}
