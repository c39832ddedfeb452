//! `serve`: the axon that tells validators where the model is.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use deval_axon::{AxonConfig, KnownHotkeys, bind, query, router, system_clock};
use deval_chain::{Client, KeyPair};
use deval_hub::RepoId;
use deval_report::{
    Diagnostic, Inputs, Report, Section, Step,
    gates::{GateStatus, GateVerdict},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::{CommitReceipt, Watch, need, result_of};
use crate::{context::Context, findings::Findings, hub, wallet};

/// A validator's time limit for the question (upstream `deval/protocol.py`).
const VALIDATOR_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the registered hotkeys are read again; upstream's miner does so every 100 blocks of 12 s.
const REFRESH: Duration = Duration::from_secs(1200);

/// What the axon says, and how it is announced.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServeReceipt {
    /// False when this is only the plan.
    pub(crate) executed: bool,
    pub(crate) listen: SocketAddr,
    /// What the chain tells validators.
    pub(crate) announce: String,
    /// Whether the chain said so already; absent in a plan.
    pub(crate) announced_before: Option<bool>,
    pub(crate) model_url: String,
    /// The answer to one question, asked as a validator asks it.
    pub(crate) answer: Option<Answer>,
    pub(crate) gates: Vec<GateVerdict>,
}

/// What a validator got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) repo_id: String,
    pub(crate) model_id: String,
    pub(crate) status_code: i64,
    pub(crate) status_message: String,
}

/// Everything the axon needs, read once.
struct Ready {
    receipt: ServeReceipt,
    inputs: Inputs,
    wallet: deval_chain::Wallet,
    external: IpAddr,
    repo: RepoId,
    endpoint: String,
}

/// Shows the plan; with `execute`, announces the axon and serves until stopped.
pub(crate) fn serve(context: &Context, execute: bool) -> anyhow::Result<Report<ServeReceipt>> {
    let watch = Watch::start();
    let ready = ready(context)?;
    let mut receipt = ready.receipt.clone();
    if execute {
        context.runtime.block_on(async {
            let listener = bind(receipt.listen).await?;
            let (chain, known) = announce(context, &ready, &mut receipt).await?;
            context.ui.say(format!("serving {} on {}; stop with Ctrl-C", receipt.model_url, receipt.listen));
            let refresh = tokio::spawn(refresh(chain, known.clone(), context.network().netuid()));
            let stopped = deval_axon::serve(listener, axon(&ready, known), stop_signal()).await;
            refresh.abort();
            stopped.map_err(anyhow::Error::from)
        })?;
    }
    finish(context, ready.inputs, receipt, Vec::new(), watch, execute)
}

/// Announces the axon, serves it on a free local port, and asks it once as a validator would.
pub(crate) fn ask_once(context: &Context) -> anyhow::Result<Report<ServeReceipt>> {
    let watch = Watch::start();
    let ready = ready(context)?;
    let mut receipt = ready.receipt.clone();
    let reply = context.runtime.block_on(async {
        let (_, known) = announce(context, &ready, &mut receipt).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free local port")?;
        let address = listener.local_addr().context("a bound port has an address")?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(deval_axon::serve(listener, axon(&ready, known), async {
            let _ = stopped.await;
        }));
        let reply = query(address, &ready.wallet.hotkey_ss58(), &validator()?, VALIDATOR_TIMEOUT).await?;
        let _ = stop.send(());
        serving.await.context("the axon does not panic")??;
        anyhow::Ok(reply)
    })?;
    let told = format!("{}/{}", reply.repo_id, reply.model_id);
    let diagnostics = if told == receipt.model_url {
        Vec::new()
    } else {
        vec![
            Diagnostic::error("G04", "the axon does not tell where the model is")
                .found(format!("{told}, status {} {}", reply.status_code, reply.status_message))
                .expected(&receipt.model_url),
        ]
    };
    receipt.gates = gates(&reply, diagnostics.is_empty());
    receipt.answer = Some(Answer {
        repo_id: reply.repo_id,
        model_id: reply.model_id,
        status_code: reply.status_code,
        status_message: reply.status_message,
    });
    finish(context, ready.inputs, receipt, diagnostics, watch, true)
}

/// The validator of the local network, a development key.
pub(crate) fn validator() -> anyhow::Result<KeyPair> {
    KeyPair::from_uri("//Bob//vali").context("a development key")
}

fn ready(context: &Context) -> anyhow::Result<Ready> {
    let mut inputs = Inputs::default();
    inputs.add_need(Step::Commit, &need(context, Step::Commit)?);
    let committed: CommitReceipt = result_of(context, Step::Commit)?;
    let settings = &context.manifest.axon;
    let external =
        settings.external_ip.or((!settings.ip.is_unspecified()).then_some(settings.ip)).ok_or_else(|| {
            let finding = Diagnostic::error("serve.external-ip", "nobody knows which address validators reach")
                .found(format!("axon.ip = \"{}\" and no axon.external_ip", settings.ip))
                .expected("axon.external_ip in deval.toml")
                .help("set `external_ip` in the [axon] table to the public address of this machine");
            Findings::from(context.place(finding, "axon"))
        })?;
    let receipt = ServeReceipt {
        executed: false,
        listen: SocketAddr::new(settings.ip, settings.port),
        announce: SocketAddr::new(external, settings.port).to_string(),
        announced_before: None,
        model_url: context.manifest.submission.model_url.clone(),
        answer: None,
        gates: Vec::new(),
    };
    let wallet = wallet::open(context)?;
    if committed.hotkey != wallet.hotkey_ss58() {
        let finding = Diagnostic::error("serve.other-hotkey", "the chain commitment was made with another hotkey")
            .found(committed.hotkey)
            .expected(wallet.hotkey_ss58())
            .help("run `cargo xtask commit --execute` with this wallet");
        return Err(Findings::from(finding).into());
    }
    Ok(Ready { receipt, inputs, wallet, external, repo: hub::repo(context)?, endpoint: context.chain_endpoint()? })
}

async fn announce(
    context: &Context,
    ready: &Ready,
    receipt: &mut ServeReceipt,
) -> anyhow::Result<(Client, Arc<KnownHotkeys>)> {
    let netuid = context.network().netuid();
    let chain = Client::connect(&ready.endpoint, context.network()).await?;
    let outcome = chain.serve_axon(netuid, &ready.wallet, ready.external, receipt.listen.port()).await?;
    receipt.executed = true;
    receipt.announced_before = Some(outcome.already_there);
    let known = Arc::new(KnownHotkeys::new(chain.registered_hotkeys(netuid).await?));
    Ok((chain, known))
}

fn axon(ready: &Ready, known: Arc<KnownHotkeys>) -> axum::Router {
    let config = AxonConfig {
        hotkey_ss58: ready.wallet.hotkey_ss58(),
        repo_id: ready.repo.namespace().to_owned(),
        model_id: ready.repo.name().to_owned(),
    };
    router(config, known, system_clock)
}

/// Reads the registered hotkeys again and again; while the chain is away the last known ones stand.
async fn refresh(chain: Client, known: Arc<KnownHotkeys>, netuid: u16) {
    loop {
        tokio::time::sleep(REFRESH).await;
        if let Ok(hotkeys) = chain.registered_hotkeys(netuid).await {
            known.replace(hotkeys);
        }
    }
}

/// Completes on Ctrl-C or SIGTERM.
async fn stop_signal() {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let terminate = async {
        match &mut terminated {
            Ok(signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        _ = terminate => (),
    }
}

fn gates(reply: &deval_axon::ModelQueryReply, answered: bool) -> Vec<GateVerdict> {
    let status = if answered { GateStatus::Pass } else { GateStatus::Fail };
    let seen = format!("status {} for a registered validator", reply.status_code);
    let left = (VALIDATOR_TIMEOUT.as_secs_f64() - reply.seconds).max(0.0);
    vec![
        GateVerdict::new("G04", status, "answered a validator's question").margin(format!("{left:.1} s of 5 s left")),
        GateVerdict::new("G05", status, seen),
    ]
}

fn finish(
    context: &Context,
    inputs: Inputs,
    receipt: ServeReceipt,
    diagnostics: Vec<Diagnostic>,
    watch: Watch,
    store: bool,
) -> anyhow::Result<Report<ServeReceipt>> {
    let mut report = Report::new(Step::Serve.name(), inputs, diagnostics, Some(receipt));
    report.run = watch.stop(Vec::new(), serde_json::Value::Null);
    if store {
        context.store.write(&report)?;
    }
    Ok(report)
}

impl Answer {
    pub(crate) fn summary(&self) -> String {
        format!("{} {}: {}/{}", self.status_code, self.status_message, self.repo_id, self.model_id)
    }
}

impl ServeReceipt {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let mut section = Section::new(if self.executed { "Axon" } else { "Plan of serve" })
            .row("listens on", self.listen)
            .row("announces", &self.announce)
            .row("tells", &self.model_url);
        if let Some(answer) = &self.answer {
            section = section.row("asked once", answer.summary());
        }
        if !self.executed {
            section = section.note("Nothing was changed. `--execute` announces on chain and serves until stopped.");
        }
        vec![section]
    }
}
