//! The serving axon beside a chain with the metadata of a real runtime, which is some ten times as large as the local chain's.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
};

use deval_chain::Wallet;

use crate::{
    harness::{Project, repository, skip},
    serving::{Serving, committed, free_port, set_axon},
};

/// A fifth of what bittensor 9.0.1's axon takes, which is 104 to 112 MB.
const MOST_KILOBYTES: u64 = 104_000 / 5;

/// Old metadata is given back, but not every page of it.
const MOST_AFTER_UPGRADES: u64 = 112_000 / 5;

/// The node of `tests/python/node.py`.
struct Node {
    child: Child,
    upgrades: ChildStdin,
    url: String,
}

impl Node {
    /// `None`, with a message, where the environment or the metadata is missing.
    fn start(spec: u32, wallet: &Wallet, port: u16) -> Option<Self> {
        let python = repository().join("target/deval/python-bittensor/bin/python");
        if !python.exists() {
            skip("bittensor", "make it with `ci/python-env.sh target/deval/python-bittensor bittensor`");
            return None;
        }
        let metadata = metadata(spec)?;
        let (netuid, hotkey) = ("202", hex::encode(wallet.hotkey().public()));
        let mut child = Command::new(python)
            .arg(repository().join("tests/python/node.py"))
            .arg(metadata)
            .args([&spec.to_string(), netuid, &hotkey, "192.0.2.1", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut url).expect("it says where it listens");
        Some(Self { upgrades: child.stdin.take().expect("piped"), url: url.trim().to_owned(), child })
    }

    /// To the metadata of this runtime under a version of its own.
    fn upgrade(&mut self, spec: u32, version: usize) {
        let metadata = metadata(spec).expect("the other one is there");
        writeln!(self.upgrades, "{} {version}", metadata.display()).expect("it reads");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn metadata(spec: u32) -> Option<PathBuf> {
    let file = repository().join("../shared/data/chain-metadata").join(format!("spec{spec}.scale"));
    if !file.exists() {
        skip("shared", "the metadata of real runtimes is not beside the checkout");
        return None;
    }
    Some(file)
}

/// A committed submission whose chain is to be the node that is started with the wallet and the port.
fn served(spec: u32) -> Option<(Project, Node, u16)> {
    let project = committed();
    let [port, monitor] = [(); 2].map(|()| free_port());
    let wallet = Wallet::open(&project.path("wallets"), "demo", "default", |_| None).expect("it was made");
    let node = Node::start(spec, &wallet, port)?;
    let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
    project.manifest_text(&text.replace("[axon]", &format!("[chain]\nendpoint = {:?}\n\n[axon]", node.url)));
    set_axon(&project, &format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"192.0.2.1\"\n"));
    Some((project, node, port))
}

#[expect(clippy::print_stderr, reason = "what was measured")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[test]
fn real_metadata_keeps_the_axon_within_its_memory() {
    for spec in [365, 393] {
        let Some((project, _node, port)) = served(spec) else { return };
        let serving = Serving::start(&project, &[]);
        let before = serving.resident_kilobytes();
        for _ in 0..500 {
            // Nobody whom the node knows; the signature is checked all the same.
            assert_eq!(serving.ask(port, "//Bob//vali").status_code, 403);
        }
        // The chain is read again and again.
        std::thread::sleep(std::time::Duration::from_secs(5));
        let after = serving.resident_kilobytes();
        say(&format!("spec {spec}: {before} kB resident at first, {after} kB after 500 questions and 5 reads"));
        assert!(after <= MOST_KILOBYTES, "{after} kB of {MOST_KILOBYTES} kB with the metadata of spec {spec}");
        serving.stop();
    }
}

#[test]
fn runtime_upgrades_beside_the_serving_axon_are_noticed_by_nobody() {
    let Some((project, mut node, port)) = served(365) else { return };
    let serving = Serving::start(&project, &[]);
    // The chain is looked at every second; each look under another version reads the metadata again.
    for version in 1..=8 {
        node.upgrade([393, 365][version % 2], 1000 + version);
        std::thread::sleep(std::time::Duration::from_secs(3));
        say(&format!("after {version} upgrades {} kB", serving.resident_kilobytes()));
    }
    assert_eq!(serving.ask(port, "//Bob//vali").status_code, 403);
    assert!(!serving.said("stay known"), "the chain is read on");
    let kilobytes = serving.resident_kilobytes();
    assert!(kilobytes <= MOST_AFTER_UPGRADES, "{kilobytes} kB of {MOST_AFTER_UPGRADES} kB");
    serving.stop();
}
