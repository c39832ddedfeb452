//! Random draws that stay the same on every platform and for every version of the rand crates.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::stats::below;

/// One stream of draws.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// A stream of its own for each seed, task and place.
    pub(super) fn new(seed: u64, task: u64, index: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index * 4 + task);
        Self(rng)
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        low + below(&mut self.0, high - low + 1)
    }

    /// A number in 0…1, 1 excluded.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Heads or tails.
    pub(super) fn flip(&mut self) -> bool {
        self.between(0, 1) == 1
    }

    /// One of a list that is not empty.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.between(0, from.len() - 1)]
    }

    /// `n` different numbers below `bound`, in random order.
    pub(super) fn sample(&mut self, bound: usize, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..bound).collect();
        for place in 0..n.min(bound) {
            let other = self.between(place, bound - 1);
            all.swap(place, other);
        }
        all.truncate(n);
        all
    }
}
