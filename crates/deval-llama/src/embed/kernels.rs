//! What an encoder layer does between its matrix products, in place and on all cores.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result};
use rayon::prelude::*;

use super::config::Activation;
use crate::ops::{GRAIN, floats, floats_mut, softmax};

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
            let mean = row.iter().sum::<f32>() / width;
            let variance = row.iter().map(|number| (number - mean).powi(2)).sum::<f32>() / width;
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
            row.iter_mut().for_each(|score| *score *= self.scale);
            softmax(row);
        });
        Ok(())
    }
}

fn each_row(rows: &mut [f32], width: usize, change: impl Fn(&mut [f32]) + Send + Sync) {
    rows.par_chunks_mut(width).with_min_len(GRAIN.div_ceil(width)).for_each(change);
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

fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + candle_core::cpu::erf::erf_f32(x * std::f32::consts::FRAC_1_SQRT_2))
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
        let scores = random(&[3, 20, 50]);
        let expected = candle_nn::ops::softmax_last_dim(&(&scores * 0.25).unwrap()).unwrap();
        scores.inplace_op1(&ScaledSoftmax { scale: 0.25 }).unwrap();
        assert!(distance(&scores, &expected) < 1e-6);
    }
}
