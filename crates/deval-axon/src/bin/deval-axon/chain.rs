//! The serving axon's eye on the chain: who is registered, and that the chain says where the axon is.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use deval_axon::{AxonError, Subnet};
use deval_chain::{ChainError, Client, Wallet};
use deval_report::Network;
use tokio::{sync::watch, time::timeout};

/// How often the chain is looked at, and after how many blocks the registered hotkeys are read again. Upstream's miner reads them every
/// 100 blocks. The local chain makes blocks only when something happens.
fn cadence(network: Network) -> (Duration, u64) {
    match network {
        Network::Local => (Duration::from_secs(1), 1),
        Network::Test | Network::Finney => (Duration::from_secs(12), 25),
    }
}

/// The client itself tries longer to make a broken connection anew; here an outage is to be known soon.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the chain again and again, over a new connection where the old one broke; while it is away, what was known stands.
pub(crate) struct ChainWatch {
    pub(crate) subnet: Arc<Subnet>,
    pub(crate) endpoint: String,
    pub(crate) network: Network,
    pub(crate) wallet: Wallet,
    /// Where validators reach the axon.
    pub(crate) place: watch::Receiver<SocketAddr>,
    client: Option<Client>,
    /// The runtime's version as it was seen last.
    runtime: Option<u32>,
    /// The place that the chain was seen to name.
    announced: Option<SocketAddr>,
    /// What the chain said against it the last time.
    refused: Option<String>,
}

impl ChainWatch {
    pub(crate) fn new(
        subnet: Arc<Subnet>,
        endpoint: String,
        network: Network,
        wallet: Wallet,
        place: watch::Receiver<SocketAddr>,
    ) -> Self {
        Self { subnet, endpoint, network, wallet, place, client: None, runtime: None, announced: None, refused: None }
    }

    /// Looks for as long as the axon serves.
    pub(crate) async fn run(mut self) {
        let (pause, _) = cadence(self.network);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.place.changed() => {}
            }
            // What goes wrong was told, and is tried again.
            let _ = self.look().await;
        }
    }

    /// Looks once. Whether the chain held the announcement already; nothing when it refused.
    ///
    /// # Errors
    /// When the chain is away; what was known stands.
    pub(crate) async fn look(&mut self) -> Result<Option<bool>, AxonError> {
        let looked = self.try_look().await;
        match &looked {
            Ok(_) => {
                if self.subnet.chain_answers(true) {
                    tracing::info!(block = self.subnet.block(), endpoint = self.endpoint, "the chain answers");
                }
            }
            Err(error) => {
                self.client = None;
                if self.subnet.chain_answers(false) {
                    tracing::warn!("{error}; the hotkeys of block {} stay known", self.subnet.block());
                } else {
                    tracing::debug!("{error}");
                }
            }
        }
        looked
    }

    async fn try_look(&mut self) -> Result<Option<bool>, AxonError> {
        let (netuid, (_, blocks)) = (self.network.netuid(), cadence(self.network));
        self.forget_an_old_runtime().await?;
        let chain = match &self.client {
            Some(client) => client.clone(),
            None => Client::connect(&self.endpoint, self.network).await?,
        };
        let first = self.client.replace(chain.clone()).is_none();
        let late = |_| self.late("reading the latest finalised block");
        let block = timeout(PATIENCE, chain.block_number()).await.map_err(late)??;
        // A chain that was set up anew is behind what is known of the old one.
        let due = first || block.abs_diff(self.subnet.block()) >= blocks;
        if due {
            match self.subnet.refresh(&chain, netuid).await {
                Err(error @ AxonError::Keep { .. }) => tracing::warn!("{error}"),
                refreshed => refreshed?,
            }
        }
        let place = *self.place.borrow_and_update();
        if due || self.announced != Some(place) { self.announce(&chain, place).await } else { Ok(None) }
    }

    /// After an upgrade of the runtime another client takes over, so that metadata does not pile up.
    async fn forget_an_old_runtime(&mut self) -> Result<(), AxonError> {
        let Some(client) = &self.client else { return Ok(()) };
        let late = |_| self.late("reading the runtime's version");
        let runtime = timeout(PATIENCE, client.runtime_version()).await.map_err(late)??;
        if self.runtime.replace(runtime).is_some_and(|before| before != runtime) {
            self.client = None;
        }
        Ok(())
    }

    fn late(&self, doing: &str) -> ChainError {
        ChainError::Timeout { endpoint: self.endpoint.clone(), seconds: PATIENCE.as_secs(), doing: doing.into() }
    }

    async fn announce(&mut self, chain: &Client, place: SocketAddr) -> Result<Option<bool>, AxonError> {
        let announced = chain.serve_axon(self.network.netuid(), &self.wallet, place.ip(), place.port()).await;
        let outcome = match announced {
            Ok(outcome) => outcome,
            Err(error @ (ChainError::Refused { .. } | ChainError::ReadBack { .. })) => {
                self.subnet.announced(false);
                self.announced = None;
                let told = self.refused.replace(error.to_string());
                if told != self.refused {
                    tracing::error!("{place} is not announced: {error}");
                }
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        self.subnet.announced(true);
        (self.announced, self.refused) = (Some(place), None);
        if let Some(submitted) = &outcome.submitted {
            tracing::info!(%place, block = submitted.block_number, "announced on chain");
        }
        Ok(Some(outcome.already_there))
    }
}
