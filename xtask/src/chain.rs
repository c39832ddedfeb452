//! What the chain says of the submission at one time: the report `chain`, made where the chain is looked at anyway (`commit`, `status`,
//! `verdict --online`), read by `verdict`.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use deval_chain::{
    Client, Wallet,
    gates::{self, Seen},
};
use deval_hub::{HubClient, RemoteState};
use deval_report::{Inputs, Network, Report, Step, gates::GateVerdict};
use serde::{Deserialize, Serialize};

use crate::{
    context::Context,
    hub,
    steps::{self, Watch},
    wallet,
};

/// Name of the report.
pub(crate) const REPORT: &str = "chain";

/// How long a look at the chain stands: three times as long as upstream's miner keeps its metagraph.
const STANDS_SECONDS: u64 = 3600;

/// What was seen, at one finalised block.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChainSeen {
    pub(crate) network: Network,
    /// Hash of the chain's first block.
    pub(crate) genesis: String,
    pub(crate) netuid: u16,
    pub(crate) block: u64,
    pub(crate) hotkey: String,
    /// Absent when the hotkey is not registered.
    pub(crate) uid: Option<u16>,
    /// Block of the commitment, when there is one.
    pub(crate) committed: Option<u32>,
    pub(crate) gates: Vec<GateVerdict>,
}

/// A connection to the chain of the manifest's network.
///
/// # Errors
/// When it is down, or another chain.
pub(crate) fn client(context: &Context) -> anyhow::Result<Client> {
    let endpoint = context.chain_endpoint()?;
    Ok(context.runtime.block_on(Client::connect(&endpoint, context.network()))?)
}

/// Reads the chain, and the repository where it can be read, decides the gates, and stores the report.
///
/// # Errors
/// When the chain cannot be read, or the wallet has no such hotkey.
pub(crate) fn look(context: &Context) -> anyhow::Result<Report<ChainSeen>> {
    let watch = Watch::start();
    let chain = client(context)?;
    let hotkey = hotkey(context)?;
    let model_hash = model_hash(context);
    // The weights are not read for this.
    let repository = model_hash.as_ref().and_then(|_| repository(context));
    let coldkey_txt = fs::read(steps::tree(context).join("coldkey.txt")).ok();
    let netuid = context.network().netuid();
    let result = context.runtime.block_on(async {
        let metagraph = chain.metagraph(netuid).await?;
        let own = metagraph.neuron(&hotkey);
        let stake = match own.filter(|own| own.validator_permit) {
            Some(own) => chain.total_stake(netuid, own.uid).await?,
            None => None,
        };
        let commitment = chain.commitment(netuid, &hotkey).await?;
        let commitments = chain.commitments(netuid).await?;
        let parameters = chain.subnet(netuid).await?;
        let seen = Seen {
            network: context.network(),
            hotkey: &hotkey,
            metagraph: &metagraph,
            stake,
            commitment: commitment.as_ref(),
            commitments: &commitments,
            allowance: chain.allowance(netuid, &hotkey).await?,
            block_milliseconds: parameters.map_or(12_000, |subnet| subnet.block_milliseconds),
            model_url: &context.manifest.submission.model_url,
            model_hash: model_hash.as_deref(),
            coldkey_txt: coldkey_txt.as_deref(),
            repository: repository.as_ref().map(|(same, what)| (*same, what.as_str())),
        };
        anyhow::Ok(ChainSeen {
            network: context.network(),
            genesis: chain.genesis_hash(),
            netuid,
            block: metagraph.block,
            uid: own.map(|own| own.uid),
            committed: commitment.as_ref().map(|found| found.block),
            gates: gates::gates(&seen),
            hotkey: hotkey.clone(),
        })
    })?;
    let mut report = Report::new(REPORT, inputs(context, &hotkey), Vec::new(), Some(result));
    report.run = watch.stop(Vec::new(), serde_json::Value::Null);
    context.store.write(&report)?;
    Ok(report)
}

/// Why a stored look no longer stands.
pub(crate) fn outdated(context: &Context, report: &Report<ChainSeen>) -> Option<String> {
    // An encrypted hotkey is not opened for this.
    let known = report.result.as_ref().map(|seen| seen.hotkey.clone());
    let now = inputs(context, &address(context).ok().flatten().or(known).unwrap_or_default());
    let changed: Vec<_> = now.changes_since(&report.inputs).iter().map(ToString::to_string).collect();
    if !changed.is_empty() {
        return Some(changed.join(", "));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let age = now.saturating_sub(report.run.started_unix);
    (age > STANDS_SECONDS).then(|| format!("the chain was read {} minutes ago", age / 60))
}

/// What a look depends on beside the chain.
fn inputs(context: &Context, hotkey: &str) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.add("submission.model_url", &context.manifest.submission.model_url);
    inputs.add("submission.network", context.network());
    inputs.add("wallet.hotkey", hotkey);
    inputs.add("model hash", model_hash(context).unwrap_or_default());
    inputs
}

/// Hash of the weights, as `hash` last made it.
fn model_hash(context: &Context) -> Option<String> {
    let hashed = context.store.read::<deval_model::WeightsDigest>(Step::Hash.name())?;
    hashed.result.map(|digest| digest.model_hash)
}

/// The hotkey's address, without its secret where the keyfile tells it.
pub(crate) fn hotkey(context: &Context) -> anyhow::Result<String> {
    Ok(match address(context)? {
        Some(address) => address,
        None => wallet::open(context)?.hotkey_ss58(),
    })
}

/// The hotkey's address, as far as it is told without its secret.
fn address(context: &Context) -> anyhow::Result<Option<String>> {
    let settings = &context.manifest.wallet;
    let known = Wallet::addresses(&context.path(&settings.path), &settings.name)?.hotkeys;
    Ok(known.into_iter().find(|(name, _)| *name == settings.hotkey).map_or(Ok(None), |(_, address)| address)?)
}

/// Whether `main` holds what is staged; nothing when there is nothing staged or the Hub cannot be read.
fn repository(context: &Context) -> Option<(bool, String)> {
    let files = hub::files(context).ok()?;
    let (hub, repo) = (hub::reader(context).ok()?, hub::repo(context).ok()?);
    let remote = context.runtime.block_on(hub.remote_state(&repo)).ok()?;
    let differ = HubClient::plan(&files, &remote, None);
    Some(match &remote {
        RemoteState::Present(found) if differ.is_empty() => {
            (true, format!("revision {}", found.head.as_deref().unwrap_or("unknown")))
        }
        RemoteState::Present(_) => {
            let (add, delete) = (differ.adds.len(), differ.deletes.len());
            (false, format!("`main` differs from what is staged: {add} files to send, {delete} to remove"))
        }
        RemoteState::Missing => (false, "there is no such repository".to_owned()),
    })
}
