//! The axon as a miner runs it: asked, reloaded, cut off from the chain, restarted, stopped, supervised.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use deval_axon::ModelQueryReply;
use deval_chain::{Client, KeyPair, Wallet};
use deval_report::Network;
use serde_json::Value;

use crate::{
    harness::{Project, repository, skip},
    way::{Localnet, registered},
};

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A submission whose hash is committed on the local chain.
pub(crate) fn committed() -> Project {
    let project = registered();
    for step in ["publish", "commit"] {
        let ran = project.run(&[step, "--execute"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    project
}

/// Puts keys into the manifest's [axon] table.
pub(crate) fn set_axon(project: &Project, keys: &str) {
    let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
    let (before, _) = text.split_once("[axon]").expect("it has an axon");
    project.manifest_text(&format!("{before}[axon]\nip = \"127.0.0.1\"\n{keys}"));
}

/// A serving axon, and what it says.
pub(crate) struct Serving {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    pub(crate) hotkey: String,
}

impl Serving {
    pub(crate) fn start(project: &Project, flags: &[&str]) -> Self {
        let mut command = project.command(&[&["serve", "--execute"], flags].concat());
        command.env("EXAMPLE_API_KEY", "a-very-secret-value").stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, heard) = (BufReader::new(child.stderr.take().expect("piped")), lines.clone());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                heard.lock().expect("no panic").push(line);
            }
        });
        let wallet = Wallet::open(&project.path("wallets"), "demo", "default", |_| None).expect("it was made");
        let serving = Self { child, lines, hotkey: wallet.hotkey_ss58() };
        serving.hear("serving demo/tiny");
        serving
    }

    /// Waits for a line with this text.
    pub(crate) fn hear(&self, text: &str) -> String {
        let started = Instant::now();
        loop {
            let lines = self.lines.lock().expect("no panic");
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(started.elapsed() < PATIENCE, "`{text}` was not said:\n{}", lines.join("\n"));
            drop(lines);
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn forget_what_was_said(&self) {
        self.lines.lock().expect("no panic").clear();
    }

    /// Whether a line with this text was said.
    pub(crate) fn said(&self, text: &str) -> bool {
        self.lines.lock().expect("no panic").iter().any(|line| line.contains(text))
    }

    /// Resident memory of the server.
    pub(crate) fn resident_kilobytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse().expect("kilobytes")
    }

    pub(crate) fn ask(&self, port: u16, uri: &str) -> ModelQueryReply {
        self.try_ask(port, uri).expect("it answers")
    }

    fn try_ask(&self, port: u16, uri: &str) -> Option<ModelQueryReply> {
        let key = KeyPair::from_uri(uri).expect("a key");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let asked = deval_axon::query(([127, 0, 0, 1], port).into(), &self.hotkey, &key, Duration::from_secs(5));
        runtime.block_on(asked).ok()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Stops it in order.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Where a test failed it still runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of a GET.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

#[test]
fn the_axon_is_reloaded_without_dropping_a_request() {
    let project = committed();
    let [port, monitor, new_port, new_monitor] = [(); 4].map(|()| free_port());
    let keys = |port: u16, monitor: u16, ip: &str| {
        format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"{ip}\"\n")
    };
    set_axon(&project, &keys(port, monitor, "192.0.2.1"));
    let serving = Serving::start(&project, &["--log", "json"]);
    assert_eq!(serving.ask(port, "//Bob//vali").model_id, "tiny");
    let (status, health) = get(([127, 0, 0, 1], monitor).into(), "/health");
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!((status, &health["serving"], &health["reasons"]), (200, &true.into(), &serde_json::json!([])));

    // Somebody asks all the time; another external address and SIGHUP change nothing for them.
    let (over, failed) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                let reply = serving.try_ask(port, "//Bob//vali");
                if reply.as_ref().is_none_or(|reply| reply.status_code != 200) {
                    failed.lock().expect("no panic").push(format!("{reply:?}"));
                }
            }
        });
        serving.signal("HUP");
        serving.hear("nothing changed");
        set_axon(&project, &keys(port, monitor, "192.0.2.2"));
        serving.hear("reloaded: serving");
        serving.hear("192.0.2.2");
        fs::write(project.path("deval.toml"), "schema = ").expect("writable");
        serving.hear("not reloaded");
        over.store(true, Relaxed);
    });
    assert_eq!(*failed.lock().expect("no panic"), Vec::<String>::new());

    // The listener itself moves; the manifest is whole again.
    serving.forget_what_was_said();
    project.manifest("[axon]\n");
    set_axon(&project, &keys(new_port, new_monitor, "192.0.2.2"));
    serving.hear("reloaded: serving");
    assert_eq!(serving.ask(new_port, "//Bob//vali").status_code, 200);
    assert_eq!(get(([127, 0, 0, 1], new_monitor).into(), "/health").0, 200);
    let started = Instant::now();
    while serving.try_ask(port, "//Bob//vali").is_some() {
        assert!(started.elapsed() < PATIENCE, "the old port is closed");
    }
    // Another model than the committed one is refused, and the old answer stands.
    let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
    project.manifest_text(&text.replace("demo/tiny", "demo/other"));
    assert!(serving.hear("another model").contains("demo/tiny"));
    assert_eq!(serving.ask(new_port, "//Bob//vali").model_id, "tiny");
    serving.stop();
}

/// A committed submission and the ports of its axon, of the axon's monitor, and of the chain that it is to use.
fn with_a_chain_of_its_own() -> (Project, [u16; 3]) {
    let project = committed();
    let ports @ [port, monitor, chain_port] = [(); 3].map(|()| free_port());
    let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
    let chain = format!("[chain]\nendpoint = \"ws://127.0.0.1:{chain_port}\"\n\n[axon]");
    project.manifest_text(&text.replace("[axon]", &chain));
    set_axon(&project, &format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"192.0.2.1\"\n"));
    (project, ports)
}

#[test]
fn an_axon_outlives_its_chain_and_starts_without_it() {
    let (project, [port, monitor, chain_port]) = with_a_chain_of_its_own();
    let monitor = SocketAddr::from(([127, 0, 0, 1], monitor));
    let reasons = || serde_json::from_str::<Value>(&get(monitor, "/health").1).expect("JSON")["reasons"].to_string();

    let alone = project.run(&["serve", "--execute"]);
    assert_eq!(alone.code, 2, "nobody is known yet: {}", alone.stderr);
    let localnet = Localnet::start_on(&project, chain_port);
    let serving = Serving::start(&project, &[]);
    drop(localnet);
    serving.hear("stay known");
    assert_eq!(reasons(), "[\"chain.away\"]");
    assert_eq!(serving.ask(port, "//Bob//vali").status_code, 200);
    serving.stop();

    // A restart in the outage: the last known hotkeys are kept on disk.
    let serving = Serving::start(&project, &[]);
    assert_eq!(serving.ask(port, "//Bob//vali").status_code, 200);
    assert_eq!(serving.ask(port, "//Charlie//late").status_code, 403);
    assert!(get(monitor, "/metrics").1.contains("deval_axon_chain_answers 0\n"));

    // The chain comes back, and with it a new validator.
    let localnet = Localnet::start_on(&project, chain_port);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(register(&localnet.chain, "//Charlie//late"));
    let started = Instant::now();
    while serving.ask(port, "//Charlie//late").status_code != 200 {
        assert!(started.elapsed() < PATIENCE, "the new validator is never known");
        thread::sleep(Duration::from_millis(100));
    }
    // It is announced anew, which takes a block.
    while reasons() != "[]" {
        assert!(started.elapsed() < PATIENCE, "still {}", reasons());
        thread::sleep(Duration::from_millis(100));
    }
    serving.stop();
}

/// An outage of ten minutes takes `DEVAL_TEST_OUTAGE_SECONDS=600`.
#[test]
fn an_outage_of_the_chain_is_noticed_by_no_validator() {
    let seconds = std::env::var("DEVAL_TEST_OUTAGE_SECONDS").map_or(4, |text| text.parse().expect("seconds"));
    let (project, [port, _, chain_port]) = with_a_chain_of_its_own();
    let localnet = Localnet::start_on(&project, chain_port);
    let serving = Serving::start(&project, &["--log", "json"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let announced = |endpoint: &str| {
        let reading = async { Client::connect(endpoint, Network::Local).await?.axon(202, &serving.hotkey).await };
        runtime.block_on(reading).expect("the chain answers").expect("it was announced")
    };
    let (before, started) = (announced(&localnet.chain), Instant::now());
    let (over, asked, failed) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                let reply = serving.try_ask(port, "//Bob//vali");
                asked.fetch_add(1, Relaxed);
                if reply.as_ref().is_none_or(|reply| reply.status_code != 200) {
                    failed.lock().expect("no panic").push(format!("{reply:?}"));
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        let _stop = SetOnDrop(&over);
        localnet.kill();
        serving.hear("stay known");
        serving.forget_what_was_said();
        thread::sleep(Duration::from_secs(seconds));
        let localnet = Localnet::start_on(&project, chain_port);
        runtime.block_on(register(&localnet.chain, "//Charlie//late"));
        let back = Instant::now();
        while serving.ask(port, "//Charlie//late").status_code != 200 {
            assert!(back.elapsed() < PATIENCE, "the new validator is never known");
            thread::sleep(Duration::from_millis(100));
        }
        serving.hear("the chain answers");
        assert_eq!(announced(&localnet.chain), before, "it is not announced again");
    });
    assert_eq!(*failed.lock().expect("no panic"), Vec::<String>::new());
    assert!(asked.load(Relaxed) > started.elapsed().as_secs(), "it was asked all the time");
    say(&format!("{} questions in {:.0} s, all answered", asked.load(Relaxed), started.elapsed().as_secs_f64()));
    serving.stop();
}

/// Ends the asking even where a test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[expect(clippy::print_stderr, reason = "what a long test measured")]
fn say(text: &str) {
    eprintln!("{text}");
}

async fn register(endpoint: &str, uri: &str) {
    let chain = Client::connect(endpoint, Network::Local).await.expect("it listens");
    let alice = KeyPair::from_uri("//Alice").expect("a development key");
    let hotkey = KeyPair::from_uri(uri).expect("a key").ss58();
    chain.burned_register(202, &alice, &hotkey).await.expect("Alice is rich");
}

#[test]
fn the_log_is_json_without_secrets_and_the_receipt_is_there_while_it_serves() {
    let project = committed();
    let [port, monitor] = [(); 2].map(|()| free_port());
    set_axon(&project, &format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"192.0.2.1\"\n"));
    fs::write(project.path(".env"), "HUGGINGFACE_TOKEN=another-secret-value\n").expect("writable");
    let serving = Serving::start(&project, &["--log", "json"]);
    // It asks itself once it listens, and then stores what it saw.
    let stored = project.path("target/deval/serve.json");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !stored.exists() {
        assert!(Instant::now() < deadline, "no receipt was stored");
        thread::sleep(Duration::from_millis(50));
    }
    let receipt: Value = serde_json::from_slice(&fs::read(&stored).expect("stored")).expect("JSON");
    let gates: Vec<_> = receipt["result"]["gates"].as_array().expect("gates").iter().collect();
    assert!(gates.len() == 3 && gates.iter().all(|gate| gate["status"] == "pass"), "{gates:#?}");
    // A manifest that quotes secrets where it must not: the complaint quotes it too.
    let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
    project.manifest_text(&text.replace("demo/tiny", "another-secret-value/a-very-secret-value"));
    let complaint = serving.hear("not reloaded");
    assert!(complaint.contains("***") && !complaint.contains("secret-value"), "{complaint}");
    let lines = serving.lines.lock().expect("no panic").clone();
    let json: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(json.len() >= 2, "{lines:#?}");
    assert!(json.iter().all(|event| event["timestamp"].is_string() && event["level"].is_string()));
    assert!(json.iter().any(|event| event["message"].as_str().is_some_and(|m| m.starts_with("serving demo/tiny"))));
    serving.stop();
}

#[test]
fn an_external_address_comes_from_the_flag_the_manifest_or_the_interface() {
    let project = committed();
    let announce = |flags: &[&str]| {
        let report = project.json(&[&["serve"], flags].concat());
        report["result"]["announce"].as_str().map(str::to_owned).ok_or_else(|| report["diagnostics"][0].clone())
    };
    assert_eq!(announce(&[]).as_deref(), Ok("192.0.2.1:8091"));
    assert_eq!(announce(&["--external-ip", "192.0.2.7"]).as_deref(), Ok("192.0.2.7:8091"));
    let error = announce(&["--external-interface", "nosuchif0"]).expect_err("there is none");
    assert!(error["message"].as_str().is_some_and(|message| message.contains("nosuchif0")), "{error}");
    let asked = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/ip", asked.local_addr().expect("bound"));
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = asked.accept().expect("it is asked");
            let _ = stream.read(&mut [0; 4096]);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\n192.0.2.9\n")
                .expect("sent");
        });
        assert_eq!(announce(&["--ask-external-ip", &url]).as_deref(), Ok("192.0.2.9:8091"));
    });
    let both = project.run(&["serve", "--external-ip", "192.0.2.7", "--external-interface", "eth0"]);
    assert_eq!(both.code, 2, "{}", both.stderr);
}

#[test]
fn an_unregistered_hotkey_is_told_and_does_not_serve() {
    let project = committed();
    let [port, monitor] = [(); 2].map(|()| free_port());
    set_axon(&project, &format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"192.0.2.1\"\n"));
    // Another chain, on which nobody is registered.
    fs::remove_dir_all(project.path("target/deval/localnet/chain")).expect("the chain's state");
    let ran = project.run(&["serve", "--execute"]);
    assert!(ran.code == 1 && ran.stderr.contains("not registered"), "{}", ran.stderr);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn supervisors_get_files_that_they_accept() {
    let project = Project::new();
    project.manifest("[chain]\nendpoint = \"wss://chain.example\"\n[axon]\nport = 9001\n");
    let printed = |keeper: &str| {
        let ran = project.run(&["serve", "--print", keeper]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stdout
            .replace("[project]", project.path("").to_str().expect("UTF-8").trim_end_matches('/'))
            .replace("[repository]", repository().to_str().expect("UTF-8"))
    };
    let unit = printed("systemd");
    assert!(unit.contains("serve\" \"--execute\"") && unit.contains("ExecReload=/bin/kill -HUP $MAINPID"), "{unit}");
    accepted(&project, "deval-axon.service", &unit, ["systemd-analyze --version", "systemd-analyze verify FILE"]);
    let ecosystem = printed("pm2");
    assert!(ecosystem.contains("\"stop_exit_codes\""), "{ecosystem}");
    accepted(&project, "ecosystem.config.js", &ecosystem, ["node --version", "node --check FILE"]);
    let compose = printed("container");
    assert!(compose.contains("\"9001:9001\"") && compose.contains("/dev/tcp/127.0.0.1/9002"), "{compose}");
    accepted(
        &project,
        "compose.yaml",
        &compose,
        ["docker compose version", "docker compose --file FILE config --quiet"],
    );
}

/// Lets the supervisor's own program check the file, where this machine has it: `probe` tells, `check` gets the file as its last word.
#[expect(clippy::print_stderr, reason = "a check that is left out says so")]
fn accepted(project: &Project, name: &str, text: &str, [probe, check]: [&str; 2]) {
    let file = project.path(name);
    fs::write(&file, text).expect("writable");
    let run = |line: String| Command::new("sh").args(["-c", &line]).output().expect("a shell");
    if !run(probe.to_owned()).status.success() {
        eprintln!("left out: `{probe}` does not work here, so {name} is not checked");
        return;
    }
    let output = run(check.replace("FILE", &format!("'{}'", file.display())));
    assert!(output.status.success(), "{name}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
}

/// The environment that `ci/python-env.sh target/deval/python-bittensor bittensor` makes.
#[test]
fn the_validators_own_dendrite_reads_both_fields() {
    let python = repository().join("target/deval/python-bittensor/bin/python");
    if !python.exists() {
        skip("bittensor", "make it with `ci/python-env.sh target/deval/python-bittensor bittensor`");
        return;
    }
    let project = committed();
    let [port, monitor] = [(); 2].map(|()| free_port());
    set_axon(&project, &format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"192.0.2.1\"\n"));
    let serving = Serving::start(&project, &[]);
    let ask = |uri: &str| -> Value {
        let output = Command::new(&python)
            .arg(repository().join("tests/python/dendrite.py"))
            .args([&format!("127.0.0.1:{port}"), &serving.hotkey, uri])
            .output()
            .expect("Python runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
    };
    let told = ask("//Bob//vali");
    let success = serde_json::json!([200, "Success"]);
    assert_eq!(
        (&told["bittensor"], &told["repo_id"], &told["model_id"]),
        (&"9.0.1".into(), &"demo".into(), &"tiny".into())
    );
    assert_eq!((&told["dendrite"], &told["axon"]), (&success, &success), "{told:#}");
    let refused = ask("//Stranger");
    assert_eq!((&refused["repo_id"], &refused["dendrite"][0]), (&"".into(), &403.into()), "{refused:#}");
    serving.stop();
}
