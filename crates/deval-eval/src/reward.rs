//! The reward and penalty models and their sum (`deval/rewards`, `deval/tasks/*_base.py`, `RewardResult` in `deval/rewards/pipeline.py`).
//!
//! Scalar models compute in f64 and keep an f32; the total is f32 step by step, in definition order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::abort::ValidatorAborts;
use crate::embed::{Embed, cosine};
use crate::rouge::{Comparison, Words, rouge_l};
use crate::task::{Answer, Example, Task};

/// F of rouge-l from which on two strings count as the same claim.
pub const MATCH_THRESHOLD: f64 = 0.85;

/// A reward or penalty model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// [`ordinal`].
    Ordinal,
    /// [`float_diff`].
    FloatDiff,
    /// [`dist_penalty`].
    DistPenalty,
    /// [`exact_match`].
    ExactMatch,
    /// [`rouge`].
    Rouge,
    /// [`relevance`].
    Relevance,
}

impl Model {
    /// The name upstream gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ordinal => "ordinal",
            Self::FloatDiff => "float_diff",
            Self::DistPenalty => "dist_penalty",
            Self::ExactMatch => "exact_match",
            Self::Rouge => "rouge",
            Self::Relevance => "relevance",
        }
    }
}

/// One model's part in a reward.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Component {
    /// Which model.
    pub model: Model,
    /// Its weight.
    pub weight: f32,
    /// What it gave, 0 to 1.
    pub value: f32,
}

/// What the validator gives for one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reward {
    /// What was earned, in definition order.
    pub rewards: Vec<Component>,
    /// What was lost, in definition order.
    pub penalties: Vec<Component>,
    /// The reward.
    pub total: f32,
}

/// The right answer.
#[derive(Debug, Clone, Copy)]
pub struct Truth<'a> {
    /// The reference score.
    pub score: Option<f64>,
    /// The claims that are mistakes.
    pub mistakes: &'a [String],
    /// The claims that are none; naming them is punished.
    pub true_values: &'a [String],
}

impl<'a> From<&'a Example> for Truth<'a> {
    fn from(example: &'a Example) -> Self {
        let Example { reference, reference_mistakes, reference_true_values, .. } = example;
        Self { score: Some(*reference), mistakes: reference_mistakes, true_values: reference_true_values }
    }
}

/// Why there is no reward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unscored {
    /// The validator raises.
    Aborts(ValidatorAborts),
    /// The embedder failed; says nothing about the answer.
    Embedder(String),
}

impl From<ValidatorAborts> for Unscored {
    fn from(abort: ValidatorAborts) -> Self {
        Self::Aborts(abort)
    }
}

impl Task {
    /// Reward models with their weights, in definition order.
    pub fn rewards(self) -> &'static [(Model, f32)] {
        match self {
            Self::Relevancy => &[(Model::Ordinal, 1.0)],
            Self::Hallucination | Self::Attribution => &[(Model::FloatDiff, 0.6), (Model::ExactMatch, 0.4)],
            Self::SummaryCompleteness => &[(Model::FloatDiff, 0.6), (Model::Rouge, 0.2), (Model::Relevance, 0.2)],
        }
    }

    /// Penalty models with their weights, in definition order.
    pub fn penalties(self) -> &'static [(Model, f32)] {
        match self {
            Self::Relevancy => &[],
            Self::Hallucination | Self::Attribution => &[(Model::DistPenalty, 0.35), (Model::ExactMatch, 0.5)],
            Self::SummaryCompleteness => {
                &[(Model::DistPenalty, 0.35), (Model::Rouge, 0.125), (Model::Relevance, 0.125)]
            }
        }
    }
}

/// The validator's reward for an answer.
///
/// # Errors
/// [`Unscored::Aborts`] where the validator raises, [`Unscored::Embedder`] when no embedding could be had.
pub fn reward(task: Task, truth: Truth<'_>, answer: &Answer, embed: &dyn Embed) -> Result<Reward, Unscored> {
    let rewards = components(task.rewards(), truth.score, truth.mistakes, answer, embed)?;
    let penalties = components(task.penalties(), truth.score, truth.true_values, answer, embed)?;
    let earned = rewards.iter().fold(0.0f32, |total, part| total + part.weight * part.value);
    let total = penalties.iter().fold(earned, |total, part| total * (1.0 - part.weight * part.value));
    Ok(Reward { rewards, penalties, total })
}

fn components(
    models: &[(Model, f32)],
    score: Option<f64>,
    claims: &[String],
    answer: &Answer,
    embed: &dyn Embed,
) -> Result<Vec<Component>, Unscored> {
    let mistakes = answer.mistakes.as_deref();
    let value = |model| match model {
        Model::Ordinal => Ok(ordinal(score, answer.score)?),
        Model::FloatDiff => Ok(float_diff(score, answer.score)),
        Model::DistPenalty => Ok(dist_penalty(score, answer.score)?),
        Model::ExactMatch => Ok(exact_match(claims, mistakes)?),
        Model::Rouge => Ok(rouge(claims, mistakes)?),
        Model::Relevance => relevance(claims, mistakes, embed).map(|relevance| relevance.reward),
    };
    models.iter().map(|&(model, weight)| value(model).map(|value| Component { model, weight, value })).collect()
}

/// `deval/rewards/float_diff.py`: 1 minus the distance of the scores; NaN stays NaN.
pub fn float_diff(reference: Option<f64>, score: Option<f64>) -> f32 {
    let Some(score) = score.filter(|score| !out_of_range(*score)) else { return 0.0 };
    let Some(reference) = reference else { return 0.0 };
    if reference == score {
        return 1.0;
    }
    let distance = (reference - score).abs();
    if distance > 0.999 { 0.0 } else { (1.0 - distance) as f32 }
}

/// `deval/rewards/ordinal.py`: 1 only for the very same one of 0 and 1.
///
/// # Errors
/// `TypeError` without a score, `ValueError` for a reference other than 0 and 1.
pub fn ordinal(reference: Option<f64>, score: Option<f64>) -> Result<f32, ValidatorAborts> {
    let score = score.ok_or_else(|| ValidatorAborts::type_error("ordinal: the answer has no score"))?;
    if score != 0.0 && score != 1.0 {
        return Ok(0.0);
    }
    match reference {
        Some(reference) if reference == 0.0 || reference == 1.0 => Ok(f32::from(reference == score)),
        _ => Err(ValidatorAborts::value_error(format!("ordinal: the reference {reference:?} is neither 0 nor 1"))),
    }
}

/// `deval/rewards/dist_penalty.py`: four steps over the distance of the scores, 1 for anything that fits none.
///
/// # Errors
/// `TypeError` without a score.
pub fn dist_penalty(reference: Option<f64>, score: Option<f64>) -> Result<f32, ValidatorAborts> {
    let score = score.ok_or_else(|| ValidatorAborts::type_error("dist_penalty: the answer has no score"))?;
    let Some(reference) = reference.filter(|_| !out_of_range(score)) else { return Ok(1.0) };
    let distance = (reference - score).abs();
    Ok(match distance {
        d if (0.0..0.1).contains(&d) => 0.0,
        d if (0.1..0.2).contains(&d) => (1.0f64 / 3.0) as f32,
        d if (0.2..0.4).contains(&d) => (2.0f64 / 3.0) as f32,
        _ => 1.0,
    })
}

/// NaN is not out of range.
fn out_of_range(score: f64) -> bool {
    score.min(0.0) < 0.0 || score.max(1.0) > 1.0
}

/// `deval/rewards/exact_match.py`: the share of reference strings that some answer string resembles; surplus answers cost nothing.
///
/// # Errors
/// `TypeError` without a list, whatever [`rouge_l`] raises.
pub fn exact_match<'a>(reference: &'a [String], completion: Option<&'a [String]>) -> Result<f32, ValidatorAborts> {
    if completion == Some(reference) {
        return Ok(1.0);
    }
    if reference.is_empty() {
        return Ok(0.0);
    }
    let completion =
        completion.ok_or_else(|| ValidatorAborts::type_error("exact_match: the answer's mistakes are null"))?;
    let mut words = Words::default();
    let mut split = |texts: &'a [String]| texts.iter().map(|text| (text.is_empty(), words.text(text))).collect();
    let (expected, given): (Vec<_>, Vec<_>) = (split(reference), split(completion));
    let (mut comparison, mut matched) = (Comparison::default(), 0u32);
    for (is_empty, expected) in &expected {
        let mut found = false;
        for (_, given) in given.iter().filter(|(no_text, _)| !is_empty && !no_text) {
            found |= comparison.rouge_l(expected, given)?.f >= MATCH_THRESHOLD;
        }
        matched += u32::from(found);
    }
    Ok((f64::from(matched) / reference.len() as f64) as f32)
}

/// `deval/rewards/rouge.py`: rouge-l of the two lists, each joined by newlines.
///
/// # Errors
/// `TypeError` without a list, whatever [`rouge_l`] raises.
pub fn rouge(reference: &[String], completion: Option<&[String]>) -> Result<f32, ValidatorAborts> {
    let completion = completion.ok_or_else(|| ValidatorAborts::type_error("rouge: the answer's mistakes are null"))?;
    if completion == reference {
        return Ok(1.0);
    }
    resemblance(&reference.join("\n"), &completion.join("\n")).map(|f| f as f32)
}

/// F of rouge-l; 0 when either side is the empty text.
fn resemblance(reference: &str, completion: &str) -> Result<f64, ValidatorAborts> {
    if reference.is_empty() || completion.is_empty() {
        return Ok(0.0);
    }
    rouge_l(reference, completion).map(|rouge| rouge.f)
}

/// Similarities behind a relevance reward.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Relevance {
    /// Cosine of reference and answer.
    pub cosine: f64,
    /// Cosine of reference and the empty text.
    pub baseline: f64,
    /// Their difference, clipped to 0…1.
    pub reward: f32,
}

/// `deval/rewards/relevance.py`: how much closer the answer is to the reference than the empty text is.
///
/// # Errors
/// `TypeError` without a list; an embedder that fails or gives vectors of two lengths.
pub fn relevance(
    reference: &[String],
    completion: Option<&[String]>,
    embed: &dyn Embed,
) -> Result<Relevance, Unscored> {
    let completion =
        completion.ok_or_else(|| ValidatorAborts::type_error("relevance: the answer's mistakes are null"))?;
    let vector = |text: &str| embed.embed(text).map_err(Unscored::Embedder);
    let reference = vector(&reference.join("\n"))?;
    let (completion, empty) = (vector(&completion.join("\n"))?, vector("")?);
    if reference.len() != completion.len() || reference.len() != empty.len() {
        return Err(Unscored::Embedder("vectors of different lengths".to_owned()));
    }
    let (cosine, baseline) = (cosine(&reference, &completion), cosine(&reference, &empty));
    Ok(Relevance { cosine, baseline, reward: (cosine - baseline).clamp(0.0, 1.0) as f32 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abort::PythonException;
    use crate::embed::HashedWords;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn weights_sum_to_one() {
        for task in Task::ALL {
            assert_eq!(task.rewards().iter().map(|(_, weight)| weight).sum::<f32>(), 1.0, "{task}");
        }
    }

    #[test]
    fn binary_floating_point_decides_the_borders() {
        let penalty = |reference, score| dist_penalty(Some(reference), Some(score)).unwrap();
        assert_eq!([penalty(1.0, 0.9), penalty(0.5, 0.4)], [0.0, 0.0]);
        assert_eq!([penalty(0.5, 0.9), penalty(0.8, 0.7)], [1.0, (1.0f64 / 3.0) as f32]);
        assert_eq!([penalty(f64::NAN, 0.5), penalty(0.5, -1.0)], [1.0, 1.0]);
    }

    #[test]
    fn seventeen_of_twenty_words_are_no_match() {
        let words = |n: usize, other: &str| {
            (0..20).map(|i| if i < n { format!("w{i} ") } else { format!("{other}{i} ") }).collect()
        };
        let reference = [words(20, "")];
        assert_eq!(exact_match(&reference, Some(&[words(17, "x")])).unwrap(), 0.0);
        assert_eq!(exact_match(&reference, Some(&[words(18, "x")])).unwrap(), 1.0);
    }

    #[test]
    fn a_later_dots_only_string_still_raises() {
        let abort = exact_match(&strings(&["a b"]), Some(&strings(&["a b", "..."]))).unwrap_err();
        assert_eq!(abort.python_exception, PythonException::ValueError);
    }

    #[test]
    fn a_perfect_summary_without_missing_points_earns_eight_tenths() {
        let kept = strings(&["One.", "Two."]);
        let truth = Truth { score: Some(1.0), mistakes: &[], true_values: &kept };
        let total = reward(Task::SummaryCompleteness, truth, &Answer::new(1.0, vec![]), &HashedWords).unwrap().total;
        assert_eq!(total, 0.8);
    }

    #[test]
    fn a_timed_out_answer_still_earns_when_everything_is_true() {
        let claims = strings(&["One."]);
        let truth = Truth { score: Some(1.0), mistakes: &[], true_values: &claims };
        let total = |task| reward(task, truth, &Answer::new(-1.0, vec![]), &HashedWords).unwrap().total;
        assert_eq!(total(Task::Hallucination), 0.26);
        assert!((total(Task::SummaryCompleteness) - 0.13).abs() < 1e-6);
    }

    #[test]
    fn null_mistakes_abort_all_but_relevancy() {
        let truth = Truth { score: Some(1.0), mistakes: &strings(&["a"]), true_values: &strings(&["b"]) };
        let answer = Answer { score: Some(1.0), mistakes: None };
        for task in Task::ALL {
            let outcome = reward(task, truth, &answer, &HashedWords);
            assert_eq!(outcome.is_ok(), task == Task::Relevancy, "{task}");
        }
    }
}
