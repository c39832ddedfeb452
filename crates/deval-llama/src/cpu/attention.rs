//! Attention of ragged rows over a cache of blocks.
//!
//! A row's scores are kept as they lie in the cache, by absolute position, and every sum goes along them in this order.
//! So an answer depends neither on the rows beside it nor on how its prompt was cut into steps.

use rayon::prelude::*;

use super::cache::Cache;
use super::matrix::{Product, TILE, WIDE_TILE};
use super::pool::{Lent, Pool};
use super::simd::{self, Job, LANES, Lanes, Numbers};
use crate::step::{BLOCK, Heads, Span, Step};

/// Tokens that one task takes.
const TOKENS: usize = 16;

/// Scores of a tile's rows with the positions of a block.
type Scores<const ROWS: usize> = [Numbers; ROWS];

/// What all tasks share.
pub(super) struct Attention<'a> {
    pub(super) cache: &'a Cache,
    pub(super) layer: usize,
    pub(super) heads: Heads,
    /// Queries are its part 0.
    pub(super) product: &'a Product,
    pub(super) step: &'a Step,
}

/// Some tokens of one sequence, and one key head.
struct Task<'a> {
    span: &'a Span,
    head: usize,
    /// The first token's place in the span, and its row in the step.
    first: usize,
    row: usize,
    /// For each token `group` rows of `dim`.
    out: &'a mut [f32],
}

impl Attention<'_> {
    /// Mixed values, for each key head and each row `group * dim` numbers.
    pub(super) fn run(&self, pool: &Pool) -> Lent {
        let (rows, width) = (self.product.rows(), self.heads.group() * self.heads.dim);
        let mut mixed = pool.take(self.heads.keys * rows * width);
        let tasks: Vec<Task<'_>> = mixed
            .chunks_exact_mut(rows * width)
            .enumerate()
            .flat_map(|(head, out)| self.tasks(head, out, width))
            .collect();
        tasks.into_par_iter().for_each(|task| simd::run(Run { shared: self, task }));
        mixed
    }

    fn tasks<'a>(&'a self, head: usize, mut out: &'a mut [f32], width: usize) -> Vec<Task<'a>> {
        let mut tasks = Vec::new();
        for (row, span) in self.step.first_rows() {
            for first in (0..span.len).step_by(TOKENS) {
                let (mine, rest) = out.split_at_mut(TOKENS.min(span.len - first) * width);
                tasks.push(Task { span, head, first, row: row + first, out: mine });
                out = rest;
            }
        }
        tasks
    }

    /// The rotated query of one head of one row, divided by the root of its width.
    fn query(&self, row: usize, head: usize, query: &mut [f32]) {
        let dim = self.heads.dim;
        self.product.copy(0, row, head * dim, query);
        rotate(self.step, row, query);
        let scale = 1.0 / (dim as f32).sqrt();
        query.iter_mut().for_each(|number| *number *= scale);
    }
}

/// Turns a query or a key by the angles of its row: number `i` of the first half with number `i` of the second.
pub(super) fn rotate(step: &Step, row: usize, head: &mut [f32]) {
    let half = head.len() / 2;
    let (cos, sin) = (&step.cos[row * half..][..half], &step.sin[row * half..][..half]);
    let (first, second) = head.split_at_mut(half);
    for ((x, y), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
        (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
    }
}

struct Run<'a> {
    shared: &'a Attention<'a>,
    task: Task<'a>,
}

impl Job for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { shared, task } = self;
        let Heads { dim, .. } = shared.heads;
        let group = shared.heads.group();
        let most = if L::WIDE { WIDE_TILE } else { TILE };
        for (tile, out) in task.out.chunks_mut(most * dim).enumerate() {
            let rows = Rows {
                shared,
                span: task.span,
                head: task.head,
                first: tile * most,
                group,
                task: (task.first, task.row),
            };
            match out.len() / dim {
                1 => rows.attend::<L, 1>(lanes, out),
                2 => rows.attend::<L, 2>(lanes, out),
                3 => rows.attend::<L, 3>(lanes, out),
                4 => rows.attend::<L, 4>(lanes, out),
                5 => rows.attend::<L, 5>(lanes, out),
                6 => rows.attend::<L, 6>(lanes, out),
                7 => rows.attend::<L, 7>(lanes, out),
                _ => rows.attend::<L, WIDE_TILE>(lanes, out),
            }
        }
    }
}

/// Up to [`WIDE_TILE`] rows of a task: token by token, for each token the queries of the key head.
struct Rows<'a> {
    shared: &'a Attention<'a>,
    span: &'a Span,
    head: usize,
    /// First row within the task.
    first: usize,
    group: usize,
    /// The task's first token in the span and in the step.
    task: (usize, usize),
}

impl Rows<'_> {
    #[inline(always)]
    fn attend<L: Lanes, const ROWS: usize>(&self, lanes: L, out: &mut [f32]) {
        let mut limits = [(0, 0); ROWS];
        let queries = self.queries::<ROWS>(&mut limits);
        let first = limits.iter().map(|limit| limit.0).min().unwrap_or(0) / BLOCK;
        let end = limits.iter().map(|limit| limit.1).max().unwrap_or(0);
        let blocks = &self.span.blocks[first..end.div_ceil(BLOCK)];
        let mut scores: Vec<Scores<ROWS>> = vec![[[0.0; LANES]; ROWS]; blocks.len()];
        let keys = |block: u32| self.shared.cache.keys(self.shared.layer, block, self.head);
        for ((block, next), scores) in with_next(blocks).zip(&mut scores) {
            score(lanes, &queries, (keys(block), keys(next)), scores);
        }
        let base = first * BLOCK;
        let mut scales = [0.0; ROWS];
        for (row, scale) in scales.iter_mut().enumerate() {
            *scale = 1.0 / softmax(lanes, &mut scores, row, limits[row].0 - base..limits[row].1 - base);
        }
        let used = end - base;
        let (whole, rest) = scores.split_at(used / BLOCK);
        let chunks = self.shared.heads.dim.div_ceil(LANES);
        for chunk in (0..chunks).step_by(if L::WIDE { 2 } else { 1 }) {
            if L::WIDE && chunk + 1 < chunks {
                self.mix::<L, ROWS, 2>(lanes, (whole, rest, used % BLOCK), blocks, (chunk, &scales), out);
            } else {
                self.mix::<L, ROWS, 1>(lanes, (whole, rest, used % BLOCK), blocks, (chunk, &scales), out);
            }
        }
    }

    /// Queries number by number, and which positions each row sees.
    fn queries<const ROWS: usize>(&self, limits: &mut [(usize, usize); ROWS]) -> Vec<[f32; ROWS]> {
        let (dim, heads) = (self.shared.heads.dim, &self.shared.heads);
        let mut queries = vec![[0.0; ROWS]; dim];
        let mut query = vec![0.0; dim];
        for (row, limit) in limits.iter_mut().enumerate() {
            let (token, member) = ((self.first + row) / self.group, (self.first + row) % self.group);
            self.shared.query(self.task.1 + token, self.head * self.group + member, &mut query);
            for (column, number) in queries.iter_mut().zip(&query) {
                column[row] = *number;
            }
            let position = self.span.start + self.task.0 + token;
            *limit = (heads.first_seen(position), position + 1);
        }
        queries
    }

    /// Mixes `CHUNKS` vectors of the values, from number `chunk` on.
    #[inline(always)]
    fn mix<L: Lanes, const ROWS: usize, const CHUNKS: usize>(
        &self,
        lanes: L,
        (whole, rest, left): (&[Scores<ROWS>], &[Scores<ROWS>], usize),
        blocks: &[u32],
        (chunk, scales): (usize, &[f32; ROWS]),
        out: &mut [f32],
    ) {
        let mut sums = [[lanes.splat(0.0); CHUNKS]; ROWS];
        let values = |block: u32| {
            let values = self.shared.cache.values(self.shared.layer, block, self.head);
            std::array::from_fn::<_, CHUNKS, _>(|at| &values[chunk + at])
        };
        for (scores, (block, next)) in whole.iter().zip(with_next(blocks)) {
            let (values, next) = (values(block), values(next));
            for position in 0..BLOCK {
                next.iter().for_each(|next| lanes.prefetch(&next[position]));
                add_weighted(lanes, scores, &values, position, &mut sums);
            }
        }
        for (scores, block) in rest.iter().zip(&blocks[whole.len()..]) {
            let values = values(*block);
            for position in 0..left {
                add_weighted(lanes, scores, &values, position, &mut sums);
            }
        }
        let dim = self.shared.heads.dim;
        for ((sums, scale), out) in sums.iter().zip(scales).zip(out.chunks_exact_mut(dim)) {
            for (sum, out) in sums.iter().zip(out[chunk * LANES..].chunks_mut(LANES)) {
                let mut numbers = [0.0; LANES];
                lanes.store(lanes.mul(*sum, lanes.splat(*scale)), &mut numbers);
                out.copy_from_slice(&numbers[..out.len()]);
            }
        }
    }
}

/// Each block with the one that follows, whose memory is asked for meanwhile.
fn with_next(blocks: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    let next = blocks.iter().skip(1).chain(blocks.last());
    blocks.iter().copied().zip(next.copied())
}

/// Products of the queries with the keys of a block; the next block's are on their way meanwhile.
#[inline(always)]
fn score<L: Lanes, const ROWS: usize>(
    lanes: L,
    queries: &[[f32; ROWS]],
    (keys, next): (&[Numbers], &[Numbers]),
    scores: &mut Scores<ROWS>,
) {
    let mut sums = [lanes.splat(0.0); ROWS];
    for ((queries, key), next) in queries.iter().zip(keys).zip(next) {
        lanes.prefetch(next);
        let key = lanes.load(key);
        for row in 0..ROWS {
            sums[row] = lanes.mul_add(lanes.splat(queries[row]), key, sums[row]);
        }
    }
    for (scores, sum) in scores.iter_mut().zip(sums) {
        lanes.store(sum, scores);
    }
}

#[inline(always)]
fn add_weighted<L: Lanes, const ROWS: usize, const CHUNKS: usize>(
    lanes: L,
    scores: &Scores<ROWS>,
    values: &[&[Numbers; BLOCK]; CHUNKS],
    position: usize,
    sums: &mut [[L::Vector; CHUNKS]; ROWS],
) {
    let values = values.map(|values| lanes.load(&values[position]));
    for row in 0..ROWS {
        let weight = lanes.splat(scores[row][position]);
        for chunk in 0..CHUNKS {
            sums[row][chunk] = lanes.mul_add(weight, values[chunk], sums[row][chunk]);
        }
    }
}

/// Turns the scores of a row within `seen` into `e^(score - peak)`, the others into 0, and returns their sum.
#[inline(always)]
fn softmax<L: Lanes, const ROWS: usize>(
    lanes: L,
    scores: &mut [Scores<ROWS>],
    row: usize,
    seen: std::ops::Range<usize>,
) -> f32 {
    hide(scores, row, &seen, f32::NEG_INFINITY);
    let mut peaks = lanes.splat(f32::NEG_INFINITY);
    for scores in scores.iter() {
        peaks = lanes.max(lanes.load(&scores[row]), peaks);
    }
    let mut numbers = [0.0; LANES];
    lanes.store(peaks, &mut numbers);
    let peak = lanes.splat(-numbers.into_iter().fold(f32::NEG_INFINITY, f32::max));
    for scores in scores.iter_mut() {
        let weight = simd::exp(lanes, lanes.add(lanes.load(&scores[row]), peak));
        lanes.store(weight, &mut scores[row]);
    }
    hide(scores, row, &seen, 0.0);
    let mut sums = lanes.splat(0.0);
    for scores in scores.iter() {
        sums = lanes.add(sums, lanes.load(&scores[row]));
    }
    simd::sum(lanes, sums)
}

/// Writes `value` over a row's scores outside of `seen`.
#[inline(always)]
fn hide<const ROWS: usize>(scores: &mut [Scores<ROWS>], row: usize, seen: &std::ops::Range<usize>, value: f32) {
    let blocks = scores.len();
    for block in (0..seen.start.div_ceil(BLOCK)).chain(seen.end / BLOCK..blocks) {
        for (place, score) in scores[block][row].iter_mut().enumerate() {
            if !seen.contains(&(block * BLOCK + place)) {
                *score = value;
            }
        }
    }
}
