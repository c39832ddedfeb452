//! The chain client: connect, read at the latest finalised block, write and wait for finalisation.

mod calls;
mod commitments;
mod connection;
mod effects;
mod reads;
mod refusal;
mod submit;
mod subnet;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deval_report::Network;
use subxt::OnlineClient;
use subxt::backend::LegacyBackend;
use subxt::client::OnlineClientAtBlock;
use subxt::config::{RpcConfigFor, SubstrateConfig};
use subxt::constants::DynamicAddress as ConstantAddress;
use subxt::dynamic;
use subxt::ext::frame_decode::storage::{IntoDecodableValues, IntoEncodableValues};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::rpcs::{LegacyRpcMethods, RpcClient};

pub use commitments::{Allowance, HotkeyCommitment, duplicates};
pub use effects::{CommitOutcome, RegisterOutcome, RegistrationPlan, ServeOutcome};
pub use reads::{AxonInfo, OnChainCommitment, Registration};
pub use submit::Submitted;
pub use subnet::{IncentiveRank, Metagraph, Neuron, SubnetParameters};

use crate::ChainError;

type AtBlock = OnlineClientAtBlock<SubstrateConfig>;

/// How long what may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connect: Duration,
    /// One read; a connection that broke is made anew within it.
    read: Duration,
    /// Block time is 12 s and finality trails by a few blocks; after that long something is wrong.
    finality: Duration,
    /// Between two looks at the chain.
    pause: Duration,
}

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(15),
    read: Duration::from_secs(60),
    finality: Duration::from_secs(240),
    pause: Duration::from_secs(1),
};

const FINNEY_GENESIS: &str = "0x2f0555cc76fc2840a25a6ea3b9637146806f1f44b090c175ffde2a7e5ab36c03";
const LOCAL_SPEC_NAME: &str = "deval-localnet";

/// A connection to one chain.
///
/// It speaks the legacy RPC methods only: public subtensor nodes serve them, and they are all the local chain has to serve. A connection
/// that breaks is made anew, and reads that were under way are asked again.
#[derive(Debug, Clone)]
pub struct Client {
    api: OnlineClient<SubstrateConfig>,
    methods: LegacyRpcMethods<RpcConfigFor<SubstrateConfig>>,
    limits: Limits,
    /// As it is shown.
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
        let shown = &*connection::shown(endpoint);
        let connecting = async {
            let rpc = connection::open(endpoint).await.map_err(|e| down(shown, e))?;
            Self::over(rpc, shown, expected).await
        };
        within(LIMITS.connect, shown, "connecting", connecting).await
    }

    async fn over(rpc: RpcClient, endpoint: &str, network: Network) -> Result<Self, ChainError> {
        let methods = LegacyRpcMethods::new(rpc.clone());
        let backend = Arc::new(LegacyBackend::builder().build(rpc));
        let api = OnlineClient::from_backend(backend).await.map_err(|e| down(endpoint, e))?;
        let client = Self { api, methods, limits: LIMITS, endpoint: endpoint.to_owned(), network };
        client.require_genesis()?;
        Ok(client)
    }

    fn require_genesis(&self) -> Result<(), ChainError> {
        let genesis = self.genesis_hash();
        if (genesis == FINNEY_GENESIS) == (self.network == Network::Finney) {
            return Ok(());
        }
        Err(self.wrong_chain(format!("its genesis is {genesis}, and finney's is {FINNEY_GENESIS}")))
    }

    /// Makes sure that no other chain answers at the endpoint by now.
    async fn require_same_chain(&self) -> Result<(), ChainError> {
        let doing = "reading the genesis";
        let reading = async { self.methods.genesis_hash().await.map_err(|e| self.rpc(doing, e)) };
        let genesis = within(self.limits.read, &self.endpoint, doing, reading).await?;
        if genesis == self.api.genesis_hash() {
            return Ok(());
        }
        Err(self.wrong_chain(format!("its genesis was {} and is {genesis:#x} now", self.genesis_hash())))
    }

    /// The network the caller named when connecting.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Hash of the chain's first block, `0x…`: what tells chains apart.
    pub fn genesis_hash(&self) -> String {
        format!("{:#x}", self.api.genesis_hash())
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
        within(self.limits.read, &self.endpoint, doing, reading).await
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
        within(self.limits.read, &self.endpoint, &doing, reading).await
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
mod fake;
#[cfg(test)]
mod fake_tests;
#[cfg(test)]
mod localnet_tests;
#[cfg(test)]
mod tests;
