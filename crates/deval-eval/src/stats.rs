//! Means with honest intervals, paired tests, planning and bounds that hold at every look.
//!
//! The unit is the example. Several answers to one example are averaged first, so that each example counts once, as a question does in the
//! validator, however often it was asked; the spread between these averages is what standard errors and intervals rest on.

mod noise;
pub mod plan;
mod resample;
mod sequence;
mod sign;
mod student;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use noise::LabelNoise;
pub use resample::p_value;
pub use sequence::ConfidenceSequence;
pub use sign::{Signs, TIE};
pub use student::{normal_quantile, t_975, t_quantile};

/// Fewest examples for which the percentile bootstrap is wide enough to be quoted alone.
const ENOUGH_EXAMPLES: usize = 20;

/// A 95 % interval, unless its place says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A mean and what is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Number of values.
    pub n: usize,
    /// Number of examples they belong to.
    pub examples: usize,
    /// Mean over the examples of each one's mean value; 0 when there are none.
    pub mean: f64,
    /// Standard error clustered by example; absent for fewer than two examples.
    pub standard_error: Option<f64>,
    /// 95 % interval by Student's t over the examples, cut to the possible range; the one to quote for few examples.
    pub t95: Option<Interval>,
    /// 95 % interval by the seeded percentile bootstrap over the examples; not made for baselines.
    pub bootstrap95: Option<Interval>,
    /// What wrong labels could do to the mean, where a rate of them was assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_noise: Option<LabelNoise>,
    /// Why an interval is missing or must be read with care.
    pub note: Option<String>,
}

impl Summary {
    /// Standard deviation between examples; absent where the standard error is.
    pub fn spread(&self) -> Option<f64> {
        self.standard_error.map(|error| error * (self.examples as f64).sqrt())
    }

    /// Half of the 95 % interval by Student's t, before it is cut to the possible range.
    pub fn reach(&self) -> Option<f64> {
        let error = self.standard_error.filter(|error| *error > 0.0)?;
        Some(t_975(self.examples - 1) * error)
    }
}

/// Summarises values that can lie in `low..=high`; each comes with the number of its example. Without a seed there is no bootstrap.
pub fn summarize(values: &[(usize, f64)], (low, high): (f64, f64), seed: Option<u64>) -> Summary {
    let means = by_example(values);
    let examples = means.len();
    let mut summary = Summary {
        n: values.len(),
        examples,
        mean: mean(&means),
        standard_error: standard_error(&means),
        t95: None,
        bootstrap95: None,
        label_noise: None,
        note: None,
    };
    let reach = summary.reach();
    summary.t95 =
        reach.map(|reach| Interval { low: (summary.mean - reach).max(low), high: (summary.mean + reach).min(high) });
    summary.bootstrap95 = reach.and(seed).map(|seed| resample::interval(&means, seed));
    summary.note = note(examples, reach.is_some());
    summary
}

fn note(examples: usize, has_spread: bool) -> Option<String> {
    match examples {
        0 => Some("no examples".to_owned()),
        1 => Some("one example tells nothing about the spread".to_owned()),
        n if !has_spread => Some(format!("all {n} examples gave the same: they cannot show the spread")),
        n if n < ENOUGH_EXAMPLES => {
            Some(format!("only {n} examples: the bootstrap interval is too narrow, read the t interval"))
        }
        _ => None,
    }
}

/// Mean value of each example, in the order of their numbers.
fn by_example(values: &[(usize, f64)]) -> Vec<f64> {
    let mut sums = std::collections::BTreeMap::<usize, (f64, usize)>::new();
    for (example, value) in values {
        let (sum, count) = sums.entry(*example).or_default();
        (*sum, *count) = (*sum + value, *count + 1);
    }
    sums.into_values().map(|(sum, count)| sum / count as f64).collect()
}

/// Mean; 0 when there are no values.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Standard error of the mean of independent values; absent for fewer than two, 0 when they differ by rounding only.
fn standard_error(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let (n, mean) = (values.len() as f64, mean(values));
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = (squares / (n - 1.0) / n).sqrt();
    Some(if error < 1e-12 { 0.0 } else { error })
}

/// Quantile of sorted values, linear between neighbours; 0 when there are none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    sorted[below] + part * (sorted[(below + 1).min(last)] - sorted[below])
}
