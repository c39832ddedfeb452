//! Sentence embeddings of BERT-type encoders, for the validator's `relevance` reward.
//!
//! Mirrors angle-emb 0.5.1 as upstream's `deval/rewards/relevance.py` uses it: `WhereIsAI/UAE-Large-V1`, first token of
//! the last hidden state, no normalisation, no prompt, at most 512 tokens. Directories in sentence-transformers' layout
//! may ask for mean pooling.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};

use crate::LlamaError;
use crate::files::{read_json, read_json_if_present};
use crate::weights::Weights;

/// Upstream's `max_length`.
const MAX_TOKENS: usize = 512;

/// A loaded sentence encoder.
pub struct Embedder {
    name: String,
    tokenizer_path: PathBuf,
    tokenizer: Tokenizer,
    model: BertModel,
    pooling: Pooling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    FirstToken,
    Mean,
}

impl Embedder {
    /// Loads a directory with `config.json`, safetensors, `tokenizer.json` and, if present, `1_Pooling/config.json`.
    ///
    /// # Errors
    /// Whatever is absent, unreadable or not a BERT encoder with first-token or mean pooling.
    pub fn load(dir: &Path) -> Result<Self, LlamaError> {
        let config = load_config(dir)?;
        let pooling = load_pooling(&dir.join("1_Pooling/config.json"))?;
        let tokenizer_path = dir.join("tokenizer.json");
        let tokenizer = load_tokenizer(&tokenizer_path, config.max_position_embeddings.min(MAX_TOKENS))?;
        let tensors = VarBuilder::from_tensors(float_tensors(dir)?, DType::F32, &Device::Cpu);
        let model = BertModel::load(tensors, &config).map_err(|error| LlamaError::weights(dir, error))?;
        let name = dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { name, tokenizer_path, tokenizer, model, pooling })
    }

    /// Name of the directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The embedding of a text, `hidden_size` numbers, not normalised. The empty text is `[CLS][SEP]`.
    ///
    /// # Errors
    /// The tokenizer or the computation fails, or the weights hold NaN.
    pub fn embed(&self, text: &str) -> Result<Vec<f32>, LlamaError> {
        let failed = |error| LlamaError::tokenizer(&self.tokenizer_path, error);
        let encoding = self.tokenizer.encode(text, true).map_err(failed)?;
        let ids = Tensor::new(encoding.get_ids(), &Device::Cpu)?.unsqueeze(0)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, None)?.squeeze(0)?;
        let pooled = match self.pooling {
            Pooling::FirstToken => hidden.get(0)?,
            Pooling::Mean => hidden.mean(0)?,
        };
        let vector: Vec<f32> = pooled.to_vec1()?;
        if vector.iter().all(|value| value.is_finite()) { Ok(vector) } else { Err(LlamaError::NotANumber) }
    }
}

fn load_config(dir: &Path) -> Result<Config, LlamaError> {
    let path = dir.join("config.json");
    let config: Config = read_json(&path)?;
    if config.model_type.as_deref() != Some("bert") {
        let found = config.model_type.as_deref().unwrap_or("none");
        return Err(LlamaError::config(&path, format!("model_type {found:?} is not supported, expected \"bert\"")));
    }
    let heads = config.num_attention_heads;
    if heads == 0 || !config.hidden_size.is_multiple_of(heads) {
        let message = format!("hidden_size {} is not a multiple of num_attention_heads {heads}", config.hidden_size);
        return Err(LlamaError::config(&path, message));
    }
    Ok(config)
}

fn load_pooling(path: &Path) -> Result<Pooling, LlamaError> {
    #[derive(Deserialize)]
    struct PoolingConfig {
        #[serde(default)]
        pooling_mode_cls_token: bool,
        #[serde(default)]
        pooling_mode_mean_tokens: bool,
    }
    let config: Option<PoolingConfig> = read_json_if_present(path)?;
    match config.map(|config| (config.pooling_mode_cls_token, config.pooling_mode_mean_tokens)) {
        None | Some((true, false)) => Ok(Pooling::FirstToken),
        Some((false, true)) => Ok(Pooling::Mean),
        Some(_) => Err(LlamaError::config(path, "expected exactly one of the pooling modes cls_token and mean_tokens")),
    }
}

fn load_tokenizer(path: &Path, max_length: usize) -> Result<Tokenizer, LlamaError> {
    let failed = |error| LlamaError::tokenizer(path, error);
    let text = std::fs::read(path).map_err(LlamaError::io(path))?;
    let mut tokenizer = Tokenizer::from_bytes(text).map_err(failed)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(Some(TruncationParams { max_length, ..Default::default() })).map_err(failed)?;
    Ok(tokenizer)
}

/// All tensors but integer buffers such as `embeddings.position_ids`.
fn float_tensors(dir: &Path) -> Result<HashMap<String, Tensor>, LlamaError> {
    let weights = Weights::open(dir)?;
    let floats = weights.names().filter(|name| weights.dtype(name).is_some_and(|dtype| dtype.contains('F')));
    floats.map(|name| Ok((name.to_owned(), weights.load_any_shape(name)?))).collect()
}

#[cfg(test)]
mod tests;
