//! `publish`: private, one Hub commit, read back.

use deval_hub::{Effect, Expected, Half, HubClient, RemoteFile, RemoteState, UploadPlan, Verified, closed};
use deval_model::WeightsDigest;
use deval_report::{Diagnostic, Inputs, Network, Report, Section, Step, gates::GateVerdict};
use serde::{Deserialize, Serialize};

use super::{
    Watch, need, result_of,
    transaction::{Transaction, gates::verdicts, round::Round},
};
use crate::{
    cli::{HalfArg, PublishArgs},
    confirm::confirm,
    context::Context,
    findings::Findings,
    meter::{Meter, bytes},
};

/// What was published, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PublishReceipt {
    /// False when this is only the plan.
    pub(crate) executed: bool,
    pub(crate) network: Network,
    pub(crate) model_url: String,
    pub(crate) model_hash: String,
    /// The half that was published; all of it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) only: Option<Half>,
    /// Digest of the listing that was read back.
    pub(crate) listing: String,
    /// Hub revision that holds it; absent in a plan.
    pub(crate) revision: Option<String>,
    /// Whether a new Hub commit was made.
    pub(crate) new_hub_commit: bool,
    /// Whether an earlier run, which was interrupted, had made it.
    #[serde(default)]
    pub(crate) resumed: bool,
    pub(crate) add: Vec<String>,
    pub(crate) delete: Vec<String>,
    pub(crate) unchanged: usize,
    /// Remote files of the other half, which stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) kept: Vec<RemoteFile>,
    /// Whether the weights on the Hub are those of `model_hash`.
    pub(crate) weights: bool,
    /// Bytes of the files to send, before the Hub's deduplication.
    pub(crate) bytes: u64,
    /// Bytes that were sent; absent in a plan.
    #[serde(default)]
    pub(crate) sent: Option<u64>,
    /// Whether everybody may read the repository; after the step, or now in a plan.
    pub(crate) public: bool,
    /// What becomes of the round in progress.
    pub(crate) round: Round,
    /// What is at risk.
    pub(crate) risks: Vec<String>,
    #[serde(default)]
    pub(crate) gates: Vec<GateVerdict>,
}

/// Shows the plan; with `execute`, uploads in one Hub commit, new weights privately, and reads the remote tree back.
pub(crate) fn publish(context: &Context, arguments: &PublishArgs) -> anyhow::Result<Report<PublishReceipt>> {
    let mut inputs = Inputs::default();
    for &step in Step::Publish.needs() {
        inputs.add_need(step, &need(context, step)?);
    }
    let watch = Watch::start();
    let only = arguments.only.map(HalfArg::value);
    let transaction = Transaction::new(context, only)?;
    let hash: WeightsDigest = result_of(context, Step::Hash)?;
    let remote = context.runtime.block_on(transaction.client.remote_state(&transaction.repo))?;
    let plan = HubClient::plan(&transaction.files, &remote, only);
    require_other_half(only, &plan)?;
    let mut receipt = planned(context, &transaction, &plan, &remote, &hash);
    receipt.only = only;
    if !plan.is_empty() && context.network() != Network::Local {
        receipt.risks.extend(stranger(context, &transaction)?);
    }
    // Known before the weights are sent; `commit` refuses it.
    let mut diagnostics = match &remote {
        RemoteState::Present(found) => closed(&transaction.repo, found),
        RemoteState::Missing => Vec::new(),
    };
    if arguments.effect.execute && diagnostics.is_empty() {
        if !plan.is_empty() {
            confirm(context, &arguments.effect, &receipt.sections(), transaction.repo.as_str())?;
        }
        diagnostics = carry_out(context, &transaction, &plan, &remote, &mut receipt)?;
    }
    let mut report = Report::new(Step::Publish.name(), inputs, diagnostics, Some(receipt));
    report.run = watch.stop(Vec::new(), serde_json::Value::Null);
    if report.result.as_ref().is_some_and(|receipt| receipt.executed) {
        context.store.write(&report)?;
    }
    Ok(report)
}

/// A token of somebody whose repository it is not.
fn stranger(context: &Context, transaction: &Transaction<'_>) -> anyhow::Result<Option<String>> {
    let account = context.runtime.block_on(transaction.client.account())?;
    let namespace = transaction.repo.namespace();
    let stranger = account.filter(|account| !account.may_own(namespace));
    Ok(stranger.map(|account| {
        format!("the token is that of `{}`, who does not belong to `{namespace}`: the Hub may refuse it", account.name)
    }))
}

/// Half a submission stands beside another half only.
fn require_other_half(only: Option<Half>, plan: &UploadPlan) -> Result<(), Findings> {
    if only.is_none() || !plan.kept.is_empty() {
        return Ok(());
    }
    let finding = Diagnostic::error("publish.no-other-half", "the repository does not hold the other half");
    let found = if plan.creates { "no repository" } else { "none of its files" };
    Err(finding.found(found).help("publish everything first: `cargo xtask publish` without --only").into())
}

fn planned(
    context: &Context,
    transaction: &Transaction<'_>,
    plan: &UploadPlan,
    remote: &RemoteState,
    hash: &WeightsDigest,
) -> PublishReceipt {
    let public = matches!(remote, RemoteState::Present(found) if !found.private);
    PublishReceipt {
        executed: false,
        network: context.network(),
        model_url: context.manifest.submission.model_url.clone(),
        model_hash: hash.model_hash.clone(),
        only: None,
        listing: transaction.listing(),
        revision: None,
        new_hub_commit: false,
        resumed: false,
        add: plan.adds.iter().map(|add| add.path.clone()).collect(),
        delete: plan.deletes.clone(),
        unchanged: plan.unchanged.len(),
        kept: plan.kept.clone(),
        weights: holds_weights(transaction, plan, hash),
        bytes: plan.bytes,
        sent: None,
        public,
        round: Round::of(remote, plan.is_empty()),
        risks: risks(plan, public),
        gates: Vec::new(),
    }
}

/// Whether the root weights, once the plan is carried out, are those of the hash step: published now, or kept with the same digests.
fn holds_weights(transaction: &Transaction<'_>, plan: &UploadPlan, hash: &WeightsDigest) -> bool {
    let local = transaction.files.iter().map(|file| (file.path.as_str(), format!("sha256 {}", file.sha256)));
    let kept = plan.kept.iter().map(|file| (file.path.as_str(), file.digest.to_string()));
    let mut there: Vec<_> = local.chain(kept).filter(|(path, _)| is_weights(path)).collect();
    there.sort();
    let hashed = hash.files.iter().map(|file| (file.name.as_str(), format!("sha256 {}", file.sha256)));
    let mut hashed: Vec<_> = hashed.collect();
    hashed.sort();
    there == hashed
}

/// New contents of the model go to a private repository only: the weights are not to be seen before their hash stands on chain. Weights
/// that go away make another hash too.
fn must_hide(plan: &UploadPlan) -> bool {
    plan.adds.iter().any(|add| Half::Model.owns(&add.path)) || plan.deletes.iter().any(|path| is_weights(path))
}

fn is_weights(path: &str) -> bool {
    !path.contains('/') && path.ends_with(".safetensors")
}

fn risks(plan: &UploadPlan, public: bool) -> Vec<String> {
    if plan.is_empty() {
        return Vec::new();
    }
    let hides = must_hide(plan);
    let deletes = plan.deletes.len();
    let deleted = if deletes == 1 { "1 file is".to_owned() } else { format!("{deletes} files are") };
    let known = [
        (public && hides, "the repository is public and becomes private, so that nobody copies the weights before their hash stands on chain; validators cannot read it until `cargo xtask commit --execute`".to_owned()),
        (!public, "the repository is private until `cargo xtask commit --execute` has put the hash on chain: nobody can commit your weights before you, and nobody can evaluate them either".to_owned()),
        (public && !hides, "the repository stays public: everybody reads the new files at once, and no chain commitment stands between".to_owned()),
        (deletes > 0, format!("{deleted} deleted from `main`; earlier revisions of a public repository keep showing them")),
    ];
    known.into_iter().filter(|(holds, _)| *holds).map(|(_, risk)| risk).collect()
}

fn carry_out(
    context: &Context,
    transaction: &Transaction<'_>,
    plan: &UploadPlan,
    remote: &RemoteState,
    receipt: &mut PublishReceipt,
) -> anyhow::Result<Vec<Diagnostic>> {
    let journal = transaction.journal()?;
    if receipt.public && must_hide(plan) {
        transaction.set_private(&journal, false, true)?;
        receipt.public = false;
    }
    let meter = Meter::new(context.ui, "publishing", plan.bytes);
    let Transaction { client, repo, files, .. } = transaction;
    let hear = |event| meter.hear(event);
    let outcome = context.runtime.block_on(client.upload(repo, plan, files, &journal, &hear))?;
    meter.finish();
    let expected = Expected { revision: &outcome.revision, local: files, kept: &plan.kept };
    let open = journal.is_open();
    if open {
        journal.intend(Effect::Verify, Some(&outcome.revision))?;
    }
    let verified = transaction.verify(expected, false)?;
    if open && verified.is_ok() {
        journal.done(Effect::Verify, Some(&outcome.revision))?;
    }
    receipt.gates = verdicts(&verified, context.network(), None);
    let Verified { mut findings, .. } = verified;
    // A repository that stays public is looked at as a validator does; a private one when `commit` has made it public.
    if receipt.public && !findings.iter().any(Diagnostic::is_error) {
        let (seen, answered) = transaction.verify_public(&journal, expected)?;
        receipt.gates = verdicts(&seen, context.network(), Some(answered));
        findings = seen.findings;
    }
    receipt.executed = true;
    receipt.round = Round::of(remote, outcome.nothing_to_do);
    receipt.new_hub_commit = !outcome.nothing_to_do;
    receipt.resumed = outcome.resumed;
    receipt.sent = Some(outcome.transferred.sent);
    receipt.revision = Some(outcome.revision);
    Ok(findings)
}

impl PublishReceipt {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let mut section = Section::new(if self.executed { "Published" } else { "Plan of publish" })
            .row("repository", &self.model_url)
            .row("model hash", self.hash())
            .row("add", list(&self.add))
            .row("delete", list(&self.delete))
            .row("unchanged", format!("{} files", self.unchanged));
        if let Some(half) = self.only {
            let half = if half == Half::Pipeline { "pipeline" } else { "model" };
            section = section
                .row("only", format!("the {half}; {} files of the other half stay as they are", self.kept.len()));
        }
        section = section.row("bytes", self.amount()).row("round in progress", self.round.text());
        for risk in &self.risks {
            section = section.row("at risk", risk);
        }
        if let Some(revision) = &self.revision {
            let how = match (self.new_hub_commit, self.resumed) {
                (true, _) => "one new Hub commit",
                (false, true) => "the Hub commit of the run before, which was interrupted",
                (false, false) => "nothing changed, no Hub commit",
            };
            section = section.row("Hub revision", revision).row("", how);
        }
        vec![section.note(self.next())]
    }

    fn hash(&self) -> String {
        let other = if self.weights { "" } else { ", of the weights here; those on the Hub are others" };
        format!("{}{other}", self.model_hash)
    }

    fn amount(&self) -> String {
        let most = bytes(self.bytes);
        match self.sent {
            None if self.bytes == 0 => "0, nothing to send".to_owned(),
            None => format!("{} ({most}) at most; what the Hub knows is not sent", self.bytes),
            Some(sent) => {
                format!(
                    "{sent} ({}) of contents sent, of {} ({most}); small files go with the Hub commit",
                    bytes(sent),
                    self.bytes
                )
            }
        }
    }

    fn next(&self) -> &'static str {
        match (self.executed, self.public, self.only) {
            (false, ..) if self.add.is_empty() && self.delete.is_empty() => {
                "The Hub holds exactly this; `--execute` makes no Hub commit."
            }
            (false, true, Some(Half::Pipeline)) => {
                "Nothing was changed. `--execute` makes one Hub commit, whose date moves (gate 33), and reads it back; the weights \
                 and their hash on chain stay."
            }
            (false, ..) => "Nothing was changed. `--execute` uploads privately in one Hub commit and reads it back.",
            (true, true, _) => "The repository is public and was read back without a token.",
            (true, false, _) => {
                "The repository is private. `cargo xtask commit --execute` puts the hash on chain and makes it public."
            }
        }
    }
}

fn list(paths: &[String]) -> String {
    if paths.is_empty() { "nothing".into() } else { paths.join(", ") }
}
