//! Task examples written by a language model.
//!
//! [`generate()`] plays upstream's seven task generators (`deval/tasks/*`) with prompts of its own over any [`Chat`]: [`Client`] speaks to
//! OpenAI-compatible endpoints and to AWS Bedrock, with retries, rate limits and a cost limit. [`wikipedia`] fetches articles.

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
