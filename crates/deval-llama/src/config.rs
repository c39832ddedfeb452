//! `config.json` of a `LlamaForCausalLM`, in the spelling of transformers 4 (`rope_theta`, `rope_scaling`,
//! `torch_dtype`) and of transformers 5 (`rope_parameters`, `dtype`).
//!
//! Whatever would change the numbers and is not implemented is refused; nothing is silently ignored.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::LlamaError;
use crate::files::read_json;
pub use crate::rope::{Rope, RopeScaling};

/// Shape and constants of a LLaMA decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Epsilon of the RMS norms.
    pub rms_norm_eps: f64,
    /// Rotary positions.
    pub rope: Rope,
    /// Longest sequence in tokens.
    pub max_positions: usize,
    /// Whether the embedding is also the output matrix.
    pub tied: bool,
    /// Token ids that end an answer.
    pub eos: Vec<u32>,
}

impl LlamaConfig {
    /// Reads `config.json` of a model directory.
    ///
    /// # Errors
    /// Unreadable file, another architecture, an option that is not implemented, a number that cannot be.
    pub fn load(dir: &Path) -> Result<Self, LlamaError> {
        let path = dir.join("config.json");
        let raw: RawConfig = read_json(&path)?;
        raw.check().map_err(|message| LlamaError::config(&path, message))
    }
}

/// A single token id or a list of them, as `eos_token_id` may be.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum TokenIds {
    One(u32),
    Many(Vec<u32>),
}

impl TokenIds {
    pub(crate) fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

#[derive(Debug, Deserialize)]
struct RawConfig {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    model_type: Option<String>,
    hidden_size: usize,
    intermediate_size: usize,
    vocab_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    eos_token_id: Option<TokenIds>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    quantization_config: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct RawRope {
    rope_type: Option<String>,
    /// The older spelling, which transformers prefers where both stand.
    #[serde(rename = "type")]
    older_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    attention_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    partial_rotary_factor: Option<f64>,
}

/// No model comes near; a larger number is a damaged file.
const LARGEST_DIMENSION: usize = 1 << 24;
pub(crate) const LARGEST_LAYER_COUNT: usize = 4096;

impl RawConfig {
    fn check(self) -> Result<LlamaConfig, String> {
        self.refuse_unsupported()?;
        let heads = dimension("num_attention_heads", self.num_attention_heads)?;
        let hidden_size = dimension("hidden_size", self.hidden_size)?;
        let head_dim = dimension("head_dim", self.head_dim.unwrap_or(hidden_size / heads))?;
        let max_positions = dimension("max_position_embeddings", self.max_position_embeddings.unwrap_or(2048))?;
        let config = LlamaConfig {
            hidden_size,
            intermediate_size: dimension("intermediate_size", self.intermediate_size)?,
            vocab_size: dimension("vocab_size", self.vocab_size)?,
            layers: bounded("num_hidden_layers", self.num_hidden_layers, LARGEST_LAYER_COUNT)?,
            heads,
            kv_heads: dimension("num_key_value_heads", self.num_key_value_heads.unwrap_or(heads))?,
            head_dim,
            rms_norm_eps: positive("rms_norm_eps", self.rms_norm_eps.unwrap_or(1e-6))?,
            max_positions,
            rope: self.rope(max_positions, head_dim)?,
            tied: self.tie_word_embeddings.unwrap_or(false),
            eos: self.eos_token_id.map(TokenIds::into_vec).unwrap_or_default(),
        };
        check_heads(&config)?;
        check_size(&config)?;
        Ok(config)
    }

    fn refuse_unsupported(&self) -> Result<(), String> {
        let llama = match &self.architectures {
            Some(names) => names.iter().any(|name| name == "LlamaForCausalLM"),
            None => self.model_type.as_deref() == Some("llama"),
        };
        if !llama {
            let found = self
                .architectures
                .as_ref()
                .map_or_else(|| format!("model_type {:?}", self.model_type), |names| format!("{names:?}"));
            return Err(format!("architecture {found} is not supported, expected LlamaForCausalLM"));
        }
        if let Some(activation) = self.hidden_act.as_deref().filter(|name| !["silu", "swish"].contains(name)) {
            return Err(format!("hidden_act {activation:?} is not supported, expected \"silu\""));
        }
        let biased = [("attention_bias", self.attention_bias), ("mlp_bias", self.mlp_bias)];
        if let Some((key, _)) = biased.into_iter().find(|(_, value)| *value == Some(true)) {
            return Err(format!("{key} true is not supported, expected false"));
        }
        match &self.quantization_config {
            Some(_) => Err("quantization_config: quantized weights are not supported, expected float weights".into()),
            None => Ok(()),
        }
    }

    fn rope(&self, context: usize, head_dim: usize) -> Result<Rope, String> {
        let parameters = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref());
        let theta = parameters.and_then(|raw| raw.rope_theta).or(self.rope_theta).unwrap_or(10_000.0);
        let scaling = parameters.map_or(Ok(RopeScaling::Default), |raw| raw.scaling(context))?;
        let (newer, scales) = (self.rope_parameters.is_some(), &scaling);
        match scales {
            // transformers 5 computes both otherwise than 4.47, and only its spelling tells which is meant.
            RopeScaling::Dynamic { .. } | RopeScaling::Yarn { .. } if newer => {
                return Err("rope_parameters: this type is computed otherwise by transformers 4.47 and 5, expected rope_scaling".into());
            }
            RopeScaling::Dynamic { .. } if head_dim <= 2 => {
                return Err(format!("rope type \"dynamic\" needs a head_dim over 2, found {head_dim}"));
            }
            RopeScaling::Yarn { .. } if theta == 1.0 => {
                return Err("rope type \"yarn\" needs another rope_theta than 1".into());
            }
            _ => {}
        }
        Ok(Rope { theta: positive("rope_theta", theta)?, scaling })
    }
}

impl RawRope {
    fn scaling(&self, context: usize) -> Result<RopeScaling, String> {
        if let Some(part) = self.partial_rotary_factor.filter(|part| *part != 1.0) {
            return Err(format!("partial_rotary_factor {part} is not supported, expected 1"));
        }
        let name = self.older_type.as_deref().or(self.rope_type.as_deref()).unwrap_or("default");
        match name {
            "default" => Ok(RopeScaling::Default),
            "linear" => Ok(RopeScaling::Linear { factor: self.factor()? }),
            "dynamic" => Ok(RopeScaling::Dynamic { factor: self.factor()?, context }),
            "yarn" => self.yarn(context),
            "llama3" => self.llama3(),
            other => {
                Err(format!("rope type {other:?} is not supported, expected default, linear, dynamic, yarn or llama3"))
            }
        }
    }

    fn yarn(&self, context: usize) -> Result<RopeScaling, String> {
        let factor = self.factor()?;
        // As `value or default` in Python: 0 stands for the default too.
        let given = |value: Option<f64>, default: f64| value.filter(|value| *value != 0.0).unwrap_or(default);
        let attention_factor = self.attention_factor.unwrap_or(0.1 * factor.ln() + 1.0);
        Ok(RopeScaling::Yarn {
            factor,
            attention_factor: positive("attention_factor", attention_factor)?,
            beta_fast: positive("beta_fast", given(self.beta_fast, 32.0))?,
            beta_slow: positive("beta_slow", given(self.beta_slow, 1.0))?,
            context,
        })
    }

    fn llama3(&self) -> Result<RopeScaling, String> {
        let missing = |key: &str| format!("rope type \"llama3\" lacks `{key}`");
        let low = positive("low_freq_factor", self.low_freq_factor.ok_or_else(|| missing("low_freq_factor"))?)?;
        let high = positive("high_freq_factor", self.high_freq_factor.ok_or_else(|| missing("high_freq_factor"))?)?;
        if high <= low {
            return Err(format!("high_freq_factor {high} must be greater than low_freq_factor {low}"));
        }
        let context =
            self.original_max_position_embeddings.ok_or_else(|| missing("original_max_position_embeddings"))?;
        Ok(RopeScaling::Llama3 {
            factor: self.factor()?,
            low_freq_factor: low,
            high_freq_factor: high,
            original_context: dimension("original_max_position_embeddings", context)?,
        })
    }

    fn factor(&self) -> Result<f64, String> {
        let factor = self.factor.ok_or("the rope scaling lacks `factor`")?;
        if factor.is_finite() && factor >= 1.0 {
            Ok(factor)
        } else {
            Err(format!("rope factor {factor} is not at least 1"))
        }
    }
}

pub(crate) fn dimension(key: &str, value: usize) -> Result<usize, String> {
    bounded(key, value, LARGEST_DIMENSION)
}

pub(crate) fn bounded(key: &str, value: usize, largest: usize) -> Result<usize, String> {
    if (1..=largest).contains(&value) { Ok(value) } else { Err(format!("{key} {value} is not in 1..={largest}")) }
}

pub(crate) fn positive(key: &str, value: f64) -> Result<f64, String> {
    let usable = value.is_finite() && value > 0.0 && value <= f64::from(f32::MAX);
    if usable { Ok(value) } else { Err(format!("{key} {value} is not a positive number")) }
}

fn check_heads(config: &LlamaConfig) -> Result<(), String> {
    let LlamaConfig { heads, kv_heads, head_dim, .. } = config;
    if heads % kv_heads != 0 {
        return Err(format!("num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"));
    }
    if head_dim % 2 != 0 {
        return Err(format!("head_dim {head_dim} is odd, rotary positions need an even one"));
    }
    Ok(())
}

/// Every product that the model forms must fit, whatever the file says.
fn check_size(config: &LlamaConfig) -> Result<(), String> {
    let attention = config.heads.checked_mul(config.head_dim).and_then(|width| width.checked_mul(config.hidden_size));
    let feed_forward = config.hidden_size.checked_mul(config.intermediate_size);
    let embedding = config.hidden_size.checked_mul(config.vocab_size);
    let layer = attention.zip(feed_forward).and_then(|(a, f)| a.checked_add(f)).and_then(|sum| sum.checked_mul(12));
    let bytes = layer
        .and_then(|layer| layer.checked_mul(config.layers))
        .zip(embedding.and_then(|embedding| embedding.checked_mul(8)))
        .and_then(|(layers, embeddings)| layers.checked_add(embeddings))
        .filter(|bytes| isize::try_from(*bytes).is_ok());
    bytes.map(|_| ()).ok_or_else(|| "the sizes describe a model larger than memory can address".into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn base() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128, "vocab_size": 300,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": [2, 3]
        })
    }

    fn with(changes: Value) -> Result<LlamaConfig, String> {
        let mut all = base();
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value::<RawConfig>(all).unwrap().check()
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let config = with(json!({})).unwrap();
        assert_eq!((config.head_dim, config.max_positions, config.tied), (16, 2048, false));
        assert_eq!(config.rope, Rope { theta: 10_000.0, scaling: RopeScaling::Default });
        assert_eq!(config.eos, [2, 3]);
        assert_eq!(with(json!({"eos_token_id": 7})).unwrap().eos, [7]);
    }

    #[test]
    fn both_spellings_of_rope_mean_the_same() {
        let numbers = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192
        });
        let classic = with(json!({"rope_theta": 500000.0, "rope_scaling": numbers})).unwrap();
        let mut inline = numbers.clone();
        inline["rope_theta"] = json!(500000.0);
        let modern = with(json!({"rope_parameters": inline})).unwrap();
        assert_eq!(classic, modern);
        assert!(matches!(modern.rope.scaling, RopeScaling::Llama3 { original_context: 8192, .. }));
        let linear = with(json!({"rope_scaling": {"type": "linear", "factor": 2.0}})).unwrap();
        assert_eq!(linear.rope.scaling, RopeScaling::Linear { factor: 2.0 });
    }

    #[test]
    fn rope_scaling_has_the_defaults_of_transformers() {
        let scaling = |numbers: Value| {
            with(json!({"max_position_embeddings": 64, "rope_scaling": numbers})).unwrap().rope.scaling
        };
        // transformers 4.47 writes both names of the type when it saves a model.
        let dynamic = scaling(json!({"type": "dynamic", "rope_type": "dynamic", "factor": 2}));
        assert_eq!(dynamic, RopeScaling::Dynamic { factor: 2.0, context: 64 });
        let yarn = scaling(
            json!({"rope_type": "yarn", "factor": 4.0, "beta_fast": 0, "original_max_position_embeddings": 16}),
        );
        let expected = RopeScaling::Yarn {
            factor: 4.0,
            attention_factor: 0.1 * 4f64.ln() + 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            context: 64,
        };
        assert_eq!(yarn, expected);
    }

    #[test]
    fn what_would_change_the_numbers_is_refused_by_name() {
        let cases = [
            (json!({"architectures": ["MistralForCausalLM"]}), "MistralForCausalLM"),
            (json!({"rope_scaling": {"type": "longrope", "factor": 2.0}}), "longrope"),
            (json!({"rope_scaling": {"type": "yarn"}}), "factor"),
            (json!({"rope_scaling": {"type": "dynamic", "factor": 0.5}}), "at least 1"),
            (json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "head_dim": 2}), "head_dim over 2"),
            (json!({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}), "expected rope_scaling"),
            (json!({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}), "low_freq_factor"),
            (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "partial_rotary_factor"),
            (json!({"hidden_act": "gelu"}), "gelu"),
            (json!({"attention_bias": true}), "attention_bias"),
            (json!({"quantization_config": {"bits": 4}}), "quantization_config"),
            (json!({"num_key_value_heads": 3}), "multiple"),
            (json!({"num_key_value_heads": 0}), "num_key_value_heads"),
            (json!({"head_dim": 15}), "odd"),
            (json!({"num_attention_heads": 0}), "num_attention_heads"),
            (json!({"hidden_size": 1u64 << 60}), "hidden_size"),
            (json!({"rms_norm_eps": 0.0}), "rms_norm_eps"),
            (json!({"rope_theta": -1.0}), "rope_theta"),
            (json!({"num_hidden_layers": 1_000_000}), "num_hidden_layers"),
            (
                json!({"hidden_size": 1 << 24, "intermediate_size": 1 << 24, "num_hidden_layers": 4096}),
                "larger than memory",
            ),
        ];
        for (change, expected) in cases {
            let message = with(change.clone()).unwrap_err();
            assert!(message.contains(expected), "{change}: {message}");
        }
    }
}
