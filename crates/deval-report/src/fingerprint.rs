//! Fingerprints: whether a step's last report still stands, and if not, why.
//!
//! The inputs are kept in readable form beside the digest, so that the answer can name what changed. They hold contents and settings
//! only: no time, no absolute path, no environment.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Step;

/// Raised when a step starts to read its inputs differently, so that old reports are not taken for fresh.
/// 1: first version.
const VERSION: u32 = 1;

/// Named inputs of a step; values are settings or digests of contents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// Adds an input; a later value of the same name replaces the earlier.
    pub fn add(&mut self, name: impl Into<String>, value: impl fmt::Display) {
        self.0.insert(name.into(), value.to_string());
    }

    /// Adds the fingerprint of a needed step's report.
    pub fn add_need(&mut self, step: Step, fingerprint: &str) {
        self.add(need_name(step), fingerprint);
    }

    /// The fingerprint of a needed step's report, where there is one.
    pub fn need(&self, step: Step) -> Option<&str> {
        self.0.get(&need_name(step)).map(String::as_str)
    }

    /// SHA-256 (64 hex digits) over step, version, names and values.
    pub fn fingerprint(&self, step: &str) -> String {
        let mut digest = Sha256::new();
        digest.update(format!("{step}\0{VERSION}\0"));
        for (name, value) in &self.0 {
            digest.update(format!("{}\0{name}{}\0{value}", name.len(), value.len()));
        }
        hex::encode(digest.finalize())
    }

    /// What differs from the inputs of an earlier report; empty when nothing does.
    pub fn changes_since(&self, earlier: &Self) -> Vec<Stale> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(earlier.0.keys()).collect();
        names.into_iter().filter(|&name| self.0.get(name) != earlier.0.get(name)).map(|name| stale(name)).collect()
    }
}

/// Why a step has to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Stale {
    /// There is no readable report of it.
    NeverRan,
    /// An input differs from the last time.
    InputChanged {
        /// Name of the input.
        name: String,
    },
    /// A step it needs has a new result.
    NeedChanged {
        /// The needed step.
        step: Step,
    },
    /// What the last run left on disk is gone.
    OutputMissing,
    /// The user asked for it.
    Forced,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverRan => f.write_str("never ran"),
            Self::InputChanged { name } => write!(f, "`{name}` changed"),
            Self::NeedChanged { step } => write!(f, "`{step}` has a new result"),
            Self::OutputMissing => f.write_str("its output is gone or was changed"),
            Self::Forced => f.write_str("asked for"),
        }
    }
}

fn need_name(step: Step) -> String {
    format!("need:{step}")
}

fn stale(name: &str) -> Stale {
    match Step::ALL.into_iter().find(|&step| need_name(step) == name) {
        Some(step) => Stale::NeedChanged { step },
        None => Stale::InputChanged { name: name.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(pairs: &[(&str, &str)]) -> Inputs {
        let mut inputs = Inputs::default();
        for (name, value) in pairs {
            inputs.add(*name, value);
        }
        inputs
    }

    #[test]
    fn order_of_adding_does_not_matter_and_borders_do() {
        let one = inputs(&[("a", "1"), ("b", "2")]);
        assert_eq!(one.fingerprint("hash"), inputs(&[("b", "2"), ("a", "1")]).fingerprint("hash"));
        assert_ne!(one.fingerprint("hash"), one.fingerprint("package"));
        assert_ne!(inputs(&[("a", "12")]).fingerprint("hash"), inputs(&[("a1", "2")]).fingerprint("hash"));
    }

    #[test]
    fn changes_are_named() {
        let mut before = inputs(&[("config.json", "x"), ("gone", "1")]);
        before.add_need(Step::Validate, "f1");
        let mut after = inputs(&[("config.json", "y"), ("new", "1")]);
        after.add_need(Step::Validate, "f2");
        let changes: Vec<_> = after.changes_since(&before).iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            ["`config.json` changed", "`gone` changed", "`validate` has a new result", "`new` changed"]
        );
        assert!(after.changes_since(&after).is_empty());
    }
}
