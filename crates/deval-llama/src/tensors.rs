//! The decoder's arithmetic in candle's tensor operations: for GPUs, and on the CPU to test it.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::{rms_norm, softmax_last_dim};
use candle_nn::rotary_emb::rope_thd;

use crate::LlamaError;
use crate::kernels::Kernels;
use crate::step::{BLOCK, Heads, Span, Step};
use crate::weights::Weights;

/// Blocks that the cache grows by at least.
const GROWTH: usize = 64;

/// A device of candle's, and the type it computes in.
pub(crate) struct Tensors {
    device: Device,
    dtype: DType,
}

/// Matrices one below the other `(outputs, inputs)`, and the outputs of each.
pub(crate) struct Stacked {
    weights: Tensor,
    parts: Vec<usize>,
}

/// Products with stacked matrices `(rows, outputs)`.
pub(crate) struct Products {
    rows: Tensor,
    parts: Vec<usize>,
}

/// Keys and values of each layer, `(positions of all blocks, key heads, head_dim)`.
pub(crate) struct TensorCache {
    layers: Vec<(Tensor, Tensor)>,
    count: usize,
    blocks: usize,
    heads: Heads,
}

/// What all layers of a step share.
pub(crate) struct TensorPlan {
    cos: Tensor,
    sin: Tensor,
    /// Where each row's key and value go, as wide as they are.
    places: Tensor,
    groups: Vec<Group>,
}

/// Spans of the same length, which are computed together.
struct Group {
    first_row: usize,
    spans: usize,
    len: usize,
    /// Places of the positions that they see, each span padded to `longest`.
    seen: Tensor,
    longest: usize,
    /// 0 where a row sees a position, minus infinity elsewhere: `(spans, 1, len, longest)`.
    mask: Tensor,
}

impl Tensors {
    pub(crate) fn new(device: Device, dtype: DType) -> Self {
        Self { device, dtype }
    }

    fn load(&self, weights: &Weights, name: &str, shape: &[usize]) -> Result<Tensor, LlamaError> {
        Ok(weights.tensor(name, shape, &self.device)?.to_dtype(self.dtype)?)
    }

    fn group(&self, first_row: usize, spans: &[&Span], window: &Heads) -> candle_core::Result<Group> {
        let len = spans.first().map_or(0, |span| span.len);
        let longest = spans.iter().map(|span| span.start + span.len).max().unwrap_or(0);
        let (mut seen, mut mask) = (Vec::new(), Vec::new());
        for span in spans {
            let end = span.start + span.len;
            seen.extend((0..longest).map(|position| place(span, position.min(end - 1))));
            for row in span.start..end {
                let sees = window.first_seen(row)..row + 1;
                mask.extend((0..longest).map(|at| if sees.contains(&at) { 0f32 } else { f32::NEG_INFINITY }));
            }
        }
        let seen = Tensor::new(seen, &self.device)?;
        let mask = Tensor::from_vec(mask, (spans.len(), 1, len, longest), &self.device)?;
        Ok(Group { first_row, spans: spans.len(), len, seen, longest, mask })
    }

    /// Mixed values of the rows of a group `(rows, query heads * dim)`.
    fn mix(&self, query: &Tensor, group: &Group, kv: &(Tensor, Tensor), heads: Heads) -> candle_core::Result<Tensor> {
        let Group { first_row, spans, len, longest, .. } = *group;
        let (keys, own, dim) = (heads.keys, heads.group(), heads.dim);
        let gather = |from: &Tensor| {
            from.index_select(&group.seen, 0)?.reshape((spans, longest, keys, dim))?.transpose(1, 2)?.contiguous()
        };
        let query = query.narrow(0, first_row, spans * len)?.reshape((spans, len, keys, own, dim))?;
        // The queries of one key head lie one below the other, so that no key is copied for grouped heads.
        let query = query.permute((0, 2, 3, 1, 4))?.reshape((spans, keys, own * len, dim))?;
        let query = (query / (dim as f64).sqrt())?;
        let scores = query.matmul(&gather(&kv.0)?.transpose(2, 3)?)?.to_dtype(DType::F32)?;
        let scores = scores.reshape((spans, keys * own, len, longest))?.broadcast_add(&group.mask)?;
        let weights = softmax_last_dim(&scores)?.to_dtype(self.dtype)?.reshape((spans, keys, own * len, longest))?;
        let mixed = weights.matmul(&gather(&kv.1)?)?.reshape((spans, keys * own, len, dim))?;
        mixed.transpose(1, 2)?.reshape((spans * len, keys * own * dim))
    }
}

/// Where the cache keeps a position.
fn place(span: &Span, position: usize) -> u32 {
    let (block, at) = span.place(position);
    block * BLOCK as u32 + at as u32
}

impl Products {
    fn part(&self, number: usize) -> candle_core::Result<Tensor> {
        let start = self.parts[..number].iter().sum();
        self.rows.narrow(1, start, self.parts[number])?.contiguous()
    }
}

impl TensorCache {
    fn grown(&self, blocks: usize, like: &Tensors) -> candle_core::Result<Vec<(Tensor, Tensor)>> {
        let shape = (blocks * BLOCK, self.heads.keys, self.heads.dim);
        let grown = |old: Option<&Tensor>| -> candle_core::Result<Tensor> {
            let new = Tensor::zeros(shape, like.dtype, &like.device)?;
            old.map_or(Ok(()), |old| new.slice_set(old, 0, 0))?;
            Ok::<_, candle_core::Error>(new)
        };
        let old = |layer: usize| self.layers.get(layer);
        (0..self.count)
            .map(|layer| Ok((grown(old(layer).map(|kv| &kv.0))?, grown(old(layer).map(|kv| &kv.1))?)))
            .collect()
    }
}

impl Kernels for Tensors {
    type Matrix = Stacked;
    type Vector = Tensor;
    type Stream = Tensor;
    type Input = Tensor;
    type Output = Products;
    type Cache = TensorCache;
    type Plan = TensorPlan;

    fn matrix(&self, weights: &Weights, inputs: usize, parts: &[(String, usize)]) -> Result<Stacked, LlamaError> {
        let loaded = parts.iter().map(|(name, outputs)| self.load(weights, name, &[*outputs, inputs]));
        let mut loaded = loaded.collect::<Result<Vec<_>, _>>()?;
        let weights = if loaded.len() == 1 { loaded.remove(0) } else { Tensor::cat(&loaded, 0)? };
        Ok(Stacked { weights, parts: parts.iter().map(|(_, outputs)| *outputs).collect() })
    }

    fn vector(&self, weights: &Weights, name: &str, len: usize) -> Result<Tensor, LlamaError> {
        self.load(weights, name, &[len])
    }

    fn cache(&self, layers: usize, heads: Heads) -> TensorCache {
        TensorCache { layers: Vec::new(), count: layers, blocks: 0, heads }
    }

    fn blocks(&self, cache: &TensorCache) -> usize {
        cache.blocks
    }

    fn grow(&self, cache: &mut TensorCache) -> Result<(), LlamaError> {
        let blocks = cache.blocks + GROWTH.max(cache.blocks / 2);
        cache.layers = cache.grown(blocks, self)?;
        cache.blocks = blocks;
        Ok(())
    }

    fn copy_block(&self, cache: &mut TensorCache, from: u32, to: u32) -> Result<(), LlamaError> {
        for tensor in cache.layers.iter().flat_map(|(keys, values)| [keys, values]) {
            let block = tensor.narrow(0, from as usize * BLOCK, BLOCK)?.copy()?;
            tensor.slice_set(&block, 0, to as usize * BLOCK)?;
        }
        Ok(())
    }

    fn plan(&self, step: &Step, cache: &TensorCache) -> Result<TensorPlan, LlamaError> {
        let heads = cache.heads;
        let (rows, half) = (step.tokens.len(), heads.dim / 2);
        let angles = |numbers: &[f32]| Tensor::from_slice(numbers, (rows, half), &self.device)?.to_dtype(self.dtype);
        let positions = |span: &Span| span.start..span.start + span.len;
        let places = step.spans.iter().flat_map(|span| positions(span).map(|position| place(span, position)));
        let places = Tensor::new(places.collect::<Vec<u32>>(), &self.device)?;
        let places = places.reshape((rows, 1, 1))?.broadcast_as((rows, heads.keys, heads.dim))?.contiguous()?;
        let spans: Vec<_> = step.first_rows().collect();
        let groups = spans.chunk_by(|(_, a), (_, b)| a.len == 1 && b.len == 1).map(|group| {
            let spans: Vec<&Span> = group.iter().map(|(_, span)| *span).collect();
            self.group(group[0].0, &spans, &heads)
        });
        let groups = groups.collect::<candle_core::Result<_>>()?;
        Ok(TensorPlan { cos: angles(&step.cos)?, sin: angles(&step.sin)?, places, groups })
    }

    fn embed(&self, table: &Stacked, tokens: &[u32]) -> Result<Tensor, LlamaError> {
        Ok(table.weights.index_select(&Tensor::new(tokens, &self.device)?, 0)?)
    }

    fn norm(&self, stream: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor, LlamaError> {
        Ok(rms_norm(stream, weight, epsilon)?)
    }

    fn multiply(&self, input: &Tensor, matrix: &Stacked) -> Result<Products, LlamaError> {
        Ok(Products { rows: input.matmul(&matrix.weights.t()?)?, parts: matrix.parts.clone() })
    }

    fn attend(
        &self,
        product: &Products,
        layer: usize,
        (_, plan): (&Step, &TensorPlan),
        cache: &mut TensorCache,
    ) -> Result<Tensor, LlamaError> {
        let heads = cache.heads;
        let rows = product.rows.dim(0)?;
        let split = |part: usize, count: usize| product.part(part)?.reshape((1, rows, count, heads.dim));
        let turned = |part: usize, count: usize| rope_thd(&split(part, count)?, &plan.cos, &plan.sin)?.squeeze(0);
        let kv = &cache.layers[layer];
        kv.0.scatter_set(&plan.places, &turned(1, heads.keys)?, 0)?;
        kv.1.scatter_set(&plan.places, &split(2, heads.keys)?.squeeze(0)?, 0)?;
        let query = turned(0, heads.queries)?;
        let mixed = plan.groups.iter().map(|group| self.mix(&query, group, kv, heads));
        Ok(Tensor::cat(&mixed.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    }

    fn gate(&self, product: &Products) -> Result<Tensor, LlamaError> {
        Ok((product.part(0)?.silu()? * product.part(1)?)?)
    }

    fn add(&self, stream: &mut Tensor, product: &Products) -> Result<(), LlamaError> {
        *stream = (&*stream + &product.rows)?;
        Ok(())
    }

    fn pick(&self, stream: &Tensor, rows: &[usize]) -> Result<Tensor, LlamaError> {
        let rows: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        Ok(stream.index_select(&Tensor::new(rows, &self.device)?, 0)?)
    }

    fn rows(&self, product: &Products) -> Result<Vec<f32>, LlamaError> {
        Ok(product.rows.narrow(D::Minus1, 0, product.parts[0])?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}
