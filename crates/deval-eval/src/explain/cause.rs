//! What can be wrong with an answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Judged, Part};
use crate::reward::Model;

/// A cause of lost reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The validator aborts.
    Aborts,
    /// The score is missing, unparseable or outside 0…1, or the answer could not be read at all.
    Unusable,
    /// A relevancy score that is neither 0 nor 1.
    NotZeroOrOne,
    /// A relevancy score of 0 for 1 or of 1 for 0.
    WrongVerdict,
    /// The score is off by less than 0.1.
    OffBelowTenth,
    /// The score is off by 0.1 to 0.2.
    OffTenth,
    /// The score is off by 0.2 to 0.4.
    OffFifth,
    /// The score is off by 0.4 or more.
    OffFar,
    /// The penalty in steps for the distance of the score.
    DistancePenalty,
    /// Mistakes that were not named, or not in words close enough.
    NotNamed,
    /// Mistakes named where there are none.
    NamedNone,
    /// A summary's missing points were named with less relevance than the right answer's.
    Relevance,
    /// True claims named as mistakes.
    TrueNamed,
    /// No mistake named where no claim is true: the empty list equals the empty list of true claims, which is punished in full.
    NothingNamed,
    /// What the right answers lose as well.
    Unreachable,
    /// Parts in which an answer earns more than the right answer; a negative loss.
    BetterThanRight,
    /// Rounding in the validator's 32-bit arithmetic.
    Rounding,
}

impl Cause {
    /// In words: how many answers, how much each lost on average, and the score of the worst.
    pub(super) fn describe(self, answers: usize, loss: f64, score: f64) -> String {
        let s = if answers == 1 { "" } else { "s" };
        let off = |range: &str| format!("score off by {range} in {answers} answer{s}");
        match self {
            Self::Aborts => format!("{answers} answer{s} would abort the validator, which loses the whole round"),
            Self::Unusable => format!("{answers} answer{s} without a usable score (like {score}; unparseable is -1)"),
            Self::NotZeroOrOne => {
                format!("{answers} relevancy score{s} like {score} earn 0 (only exactly 0 or 1 counts)")
            }
            Self::WrongVerdict => format!("{answers} relevancy answer{s} with the wrong verdict"),
            Self::OffBelowTenth => off("less than 0.1"),
            Self::OffTenth => off("0.1 to 0.2"),
            Self::OffFifth => off("0.2 to 0.4"),
            Self::OffFar => off("0.4 or more"),
            Self::DistancePenalty => format!("distance penalty of the score in {answers} answer{s}"),
            Self::NotNamed => format!("mistakes not named, or not in close words, in {answers} answer{s}"),
            Self::NamedNone => format!("mistakes named where there are none in {answers} answer{s}"),
            Self::Relevance => format!("relevance below what the right answer earns in {answers} answer{s}"),
            Self::TrueNamed => format!("true claims named as mistakes (penalty) in {answers} answer{s}"),
            Self::NothingNamed => {
                format!("no mistake named where no claim is true (penalty for the empty list) in {answers} answer{s}")
            }
            Self::Unreachable => {
                format!(
                    "the right answers themselves earn only {:.2} in {answers} answer{s} (not reachable)",
                    1.0 - loss
                )
            }
            Self::BetterThanRight => format!("{answers} answer{s} earn more in some part than the right answer"),
            Self::Rounding => format!("rounding of the validator's 32-bit sums in {answers} answer{s}"),
        }
    }
}

/// Why this part of an answer's reward was lost.
pub(super) fn of(part: Part, answer: &Judged<'_>) -> Cause {
    let score = answer.result.answer.score;
    let is_usable = (0.0..=1.0).contains(&score);
    let example = answer.example;
    let names_nothing = answer.result.answer.mistakes.as_ref().is_none_or(Vec::is_empty);
    match part {
        Part::Reward(Model::Ordinal | Model::FloatDiff) | Part::Penalty(Model::DistPenalty) if !is_usable => {
            Cause::Unusable
        }
        Part::Reward(Model::Ordinal) if score != 0.0 && score != 1.0 => Cause::NotZeroOrOne,
        Part::Reward(Model::FloatDiff) => off((example.reference - score).abs()),
        Part::Reward(Model::ExactMatch | Model::Rouge) if example.reference_mistakes.is_empty() => Cause::NamedNone,
        Part::Reward(Model::ExactMatch | Model::Rouge) => Cause::NotNamed,
        Part::Reward(Model::Relevance) => Cause::Relevance,
        Part::Penalty(Model::DistPenalty) => Cause::DistancePenalty,
        Part::Penalty(_) if names_nothing => Cause::NothingNamed,
        Part::Penalty(_) => Cause::TrueNamed,
        Part::Reward(Model::Ordinal | Model::DistPenalty) => Cause::WrongVerdict,
    }
}

/// The steps are those of the distance penalty.
fn off(distance: f64) -> Cause {
    match distance {
        d if d < 0.1 => Cause::OffBelowTenth,
        d if d < 0.2 => Cause::OffTenth,
        d if d < 0.4 => Cause::OffFifth,
        _ => Cause::OffFar,
    }
}
