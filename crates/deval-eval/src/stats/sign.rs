//! The sign test: which side won more often, whatever by how much.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Differences up to this size are ties: rewards are sums of 32-bit numbers, so equal answers may differ by rounding.
pub const TIE: f64 = 1e-9;

/// Wins and losses with the exact two-sided sign test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Signs {
    /// Examples with a positive difference.
    pub better: usize,
    /// Examples with a negative difference.
    pub worse: usize,
    /// Examples without one; they do not enter the test.
    pub equal: usize,
    /// Probability of a split at least as uneven when either side is as likely to win; 1 when all are ties.
    pub p: f64,
}

impl Signs {
    /// Counts and tests differences.
    pub fn count(differences: &[f64]) -> Self {
        let better = differences.iter().filter(|difference| **difference > TIE).count();
        let worse = differences.iter().filter(|difference| **difference < -TIE).count();
        Self { better, worse, equal: differences.len() - better - worse, p: p_value(better, worse) }
    }
}

/// Exact two-sided binomial test against one half: twice the smaller tail, at most 1. The binomial coefficients are built from the middle
/// outwards by their ratios, relative to the largest, so nothing overflows and no logarithm of a factorial is needed.
fn p_value(better: usize, worse: usize) -> f64 {
    let (n, fewer) = (better + worse, better.min(worse));
    let middle = n / 2;
    let (mut term, mut lower, mut tail) = (1.0, 0.0, 0.0);
    for k in (0..=middle).rev() {
        lower += term;
        if k <= fewer {
            tail += term;
        }
        term *= k as f64 / (n - k + 1) as f64;
    }
    // All coefficients: the lower half twice, the middle one of an even number once.
    let all = if n.is_multiple_of(2) { 2.0 * lower - 1.0 } else { 2.0 * lower };
    (2.0 * tail / all).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of scipy 1.17.1, `scipy.stats.binomtest(k, n).pvalue`.
    #[test]
    fn p_values_are_those_of_scipy() {
        let expected = [
            (20, 61, 0.009853448195259268),
            (0, 5, 0.0625),
            (3, 10, 0.34375),
            (5, 10, 1.0),
            (49700, 100000, 0.058197353110190364),
            (49000, 100000, 2.5887160383468943e-10),
        ];
        for (fewer, n, p) in expected {
            let made = p_value(fewer, n - fewer);
            assert!((made / p - 1.0).abs() < 1e-9, "{fewer} of {n}: {made}");
            assert_eq!(made, p_value(n - fewer, fewer));
        }
    }

    #[test]
    fn ties_are_dropped_and_alone_prove_nothing() {
        let signs = Signs::count(&[0.1, -0.2, 0.0, 1e-12, 0.3, f64::MIN_POSITIVE]);
        assert_eq!((signs.better, signs.worse, signs.equal, signs.p), (2, 1, 3, 1.0));
        assert_eq!([Signs::count(&[]).p, Signs::count(&[0.0; 9]).p], [1.0, 1.0]);
        assert_eq!(Signs::count(&[0.5]).p, 1.0);
    }
}
