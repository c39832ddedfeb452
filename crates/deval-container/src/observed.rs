//! What the pipeline did, as the miner API saw it before it made JSON of it: the header `x-deval-observed`.

use serde::{Deserialize, Serialize};

/// One call of the pipeline. All is absent where the API tells nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    /// Python type of the result.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Keys of the result, when it is a mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
    /// `score_completion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<ObservedScore>,
    /// `mistakes_completion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mistakes: Option<ObservedMistakes>,
    /// Exception that the pipeline raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raised: Option<String>,
    /// Its message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A score before it became JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedScore {
    /// Python type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it is a finite number; absent when it is no number.
    #[serde(default)]
    pub finite: Option<bool>,
    /// How Python prints it.
    #[serde(default)]
    pub repr: String,
}

/// Mistakes before they became JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedMistakes {
    /// Python type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Types of the items, each once; absent where looking would use them up.
    #[serde(default)]
    pub items: Option<Vec<String>>,
    /// Whether an item is no text that UTF-8 can hold.
    #[serde(default)]
    pub surrogate: bool,
}

impl Observed {
    /// What is wrong with the score, if the result has a place for one.
    pub(crate) fn bad_score(&self) -> Option<String> {
        self.keys.as_ref()?;
        match &self.score {
            None => Some("no score_completion".to_owned()),
            Some(score) if score.finite != Some(true) => Some(format!("{} {}", score.kind, score.repr)),
            Some(_) => None,
        }
    }

    /// What is wrong with the mistakes; none at all are another gate's matter.
    pub(crate) fn bad_mistakes(&self) -> Option<String> {
        let mistakes = self.mistakes.as_ref().filter(|mistakes| mistakes.kind != "NoneType")?;
        match &mistakes.items {
            _ if mistakes.surrogate => Some("half a surrogate pair".to_owned()),
            Some(items) if items.iter().all(|item| item == "str") => None,
            Some(items) => Some(format!("{} of {}", mistakes.kind, items.join(", "))),
            None if mistakes.kind == "generator" => None,
            None => Some(mistakes.kind.clone()),
        }
    }

    /// What validators take but nobody promised, such as a set, whose order changes from run to run.
    pub(crate) fn odd(&self) -> Option<String> {
        let score =
            self.score.as_ref().map(|score| score.kind.as_str()).filter(|kind| !["float", "int"].contains(kind));
        let mistakes = self.mistakes.as_ref().map(|mistakes| mistakes.kind.as_str());
        let mistakes = mistakes.filter(|kind| !["list", "NoneType"].contains(kind));
        match (score, mistakes) {
            (None, None) => None,
            (score, mistakes) => {
                let score = score.map(|kind| format!("score_completion is a {kind}"));
                let mistakes = mistakes.map(|kind| format!("mistakes_completion is a {kind}"));
                Some(score.into_iter().chain(mistakes).collect::<Vec<_>>().join(", "))
            }
        }
    }
}
