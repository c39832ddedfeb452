//! What can be seen: on the disk, on the Hub without a token, on the chain, and at the announced address.

use std::{collections::BTreeMap, net::SocketAddr};

use deval_chain::{Client, HotkeyCommitment, IncentiveRank, Metagraph, Neuron, OnChainCommitment, Wallet};
use deval_hub::{HubClient, HubError, LocalFile, RemoteRepo, RemoteState, RepoId};
use deval_model::{Package as Staged, WeightsDigest};
use deval_report::{Network, Step};

use super::axon::{Probe, probe};
use crate::{context::Context, hub, steps::PublishReceipt, views, wallet};

/// Everything that was seen.
pub(super) struct Seen {
    pub(super) network: Network,
    pub(super) hotkey: String,
    /// The wallet's.
    pub(super) coldkey: String,
    /// The manifest's.
    pub(super) model_url: String,
    /// Where the manifest says that validators reach the axon; nothing where it does not say.
    pub(super) wanted: Option<SocketAddr>,
    pub(super) local: LocalSeen,
    /// In words, why it could not be looked at.
    pub(super) hub: Result<HubSeen, String>,
    pub(super) chain: Result<ChainSeen, String>,
}

/// The staged submission as its reports have it.
#[derive(Default)]
pub(super) struct LocalSeen {
    pub(super) model_hash: Option<String>,
    /// Which report that is from.
    pub(super) source: &'static str,
    /// Why the reports no longer stand.
    pub(super) changed: Option<String>,
    /// Empty without a staged and hashed package.
    pub(super) files: Vec<LocalFile>,
    /// What was published last.
    pub(super) published: Option<PublishReceipt>,
}

/// The repository.
pub(super) struct HubSeen {
    /// Nothing when it is missing.
    pub(super) repository: Option<RemoteRepo>,
    /// Whether it can be read without a token.
    pub(super) public: bool,
    /// Staged files that the Hub has not, or has otherwise; and files that only the Hub has.
    pub(super) differences: Vec<String>,
}

/// The subnet.
pub(super) struct ChainSeen {
    pub(super) block: u64,
    pub(super) block_milliseconds: u64,
    pub(super) neuron: Option<Neuron>,
    pub(super) rank: Option<IncentiveRank>,
    pub(super) commitment: Option<OnChainCommitment>,
    /// Of all hotkeys, the earliest first.
    pub(super) commitments: Vec<HotkeyCommitment>,
    /// Uids by hotkey.
    pub(super) uids: BTreeMap<String, u16>,
    pub(super) probe: Option<Probe>,
}

/// Looks everywhere at once. What is away is told as such.
///
/// # Errors
/// A wallet that cannot be opened.
pub(super) fn look(context: &Context) -> anyhow::Result<Seen> {
    let (wallet, repo) = (wallet::open(context)?, hub::repo(context)?);
    let axon = &context.manifest.axon;
    let listen = SocketAddr::new(axon.ip, axon.port);
    let local = local(context);
    // Where the local network has to be started first, it is started here.
    let (hub_endpoint, chain_endpoint) = (context.hub_endpoint(), context.chain_endpoint());
    let (hub, chain) = context.runtime.block_on(async {
        tokio::join!(async { on_hub(&hub_endpoint?, context, &repo, &local.files).await }, async {
            on_chain(&chain_endpoint?, context.network(), &wallet, listen).await
        },)
    });
    Ok(Seen {
        network: context.network(),
        hotkey: wallet.hotkey_ss58(),
        coldkey: wallet.coldkey_ss58().to_owned(),
        model_url: context.manifest.submission.model_url.clone(),
        wanted: wanted(context),
        local,
        hub: hub.map_err(|error| format!("{error:#}")),
        chain: chain.map_err(|error| format!("{error:#}")),
    })
}

/// The address that `serve` would announce, as far as it is written down.
fn wanted(context: &Context) -> Option<SocketAddr> {
    let axon = &context.manifest.axon;
    let interface = || deval_axon::external::of_interface(axon.external_interface.as_deref()?).ok();
    let own = (!axon.ip.is_unspecified()).then_some(axon.ip);
    Some(SocketAddr::new(axon.external_ip.or_else(interface).or(own)?, axon.port))
}

/// Reads reports only: no step runs for a look.
fn local(context: &Context) -> LocalSeen {
    let result = |step: Step| context.store.read::<serde_json::Value>(step.name());
    let published = context.store.read::<PublishReceipt>(Step::Publish.name()).and_then(|report| report.result);
    let package = context.store.read::<Staged>(Step::Package.name()).filter(|report| report.is_ok());
    let hash = context.store.read::<WeightsDigest>(Step::Hash.name()).filter(|report| report.is_ok());
    let known = package.and_then(|report| report.result).zip(hash.and_then(|report| report.result));
    let Some((package, weights)) = known else {
        let model_hash = published.as_ref().map(|published| published.model_hash.clone());
        return LocalSeen { model_hash, source: "publish", published, ..LocalSeen::default() };
    };
    let steps = [Step::Validate, Step::Package, Step::Hash];
    let changed = steps.into_iter().find_map(|step| views::outdated(context, step, &result(step)?.inputs, &[]));
    let files = hub::files_of(context, package, &weights).unwrap_or_default();
    LocalSeen { model_hash: Some(weights.model_hash), source: "hash", changed, files, published }
}

async fn on_hub(endpoint: &str, context: &Context, repo: &RepoId, files: &[LocalFile]) -> anyhow::Result<HubSeen> {
    let stranger = HubClient::new(endpoint, None, &context.out("hub"))?;
    let (mut state, mut public) = (stranger.remote_state(repo).await, true);
    let hidden = match &state {
        Ok(state) => *state == RemoteState::Missing,
        Err(HubError::Status { status, .. }) => matches!(status.as_u16(), 401 | 403),
        Err(_) => false,
    };
    if let (true, Some(owner)) = (hidden, hub::owner(endpoint, context)?) {
        (state, public) = (owner.remote_state(repo).await, false);
    }
    let state = state?;
    let differences = match files {
        [] => Vec::new(),
        files => {
            let plan = HubClient::plan(files, &state, None);
            let other =
                plan.adds.iter().map(|add| format!("{} {}", if add.replaces { "other" } else { "missing" }, add.path));
            other.chain(plan.deletes.iter().map(|path| format!("foreign {path}"))).collect()
        }
    };
    match state {
        RemoteState::Missing => Ok(HubSeen { repository: None, public: false, differences }),
        RemoteState::Present(found) => {
            let public = public && !found.private;
            Ok(HubSeen { repository: Some(found), public, differences })
        }
    }
}

async fn on_chain(endpoint: &str, network: Network, wallet: &Wallet, listen: SocketAddr) -> anyhow::Result<ChainSeen> {
    let (netuid, hotkey) = (network.netuid(), wallet.hotkey_ss58());
    let chain = Client::connect(endpoint, network).await?;
    let subnet = chain.subnet(netuid).await?;
    let (metagraph, commitments) = (chain.metagraph(netuid).await?, chain.commitments(netuid).await?);
    let commitment = chain.commitment(netuid, &hotkey).await?;
    let Metagraph { block, .. } = metagraph;
    let neuron = metagraph.neuron(&hotkey).cloned();
    let announced = neuron.as_ref().filter(|neuron| neuron.is_serving()).and_then(|neuron| neuron.axon.as_ref());
    let probe = match announced {
        Some(axon) => Some(probe(SocketAddr::new(axon.ip, axon.port), listen, wallet.hotkey()).await),
        None => None,
    };
    Ok(ChainSeen {
        block,
        block_milliseconds: subnet.map_or(12_000, |subnet| subnet.block_milliseconds),
        rank: neuron.as_ref().and_then(|neuron| metagraph.incentive_rank(neuron.uid)),
        neuron,
        commitment,
        commitments,
        uids: metagraph.neurons.into_iter().map(|neuron| (neuron.hotkey, neuron.uid)).collect(),
        probe,
    })
}
