//! The LLaMA decoder over candle-nn.
//!
//! Mirrors transformers `models/llama/modeling_llama.py` in f32. Own code because candle-transformers' `llama` gives
//! the logits of the last position only, ignores `rope_parameters` and `head_dim`, and panics on a missing tensor.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::rms_norm;
use candle_nn::rotary_emb::rope_thd;
use rayon::prelude::*;

use crate::LlamaError;
use crate::config::LlamaConfig;
use crate::ops::{CausalSoftmax, RowTimesMatrix, SwiGlu};
use crate::rope;
use crate::weights::Weights;

/// Tokens that go through the layers together; bounds the attention scores to `heads * PREFILL_BLOCK * context`.
const PREFILL_BLOCK: usize = 512;

/// The cache grows in steps of this many positions.
const CACHE_STEP: usize = 256;

/// A loaded decoder.
pub struct Llama {
    config: LlamaConfig,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    output: Linear,
    inverse_frequencies: Vec<f32>,
    parameters: u64,
}

struct Layer {
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    feed_forward_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// A bias-free linear map `(rows, inputs) -> (rows, outputs)`; the weight is `(outputs, inputs)`.
struct Linear(Tensor);

/// Keys and values of the tokens seen so far. Cutting it back to a prefix is free, and computing on from there writes
/// over what was cut off: this is how several continuations share one context.
pub struct KvCache {
    /// For each layer keys and values, `(kv_heads, capacity, head_dim)`; empty before the first token.
    layers: Vec<(Tensor, Tensor)>,
    capacity: usize,
    len: usize,
}

impl KvCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self { layers: Vec::new(), capacity: 0, len: 0 }
    }

    /// Number of tokens held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all but the first `len` tokens; no effect when fewer are held.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn reserve(&mut self, tokens: usize, config: &LlamaConfig) -> candle_core::Result<()> {
        if tokens <= self.capacity && !self.layers.is_empty() {
            return Ok(());
        }
        let capacity = tokens.max(self.capacity * 3 / 2).next_multiple_of(CACHE_STEP);
        let shape = (config.kv_heads, capacity, config.head_dim);
        let grown = |old: Option<&Tensor>| -> candle_core::Result<Tensor> {
            let new = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
            if let Some(old) = old.filter(|_| self.len > 0) {
                new.slice_set(&old.narrow(1, 0, self.len)?.contiguous()?, 1, 0)?;
            }
            Ok(new)
        };
        let old = |layer: usize| self.layers.get(layer);
        let layers: candle_core::Result<Vec<_>> = (0..config.layers)
            .map(|layer| Ok((grown(old(layer).map(|kv| &kv.0))?, grown(old(layer).map(|kv| &kv.1))?)))
            .collect();
        self.layers = layers?;
        self.capacity = capacity;
        Ok(())
    }
}

impl Default for KvCache {
    fn default() -> Self {
        Self::new()
    }
}

impl Linear {
    fn forward(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        if rows.dim(0)? == 1 { rows.apply_op2_no_bwd(&self.0, &RowTimesMatrix) } else { rows.matmul(&self.0.t()?) }
    }
}

/// What all layers of one block of tokens share.
struct Block {
    /// First position.
    start: usize,
    cos: Tensor,
    sin: Tensor,
}

impl Llama {
    /// Loads `config.json` and the safetensors of a model directory.
    ///
    /// # Errors
    /// A refused configuration, unreadable weights, a tensor that is absent or has the wrong shape or type.
    pub fn load(dir: &Path) -> Result<Self, LlamaError> {
        let config = LlamaConfig::load(dir)?;
        Self::from_weights(config, &Weights::open(dir)?)
    }

    /// Builds the decoder from opened weights.
    ///
    /// # Errors
    /// A tensor that is absent or has the wrong shape or type.
    pub fn from_weights(config: LlamaConfig, weights: &Weights) -> Result<Self, LlamaError> {
        let table = [config.vocab_size, config.hidden_size];
        let embedding = weights.load("model.embed_tokens.weight", &table)?;
        let output = if config.tied { embedding.clone() } else { weights.load("lm_head.weight", &table)? };
        let layers: Vec<Layer> = (0..config.layers)
            .into_par_iter()
            .map(|layer| Layer::load(weights, &config, layer))
            .collect::<Result<_, _>>()?;
        let norm = weights.load("model.norm.weight", &[config.hidden_size])?;
        let tables = if config.tied { 1 } else { 2 };
        let parameters =
            tables * embedding.elem_count() + norm.elem_count() + layers.iter().map(Layer::parameters).sum::<usize>();
        let inverse_frequencies = config.rope.inverse_frequencies(config.head_dim);
        let output = Linear(output);
        Ok(Self { embedding, layers, norm, output, inverse_frequencies, parameters: parameters as u64, config })
    }

    /// Shape and constants.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Number of weights, tied ones counted once.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Runs `tokens` after what `cache` holds and returns their final hidden states `(tokens, hidden_size)`,
    /// normalised. The cache then holds `tokens` too.
    ///
    /// # Errors
    /// No token, an id outside the vocabulary, or more tokens than the model has positions
    /// ([`LlamaError::ContextOverflow`], the cache is then unchanged).
    pub fn hidden_states(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor, LlamaError> {
        self.check_tokens(tokens, cache.len)?;
        cache.reserve(cache.len + tokens.len(), &self.config)?;
        let blocks: Result<Vec<Tensor>, LlamaError> =
            tokens.chunks(PREFILL_BLOCK).map(|block| Ok(self.run_block(block, cache)?)).collect();
        Ok(Tensor::cat(&blocks?, 0)?)
    }

    /// Logits `(rows, vocab_size)` of hidden states `(rows, hidden_size)`.
    ///
    /// # Errors
    /// Only those of candle.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, LlamaError> {
        Ok(self.output.forward(hidden)?)
    }

    /// Logits `(tokens, vocab_size)` of every one of `tokens`, run after what `cache` holds.
    ///
    /// # Errors
    /// As [`Llama::hidden_states`].
    pub fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor, LlamaError> {
        self.logits(&self.hidden_states(tokens, cache)?)
    }

    fn check_tokens(&self, tokens: &[u32], before: usize) -> Result<(), LlamaError> {
        if tokens.is_empty() {
            return Err(LlamaError::Empty { what: "token sequence" });
        }
        let vocab = self.config.vocab_size;
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab) {
            return Err(LlamaError::TokenOutOfVocabulary { token: *token, vocab });
        }
        let (total, limit) = (before + tokens.len(), self.config.max_positions);
        if total > limit { Err(LlamaError::ContextOverflow { tokens: total, limit }) } else { Ok(()) }
    }

    fn run_block(&self, tokens: &[u32], cache: &mut KvCache) -> candle_core::Result<Tensor> {
        let block = Block::new(&self.inverse_frequencies, cache.len, tokens.len())?;
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut stream = self.embedding.index_select(&ids, 0)?;
        for (layer, kv) in self.layers.iter().zip(&cache.layers) {
            stream = layer.forward(&stream, &block, kv, &self.config)?;
        }
        cache.len += tokens.len();
        rms_norm(&stream, &self.norm, self.config.rms_norm_eps as f32)
    }
}

impl Block {
    fn new(inverse_frequencies: &[f32], start: usize, len: usize) -> candle_core::Result<Self> {
        let (cos, sin) = rope::angles(inverse_frequencies, start, len, &Device::Cpu)?;
        Ok(Self { start, cos, sin })
    }
}

impl Layer {
    fn load(weights: &Weights, config: &LlamaConfig, layer: usize) -> Result<Self, LlamaError> {
        let tensor = |name: &str, shape: &[usize]| weights.load(&format!("model.layers.{layer}.{name}.weight"), shape);
        let linear = |name: &str, outputs: usize, inputs: usize| tensor(name, &[outputs, inputs]).map(Linear);
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        Ok(Self {
            attention_norm: tensor("input_layernorm", &[hidden])?,
            query: linear("self_attn.q_proj", queries, hidden)?,
            key: linear("self_attn.k_proj", keys, hidden)?,
            value: linear("self_attn.v_proj", keys, hidden)?,
            attention_output: linear("self_attn.o_proj", hidden, queries)?,
            feed_forward_norm: tensor("post_attention_layernorm", &[hidden])?,
            gate: linear("mlp.gate_proj", wide, hidden)?,
            up: linear("mlp.up_proj", wide, hidden)?,
            down: linear("mlp.down_proj", hidden, wide)?,
        })
    }

    fn parameters(&self) -> usize {
        let linears = [&self.query, &self.key, &self.value, &self.attention_output, &self.gate, &self.up, &self.down];
        let norms = self.attention_norm.elem_count() + self.feed_forward_norm.elem_count();
        norms + linears.iter().map(|linear| linear.0.elem_count()).sum::<usize>()
    }

    fn forward(
        &self,
        stream: &Tensor,
        block: &Block,
        kv: &(Tensor, Tensor),
        config: &LlamaConfig,
    ) -> candle_core::Result<Tensor> {
        let eps = config.rms_norm_eps as f32;
        let stream = (stream + self.attend(&rms_norm(stream, &self.attention_norm, eps)?, block, kv, config)?)?;
        let normed = rms_norm(&stream, &self.feed_forward_norm, eps)?;
        let gated = self.gate.forward(&normed)?;
        gated.inplace_op2(&self.up.forward(&normed)?, &SwiGlu)?;
        stream + self.down.forward(&gated)?
    }

    fn attend(
        &self,
        rows: &Tensor,
        block: &Block,
        kv: &(Tensor, Tensor),
        config: &LlamaConfig,
    ) -> candle_core::Result<Tensor> {
        let (len, dim, kv_heads) = (rows.dim(0)?, config.head_dim, config.kv_heads);
        let rotated = |linear: &Linear, heads: usize| {
            let split = linear.forward(rows)?.reshape((1, len, heads, dim))?;
            rope_thd(&split, &block.cos, &block.sin)?.squeeze(0)?.transpose(0, 1)?.contiguous()
        };
        let (keys, values) = kv;
        keys.slice_set(&rotated(&self.key, kv_heads)?, 1, block.start)?;
        let value = self.value.forward(rows)?.reshape((len, kv_heads, dim))?.transpose(0, 1)?.contiguous()?;
        values.slice_set(&value, 1, block.start)?;

        // The queries of one key head lie one under the other, so no key or value is ever copied for grouped heads.
        let seen = block.start + len;
        let query = rotated(&self.query, config.heads)?.reshape((kv_heads, config.heads / kv_heads * len, dim))?;
        let query = (query / (dim as f64).sqrt())?;
        let scores = query.matmul(&keys.narrow(1, 0, seen)?.transpose(1, 2)?)?.reshape((config.heads, len, seen))?;
        scores.inplace_op1(&CausalSoftmax { start: block.start })?;
        let weights = scores.reshape((kv_heads, (), seen))?;
        let mixed = weights.matmul(&values.narrow(1, 0, seen)?)?.reshape((config.heads, len, dim))?;
        self.attention_output.forward(&mixed.transpose(0, 1)?.reshape((len, config.heads * dim))?)
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
