//! The BERT encoder over candle.
//!
//! Mirrors transformers' `modeling_{bert,roberta,xlm_roberta,camembert,distilbert}.py` without pooler and heads, in f32
//! and in evaluation mode. Own code because candle-transformers' encoders take one layout of names each, do not say
//! which file lacks a tensor, and compute the activations on one thread.
//!
//! Texts are not padded: their tokens lie one after the other in one matrix, and only attention, which alone looks at
//! neighbours, is computed text by text. So there is no mask, and a text's result does not depend on its batch.

use std::ops::Range;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::config::{Activation, EncoderConfig, Family};
use super::kernels::{AddBias, LayerNorm, ScaledSoftmax};
use crate::LlamaError;
use crate::weights::Weights;

/// A loaded encoder.
pub(super) struct Encoder {
    config: EncoderConfig,
    /// `(vocab_size, hidden)`.
    words: Tensor,
    /// `(positions, hidden)`, with the row of token type 0 added: there is never a second sentence.
    positions: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    output_norm: Norm,
}

/// `(rows, inputs) -> (rows, outputs)`; the weight is `(outputs, inputs)`.
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

/// Names of a layer's parts.
struct Names {
    layer: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    attention_output: &'static str,
    attention_norm: &'static str,
    up: &'static str,
    down: &'static str,
    output_norm: &'static str,
}

const BERT: Names = Names {
    layer: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

const DISTILBERT: Names = Names {
    layer: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    output_norm: "output_layer_norm",
};

impl Encoder {
    /// Reads the encoder's tensors and no others.
    pub(super) fn load(config: EncoderConfig, weights: &Weights) -> Result<Self, LlamaError> {
        let source = Source::new(&config, weights);
        let hidden = config.hidden;
        let table =
            |name: &str, rows: usize| source.tensor(&format!("embeddings.{name}_embeddings.weight"), &[rows, hidden]);
        let words = table("word", config.vocab_size)?;
        let mut positions = table("position", config.positions)?;
        if config.family != Family::DistilBert {
            positions = positions.broadcast_add(&table("token_type", config.token_types)?.get(0)?)?;
        }
        let norm = source.norm("embeddings.LayerNorm")?;
        let names = if config.family == Family::DistilBert { &DISTILBERT } else { &BERT };
        let layers = (0..config.layers).map(|layer| Layer::load(&source, names, layer)).collect::<Result<_, _>>()?;
        Ok(Self { words, positions, norm, layers, config })
    }

    /// The last hidden states `(tokens, hidden)` of the texts' tokens, one text after the other. No text is empty or
    /// longer than the configuration's `max_tokens`.
    pub(super) fn hidden_states(&self, texts: &[Vec<u32>]) -> candle_core::Result<Tensor> {
        let ids = Tensor::new(texts.concat(), &Device::Cpu)?;
        let places: Vec<u32> = texts.iter().flat_map(|ids| self.places(ids)).collect();
        let places = Tensor::new(places, &Device::Cpu)?;
        let mut stream = (self.words.index_select(&ids, 0)? + self.positions.index_select(&places, 0)?)?;
        self.norm.apply(&stream)?;
        let ranges = ranges(texts);
        for layer in &self.layers {
            stream = layer.forward(&stream, &ranges, &self.config)?;
        }
        Ok(stream)
    }

    /// Rows of the position table. A padding token that a text spells out stays at RoBERTa's padding position and is
    /// not counted, as `create_position_ids_from_input_ids` has it.
    fn places(&self, ids: &[u32]) -> impl Iterator<Item = u32> {
        let roberta = self.config.family == Family::Roberta;
        let (padding, mut next) = (self.config.padding, self.config.first_position() as u32);
        ids.iter().map(move |id| {
            if roberta && *id == padding {
                return padding;
            }
            next += 1;
            next - 1
        })
    }
}

/// The rows of each text.
pub(super) fn ranges(texts: &[Vec<u32>]) -> Vec<Range<usize>> {
    let mut end = 0;
    let range = |ids: &Vec<u32>| {
        let start = end;
        end += ids.len();
        start..end
    };
    texts.iter().map(range).collect()
}

impl Layer {
    fn load(source: &Source<'_>, names: &Names, layer: usize) -> Result<Self, LlamaError> {
        let (hidden, wide) = (source.config.hidden, source.config.feed_forward);
        let name = |part: &str| format!("{}.{layer}.{part}", names.layer);
        let linear = |part: &str, outputs: usize, inputs: usize| source.linear(&name(part), outputs, inputs);
        Ok(Self {
            query: linear(names.query, hidden, hidden)?,
            key: linear(names.key, hidden, hidden)?,
            value: linear(names.value, hidden, hidden)?,
            attention_output: linear(names.attention_output, hidden, hidden)?,
            attention_norm: source.norm(&name(names.attention_norm))?,
            up: linear(names.up, wide, hidden)?,
            down: linear(names.down, hidden, wide)?,
            output_norm: source.norm(&name(names.output_norm))?,
        })
    }

    fn forward(&self, rows: &Tensor, texts: &[Range<usize>], config: &EncoderConfig) -> candle_core::Result<Tensor> {
        let mixed = self.attention_output.forward(&self.mix(rows, texts, config)?, None)?;
        let attended = (rows + mixed)?;
        self.attention_norm.apply(&attended)?;
        let wide = self.up.forward(&attended, Some(config.activation))?;
        let stream = (self.down.forward(&wide, None)? + attended)?;
        self.output_norm.apply(&stream)?;
        Ok(stream)
    }

    /// Attention without its output map, each text by itself.
    fn mix(&self, rows: &Tensor, texts: &[Range<usize>], config: &EncoderConfig) -> candle_core::Result<Tensor> {
        let [query, key, value] = [&self.query, &self.key, &self.value].map(|linear| linear.forward(rows, None));
        let (query, key, value) = (query?, key?, value?);
        let dim = config.hidden / config.heads;
        let scale = 1.0 / (dim as f32).sqrt();
        let mixed = texts.par_iter().map(|text| {
            let heads = |rows: &Tensor| {
                rows.narrow(0, text.start, text.len())?.reshape((text.len(), config.heads, dim))?.transpose(0, 1)
            };
            let scores = heads(&query)?.matmul(&heads(&key)?.transpose(1, 2)?)?;
            scores.inplace_op1(&ScaledSoftmax { scale })?;
            scores.matmul(&heads(&value)?)?.transpose(0, 1)?.reshape((text.len(), config.hidden))
        });
        Tensor::cat(&mixed.collect::<candle_core::Result<Vec<_>>>()?, 0)
    }
}

impl Linear {
    fn forward(&self, rows: &Tensor, activation: Option<Activation>) -> candle_core::Result<Tensor> {
        let product = rows.matmul(&self.weight.t()?)?;
        product.inplace_op2(&self.bias, &AddBias(activation))?;
        Ok(product)
    }
}

impl Norm {
    /// In place.
    fn apply(&self, rows: &Tensor) -> candle_core::Result<()> {
        rows.inplace_op3(&self.weight, &self.bias, &LayerNorm { eps: self.eps })
    }
}

/// Weights under the names that a checkpoint uses.
struct Source<'a> {
    config: &'a EncoderConfig,
    weights: &'a Weights,
    /// `bert.` when the checkpoint also holds a head, as of `BertForMaskedLM`.
    prefix: &'static str,
}

impl<'a> Source<'a> {
    fn new(config: &'a EncoderConfig, weights: &'a Weights) -> Self {
        let prefix = match config.family {
            Family::Bert => "bert.",
            Family::Roberta => "roberta.",
            Family::DistilBert => "distilbert.",
        };
        let prefixed = weights.names().any(|name| name.starts_with(prefix));
        Self { config, weights, prefix: if prefixed { prefix } else { "" } }
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, LlamaError> {
        self.weights.load(&format!("{}{name}", self.prefix), shape)
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, LlamaError> {
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(Linear { weight, bias: self.tensor(&format!("{name}.bias"), &[outputs])? })
    }

    /// Checkpoints converted from TensorFlow call the numbers gamma and beta.
    fn norm(&self, name: &str) -> Result<Norm, LlamaError> {
        let old = self.weights.dtype(&format!("{}{name}.gamma", self.prefix)).is_some();
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let tensor = |part: &str| self.tensor(&format!("{name}.{part}"), &[self.config.hidden]);
        Ok(Norm { weight: tensor(weight)?, bias: tensor(bias)?, eps: self.config.norm_eps })
    }
}
