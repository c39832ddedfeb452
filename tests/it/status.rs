//! How the submission stands: registered, committed, served, copied, cut off; and what a webhook is told of it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use deval_chain::Wallet;
use serde_json::{Value, json};

use crate::{
    bad_input::evaluation,
    harness::Project,
    serving::{Serving, committed, free_port, set_axon},
    way::{Localnet, registered},
};

/// Long after every Hub commit that a test makes.
const LATER: &str = "2999-01-01T00:00:00Z";

/// Exit code and report.
fn status(project: &Project, flags: &[&str]) -> (i32, Value) {
    let ran = project.run(&[&["status", "--format", "json", "--round-start", LATER], flags].concat());
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr));
    (ran.code, report)
}

/// Exit code and the reasons that are to be acted on.
fn reasons(project: &Project) -> (i32, Vec<String>) {
    let (code, report) = status(project, &[]);
    let reasons = report["result"]["reasons"].as_array().expect("reasons").iter();
    (code, reasons.map(|reason| reason.as_str().expect("a code").to_owned()).collect())
}

fn is(code: i32, reasons: &[&str]) -> (i32, Vec<String>) {
    (code, reasons.iter().map(ToString::to_string).collect())
}

/// Lets the manifest name a local Hub and chain that the test has in its hands.
fn on(project: &Project, localnet: &Localnet) {
    let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
    let (before, after) = text.split_once("[axon]").expect("it has an axon");
    let before = before.split("[hub]").next().unwrap_or_default();
    let (hub, chain) = (&localnet.hub, &localnet.chain);
    let endpoints = format!("[hub]\nendpoint = \"{hub}\"\n\n[chain]\nendpoint = \"{chain}\"\n");
    project.manifest_text(&format!("{before}{endpoints}\n[axon]{after}"));
}

/// Calls a method of the stand-in that no real chain has, and lets it become final.
fn dev(localnet: &Localnet, method: &str, params: &Value) {
    localnet.dev(method, params);
    localnet.dev("dev_produceBlocks", &json!([2]));
}

fn wallet(project: &Project) -> Wallet {
    Wallet::open(&project.path("wallets"), "demo", "default", |_| None).expect("it was made")
}

/// A submission that is committed, and announced at an address of this machine; its port.
fn announced(localnet: &Localnet, project: &Project) -> u16 {
    let [port, monitor] = [(); 2].map(|()| free_port());
    set_axon(project, &format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"127.0.0.1\"\n"));
    // No real chain takes a loopback address, but validators in this test are nowhere else.
    let axon = json!({ "ip": "127.0.0.1", "port": port });
    dev(localnet, "dev_setMiners", &json!([202, [{ "hotkey": wallet(project).hotkey_ss58(), "axon": axon }]]));
    port
}

#[test]
fn a_submission_is_followed_from_nothing_to_a_commitment() {
    let project = Project::new();
    project.manifest(&format!("{}[axon]\nexternal_ip = \"192.0.2.1\"\n", evaluation()));
    assert_eq!(reasons(&project), is(1, &["hotkey.unregistered", "local.unknown", "hub.missing"]));
    let human = project.run(&["status"]);
    assert!(human.code == 1 && human.stdout.contains("to be acted on: hotkey.unregistered"), "{}", human.stdout);
    assert!(human.stdout.lines().count() < 20, "{}", human.stdout);

    let project = registered();
    let none = ["commitment.missing", "local.unknown", "hub.missing", "axon.unannounced"];
    assert_eq!(reasons(&project), is(1, &none));
    assert_eq!(project.run(&["publish", "--execute"]).code, 0);
    assert_eq!(reasons(&project), is(1, &["commitment.missing", "hub.private", "axon.unannounced"]));
}

#[test]
fn every_way_to_stand_ill_has_its_reason() {
    let project = committed();
    let localnet = Localnet::start(&project);
    on(&project, &localnet);
    announced(&localnet, &project);
    let serving = Serving::start(&project, &[]);
    let (code, report) = status(&project, &[]);
    assert_eq!((code, &report["result"]["reasons"]), (0, &json!([])), "{report:#}");
    let result = &report["result"];
    assert_eq!((&result["verdict"], &result["registration"]["rank"]), (&json!("good"), &json!(1)));
    let pairs = ["local_hub", "local_chain", "hub_chain"].map(|pair| result["models"][pair]["state"].clone());
    assert!(pairs.iter().all(|state| state == "equal"), "{result:#}");
    let probe = &result["axon"]["probe"];
    assert_eq!((&probe["own_address"], &probe["outcome"]["told"]["model_url"]), (&json!(true), &json!("demo/tiny")));

    // A copy that was there before: a commitment of the same hash at an earlier block.
    let hash = result["models"]["chain"]["model_hash"].as_str().expect("a hash").to_owned();
    let commit = |hash: &str, block: u32| json!({ "text": format!("{{\"model_url\":\"demo/tiny\",\"model_hash\":\"{hash}\"}}"), "block": block });
    let miner = |hotkey: &str, commitment: Value| {
        dev(&localnet, "dev_setMiners", &json!([202, [{ "hotkey": hotkey, "commitment": commitment }]]));
    };
    miner("//Eve//miner", commit(&hash, 1));
    assert_eq!(reasons(&project), is(1, &["duplicate.wins"]));
    miner("//Eve//miner", commit(&"0".repeat(64), 1));
    assert_eq!(reasons(&project), is(0, &[]));

    // The chain holds another hash, then ours again.
    let ours = wallet(&project).hotkey_ss58();
    miner(&ours, commit(&"1".repeat(64), 9));
    assert_eq!(reasons(&project), is(1, &["local-chain.differs", "hub-chain.differs"]));
    miner(&ours, commit(&hash, 9));

    // The window is over for all but the best twenty, and this chain has fewer; then there are many better ones.
    dev(&localnet, "dev_skipToBlock", &json!([500_000]));
    assert_eq!(reasons(&project), is(0, &[]));
    let better = (0..30).map(|number| json!({ "hotkey": format!("//Better//{number}"), "incentive": 9 }));
    dev(&localnet, "dev_setMiners", &json!([202, better.collect::<Vec<_>>()]));
    assert_eq!(reasons(&project), is(1, &["window.closed"]));
    dev(&localnet, "dev_setMiners", &json!([202, [{ "hotkey": ours, "incentive": 10 }]]));

    // The Hub gets something newer, and then is ahead of what is here.
    fs::write(project.path("model/NOTES.md"), "trained longer").expect("writable");
    assert_eq!(reasons(&project), is(1, &["local.changed"]));
    assert_eq!(project.run(&["publish", "--execute"]).code, 0);
    assert_eq!(project.run(&["commit", "--execute"]).code, 0);
    let early = project.run(&["status", "--round-start", "2020-01-01T00:00:00Z"]);
    assert!(early.code == 1 && early.stdout.contains("hub.commit-in-round"), "{}", early.stdout);
    fs::remove_file(project.path("model/NOTES.md")).expect("it is there");
    assert_eq!(project.run(&["hash"]).code, 0);
    assert_eq!(reasons(&project), is(1, &["local-hub.differs"]));

    serving.stop();
    assert_eq!(reasons(&project), is(1, &["local-hub.differs", "axon.unreachable"]));
    let (hub, chain) = (localnet.hub.clone(), localnet.chain.clone());
    let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
    project.manifest_text(&text.replace(&chain, &format!("ws://127.0.0.1:{}", free_port())));
    assert_eq!(reasons(&project), is(2, &["chain.away", "local-hub.differs"]));
    project.manifest_text(&text.replace(&hub, &format!("http://127.0.0.1:{}", free_port())));
    assert_eq!(reasons(&project), is(2, &["hub.away", "axon.unreachable"]));
}

/// A webhook that takes nothing at first; what it was sent, with the status it gave.
fn webhook() -> (u16, Receiver<(u16, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let (mut reader, status) = (BufReader::new(stream), if number == 0 { 503 } else { 204 });
            let mut length = 0;
            for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
                let line = line.to_ascii_lowercase();
                length = line.strip_prefix("content-length: ").map_or(length, |text| text.parse().expect("a number"));
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the whole body");
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).expect("it reads");
            if sender.send((status, serde_json::from_slice(&body).expect("JSON"))).is_err() {
                return;
            }
        }
    });
    (port, receiver)
}

/// A running watch; killed where a test fails.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_webhook_is_told_once_of_each_change() {
    let project = committed();
    let localnet = Localnet::start(&project);
    on(&project, &localnet);
    announced(&localnet, &project);
    let serving = Serving::start(&project, &[]);
    let (port, told) = webhook();
    let url = format!("http://127.0.0.1:{port}/a-secret-path");
    let mut watch = project.command(&["status", "--watch", "--every", "1", "--round-start", LATER, "--webhook", &url]);
    let mut watch = Watching(watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"));
    let mut lines = BufReader::new(watch.0.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("Status"));
    let quiet = |seconds: u64| assert!(told.recv_timeout(Duration::from_secs(seconds)).is_err(), "nothing changed");
    quiet(3);

    serving.stop();
    // A look that an outage interrupts waits a minute for the chain to come back.
    let patience = Duration::from_secs(150);
    let (refused, first) = told.recv_timeout(patience).expect("a change");
    let (taken, again) = told.recv_timeout(patience).expect("the same again");
    assert_eq!((refused, taken, &first), (503, 204, &again), "it is repeated until it is taken");
    assert_eq!((&again["appeared"], &again["verdict"]), (&json!(["axon.unreachable"]), &json!("act")));
    quiet(3);

    // An outage of both is survived, and told once; so is its end.
    let chain_port = localnet.chain.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    drop(localnet);
    let mut changes = std::iter::from_fn(|| told.recv_timeout(patience).ok()).map(|(_, change)| change);
    // A look may fall between the end of the one and of the other.
    let away = changes.find(|change| change["reasons"] == json!(["chain.away", "hub.away"])).expect("an outage");
    assert_eq!((&away["verdict"], &away["gone"]), (&json!("unseen"), &json!([])));
    let localnet = Localnet::start_on(&project, chain_port);
    on(&project, &localnet);
    let back = changes.find(|change| change["verdict"] == "act").expect("it comes back");
    assert_eq!((&back["reasons"], &back["appeared"]), (&json!(["axon.unreachable"]), &json!([])));

    let serving = Serving::start(&project, &[]);
    let (_, good) = told.recv_timeout(patience).expect("a change");
    assert_eq!((&good["gone"], &good["verdict"]), (&json!(["axon.unreachable"]), &json!("good")));
    quiet(3);
    let id = watch.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
    assert!(watch.0.wait().expect("it ends").success());
    let mut said = lines.collect::<Vec<_>>().join("\n");
    watch.0.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    assert!(said.contains("gone: axon.unreachable") && !said.contains("a-secret-path"), "{said}");
    serving.stop();
}
