//! The subnet in a box: a fake Hub and a local chain that real clients can talk to, on the loopback interface only.
//!
//! When both listen, one JSON line goes to stdout: `{"hub":"http://…","chain":"ws://…","pid":N,"fake":true}`.
//!
//! # What only the stand-in has
//!
//! The chain's own methods are named `dev_…`; they are called as any other, over WebSocket or by an HTTP POST, and each writes
//! in a block of its own, which is final once `dev_produceBlocks` put one on top. Netuids 15 and 202 exist from the start, Alice owns both and a million TAO. An account is an SS58
//! address or a development key (`//Bob//miner`).
//!
//! | method | parameters | what it does |
//! |---|---|---|
//! | `dev_status` | | head, finalised block, waiting extrinsics, sealing, `specVersion` |
//! | `dev_produceBlocks` | `[count]` | makes blocks (at most 1000), answers the head |
//! | `dev_skipToBlock` | `[number]` | lets time pass without its blocks, as for a registration 400,000 blocks old |
//! | `dev_setSealing` | `[instant, finalityLag]` | whether extrinsics get their block, and finality, at once; blocks finality is behind |
//! | `dev_setSubnet` | `[netuid, {tempo, burn, servingRateLimit, immunityPeriod, maxAllowedUids, registrationAllowed, maxRegistrationsPerBlock, targetRegistrationsPerInterval, adjustmentInterval}]` | writes those given; starts a subnet that is not there |
//! | `dev_setMiners` | `[netuid, [{hotkey, coldkey, registeredAt, incentive, consensus, trust, rank, dividends, emission, lastUpdate, active, validatorPermit, stake, axon: {ip, port, version, block}, commitment: {text, block}}]]` | registers hotkeys that are not, writes what is given, answers the uids |
//! | `dev_setMaxSpace` | `[bytes]` | quota of commitments per hotkey and epoch |
//! | `dev_fund` | `[account, rao]` | gives money, answers the balance |
//! | `dev_upgradeRuntime` | | raises `spec_version` by one, answers it |
//! | `dev_dropConnections` | `[when, refuseMs]` | cuts all connections: `"now"`, or at the next extrinsic, lost (`"beforeSubmit"`) or taken (`"afterSubmit"`); new ones are closed for some time |
//!
//! `--prepare FILE` makes such calls on a new chain: `[{"method": "dev_setMiners", "params": [202, […]]}, …]`.

mod chain;
mod hub;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use chain::{Chain, ChainConfig, ChainError};
use hub::{HubConfig, HubError, HubOptions};

/// How long the state directory may stay taken by an instance that is ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// A local Hub and a local chain with the protocols of the real ones. Both are fakes: nothing leaves this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Directory of all state; made when missing, used by one process at a time.
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// Port of the Hub; 0 is any free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    hub_port: u16,
    /// Port of the chain; 0 is any free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    chain_port: u16,
    /// JSON list of what the Hub shall do wrong; the documentation of `hub::faults` tells its form.
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    #[command(flatten)]
    hub: HubOptions,
    /// Milliseconds between two blocks (the real chain: 12000). Without it each extrinsic gets a block at once, and one on
    /// top that makes it final.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    block_time: Option<u64>,
    /// JSON list of calls, `{"method": "dev_setMiners", "params": […]}`, that a new chain begins with.
    #[arg(long, value_name = "FILE")]
    prepare: Option<PathBuf>,
    /// Blocks between two `serve_axon` of one hotkey, on a new chain. The real chain says 50, but here often only extrinsics
    /// make blocks.
    #[arg(long, value_name = "BLOCKS", default_value_t = 1)]
    serving_rate_limit: u64,
    /// End when stdin is closed, as it is when the parent dies.
    #[arg(long)]
    exit_with_stdin: bool,
}

#[derive(Debug, thiserror::Error)]
enum LocalnetError {
    #[error("cannot use {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is in use by another deval-localnet; stop it or choose another --state-dir")]
    Locked { path: PathBuf },
    #[error("{path} is no list of {what}: {source}")]
    List { path: PathBuf, what: &'static str, source: serde_json::Error },
    #[error("port {port} is taken; choose another with {option}, or 0 for any free port")]
    PortTaken { port: u16, option: &'static str },
    #[error("cannot listen on port {port} ({option}): {source}")]
    Listen { port: u16, option: &'static str, source: io::Error },
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Chain(#[from] ChainError),
}

fn main() -> ExitCode {
    match start(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere else to tell when stderr is gone.
            let _ = writeln!(io::stderr(), "deval-localnet: {error}");
            ExitCode::from(2)
        }
    }
}

fn start(options: Options) -> Result<(), LocalnetError> {
    let _lock = lock(&options.state_dir)?;
    let runtime = tokio::runtime::Runtime::new().map_err(LocalnetError::Start)?;
    let result = runtime.block_on(serve(options));
    runtime.shutdown_background();
    result
}

async fn serve(options: Options) -> Result<(), LocalnetError> {
    let end = end(options.exit_with_stdin).map_err(LocalnetError::Start)?;
    let faults = read_list(options.faults.as_deref(), "faults")?;
    let preparation = read_list(options.prepare.as_deref(), "calls")?;
    let hub = listen(options.hub_port, "--hub-port").await?;
    let chain = listen(options.chain_port, "--chain-port").await?;
    let hub_config = HubConfig { state_dir: options.state_dir.join("hub"), options: options.hub, faults };
    let chain_config = ChainConfig {
        state_dir: options.state_dir.join("chain"),
        serving_rate_limit: options.serving_rate_limit,
        block_time: options.block_time.map(Duration::from_millis),
        preparation,
    };
    let state = Chain::open(&chain_config)?;
    announce(&hub, &chain).map_err(LocalnetError::Start)?;
    tokio::select! {
        result = hub::serve(hub, hub_config) => Ok(result?),
        result = chain::serve(chain, state, chain_config) => Ok(result?),
        () = end => Ok(()),
    }
}

/// Takes the state directory for this process; the lock goes with the file.
fn lock(dir: &Path) -> Result<File, LocalnetError> {
    let path = dir.join("lock");
    let open = || {
        fs::create_dir_all(dir)?;
        File::options().create(true).truncate(false).write(true).open(&path)
    };
    let file = open().map_err(|source| LocalnetError::Io { path: path.clone(), source })?;
    // An instance whose parent was killed needs a moment to end.
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < patience => thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::WouldBlock) => return Err(LocalnetError::Locked { path: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(LocalnetError::Io { path, source }),
        }
    }
}

fn read_list<T: DeserializeOwned>(path: Option<&Path>, what: &'static str) -> Result<Vec<T>, LocalnetError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let text = fs::read(path).map_err(|source| LocalnetError::Io { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| LocalnetError::List { path: path.to_owned(), what, source })
}

async fn listen(port: u16, option: &'static str) -> Result<TcpListener, LocalnetError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => LocalnetError::PortTaken { port, option },
        _ => LocalnetError::Listen { port, option, source },
    })
}

fn announce(hub: &TcpListener, chain: &TcpListener) -> io::Result<()> {
    let hub = format!("http://{}", hub.local_addr()?);
    let chain = format!("ws://{}", chain.local_addr()?);
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", json!({ "hub": hub, "chain": chain, "pid": std::process::id(), "fake": true }))?;
    stdout.flush()
}

/// Resolves when the process shall end: SIGTERM, SIGINT, or the end of stdin where that was asked for.
fn end(with_stdin: bool) -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (closed, stdin) = oneshot::channel();
    let mut open = Some(closed);
    if let Some(closed) = open.take_if(|_| with_stdin) {
        // A thread of its own: a blocking read cannot be cancelled, and would keep the runtime from ending.
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            let _ = closed.send(());
        });
    }
    Ok(async move {
        // Held to the end: without its sender the channel would look closed.
        let _open = open;
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
            _ = stdin => (),
        }
    })
}
