//! What is asked at a terminal: the password of an encrypted key, and the word that confirms what is real. The programs run on a real
//! pseudo-terminal.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use deval_chain::{Client, KeyPair, Wallet};
use deval_report::Network;
use nix::{
    pty::openpty,
    sys::termios::{LocalFlags, tcgetattr},
};
use serde_json::Value;

use crate::{
    bad_input::evaluation,
    harness::{Project, repository},
    serving::{free_port, set_axon},
    way::Localnet,
};

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What opens the encrypted keyfiles of the fixtures, and the address of the key in them.
const PASSWORD: &str = "correct horse";
const SEALED: &str = "5DfhGyQdFobKM8NsWvEeAKk5EQQgYe9AydgJ7rMB6E1EqRzV";

/// The genesis of finney, which no chain of this machine has.
const FINNEY: &str = "0x2f0555cc76fc2840a25a6ea3b9637146806f1f44b090c175ffde2a7e5ab36c03";

/// A program at a pseudo-terminal of its own, and everything that is seen there.
struct Terminal {
    child: Child,
    keyboard: File,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let pty = openpty(None, None).expect("a pseudo-terminal");
        let end = || pty.slave.try_clone().expect("a descriptor");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it starts");
        // Only what the program holds keeps the terminal open from now on.
        drop((command, pty.slave));
        let (keyboard, mut screen) =
            (File::from(pty.master.try_clone().expect("a descriptor")), File::from(pty.master));
        let seen = Arc::new(Mutex::new(String::new()));
        let all = seen.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                all.lock().expect("no panic").push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, keyboard, seen }
    }

    fn seen(&self) -> String {
        self.seen.lock().expect("no panic").clone()
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE, "{what}:\n{}", self.seen());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.keyboard).expect("it is a terminal").local_flags.contains(LocalFlags::ECHO)
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes it");
    }

    /// Types a password once it is asked for and no longer shown.
    fn password(&mut self, password: &str) {
        self.until("no password is asked for", || self.seen().contains("password of "));
        self.until("what is typed is shown", || !self.echoes());
        self.types(&format!("{password}\n"));
    }

    /// Types an answer once the question is there.
    fn confirm(&mut self, keys: &str) {
        self.until("nothing is asked", || self.seen().contains(" to go on: "));
        self.types(keys);
    }

    /// Exit code and everything that was seen.
    fn end(mut self) -> (i32, String) {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => break status,
                None => assert!(started.elapsed() < PATIENCE, "it does not end:\n{}", self.seen()),
            }
            thread::sleep(Duration::from_millis(10));
        };
        assert!(self.echoes(), "the terminal is left as it was");
        // What it wrote last may still be on its way.
        thread::sleep(Duration::from_millis(100));
        (status.code().unwrap_or(-1), self.seen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where a test failed it still runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fixture(name: &str) -> std::path::PathBuf {
    repository().join("tests/fixtures/chain/wallet").join(name)
}

fn blocking<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(work)
}

/// A submission that is published, by an encrypted hotkey that is registered on the local chain.
fn sealed_hotkey() -> Project {
    let project = Project::new();
    project.manifest(&format!("{}[axon]\nexternal_ip = \"192.0.2.1\"\n", evaluation()));
    fs::copy(fixture("keyfile_ansible.txt"), project.path("wallets/demo/hotkeys/default")).expect("writable");
    fs::create_dir_all(project.path("target/deval/localnet")).expect("writable");
    let localnet = Localnet::start(&project);
    blocking(async {
        let chain = Client::connect(&localnet.chain, Network::Local).await.expect("it listens");
        let alice = KeyPair::from_uri("//Alice").expect("a development key");
        for hotkey in [SEALED.to_owned(), KeyPair::from_uri("//Bob//vali").expect("a key").ss58()] {
            chain.burned_register(202, &alice, &hotkey).await.expect("Alice is rich");
        }
    });
    drop(localnet);
    let ran = project.run(&["publish", "--execute"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    project
}

fn committed(project: &Project) -> Option<String> {
    let localnet = Localnet::start(project);
    let found = blocking(async {
        let chain = Client::connect(&localnet.chain, Network::Local).await.expect("it listens");
        chain.commitment(202, SEALED).await.expect("it can be read")
    });
    found.map(|found| String::from_utf8(found.payload).expect("JSON"))
}

#[test]
fn a_password_is_asked_for_once_without_being_shown() {
    let project = sealed_hotkey();
    let mut terminal = Terminal::start(project.command(&["commit", "--execute"]));
    terminal.password("battery staple");
    let (code, seen) = terminal.end();
    assert!(code == 2 && seen.contains("this password does not open"), "{seen}");
    assert!(!seen.contains("staple"), "{seen}");
    assert_eq!(committed(&project), None);

    let mut terminal = Terminal::start(project.command(&["commit", "--execute"]));
    terminal.password(PASSWORD);
    let (code, seen) = terminal.end();
    assert!(code == 0 && seen.contains("Committed on chain"), "{seen}");
    assert_eq!(seen.matches("password of ").count(), 1, "{seen}");
    assert!(seen.contains("hotkeys/default") && !seen.contains(PASSWORD), "{seen}");
    assert!(committed(&project).is_some_and(|payload| payload.contains("demo/tiny")));
}

#[test]
fn an_interrupted_password_leaves_the_terminal_as_it_was() {
    let project = sealed_hotkey();
    let mut terminal = Terminal::start(project.command(&["commit", "--execute"]));
    terminal.until("no password is asked for", || terminal.seen().contains("password of "));
    terminal.until("what is typed is shown", || !terminal.echoes());
    terminal.types("battery\u{3}");
    let (code, seen) = terminal.end();
    assert!(code == 2 && seen.contains("is not set") && !seen.contains("battery"), "{seen}");
    assert_eq!(committed(&project), None);
}

#[test]
fn a_typed_password_opens_the_hotkey_for_the_server_too() {
    let project = sealed_hotkey();
    let mut terminal = Terminal::start(project.command(&["commit", "--execute"]));
    terminal.password(PASSWORD);
    assert_eq!(terminal.end().0, 0);
    let [port, monitor] = [(); 2].map(|()| free_port());
    set_axon(&project, &format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"192.0.2.1\"\n"));
    let mut terminal = Terminal::start(project.command(&["serve", "--execute"]));
    terminal.password(PASSWORD);
    terminal.until("it does not serve", || terminal.seen().contains("serving demo/tiny"));
    let key = KeyPair::from_uri("//Bob//vali").expect("a key");
    let asked = deval_axon::query(([127, 0, 0, 1], port).into(), SEALED, &key, Duration::from_secs(5));
    assert_eq!(blocking(asked).expect("it answers").model_id, "tiny");
    let stopped = Command::new("kill").arg(terminal.child.id().to_string()).status().expect("kill runs");
    assert!(stopped.success());
    let (code, seen) = terminal.end();
    assert!(code == 0 && !seen.contains(PASSWORD), "{seen}");
}

#[test]
fn a_watch_asks_once() {
    let project = sealed_hotkey();
    let localnet = Localnet::start(&project);
    let ends = format!("[hub]\nendpoint = {:?}\n[chain]\nendpoint = {:?}\n", localnet.hub, localnet.chain);
    project.manifest(&format!("{}{ends}[axon]\nexternal_ip = \"192.0.2.1\"\n", evaluation()));
    let mut terminal = Terminal::start(project.command(&["status", "--watch", "--every", "1"]));
    terminal.password(PASSWORD);
    terminal.until("it does not look", || terminal.seen().contains("hotkey"));
    fs::write(project.path("model/NOTES.md"), "trained longer").expect("writable");
    terminal.until("it does not look again", || terminal.seen().contains("local.changed"));
    assert_eq!(terminal.seen().matches("password of ").count(), 1, "{}", terminal.seen());
    let stopped = Command::new("kill").arg(terminal.child.id().to_string()).status().expect("kill runs");
    assert!(stopped.success());
    assert_eq!(terminal.end().0, 0);
}

#[test]
fn a_registration_asks_for_the_password_of_the_coldkey() {
    let project = Project::new();
    project.manifest(&evaluation());
    fs::copy(fixture("keyfile_nacl_fixed_nonce.bin"), project.path("wallets/demo/coldkey")).expect("writable");
    fs::write(project.path("wallets/demo/coldkeypub.txt"), format!("{{\"ss58Address\": \"{SEALED}\"}}"))
        .expect("writable");
    fs::create_dir_all(project.path("target/deval/localnet")).expect("writable");
    {
        let localnet = Localnet::start(&project);
        blocking(async {
            let chain = Client::connect(&localnet.chain, Network::Local).await.expect("it listens");
            chain.fund_from_alice(SEALED, 5_000_000_000).await.expect("Alice is rich");
        });
    }
    let ran = project.run(&["register", "--execute"]);
    assert!(ran.code == 2 && ran.stderr.contains("COLDKEY is not set"), "{}", ran.stderr);
    let mut terminal = Terminal::start(project.command(&["register", "--execute"]));
    terminal.password("battery staple");
    let (code, seen) = terminal.end();
    assert!(code == 2 && seen.contains("this password does not open"), "{seen}");
    assert_eq!(project.json(&["register"])["result"]["uid"], Value::Null);
    let mut terminal = Terminal::start(project.command(&["register", "--execute"]));
    terminal.password(PASSWORD);
    let (code, seen) = terminal.end();
    assert!(code == 0 && seen.contains("Registered"), "{seen}");
    assert!(project.json(&["register"])["result"]["uid"].is_u64());
}

#[test]
fn without_a_whole_terminal_the_variable_is_named_at_once() {
    let project = sealed_hotkey();
    for (input, error) in [(false, false), (true, false), (false, true)] {
        let (code, said) = at_half_a_terminal(project.command(&["commit", "--execute"]), input, error);
        let said = said.replace(['\r', '\n'], "");
        assert!(code == Some(2) && said.contains("BT_PW_"), "{said}");
        assert!(said.contains("_HOTKEYS_DEFAULT is not set"), "{said}");
    }
}

/// Exit code and standard error where only one of standard input and standard error is a terminal, or none is.
fn at_half_a_terminal(mut command: Command, input: bool, error: bool) -> (Option<i32>, String) {
    let pty = openpty(None, None).expect("a pseudo-terminal");
    let end = |terminal| match terminal {
        true => Stdio::from(pty.slave.try_clone().expect("a descriptor")),
        // A pipe that nothing ever comes from.
        false => Stdio::piped(),
    };
    let mut child = command.stdin(end(input)).stdout(Stdio::null()).stderr(end(error)).spawn().expect("it starts");
    drop((command, pty.slave));
    let started = Instant::now();
    while child.try_wait().expect("it is our child").is_none() {
        assert!(started.elapsed() < PATIENCE, "it waits, where input is {input} and error {error}");
        thread::sleep(Duration::from_millis(10));
    }
    let code = child.wait().expect("it ended").code();
    let piped = child.stderr.take().map(|mut stderr| {
        let mut said = String::new();
        stderr.read_to_string(&mut said).expect("text");
        said
    });
    (code, piped.unwrap_or_else(|| text_of(pty.master)))
}

/// What is left to be read of a terminal that nobody holds any more.
fn text_of(master: OwnedFd) -> String {
    let (mut screen, mut bytes, mut text) = (File::from(master), [0; 4096], String::new());
    while let Ok(count @ 1..) = screen.read(&mut bytes) {
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    text
}

/// A submission to finney, whose Hub and chain are the local ones.
struct Finney {
    project: Project,
    localnet: Localnet,
    wallet: Wallet,
}

impl Finney {
    fn new() -> Self {
        let project = Project::new();
        fs::create_dir_all(project.path("target/deval/localnet")).expect("writable");
        let localnet = Localnet::start(&project);
        let wallet = Wallet::open(&project.path("wallets"), "demo", "default", |_| None).expect("it was made");
        blocking(async {
            let chain = Client::connect(&localnet.chain, Network::Local).await.expect("it listens");
            chain.fund_from_alice(wallet.coldkey_ss58(), 5_000_000_000).await.expect("Alice is rich");
        });
        let chain = as_finney(&localnet);
        let manifest = format!(
            "[hub]\nendpoint = {:?}\n[chain]\nendpoint = {chain:?}\n[axon]\nexternal_ip = \"192.0.2.1\"\n{}",
            localnet.hub,
            evaluation()
        );
        project.manifest(&manifest);
        let ran = project.run(&["evaluate"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        // On finney a model has 12 GB at least; this tiny one was validated for the local network, and its report is passed off.
        let validated = project.path("target/deval/validate.json");
        let report = fs::read_to_string(&validated).expect("it was stored");
        let [local, finney] = ["local", "finney"].map(|name| format!("\"submission.network\": \"{name}\""));
        assert!(report.contains(&local), "{report}");
        fs::write(validated, report.replace(&local, &finney)).expect("writable");
        let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
        project.manifest_text(&text.replace("[submission]\n", "[submission]\nnetwork = \"finney\"\n"));
        fs::write(project.path(".env"), "HUGGINGFACE_TOKEN=hf_local\n").expect("writable");
        Self { project, localnet, wallet }
    }

    fn at_terminal(&self, arguments: &[&str], keys: &str) -> (i32, String) {
        let mut terminal = Terminal::start(self.project.command(arguments));
        terminal.confirm(keys);
        terminal.end()
    }

    /// Everything that is not `word` is refused, typed or without a terminal, and changes nothing that `state` sees.
    fn only(&self, arguments: &[&str], word: &str, state: impl Fn() -> Value) {
        let before = state();
        let upper = format!("{}\n", word.to_uppercase());
        for keys in ["\n", "y\n", "yes\n", "\u{4}", &upper, &format!("{word}x\n"), &format!("{}\n", &word[1..])] {
            let (code, seen) = self.at_terminal(arguments, keys);
            assert!(code == 1 && seen.contains("error[confirm.refused]"), "{keys:?}: {seen}");
            assert!(seen.contains(&format!("Type `{word}` to go on")), "{seen}");
            assert_eq!(state(), before, "{keys:?}");
        }
        for (input, error) in [(false, false), (true, false), (false, true)] {
            let (code, said) = at_half_a_terminal(self.project.command(arguments), input, error);
            assert!(code == Some(1) && said.contains("error[confirm.no-terminal]") && said.contains("--yes"), "{said}");
            assert_eq!(state(), before);
        }
    }

    /// The chain's head, its final block and what waits.
    fn chain(&self) -> Value {
        self.localnet.dev("dev_status", &serde_json::json!([]))
    }

    fn writes_to_the_hub(&self) -> Value {
        let journal = fs::read_to_string(self.project.path("target/deval/localnet/hub/journal.jsonl"));
        let entries = journal.unwrap_or_default();
        let entries = entries.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        entries.filter(|entry| !["GET", "HEAD"].contains(&entry["method"].as_str().expect("a method"))).collect()
    }
}

/// The address of a chain that says it is finney: the local one, whose genesis is replaced in what it answers. It takes nothing that is
/// signed for finney.
fn as_finney(localnet: &Localnet) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let behind = localnet.chain.trim_start_matches("ws://").to_owned();
    let genesis =
        blocking(async { Client::connect(&localnet.chain, Network::Local).await.expect("it listens").genesis_hash() });
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&behind) else { return };
            let (from, to) = (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
            let genesis = genesis.clone();
            thread::spawn(move || relay(client, server, |_| {}));
            thread::spawn(move || relay(from, to, |bytes| replace(bytes, genesis.as_bytes(), FINNEY.as_bytes())));
        }
    });
    format!("ws://{address}")
}

fn relay(mut from: TcpStream, mut to: TcpStream, change: impl Fn(&mut [u8])) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        change(&mut bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Both are equally long. A server's WebSocket frames are not masked, and one with a hash is small enough to come in one piece.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    while let Some(place) = bytes.windows(old.len()).position(|window| window == old) {
        bytes[place..place + new.len()].copy_from_slice(new);
    }
}

#[test]
fn on_finney_only_the_very_word_publishes() {
    let finney = Finney::new();
    finney.only(&["publish", "--execute"], "demo/tiny", || finney.writes_to_the_hub());
    let (code, seen) = finney.at_terminal(&["publish", "--execute"], "demo/tiny\n");
    assert!(code == 0 && seen.contains("This is finney"), "{seen}");
    assert_eq!(finney.project.json(&["publish"])["result"]["add"], serde_json::json!([]));
    // Nothing is left to do, and nothing is asked.
    assert_eq!(finney.project.run(&["publish", "--execute"]).code, 0);
}

#[test]
fn on_finney_only_the_very_words_register() {
    let finney = Finney::new();
    finney.only(&["register", "--execute"], "register on netuid 15", || finney.chain());
    // What is confirmed is sent, signed for finney; this chain is another, and refuses it.
    let (code, seen) = finney.at_terminal(&["register", "--execute"], "register on netuid 15\n");
    assert!(code == 2 && seen.contains("bad signature"), "{seen}");
    let ran = finney.project.run(&["register", "--execute", "--yes"]);
    assert!(ran.code == 2 && ran.stderr.contains("bad signature"), "{}", ran.stderr);
}

#[test]
fn on_finney_only_the_very_word_commits() {
    let finney = Finney::new();
    let published = finney.project.run(&["publish", "--execute", "--yes"]);
    assert_eq!(published.code, 0, "{}", published.stderr);
    blocking(async {
        let chain = Client::connect(&finney.localnet.chain, Network::Local).await.expect("it listens");
        let key = finney.wallet.coldkey(|_| None).expect("it is not encrypted");
        chain.burned_register(15, &key, &finney.wallet.hotkey_ss58()).await.expect("it can pay");
    });
    let state = || serde_json::json!([finney.chain(), finney.writes_to_the_hub()]);
    finney.only(&["commit", "--execute"], "demo/tiny", state);
    let (code, seen) = finney.at_terminal(&["commit", "--execute"], "demo/tiny\n");
    assert!(code == 2 && seen.contains("bad signature"), "{seen}");
}
