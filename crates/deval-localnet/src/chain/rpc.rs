//! The JSON-RPC methods: what subxt's legacy backend asks for, and what any Substrate client asks first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jsonrpsee::core::SubscriptionResult;
use jsonrpsee::server::{PendingSubscriptionSink, RegisterMethodError, RpcModule};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::Deserialize;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use sp_core::crypto::Ss58Codec;
use sp_core::{Bytes, H256};
use sp_runtime::transaction_validity::{InvalidTransaction, TransactionValidityError};

use crate::chain::ChainError;
use crate::chain::node::{Chain, Inclusion, Refusal};
use crate::chain::runtime::{AccountId, VERSION};

type Answer = Result<Value, ErrorObjectOwned>;
type Shared = Mutex<Chain>;
type Module = RpcModule<Shared>;

/// Keys and blocks a client may ask for at once.
const MAX_AT_ONCE: u32 = 1000;

/// All methods over one chain.
pub(crate) fn methods(chain: Chain) -> Result<Module, ChainError> {
    let mut module = RpcModule::new(Mutex::new(chain));
    system_methods(&mut module)?;
    chain_methods(&mut module)?;
    state_methods(&mut module)?;
    author_methods(&mut module)?;
    module.register_blocking_method("dev_produceBlocks", |params, chain, _| produce_blocks(&params, &chain))?;
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
    module.register_method("system_accountNextIndex", |params, chain, _| next_index(&params, chain))?;
    Ok(())
}

fn chain_methods(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_method("chain_getBlockHash", |params, chain, _| block_hash(&params, chain))?;
    module.register_method("chain_getFinalizedHead", |_, chain, _| {
        let chain = lock(chain);
        json!(chain.hash(chain.finalized()))
    })?;
    module.register_method("chain_getHeader", |params, chain, _| header(&params, chain))?;
    module.register_method("chain_getBlock", |params, chain, _| block(&params, chain))?;
    for (method, name, end, lag) in [
        ("chain_subscribeAllHeads", "chain_allHead", "chain_unsubscribeAllHeads", 0),
        ("chain_subscribeNewHeads", "chain_newHead", "chain_unsubscribeNewHeads", 0),
        ("chain_subscribeFinalizedHeads", "chain_finalizedHead", "chain_unsubscribeFinalizedHeads", 1),
    ] {
        module.register_subscription(method, name, end, move |_, pending, chain, _| heads(pending, chain, lag))?;
    }
    Ok(())
}

fn state_methods(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_method("state_getRuntimeVersion", |_, _, _| json!(VERSION))?;
    module.register_blocking_method("state_getMetadata", |params, chain, _| metadata(&params, &chain))?;
    module.register_blocking_method("state_call", |params, chain, _| call(&params, &chain))?;
    module.register_method("state_getStorage", |params, chain, _| storage(&params, chain))?;
    module.register_method("state_getKeysPaged", |params, chain, _| keys_paged(&params, chain))?;
    module.register_method("state_queryStorageAt", |params, chain, _| query_storage_at(&params, chain))?;
    Ok(())
}

fn author_methods(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_blocking_method("author_submitExtrinsic", |params, chain, _| {
        submit(&params, &chain).map(|inclusion| inclusion.extrinsic)
    })?;
    module.register_method("author_pendingExtrinsics", |_, _, _| json!([]))?;
    module.register_subscription(
        "author_submitAndWatchExtrinsic",
        "author_extrinsicUpdate",
        "author_unwatchExtrinsic",
        |params, pending, chain, _| watch(params, pending, chain),
    )?;
    Ok(())
}

/// The state stays whole when a holder panics: blocks are only added once they are complete.
fn lock(chain: &Shared) -> MutexGuard<'_, Chain> {
    chain.lock().unwrap_or_else(PoisonError::into_inner)
}

fn error(code: i32, message: &str, data: impl Into<Option<String>>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, message.to_owned(), data.into())
}

/// The number of an optional block hash; the head where none is given.
fn number_at(chain: &Chain, at: Option<H256>) -> Result<u32, ErrorObjectOwned> {
    let unknown = || error(4003, "Client error: UnknownBlock: there is no block of this hash on this chain", None);
    at.map_or(Ok(chain.head()), |hash| chain.number(hash).ok_or_else(unknown))
}

fn next_index(params: &Params<'_>, chain: &Shared) -> Answer {
    let address: String = params.one()?;
    let account = AccountId::from_ss58check(&address)
        .map_err(|reason| error(-32602, "Invalid params", format!("not an SS58 address: {reason}")))?;
    Ok(json!(lock(chain).nonce(account)))
}

/// A block number as JSON clients write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u32),
    Hex(String),
}

fn block_hash(params: &Params<'_>, chain: &Shared) -> Answer {
    let chain = lock(chain);
    let number = match params.sequence().optional_next::<Number>()? {
        None => Some(chain.head()),
        Some(Number::Plain(number)) => Some(number),
        Some(Number::Hex(text)) => u32::from_str_radix(text.trim_start_matches("0x"), 16).ok(),
    };
    Ok(json!(number.and_then(|number| chain.hash(number))))
}

fn header(params: &Params<'_>, chain: &Shared) -> Answer {
    let at: Option<H256> = params.sequence().optional_next()?;
    let chain = lock(chain);
    let number = at.map_or(Some(chain.head()), |hash| chain.number(hash));
    Ok(json!(number.and_then(|number| chain.block(number)).map(|block| &block.header)))
}

fn block(params: &Params<'_>, chain: &Shared) -> Answer {
    let at: Option<H256> = params.sequence().optional_next()?;
    let chain = lock(chain);
    let number = at.map_or(Some(chain.head()), |hash| chain.number(hash));
    Ok(number.and_then(|number| chain.block(number)).map_or(Value::Null, |block| {
        let extrinsics: Vec<_> = block.extrinsics.iter().cloned().map(Bytes).collect();
        json!({ "block": { "header": block.header, "extrinsics": extrinsics }, "justifications": null })
    }))
}

fn metadata(params: &Params<'_>, chain: &Shared) -> Answer {
    let at: Option<H256> = params.sequence().optional_next()?;
    let chain = lock(chain);
    let answer = chain.call("Metadata_metadata", &[], number_at(&chain, at)?);
    let mut encoded = answer.as_deref().unwrap_or_default();
    let opaque: Vec<u8> = parity_scale_codec::Decode::decode(&mut encoded)
        .map_err(|reason| error(-32603, "Internal error", reason.to_string()))?;
    Ok(json!(Bytes(opaque)))
}

fn call(params: &Params<'_>, chain: &Shared) -> Answer {
    let mut params = params.sequence();
    let (method, arguments): (String, Bytes) = (params.next()?, params.next()?);
    let at: Option<H256> = params.optional_next()?;
    let chain = lock(chain);
    let answer = chain.call(&method, &arguments, number_at(&chain, at)?);
    let failed =
        || error(4003, &format!("Client error: Execution failed: no such method or bad arguments: {method}"), None);
    answer.map(|bytes| json!(Bytes(bytes))).ok_or_else(failed)
}

fn storage(params: &Params<'_>, chain: &Shared) -> Answer {
    let mut params = params.sequence();
    let (key, at): (Bytes, Option<H256>) = (params.next()?, params.optional_next()?);
    let chain = lock(chain);
    Ok(json!(chain.storage(&key, number_at(&chain, at)?).map(|value| Bytes(value.to_vec()))))
}

fn keys_paged(params: &Params<'_>, chain: &Shared) -> Answer {
    let mut params = params.sequence();
    let (prefix, count): (Bytes, u32) = (params.next()?, params.next()?);
    let (after, at): (Option<Bytes>, Option<H256>) = (params.optional_next()?, params.optional_next()?);
    let chain = lock(chain);
    let count = count.min(MAX_AT_ONCE) as usize;
    let keys = chain.keys(&prefix, count, after.as_deref(), number_at(&chain, at)?);
    Ok(json!(keys.into_iter().map(Bytes).collect::<Vec<_>>()))
}

fn query_storage_at(params: &Params<'_>, chain: &Shared) -> Answer {
    let mut params = params.sequence();
    let (keys, at): (Vec<Bytes>, Option<H256>) = (params.next()?, params.optional_next()?);
    let chain = lock(chain);
    let number = number_at(&chain, at)?;
    let value = |key: &Bytes| chain.storage(key, number).map(|value| Bytes(value.to_vec()));
    let changes: Vec<_> = keys.iter().map(|key| (key, value(key))).collect();
    Ok(json!([{ "block": chain.hash(number), "changes": changes }]))
}

/// The chain's own method: empty blocks, at most [`MAX_AT_ONCE`], so that rate limits and epochs can pass.
fn produce_blocks(params: &Params<'_>, chain: &Shared) -> Answer {
    let count: u32 = params.one()?;
    let head = lock(chain).advance(count.min(MAX_AT_ONCE));
    head.map(|head| json!(head)).map_err(|reason| error(-32603, "Internal error", reason.to_string()))
}

fn submit(params: &Params<'_>, chain: &Shared) -> Result<Inclusion, ErrorObjectOwned> {
    let extrinsic: Bytes = params.one()?;
    lock(chain).submit(&extrinsic).map_err(|refusal| pool_error(&refusal))
}

/// The pool errors of a Substrate node: `sc-rpc-api`'s `author/error.rs`.
fn pool_error(refusal: &Refusal) -> ErrorObjectOwned {
    match refusal {
        Refusal::Format => error(1001, "Extrinsic has invalid format: it does not decode", None),
        Refusal::Invalid(TransactionValidityError::Invalid(InvalidTransaction::Custom(code))) => {
            error(1010, "Invalid Transaction", format!("Custom error: {code}"))
        }
        Refusal::Invalid(TransactionValidityError::Invalid(reason)) => {
            error(1010, "Invalid Transaction", <&str>::from(*reason).to_owned())
        }
        Refusal::Invalid(TransactionValidityError::Unknown(reason)) => {
            error(1011, "Unknown Transaction Validity", <&str>::from(*reason).to_owned())
        }
        Refusal::Chain(reason) => error(-32603, "Internal error", reason.to_string()),
    }
}

/// Submits, then tells what became of it; the block is final by then, because every extrinsic gets two blocks at once.
async fn watch(params: Params<'static>, pending: PendingSubscriptionSink, chain: Arc<Shared>) -> SubscriptionResult {
    let inclusion = match tokio::task::spawn_blocking(move || submit(&params, &chain)).await? {
        Ok(inclusion) => inclusion,
        Err(refusal) => {
            pending.reject(refusal).await;
            return Ok(());
        }
    };
    let sink = pending.accept().await?;
    for status in [json!("ready"), json!({ "inBlock": inclusion.block }), json!({ "finalized": inclusion.block })] {
        sink.send(to_raw_value(&status)?).await?;
    }
    Ok(())
}

/// Sends the header `lag` blocks below the head, then each that follows.
async fn heads(pending: PendingSubscriptionSink, chain: Arc<Shared>, lag: u32) -> SubscriptionResult {
    let sink = pending.accept().await?;
    let mut news = lock(&chain).subscribe();
    let mut next = lock(&chain).head().saturating_sub(lag);
    loop {
        let last = news.borrow_and_update().saturating_sub(lag);
        while next <= last {
            let header = lock(&chain).block(next).map(|block| to_raw_value(&block.header)).transpose()?;
            let Some(header) = header else { break };
            sink.send(header).await?;
            next += 1;
        }
        tokio::select! {
            changed = news.changed() => changed?,
            () = sink.closed() => return Ok(()),
        }
    }
}
