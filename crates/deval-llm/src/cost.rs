//! What requests cost.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LlmError, Usage};

/// When the price list was looked up. List prices, may be outdated; `--price` takes precedence.
pub const PRICES_OF: &str = "2026-11-28";

/// USD per million tokens, prompt and answer: on-demand list prices in US regions on which public price tables agree. Models whose tables
/// disagree (Mistral on Bedrock) are left out.
const LISTED: [(&str, f64, f64); 14] = [
    ("gpt-4o-mini", 0.15, 0.60),
    ("gpt-4o-mini-2024-07-18", 0.15, 0.60),
    ("gpt-4o", 2.50, 10.0),
    ("gpt-4o-2024-08-06", 2.50, 10.0),
    ("gpt-4.1", 2.00, 8.00),
    ("gpt-4.1-mini", 0.40, 1.60),
    ("gpt-4.1-nano", 0.10, 0.40),
    ("anthropic.claude-3-haiku-20240307-v1:0", 0.25, 1.25),
    ("anthropic.claude-3-sonnet-20240229-v1:0", 3.00, 15.0),
    ("anthropic.claude-3-5-haiku-20241022-v1:0", 0.80, 4.00),
    ("anthropic.claude-3-5-sonnet-20240620-v1:0", 3.00, 15.0),
    ("anthropic.claude-3-7-sonnet-20250219-v1:0", 3.00, 15.0),
    ("cohere.command-r-v1:0", 0.50, 1.50),
    ("cohere.command-r-plus-v1:0", 3.00, 15.0),
];

/// USD per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Price {
    /// Tokens of prompts.
    pub prompt: f64,
    /// Tokens of answers.
    pub completion: f64,
}

impl Price {
    /// What a server on this machine costs.
    pub const FREE: Self = Self { prompt: 0.0, completion: 0.0 };

    /// The list price of a model, Bedrock's cross-region profiles (`us.…`) included; see [`PRICES_OF`].
    pub fn listed(model: &str) -> Option<Self> {
        let profile = ["us.", "eu.", "apac."].iter().find_map(|region| model.strip_prefix(region));
        let found = LISTED.iter().find(|(name, ..)| *name == profile.unwrap_or(model));
        found.map(|(_, prompt, completion)| Self { prompt: *prompt, completion: *completion })
    }

    /// USD for so many tokens.
    pub fn of(&self, prompt_tokens: u64, completion_tokens: u64) -> f64 {
        (prompt_tokens as f64 * self.prompt + completion_tokens as f64 * self.completion) / 1e6
    }

    /// USD for what was used.
    pub fn of_usage(&self, usage: &Usage) -> f64 {
        self.of(usage.prompt_tokens, usage.completion_tokens)
    }
}

impl FromStr for Price {
    type Err = LlmError;

    /// `IN/OUT` in USD per million tokens: `0.15/0.60`.
    fn from_str(text: &str) -> Result<Self, LlmError> {
        let number = |text: &str| text.trim().parse().ok().filter(|usd: &f64| usd.is_finite() && *usd >= 0.0);
        let parts = text.split_once('/').and_then(|(prompt, completion)| number(prompt).zip(number(completion)));
        let (prompt, completion) = parts.ok_or_else(|| LlmError::Price { found: text.to_owned() })?;
        Ok(Self { prompt, completion })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_and_listed() {
        assert_eq!("0.15/0.60".parse::<Price>().unwrap(), Price::listed("gpt-4o-mini").unwrap());
        assert_eq!(Price::listed("us.anthropic.claude-3-haiku-20240307-v1:0").unwrap().completion, 1.25);
        assert_eq!(Price::listed("gpt-4o-audio-preview"), None);
        for bad in ["", "1", "a/b", "-1/2", "1/inf", "NaN/1"] {
            assert_eq!(bad.parse::<Price>(), Err(LlmError::Price { found: bad.into() }));
        }
    }

    #[test]
    fn tokens_cost_what_the_price_says() {
        let usage = Usage { requests: 3, prompt_tokens: 2_000_000, completion_tokens: 500_000, estimated: 0 };
        assert_eq!(Price { prompt: 0.15, completion: 0.6 }.of_usage(&usage), 0.6);
        assert_eq!(Price::FREE.of_usage(&usage), 0.0);
    }
}
