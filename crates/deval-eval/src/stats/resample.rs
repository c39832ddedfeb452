//! The bootstrap over examples.

use super::{Interval, mean, quantile, standard_error};
use crate::dice::Dice;

/// Resamples of an interval.
const RESAMPLES: usize = 2000;
/// Resamples of a p value; no p value is smaller than one in this many and one.
const NULL_RESAMPLES: usize = 10_000;
/// Stream of the seed for p values; intervals draw from stream 0.
const NULL_STREAM: u64 = 1;

/// 95 % percentile interval of the mean of these values, one per example.
pub(super) fn interval(values: &[f64], seed: u64) -> Interval {
    let mut dice = Dice::new(seed, 0);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| (0..values.len()).map(|_| *dice.pick(values)).sum::<f64>() / values.len() as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    Interval { low: quantile(&means, 0.025), high: quantile(&means, 0.975) }
}

/// Two-sided p value of "the mean difference is zero" by the bootstrap under the null: the differences, one per example, are shifted to
/// mean zero and resampled, and each resample's mean over its own standard error is compared with the observed one. That is wider than
/// comparing bare means, which would be too sure for few examples (Hall and Wilson, Biometrics 1991). 1 when all differences are zero;
/// `None` when they are all the same otherwise, or fewer than two, for then there is no spread to compare with.
pub fn p_value(differences: &[f64], seed: u64) -> Option<f64> {
    if differences.len() < 2 {
        return None;
    }
    let mean = mean(differences);
    let error = standard_error(differences)?;
    if error == 0.0 {
        return (mean.abs() <= super::sign::TIE).then_some(1.0);
    }
    let shifted: Vec<f64> = differences.iter().map(|difference| difference - mean).collect();
    let mut dice = Dice::new(seed, NULL_STREAM);
    let observed = (mean / error).abs();
    // A resample of equal values has no spread of its own; it counts against us.
    let extreme = (0..NULL_RESAMPLES).filter(|_| studentised(&shifted, &mut dice) >= observed * (1.0 - 1e-9)).count();
    Some((extreme + 1) as f64 / (NULL_RESAMPLES + 1) as f64)
}

/// Size of the mean of one resample over its standard error; infinite when the resample has no spread.
fn studentised(values: &[f64], dice: &mut Dice) -> f64 {
    let n = values.len() as f64;
    let (mut sum, mut squares) = (0.0, 0.0);
    for _ in values {
        let value = dice.pick(values);
        sum += value;
        squares += value * value;
    }
    let variance = (squares - sum * sum / n) / (n - 1.0);
    if variance < 1e-24 { f64::INFINITY } else { (sum / n).abs() / (variance / n).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_difference_is_no_evidence() {
        assert_eq!(p_value(&[0.0; 40], 1), Some(1.0));
        assert_eq!([p_value(&[], 1), p_value(&[0.3], 1), p_value(&[0.3; 9], 1)], [None, None, None]);
        assert_eq!(p_value(&[0.3, -0.3], 1), Some(1.0));
        assert!(p_value(&[0.3, 0.1], 1).unwrap() > 0.2);
    }

    #[test]
    fn it_repeats_by_seed_and_finds_a_lead() {
        let lead: Vec<f64> = (0..60).map(|i| f64::from(i % 7) * 0.1 - 0.1).collect();
        assert_eq!(p_value(&lead, 5), p_value(&lead, 5));
        assert_eq!(p_value(&lead, 5), Some(1.0 / 10_001.0));
    }

    #[test]
    fn it_keeps_its_level() {
        let mut dice = Dice::new(11, 0);
        let mut wrong = 0;
        for seed in 0..200 {
            // Skewed, with many ties, as differences of rewards are.
            let values: Vec<f64> = (0..24).map(|_| (dice.unit() - 0.7).max(0.0) - 0.045).collect();
            wrong += usize::from(p_value(&values, seed).unwrap() < 0.05);
        }
        assert!(wrong <= 18, "{wrong} of 200");
    }
}
