//! What a submission can expect of the contest: from a leaderboard and the interval of an evaluation to tiers and weights, now and after
//! some rounds.
//!
//! Monte-Carlo: every draw takes our true mean reward from the t distribution of the evaluation, lets every miner earn a noisy average each
//! round, and moves scores and ranks exactly as the validator does ([`crate::contest::update_score`], [`crate::ranking`]). The others do
//! not depend on us, so all "what if" questions are asked against the same draws of them.

mod changes;
mod draws;
mod field;
mod leaderboard;
mod outlook;
mod own;
mod view;

use deval_report::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use changes::{CatchUp, Change, Target};
pub use leaderboard::{Leaderboard, Miner};
pub use outlook::{Effect, Estimate, Outlook, PathPoint, Spread, TierChance};
pub use own::{Commit, Measured, Own, Seat};

use draws::Draws;
use field::{Field, STATIONARY_GAP, Verdicts};
use own::Course;

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForecastOptions {
    /// Rounds until "later", 1 to 1000.
    pub rounds: u32,
    /// Draws, 100 to 1,000,000. Questions of the kind "what if" and the path use at most 1,000 of them.
    pub draws: u32,
    /// Seed of all randomness.
    pub seed: u64,
    /// Standard deviation of the others' round averages where the leaderboard does not tell it; ours when absent.
    pub noise: Option<f64>,
}

impl Default for ForecastOptions {
    fn default() -> Self {
        Self { rounds: 10, draws: 10_000, seed: 0, noise: None }
    }
}

/// Us, as the forecast took it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    /// Our uid.
    pub uid: u32,
    /// The miner that loses its seat to us.
    pub replaces: Option<u32>,
    /// What the evaluation says.
    pub reward: Measured,
    /// Score before the first round.
    pub score: f64,
    /// Block of our commitment; absent when our model is not accepted.
    pub block: Option<u64>,
    /// Block of a commitment made now.
    pub block_now: u64,
    /// Whether the validator evaluates us.
    pub evaluated: bool,
    /// Who committed the same weights before us: then our rewards do not count.
    pub duplicate_of: Option<u32>,
    /// Miners that committed our weights after us: their rewards do not count.
    pub copied_by: Vec<u32>,
}

/// A forecast. The same leaderboard, submission and options give the same forecast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    /// Name of the leaderboard.
    pub leaderboard: String,
    /// Block at which it was taken.
    pub leaderboard_block: Option<u64>,
    /// Miners in the contest, we included.
    pub miners: usize,
    /// How it was drawn.
    pub options: ForecastOptions,
    /// Draws behind the path, the changes and the targets.
    pub side_draws: u32,
    /// Us.
    pub start: Start,
    /// After the coming round.
    pub now: Outlook,
    /// After the last round.
    pub later: Outlook,
    /// Round by round.
    pub path: Vec<PathPoint>,
    /// When the moving average has caught up; absent when we earn nothing.
    pub catch_up: Option<CatchUp>,
    /// The submission as it is, by the side draws: what the changes are compared with.
    pub unchanged: [Effect; 2],
    /// What would change it.
    pub changes: Vec<Change>,
    /// Mean rewards that would reach better tiers; empty when the best one is sure already.
    pub targets: Vec<Target>,
    /// What was assumed, in words.
    pub assumptions: Vec<String>,
}

/// Forecasts tiers and weights of a submission.
///
/// # Errors
/// Everything that is wrong with the leaderboard, the submission or the options, at once.
pub fn forecast(board: &Leaderboard, own: &Own, options: &ForecastOptions) -> Result<Forecast, Vec<Diagnostic>> {
    let findings: Vec<_> = board.check().into_iter().map(|(_, finding)| finding).filter(Diagnostic::is_error).collect();
    let findings = [findings, own.check(board), check(options)].concat();
    if !findings.is_empty() {
        return Err(findings);
    }
    let cast = Cast::new(board, own);
    let field = Field::new(&cast.others, &cast.verdicts, options.noise.unwrap_or(own.reward.round_sd));
    let base = cast.course(own.reward);
    let (mut draws, now, later, path) = Draws::new(field, cast.us.uid, *options).run(&base);
    let (unchanged, changes) = changes::changes(&mut draws, &base, &cast);
    Ok(Forecast {
        leaderboard: board.name.clone(),
        leaderboard_block: board.block,
        miners: cast.others.len() + 1,
        options: *options,
        side_draws: draws.side(),
        start: cast.start(own.reward),
        now,
        later,
        path,
        catch_up: changes::catch_up(&base),
        unchanged,
        changes,
        targets: changes::targets(&mut draws, &base),
        assumptions: cast.assumptions(own, options),
    })
}

fn check(options: &ForecastOptions) -> Vec<Diagnostic> {
    let wrong = |what: &str, found: String, expected: &str| {
        Diagnostic::error("forecast.options", format!("{what} cannot be")).found(found).expected(expected)
    };
    let ForecastOptions { rounds, draws, noise, .. } = *options;
    let noise = noise.filter(|noise| !(0.0..=1.0).contains(noise));
    [
        (!(1..=1000).contains(&rounds)).then(|| wrong("this number of rounds", rounds.to_string(), "1 to 1000")),
        (!(100..=1_000_000).contains(&draws))
            .then(|| wrong("this number of draws", draws.to_string(), "100 to 1000000")),
        noise.map(|noise| wrong("this noise of a round", noise.to_string(), "0 to 1")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Who takes part and how the validator treats them.
struct Cast {
    us: Miner,
    replaces: Option<u32>,
    block_now: u64,
    /// In uid order, without us.
    others: Vec<Miner>,
    verdicts: Verdicts,
}

impl Cast {
    fn new(board: &Leaderboard, own: &Own) -> Self {
        let (us, replaces) = own.seated(board);
        let mut others: Vec<_> = board.miners.iter().filter(|miner| miner.uid != us.uid).cloned().collect();
        others.sort_by_key(|miner| miner.uid);
        let mut all = [others.clone(), vec![us.clone()]].concat();
        all.sort_by_key(|miner| miner.uid);
        Self { us, replaces, block_now: own::block_now(board), others, verdicts: Verdicts::new(&all) }
    }

    fn course(&self, reward: Measured) -> Course {
        let conduct = self.verdicts.conduct(&self.us);
        Course { reward, score: self.us.score, block: self.us.block, conduct }
    }

    /// Who has our weights and the earlier commitment.
    fn duplicate_of(&self) -> Option<u32> {
        self.verdicts.duplicates.get(&self.us.uid).or(self.verdicts.displaced.get(&self.us.uid)).copied()
    }

    fn copied_by(&self) -> Vec<u32> {
        let Verdicts { duplicates, displaced, .. } = &self.verdicts;
        let copies = duplicates.iter().chain(displaced).filter(|(_, of)| **of == self.us.uid);
        copies.map(|(uid, _)| *uid).collect()
    }

    fn unknown_blocks(&self) -> usize {
        self.others.iter().filter(|miner| miner.evaluated && miner.block.is_none()).count()
    }

    fn start(&self, reward: Measured) -> Start {
        Start {
            uid: self.us.uid,
            replaces: self.replaces,
            reward,
            score: f64::from(self.us.score),
            block: self.verdicts.blocks.get(&self.us.uid).copied(),
            block_now: self.block_now,
            evaluated: self.us.evaluated,
            duplicate_of: self.duplicate_of(),
            copied_by: self.copied_by(),
        }
    }

    fn assumptions(&self, own: &Own, options: &ForecastOptions) -> Vec<String> {
        let noise = options.noise.unwrap_or(own.reward.round_sd);
        let mut said = vec![
            format!(
                "Our true mean reward follows Student's t with {:.0} degrees of freedom around {:.4} (standard error {:.4}); this says nothing \
                 about questions that differ from the evaluated ones.",
                own.reward.degrees, own.reward.mean, own.reward.standard_error
            ),
            format!(
                "Every other evaluated miner earns what keeps its score where it is: score + {STATIONARY_GAP} per question, the fixed point of \
                 0.8·reward + 0.2·score − 0.02, unless the leaderboard gives its mean reward. Its own luck in that score is not taken out."
            ),
            format!(
                "A round's average varies by {:.4} (ours) and {noise:.4} (others without a spread of their own), independently; miners that \
                 answer the same questions vary together, so real leads are somewhat safer than these.",
                own.reward.round_sd
            ),
            "Nobody joins, leaves, commits anew or changes between evaluated and not evaluated.".to_owned(),
            "Weights are shares of the sum as the validator ranks them; the chain mixes validators afterwards."
                .to_owned(),
        ];
        said.extend(self.particulars());
        said
    }

    fn particulars(&self) -> Vec<String> {
        let mut said = Vec::new();
        if !self.us.evaluated {
            said.push("We are not evaluated: our score only decays, by 0.02 per round.".to_owned());
        }
        if let Some(of) = self.duplicate_of() {
            said.push(format!(
                "Miner {of} committed the same weights no later than we did: our rewards are removed every round."
            ));
        }
        let copies = self.copied_by();
        if !copies.is_empty() {
            said.push(format!("Our weights were committed later by {copies:?}: their rewards are removed."));
        }
        if let Some(uid) = self.replaces {
            said.push(format!("We take the seat of miner {uid} and begin at score 0."));
        }
        let unknown = self.unknown_blocks();
        if unknown > 0 {
            said.push(format!(
                "{unknown} evaluated miners without a known block are taken to have committed before everybody else."
            ));
        }
        said
    }
}

#[cfg(test)]
mod tests;
