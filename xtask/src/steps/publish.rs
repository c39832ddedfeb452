//! `publish`: private, one Hub commit, read back.

use deval_hub::{HubClient, Journal, RemoteState, UploadEvent, UploadPlan};
use deval_model::WeightsDigest;
use deval_report::{Inputs, Report, Section, Step};
use serde::{Deserialize, Serialize};

use super::{Watch, need, result_of};
use crate::{context::Context, hub, ui::Unit};

/// What was published, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PublishReceipt {
    /// False when this is only the plan.
    pub(crate) executed: bool,
    pub(crate) model_url: String,
    pub(crate) model_hash: String,
    /// Digest of the listing that was read back.
    pub(crate) listing: String,
    /// Hub revision that holds it; absent in a plan.
    pub(crate) revision: Option<String>,
    /// Whether a new Hub commit was made.
    pub(crate) new_hub_commit: bool,
    pub(crate) add: Vec<String>,
    pub(crate) delete: Vec<String>,
    pub(crate) unchanged: usize,
    /// Bytes of the files to send, before the Hub's deduplication.
    pub(crate) bytes: u64,
}

/// Shows the plan; with `execute`, uploads privately in one Hub commit and reads the remote tree back.
pub(crate) fn publish(context: &Context, execute: bool) -> anyhow::Result<Report<PublishReceipt>> {
    let mut inputs = Inputs::default();
    for &step in Step::Publish.needs() {
        inputs.add_need(step, &need(context, step)?);
    }
    let watch = Watch::start();
    let (client, repo, files) = (hub::client(context)?, hub::repo(context)?, hub::files(context)?);
    let hash: WeightsDigest = result_of(context, Step::Hash)?;
    let remote = context.runtime.block_on(client.remote_state(&repo))?;
    let plan = HubClient::plan(&files, &remote);
    let mut receipt = planned(context, &plan, hash.model_hash, deval_hub::listing_digest(&files));
    let mut diagnostics = Vec::new();
    if execute {
        // New weights are not to be seen before their hash stands on chain.
        if !plan.is_empty() && matches!(&remote, RemoteState::Present(repository) if !repository.private) {
            context.runtime.block_on(client.set_private(&repo, true))?;
        }
        let journal = Journal::open(&context.out("publish.journal.jsonl"))?;
        let bar = context.ui.bar("publishing", plan.bytes, Unit::Bytes);
        let outcome =
            context.runtime.block_on(client.upload(&repo, &plan, &files, &journal, &|event| match event {
                UploadEvent::Transfer { done, .. } => bar.set_position(done),
                UploadEvent::Waiting { reason, .. } => bar.set_message(reason),
                _ => (),
            }))?;
        bar.finish_and_clear();
        diagnostics = context.runtime.block_on(client.verify(&repo, &outcome.revision, &files, false))?;
        receipt.executed = true;
        receipt.new_hub_commit = !outcome.nothing_to_do;
        receipt.revision = Some(outcome.revision);
    }
    let mut report = Report::new(Step::Publish.name(), inputs, diagnostics, Some(receipt));
    report.run = watch.stop(Vec::new(), serde_json::Value::Null);
    if execute {
        context.store.write(&report)?;
    }
    Ok(report)
}

fn planned(context: &Context, plan: &UploadPlan, model_hash: String, listing: String) -> PublishReceipt {
    PublishReceipt {
        executed: false,
        model_url: context.manifest.submission.model_url.clone(),
        model_hash,
        listing,
        revision: None,
        new_hub_commit: false,
        add: plan.adds.iter().map(|add| add.path.clone()).collect(),
        delete: plan.deletes.clone(),
        unchanged: plan.unchanged.len(),
        bytes: plan.bytes,
    }
}

impl PublishReceipt {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let mut section = Section::new(if self.executed { "Published" } else { "Plan of publish" })
            .row("repository", &self.model_url)
            .row("model hash", &self.model_hash)
            .row("add", list(&self.add))
            .row("delete", list(&self.delete))
            .row("unchanged", format!("{} files", self.unchanged))
            .row("bytes", self.bytes);
        if let Some(revision) = &self.revision {
            let how = if self.new_hub_commit { "one new Hub commit" } else { "nothing changed, no Hub commit" };
            section = section.row("Hub revision", revision).row("", how);
        }
        if !self.executed {
            section =
                section.note("Nothing was changed. `--execute` uploads privately in one Hub commit and reads it back.");
        }
        vec![section]
    }
}

fn list(paths: &[String]) -> String {
    if paths.is_empty() { "nothing".into() } else { paths.join(", ") }
}
