//! What answers evaluation requests.
//!
//! [`Native`] asks the built-in engine with the miner's own prompts: quick, Python-free, an estimate and named so. The prompts come from
//! the pipeline's source by parsing ([`Prompts`]), so that this lane and the miner's pipeline ask the same question; answers are read as
//! the reference pipeline reads them, or by the manifest's patterns ([`AnswerParser`]).

mod answers;
mod native;
mod prompts;
mod replay;

pub use answers::AnswerParser;
pub use native::{Native, NativeOptions};
pub use prompts::{PromptFiles, Prompts};
pub use replay::Replay;
