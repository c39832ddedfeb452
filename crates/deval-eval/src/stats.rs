//! Means with honest intervals. Answers to one example stand together as a cluster: several samples of it tell less than several examples.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dice::Dice;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 2000;
/// Fewest clusters for which the percentile bootstrap is wide enough to be quoted alone.
const ENOUGH_CLUSTERS: usize = 20;
/// 0.975 quantile of Student's t for 1 to 30 degrees of freedom; checked against numerical integration of the density in the tests.
const T_975: [f64; 30] = [
    12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004, 2.262_157, 2.228_139,
    2.200_985, 2.178_813, 2.160_369, 2.144_787, 2.131_450, 2.119_905, 2.109_816, 2.100_922, 2.093_024, 2.085_963,
    2.079_614, 2.073_873, 2.068_658, 2.063_899, 2.059_539, 2.055_529, 2.051_831, 2.048_407, 2.045_230, 2.042_272,
];

/// A 95 % interval.
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
    /// Mean of the values; 0 when there are none.
    pub mean: f64,
    /// Standard error clustered by example; absent for fewer than two examples.
    pub standard_error: Option<f64>,
    /// 95 % interval by Student's t over the examples, cut to the possible range; the one to quote for few examples.
    pub t95: Option<Interval>,
    /// 95 % interval by the seeded percentile bootstrap over the examples; not made for baselines.
    pub bootstrap95: Option<Interval>,
    /// Why an interval is missing or must be read with care.
    pub note: Option<String>,
}

/// Summarises values that can lie in `low..=high`; each comes with the number of its example. Without a seed there is no bootstrap.
pub fn summarize(values: &[(usize, f64)], (low, high): (f64, f64), seed: Option<u64>) -> Summary {
    let clusters = clusters(values);
    let (n, examples) = (values.len(), clusters.len());
    let mean = if n == 0 { 0.0 } else { values.iter().map(|(_, value)| value).sum::<f64>() / n as f64 };
    let standard_error = standard_error(&clusters, mean, n);
    let spread = standard_error.filter(|error| *error > 0.0);
    let t95 = spread.map(|error| {
        let reach = t_975(examples - 1) * error;
        Interval { low: (mean - reach).max(low), high: (mean + reach).min(high) }
    });
    let bootstrap95 = spread.and(seed).map(|seed| bootstrap(&clusters, seed));
    let note = note(examples, spread.is_some());
    Summary { n, examples, mean, standard_error, t95, bootstrap95, note }
}

fn note(examples: usize, has_spread: bool) -> Option<String> {
    match examples {
        0 => Some("no examples".to_owned()),
        1 => Some("one example tells nothing about the spread".to_owned()),
        n if !has_spread => Some(format!("all {n} examples earned the same: they cannot show the spread")),
        n if n < ENOUGH_CLUSTERS => {
            Some(format!("only {n} examples: the bootstrap interval is too narrow, read the t interval"))
        }
        _ => None,
    }
}

/// Sum and number of the values of one example.
type Cluster = (f64, usize);

fn clusters(values: &[(usize, f64)]) -> Vec<Cluster> {
    let mut by_example = std::collections::BTreeMap::<usize, Cluster>::new();
    for (example, value) in values {
        let cluster = by_example.entry(*example).or_default();
        *cluster = (cluster.0 + value, cluster.1 + 1);
    }
    by_example.into_values().collect()
}

/// Cluster-robust standard error of a mean with the usual G/(G−1) correction; the common one when every example has one value.
fn standard_error(clusters: &[Cluster], mean: f64, n: usize) -> Option<f64> {
    let groups = clusters.len();
    if groups < 2 {
        return None;
    }
    let residuals = clusters.iter().map(|(sum, size)| sum - mean * *size as f64);
    let squares: f64 = residuals.map(|residual| residual * residual).sum();
    let error = (squares * groups as f64 / (groups - 1) as f64).sqrt() / n as f64;
    Some(if error < 1e-12 { 0.0 } else { error })
}

fn bootstrap(clusters: &[Cluster], seed: u64) -> Interval {
    let mut dice = Dice::new(seed, 0);
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resample(clusters, &mut dice)).collect();
    means.sort_by(f64::total_cmp);
    Interval { low: quantile(&means, 0.025), high: quantile(&means, 0.975) }
}

fn resample(clusters: &[Cluster], dice: &mut Dice) -> f64 {
    let drawn = (0..clusters.len()).map(|_| *dice.pick(clusters));
    let (sum, size) = drawn.fold((0.0, 0), |(sum, size), cluster| (sum + cluster.0, size + cluster.1));
    sum / size as f64
}

/// Quantile of sorted values, linear between neighbours; 0 when there are none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    sorted[below] + part * (sorted[(below + 1).min(last)] - sorted[below])
}

/// 0.975 quantile of Student's t; beyond the table the Cornish-Fisher expansion around the normal quantile, good to six digits.
pub fn t_975(degrees: usize) -> f64 {
    if let Some(value) = degrees.checked_sub(1).and_then(|place| T_975.get(place)) {
        return *value;
    }
    let (z, v) = (1.959_963_984_540_054_f64, degrees as f64);
    let first = (z.powi(3) + z) / (4.0 * v);
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v);
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * v.powi(3));
    z + first + second + third
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probability within ±t by Simpson's rule over the density, which is normalised by the same rule.
    fn probability_within(t: f64, degrees: usize) -> f64 {
        let v = degrees as f64;
        // x = tan(a)·√v turns the density into cos(a)^(v-1).
        let integral = |to: f64| {
            let steps = 20_000;
            let at = |i: usize| (to * i as f64 / steps as f64).cos().max(0.0).powf(v - 1.0);
            (1..steps).map(|i| at(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum::<f64>() + at(0) + at(steps)
        };
        let half = std::f64::consts::FRAC_PI_2;
        let to = (t / v.sqrt()).atan();
        integral(to) * to / (integral(half) * half)
    }

    #[test]
    fn t_quantiles_hold_95_percent() {
        for degrees in [1, 2, 3, 7, 15, 29, 30, 31, 60, 119] {
            let held = probability_within(t_975(degrees), degrees);
            assert!((held - 0.95).abs() < 2e-6, "{degrees}: {held}");
        }
    }

    #[test]
    fn the_common_standard_error_when_examples_are_single() {
        let summary = summarize(&[(0, 0.2), (1, 0.4), (2, 0.9)], (0.0, 1.0), Some(1));
        let expected = (0.13f64 / 3.0).sqrt();
        assert!((summary.standard_error.unwrap() - expected).abs() < 1e-12);
        assert!((summary.mean - 0.5).abs() < 1e-12);
    }

    #[test]
    fn repeated_samples_of_one_example_count_once() {
        let once = summarize(&[(0, 0.2), (1, 0.8)], (0.0, 1.0), Some(1));
        let often: Vec<_> = (0..20).map(|i| (i % 2, if i % 2 == 0 { 0.2 } else { 0.8 })).collect();
        let often = summarize(&often, (0.0, 1.0), Some(1));
        assert_eq!((often.n, often.examples), (20, 2));
        assert!((once.standard_error.unwrap() - often.standard_error.unwrap()).abs() < 1e-12);
    }

    #[test]
    fn two_examples_promise_nothing() {
        let summary = summarize(&[(0, 0.2), (1, 0.8)], (0.0, 1.0), Some(1));
        assert_eq!(summary.t95, Some(Interval { low: 0.0, high: 1.0 }));
        assert!(summary.note.unwrap().contains("only 2 examples"));
        let equal = summarize(&[(0, 0.6), (1, 0.6)], (0.0, 1.0), Some(1));
        assert_eq!((equal.t95, equal.bootstrap95), (None, None));
        assert!(equal.note.unwrap().contains("cannot show"));
        assert_eq!(summarize(&[], (0.0, 1.0), Some(1)).mean, 0.0);
    }

    #[test]
    fn the_bootstrap_repeats_by_seed_and_covers_the_mean() {
        let values: Vec<_> = (0..40).map(|i| (i, (i % 7) as f64 / 6.0)).collect();
        let [a, b, c] = [3, 3, 4].map(|seed| summarize(&values, (0.0, 1.0), Some(seed)));
        assert_eq!(a, b);
        assert_ne!(a.bootstrap95, c.bootstrap95);
        let (t, boot) = (a.t95.unwrap(), a.bootstrap95.unwrap());
        assert!(boot.low < a.mean && a.mean < boot.high);
        assert!((t.low - boot.low).abs() < 0.03 && (t.high - boot.high).abs() < 0.03);
    }

    #[test]
    fn quantiles_are_linear_between_neighbours() {
        assert_eq!([0.0, 0.5, 0.75, 1.0].map(|q| quantile(&[1.0, 2.0, 4.0], q)), [1.0, 2.0, 3.0, 4.0]);
    }
}
