//! LLaMA inference on candle: a Hugging Face model directory in, text and log-probabilities out.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`config`] | `config.json` in both spellings, refused when it asks for what is not implemented |
//! | [`weights`] | memory-mapped safetensors, one file or shards |
//! | [`model`] | the decoder on its own: logits of every position |
//! | [`engine`] | model + tokenizer + chat template: generate, log-likelihood, choice among candidates, many at once |
//! | [`generation`] | `generation_config.json` as transformers takes it |
//! | [`work`] | what the engine is asked and what it answers |
//! | [`embed`] | BERT-type sentence embeddings for the `relevance` reward |
//! | [`gguf`], [`wheel`] | how the demo model becomes a Hugging Face directory |
//! | [`testing`] | a tiny seeded LLaMA for tests |
//!
//! Compute is f32 on the CPU, whatever the type on disk; weights stay in that type.

pub mod chat;
pub mod config;
mod cpu;
pub mod embed;
pub mod engine;
mod error;
mod files;
pub mod generation;
pub mod gguf;
mod grammar;
#[cfg(test)]
mod hostile;
mod kernels;
mod keys;
mod layout;
mod memory;
pub mod model;
mod orders;
mod pages;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod real_model;
mod rope;
mod rotary;
mod row;
pub mod sampling;
mod schedule;
mod special;
mod step;
mod tensors;
pub mod testing;
mod tokenizer;
pub mod weights;
pub mod wheel;
pub mod work;

pub use embed::Embedder;
pub use engine::{DeviceChoice, Engine, EngineOptions, ModelInfo, Texts};
pub use error::LlamaError;
pub use generation::GenerationConfig;
pub use sampling::Sampling;
pub use tokenizer::check_tokenizer;
pub use wheel::unzip_wheel_member;
pub use work::{
    EngineStats, Generate, GenerateOptions, Generation, Grammar, Likelihood, Outcome, Prompt, Queue, Score, StopReason,
    Work,
};
