//! Memory for activations that is used again: fresh pages for each of a step's products take a quarter of a prefill.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Memory that nobody uses at present.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<f32>>>>);

impl Pool {
    /// `len` numbers, whatever they are.
    pub(super) fn take(&self, len: usize) -> Lent {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough; else one that is too small makes place for a larger.
        let fitness = |numbers: &Vec<f32>| (numbers.capacity() < len, numbers.capacity().abs_diff(len));
        let found = (0..spare.len()).min_by_key(|at| fitness(&spare[*at])).map(|at| spare.swap_remove(at));
        let mut numbers = found.filter(|numbers| numbers.capacity() >= len).unwrap_or_else(|| vec![0.0; len]);
        numbers.resize(len, 0.0);
        Lent { numbers, pool: self.clone() }
    }
}

/// Memory that goes back when it is dropped.
pub(crate) struct Lent {
    numbers: Vec<f32>,
    pool: Pool,
}

impl Deref for Lent {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(mem::take(&mut self.numbers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_does_not_pile_up() {
        let pool = Pool::default();
        let sizes = || pool.0.lock().unwrap().iter().map(Vec::capacity).collect::<Vec<_>>();
        let (mut small, large) = (pool.take(10), pool.take(1000));
        small.fill(7.0);
        drop((small, large));
        assert_eq!(sizes(), [10, 1000]);
        // The one that fits best, as it was left.
        let again = pool.take(8);
        assert_eq!((&again[..], sizes()), (&[7.0; 8][..], vec![1000]));
        drop(again);
        // A larger one takes the place of one that is too small.
        drop(pool.take(2000));
        let mut left = sizes();
        left.sort_unstable();
        assert_eq!(left, [10, 2000]);
    }
}
