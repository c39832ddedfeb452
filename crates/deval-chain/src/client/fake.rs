//! A node in the test's own process: the metadata of a real runtime, storage as the test sets it, a pool that does what it is told.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use deval_report::Network;
use futures::{StreamExt as _, stream};
use serde_json::{Value as Json, json};
use subxt::client::{OfflineClient, OfflineClientAtBlock};
use subxt::config::SubstrateConfig;
use subxt::config::substrate::SpecVersionForRange;
use subxt::dynamic::{self, Value};
use subxt::ext::codec::{Decode as _, Encode};
use subxt::ext::frame_decode::storage::{IntoDecodableValues, IntoEncodableValues};
use subxt::ext::scale_value::scale::encode_as_type;
use subxt::metadata::Metadata;
use subxt::rpcs::client::{RawRpcFuture, RawRpcSubscription, RawValue, RpcClientT};
use subxt::rpcs::{Error, RpcClient, UserError};

use super::{Client, Limits};
use crate::testing::{fixture, skip};

pub(super) type Offline = OfflineClientAtBlock<SubstrateConfig>;

/// The genesis hash of the fixtures.
pub(super) const GENESIS: &str = "0x4545454545454545454545454545454545454545454545454545454545454545";

/// Real runtimes, whose metadata is beside the checkout; decoded once, which takes a while.
pub(super) fn runtimes() -> Vec<(u32, Offline)> {
    static KNOWN: OnceLock<Vec<(u32, Offline)>> = OnceLock::new();
    let decode = |spec| Some((spec, decoded(spec, &metadata(spec)?)));
    let found = KNOWN.get_or_init(|| [365, 393].into_iter().filter_map(decode).collect()).clone();
    if found.is_empty() {
        skip("shared", "the metadata of real runtimes is not beside the checkout");
    }
    found
}

fn metadata(spec: u32) -> Option<Vec<u8>> {
    std::fs::read(fixture("../../../../shared/data/chain-metadata").join(format!("spec{spec}.scale"))).ok()
}

fn offline(spec: u32) -> Offline {
    runtimes().into_iter().find(|(known, _)| *known == spec).expect("a node is of one of them").1
}

fn decoded(spec_version: u32, metadata: &[u8]) -> Offline {
    let metadata = Metadata::decode_from(metadata).unwrap();
    let versions = SpecVersionForRange { block_range: 0..10, spec_version, transaction_version: 1 };
    let config = SubstrateConfig::builder()
        .set_genesis_hash([0x45; 32].into())
        .set_metadata_for_spec_versions([(spec_version, metadata.arc())])
        .set_spec_version_for_block_ranges([versions])
        .build();
    OfflineClient::new_with_config(config).at_block(1u64).unwrap()
}

/// What the pool does with an extrinsic.
#[derive(Debug, Clone)]
pub(super) enum Pool {
    /// Answers with an error.
    Refuses(i32, &'static str, Option<&'static str>),
    /// Takes it into the next block; the connection breaks before anything is answered.
    TakesAndBreaks(Call),
    /// The connection breaks before it is handed over.
    Breaks,
    /// Takes it, tells so, and never says another word.
    Sleeps,
    /// Takes it, then says that it was dropped.
    Drops,
}

/// What becomes of the call in its block.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Succeeds,
    Fails(&'static str, &'static str),
}

#[derive(Clone)]
pub(super) struct Node(Arc<Mutex<State>>);

struct State {
    spec: u32,
    genesis: String,
    block: u32,
    nonce: u32,
    storage: BTreeMap<Vec<u8>, Vec<u8>>,
    bodies: HashMap<u32, Vec<Vec<u8>>>,
    apis: HashMap<String, Vec<u8>>,
    pool: Vec<Pool>,
    submitted: usize,
    asked: Vec<String>,
}

impl Node {
    /// A node of this runtime at block 100; nothing where its metadata is not there.
    pub(super) fn of(spec: u32) -> Option<Self> {
        metadata(spec)?;
        let state = State {
            spec,
            genesis: GENESIS.to_owned(),
            block: 100,
            nonce: 0,
            storage: BTreeMap::new(),
            bodies: HashMap::new(),
            apis: HashMap::new(),
            pool: Vec::new(),
            submitted: 0,
            asked: Vec::new(),
        };
        Some(Self(Arc::new(Mutex::new(state))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) async fn client(&self) -> Client {
        let mut client = Client::over(RpcClient::new(self.clone()), "wss://fake", Network::Test).await.unwrap();
        let [read, finality, pause] = [2000, 1500, 5].map(Duration::from_millis);
        client.limits = Limits { connect: read, read, finality, pause };
        client
    }

    pub(super) fn at_block(&self, block: u32) {
        self.state().block = block;
    }

    pub(super) fn upgrade(&self, spec: u32) {
        self.state().spec = spec;
    }

    pub(super) fn becomes_another_chain(&self) {
        self.state().genesis = format!("0x{}", "77".repeat(32));
    }

    /// What the pool does with the extrinsics that come, one after the other.
    pub(super) fn pool(&self, pool: impl IntoIterator<Item = Pool>) {
        let mut pool: Vec<_> = pool.into_iter().collect();
        pool.reverse();
        self.state().pool = pool;
    }

    /// Extrinsics that were handed over.
    pub(super) fn submitted(&self) -> usize {
        self.state().submitted
    }

    /// How often a method was called.
    pub(super) fn asked(&self, method: &str) -> usize {
        self.state().asked.iter().filter(|asked| *asked == method).count()
    }

    pub(super) fn answers(&self, runtime_call: &str, value: impl Encode) {
        self.state().apis.insert(runtime_call.to_owned(), value.encode());
    }

    pub(super) fn set<K>(&self, pallet: &str, entry: &str, keys: K, value: impl Encode)
    where
        K: IntoEncodableValues + IntoDecodableValues,
    {
        let spec = self.state().spec;
        let at = offline(spec);
        let key = at.storage().entry(dynamic::storage::<K, Value>(pallet, entry)).unwrap().fetch_key(keys).unwrap();
        self.state().storage.insert(key, value.encode());
    }
}

impl RpcClientT for Node {
    fn request_raw<'a>(&'a self, method: &'a str, params: Option<Box<RawValue>>) -> RawRpcFuture<'a, Box<RawValue>> {
        let params: Json = params.map_or(Json::Null, |params| serde_json::from_str(params.get()).unwrap());
        let answer = self.state().answer(method, &params);
        Box::pin(
            async move { answer.map(|answer| RawValue::from_string(answer.to_string()).unwrap()).map_err(Error::User) },
        )
    }

    fn subscribe_raw<'a>(
        &'a self,
        method: &'a str,
        params: Option<Box<RawValue>>,
        _: &'a str,
    ) -> RawRpcFuture<'a, RawRpcSubscription> {
        assert_eq!(method, "author_submitAndWatchExtrinsic");
        let params: Json = serde_json::from_str(params.unwrap().get()).unwrap();
        let answer = self.state().submit(bytes(&params[0]));
        Box::pin(async move {
            let statuses = answer?.into_iter().map(|status| Ok(RawValue::from_string(status.to_string()).unwrap()));
            Ok(RawRpcSubscription { stream: stream::iter(statuses).chain(stream::pending()).boxed(), id: None })
        })
    }
}

impl State {
    fn answer(&mut self, method: &str, params: &Json) -> Result<Json, UserError> {
        self.asked.push(method.to_owned());
        Ok(match method {
            "chain_getBlockHash" => match params[0].as_u64().unwrap() {
                0 => json!(self.genesis),
                number => json!(hash(number as u32)),
            },
            "chain_getFinalizedHead" => json!(hash(self.block)),
            "chain_getHeader" => {
                let zeros = format!("0x{}", "0".repeat(64));
                json!({"parentHash": zeros, "number": format!("{:#x}", number(&params[0])), "stateRoot": zeros,
                       "extrinsicsRoot": zeros, "digest": {"logs": []}})
            }
            "chain_getBlock" => {
                let number = number(&params[0]);
                let bodies = self.bodies.get(&number).cloned().unwrap_or_default();
                let extrinsics: Vec<_> = bodies.iter().map(|body| hexed(body)).collect();
                let header = self.answer("chain_getHeader", params)?;
                json!({"block": {"header": header, "extrinsics": extrinsics}, "justifications": null})
            }
            "state_getStorage" => json!(self.storage.get(&bytes(&params[0])).map(|value| hexed(value))),
            "state_getKeysPaged" => {
                let (prefix, count) = (bytes(&params[0]), params[1].as_u64().unwrap() as usize);
                let after = params[2].as_str().map(|_| bytes(&params[2]));
                let keys = self.storage.keys().filter(|key| key.starts_with(&prefix));
                let keys = keys.filter(|key| after.as_ref().is_none_or(|after| *key > after)).take(count);
                json!(keys.map(|key| hexed(key)).collect::<Vec<_>>())
            }
            "state_queryStorageAt" => {
                let keys = params[0].as_array().unwrap().iter();
                let changes: Vec<_> =
                    keys.map(|key| (key.clone(), self.storage.get(&bytes(key)).map(|value| hexed(value)))).collect();
                json!([{"block": hash(self.block), "changes": changes}])
            }
            "state_call" => json!(hexed(&self.call(params[0].as_str().unwrap())?)),
            "state_getRuntimeVersion" => json!({"specVersion": self.spec, "transactionVersion": 1}),
            other => panic!("the fake node does not know {other}"),
        })
    }

    fn call(&self, name: &str) -> Result<Vec<u8>, UserError> {
        Ok(match name {
            "Core_version" => {
                ("node-subtensor", "node-subtensor", 1u32, self.spec, 1u32, Vec::<([u8; 8], u32)>::new(), 1u32).encode()
            }
            "Metadata_metadata_versions" => vec![16u32].encode(),
            "Metadata_metadata_at_version" => Some(metadata(self.spec).unwrap()).encode(),
            "AccountNonceApi_account_nonce" => self.nonce.encode(),
            other => self.apis.get(other).cloned().ok_or_else(UserError::method_not_found)?,
        })
    }

    fn submit(&mut self, extrinsic: Vec<u8>) -> Result<Vec<Json>, Error> {
        self.submitted += 1;
        let broken = || Error::DisconnectedWillReconnect("the test cut it".to_owned());
        match self.pool.pop().expect("no more extrinsics than the test expects") {
            Pool::Refuses(code, message, data) => Err(Error::User(UserError {
                code,
                message: message.to_owned(),
                data: data.map(|data| RawValue::from_string(json!(data).to_string()).unwrap()),
            })),
            Pool::TakesAndBreaks(call) => {
                self.include(extrinsic, call);
                Err(broken())
            }
            Pool::Breaks => {
                self.block += 100;
                Err(broken())
            }
            Pool::Sleeps => Ok(vec![json!("ready")]),
            Pool::Drops => {
                self.block += 100;
                Ok(vec![json!("ready"), json!("dropped")])
            }
        }
    }

    fn include(&mut self, extrinsic: Vec<u8>, call: Call) {
        self.block += 2;
        self.nonce += 1;
        self.bodies.insert(self.block - 1, vec![extrinsic]);
        let at = offline(self.spec);
        let key = at.storage().entry(dynamic::storage::<(), Value>("System", "Events")).unwrap();
        let metadata = at.metadata_ref();
        let entry = metadata.pallet_by_name("System").unwrap().storage().unwrap().entry_by_name("Events").unwrap();
        let mut events = Vec::new();
        encode_as_type(&event(metadata, call), entry.value_ty(), metadata.types(), &mut events).unwrap();
        self.storage.insert(key.fetch_key(()).unwrap(), events);
    }
}

/// The only event of a block: what became of its first extrinsic.
fn event(metadata: &Metadata, call: Call) -> Value {
    let weight = Value::named_composite([("ref_time", Value::u128(1)), ("proof_size", Value::u128(1))]);
    let unit = |name: &str| Value::unnamed_variant(name, []);
    let info = Value::named_composite([("weight", weight), ("class", unit("Normal")), ("pays_fee", unit("No"))]);
    let outcome = match call {
        Call::Succeeds => Value::named_variant("ExtrinsicSuccess", [("dispatch_info", info)]),
        Call::Fails(pallet, error) => {
            let pallet = metadata.pallet_by_name(pallet).unwrap();
            let error = pallet.error_variants().unwrap().iter().find(|variant| variant.name == error).unwrap().index;
            let error =
                [("index", Value::u128(pallet.error_index().into())), ("error", Value::from_bytes([error, 0, 0, 0]))];
            let error = Value::unnamed_variant("Module", [Value::named_composite(error)]);
            Value::named_variant("ExtrinsicFailed", [("dispatch_error", error), ("dispatch_info", info)])
        }
    };
    Value::unnamed_composite([Value::named_composite([
        ("phase", Value::unnamed_variant("ApplyExtrinsic", [Value::u128(0)])),
        ("event", Value::unnamed_variant("System", [outcome])),
        ("topics", Value::unnamed_composite([])),
    ])])
}

fn hash(number: u32) -> String {
    format!("0x{number:08x}{}", "00".repeat(28))
}

fn number(hash: &Json) -> u32 {
    u32::decode(&mut &bytes(hash)[..4].iter().rev().copied().collect::<Vec<_>>()[..]).unwrap()
}

fn hexed(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn bytes(text: &Json) -> Vec<u8> {
    hex::decode(text.as_str().unwrap().trim_start_matches("0x")).unwrap()
}
