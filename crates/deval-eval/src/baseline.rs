//! Answers that need no model: what a submission must beat.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::task::{Answer, Request, Task};
use crate::{claims, python};

/// Share of a claim's content words that the context must hold for the overlap rule to believe the claim; best of a grid on
/// public human-labelled sets (SummEdits, BEGIN, HaluEval, AMI, QMSum), where it sorts 0.60 to 0.85 of the claims rightly.
pub const CLAIM_COVERAGE: f64 = 0.7;
/// The same for an action item and one line of a dialogue, where a single wrong word may be the name.
pub const ITEM_COVERAGE: f64 = 0.85;
/// Share of the query's content words that the response must hold for the overlap rule to call it relevant; found
/// the same way.
pub const QUERY_COVERAGE: f64 = 0.25;
/// Fewest content words that make a line of a context a point to cover.
const POINT_WORDS: usize = 4;

const STOP_WORDS: [&str; 72] = [
    "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can",
    "could", "did", "do", "does", "for", "from", "had", "has", "have", "he", "her", "his", "how", "i", "if", "in",
    "into", "is", "it", "its", "not", "of", "on", "or", "our", "she", "should", "so", "some", "than", "that", "the",
    "their", "them", "then", "there", "they", "this", "to", "was", "we", "were", "what", "when", "where", "which",
    "who", "why", "will", "with", "would", "you", "your", "up", "out", "s",
];

/// A rule that answers without a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Always 0, no mistakes.
    ConstantZero,
    /// Always 0.5, no mistakes.
    ConstantHalf,
    /// Always 1, no mistakes.
    ConstantOne,
    /// Believes what shares enough words with the context.
    WordOverlap,
}

impl Baseline {
    /// All of them, constants first.
    pub const ALL: [Self; 4] = [Self::ConstantZero, Self::ConstantHalf, Self::ConstantOne, Self::WordOverlap];

    /// How people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConstantZero => "constant 0",
            Self::ConstantHalf => "constant 0.5",
            Self::ConstantOne => "constant 1",
            Self::WordOverlap => "word overlap",
        }
    }

    /// Whether the answer ignores the question.
    pub fn is_constant(self) -> bool {
        self != Self::WordOverlap
    }

    /// Its answer.
    pub fn answer(self, request: &Request) -> Answer {
        match self {
            Self::ConstantZero => Answer::new(0.0, Vec::new()),
            Self::ConstantHalf => Answer::new(0.5, Vec::new()),
            Self::ConstantOne => Answer::new(1.0, Vec::new()),
            Self::WordOverlap => word_overlap(request),
        }
    }
}

/// The words that carry content, lower-cased.
pub fn content_words(text: &str) -> HashSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase);
    words.filter(|word| !STOP_WORDS.contains(&word.as_str())).collect()
}

/// Share of `words` that `text` holds; 1 when there are none.
pub fn coverage(words: &HashSet<String>, text: &HashSet<String>) -> f64 {
    if words.is_empty() { 1.0 } else { words.intersection(text).count() as f64 / words.len() as f64 }
}

fn word_overlap(request: &Request) -> Answer {
    match request.task {
        Task::Relevancy => {
            let covered = coverage(&content_words(&request.query), &content_words(&request.llm_response));
            Answer::new(if covered >= QUERY_COVERAGE { 1.0 } else { 0.0 }, Vec::new())
        }
        Task::Hallucination => believe(request, &[content_words(&request.rag_context)], CLAIM_COVERAGE),
        Task::Attribution => {
            let lines: Vec<_> = request.rag_context.lines().map(content_words).collect();
            believe(request, &lines, ITEM_COVERAGE)
        }
        Task::SummaryCompleteness => covered_points(request),
    }
}

/// Believes a claim whose words are in one of the texts; an attribution's words must stand in one line, beside the speaker's name.
fn believe(request: &Request, texts: &[HashSet<String>], enough: f64) -> Answer {
    let claims = claims::split(&request.llm_response);
    let is_covered = |claim: &str| {
        let words = content_words(claim);
        texts.iter().any(|text| coverage(&words, text) >= enough)
    };
    let mistakes: Vec<_> = claims.iter().filter(|claim| !is_covered(claim)).map(|claim| (*claim).to_owned()).collect();
    Answer::new(share(claims.len() - mistakes.len(), claims.len()), mistakes)
}

/// Counts the lines of the context that some sentence of the summary takes up; names no missing point, since it has no words for one.
fn covered_points(request: &Request) -> Answer {
    let lines = request.rag_context.lines().map(content_words);
    let points: Vec<_> = lines.filter(|words| words.len() >= POINT_WORDS).collect();
    let sentences: Vec<_> = claims::split(&request.llm_response).into_iter().map(content_words).collect();
    let is_covered =
        |point: &&HashSet<String>| sentences.iter().any(|words| coverage(words, point) >= CLAIM_COVERAGE / 2.0);
    Answer::new(share(points.iter().filter(is_covered).count(), points.len()), Vec::new())
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { python::round2(part as f64 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(task: Task, rag_context: &str, query: &str, llm_response: &str) -> Answer {
        let [rag_context, query, llm_response] = [rag_context, query, llm_response].map(str::to_owned);
        Baseline::WordOverlap.answer(&Request { task, rag_context, query, llm_response })
    }

    #[test]
    fn an_unsupported_claim_is_named_verbatim() {
        let answer = ask(
            Task::Hallucination,
            "The Harbor team moved to Lisbon in May.",
            "",
            "The Harbor team moved to Lisbon. Penguins bought the stadium.",
        );
        assert_eq!(answer, Answer::new(0.5, vec!["Penguins bought the stadium.".to_owned()]));
    }

    #[test]
    fn an_attribution_must_stand_beside_the_speaker() {
        let context = "Ana: I will book the room.\nBen: I will send the budget to finance.";
        let answer =
            ask(Task::Attribution, context, "", "Ana will send the budget to finance.\nAna will book the room.");
        assert_eq!(answer.mistakes.unwrap(), ["Ana will send the budget to finance."]);
    }

    #[test]
    fn relevance_is_shared_words() {
        let score = |response| ask(Task::Relevancy, "", "When does the ferry leave?", response).score;
        assert_eq!(score("The ferry will leave at noon."), Some(1.0));
        assert_eq!(score("Bread is baked daily."), Some(0.0));
    }

    #[test]
    fn nothing_to_judge_scores_zero() {
        assert_eq!(ask(Task::Hallucination, "c", "", "..."), Answer::new(0.0, vec![]));
    }
}
