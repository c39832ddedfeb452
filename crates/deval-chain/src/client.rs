//! The chain client: connect, read at the latest finalised block, write and wait for finalisation.

mod calls;
mod effects;
mod reads;
mod submit;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deval_report::Network;
use subxt::OnlineClient;
use subxt::backend::LegacyBackend;
use subxt::client::OnlineClientAtBlock;
use subxt::config::SubstrateConfig;
use subxt::constants::DynamicAddress as ConstantAddress;
use subxt::dynamic;
use subxt::ext::frame_decode::storage::{IntoDecodableValues, IntoEncodableValues};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::rpcs::RpcClient;

pub use effects::{CommitOutcome, RegisterOutcome, ServeOutcome};
pub use reads::{AxonInfo, OnChainCommitment, Registration};
pub use submit::Submitted;

use crate::ChainError;

type AtBlock = OnlineClientAtBlock<SubstrateConfig>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

const FINNEY_GENESIS: &str = "0x2f0555cc76fc2840a25a6ea3b9637146806f1f44b090c175ffde2a7e5ab36c03";
const LOCAL_SPEC_NAME: &str = "deval-localnet";

/// A connection to one chain.
///
/// It speaks the legacy RPC methods only: public subtensor nodes serve them, and they are all the local chain has to serve.
#[derive(Debug, Clone)]
pub struct Client {
    api: OnlineClient<SubstrateConfig>,
    endpoint: String,
    network: Network,
}

impl Client {
    /// Connects to `endpoint` (`wss://…`, or `ws://` on this machine) and makes sure that it is a chain of `expected`: finney is
    /// told by its genesis hash, and nothing meant for another network is ever sent there.
    ///
    /// # Errors
    /// [`ChainError::Down`], [`ChainError::Timeout`], [`ChainError::WrongChain`].
    pub async fn connect(endpoint: &str, expected: Network) -> Result<Self, ChainError> {
        let connecting = async {
            let rpc = RpcClient::from_url(endpoint).await.map_err(|e| down(endpoint, e))?;
            Self::over(rpc, endpoint, expected).await
        };
        within(CONNECT_TIMEOUT, endpoint, "connecting", connecting).await
    }

    async fn over(rpc: RpcClient, endpoint: &str, network: Network) -> Result<Self, ChainError> {
        let backend = Arc::new(LegacyBackend::builder().build(rpc));
        let api = OnlineClient::from_backend(backend).await.map_err(|e| down(endpoint, e))?;
        let client = Self { api, endpoint: endpoint.to_owned(), network };
        client.require_genesis()?;
        Ok(client)
    }

    fn require_genesis(&self) -> Result<(), ChainError> {
        let genesis = format!("{:#x}", self.api.genesis_hash());
        if (genesis == FINNEY_GENESIS) == (self.network == Network::Finney) {
            return Ok(());
        }
        Err(self.wrong_chain(format!("its genesis is {genesis}, and finney's is {FINNEY_GENESIS}")))
    }

    /// The network the caller named when connecting.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The endpoint, as given.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The runtime's `spec_name`.
    ///
    /// # Errors
    /// [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn spec_name(&self) -> Result<String, ChainError> {
        let version = self.at().await?.constants().entry(runtime_version());
        version.map(|version| version.spec_name).map_err(|e| self.rpc("reading the runtime version", e))
    }

    /// Refuses what may only be done where nothing is real.
    async fn require_local(&self) -> Result<(), ChainError> {
        let name = self.spec_name().await?;
        if self.network == Network::Local && name == LOCAL_SPEC_NAME {
            return Ok(());
        }
        Err(self.wrong_chain(format!("its runtime is `{name}`, and the local one is `{LOCAL_SPEC_NAME}`")))
    }

    fn wrong_chain(&self, found: String) -> ChainError {
        ChainError::WrongChain { endpoint: self.endpoint.clone(), expected: self.network, found }
    }

    fn rpc(&self, doing: impl Into<String>, reason: impl ToString) -> ChainError {
        ChainError::Rpc { endpoint: self.endpoint.clone(), doing: doing.into(), reason: reason.to_string() }
    }

    /// The latest finalised block.
    async fn at(&self) -> Result<AtBlock, ChainError> {
        let doing = "reading the latest finalised block";
        let reading = async { self.api.at_current_block().await.map_err(|e| self.rpc(doing, e)) };
        within(READ_TIMEOUT, &self.endpoint, doing, reading).await
    }

    /// One storage value at a block, decoded by the chain's metadata.
    async fn fetch<K, V>(&self, at: &AtBlock, pallet: &str, entry: &str, keys: K) -> Result<Option<V>, ChainError>
    where
        K: IntoEncodableValues + IntoDecodableValues,
        V: DecodeAsType,
    {
        let doing = format!("reading {pallet}.{entry}");
        let reading = async {
            let value = at.storage().try_fetch(dynamic::storage::<K, V>(pallet, entry), keys).await;
            let value = value.map_err(|e| self.rpc(&*doing, e))?;
            value.map(|v| v.decode()).transpose().map_err(|e| self.rpc(&*doing, e))
        };
        within(READ_TIMEOUT, &self.endpoint, &doing, reading).await
    }
}

/// Of the runtime's version only its name is wanted; metadata finds it among the other fields.
#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct RuntimeVersion {
    spec_name: String,
}

fn runtime_version() -> ConstantAddress<RuntimeVersion> {
    dynamic::constant("System", "Version")
}

fn down(endpoint: &str, reason: impl ToString) -> ChainError {
    ChainError::Down { endpoint: endpoint.to_owned(), reason: reason.to_string() }
}

async fn within<T>(
    limit: Duration,
    endpoint: &str,
    doing: &str,
    work: impl Future<Output = Result<T, ChainError>>,
) -> Result<T, ChainError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let (endpoint, doing) = (endpoint.to_owned(), doing.to_owned());
        Err(ChainError::Timeout { endpoint, seconds: limit.as_secs(), doing })
    })
}

#[cfg(test)]
mod localnet_tests;
#[cfg(test)]
mod tests;
