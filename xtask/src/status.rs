//! `status`: how the submission stands now, as chain, Hub and validators see it. It changes nothing.
//!
//! Exit codes: 0 all is well, 1 something is to be acted on, 2 something could not be looked at (whatever else was seen).

mod axon;
mod judge;
mod look;
mod reasons;
mod view;
mod watch;
mod webhook;

use chrono::{DateTime, Utc};
use deval_report::{Diagnostic, Inputs, Network, Report, Severity};
use serde::Serialize;

pub(crate) use self::reasons::help as reasons_help;
use self::{
    axon::Probe,
    look::{HubSeen, LocalSeen, Seen},
};
use crate::{
    Verdict,
    cli::{Global, StatusArgs},
    context::Context,
    ui::Ui,
    wallet,
};

/// How the submission stands.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    pub(crate) verdict: Standing,
    /// Codes of the findings that are more than remarks, in the order of the findings.
    pub(crate) reasons: Vec<String>,
    pub(crate) network: Network,
    pub(crate) netuid: u16,
    pub(crate) hotkey: String,
    pub(crate) model_url: String,
    /// The finalised block that was looked at; absent while the chain is away.
    pub(crate) block: Option<u64>,
    pub(crate) registration: Option<Registered>,
    pub(crate) models: Models,
    pub(crate) axon: Option<Announced>,
    /// Others who committed our model hash, the earliest first.
    pub(crate) duplicates: Vec<Duplicate>,
    pub(crate) hub_commit: Option<HubCommit>,
}

/// All in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// Nothing is to be done.
    Good,
    /// Something is to be acted on.
    Act,
    /// Something could not be looked at.
    Unseen,
}

/// Our slot in the subnet.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Registered {
    pub(crate) uid: u16,
    /// Block of the registration.
    pub(crate) since: u64,
    pub(crate) coldkey: String,
    /// Blocks in which the registration alone lets a validator evaluate us; 0 when they are over.
    pub(crate) window_blocks_left: u64,
    pub(crate) window_days_left: f64,
    /// In 65535ths of the largest.
    pub(crate) incentive: u16,
    /// Place by incentive, from 1; equal incentives share the best place.
    pub(crate) rank: usize,
    /// Uids with this incentive, ours included.
    pub(crate) sharing: usize,
    /// Uids of the subnet.
    pub(crate) of: usize,
    /// Whether the rank alone lets a validator evaluate us; absent where equal incentives decide by chance.
    pub(crate) in_top: Option<bool>,
}

/// Our model in the three places, and each pair of them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Models {
    pub(crate) local: Option<LocalModel>,
    pub(crate) hub: Option<HubModel>,
    pub(crate) chain: Option<ChainModel>,
    pub(crate) local_hub: Pair,
    pub(crate) local_chain: Pair,
    pub(crate) hub_chain: Pair,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct LocalModel {
    pub(crate) model_hash: String,
    /// Where the hash is from: the report of `hash`, or the receipt of `publish`.
    pub(crate) source: &'static str,
    /// Whether the files have changed since.
    pub(crate) changed: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct HubModel {
    pub(crate) revision: Option<String>,
    pub(crate) public: bool,
    pub(crate) bytes: u64,
    /// The hash of the weights that stand there, where it can be told without reading them.
    pub(crate) model_hash: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct ChainModel {
    pub(crate) block: u64,
    pub(crate) model_url: Option<String>,
    pub(crate) model_hash: Option<String>,
}

/// Whether two places hold the same model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Pair {
    pub(crate) state: PairState,
    pub(crate) detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PairState {
    Equal,
    Differs,
    /// One of the two is missing, or could not be looked at.
    Unknown,
}

/// Where the chain sends validators.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Announced {
    pub(crate) address: String,
    /// Block of the announcement.
    pub(crate) block: u64,
    /// What became of a question there; absent when it was not asked.
    pub(crate) probe: Option<Probe>,
}

/// Another hotkey with our model hash.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Duplicate {
    pub(crate) hotkey: String,
    /// Absent when it is not registered now, and so not evaluated.
    pub(crate) uid: Option<u16>,
    /// Block of its commitment.
    pub(crate) block: u64,
    /// Whether it wins against us.
    pub(crate) wins: bool,
}

/// The newest Hub commit on `main`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HubCommit {
    pub(crate) revision: String,
    pub(crate) title: String,
    /// RFC 3339.
    pub(crate) date: String,
    /// Until when a round may run that began before it; absent when the date cannot be read.
    pub(crate) refused_until: Option<String>,
}

/// `cargo xtask status`.
pub(crate) fn run(global: &Global, flags: &StatusArgs, ui: Ui) -> anyhow::Result<Verdict> {
    if flags.watch {
        return watch::run(global, flags, ui);
    }
    let report = take(&Context::open(global, ui)?, flags.round_start)?;
    let status = report.result.as_ref();
    ui.report(&report, &status.map(Status::sections).unwrap_or_default());
    Ok(status.map_or(Verdict::Unseen, |status| status.verdict.into()))
}

/// Looks once.
fn take(context: &Context, round_start: Option<DateTime<Utc>>) -> anyhow::Result<Report<Status>> {
    let seen = look::look(context)?;
    let (status, mut findings) = judge::judge(&seen, Utc::now(), round_start);
    // It is no reason of a validator's.
    findings.extend(wallet::exposed(context).into_iter().map(|found| Diagnostic { severity: Severity::Note, ..found }));
    Ok(Report::new("status", Inputs::default(), findings, Some(status)))
}

impl Standing {
    fn of(findings: &[Diagnostic], all_seen: bool) -> Self {
        let act = findings.iter().any(|finding| finding.severity > Severity::Note);
        match (all_seen, act) {
            (false, _) => Self::Unseen,
            (true, true) => Self::Act,
            (true, false) => Self::Good,
        }
    }
}

impl From<Standing> for Verdict {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Good => Self::Ok,
            Standing::Act => Self::Findings,
            Standing::Unseen => Self::Unseen,
        }
    }
}
