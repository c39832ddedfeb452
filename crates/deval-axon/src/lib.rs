//! The miner's HTTP server that answers `ModelQuerySynapse`, and the question as a validator asks it.
//!
//! Mirrors the axon and dendrite of bittensor 9.0.1, the version De-Val pins (`bittensor/core/{axon,dendrite,synapse}.py`),
//! and De-Val's `ModelQuerySynapse` (`deval/protocol.py`).

mod dendrite;
mod error;
mod nonce;
mod server;
mod synapse;
#[cfg(test)]
mod testing;

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

pub use dendrite::{ModelQueryReply, query};
pub use error::AxonError;
pub use server::{AxonConfig, bind, router, serve, system_clock};

/// Whom the axon answers: upstream's blacklist refuses every hotkey that is not in the metagraph.
pub trait Registry: Send + Sync {
    /// Whether the hotkey is registered on the subnet.
    fn is_registered(&self, hotkey_ss58: &str) -> bool;
}

/// A registry that can be replaced while the axon serves.
#[derive(Debug, Default)]
pub struct KnownHotkeys(RwLock<HashSet<String>>);

impl KnownHotkeys {
    /// Knows these hotkeys (SS58).
    pub fn new(hotkeys: impl IntoIterator<Item = String>) -> Self {
        Self(RwLock::new(hotkeys.into_iter().collect()))
    }

    /// Forgets the old hotkeys and knows these.
    pub fn replace(&self, hotkeys: impl IntoIterator<Item = String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = hotkeys.into_iter().collect();
    }
}

impl Registry for KnownHotkeys {
    fn is_registered(&self, hotkey_ss58: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(hotkey_ss58)
    }
}
