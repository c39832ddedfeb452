//! A Hub small enough to be told exactly how to misbehave. Contents go through hf-xet's own `local://` store.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio::sync::Notify;

use crate::plan::GIT_ATTRIBUTES;

const ATTRIBUTES: &[u8] = b"* x";

/// What happens to the next request whose `METHOD path` contains a given text.
#[derive(Clone)]
pub(super) enum Fault {
    /// Answered with a status and headers, nothing done.
    Refuse(u16, Vec<(&'static str, &'static str)>),
    /// Done, then answered with a status.
    DoThenAnswer(u16),
    /// Done, then the connection breaks in the middle of the answer.
    DoThenBreak,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Entry {
    pub(super) size: u64,
    pub(super) oid: String,
    pub(super) lfs: bool,
}

pub(super) type Tree = BTreeMap<String, Entry>;

pub(super) struct Repo {
    pub(super) private: bool,
    pub(super) gated: Value,
    pub(super) commits: Vec<(String, Tree)>,
}

pub(super) struct Hub {
    pub(super) repo: Option<Repo>,
    pub(super) transfer: &'static str,
    /// Files at least this big are LFS.
    pub(super) lfs_from: u64,
    pub(super) faults: VecDeque<(&'static str, Fault)>,
    pub(super) requests: Vec<String>,
    pub(super) tokens: Vec<Option<String>>,
    /// Where `resolve` sends LFS downloads; the Hub's own `/cdn/` otherwise.
    pub(super) cdn: Option<&'static str>,
    /// Whether `/cdn/` has the contents.
    pub(super) contents: bool,
    /// The contents, by path: nothing is looked up in hf-xet's store.
    pub(super) bytes: BTreeMap<String, Vec<u8>>,
    /// What came by LFS, by sha256; parts of it by number.
    pub(super) lfs: BTreeMap<String, BTreeMap<usize, Vec<u8>>>,
    /// Whether `/cdn/` answers ranges; it sends whole files otherwise.
    pub(super) ranges: bool,
    /// A range that `/cdn/` does not have.
    pub(super) refuse_range: Option<&'static str>,
    pub(super) asked_ranges: Vec<String>,
    /// The request, counted from 1, that is never answered, and whether it is carried out.
    pub(super) hang: Option<(usize, bool)>,
    /// Told when that request has come.
    pub(super) hung: Arc<Notify>,
    store: PathBuf,
}

/// A running fake; stops with the test's runtime.
pub(super) struct FakeHub {
    pub(super) url: String,
    pub(super) dir: tempfile::TempDir,
    state: Arc<Mutex<Hub>>,
}

impl FakeHub {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(Mutex::new(Hub {
            repo: None,
            transfer: "xet",
            lfs_from: 1000,
            faults: VecDeque::new(),
            requests: Vec::new(),
            tokens: Vec::new(),
            cdn: None,
            contents: true,
            bytes: BTreeMap::from([(GIT_ATTRIBUTES.to_owned(), ATTRIBUTES.to_vec())]),
            lfs: BTreeMap::new(),
            ranges: true,
            refuse_range: None,
            asked_ranges: Vec::new(),
            hang: None,
            hung: Arc::default(),
            store: dir.path().join("store"),
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(handle).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, dir, state }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Hub> {
        self.state.lock().unwrap()
    }

    pub(super) fn fault(&self, on: &'static str, fault: Fault) {
        self.lock().faults.push_back((on, fault));
    }

    pub(super) fn count(&self, what: &str) -> usize {
        self.lock().requests.iter().filter(|r| r.contains(what)).count()
    }

    /// Hub commits after the one that creation makes.
    pub(super) fn commits(&self) -> usize {
        self.lock().repo.as_ref().map_or(0, |r| r.commits.len() - 1)
    }

    /// A repository with `.gitattributes` and the given files, made by somebody else.
    pub(super) fn seed(&self, private: bool, files: &[(&str, Entry)]) {
        let mut repo = new_repo(private);
        if !files.is_empty() {
            let mut tree = repo.commits[0].1.clone();
            tree.extend(files.iter().map(|(path, entry)| ((*path).to_owned(), entry.clone())));
            repo.commits.push(("seeded".to_owned(), tree));
        }
        self.lock().repo = Some(repo);
    }
}

fn new_repo(private: bool) -> Repo {
    let attributes = Entry { size: 3, oid: super::git_sha1(ATTRIBUTES), lfs: false };
    let tree = Tree::from([(GIT_ATTRIBUTES.to_owned(), attributes)]);
    Repo { private, gated: json!(false), commits: vec![("initial".to_owned(), tree)] }
}

async fn handle(State(state): State<Arc<Mutex<Hub>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let auth = parts.headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
    let response = state.lock().unwrap().take(&parts.method, parts.uri.path(), auth, &body);
    let range = parts.headers.get(header::RANGE).filter(|_| parts.uri.path().starts_with("/cdn/"));
    let range = range.filter(|_| state.lock().unwrap().ranges).map(|range| range.to_str().unwrap().to_owned());
    if let Some(range) = &range {
        let mut hub = state.lock().unwrap();
        hub.asked_ranges.push(range.clone());
        if hub.refuse_range == Some(range.as_str()) {
            return StatusCode::NOT_FOUND.into_response();
        }
    }
    match (response, range) {
        (Some(response), Some(range)) if response.status() == StatusCode::OK => part(response, &range).await,
        (Some(response), _) => response,
        (None, _) => std::future::pending().await,
    }
}

/// The range `bytes=a-b` of a whole answer.
async fn part(response: Response, range: &str) -> Response {
    let whole = axum::body::to_bytes(response.into_body(), usize::MAX).await;
    // An answer that is meant to break does.
    let Ok(whole) = whole else { return broken() };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let content_range = format!("bytes {first}-{last}/{}", whole.len());
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, content_range)], whole.slice(first..=last)).into_response()
}

fn broken() -> Response {
    Body::from_stream(futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("told to"))])).into_response()
}

fn ok(value: &Value) -> Response {
    value.to_string().into_response()
}

impl Hub {
    fn take(&mut self, method: &Method, path: &str, auth: Option<String>, body: &[u8]) -> Option<Response> {
        let line = format!("{method} {path}");
        self.requests.push(line.clone());
        let known = auth.is_some();
        self.tokens.push(auth);
        if let Some((_, carried_out)) = self.hang.filter(|(at, _)| *at == self.requests.len()) {
            if carried_out {
                self.answer(method, path, known, body);
            }
            self.hung.notify_one();
            return None;
        }
        let fault = self.faults.iter().position(|(on, _)| line.contains(on)).and_then(|i| self.faults.remove(i));
        Some(match fault {
            Some((_, Fault::Refuse(status, headers))) => {
                let map: HeaderMap =
                    headers.into_iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
                (StatusCode::from_u16(status).unwrap(), map, json!({"error": "told to"}).to_string()).into_response()
            }
            Some((_, Fault::DoThenAnswer(status))) => {
                self.answer(method, path, known, body);
                StatusCode::from_u16(status).unwrap().into_response()
            }
            Some((_, Fault::DoThenBreak)) => {
                self.answer(method, path, known, body);
                broken()
            }
            None => self.answer(method, path, known, body),
        })
    }

    fn answer(&mut self, method: &Method, path: &str, known: bool, body: &[u8]) -> Response {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("POST", ["api", "repos", "create"]) => self.create(body),
            (_, ["cdn", file @ ..]) => match self.bytes.get(&file.join("/")).filter(|_| self.contents) {
                Some(bytes) => bytes.clone().into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            },
            ("POST", [_, _, "info", "lfs", "objects", "batch"]) => ok(&self.batch(body)),
            ("PUT", ["lfs", oid, part]) => {
                let number = part.parse().unwrap();
                self.lfs.entry((*oid).to_owned()).or_default().insert(number, body.to_vec());
                ([(header::ETAG, format!("etag-{number}"))], "").into_response()
            }
            ("POST", ["lfs", oid, "complete" | "verify"]) => self.check(oid, body),
            _ if self.repo.as_ref().is_none_or(|r| r.private && !known) => {
                let status = if known { StatusCode::NOT_FOUND } else { StatusCode::UNAUTHORIZED };
                (status, [("x-error-code", "RepoNotFound")]).into_response()
            }
            ("POST", ["api", "models", _, _, "preupload", "main"]) => self.preupload(body),
            ("GET", ["api", "models", _, _, "xet-write-token", "main"]) => {
                let cas = format!("local://{}", self.store.display());
                ok(&json!({"accessToken": "t", "exp": 9_999_999_999u64, "casUrl": cas}))
            }
            ("POST", ["api", "models", _, _, "commit", "main"]) => self.commit(body),
            (_, ["api", "models", ..]) => self.read(method, &parts[4..], body),
            (_, [_, _, "resolve", _, file @ ..]) => {
                let base = self.cdn.unwrap_or("/cdn/");
                let to = format!("{base}{}?Signature=hidden", file.join("/"));
                (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    /// Parts of 300 kB where the transfer is `multipart`; objects that are here need no action.
    fn batch(&self, body: &[u8]) -> Value {
        const PART: u64 = 300_000;
        let asked: Value = serde_json::from_slice(body).unwrap();
        let object = |object: &Value| {
            let (oid, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap());
            let url = |what: &str| format!("/lfs/{oid}/{what}");
            let verify = json!({"href": url("verify"), "header": {"X-Asked": "yes"}});
            let upload = match self.transfer {
                "xet" => return json!({"oid": oid, "size": size}),
                _ if self.lfs.contains_key(oid) => return json!({"oid": oid, "size": size}),
                "multipart" => {
                    let mut header = json!({"chunk_size": PART.to_string()});
                    (1..=size.div_ceil(PART)).for_each(|n| header[format!("{n:05}")] = json!(url(&n.to_string())));
                    json!({"href": url("complete"), "header": header})
                }
                _ => json!({"href": url("1")}),
            };
            json!({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}})
        };
        let objects: Vec<Value> = asked["objects"].as_array().unwrap().iter().map(object).collect();
        json!({"transfer": self.transfer, "objects": objects})
    }

    /// What came must be what was announced; the completion names every part.
    fn check(&self, oid: &str, body: &[u8]) -> Response {
        let body: Value = serde_json::from_slice(body).unwrap();
        let parts = self.lfs.get(oid).cloned().unwrap_or_default();
        let whole = parts.values().flatten().copied().collect::<Vec<u8>>();
        let named =
            |(number, part): (&usize, &Value)| *part == json!({"partNumber": number, "etag": format!("etag-{number}")});
        let right = match body["parts"].as_array() {
            Some(named_parts) => named_parts.len() == parts.len() && parts.keys().zip(named_parts).all(named),
            None => body["size"] == whole.len(),
        };
        let right = right && hex::encode(sha2::Sha256::digest(&whole)) == oid && body["oid"] == oid;
        if right { ok(&json!({})) } else { StatusCode::UNPROCESSABLE_ENTITY.into_response() }
    }

    fn create(&mut self, body: &[u8]) -> Response {
        if self.repo.is_some() {
            return (StatusCode::CONFLICT, json!({"error": "You already created this model repo"}).to_string())
                .into_response();
        }
        let body: Value = serde_json::from_slice(body).unwrap();
        self.repo = Some(new_repo(body["private"].as_bool().unwrap()));
        ok(&json!({"url": "u", "name": body["name"]}))
    }

    fn preupload(&self, body: &[u8]) -> Response {
        let body: Value = serde_json::from_slice(body).unwrap();
        let mode = |f: &Value| if f["size"].as_u64().unwrap() >= self.lfs_from { "lfs" } else { "regular" };
        let files = body["files"].as_array().unwrap().iter();
        let files: Vec<Value> = files
            .map(|f| json!({"path": f["path"], "uploadMode": mode(f), "shouldIgnore": f["path"] == "ignored"}))
            .collect();
        ok(&json!({"files": files}))
    }

    fn read(&mut self, method: &Method, rest: &[&str], body: &[u8]) -> Response {
        let repo = self.repo.as_mut().unwrap();
        let (head, tree) = repo.commits.last().unwrap();
        match (method.as_str(), rest) {
            ("GET", [] | ["revision", _]) => {
                ok(&json!({"id": "me/m", "sha": head, "private": repo.private, "gated": repo.gated, "disabled": false}))
            }
            ("GET", ["tree", _]) => ok(&tree.iter().map(|(path, e)| entry(path, e)).collect()),
            ("GET", ["commits", "main"]) => ok(
                &json!([{"id": head, "title": "t", "date": "2026-01-01T00:00:00.000Z", "authors": [{"user": "me"}]}]),
            ),
            ("PUT", ["settings"]) => {
                let body: Value = serde_json::from_slice(body).unwrap();
                repo.private = body["private"].as_bool().unwrap();
                ok(&json!({}))
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn commit(&mut self, body: &[u8]) -> Response {
        let repo = self.repo.as_mut().unwrap();
        let (head, tree) = repo.commits.last().unwrap();
        let mut tree = tree.clone();
        for line in body.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let line: Value = serde_json::from_slice(line).unwrap();
            let value = &line["value"];
            let path = value["path"].as_str().unwrap_or_default().to_owned();
            match line["key"].as_str().unwrap() {
                "header" if value["parentCommit"] != **head => return StatusCode::PRECONDITION_FAILED.into_response(),
                "header" => {}
                "file" => drop(tree.insert(path, git_entry(value["content"].as_str().unwrap()))),
                "lfsFile" => {
                    let oid = value["oid"].as_str().unwrap().to_owned();
                    tree.insert(path, Entry { size: value["size"].as_u64().unwrap(), oid, lfs: true });
                }
                "deletedFile" => drop(tree.remove(&path).unwrap()),
                other => panic!("{other}"),
            }
        }
        let id = format!("c{}", repo.commits.len());
        repo.commits.push((id.clone(), tree));
        ok(&json!({"commitOid": id, "commitUrl": "u"}))
    }
}

fn entry(path: &str, e: &Entry) -> Value {
    let date = json!({"id": "c", "title": "t", "date": "2026-01-01T00:00:00.000Z"});
    let mut value = json!({"type": "file", "path": path, "size": e.size, "oid": e.oid, "lastCommit": date});
    if e.lfs {
        value["oid"] = json!("pointer");
        value["lfs"] = json!({"oid": e.oid, "size": e.size, "pointerSize": 130});
    }
    value
}

fn git_entry(content: &str) -> Entry {
    let bytes = base64::engine::general_purpose::STANDARD.decode(content).unwrap();
    Entry { size: bytes.len() as u64, oid: super::git_sha1(&bytes), lfs: false }
}
