//! The local chain: a native FRAME runtime with subtensor's encodings, served over JSON-RPC.
//!
//! It is the project's own stand-in, never subtensor: the calls, storage keys, events, errors and rules a miner meets are
//! modelled (`SubtensorModule` at pallet index 7, `Commitments` at 18), consensus, staking and emission are not. Signatures,
//! nonces, genesis, versions and mortality are really checked by `frame_executive`.

#[expect(unreachable_pub, reason = "the pallet macros demand `pub`, in a binary nothing is reachable from outside")]
mod commitments;
mod data;
mod dev;
mod extensions;
mod gate;
mod info;
mod node;
mod pool;
mod rpc;
#[expect(unreachable_pub, reason = "the runtime macros write `pub`, in a binary nothing is reachable from outside")]
mod runtime;
mod store;
#[expect(unreachable_pub, reason = "the pallet macros demand `pub`, in a binary nothing is reachable from outside")]
mod subtensor;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::server::{RegisterMethodError, RpcModule, Server};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;

use gate::Gate;
pub(crate) use node::Chain;
use rpc::Node;

/// How the local chain is set up.
#[derive(Debug, Clone)]
pub(crate) struct ChainConfig {
    /// Directory of the blocks; made when missing.
    pub(crate) state_dir: PathBuf,
    /// Blocks between two `serve_axon` of one hotkey; written into the genesis block, so it only counts for a new chain.
    pub(crate) serving_rate_limit: u64,
    /// Time between two blocks; without one, each extrinsic gets its block at once.
    pub(crate) block_time: Option<Duration>,
    /// What is called on a new chain before it is served.
    pub(crate) preparation: Vec<Call>,
}

/// A call of one of the chain's RPC methods.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// The method, such as `dev_setMiners`.
    method: String,
    /// Its parameters, by place.
    #[serde(default)]
    params: Vec<Value>,
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
    /// One of the calls that prepare a new chain was refused.
    #[error("cannot prepare the new chain: {method}: {reason}")]
    Prepare {
        /// The method.
        method: String,
        /// What it answered.
        reason: String,
    },
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
/// [`ChainError`] when the listener cannot be used, or the preparation of a new chain is refused.
pub(crate) async fn serve(listener: TcpListener, chain: Chain, config: ChainConfig) -> Result<(), ChainError> {
    let (is_new, gate) = (chain.is_new(), Arc::new(Gate::default()));
    let methods = rpc::methods(chain, gate.clone())?;
    if is_new {
        prepare(&methods, &config.preparation).await?;
    }
    let server = Server::builder().build((Ipv4Addr::LOCALHOST, 0)).await.map_err(ChainError::Listen)?;
    let address = server.local_addr().map_err(ChainError::Listen)?;
    let _server = server.start(methods.clone());
    tokio::select! {
        ended = gate.relay(listener, address) => ended.map_err(ChainError::Listen),
        ended = tick(&methods, config.block_time) => ended,
    }
}

/// Makes the calls that a new chain begins with.
async fn prepare(methods: &RpcModule<Node>, calls: &[Call]) -> Result<(), ChainError> {
    for call in calls {
        let answer = methods.call(&call.method, call.params.clone()).await;
        answer
            .map(|_: Value| ())
            .map_err(|reason| ChainError::Prepare { method: call.method.clone(), reason: reason.to_string() })?;
    }
    Ok(())
}

/// Makes a block whenever its time has come; never, where blocks have none.
async fn tick(methods: &RpcModule<Node>, block_time: Option<Duration>) -> Result<(), ChainError> {
    let Some(block_time) = block_time else { return std::future::pending().await };
    let mut clock = tokio::time::interval(block_time);
    clock.tick().await;
    loop {
        clock.tick().await;
        let made = methods.call("dev_produceBlocks", [1]).await;
        made.map(|_: u32| ()).map_err(|reason| ChainError::Prepare {
            method: "dev_produceBlocks".to_owned(),
            reason: reason.to_string(),
        })?;
    }
}
