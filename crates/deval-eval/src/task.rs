//! The four tasks, the examples a submission is judged on, and what travels between validator and miner.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One of De-Val's evaluation tasks, in the validator's order (`TASKS` in `deval/tasks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Does the response answer the query: 0 or 1.
    Relevancy,
    /// Which share of the response's claims does the context support.
    Hallucination,
    /// Which share of the context's points does the summary cover.
    SummaryCompleteness,
    /// Which share of the response's action items is given to the right participant.
    Attribution,
}

impl Task {
    /// All tasks in the validator's order.
    pub const ALL: [Self; 4] = [Self::Relevancy, Self::Hallucination, Self::SummaryCompleteness, Self::Attribution];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relevancy => "relevancy",
            Self::Hallucination => "hallucination",
            Self::SummaryCompleteness => "summary_completeness",
            Self::Attribution => "attribution",
        }
    }

    /// The task with this name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.name() == name)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A question with its right answer; one line of an example file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Unique within the set.
    pub id: String,
    /// What is asked.
    pub task: Task,
    /// The text the response was written from.
    pub rag_context: String,
    /// The user's question; empty except for relevancy.
    #[serde(default)]
    pub query: String,
    /// The response to judge.
    pub llm_response: String,
    /// The right score, 0 to 1.
    pub reference: f64,
    /// The false claims of the response, verbatim (summary completeness: the points left out).
    #[serde(default)]
    pub reference_mistakes: Vec<String>,
    /// The true claims of the response, verbatim (summary completeness: the points kept).
    #[serde(default)]
    pub reference_true_values: Vec<String>,
    /// Whether the claims are not labelled: such an example has a reference score and nothing else to reward.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mistakes_unknown: bool,
    /// Where the example comes from.
    #[serde(default)]
    pub source: Value,
}

impl Example {
    /// What the miner gets to see.
    pub fn request(&self) -> Request {
        Request {
            task: self.task,
            rag_context: self.rag_context.clone(),
            query: self.query.clone(),
            llm_response: self.llm_response.clone(),
        }
    }
}

/// A validator's question (`EvalRequest` in `deval/api/models.py`, one task at a time).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// What is asked.
    pub task: Task,
    /// The text the response was written from.
    pub rag_context: String,
    /// The user's question; empty except for relevancy.
    pub query: String,
    /// The response to judge.
    pub llm_response: String,
}

/// A pipeline's answer; `None` where it left the field out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The score it gives the response.
    pub score: Option<f64>,
    /// The claims it takes for mistakes.
    pub mistakes: Option<Vec<String>>,
}

impl Answer {
    /// An answer with both fields.
    pub fn new(score: f64, mistakes: Vec<String>) -> Self {
        Self { score: Some(score), mistakes: Some(mistakes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_travel_both_ways_in_the_validators_order() {
        assert_eq!(Task::ALL.map(Task::name), ["relevancy", "hallucination", "summary_completeness", "attribution"]);
        for task in Task::ALL {
            assert_eq!(Task::from_name(task.name()), Some(task));
            assert_eq!(serde_json::to_value(task).unwrap(), task.name());
        }
    }
}
