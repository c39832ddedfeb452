//! The whole way on a tiny model, against the local Hub and the local chain.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use deval_chain::{Client, KeyPair, Wallet};
use deval_report::Network;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    bad_input::evaluation,
    harness::{Project, program},
};

/// The local Hub and chain of a project, for what a test does beside the steps.
pub(crate) struct Localnet {
    child: Child,
    pub(crate) hub: String,
    pub(crate) chain: String,
}

impl Localnet {
    pub(crate) fn start(project: &Project) -> Self {
        Self::start_on(project, 0)
    }

    /// With the chain on this port.
    pub(crate) fn start_on(project: &Project, chain_port: u16) -> Self {
        Self::start_in(&project.path("target/deval/localnet"), &["--chain-port", &chain_port.to_string()])
    }

    /// With these flags of deval-localnet.
    pub(crate) fn start_with(project: &Project, flags: &[&str]) -> Self {
        Self::start_in(&project.path("target/deval/localnet"), flags)
    }

    /// With its state in a folder.
    pub(crate) fn start_in(state: &Path, flags: &[&str]) -> Self {
        let mut child = Command::new(program("deval-localnet"))
            .arg("--state-dir")
            .arg(state)
            .arg("--exit-with-stdin")
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says where it listens");
        let ready: Value = serde_json::from_str(&line).expect("one line of JSON");
        let text = |name: &str| ready[name].as_str().expect("an address").to_owned();
        Self { hub: text("hub"), chain: text("chain"), child }
    }

    /// Calls a method of the stand-in that no real chain has.
    pub(crate) fn dev(&self, method: &str, params: &Value) -> Value {
        let address = self.chain.strip_prefix("ws://").expect("a plain socket");
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let mut stream = TcpStream::connect(address).expect("it listens");
        let head = format!("POST / HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n");
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let mut answer: Value = serde_json::from_str(body).expect("JSON");
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].take()
    }

    /// As a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
    }
}

impl Drop for Localnet {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("it ends with its standard input");
    }
}

/// A project whose hotkey, and a validator's, are registered on the local chain.
pub(crate) fn registered() -> Project {
    let project = Project::new();
    project.manifest(&format!("{}[axon]\nexternal_ip = \"192.0.2.1\"\n", evaluation()));
    fs::create_dir_all(project.path("target/deval/localnet")).expect("writable");
    let localnet = Localnet::start(&project);
    let wallet = Wallet::open(&project.path("wallets"), "demo", "default", |_| None).expect("it was made");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let chain = Client::connect(&localnet.chain, Network::Local).await.expect("it listens");
        let alice = KeyPair::from_uri("//Alice").expect("a development key");
        let (coldkey, validator) =
            (wallet.coldkey(|_| None).expect("it was made"), KeyPair::from_uri("//Bob//vali").expect("a key"));
        chain.fund_from_alice(wallet.coldkey_ss58(), 10_000_000_000).await.expect("Alice is rich");
        for (owner, hotkey) in [(&coldkey, wallet.hotkey_ss58()), (&alice, validator.ss58())] {
            chain.burned_register(202, owner, &hotkey).await.expect("they can pay");
        }
    });
    project
}

fn result(project: &Project, arguments: &[&str]) -> Value {
    let report = project.json(arguments);
    assert_eq!(report["diagnostics"], json!([]), "{arguments:?}: {report:#}");
    report["result"].clone()
}

/// Hub commits that were made, from the Hub's own journal.
fn hub_commits(project: &Project) -> usize {
    let journal =
        fs::read_to_string(project.path("target/deval/localnet/hub/journal.jsonl")).expect("the Hub writes it");
    let entries = journal.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    entries
        .filter(|e| {
            e["method"] == "POST" && e["path"].as_str().is_some_and(|p| p.contains("/commit/")) && e["status"] == 200
        })
        .count()
}

#[test]
fn every_step_once_and_then_nothing_left_to_do() {
    let project = registered();
    let validated = project.json(&["validate"]);
    assert!(validated["result"]["gates"].as_array().expect("gates").len() > 10, "{validated:#}");
    let hash = result(&project, &["hash"]);
    let bytes = fs::read(project.path("model/model.safetensors")).expect("it is there");
    assert_eq!(hash["model_hash"], hex::encode(Sha256::digest(&bytes)));

    let plan = result(&project, &["publish"]);
    assert_eq!((&plan["executed"], &plan["revision"]), (&json!(false), &Value::Null));
    let published = result(&project, &["publish", "--execute"]);
    assert_eq!(published["new_hub_commit"], true);
    let plan = result(&project, &["commit"]);
    assert_eq!((&plan["executed"], &plan["block"]), (&json!(false), &Value::Null));
    let committed = result(&project, &["commit", "--execute"]);
    assert_eq!((&committed["public"], &committed["model_hash"]), (&json!(true), &hash["model_hash"]));
    assert_eq!(
        committed["payload"],
        format!("{{\"model_url\": \"demo/tiny\", \"model_hash\": {}}}", hash["model_hash"]),
        "what upstream's json.dumps writes"
    );

    let commits = hub_commits(&project);
    let again = result(&project, &["publish", "--execute"]);
    assert_eq!((&again["new_hub_commit"], &again["revision"]), (&json!(false), &published["revision"]));
    let again = result(&project, &["commit", "--execute"]);
    assert_eq!((&again["extrinsic"], &again["block"]), (&Value::Null, &committed["block"]));
    assert_eq!(hub_commits(&project), commits);
    let ran = project.run(&["evaluate"]);
    assert!(
        ["validate", "package", "hash", "evaluate"].iter().all(|step| ran.stderr.contains(&format!("{step:9} fresh"))),
        "{}",
        ran.stderr
    );
}

#[test]
fn reports_are_envelopes_and_equal_inputs_give_equal_results() {
    let project = Project::new();
    project.manifest(&evaluation());
    let first = project.json(&["evaluate"]);
    let keys: Vec<_> = first.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["schema", "step", "fingerprint", "inputs", "diagnostics", "result", "run"]);
    let mut second = project.json(&["evaluate", "--rerun"]);
    second["run"] = first["run"].clone();
    assert_eq!(first, second);
}

#[test]
fn a_changed_file_runs_what_depends_on_it_and_says_so() {
    let project = Project::new();
    project.manifest(&evaluation());
    assert_eq!(project.run(&["hash"]).code, 0);
    fs::write(project.path("model/NOTES.md"), "trained longer").expect("writable");
    let plan = project.run(&["plan"]);
    assert!(plan.stdout.contains("`NOTES.md` changed"), "{}", plan.stdout);
    let ran = project.run(&["hash"]);
    assert!(ran.stderr.contains("validate  runs: `NOTES.md` changed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("package   runs: `validate` has a new result"), "{}", ran.stderr);
}

#[test]
fn publish_killed_at_any_time_completes_with_one_hub_commit() {
    let project = registered();
    assert_eq!(project.run(&["evaluate"]).code, 0);
    for milliseconds in [30, 60, 100, 150, 200, 260, 330, 420] {
        let mut child = project
            .command(&["publish", "--execute"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        thread::sleep(Duration::from_millis(milliseconds));
        child.kill().expect("SIGKILL");
        child.wait().expect("it is gone");
    }
    let published = result(&project, &["publish", "--execute"]);
    assert!(published["revision"].is_string());
    assert_eq!(hub_commits(&project), 1);
}

#[test]
fn a_localnet_on_fixed_ports_is_used_by_the_steps_until_it_ends() {
    let project = Project::new();
    project.manifest(&evaluation());
    let mut localnet = project.command(&["localnet"]).stdout(Stdio::piped()).spawn().expect("starts");
    let mut said = BufReader::new(localnet.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let hub = said.next().expect("it says where it listens").replace("hub    http://", "");
    let published = result(&project, &["publish", "--execute"]);
    assert_eq!(published["new_hub_commit"], true);
    let again = result(&project, &["publish"]);
    assert_eq!(again["unchanged"], published["add"].as_array().expect("files").len());
    assert!(std::net::TcpStream::connect(&hub).is_ok(), "it still listens on {hub}");
    localnet.kill().expect("SIGKILL");
    localnet.wait().expect("it is gone");
    assert_eq!(result(&project, &["publish"])["unchanged"], again["unchanged"], "a dead localnet is not waited for");
}

#[test]
fn a_step_that_cannot_run_still_prints_an_envelope() {
    let project = Project::new();
    let report = project.json(&["commit", "--execute"]);
    assert_eq!((&report["step"], &report["result"]), (&json!("commit"), &Value::Null));
    assert_eq!(report["diagnostics"][0]["code"], "step.need");
}

#[test]
fn commit_before_publish_is_a_finding_with_the_way_out() {
    let project = Project::new();
    let ran = project.run(&["commit", "--execute"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("`publish` was not done yet") && ran.stderr.contains("cargo xtask publish"),
        "{}",
        ran.stderr
    );
}

#[test]
fn tokens_from_dotenv_are_used_and_never_shown_or_packaged() {
    let project = Project::new();
    fs::write(project.path(".env"), "HUGGINGFACE_TOKEN=hf_secretsecretsecret\n").expect("writable");
    fs::write(project.path("model/.env"), "HUGGINGFACE_TOKEN=hf_secretsecretsecret\n").expect("writable");
    project.manifest(&evaluation());
    let ran = project.run(&["publish", "--execute", "--format", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.stdout.contains("hf_secret") && !ran.stderr.contains("hf_secret"));
    assert!(!project.path("target/deval/package/.env").exists());
    let deval = fs::read_dir(project.path("target/deval")).expect("a folder");
    for entry in deval.map_while(Result::ok).filter(|entry| entry.path().is_file()) {
        let text = fs::read(entry.path()).expect("readable");
        assert!(!String::from_utf8_lossy(&text).contains("hf_secret"), "{}", entry.path().display());
    }
}
