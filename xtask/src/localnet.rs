//! The local Hub and the local chain: built and started when the network is `local`, ended with the step that started them.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use deval_axon::start::Companion;
use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use crate::{cargo, cli::LocalnetArgs, store::write_atomically, ui::Ui};

/// A binary of its own, so that FRAME is compiled only where it is wanted.
const PROGRAM: &str = "deval-localnet";

/// Endpoints of a running localnet, and the process when it is ours.
#[derive(Debug)]
pub(crate) struct Localnet {
    pub(crate) hub: String,
    pub(crate) chain: String,
    child: Option<Child>,
}

/// The line that `deval-localnet` prints when both servers listen.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    hub: String,
    chain: String,
}

impl Localnet {
    /// Takes a localnet that `cargo xtask localnet` runs on this state, or starts one that ends with this process.
    pub(crate) fn reuse_or_start(state_dir: &Path, ui: Ui) -> anyhow::Result<Self> {
        if let Some(Ready { hub, chain }) = running(state_dir) {
            return Ok(Self { hub, chain, child: None });
        }
        start(&cargo::program(PROGRAM, ui)?, state_dir, &LocalnetArgs::default())
    }

    /// Keeps the process, when it is ours, for the program that takes the place of this one.
    pub(crate) fn survive(&self) -> anyhow::Result<Option<Companion>> {
        let Some(child) = &self.child else { return Ok(None) };
        let stdin = child.stdin.as_ref().context("it is held open until the end")?;
        fcntl_setfd(stdin, FdFlags::empty()).context("cannot pass the local chain on")?;
        Ok(Some(Companion { stdin: stdin.as_raw_fd(), process: child.id().cast_signed() }))
    }
}

impl Drop for Localnet {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It ends by itself when its standard input closes, which also covers a kill of this process.
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// `cargo xtask localnet`: runs in the foreground; steps on the same manifest find it and use it.
pub(crate) fn run(state_dir: &Path, arguments: &LocalnetArgs, ui: Ui) -> anyhow::Result<()> {
    let mut localnet = start(&cargo::program(PROGRAM, ui)?, state_dir, arguments)?;
    let ready = Ready { hub: localnet.hub.clone(), chain: localnet.chain.clone() };
    write_atomically(&endpoints(state_dir), &serde_json::to_vec(&ready)?)?;
    ui.print(format!(
        "hub    {}\nchain  {}\nA stand-in for tests: nothing here is the real Hub or chain. Stop with Ctrl-C.\n\
         What no real chain offers is named `dev_…` (crates/deval-localnet/src/main.rs tells all):\n  \
         curl {} --json '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"dev_produceBlocks\",\"params\":[1]}}'",
        ready.hub,
        ready.chain,
        ready.chain.replace("ws://", "http://")
    ));
    let child = localnet.child.as_mut().context("it was just started")?;
    // Waiting would close the standard input first, and with it end the child.
    let open = child.stdin.take();
    let status = child.wait().context("cannot wait for deval-localnet")?;
    drop(open);
    fs::remove_file(endpoints(state_dir)).ok();
    if status.success() { Ok(()) } else { bail!("deval-localnet ended with {status}") }
}

fn endpoints(state_dir: &Path) -> PathBuf {
    state_dir.join("endpoints.json")
}

fn running(state_dir: &Path) -> Option<Ready> {
    let ready: Ready = serde_json::from_slice(&fs::read(endpoints(state_dir)).ok()?).ok()?;
    let listens = |url: &str| {
        let address: Option<SocketAddr> = url.split("://").nth(1).and_then(|address| address.parse().ok());
        address.is_some_and(|address| TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok())
    };
    (listens(&ready.hub) && listens(&ready.chain)).then_some(ready)
}

fn start(binary: &Path, state_dir: &Path, arguments: &LocalnetArgs) -> anyhow::Result<Localnet> {
    fs::create_dir_all(state_dir).with_context(|| format!("cannot create {}", state_dir.display()))?;
    let mut child = Command::new(binary)
        .arg("--state-dir")
        .arg(state_dir)
        .args(["--hub-port", &arguments.hub_port.to_string(), "--chain-port", &arguments.chain_port.to_string()])
        .args(arguments.block_time.iter().flat_map(|time| ["--block-time".to_owned(), time.to_string()]))
        .args(arguments.prepare.iter().flat_map(|file| [OsStr::new("--prepare"), file.as_os_str()]))
        .args(arguments.faults.iter().flat_map(|file| [OsStr::new("--faults"), file.as_os_str()]))
        .args(&arguments.more)
        .arg("--exit-with-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let stdout = child.stdout.take().context("it was asked for")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("cannot read from deval-localnet")?;
    let ready: Option<Ready> = serde_json::from_str(&line).ok();
    let Some(Ready { hub, chain }) = ready else {
        let status = child.wait().context("cannot wait for deval-localnet")?;
        bail!("the local Hub and chain did not start ({status}); the reason is above");
    };
    Ok(Localnet { hub, chain, child: Some(child) })
}
