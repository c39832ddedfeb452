//! Task examples written by a language model.
//!
//! [`generate()`] plays upstream's seven task generators (`deval/tasks/*`) with prompts of its own over any [`Chat`]: [`Client`] speaks to
//! OpenAI-compatible endpoints and to AWS Bedrock, with retries, rate limits and a cost limit. [`wikipedia`] fetches articles.
//!
//! ```no_run
//! # async fn write() -> Result<(), deval_llm::LlmError> {
//! use deval_llm::{Client, OPENAI_BASE_URL, OpenAi, Plan, Secret, Settings};
//! let key = Secret::from_env("OPENAI_API_KEY")?;
//! let client = Client::openai(OpenAi::new(OPENAI_BASE_URL, key, "gpt-4o-mini", false)?, Settings::default())?;
//! let plan = Plan { price: client.price(), max_cost: Some(0.50), ..Plan::new(0, 10, Vec::new()) };
//! let expected = deval_llm::estimate(&plan).section();
//! let made = deval_llm::generate(&client, &plan, &|_| {}).await?;
//! let (file, took) = (made.set.write(), made.tally.section());
//! # Ok(()) }
//! ```

mod bedrock;
mod chat;
mod client;
mod cost;
mod error;
mod generate;
mod http;
mod limit;
mod openai;
mod prompts;
mod secret;
mod sigv4;
pub mod wikipedia;

pub use bedrock::{AwsAuth, Bedrock};
pub use chat::{Chat, ChatRequest, Completion, Property, Sampling, Tool, Usage};
pub use client::Client;
pub use cost::{PRICES_OF, Price};
pub use error::LlmError;
pub use generate::{Article, Dropped, Estimate, Generated, LeftOut, Plan, Progress, Tally, estimate, generate};
pub use http::{Retry, Settings};
pub use limit::Limits;
pub use openai::{OPENAI_BASE_URL, OpenAi};
pub use secret::Secret;

#[cfg(test)]
mod tests;
