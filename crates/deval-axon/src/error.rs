//! What can go wrong when serving or asking.

use std::io;
use std::net::SocketAddr;

/// The work could not be done. An axon's refusal is no error: it is a reply with its status.
#[derive(Debug, thiserror::Error)]
pub enum AxonError {
    /// The address cannot be listened on.
    #[error("{address}: cannot listen: {source}; if another program holds the port, serve on another one")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server stopped by itself.
    #[error("the axon stopped: {0}")]
    Serve(io::Error),
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
