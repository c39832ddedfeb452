//! What answers evaluation requests.
//!
//! [`Native`] asks the built-in engine with the miner's own prompts: quick, Python-free, an estimate and named so. The prompts come
//! from `prompts.py` by parsing ([`Prompts`]), so that this lane and the miner's pipeline ask the same question.

mod native;
mod prompts;
mod replay;

pub use native::{Native, NativeOptions};
pub use prompts::{Prompts, PromptsError};
pub use replay::Replay;
