//! The decoder's arithmetic on the CPU: f32, with weights in the type they have on disk.
//!
//! candle converts f16 and bf16 weights on every call and multiplies single rows on one thread; these kernels widen
//! weights in registers. None of a row's numbers depends on what is computed beside it.

mod attention;
mod cache;
mod matrix;
mod pool;
mod simd;

use rayon::prelude::*;

use crate::LlamaError;
use crate::kernels::Kernels;
use crate::step::{Heads, Step};
use crate::weights::{WeightType, Weights};
use attention::Attention;
pub(crate) use cache::Cache;
pub(crate) use matrix::{Matrix, Product, Tiles};
use pool::Pool;
use simd::{Job, LANES, Lanes, Numbers};

/// The CPU.
#[derive(Default)]
pub(crate) struct Cpu {
    pool: Pool,
}

/// The residual stream, row by row.
pub(crate) struct Stream {
    numbers: Vec<f32>,
    width: usize,
}

impl Stream {
    fn row(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.width..][..self.width]
    }

    fn count(&self) -> usize {
        self.numbers.len() / self.width
    }
}

/// Weights of a norm.
pub(crate) type Vector = Vec<f32>;

impl Kernels for Cpu {
    type Matrix = Matrix;
    type Vector = Vector;
    type Stream = Stream;
    type Input = Tiles;
    type Output = Product;
    type Cache = Cache;
    type Plan = ();

    /// Inside the pool: from outside, each of a step's some hundred products would put this thread to sleep and wake it again.
    fn inside<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        rayon::scope(|_| work())
    }

    fn matrix(&self, weights: &Weights, inputs: usize, parts: &[(String, usize)]) -> Result<Matrix, LlamaError> {
        let views = parts.iter().map(|(name, outputs)| weights.view(name, &[*outputs, inputs]));
        let views = views.collect::<Result<Vec<_>, _>>()?;
        let kind = views.first().map_or(WeightType::F32, |view| view.kind);
        if views.iter().all(|view| view.kind == kind) {
            let parts: Vec<_> = views.iter().zip(parts).map(|(view, (_, outputs))| (view.bytes, *outputs)).collect();
            return Ok(Matrix::pack(kind, inputs, &parts));
        }
        // Parts of several types meet in the one that holds all of them.
        let wide =
            views.iter().map(|view| view.kind.numbers(view.bytes).into_iter().flat_map(f32::to_le_bytes).collect());
        let wide: Vec<Vec<u8>> = wide.collect();
        let parts: Vec<_> = wide.iter().zip(parts).map(|(bytes, (_, outputs))| (bytes.as_slice(), *outputs)).collect();
        Ok(Matrix::pack(WeightType::F32, inputs, &parts))
    }

    fn vector(&self, weights: &Weights, name: &str, len: usize) -> Result<Vector, LlamaError> {
        let view = weights.view(name, &[len])?;
        Ok(view.kind.numbers(view.bytes))
    }

    fn cache(&self, layers: usize, heads: Heads) -> Cache {
        Cache::new(layers, heads)
    }

    fn blocks(&self, cache: &Cache) -> usize {
        cache.blocks()
    }

    fn grow(&self, cache: &mut Cache) -> Result<(), LlamaError> {
        if cache.grow() { Ok(()) } else { Err(LlamaError::OutOfMemory { what: "key/value cache" }) }
    }

    fn copy_block(&self, cache: &mut Cache, from: u32, to: u32) -> Result<(), LlamaError> {
        cache.copy(from, to);
        Ok(())
    }

    fn plan(&self, _: &Step, _: &Cache) -> Result<(), LlamaError> {
        Ok(())
    }

    fn embed(&self, table: &Matrix, tokens: &[u32]) -> Result<Stream, LlamaError> {
        let width = table.inputs();
        let mut numbers = vec![0.0; tokens.len() * width];
        for (row, token) in numbers.chunks_exact_mut(width).zip(tokens) {
            table.row(*token as usize, row);
        }
        Ok(Stream { numbers, width })
    }

    fn norm(&self, stream: &Stream, weight: &Vector, epsilon: f32) -> Result<Tiles, LlamaError> {
        let norm = |row: usize, out: &mut [f32]| simd::run(Norm { numbers: stream.row(row), weight, epsilon, out });
        Ok(Tiles::build(&self.pool, (stream.count(), stream.width), norm))
    }

    fn multiply(&self, input: &Tiles, matrix: &Matrix) -> Result<Product, LlamaError> {
        Ok(matrix.multiply(&self.pool, input))
    }

    fn attend(
        &self,
        product: &Product,
        layer: usize,
        (step, ()): (&Step, &()),
        cache: &mut Cache,
    ) -> Result<Tiles, LlamaError> {
        cache.store(layer, step, product);
        let heads = cache.heads();
        let mixed = Attention { cache, layer, heads, product, step }.run(&self.pool);
        let (rows, group) = (product.rows(), heads.group() * heads.dim);
        Ok(Tiles::build(&self.pool, (rows, heads.keys * group), |row, out| {
            for (head, out) in out.chunks_exact_mut(group).enumerate() {
                out.copy_from_slice(&mixed[(head * rows + row) * group..][..group]);
            }
        }))
    }

    fn gate(&self, product: &Product) -> Result<Tiles, LlamaError> {
        let gate = |row: usize, out: &mut [f32]| simd::run(Gate { product, row, out });
        Ok(Tiles::build(&self.pool, (product.rows(), product.outputs(0)), gate))
    }

    fn add(&self, stream: &mut Stream, product: &Product) -> Result<(), LlamaError> {
        let width = stream.width;
        let add = |(row, numbers): (usize, &mut [f32])| {
            for (numbers, added) in numbers.chunks_mut(matrix::PANEL).zip(product.pieces(0, row)) {
                for (number, added) in numbers.iter_mut().zip(added.as_flattened()) {
                    *number += added;
                }
            }
        };
        stream.numbers.par_chunks_exact_mut(width).enumerate().with_min_len(64).for_each(add);
        Ok(())
    }

    fn pick(&self, stream: &Stream, rows: &[usize]) -> Result<Stream, LlamaError> {
        let numbers = rows.iter().flat_map(|row| stream.row(*row)).copied().collect();
        Ok(Stream { numbers, width: stream.width })
    }

    fn rows(&self, product: &Product) -> Result<Vec<f32>, LlamaError> {
        let width = product.outputs(0);
        let mut rows = vec![0.0; product.rows() * width];
        rows.par_chunks_exact_mut(width).enumerate().for_each(|(row, out)| product.copy(0, row, 0, out));
        Ok(rows)
    }
}

/// `ln(sum(e^numbers))`; NaN where a number is NaN or all are infinite.
pub(crate) fn log_sum_exp(numbers: &[f32]) -> f64 {
    simd::run(LogSumExp { numbers })
}

struct LogSumExp<'a> {
    numbers: &'a [f32],
}

impl Job for LogSumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f64 {
        /// Vectors whose sum is still exact enough in f32.
        const SHORT: usize = 64;
        let (whole, rest) = self.numbers.as_chunks::<LANES>();
        let mut peaks = lanes.splat(f32::NEG_INFINITY);
        for numbers in whole {
            peaks = lanes.max(lanes.load(numbers), peaks);
        }
        let mut tops = [0.0; LANES];
        lanes.store(peaks, &mut tops);
        let peak = tops.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        for some in whole.chunks(SHORT) {
            let mut sums = lanes.splat(0.0);
            for numbers in some {
                sums = lanes.add(sums, simd::exp(lanes, lanes.add(lanes.load(numbers), lanes.splat(-peak))));
            }
            total += f64::from(simd::sum(lanes, sums));
        }
        total += rest.iter().map(|number| (f64::from(*number) - f64::from(peak)).exp()).sum::<f64>();
        f64::from(peak) + total.ln()
    }
}

/// `numbers / sqrt(mean(numbers^2) + epsilon) * weight`
struct Norm<'a> {
    numbers: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl Job for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { numbers, weight, epsilon, out } = self;
        let (vectors, rest) = numbers.as_chunks::<LANES>();
        let mut squares = lanes.splat(0.0);
        for vector in vectors {
            let vector = lanes.load(vector);
            squares = lanes.mul_add(vector, vector, squares);
        }
        let rest: f32 = rest.iter().map(|number| number * number).sum();
        let mean = (simd::sum(lanes, squares) + rest) / numbers.len() as f32;
        let scale = 1.0 / (mean + epsilon).sqrt();
        for ((out, number), weight) in out.iter_mut().zip(numbers).zip(weight) {
            *out = number * scale * weight;
        }
    }
}

/// `silu(part 0) * part 1` of one row of a product
struct Gate<'a> {
    product: &'a Product,
    row: usize,
    out: &'a mut [f32],
}

impl Job for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (gates, ups) = (self.product.pieces(0, self.row).flatten(), self.product.pieces(1, self.row).flatten());
        for ((gate, up), out) in gates.zip(ups).zip(self.out.chunks_mut(LANES)) {
            let gated = silu(lanes, gate, up);
            out.copy_from_slice(&gated[..out.len()]);
        }
    }
}

#[inline(always)]
fn silu<L: Lanes>(lanes: L, gate: &Numbers, up: &Numbers) -> Numbers {
    let (gate, up, mut gated) = (lanes.load(gate), lanes.load(up), [0.0; LANES]);
    let power = simd::exp(lanes, lanes.mul(gate, lanes.splat(-1.0)));
    let sigmoid = lanes.div(gate, lanes.add(power, lanes.splat(1.0)));
    lanes.store(lanes.mul(sigmoid, up), &mut gated);
    gated
}
