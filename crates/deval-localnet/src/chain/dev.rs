//! The stand-in's own RPC methods, all named `dev_…`: what no real chain offers, so that tests can let time pass, write what the
//! economy would give, and break the connection. The crate's documentation has the table of them.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use frame_support::traits::fungible::Mutate;
use jsonrpsee::server::{RegisterMethodError, RpcModule};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::Deserialize;
use serde_json::json;
use sp_core::crypto::{DEV_PHRASE, Pair, SecretUri, Ss58Codec};
use sp_core::sr25519;

use crate::chain::commitments::{CommitmentOf, LastCommitment, MaxSpace};
use crate::chain::data::{CommitmentInfo, Data, Registration};
use crate::chain::gate::{Cut, When};
use crate::chain::node::{ALICE, Sealing};
use crate::chain::rpc::{Answer, Node, error, internal};
use crate::chain::runtime::{AccountId, Balances, Runtime, SubtensorModule, Version, upgrade};
use crate::chain::subtensor::*;

/// Blocks made at once.
const MAX_BLOCKS: u32 = 1000;

/// Time for the answer to get out before the connections are cut.
const ANSWER_FIRST: Duration = Duration::from_millis(50);

/// Registers the methods.
pub(crate) fn methods(module: &mut RpcModule<Node>) -> Result<(), RegisterMethodError> {
    module.register_method("dev_status", |_, node, _| status(node))?;
    module.register_blocking_method("dev_produceBlocks", |params, node, _| produce_blocks(&params, &node))?;
    module.register_blocking_method("dev_skipToBlock", |params, node, _| skip_to(&params, &node))?;
    module.register_blocking_method("dev_setSealing", |params, node, _| set_sealing(&params, &node))?;
    module.register_blocking_method("dev_setSubnet", |params, node, _| set_subnet(&params, &node))?;
    module.register_blocking_method("dev_setMiners", |params, node, _| set_miners(&params, &node))?;
    module.register_blocking_method("dev_setMaxSpace", |params, node, _| set_max_space(&params, &node))?;
    module.register_blocking_method("dev_fund", |params, node, _| fund(&params, &node))?;
    module.register_blocking_method("dev_upgradeRuntime", |_, node, _| upgrade_runtime(&node))?;
    module.register_async_method(
        "dev_dropConnections",
        |params, node, _| async move { drop_connections(&params, node) },
    )?;
    Ok(())
}

fn status(node: &Node) -> Answer {
    let chain = node.chain();
    let Sealing { instant, lag } = chain.sealing();
    let finalized = chain.at(chain.finalized()).map(|(_, block)| block.header.number);
    Ok(json!({
        "standIn": true,
        "head": chain.head(),
        "finalized": finalized,
        "waiting": chain.pool().waiting().len(),
        "instant": instant,
        "finalityLag": lag,
        "specVersion": chain.read(<Version as frame_support::traits::Get<_>>::get).spec_version,
    }))
}

/// `[count]`: seals that many blocks, at most [`MAX_BLOCKS`], and gives the new head's number.
fn produce_blocks(params: &Params<'_>, node: &Node) -> Answer {
    let count: u32 = params.one()?;
    let mut chain = node.chain();
    for _ in 0..count.min(MAX_BLOCKS) {
        chain.produce().map_err(internal)?;
    }
    Ok(json!(chain.head()))
}

/// `[number]`: seals one block of that number, as if all those before it had been made empty.
fn skip_to(params: &Params<'_>, node: &Node) -> Answer {
    let number: u32 = params.one()?;
    let mut chain = node.chain();
    match chain.skip_to(number).map_err(internal)? {
        true => Ok(json!(chain.head())),
        false => Err(invalid(format!("the chain is at block {} already", chain.head()))),
    }
}

/// `[instant, finalityLag]`: whether an extrinsic gets its block, and the blocks that make it final, at once; and how many blocks
/// those are.
fn set_sealing(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let (instant, lag): (bool, u32) = (params.next()?, params.optional_next()?.unwrap_or(1));
    node.chain().set_sealing(Sealing { instant, lag: lag as usize }).map_err(internal)?;
    status(node)
}

/// Settings of a subnet; what is not named stays.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SubnetChange {
    tempo: Option<u16>,
    /// Rao.
    burn: Option<u64>,
    serving_rate_limit: Option<u64>,
    immunity_period: Option<u16>,
    max_allowed_uids: Option<u16>,
    registration_allowed: Option<bool>,
    max_registrations_per_block: Option<u16>,
    target_registrations_per_interval: Option<u16>,
    adjustment_interval: Option<u16>,
}

/// Writes each setting that is given.
macro_rules! write_given {
    ($netuid:expr, $($value:expr => $entry:ident),* $(,)?) => {
        $(if let Some(value) = $value {
            $entry::<Runtime>::insert($netuid, value);
        })*
    };
}

/// `[netuid, settings]`: writes a subnet's settings; starts the subnet, Alice its owner, where there is none.
fn set_subnet(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let (netuid, change): (u16, SubnetChange) = (params.next()?, params.next()?);
    act(node, || {
        if !NetworksAdded::<Runtime>::get(netuid) {
            SubtensorModule::add_subnet(netuid, &AccountId::new(ALICE));
        }
        write_given!(netuid,
            change.tempo => Tempo,
            change.burn => Burn,
            change.serving_rate_limit => ServingRateLimit,
            change.immunity_period => ImmunityPeriod,
            change.max_allowed_uids => MaxAllowedUids,
            change.registration_allowed => NetworkRegistrationAllowed,
            change.max_registrations_per_block => MaxRegistrationsPerBlock,
            change.target_registrations_per_interval => TargetRegistrationsPerInterval,
            change.adjustment_interval => AdjustmentInterval,
        );
        Ok(())
    })?;
    Ok(json!(true))
}

/// A hotkey and what shall be true of it; what is not named stays.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Miner {
    /// SS58, or a development key such as `//Bob//miner`.
    hotkey: String,
    /// Its owner; only counts for a hotkey that has none. Without one it owns itself.
    coldkey: Option<String>,
    /// Block of the registration.
    registered_at: Option<u64>,
    /// In 65535ths, as the others.
    incentive: Option<u16>,
    consensus: Option<u16>,
    trust: Option<u16>,
    rank: Option<u16>,
    dividends: Option<u16>,
    /// Rao of the last epoch.
    emission: Option<u64>,
    last_update: Option<u64>,
    active: Option<bool>,
    validator_permit: Option<bool>,
    /// Rao.
    stake: Option<u64>,
    axon: Option<Axon>,
    commitment: Option<Commitment>,
}

/// An announcement; nothing of it is checked, so that a chain's odd ones can be written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Axon {
    ip: IpAddr,
    port: u16,
    /// bittensor's number; 9.0.1's where none is given.
    version: Option<u32>,
    /// The block of the announcement; the current one where none is given.
    block: Option<u64>,
}

/// A commitment of one `Raw` field.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Commitment {
    /// At most 128 bytes.
    text: String,
    /// The block it counts from; the current one where none is given.
    block: Option<u32>,
}

/// `[netuid, miners]`: gives each hotkey a uid where it has none, writes what is named of it, and answers the uids. On a full
/// subnet a new hotkey takes the place of the one the real chain would prune.
fn set_miners(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let (netuid, miners): (u16, Vec<Miner>) = (params.next()?, params.next()?);
    let uids = act(node, || {
        if !NetworksAdded::<Runtime>::get(netuid) {
            return Err(format!("there is no subnet {netuid}; dev_setSubnet starts one"));
        }
        miners.iter().map(|miner| set_miner(netuid, miner)).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(json!(uids))
}

fn set_miner(netuid: u16, miner: &Miner) -> Result<u16, String> {
    let hotkey = account(&miner.hotkey)?;
    let coldkey = miner.coldkey.as_deref().map_or(Ok(hotkey.clone()), account)?;
    let known = Uids::<Runtime>::get(netuid, &hotkey);
    let uid = known.or_else(|| SubtensorModule::add_neuron(netuid, &hotkey, &coldkey));
    let uid = uid.ok_or_else(|| format!("subnet {netuid} is full and may prune nobody"))?;
    write_economy(netuid, uid, miner);
    if let Some(block) = miner.registered_at {
        BlockAtRegistration::<Runtime>::insert(netuid, uid, block);
    }
    if let Some(stake) = miner.stake {
        TotalHotkeyAlpha::<Runtime>::insert(&hotkey, netuid, stake);
    }
    if let Some(axon) = &miner.axon {
        Axons::<Runtime>::insert(netuid, &hotkey, axon_info(axon));
    }
    if let Some(commitment) = &miner.commitment {
        write_commitment(netuid, &hotkey, commitment)?;
    }
    Ok(uid)
}

fn write_economy(netuid: u16, uid: u16, miner: &Miner) {
    macro_rules! by_uid {
        ($($value:expr => $entry:ident),* $(,)?) => {
            $(if let Some(value) = $value {
                $entry::<Runtime>::mutate(netuid, |values| {
                    // A neuron has a value in each of the vectors from its first block on.
                    if let Some(place) = values.get_mut(usize::from(uid)) {
                        *place = value;
                    }
                });
            })*
        };
    }
    by_uid!(
        miner.incentive => Incentive,
        miner.consensus => Consensus,
        miner.trust => Trust,
        miner.rank => Rank,
        miner.dividends => Dividends,
        miner.emission => Emission,
        miner.last_update => LastUpdate,
        miner.active => Active,
        miner.validator_permit => ValidatorPermit,
    );
}

fn axon_info(axon: &Axon) -> AxonInfo {
    let (ip, ip_type) = match axon.ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 4),
        IpAddr::V6(ip) => (u128::from(ip), 6),
    };
    let block = axon.block.unwrap_or_else(SubtensorModule::now);
    let version = axon.version.unwrap_or(9_000_001);
    AxonInfo { block, version, ip, port: axon.port, ip_type, protocol: 4, placeholder1: 0, placeholder2: 0 }
}

fn write_commitment(netuid: u16, hotkey: &AccountId, commitment: &Commitment) -> Result<(), String> {
    let bytes = commitment.text.as_bytes().to_vec();
    let raw = bytes.try_into().map_err(|_| format!("`{}` is longer than 128 bytes", commitment.text))?;
    let fields = vec![Data::Raw(raw)].try_into().map_err(|_| "one field is too many".to_owned())?;
    let block = commitment.block.unwrap_or_else(frame_system::Pallet::<Runtime>::block_number);
    CommitmentOf::<Runtime>::insert(
        netuid,
        hotkey,
        Registration { deposit: 0, block, info: CommitmentInfo { fields } },
    );
    LastCommitment::<Runtime>::insert(netuid, hotkey, block);
    Ok(())
}

/// `[bytes]`: what a hotkey may commit per epoch.
fn set_max_space(params: &Params<'_>, node: &Node) -> Answer {
    let space: u32 = params.one()?;
    act(node, || {
        MaxSpace::<Runtime>::put(space);
        Ok(())
    })?;
    Ok(json!(space))
}

/// `[account, rao]`: gives an account money.
fn fund(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let (name, rao): (String, u64) = (params.next()?, params.next()?);
    let balance = act(node, || {
        let who = account(&name)?;
        Balances::mint_into(&who, rao).map_err(|reason| format!("cannot give {name} {rao} rao: {reason:?}"))?;
        Ok(Balances::free_balance(&who))
    })?;
    Ok(json!(balance))
}

/// `[]`: raises the runtime's `spec_version` by one and answers it.
fn upgrade_runtime(node: &Node) -> Answer {
    act(node, || {
        upgrade();
        Ok(())
    })?;
    node.chain().finish_instantly().map_err(internal)?;
    status(node).map(|status| status["specVersion"].clone())
}

/// `[when, refuseMs]`: cuts all connections, and closes new ones at once for some milliseconds afterwards.
fn drop_connections(params: &Params<'_>, node: Arc<Node>) -> Answer {
    let mut params = params.sequence();
    let when: When = params.optional_next()?.unwrap_or_default();
    let refuse = Duration::from_millis(params.optional_next()?.unwrap_or(0));
    match when {
        When::Now => drop(tokio::spawn(async move {
            tokio::time::sleep(ANSWER_FIRST).await;
            node.gate.cut(refuse);
        })),
        When::BeforeSubmit | When::AfterSubmit => node.gate.cut_at_submit(Cut { when, refuse }),
    }
    Ok(json!(true))
}

fn act<R>(node: &Node, work: impl FnOnce() -> Result<R, String>) -> Result<R, ErrorObjectOwned> {
    node.chain().act(work).map_err(internal)?.map_err(invalid)
}

/// An SS58 address, or a development key's URI.
fn account(text: &str) -> Result<AccountId, String> {
    if text.starts_with("//") {
        return development_key(text).ok_or_else(|| format!("`{text}` is no development key"));
    }
    AccountId::from_ss58check(text).map_err(|reason| format!("`{text}` is no SS58 address: {reason}"))
}

fn development_key(uri: &str) -> Option<AccountId> {
    /// The pair of the phrase that development keys come from; making it takes longer than deriving hundreds from it.
    static ROOT: LazyLock<Option<sr25519::Pair>> =
        LazyLock::new(|| sr25519::Pair::from_phrase(DEV_PHRASE, None).ok().map(|(pair, _)| pair));
    let junctions = SecretUri::from_str(uri).ok()?.junctions;
    let (pair, _) = ROOT.as_ref()?.derive(junctions.into_iter(), None).ok()?;
    Some(pair.public().into())
}

fn invalid(reason: String) -> ErrorObjectOwned {
    error(-32602, "Invalid params", reason)
}
