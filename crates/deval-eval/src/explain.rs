//! Where the reward is lost: the distance from the maximum, split by cause.
//!
//! A total is Σ w·r · ∏ (1 − w·p), so its loss splits in definition order: each reward model loses w·(1 − r), then each penalty takes its
//! share w·p of what is left. The same split of the right answer's reward is subtracted part by part. What the right answer loses too
//! cannot be reached and is a cause of its own; every other part is given to what was wrong with the answer. The losses of all
//! items sum to 1 less the mean reward: rounding in 32-bit arithmetic and parts below a millionth are an item too.

mod cause;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cause::Cause;
pub use view::sections;

use crate::api::Status;
use crate::harness::ExampleResult;
use crate::reward::{Model, Reward};
use crate::task::{Example, Task};

/// Parts of one answer's loss below this are rounding.
const NEGLIGIBLE: f64 = 1e-6;

/// An answer beside what the right answer would have earned.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// The example.
    pub example: &'a Example,
    /// The answer to it.
    pub result: &'a ExampleResult,
    /// Reward of the right answer; absent when even that aborts the validator.
    pub right: Option<&'a Reward>,
}

/// One cause of lost reward in one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Item {
    /// The task.
    pub task: Task,
    /// The cause.
    pub cause: Cause,
    /// Answers it concerns.
    pub answers: usize,
    /// Id of the example that lost most by it.
    pub example: String,
    /// What the mean reward over all answers of all tasks loses by it; negative where something was won.
    pub loss: f64,
    /// The cause in words, with its count.
    pub what: String,
}

/// Splits the distance between the mean reward and 1, largest loss first. No answers, no items.
pub fn explain(judged: &[Judged<'_>]) -> Vec<Item> {
    let mut tallies = BTreeMap::<(Task, Cause), Tally<'_>>::new();
    for answer in judged {
        for (cause, loss) in causes(answer) {
            tallies.entry((answer.example.task, cause)).or_default().add(answer, loss);
        }
    }
    let item = |((task, cause), tally): ((Task, Cause), Tally<'_>)| {
        let Tally { answers, loss, worst } = tally;
        let (example, score) =
            worst.map(|(_, worst)| (worst.example.id.clone(), worst.result.answer.score)).unwrap_or_default();
        let what = cause.describe(answers, loss / answers as f64, score);
        Item { task, cause, answers, example, loss: loss / judged.len() as f64, what }
    };
    let mut items: Vec<Item> = tallies.into_iter().map(item).collect();
    items.sort_by(|a, b| b.loss.total_cmp(&a.loss));
    items
}

/// What one cause took in one task.
#[derive(Default)]
struct Tally<'a> {
    answers: usize,
    loss: f64,
    worst: Option<(f64, Judged<'a>)>,
}

impl<'a> Tally<'a> {
    fn add(&mut self, answer: &Judged<'a>, loss: f64) {
        self.answers += 1;
        self.loss += loss;
        if self.worst.is_none_or(|(most, _)| loss.abs() > most) {
            self.worst = Some((loss.abs(), *answer));
        }
    }
}

/// One answer's loss by cause; the values sum to 1 less its reward.
fn causes(answer: &Judged<'_>) -> BTreeMap<Cause, f64> {
    let right = answer.right.map_or(0.0, |right| f64::from(right.total));
    let gap = right - answer.result.total();
    let parts = match (&answer.result.reward, answer.right) {
        (None, _) => vec![(Cause::Aborts, gap)],
        (Some(_), _) if is_broken(answer.result) => vec![(Cause::Unusable, gap)],
        (Some(own), Some(right)) => {
            let pairs = losses(own).into_iter().zip(losses(right));
            pairs.map(|((part, own), (_, right))| (cause::of(part, answer), own - right)).collect()
        }
        (Some(_), None) => vec![(Cause::BetterThanRight, gap)],
    };
    let mut causes = BTreeMap::new();
    for (cause, loss) in parts.into_iter().chain([(Cause::Unreachable, 1.0 - right)]) {
        // An abort is told even where the right answer would have earned nothing.
        if loss.abs() < NEGLIGIBLE && cause != Cause::Aborts {
            continue;
        }
        *causes.entry(if loss < 0.0 { Cause::BetterThanRight } else { cause }).or_insert(0.0) += loss;
    }
    let named: f64 = causes.values().sum();
    let rest = 1.0 - answer.result.total() - named;
    if rest != 0.0 {
        causes.insert(Cause::Rounding, rest);
    }
    causes
}

/// Whether nothing of the answer reached the validator.
fn is_broken(result: &ExampleResult) -> bool {
    let answer = &result.answer;
    answer.client_status_message == Status::Error || answer.server_status_message != Some(Status::Success)
}

/// A part of a reward's definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Reward(Model),
    Penalty(Model),
}

/// What each part of the definition takes, in order.
fn losses(reward: &Reward) -> Vec<(Part, f64)> {
    let numbers = |weight: f32, value: f32| (f64::from(weight), f64::from(value));
    let mut left = 0.0;
    let mut losses = Vec::new();
    for part in &reward.rewards {
        let (weight, value) = numbers(part.weight, part.value);
        left += weight * value;
        losses.push((Part::Reward(part.model), weight * (1.0 - value)));
    }
    for part in &reward.penalties {
        let (weight, value) = numbers(part.weight, part.value);
        let lost = left * weight * value;
        left -= lost;
        losses.push((Part::Penalty(part.model), lost));
    }
    losses
}
