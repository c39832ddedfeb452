//! What only the stand-in has: its own methods, and the failures they bring about.

use std::time::Duration;

use parity_scale_codec::{DecodeAll, Encode};
use serde_json::{Value as Json, json};
use subxt::config::{SubstrateConfig, SubstrateExtrinsicParamsBuilder};
use subxt::dynamic::{self, Value};
use subxt::rpcs::RpcClient;
use subxt::rpcs::client::{RpcSubscription, rpc_params};
use subxt::tx::DynamicPayload;
use subxt_signer::sr25519::{Keypair, dev::alice};

use super::end_to_end::{Client, Server, key, read, register, send, transfer};
use super::unhex;
use crate::chain::Call;
use crate::chain::info::{Metagraph, SelectiveMetagraph};

const ALICE_SS58: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

async fn dev(rpc: &RpcClient, method: &str, params: Json) -> Result<Json, String> {
    let mut given = rpc_params![];
    for param in params.as_array().unwrap() {
        given.push(param).unwrap();
    }
    rpc.request(method, given).await.map_err(|reason| format!("{reason:?}"))
}

async fn runtime_call<T: DecodeAll>(rpc: &RpcClient, method: &str, arguments: &impl Encode) -> T {
    let name = format!("SubnetInfoRuntimeApi_{method}");
    let answer = dev(rpc, "state_call", json!([name, format!("0x{}", hex::encode(arguments.encode()))])).await.unwrap();
    T::decode_all(&mut &unhex(answer.as_str().unwrap())[..]).unwrap()
}

async fn metagraph(rpc: &RpcClient, netuid: u16) -> Option<Metagraph> {
    runtime_call(rpc, "get_metagraph", &netuid).await
}

fn register_limit(netuid: u16, hotkey: &Keypair, limit: u64) -> DynamicPayload<Vec<Value>> {
    let values = vec![Value::u128(netuid.into()), Value::from_bytes(hotkey.public_key().0), Value::u128(limit.into())];
    dynamic::tx("SubtensorModule", "register_limit", values)
}

/// A transaction of Alice's, as hex.
async fn signed(client: &Client, call: &DynamicPayload<Vec<Value>>, nonce: u64) -> String {
    let params = SubstrateExtrinsicParamsBuilder::<SubstrateConfig>::new().nonce(nonce).build();
    let mut transactions = client.at_current_block().await.unwrap().transactions();
    let transaction = transactions.create_signed(call, &alice(), params).await.unwrap();
    format!("0x{}", hex::encode(transaction.into_encoded()))
}

/// What is told of an extrinsic.
struct Steps(RpcSubscription<Json>);

impl Steps {
    async fn watch(rpc: &RpcClient, extrinsic: &str) -> Self {
        let params = rpc_params![extrinsic];
        Self(rpc.subscribe("author_submitAndWatchExtrinsic", params, "author_unwatchExtrinsic").await.unwrap())
    }

    async fn next(&mut self) -> String {
        match self.0.next().await.unwrap().unwrap() {
            Json::String(step) => step,
            step => step.as_object().unwrap().keys().next().unwrap().clone(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subnet_is_written_in_one_call_and_read_by_its_interfaces() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let (client, rpc) = (server.legacy().await, server.rpc().await);
    let miners = json!([202, [
        { "hotkey": "//Bob//miner", "coldkey": "//Bob", "registeredAt": 0, "incentive": 60000, "stake": 5,
          "axon": { "ip": "203.0.113.9", "port": 8091 }, "commitment": { "text": "{}", "block": 7 } },
        { "hotkey": "//Charlie//miner", "coldkey": "//Charlie", "incentive": 5535, "validatorPermit": true },
    ]]);
    assert_eq!(dev(&rpc, "dev_setMiners", miners).await, Ok(json!([1, 2])));
    let again = json!([202, [{ "hotkey": "//Bob//miner", "emission": 9 }]]);
    assert_eq!(dev(&rpc, "dev_setMiners", again).await, Ok(json!([1])), "a known hotkey keeps its uid");

    let graph = metagraph(&rpc, 202).await.unwrap();
    let bob = key("//Bob");
    assert_eq!(graph.incentives.iter().map(|share| share.0).collect::<Vec<_>>(), [0, 60000, 5535]);
    assert_eq!((graph.validator_permit, graph.emission[1].0), (vec![true, false, true], 9));
    assert_eq!(<[u8; 32]>::from(graph.coldkeys[1].clone()), bob.public_key().0);
    assert_eq!((graph.axons[1].ip, graph.axons[1].port, graph.axons[2].ip), (3_405_803_785, 8091, 0));
    assert_eq!((graph.alpha_stake[1].0, graph.num_uids.0), (5, 3));
    let committed = read(&client, "Commitments", "CommitmentOf", 202, &key("//Bob//miner")).await.unwrap();
    assert_eq!(committed, [&[0; 8][..], &[7, 0, 0, 0, 4, 3], b"{}"].concat());

    for (method, params, reason) in [
        ("dev_setMiners", json!([9, []]), "there is no subnet 9"),
        ("dev_setMiners", json!([202, [{ "hotkey": "nobody" }]]), "no SS58 address"),
        ("dev_setMiners", json!([202, [{ "hotkey": "//A", "commitment": { "text": "x".repeat(129) } }]]), "128 bytes"),
        ("dev_setMiners", json!([202, [{ "hotkey": "//A", "weights": 1 }]]), "unknown field"),
        ("dev_skipToBlock", json!([1]), "already"),
    ] {
        let error = dev(&rpc, method, params).await.unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    assert_eq!(metagraph(&rpc, 202).await.unwrap().num_uids.0, 3, "a call that is refused writes nothing");
    assert_eq!(dev(&rpc, "dev_setSubnet", json!([77, { "burn": 5 }])).await, Ok(json!(true)));
    assert_eq!(metagraph(&rpc, 77).await.unwrap().burn.0, 5);
    assert!(metagraph(&rpc, 78).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_fields_of_a_metagraph_are_told_by_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let rpc = server.rpc().await;
    // 8 is the tempo, 52 the hotkeys, 72 the validators, as in the SDK's SelectiveMetagraphIndex.
    let wanted = (202_u16, vec![8_u16, 52, 72]);
    let chosen: Option<SelectiveMetagraph> = runtime_call(&rpc, "get_selective_metagraph", &wanted).await;
    let chosen = chosen.unwrap();
    assert_eq!((chosen.tempo.unwrap().0, chosen.hotkeys.unwrap().len(), chosen.validators.unwrap().len()), (360, 1, 1));
    assert!(chosen.name.is_none() && chosen.axons.is_none() && chosen.commitments.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn register_limit_and_the_limits_of_registration() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let (client, rpc) = (server.legacy().await, server.rpc().await);
    let bob = key("//Bob");
    assert_eq!(dev(&rpc, "dev_fund", json!(["//Bob", 10_000_000_000_u64])).await, Ok(json!(10_000_000_000_u64)));
    let limited = |name: &str, limit: u64| register_limit(202, &key(name), limit);
    let error = send(&client, &limited("//one", 99_999_999), &bob).await.unwrap_err();
    assert!(error.contains("RegistrationPriceLimitExceeded"), "{error}");
    let events = send(&client, &limited("//one", 100_000_000), &bob).await.unwrap();
    assert!(events.contains(&"SubtensorModule.NeuronRegistered".to_owned()), "{events:?}");

    let error = send(&client, &register(202, &key("//two")), &key("//Poor")).await.unwrap_err();
    assert!(error.contains("Inability to pay some fees"), "{error}");
    dev(&rpc, "dev_fund", json!(["//Poor", 50_000_000])).await.unwrap();
    let error = send(&client, &register(202, &key("//two")), &key("//Poor")).await.unwrap_err();
    assert!(error.contains("SubtensorModule::NotEnoughBalanceToStake"), "{error}");

    for (change, reason) in [
        (json!({ "registrationAllowed": false }), "SubNetRegistrationDisabled"),
        (json!({ "registrationAllowed": true, "maxRegistrationsPerBlock": 0 }), "TooManyRegistrationsThisBlock"),
        (
            json!({ "maxRegistrationsPerBlock": 1, "targetRegistrationsPerInterval": 0 }),
            "TooManyRegistrationsThisInterval",
        ),
    ] {
        dev(&rpc, "dev_setSubnet", json!([202, change])).await.unwrap();
        let error = send(&client, &register(202, &key("//two")), &bob).await.unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_subnet_prunes_the_least_of_those_without_immunity() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let (client, rpc) = (server.legacy().await, server.rpc().await);
    let miner = |name: &str, emission: u64| json!({ "hotkey": name, "emission": emission, "axon": { "ip": "203.0.113.9", "port": 1 } });
    let miners = json!([202, [miner("//rich", 9), miner("//poor", 1), miner("//new", 0)]]);
    dev(&rpc, "dev_setMiners", miners).await.unwrap();
    dev(&rpc, "dev_skipToBlock", json!([5000])).await.unwrap();
    let young = json!([202, [{ "hotkey": "//new", "registeredAt": 4999 }]]);
    dev(&rpc, "dev_setMiners", young).await.unwrap();
    dev(&rpc, "dev_setSubnet", json!([202, { "maxAllowedUids": 4 }])).await.unwrap();
    dev(&rpc, "dev_fund", json!(["//Bob", 1_000_000_000])).await.unwrap();
    send(&client, &register(202, &key("//Bob//miner")), &key("//Bob")).await.unwrap();
    let uid = async |name: &str| read(&client, "SubtensorModule", "Uids", 202, &key(name)).await;
    assert_eq!(uid("//Bob//miner").await, Some(vec![2, 0]), "the place of the poor one");
    assert_eq!((uid("//poor").await, uid("//new").await), (None, Some(vec![3, 0])));
    assert_eq!(read(&client, "SubtensorModule", "Axons", 202, &key("//poor")).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn finality_comes_with_the_blocks_on_top() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let (client, rpc) = (server.legacy().await, server.rpc().await);
    dev(&rpc, "dev_setSealing", json!([false, 3])).await.unwrap();
    let transaction = signed(&client, &transfer(&key("//Bob"), 1_000_000), 0).await;
    let mut steps = Steps::watch(&rpc, &transaction).await;
    assert_eq!(steps.next().await, "ready");
    let status = dev(&rpc, "dev_status", json!([])).await.unwrap();
    assert_eq!((&status["head"], &status["waiting"]), (&json!(0), &json!(1)));
    dev(&rpc, "dev_produceBlocks", json!([1])).await.unwrap();
    assert_eq!(steps.next().await, "inBlock");
    dev(&rpc, "dev_produceBlocks", json!([2])).await.unwrap();
    let status = dev(&rpc, "dev_status", json!([])).await.unwrap();
    assert_eq!((&status["head"], &status["finalized"]), (&json!(3), &json!(0)));
    dev(&rpc, "dev_produceBlocks", json!([1])).await.unwrap();
    assert_eq!(steps.next().await, "finalized");
    assert_eq!(dev(&rpc, "dev_setSealing", json!([true, 9])).await.unwrap()["finalized"], 1, "what is final stays so");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_come_by_the_clock_where_they_have_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(&dir, |config| config.block_time = Some(Duration::from_millis(50))).await;
    let client = server.legacy().await;
    let bob = key("//Bob");
    send(&client, &transfer(&bob, 1_000_000_000), &alice()).await.unwrap();
    let before = client.at_current_block().await.unwrap().block_number();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(client.at_current_block().await.unwrap().block_number() > before, "idle blocks");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_nonce_is_taken_once_while_it_waits() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let (client, rpc) = (server.legacy().await, server.rpc().await);
    dev(&rpc, "dev_setSealing", json!([false, 1])).await.unwrap();
    let first = signed(&client, &transfer(&key("//Bob"), 1_000_000), 0).await;
    let other = signed(&client, &transfer(&key("//Bob"), 2_000_000), 0).await;
    let second = signed(&client, &transfer(&key("//Bob"), 3_000_000), 1).await;
    let submit = async |bytes: &str| dev(&rpc, "author_submitExtrinsic", json!([bytes])).await;
    submit(&first).await.unwrap();
    let again = submit(&first).await.unwrap_err();
    assert!(again.contains("1013") && again.contains("Already Imported"), "{again}");
    let lower = submit(&other).await.unwrap_err();
    assert!(lower.contains("1014") && lower.contains("Priority is too low"), "{lower}");
    submit(&second).await.unwrap();
    dev(&rpc, "dev_produceBlocks", json!([1])).await.unwrap();
    assert_eq!(dev(&rpc, "system_accountNextIndex", json!([ALICE_SS58])).await, Ok(json!(2)), "both in one block");
    let stale = submit(&other).await.unwrap_err();
    assert!(stale.contains("1010") && stale.contains("outdated"), "{stale}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_upgrade_between_two_calls_is_seen_and_signed_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let (client, rpc) = (server.legacy().await, server.rpc().await);
    let stale = signed(&client, &transfer(&key("//Bob"), 1_000_000), 0).await;
    let mut versions = rpc
        .subscribe::<Json>("state_subscribeRuntimeVersion", rpc_params![], "state_unsubscribeRuntimeVersion")
        .await
        .unwrap();
    assert_eq!(versions.next().await.unwrap().unwrap()["specVersion"], 1);
    assert_eq!(dev(&rpc, "dev_upgradeRuntime", json!([])).await, Ok(json!(2)));
    assert_eq!(versions.next().await.unwrap().unwrap()["specVersion"], 2);
    let error = dev(&rpc, "author_submitExtrinsic", json!([stale])).await.unwrap_err();
    assert!(error.contains("bad signature"), "{error}");
    dev(&rpc, "dev_produceBlocks", json!([1])).await.unwrap();
    send(&client, &transfer(&key("//Bob"), 1_000_000), &alice()).await.unwrap();
    let genesis: String = rpc.request("chain_getBlockHash", rpc_params![0]).await.unwrap();
    assert_eq!(dev(&rpc, "state_getRuntimeVersion", json!([genesis])).await.unwrap()["specVersion"], 1);
    drop((client, rpc, server));
    let server = Server::start(&dir).await;
    assert_eq!(dev(&server.rpc().await, "dev_status", json!([])).await.unwrap()["specVersion"], 2, "it is state");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_cut_at_once_or_around_an_extrinsic() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    for (when, arrives) in [("beforeSubmit", false), ("afterSubmit", true)] {
        let (client, rpc) = (server.legacy().await, server.rpc().await);
        let before = dev(&rpc, "system_accountNextIndex", json!([ALICE_SS58])).await.unwrap().as_u64().unwrap();
        dev(&rpc, "dev_dropConnections", json!([when])).await.unwrap();
        send(&client, &transfer(&key("//Bob"), 1_000_000), &alice()).await.unwrap_err();
        // The others are cut at the same time, but not in the same instant.
        let cut = async { while dev(&rpc, "dev_status", json!([])).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(5), cut).await.expect("every connection is gone");
        let after = dev(&server.rpc().await, "system_accountNextIndex", json!([ALICE_SS58])).await.unwrap();
        assert_eq!(after.as_u64().unwrap() - before, u64::from(arrives), "{when}");
    }
    let rpc = server.rpc().await;
    dev(&rpc, "dev_dropConnections", json!(["now", 400])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(dev(&rpc, "dev_status", json!([])).await.is_err() && RpcClient::from_url(&server.url).await.is_err());
    tokio::time::sleep(Duration::from_millis(400)).await;
    dev(&server.rpc().await, "dev_status", json!([])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_chain_is_prepared_once() {
    let dir = tempfile::tempdir().unwrap();
    let calls: Vec<Call> =
        serde_json::from_value(json!([{ "method": "dev_setMiners", "params": [202, [{ "hotkey": "//Bob" }]] }]))
            .unwrap();
    for _ in 0..2 {
        let calls = calls.clone();
        let server = Server::start_with(&dir, |config| config.preparation = calls).await;
        assert_eq!(dev(&server.rpc().await, "dev_status", json!([])).await.unwrap()["head"], 1);
    }
}
