//! From scores to weights: tiers within 8 %, earlier commitments first (`rank_and_select_winners` in `deval/contest.py`).

use std::collections::BTreeMap;
use std::ops::Range;

/// Share of each tier before adjustment, best tier first.
pub const TIER_POOLS: [f64; 5] = [0.5, 0.3, 0.125, 0.05, 0.025];
/// A new tier begins when the leader exceeds a score by more than this factor.
pub const TIER_IMPROVEMENT: f64 = 1.08;
/// Block of a miner without an accepted model this round.
const NO_BLOCK: u64 = 10_000_000_000_000_000_000;

/// A round's ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Positive scores, best first; equal scores in the given order.
    pub ranked: Vec<(u32, f64)>,
    /// Uids by tier, best tier first, before promotion.
    pub tiers: Vec<Vec<u32>>,
    /// Share of each tier.
    pub pools: Vec<f64>,
    /// Uids by tier after the earliest committer of each tier moved up, best first.
    pub final_tiers: Vec<Vec<u32>>,
    /// Weight of every ranked uid in output order; empty when nobody has a positive score, and then no weights are set.
    pub weights: Vec<(u32, f64)>,
}

/// Ranks scores, given in uid order; `blocks` holds the commitments of the models accepted this round.
pub fn rank(scores: &[(u32, f64)], blocks: &BTreeMap<u32, u64>) -> Ranking {
    let mut ranker = Ranker::new();
    let entrants = scores.iter().map(|&(uid, score)| Entrant::new(uid, score, blocks.get(&uid).copied()));
    ranker.rank(entrants, usize::MAX);
    let ranked: Vec<_> = ranker.ranked.iter().map(|entrant| (entrant.uid, entrant.score)).collect();
    let uids = |tier: Range<usize>| ranked[tier].iter().map(|(uid, _)| *uid).collect();
    Ranking {
        tiers: spans(&ranker.tiers, ranked.len()).map(uids).collect(),
        pools: ranker.pools().to_vec(),
        final_tiers: ranker.final_tiers().map(|tier| ranker.order[tier].to_vec()).collect(),
        weights: ranker.weights(),
        ranked,
    }
}

/// One miner that wants to be ranked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entrant {
    uid: u32,
    score: f64,
    block: u64,
}

impl Entrant {
    /// A miner with its score and the block of its accepted model, where it has one this round.
    pub fn new(uid: u32, score: f64, block: Option<u64>) -> Self {
        Self { uid, score, block: block.unwrap_or(NO_BLOCK) }
    }
}

/// Where one miner ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placing {
    /// Final tier, 0 is the best.
    pub tier: usize,
    /// Place in it by block, 0 is the earliest.
    pub place: usize,
    /// Its weight.
    pub weight: f64,
}

/// What [`rank`] is made of, for whoever ranks often: it keeps its memory from one ranking to the next.
#[derive(Debug, Clone)]
pub struct Ranker {
    ranked: Vec<Entrant>,
    /// Where each tier begins in `ranked`.
    tiers: Vec<usize>,
    /// Uids in output order.
    order: Vec<u32>,
    /// Where each final tier begins in `order`.
    final_tiers: Vec<usize>,
    /// A tier and what the one before left, by block and place: block, place in `ranked` and uid, in 64, 32 and 32 bits.
    tier: Vec<u128>,
    rest: Vec<u128>,
    pools: Vec<Vec<f64>>,
    /// e^(-k), and the sum of the first k of them.
    parts: Vec<f64>,
    sums: Vec<f64>,
}

impl Default for Ranker {
    fn default() -> Self {
        Self::new()
    }
}

impl Ranker {
    /// A ranker that has ranked nobody yet.
    pub fn new() -> Self {
        Self {
            ranked: Vec::new(),
            tiers: Vec::new(),
            order: Vec::new(),
            final_tiers: Vec::new(),
            tier: Vec::new(),
            rest: Vec::new(),
            pools: (0..=TIER_POOLS.len()).map(pools).collect(),
            parts: Vec::new(),
            sums: vec![0.0],
        }
    }

    /// Ranks miners, given in uid order or already by falling score and then uid, and fills the first `depth` final tiers: those beyond
    /// [`TIER_POOLS`] get nothing anyway.
    pub fn rank(&mut self, entrants: impl Iterator<Item = Entrant>, depth: usize) {
        self.ranked.clear();
        self.ranked.extend(entrants.filter(|entrant| entrant.score > 0.0));
        self.ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.part();
        self.promote(depth);
        for k in self.parts.len()..self.order.len() {
            self.parts.push((-(k as f64)).exp());
            self.sums.push(self.sums[k] + self.parts[k]);
        }
    }

    fn part(&mut self) {
        self.tiers.clear();
        let mut leader = f64::NAN;
        for (place, entrant) in self.ranked.iter().enumerate() {
            if self.tiers.is_empty() || leader > entrant.score * TIER_IMPROVEMENT {
                leader = entrant.score;
                self.tiers.push(place);
            }
        }
    }

    fn promote(&mut self, depth: usize) {
        self.order.clear();
        self.final_tiers.clear();
        self.rest.clear();
        for span in spans(&self.tiers, self.ranked.len()).take(depth) {
            let miners = (0u128..).zip(&self.ranked).skip(span.start).take(span.len());
            self.tier.clear();
            self.tier.extend(
                miners.map(|(place, entrant)| u128::from(entrant.block) << 64 | place << 32 | u128::from(entrant.uid)),
            );
            self.tier.sort_unstable();
            let first = self.tier.remove(0);
            // In a tie of blocks the first of this tier comes before those that fell into it.
            let at = self.rest.partition_point(|key| key >> 64 < first >> 64);
            self.rest.insert(at, first);
            self.final_tiers.push(self.order.len());
            self.order.extend(self.rest.iter().map(|key| *key as u32));
            std::mem::swap(&mut self.rest, &mut self.tier);
        }
        if !self.rest.is_empty() && self.final_tiers.len() < depth {
            self.final_tiers.push(self.order.len());
            self.order.extend(self.rest.iter().map(|key| *key as u32));
        }
    }

    /// Share of each tier of the last ranking.
    pub fn pools(&self) -> &[f64] {
        &self.pools[self.tiers.len().min(TIER_POOLS.len())]
    }

    fn final_tiers(&self) -> impl Iterator<Item = Range<usize>> {
        spans(&self.final_tiers, self.order.len())
    }

    /// Weight of a place in a final tier of `len` miners: its pool by the order in it; a tier beyond the pools gets nothing.
    fn weight(&self, tier: usize, place: usize, len: usize) -> f64 {
        let pool = self.pools().get(tier).copied().unwrap_or(0.0);
        pool * (self.parts[place] / self.sums[len])
    }

    fn weights(&self) -> Vec<(u32, f64)> {
        let tier = |(tier, span): (usize, Range<usize>)| {
            let len = span.len();
            (0..).zip(&self.order[span]).map(move |(place, uid)| (*uid, self.weight(tier, place, len)))
        };
        self.final_tiers().enumerate().flat_map(tier).collect()
    }

    /// Where a miner ended in the last ranking; `None` for one without a positive score or beyond the final tiers that were filled.
    pub fn placing(&self, uid: u32) -> Option<Placing> {
        let at = self.order.iter().position(|other| *other == uid)?;
        let (tier, span) = self.final_tiers().enumerate().find(|(_, span)| span.contains(&at))?;
        let place = at - span.start;
        Some(Placing { tier, place, weight: self.weight(tier, place, span.len()) })
    }
}

/// The pieces of a list of this length that begin at these places.
fn spans(begins: &[usize], len: usize) -> impl Iterator<Item = Range<usize>> {
    let ends = begins.iter().skip(1).copied().chain([len]);
    begins.iter().zip(ends).map(|(begin, end)| *begin..end)
}

/// Shares for this many tiers; all five when there is none. The adjusted shares of fewer than five tiers do not add the missing part evenly: each is scaled by what is
/// there, then by their sum.
pub fn pools(tiers: usize) -> Vec<f64> {
    let present = TIER_POOLS.get(..tiers).unwrap_or(&TIER_POOLS);
    if present.is_empty() || present.len() == TIER_POOLS.len() {
        return TIER_POOLS.to_vec();
    }
    let all: f64 = TIER_POOLS.iter().sum();
    let missing: f64 = TIER_POOLS[present.len()..].iter().sum();
    let scaled: Vec<f64> = present.iter().map(|pool| pool * ((all - missing) / all)).collect();
    let sum: f64 = scaled.iter().sum();
    scaled.into_iter().map(|pool| pool / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_one_tier_the_earliest_commitment_takes_everything() {
        let ranking = rank(&[(1, 0.80), (2, 0.78), (3, 0.79)], &BTreeMap::from([(1, 9), (2, 3), (3, 5)]));
        assert_eq!(ranking.weights, [(2, 1.0), (3, 0.0), (1, 0.0)]);
        assert_eq!(ranking.tiers, [[1, 3, 2]]);
    }

    #[test]
    fn the_leader_does_not_slide_and_the_border_is_strict() {
        let scores = [(0, 1.08), (1, 1.0), (2, 0.99), (3, f64::NAN), (4, 0.0)];
        let ranking = rank(&scores, &BTreeMap::new());
        assert_eq!(ranking.tiers, [vec![0, 1], vec![2]]);
        assert_eq!(ranking.final_tiers, [vec![0], vec![2, 1]]);
    }

    #[test]
    fn nobody_with_a_positive_score_means_no_weights() {
        assert_eq!(rank(&[(0, 0.0), (1, f64::NAN)], &BTreeMap::new()).weights, []);
    }

    #[test]
    fn a_used_ranker_forgets_and_places_as_rank_does() {
        let mut ranker = Ranker::new();
        let rounds = [vec![0.9, 0.5, 0.86, 0.47, 0.88, 0.0], vec![0.3, 0.31, 0.1], vec![0.0]];
        let blocks = BTreeMap::from([(0, 30), (1, 20), (2, 10), (4, 40)]);
        for scores in rounds {
            let scores: Vec<(u32, f64)> = (0..).zip(scores).collect();
            let entrants = scores.iter().map(|&(uid, score)| Entrant::new(uid, score, blocks.get(&uid).copied()));
            ranker.rank(entrants, usize::MAX);
            let ranking = rank(&scores, &blocks);
            let weights: BTreeMap<_, _> = ranking.weights.iter().copied().collect();
            let mut shallow = ranker.clone();
            shallow.rank(scores.iter().map(|&(uid, score)| Entrant::new(uid, score, blocks.get(&uid).copied())), 1);
            for &(uid, _) in &scores {
                let placing = ranker.placing(uid);
                assert_eq!(shallow.placing(uid), placing.filter(|placing| placing.tier == 0));
                assert_eq!(placing.map(|placing| placing.weight), weights.get(&uid).copied());
                let tier = placing.map(|placing| ranking.final_tiers[placing.tier][placing.place]);
                assert_eq!(tier, placing.map(|_| uid));
            }
        }
    }
}
