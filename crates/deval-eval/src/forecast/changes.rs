//! What would change a forecast: asked, not guessed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Cast;
use super::draws::Draws;
use super::outlook::{Effect, Estimate, Placed};
use super::own::{Conduct, Course, Measured};
use crate::contest::update_score;
use crate::ranking::TIER_POOLS;

/// Gains of mean reward that are tried.
const GAINS: [f64; 4] = [0.01, 0.02, 0.05, 0.1];
/// Probability at which a tier counts as reached.
const SURE: f64 = 0.8;
/// How finely a mean reward is sought.
const MEAN_STEP: f64 = 0.001;
/// Distance to the limit at which the moving average counts as caught up.
const CAUGHT_UP: f32 = 0.01;
/// After so many rounds a fifth of a fifth of … is nothing in f32.
const LIMIT_ROUNDS: u32 = 200;

/// Something that could be otherwise, and what it would bring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What, in words.
    pub what: String,
    /// After the coming round.
    pub now: Effect,
    /// After the last round.
    pub later: Effect,
    /// Weight after the coming round less that of the submission as it is, draw by draw.
    pub gain_now: Estimate,
    /// The same after the last round.
    pub gain_later: Estimate,
}

/// The measured mean reward, with the same standard error, at which a tier is reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// This tier or a better one, 1 is the best.
    pub tier: usize,
    /// Probability that is asked for, after the last round.
    pub probability: f64,
    /// The mean reward, rounded up to 0.001; absent when no reward is enough at this block.
    pub mean: Option<f64>,
}

/// How long the moving average takes to follow a reward without noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CatchUp {
    /// Score that the measured mean leads to.
    pub score: f64,
    /// Rounds until the score is within 1 % of it.
    pub rounds: u32,
}

/// The course as it is, after the first and the last round, and what would change it.
pub(super) fn changes(draws: &mut Draws, base: &Course, cast: &Cast) -> ([Effect; 2], Vec<Change>) {
    let unchanged = [draws.now(base), draws.later(base)];
    let mut changes: Vec<_> =
        courses(base, cast).into_iter().map(|(what, course)| change(draws, &unchanged, what, &course)).collect();
    changes.extend(unknown_later(draws, &unchanged, base, cast));
    (unchanged.map(|places| Effect::new(&places)), changes)
}

fn change(draws: &mut Draws, unchanged: &[Vec<Placed>; 2], what: String, course: &Course) -> Change {
    let (now, later) = (draws.now(course), draws.later(course));
    let gain =
        |new: &[Placed], old: &[Placed]| Estimate::mean(new.iter().zip(old).map(|(new, old)| new.weight - old.weight));
    Change {
        what,
        gain_now: gain(&now, &unchanged[0]),
        gain_later: gain(&later, &unchanged[1]),
        now: Effect::new(&now),
        later: Effect::new(&later),
    }
}

/// Other courses of ours that are worth a look.
fn courses(base: &Course, cast: &Cast) -> Vec<(String, Course)> {
    if base.conduct != Conduct::Earns {
        let (what, block) = match cast.us.evaluated {
            true => ("weights of our own, committed now", Some(cast.block_now)),
            false => ("being evaluated, with this commitment", cast.us.block),
        };
        return vec![(what.to_owned(), Course { conduct: Conduct::Earns, block, ..*base })];
    }
    let mut courses: Vec<_> =
        gains(base).map(|(gain, course)| (format!("reward +{gain}, weights and block kept"), course)).collect();
    if base.block.is_some_and(|block| block < cast.block_now) {
        let now = Course { block: Some(cast.block_now), ..*base };
        courses.push(("new weights committed now, same reward".to_owned(), now));
        courses.extend(
            gains(&now).map(|(gain, course)| (format!("reward +{gain} by new weights, committed now"), course)),
        );
    }
    if base.block > cast.verdicts.blocks.values().min().copied() {
        courses.push(("the earliest commitment of all".to_owned(), Course { block: Some(0), ..*base }));
    }
    if base.reward.standard_error > 0.0 {
        let Measured { standard_error, degrees, .. } = base.reward;
        let reward = Measured { standard_error: standard_error / 2.0, degrees: 4.0 * degrees, ..base.reward };
        courses.push(("4 times the examples in the evaluation, same mean".to_owned(), Course { reward, ..*base }));
    }
    courses.push(("not evaluated any more (−0.02 per round)".to_owned(), Course { conduct: Conduct::Fades, ..*base }));
    let failed = Course { conduct: Conduct::FailsOnce, ..*base };
    courses.push(("one exception in the coming round (score · 0.2 − 0.02)".to_owned(), failed));
    courses
}

fn gains(base: &Course) -> impl Iterator<Item = (f64, Course)> {
    let base = *base;
    let possible = GAINS.into_iter().filter(move |gain| base.reward.mean + gain <= 1.0);
    possible.map(move |gain| (gain, with_mean(&base, base.reward.mean + gain)))
}

fn with_mean(base: &Course, mean: f64) -> Course {
    Course { reward: Measured { mean, ..base.reward }, ..*base }
}

/// What hangs on the blocks that the leaderboard does not tell.
fn unknown_later(draws: &mut Draws, unchanged: &[Vec<Placed>; 2], base: &Course, cast: &Cast) -> Option<Change> {
    let unknown = cast.unknown_blocks();
    let ours = base.block.filter(|_| unknown > 0 && base.conduct == Conduct::Earns)?;
    let known = draws.blocks.clone();
    let others = draws.blocks.iter_mut().zip(&cast.others);
    for (block, _) in others.filter(|(_, miner)| miner.block.is_none()) {
        *block = block.map(|_| ours.saturating_add(1));
    }
    let what = format!("the {unknown} miners without a known block committed after us");
    let change = change(draws, unchanged, what, base);
    draws.blocks = known;
    Some(change)
}

/// Rounds of constant reward until the score has arrived; `None` when we earn nothing.
pub(super) fn catch_up(base: &Course) -> Option<CatchUp> {
    let average = Some(base.reward.mean as f32).filter(|_| base.conduct == Conduct::Earns)?;
    let scores: Vec<f32> = std::iter::successors(Some(base.score), |old| Some(update_score(*old, Some(average))))
        .take(LIMIT_ROUNDS as usize)
        .collect();
    let limit = *scores.last()?;
    let away = scores.iter().rposition(|score| (score - limit).abs() > CAUGHT_UP * limit);
    let rounds = away.map_or(0, |place| place + 1);
    Some(CatchUp { score: f64::from(limit), rounds: u32::try_from(rounds).unwrap_or(LIMIT_ROUNDS) })
}

/// The next tier that is not sure yet, and the best one.
pub(super) fn targets(draws: &mut Draws, base: &Course) -> Vec<Target> {
    if base.conduct != Conduct::Earns {
        return Vec::new();
    }
    let places = draws.later(base);
    let next = (0..TIER_POOLS.len()).rev().find(|tier| reached(&places, *tier) < SURE);
    let mut tiers: Vec<usize> = next.into_iter().chain(next.map(|_| 0)).collect();
    tiers.dedup();
    tiers.into_iter().map(|tier| target(draws, base, tier)).collect()
}

/// Share of the draws in which we are in this tier (from 0) or a better one.
fn reached(places: &[Placed], tier: usize) -> f64 {
    let count = places.iter().filter(|placed| placed.tier.is_some_and(|at| at <= tier)).count();
    count as f64 / places.len() as f64
}

/// Halves the range of means that may do; the same draws for every mean, so that the probability rises with it.
fn target(draws: &mut Draws, base: &Course, tier: usize) -> Target {
    let mut enough = |mean: f64| reached(&draws.later(&with_mean(base, mean)), tier) >= SURE;
    let (mut low, mut high) = (base.reward.mean, 1.0);
    let possible = enough(high);
    while possible && high - low > MEAN_STEP {
        let middle = f64::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    let mean = possible.then(|| (high / MEAN_STEP).ceil() * MEAN_STEP).map(|mean| (mean * 1e3).round() / 1e3);
    Target { tier: tier + 1, probability: SURE, mean }
}
