//! The chain over WebSocket, spoken to by the client that miners use.

use std::net::Ipv4Addr;
use std::sync::Arc;

use pallet_transaction_payment::RuntimeDispatchInfo;
use parity_scale_codec::DecodeAll;
use subxt::backend::LegacyBackend;
use subxt::config::{SubstrateConfig, SubstrateExtrinsicParamsBuilder};
use subxt::dynamic::{self, Value};
use subxt::rpcs::client::rpc_params;
use subxt::rpcs::{LegacyRpcMethods, RpcClient};
use subxt::tx::{DynamicPayload, Signer};
use subxt_signer::SecretUri;
use subxt_signer::sr25519::{Keypair, dev};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{MINER, config, unhex, vectors};
use crate::chain::data::{Data, Registration};
use crate::chain::{Chain, ChainConfig, serve};

pub(super) type Client = subxt::OnlineClient<SubstrateConfig>;

pub(super) struct Server {
    pub(super) url: String,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(dir: &tempfile::TempDir) -> Self {
        Self::start_with(dir, |_| ()).await
    }

    pub(super) async fn start_with(dir: &tempfile::TempDir, change: impl FnOnce(&mut ChainConfig)) -> Self {
        let mut config = config(dir);
        change(&mut config);
        let chain = Chain::open(&config).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { serve(listener, chain, config).await.unwrap() });
        Self { url, task }
    }

    pub(super) async fn legacy(&self) -> Client {
        let rpc = RpcClient::from_url(&self.url).await.unwrap();
        Client::from_backend(Arc::new(LegacyBackend::builder().build(rpc))).await.unwrap()
    }

    pub(super) async fn rpc(&self) -> RpcClient {
        RpcClient::from_url(&self.url).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn key(uri: &str) -> Keypair {
    Keypair::from_uri(&uri.parse::<SecretUri>().unwrap()).unwrap()
}

fn number(value: u128) -> Value {
    Value::u128(value)
}

pub(super) fn transfer(to: &Keypair, rao: u128) -> DynamicPayload<Vec<Value>> {
    let to = Value::unnamed_variant("Id", [Value::from_bytes(to.public_key().0)]);
    dynamic::tx("Balances", "transfer_keep_alive", vec![to, number(rao)])
}

pub(super) fn register(netuid: u16, hotkey: &Keypair) -> DynamicPayload<Vec<Value>> {
    let hotkey = Value::from_bytes(hotkey.public_key().0);
    dynamic::tx("SubtensorModule", "burned_register", vec![number(netuid.into()), hotkey])
}

pub(super) fn commit(netuid: u16, data: &[u8]) -> DynamicPayload<Vec<Value>> {
    let field = Value::unnamed_variant(format!("Raw{}", data.len()), [Value::from_bytes(data)]);
    let info = Value::named_composite([("fields", Value::unnamed_composite([field]))]);
    dynamic::tx("Commitments", "set_commitment", vec![number(netuid.into()), info])
}

fn axon(netuid: u16, ip: u32, port: u16, ip_type: u8) -> DynamicPayload<Vec<Value>> {
    let values = [netuid.into(), 9_000_001, ip.into(), port.into(), ip_type.into(), 4, 0, 0];
    dynamic::tx("SubtensorModule", "serve_axon", values.map(number).to_vec())
}

/// Sends a call and waits for finality; the text of whatever error comes.
pub(super) async fn send(
    client: &Client,
    call: &DynamicPayload<Vec<Value>>,
    signer: &impl Signer<SubstrateConfig>,
) -> Result<Vec<String>, String> {
    let params = SubstrateExtrinsicParamsBuilder::new().mortal(64).build();
    let mut transactions = client.at_current_block().await.unwrap().transactions();
    let progress = transactions.sign_and_submit_then_watch(call, signer, params).await.map_err(|e| format!("{e:?}"))?;
    let events = progress.wait_for_finalized_success().await.map_err(|e| format!("{e:?}"))?;
    Ok(events.iter().map(|event| event.unwrap()).map(|e| format!("{}.{}", e.pallet_name(), e.event_name())).collect())
}

pub(super) async fn read(client: &Client, pallet: &str, entry: &str, netuid: u16, hotkey: &Keypair) -> Option<Vec<u8>> {
    let address = dynamic::storage::<(u16, [u8; 32]), Value>(pallet, entry);
    let at = client.at_current_block().await.unwrap();
    at.storage().try_fetch(address, (netuid, hotkey.public_key().0)).await.unwrap().map(|value| value.bytes().to_vec())
}

/// Funds a coldkey and registers a hotkey, which stays without funds.
async fn registered(client: &Client, name: &str) -> Keypair {
    let (coldkey, hotkey) = (key(&format!("//{name}")), key(&format!("//{name}//miner")));
    send(client, &transfer(&coldkey, 1_000_000_000), &dev::alice()).await.unwrap();
    let events = send(client, &register(202, &hotkey), &coldkey).await.unwrap();
    assert!(events.contains(&"SubtensorModule.NeuronRegistered".to_owned()), "{events:?}");
    hotkey
}

const PAYLOAD: &[u8] = br#"{"model_url": "deval-core/base-eval-test", "model_hash": "1ff795ff6a07e6a68085d206fb84417da2f083f68391c2843cd2b8ac6df8538f"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_registers_commits_and_serves() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let client = server.legacy().await;
    let hotkey = registered(&client, "Bob").await;
    assert_eq!(read(&client, "SubtensorModule", "Uids", 202, &hotkey).await, Some(vec![1, 0]));

    let events = send(&client, &commit(202, PAYLOAD), &hotkey).await.unwrap();
    assert!(events.contains(&"Commitments.Commitment".to_owned()), "{events:?}");
    let bytes = read(&client, "Commitments", "CommitmentOf", 202, &hotkey).await.unwrap();
    let stored = Registration::decode_all(&mut &bytes[..]).unwrap();
    assert_eq!(stored.info.fields.to_vec(), [Data::Raw(PAYLOAD.to_vec().try_into().unwrap())]);
    assert_eq!((stored.deposit, stored.block), (0, 5));

    let events = send(&client, &axon(202, 3_405_803_785, 8091, 4), &hotkey).await.unwrap();
    assert!(events.contains(&"SubtensorModule.AxonServed".to_owned()), "{events:?}");
    let bytes = read(&client, "SubtensorModule", "Axons", 202, &hotkey).await.unwrap();
    let expected = unhex(vectors()["axons_value_example"]["value"].as_str().unwrap());
    assert_eq!(bytes[8..], expected[8..]);
    assert_eq!(bytes[0], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_backend_and_its_iteration_work() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let client = Client::from_url(&server.url).await.unwrap();
    let hotkey = registered(&client, "Charlie").await;
    let at = client.at_current_block().await.unwrap();
    let address = dynamic::storage::<(u16, [u8; 32]), u16>("SubtensorModule", "Uids");
    let mut uids = at.storage().iter(address, (202_u16,)).await.unwrap();
    let mut found = Vec::new();
    while let Some(entry) = uids.next().await {
        found.push(entry.unwrap().value().decode().unwrap());
    }
    found.sort_unstable();
    assert_eq!(found, [0, 1]);
    let rpc = server.rpc().await;
    for (call, signer, fee) in
        [(commit(202, b"x"), &hotkey, 0..1), (transfer(&hotkey, 500), &dev::alice(), 10_000..10_000_000)]
    {
        let transactions = at.transactions();
        let account = signer.public_key().into();
        let mut signable = transactions.create_signable(&call, &account, Default::default()).await.unwrap();
        let mut query = signable.sign(signer).unwrap().into_encoded();
        query.extend((query.len() as u32).to_le_bytes());
        // subxt's own fee estimate wants a balance of 128 bits, and the real chain's has 64 too.
        let params = rpc_params!["TransactionPaymentApi_query_info", format!("0x{}", hex::encode(query))];
        let answer: String = rpc.request("state_call", params).await.unwrap();
        let info = RuntimeDispatchInfo::<u64>::decode_all(&mut &unhex(&answer)[..]).unwrap();
        assert!(fee.contains(&info.partial_fee), "{}", info.partial_fee);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dynamic_calls_encode_as_on_the_real_chain() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let transactions = server.legacy().await.at_current_block().await.unwrap().transactions();
    let vectors = vectors();
    for vector in vectors["set_commitment"].as_array().unwrap() {
        let (netuid, raw) = (vector["netuid"].as_u64().unwrap() as u16, vector["raw_utf8"].as_str().unwrap());
        let call = transactions.call_data(&commit(netuid, raw.as_bytes())).unwrap();
        assert_eq!(call, unhex(vector["call_hex"].as_str().unwrap()));
    }
    let serve = transactions.call_data(&axon(202, 3_405_803_785, 8091, 4)).unwrap();
    assert_eq!(serve, unhex(vectors["serve_axon"][0]["call_hex"].as_str().unwrap()));
    let hotkey = key("//Alice//miner");
    assert_eq!(hotkey.public_key().to_account_id().to_string(), MINER);
    let call = transactions.call_data(&register(202, &hotkey)).unwrap();
    assert_eq!(call, unhex(vectors["burned_register"]["call_hex"].as_str().unwrap()));
    assert!(transactions.call_data(&commit(202, &[0; 129])).is_err(), "there is no Raw129");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let client = server.legacy().await;
    let hotkey = registered(&client, "Dave").await;
    let (stranger, coldkey) = (key("//Eve//miner"), key("//Dave"));
    for (call, signer, reason) in [
        (commit(202, b"x"), &stranger, "Commitments::AccountNotAllowedCommit"),
        (commit(15, b"x"), &hotkey, "Commitments::AccountNotAllowedCommit"),
        (commit(9, b"x"), &hotkey, "Commitments::AccountNotAllowedCommit"),
        (register(9, &stranger), &coldkey, "SubtensorModule::SubnetNotExists"),
        (register(202, &hotkey), &coldkey, "SubtensorModule::HotKeyAlreadyRegisteredInSubNet"),
        (register(15, &hotkey), &dev::alice(), "SubtensorModule::NonAssociatedColdKey"),
        (axon(202, 3_405_803_785, 8091, 4), &stranger, "Custom error: 10"),
        (axon(202, 0x7f00_0001, 8091, 4), &hotkey, "Custom error: 11"),
        (axon(202, u32::MAX, 8091, 4), &hotkey, "Custom error: 11"),
        (axon(202, 3_405_803_785, 0, 4), &hotkey, "Custom error: 13"),
        (axon(202, 3_405_803_785, 8091, 5), &hotkey, "Custom error: 255"),
        (transfer(&coldkey, 1), &hotkey, "Inability to pay some fees"),
    ] {
        let error = send(&client, &call, signer).await.unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    send(&client, &axon(202, 3_405_803_785, 8091, 4), &hotkey).await.unwrap();
    let error = send(&client, &axon(202, 3_405_803_785, 8092, 4), &hotkey).await.unwrap_err();
    assert!(error.contains("Custom error: 12"), "{error}");
    let _: u32 = server.rpc().await.request("dev_produceBlocks", rpc_params![50]).await.unwrap();
    send(&client, &axon(202, 3_405_803_785, 8092, 4), &hotkey).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_genesis_and_signatures_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let (client, rpc) = (server.legacy().await, server.rpc().await);
    let mut transactions = client.at_current_block().await.unwrap().transactions();
    let call = transfer(&dev::bob(), 1_000_000);
    let params = |nonce| SubstrateExtrinsicParamsBuilder::new().nonce(nonce).build();
    let mut bytes = Vec::new();
    for nonce in [0, 5] {
        bytes.push(transactions.create_signed(&call, &dev::alice(), params(nonce)).await.unwrap().into_encoded());
    }
    let mut forged = bytes[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    for (extrinsic, answer) in [
        (&forged, Err("bad signature")),
        // Nonce 5 waits for those before it, as in a node's pool.
        (&bytes[1], Ok(())),
        (&bytes[1], Err("Already Imported")),
        (&bytes[0], Ok(())),
        (&bytes[0], Err("outdated")),
    ] {
        let params = rpc_params![format!("0x{}", hex::encode(extrinsic))];
        match (rpc.request::<String>("author_submitExtrinsic", params).await, answer) {
            (Ok(hash), Ok(())) => assert_eq!(hash.len(), 66),
            (Err(error), Err(reason)) => assert!(format!("{error:?}").contains(reason), "{reason}: {error:?}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_space_quota_holds_for_an_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let client = server.legacy().await;
    let hotkey = registered(&client, "Ferdie").await;
    for _ in 0..24 {
        send(&client, &commit(202, &[b'y'; 128]), &hotkey).await.unwrap();
    }
    let error = send(&client, &commit(202, &[b'y'; 128]), &hotkey).await.unwrap_err();
    assert!(error.contains("Commitments::SpaceLimitExceeded"), "{error}");
    let _: u32 = server.rpc().await.request("dev_produceBlocks", rpc_params![361]).await.unwrap();
    send(&client, &commit(202, &[b'z'; 128]), &hotkey).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything_and_old_blocks_stay_readable() {
    let dir = tempfile::tempdir().unwrap();
    let (hotkey, before, genesis) = {
        let server = Server::start(&dir).await;
        let client = server.legacy().await;
        let hotkey = registered(&client, "Bob").await;
        send(&client, &commit(202, PAYLOAD), &hotkey).await.unwrap();
        let at = client.at_current_block().await.unwrap();
        (hotkey, (at.block_number(), at.block_hash()), client.genesis_hash())
    };
    let server = Server::start(&dir).await;
    let client = server.legacy().await;
    let at = client.at_current_block().await.unwrap();
    assert_eq!(((at.block_number(), at.block_hash()), client.genesis_hash()), (before, genesis));
    let bytes = read(&client, "Commitments", "CommitmentOf", 202, &hotkey).await.unwrap();
    assert!(bytes.ends_with(PAYLOAD));
    send(&client, &commit(202, b"newer"), &hotkey).await.unwrap();
    let old = client.at_block(before.0).await.unwrap();
    let address = dynamic::storage::<(u16, [u8; 32]), Value>("Commitments", "CommitmentOf");
    let value = old.storage().fetch(address, (202, hotkey.public_key().0)).await.unwrap();
    assert!(value.bytes().ends_with(PAYLOAD));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rpc_withstands_nonsense_and_answers_the_small_questions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let rpc = server.rpc().await;
    for (method, params) in [
        ("state_call", rpc_params!["AccountNonceApi_account_nonce", "0x00"]),
        ("state_call", rpc_params!["Core_execute_block", "0x"]),
        ("state_call", rpc_params!["Nope", "0x"]),
        ("state_getStorage", rpc_params!["0x00", "0x1111111111111111111111111111111111111111111111111111111111111111"]),
        ("author_submitExtrinsic", rpc_params!["0x0102"]),
        ("system_accountNextIndex", rpc_params!["not an address"]),
        ("no_such_method", rpc_params![]),
    ] {
        assert!(rpc.request::<serde_json::Value>(method, params).await.is_err(), "{method}");
    }
    let legacy = LegacyRpcMethods::<subxt::config::RpcConfigFor<SubstrateConfig>>::new(rpc.clone());
    assert_eq!(legacy.system_chain().await.unwrap(), "De-Val local");
    assert_eq!(legacy.system_properties().await.unwrap()["ss58Format"], 42);
    assert_eq!(legacy.state_get_runtime_version(None).await.unwrap().spec_version, 1);
    legacy.state_get_metadata(None).await.unwrap().to_frame_metadata().unwrap();
    let next: u32 = rpc.request("system_accountNextIndex", rpc_params![MINER]).await.unwrap();
    assert_eq!(next, 0);
    let mut heads = legacy.chain_subscribe_finalized_heads().await.unwrap();
    assert_eq!(heads.next().await.unwrap().unwrap().number, 0);
    let head: u32 = rpc.request("dev_produceBlocks", rpc_params![2]).await.unwrap();
    assert_eq!((head, heads.next().await.unwrap().unwrap().number), (2, 1));
}
