//! Wallet, commitment, registration and axon announcement on Bittensor's chain.
//!
//! The only crate that knows subxt. Nothing about the runtime is compiled in: calls and storage are encoded and decoded
//! with the metadata the chain itself serves, so the crate outlives runtime upgrades.

mod client;
mod error;
pub mod gates;
mod keys;
mod money;
mod payload;
#[cfg(test)]
mod testing;
mod wallet;

pub use client::{
    Allowance, AxonInfo, Client, CommitOutcome, HotkeyCommitment, IncentiveRank, Metagraph, Neuron, OnChainCommitment,
    RegisterOutcome, Registration, RegistrationPlan, ServeOutcome, Submitted, SubnetParameters, duplicates,
};
pub use error::ChainError;
pub use keys::{KeyPair, parse_ss58, ss58, verify};
pub use money::{parse_tao, tao};
pub use payload::{CommitmentPayload, MAX_PAYLOAD_BYTES, Raised, ValidatorView, parse_as_validator};
pub use wallet::{Exposed, Passwords, Wallet, WalletAddresses};
