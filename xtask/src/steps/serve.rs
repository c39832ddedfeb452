//! `serve`: the axon that tells validators where the model is.

mod chain;
mod keeper;
mod reload;
mod running;
mod settings;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use deval_axon::{Axon, Listening, ModelQueryReply, Subnet, query, system_clock};
use deval_chain::{Client, KeyPair};
use deval_report::{
    Diagnostic, Inputs, Report, Section, Step,
    gates::{GateStatus, GateVerdict},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use self::{running::Start, settings::Settings};
use super::{Watch, need};
use crate::{
    cli::{ExternalArgs, Global, ServeArgs},
    context::Context,
    log, wallet,
};

pub(crate) use self::keeper::print as print_keeper;

/// A validator's time limit for the question (upstream `deval/protocol.py`).
const VALIDATOR_TIMEOUT: Duration = Duration::from_secs(5);

/// What the axon says, and how it is announced.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServeReceipt {
    /// False when this is only the plan.
    pub(crate) executed: bool,
    pub(crate) listen: SocketAddr,
    /// What the chain tells validators.
    pub(crate) announce: String,
    /// Where `/health` and `/metrics` are.
    #[serde(default)]
    pub(crate) monitor: Option<SocketAddr>,
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

/// Shows the plan; with `--execute`, announces the axon and serves until stopped.
pub(crate) fn serve(context: &Context, global: &Global, flags: &ServeArgs) -> anyhow::Result<Report<ServeReceipt>> {
    let watch = Watch::start();
    need(context, Step::Commit)?;
    let wallet = wallet::open(context)?;
    let (settings, inputs) = Settings::read(context, &flags.external, &wallet.hotkey_ss58())?;
    let external = context.runtime.block_on(settings.external.resolve())?;
    let diagnostics: Vec<_> = settings.unreachable(external, context).into_iter().collect();
    let receipt = receipt(&settings, SocketAddr::new(external, settings.listen.port()));
    if !flags.effect.execute {
        return Ok(finished(inputs, receipt, diagnostics, watch));
    }
    log::begin(flags.log, context.secrets.values().into_iter().chain(settings.secret_path()).collect())?;
    diagnostics.iter().for_each(|finding| tracing::warn!(code = finding.code, "{}", finding.message));
    let endpoint = context.chain_endpoint()?;
    let reload = reload::Reload::new(context, global, &flags.external, wallet.hotkey_ss58())?;
    let start = Start { settings, external, wallet, endpoint, hotkeys: context.out("cache/hotkeys.json") };
    let stored = |answered: &Answered| {
        let report =
            finished(inputs.clone(), with_answer(receipt.clone(), answered), diagnostics.clone(), Watch::start());
        context.store.write(&report)
    };
    let answered = context.runtime.block_on(running::serve(start, reload, stored))?;
    Ok(finished(inputs.clone(), with_answer(receipt.clone(), &answered), diagnostics.clone(), watch))
}

/// Announces the axon, serves it on a free local port, and asks it once as a validator would.
pub(crate) fn ask_once(context: &Context) -> anyhow::Result<Report<ServeReceipt>> {
    let watch = Watch::start();
    let wallet = wallet::open(context)?;
    let (settings, inputs) = Settings::read(context, &ExternalArgs::default(), &wallet.hotkey_ss58())?;
    let netuid = settings.network.netuid();
    let (external, before, reply) = context.runtime.block_on(async {
        let external = settings.external.resolve().await?;
        let chain = Client::connect(&context.chain_endpoint()?, settings.network).await?;
        let outcome = chain.serve_axon(netuid, &wallet, external, settings.listen.port()).await?;
        let subnet = Arc::new(Subnet::of(chain.registered_hotkeys(netuid).await?));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free local port")?;
        let address = listener.local_addr().context("a bound port has an address")?;
        let axon = Axon::new(settings.answers(wallet.hotkey_ss58()), subnet, system_clock);
        let listening = Listening::start(listener, address, axon);
        let reply = query(address, &wallet.hotkey_ss58(), &validator()?, VALIDATOR_TIMEOUT).await?;
        listening.stop().await;
        anyhow::Ok((external, outcome.already_there, reply))
    })?;
    let answered = Answered { announced_before: Some(before), reply };
    let diagnostics = answered.wrong(&settings.model_url).into_iter().collect();
    let receipt = receipt(&settings, SocketAddr::new(external, settings.listen.port()));
    let report = finished(inputs, with_answer(receipt, &answered), diagnostics, watch);
    context.store.write(&report)?;
    Ok(report)
}

/// What the axon answered when it was asked, and how it was announced.
struct Answered {
    /// Whether the chain said so already; absent while it is away.
    announced_before: Option<bool>,
    reply: ModelQueryReply,
}

impl Answered {
    fn wrong(&self, model_url: &str) -> Option<Diagnostic> {
        let told = self.told();
        let finding = Diagnostic::error("G04", "the axon does not tell where the model is")
            .found(format!("{told}, status {} {}", self.reply.status_code, self.reply.status_message))
            .expected(model_url);
        (told != model_url).then_some(finding)
    }

    fn told(&self) -> String {
        format!("{}/{}", self.reply.repo_id, self.reply.model_id)
    }
}

fn receipt(settings: &Settings, announce: SocketAddr) -> ServeReceipt {
    ServeReceipt {
        executed: false,
        listen: settings.listen,
        announce: announce.to_string(),
        monitor: Some(settings.monitor),
        announced_before: None,
        model_url: settings.model_url.clone(),
        answer: None,
        gates: Vec::new(),
    }
}

fn with_answer(receipt: ServeReceipt, answered: &Answered) -> ServeReceipt {
    let gates = gates(answered, &receipt.model_url);
    let reply = answered.reply.clone();
    let answer = Answer {
        repo_id: reply.repo_id,
        model_id: reply.model_id,
        status_code: reply.status_code,
        status_message: reply.status_message,
    };
    ServeReceipt { executed: true, announced_before: answered.announced_before, answer: Some(answer), gates, ..receipt }
}

fn finished(inputs: Inputs, receipt: ServeReceipt, diagnostics: Vec<Diagnostic>, watch: Watch) -> Report<ServeReceipt> {
    let mut report = Report::new(Step::Serve.name(), inputs, diagnostics, Some(receipt));
    report.run = watch.stop(Vec::new(), serde_json::Value::Null);
    report
}

/// The validator of the local network, a development key.
pub(crate) fn validator() -> anyhow::Result<KeyPair> {
    KeyPair::from_uri("//Bob//vali").context("a development key")
}

fn gates(answered: &Answered, model_url: &str) -> Vec<GateVerdict> {
    let pass_if = |holds| if holds { GateStatus::Pass } else { GateStatus::Fail };
    let told = pass_if(answered.told() == model_url);
    let seen = format!("status {} for a registered hotkey", answered.reply.status_code);
    let left = (VALIDATOR_TIMEOUT.as_secs_f64() - answered.reply.seconds).max(0.0);
    let mut gates = vec![
        GateVerdict::new("G04", told, "answered a validator's question").margin(format!("{left:.1} s of 5 s left")),
        GateVerdict::new("G05", pass_if(answered.reply.status_code == 200), seen),
    ];
    // Announced means registered: the chain takes no announcement of another hotkey.
    if answered.announced_before.is_some() {
        gates.insert(0, GateVerdict::new("G01", GateStatus::Pass, "registered, and the axon is on chain"));
    }
    gates
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
        if let Some(monitor) = self.monitor {
            section = section.row("health, metrics", format!("http://{monitor}/health, /metrics"));
        }
        if let Some(answer) = &self.answer {
            section = section.row("asked once", answer.summary());
        }
        if !self.executed {
            section = section.note("Nothing was changed. `--execute` announces on chain and serves until stopped.");
        }
        vec![section]
    }
}
