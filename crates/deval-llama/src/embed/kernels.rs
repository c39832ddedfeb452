//! What an encoder layer does between its matrix products, in place and on all cores.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result};
use rayon::prelude::*;

use super::config::Activation;
use crate::ops::{GRAIN, floats, floats_mut};

/// `rows = activation(rows + bias)`.
pub(super) struct AddBias(pub(super) Option<Activation>);

impl InplaceOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, rows: &mut CpuStorage, at: &Layout, bias: &CpuStorage, bias_at: &Layout) -> Result<()> {
        let (rows, bias) = (floats_mut(rows, at)?, floats(bias, bias_at)?);
        each_row(rows, bias.len(), |row| {
            row.iter_mut().zip(bias).for_each(|(number, bias)| *number += bias);
            if let Some(activation) = self.0 {
                activation.apply(row);
            }
        });
        Ok(())
    }
}

/// Each row to mean 0 and variance 1, then `row * weight + bias`. Two passes, because the difference of large sums
/// that one pass would take loses the variance of rows with a large mean.
pub(super) struct LayerNorm {
    pub(super) eps: f32,
}

impl InplaceOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        rows: &mut CpuStorage,
        at: &Layout,
        weight: &CpuStorage,
        weight_at: &Layout,
        bias: &CpuStorage,
        bias_at: &Layout,
    ) -> Result<()> {
        let (weight, bias) = (floats(weight, weight_at)?, floats(bias, bias_at)?);
        let width = weight.len() as f32;
        each_row(floats_mut(rows, at)?, weight.len(), |row| {
            let mean = sum(row, |number| number) / width;
            let variance = sum(row, |number| (number - mean) * (number - mean)) / width;
            let scale = 1.0 / (variance + self.eps).sqrt();
            for ((number, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                *number = (*number - mean) * scale * weight + bias;
            }
        });
        Ok(())
    }
}

/// Softmax of `scale * row` for the rows of `(.., columns)`.
pub(super) struct ScaledSoftmax {
    pub(super) scale: f32,
}

impl InplaceOp1 for ScaledSoftmax {
    fn name(&self) -> &'static str {
        "scaled-softmax"
    }

    fn cpu_fwd(&self, scores: &mut CpuStorage, at: &Layout) -> Result<()> {
        let columns = at.dims().last().copied().unwrap_or(1);
        each_row(floats_mut(scores, at)?, columns, |row| {
            let peak = peak(row);
            row.iter_mut().for_each(|score| *score = exp_below_0(self.scale * (*score - peak)));
            let total = 1.0 / sum(row, |score| score);
            row.iter_mut().for_each(|score| *score *= total);
        });
        Ok(())
    }
}

fn each_row(rows: &mut [f32], width: usize, change: impl Fn(&mut [f32]) + Send + Sync) {
    rows.par_chunks_mut(width).with_min_len(GRAIN.div_ceil(width)).for_each(change);
}

/// Independent accumulators of a fold, which the compiler may then put into vector registers.
const LANES: usize = 16;

/// Folds each lane with `step`, then the lanes with `join`.
fn fold(row: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = row.chunks_exact(LANES);
    let tail = chunks.remainder().iter().fold(start, |sum, number| step(sum, *number));
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, number)| *lane = step(*lane, *number));
    }
    lanes.into_iter().fold(tail, join)
}

fn sum(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    fold(row, 0.0, |sum, number| sum + term(number), |a, b| a + b)
}

fn peak(row: &[f32]) -> f32 {
    let larger = |a, b| if b > a { b } else { a };
    fold(row, f32::NEG_INFINITY, larger, larger)
}

/// e^x for x <= 0, to 3 units in the last place, without a branch or a call, so that loops over it are vectorised.
/// Below -87 the result is that of -87, about 1e-38; NaN stays NaN.
fn exp_below_0(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first exact in few bits.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = (std::f64::consts::LN_2 - 355.0 / 512.0) as f32;
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let rest = x - power * LN_2_HIGH - power * LN_2_LOW;
    let inverse_factorials = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let series = inverse_factorials.iter().fold(1.0 / 5040.0, |sum, factor| sum * rest + factor);
    series * f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

impl Activation {
    fn apply(self, row: &mut [f32]) {
        match self {
            Self::Gelu => row.iter_mut().for_each(|x| *x = gelu(*x)),
            Self::GeluTanh => row.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
            Self::Relu => row.iter_mut().for_each(|x| *x = x.max(0.0)),
        }
    }
}

/// x times the normal distribution function, by Abramowitz and Stegun 7.1.26, which is within 1.5e-7 of erf.
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let factors = [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    let tail = factors.iter().fold(1.061_405_4, |sum, factor| sum * t + factor) * t * exp_below_0(-z * z);
    0.5 * (x + x.abs() * (1.0 - tail))
}

fn gelu_tanh(x: f32) -> f32 {
    let inner = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2 * (x + 0.044715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 2.0, shape, &Device::Cpu).unwrap()
    }

    fn distance(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn bias_and_activation_are_those_of_candle() {
        let (rows, bias) = (random(&[70, 300]), random(&[300]));
        let sum = rows.broadcast_add(&bias).unwrap();
        let cases = [
            (None, sum.clone()),
            (Some(Activation::Gelu), sum.gelu_erf().unwrap()),
            (Some(Activation::GeluTanh), sum.gelu().unwrap()),
            (Some(Activation::Relu), sum.relu().unwrap()),
        ];
        for (activation, expected) in cases {
            let rows = rows.copy().unwrap();
            rows.inplace_op2(&bias, &AddBias(activation)).unwrap();
            assert!(distance(&rows, &expected) < 2e-6, "{activation:?}");
        }
    }

    #[test]
    fn exp_is_that_of_the_library_and_nan_stays() {
        for x in (0..870_000).map(|n| n as f32 * -1e-4) {
            let (found, expected) = (exp_below_0(x), x.exp());
            assert!((found - expected).abs() <= 3.0 * f32::EPSILON * expected, "{x}: {found} {expected}");
        }
        assert!(exp_below_0(f32::NEG_INFINITY) < 2e-38 && exp_below_0(f32::NAN).is_nan() && gelu(f32::NAN).is_nan());
    }

    #[test]
    fn layer_norm_is_that_of_candle_and_keeps_rows_with_a_large_mean() {
        let (rows, weight, bias) = (random(&[70, 300]), random(&[300]), random(&[300]));
        let expected = candle_nn::ops::layer_norm_slow(&rows, &weight, &bias, 1e-12).unwrap();
        let far = (&rows + 1000.0).unwrap();
        for (rows, tolerance) in [(rows, 1e-5), (far, 1e-2)] {
            rows.inplace_op3(&weight, &bias, &LayerNorm { eps: 1e-12 }).unwrap();
            assert!(distance(&rows, &expected) < tolerance);
        }
    }

    #[test]
    fn scaled_softmax_is_softmax_of_the_product() {
        let scores = (random(&[3, 20, 50]) * 10.0).unwrap();
        let expected = candle_nn::ops::softmax_last_dim(&(&scores * 0.25).unwrap()).unwrap();
        scores.inplace_op1(&ScaledSoftmax { scale: 0.25 }).unwrap();
        assert!(distance(&scores, &expected) < 1e-6);
    }
}
