//! `serve`: the axon that tells validators where the model is.

mod handover;
mod keeper;
mod settings;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
pub(crate) use deval_axon::ServeReceipt;
use deval_axon::{
    Answered, Axon, Listening, Subnet, VALIDATOR_TIMEOUT, query,
    start::{Output, Settings, Start},
    system_clock,
};
use deval_chain::{Client, KeyPair};
use deval_report::{Diagnostic, Inputs, Report, Step};
use tokio::net::TcpListener;

pub(crate) use self::{handover::server, keeper::print as print_keeper};
use super::{Watch, need};
use crate::{
    cli::{ExternalArgs, Format, Global, LogFormat, ServeArgs},
    context::Context,
    wallet,
};

/// Shows the plan; with `--execute`, this process becomes the server, which announces the axon and serves until it is stopped.
pub(crate) fn serve(context: &Context, global: &Global, flags: &ServeArgs) -> anyhow::Result<Report<ServeReceipt>> {
    let watch = Watch::start();
    need(context, Step::Commit)?;
    let wallet = wallet::open(context)?;
    let (settings, inputs) = settings::read(context, &flags.external, &wallet.hotkey_ss58())?;
    let unreachable = settings::unreachable(settings.external, context);
    let mut diagnostics = wallet::exposed(context);
    diagnostics.extend(unreachable.into_iter().chain(settings::other_weights(context)));
    let receipt = receipt(&settings);
    let report = finished(inputs, receipt, diagnostics, watch);
    if !flags.effect.execute {
        return Ok(report);
    }
    let endpoint = context.chain_endpoint()?;
    let start = Start {
        settings,
        endpoint,
        passwords: settings::passwords(context),
        hotkeys: context.out("cache/hotkeys.json"),
        report,
        stored: context.store.path(Step::Serve.name()),
        output: match global.format {
            Format::Human => Output::Human,
            Format::Json => Output::Json,
            Format::Github => Output::Github,
        },
        json_log: flags.log == LogFormat::Json,
        secrets: context.secrets.values().into_iter().chain(settings::secret_path(context)).collect(),
        reload: handover::reload(context, global, &flags.external, &wallet.hotkey_ss58())?,
        companion: context.companion()?,
    };
    match handover::become_server(&start, context.ui)? {}
}

/// Prints what the server of this hotkey would serve now, for its reload.
pub(crate) fn print_settings(context: &Context, flags: &ServeArgs, hotkey: &str) -> anyhow::Result<crate::Verdict> {
    let (settings, _) = settings::read(context, &flags.external, hotkey)?;
    context.ui.print(serde_json::to_string(&settings).context("settings are text and numbers")?);
    Ok(crate::Verdict::Ok)
}

/// Announces the axon, serves it on a free local port, and asks it once as a validator would.
pub(crate) fn ask_once(context: &Context) -> anyhow::Result<Report<ServeReceipt>> {
    let watch = Watch::start();
    let wallet = wallet::open(context)?;
    let (settings, inputs) = settings::read(context, &ExternalArgs::default(), &wallet.hotkey_ss58())?;
    let netuid = settings.network.netuid();
    let (before, reply) = context.runtime.block_on(async {
        let chain = Client::connect(&context.chain_endpoint()?, settings.network).await?;
        let outcome = chain.serve_axon(netuid, &wallet, settings.external, settings.listen.port()).await?;
        let subnet = Arc::new(Subnet::of(chain.registered_hotkeys(netuid).await?));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free local port")?;
        let address = listener.local_addr().context("a bound port has an address")?;
        let axon = Axon::new(settings.answers(wallet.hotkey_ss58()), subnet, system_clock);
        let listening = Listening::start(listener, address, axon);
        let reply = query(address, &wallet.hotkey_ss58(), &validator()?, VALIDATOR_TIMEOUT).await?;
        listening.stop().await;
        anyhow::Ok((outcome.already_there, reply))
    })?;
    let answered = Answered { announced_before: Some(before), reply };
    let diagnostics = answered.wrong(&settings.model_url()).into_iter().collect();
    let receipt = receipt(&settings);
    let report = finished(inputs, receipt.with_answer(&answered), diagnostics, watch);
    context.store.write(&report)?;
    Ok(report)
}

fn receipt(settings: &Settings) -> ServeReceipt {
    ServeReceipt {
        executed: false,
        listen: settings.listen,
        announce: SocketAddr::new(settings.external, settings.listen.port()).to_string(),
        monitor: Some(settings.monitor),
        announced_before: None,
        model_url: settings.model_url(),
        answer: None,
        gates: Vec::new(),
    }
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
