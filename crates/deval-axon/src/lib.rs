//! The miner's HTTP server that answers `ModelQuerySynapse`, and the question as a validator asks it.
//!
//! Mirrors the axon and dendrite of bittensor 9.0.1, the version De-Val pins (`bittensor/core/{axon,dendrite,synapse}.py`),
//! and De-Val's `ModelQuerySynapse` (`deval/protocol.py`).

mod dendrite;
mod error;
pub mod external;
pub mod load;
mod metrics;
mod monitor;
mod nonce;
mod receipt;
mod server;
pub mod start;
mod subnet;
mod synapse;
#[cfg(test)]
mod testing;

pub use dendrite::{ModelQueryReply, query};
pub use error::AxonError;
pub use metrics::Metrics;
pub use monitor::{monitor, serve_monitor};
pub use receipt::{Answer, Answered, ServeReceipt, VALIDATOR_TIMEOUT};
pub use server::{Axon, AxonConfig, Listening, bind, system_clock};
pub use subnet::{Standing, Subnet};
