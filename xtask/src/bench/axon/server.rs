//! The two axons under load.

use std::{
    fs,
    io::{BufRead as _, BufReader, Seek as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use deval_axon::{
    ServeReceipt,
    load::Target,
    start::{Output, Reload, Settings, Start, WalletPlace},
};
use deval_chain::{Client, Wallet};
use deval_report::{Inputs, Network, Report};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::key;
use crate::{cargo, localnet::Localnet, python::Environment, steps::server, ui::Ui};

/// Where validators would reach our axon; nobody does.
const EXTERNAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// What our axon needs around it.
pub(super) struct Bench {
    localnet: Localnet,
    wallet: Wallet,
    dir: TempDir,
}

impl Bench {
    /// A local chain on which a miner and the validator that asks it are registered.
    pub(super) fn prepare(runtime: &Runtime, ui: Ui) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
        let localnet = Localnet::reuse_or_start(&dir.path().join("localnet"), ui)?;
        let wallet = Wallet::create_throwaway(dir.path(), "bench", "default")?;
        runtime.block_on(async {
            let (chain, alice) = (Client::connect(&localnet.chain, Network::Local).await?, key("//Alice")?);
            for hotkey in [wallet.hotkey_ss58(), key("//Bob//vali")?.ss58()] {
                chain.burned_register(Network::Local.netuid(), &alice, &hotkey).await?;
            }
            anyhow::Ok(())
        })?;
        Ok(Self { localnet, wallet, dir })
    }

    fn start(&self, listen: SocketAddr, monitor: SocketAddr) -> Start {
        let settings = Settings {
            listen,
            monitor,
            external: EXTERNAL,
            repo_id: "deval-core".into(),
            model_id: "base-eval".into(),
            network: Network::Local,
            endpoint: None,
            wallet: WalletPlace { path: self.dir.path().into(), name: "bench".into(), hotkey: "default".into() },
        };
        let receipt = ServeReceipt {
            executed: false,
            listen,
            announce: SocketAddr::new(EXTERNAL, listen.port()).to_string(),
            monitor: Some(monitor),
            announced_before: None,
            model_url: settings.model_url(),
            answer: None,
            gates: Vec::new(),
        };
        Start {
            settings,
            endpoint: self.localnet.chain.clone(),
            passwords: [].into(),
            hotkeys: self.dir.path().join("hotkeys.json"),
            report: Report::new("serve", Inputs::default(), Vec::new(), Some(receipt)),
            stored: self.dir.path().join("serve.json"),
            output: Output::Human,
            json_log: true,
            secrets: Vec::new(),
            reload: Reload { command: Vec::new(), files: Vec::new() },
            companion: None,
        }
    }
}

/// A port that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).context("no free port")
}

/// An axon in a process of its own, which ends with this value.
pub(super) struct Server {
    child: Child,
    pub(super) target: Target,
    pub(super) metrics: Option<SocketAddr>,
}

impl Server {
    /// The program that `cargo xtask serve --execute` becomes.
    pub(super) fn ours(bench: &Bench, ui: Ui) -> anyhow::Result<Self> {
        let (listen, monitor) = (free_address()?, free_address()?);
        let start = bench.start(listen, monitor);
        let mut told = tempfile::tempfile().context("cannot make a temporary file")?;
        serde_json::to_writer(&told, &start)?;
        told.rewind().context("cannot read a temporary file again")?;
        let mut child = server(told, ui)?.spawn()?;
        // It stores what it answered itself once it serves.
        while !start.stored.exists() {
            ensure!(child.try_wait()?.is_none(), "our axon did not start; the reason is above");
            thread::sleep(Duration::from_millis(50));
        }
        let target = Target { address: listen, hotkey: bench.wallet.hotkey_ss58() };
        Ok(Self { child, target, metrics: Some(monitor) })
    }

    pub(super) fn python() -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(Environment::Bittensor.interpreter());
        command.arg(cargo::root().join("ci/bench/axon.py")).arg(address.port().to_string());
        command.arg(key("//Bob//vali")?.ss58()).env("PYTHONWARNINGS", "ignore");
        let (child, line) = started(&mut command)?;
        ensure!(line == "ready", "ci/bench/axon.py said `{line}`");
        let target = Target { address, hotkey: key("//Alice//miner")?.ss58() };
        Ok(Self { child, target, metrics: None })
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in kilobytes.
    pub(super) fn resident(&self) -> anyhow::Result<u64> {
        memory(self.child.id(), "VmRSS:")
    }

    /// The part of it that is no file's content, such as the program's own.
    pub(super) fn anonymous(&self) -> anyhow::Result<u64> {
        memory(self.child.id(), "RssAnon:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The Python axon ends with its standard input, ours when it is told to.
        if self.child.stdin.take().is_none() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn started(command: &mut Command) -> anyhow::Result<(Child, String)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start an axon")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("it was asked for")?).read_line(&mut line)?;
    if line.is_empty() {
        bail!("an axon did not start; the reason is above");
    }
    Ok((child, line.trim().to_owned()))
}

fn memory(process: u32, what: &str) -> anyhow::Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{process}/status")).context("memory is read from /proc, on Linux")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)).context("Linux tells all kinds of memory")?;
    line.trim().trim_end_matches(" kB").parse().context("memory is a number of kilobytes")
}

/// Processor time of a process so far, in seconds: a hundredth of a second to the tick, on every Linux.
pub(super) fn cpu_seconds(process: &str) -> anyhow::Result<f64> {
    let stat =
        fs::read_to_string(format!("/proc/{process}/stat")).context("processor time is read from /proc, on Linux")?;
    let fields = stat.rsplit_once(')').context("a process has a name")?.1.split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}
