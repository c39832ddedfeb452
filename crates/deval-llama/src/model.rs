//! The LLaMA decoder: the layers, whatever computes them.
//!
//! Mirrors transformers `models/llama/modeling_llama.py`. Own code because candle-transformers' `llama` has neither
//! ragged rows nor the logits of any but the last position, ignores `rope_parameters` and `head_dim`, and panics on a
//! missing tensor.

use std::path::Path;

use rayon::prelude::*;

use crate::LlamaError;
use crate::config::LlamaConfig;
use crate::engine::{DeviceChoice, decoder};
use crate::kernels::Kernels;
use crate::rotary::Rotary;
use crate::step::{BLOCK, Heads, Span, Step};
use crate::weights::Weights;

/// Rows whose logits are held at once; bounds them to `LOGIT_ROWS * vocab_size` numbers.
pub(crate) const LOGIT_ROWS: usize = 64;

/// Rows of a step that go through the layers together where a caller does not bound them itself.
pub(crate) const STEP_ROWS: usize = 512;

/// A decoder with its key/value cache, on some device.
pub(crate) trait Compute: Send + Sync {
    /// Shape and constants.
    fn config(&self) -> &LlamaConfig;

    /// Number of weights, tied ones counted once.
    fn parameters(&self) -> u64;

    /// Blocks of the cache that there is memory for.
    fn blocks(&self) -> usize;

    /// Takes memory for some more blocks.
    fn grow(&mut self) -> Result<(), LlamaError>;

    /// Makes block `to` hold what block `from` holds.
    fn copy_block(&mut self, from: u32, to: u32) -> Result<(), LlamaError>;

    /// Runs a step. `hear` gets the logits of the `wanted` rows: the place of the first of them in `wanted`, and some
    /// rows of `vocab_size` numbers.
    fn run(&mut self, step: &Step, wanted: &[usize], hear: &mut Hear<'_>) -> Result<(), LlamaError>;
}

/// What is told logits.
pub(crate) type Hear<'a> = dyn FnMut(usize, &[f32]) + Send + 'a;

/// A decoder on a device.
pub(crate) struct Decoder<K: Kernels> {
    kernels: K,
    config: LlamaConfig,
    embedding: K::Matrix,
    /// Absent where the embedding is it.
    output: Option<K::Matrix>,
    layers: Vec<Layer<K>>,
    norm: K::Vector,
    cache: K::Cache,
}

struct Layer<K: Kernels> {
    attention_norm: K::Vector,
    /// Queries, keys, values.
    attention: K::Matrix,
    attention_output: K::Matrix,
    feed_forward_norm: K::Vector,
    /// Gate, up.
    feed_forward: K::Matrix,
    down: K::Matrix,
}

impl<K: Kernels> Decoder<K> {
    /// Loads the weights.
    ///
    /// # Errors
    /// A tensor that is absent or has the wrong shape or type.
    pub(crate) fn load(kernels: K, config: LlamaConfig, weights: &Weights) -> Result<Self, LlamaError>
    where
        K: Sync,
    {
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let table = |name: &str| kernels.matrix(weights, hidden, &[(name.to_owned(), vocab)]);
        let embedding = table("model.embed_tokens.weight")?;
        let output = if config.tied { None } else { Some(table("lm_head.weight")?) };
        let layers = (0..config.layers).into_par_iter().map(|layer| Layer::load(&kernels, weights, &config, layer));
        let layers = layers.collect::<Result<_, _>>()?;
        let norm = kernels.vector(weights, "model.norm.weight", hidden)?;
        let cache = kernels.cache(config.layers, heads(&config));
        Ok(Self { kernels, config, embedding, output, layers, norm, cache })
    }

    fn hidden(&mut self, step: &Step) -> Result<K::Stream, LlamaError> {
        let (kernels, epsilon) = (&self.kernels, self.config.rms_norm_eps as f32);
        let plan = kernels.plan(step, &self.cache)?;
        let mut stream = kernels.embed(&self.embedding, &step.tokens)?;
        for (number, layer) in self.layers.iter().enumerate() {
            let rows = kernels.norm(&stream, &layer.attention_norm, epsilon)?;
            let product = kernels.multiply(&rows, &layer.attention)?;
            let mixed = kernels.attend(&product, number, (step, &plan), &mut self.cache)?;
            kernels.add(&mut stream, &kernels.multiply(&mixed, &layer.attention_output)?)?;
            let rows = kernels.norm(&stream, &layer.feed_forward_norm, epsilon)?;
            let gated = kernels.gate(&kernels.multiply(&rows, &layer.feed_forward)?)?;
            kernels.add(&mut stream, &kernels.multiply(&gated, &layer.down)?)?;
        }
        Ok(stream)
    }
}

impl<K: Kernels + Sync> Compute for Decoder<K>
where
    K::Cache: Sync,
{
    fn config(&self) -> &LlamaConfig {
        &self.config
    }

    fn parameters(&self) -> u64 {
        let LlamaConfig { hidden_size, intermediate_size, vocab_size, layers, heads, kv_heads, head_dim, .. } =
            self.config;
        let attention = 2 * (heads + kv_heads) * head_dim * hidden_size;
        let layer = attention + 3 * hidden_size * intermediate_size + 2 * hidden_size;
        let tables = if self.config.tied { 1 } else { 2 } * vocab_size * hidden_size;
        (layers * layer + tables + hidden_size) as u64
    }

    fn blocks(&self) -> usize {
        self.kernels.blocks(&self.cache)
    }

    fn grow(&mut self) -> Result<(), LlamaError> {
        self.kernels.grow(&mut self.cache)
    }

    fn copy_block(&mut self, from: u32, to: u32) -> Result<(), LlamaError> {
        self.kernels.copy_block(&mut self.cache, from, to)
    }

    fn run(&mut self, step: &Step, wanted: &[usize], hear: &mut Hear<'_>) -> Result<(), LlamaError> {
        K::inside(|| {
            let stream = self.hidden(step)?;
            let (kernels, epsilon) = (&self.kernels, self.config.rms_norm_eps as f32);
            let output = self.output.as_ref().unwrap_or(&self.embedding);
            for (number, rows) in wanted.chunks(LOGIT_ROWS).enumerate() {
                let picked = kernels.norm(&kernels.pick(&stream, rows)?, &self.norm, epsilon)?;
                hear(number * LOGIT_ROWS, &kernels.rows(&kernels.multiply(&picked, output)?)?);
            }
            Ok(())
        })
    }
}

/// The shape of attention that a configuration asks for.
pub(crate) fn heads(config: &LlamaConfig) -> Heads {
    Heads { queries: config.heads, keys: config.kv_heads, dim: config.head_dim, window: None }
}

impl<K: Kernels> Layer<K> {
    fn load(kernels: &K, weights: &Weights, config: &LlamaConfig, layer: usize) -> Result<Self, LlamaError> {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let matrix = |inputs: usize, parts: &[(&str, usize)]| {
            let parts: Vec<_> = parts.iter().map(|(part, outputs)| (name(part), *outputs)).collect();
            kernels.matrix(weights, inputs, &parts)
        };
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let vector = |part: &str| kernels.vector(weights, &name(part), hidden);
        Ok(Self {
            attention_norm: vector("input_layernorm")?,
            attention: matrix(
                hidden,
                &[("self_attn.q_proj", queries), ("self_attn.k_proj", keys), ("self_attn.v_proj", keys)],
            )?,
            attention_output: matrix(queries, &[("self_attn.o_proj", hidden)])?,
            feed_forward_norm: vector("post_attention_layernorm")?,
            feed_forward: matrix(hidden, &[("mlp.gate_proj", wide), ("mlp.up_proj", wide)])?,
            down: matrix(wide, &[("mlp.down_proj", hidden)])?,
        })
    }
}

/// A loaded decoder on its own, without tokenizer and scheduling.
pub struct Llama {
    compute: Box<dyn Compute>,
}

impl Llama {
    /// Loads `config.json` and the safetensors of a model directory, on the CPU.
    ///
    /// # Errors
    /// A refused configuration, unreadable weights, a tensor that is absent or has the wrong shape or type.
    pub fn load(dir: &Path) -> Result<Self, LlamaError> {
        Self::load_on(dir, DeviceChoice::Cpu)
    }

    /// The same on a device of choice.
    ///
    /// # Errors
    /// As [`Llama::load`], and a device that is not there.
    pub fn load_on(dir: &Path, device: DeviceChoice) -> Result<Self, LlamaError> {
        Ok(Self { compute: decoder(device, LlamaConfig::load(dir)?, &Weights::open(dir)?)? })
    }

    /// Shape and constants.
    pub fn config(&self) -> &LlamaConfig {
        self.compute.config()
    }

    /// Number of weights, tied ones counted once.
    pub fn parameters(&self) -> u64 {
        self.compute.parameters()
    }

    /// Logits of every one of `tokens`, `vocab_size` numbers each.
    ///
    /// # Errors
    /// No token, an id outside the vocabulary, no memory.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, LlamaError> {
        check_tokens(self.config(), tokens)?;
        while self.compute.blocks() * BLOCK < tokens.len() {
            self.compute.grow()?;
        }
        let blocks: Vec<u32> = (0..tokens.len().div_ceil(BLOCK) as u32).collect();
        let config = self.config().clone();
        let rotary = Rotary::new(config.rope.clone(), config.head_dim);
        let mut logits = Vec::with_capacity(tokens.len());
        for (number, part) in tokens.chunks(STEP_ROWS).enumerate() {
            let mut step = Step::default();
            let span = Span { blocks: blocks.clone(), start: number * STEP_ROWS, len: part.len() };
            step.push(span, part, |_| rotary.frequencies(tokens.len()), rotary.scale());
            let wanted: Vec<usize> = (0..part.len()).collect();
            let mut hear = |_, rows: &[f32]| logits.extend(rows.chunks_exact(config.vocab_size).map(<[f32]>::to_vec));
            self.compute.run(&step, &wanted, &mut hear)?;
        }
        Ok(logits)
    }
}

/// Whether the model can be given these tokens.
pub(crate) fn check_tokens(config: &LlamaConfig, tokens: &[u32]) -> Result<(), LlamaError> {
    if tokens.is_empty() {
        return Err(LlamaError::Empty { what: "token sequence" });
    }
    let vocab = config.vocab_size;
    match tokens.iter().find(|token| **token as usize >= vocab) {
        Some(token) => Err(LlamaError::TokenOutOfVocabulary { token: *token, vocab }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
