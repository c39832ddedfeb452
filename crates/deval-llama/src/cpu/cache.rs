//! Keys and values of all sequences, in memory that is taken slab by slab.

use rayon::prelude::*;

use super::attention::rotate;
use super::matrix::Product;
use super::simd::{LANES, Numbers};
use crate::step::{BLOCK, Heads, Step};

/// Blocks of a slab.
const SLAB: usize = 64;
/// So few rows are kept sooner by one thread than by several.
const FEW: usize = 8;

/// Vectors of values with the same lanes, position by position.
type Values = [Numbers; BLOCK];

/// For each layer, block and key head: the keys number by number, a vector over the block's positions each, and the
/// values position by position.
pub(crate) struct Cache {
    slabs: Vec<Slab>,
    layers: usize,
    heads: Heads,
}

struct Slab {
    keys: Vec<Numbers>,
    values: Vec<Values>,
}

impl Cache {
    pub(super) fn new(layers: usize, heads: Heads) -> Self {
        Self { slabs: Vec::new(), layers, heads }
    }

    /// The shape of attention.
    pub(super) fn heads(&self) -> Heads {
        self.heads
    }

    /// Blocks that there is memory for.
    pub(super) fn blocks(&self) -> usize {
        self.slabs.len() * SLAB
    }

    /// Takes memory for one more slab; `false` where there is none.
    pub(super) fn grow(&mut self) -> bool {
        let heads = self.layers * SLAB * self.heads.keys;
        let keys = zeroed(heads * self.heads.dim, [0.0; LANES]);
        let values = zeroed(heads * self.chunks(), [[0.0; LANES]; BLOCK]);
        let slab = keys.zip(values).map(|(keys, values)| Slab { keys, values });
        slab.map(|slab| self.slabs.push(slab)).is_some()
    }

    /// Makes block `to` hold what block `from` holds.
    pub(super) fn copy(&mut self, from: u32, to: u32) {
        for layer in 0..self.layers {
            for head in 0..self.heads.keys {
                let keys = self.keys(layer, from, head).to_vec();
                self.keys_mut(layer, to, head).copy_from_slice(&keys);
                let values = self.values(layer, from, head).to_vec();
                self.values_mut(layer, to, head).copy_from_slice(&values);
            }
        }
    }

    /// Keeps the keys, turned by their angles, and the values of a step: parts 1 and 2 of `product`.
    pub(super) fn store(&mut self, layer: usize, step: &Step, product: &Product) {
        let (heads, dim, chunks) = (self.heads.keys, self.heads.dim, self.chunks());
        let mut parts: Vec<Head<'_>> = (0..heads).map(|_| Head { dim, chunks, slabs: Vec::new() }).collect();
        for slab in &mut self.slabs {
            let keys = slab.keys[layer * heads * SLAB * dim..].chunks_exact_mut(SLAB * dim);
            let values = slab.values[layer * heads * SLAB * chunks..].chunks_exact_mut(SLAB * chunks);
            parts.iter_mut().zip(keys.zip(values)).for_each(|(head, slab)| head.slabs.push(slab));
        }
        let least = if product.rows() < FEW { heads } else { 1 };
        let store = |(head, part): (usize, &mut Head<'_>)| part.store(head, step, product);
        parts.par_iter_mut().enumerate().with_min_len(least).for_each(store);
    }

    /// Vectors over a block's positions, one for each number of a head.
    pub(super) fn keys(&self, layer: usize, block: u32, head: usize) -> &[Numbers] {
        let (slab, at, dim) = self.place(layer, block, head, self.heads.dim);
        &self.slabs[slab].keys[at..at + dim]
    }

    /// Numbers of a head, sixteen at a time, for each of the block's positions.
    pub(super) fn values(&self, layer: usize, block: u32, head: usize) -> &[Values] {
        let (slab, at, chunks) = self.place(layer, block, head, self.chunks());
        &self.slabs[slab].values[at..at + chunks]
    }

    fn keys_mut(&mut self, layer: usize, block: u32, head: usize) -> &mut [Numbers] {
        let (slab, at, dim) = self.place(layer, block, head, self.heads.dim);
        &mut self.slabs[slab].keys[at..at + dim]
    }

    fn values_mut(&mut self, layer: usize, block: u32, head: usize) -> &mut [Values] {
        let (slab, at, chunks) = self.place(layer, block, head, self.chunks());
        &mut self.slabs[slab].values[at..at + chunks]
    }

    fn chunks(&self) -> usize {
        self.heads.dim.div_ceil(LANES)
    }

    /// Slab, place and length of a head's `size` vectors. Blocks in a row lie side by side, as they are read.
    fn place(&self, layer: usize, block: u32, head: usize, size: usize) -> (usize, usize, usize) {
        let block = block as usize;
        (block / SLAB, ((layer * self.heads.keys + head) * SLAB + block % SLAB) * size, size)
    }
}

/// What a layer keeps of one key head, slab by slab.
struct Head<'a> {
    dim: usize,
    chunks: usize,
    slabs: Vec<(&'a mut [Numbers], &'a mut [Values])>,
}

impl Head<'_> {
    fn store(&mut self, head: usize, step: &Step, product: &Product) {
        let Self { dim, chunks, slabs } = self;
        let mut numbers = vec![0.0; *dim];
        for (first, span) in step.first_rows() {
            for token in 0..span.len {
                let (row, (block, place)) = (first + token, span.place(span.start + token));
                let (keys, values) = &mut slabs[block as usize / SLAB];
                let block = block as usize % SLAB;
                product.copy(1, row, head * *dim, &mut numbers);
                rotate(step, row, &mut numbers);
                for (key, number) in keys[block * *dim..].iter_mut().zip(&numbers) {
                    key[place] = *number;
                }
                product.copy(2, row, head * *dim, &mut numbers);
                for (values, numbers) in values[block * *chunks..].iter_mut().zip(numbers.chunks(LANES)) {
                    values[place][..numbers.len()].copy_from_slice(numbers);
                }
            }
        }
    }
}

fn zeroed<T: Copy>(count: usize, zero: T) -> Option<Vec<T>> {
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(count).ok()?;
    numbers.resize(count, zero);
    Some(numbers)
}
