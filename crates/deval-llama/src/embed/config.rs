//! `config.json` of a BERT-type encoder.
//!
//! Mirrors transformers' `configuration_{bert,roberta,xlm_roberta,camembert,distilbert}.py`. Whatever would change the
//! numbers and is not implemented is refused.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::LlamaError;
use crate::config::{LARGEST_LAYER_COUNT, bounded, dimension, positive};
use crate::files::read_json;

/// How an encoder names its tensors and counts its positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Bert,
    /// BERT with positions that start after the padding id, and fewer of them.
    Roberta,
    /// BERT without token types, under other names.
    DistilBert,
}

/// Every `model_type` that can be loaded.
const MODEL_TYPES: [(&str, Family); 5] = [
    ("bert", Family::Bert),
    ("roberta", Family::Roberta),
    ("xlm-roberta", Family::Roberta),
    ("camembert", Family::Roberta),
    ("distilbert", Family::DistilBert),
];

/// The non-linearity of the feed-forward layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    Gelu,
    /// GELU through tanh.
    GeluTanh,
    Relu,
}

/// Shape and constants of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EncoderConfig {
    pub(super) family: Family,
    pub(super) vocab_size: usize,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) feed_forward: usize,
    pub(super) activation: Activation,
    /// Rows of the position table.
    pub(super) positions: usize,
    /// Rows of the table of token types; of no meaning for DistilBERT.
    pub(super) token_types: usize,
    pub(super) norm_eps: f64,
    pub(super) padding: u32,
}

impl EncoderConfig {
    /// Reads `config.json` of a model directory.
    pub(super) fn load(dir: &Path) -> Result<Self, LlamaError> {
        let path = dir.join("config.json");
        let refused = |message| LlamaError::config(&path, message);
        let family = read_json::<ModelType>(&path)?.family().map_err(refused)?;
        let raw = match family {
            Family::DistilBert => read_json::<RawDistilBert>(&path)?.into(),
            Family::Bert | Family::Roberta => read_json::<RawEncoder>(&path)?,
        };
        raw.check(family).map_err(refused)
    }

    /// Row of the position table for the first token. RoBERTa counts from the padding id on, fairseq's convention.
    pub(super) fn first_position(&self) -> usize {
        if self.family == Family::Roberta { self.padding as usize + 1 } else { 0 }
    }

    /// Longest sequence in tokens.
    pub(super) fn max_tokens(&self) -> usize {
        self.positions - self.first_position()
    }
}

#[derive(Deserialize)]
struct ModelType {
    model_type: Option<String>,
}

impl ModelType {
    fn family(&self) -> Result<Family, String> {
        let found = self.model_type.as_deref().unwrap_or("none");
        MODEL_TYPES.iter().find(|(name, _)| *name == found).map(|(_, family)| *family).ok_or_else(|| {
            let names = MODEL_TYPES.map(|(name, _)| name).join(", ");
            format!("model_type {found:?} is not supported, expected one of {names}")
        })
    }
}

#[derive(Deserialize)]
struct RawEncoder {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: Option<String>,
    max_position_embeddings: Option<usize>,
    type_vocab_size: Option<usize>,
    layer_norm_eps: Option<f64>,
    pad_token_id: Option<u32>,
    position_embedding_type: Option<String>,
    is_decoder: Option<bool>,
    quantization_config: Option<Value>,
}

#[derive(Deserialize)]
struct RawDistilBert {
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    activation: Option<String>,
    max_position_embeddings: Option<usize>,
    quantization_config: Option<Value>,
}

impl From<RawDistilBert> for RawEncoder {
    fn from(raw: RawDistilBert) -> Self {
        Self {
            vocab_size: raw.vocab_size,
            hidden_size: raw.dim,
            num_hidden_layers: raw.n_layers,
            num_attention_heads: raw.n_heads,
            intermediate_size: raw.hidden_dim,
            hidden_act: raw.activation,
            max_position_embeddings: raw.max_position_embeddings,
            type_vocab_size: None,
            layer_norm_eps: None,
            pad_token_id: None,
            position_embedding_type: None,
            is_decoder: None,
            quantization_config: raw.quantization_config,
        }
    }
}

impl RawEncoder {
    fn check(self, family: Family) -> Result<EncoderConfig, String> {
        self.refuse_unsupported()?;
        let default_padding = u32::from(family == Family::Roberta);
        let config = EncoderConfig {
            family,
            vocab_size: dimension("vocab_size", self.vocab_size)?,
            hidden: dimension("hidden_size", self.hidden_size)?,
            layers: bounded("num_hidden_layers", self.num_hidden_layers, LARGEST_LAYER_COUNT)?,
            heads: dimension("num_attention_heads", self.num_attention_heads)?,
            feed_forward: dimension("intermediate_size", self.intermediate_size)?,
            activation: activation(self.hidden_act.as_deref().unwrap_or("gelu"))?,
            positions: dimension("max_position_embeddings", self.max_position_embeddings.unwrap_or(512))?,
            token_types: dimension("type_vocab_size", self.type_vocab_size.unwrap_or(2))?,
            norm_eps: positive("layer_norm_eps", self.layer_norm_eps.unwrap_or(1e-12))?,
            padding: self.pad_token_id.unwrap_or(default_padding),
        };
        if !config.hidden.is_multiple_of(config.heads) {
            let EncoderConfig { hidden, heads, .. } = config;
            return Err(format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}"));
        }
        if config.positions <= config.first_position() {
            let EncoderConfig { positions, padding, .. } = config;
            return Err(format!("max_position_embeddings {positions} leaves no position after pad_token_id {padding}"));
        }
        Ok(config)
    }

    fn refuse_unsupported(&self) -> Result<(), String> {
        if let Some(kind) = self.position_embedding_type.as_deref().filter(|kind| *kind != "absolute") {
            return Err(format!("position_embedding_type {kind:?} is not supported, expected \"absolute\""));
        }
        if self.is_decoder == Some(true) {
            return Err("is_decoder true is not supported, expected an encoder".into());
        }
        match &self.quantization_config {
            Some(_) => Err("quantization_config: quantized weights are not supported, expected float weights".into()),
            None => Ok(()),
        }
    }
}

fn activation(name: &str) -> Result<Activation, String> {
    match name {
        "gelu" | "gelu_python" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => Err(format!("hidden_act {other:?} is not supported, expected gelu, gelu_new or relu")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(changes: Value) -> Result<EncoderConfig, LlamaError> {
        let mut all = json!({
            "model_type": "bert", "vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 128
        });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), all.to_string()).unwrap();
        EncoderConfig::load(dir.path())
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let bert = with(json!({})).unwrap();
        assert_eq!((bert.max_tokens(), bert.first_position(), bert.token_types), (512, 0, 2));
        assert_eq!((bert.activation, bert.norm_eps), (Activation::Gelu, 1e-12));
        let roberta = with(json!({"model_type": "xlm-roberta", "max_position_embeddings": 514})).unwrap();
        assert_eq!((roberta.max_tokens(), roberta.first_position()), (512, 2));
        let distil = json!({"model_type": "distilbert", "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16});
        assert_eq!(with(distil).unwrap().family, Family::DistilBert);
    }

    #[test]
    fn what_would_change_the_numbers_is_refused_by_name() {
        let cases = [
            (json!({"model_type": "mpnet"}), "expected one of bert, roberta, xlm-roberta, camembert, distilbert"),
            (json!({"model_type": null}), "\"none\""),
            (json!({"position_embedding_type": "relative_key_query"}), "relative_key_query"),
            (json!({"hidden_act": "silu"}), "silu"),
            (json!({"is_decoder": true}), "is_decoder"),
            (json!({"quantization_config": {"bits": 8}}), "quantization_config"),
            (json!({"num_attention_heads": 3}), "multiple"),
            (json!({"num_attention_heads": 0}), "num_attention_heads"),
            (json!({"num_hidden_layers": 1_000_000_000}), "num_hidden_layers"),
            (json!({"hidden_size": u64::MAX}), "hidden_size"),
            (json!({"hidden_size": -64}), "-64"),
            (json!({"max_position_embeddings": 0}), "max_position_embeddings"),
            (json!({"type_vocab_size": 0}), "type_vocab_size"),
            (json!({"layer_norm_eps": -1.0}), "layer_norm_eps"),
            (json!({"model_type": "roberta", "max_position_embeddings": 2}), "no position after pad_token_id 1"),
            (json!({"model_type": "distilbert"}), "dim"),
        ];
        for (change, expected) in cases {
            let message = with(change.clone()).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("config.json"), "{change}: {message}");
        }
    }
}
