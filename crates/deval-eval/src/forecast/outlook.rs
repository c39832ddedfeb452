//! What the draws add up to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ranking::{Ranker, TIER_POOLS};
use crate::stats::quantile;

/// A Monte-Carlo mean and its standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Mean over the draws.
    pub value: f64,
    /// Its standard error, by the number of draws only.
    pub error: f64,
}

impl Estimate {
    /// Share of the draws.
    pub(super) fn share(count: usize, draws: usize) -> Self {
        let (value, draws) = (count as f64 / draws as f64, draws as f64);
        Self { value, error: (value * (1.0 - value) / draws).sqrt() }
    }

    pub(super) fn mean(values: impl ExactSizeIterator<Item = f64> + Clone) -> Self {
        let n = values.len() as f64;
        let value = values.clone().sum::<f64>() / n;
        let squares: f64 = values.map(|x| (x - value).powi(2)).sum();
        Self { value, error: (squares / (n - 1.0) / n).sqrt() }
    }
}

/// Mean and quantiles over the draws.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// Mean.
    pub mean: Estimate,
    /// 5 % of the draws are below.
    pub q05: f64,
    /// Median.
    pub q50: f64,
    /// 95 % of the draws are below.
    pub q95: f64,
}

impl Spread {
    fn new(mut values: Vec<f64>) -> Self {
        let mean = Estimate::mean(values.iter().copied());
        values.sort_unstable_by(f64::total_cmp);
        let [q05, q50, q95] = [0.05, 0.5, 0.95].map(|q| quantile(&values, q));
        Self { mean, q05, q50, q95 }
    }
}

/// Our chance of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TierChance {
    /// Final tier, 1 is the best.
    pub tier: usize,
    /// Its pool in the mean of the draws in which there is such a tier; absent when there never is.
    pub pool: Option<f64>,
    /// Share of the draws in which we are in it.
    pub probability: Estimate,
}

/// Where we stand after a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outlook {
    /// After how many rounds.
    pub round: u32,
    /// The tiers that have a pool, best first.
    pub tiers: Vec<TierChance>,
    /// Share of the draws without any weight: no positive score, or a tier beyond the pools.
    pub no_weight: Estimate,
    /// Share of the draws in which we are the earliest committer of a tier with a pool, and so get most of it.
    pub first_of_tier: Estimate,
    /// Our weight as share of all weights, 0 to 1.
    pub weight: Spread,
    /// Our place by score, 1 is the best.
    pub rank: Spread,
    /// Our score.
    pub score: Spread,
}

/// Our mean score and weight after a round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathPoint {
    /// After how many rounds.
    pub round: u32,
    /// Mean score.
    pub score: Estimate,
    /// Mean weight.
    pub weight: Estimate,
}

/// What a course of ours brings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Effect {
    /// Mean weight.
    pub weight: Estimate,
    /// Probability of the best tier.
    pub best_tier: Estimate,
    /// Probability of any weight.
    pub any_weight: Estimate,
}

impl Effect {
    pub(super) fn new(places: &[Placed]) -> Self {
        let share =
            |is: fn(&Placed) -> bool| Estimate::share(places.iter().filter(|placed| is(placed)).count(), places.len());
        Self {
            weight: Estimate::mean(places.iter().map(|placed| placed.weight)),
            best_tier: share(|placed| placed.tier == Some(0)),
            any_weight: share(|placed| placed.tier.is_some()),
        }
    }
}

/// Where we are in one draw after one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Placed {
    pub(super) score: f64,
    pub(super) rank: usize,
    /// Final tier, where it has a pool.
    pub(super) tier: Option<usize>,
    pub(super) first: bool,
    pub(super) weight: f64,
}

/// Places after one round, draw by draw, and the pools there were.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) places: Vec<Placed>,
    pools: [(f64, u32); TIER_POOLS.len()],
}

impl Tally {
    pub(super) fn add(&mut self, placed: Placed, ranker: &Ranker) {
        self.places.push(placed);
        for ((sum, count), pool) in self.pools.iter_mut().zip(ranker.pools()) {
            *sum += pool;
            *count += 1;
        }
    }

    pub(super) fn outlook(&self, round: u32) -> Outlook {
        let draws = self.places.len();
        let share = |is: &dyn Fn(&Placed) -> bool| {
            Estimate::share(self.places.iter().filter(|placed| is(placed)).count(), draws)
        };
        let spread = |of: fn(&Placed) -> f64| Spread::new(self.places.iter().map(of).collect());
        let chance = |(place, &(sum, count)): (usize, &(f64, u32))| TierChance {
            tier: place + 1,
            pool: (count > 0).then(|| sum / f64::from(count)),
            probability: share(&|placed| placed.tier == Some(place)),
        };
        Outlook {
            round,
            tiers: self.pools.iter().enumerate().map(chance).collect(),
            no_weight: share(&|placed| placed.tier.is_none()),
            first_of_tier: share(&|placed| placed.tier.is_some() && placed.first),
            weight: spread(|placed| placed.weight),
            rank: spread(|placed| placed.rank as f64),
            score: spread(|placed| placed.score),
        }
    }

    pub(super) fn point(&self, round: u32) -> PathPoint {
        PathPoint {
            round,
            score: Estimate::mean(self.places.iter().map(|placed| placed.score)),
            weight: Estimate::mean(self.places.iter().map(|placed| placed.weight)),
        }
    }
}
