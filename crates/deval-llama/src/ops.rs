//! CPU kernels for what candle does on one thread or through temporaries.

use candle_core::{CpuStorage, CustomOp2, Error, InplaceOp1, InplaceOp2, Layout, Result, Shape};
use rayon::prelude::*;

/// Numbers that one task of a parallel loop handles at least.
const GRAIN: usize = 1 << 14;

/// Accumulators of a dot product: enough to hide the latency of the additions at any vector width.
const LANES: usize = 32;

/// `(1, inputs) x (outputs, inputs) -> (1, outputs)`: a decode step is nothing but such products. candle would compute
/// each on one thread, after counting the processors.
pub(crate) struct RowTimesMatrix;

impl CustomOp2 for RowTimesMatrix {
    fn name(&self) -> &'static str {
        "row-times-matrix"
    }

    fn cpu_fwd(
        &self,
        row: &CpuStorage,
        row_at: &Layout,
        matrix: &CpuStorage,
        at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (row, matrix) = (floats(row, row_at)?, floats(matrix, at)?);
        let outputs = at.shape().dims2()?.0;
        let mut result = vec![0.0; outputs];
        let rows_per_task = GRAIN.div_ceil(row.len());
        let tasks = result.par_chunks_mut(rows_per_task).zip(matrix.par_chunks(rows_per_task * row.len()));
        tasks.for_each(|(results, rows)| {
            for (result, weights) in results.iter_mut().zip(rows.chunks_exact(row.len())) {
                *result = dot(row, weights);
            }
        });
        Ok((CpuStorage::F32(result), (1, outputs).into()))
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// `gate = silu(gate) * up`, element by element.
pub(crate) struct SwiGlu;

impl InplaceOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, gate: &mut CpuStorage, gate_at: &Layout, up: &CpuStorage, up_at: &Layout) -> Result<()> {
        let (gate, up) = (floats_mut(gate, gate_at)?, floats(up, up_at)?);
        gate.par_chunks_mut(GRAIN).zip(up.par_chunks(GRAIN)).for_each(|(gate, up)| {
            for (gate, up) in gate.iter_mut().zip(up) {
                *gate = *gate / (1.0 + (-*gate).exp()) * up;
            }
        });
        Ok(())
    }
}

/// Softmax over the rows of `(heads, len, start + len)` scores, row `r` of each head seeing only the first
/// `start + r + 1` columns; the others become 0.
pub(crate) struct CausalSoftmax {
    /// Tokens before the first row.
    pub(crate) start: usize,
}

impl InplaceOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, scores: &mut CpuStorage, at: &Layout) -> Result<()> {
        let (_, len, columns) = at.shape().dims3()?;
        let scores = floats_mut(scores, at)?;
        scores.par_chunks_mut(columns).with_min_len(GRAIN.div_ceil(columns)).enumerate().for_each(|(row, scores)| {
            let (seen, hidden) = scores.split_at_mut((self.start + row % len + 1).min(columns));
            softmax(seen);
            hidden.fill(0.0);
        });
        Ok(())
    }
}

fn softmax(scores: &mut [f32]) {
    let peak = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = (*score - peak).exp();
    }
    let scale = 1.0 / scores.iter().sum::<f32>();
    for score in scores {
        *score *= scale;
    }
}

fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op: "cpu-kernel" })?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

fn floats_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op: "cpu-kernel" })?;
    match storage {
        CpuStorage::F32(numbers) => Ok(&mut numbers[start..end]),
        _ => candle_core::bail!("cpu-kernel: expected f32"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use candle_nn::ops::softmax_last_dim;

    use super::*;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
    }

    fn distance(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn a_row_times_a_matrix_is_matmul() {
        for (outputs, inputs) in [(1, 1), (7, 33), (300, 64), (1000, 577)] {
            let (row, matrix) = (random(&[1, inputs]), random(&[outputs, inputs]));
            let product = row.apply_op2_no_bwd(&matrix, &RowTimesMatrix).unwrap();
            assert!(distance(&product, &row.matmul(&matrix.t().unwrap()).unwrap()) < 1e-4);
        }
    }

    #[test]
    fn swiglu_is_silu_times_up() {
        let (gate, up) = (random(&[40, 1000]), random(&[40, 1000]));
        let expected = (gate.silu().unwrap() * &up).unwrap();
        gate.inplace_op2(&up, &SwiGlu).unwrap();
        assert!(distance(&gate, &expected) < 1e-6);
    }

    #[test]
    fn causal_softmax_is_a_masked_softmax() {
        let (heads, start, len) = (3, 5, 4);
        let scores = random(&[heads, len, start + len]);
        let mask =
            |row: usize| (0..start + len).map(move |column| if column > start + row { f32::NEG_INFINITY } else { 0.0 });
        let mask = Tensor::from_vec((0..len).flat_map(mask).collect(), (len, start + len), &Device::Cpu).unwrap();
        let expected = softmax_last_dim(&scores.broadcast_add(&mask).unwrap()).unwrap();
        scores.inplace_op1(&CausalSoftmax { start }).unwrap();
        assert!(distance(&scores, &expected) < 1e-6);
    }
}
