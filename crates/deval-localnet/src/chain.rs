//! The local chain: a native FRAME runtime with subtensor's encodings, sealed one block per extrinsic, served over JSON-RPC.
//!
//! It is the project's own stand-in, never subtensor: the calls, storage keys, events, errors and rules a miner meets are
//! modelled (`SubtensorModule` at pallet index 7, `Commitments` at 18), consensus, staking and emission are not. Signatures,
//! nonces, genesis, versions and mortality are really checked by `frame_executive`.

#[expect(unreachable_pub, reason = "the pallet macros demand `pub`, in a binary nothing is reachable from outside")]
mod commitments;
mod data;
mod extensions;
mod node;
mod rpc;
#[expect(unreachable_pub, reason = "the runtime macros write `pub`, in a binary nothing is reachable from outside")]
mod runtime;
mod store;
#[expect(unreachable_pub, reason = "the pallet macros demand `pub`, in a binary nothing is reachable from outside")]
mod subtensor;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use jsonrpsee::server::{RegisterMethodError, Server};
use tokio::net::TcpListener;

pub(crate) use node::Chain;

/// How the local chain is set up.
#[derive(Debug, Clone)]
pub(crate) struct ChainConfig {
    /// Directory of the blocks; made when missing.
    pub(crate) state_dir: PathBuf,
    /// Blocks between two `serve_axon` of one hotkey; written into the genesis block, so it only counts for a new chain.
    pub(crate) serving_rate_limit: u64,
}

/// Why the local chain cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    /// A block or its directory cannot be read or written.
    #[error("cannot use the chain state {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A block file is not what this program wrote, or does not follow its parent.
    #[error("the chain state {path} is damaged ({what}); remove its directory to start a new chain")]
    Damaged {
        /// The block file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The blocks come from another version of the runtime.
    #[error(
        "the chain state {path} was written by another version of the local chain; remove its directory to start a new chain"
    )]
    OtherVersion {
        /// The block file.
        path: PathBuf,
    },
    /// The genesis configuration was refused.
    #[error("cannot build the genesis block: {0}")]
    Genesis(String),
    /// The listener cannot be used.
    #[error("cannot listen for chain requests: {0}")]
    Listen(#[source] std::io::Error),
    /// Two RPC methods share a name.
    #[error("cannot set up the chain's methods: {0}")]
    Methods(#[from] RegisterMethodError),
}

/// Serves the chain on `listener` (WebSocket and HTTP) until the future is dropped.
///
/// # Errors
/// [`ChainError`] when the listener cannot be used.
pub(crate) async fn serve(listener: TcpListener, chain: Chain) -> Result<(), ChainError> {
    let listener = listener.into_std().map_err(ChainError::Listen)?;
    let server = Server::builder().build_from_tcp(listener).map_err(ChainError::Listen)?;
    server.start(rpc::methods(chain)?).stopped().await;
    Ok(())
}
