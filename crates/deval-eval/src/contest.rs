//! Who is evaluated, which models count, and how a round's rewards become scores (`deval/contest.py`, `deval/validator.py`,
//! `deval/base/validator.py`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::abort::ValidatorAborts;
use crate::submission::{repo_size_gb, size_accepted};

/// Blocks since registration within which a miner is always evaluated; 58.3 days of 12 s.
pub const REGISTRATION_WINDOW: i64 = 420_000;
/// Smallest repository that is evaluated, in decimal GB.
pub const MIN_REPO_GB: f64 = 12.0;
/// Largest repository that is evaluated, in decimal GB.
pub const MAX_REPO_GB: f64 = 18.0;
/// Largest writable layer of the container, in GiB.
pub const MAX_CONTAINER_GIB: f64 = 20.0;
/// Most that the writable layer may grow while questions are answered, in GiB.
pub const MAX_CONTAINER_GROWTH_GIB: f64 = 2.0;
/// Questions between two looks at the container.
const CONTAINER_CHECK_EVERY: usize = 10;
/// Weight of the new average in the moving average.
const ALPHA: f32 = 0.8;
/// Weight of the old score in it.
const KEPT: f32 = 0.2;
/// What every score loses per round.
const DECAY: f32 = 0.02;

/// What decides whether a miner is evaluated (`should_run_evaluation`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Candidate {
    /// The miner.
    pub uid: u32,
    /// The twenty miners with the highest incentive.
    pub top_incentive_uids: Vec<u32>,
    /// Whether the repository can be reached.
    pub valid_repo: bool,
    /// Block of the evaluation.
    pub current_block: i64,
    /// Block of the miner's registration; commits play no role.
    pub registration_block: i64,
    /// Whether the repository's last commit date is known.
    pub has_last_commit: bool,
    /// Whether the date of its last safetensors file is known.
    pub has_safetensors_date: bool,
    /// Size of the repository in bytes.
    pub repo_bytes: u64,
    /// Largest size in decimal GB.
    pub max_gb: f64,
}

impl Candidate {
    /// Whether the validator runs the miner at all.
    pub fn is_evaluated(&self) -> bool {
        let in_turn = self.top_incentive_uids.contains(&self.uid)
            || self.registration_block >= self.current_block.saturating_sub(REGISTRATION_WINDOW);
        let readable = self.valid_repo && self.has_last_commit && self.has_safetensors_date;
        in_turn && readable && size_accepted(repo_size_gb([self.repo_bytes]), MIN_REPO_GB, self.max_gb)
    }
}

/// What the validator knows of one model when it validates it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    /// The miner.
    pub uid: u32,
    /// Last Hub commit, unix seconds.
    pub last_commit: Option<f64>,
    /// Hash in the chain commitment.
    pub chain_model_hash: Option<String>,
    /// Block of the chain commitment.
    pub block: Option<u64>,
    /// The miner's coldkey on chain.
    pub coldkey: String,
    /// Hash that the container computed.
    pub model_hash: Option<String>,
    /// Content of the container's `coldkey.txt`.
    pub model_coldkey: Option<String>,
    /// Writable layer of the container, GiB.
    pub container_size: Option<f64>,
}

/// Why a model does not count, in the order in which the validator looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalid {
    /// The repository changed after the round began.
    CommittedAfterStart,
    /// No hash or no block on chain.
    NoCommitment,
    /// The container told no hash or no coldkey.
    NoModelHashOrColdkey,
    /// `coldkey.txt` is not the miner's coldkey.
    ColdkeyDiffers,
    /// The committed hash is not the computed one.
    HashDiffers,
    /// The container's writable layer is too big.
    ContainerTooBig,
    /// Another miner committed the same weights earlier.
    Duplicate {
        /// That miner.
        of: u32,
    },
}

/// What `validate_model` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The model counts; a later committer of the same weights loses the rewards it got before.
    Valid {
        /// The miner that loses.
        displaces: Option<u32>,
    },
    /// It does not.
    Invalid(Invalid),
}

/// One evaluation round: the models accepted so far.
#[derive(Debug, Clone)]
pub struct Round {
    start_time: f64,
    max_container_gib: f64,
    owners: BTreeMap<String, (u32, u64)>,
}

impl Round {
    /// A round that began at `start_time` (unix seconds).
    pub fn new(start_time: f64, max_container_gib: f64) -> Self {
        Self { start_time, max_container_gib, owners: BTreeMap::new() }
    }

    /// Model hash → (uid, block) of the accepted models.
    pub fn owners(&self) -> &BTreeMap<String, (u32, u64)> {
        &self.owners
    }

    /// Block of an accepted model by uid.
    pub fn blocks(&self) -> BTreeMap<u32, u64> {
        self.owners.values().copied().collect()
    }

    /// `validate_model`; of two equal commitments in one block the one validated later wins.
    ///
    /// # Errors
    /// `TypeError` when the commit date or the container size is unknown and gets compared.
    pub fn validate(&mut self, attempt: &Attempt) -> Result<Verdict, ValidatorAborts> {
        let (hash, block) = match self.check(attempt)? {
            Ok(accepted) => accepted,
            Err(invalid) => return Ok(Verdict::Invalid(invalid)),
        };
        let owner = self.owners.get(hash).copied();
        if let Some((of, _)) = owner.filter(|(_, first)| block > *first) {
            return Ok(Verdict::Invalid(Invalid::Duplicate { of }));
        }
        self.owners.insert(hash.to_owned(), (attempt.uid, block));
        Ok(Verdict::Valid { displaces: owner.map(|(uid, _)| uid) })
    }

    /// Everything that needs only the one model; its hash and block when all is well.
    fn check<'a>(&self, attempt: &'a Attempt) -> Result<Result<(&'a str, u64), Invalid>, ValidatorAborts> {
        let unknown = |what: &str| ValidatorAborts::type_error(format!("validate_model: the {what} is unknown"));
        let text = |field: &'a Option<String>| field.as_deref().filter(|text| !text.is_empty());
        if self.start_time < attempt.last_commit.ok_or_else(|| unknown("last commit date"))? {
            return Ok(Err(Invalid::CommittedAfterStart));
        }
        let (Some(chain_hash), Some(block)) =
            (text(&attempt.chain_model_hash), attempt.block.filter(|block| *block > 0))
        else {
            return Ok(Err(Invalid::NoCommitment));
        };
        let (Some(hash), Some(coldkey)) = (text(&attempt.model_hash), text(&attempt.model_coldkey)) else {
            return Ok(Err(Invalid::NoModelHashOrColdkey));
        };
        if coldkey != attempt.coldkey {
            return Ok(Err(Invalid::ColdkeyDiffers));
        }
        if chain_hash != hash {
            return Ok(Err(Invalid::HashDiffers));
        }
        if attempt.container_size.ok_or_else(|| unknown("container size"))? > self.max_container_gib {
            return Ok(Err(Invalid::ContainerTooBig));
        }
        Ok(Ok((hash, block)))
    }
}

/// Questions sent and answers that count in one task (`run_step`): the container is looked at after questions 0, 10, 20, …; once it is
/// too big or has changed too much, the answer just received is thrown away and the step ends. `sizes_gib` holds the size before the
/// first question, then one per look.
pub fn run_step(num_tasks: usize, sizes_gib: &[f64]) -> (usize, usize) {
    let Some((before, looks)) = sizes_gib.split_first() else { return (num_tasks, num_tasks) };
    let too_big = |size: &f64| *size > MAX_CONTAINER_GIB || (size - before).abs() > MAX_CONTAINER_GROWTH_GIB;
    let stop = looks.iter().position(too_big).map(|look| look.saturating_mul(CONTAINER_CHECK_EVERY));
    stop.filter(|question| *question < num_tasks).map_or((num_tasks, num_tasks), |question| (question + 1, question))
}

/// Mean reward over all generated tasks, summed in f32 in order.
pub fn average(rewards: impl IntoIterator<Item = f32>, denom: u32) -> f32 {
    rewards.into_iter().fold(0.0f32, |sum, reward| sum + reward) / denom as f32
}

/// `update_scores`: the moving average of all miners. `averages[uid]` is `None` for a miner that left no entry in the reward table.
pub fn update_scores(previous: &[f32], averages: &BTreeMap<u32, f32>) -> Vec<f32> {
    (0..).zip(previous).map(|(uid, &old)| update_score(old, averages.get(&uid).copied())).collect()
}

/// One miner's new score. Without an average (no entry in the reward table) the score falls to a fifth and decays; an average of zero
/// (nothing earned, invalid or not evaluated) keeps the old score in its place, so that it only decays.
pub fn update_score(old: f32, average: Option<f32>) -> f32 {
    let average = match average {
        Some(0.0) => old,
        Some(average) => average,
        None => 0.0,
    };
    let faded = ALPHA * average + KEPT * old - DECAY;
    if faded < 0.0 { 0.0 } else { faded }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(uid: u32, block: u64) -> Attempt {
        let (hash, coldkey) = (Some("f00d".to_owned()), "5Cold".to_owned());
        Attempt {
            uid,
            last_commit: Some(10.0),
            chain_model_hash: hash.clone(),
            block: Some(block),
            model_coldkey: Some(coldkey.clone()),
            coldkey,
            model_hash: hash,
            container_size: Some(1.0),
        }
    }

    #[test]
    fn the_earlier_block_owns_the_weights_and_a_tie_goes_to_the_later_evaluated() {
        let mut round = Round::new(10.0, 20.0);
        assert_eq!(round.validate(&attempt(1, 50)), Ok(Verdict::Valid { displaces: None }));
        assert_eq!(round.validate(&attempt(2, 51)), Ok(Verdict::Invalid(Invalid::Duplicate { of: 1 })));
        assert_eq!(round.validate(&attempt(3, 50)), Ok(Verdict::Valid { displaces: Some(1) }));
        assert_eq!(round.blocks(), BTreeMap::from([(3, 50)]));
    }

    #[test]
    fn every_reason_is_found_in_order() {
        let spoil = |spoil: fn(&mut Attempt)| {
            let mut attempt = attempt(1, 5);
            spoil(&mut attempt);
            Round::new(10.0, 20.0).validate(&attempt)
        };
        let invalid = |reason| Ok(Verdict::Invalid(reason));
        assert_eq!(spoil(|a| a.last_commit = Some(10.5)), invalid(Invalid::CommittedAfterStart));
        assert_eq!(spoil(|a| a.block = Some(0)), invalid(Invalid::NoCommitment));
        assert_eq!(spoil(|a| a.model_coldkey = Some(String::new())), invalid(Invalid::NoModelHashOrColdkey));
        assert_eq!(spoil(|a| a.coldkey.push('\n')), invalid(Invalid::ColdkeyDiffers));
        assert_eq!(spoil(|a| a.chain_model_hash = Some("F00D".to_owned())), invalid(Invalid::HashDiffers));
        assert_eq!(spoil(|a| a.container_size = Some(20.1)), invalid(Invalid::ContainerTooBig));
        assert!(spoil(|a| a.last_commit = None).is_err() && spoil(|a| a.container_size = None).is_err());
    }

    #[test]
    fn scores_fade_keep_or_move() {
        let averages = BTreeMap::from([(0, 0.5), (1, 0.0)]);
        let scores = update_scores(&[0.5, 0.5, 0.5, f32::NAN], &averages);
        assert_eq!(scores[..3], [0.48, 0.48, 0.08]);
        assert!(scores[3].is_nan());
    }

    #[test]
    fn a_growing_container_ends_the_step() {
        assert_eq!(run_step(25, &[1.0, 1.0, 3.1, 1.0]), (11, 10));
        assert_eq!(run_step(25, &[19.0, 20.5]), (1, 0));
        assert_eq!(run_step(0, &[1.0]), (0, 0));
    }
}
