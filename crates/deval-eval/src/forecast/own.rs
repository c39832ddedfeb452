//! Our own submission: what it earned in an evaluation, where it sits and when it was committed.

use deval_report::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::leaderboard::{Leaderboard, Miner, SEATS};
use crate::dice::Dice;
use crate::harness::Rewards;
use crate::stats::Summary;
use crate::task::Task;

/// Questions in a round of the validator, over all four tasks.
const QUESTIONS: f64 = 120.0;

/// What an evaluation says about the mean reward.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// Mean reward per question, 0 to 1.
    pub mean: f64,
    /// Standard error of it.
    pub standard_error: f64,
    /// Degrees of freedom of the t interval.
    pub degrees: f64,
    /// Standard deviation of the average over a round of 120 questions around the true mean.
    pub round_sd: f64,
}

impl Measured {
    /// From the mean over all examples. A round asks 120 questions, so the spread between examples is divided by √120.
    ///
    /// # Errors
    /// A finding when fewer than two examples were evaluated.
    pub fn overall(summary: &Summary) -> Result<Self, Diagnostic> {
        let error = summary.standard_error.ok_or_else(|| {
            Diagnostic::error(
                "forecast.no-interval",
                "the evaluation has no standard error, so nothing can be forecast",
            )
            .found(format!("{} examples", summary.examples))
            .expected("at least 2 examples")
        })?;
        let examples = summary.examples as f64;
        let round_sd = error * (examples / QUESTIONS).sqrt();
        Ok(Self { mean: summary.mean, standard_error: error, degrees: examples - 1.0, round_sd })
    }

    /// As the validator asks: the same number of questions of every task, so that differences between the tasks are no noise and each
    /// task counts a quarter. Falls back to [`Measured::overall`] unless all four tasks have a standard error.
    ///
    /// # Errors
    /// As there.
    pub fn by_task(rewards: &Rewards) -> Result<Self, Diagnostic> {
        let parts: Vec<_> = rewards
            .tasks
            .iter()
            .filter_map(|task| Some((task.reward.mean, task.reward.standard_error?, task.reward.examples as f64)))
            .collect();
        if parts.len() < Task::ALL.len() {
            return Self::overall(&rewards.overall);
        }
        let tasks = parts.len() as f64;
        let sum = |of: &dyn Fn(f64, f64) -> f64| parts.iter().map(|(_, error, n)| of(*error, *n)).sum::<f64>();
        let variance = sum(&|error, _| error.powi(2)) / tasks.powi(2);
        // Welch and Satterthwaite.
        let fourth = sum(&|error, n| error.powi(4) / (n - 1.0)) / tasks.powi(4);
        let degrees = if fourth > 0.0 { variance.powi(2) / fourth } else { sum(&|_, n| n - 1.0) };
        let round_sd = (sum(&|error, n| error.powi(2) * n) / (QUESTIONS * tasks)).sqrt();
        let mean = parts.iter().map(|(mean, ..)| mean).sum::<f64>() / tasks;
        Ok(Self { mean, standard_error: variance.sqrt(), degrees, round_sd })
    }
}

/// Where we sit in the subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Seat {
    /// The miner of this uid is ours.
    Uid(u32),
    /// We register and take this miner's seat; its score goes with it.
    Replaces(u32),
    /// We register: the lowest free uid, or, in a full subnet, the seat of the miner with the lowest score.
    New,
}

/// When our model was committed on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Commit {
    /// At the block that the leaderboard has for us; now when it has none.
    Kept,
    /// At this block.
    At(u64),
    /// After everybody on the leaderboard.
    Now,
}

/// Our submission.
#[derive(Debug, Clone, PartialEq)]
pub struct Own {
    /// Where we sit.
    pub seat: Seat,
    /// What we earn.
    pub reward: Measured,
    /// When we committed.
    pub commit: Commit,
    /// Hash of our weights; finds duplicates. That of the leaderboard when absent and the commitment is kept.
    pub model_hash: Option<String>,
    /// Our score so far; that of the leaderboard when absent, 0 for a new miner.
    pub score: Option<f32>,
    /// Whether the validator evaluates us.
    pub evaluated: bool,
}

impl Own {
    /// A submission that is evaluated, keeps its commitment and its score.
    pub fn new(seat: Seat, reward: Measured) -> Self {
        Self { seat, reward, commit: Commit::Kept, model_hash: None, score: None, evaluated: true }
    }

    /// Everything that cannot be.
    pub(super) fn check(&self, board: &Leaderboard) -> Vec<Diagnostic> {
        let Measured { mean, standard_error, degrees, round_sd } = self.reward;
        let numbers = [
            ("mean reward", mean, (0.0..=1.0).contains(&mean), "0 to 1"),
            ("standard error", standard_error, (0.0..=1.0).contains(&standard_error), "0 to 1"),
            ("degrees of freedom", degrees, degrees >= 1.0 && degrees.is_finite(), "1 or more"),
            ("noise of a round", round_sd, (0.0..=1.0).contains(&round_sd), "0 to 1"),
        ];
        let score = self.score.map(f64::from).map(|score| ("score", score, (0.0..=1.0).contains(&score), "0 to 1"));
        let numbers = numbers.into_iter().chain(score).filter(|(_, _, right, _)| !right);
        let mut findings: Vec<_> = numbers
            .map(|(what, found, _, expected)| {
                Diagnostic::error("forecast.own", format!("our {what} cannot be"))
                    .found(found.to_string())
                    .expected(expected)
            })
            .collect();
        if self.commit == Commit::At(0) {
            findings.push(Diagnostic::error("forecast.own", "our commitment cannot be at block 0"));
        }
        if let Seat::Uid(uid) | Seat::Replaces(uid) = self.seat
            && !board.miners.iter().any(|miner| miner.uid == uid)
        {
            let finding = Diagnostic::error("forecast.seat", "the leaderboard has no miner of this uid");
            findings.push(finding.found(uid.to_string()).help("give a uid of the leaderboard, or `new`"));
        }
        findings
    }

    /// Us as a miner of the leaderboard, and whose seat that takes.
    pub(super) fn seated(&self, board: &Leaderboard) -> (Miner, Option<u32>) {
        let (uid, replaces) = match self.seat {
            Seat::Uid(uid) => (uid, None),
            Seat::Replaces(uid) => (uid, Some(uid)),
            Seat::New => free_seat(board),
        };
        let is_ours = matches!(self.seat, Seat::Uid(_));
        let entry = board.miners.iter().find(|miner| is_ours && miner.uid == uid);
        let block = match self.commit {
            Commit::At(block) => Some(block),
            Commit::Kept => entry.and_then(|miner| miner.block),
            Commit::Now => None,
        };
        let kept = entry.filter(|miner| miner.block == block).and_then(|miner| miner.model_hash.clone());
        let miner = Miner {
            uid,
            score: self.score.or(entry.map(|miner| miner.score)).unwrap_or(0.0),
            block: block.or(Some(block_now(board))),
            model_hash: self.model_hash.clone().or(kept),
            evaluated: self.evaluated,
            ..Miner::default()
        };
        (miner, replaces)
    }
}

/// A block after every one on the leaderboard.
pub(super) fn block_now(board: &Leaderboard) -> u64 {
    let blocks = board.miners.iter().filter_map(|miner| miner.block).chain(board.block);
    blocks.max().unwrap_or(0).saturating_add(1)
}

fn free_seat(board: &Leaderboard) -> (u32, Option<u32>) {
    let taken = |uid: &u32| board.miners.iter().any(|miner| miner.uid == *uid);
    if let Some(free) = (0..SEATS).find(|uid| !taken(uid)) {
        return (free, None);
    }
    let last = board.miners.iter().min_by(|a, b| a.score.total_cmp(&b.score).then(a.uid.cmp(&b.uid)));
    last.map_or((0, None), |miner| (miner.uid, Some(miner.uid)))
}

/// What happens to us round by round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conduct {
    /// Evaluated and accepted every round.
    Earns,
    /// Invalid or not evaluated: the score only decays.
    Fades,
    /// No entry in the reward table in any round: another one with the same weights took our place.
    Displaced,
    /// No entry in the first round (the validator raised), accepted afterwards.
    FailsOnce,
}

/// Our side of a forecast: what would be if.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Course {
    pub(super) reward: Measured,
    pub(super) score: f32,
    pub(super) block: Option<u64>,
    pub(super) conduct: Conduct,
}

impl Course {
    /// Our score after each round in one draw; the same draw holds the same luck whatever the course.
    pub(super) fn run(&self, dice: &mut Dice, scores: &mut [f32]) {
        let mean = self.true_mean(dice);
        let mut score = self.score;
        for (round, slot) in scores.iter_mut().enumerate() {
            let average = round_average(mean as f32, self.reward.round_sd as f32, dice.normal() as f32);
            let average = match self.conduct {
                Conduct::Earns => Some(average),
                Conduct::Fades => Some(0.0),
                Conduct::Displaced => None,
                Conduct::FailsOnce => (round > 0).then_some(average),
            };
            score = crate::contest::update_score(score, average);
            *slot = score;
        }
    }

    /// Student's t around the measured mean (Bailey's polar method), cut to 0…1.
    fn true_mean(&self, dice: &mut Dice) -> f64 {
        let Measured { mean, standard_error, degrees, .. } = self.reward;
        let (radius, turn) = (1.0 - dice.unit(), std::f64::consts::TAU * dice.unit());
        let t = (degrees * (-2.0 * radius.ln() / degrees).exp_m1()).sqrt() * turn.cos();
        (mean + standard_error * t).clamp(0.0, 1.0)
    }

    /// The block that counts in a round (from 0): none without an accepted model.
    pub(super) fn block_in(&self, round: usize) -> Option<u64> {
        let accepted = match self.conduct {
            Conduct::Earns => true,
            Conduct::Fades | Conduct::Displaced => false,
            Conduct::FailsOnce => round > 0,
        };
        self.block.filter(|_| accepted)
    }
}

/// A round's average with noise `z` (standard normal), cut to 0…1. Noise alone never makes exactly zero of something: to the validator zero
/// means "not evaluated".
pub(super) fn round_average(mean: f32, sd: f32, z: f32) -> f32 {
    let least = if mean > 0.0 { f32::MIN_POSITIVE } else { 0.0 };
    (mean + sd * z).clamp(least, 1.0)
}
