//! `config.json` of a `LlamaForCausalLM`, in the spelling of transformers 4 (`rope_theta`, `rope_scaling`,
//! `torch_dtype`) and of transformers 5 (`rope_parameters`, `dtype`).
//!
//! Whatever would change the numbers and is not implemented is refused; nothing is silently ignored.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use crate::LlamaError;
use crate::keys::{Field, Keys, quote};
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
        Self::of(&Keys::read(&path)?).map_err(|message| LlamaError::config(&path, message))
    }

    fn of(keys: &Keys) -> Result<Self, String> {
        refuse_unsupported(keys)?;
        let number = |key: &str| dimension(key, keys.need(key)?);
        let or = |key: &str, default: usize| dimension(key, keys.get(key)?.unwrap_or(default));
        let (heads, hidden_size) = (number("num_attention_heads")?, number("hidden_size")?);
        let head_dim = or("head_dim", hidden_size / heads)?;
        let max_positions = or("max_position_embeddings", 2048)?;
        let config = Self {
            hidden_size,
            intermediate_size: number("intermediate_size")?,
            vocab_size: number("vocab_size")?,
            layers: bounded("num_hidden_layers", keys.need("num_hidden_layers")?, LARGEST_LAYER_COUNT)?,
            heads,
            kv_heads: or("num_key_value_heads", heads)?,
            head_dim,
            rms_norm_eps: positive("rms_norm_eps", keys.get("rms_norm_eps")?.unwrap_or(1e-6))?,
            max_positions,
            rope: rope(keys, max_positions, head_dim)?,
            tied: keys.get("tie_word_embeddings")?.unwrap_or(false),
            eos: eos(keys)?,
        };
        check_heads(&config)?;
        check_size(&config)?;
        Ok(config)
    }
}

/// End tokens; null is none, and where the key is absent it is `LlamaConfig`'s own.
fn eos(keys: &Keys) -> Result<Vec<u32>, String> {
    let told: Option<TokenIds> = keys.get("eos_token_id")?;
    let usual = || if keys.raw("eos_token_id").is_none() { vec![2] } else { Vec::new() };
    Ok(told.map_or_else(usual, TokenIds::into_vec))
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

impl Field for TokenIds {
    const EXPECTED: &str = "a token number or a list of them";
}

/// No model comes near; a larger number is a damaged file.
const LARGEST_DIMENSION: usize = 1 << 24;
pub(crate) const LARGEST_LAYER_COUNT: usize = 4096;
/// No model's context grew by more.
const LARGEST_FACTOR: f64 = 1e6;

fn refuse_unsupported(keys: &Keys) -> Result<(), String> {
    let architectures: Option<Vec<String>> = keys.get("architectures")?;
    let model_type: Option<String> = keys.get("model_type")?;
    // transformers goes by the type of the model, whatever the architecture is called.
    let llama = model_type.as_deref().map(|name| name == "llama");
    let named = architectures.as_ref().map(|names| names.iter().any(|name| name == "LlamaForCausalLM"));
    if !(llama.or(named).unwrap_or(false) && named.unwrap_or(true)) {
        let found = format!("architectures {architectures:?}, model_type {model_type:?}");
        return Err(format!("{found} is not supported, expected LlamaForCausalLM of model_type llama"));
    }
    let activation: Option<String> = keys.get("hidden_act")?;
    if let Some(activation) = activation.filter(|name| !["silu", "swish"].contains(&name.as_str())) {
        return Err(format!("hidden_act {activation:?} is not supported, expected \"silu\""));
    }
    for key in ["attention_bias", "mlp_bias", "is_encoder_decoder", "add_cross_attention"] {
        if keys.get(key)? == Some(true) {
            return Err(format!("{key} true is not supported, expected false"));
        }
    }
    refuse_partial_rotation(keys)?;
    for key in ["quantization_config", "pruned_heads"] {
        if let Some(found) = keys.raw(key).filter(|value| !value.is_null() && **value != json!({})) {
            return Err(format!("{key} {} is not supported, expected whole float weights", quote(found)));
        }
    }
    Ok(())
}

fn refuse_partial_rotation(keys: &Keys) -> Result<(), String> {
    match keys.get::<f64>("partial_rotary_factor")? {
        Some(part) if part != 1.0 => Err(format!("partial_rotary_factor {part} is not supported, expected 1")),
        _ => Ok(()),
    }
}

fn rope(keys: &Keys, context: usize, head_dim: usize) -> Result<Rope, String> {
    let (newer, older) = (keys.below("rope_parameters")?, keys.below("rope_scaling")?);
    let top: Option<f64> = keys.get("rope_theta")?;
    let of = |theta: Option<f64>, raw: Option<&Keys>| {
        let scaling = raw.map_or(Ok(RopeScaling::Default), |raw| scaling(raw, context))?;
        Ok::<_, String>(Rope { theta: positive("rope_theta", theta.unwrap_or(10_000.0))?, scaling })
    };
    let classic = || {
        let inner = older.as_ref().map_or(Ok(None), |older| older.get::<f64>("rope_theta"))?;
        if inner.is_some() && inner != top {
            return Err(
                "rope_scaling.rope_theta is not read by transformers 4.47, expected rope_theta at the top".into()
            );
        }
        of(top, older.as_ref())
    };
    let rope = match &newer {
        None => classic()?,
        Some(newer) => {
            let modern = of(newer.get("rope_theta")?.or(top), Some(newer))?;
            // transformers 4.47 reads the old keys, 5 the new one.
            if (top.is_some() || older.is_some()) && classic()? != modern {
                return Err(
                    "rope_parameters says something else than rope_theta and rope_scaling, which a validator's \
                            transformers reads; expected the same in both, or rope_parameters removed"
                        .into(),
                );
            }
            modern
        }
    };
    match rope.scaling {
        // transformers 5 computes both otherwise than 4.47, and only its spelling tells which is meant.
        RopeScaling::Dynamic { .. } | RopeScaling::Yarn { .. } if newer.is_some() => {
            Err("rope_parameters: this type is computed otherwise by transformers 4.47 and 5, expected rope_scaling"
                .into())
        }
        RopeScaling::Dynamic { .. } if head_dim <= 2 => {
            Err(format!("rope type \"dynamic\" needs a head_dim over 2, found {head_dim}"))
        }
        RopeScaling::Yarn { .. } if rope.theta == 1.0 => {
            Err("rope type \"yarn\" needs another rope_theta than 1".into())
        }
        _ => Ok(rope),
    }
}

fn scaling(raw: &Keys, context: usize) -> Result<RopeScaling, String> {
    refuse_partial_rotation(raw)?;
    // The older spelling, which transformers prefers where both stand.
    let name: Option<String> = raw.get("type")?;
    let name = name.map_or_else(|| raw.get("rope_type"), |name| Ok(Some(name)))?;
    match name.as_deref().unwrap_or("default") {
        "default" => Ok(RopeScaling::Default),
        "linear" => Ok(RopeScaling::Linear { factor: factor(raw)? }),
        "dynamic" => Ok(RopeScaling::Dynamic { factor: factor(raw)?, context }),
        "yarn" => yarn(raw, context),
        "llama3" => llama3(raw),
        other => {
            Err(format!("rope type {other:?} is not supported, expected default, linear, dynamic, yarn or llama3"))
        }
    }
}

fn yarn(raw: &Keys, context: usize) -> Result<RopeScaling, String> {
    let factor = factor(raw)?;
    // As `value or default` in Python: 0 stands for the default too.
    let given =
        |key: &str, default: f64| positive(key, raw.get(key)?.filter(|value: &f64| *value != 0.0).unwrap_or(default));
    let attention_factor = raw.get("attention_factor")?.unwrap_or(0.1 * factor.ln() + 1.0);
    Ok(RopeScaling::Yarn {
        factor,
        attention_factor: positive("attention_factor", attention_factor)?,
        beta_fast: given("beta_fast", 32.0)?,
        beta_slow: given("beta_slow", 1.0)?,
        context,
    })
}

fn llama3(raw: &Keys) -> Result<RopeScaling, String> {
    let number = |key: &str| positive(key, raw.need(key)?);
    let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
    if high <= low {
        return Err(format!("high_freq_factor {high} must be greater than low_freq_factor {low}"));
    }
    let context = "original_max_position_embeddings";
    Ok(RopeScaling::Llama3 {
        factor: factor(raw)?,
        low_freq_factor: low,
        high_freq_factor: high,
        original_context: dimension(context, raw.need(context)?)?,
    })
}

fn factor(raw: &Keys) -> Result<f64, String> {
    let factor: f64 = raw.need("factor")?;
    if factor.is_finite() && (1.0..=LARGEST_FACTOR).contains(&factor) {
        Ok(factor)
    } else {
        Err(format!("rope factor {factor} is not at least 1 and at most {LARGEST_FACTOR}"))
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
    use serde_json::Value;

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
        LlamaConfig::of(&Keys::from(all))
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let config = with(json!({})).unwrap();
        assert_eq!((config.head_dim, config.max_positions, config.tied), (16, 2048, false));
        assert_eq!(config.rope, Rope { theta: 10_000.0, scaling: RopeScaling::Default });
        assert_eq!(config.eos, [2, 3]);
        assert_eq!(with(json!({"eos_token_id": 7})).unwrap().eos, [7]);
        assert!(with(json!({"eos_token_id": null})).unwrap().eos.is_empty());
        let mut absent = base();
        absent.as_object_mut().unwrap().remove("eos_token_id");
        assert_eq!(LlamaConfig::of(&Keys::from(absent)).unwrap().eos, [2]);
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
        let both = json!({"rope_theta": 500000.0, "rope_scaling": numbers, "rope_parameters": inline});
        assert_eq!(with(both).unwrap(), classic);
        let apart = json!({"rope_theta": 10000.0, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}});
        assert!(with(apart).unwrap_err().to_string().contains("expected the same in both"));
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
