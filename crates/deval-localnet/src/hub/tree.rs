//! What lies in a repository: `tree` and `paths-info`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::extract::{FromRequest as _, OriginalUri, Path, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::{Form, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::Hub;
use super::answer::{Page, Refusal, base_url};
use super::store::{Commit, Content, Entry, Stamp, lfs_pointer};

/// The Hub's limit for one `paths-info` request.
const MAX_PATHS: usize = 1000;

/// Entries of one page of `tree`, without and with `expand`.
const PAGE: usize = 1000;
const EXPANDED_PAGE: usize = 50;

/// A query or form as pairs: names may repeat, and Python writes `True`.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Flags(Vec<(String, String)>);

impl Flags {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, value)| key == name && (value.eq_ignore_ascii_case("true") || value == "1"))
    }

    /// Where a page starts.
    pub(super) fn cursor(&self) -> usize {
        let cursor = self.0.iter().find(|(key, _)| key == "cursor");
        cursor.and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }
}

pub(super) async fn list_root(
    hub: State<Arc<Hub>>,
    Path((ns, name, rev)): Path<(String, String, String)>,
    flags: Query<Flags>,
    address: OriginalUri,
    headers: HeaderMap,
) -> Result<Page, Refusal> {
    list(hub, Path((ns, name, rev, String::new())), flags, address, headers).await
}

/// A path that is a file has no entries, so it is `EntryNotFound`, as on the Hub.
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Path((ns, name, rev, path)): Path<(String, String, String, String)>,
    Query(flags): Query<Flags>,
    OriginalUri(address): OriginalUri,
    headers: HeaderMap,
) -> Result<Page, Refusal> {
    let repo = hub.readable(&headers, &ns, &name)?;
    let commit = hub.revision(&repo, &rev)?;
    let path = path.trim_matches('/');
    let nodes = children(&commit, path, flags.has("recursive"));
    if nodes.is_empty() && !path.is_empty() {
        return Err(Refusal::no_entry(path, &rev));
    }
    let expand = flags.has("expand");
    let size = hub.options.page_size.map_or(if expand { EXPANDED_PAGE } else { PAGE }, NonZeroUsize::get);
    let entries = nodes.into_iter().map(|(path, node)| node.json(&path, expand)).collect();
    Ok(Page::new(entries, flags.cursor(), size, &base_url(&headers), &address))
}

/// Python sends a form, Rust JSON. Unknown paths are left out of the answer.
pub(super) async fn paths_info(
    State(hub): State<Arc<Hub>>,
    Path((ns, name, rev)): Path<(String, String, String)>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let repo = hub.readable(request.headers(), &ns, &name)?;
    let commit = hub.revision(&repo, &rev)?;
    let Wanted { paths, expand } = Wanted::read(request).await?;
    if paths.len() > MAX_PATHS {
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {MAX_PATHS} paths")));
    }
    let info = |path: String| node(&commit, path.trim_matches('/')).map(|node| node.json(&path, expand));
    Ok(Json(paths.into_iter().filter_map(info).collect()))
}

#[derive(Deserialize)]
struct Wanted {
    paths: Vec<String>,
    #[serde(default)]
    expand: bool,
}

impl Wanted {
    async fn read(request: Request) -> Result<Self, Refusal> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/json") {
            let json = Json::from_request(request, &()).await;
            return json.map(|Json(wanted)| wanted).map_err(|error| Refusal::bad_request(error.body_text()));
        }
        let form = Form::<Flags>::from_request(request, &()).await;
        let Form(form) = form.map_err(|error| Refusal::bad_request(error.body_text()))?;
        Ok(Self { paths: form.all("paths"), expand: form.has("expand") })
    }
}

/// A place in a tree.
#[derive(Debug)]
enum Node<'a> {
    File(&'a Entry),
    /// `oid` is made up, but changes when anything below changes.
    Directory {
        oid: String,
        last_commit: &'a Stamp,
    },
}

impl Node<'_> {
    fn json(&self, path: &str, expand: bool) -> Value {
        let (mut value, last_commit) = match self {
            Self::File(entry) => (file_json(path, &entry.content), &entry.last_commit),
            Self::Directory { oid, last_commit } => {
                (json!({ "type": "directory", "oid": oid, "size": 0, "path": path }), *last_commit)
            }
        };
        if expand {
            value["lastCommit"] = json!(last_commit);
        }
        if expand && matches!(self, Self::File(_)) {
            value["securityFileStatus"] = security_json();
        }
        value
    }
}

fn file_json(path: &str, content: &Content) -> Value {
    let mut value = json!({ "type": "file", "oid": content.git_oid(), "size": content.size(), "path": path });
    if let Some(lfs) = lfs_json(content, "oid") {
        value["lfs"] = lfs;
    }
    if let Content::Lfs { xet_hash: Some(xet_hash), .. } = content {
        value["xetHash"] = json!(xet_hash);
    }
    value
}

/// The `lfs` member: listings call the SHA-256 `oid`, model info calls it `sha256`.
pub(super) fn lfs_json(content: &Content, digest: &str) -> Option<Value> {
    let Content::Lfs { sha256, size, .. } = content else { return None };
    Some(json!({ digest: sha256, "size": size, "pointerSize": lfs_pointer(sha256, *size).len() }))
}

/// Nothing is scanned here. huggingface_hub 0.27.1 fails unless both scans are present.
fn security_json() -> Value {
    json!({ "status": "unscanned", "avScan": null, "pickleImportScan": null })
}

fn node<'a>(commit: &'a Commit, path: &str) -> Option<Node<'a>> {
    commit.files.get(path).map(Node::File).or_else(|| directory(commit, path))
}

/// The entries below the directory `at` (`""` is the root), by full path; with `deep`, of its directories too.
fn children<'a>(commit: &'a Commit, at: &str, deep: bool) -> BTreeMap<String, Node<'a>> {
    let skip = if at.is_empty() { 0 } else { at.len() + 1 };
    let mut nodes = BTreeMap::new();
    for (path, entry) in below(commit, at) {
        let slashes = path.match_indices('/').map(|(index, _)| index).filter(|index| *index > skip);
        let mut is_direct = true;
        for end in slashes {
            if is_direct || deep {
                nodes.entry(path[..end].to_owned()).or_insert_with(|| directory(commit, &path[..end]));
            }
            is_direct = false;
        }
        if is_direct || deep {
            nodes.insert(path.clone(), Some(Node::File(entry)));
        }
    }
    nodes.into_iter().filter_map(|(path, node)| node.map(|node| (path, node))).collect()
}

fn directory<'a>(commit: &'a Commit, path: &str) -> Option<Node<'a>> {
    let entries = || below(commit, path);
    let last_commit = entries().map(|(_, entry)| &entry.last_commit).max_by(|a, b| a.date.cmp(&b.date))?;
    let digest = entries()
        .fold(Sha1::new(), |sha1, (path, entry)| sha1.chain_update(path).chain_update(entry.content.git_oid()));
    Some(Node::Directory { oid: hex::encode(digest.finalize()), last_commit })
}

fn below<'a>(commit: &'a Commit, at: &str) -> impl Iterator<Item = (&'a String, &'a Entry)> {
    let prefix = if at.is_empty() { String::new() } else { format!("{at}/") };
    commit.files.iter().filter(move |(path, _)| path.starts_with(&prefix))
}
