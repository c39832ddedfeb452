//! LLaMA inference on candle: a Hugging Face model directory in, text and log-probabilities out.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`config`] | `config.json` in both spellings, refused when it asks for what is not implemented |
//! | [`weights`] | memory-mapped safetensors, one file or shards |
//! | [`model`] | the decoder: hidden states and logits of every position, with a key/value cache that can be cut back |
//! | [`engine`] | model + tokenizer + chat template: generate, log-likelihood, choice among candidates |
//! | [`embed`] | BERT-type sentence embeddings for the `relevance` reward |
//! | [`gguf`], [`wheel`] | how the demo model becomes a Hugging Face directory |
//! | [`testing`] | a tiny seeded LLaMA for tests |
//!
//! Compute is f32 on the CPU, whatever the type on disk.

pub mod chat;
pub mod config;
pub mod embed;
pub mod engine;
mod error;
mod files;
pub mod gguf;
mod layout;
pub mod model;
mod ops;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod real_model;
mod rope;
pub mod sampling;
mod special;
pub mod testing;
mod tokenizer;
pub mod weights;
pub mod wheel;

pub use embed::Embedder;
pub use engine::{Engine, GenerateOptions, Generation, Likelihood, ModelInfo, StopReason};
pub use error::LlamaError;
pub use sampling::Sampling;
pub use tokenizer::check_tokenizer;
pub use wheel::unzip_wheel_member;
