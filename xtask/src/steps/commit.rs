//! `commit`: the model hash on chain, read back; then the repository is made public and verified as a stranger sees it.

mod before;

use anyhow::Context as _;
use deval_chain::{Client, CommitOutcome, CommitmentPayload, Wallet, parse_as_validator};
use deval_hub::{Effect, Expected, Half, Journal, RemoteRepo, closed};
use deval_model::WeightsDigest;
use deval_report::{
    Diagnostic, Inputs, Network, Report, Section, Step,
    gates::{GateStatus, GateVerdict},
};
use serde::{Deserialize, Serialize};

use self::before::Before;
use super::{
    PublishReceipt, Watch, need, result_of,
    transaction::{Transaction, gates::verdicts},
};
use crate::{chain, cli, confirm::confirm, context::Context, findings::Findings, wallet};

/// What was committed on chain, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CommitReceipt {
    /// False when this is only the plan.
    pub(crate) executed: bool,
    pub(crate) network: Network,
    /// Hash of the chain's first block, which tells chains apart.
    pub(crate) genesis: String,
    pub(crate) netuid: u16,
    pub(crate) hotkey: String,
    pub(crate) model_hash: String,
    /// What is committed: the bytes that a validator parses.
    pub(crate) payload: String,
    /// Block of the commitment as the chain keeps it; absent in a plan.
    pub(crate) block: Option<u64>,
    /// Hash of the extrinsic; absent when the chain held the same commitment already.
    pub(crate) extrinsic: Option<String>,
    /// Whether the repository is public and was verified without a token.
    pub(crate) public: bool,
    /// How the chain stood before.
    pub(crate) before: Before,
    pub(crate) gates: Vec<GateVerdict>,
}

/// Shows the plan; with `execute`, commits unless the chain holds the same commitment, reads back, and makes the repository public.
pub(crate) fn commit(context: &Context, effect: &cli::Effect) -> anyhow::Result<Report<CommitReceipt>> {
    let mut inputs = Inputs::default();
    inputs.add_need(Step::Publish, &need(context, Step::Publish)?);
    let watch = Watch::start();
    let (published, transaction) = published(context)?;
    let wallet = wallet::open(context)?;
    let payload = CommitmentPayload::encode(&published.model_url, &published.model_hash)?;
    let chain = chain::client(context)?;
    let (netuid, hotkey) = (context.network().netuid(), wallet.hotkey_ss58());
    let before = context.runtime.block_on(Before::read(&chain, netuid, &hotkey, &payload))?;
    let mut diagnostics = wallet::exposed(context);
    let mut receipt = CommitReceipt {
        executed: false,
        network: context.network(),
        genesis: chain.genesis_hash(),
        netuid,
        hotkey,
        model_hash: published.model_hash.clone(),
        payload: payload.as_str().to_owned(),
        block: before.block,
        extrinsic: None,
        public: false,
        before,
        gates: Vec::new(),
    };
    let refused = receipt.before.refused(netuid);
    if effect.execute {
        refused.map_or(Ok(()), |finding| Err(Findings::from(finding)))?;
        let revision = published.revision.as_deref().context("a publish receipt names its revision")?;
        let expected = Expected { revision, local: &transaction.files, kept: &published.kept };
        let remote = still_there(&transaction, expected)?;
        if receipt.block.is_none() || remote.private {
            confirm(context, effect, &receipt.sections(), transaction.repo.as_str())?;
        }
        let journal = transaction.journal()?;
        let outcome = on_chain(context, &chain, &wallet, &payload, &journal, &receipt)?;
        receipt.executed = true;
        receipt.block = Some(outcome.block_number);
        receipt.extrinsic = outcome.submitted.map(|submitted| submitted.extrinsic_hash);
        receipt.gates = chain_gates(&published, &outcome.read_back, outcome.block_number);
        transaction.set_private(&journal, remote.private, false)?;
        let (verified, answered) = transaction.verify_public(&journal, expected)?;
        receipt.public = verified.is_ok();
        receipt.gates.extend(verdicts(&verified, context.network(), Some(answered)));
        diagnostics.extend(verified.findings);
    } else {
        diagnostics.extend(refused);
    }
    let mut report = Report::new(Step::Commit.name(), inputs, diagnostics, Some(receipt));
    report.run = watch.stop(Vec::new(), serde_json::Value::Null);
    if effect.execute {
        context.store.write(&report)?;
        // The commitment stands whether or not the chain can be looked at once more.
        if let Err(error) = chain::look(context) {
            context.ui.say(format!("chain     not read for the verdict: {error:#}"));
        }
    }
    Ok(report)
}

/// The publish receipt, if it is of the submission as it stands now, with the transaction that it belongs to.
fn published(context: &Context) -> anyhow::Result<(PublishReceipt, Transaction<'_>)> {
    let published: PublishReceipt = result_of(context, Step::Publish)?;
    need(context, Step::Hash)?;
    let transaction = Transaction::new(context, published.only)?;
    let differences = differences(context, &published, transaction.listing())?;
    if !differences.is_empty() {
        return Err(Findings(differences).into());
    }
    if !published.weights {
        let half = if published.only == Some(Half::Pipeline) { "the pipeline" } else { "what" };
        let message = format!("{half} was published beside other weights than those of the hash");
        let finding = Diagnostic::error("commit.other-weights", message).expected(&published.model_hash);
        let help = "publish the model too: `cargo xtask publish --execute` without --only";
        return Err(Findings::from(finding.help(help)).into());
    }
    Ok((published, transaction))
}

/// Where the receipt is of another submission, or of another state of this one.
fn differences(context: &Context, published: &PublishReceipt, staged: String) -> anyhow::Result<Vec<Diagnostic>> {
    let hash: WeightsDigest = result_of(context, Step::Hash)?;
    let submission = &context.manifest.submission;
    let finding = |what: String, found: &str, expected: &str| {
        let finding = Diagnostic::error("commit.publish-is-old", format!("what was published {what}"));
        finding.found(found).expected(expected).help("run `cargo xtask publish --execute` again")
    };
    let told = [
        ("submission.network", "is for another network", published.network.to_string(), submission.network.to_string()),
        ("submission.model_url", "is another repository", published.model_url.clone(), submission.model_url.clone()),
        ("submission.model_dir", "has another model hash", published.model_hash.clone(), hash.model_hash),
        ("submission.model_dir", "has another listing of files", published.listing.clone(), staged),
    ];
    let other = told.iter().filter(|(_, _, found, expected)| found != expected);
    let other =
        other.map(|(key, what, found, expected)| context.place(finding((*what).to_owned(), found, expected), key));
    let other: Vec<_> = other.collect();
    if !other.is_empty() {
        return Ok(other);
    }
    let made_of = context.store.read::<serde_json::Value>(Step::Publish.name()).map(|report| report.inputs);
    let made_of = made_of.unwrap_or_default();
    let reports = [Step::Validate, Step::Hash].map(|step| (step, made_of.need(step).unwrap_or("none")));
    let mut findings = Vec::new();
    for (step, found) in reports {
        let expected = need(context, step)?;
        if found != expected {
            let finding = finding(format!("was made of another report of `{step}`"), found, &expected);
            findings.push(finding.in_file("target/deval/publish.json"));
        }
    }
    Ok(findings)
}

/// The repository still is what was published: what goes on chain is about what stands there, not about what stood there once.
///
/// # Errors
/// [`Findings`] of everything that has changed; nothing was sent to the chain.
fn still_there(transaction: &Transaction<'_>, expected: Expected<'_>) -> anyhow::Result<RemoteRepo> {
    let verified = transaction.verify(expected, false)?;
    let ok = verified.is_ok();
    match verified.found {
        // Nothing is spent on what validators cannot read.
        Some(found) if ok => {
            let closed = closed(&transaction.repo, &found);
            if closed.is_empty() { Ok(found) } else { Err(Findings(closed).into()) }
        }
        _ => {
            let message = "the repository is not what was published; nothing was committed on chain";
            let finding =
                Diagnostic::error("commit.hub-changed", message).help("run `cargo xtask publish` to see what differs");
            let errors = verified.findings.into_iter().filter(Diagnostic::is_error);
            Err(Findings(errors.chain([finding]).collect()).into())
        }
    }
}

/// The commitment, with its intent in the journal before anything is sent.
fn on_chain(
    context: &Context,
    chain: &Client,
    wallet: &Wallet,
    payload: &CommitmentPayload,
    journal: &Journal,
    receipt: &CommitReceipt,
) -> anyhow::Result<CommitOutcome> {
    let pending = journal.pending(Effect::ChainCommitment).is_some();
    if receipt.block.is_none() && !pending {
        journal.intend(Effect::ChainCommitment, Some(&receipt.hotkey))?;
    }
    let outcome = context.runtime.block_on(chain.commit(receipt.netuid, wallet, payload))?;
    if receipt.block.is_none() || pending {
        journal.done(Effect::ChainCommitment, Some(&outcome.block_number.to_string()))?;
    }
    Ok(outcome)
}

/// The gates that the commitment read back decides, by the validator's own parse.
fn chain_gates(published: &PublishReceipt, read_back: &[u8], block: u64) -> Vec<GateVerdict> {
    let Ok(view) = parse_as_validator(read_back) else {
        return vec![GateVerdict::new("G18", GateStatus::Fail, "the validator's parser raises on the commitment")];
    };
    let pass_if = |code, holds, detail: String| {
        GateVerdict::new(code, if holds { GateStatus::Pass } else { GateStatus::Fail }, detail)
    };
    let same_hash = view.model_hash.as_deref() == Some(published.model_hash.as_str());
    vec![
        pass_if("G17", block != 0, format!("a commitment stands at block {block}")),
        pass_if("G18", view.model_url.is_some() && view.model_hash.is_some(), "both keys are read back".into()),
        pass_if("G20", same_hash, "read back after the commit".into()),
        pass_if(
            "G22",
            view.model_url.as_deref() == Some(published.model_url.as_str()),
            "model_url equals the axon's answer".into(),
        ),
        pass_if("G28", same_hash, format!("the chain holds {}", published.model_hash)),
    ]
}

impl CommitReceipt {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let mut section = Section::new(if self.executed { "Committed on chain" } else { "Plan of commit" })
            .row("netuid", self.netuid)
            .row("hotkey", &self.hotkey)
            .row("payload", format!("{} ({} bytes)", self.payload, self.payload.len()));
        if !self.executed {
            section = self.before.rows(section);
        }
        if let Some(block) = self.block {
            let how = match (&self.extrinsic, self.executed) {
                (Some(hash), _) => format!("extrinsic {hash}"),
                (None, true) => "the same commitment stood there already; nothing was sent".to_owned(),
                (None, false) => "the same commitment stands there already; nothing would be sent".to_owned(),
            };
            section = section.row("block", block).row("", how);
        }
        if self.executed {
            section = section
                .row("repository", if self.public { "public, verified without a token" } else { "see the findings" });
        } else {
            section =
                section.note("Nothing was changed. `--execute` commits, reads back, and makes the repository public.");
        }
        vec![section]
    }
}
