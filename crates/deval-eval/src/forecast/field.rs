//! Everybody else: who is evaluated and accepted, what they are taken to earn, and their scores round by round.

use std::collections::BTreeMap;

use super::leaderboard::Miner;
use super::own::{Conduct, round_average};
use crate::contest::{Attempt, Invalid, Round, Verdict, update_score};
use crate::dice::Dice;

/// What a constant reward loses on the way to its score: s = 0.8·a + 0.2·s − 0.02 has the fixed point s = a − 0.025.
pub(super) const STATIONARY_GAP: f64 = 0.025;

/// How the validator treats every miner, by the order of commitments.
pub(super) struct Verdicts {
    /// Block of each accepted model.
    pub(super) blocks: BTreeMap<u32, u64>,
    /// Who has the same weights as an earlier committer, and whom.
    pub(super) duplicates: BTreeMap<u32, u32>,
    /// Who loses its entry to an earlier committer that is validated after it, and whom.
    pub(super) displaced: BTreeMap<u32, u32>,
}

impl Verdicts {
    /// Validates the miners in uid order, as a round does; an unknown block is the earliest, unknown weights are nobody else's.
    pub(super) fn new(miners: &[Miner]) -> Self {
        let mut round = Round::new(0.0, 0.0);
        let (mut duplicates, mut displaced) = (BTreeMap::new(), BTreeMap::new());
        for miner in miners.iter().filter(|miner| miner.evaluated) {
            match round.validate(&attempt(miner)) {
                Ok(Verdict::Invalid(Invalid::Duplicate { of })) => drop(duplicates.insert(miner.uid, of)),
                Ok(Verdict::Valid { displaces: Some(uid) }) => drop(displaced.insert(uid, miner.uid)),
                Ok(_) | Err(_) => {}
            }
        }
        Self { blocks: round.blocks(), duplicates, displaced }
    }

    pub(super) fn conduct(&self, miner: &Miner) -> Conduct {
        match miner.uid {
            uid if self.blocks.contains_key(&uid) => Conduct::Earns,
            uid if self.displaced.contains_key(&uid) => Conduct::Displaced,
            _ => Conduct::Fades,
        }
    }
}

/// A validation at which only the hash and the block can matter.
fn attempt(miner: &Miner) -> Attempt {
    let hash = miner.model_hash.clone().unwrap_or_else(|| format!("unknown weights of {}", miner.uid));
    Attempt {
        uid: miner.uid,
        last_commit: Some(0.0),
        chain_model_hash: Some(hash.clone()),
        block: Some(miner.block.unwrap_or(1)),
        coldkey: "own".to_owned(),
        model_hash: Some(hash),
        model_coldkey: Some("own".to_owned()),
        container_size: Some(0.0),
    }
}

/// Another miner with what it is taken to do.
#[derive(Debug, Clone, Copy)]
struct Other {
    uid: u32,
    score: f32,
    block: Option<u64>,
    mean: f32,
    sd: f32,
    conduct: Conduct,
}

impl Other {
    fn new(miner: &Miner, verdicts: &Verdicts, noise: f64) -> Self {
        let score = f64::from(miner.score);
        let stationary = if score > 0.0 { score + STATIONARY_GAP } else { 0.0 };
        let mean = miner.mean_reward.unwrap_or(stationary);
        // Nobody knows what a miner at zero earns; noise must not make a miner of it.
        let sd = if mean > 0.0 { miner.spread.unwrap_or(noise) } else { 0.0 };
        let (block, conduct) = (verdicts.blocks.get(&miner.uid).copied(), verdicts.conduct(miner));
        Self { uid: miner.uid, score: miner.score, block, mean: mean as f32, sd: sd as f32, conduct }
    }

    fn next(&self, old: f32, z: f32) -> f32 {
        let average = match self.conduct {
            Conduct::Fades => Some(0.0),
            Conduct::Displaced => None,
            Conduct::Earns | Conduct::FailsOnce => Some(round_average(self.mean, self.sd, z)),
        };
        update_score(old, average)
    }
}

/// A miner with its score, in the order of a ranking: falling scores, then uids.
pub(super) type Standing = (u32, f32);

/// The other miners during one draw.
pub(super) struct Field {
    others: Vec<Other>,
    scores: Vec<f32>,
    normals: Normals,
    dice: Dice,
    keys: Vec<u64>,
}

impl Field {
    /// The other miners in uid order; `noise` is the standard deviation of a round average where the miner does not tell its own.
    pub(super) fn new(others: &[Miner], verdicts: &Verdicts, noise: f64) -> Self {
        let others: Vec<_> = others.iter().map(|miner| Other::new(miner, verdicts, noise)).collect();
        Self { others, scores: Vec::new(), normals: Normals::new(), dice: Dice::new(0, 0), keys: Vec::new() }
    }

    /// Block of each other miner with an accepted model.
    pub(super) fn blocks(&self) -> Vec<Option<u64>> {
        self.others.iter().map(|other| other.block).collect()
    }

    /// Uid of another miner.
    pub(super) fn uid(&self, index: u32) -> u32 {
        self.others[index as usize].uid
    }

    /// Puts everybody back to the present score.
    pub(super) fn restart(&mut self, dice: Dice) {
        self.dice = dice;
        self.scores.clear();
        self.scores.extend(self.others.iter().map(|other| other.score));
    }

    /// One round.
    pub(super) fn step(&mut self) {
        for (pair, scores) in self.others.chunks(2).zip(self.scores.chunks_mut(2)) {
            let noise = self.normals.pair(&mut self.dice);
            for ((other, score), z) in pair.iter().zip(scores).zip(noise) {
                *score = other.next(*score, z);
            }
        }
    }

    /// Positive scores with the index of the miner, best first.
    pub(super) fn standings(&mut self, into: &mut Vec<Standing>) {
        // The bits of positive floats rise with them.
        let key = |(index, score): (u64, &f32)| (u64::from(!score.to_bits()) << 32) | index;
        self.keys.clear();
        self.keys.extend((0u64..).zip(&self.scores).filter(|(_, score)| **score > 0.0).map(key));
        self.keys.sort_unstable();
        into.clear();
        into.extend(self.keys.iter().map(|key| (*key as u32, f32::from_bits(!((key >> 32) as u32)))));
    }
}

/// Bits of an index into the table of normal numbers.
const NORMAL_BITS: u32 = 15;

/// Standard normal numbers, fast: drawn from 32,768 equally likely ones, each the middle (by probability) of its part of the distribution.
struct Normals(Vec<f32>);

impl Normals {
    fn new() -> Self {
        let half = 1usize << (NORMAL_BITS - 1);
        let middle = |i: usize| (i as f64 + 0.5) / (2 * half) as f64;
        let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        let (step, mut x, mut mass) = (1e-3, 0.0, 0.0);
        let mut upper = Vec::with_capacity(half);
        while upper.len() < half {
            // Simpson's rule; the density hardly bends within a step, so the inverse is linear there.
            let part = step / 6.0 * (density(x) + 4.0 * density(x + step / 2.0) + density(x + step));
            while upper.len() < half && middle(upper.len()) <= mass + part {
                upper.push((x + step * (middle(upper.len()) - mass) / part) as f32);
            }
            (x, mass) = (x + step, mass + part);
        }
        Self(upper.iter().rev().map(|x| -x).chain(upper.iter().copied()).collect())
    }

    fn pair(&self, dice: &mut Dice) -> [f32; 2] {
        let bits = dice.below(1 << (2 * NORMAL_BITS));
        [bits >> NORMAL_BITS, bits & ((1 << NORMAL_BITS) - 1)].map(|index| self.0[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_the_normal_distribution() {
        let normals = Normals::new().0;
        assert_eq!(normals.len(), 32_768);
        assert!(normals.is_sorted());
        let moment = |power| normals.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / 32_768.0;
        assert!(moment(1).abs() < 1e-6 && (moment(2) - 1.0).abs() < 1e-3 && (moment(4) - 3.0).abs() < 2e-2);
        let at = |q: f64| f64::from(normals[(q * 32_768.0) as usize]);
        assert!((at(0.975) - 1.959_964).abs() < 1e-3 && (at(0.84134) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn standings_sort_by_falling_score_then_uid() {
        let miner = |uid, score| Miner { uid, score, evaluated: true, ..Miner::default() };
        let miners = [miner(3, 0.5), miner(5, 0.7), miner(6, 0.5), miner(9, 0.0)];
        let mut field = Field::new(&miners, &Verdicts::new(&miners), 0.1);
        field.restart(Dice::new(1, 1));
        let mut standings = Vec::new();
        field.standings(&mut standings);
        assert_eq!(standings, [(1, 0.7), (0, 0.5), (2, 0.5)]);
        field.step();
        assert_eq!(field.scores[3], 0.0);
    }
}
