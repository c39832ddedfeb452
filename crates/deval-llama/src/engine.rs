//! One model directory, ready to answer.
//!
//! What a call returns depends only on its arguments: every call starts with an empty cache, and only the continuations
//! of one call share the computation of their common prefix.

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::LlamaError;
use crate::chat::{ChatTemplate, Message};
use crate::config::{LlamaConfig, TokenIds};
use crate::files::read_json_if_present;
use crate::model::{KvCache, Llama};
use crate::sampling::{Sampler, Sampling};
use crate::tokenizer::{Encoded, TextCodec};
use crate::weights::Weights;

/// Rows whose logits are held at once; bounds them to `LOGIT_ROWS * vocab_size` numbers.
const LOGIT_ROWS: usize = 64;

/// A loaded model with its tokenizer and chat template.
pub struct Engine {
    dir: PathBuf,
    model: Llama,
    codec: TextCodec,
    template: Option<ChatTemplate>,
    stop_tokens: Vec<u32>,
    info: ModelInfo,
}

/// What a model directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Name of the directory.
    pub name: String,
    /// `LlamaForCausalLM`.
    pub architecture: String,
    /// Weights, tied ones counted once.
    pub parameters: u64,
    /// Type of the weights on disk as safetensors spells it (`F16`); compute is f32.
    pub dtype: String,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Longest sequence in tokens.
    pub context: usize,
}

/// How an answer is generated.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Upper limit of new tokens.
    pub max_new_tokens: usize,
    /// How each is chosen.
    pub sampling: Sampling,
    /// Tokens that end the answer beside the model's own, by name (`<|eot_id|>`); unknown names are ignored.
    pub extra_stop_tokens: Vec<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model chose an end token.
    EndToken,
    /// `max_new_tokens` was reached.
    MaxNewTokens,
    /// The model has no more positions.
    ContextFull,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The new tokens as text, special tokens left out. The prompt is not in it.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// New tokens, the end token not counted.
    pub new_tokens: usize,
    /// Why it ended.
    pub stop: StopReason,
    /// Wall time until the logits of the first new token.
    pub prefill_seconds: f64,
    /// Wall time of the rest.
    pub decode_seconds: f64,
}

/// How probable a model finds a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihood {
    /// Natural log-probability of each token given all before it.
    pub tokens: Vec<f64>,
}

impl Likelihood {
    /// Log-probability of the whole text.
    pub fn sum(&self) -> f64 {
        self.tokens.iter().sum()
    }

    /// Mean log-probability of a token.
    pub fn mean(&self) -> f64 {
        self.sum() / self.tokens.len() as f64
    }
}

/// A text of which the tokens from `split` on are to be scored.
struct Scored {
    ids: Vec<u32>,
    split: usize,
}

impl Engine {
    /// Loads a Hugging Face model directory: `config.json`, safetensors, `tokenizer.json`, and if present
    /// `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json`.
    ///
    /// # Errors
    /// Whatever is absent, unreadable or not supported, by name.
    pub fn load(dir: &Path) -> Result<Self, LlamaError> {
        let codec = TextCodec::load(dir)?;
        let template = ChatTemplate::load(dir)?;
        let weights = Weights::open(dir)?;
        let model = Llama::from_weights(LlamaConfig::load(dir)?, &weights)?;
        let stop_tokens = stop_tokens(dir, &model)?;
        let info = model_info(dir, &model, &weights);
        Ok(Self { dir: dir.to_owned(), model, codec, template, stop_tokens, info })
    }

    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The conversation as the model expects it, up to where its answer starts.
    ///
    /// # Errors
    /// No chat template, or one that fails.
    pub fn chat_prompt(&self, system: Option<&str>, user: &str) -> Result<String, LlamaError> {
        let template = self.template.as_ref().ok_or_else(|| LlamaError::NoTemplate { path: self.dir.clone() })?;
        let system = system.map(|content| Message { role: "system", content });
        let messages: Vec<Message<'_>> = system.into_iter().chain([Message { role: "user", content: user }]).collect();
        template.render(&messages, true)
    }

    /// Number of tokens of a text, as every method here counts them.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn count_tokens(&self, text: &str) -> Result<usize, LlamaError> {
        Ok(self.codec.encode(text)?.ids.len())
    }

    /// Continues `prompt`.
    ///
    /// # Errors
    /// An empty prompt, one that does not fit the context, sampling numbers out of range, logits that are NaN.
    pub fn generate(&mut self, prompt: &str, options: &GenerateOptions) -> Result<Generation, LlamaError> {
        let mut sampler = Sampler::new(options.sampling)?;
        let prompt = self.encode(prompt, "prompt")?.ids;
        let stops = self.stop_tokens_with(&options.extra_stop_tokens);
        let (mut cache, started) = (KvCache::new(), Instant::now());
        let mut logits = self.next_logits(&prompt, &mut cache)?;
        let prefill_seconds = started.elapsed().as_secs_f64();
        let mut answer = Vec::new();
        let stop = loop {
            if answer.len() >= options.max_new_tokens {
                break StopReason::MaxNewTokens;
            }
            let token = sampler.next(&logits)?;
            if stops.contains(&token) {
                break StopReason::EndToken;
            }
            answer.push(token);
            if prompt.len() + answer.len() > self.model.config().max_positions {
                break StopReason::ContextFull;
            }
            if answer.len() < options.max_new_tokens {
                logits = self.next_logits(&[token], &mut cache)?;
            }
        };
        Ok(Generation {
            text: self.codec.decode(&answer)?,
            prompt_tokens: prompt.len(),
            new_tokens: answer.len(),
            stop,
            prefill_seconds,
            decode_seconds: started.elapsed().as_secs_f64() - prefill_seconds,
        })
    }

    /// How probable `continuation` is after `prefix`; see [`Engine::likelihoods`].
    ///
    /// # Errors
    /// As [`Engine::likelihoods`].
    pub fn log_likelihood(&mut self, prefix: &str, continuation: &str) -> Result<Likelihood, LlamaError> {
        let only = self.likelihoods(prefix, &[continuation])?.pop();
        only.ok_or(LlamaError::Empty { what: "list of continuations" })
    }

    /// How probable each continuation is after the same prefix, which is computed once.
    ///
    /// The whole text `prefix + continuation` is tokenised, as the model would see it, and the continuation starts at
    /// the first token that reaches beyond the last byte of the prefix. A token that straddles the border so belongs to
    /// the continuation.
    ///
    /// # Errors
    /// An empty prefix or continuation, a prefix that fills no token of its own, a text that does not fit the context,
    /// logits that are NaN.
    pub fn likelihoods(&mut self, prefix: &str, continuations: &[&str]) -> Result<Vec<Likelihood>, LlamaError> {
        let texts: Vec<Scored> = continuations.iter().map(|text| self.split(prefix, text)).collect::<Result<_, _>>()?;
        let Some(shared) = shared_prefix(&texts) else {
            return Ok(Vec::new());
        };
        let mut cache = KvCache::new();
        let context = self.model.hidden_states(&texts[0].ids[..shared], &mut cache)?;
        let last = context.narrow(0, shared - 1, 1)?;
        let score = |text: &Scored| {
            cache.truncate(shared);
            self.score(text, shared, &last, &mut cache)
        };
        texts.iter().map(score).collect()
    }

    /// Log-probability of each candidate as the continuation of `prefix`, which is computed once: a reading of the
    /// model that always yields one of the candidates.
    ///
    /// # Errors
    /// As [`Engine::likelihoods`].
    pub fn choose(&mut self, prefix: &str, candidates: &[&str]) -> Result<Vec<f64>, LlamaError> {
        Ok(self.likelihoods(prefix, candidates)?.iter().map(Likelihood::sum).collect())
    }

    fn encode(&self, text: &str, what: &'static str) -> Result<Encoded, LlamaError> {
        let encoded = if text.is_empty() { None } else { Some(self.codec.encode(text)?) };
        encoded.filter(|encoded| !encoded.ids.is_empty()).ok_or(LlamaError::Empty { what })
    }

    fn stop_tokens_with(&self, names: &[String]) -> Vec<u32> {
        let extra = names.iter().filter_map(|name| self.codec.token_id(name));
        self.stop_tokens.iter().copied().chain(extra).collect()
    }

    fn next_logits(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Vec<f32>, LlamaError> {
        let hidden = self.model.hidden_states(tokens, cache)?;
        let last = hidden.narrow(0, tokens.len() - 1, 1)?;
        Ok(self.model.logits(&last)?.flatten_all()?.to_vec1()?)
    }

    fn split(&self, prefix: &str, continuation: &str) -> Result<Scored, LlamaError> {
        if prefix.is_empty() {
            return Err(LlamaError::Empty { what: "prefix" });
        }
        if continuation.is_empty() {
            return Err(LlamaError::Empty { what: "continuation" });
        }
        let Encoded { ids, ends } = self.encode(&format!("{prefix}{continuation}"), "text")?;
        match ends.iter().position(|end| *end > prefix.len()) {
            None => Err(LlamaError::Empty { what: "continuation" }),
            Some(0) => Err(LlamaError::NoContext { prefix: prefix.to_owned() }),
            Some(split) => Ok(Scored { ids, split }),
        }
    }

    /// Scores one text whose first `shared` tokens are in the cache; `last` is the hidden state of the last of them.
    fn score(
        &self,
        text: &Scored,
        shared: usize,
        last: &Tensor,
        cache: &mut KvCache,
    ) -> Result<Likelihood, LlamaError> {
        let Scored { ids, split } = text;
        let (limit, tokens) = (self.model.config().max_positions, ids.len());
        if tokens > limit {
            return Err(LlamaError::ContextOverflow { tokens, limit });
        }
        let rest = &ids[shared..ids.len() - 1];
        let hidden = match rest {
            [] => last.clone(),
            _ => Tensor::cat(&[last.clone(), self.model.hidden_states(rest, cache)?], 0)?,
        };
        let hidden = hidden.narrow(0, split - shared, ids.len() - split)?;
        let mut tokens = Vec::with_capacity(ids.len() - split);
        for (block, targets) in ids[*split..].chunks(LOGIT_ROWS).enumerate() {
            let rows = hidden.narrow(0, block * LOGIT_ROWS, targets.len())?;
            let logits: Vec<Vec<f32>> = self.model.logits(&rows)?.to_vec2()?;
            let row = |(row, target): (&Vec<f32>, &u32)| log_probability(row, *target);
            tokens.extend(logits.par_iter().zip(targets).map(row).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Likelihood { tokens })
    }
}

/// How many leading tokens all texts share, none of them to be scored; `None` without a text.
fn shared_prefix(texts: &[Scored]) -> Option<usize> {
    let (first, others) = texts.split_first()?;
    let common = |text: &Scored| first.ids.iter().zip(&text.ids).take_while(|(a, b)| a == b).count().min(text.split);
    Some(others.iter().map(common).fold(first.split, usize::min).max(1))
}

/// `log softmax(logits)[target]` in f64.
fn log_probability(logits: &[f32], target: u32) -> Result<f64, LlamaError> {
    let peak = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - peak).exp()).sum();
    let probability = f64::from(logits[target as usize]) - peak - sum.ln();
    if probability.is_nan() { Err(LlamaError::NotANumber) } else { Ok(probability) }
}

/// End tokens of `generation_config.json` and of `config.json` together.
fn stop_tokens(dir: &Path, model: &Llama) -> Result<Vec<u32>, LlamaError> {
    #[derive(Default, serde::Deserialize)]
    struct GenerationConfig {
        eos_token_id: Option<TokenIds>,
    }
    let generation: GenerationConfig = read_json_if_present(&dir.join("generation_config.json"))?.unwrap_or_default();
    let listed = generation.eos_token_id.map(TokenIds::into_vec).unwrap_or_default();
    Ok(model.config().eos.iter().copied().chain(listed).collect())
}

fn model_info(dir: &Path, model: &Llama, weights: &Weights) -> ModelInfo {
    let config = model.config();
    ModelInfo {
        name: dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        architecture: "LlamaForCausalLM".into(),
        parameters: model.parameters(),
        dtype: weights.dtype("model.embed_tokens.weight").unwrap_or_default(),
        layers: config.layers,
        hidden: config.hidden_size,
        vocab: config.vocab_size,
        context: config.max_positions,
    }
}

#[cfg(test)]
mod tests;
