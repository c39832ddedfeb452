//! Task examples, requests and responses, rewards, penalties, contest arithmetic and statistics; a harness over the
//! [`Backend`] trait.
//!
//! Everything that mirrors the validator is bit-equal to De-Val 1.4.6 (commit `bfc1600`) on the vectors that [`oracle`] replays.
//! This crate is pure: it reads no disk, no network, no clock and no environment, and knows no model.

pub mod abort;
pub mod api;
pub mod assembly;
pub mod baseline;
pub mod claims;
pub mod compare;
pub mod contest;
pub mod dice;
pub mod embed;
mod error;
pub mod explain;
pub mod forecast;
pub mod gates;
pub mod harness;
pub mod oracle;
pub mod parse;
pub mod python;
pub mod ranking;
pub mod reward;
pub mod rouge;
pub mod set;
pub mod snapshot;
pub mod speed;
pub mod stats;
pub mod submission;
pub mod task;

pub use abort::{PythonException, ValidatorAborts};
pub use compare::{CompareOptions, Paired, compare};
pub use dice::Dice;
pub use embed::{Embed, HashedWords};
pub use error::{BackendError, CompareError, EvalError};
pub use forecast::{Forecast, ForecastOptions, Leaderboard, forecast};
pub use harness::{
    Ask, Backend, BackendInfo, EvaluateOptions, Evaluation, GaveUp, Lane, Latency, Reply, Timing, Until, evaluate,
};
pub use set::{ExampleSet, SetInfo};
pub use speed::{Lengths, ModelSize, Speed};
pub use task::{Answer, Example, Request, Task};
