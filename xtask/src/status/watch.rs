//! `status --watch`: looks again and again, and tells changes: on the terminal, and to a webhook.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chrono::{SecondsFormat, Utc};
use deval_report::{Diagnostic, Report};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{Status, take, webhook::Webhook};
use crate::{
    Verdict,
    cli::{Global, StatusArgs},
    context::Context,
    secrets::Typed,
    store::write_atomically,
    ui::Ui,
};

/// Reasons that hide others.
const AWAY: [&str; 2] = ["chain.away", "hub.away"];

/// What a change is a change of. Places that move by themselves, as ranks and days do, are not among it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// Which submission this is.
    submission: [String; 3],
    reasons: Vec<String>,
    uid: Option<u16>,
    /// Model hash and block.
    commitment: Option<(Option<String>, u64)>,
    hub_commit: Option<String>,
    axon: Option<String>,
}

/// A change that is told.
#[derive(Debug, Clone, PartialEq)]
struct Change {
    appeared: Vec<String>,
    gone: Vec<String>,
    facts: Vec<String>,
}

/// Looks until it is stopped. The first look is told in full; what it is compared with is what was told last, by an earlier run too.
pub(super) fn run(global: &Global, flags: &StatusArgs, ui: Ui) -> anyhow::Result<Verdict> {
    let webhook = flags.webhook.as_deref().map(Webhook::new).transpose()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let _entered = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut watch = Watch { ui, webhook, told: None, first: true };
    let (pause, typed) = (Duration::from_secs(flags.every), Typed::default());
    let look = || {
        let mut context = Context::open(global, ui)?;
        context.secrets.typed = typed.clone();
        anyhow::Ok((take(&context, flags.round_start)?, context))
    };
    loop {
        let next = Instant::now() + pause;
        // A manifest that is being written, or a wallet that is locked, is no reason to stop watching.
        match look() {
            Ok((report, context)) => watch.seen(&report, &context.out("cache/status.json"))?,
            Err(error) if watch.first => return Err(error),
            Err(error) => ui.say(format!("not looked: {error:#}")),
        }
        let stopped = runtime.block_on(async {
            tokio::select! {
                () = watch.wait_until(next) => false,
                _ = tokio::signal::ctrl_c() => true,
                _ = terminate.recv() => true,
            }
        });
        if stopped {
            return Ok(Verdict::Ok);
        }
    }
}

struct Watch {
    ui: Ui,
    webhook: Option<Webhook>,
    told: Option<Told>,
    first: bool,
}

impl Watch {
    fn seen(&mut self, report: &Report<Status>, kept: &PathBuf) -> anyhow::Result<()> {
        let Some(status) = &report.result else { return Ok(()) };
        let now = Told::of(status);
        let earlier = || serde_json::from_slice::<Told>(&fs::read(kept).ok()?).ok();
        let before = self.told.take().or_else(earlier).filter(|before| before.submission == now.submission);
        let now = before.as_ref().map_or_else(|| now.clone(), |before| now.clone().carrying(before));
        let change = before.as_ref().and_then(|before| now.since(before));
        if std::mem::take(&mut self.first) {
            self.ui.report(report, &status.sections());
        } else if let Some(change) = &change {
            self.tell(status, report, change);
        }
        if let (Some(change), Some(webhook)) = (&change, &mut self.webhook) {
            webhook.push(message(status, &report.diagnostics, change));
        }
        if before.as_ref() != Some(&now) {
            write_atomically(kept, &serde_json::to_vec(&now)?)?;
        }
        self.told = Some(now);
        Ok(())
    }

    fn tell(&self, status: &Status, report: &Report<Status>, change: &Change) {
        if !self.ui.is_for_people() {
            return self.ui.report(report, &[]);
        }
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        self.ui.print(format!("{time}  {}  ({})", status.summary(), change.line()));
        let new = report.diagnostics.iter().filter(|finding| change.appeared.contains(&finding.code));
        self.ui.findings(&new.cloned().collect::<Vec<_>>());
    }

    /// Sends what is to be sent, as often as that takes, and waits for the rest of the time.
    async fn wait_until(&mut self, next: Instant) {
        if let Some(webhook) = &mut self.webhook {
            for remark in webhook.send_until(next).await {
                self.ui.say(remark);
            }
        }
        tokio::time::sleep_until(next.into()).await;
    }
}

impl Told {
    fn of(status: &Status) -> Self {
        let chain = status.models.chain.as_ref();
        Self {
            submission: [status.network.to_string(), status.hotkey.clone(), status.model_url.clone()],
            reasons: status.reasons.clone(),
            uid: status.registration.as_ref().map(|registered| registered.uid),
            commitment: chain.map(|chain| (chain.model_hash.clone(), chain.block)),
            hub_commit: status.hub_commit.as_ref().map(|commit| commit.revision.clone()),
            axon: status.axon.as_ref().map(|axon| axon.address.clone()),
        }
    }

    /// While a place is away, what it told last still stands: it is neither gone nor changed.
    fn carrying(mut self, before: &Self) -> Self {
        if !self.reasons.iter().any(|reason| AWAY.contains(&reason.as_str())) {
            return self;
        }
        let kept = before.reasons.iter().filter(|reason| !AWAY.contains(&reason.as_str()));
        let kept: Vec<_> = kept.filter(|reason| !self.reasons.contains(reason)).cloned().collect();
        self.reasons.extend(kept);
        self.uid = self.uid.or(before.uid);
        self.commitment = self.commitment.or_else(|| before.commitment.clone());
        self.hub_commit = self.hub_commit.or_else(|| before.hub_commit.clone());
        self.axon = self.axon.or_else(|| before.axon.clone());
        self
    }

    fn since(&self, before: &Self) -> Option<Change> {
        let not_in =
            |a: &[String], b: &[String]| a.iter().filter(|code| !b.contains(code)).cloned().collect::<Vec<_>>();
        let facts = [
            ("uid", self.uid == before.uid),
            ("commitment", self.commitment == before.commitment),
            ("Hub commit", self.hub_commit == before.hub_commit),
            ("announced address", self.axon == before.axon),
        ];
        let change = Change {
            appeared: not_in(&self.reasons, &before.reasons),
            gone: not_in(&before.reasons, &self.reasons),
            facts: facts.iter().filter(|(_, same)| !same).map(|(fact, _)| (*fact).to_owned()).collect(),
        };
        (change.appeared.len() + change.gone.len() + change.facts.len() > 0).then_some(change)
    }
}

impl Change {
    fn line(&self) -> String {
        let part = |what: &str, codes: &[String]| (!codes.is_empty()).then(|| format!("{what} {}", codes.join(", ")));
        let parts = [part("new:", &self.appeared), part("gone:", &self.gone), part("changed:", &self.facts)];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// What the webhook gets. `text` and `content` are the line that chat services show.
fn message(status: &Status, findings: &[Diagnostic], change: &Change) -> serde_json::Value {
    let line = format!("De-Val {} on {}: {} ({})", status.model_url, status.network, status.summary(), change.line());
    json!({
        "deval_status": 1,
        "time": Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        "text": line,
        "content": line,
        "verdict": status.verdict,
        "appeared": change.appeared,
        "gone": change.gone,
        "changed": change.facts,
        "reasons": status.reasons,
        "findings": findings,
        "status": status,
    })
}

#[cfg(test)]
mod tests;
