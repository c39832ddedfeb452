//! What the difference of two matrices looks like: the eigenvalues of D Dᵀ over sampled rows D of it.
//!
//! Any rows of a matrix of rank k have at most rank k, so a merged adapter shows in a sample; independent noise has the spectrum of
//! Marchenko and Pastur, with nothing above its edge. Rounding to 16 bits adds noise of its own to every difference. It is at most
//! half a unit in the last place, which bounds its energy, so that much of a flat floor is taken for rounding and no more.

use std::ops::Range;

use deval_eval::Dice;
use safetensors::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Options;
use super::eigen::eigenvalues;
use super::measure::{Scratch, Side};
use crate::ModelError;

/// Most rows that are sampled, and how many of them lie together, so that a read has some length.
const ROWS: usize = 256;
const RUN: usize = 8;

/// Most columns that are looked at: a window, the same for all rows.
const COLUMNS: usize = 8192;

/// Share of the energy that the rank counts.
const ENERGY: f64 = 0.99;

/// How far over the edge of the pure noise an eigenvalue is still noise: a finite sample strays, and so do noise levels of
/// elements and rows.
const SLACK: f64 = 1.25;

/// The spectrum of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spectrum {
    /// Directions that hold 99 % of the energy which rounding does not explain, among the sampled rows.
    pub rank: usize,
    /// Rows that were sampled, which is the highest rank that can be seen.
    pub rows: usize,
    /// Share of the energy that rounding to the element type explains.
    pub rounding_share: f64,
    /// Largest eigenvalue of the rows, once columns and rows are scaled to one length each, over the edge for independent noise: 1 for noise, more for structure.
    pub over_noise: f64,
}

impl Spectrum {
    /// Whether the rank is low enough to be an adapter's: fewer than half of the directions that would show.
    pub fn is_low_rank(&self) -> bool {
        self.rank < self.rows / 2 && !self.is_noise()
    }

    /// Whether nothing stands out of what independent noise would give.
    pub fn is_noise(&self) -> bool {
        self.over_noise <= SLACK
    }
}

/// The spectrum of a − b. None for what is no matrix, is too small, or does not differ in the sampled rows.
pub(super) fn of_difference(a: &Side<'_>, b: &Side<'_>, options: Options) -> Result<Option<Spectrum>, ModelError> {
    let [height, width] = a.tensor.shape[..] else { return Ok(None) };
    // More columns than rows, so that noise has a floor to be seen.
    let most = options.most_rows.unwrap_or(ROWS).min(ROWS);
    let rows = most.min(height).min(width / 2) / RUN * RUN;
    if rows < RUN {
        return Ok(None);
    }
    let sample = Sample::new(a, b, rows, (height, width), options.seed)?;
    Ok(sample.spectrum())
}

/// Sampled rows of the difference.
struct Sample {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
    /// The most that rounding can have added to Σ d².
    rounding: f64,
}

impl Sample {
    fn new(
        a: &Side<'_>,
        b: &Side<'_>,
        rows: usize,
        (height, width): (usize, usize),
        seed: u64,
    ) -> Result<Self, ModelError> {
        let mut dice = Dice::new(seed, 1);
        let columns = width.min(COLUMNS);
        let first = dice.below(width - columns + 1);
        let mut runs = dice.sample(height / RUN, rows / RUN);
        runs.sort_unstable();
        let mut sample = Self { rows, columns, values: Vec::with_capacity(rows * columns), rounding: 0.0 };
        let (mut left, mut right) = (Scratch::default(), Scratch::default());
        for run in runs {
            // Whole rows in one read, which costs less than many short ones, above all over a network.
            let range: Range<u64> = (run * RUN * width) as u64..((run + 1) * RUN * width) as u64;
            a.values(&range, &mut left)?;
            b.values(&range, &mut right)?;
            for row in 0..RUN {
                let window = row * width + first..row * width + first + columns;
                sample.add(&left.values[window.clone()], &right.values[window], a.tensor.dtype);
            }
        }
        Ok(sample)
    }

    fn add(&mut self, a: &[f32], b: &[f32], dtype: Dtype) {
        let difference = |(x, y): (&f32, &f32)| Some(x - y).filter(|d| d.is_finite()).unwrap_or(0.0);
        self.values.extend(a.iter().zip(b).map(difference));
        self.rounding += a.iter().map(|x| unit(*x, dtype).powi(2)).sum::<f64>() / 4.0;
    }

    fn spectrum(mut self) -> Option<Spectrum> {
        let gram = self.gram();
        if (0..self.rows).all(|i| gram[i * self.rows + i] == 0.0) {
            return None;
        }
        let values = eigenvalues(gram, self.rows, self.rows);
        let total: f64 = values.iter().sum();
        // The lower half is a floor that rounding may explain, up to its bound.
        let floor = values[self.rows / 2].clamp(0.0, self.rounding / self.rows as f64);
        let edge = floor * edge(self.rows as f64 / self.columns as f64) * SLACK;
        let signal: Vec<f64> = values.iter().map(|value| (value - edge).max(0.0)).collect();
        let rank = if signal.iter().sum::<f64>() > 0.0 { rank(&signal) } else { self.rows };
        let rounding_share = (floor * self.rows as f64 / total).min(1.0);
        self.equalise_columns();
        Some(Spectrum { rank, rows: self.rows, rounding_share, over_noise: self.over_noise() })
    }

    /// Scales every column to the same length: noise that grows with the weights has strong columns, which are no structure.
    fn equalise_columns(&mut self) {
        let mut squares = vec![0f32; self.columns];
        for row in self.values.chunks(self.columns) {
            squares.iter_mut().zip(row).for_each(|(square, d)| *square += d * d);
        }
        let scales: Vec<f32> =
            squares.iter().map(|square| if *square > 0.0 { square.sqrt().recip() } else { 0.0 }).collect();
        for row in self.values.chunks_mut(self.columns) {
            row.iter_mut().zip(&scales).for_each(|(d, scale)| *d *= scale);
        }
    }

    /// D Dᵀ.
    fn gram(&self) -> Vec<f64> {
        let n = self.rows;
        let row = |i: usize| &self.values[i * self.columns..(i + 1) * self.columns];
        let mut gram = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let product = dot(row(i), row(j));
                (gram[i * n + j], gram[j * n + i]) = (product, product);
            }
        }
        gram
    }

    fn over_noise(&self) -> f64 {
        let (n, gram) = (self.rows, self.gram());
        let lengths: Vec<f64> = (0..n).map(|i| gram[i * n + i].sqrt()).collect();
        let scaled = |at: usize| {
            let length = lengths[at / n] * lengths[at % n];
            if length > 0.0 { gram[at] / length } else { 0.0 }
        };
        let largest = eigenvalues((0..n * n).map(scaled).collect(), n, 1)[0];
        largest / edge(n as f64 / self.effective_columns())
    }

    /// Columns, less where few elements hold most of the energy: as many as normal numbers with the same fourth moment.
    fn effective_columns(&self) -> f64 {
        let one = |row: &[f32]| {
            let (squares, fourths) = row.iter().fold((0.0, 0.0), |(s, f), d| {
                let square = f64::from(*d).powi(2);
                (s + square, f + square * square)
            });
            if fourths > 0.0 { 3.0 * squares * squares / fourths } else { self.columns as f64 }
        };
        let mean = self.values.chunks(self.columns).map(one).sum::<f64>() / self.rows as f64;
        mean.clamp(1.0, self.columns as f64)
    }
}

/// Upper edge of the spectrum of noise with this ratio of rows to columns, in units of the mean eigenvalue.
fn edge(ratio: f64) -> f64 {
    (1.0 + ratio.sqrt()).powi(2)
}

/// How many of the values, largest first, hold [`ENERGY`] of their sum.
fn rank(values: &[f64]) -> usize {
    let wanted = values.iter().sum::<f64>() * ENERGY;
    let mut sum = 0.0;
    let before = values.iter().take_while(|value| {
        let more = sum < wanted;
        sum += **value;
        more
    });
    before.count()
}

/// The unit in the last place of a value as its element type stores it.
pub(super) fn unit(x: f32, dtype: Dtype) -> f64 {
    let (digits, smallest) = match dtype {
        Dtype::BF16 => (7, -126),
        Dtype::F16 => (10, -14),
        _ => (23, -126),
    };
    let exponent = ((x.to_bits() >> 23 & 0xff) as i32 - 127).max(smallest) - digits;
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// In lanes that a processor adds at once.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0f32; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (x, y) in a.iter().zip(b) {
        for lane in 0..16 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>() + f64::from(rest)
}
