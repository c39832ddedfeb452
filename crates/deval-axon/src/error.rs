//! What can go wrong when serving or asking.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use deval_chain::ChainError;

/// The work could not be done. An axon's refusal is no error: it is a reply with its status.
#[derive(Debug, thiserror::Error)]
pub enum AxonError {
    /// The address cannot be listened on.
    #[error("{address}: cannot listen: {reason}; if another program holds the port, serve on another one")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
    /// The chain could not be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The registered hotkeys were read, and could not be kept for the next start.
    #[error("{}: cannot keep the registered hotkeys: {reason}; after a restart they come from the chain alone", path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Nobody could tell the address that validators reach.
    #[error("cannot tell the external address by {by}: {reason}; name it with `--external-ip` or `axon.external_ip`")]
    ExternalAddress {
        /// The interface or the address asked.
        by: String,
        /// What happened.
        reason: String,
    },
    /// Nothing answers there.
    #[error("{address}: the axon cannot be reached: {reason}; a validator would see the same and give no reward")]
    Unreachable {
        /// The axon.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// No answer in time.
    #[error("{address}: the axon did not answer within {seconds} s, the time a validator gives it")]
    Timeout {
        /// The axon.
        address: SocketAddr,
        /// The limit.
        seconds: f64,
    },
    /// Something answers, but not as an axon.
    #[error("{address}: not an axon's answer: {reason}")]
    BadAnswer {
        /// The address.
        address: SocketAddr,
        /// What is wrong with it.
        reason: String,
    },
}
