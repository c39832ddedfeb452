//! Matrix products of activations with weights that stay in the type they have on disk.
//!
//! Each number of a product is one chain of fused multiplications and additions over the inputs, in their order. So a
//! row's product does not depend on the rows beside it, nor on the number of threads.

use std::ops::Range;
use std::slice::Chunks;

use half::{bf16, f16};
use rayon::prelude::*;

use super::pool::{Lent, Pool};
use super::simd::{self, Job, LANES, Lanes, widen_brain, widen_half};
use crate::weights::WeightType;

/// Vectors side by side in a panel: with [`WIDE_TILE`] rows they fill the registers where those are many.
const VECTORS: usize = 3;
/// Outputs of a panel.
pub(super) const PANEL: usize = VECTORS * LANES;
/// Rows that go through a panel together where registers are many.
pub(super) const WIDE_TILE: usize = 8;
/// The same where they are few: it fills them with one vector of a panel at a time.
pub(super) const TILE: usize = 6;
/// As many rows fill few registers with all vectors of a panel.
const PAIR: usize = 2;
/// About as many rows one task takes through a panel.
const GROUP: usize = 128;
/// Multiplications that are worth a task of their own.
const GRAIN: usize = 1 << 15;
/// Strips that all rows go through before the next ones, out of the first cache.
const CHUNK: usize = 96;
/// Bytes that come from memory together.
const LINE: usize = 64;

/// One input's weights for all outputs of a panel.
type Strip<T> = [[T; LANES]; VECTORS];

/// Products of one row with a panel.
type Products = Strip<f32>;

/// A weight as it lies in memory.
trait Weight: Copy + Send + Sync + 'static {
    const ZERO: Self;
    fn from_bytes(bytes: &[u8]) -> Self;
    fn widen(self) -> f32;
    fn load<L: Lanes>(lanes: L, from: &[Self; LANES]) -> L::Vector;
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

impl Panels {
    /// Number of strips.
    fn len(&self) -> usize {
        match self {
            Self::F32(strips) => strips.len(),
            Self::F16(strips) => strips.len(),
            Self::Bf16(strips) => strips.len(),
        }
    }
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
    pub(super) fn multiply(&self, pool: &Pool, rows: &Tiles) -> Product {
        let mut data = pool.take(self.panels.len() / self.inputs * rows.count * PANEL);
        let products = data.as_chunks_mut().0.as_chunks_mut().0;
        match &self.panels {
            Panels::F32(strips) => multiply(rows, strips, products),
            Panels::F16(strips) => multiply(rows, strips, products),
            Panels::Bf16(strips) => multiply(rows, strips, products),
        }
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

/// Rows of activations in tiles of about the same size, interleaved: within a tile input by input, for each input row by row.
pub(crate) struct Tiles {
    data: Lent,
    count: usize,
    width: usize,
}

impl Tiles {
    /// `count` rows of `width` numbers, each written by `fill`, which is given its number.
    pub(super) fn build(pool: &Pool, (count, width): (usize, usize), fill: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let mut data = pool.take(count * width);
        let mut rest = &mut data[..];
        let tiles = tiles(count).map(|rows| (rows.start, rest.split_off_mut(..rows.len() * width).unwrap_or_default()));
        let tiles: Vec<(usize, &mut [f32])> = tiles.collect();
        let tile = |(first, data): (usize, &mut [f32])| {
            let rows = data.len() / width;
            if rows == 1 {
                return fill(first, data);
            }
            let mut plain = vec![0.0; data.len()];
            for (row, numbers) in plain.chunks_exact_mut(width).enumerate() {
                fill(first + row, numbers);
                for (number, column) in numbers.iter().zip(data.chunks_exact_mut(rows)) {
                    column[row] = *number;
                }
            }
        };
        tiles.into_par_iter().with_min_len(GRAIN.div_ceil(16 * TILE * width)).for_each(tile);
        Self { data, count, width }
    }
}

/// Which of `count` rows go through a panel together.
fn tiles(count: usize) -> impl Iterator<Item = Range<usize>> {
    let number = count.div_ceil(if simd::wide() { WIDE_TILE } else { TILE });
    (0..number).map(move |tile| count * tile / number..count * (tile + 1) / number)
}

/// Products of rows with the parts of a matrix, panel by panel, within a panel row by row.
pub(crate) struct Product {
    data: Lent,
    rows: usize,
    parts: Vec<(usize, usize)>,
}

impl Product {
    /// Of one row, those with one panel.
    fn products(&self, panel: usize, row: usize) -> &Products {
        &self.data.as_chunks().0.as_chunks().0[panel * self.rows + row]
    }

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
        (first..first + outputs.div_ceil(PANEL)).map(move |panel| self.products(panel, row))
    }

    /// Numbers of one row of one part from column `from` on.
    pub(super) fn copy(&self, part: usize, row: usize, from: usize, into: &mut [f32]) {
        let first = self.parts[part].0;
        let mut done = 0;
        while done < into.len() {
            let (panel, lane) = ((from + done) / PANEL, (from + done) % PANEL);
            let piece = &self.products(first + panel, row).as_flattened()[lane..];
            let count = piece.len().min(into.len() - done);
            into[done..done + count].copy_from_slice(&piece[..count]);
            done += count;
        }
    }
}

fn multiply<T: Weight>(rows: &Tiles, strips: &[Strip<T>], products: &mut [Products]) {
    let (count, width) = (rows.count, rows.width);
    let tiles: Vec<_> = tiles(count).collect();
    let groups: Vec<_> = tiles.chunk_by(|tile, next| tile.start / GROUP == next.start / GROUP).collect();
    let panel = |(number, mut products): (usize, &mut [Products])| {
        let ahead = &strips[number * width..];
        let through = |(tiles, products)| simd::run(Through { rows, tiles, ahead, products });
        if let [tiles] = groups[..] {
            return through((tiles, products));
        }
        let groups = groups.iter().map(|tiles| {
            let count = tiles.iter().map(ExactSizeIterator::len).sum();
            (*tiles, products.split_off_mut(..count).unwrap_or_default())
        });
        groups.collect::<Vec<_>>().into_par_iter().for_each(through);
    };
    let tasks = products.par_chunks_mut(count).enumerate();
    tasks.with_min_len(GRAIN.div_ceil(count * width * PANEL)).for_each(panel);
}

/// Some tiles of rows through one panel.
struct Through<'a, T> {
    rows: &'a Tiles,
    tiles: &'a [Range<usize>],
    /// The panel and all that follow.
    ahead: &'a [Strip<T>],
    /// Are written.
    products: &'a mut [Products],
}

impl<T: Weight> Job for Through<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { rows: Tiles { data, width, .. }, tiles, ahead, products } = self;
        let width = *width;
        products.fill([[0.0; LANES]; VECTORS]);
        let blocks: usize = tiles.iter().map(|tile| blocks::<L>(tile.len())).sum();
        for first in (0..width).step_by(CHUNK) {
            let strips = &ahead[first..width.min(first + CHUNK)];
            let next = &ahead[ahead.len().min(first + CHUNK)..];
            let next = next[..next.len().min(CHUNK)].as_flattened();
            let mut next = next.chunks(next.len().div_ceil(blocks).max(1));
            let mut products = &mut *products;
            for tile in tiles {
                let (rows, first) = (&data[tile.start * width..tile.end * width], first * tile.len());
                let rows = &rows[first..first + strips.len() * tile.len()];
                let products = products.split_off_mut(..tile.len()).unwrap_or_default();
                match tile.len() {
                    1 => self::tile::<L, T, 1>(lanes, rows, strips, products, &mut next),
                    2 => self::tile::<L, T, 2>(lanes, rows, strips, products, &mut next),
                    3 => self::tile::<L, T, 3>(lanes, rows, strips, products, &mut next),
                    4 => self::tile::<L, T, 4>(lanes, rows, strips, products, &mut next),
                    5 => self::tile::<L, T, 5>(lanes, rows, strips, products, &mut next),
                    6 => self::tile::<L, T, 6>(lanes, rows, strips, products, &mut next),
                    7 => self::tile::<L, T, 7>(lanes, rows, strips, products, &mut next),
                    _ => self::tile::<L, T, WIDE_TILE>(lanes, rows, strips, products, &mut next),
                }
            }
        }
    }
}

/// In how many blocks a tile of so many rows is computed.
fn blocks<L: Lanes>(rows: usize) -> usize {
    match rows {
        _ if L::WIDE => 1,
        ..=4 => rows.div_ceil(PAIR),
        _ => VECTORS,
    }
}

/// Adds products of a tile's rows with some strips of a panel, as many at once as there are registers for; meanwhile the weights that come
/// next are on their way.
#[inline(always)]
fn tile<L: Lanes, T: Weight, const ROWS: usize>(
    lanes: L,
    rows: &[f32],
    strips: &[Strip<T>],
    products: &mut [Products],
    next: &mut Chunks<'_, [T; LANES]>,
) {
    let rows = rows.as_chunks::<ROWS>().0;
    let mut next = || next.next().unwrap_or_default();
    if L::WIDE {
        block::<L, T, ROWS, ROWS, VECTORS>(lanes, (rows, 0), (strips, 0), products, next());
    } else if ROWS > 4 {
        for vector in 0..VECTORS {
            block::<L, T, ROWS, ROWS, 1>(lanes, (rows, 0), (strips, vector), products, next());
        }
    } else {
        for row in (1..ROWS).step_by(PAIR) {
            block::<L, T, ROWS, PAIR, VECTORS>(lanes, (rows, row - 1), (strips, 0), products, next());
        }
        if ROWS % PAIR == 1 {
            block::<L, T, ROWS, 1, VECTORS>(lanes, (rows, ROWS - 1), (strips, 0), products, next());
        }
    }
}

/// Adds to the products of `COUNT` rows with `SOME` vectors of a panel, given with the first of each.
#[inline(always)]
fn block<L: Lanes, T: Weight, const ROWS: usize, const COUNT: usize, const SOME: usize>(
    lanes: L,
    (rows, row): (&[[f32; ROWS]], usize),
    (strips, vector): (&[Strip<T>], usize),
    products: &mut [Products],
    next: &[[T; LANES]],
) {
    let products = &mut products[row..row + COUNT];
    let mut sums = [[lanes.splat(0.0); SOME]; COUNT];
    for (sums, products) in sums.iter_mut().zip(&*products) {
        for at in 0..SOME {
            sums[at] = lanes.load(&products[vector + at]);
        }
    }
    let mut next = next.iter().step_by(LINE.div_ceil(size_of::<[T; LANES]>()));
    for (inputs, weights) in rows.iter().zip(strips) {
        if let Some(next) = next.next() {
            lanes.prefetch(next);
        }
        let input = |at: usize| lanes.splat(inputs[row + at]);
        if COUNT == PAIR {
            // Beside the sums there is room for one vector of weights.
            let inputs: [_; COUNT] = std::array::from_fn(input);
            for at in 0..SOME {
                let weights = T::load(lanes, &weights[vector + at]);
                for row in 0..COUNT {
                    sums[row][at] = lanes.mul_add(inputs[row], weights, sums[row][at]);
                }
            }
        } else {
            let weights: [_; SOME] = std::array::from_fn(|at| T::load(lanes, &weights[vector + at]));
            for (row, sums) in sums.iter_mut().enumerate() {
                let input = input(row);
                for at in 0..SOME {
                    sums[at] = lanes.mul_add(input, weights[at], sums[at]);
                }
            }
        }
    }
    for (sums, products) in sums.iter().zip(products) {
        for at in 0..SOME {
            lanes.store(sums[at], &mut products[vector + at]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::simd::Portable;
    use super::*;

    /// More than a chunk, and no multiple of one.
    const WIDTH: usize = CHUNK + 37;

    /// Products of `count` rows, as one tile, with a panel of f16 weights.
    fn products<L: Lanes>(lanes: L, count: usize) -> Vec<Products> {
        let mut data = Pool::default().take(count * WIDTH);
        (0_u16..).zip(data.iter_mut()).for_each(|(at, number)| *number = (f32::from(at) * 0.37).sin());
        let rows = Tiles { data, count, width: WIDTH };
        let weight = |input: usize, output: usize| f16::from_f32(((input * PANEL + output) as f32 * 0.11).cos());
        let strip =
            |input| std::array::from_fn(|vector| std::array::from_fn(|lane| weight(input, vector * LANES + lane)));
        let strips: Vec<Strip<f16>> = (0..WIDTH).map(strip).collect();
        // What was there before is of no account.
        let mut products = vec![[[f32::NAN; LANES]; VECTORS]; count];
        let tile = 0..count;
        let tiles = std::slice::from_ref(&tile);
        Through { rows: &rows, tiles, ahead: &strips, products: &mut products }.run(lanes);
        for (row, products) in products.iter().enumerate() {
            for (output, product) in products.as_flattened().iter().enumerate() {
                let term = |input: usize| f64::from(rows.data[input * count + row]) * weight(input, output).to_f64();
                let expected: f64 = (0..WIDTH).map(term).sum();
                assert!((f64::from(*product) - expected).abs() < 1e-4, "row {row} of {count}, output {output}");
            }
        }
        products
    }

    #[test]
    fn a_tile_of_any_size_gives_the_same_with_few_registers_and_with_many() {
        for count in 1..=WIDE_TILE {
            let many = products(Portable::<true>, count);
            if count <= TILE {
                assert_eq!(products(Portable::<false>, count), many, "{count} rows");
            }
        }
    }

    #[test]
    fn tiles_are_whole_and_hold_as_many_rows_as_there_are_registers_for() {
        let most = if simd::wide() { WIDE_TILE } else { TILE };
        for count in 0..200 {
            let tiles: Vec<_> = tiles(count).collect();
            assert!(tiles.iter().all(|tile| (1..=most).contains(&tile.len())), "{count}");
            assert!(tiles.iter().cloned().flatten().eq(0..count), "{count}");
        }
    }
}
