//! What an accepted evaluation result holds, and how a new one is compared with it.
//!
//! A snapshot belongs to one example set and one class of device. Where answers are greedy the comparison is strict: every score within
//! [`SCORE_TOLERANCE`], every list of mistakes the same as a set. Where they are sampled, two runs differ by chance, so only the mean
//! rewards are compared, with the room that their standard errors leave.

use std::collections::BTreeSet;

use deval_report::Section;
use serde::{Deserialize, Serialize};

use crate::harness::{Evaluation, ExampleResult};
use crate::stats::Summary;
use crate::task::Task;

/// Largest difference of two scores or rewards that rounding on another processor explains.
pub const SCORE_TOLERANCE: f64 = 0.0005;
/// Standard errors of the difference of two sampled means that chance explains; 4 leaves 1 in 16,000 per mean.
const SAMPLED_ERRORS: f64 = 4.0;

/// Digits of the example set's digest in a snapshot's name.
const DIGEST_DIGITS: usize = 12;

/// Whether the same question always gets the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answers {
    /// The same every time.
    Greedy,
    /// Drawn anew.
    Sampled,
}

/// An accepted evaluation result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Name of the example set.
    pub set: String,
    /// Its digest.
    pub digest: String,
    /// Its file, relative to the manifest; absent for generated examples and for files elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What answered, and on which class of device; see [`Snapshot::class`].
    pub class: String,
    /// Whether answers repeat.
    pub answers: Answers,
    /// Mean reward over all examples.
    pub overall: Mean,
    /// Mean reward of each task.
    pub tasks: Vec<(Task, Mean)>,
    /// Every answer, in example order.
    pub items: Vec<Item>,
}

/// A mean reward.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error, where one is known.
    pub standard_error: Option<f64>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The example.
    pub id: String,
    /// Which sample of it, from 0.
    pub sample: u32,
    /// The score.
    pub score: f64,
    /// The mistakes, each once; absent when the answer left them out.
    pub mistakes: Option<BTreeSet<String>>,
    /// What it earned; absent when the validator would abort.
    pub reward: Option<f64>,
}

/// An answer that changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    /// The example.
    pub id: String,
    /// Which sample of it.
    pub sample: u32,
    /// Accepted and new score; absent where the example is on one side only.
    pub score: [Option<f64>; 2],
    /// Accepted and new reward.
    pub reward: [Option<f64>; 2],
    /// Mistakes that are named now and were not.
    pub added: Vec<String>,
    /// Mistakes that were named and are not now.
    pub removed: Vec<String>,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Why the snapshot does not hold; empty when it does.
    pub broken: Vec<String>,
    /// Every answer that changed; in the sampled lane this is for reading only.
    pub flips: Vec<Flip>,
}

impl Snapshot {
    /// The snapshot of an evaluation on a class of device such as `cpu` or `cuda`.
    pub fn of(evaluation: &Evaluation, device: &str, answers: Answers) -> Self {
        let rewards = &evaluation.rewards;
        Self {
            set: evaluation.set.name.clone(),
            digest: evaluation.set.digest.clone(),
            file: None,
            class: Self::class(&evaluation.backend.name, evaluation.backend.reading.as_deref(), device),
            answers,
            overall: Mean::of(&rewards.overall),
            tasks: rewards.tasks.iter().map(|summary| (summary.task, Mean::of(&summary.reward))).collect(),
            items: evaluation.results.iter().map(Item::of).collect(),
        }
    }

    /// What answered, and on which class of device: `native-likelihood-cpu`.
    pub fn class(backend: &str, reading: Option<&str>, device: &str) -> String {
        [Some(backend), reading, Some(device)].into_iter().flatten().collect::<Vec<_>>().join("-")
    }

    /// Name of the snapshot's file without its extension; a set whose examples change gets a new one.
    pub fn name(&self) -> String {
        let digest = self.digest.get(..DIGEST_DIGITS).unwrap_or(&self.digest);
        format!("{}-{digest}.{}", self.plain_set(), self.class)
    }

    /// Whether a snapshot of this name was made by the same backend on the same class of device from other examples under the same set name:
    /// nothing checks it any more.
    pub fn is_older_edition(&self, name: &str) -> bool {
        let digest = name
            .strip_prefix(&format!("{}-", self.plain_set()))
            .and_then(|rest| rest.strip_suffix(&format!(".{}", self.class)));
        digest.is_some_and(|digest| digest.len() == DIGEST_DIGITS && !self.digest.starts_with(digest))
    }

    fn plain_set(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        self.set.chars().map(plain).collect()
    }

    /// Compares a new result with this accepted one.
    pub fn compare(&self, new: &Self) -> Comparison {
        let flips = self.flips(new);
        let mut broken = Vec::new();
        for (what, old, new) in [("example set", &self.digest, &new.digest), ("class", &self.class, &new.class)] {
            if old != new {
                broken.push(format!("the {what} is another: {new}, accepted {old}"));
            }
        }
        if self.answers != new.answers {
            broken.push("one side is greedy, the other sampled".to_owned());
        } else if new.answers == Answers::Greedy {
            broken.extend((!flips.is_empty()).then(|| format!("{} answers changed", flips.len())));
            let is_moved = (self.overall.mean - new.overall.mean).abs() > SCORE_TOLERANCE;
            broken.extend((is_moved && flips.is_empty()).then(|| {
                format!(
                    "the mean reward is {:.4}, accepted {:.4}, with the same answers",
                    new.overall.mean, self.overall.mean
                )
            }));
        } else {
            broken.extend(self.moved(new));
        }
        Comparison { broken, flips }
    }

    /// Means that differ by more than chance explains.
    fn moved(&self, new: &Self) -> Vec<String> {
        let of = |snapshot: &Self| {
            let tasks = snapshot.tasks.iter().map(|(task, mean)| (task.name(), *mean));
            std::iter::once(("all", snapshot.overall)).chain(tasks).collect::<Vec<_>>()
        };
        let pairs = of(self).into_iter().zip(of(new));
        let moved = pairs.filter(|((name, old), (other, new))| name != other || old.differs(new));
        moved
            .map(|((name, old), (_, new))| {
                format!(
                    "mean reward of `{name}` moved from {:.3} to {:.3}, more than chance explains",
                    old.mean, new.mean
                )
            })
            .collect()
    }

    fn flips(&self, new: &Self) -> Vec<Flip> {
        let key = |item: &Item| (item.id.clone(), item.sample);
        let old: std::collections::BTreeMap<_, _> = self.items.iter().map(|item| (key(item), item)).collect();
        let fresh: BTreeSet<_> = new.items.iter().map(key).collect();
        let changed = new.items.iter().filter_map(|item| {
            let accepted = old.get(&key(item)).copied();
            let is_same = accepted.is_some_and(|accepted| accepted.is_same(item));
            (!is_same).then(|| Flip::between(accepted, Some(item)))
        });
        let gone = self.items.iter().filter(|item| !fresh.contains(&key(item)));
        changed.flatten().chain(gone.filter_map(|item| Flip::between(Some(item), None))).collect()
    }
}

impl Mean {
    fn of(summary: &Summary) -> Self {
        Self { mean: summary.mean, standard_error: summary.standard_error }
    }

    fn differs(&self, other: &Self) -> bool {
        let variance =
            [self, other].iter().filter_map(|mean| mean.standard_error).map(|error| error * error).sum::<f64>();
        (self.mean - other.mean).abs() > (SAMPLED_ERRORS * variance.sqrt()).max(SCORE_TOLERANCE)
    }
}

impl Item {
    fn of(result: &ExampleResult) -> Self {
        let answer = &result.answer;
        Self {
            id: result.id.clone(),
            sample: result.sample,
            score: answer.score,
            mistakes: answer.mistakes.as_ref().map(|mistakes| mistakes.iter().cloned().collect()),
            reward: result.reward.as_ref().map(|reward| f64::from(reward.total)),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= SCORE_TOLERANCE;
        let rewards = match (self.reward, other.reward) {
            (Some(a), Some(b)) => near(a, b),
            (a, b) => a == b,
        };
        near(self.score, other.score) && rewards && self.mistakes == other.mistakes
    }
}

impl Flip {
    fn between(old: Option<&Item>, new: Option<&Item>) -> Option<Self> {
        let item = old.or(new)?;
        let mistakes = |item: Option<&Item>| item.and_then(|item| item.mistakes.clone()).unwrap_or_default();
        let (before, after) = (mistakes(old), mistakes(new));
        Some(Self {
            id: item.id.clone(),
            sample: item.sample,
            score: [old, new].map(|item| item.map(|item| item.score)),
            reward: [old, new].map(|item| item.and_then(|item| item.reward)),
            added: after.difference(&before).cloned().collect(),
            removed: before.difference(&after).cloned().collect(),
        })
    }
}

impl Comparison {
    /// Whether the snapshot holds.
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// The flip report.
    pub fn section(&self) -> Section {
        let number = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |value| format!("{value:.3}"));
        let pair = |[old, new]: [Option<f64>; 2]| format!("{} → {}", number(old), number(new));
        let rows = self.flips.iter().map(|flip| {
            let named = format!("+{} −{}", flip.added.len(), flip.removed.len());
            vec![flip.id.clone(), flip.sample.to_string(), pair(flip.score), named, pair(flip.reward)]
        });
        let head = ["example", "sample", "score", "mistakes", "reward"];
        let section = Section::new("Answers that changed").table(&head, rows.collect());
        self.broken.iter().fold(section, |section, why| section.note(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(answers: Answers, scores: &[f64]) -> Snapshot {
        let mean = Mean { mean: scores.iter().sum::<f64>() / scores.len() as f64, standard_error: Some(0.02) };
        let item = |(place, score): (usize, &f64)| Item {
            id: format!("e{place}"),
            sample: 0,
            score: *score,
            mistakes: Some(BTreeSet::from(["a".to_owned(), "b".to_owned()])),
            reward: Some(*score),
        };
        Snapshot {
            set: "my set/1".into(),
            digest: "0123456789abcdef".into(),
            file: None,
            class: Snapshot::class("native", Some("likelihood"), "cpu"),
            answers,
            overall: mean,
            tasks: vec![(Task::Relevancy, mean)],
            items: scores.iter().enumerate().map(item).collect(),
        }
    }

    #[test]
    fn greedy_answers_may_differ_by_rounding_and_in_the_order_of_mistakes() {
        let old = snapshot(Answers::Greedy, &[0.5, 1.0]);
        assert_eq!(old.name(), "my-set-1-0123456789ab.native-likelihood-cpu");
        assert!(old.compare(&snapshot(Answers::Greedy, &[0.5002, 1.0])).holds());
        let moved = old.compare(&snapshot(Answers::Greedy, &[0.6, 1.0]));
        assert_eq!((moved.broken.as_slice(), moved.flips.len()), (&["1 answers changed".to_owned()][..], 1));
        assert_eq!((moved.flips[0].id.as_str(), moved.flips[0].score), ("e0", [Some(0.5), Some(0.6)]));
    }

    #[test]
    fn only_an_older_edition_of_the_same_set_is_left_unchecked() {
        let snapshot = snapshot(Answers::Greedy, &[0.5]);
        assert!(snapshot.is_older_edition("my-set-1-ba9876543210.native-likelihood-cpu"));
        for other in [
            &snapshot.name(),
            "my-set-1-ba9876543210.native-likelihood-cuda",
            "my-set-10-ba9876543210.native-likelihood-cpu",
            "other-ba9876543210.native-likelihood-cpu",
        ] {
            assert!(!snapshot.is_older_edition(other), "{other}");
        }
    }

    #[test]
    fn mistakes_are_sets() {
        let (old, mut new) = (snapshot(Answers::Greedy, &[0.5]), snapshot(Answers::Greedy, &[0.5]));
        new.items[0].mistakes = Some(BTreeSet::from(["b".to_owned(), "c".to_owned()]));
        let flips = old.compare(&new).flips;
        assert_eq!((&flips[0].added[..], &flips[0].removed[..]), (&["c".to_owned()][..], &["a".to_owned()][..]));
        new.items[0].mistakes = None;
        assert!(!old.compare(&new).holds());
    }

    #[test]
    fn missing_and_new_examples_are_flips() {
        let (long, short) = (snapshot(Answers::Greedy, &[0.5, 1.0]), snapshot(Answers::Greedy, &[0.5]));
        assert_eq!(long.compare(&short).flips[0].score, [Some(1.0), None]);
        assert_eq!(short.compare(&long).flips[0].score, [None, Some(1.0)]);
    }

    #[test]
    fn sampled_answers_may_differ_as_far_as_chance_goes() {
        let old = snapshot(Answers::Sampled, &[0.5, 0.6]);
        let near = old.compare(&snapshot(Answers::Sampled, &[0.6, 0.6]));
        assert!(near.holds() && near.flips.len() == 1);
        let far = old.compare(&snapshot(Answers::Sampled, &[0.9, 0.9]));
        assert_eq!(far.broken.len(), 2, "{:?}", far.broken);
        assert!(!old.compare(&snapshot(Answers::Greedy, &[0.5, 0.6])).holds());
    }
}
