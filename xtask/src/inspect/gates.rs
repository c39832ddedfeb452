//! The gates that a repository decides: those of its own state beside those of its files.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use deval_hub::{RemoteRepo, RepoId};
use deval_model::{judge, repo};
use deval_report::{
    Diagnostic, Section,
    gates::{GateStatus, GateVerdict, Unit},
};

use super::is_weights;

/// The longest that a validator's round goes on (upstream `deval/validator.py`, 18 h): a Hub commit older than that is older than any
/// round that runs.
const ROUND_S: f64 = 64_800.0;

/// Verdicts of the folder's checks that say nothing of a repository that stands, or that are made here.
const NOT_OF_FILES: [&str; 6] = ["G08", "G09", "G15", "G18", "G31", "G39"];

/// What the verdicts are made of.
pub(super) struct Seen<'a> {
    pub(super) found: &'a RemoteRepo,
    pub(super) anonymous: bool,
    pub(super) hosts: &'a BTreeMap<String, usize>,
    pub(super) gb: f64,
}

/// Why there is nothing to look at.
pub(super) fn unseen(id: &RepoId, why: &str) -> Diagnostic {
    Diagnostic::error("G10", format!("{id} cannot be read"))
        .found(why)
        .help("check the name; if it is yours and private, set HUGGINGFACE_TOKEN. A validator reads it without a token")
}

/// Metadata were given, files are not.
pub(super) fn closed(id: &RepoId, error: &anyhow::Error) -> Diagnostic {
    Diagnostic::error("G24", format!("the files of {id} cannot be read, so only its metadata were looked at"))
        .found(error.to_string())
        .help("turn access requests off in the repository's settings, or use a token that was granted access")
}

pub(super) fn of_visibility(id: &RepoId, found: &RemoteRepo) -> Vec<Diagnostic> {
    let says = |is: bool, code: &str, what: &str, help: &str| {
        is.then(|| Diagnostic::error(code, format!("{id} {what}")).help(help))
    };
    let no_commit = found.head.is_none() || found.last_commit.is_none();
    let no_dates = found.files.iter().any(is_weights)
        && found.files.iter().filter(|file| is_weights(file)).all(|file| file.last_commit.is_none());
    [
        says(found.private, "G10", "is private", "make it public after the chain commitment (`cargo xtask commit`)"),
        says(found.disabled, "G10", "was disabled by the Hub", "publish under another name, or ask the Hub's support"),
        says(found.gated, "G24", "is gated", "turn access requests off in the repository's settings"),
        says(no_commit, "G12", "has no Hub commit on `main`", "publish to the branch `main`"),
        says(no_dates, "G14", "has weights without the date of a Hub commit", "publish the weights again"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The verdicts of the files, completed by those of the repository, in the validator's order.
pub(super) fn verdicts(of_files: Vec<GateVerdict>, seen: &Seen<'_>, findings: &[Diagnostic]) -> Vec<GateVerdict> {
    let looked_into = !of_files.is_empty();
    let judge = |code: &str, decided: bool, pass: String| judge(code, &[code], decided, pass, findings);
    let mut gates: Vec<_> = of_files.into_iter().filter(|gate| !NOT_OF_FILES.contains(&gate.code.as_str())).collect();
    let weights = seen.found.files.iter().filter(|file| is_weights(file)).count();
    let commit = seen.found.last_commit.as_ref().map_or("", |commit| commit.date.as_str());
    let hosts: Vec<&str> = seen.hosts.keys().map(String::as_str).collect();
    gates.extend([
        judge("G10", seen.anonymous, "everybody may read its metadata".into()),
        judge("G12", true, format!("`main` has a Hub commit of {commit}")),
        judge("G14", weights > 0, format!("{weights} weight file(s), with the dates of their Hub commits")),
        repo::with_margin(judge("G15", true, format!("{:.3} GB, which validators evaluate", seen.gb)), seen.gb),
        judge("G23", looked_into, format!("LFS files come from {}", hosts.join(", "))),
        judge("G24", true, "nobody has to ask for access".into()),
        judge("G31", looked_into, "coldkey.txt is at the root".into()),
        round(commit),
    ]);
    gates.sort_by(|a, b| a.code.cmp(&b.code));
    gates
}

/// GATES 33: the last Hub commit against the rounds that may be running.
fn round(date: &str) -> GateVerdict {
    let Ok(at) = DateTime::parse_from_rfc3339(date) else {
        return GateVerdict::new("G33", GateStatus::Unknown, "the last Hub commit has no date");
    };
    let age = (Utc::now() - at.to_utc()).as_seconds_f64();
    let verdict = if age >= ROUND_S {
        GateVerdict::new("G33", GateStatus::Pass, format!("the last Hub commit, {date}, is older than any round"))
    } else {
        let detail = format!("a round that began before {date} does not evaluate this repository; the next one does");
        GateVerdict::new("G33", GateStatus::Warn, detail).next("wait for the next round, and publish nothing")
    };
    let hours = (age - ROUND_S) / 3600.0;
    let words = if hours >= 0.0 { format!("{hours:.1} h more") } else { format!("{:.1} h to wait", -hours) };
    verdict.margin(words).distance(age - ROUND_S, Unit::Seconds).estimate()
}

pub(super) fn section(gates: &[GateVerdict]) -> Section {
    let row = |gate: &GateVerdict| {
        let margin = gate.margin.clone().unwrap_or_default();
        vec![gate.code.clone(), gate.status.to_string(), margin, gate.detail.clone()]
    };
    Section::new("Predicted gates").table(&["gate", "", "margin", "seen"], gates.iter().map(row).collect())
}
