//! Runs of `publish` and `commit` that are killed: at every write to the journal, at every request, and at random, while the Hub and the
//! chain live on. Run again, they complete: one Hub commit, one chain commitment, every byte in its place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use deval_chain::Client;
use deval_hub::{HubClient, RemoteState, RepoId};
use deval_report::Network;
use serde_json::{Value, json};

use crate::{
    harness::{Project, repository, skip},
    way::{Localnet, registered},
};

/// Kill points that are tried at the same time.
const PARALLEL: usize = 2;

/// More than any run has.
const MANY: usize = 1000;

/// A project that is ready to be published.
fn ready() -> &'static Project {
    static READY: OnceLock<Project> = OnceLock::new();
    READY.get_or_init(|| {
        let project = registered();
        let ran = project.run(&["evaluate"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        project
    })
}

/// The same, published and not yet committed.
fn published() -> &'static Project {
    static PUBLISHED: OnceLock<Project> = OnceLock::new();
    PUBLISHED.get_or_init(|| {
        let world = World::of(ready());
        let ran = world.run(&["publish", "--execute"], None);
        assert_eq!(ran.0, Some(0), "{}", ran.1);
        let World { project, localnet, .. } = world;
        drop(localnet);
        project
    })
}

/// A copy of a project beside a Hub and a chain that outlive the runs on it.
struct World {
    project: Project,
    localnet: Localnet,
    blocks: u64,
}

impl World {
    fn of(template: &Project) -> Self {
        let project = template.copy();
        let localnet = Localnet::start(&project);
        let endpoints = json!({"hub": localnet.hub, "chain": localnet.chain}).to_string();
        fs::write(project.path("target/deval/localnet/endpoints.json"), endpoints).expect("writable");
        let blocks = blocks(&localnet.chain);
        Self { project, localnet, blocks }
    }

    /// Exit code, none for a run that was killed, and what it said.
    fn run(&self, arguments: &[&str], kill: Option<&str>) -> (Option<i32>, String) {
        let mut command = self.project.command(arguments);
        if let Some(kill) = kill {
            command.env("LD_PRELOAD", shim().expect("the caller asked")).env("DEVAL_KILL", kill);
        }
        let output = command.output().expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn result(&self, arguments: &[&str]) -> Value {
        let report = self.project.json(arguments);
        assert_eq!(report["diagnostics"], json!([]), "{arguments:?}: {report:#}");
        report["result"].clone()
    }

    /// Runs what is left of the transaction, and looks at the whole of it from outside.
    fn complete(&self, context: &str) {
        let published = self.result(&["publish", "--execute"]);
        let committed = self.result(&["commit", "--execute"]);
        assert_eq!((&committed["public"], &committed["model_hash"]), (&json!(true), &published["model_hash"]));
        let history = fs::read_dir(self.project.path("target/deval/localnet/hub/repos/demo/tiny/commits"));
        assert_eq!(history.expect("a repository").count(), 2, "{context}: the Hub's first commit and ours");
        assert_eq!(
            blocks(&self.localnet.chain),
            self.blocks + 2,
            "{context}: one extrinsic, and the block that makes it final"
        );
        self.check_bytes(context);
    }

    /// Every byte on the Hub, read without a token, is the staged one.
    fn check_bytes(&self, context: &str) {
        let tree = self.project.path("target/deval/package");
        runtime().block_on(async {
            let stranger = HubClient::new(&self.localnet.hub, None, &self.project.path("work")).expect("an endpoint");
            let repo = RepoId::parse("demo/tiny").expect("a name");
            let RemoteState::Present(found) = stranger.remote_state(&repo).await.expect("it answers") else {
                panic!("{context}: not public")
            };
            assert!(!found.private, "{context}");
            let files = stranger.open(&repo, "main").await.expect("public");
            let staged = || files.files().iter().filter(|file| file.path != ".gitattributes");
            assert_eq!(staged().count(), count(&tree), "{context}: as many files as were staged");
            for file in staged() {
                let bytes = files.read(file, 0..file.size).await.expect("readable");
                assert!(bytes == fs::read(tree.join(&file.path)).expect("staged"), "{context}: {}", file.path);
            }
        });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

fn blocks(chain: &str) -> u64 {
    runtime().block_on(async {
        let client = Client::connect(chain, Network::Local).await.expect("it listens");
        client.block_number().await.expect("it answers")
    })
}

fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("readable").path());
    entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

/// The library that kills; none, with a message, where there is no C compiler.
fn shim() -> Option<&'static Path> {
    static SHIM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = SHIM.get_or_init(|| {
        let library = std::env::temp_dir().join(format!("deval-kill-{}.so", std::process::id()));
        let source = repository().join("tests/fixtures/kill.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        built.is_ok_and(|status| status.success()).then_some(library)
    });
    if built.is_none() {
        skip("cc", "no C compiler");
    }
    built.as_deref()
}

/// Kills `step` at the first, second, … moment of a kind until a run survives, and completes each. Tells how many moments there were.
#[expect(clippy::print_stderr, reason = "figures for who runs it")]
fn kill_at_every(template: &Project, step: &str, kind: &str, when: &str) -> usize {
    let started = Instant::now();
    let (next, last) = (AtomicUsize::new(1), AtomicUsize::new(MANY));
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number > last.load(Ordering::Relaxed) {
                        return;
                    }
                    let (world, order) = (World::of(template), format!("{kind}:{number}:{when}"));
                    let (code, said) = world.run(&[step, "--execute"], Some(&order));
                    if code.is_some() {
                        assert_eq!(code, Some(0), "{order}: {said}");
                        last.fetch_min(number, Ordering::Relaxed);
                    }
                    world.complete(&format!("{step} killed at {order}"));
                }
            });
        }
    });
    let moments = last.load(Ordering::Relaxed) - 1;
    eprintln!("{step}: killed at {moments} moments {kind}:{when}, {:.0} s", started.elapsed().as_secs_f64());
    moments
}

#[test]
fn killed_at_every_write_to_the_journal_it_completes() {
    if shim().is_none() {
        return;
    }
    for when in ["before", "torn", "after"] {
        let of_publish = kill_at_every(ready(), "publish", "journal", when);
        assert_eq!(of_publish, 8, "create, transfer, Hub commit, verify: intent and outcome of each");
        let of_commit = kill_at_every(published(), "commit", "journal", when);
        assert_eq!(of_commit, 6, "chain commitment, visibility, verify: intent and outcome of each");
    }
}

#[test]
#[ignore = "takes minutes: several hundred runs"]
fn killed_at_every_request_it_completes() {
    if shim().is_none() {
        return;
    }
    for (kind, when) in [("send", "before"), ("send", "torn"), ("send", "after"), ("receive", "after")] {
        assert!(kill_at_every(ready(), "publish", kind, when) >= 14);
        assert!(kill_at_every(published(), "commit", kind, when) > 10);
    }
}

/// `DEVAL_KILLS=500 cargo test --package deval-tests --test it -- --ignored --nocapture killed_at_random`.
#[test]
#[ignore = "takes minutes: as many kills as DEVAL_KILLS says, 10 without it"]
fn killed_at_random_nothing_is_lost_or_doubled() {
    let wanted: usize = std::env::var("DEVAL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    ready();
    let (kills, transactions, started) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
    thread::scope(|scope| {
        for worker in 0..PARALLEL {
            let (kills, transactions) = (&kills, &transactions);
            scope.spawn(move || {
                let mut dice = Dice(worker as u64 + 1);
                while kills.load(Ordering::Relaxed) < wanted {
                    kills.fetch_add(one_transaction(&mut dice), Ordering::Relaxed);
                    transactions.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    eprintln!(
        "{} kills at random in {} transactions, {:.0} s: each with one Hub commit, one chain commitment, every byte right",
        kills.into_inner(),
        transactions.into_inner(),
        started.elapsed().as_secs_f64()
    );
}

/// Kills a transaction at random moments until both steps come to their end, up to ten times each.
fn one_transaction(dice: &mut Dice) -> usize {
    let world = World::of(ready());
    let mut kills = 0;
    for step in ["publish", "commit"] {
        for _ in 0..10 {
            let mut command = world.project.command(&[step, "--execute"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
            let patience = Instant::now() + Duration::from_millis(dice.below(1500));
            while Instant::now() < patience && child.try_wait().expect("a child").is_none() {
                thread::sleep(Duration::from_micros(500));
            }
            child.kill().expect("SIGKILL");
            let output = child.wait_with_output().expect("it is gone");
            if let Some(code) = output.status.code() {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(code == 0, "{step}, killed {kills} times before, ended with {code}: {said}");
                break;
            } else {
                kills += 1;
            }
        }
        if step == "publish" {
            world.result(&["publish", "--execute"]);
        }
    }
    world.complete(&format!("{kills} kills at random"));
    kills
}

/// Random enough for moments, and the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
