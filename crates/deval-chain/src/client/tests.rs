use std::net::{IpAddr, Ipv4Addr};

use deval_report::Network;
use serde_json::Value as Json;
use subxt::dynamic::{self, Value};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::rpcs::RpcClient;
use subxt::rpcs::client::{RawRpcFuture, RawRpcSubscription, RawValue, RpcClientT};

use super::calls::{self, Call};
use super::fake::{Offline, runtimes};
use super::refusal::{pool_error, remedy};
use super::{Client, FINNEY_GENESIS, reads};
use crate::testing::{bytes, json};
use crate::{ChainError, CommitmentPayload, KeyPair, Wallet};

fn encoded(at: &Offline, call: &Call) -> Vec<u8> {
    at.tx().call_data(call).unwrap()
}

fn miner() -> KeyPair {
    KeyPair::from_uri("//Alice//miner").unwrap()
}

#[test]
fn calls_encode_to_the_bytes_of_a_real_runtime() {
    let vectors = json("scale_vectors.json");
    for (spec, at) in runtimes() {
        for vector in vectors["set_commitment"].as_array().unwrap() {
            let netuid = vector["netuid"].as_u64().unwrap() as u16;
            let call = calls::set_commitment(netuid, vector["raw_utf8"].as_str().unwrap().as_bytes());
            assert_eq!(encoded(&at, &call), bytes(&vector["call_hex"]), "spec {spec}: {vector}");
        }
        for (vector, ip) in vectors["serve_axon"].as_array().unwrap().iter().zip(["203.0.113.9", "2001:db8::9"]) {
            let call = calls::serve_axon(202, ip.parse().unwrap(), 8091);
            assert_eq!(encoded(&at, &call), bytes(&vector["call_hex"]), "spec {spec}: {ip}");
        }
        let call = calls::burned_register(202, &miner().public());
        assert_eq!(encoded(&at, &call), bytes(&vectors["burned_register"]["call_hex"]), "spec {spec}");
        assert!(!encoded(&at, &calls::transfer(&miner().public(), 1)).is_empty());
    }
}

#[test]
fn the_runtime_is_known_by_its_name() {
    for (_, at) in runtimes() {
        assert_eq!(at.constants().entry(super::runtime_version()).unwrap().spec_name, "node-subtensor");
    }
}

#[test]
fn storage_keys_are_those_of_a_real_runtime() {
    let vectors = json("scale_vectors.json");
    let account = miner().public();
    let key = |name: &str| bytes(&vectors["storage_keys"][name]);
    for (spec, at) in runtimes() {
        let of = |pallet: &str, entry: &str| {
            at.storage().entry(dynamic::storage::<(u16, [u8; 32]), Value>(pallet, entry)).unwrap()
        };
        let hotkey = miner().ss58();
        for name in ["Commitments.CommitmentOf", "SubtensorModule.Uids", "SubtensorModule.Axons"] {
            let (pallet, entry) = name.split_once('.').unwrap();
            let wanted = key(&format!("{name}(202,{hotkey})"));
            assert_eq!(of(pallet, entry).fetch_key((202, account)).unwrap(), wanted, "spec {spec}: {name}");
        }
    }
}

#[test]
fn the_signed_bytes_are_those_of_a_real_runtime() {
    let vector = &json("scale_vectors.json")["extrinsic_immortal"];
    let data = "{\"model_url\": \"deval-core/base-eval\", \"model_hash\": \
                \"1ff795ff6a07e6a68085d206fb84417da2f083f68391c2843cd2b8ac6df8538f\"}";
    let (call, wanted) = (calls::set_commitment(202, data.as_bytes()), bytes(&vector["payload"]));
    for (spec, at) in runtimes() {
        let params = subxt::config::SubstrateExtrinsicParamsBuilder::new().nonce(5).build();
        let payload = at.tx().create_signable_offline(&call, params).unwrap().signer_payload().unwrap();
        // The vector is of spec 293; only the four bytes of the spec version may differ.
        let version = payload.len() - 1 - 32 - 32 - 4 - 4;
        assert_eq!(payload[version..version + 4], spec.to_le_bytes());
        assert_eq!(payload[..version], wanted[..version], "spec {spec}");
        assert_eq!(payload[version + 4..], wanted[version + 4..], "spec {spec}");
    }
}

#[test]
fn stored_values_are_read_by_metadata() {
    let vectors = json("scale_vectors.json");
    for (_, at) in runtimes() {
        let mut raw = &*bytes(&vectors["commitment_of_value_example"]["value"]);
        let stored: reads::StoredCommitment = decode(&at, "Commitments", "CommitmentOf", &mut raw);
        assert_eq!(stored.block, 11);
        assert_eq!(reads::raw_bytes(&stored.info.fields[0]).unwrap(), vec![b'x'; 128]);
        let mut raw = &*bytes(&vectors["axons_value_example"]["value"]);
        let axon = reads::axon_info(&decode(&at, "SubtensorModule", "Axons", &mut raw));
        let ip: IpAddr = Ipv4Addr::new(203, 0, 113, 9).into();
        assert_eq!((axon.ip, axon.port, axon.version, axon.block), (ip, 8091, 9_000_001, 12));
    }
}

fn decode<T: DecodeAsType>(at: &Offline, pallet: &str, entry: &str, raw: &mut &[u8]) -> T {
    let metadata = at.metadata_ref();
    let info = metadata.pallet_by_name(pallet).unwrap().storage().unwrap().entry_by_name(entry).unwrap().value_ty();
    T::decode_as_type(raw, info, metadata.types()).unwrap()
}

#[test]
fn only_raw_fields_are_read_as_a_validator_reads() {
    let raw = |name: &str, data: &[u8]| reads::raw_bytes(&Value::unnamed_variant(name, [Value::from_bytes(data)]));
    assert_eq!(raw("Raw2", b"ab"), Some(b"ab".to_vec()));
    assert_eq!(raw("Raw0", b""), Some(Vec::new()));
    assert_eq!(raw("BigRaw", b"ab"), None);
    assert_eq!(raw("Sha256", &[7; 32]), None);
}

#[test]
fn refusals_are_named_and_say_what_to_do() {
    let rate = pool_error(1010, "Invalid Transaction", Some("Custom error: 12"));
    assert_eq!(rate, "ServingRateLimitExceeded (1010: Invalid Transaction: Custom error: 12)");
    assert!(remedy(&rate).contains("limit between announcements"));
    let unknown = pool_error(1010, "Invalid Transaction", Some("Custom error: 77"));
    assert!(unknown.contains("77"));
    assert!(remedy(&pool_error(1010, "Invalid Transaction", Some("Transaction is outdated"))).contains("again"));
    assert!(remedy("Commitments.AccountNotAllowedCommit").contains("register"));
    assert!(remedy("Commitments.SpaceLimitExceeded").contains("epoch"));
    assert_eq!(pool_error(1014, "Priority is too low", None), "Priority is too low (1014)");
}

#[test]
fn what_a_miner_may_meet_has_a_name_and_a_remedy() {
    let pallets = "TooManyFieldsInCommitmentInfo AccountNotAllowedCommit SpaceLimitExceeded CommitmentSetRateLimitExceeded \
                   TimelockRevealFailedNotAllowed SubnetNotExists SubNetRegistrationDisabled \
                   HotKeyAlreadyRegisteredInSubNet NotEnoughBalanceToStake TooManyRegistrationsThisBlock \
                   TooManyRegistrationsThisInterval NonAssociatedColdKey";
    for error in pallets.split_whitespace() {
        assert_ne!(remedy(error), remedy("?"), "{error}");
    }
    let named = |number: u8| pool_error(1010, "Invalid Transaction", Some(&format!("Custom error: {number}")));
    for (number, error) in [
        (0, "ColdkeyInSwapSchedule"),
        (2, "BalanceTooLow"),
        (3, "SubnetNotExists"),
        (4, "HotkeyAccountDoesntExist"),
        (6, "RateLimitExceeded"),
        (8, "SlippageTooHigh"),
        (10, "HotKeyNotRegisteredInNetwork"),
        (11, "InvalidIpAddress"),
        (12, "ServingRateLimitExceeded"),
        (13, "InvalidPort"),
        (19, "UidNotFound"),
        (21, "ColdkeySwapDisputed"),
    ] {
        assert!(named(number).starts_with(error), "{number}: {}", named(number));
        assert_ne!(remedy(&named(number)), remedy("?"), "{error}");
    }
    // Errors of calls that no step makes are named all the same.
    assert!((0..=22).chain([255]).all(|number| !named(number).starts_with("Invalid Transaction")));
    assert!((23..=254).all(|number| named(number).starts_with("Invalid Transaction")));
}

#[test]
fn every_remedy_for_a_pallet_error_names_an_error_of_a_real_runtime() {
    for (_, at) in runtimes() {
        for (pallet, error) in [
            ("Commitments", "AccountNotAllowedCommit"),
            ("Commitments", "SpaceLimitExceeded"),
            ("SubtensorModule", "HotKeyAlreadyRegisteredInSubNet"),
            ("SubtensorModule", "NotEnoughBalanceToStake"),
            ("SubtensorModule", "SubNetRegistrationDisabled"),
            ("SubtensorModule", "NonAssociatedColdKey"),
        ] {
            let pallet = at.metadata_ref().pallet_by_name(pallet).unwrap();
            let known = pallet.error_variants().unwrap().iter().any(|variant| variant.name == error);
            assert!(known, "{error}");
            assert_ne!(remedy(error), remedy("?"));
        }
    }
}

async fn refused_connection(endpoint: &str) -> ChainError {
    Client::connect(endpoint, Network::Local).await.unwrap_err()
}

#[tokio::test]
async fn a_chain_that_is_down_is_named_with_a_remedy() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("ws://127.0.0.1:{port}");
    let error = refused_connection(&endpoint).await;
    assert!(matches!(error, ChainError::Down { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&endpoint) && text.contains("cargo xtask localnet"), "{text}");
}

#[tokio::test]
async fn plain_ws_to_another_machine_is_refused() {
    let error = refused_connection("ws://chain.example:9944").await;
    assert!(error.to_string().contains("insecure"), "{error}");
}

/// A node that knows its genesis and nothing else.
struct Genesis(&'static str);

impl RpcClientT for Genesis {
    fn request_raw<'a>(&'a self, method: &'a str, _: Option<Box<RawValue>>) -> RawRpcFuture<'a, Box<RawValue>> {
        assert_eq!(method, "chain_getBlockHash");
        Box::pin(async { Ok(RawValue::from_string(format!("{:?}", self.0)).unwrap()) })
    }

    fn subscribe_raw<'a>(
        &'a self,
        _: &'a str,
        _: Option<Box<RawValue>>,
        _: &'a str,
    ) -> RawRpcFuture<'a, RawRpcSubscription> {
        unreachable!("reading a genesis subscribes to nothing")
    }
}

#[tokio::test]
async fn finney_is_told_by_its_genesis() {
    let other = "0x4545454545454545454545454545454545454545454545454545454545454545";
    let connect = async |genesis, network| Client::over(RpcClient::new(Genesis(genesis)), "wss://chain", network).await;
    assert!(connect(FINNEY_GENESIS, Network::Finney).await.is_ok());
    assert!(connect(other, Network::Local).await.is_ok());
    for (genesis, network) in
        [(other, Network::Finney), (FINNEY_GENESIS, Network::Test), (FINNEY_GENESIS, Network::Local)]
    {
        let error = connect(genesis, network).await.unwrap_err();
        assert!(matches!(error, ChainError::WrongChain { .. }), "{error}");
        assert!(error.to_string().contains(&network.to_string()));
    }
}

/// The axon looks at the chain in a task of its own.
#[test]
fn effects_can_run_in_a_task() {
    fn sendable<T: Send>(_: impl FnOnce(Client, Wallet, CommitmentPayload) -> T) {}
    sendable(|client, wallet, payload| async move { client.commit(202, &wallet, &payload).await });
    sendable(|client, wallet, _| async move { client.serve_axon(202, &wallet, [192, 0, 2, 1].into(), 8091).await });
    sendable(|client, wallet, _| async move { client.register(202, wallet.hotkey(), "", 0).await });
}

#[test]
fn the_fixtures_are_of_the_runtime_they_say() {
    let runtime: Json = json("scale_vectors.json")["runtime"].clone();
    assert_eq!((runtime["spec_version"].as_u64(), runtime["spec_name"].as_str()), (Some(293), Some("node-subtensor")));
}
