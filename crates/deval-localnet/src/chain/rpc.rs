//! The JSON-RPC methods: what subxt's legacy backend and Python's two Substrate clients ask for.

mod live;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frame_support::traits::Get;
use jsonrpsee::server::{RegisterMethodError, RpcModule};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use parity_scale_codec::DecodeAll;
use serde::Deserialize;
use serde_json::{Value, json};
use sp_core::crypto::Ss58Codec;
use sp_core::{Bytes, H256};

use crate::chain::ChainError;
use crate::chain::dev;
use crate::chain::gate::Gate;
use crate::chain::node::Chain;
use crate::chain::runtime::{AccountId, System, TransactionPayment, UncheckedExtrinsic, Version};
use crate::chain::store::Block;

/// What a method answers.
pub(crate) type Answer = Result<Value, ErrorObjectOwned>;
type Module = RpcModule<Node>;

/// Keys and blocks a client may ask for at once.
const MAX_AT_ONCE: u32 = 1000;

/// The chain and the way to it.
#[derive(Debug)]
pub(crate) struct Node {
    chain: Mutex<Chain>,
    /// The connections.
    pub(crate) gate: Arc<Gate>,
}

impl Node {
    /// The chain. Its state stays whole when a holder panics: blocks are only added once they are complete.
    pub(crate) fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All methods over one chain.
pub(crate) fn methods(chain: Chain, gate: Arc<Gate>) -> Result<Module, ChainError> {
    let mut module = RpcModule::new(Node { chain: Mutex::new(chain), gate });
    system_methods(&mut module)?;
    chain_methods(&mut module)?;
    state_methods(&mut module)?;
    live::methods(&mut module)?;
    dev::methods(&mut module)?;
    // The names that Python's clients use.
    for (alias, method) in [
        ("account_nextIndex", "system_accountNextIndex"),
        ("chain_getHead", "chain_getBlockHash"),
        ("chain_getFinalisedHead", "chain_getFinalizedHead"),
        ("chain_getRuntimeVersion", "state_getRuntimeVersion"),
        ("state_getStorageAt", "state_getStorage"),
        ("state_getKeysPagedAt", "state_getKeysPaged"),
    ] {
        module.register_alias(alias, method)?;
    }
    let mut names: Vec<_> = module.method_names().chain(["rpc_methods"]).collect();
    names.sort_unstable();
    module.register_method("rpc_methods", move |_, _, _| json!({ "methods": names }))?;
    Ok(module)
}

fn system_methods(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_method("system_chain", |_, _, _| "De-Val local")?;
    module.register_method("system_chainType", |_, _, _| "Local")?;
    module.register_method("system_name", |_, _, _| env!("CARGO_PKG_NAME"))?;
    module.register_method("system_version", |_, _, _| env!("CARGO_PKG_VERSION"))?;
    module.register_method(
        "system_health",
        |_, _, _| json!({ "peers": 0, "isSyncing": false, "shouldHavePeers": false }),
    )?;
    module.register_method(
        "system_properties",
        |_, _, _| json!({ "ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO" }),
    )?;
    module.register_method("system_accountNextIndex", |params, node, _| next_index(&params, node))?;
    Ok(())
}

fn chain_methods(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_method("chain_getBlockHash", |params, node, _| block_hash(&params, node))?;
    module.register_method("chain_getFinalizedHead", |_, node, _| {
        let chain = node.chain();
        json!(chain.at(chain.finalized()).map(|(hash, _)| hash))
    })?;
    module.register_method("chain_getHeader", |params, node, _| header(&params, node))?;
    module.register_method("chain_getBlock", |params, node, _| block(&params, node))?;
    Ok(())
}

fn state_methods(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_blocking_method("state_getRuntimeVersion", |params, node, _| runtime_version(&params, &node))?;
    module.register_blocking_method("payment_queryInfo", |params, node, _| payment_info(&params, &node))?;
    module.register_blocking_method("state_getMetadata", |params, node, _| metadata(&params, &node))?;
    module.register_blocking_method("state_call", |params, node, _| call(&params, &node))?;
    module.register_method("state_getStorage", |params, node, _| storage(&params, node))?;
    module.register_method("state_getKeysPaged", |params, node, _| keys_paged(&params, node))?;
    module.register_method("state_queryStorageAt", |params, node, _| query_storage_at(&params, node))?;
    Ok(())
}

/// An error object.
pub(crate) fn error(code: i32, message: &str, data: impl Into<Option<String>>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, message.to_owned(), data.into())
}

/// For what a client is not to blame for.
pub(crate) fn internal(reason: ChainError) -> ErrorObjectOwned {
    error(-32603, "Internal error", reason.to_string())
}

/// The number of an optional block hash; the head where none is given.
fn number_at(chain: &Chain, at: Option<H256>) -> Result<u32, ErrorObjectOwned> {
    let unknown = || error(4003, "Client error: UnknownBlock: there is no block of this hash on this chain", None);
    let Some(hash) = at else { return Ok(chain.head()) };
    chain.find(hash).and_then(|place| chain.at(place)).map(|(_, block)| block.header.number).ok_or_else(unknown)
}

/// The block of an optional hash; the head where none is given.
fn block_at(chain: &Chain, at: Option<H256>) -> Option<(H256, &Block)> {
    at.map_or(Some(chain.top()), |hash| chain.find(hash)).and_then(|place| chain.at(place))
}

fn next_index(params: &Params<'_>, node: &Node) -> Answer {
    let address: String = params.one()?;
    let account = AccountId::from_ss58check(&address)
        .map_err(|reason| error(-32602, "Invalid params", format!("not an SS58 address: {reason}")))?;
    Ok(json!(node.chain().read(|| System::account_nonce(account))))
}

/// A block number as JSON clients write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u32),
    Hex(String),
}

fn block_hash(params: &Params<'_>, node: &Node) -> Answer {
    let chain = node.chain();
    let place = match params.sequence().optional_next::<Number>()? {
        None => Some(chain.top()),
        Some(Number::Plain(number)) => chain.place(number),
        Some(Number::Hex(text)) => {
            u32::from_str_radix(text.trim_start_matches("0x"), 16).ok().and_then(|number| chain.place(number))
        }
    };
    Ok(json!(place.and_then(|place| chain.at(place)).map(|(hash, _)| hash)))
}

fn header(params: &Params<'_>, node: &Node) -> Answer {
    let at: Option<H256> = params.sequence().optional_next()?;
    Ok(json!(block_at(&node.chain(), at).map(|(_, block)| &block.header)))
}

fn block(params: &Params<'_>, node: &Node) -> Answer {
    let at: Option<H256> = params.sequence().optional_next()?;
    Ok(block_at(&node.chain(), at).map_or(Value::Null, |(_, block)| {
        let extrinsics: Vec<_> = block.extrinsics.iter().cloned().map(Bytes).collect();
        json!({ "block": { "header": block.header, "extrinsics": extrinsics }, "justifications": null })
    }))
}

fn runtime_version(params: &Params<'_>, node: &Node) -> Answer {
    let at: Option<H256> = params.sequence().optional_next()?;
    let chain = node.chain();
    let number = number_at(&chain, at)?;
    Ok(json!(chain.read_at(number, Version::get)))
}

/// What a transaction would cost, as older clients ask.
fn payment_info(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let (bytes, at): (Bytes, Option<H256>) = (params.next()?, params.optional_next()?);
    let format = || error(1001, "Extrinsic has invalid format: it does not decode", None);
    let extrinsic = UncheckedExtrinsic::decode_all(&mut &bytes[..]).map_err(|_| format())?;
    let chain = node.chain();
    let number = number_at(&chain, at)?;
    let length = u32::try_from(bytes.len()).map_err(|_| format())?;
    let info = chain.read_at(number, || TransactionPayment::query_info(extrinsic, length));
    Ok(json!({ "weight": info.weight, "class": info.class, "partialFee": info.partial_fee.to_string() }))
}

fn metadata(params: &Params<'_>, node: &Node) -> Answer {
    let at: Option<H256> = params.sequence().optional_next()?;
    let chain = node.chain();
    let answer = chain.call("Metadata_metadata", &[], number_at(&chain, at)?);
    let mut encoded = answer.as_deref().unwrap_or_default();
    let opaque: Vec<u8> = parity_scale_codec::Decode::decode(&mut encoded)
        .map_err(|reason| error(-32603, "Internal error", reason.to_string()))?;
    Ok(json!(Bytes(opaque)))
}

fn call(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let (method, arguments): (String, Bytes) = (params.next()?, params.next()?);
    let at: Option<H256> = params.optional_next()?;
    let chain = node.chain();
    let answer = chain.call(&method, &arguments, number_at(&chain, at)?);
    let failed =
        || error(4003, &format!("Client error: Execution failed: no such method or bad arguments: {method}"), None);
    answer.map(|bytes| json!(Bytes(bytes))).ok_or_else(failed)
}

fn storage(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let (key, at): (Bytes, Option<H256>) = (params.next()?, params.optional_next()?);
    let chain = node.chain();
    Ok(json!(chain.storage(&key, number_at(&chain, at)?).map(|value| Bytes(value.to_vec()))))
}

fn keys_paged(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let (prefix, count): (Bytes, u32) = (params.next()?, params.next()?);
    let (after, at): (Option<Bytes>, Option<H256>) = (params.optional_next()?, params.optional_next()?);
    let chain = node.chain();
    let count = count.min(MAX_AT_ONCE) as usize;
    let keys = chain.keys(&prefix, count, after.as_deref(), number_at(&chain, at)?);
    Ok(json!(keys.into_iter().map(Bytes).collect::<Vec<_>>()))
}

fn query_storage_at(params: &Params<'_>, node: &Node) -> Answer {
    let mut params = params.sequence();
    let (keys, at): (Vec<Bytes>, Option<H256>) = (params.next()?, params.optional_next()?);
    let chain = node.chain();
    let number = number_at(&chain, at)?;
    let value = |key: &Bytes| chain.storage(key, number).map(|value| Bytes(value.to_vec()));
    let changes: Vec<_> = keys.iter().map(|key| (key, value(key))).collect();
    Ok(json!([{ "block": block_at(&chain, at).map(|(hash, _)| hash), "changes": changes }]))
}
