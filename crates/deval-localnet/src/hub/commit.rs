//! The commit: newline-delimited JSON in, one new commit or a refusal out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Refusal, USER, base_url};
use super::store::{Commit, Content, Draft, MAIN};
use super::tree::Flags;
use super::{Hub, is_sha256};

/// Path components no commit may contain (huggingface_hub's `FORBIDDEN_FOLDERS`, and what git itself cannot hold).
const FORBIDDEN: [&str; 5] = ["", ".", "..", ".git", ".cache"];

/// Files of one repository.
const MAX_FILES: usize = 100_000;

/// Files of one folder.
const MAX_IN_FOLDER: usize = 10_000;

/// One line of the request.
#[derive(Debug, Deserialize)]
#[serde(tag = "key", content = "value", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Line {
    Header {
        summary: String,
        #[serde(default)]
        description: String,
        parent_commit: Option<String>,
    },
    File {
        path: String,
        content: String,
        encoding: Option<String>,
    },
    LfsFile {
        path: String,
        oid: String,
        size: Option<u64>,
    },
    DeletedFile {
        path: String,
    },
    DeletedFolder {
        path: String,
    },
}

pub(super) async fn commit(
    State(hub): State<Arc<Hub>>,
    Path((ns, name, rev)): Path<(String, String, String)>,
    Query(flags): Query<Flags>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    if flags.has("create_pr") || rev != MAIN {
        return Err(Refusal::bad_request("the local Hub commits to \"main\" only"));
    }
    let repo = hub.writable(&headers, &ns, &name)?;
    let url = format!("{}/{}/commit", base_url(&headers), repo.id);
    let committing = hub.clone();
    // Shards and blobs are read and written with blocking calls.
    let work = tokio::task::spawn_blocking(move || {
        let hub = committing;
        let lines = parse(&body)?;
        let _writing = hub.store.lock();
        let head = hub.store.head(&repo)?;
        let draft = draft(&hub, &head, lines)?;
        Ok::<Commit, Refusal>(hub.store.commit(&repo, &head, draft)?)
    });
    let commit = work.await.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))??;
    assemble_early(hub, &commit);
    let id = commit.stamp.id;
    Ok(Json(json!({ "success": true, "commitOid": id, "commitUrl": format!("{url}/{id}"), "hookOutput": "" })))
}

/// Python gives a download ten seconds to begin, and a large file takes longer to put together.
fn assemble_early(hub: Arc<Hub>, commit: &Commit) {
    let contents = commit.files.values().map(|entry| &entry.content);
    let lfs = contents.filter(|content| matches!(content, Content::Lfs { .. })).map(|content| content.oid().to_owned());
    let lfs: Vec<String> = lfs.collect();
    tokio::task::spawn_blocking(move || {
        // What fails here fails again, and is told, when the file is asked for.
        lfs.iter().try_for_each(|sha256| hub.store.lfs_file(&hub.cas, sha256).map(drop))
    });
}

fn parse(body: &[u8]) -> Result<Vec<Line>, Refusal> {
    let lines = body.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let parsed = lines.map(|(index, line)| {
        serde_json::from_slice(line).map_err(|error| Refusal::bad_request(format!("line {}: {error}", index + 1)))
    });
    parsed.collect()
}

fn draft(hub: &Hub, head: &Commit, lines: Vec<Line>) -> Result<Draft, Refusal> {
    let mut lines = lines.into_iter();
    let Some(Line::Header { summary, description, parent_commit }) = lines.next() else {
        return Err(Refusal::bad_request("the first line of a commit is its header"));
    };
    if parent_commit.is_some_and(|parent| parent != head.stamp.id) {
        let message = "A commit has happened since. Please refresh and try again.";
        return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, message));
    }
    let mut files: BTreeMap<String, Content> =
        head.files.iter().map(|(path, entry)| (path.clone(), entry.content.clone())).collect();
    for line in lines {
        apply(hub, &mut files, line)?;
    }
    check_amounts(&files)?;
    Ok(Draft { title: summary, description, author: USER.into(), files })
}

/// The Hub's limits for one repository.
fn check_amounts(files: &BTreeMap<String, Content>) -> Result<(), Refusal> {
    if files.len() > MAX_FILES {
        return Err(Refusal::bad_request(format!("a repository has at most {MAX_FILES} files, not {}", files.len())));
    }
    let mut folders: HashMap<&str, usize> = HashMap::new();
    for path in files.keys() {
        *folders.entry(path.rsplit_once('/').map_or("", |(folder, _)| folder)).or_default() += 1;
    }
    match folders.into_iter().find(|(_, count)| *count > MAX_IN_FOLDER) {
        Some((folder, count)) => {
            Err(Refusal::bad_request(format!("{folder:?}: at most {MAX_IN_FOLDER} files in one folder, not {count}")))
        }
        None => Ok(()),
    }
}

fn apply(hub: &Hub, files: &mut BTreeMap<String, Content>, line: Line) -> Result<(), Refusal> {
    match line {
        Line::Header { .. } => return Err(Refusal::bad_request("a commit has one header")),
        Line::File { path, content, encoding } => {
            let content = hub.store.add_blob(&decode(&path, content, encoding.as_deref())?)?;
            add(files, path, content)?;
        }
        Line::LfsFile { path, oid, size } => {
            let content = link(hub, &path, oid, size)?;
            add(files, path, content)?;
        }
        Line::DeletedFile { path } => {
            files.remove(&path).ok_or_else(|| Refusal::no_entry(&path, MAIN))?;
        }
        Line::DeletedFolder { path } => {
            let prefix = format!("{}/", path.trim_end_matches('/'));
            files.retain(|path, _| !path.starts_with(&prefix));
        }
    }
    Ok(())
}

fn decode(path: &str, content: String, encoding: Option<&str>) -> Result<Vec<u8>, Refusal> {
    match encoding {
        Some("base64") => STANDARD.decode(content).map_err(|error| Refusal::bad_request(format!("{path}: {error}"))),
        None | Some("utf-8") => Ok(content.into_bytes()),
        Some(other) => Err(Refusal::bad_request(format!("{path}: unknown encoding {other:?}"))),
    }
}

/// An LFS file can be committed once its bytes are stored, over Xet or over LFS.
fn link(hub: &Hub, path: &str, sha256: String, size: Option<u64>) -> Result<Content, Refusal> {
    let missing = || Refusal::bad_request(format!("LFS pointer pointed to a file that does not exist: {path}"));
    if !is_sha256(&sha256) {
        return Err(missing());
    }
    let (stored, xet_hash) = hub.stored(&sha256)?.ok_or_else(missing)?;
    match size {
        Some(size) if size != stored => {
            Err(Refusal::bad_request(format!("{path}: {size} bytes announced, {stored} stored")))
        }
        _ => Ok(Content::Lfs { sha256, size: stored, xet_hash }),
    }
}

fn add(files: &mut BTreeMap<String, Content>, path: String, content: Content) -> Result<(), Refusal> {
    if path.split('/').any(|part| FORBIDDEN.contains(&part)) {
        return Err(Refusal::bad_request(format!("{path:?} is no path a commit may contain")));
    }
    let is_directory = files.keys().any(|other| other.strip_prefix(&path).is_some_and(|rest| rest.starts_with('/')));
    let is_below_file = path.match_indices('/').any(|(end, _)| files.contains_key(&path[..end]));
    if is_directory || is_below_file {
        return Err(Refusal::bad_request(format!("{path:?} cannot be a file and a directory")));
    }
    files.insert(path, content);
    Ok(())
}
