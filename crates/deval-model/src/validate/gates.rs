//! From findings to verdicts, with margins.

use deval_report::gates::{self, GateStatus, GateVerdict, Unit};
use deval_report::{Diagnostic, Severity};

use super::{Seen, Submission};
use crate::python_source::FILE;
use crate::repo;

/// Findings beyond the gates that keep a model from being loaded.
const LOADING: [&str; 11] = [
    "G38",
    "model.file-missing",
    "model.json",
    "model.architecture",
    "model.quantized",
    "model.config",
    "model.tensor-missing",
    "model.tensor-shape",
    "model.tensor-unknown",
    "model.dtype",
    "model.tokenizer",
];

/// Speed of upstream's hash loop as measured (SHA extensions, warm cache), bytes a second.
const HASH_SPEED: f64 = 375e6;
const HASH_LIMIT_S: f64 = 60.0;

/// Speed assumed for the validator's download, bytes a second.
const DOWNLOAD_SPEED: f64 = 100e6;
const START_LIMIT_S: f64 = 500.0;

/// Verdicts of all gates that the disk has a say in, in the validator's order.
pub(super) fn verdicts(submission: &Submission, seen: &Seen, findings: &[Diagnostic]) -> Vec<GateVerdict> {
    let Gates { model, pipeline, package } = Gates::new(seen);
    let judge = |code: &'static str, decided: bool, pass: String| judge(code, &[code], decided, pass, findings);
    let weights = seen.weights.as_ref().map_or(0, |weights| weights.shards.len());
    let has_coldkey = !findings.iter().any(|finding| finding.code == "G31");
    let netuid = submission.network.netuid();
    let budget = |code, seconds, limit, how| budget(code, submission, seen, seconds, limit, how);
    let obfuscated = seen.sources.as_ref().map(|sources| &sources.hidden[..]).unwrap_or_default();
    let main = obfuscated.iter().find(|name| *name == FILE).map(String::as_str);
    let any = obfuscated.first().map(String::as_str);
    let sound = "headers, index, config.json and tokenizer are sound and fit each other".to_owned();
    vec![
        judge("G06", true, format!("`{}`", submission.model_url)),
        judge("G08", true, format!("netuid {netuid} ({})", submission.network)),
        judge("G09", true, "nothing to measure: one attempt in each contest, also after a failure".into()),
        judge("G13", model, format!("{weights} sound weight file(s) at the root")),
        sized(judge("G15", package, "the package has a size that validators evaluate".into()), seen),
        judge("G18", true, "the payload is built by `cargo xtask commit` and parsed back".into()),
        room(judge("G19", true, "the commitment fits".into()), &submission.model_url),
        budget("G25", DOWNLOAD_SPEED, START_LIMIT_S, "download at 100 MB/s; imports and loading come on top"),
        budget("G26", HASH_SPEED, HASH_LIMIT_S, "hashing at 375 MB/s"),
        judge("G27", model, "every entry that enters the hash is a file".into()),
        judge("G30", submission.coldkey_expected.is_some() || has_coldkey, owner(submission)),
        judge("G31", true, "coldkey.txt will be in the package".into()),
        hidden(judge("G35", pipeline, "`model/pipeline.py` defines DeValPipeline".into()), main, "its class"),
        hidden(judge("G36", pipeline, "every import is in the validator's container".into()), any, "its imports"),
        judge("G37", pipeline, armor(seen).into()),
        self::judge("G38", &LOADING, model, sound, findings),
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

/// The worst finding of these codes decides, the first of equals; without one the gate passes, if it could be looked at.
pub fn judge(code: &str, codes: &[&str], decided: bool, pass: String, findings: &[Diagnostic]) -> GateVerdict {
    let of_gate = findings.iter().filter(|finding| codes.contains(&finding.code.as_str()));
    let Some(finding) = of_gate.rev().max_by_key(|finding| finding.severity) else {
        return if decided {
            GateVerdict::new(code, GateStatus::Pass, pass)
        } else {
            GateVerdict::new(code, GateStatus::Unknown, "not looked at")
                .next("mend the folders first, as the findings say")
        };
    };
    let status = if finding.severity == Severity::Error { GateStatus::Fail } else { GateStatus::Warn };
    let verdict = GateVerdict::new(code, status, &finding.message);
    GateVerdict { next: finding.help.clone(), ..verdict }
}

fn sized(verdict: GateVerdict, seen: &Seen) -> GateVerdict {
    match &seen.sizes {
        Some(sizes) => repo::with_margin(verdict, repo::size_gb(sizes.iter().copied())),
        None => verdict,
    }
}

fn room(verdict: GateVerdict, model_url: &str) -> GateVerdict {
    let (python, compact) = repo::commitment_room(model_url);
    let words = format!("{compact} bytes left in compact JSON, {python} as Python writes it");
    verdict.margin(words).distance(compact as f64, Unit::Bytes)
}

/// An estimate of seconds against a limit: passes in half the time, warns up to it, and says that it is an estimate.
fn budget(code: &str, submission: &Submission, seen: &Seen, speed: f64, limit: f64, how: &str) -> GateVerdict {
    let Some(bytes) = seen.weights.as_ref().map(|weights| weights.bytes()).filter(|bytes| *bytes > 0) else {
        return GateVerdict::new(code, GateStatus::Unknown, "no weights to estimate from")
            .next("put the weights at the root of the model folder");
    };
    let seconds = bytes as f64 / speed;
    let gate = gates::gate(code).expect("a code of the table");
    let status = if seconds > limit {
        gate.failing(submission.network)
    } else if seconds > limit / 2.0 {
        GateStatus::Warn
    } else {
        GateStatus::Pass
    };
    let verdict = GateVerdict::new(code, status, format!("estimate: {seconds:.1} s of {limit:.0} s, {how}"));
    let verdict = if status == GateStatus::Pass { verdict } else { verdict.next(gate.fix) };
    verdict.distance(limit - seconds, Unit::Seconds).estimate()
}

fn owner(submission: &Submission) -> String {
    match &submission.coldkey_expected {
        Some(address) => format!("the package will hold {address}"),
        None => "coldkey.txt is one valid address; no wallet to compare it with".into(),
    }
}

/// What cannot be seen of obfuscated sources is left open.
fn hidden(verdict: GateVerdict, file: Option<&str>, what: &str) -> GateVerdict {
    let Some(file) = file.filter(|_| verdict.status == GateStatus::Pass) else { return verdict };
    let gate = gates::gate(&verdict.code).expect("a code of the table");
    let detail = format!("`{file}` is obfuscated: {what} can only be seen by running it");
    GateVerdict::new(gate.code, GateStatus::Unknown, detail).next(gate.decides)
}

fn armor(seen: &Seen) -> &'static str {
    match &seen.sources {
        Some(sources) if !sources.runtimes.is_empty() => "obfuscated, with a runtime for Linux x86-64",
        _ => "the sources are plain",
    }
}
