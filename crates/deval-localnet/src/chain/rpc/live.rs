//! The methods that go on: extrinsics and what becomes of them, new heads, new runtime versions.

use std::sync::Arc;

use frame_support::traits::Get;
use jsonrpsee::core::SubscriptionResult;
use jsonrpsee::server::{PendingSubscriptionSink, RegisterMethodError, RpcModule, SubscriptionSink};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::Serialize;
use serde_json::json;
use serde_json::value::to_raw_value;
use sp_core::{Bytes, H256};
use sp_runtime::transaction_validity::{InvalidTransaction, TransactionValidityError};
use tokio::sync::watch;

use super::{Node, error, internal};
use crate::chain::gate::When;
use crate::chain::node::{Chain, Refusal};
use crate::chain::pool::Fate;
use crate::chain::runtime::Version;

/// Registers the methods.
pub(super) fn methods(module: &mut RpcModule<Node>) -> Result<(), RegisterMethodError> {
    module.register_blocking_method("author_submitExtrinsic", |params, node, _| submit(&params, &node))?;
    module.register_method("author_pendingExtrinsics", |_, node, _| {
        json!(node.chain().pool().waiting().iter().map(|waiting| Bytes(waiting.bytes.clone())).collect::<Vec<_>>())
    })?;
    module.register_subscription(
        "author_submitAndWatchExtrinsic",
        "author_extrinsicUpdate",
        "author_unwatchExtrinsic",
        |params, pending, node, _| submit_and_watch(params, pending, node),
    )?;
    for (method, name, end, last) in [
        ("chain_subscribeAllHeads", "chain_allHead", "chain_unsubscribeAllHeads", Chain::top as fn(&Chain) -> usize),
        ("chain_subscribeNewHeads", "chain_newHead", "chain_unsubscribeNewHeads", Chain::top),
        ("chain_subscribeFinalizedHeads", "chain_finalizedHead", "chain_unsubscribeFinalizedHeads", Chain::finalized),
    ] {
        module.register_subscription(method, name, end, move |_, pending, node, _| heads(pending, node, last))?;
    }
    module.register_subscription(
        "state_subscribeRuntimeVersion",
        "state_runtimeVersion",
        "state_unsubscribeRuntimeVersion",
        |_, pending, node, _| runtime_versions(pending, node),
    )?;
    Ok(())
}

/// Takes an extrinsic, and cuts the connections where a test asked for it.
fn submit(params: &Params<'_>, node: &Node) -> Result<H256, ErrorObjectOwned> {
    let extrinsic: Bytes = params.one()?;
    let cut = node.gate.take_cut();
    if let Some(cut) = cut.filter(|cut| cut.when == When::BeforeSubmit) {
        node.gate.cut(cut.refuse);
        return Err(error(-32000, "the connection is cut, as a test asked for", None));
    }
    let taken = node.chain().submit(&extrinsic);
    if let Some(cut) = cut {
        node.gate.cut(cut.refuse);
    }
    taken.map_err(pool_error)
}

/// The pool errors of a Substrate node: `sc-rpc-api`'s `author/error.rs`.
fn pool_error(refusal: Refusal) -> ErrorObjectOwned {
    match refusal {
        Refusal::Format => error(1001, "Extrinsic has invalid format: it does not decode", None),
        Refusal::Invalid(TransactionValidityError::Invalid(InvalidTransaction::Custom(code))) => {
            error(1010, "Invalid Transaction", format!("Custom error: {code}"))
        }
        Refusal::Invalid(TransactionValidityError::Invalid(reason)) => {
            error(1010, "Invalid Transaction", <&str>::from(reason).to_owned())
        }
        Refusal::Invalid(TransactionValidityError::Unknown(reason)) => {
            error(1011, "Unknown Transaction Validity", <&str>::from(reason).to_owned())
        }
        Refusal::AlreadyImported(hash) => error(1013, "Transaction Already Imported", format!("[{hash:?}]")),
        Refusal::Priority { old, new } => error(
            1014,
            &format!("Priority is too low: ({old} vs {new})"),
            "The transaction has too low priority to replace another transaction already in the pool.".to_owned(),
        ),
        Refusal::Chain(reason) => internal(reason),
    }
}

/// How far an extrinsic is, in the order it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Future,
    Ready,
    InBlock(H256),
    Finalized(H256),
    Invalid,
}

fn progress(chain: &Chain, extrinsic: H256) -> Option<Progress> {
    Some(match chain.pool().fate(extrinsic)? {
        Fate::Future => Progress::Future,
        Fate::Ready => Progress::Ready,
        Fate::Invalid => Progress::Invalid,
        Fate::Included(place) => {
            let (block, _) = chain.at(place)?;
            if place <= chain.finalized() { Progress::Finalized(block) } else { Progress::InBlock(block) }
        }
    })
}

async fn submit_and_watch(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    node: Arc<Node>,
) -> SubscriptionResult {
    let submitting = node.clone();
    match tokio::task::spawn_blocking(move || submit(&params, &submitting)).await? {
        Ok(extrinsic) => follow(pending.accept().await?, &node, extrinsic).await,
        Err(refusal) => {
            pending.reject(refusal).await;
            Ok(())
        }
    }
}

/// Tells each step of an extrinsic once, until it is final or invalid.
async fn follow(sink: SubscriptionSink, node: &Node, extrinsic: H256) -> SubscriptionResult {
    let mut news = node.chain().subscribe();
    let mut told = None;
    loop {
        news.mark_unchanged();
        let now = progress(&node.chain(), extrinsic);
        for step in steps(told, now) {
            send(&sink, &step).await?;
        }
        told = now;
        if matches!(now, None | Some(Progress::Finalized(_) | Progress::Invalid)) {
            return Ok(());
        }
        if !more(&mut news, &sink).await? {
            return Ok(());
        }
    }
}

/// What a node says on the way from one state to the next, steps between them included.
fn steps(told: Option<Progress>, now: Option<Progress>) -> Vec<serde_json::Value> {
    let Some(now) = now.filter(|now| Some(*now) != told) else { return Vec::new() };
    let mut steps = Vec::new();
    if now == Progress::Future {
        steps.push(json!("future"));
    }
    if now >= Progress::Ready && told < Some(Progress::Ready) && now != Progress::Invalid {
        steps.push(json!("ready"));
    }
    if let Progress::InBlock(block) | Progress::Finalized(block) = now
        && told < Some(Progress::InBlock(H256::zero()))
    {
        steps.push(json!({ "inBlock": block }));
    }
    match now {
        Progress::Finalized(block) => steps.push(json!({ "finalized": block })),
        Progress::Invalid => steps.push(json!("invalid")),
        Progress::Future | Progress::Ready | Progress::InBlock(_) => (),
    }
    steps
}

/// Sends the newest header by `last`, then each that follows.
async fn heads(pending: PendingSubscriptionSink, node: Arc<Node>, last: fn(&Chain) -> usize) -> SubscriptionResult {
    let sink = pending.accept().await?;
    let mut news = node.chain().subscribe();
    let mut next = last(&node.chain());
    loop {
        news.mark_unchanged();
        let headers: Vec<_> = {
            let chain = node.chain();
            (next..=last(&chain)).filter_map(|place| chain.at(place)).map(|(_, block)| block.header.clone()).collect()
        };
        next += headers.len();
        for header in headers {
            send(&sink, &header).await?;
        }
        if !more(&mut news, &sink).await? {
            return Ok(());
        }
    }
}

/// Sends the runtime's version, then each new one.
async fn runtime_versions(pending: PendingSubscriptionSink, node: Arc<Node>) -> SubscriptionResult {
    let sink = pending.accept().await?;
    let mut news = node.chain().subscribe();
    let mut told = None;
    loop {
        news.mark_unchanged();
        let version = node.chain().read(Version::get);
        if told != Some(version.spec_version) {
            send(&sink, &version).await?;
            told = Some(version.spec_version);
        }
        if !more(&mut news, &sink).await? {
            return Ok(());
        }
    }
}

async fn send(sink: &SubscriptionSink, what: &impl Serialize) -> SubscriptionResult {
    sink.send(to_raw_value(what)?).await?;
    Ok(())
}

/// Waits for something new; `false` when the subscriber is gone.
async fn more(news: &mut watch::Receiver<()>, sink: &SubscriptionSink) -> Result<bool, watch::error::RecvError> {
    tokio::select! {
        changed = news.changed() => changed.map(|()| true),
        () = sink.closed() => Ok(false),
    }
}
