//! Every fault in every phase, against the local Hub: what becomes of it, and that the end is the same in all cases.

use std::fmt::Write as _;
use std::process::Command;

use super::localnet::{Localnet, start};
use super::*;

/// Silence after which the client gives a connection up, in this test.
const STALL: Duration = Duration::from_millis(400);

/// A phase of the transaction: method, part of the path (`{}` is the repository), and requests of that kind before it.
const PHASES: [(&str, &str, &str, u32); 17] = [
    ("look", "GET", "/api/models/{}", 0),
    ("create", "POST", "/api/repos/create", 0),
    ("tree", "GET", "/api/models/{}/tree/", 0),
    ("preupload", "POST", "/preupload/", 0),
    ("lfs batch", "POST", "/objects/batch", 0),
    ("token", "GET", "/xet-write-token/", 0),
    ("grant", "POST", "/_cas/v1/xorb-grants/", 0),
    ("xorb", "PUT", "/_cas/uploads/", 0),
    ("xorb there", "POST", "/_cas/v1/xorb-commits/", 0),
    ("shard", "POST", "/_cas/v2/shards", 0),
    ("commit", "POST", "/commit/", 0),
    ("read back", "GET", "/commits/main", 1),
    ("resolve", "HEAD", "/resolve/", 0),
    ("content", "GET", "/cdn/", 0),
    ("settings", "PUT", "/settings", 0),
    ("look again", "GET", "/api/models/{}", 4),
    ("stranger", "HEAD", "/resolve/", 1),
];

/// What goes wrong once, and whether the same run must get over it.
fn faults() -> Vec<(String, serde_json::Value, bool)> {
    let refusals =
        [400, 401, 403, 404, 409, 412, 413, 422].map(|code| (code.to_string(), json!({"status": code}), false));
    let failures = [408, 500, 502, 503, 504].map(|code| (code.to_string(), json!({"status": code}), true));
    let limited = |header: &str, value: &str| json!({"status": {"code": 429, "headers": {header: value}}});
    let others = [
        ("429 Retry-After", limited("Retry-After", "1")),
        ("429 RateLimit", limited("RateLimit", "\"api\";r=0;t=1")),
        ("drop", json!("drop")),
        ("done, drop", json!("apply_then_drop")),
        ("done, 502", json!({"apply_then_status": 502})),
        ("hang", json!("hang")),
        ("delay", json!({"delay_ms": 200})),
        ("truncate", json!({"truncate": 3})),
        ("slow", json!({"slow": {"bytes": 400, "every_ms": 5}})),
    ];
    let others = others.map(|(name, action)| (name.to_owned(), action, true));
    let lock = ("lock".to_owned(), json!("lock"), false);
    refusals.into_iter().chain([lock]).chain(failures).chain(others).collect()
}

/// Refusals that are no end: what they say is looked at.
fn is_looked_at(phase: &str, fault: &str) -> bool {
    match fault {
        // The same answer as for a repository that is missing; the Hub then says that there is one.
        "404" => phase == "look",
        "409" => ["create", "commit"].contains(&phase),
        "412" => phase == "commit",
        // No content store has that lock, nor has a download.
        "lock" => !["grant", "xorb", "xorb there", "shard", "resolve", "content", "stranger"].contains(&phase),
        _ => false,
    }
}

/// The whole of the Hub's part: plan, upload, read back, make public, look as a stranger.
async fn transaction(bench: &Bench, url: &str, repo: &RepoId) -> Result<(), String> {
    let work = bench.hub.dir.path().join("work");
    let said = |error: HubError| error.to_string();
    let mut client = HubClient::new(url, Some(Token::new("hf_matrix").unwrap()), &work).map_err(said)?;
    client.api = client.api.with_stall(STALL);
    client.api.retry = Retry { base: Duration::from_millis(10), ..Retry::default() };
    let plan = HubClient::plan(&bench.files, &client.remote_state(repo).await.map_err(said)?, None);
    let outcome = client.upload(repo, &plan, &bench.files, &bench.journal, &|_| {}).await.map_err(said)?;
    let expected = Expected { revision: &outcome.revision, local: &bench.files, kept: &[] };
    let found = |verified: Verified| match verified.findings.first() {
        None => Ok(()),
        Some(finding) => Err(format!("{}: {}", finding.code, finding.message)),
    };
    found(client.verify(repo, expected, false).await.map_err(said)?)?;
    client.set_private(repo, false).await.map_err(said)?;
    found(client.verify(repo, expected, true).await.map_err(said)?)
}

/// Puts a fault script into the running Hub.
async fn script(url: &str, faults: &serde_json::Value) {
    let answer = reqwest::Client::new().put(format!("{url}/_localnet/faults")).json(faults).send().await.unwrap();
    assert!(answer.status().is_success(), "{faults}: {}", answer.text().await.unwrap());
}

async fn hub_commits(url: &str, repo: &RepoId) -> usize {
    let answer = reqwest::get(format!("{url}/api/models/{repo}/commits/main")).await.unwrap();
    answer.json::<Vec<serde_json::Value>>().await.unwrap().len()
}

/// One cell: how many runs it takes. The end is one Hub commit beside the first, and contents that a stranger reads.
async fn cell(bench: &Bench, url: &str, name: &str, fault: &serde_json::Value) -> (usize, String) {
    let repo = RepoId::parse(name).unwrap();
    script(url, fault).await;
    let (mut runs, mut said) = (1, String::new());
    while let Err(error) = transaction(bench, url, &repo).await {
        (runs, said) = (runs + 1, error);
        assert!(runs < 4, "{name} {fault}: {said}");
    }
    script(url, &json!([])).await;
    assert_eq!(hub_commits(url, &repo).await, 2, "{name} {fault}: the Hub's first commit and ours");
    let stranger = HubClient::new(url, None, &bench.hub.dir.path().join("work")).unwrap();
    let files = stranger.open(&repo, "main").await.unwrap();
    for file in files.files().iter().filter(|file| file.path != ".gitattributes") {
        let bytes = files.read(file, 0..file.size).await.unwrap();
        assert!(Some(&bytes) == bench.hub.lock().bytes.get(&file.path), "{name} {fault}: {}", file.path);
    }
    (runs, said)
}

/// What a repository shall hold, as a folder below `folders`.
fn lay_out(bench: &Bench, folders: &Path, name: &str) {
    for (path, bytes) in bench.hub.lock().bytes.iter().filter(|(path, _)| *path != ".gitattributes") {
        let path = folders.join(name).join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// The newest huggingface_hub finds in every repository what its folder holds.
fn python_agrees(url: &str, folders: &Path, names: &[String]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join("target/deval/python-newest/bin/python");
    if !python.exists() {
        let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "python"), "Python is required, and not installed");
        return eprintln!("skipped: no Python in target/deval/python-newest");
    }
    let mut command = Command::new(python);
    command.arg(root.join("tests/python/hub_repository.py")).args(["check", url, &names.join(",")]);
    let output = command.arg(folders.join("{}")).env("HF_TOKEN", "hf_matrix").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), names.len());
    eprintln!("huggingface_hub finds all {} repositories right", names.len());
}

/// Runs the cells of one in `share` and tells them as a table; then all that came of them are looked at with Python, if `python`.
async fn matrix(share: usize, python: bool) {
    let mut bench = Bench::new().await;
    let folders = bench.hub.dir.path().join("folders");
    let Some((_localnet, url)): Option<(Localnet, String)> = start(&bench.hub.dir.path().join("net")) else { return };
    let (mut table, mut names) = (format!("{:16}", "runs it takes"), Vec::new());
    PHASES.iter().for_each(|(phase, ..)| write!(table, " {phase:>10}").unwrap());
    for (row, (fault, action, same_run)) in faults().into_iter().enumerate() {
        write!(table, "\n{fault:16}").unwrap();
        for (column, (phase, method, path, skip)) in PHASES.into_iter().enumerate() {
            if (row + column) % share != 0 {
                write!(table, " {:>10}", "").unwrap();
                continue;
            }
            let name = format!("me/m{row}-{column}");
            // Contents that the store does not know yet, or nothing would be sent.
            bench.put("model.safetensors", name.repeat(8000).as_bytes());
            let fault_of_cell = json!([{
                "method": method, "path_contains": path.replace("{}", &name), "skip": skip, "action": action
            }]);
            let (runs, said) = cell(&bench, &url, &name, &fault_of_cell).await;
            let expected = if same_run || is_looked_at(phase, &fault) { 1 } else { 2 };
            assert!(runs <= expected, "{fault} in `{phase}` took {runs} runs: {said}");
            lay_out(&bench, &folders, &name);
            names.push(name);
            write!(table, " {runs:>10}").unwrap();
        }
    }
    eprintln!("{table}");
    if python {
        python_agrees(&url, &folders, &names);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_all_phases_end_well() {
    matrix(11, false).await;
}

/// `cargo test --package deval-hub -- --ignored --nocapture every_fault` prints the whole table.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: over 350 publications; faults_in_all_phases_end_well takes one in eleven"]
async fn every_fault_in_every_phase_ends_well() {
    matrix(1, true).await;
}
