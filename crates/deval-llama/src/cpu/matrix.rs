//! Matrix products of activations with weights that stay in the type they have on disk.
//!
//! Each number of a product is one chain of fused multiplications and additions over the inputs, in their order. So a
//! row's product does not depend on the rows beside it, nor on the number of threads.

use half::{bf16, f16};
use rayon::prelude::*;

use super::simd::{self, Job, LANES, Lanes, widen_brain, widen_half};
use crate::weights::WeightType;

/// Vectors side by side in a panel: with [`TILE`] rows they fill the registers.
const VECTORS: usize = 3;
/// Outputs of a panel.
pub(super) const PANEL: usize = VECTORS * LANES;
/// Rows that go through a panel together.
pub(super) const TILE: usize = 8;
/// As many of them fill the registers where those are few.
const PAIR: usize = 2;
/// Rows that one task takes through a panel.
const GROUP: usize = 16 * TILE;
/// Multiplications that are worth a task of their own.
const GRAIN: usize = 1 << 15;
/// Strips that all pairs of rows go through before the next ones, out of the cache and widened only once.
const WIDENED: usize = 64;

/// One input's weights for all outputs of a panel.
type Strip<T> = [[T; LANES]; VECTORS];

/// Where strips are widened.
type Space = [Strip<f32>; WIDENED];

/// Products of one row with a panel.
type Products = Strip<f32>;

/// A weight as it lies in memory.
pub(super) trait Weight: Copy + Send + Sync + 'static {
    const ZERO: Self;
    fn from_bytes(bytes: &[u8]) -> Self;
    fn widen(self) -> f32;
    fn load<L: Lanes>(lanes: L, from: &[Self; LANES]) -> L::Vector;
    /// The same weights in f32; `space` takes them where they are not.
    #[inline(always)]
    fn widened<'a, L: Lanes>(lanes: L, strips: &'a [Strip<Self>], space: &'a mut Space) -> &'a [Strip<f32>] {
        let space = &mut space[..strips.len()];
        for (wide, weights) in space.as_flattened_mut().iter_mut().zip(strips.as_flattened()) {
            lanes.store(Self::load(lanes, weights), wide);
        }
        space
    }
}

impl Weight for f32 {
    const ZERO: Self = 0.0;

    fn from_bytes(bytes: &[u8]) -> Self {
        bytes.first_chunk().map_or(0.0, |bytes| Self::from_le_bytes(*bytes))
    }

    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn load<L: Lanes>(lanes: L, from: &[Self; LANES]) -> L::Vector {
        lanes.load(from)
    }

    #[inline(always)]
    fn widened<'a, L: Lanes>(_: L, strips: &'a [Strip<Self>], _: &'a mut Space) -> &'a [Strip<f32>] {
        strips
    }
}

impl Weight for f16 {
    const ZERO: Self = Self::ZERO;

    fn from_bytes(bytes: &[u8]) -> Self {
        bytes.first_chunk().map_or(Self::ZERO, |bytes| Self::from_le_bytes(*bytes))
    }

    fn widen(self) -> f32 {
        widen_half(self)
    }

    #[inline(always)]
    fn load<L: Lanes>(lanes: L, from: &[Self; LANES]) -> L::Vector {
        lanes.half(from)
    }
}

impl Weight for bf16 {
    const ZERO: Self = Self::ZERO;

    fn from_bytes(bytes: &[u8]) -> Self {
        bytes.first_chunk().map_or(Self::ZERO, |bytes| Self::from_le_bytes(*bytes))
    }

    fn widen(self) -> f32 {
        widen_brain(self)
    }

    #[inline(always)]
    fn load<L: Lanes>(lanes: L, from: &[Self; LANES]) -> L::Vector {
        lanes.brain(from)
    }
}

/// Weights in panels of [`PANEL`] outputs, within a panel input by input.
enum Panels {
    F32(Vec<Strip<f32>>),
    F16(Vec<Strip<f16>>),
    Bf16(Vec<Strip<bf16>>),
}

/// One or more weight matrices `(outputs, inputs)` of the same inputs, as one. Each starts at a panel of its own.
pub(crate) struct Matrix {
    inputs: usize,
    panels: Panels,
    /// First panel and number of outputs of each of the matrices.
    parts: Vec<(usize, usize)>,
}

impl Matrix {
    /// Arranges matrices that lie row by row in `parts`, each `(bytes, outputs)`.
    pub(super) fn pack(kind: WeightType, inputs: usize, parts: &[(&[u8], usize)]) -> Self {
        let panels = match kind {
            WeightType::F32 => Panels::F32(strips(inputs, parts)),
            WeightType::F16 => Panels::F16(strips(inputs, parts)),
            WeightType::Bf16 => Panels::Bf16(strips(inputs, parts)),
        };
        let starts = parts.iter().scan(0, |next, (_, outputs)| {
            let start = *next;
            *next += outputs.div_ceil(PANEL);
            Some((start, *outputs))
        });
        Self { inputs, panels, parts: starts.collect() }
    }

    /// Number of inputs.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// The weights of one output of the first part.
    pub(super) fn row(&self, output: usize, into: &mut [f32]) {
        match &self.panels {
            Panels::F32(strips) => self.copy_row(strips, output, into),
            Panels::F16(strips) => self.copy_row(strips, output, into),
            Panels::Bf16(strips) => self.copy_row(strips, output, into),
        }
    }

    fn copy_row<T: Weight>(&self, strips: &[Strip<T>], output: usize, into: &mut [f32]) {
        let (panel, lane) = (&strips[output / PANEL * self.inputs..], output % PANEL);
        for (number, strip) in into.iter_mut().zip(panel) {
            *number = strip.as_flattened()[lane].widen();
        }
    }

    /// Products of all rows with all outputs.
    pub(super) fn multiply(&self, rows: &Tiles) -> Product {
        let data = match &self.panels {
            Panels::F32(strips) => multiply(rows, strips),
            Panels::F16(strips) => multiply(rows, strips),
            Panels::Bf16(strips) => multiply(rows, strips),
        };
        Product { data, rows: rows.count, parts: self.parts.clone() }
    }
}

fn strips<T: Weight>(inputs: usize, parts: &[(&[u8], usize)]) -> Vec<Strip<T>> {
    let size = size_of::<T>();
    let panels: Vec<(&[u8], usize)> = parts
        .iter()
        .flat_map(|(bytes, outputs)| {
            let panel = move |first: usize| (&bytes[first * inputs * size..], PANEL.min(outputs - first));
            (0..*outputs).step_by(PANEL).map(panel)
        })
        .collect();
    let mut strips = vec![[[T::ZERO; LANES]; VECTORS]; panels.len() * inputs];
    strips.par_chunks_mut(inputs).zip(panels).for_each(|(strips, (bytes, outputs))| {
        for (lane, row) in bytes.chunks_exact(inputs * size).take(outputs).enumerate() {
            for (strip, weight) in strips.iter_mut().zip(row.chunks_exact(size)) {
                strip.as_flattened_mut()[lane] = T::from_bytes(weight);
            }
        }
    });
    strips
}

/// Rows of activations, up to [`TILE`] of them interleaved: within a tile input by input, for each input row by row.
pub(crate) struct Tiles {
    data: Vec<f32>,
    count: usize,
    width: usize,
}

impl Tiles {
    /// `count` rows of `width` numbers, each written by `fill`, which is given its number.
    pub(super) fn build(count: usize, width: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let mut data = vec![0.0; count * width];
        let tile = |(tile, data): (usize, &mut [f32])| {
            let rows = data.len() / width;
            if rows == 1 {
                return fill(tile * TILE, data);
            }
            let mut plain = vec![0.0; data.len()];
            for (row, numbers) in plain.chunks_exact_mut(width).enumerate() {
                fill(tile * TILE + row, numbers);
                for (number, column) in numbers.iter().zip(data.chunks_exact_mut(rows)) {
                    column[row] = *number;
                }
            }
        };
        let tiles = data.par_chunks_mut(TILE * width).enumerate();
        tiles.with_min_len(GRAIN.div_ceil(8 * TILE * width)).for_each(tile);
        Self { data, count, width }
    }
}

/// Products of rows with the parts of a matrix, panel by panel, within a panel row by row.
pub(crate) struct Product {
    data: Vec<Products>,
    rows: usize,
    parts: Vec<(usize, usize)>,
}

impl Product {
    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row of one part.
    pub(super) fn outputs(&self, part: usize) -> usize {
        self.parts[part].1
    }

    /// One row of one part, in pieces of [`PANEL`]; what the last has too much is 0.
    pub(super) fn pieces(&self, part: usize, row: usize) -> impl Iterator<Item = &Products> {
        let (first, outputs) = self.parts[part];
        (first..first + outputs.div_ceil(PANEL)).map(move |panel| &self.data[panel * self.rows + row])
    }

    /// Numbers of one row of one part from column `from` on.
    pub(super) fn copy(&self, part: usize, row: usize, from: usize, into: &mut [f32]) {
        let first = self.parts[part].0;
        let mut done = 0;
        while done < into.len() {
            let (panel, lane) = ((from + done) / PANEL, (from + done) % PANEL);
            let piece = &self.data[(first + panel) * self.rows + row].as_flattened()[lane..];
            let count = piece.len().min(into.len() - done);
            into[done..done + count].copy_from_slice(&piece[..count]);
            done += count;
        }
    }
}

fn multiply<T: Weight>(rows: &Tiles, strips: &[Strip<T>]) -> Vec<Products> {
    let Tiles { data, count, width } = rows;
    let panels = strips.len() / width;
    let mut products = vec![[[0.0; LANES]; VECTORS]; panels * count];
    let empty = || -> Space { [[[0.0; LANES]; VECTORS]; WIDENED] };
    let panel = |space: &mut Space, (number, products): (usize, &mut [Products])| {
        let ahead = &strips[number * width..];
        let strips = &ahead[..*width];
        if *count <= GROUP {
            return simd::run(Through { rows: data, strips, ahead, products, space });
        }
        let groups = products.par_chunks_mut(GROUP).zip(data.par_chunks(GROUP * width));
        let through = |space: &mut Space, (products, rows)| simd::run(Through { rows, strips, ahead, products, space });
        groups.for_each_init(empty, through);
    };
    let tasks = products.par_chunks_mut(*count).enumerate();
    tasks.with_min_len(GRAIN.div_ceil(count * width * PANEL)).for_each_init(empty, panel);
    products
}

/// Rows through one panel.
struct Through<'a, T> {
    rows: &'a [f32],
    strips: &'a [Strip<T>],
    /// The panel and all that follow.
    ahead: &'a [Strip<T>],
    /// Zeros.
    products: &'a mut [Products],
    space: &'a mut Space,
}

impl<T: Weight> Job for Through<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { rows, strips, ahead, products, space } = self;
        if L::WIDE || products.len() <= PAIR {
            return tiles::<L, T, T>(lanes, rows, (strips, 0, strips.len()), products, &[]);
        }
        for (number, some) in strips.chunks(WIDENED).enumerate() {
            let next = &ahead[((number + 1) * WIDENED).min(ahead.len())..];
            let next = next[..WIDENED.min(next.len())].as_flattened();
            let some = T::widened(lanes, some, space);
            tiles(lanes, rows, (some, number * WIDENED, strips.len()), products, next);
        }
    }
}

/// Adds products of rows with some strips of a panel, given with the number of the first and of all; meanwhile the weights that come next
/// are on their way.
#[inline(always)]
fn tiles<L: Lanes, T: Weight, N: Weight>(
    lanes: L,
    rows: &[f32],
    (strips, first, all): (&[Strip<T>], usize, usize),
    products: &mut [Products],
    next: &[[N; LANES]],
) {
    let share = next.len().div_ceil(products.len().div_ceil(TILE)).max(1);
    let mut next = next.chunks(share);
    for (rows, products) in rows.chunks(TILE * all).zip(products.chunks_mut(TILE)) {
        let rows = &rows[first * products.len()..][..strips.len() * products.len()];
        let next = next.next().unwrap_or(&[]);
        match products.len() {
            1 => tile::<L, T, N, 1>(lanes, rows, strips, products, next),
            2 => tile::<L, T, N, 2>(lanes, rows, strips, products, next),
            3 => tile::<L, T, N, 3>(lanes, rows, strips, products, next),
            4 => tile::<L, T, N, 4>(lanes, rows, strips, products, next),
            5 => tile::<L, T, N, 5>(lanes, rows, strips, products, next),
            6 => tile::<L, T, N, 6>(lanes, rows, strips, products, next),
            7 => tile::<L, T, N, 7>(lanes, rows, strips, products, next),
            _ => tile::<L, T, N, TILE>(lanes, rows, strips, products, next),
        }
    }
}

/// As many numbers at once as there are registers for.
#[inline(always)]
fn tile<L: Lanes, T: Weight, N: Weight, const ROWS: usize>(
    lanes: L,
    rows: &[f32],
    strips: &[Strip<T>],
    products: &mut [Products],
    next: &[[N; LANES]],
) {
    let rows = rows.as_chunks::<ROWS>().0;
    if L::WIDE || ROWS <= PAIR {
        return block::<L, T, N, ROWS, 0, TILE>(lanes, rows, strips, products, next);
    }
    let mut next = next.chunks(next.len().div_ceil(ROWS.div_ceil(PAIR)).max(1));
    let mut next = || next.next().unwrap_or(&[]);
    block::<L, T, N, ROWS, 0, PAIR>(lanes, rows, strips, products, next());
    block::<L, T, N, ROWS, 2, PAIR>(lanes, rows, strips, products, next());
    if ROWS > 4 {
        block::<L, T, N, ROWS, 4, PAIR>(lanes, rows, strips, products, next());
    }
    if ROWS > 6 {
        block::<L, T, N, ROWS, 6, PAIR>(lanes, rows, strips, products, next());
    }
}

/// Adds to the products of rows from `FROM` on, at most `COUNT` of them.
#[inline(always)]
fn block<L: Lanes, T: Weight, N: Weight, const ROWS: usize, const FROM: usize, const COUNT: usize>(
    lanes: L,
    rows: &[[f32; ROWS]],
    strips: &[Strip<T>],
    products: &mut [Products],
    next: &[[N; LANES]],
) {
    let count = COUNT.min(ROWS - FROM);
    let mut sums = [[lanes.splat(0.0); VECTORS]; COUNT];
    for row in 0..count {
        for vector in 0..VECTORS {
            sums[row][vector] = lanes.load(&products[FROM + row][vector]);
        }
    }
    for (at, (inputs, weights)) in rows.iter().zip(strips).enumerate() {
        if let Some(next) = next.get(at) {
            lanes.prefetch(next);
        }
        if L::WIDE {
            let weights: [_; VECTORS] = std::array::from_fn(|vector| T::load(lanes, &weights[vector]));
            for row in 0..count {
                let input = lanes.splat(inputs[FROM + row]);
                for vector in 0..VECTORS {
                    sums[row][vector] = lanes.mul_add(input, weights[vector], sums[row][vector]);
                }
            }
        } else {
            // Beside the sums there is room for one vector of weights.
            let inputs: [_; COUNT] = std::array::from_fn(|row| lanes.splat(inputs[FROM + row.min(count - 1)]));
            for vector in 0..VECTORS {
                let weights = T::load(lanes, &weights[vector]);
                for row in 0..count {
                    sums[row][vector] = lanes.mul_add(inputs[row], weights, sums[row][vector]);
                }
            }
        }
    }
    for row in 0..count {
        for vector in 0..VECTORS {
            lanes.store(sums[row][vector], &mut products[FROM + row][vector]);
        }
    }
}
