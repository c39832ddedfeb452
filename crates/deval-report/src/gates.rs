//! The validator's 51 gates: every condition under which a validator skips, refuses or zeroes a submission, in the order in which
//! it comes to them. Texts are written once, here; rules live where their input is (disk, Hub, chain, run).

mod table;
mod verdict;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use table::GATES;
pub use verdict::{Distance, GateStatus, GateVerdict, Unit};

use crate::{Diagnostic, Network, Severity};

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
    /// Which step, or which read of which data, decides it.
    pub decides: &'static str,
    /// What is checked.
    pub checks: &'static str,
    /// Why a validator rejects.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
}

/// Limits that only a real subnet, or a real validator's machine, has: past them the local network still goes on.
const REAL_ONLY: [&str; 9] = ["G07", "G11", "G15", "G23", "G25", "G26", "G33", "G40", "G51"];

/// Conditions that cost some reward, or that validators do not apply by default: nobody is refused for them.
const MILD: [&str; 4] = ["G03", "G48", "G49", "G51"];

impl Gate {
    /// How much failing matters on a network.
    pub fn severity(&self, network: Network) -> Severity {
        let mild = self.outcome == Outcome::None || MILD.contains(&self.code);
        let far = !network.is_real() && REAL_ONLY.contains(&self.code);
        if mild || far { Severity::Warning } else { Severity::Error }
    }

    /// How the gate stands when its condition does not hold.
    pub fn failing(&self, network: Network) -> GateStatus {
        if self.severity(network) == Severity::Error { GateStatus::Fail } else { GateStatus::Warn }
    }
}

/// A finding of a gate, as severe as the network makes it.
///
/// # Panics
/// For a code that is no gate's.
pub fn finding(code: &str, network: Network, message: impl Into<String>) -> Diagnostic {
    let gate = gate(code).expect("the caller names a gate of the table");
    Diagnostic::new(gate.severity(network), code, message)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_consecutive_and_no_text_is_missing() {
        assert_eq!(GATES.len(), 51);
        for (number, gate) in (1..).zip(&GATES) {
            assert_eq!(gate.code, format!("G{number:02}"));
            for text in [gate.title, gate.upstream, gate.decides, gate.checks, gate.why, gate.fix] {
                assert!(!text.trim().is_empty() && text.trim() == text, "{}: {text:?}", gate.code);
                assert!(!text.contains("  "), "{}: {text:?}", gate.code);
            }
            for sentence in [gate.decides, gate.checks, gate.why, gate.fix] {
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

    #[test]
    fn what_decides_a_gate_names_a_step_or_the_data_that_is_read() {
        for gate in &GATES {
            let text = gate.decides;
            let names_it =
                text.contains("cargo xtask ") || text.starts_with("A read of ") || text.starts_with("Three reads");
            assert!(names_it || gate.code == "G51", "{}: {text}", gate.code);
            let read = text.starts_with("A read of the chain") || text.contains("CommitmentOf");
            assert!(!read || gate.decided_by == DecidedBy::Chain || gate.code == "G18", "{}: {text}", gate.code);
        }
    }

    #[test]
    fn severity_depends_on_the_network_where_only_a_real_one_has_the_limit() {
        let severity = |code: &str, network| gate(code).unwrap().severity(network);
        for network in [Network::Test, Network::Finney] {
            assert_eq!(severity("G15", network), Severity::Error);
            assert_eq!(gate("G15").unwrap().failing(network), GateStatus::Fail);
        }
        assert_eq!(severity("G15", Network::Local), Severity::Warning);
        assert_eq!(finding("G15", Network::Local, "x").severity, Severity::Warning);
        assert_eq!(severity("G30", Network::Local), Severity::Error);
        assert_eq!(severity("G39", Network::Finney), Severity::Warning);
        for gate in &GATES {
            assert_eq!(gate.severity(Network::Test), gate.severity(Network::Finney), "{}", gate.code);
            assert!(gate.severity(Network::Local) <= gate.severity(Network::Finney), "{}", gate.code);
        }
        for code in REAL_ONLY.iter().chain(&MILD) {
            assert!(gate(code).is_some(), "{code}");
        }
    }
}
