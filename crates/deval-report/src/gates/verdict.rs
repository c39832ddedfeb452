//! How one gate stands for one submission.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// What a distance is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Decimal gigabytes, as the Hub and the validator count.
    #[serde(rename = "GB")]
    Gigabytes,
    /// Binary gigabytes, as the validator counts the container's layer.
    #[serde(rename = "GiB")]
    Gibibytes,
    /// Seconds.
    Seconds,
    /// Blocks of the chain.
    Blocks,
    /// Percent.
    Percent,
    /// Words.
    Words,
    /// Reward, 0 to 1.
    Reward,
}

/// How far a gate is from failing: the room that is left, negative past the limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distance {
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: Unit,
}

/// How one gate stands for one submission, and by how much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateVerdict {
    /// Code of the gate.
    pub code: String,
    /// How it stands.
    pub status: GateStatus,
    /// Distance from failing, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub margin: Option<String>,
    /// The same as a number, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub distance: Option<Distance>,
    /// Whether this is an estimate, which never stands against what was decided exactly.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub estimate: bool,
    /// What was seen.
    pub detail: String,
    /// The next thing to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

impl GateVerdict {
    /// An exact verdict without margin and next action.
    pub fn new(code: impl Into<String>, status: GateStatus, detail: impl Into<String>) -> Self {
        let (code, detail) = (code.into(), detail.into());
        Self { code, status, margin: None, distance: None, estimate: false, detail, next: None }
    }

    /// Adds the distance from failing in words.
    #[must_use]
    pub fn margin(mut self, margin: impl Into<String>) -> Self {
        self.margin = Some(margin.into());
        self
    }

    /// Adds the distance from failing as a number; its words follow from it, unless there are better ones already.
    #[must_use]
    pub fn distance(mut self, value: f64, unit: Unit) -> Self {
        let distance = Distance { value, unit };
        self.margin.get_or_insert_with(|| distance.to_string());
        self.distance = Some(distance);
        self
    }

    /// Marks the verdict as an estimate.
    #[must_use]
    pub fn estimate(mut self) -> Self {
        self.estimate = true;
        self
    }

    /// Adds the next action.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Whether this verdict takes the place of an earlier one on the same gate: what is unknown never does, an estimate only that of
    /// another estimate.
    pub fn overrides(&self, earlier: Option<&Self>) -> bool {
        match earlier {
            None => true,
            Some(earlier) if earlier.status == GateStatus::Unknown => true,
            Some(earlier) => self.status != GateStatus::Unknown && (earlier.estimate || !self.estimate),
        }
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

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Gigabytes => "GB",
            Self::Gibibytes => "GiB",
            Self::Seconds => "s",
            Self::Blocks => "blocks",
            Self::Percent => "%",
            Self::Words => "words",
            Self::Reward => "reward",
        })
    }
}

/// Most digits behind the point of a distance.
const MOST_DIGITS: usize = 9;

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual: usize = match self.unit {
            Unit::Bytes | Unit::Blocks | Unit::Words => 0,
            Unit::Seconds | Unit::Percent => 1,
            Unit::Gigabytes | Unit::Gibibytes | Unit::Reward => 3,
        };
        // So many that what is on the wrong side of a limit never reads as nothing.
        let is_shown = |digits: &usize| self.value == 0.0 || self.value.abs() * 10f64.powi(*digits as i32) >= 0.5;
        let digits = (usual..=MOST_DIGITS).find(is_shown).unwrap_or(usual);
        let side = if self.value < 0.0 { "too much" } else { "left" };
        write!(f, "{:.digits$} {} {side}", self.value.abs(), self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_a_number_with_its_unit_and_words() {
        let verdict = GateVerdict::new("G26", GateStatus::Warn, "slow").distance(-2.25, Unit::Seconds);
        let json = serde_json::to_value(&verdict).unwrap();
        assert_eq!(json["distance"], serde_json::json!({"value": -2.25, "unit": "seconds"}));
        assert_eq!(json["margin"], "2.2 s too much");
        let own_words = GateVerdict::new("G19", GateStatus::Pass, "").margin("3 bytes in compact JSON");
        assert_eq!(own_words.distance(3.0, Unit::Bytes).margin.as_deref(), Some("3 bytes in compact JSON"));
        assert_eq!(serde_json::to_string(&Unit::Gigabytes).unwrap(), "\"GB\"");
        assert_eq!(Distance { value: 0.5, unit: Unit::Gigabytes }.to_string(), "0.500 GB left");
        assert_eq!(Distance { value: -0.004, unit: Unit::Seconds }.to_string(), "0.004 s too much");
        assert_eq!(Distance { value: 0.0, unit: Unit::Seconds }.to_string(), "0.0 s left");
    }

    #[test]
    fn an_estimate_gives_way_to_what_is_exact() {
        let exact = |status| GateVerdict::new("G46", status, "");
        let estimate = |status| exact(status).estimate();
        assert!(estimate(GateStatus::Warn).overrides(None));
        assert!(!estimate(GateStatus::Pass).overrides(Some(&exact(GateStatus::Fail))));
        assert!(exact(GateStatus::Pass).overrides(Some(&estimate(GateStatus::Warn))));
        assert!(exact(GateStatus::Pass).overrides(Some(&exact(GateStatus::Fail))), "a later step has seen more");
        assert!(!exact(GateStatus::Unknown).overrides(Some(&exact(GateStatus::Pass))));
        assert!(estimate(GateStatus::Unknown).overrides(Some(&exact(GateStatus::Unknown))));
    }
}
