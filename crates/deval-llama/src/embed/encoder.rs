//! The encoders of candle-transformers, and the tensors of a checkpoint under the names that they read.
//!
//! Everything but RoBERTa runs as `bert::BertModel`. DistilBERT too, which is BERT without token types: of
//! `distilbert::DistilBertModel` the GELU is always the one through tanh, while DistilBERT's is exact.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{self, BertModel};
use candle_transformers::models::xlm_roberta::{self, XLMRobertaModel};

use super::config::{Activation, EncoderConfig, Family};
use crate::LlamaError;
use crate::weights::Weights;

/// A loaded encoder.
pub(super) enum Encoder {
    Bert(BertModel),
    /// Its positions start after the padding id, and a padding token that a text spells out has the padding's.
    Roberta(XLMRobertaModel),
}

impl Encoder {
    /// Reads the encoder's tensors and no others, each checked against the configuration.
    pub(super) fn load(config: &EncoderConfig, weights: &Weights) -> Result<Self, LlamaError> {
        let tensors = Checkpoint::new(config, weights).tensors()?;
        let tensors = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        Ok(match config.family {
            Family::Bert | Family::DistilBert => Self::Bert(BertModel::load(tensors, &bert_config(config))?),
            Family::Roberta => Self::Roberta(XLMRobertaModel::new(&roberta_config(config), tensors)?),
        })
    }

    /// The last hidden states `(texts, longest, hidden)`. What stands behind the end of a shorter text is of no
    /// meaning. No text is empty or longer than the configuration's `max_tokens`.
    pub(super) fn hidden_states(&self, texts: &[&[u32]]) -> candle_core::Result<Tensor> {
        let longest = texts.iter().map(|ids| ids.len()).max().unwrap_or_default();
        let padded = |number: fn(u32) -> u32| {
            let row = |ids: &&[u32]| {
                let mut row: Vec<u32> = ids.iter().map(|id| number(*id)).collect();
                row.resize(longest, 0);
                row
            };
            Tensor::from_vec(texts.iter().flat_map(row).collect(), (texts.len(), longest), &Device::Cpu)
        };
        // The padding is masked, so any id will do; 0 is one in every vocabulary.
        let (ids, mask) = (padded(|id| id)?, padded(|_| 1)?);
        let kinds = ids.zeros_like()?;
        match self {
            Self::Bert(model) => model.forward(&ids, &kinds, Some(&mask)),
            Self::Roberta(model) => model.forward(&ids, &mask, &kinds, None, None, None),
        }
    }
}

fn bert_config(config: &EncoderConfig) -> bert::Config {
    bert::Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads,
        intermediate_size: config.feed_forward,
        hidden_act: match config.activation {
            Activation::Gelu => bert::HiddenAct::Gelu,
            Activation::GeluTanh => bert::HiddenAct::GeluApproximate,
            Activation::Relu => bert::HiddenAct::Relu,
        },
        max_position_embeddings: config.positions,
        type_vocab_size: config.token_types,
        layer_norm_eps: config.norm_eps,
        ..bert::Config::default()
    }
}

fn roberta_config(config: &EncoderConfig) -> xlm_roberta::Config {
    xlm_roberta::Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads,
        intermediate_size: config.feed_forward,
        hidden_act: match config.activation {
            Activation::Gelu => candle_nn::Activation::Gelu,
            Activation::GeluTanh => candle_nn::Activation::NewGelu,
            Activation::Relu => candle_nn::Activation::Relu,
        },
        max_position_embeddings: config.positions,
        type_vocab_size: config.token_types,
        layer_norm_eps: config.norm_eps,
        pad_token_id: config.padding,
        position_embedding_type: "absolute".into(),
        attention_probs_dropout_prob: 0.0,
        hidden_dropout_prob: 0.0,
    }
}

/// Weights under the names that a checkpoint uses.
struct Checkpoint<'a> {
    config: &'a EncoderConfig,
    weights: &'a Weights,
    /// `bert.` when the checkpoint also holds a head, as of `BertForMaskedLM`.
    prefix: &'static str,
}

impl<'a> Checkpoint<'a> {
    fn new(config: &'a EncoderConfig, weights: &'a Weights) -> Self {
        let prefix = match config.family {
            Family::Bert => "bert.",
            Family::Roberta => "roberta.",
            Family::DistilBert => "distilbert.",
        };
        let prefixed = weights.names().any(|name| name.starts_with(prefix));
        Self { config, weights, prefix: if prefixed { prefix } else { "" } }
    }

    /// All tensors of the encoder under BERT's names.
    fn tensors(&self) -> Result<HashMap<String, Tensor>, LlamaError> {
        let EncoderConfig { hidden, layers, .. } = *self.config;
        let distilbert = self.config.family == Family::DistilBert;
        let mut tensors = self.tables()?;
        self.add_part(&mut tensors, "embeddings.LayerNorm", "embeddings.LayerNorm", &[hidden])?;
        let parts = layer_parts(self.config);
        for layer in 0..layers {
            for (part, distilbert_part, shape) in &parts {
                let name = format!("encoder.layer.{layer}.{part}");
                let stored =
                    if distilbert { format!("transformer.layer.{layer}.{distilbert_part}") } else { name.clone() };
                self.add_part(&mut tensors, &name, &stored, shape)?;
            }
        }
        Ok(tensors)
    }

    fn tables(&self) -> Result<HashMap<String, Tensor>, LlamaError> {
        let EncoderConfig { family, hidden, vocab_size, positions, token_types, .. } = *self.config;
        let rows = [("word", vocab_size), ("position", positions), ("token_type", token_types)];
        let table = |(table, rows): (&str, usize)| {
            let name = format!("embeddings.{table}_embeddings.weight");
            let tensor = if family == Family::DistilBert && table == "token_type" {
                Tensor::zeros((rows, hidden), DType::F32, &Device::Cpu)?
            } else {
                self.load(&name, &[rows, hidden])?
            };
            Ok((name, tensor))
        };
        rows.into_iter().map(table).collect()
    }

    /// Weight and bias of a linear map or a norm, `name` in BERT and `stored` here. Checkpoints converted from
    /// TensorFlow call a norm's gamma and beta.
    fn add_part(
        &self,
        tensors: &mut HashMap<String, Tensor>,
        name: &str,
        stored: &str,
        shape: &[usize],
    ) -> Result<(), LlamaError> {
        let old = self.weights.dtype(&format!("{}{stored}.gamma", self.prefix)).is_some();
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        tensors.insert(format!("{name}.weight"), self.load(&format!("{stored}.{weight}"), shape)?);
        tensors.insert(format!("{name}.bias"), self.load(&format!("{stored}.{bias}"), &shape[..1])?);
        Ok(())
    }

    fn load(&self, name: &str, shape: &[usize]) -> Result<Tensor, LlamaError> {
        self.weights.load(&format!("{}{name}", self.prefix), shape)
    }
}

/// What a layer consists of: BERT's name, DistilBERT's name and the shape of the weight.
fn layer_parts(config: &EncoderConfig) -> [(&'static str, &'static str, Vec<usize>); 8] {
    let (hidden, wide) = (config.hidden, config.feed_forward);
    [
        ("attention.self.query", "attention.q_lin", vec![hidden, hidden]),
        ("attention.self.key", "attention.k_lin", vec![hidden, hidden]),
        ("attention.self.value", "attention.v_lin", vec![hidden, hidden]),
        ("attention.output.dense", "attention.out_lin", vec![hidden, hidden]),
        ("attention.output.LayerNorm", "sa_layer_norm", vec![hidden]),
        ("intermediate.dense", "ffn.lin1", vec![wide, hidden]),
        ("output.dense", "ffn.lin2", vec![hidden, wide]),
        ("output.LayerNorm", "output_layer_norm", vec![hidden]),
    ]
}
