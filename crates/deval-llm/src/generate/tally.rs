//! What a run took.

use std::collections::BTreeMap;

use deval_report::Section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Usage;

/// What a run took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    /// `openai` or `bedrock`.
    pub api: String,
    /// The model's id.
    pub model: String,
    /// Examples wanted.
    pub wanted: usize,
    /// Examples made.
    pub made: usize,
    /// Tries whose replies made no task, in the order of the examples.
    pub dropped: Vec<Dropped>,
    /// Generators that the plan could not use.
    pub left_out: Vec<LeftOut>,
    /// Requests and tokens.
    pub usage: Usage,
    /// USD at the plan's price; absent where none is known.
    pub cost_usd: Option<f64>,
    /// What stopped the run early.
    pub stopped: Option<String>,
}

/// A try whose replies made no task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// Upstream's name of the generator.
    pub generator: String,
    /// Number of the example within its task.
    pub index: usize,
    /// Number of the try, from 1.
    pub try_number: u32,
    /// Why.
    pub reason: String,
}

/// A generator that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// Upstream's name of the generator.
    pub generator: String,
    /// Why.
    pub reason: String,
}

impl Tally {
    /// For every view.
    pub fn section(&self) -> Section {
        let usage = &self.usage;
        let section = Section::new("Written by a language model")
            .row("model", format!("{} ({})", self.model, self.api))
            .row("examples", format!("{} of {}", self.made, self.wanted))
            .row("requests", usage.requests)
            .row("tokens", format!("{} in, {} out", usage.prompt_tokens, usage.completion_tokens))
            .row("cost", self.cost_usd.map_or_else(|| "unknown: no price".to_owned(), usd));
        let section = if self.dropped.is_empty() {
            section
        } else {
            section.table(&["dropped", "tries", "first reason"], self.rows())
        };
        self.notes().into_iter().fold(section, Section::note)
    }

    /// Dropped tries by generator.
    fn rows(&self) -> Vec<Vec<String>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for dropped in &self.dropped {
            groups.entry(&dropped.generator).or_default().push(&dropped.reason);
        }
        let row = |(generator, reasons): (&str, Vec<&str>)| {
            vec![generator.to_owned(), reasons.len().to_string(), reasons[0].to_owned()]
        };
        groups.into_iter().map(row).collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<_> = self
            .left_out
            .iter()
            .map(|left_out| format!("{} is left out: {}", left_out.generator, left_out.reason))
            .collect();
        if self.usage.estimated > 0 {
            notes.push(format!(
                "the server did not count the tokens of {} requests; they are estimated",
                self.usage.estimated
            ));
        }
        notes.extend(self.stopped.iter().map(|cause| format!("stopped early: {cause}")));
        notes
    }
}

pub(super) fn usd(cost: f64) -> String {
    format!("{cost:.4} USD")
}
