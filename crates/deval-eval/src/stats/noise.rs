//! What wrong labels could do to a mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Interval;

/// The band in which the mean of these very answers can lie once wrong labels are put right.
///
/// It is the worst case and no probability: of n examples, e·n may be any examples, and each of them may have earned anything in the
/// possible range. (The reward of the right answer is no tighter bound, because a wrong label makes that reward wrong too.) The lower end
/// lets the best rewards fall to the bottom of the range, the upper end lets the worst rise to its top; a fraction of an example counts
/// as a fraction. Chance between examples comes on top: the band moves the ends of the intervals as it moves the mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LabelNoise {
    /// The assumed share of wrong labels, 0 to below 0.5.
    pub rate: f64,
    /// Where the mean can lie.
    pub band: Interval,
}

impl LabelNoise {
    /// The band for values, one per example, that can lie in `low..=high`.
    pub fn new(rate: f64, values: &[f64], (low, high): (f64, f64)) -> Self {
        let n = values.len().max(1) as f64;
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mean = super::mean(values);
        let wrong = rate * values.len() as f64;
        let fall = shifted(sorted.iter().rev().map(|value| value - low), wrong) / n;
        let rise = shifted(sorted.iter().map(|value| high - value), wrong) / n;
        Self { rate, band: Interval { low: (mean - fall).max(low), high: (mean + rise).min(high) } }
    }
}

/// Sum of the first `count` of these; the last of them in part.
fn shifted(most: impl Iterator<Item = f64>, count: f64) -> f64 {
    (0u32..).zip(most).map(|(place, value)| value * (count - f64::from(place)).clamp(0.0, 1.0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_is_the_worst_that_wrong_labels_can_do() {
        let band = |rate, values: &[f64]| LabelNoise::new(rate, values, (0.0, 1.0)).band;
        let values = [0.2, 1.0, 0.6, 0.2, 0.5];
        assert_eq!(band(0.0, &values), Interval { low: 0.5, high: 0.5 });
        let Interval { low, high } = band(0.3, &values);
        // One and a half examples: 1.0 and half of 0.6 fall away; 0.2 and half of the other 0.2 become 1.
        assert!((low - (2.5 - 1.0 - 0.3) / 5.0).abs() < 1e-12 && (high - (2.5 + 0.8 + 0.4) / 5.0).abs() < 1e-12);
        assert_eq!(band(0.4, &[]), Interval { low: 0.0, high: 0.0 });
        assert_eq!(band(0.4, &[1.0, 1.0]).high, 1.0);
    }

    #[test]
    fn no_choice_of_wrong_labels_leaves_the_band() {
        let mut dice = crate::Dice::new(3, 0);
        for _ in 0..200 {
            let mut values: Vec<f64> = (0..20).map(|_| dice.unit()).collect();
            let band = LabelNoise::new(0.25, &values, (0.0, 1.0)).band;
            for wrong in dice.sample(20, 5) {
                values[wrong] = f64::from(u8::from(dice.flip()));
            }
            let right = super::super::mean(&values);
            assert!(band.low - 1e-12 <= right && right <= band.high + 1e-12);
        }
    }
}
