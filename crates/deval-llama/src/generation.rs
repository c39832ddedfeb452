//! `generation_config.json` as transformers 4.47.1's `generate` takes it, where the call says nothing itself.
//!
//! Mirrors `generation/utils.py` (`_prepare_generation_config`, `_get_logits_processor`) and `generation/logits_process.py`. What the
//! reference pipeline's call says itself (temperature, top-p, length, end tokens) is not read here.

use std::path::Path;

use serde_json::{Value, json};

use crate::LlamaError;
use crate::config::TokenIds;
use crate::keys::{Keys, quote};

const FILE: &str = "generation_config.json";

/// What transformers takes where nothing is said.
const USUAL_TOP_K: usize = 50;

/// How a model's own files want its answers generated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationConfig {
    /// Tokens that end an answer where the call names none.
    pub eos: Vec<u32>,
    /// Only this many most probable tokens; 0 for all.
    pub top_k: usize,
    /// What is done to the logits.
    pub rules: Rules,
    /// Settings that would change answers and are not implemented.
    pub unsupported: Vec<Unsupported>,
}

/// A setting that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The file that holds it.
    pub file: &'static str,
    /// Its key.
    pub key: &'static str,
    /// What stands there, shortened.
    pub value: String,
}

/// What is done to logits before a token is chosen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    /// Makes tokens of prompt and answer less likely; 1 does nothing.
    pub repetition_penalty: Option<f32>,
    /// No such many tokens in a row come twice in prompt and answer; 0 for no rule.
    pub no_repeat_ngram_size: usize,
    /// Tokens before which no end token comes.
    pub min_new_tokens: usize,
    /// Tokens that are never chosen.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that are not chosen first.
    pub begin_suppress_tokens: Vec<u32>,
    /// Only tokens at least this much as probable as the most probable one.
    pub min_p: Option<f64>,
    /// Only the tokens that surprise most typically, up to this probability together.
    pub typical_p: Option<f64>,
}

/// Keys that are not implemented, each with the number at which it changes nothing; null and false never do.
const UNSUPPORTED: [(&str, f64); 21] = [
    ("num_beams", 1.0),
    ("dola_layers", f64::NAN),
    ("guidance_scale", 1.0),
    ("sequence_bias", f64::NAN),
    ("encoder_repetition_penalty", 1.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("bad_words_ids", f64::NAN),
    ("min_length", 0.0),
    ("forced_bos_token_id", f64::NAN),
    ("forced_eos_token_id", f64::NAN),
    ("forced_decoder_ids", f64::NAN),
    ("remove_invalid_values", f64::NAN),
    ("exponential_decay_length_penalty", f64::NAN),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("watermarking_config", f64::NAN),
    ("stop_strings", f64::NAN),
    ("max_time", f64::NAN),
    ("token_healing", f64::NAN),
    ("return_dict_in_generate", f64::NAN),
    ("cache_implementation", f64::NAN),
];

/// What PretrainedConfig knows of generation: where config.json holds one of these, it stands for the file that was made from it.
const OF_CONFIG: [&str; 8] = [
    "top_k",
    "typical_p",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "min_length",
];

impl GenerationConfig {
    /// Reads what a model directory says.
    ///
    /// # Errors
    /// An unreadable file, a key of the wrong type or out of range; what transformers itself refuses.
    pub fn load(dir: &Path) -> Result<Self, LlamaError> {
        let (path, config) = (dir.join(FILE), dir.join("config.json"));
        let own = if path.exists() { Some(Keys::read(&path)?) } else { None };
        let of_config = Keys::read(&config)?;
        // As transformers: a file made from config.json gives way to what config.json says now.
        let derived = own.as_ref().is_none_or(|own| own.raw("_from_model_config") == Some(&json!(true)));
        let told = OF_CONFIG.iter().any(|key| of_config.raw(key).is_some_and(|value| !value.is_null()));
        match own {
            Some(own) if !(derived && told) => Self::of(&own, FILE).map_err(|error| LlamaError::config(&path, error)),
            own => {
                let of =
                    |keys: &Keys| Self::of(keys, "config.json").map_err(|error| LlamaError::config(&config, error));
                let eos =
                    own.as_ref().map(|own| eos(own).map_err(|error| LlamaError::config(&path, error))).transpose()?;
                let found = of(&of_config)?;
                Ok(Self { eos: eos.unwrap_or_default(), ..found })
            }
        }
    }

    fn of(keys: &Keys, file: &'static str) -> Result<Self, String> {
        let top_k = if keys.raw("top_k").is_none() { USUAL_TOP_K } else { keys.get("top_k")?.unwrap_or(0) };
        let rules = Rules {
            repetition_penalty: penalty(keys)?,
            no_repeat_ngram_size: keys.get("no_repeat_ngram_size")?.unwrap_or(0),
            min_new_tokens: keys.get("min_new_tokens")?.unwrap_or(0),
            suppress_tokens: keys.get("suppress_tokens")?.unwrap_or_default(),
            begin_suppress_tokens: keys.get("begin_suppress_tokens")?.unwrap_or_default(),
            min_p: share(keys, "min_p")?,
            typical_p: share(keys, "typical_p")?.filter(|share| *share < 1.0),
        };
        let unsupported = UNSUPPORTED.iter().filter_map(|(key, neutral)| {
            let value = keys.raw(key)?;
            let changes = match value {
                Value::Null | Value::Bool(false) => false,
                Value::Number(number) => number.as_f64() != Some(*neutral),
                _ => true,
            };
            changes.then(|| Unsupported { file, key, value: quote(value) })
        });
        Ok(Self { eos: eos(keys)?, top_k, rules, unsupported: unsupported.collect() })
    }
}

fn eos(keys: &Keys) -> Result<Vec<u32>, String> {
    Ok(keys.get("eos_token_id")?.map(TokenIds::into_vec).unwrap_or_default())
}

/// transformers takes no whole number for a penalty.
fn penalty(keys: &Keys) -> Result<Option<f32>, String> {
    let key = "repetition_penalty";
    let Some(penalty) = keys.get::<f64>(key)?.filter(|penalty| *penalty != 1.0) else { return Ok(None) };
    let is_whole = keys.raw(key).is_some_and(|value| value.is_i64() || value.is_u64());
    if is_whole || !(penalty > 0.0 && penalty <= f64::from(f32::MAX)) {
        let found = keys.raw(key).map(quote).unwrap_or_default();
        return Err(format!(
            "{key} is {found}, which transformers refuses; expected a fraction greater than 0 (`1.2`)"
        ));
    }
    Ok(Some(penalty as f32))
}

fn share(keys: &Keys, key: &str) -> Result<Option<f64>, String> {
    match keys.get::<f64>(key)? {
        Some(share) if !(0.0..=1.0).contains(&share) => Err(format!("{key} is {share}, expected 0 to 1")),
        Some(share) if share == 0.0 && key == "typical_p" => Err(format!("{key} is 0, expected more than 0")),
        share => Ok(share),
    }
}

impl Rules {
    /// Whether they leave logits as they are.
    fn is_idle(&self) -> bool {
        let Self {
            repetition_penalty,
            no_repeat_ngram_size,
            min_new_tokens,
            suppress_tokens,
            begin_suppress_tokens,
            ..
        } = self;
        let lists = suppress_tokens.is_empty() && begin_suppress_tokens.is_empty();
        repetition_penalty.is_none() && *no_repeat_ngram_size == 0 && *min_new_tokens == 0 && lists
    }

    /// What becomes of the logits behind `tokens`, the first `prompt` of which were not generated; `None` where they stay as they are.
    ///
    /// # Errors
    /// No token is left.
    pub(crate) fn apply(
        &self,
        tokens: &[u32],
        prompt: usize,
        stops: &[u32],
        logits: &[f32],
    ) -> Result<Option<Vec<f32>>, LlamaError> {
        if self.is_idle() || logits.iter().any(|logit| logit.is_nan()) {
            return Ok(None);
        }
        let mut scores = logits.to_vec();
        if let Some(penalty) = self.repetition_penalty {
            penalise(&mut scores, logits, tokens, penalty);
        }
        let new = tokens.len() - prompt;
        let mut banned = self.suppress_tokens.clone();
        banned.extend(repeated(tokens, self.no_repeat_ngram_size));
        if new < self.min_new_tokens {
            banned.extend(stops);
        }
        if new == 0 {
            banned.extend(&self.begin_suppress_tokens);
        }
        for token in banned {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = f32::NEG_INFINITY;
            }
        }
        if logits.iter().any(|logit| logit.is_finite()) && !scores.iter().any(|score| score.is_finite()) {
            let message = format!("{FILE} leaves no token to choose from; look at its lists of suppressed tokens");
            return Err(LlamaError::Sampling { message });
        }
        Ok(Some(scores))
    }
}

fn penalise(scores: &mut [f32], logits: &[f32], tokens: &[u32], penalty: f32) {
    for token in tokens {
        if let Some(logit) = logits.get(*token as usize) {
            scores[*token as usize] = if *logit < 0.0 { logit * penalty } else { logit / penalty };
        }
    }
}

/// Tokens that would make `size` tokens in a row come again.
fn repeated(tokens: &[u32], size: usize) -> Vec<u32> {
    if size == 0 || tokens.len() + 1 < size {
        return Vec::new();
    }
    let last = &tokens[tokens.len() + 1 - size..];
    tokens.windows(size).filter(|window| window[..size - 1] == *last).map(|window| window[size - 1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: Value) -> Result<GenerationConfig, String> {
        GenerationConfig::of(&Keys::from(value), FILE)
    }

    #[test]
    fn what_is_not_said_is_as_transformers_has_it() {
        let empty = of(json!({})).unwrap();
        assert_eq!(empty, GenerationConfig { top_k: 50, ..Default::default() });
        assert_eq!(of(json!({"top_k": null})).unwrap().top_k, 0);
        assert_eq!(of(json!({"top_k": 7, "temperature": 0.1, "do_sample": true})).unwrap().top_k, 7);
        let neutral =
            json!({"num_beams": 1, "guidance_scale": 1.0, "min_length": 0, "repetition_penalty": 1, "typical_p": 1.0});
        assert_eq!(of(neutral).unwrap(), empty);
    }

    #[test]
    fn what_is_not_implemented_is_told_and_what_cannot_be_is_refused() {
        let found = of(json!({"num_beams": 4, "bad_words_ids": [[3]], "watermarking_config": {"a": 1}})).unwrap();
        let keys: Vec<&str> = found.unsupported.iter().map(|unsupported| unsupported.key).collect();
        assert_eq!(keys, ["num_beams", "bad_words_ids", "watermarking_config"]);
        assert_eq!(found.unsupported[1].value, "[[3]]");
        let cases = [
            (json!({"top_k": -1}), "top_k is -1, expected a whole number"),
            (json!({"top_k": 1.5}), "top_k is 1.5"),
            (json!({"repetition_penalty": 2}), "repetition_penalty is 2, which transformers refuses"),
            (json!({"repetition_penalty": 0.0}), "greater than 0"),
            (json!({"min_p": 1.5}), "min_p is 1.5"),
            (json!({"typical_p": 0.0}), "typical_p is 0"),
            (json!({"eos_token_id": [[1]]}), "eos_token_id is [[1]], expected a token number or a list"),
            (json!({"suppress_tokens": "x"}), "suppress_tokens is \"x\", expected a list of token numbers"),
        ];
        for (value, expected) in cases {
            let message = of(value).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn ngrams_come_once() {
        assert_eq!(repeated(&[1, 2, 3, 1, 2], 3), [3]);
        assert_eq!(repeated(&[1, 2, 1, 3, 1], 2), [2, 3]);
        assert_eq!(repeated(&[4, 4], 1), [4, 4]);
        assert_eq!(repeated(&[1], 3), Vec::<u32>::new());
    }

    #[test]
    fn rules_that_leave_nothing_say_so() {
        let rules = Rules { suppress_tokens: vec![0, 1, 9], ..Default::default() };
        assert_eq!(rules.apply(&[0], 1, &[], &[1.0, 2.0, 3.0]).unwrap().unwrap()[2], 3.0);
        let error = rules.apply(&[0], 1, &[], &[1.0, 2.0]).unwrap_err().to_string();
        assert!(error.contains("leaves no token"), "{error}");
        assert_eq!(Rules::default().apply(&[0], 1, &[], &[1.0]).unwrap(), None);
    }
}
