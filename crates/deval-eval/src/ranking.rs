//! From scores to weights: tiers within 8 %, earlier commitments first (`rank_and_select_winners` in `deval/contest.py`).

use std::collections::BTreeMap;

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
    let mut ranked: Vec<_> = scores.iter().copied().filter(|(_, score)| *score > 0.0).collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let tiers = tiers(&ranked);
    let pools = pools(tiers.len());
    let final_tiers = promote(&tiers, blocks);
    let weights = weights(&final_tiers, &pools);
    Ranking { ranked, tiers, pools, final_tiers, weights }
}

fn tiers(ranked: &[(u32, f64)]) -> Vec<Vec<u32>> {
    let mut tiers: Vec<Vec<u32>> = Vec::new();
    let mut leader = f64::NAN;
    for &(uid, score) in ranked {
        match tiers.last_mut() {
            Some(tier) if leader <= score * TIER_IMPROVEMENT => tier.push(uid),
            _ => {
                leader = score;
                tiers.push(vec![uid]);
            }
        }
    }
    tiers
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

fn promote(tiers: &[Vec<u32>], blocks: &BTreeMap<u32, u64>) -> Vec<Vec<u32>> {
    let block = |uid: &u32| blocks.get(uid).copied().unwrap_or(NO_BLOCK);
    let mut promoted = Vec::new();
    let mut rest: Vec<u32> = Vec::new();
    for tier in tiers {
        let mut tier = tier.clone();
        tier.sort_by_key(block);
        let behind = tier.split_off(1);
        tier.append(&mut rest);
        tier.sort_by_key(block);
        promoted.push(tier);
        rest = behind;
    }
    promoted.extend(Some(rest).filter(|rest| !rest.is_empty()));
    promoted
}

/// Shares the pool of each tier by the order in it; a tier beyond the pools gets nothing.
fn weights(tiers: &[Vec<u32>], pools: &[f64]) -> Vec<(u32, f64)> {
    let share = |(place, tier): (usize, &Vec<u32>)| {
        let pool = pools.get(place).copied().unwrap_or(0.0);
        let parts: Vec<f64> = (0..tier.len()).map(|k| (-(k as f64)).exp()).collect();
        let sum: f64 = parts.iter().sum();
        tier.iter().zip(parts).map(|(uid, part)| (*uid, pool * (part / sum))).collect::<Vec<_>>()
    };
    tiers.iter().enumerate().flat_map(share).collect()
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
}
