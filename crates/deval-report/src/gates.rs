//! The validator's 51 gates: every condition under which a validator skips, refuses or zeroes a submission, in the order in which
//! it comes to them. Texts are written once, here; rules live where their input is (disk, Hub, chain, run).

mod table;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use table::GATES;

/// What happens to a submission that fails a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Not evaluated: the old moving average, minus 0.02.
    Skip,
    /// Evaluated to no reward at all, which upstream treats like [`Outcome::Skip`].
    Invalid,
    /// The validator's own code raises: the miner is missing from the round, 0.2 of the old average minus 0.02.
    Lost,
    /// One answer is taken as score -1.
    MinusOne,
    /// One answer, or the rest of one task, earns less or nothing.
    ZeroReward,
    /// Nothing is refused; worth knowing all the same.
    None,
}

/// What has to be looked at to decide a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecidedBy {
    /// The files of the submission and its manifest.
    Disk,
    /// An estimate from sizes and measured speeds against a time limit.
    Budget,
    /// A read of the Hub.
    Hub,
    /// A read of the chain.
    Chain,
    /// A run of the pipeline, the container or the axon.
    Run,
}

/// One condition of the validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gate {
    /// `G01`…`G51`, in the validator's order.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// The upstream file whose rule this is (De-Val bfc1600, version 1.4.6).
    pub upstream: &'static str,
    /// What failing costs.
    pub outcome: Outcome,
    /// What decides it.
    pub decided_by: DecidedBy,
    /// What is checked.
    pub checks: &'static str,
    /// Why a validator rejects.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
}

/// How a gate stands for one submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GateStatus {
    /// A validator lets it through.
    Pass,
    /// It passes, but barely, or only on this network.
    Warn,
    /// A validator would reject.
    Fail,
    /// Not decided yet; [`GateVerdict::next`] says what would decide it.
    Unknown,
}

/// How one gate stands for one submission, and by how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateVerdict {
    /// Code of the gate.
    pub code: String,
    /// How it stands.
    pub status: GateStatus,
    /// Distance from failing, with its unit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub margin: Option<String>,
    /// What was seen.
    pub detail: String,
    /// The next thing to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

impl GateVerdict {
    /// A verdict without margin and next action.
    pub fn new(code: impl Into<String>, status: GateStatus, detail: impl Into<String>) -> Self {
        Self { code: code.into(), status, margin: None, detail: detail.into(), next: None }
    }

    /// Adds the distance from failing.
    #[must_use]
    pub fn margin(mut self, margin: impl Into<String>) -> Self {
        self.margin = Some(margin.into());
        self
    }

    /// Adds the next action.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// The gate with this code, if there is one.
pub fn gate(code: &str) -> Option<&'static Gate> {
    GATES.iter().find(|gate| gate.code == code)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skip => "not evaluated this round",
            Self::Invalid => "evaluated to nothing",
            Self::Lost => "lost from the round",
            Self::MinusOne => "the answer counts as -1",
            Self::ZeroReward => "less or no reward for the answer",
            Self::None => "no penalty",
        })
    }
}

impl fmt::Display for GateStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        })
    }
}

impl DecidedBy {
    /// What would decide a gate that is still unknown.
    pub fn next_action(self) -> &'static str {
        match self {
            Self::Disk | Self::Budget => "cargo xtask validate",
            Self::Hub => "a read of the Hub: cargo xtask publish, then commit",
            Self::Chain => "a read of the chain: cargo xtask commit",
            Self::Run => "a run in the validator's container",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_consecutive_and_no_text_is_missing() {
        assert_eq!(GATES.len(), 51);
        for (number, gate) in (1..).zip(&GATES) {
            assert_eq!(gate.code, format!("G{number:02}"));
            for text in [gate.title, gate.upstream, gate.checks, gate.why, gate.fix] {
                assert!(!text.trim().is_empty() && text.trim() == text, "{}: {text:?}", gate.code);
                assert!(!text.contains("  "), "{}: {text:?}", gate.code);
            }
            for sentence in [gate.checks, gate.why, gate.fix] {
                assert!(sentence.ends_with('.'), "{}: {sentence:?}", gate.code);
            }
            assert!(gate.title.len() <= 60, "{}: {:?}", gate.code, gate.title);
        }
    }

    #[test]
    fn gates_are_found_by_code() {
        assert_eq!(gate("G30").map(|gate| gate.title), Some("coldkey.txt is the coldkey, byte for byte"));
        assert_eq!(gate("G52"), None);
    }

    #[test]
    fn names_in_reports_are_stable() {
        let text = |outcome| serde_json::to_string(&outcome).unwrap();
        assert_eq!(text(Outcome::MinusOne), "\"minus-one\"");
        assert_eq!(text(Outcome::ZeroReward), "\"zero-reward\"");
        assert_eq!(serde_json::to_string(&DecidedBy::Disk).unwrap(), "\"disk\"");
        assert_eq!(serde_json::to_string(&GateStatus::Unknown).unwrap(), "\"unknown\"");
    }
}
