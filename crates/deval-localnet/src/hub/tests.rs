use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use hf_hub::repository::CommitOperation;
use hf_hub::{HFClient, HFError, RepoTypeModel};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, LOCATION, RANGE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::{Fault, HubConfig, HubError, HubOptions, serve};

mod faults;
mod lists;

const TOKEN: &str = "hf_secretOfTheTests";
const ENDPOINT_ENV: &str = "DEVAL_HUB_TEST_ENDPOINT";
const FOLDER_ENV: &str = "DEVAL_HUB_TEST_FOLDER";

/// A Hub on a free port, and a client that does not follow redirects.
struct Served {
    base: String,
    client: Client,
    task: JoinHandle<Result<(), HubError>>,
}

impl Served {
    async fn start(state: &Path, faults: Value) -> Self {
        Self::start_with(state, faults, HubOptions::default()).await
    }

    async fn start_with(state: &Path, faults: Value, options: HubOptions) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let faults: Vec<Fault> = serde_json::from_value(faults).unwrap();
        let task = tokio::spawn(serve(listener, HubConfig { state_dir: state.into(), options, faults }));
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self { base, client, task }
    }

    fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    fn user(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(TOKEN)
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.user(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    async fn create(&self, name: &str, private: bool) -> StatusCode {
        let body = json!({ "name": name, "organization": "me", "type": "model", "private": private });
        self.user(Method::POST, "/api/repos/create").json(&body).send().await.unwrap().status()
    }

    async fn commit(&self, repo: &str, lines: &[Value]) -> reqwest::Result<Response> {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.user(Method::POST, &format!("/api/models/{repo}/commit/main")).body(body).send().await
    }

    async fn history(&self, repo: &str) -> Vec<Value> {
        self.all(&format!("/api/models/{repo}/commits/main")).await
    }

    /// The entries of all pages.
    async fn all(&self, path: &str) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut next = Some(format!("{}{path}", self.base));
        while let Some(url) = next {
            let page = self.client.get(&url).bearer_auth(TOKEN).send().await.unwrap();
            let link = page.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
            next = link.map(|link| link.trim_start_matches('<').trim_end_matches(">; rel=\"next\"").to_owned());
            entries.extend(page.json::<Vec<Value>>().await.unwrap());
        }
        entries
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn header(parent: Option<&str>) -> Value {
    json!({ "key": "header", "value": { "summary": "change", "description": "why", "parentCommit": parent } })
}

fn text_file(path: &str, text: &str) -> Value {
    json!({ "key": "file", "value": { "path": path, "content": text, "encoding": "utf-8" } })
}

fn value_of(response: &Response, name: &str) -> String {
    let value = response.headers().get(name).unwrap_or_else(|| panic!("no {name}"));
    value.to_str().unwrap().to_owned()
}

/// Bytes no compressor shrinks and no two places share.
fn noise(length: usize) -> Vec<u8> {
    let block = |index: usize| Sha256::digest(index.to_le_bytes());
    (0..length.div_ceil(32)).flat_map(block).take(length).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// An ignored test of this file, as a process of its own: hf-hub reads its caches from the environment, the Xet store must be
/// readable while it belongs to somebody else, and only a process can be killed.
fn in_process(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("hub::tests::{test}"), "--ignored", "--nocapture"])
        .env(FOLDER_ENV, folder)
        .env("HF_HOME", folder.join("hf-home"))
        .env("HF_XET_CACHE", folder.join("hf-xet"))
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env_remove("HF_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the client half of a_model_published_with_hf_hub, which starts it"]
async fn upload_as_client() {
    let Some(folder) = std::env::var_os(FOLDER_ENV).map(PathBuf::from) else { return };
    let endpoint = std::env::var(ENDPOINT_ENV).unwrap();
    let client = HFClient::builder().endpoint(endpoint).token(TOKEN).cache_dir(folder.join("cache")).build().unwrap();
    let create = || client.create_repository().repo_id("me/model").repo_type(RepoTypeModel).private(true);
    create().send().await.unwrap();
    create().exist_ok(true).send().await.unwrap();

    let repo = client.model("me", "model");
    let first = repo.info().send().await.unwrap();
    assert_eq!(first.private, Some(true));
    let parent = first.sha.unwrap();
    let operations = || {
        ["model.safetensors", "config.json", "coldkey.txt", "empty.txt", "model/pipeline.py"]
            .map(|path| CommitOperation::add_file(path, folder.join("model").join(path)))
            .to_vec()
    };
    let publish = || repo.create_commit().operations(operations()).commit_message("Publish").parent_commit(&parent);
    let published = publish().send().await.unwrap();
    let head = repo.info().send().await.unwrap();
    assert_eq!(head.sha, published.commit_oid);

    let stale = publish().send().await.unwrap_err();
    assert!(matches!(&stale, HFError::Http { context } if context.status.as_u16() == 412), "{stale:?}");

    let copy = repo.download_file().filename("model.safetensors").local_dir(folder.join("copy")).send().await.unwrap();
    assert!(std::fs::read(copy).unwrap() == std::fs::read(folder.join("model/model.safetensors")).unwrap());
}

fn write_model(folder: &Path) -> Vec<u8> {
    let weights = noise(3_000_017);
    std::fs::create_dir_all(folder.join("model/model")).unwrap();
    std::fs::write(folder.join("model/model.safetensors"), &weights).unwrap();
    std::fs::write(folder.join("model/config.json"), "{\"hidden_size\": 8}\n").unwrap();
    std::fs::write(folder.join("model/coldkey.txt"), "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty").unwrap();
    std::fs::write(folder.join("model/empty.txt"), "").unwrap();
    std::fs::write(folder.join("model/model/pipeline.py"), "class DeValPipeline: ...\n").unwrap();
    weights
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_published_with_hf_hub() {
    let (state, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let weights = write_model(folder.path());
    let hub = Served::start(state.path(), json!([])).await;
    let client = in_process("upload_as_client", folder.path()).env(ENDPOINT_ENV, &hub.base).output().await.unwrap();
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
    let tree = check_tree(&hub, &weights).await;
    let private = hub.anonymous(Method::GET, "/api/models/me/model").send().await.unwrap();
    assert_eq!(private.status(), StatusCode::UNAUTHORIZED);
    drop(hub);

    let hub = Served::start(state.path(), json!([])).await;
    assert_eq!(check_tree(&hub, &weights).await, tree, "a restarted Hub serves the same");
    let public = hub.user(Method::PUT, "/api/models/me/model/settings").json(&json!({ "private": false }));
    assert_eq!(public.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(hub.history("me/model").await.len(), 2, "visibility is no commit");
    check_downloads(&hub, &weights).await;

    let journal = std::fs::read_to_string(state.path().join("journal.jsonl")).unwrap();
    assert!(!journal.contains(TOKEN));
    let lines: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stale = |line: &&Value| line["path"] == "/api/models/me/model/commit/main" && line["status"] == 412;
    assert_eq!(lines.iter().filter(stale).count(), 1);
}

async fn check_tree(hub: &Served, weights: &[u8]) -> Value {
    let tree = hub.get("/api/models/me/model/tree/main?recursive=true&expand=true").await;
    let entries = tree.as_array().unwrap();
    let paths: Vec<&str> = entries.iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    let expected = [
        ".gitattributes",
        "coldkey.txt",
        "config.json",
        "empty.txt",
        "model",
        "model.safetensors",
        "model/pipeline.py",
    ];
    assert_eq!(paths, expected);
    let head = &hub.history("me/model").await[0];
    assert_eq!((&head["title"], &head["authors"][0]["user"]), (&json!("Publish"), &json!("localnet")));
    let file = &entries[5];
    assert_eq!(file["lfs"]["oid"], sha256(weights));
    assert_eq!((file["size"].as_u64(), file["lfs"]["pointerSize"].as_u64()), (Some(3_000_017), Some(132)));
    assert_eq!(file["lastCommit"]["id"], head["id"]);
    assert_eq!(file["lastCommit"]["date"], head["date"]);
    assert_eq!(entries[3]["oid"], "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", "git's blob of nothing");
    let blobs = hub.get("/api/models/me/model?blobs=true").await;
    assert_eq!(blobs["siblings"][4]["lfs"]["sha256"], sha256(weights));
    tree
}

async fn check_downloads(hub: &Served, weights: &[u8]) {
    let url = "/me/model/resolve/main/model.safetensors";
    let linked = hub.anonymous(Method::HEAD, url).send().await.unwrap();
    assert_eq!(linked.status(), StatusCode::FOUND);
    assert_eq!(value_of(&linked, "x-linked-etag"), format!("\"{}\"", sha256(weights)));
    assert_eq!(value_of(&linked, "x-linked-size"), "3000017");
    assert_eq!(value_of(&linked, "x-xet-hash").len(), 64);
    assert_eq!(value_of(&linked, "x-deval-localnet"), "fake-hub");
    let cdn = value_of(&linked, LOCATION.as_str());
    let whole = hub.client.get(&cdn).send().await.unwrap();
    assert_eq!(whole.status(), StatusCode::OK);
    assert!(whole.bytes().await.unwrap() == weights, "the CDN serves what was uploaded");
    let part = hub.client.get(&cdn).header(RANGE, "bytes=2000000-2999999").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(value_of(&part, CONTENT_RANGE.as_str()), "bytes 2000000-2999999/3000017");
    assert!(part.bytes().await.unwrap() == weights[2_000_000..3_000_000]);

    let small = hub.anonymous(Method::GET, "/me/model/resolve/main/config.json").send().await.unwrap();
    assert_eq!(value_of(&small, ETAG.as_str()), "\"bc77bf8f7cdcf1bc3b843a77809edf1d1367b78e\"");
    assert_eq!(small.text().await.unwrap(), "{\"hidden_size\": 8}\n");
    let empty = hub.anonymous(Method::HEAD, "/me/model/resolve/main/empty.txt").send().await.unwrap();
    assert_eq!(value_of(&empty, "content-length"), "0");
    let absent = hub.anonymous(Method::HEAD, "/me/model/resolve/main/absent.txt").send().await.unwrap();
    assert_eq!((absent.status(), value_of(&absent, "x-error-code")), (StatusCode::NOT_FOUND, "EntryNotFound".into()));
}

#[tokio::test]
async fn private_and_missing_look_alike_to_strangers() {
    let state = TempDir::new().unwrap();
    let hub = Served::start(state.path(), json!([])).await;
    assert_eq!(hub.create("hidden", true).await, StatusCode::OK);
    assert_eq!(hub.create("hidden", false).await, StatusCode::CONFLICT);
    let mut answers = Vec::new();
    for name in ["hidden", "missing"] {
        for path in [format!("/api/models/me/{name}"), format!("/me/{name}/resolve/main/.gitattributes")] {
            let response = hub.anonymous(Method::GET, &path).send().await.unwrap();
            assert_eq!(value_of(&response, "x-error-code"), "RepoNotFound");
            answers.push((response.status(), response.text().await.unwrap()));
        }
    }
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.0 == StatusCode::UNAUTHORIZED), "{answers:?}");
    let missing = hub.user(Method::GET, "/api/models/me/missing").send().await.unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let wrong = hub.anonymous(Method::GET, "/api/models/me/hidden").bearer_auth("sk_other").send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    for name in ["..", "a..b", "-a", "a/../b", "x.git"] {
        assert_eq!(hub.create(name, true).await, StatusCode::BAD_REQUEST, "{name}");
    }
}

#[tokio::test]
async fn directories_history_and_deletion() {
    let state = TempDir::new().unwrap();
    let hub = Served::start(state.path(), json!([])).await;
    hub.create("tree", false).await;
    let add = [header(None), text_file("a.txt", "one"), text_file("d/e/f.txt", "two"), text_file("d/g.txt", "three")];
    assert_eq!(hub.commit("me/tree", &add).await.unwrap().status(), StatusCode::OK);
    let first = hub.history("me/tree").await;
    let second = [header(first[0]["id"].as_str()), text_file("a.txt", "one"), text_file("d/e/f.txt", "2")];
    assert_eq!(hub.commit("me/tree", &second).await.unwrap().status(), StatusCode::OK);

    let paths = |tree: Value| -> Vec<String> {
        tree.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(paths(hub.get("/api/models/me/tree/tree/main").await), [".gitattributes", "a.txt", "d"]);
    assert_eq!(paths(hub.get("/api/models/me/tree/tree/main/d").await), ["d/e", "d/g.txt"]);
    let deep = hub.get("/api/models/me/tree/tree/main/d?recursive=true").await;
    assert_eq!(paths(deep), ["d/e", "d/e/f.txt", "d/g.txt"]);
    let file = hub.user(Method::GET, "/api/models/me/tree/tree/main/a.txt").send().await.unwrap();
    assert_eq!(value_of(&file, "x-error-code"), "EntryNotFound");

    let url = "/api/models/me/tree/paths-info/main";
    let form = hub.anonymous(Method::POST, url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let form = form.body("paths=a.txt&paths=d&paths=absent&expand=True");
    let form: Value = form.send().await.unwrap().json().await.unwrap();
    let body = json!({ "paths": ["a.txt", "d", "absent"], "expand": true });
    let same: Value = hub.anonymous(Method::POST, url).json(&body).send().await.unwrap().json().await.unwrap();
    assert_eq!(form, same);
    assert_eq!(form[0]["lastCommit"]["id"], first[0]["id"], "rewriting the same bytes changes nothing");
    assert_eq!(
        form[0]["securityFileStatus"],
        json!({ "status": "unscanned", "avScan": null, "pickleImportScan": null })
    );
    assert_eq!((&form[1]["type"], form.as_array().unwrap().len()), (&json!("directory"), 2));

    let delete = [header(None), json!({ "key": "deletedFolder", "value": { "path": "d" } })];
    assert_eq!(hub.commit("me/tree", &delete).await.unwrap().status(), StatusCode::OK);
    assert_eq!(paths(hub.get("/api/models/me/tree/tree/main").await), [".gitattributes", "a.txt"]);
    let old = format!("/api/models/me/tree/tree/{}?recursive=true", first[0]["id"].as_str().unwrap());
    assert_eq!(paths(hub.get(&old).await).len(), 6);
    assert_eq!(hub.history("me/tree").await.len(), 4);
}

#[tokio::test]
async fn what_a_commit_may_not_do() {
    let state = TempDir::new().unwrap();
    let hub = Served::start(state.path(), json!([])).await;
    hub.create("strict", false).await;
    let pointer = json!({ "path": "m.safetensors", "algo": "sha256", "oid": sha256(b"nothing"), "size": 7 });
    let lines = [
        json!({ "key": "lfsFile", "value": pointer }),
        text_file(".git/config", "x"),
        text_file("a/../b", "x"),
        text_file("/etc/passwd", "x"),
        text_file(".gitattributes/x", "x"),
        json!({ "key": "file", "value": { "path": "x", "content": "%", "encoding": "base64" } }),
        json!({ "key": "deletedFile", "value": {} }),
        header(None),
    ];
    for line in lines {
        let refused = hub.commit("me/strict", &[header(None), line.clone()]).await.unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{line}");
        if line["key"] == "lfsFile" {
            let text = value_of(&refused, "x-error-message");
            assert!(text.starts_with("LFS pointer pointed to a file that does not exist"), "{text}");
        }
    }
    let anonymous = hub.anonymous(Method::POST, "/api/models/me/strict/commit/main").body("{}").send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(hub.history("me/strict").await.len(), 1);
}

#[tokio::test]
async fn faults_strike_as_often_as_told() {
    let state = TempDir::new().unwrap();
    let fault =
        |times, action| json!({ "method": "POST", "path_contains": "/commit/", "times": times, "action": action });
    let script = json!([
        fault(2, json!({"status": 503})),
        fault(1, json!("drop")),
        fault(1, json!("apply_then_drop")),
        fault(1, json!({"delay_ms": 200}))
    ]);
    let hub = Served::start(state.path(), script).await;
    hub.create("faulty", false).await;
    let lines = [header(None), text_file("a.txt", "x")];
    for _ in 0..2 {
        assert_eq!(hub.commit("me/faulty", &lines).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    hub.commit("me/faulty", &lines).await.expect_err("dropped");
    assert_eq!(hub.history("me/faulty").await.len(), 1);
    hub.commit("me/faulty", &lines).await.expect_err("dropped");
    assert_eq!(hub.history("me/faulty").await.len(), 2);
    let started = Instant::now();
    assert_eq!(hub.commit("me/faulty", &lines).await.unwrap().status(), StatusCode::OK);
    assert!(started.elapsed().as_millis() >= 200);
    let unknown = serde_json::from_value::<Fault>(fault(1, json!("explode"))).unwrap_err().to_string();
    assert!(unknown.contains("unknown variant `explode`"), "{unknown}");
}

#[tokio::test]
#[ignore = "the server half of a_killed_hub_keeps_what_it_acknowledged, which starts and kills it"]
async fn serve_as_process() {
    let Some(folder) = std::env::var_os(FOLDER_ENV).map(PathBuf::from) else { return };
    let hub = Served::start(&folder.join("state"), json!([])).await;
    std::fs::write(folder.join("base.tmp"), &hub.base).unwrap();
    std::fs::rename(folder.join("base.tmp"), folder.join("base")).unwrap();
    std::future::pending().await
}

#[tokio::test]
async fn a_killed_hub_keeps_what_it_acknowledged() {
    let folder = TempDir::new().unwrap();
    let (state, base) = (folder.path().join("state"), folder.path().join("base"));
    let mut hub = Served::start(&state, json!([])).await;
    hub.create("killed", false).await;
    let mut acknowledged = 0;
    for round in 0..8 {
        let mut process = in_process("serve_as_process", folder.path()).spawn().unwrap();
        while !base.exists() {
            assert_eq!(process.try_wait().unwrap(), None);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        hub.base = std::fs::read_to_string(&base).unwrap();
        std::fs::remove_file(&base).unwrap();
        commit_next(&hub, acknowledged).await.unwrap();
        acknowledged += 1;
        let killer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20 + 7 * round)).await;
            process.kill().await.unwrap();
        });
        while let Ok(response) = commit_next(&hub, acknowledged).await {
            assert_eq!(response.status(), StatusCode::OK);
            acknowledged += 1;
        }
        killer.await.unwrap();
        hub = Served::start(&state, json!([])).await;
        // The commit in flight when the process died may be there, but not half of it.
        let commits = hub.history("me/killed").await.len() - 1;
        assert!(commits == acknowledged || commits == acknowledged + 1, "{commits} of {acknowledged}");
        let text = hub.user(Method::GET, "/me/killed/resolve/main/n.txt").send().await.unwrap().text().await.unwrap();
        assert_eq!(text, format!("commit {}", commits - 1));
        acknowledged = commits;
    }
}

async fn commit_next(hub: &Served, number: usize) -> reqwest::Result<Response> {
    hub.commit("me/killed", &[header(None), text_file("n.txt", &format!("commit {number}"))]).await
}
