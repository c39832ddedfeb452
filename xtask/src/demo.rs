//! `demo`: the whole way on a real small model, on the local network.
//!
//! SmolLM2-135M-Instruct (Apache-2.0) and all-MiniLM-L6-v2 (Apache-2.0) come out of wheels of the Python package index. Both are
//! checked by digest; nothing is installed.

pub(crate) mod model;

use anyhow::{Context as _, bail};
use deval_chain::{ChainError, Client, KeyPair, Wallet};
use deval_eval::Evaluation;
use deval_report::{Network, Section, Step, gates::GateStatus, render};

use crate::{
    Verdict,
    cli::{Effect, PublishArgs},
    context::Context,
    steps::{self, CommitReceipt, PublishReceipt},
    ui::Ui,
    views, wallet,
};

/// One TAO in rao.
const TAO: u64 = 1_000_000_000;

/// What Alice, the local chain's rich account, gives the demo's coldkey to register with.
const GIFT: u64 = 100 * TAO;

pub(crate) fn run(context: &Context) -> anyhow::Result<Verdict> {
    if context.network() != Network::Local {
        bail!("the demo is for `network = \"local\"`; this manifest says `{}`", context.network());
    }
    model::prepare(context)?;
    let wallet = throwaway_wallet(context)?;
    register(context, &wallet)?;
    steps::need(context, Step::Evaluate)?;
    let evaluation: Evaluation = steps::result_of(context, Step::Evaluate)?;
    let effect = Effect { execute: true, yes: false };
    let published = steps::publish(context, &PublishArgs { effect: effect.clone(), only: None })?;
    let committed = steps::commit(context, &effect)?;
    let served = steps::ask_once(context)?;
    let page = views::report(context)?;
    let verdict = views::verdict(context, false)?;
    let ok = published.is_ok() && committed.is_ok() && served.is_ok();
    for report in [&published.diagnostics, &committed.diagnostics, &served.diagnostics] {
        context.ui.findings(report);
    }
    let verdict = verdict.result.context("a verdict always has a result")?;
    let mut sections = vec![steps::evaluation_summary(&evaluation)];
    let (published, committed) = (published.result.context("executed")?, committed.result.context("executed")?);
    let answer = served.result.and_then(|served| served.answer).context("it was asked")?;
    sections.push(
        way(&published, &committed).row("axon", answer.summary()).row("report", &page.result.context("written")?.path),
    );
    sections.push(gates(&verdict));
    sections.push(Section::new("What this proves").note(
        "The way works on real files. The reward proves nothing about judging: the demo's model has 135 M parameters, \
         and a validator evaluates nothing below 12 GB.",
    ));
    context.ui.print(render::terminal(&sections));
    Ok(if ok { Verdict::Ok } else { Verdict::Findings })
}

fn way(published: &PublishReceipt, committed: &CommitReceipt) -> Section {
    let again = |new: bool, what: &str| if new { String::new() } else { format!("  (unchanged, no new {what})") };
    Section::new("The whole way")
        .row("model hash", &published.model_hash)
        .row(
            "Hub revision",
            format!(
                "{}{}",
                published.revision.as_deref().unwrap_or_default(),
                again(published.new_hub_commit, "Hub commit")
            ),
        )
        .row(
            "chain block",
            format!(
                "{}{}",
                committed.block.unwrap_or_default(),
                again(committed.extrinsic.is_some(), "chain commitment")
            ),
        )
}

fn gates(verdict: &views::Verdict) -> Section {
    let count = |status| verdict.count(status);
    let text = format!(
        "{} pass, {} warn, {} fail, {} unknown (`cargo xtask verdict` lists them)",
        count(GateStatus::Pass),
        count(GateStatus::Warn),
        count(GateStatus::Fail),
        count(GateStatus::Unknown)
    );
    Section::new("Gates").row("validator's 51", text)
}

/// The manifest's wallet; made of random keys the first time.
fn throwaway_wallet(context: &Context) -> anyhow::Result<Wallet> {
    match wallet::open(context) {
        Err(ChainError::KeyfileMissing { .. }) => {
            let settings = &context.manifest.wallet;
            let wallet = Wallet::create_throwaway(&context.path(&settings.path), &settings.name, &settings.hotkey)?;
            context.ui.say(format!("wallet    made: `{}`, for the local network only", settings.name));
            Ok(wallet)
        }
        opened => Ok(opened?),
    }
}

/// Registers the demo's hotkey and a validator's on the local chain.
fn register(context: &Context, wallet: &Wallet) -> anyhow::Result<()> {
    let endpoint = context.chain_endpoint()?;
    let netuid = Network::Local.netuid();
    context.runtime.block_on(async {
        let chain = Client::connect(&endpoint, Network::Local).await?;
        let hotkey = wallet.hotkey_ss58();
        if !chain.is_registered(netuid, &hotkey).await? {
            chain.fund_from_alice(wallet.coldkey_ss58(), GIFT).await?;
            let registered = chain.burned_register(netuid, &wallet.coldkey(|_| None)?, &hotkey).await?;
            say_registered(context.ui, "hotkey", registered.uid);
        }
        let validator = steps::validator()?;
        if !chain.is_registered(netuid, &validator.ss58()).await? {
            let alice = KeyPair::from_uri("//Alice").context("a development key")?;
            let registered = chain.burned_register(netuid, &alice, &validator.ss58()).await?;
            say_registered(context.ui, "a validator", registered.uid);
        }
        Ok(())
    })
}

fn say_registered(ui: Ui, who: &str, uid: u16) {
    ui.say(format!("chain     registered {who} as uid {uid}"));
}
