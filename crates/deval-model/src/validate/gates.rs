//! From findings to verdicts, with margins.

use deval_report::gates::{GateStatus, GateVerdict};
use deval_report::{Diagnostic, Severity};

use super::{Seen, Submission};
use crate::repo::{self, SIZE_LIMITS_GB};

/// Speed of upstream's hash loop as measured (SHA extensions, warm cache), bytes a second.
const HASH_SPEED: f64 = 375e6;
const HASH_LIMIT_S: f64 = 60.0;

/// Speed assumed for the validator's download, bytes a second.
const DOWNLOAD_SPEED: f64 = 100e6;
const START_LIMIT_S: f64 = 500.0;

/// Verdicts of all gates that the disk has a say in, in the validator's order.
pub(super) fn verdicts(submission: &Submission, seen: &Seen, findings: &[Diagnostic]) -> Vec<GateVerdict> {
    let Gates { model, pipeline, package } = Gates::new(seen);
    let judge = |code: &str, decided: bool, pass: String| judge(code, decided, pass, findings);
    let weights = seen.weights.as_ref().map_or(0, |weights| weights.shards.len());
    let netuid = submission.network.netuid();
    vec![
        judge("G06", true, format!("`{}`", submission.model_url)),
        judge("G08", true, format!("netuid {netuid} ({})", submission.network)),
        judge("G13", model, format!("{weights} weight file(s) at the root")),
        with_margin(judge("G15", package, "the package has a size that validators evaluate".into()), size_margin(seen)),
        judge("G18", true, "the payload is built by `cargo xtask commit` and parsed back".into()),
        with_margin(judge("G19", true, "the commitment fits".into()), Some(room(&submission.model_url))),
        budget("G25", seen, DOWNLOAD_SPEED, START_LIMIT_S, "download at 100 MB/s; loading comes on top"),
        budget("G26", seen, HASH_SPEED, HASH_LIMIT_S, "hashing at 375 MB/s"),
        judge("G27", model, "every entry that enters the hash is a file".into()),
        judge("G30", true, owner(submission)),
        judge("G31", true, "coldkey.txt will be in the package".into()),
        class(judge("G35", pipeline, "`model/pipeline.py` defines DeValPipeline".into()), seen),
        judge("G36", pipeline, "every import is in the validator's container".into()),
        judge("G37", pipeline, armor(seen).into()),
        judge("G38", model, "all headers are sound and complete".into()),
        judge("G39", model, "the weights are readable for everyone".into()),
    ]
}

/// Which parts could be looked at.
struct Gates {
    model: bool,
    pipeline: bool,
    package: bool,
}

impl Gates {
    fn new(seen: &Seen) -> Self {
        Self { model: seen.weights.is_some(), pipeline: seen.sources.is_some(), package: seen.sizes.is_some() }
    }
}

/// The worst finding of a gate decides; without one it passes, if it could be looked at.
fn judge(code: &str, decided: bool, pass: String, findings: &[Diagnostic]) -> GateVerdict {
    let worst = findings.iter().filter(|finding| finding.code == code).max_by_key(|finding| finding.severity);
    let Some(finding) = worst else {
        return if decided {
            GateVerdict::new(code, GateStatus::Pass, pass)
        } else {
            GateVerdict::new(code, GateStatus::Unknown, "not looked at").next("correct the folders in deval.toml first")
        };
    };
    let status = if finding.severity == Severity::Error { GateStatus::Fail } else { GateStatus::Warn };
    let verdict = GateVerdict::new(code, status, &finding.message);
    GateVerdict { next: finding.help.clone(), ..verdict }
}

fn with_margin(verdict: GateVerdict, margin: Option<String>) -> GateVerdict {
    GateVerdict { margin, ..verdict }
}

fn size_margin(seen: &Seen) -> Option<String> {
    let gb = repo::size_gb(seen.sizes.as_ref()?.iter().copied());
    let (min, max) = SIZE_LIMITS_GB;
    Some(if gb < min {
        format!("{:.3} GB too small", min - gb)
    } else if gb > max {
        format!("{:.3} GB too large", gb - max)
    } else {
        format!("{:.3} GB from the nearer limit", (gb - min).min(max - gb))
    })
}

fn room(model_url: &str) -> String {
    let (python, compact) = repo::commitment_room(model_url);
    format!("{compact} bytes left in compact JSON, {python} as Python writes it")
}

/// An estimate of seconds against a limit: passes in half the time, fails beyond it, and says that it is an estimate.
fn budget(code: &str, seen: &Seen, speed: f64, limit: f64, how: &str) -> GateVerdict {
    let Some(bytes) = seen.weights.as_ref().map(|weights| weights.bytes()).filter(|bytes| *bytes > 0) else {
        return GateVerdict::new(code, GateStatus::Unknown, "no weights to estimate from");
    };
    let seconds = bytes as f64 / speed;
    let status = if seconds > limit {
        GateStatus::Fail
    } else if seconds > limit / 2.0 {
        GateStatus::Warn
    } else {
        GateStatus::Pass
    };
    let verdict = GateVerdict::new(code, status, format!("estimate: {seconds:.1} s of {limit:.0} s, {how}"));
    verdict.margin(format!("{:.1} s", limit - seconds))
}

fn owner(submission: &Submission) -> String {
    match &submission.coldkey_expected {
        Some(address) => format!("the package will hold {address}"),
        None => "coldkey.txt is one valid address; no wallet to compare it with".into(),
    }
}

fn class(verdict: GateVerdict, seen: &Seen) -> GateVerdict {
    let hidden = seen.sources.as_ref().is_some_and(|sources| sources.obfuscated);
    if !hidden || verdict.status != GateStatus::Pass {
        return verdict;
    }
    GateVerdict::new(
        "G35",
        GateStatus::Unknown,
        "pipeline.py is obfuscated, so its class can only be seen by running it",
    )
    .next("run the pipeline in the container")
}

fn armor(seen: &Seen) -> &'static str {
    match &seen.sources {
        Some(sources) if !sources.runtimes.is_empty() => "obfuscated, with a runtime for Linux x86-64",
        _ => "the sources are plain",
    }
}
