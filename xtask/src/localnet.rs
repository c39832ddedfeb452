//! The local Hub and the local chain: built and started when the network is `local`, ended with the step that started them.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{cargo, cli::LocalnetOptions, store::write_atomically, ui::Ui};

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
        start(&build(ui)?, state_dir, &LocalnetOptions::default())
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
pub(crate) fn run(state_dir: &Path, options: &LocalnetOptions, ui: Ui) -> anyhow::Result<()> {
    let mut localnet = start(&build(ui)?, state_dir, options)?;
    let ready = Ready { hub: localnet.hub.clone(), chain: localnet.chain.clone() };
    write_atomically(&endpoints(state_dir), &serde_json::to_vec(&ready)?)?;
    ui.print(format!(
        "hub    {}\nchain  {}\nA stand-in for tests: nothing here is the real Hub or chain. Its own methods are named `dev_…` \
         (`rpc_methods` lists them):\n  curl {} -H 'content-type: application/json' \
         -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"dev_produceBlocks\",\"params\":[1]}}'\nStop with Ctrl-C.",
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

/// Builds `deval-localnet` beside this program. A binary of its own, so that FRAME is compiled only where it is wanted.
fn build(ui: Ui) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe().context("cannot tell where this program is")?;
    let target = here.ancestors().nth(2).context("this program lies in a target folder")?;
    let binary = target.join("debug/deval-localnet");
    if is_fresh(&binary).unwrap_or(false) {
        return Ok(binary);
    }
    ui.say("building deval-localnet (the first time takes minutes)");
    let spinner = ui.spinner("building deval-localnet");
    let output = cargo::command()
        .args(["build", "--quiet", "--package", "deval-localnet", "--target-dir"])
        .arg(target)
        .output()
        .context("cannot run cargo to build deval-localnet")?;
    spinner.finish_and_clear();
    if !output.status.success() {
        bail!("deval-localnet does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(binary)
}

/// Whether the binary is newer than everything it is made from, by the dependency file that cargo writes beside it. Asking cargo itself
/// takes most of a second.
fn is_fresh(binary: &Path) -> std::io::Result<bool> {
    let built = fs::metadata(binary)?.modified()?;
    let dependencies = fs::read_to_string(binary.with_extension("d"))?;
    let sources =
        dependencies.split_once(": ").map_or("", |(_, sources)| sources).split_whitespace().map(PathBuf::from);
    let manifests =
        ["Cargo.lock", "Cargo.toml", "crates/deval-localnet/Cargo.toml"].map(|name| cargo::root().join(name));
    for path in sources.chain(manifests) {
        if fs::metadata(path)?.modified()? > built {
            return Ok(false);
        }
    }
    Ok(true)
}

fn start(binary: &Path, state_dir: &Path, options: &LocalnetOptions) -> anyhow::Result<Localnet> {
    fs::create_dir_all(state_dir).with_context(|| format!("cannot create {}", state_dir.display()))?;
    let mut child = Command::new(binary)
        .arg("--state-dir")
        .arg(state_dir)
        .args(["--hub-port", &options.hub_port.to_string(), "--chain-port", &options.chain_port.to_string()])
        .args(options.block_time.iter().flat_map(|time| ["--block-time".to_owned(), time.to_string()]))
        .args(options.prepare.iter().flat_map(|file| [Path::new("--prepare"), file.as_path()]))
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
