//! The chain as De-Val's miner and validator meet it through bittensor 9.0.1, beside our own client: what one writes the other reads.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use deval_chain::{Client, CommitmentPayload, KeyPair, ValidatorView, Wallet, parse_as_validator};
use deval_report::Network;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    harness::{repository, skip},
    way::Localnet,
};

const NETUID: u16 = 202;
const HASH: &str = "1ff795ff6a07e6a68085d206fb84417da2f083f68391c2843cd2b8ac6df8538f";

/// A local chain, and the SDK in the environment that `ci/python-env.sh target/deval/python-bittensor bittensor` makes.
struct Sdk {
    python: PathBuf,
    net: Localnet,
    dir: TempDir,
    runtime: Runtime,
}

impl Sdk {
    /// `None`, with a message, where the SDK is not installed.
    fn start() -> Option<Self> {
        let python = repository().join("target/deval/python-bittensor/bin/python");
        if !python.exists() {
            skip("bittensor", "make it with `ci/python-env.sh target/deval/python-bittensor bittensor`");
            return None;
        }
        let dir = TempDir::new().expect("a directory");
        let net = Localnet::start_in(&dir.path().join("localnet"), &[]);
        Some(Self { python, net, dir, runtime: Runtime::new().expect("a runtime") })
    }

    /// What the SDK answers to each action.
    fn ask(&self, actions: &Value) -> Vec<Value> {
        let mut child = Command::new(&self.python)
            .arg(repository().join("tests/python/chain.py"))
            .arg(&self.net.chain)
            .env("HOME", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Python runs");
        child.stdin.take().expect("piped").write_all(actions.to_string().as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let answers: Vec<Value> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && Some(answers.len()) == actions.as_array().map(Vec::len),
            "{answers:?} {said}"
        );
        answers
    }

    /// Runs our client on the chain.
    fn rust<R>(&self, work: impl AsyncFnOnce(Client) -> R) -> R {
        self.runtime
            .block_on(async { work(Client::connect(&self.net.chain, Network::Local).await.expect("it listens")).await })
    }

    /// A hotkey of its own, registered and owned by Alice.
    fn registered(&self, name: &str) -> Wallet {
        let wallet = Wallet::create_throwaway(&self.dir.path().join("wallets"), name, "hot").expect("writable");
        self.net.dev("dev_setMiners", &json!([NETUID, [{ "hotkey": wallet.hotkey_ss58(), "coldkey": "//Alice" }]]));
        // Our client reads what is final.
        self.net.dev("dev_produceBlocks", &json!([1]));
        wallet
    }
}

fn address(uri: &str) -> String {
    KeyPair::from_uri(uri).expect("a development key").ss58()
}

/// What a validator makes of what our client reads, in the words of `tests/python/chain.py`.
fn ours(view: Result<ValidatorView, deval_chain::Raised>, block: u32) -> Value {
    match view {
        Ok(ValidatorView { model_url, model_hash }) => {
            json!({ "ok": { "model_url": model_url, "model_hash": model_hash, "block": block } })
        }
        Err(raised) => json!({ "raised": format!("{raised:?}") }),
    }
}

#[test]
fn the_sdk_reads_what_rust_commits_and_rust_reads_what_the_sdk_commits() {
    let Some(sdk) = Sdk::start() else { return };
    let wallet = sdk.registered("rust");
    let hotkey = wallet.hotkey_ss58();
    let payload = CommitmentPayload::encode("deval-core/base-eval-test", HASH).expect("it fits");
    let committed = sdk.rust(async |client| client.commit(NETUID, &wallet, &payload).await.expect("it is registered"));
    let miner = address("//Bob//miner");
    let text = format!("{{\"model_url\": \"deval-core/base-eval\", \"model_hash\": \"{HASH}\"}}");
    let commit =
        json!({ "do": "commit", "coldkey": "//Alice", "hotkey": "//Bob//miner", "netuid": NETUID, "text": text });
    let answers = sdk.ask(&json!([
        { "do": "read", "netuid": NETUID, "hotkey": hotkey },
        { "do": "read", "netuid": NETUID, "hotkey": miner },
        commit,
        { "do": "register", "coldkey": "//Alice", "hotkey": "//Bob//miner", "netuid": NETUID },
        commit,
    ]));
    let read = json!({ "model_url": "deval-core/base-eval-test", "model_hash": HASH, "block": committed.block_number });
    assert_eq!(answers[0], json!({ "ok": read }));
    assert_eq!(answers[1], json!({ "ok": null }), "nothing was committed");
    assert_eq!(answers[2]["raised"], "MetadataError");
    assert!(answers[2]["text"].as_str().is_some_and(|text| text.contains("AccountNotAllowedCommit")), "{}", answers[2]);
    assert_eq!(answers[3..], [json!({ "ok": true }), json!({ "ok": true })]);

    let found =
        sdk.rust(async |client| client.commitment(NETUID, &miner).await.expect("it listens")).expect("committed");
    assert_eq!(found.payload, text.as_bytes(), "what Python's json.dumps wrote");
    let view = parse_as_validator(&found.payload).expect("an object");
    assert_eq!((view.model_url.as_deref(), view.model_hash.as_deref()), (Some("deval-core/base-eval"), Some(HASH)));
}

/// Payloads by name: the fields as variant and content.
fn forms() -> BTreeMap<&'static str, Value> {
    let raw = |bytes: &[u8]| json!([[format!("Raw{}", bytes.len()), hex::encode(bytes)]]);
    let whole = br#"{"model_url":"a/b","model_hash":"h"}"#;
    let mut forms = BTreeMap::from([
        ("zero fields", json!([])),
        ("two fields", json!([["Raw36", hex::encode(whole)], ["Raw2", hex::encode("{}")]])),
        ("two fields, the second a model", json!([["Raw2", hex::encode("no")], ["Raw36", hex::encode(whole)]])),
        ("BigRaw", json!([["BigRaw", hex::encode(whole)]])),
        ("none", json!([["None", null]])),
        ("a hash", json!([["Sha256", "00".repeat(32)]])),
    ]);
    for (name, bytes) in [
        ("Python's separators", &br#"{"model_url": "a/b", "model_hash": "h"}"#[..]),
        ("compact separators", whole),
        ("other order, more keys", br#"{"model_hash":"h","more":[1],"model_url":"a/b"}"#),
        ("white space around", b" \n\t{\"model_url\":\"a/b\",\"model_hash\":\"h\"} \r\n"),
        ("UTF-8", r#"{"model_url":"ä/𝄞","model_hash":"h"}"#.as_bytes()),
        ("escapes", br#"{"model_url":"\u00e9\/\ud834\udd1e","model_hash":"h"}"#),
        ("keys twice", br#"{"model_url":"x","model_hash":"h","model_url":"a/b"}"#),
        ("its own block", br#"{"model_url":"a/b","model_hash":"h","block":"x"}"#),
        ("null", br#"{"model_url":null,"model_hash":null}"#),
        ("128 bytes", format!("{:128}", r#"{"model_url":"a/b","model_hash":"h"}"#).as_bytes()),
        ("empty", b""),
        ("no JSON", b"model"),
        ("invalid UTF-8", b"{\"model_url\":\"\xff\",\"model_hash\":\"h\"}"),
        ("byte order mark", b"\xef\xbb\xbf{\"model_url\":\"a/b\",\"model_hash\":\"h\"}"),
        ("something behind", br#"{"model_url":"a/b","model_hash":"h"}x"#),
        ("a key missing", br#"{"model_url":"a/b"}"#),
        ("a number", br#"{"model_url":1,"model_hash":"h"}"#),
        ("not a number", br#"{"model_url":NaN,"model_hash":"h"}"#),
        ("minus infinity", br#"{"model_url":"a/b","model_hash":-Infinity}"#),
        ("a list", br#"["a/b","h"]"#),
        ("a string", br#""a/b""#),
        ("only a number", b"5"),
        ("only null", b"null"),
    ] {
        forms.insert(name, raw(bytes));
    }
    forms
}

#[test]
fn every_form_of_a_payload_is_read_alike() {
    let Some(sdk) = Sdk::start() else { return };
    let forms = forms();
    let miners: Vec<_> = (0..forms.len()).map(|n| json!({ "hotkey": format!("//form{n}") })).collect();
    sdk.net.dev("dev_setMiners", &json!([NETUID, miners]));
    let actions: Vec<_> = (0..)
        .zip(forms.values())
        .flat_map(|(n, fields)| {
            let uri = format!("//form{n}");
            [
                json!({ "do": "commit_fields", "hotkey": uri, "netuid": NETUID, "fields": fields }),
                json!({ "do": "read", "hotkey": address(&uri), "netuid": NETUID }),
            ]
        })
        .collect();
    let answers = sdk.ask(&Value::from(actions));
    let mut views = [0; 3];
    for (n, name) in (0..).zip(forms.keys()) {
        assert_eq!(answers[2 * n], json!({ "ok": true }), "{name}");
        let mut theirs = answers[2 * n + 1].clone();
        theirs.as_object_mut().expect("an object").remove("text");
        let hotkey = address(&format!("//form{n}"));
        let found =
            sdk.rust(async |client| client.commitment(NETUID, &hotkey).await.expect("it listens")).expect("there");
        assert_eq!(theirs, ours(parse_as_validator(&found.payload), found.block), "{name}");
        views[if theirs.get("raised").is_some() { 2 } else { usize::from(theirs["ok"]["model_hash"].is_null()) }] += 1;
    }
    assert_eq!(views, [10, 11, 8], "models, none, exceptions");
}

#[test]
fn the_sdk_announces_an_axon_and_the_chain_refuses_as_the_real_one() {
    let Some(sdk) = Sdk::start() else { return };
    let miner = address("//Bob//miner");
    sdk.net.dev("dev_setMiners", &json!([NETUID, [{ "hotkey": "//Bob//miner", "coldkey": "//Bob" }]]));
    sdk.net.dev("dev_setSubnet", &json!([NETUID, { "servingRateLimit": 50 }]));
    let serve = |hotkey: &str, ip: &str, port: u16| json!({ "do": "serve", "coldkey": "//Bob", "hotkey": hotkey, "netuid": NETUID, "ip": ip, "port": port });
    let answers = sdk.ask(&json!([
        serve("//Bob//miner", "127.0.0.1", 8091),
        serve("//Stranger", "203.0.113.9", 8091),
        serve("//Bob//miner", "203.0.113.9", 8091),
        serve("//Bob//miner", "203.0.113.9", 8092),
        serve("//Bob//miner", "203.0.113.9", 8091),
    ]));
    for (answer, code) in [(0, 11), (1, 10), (3, 12)] {
        let text = answers[answer]["text"].as_str().unwrap_or_default();
        assert!(
            text.contains("1010") && text.contains(&format!("Custom error: {code}")),
            "{code}: {}",
            answers[answer]
        );
    }
    assert_eq!((&answers[2], &answers[4]), (&json!({ "ok": true }), &json!({ "ok": true })));
    let axon = sdk.rust(async |client| client.axon(NETUID, &miner).await.expect("it listens")).expect("announced");
    assert_eq!((axon.ip.to_string(), axon.port, axon.version), ("203.0.113.9".to_owned(), 8091, 9_000_001));
    let head = sdk.net.dev("dev_status", &json!([]))["head"].as_u64().expect("a number");
    assert_eq!(head - axon.block, 1, "an equal announcement is not sent again, and what is refused costs no block");
}

/// A full subnet, as finney's, of which two neurons announced themselves.
#[test]
fn the_sdks_metagraph_holds_what_miner_and_validator_read() {
    let Some(sdk) = Sdk::start() else { return };
    let wallet = sdk.registered("rust");
    let hotkey = wallet.hotkey_ss58();
    let ip = [192, 0, 2, 7].into();
    sdk.rust(async |client| client.serve_axon(NETUID, &wallet, ip, 8091).await.expect("it is registered"));
    let mut miners: Vec<_> = (2..256).map(|n| json!({ "hotkey": format!("//n{n}"), "incentive": n })).collect();
    miners[0] = json!({
        "hotkey": "//Bob//vali", "coldkey": "//Bob", "validatorPermit": true, "stake": 2_000_000_000_000_u64,
        "lastUpdate": 3, "trust": 65535, "axon": { "ip": "203.0.113.9", "port": 8091 },
    });
    sdk.net.dev("dev_setMiners", &json!([NETUID, miners]));
    sdk.net.dev(
        "dev_setMiners",
        &json!([NETUID, [{ "hotkey": hotkey, "incentive": 65535, "emission": 4_000_000_000_u64 }]]),
    );
    let answers = sdk.ask(&json!([
        { "do": "metagraph", "netuid": NETUID, "hotkey": hotkey },
        { "do": "top_incentive", "netuid": NETUID, "lookback": 4, "chunks": 2 },
    ]));
    let graph = &answers[0]["ok"];
    assert_eq!(
        (&graph["uid"], &graph["n"], &graph["registered"]),
        (&json!(1), &json!(256), &json!(true)),
        "{}",
        answers[0]
    );
    let uids: Vec<_> = (0..256).collect();
    assert_eq!(graph["uids"], json!(uids));
    assert_eq!((&graph["coldkey"], &graph["owner"]), (&json!(address("//Alice")), &json!(address("//Alice"))));
    assert_eq!(
        (&graph["ip"], &graph["port"], &graph["axons_unchanged"]),
        (&json!("192.0.2.7"), &json!(8091), &json!(true))
    );
    let serving: Vec<_> = graph["serving"].as_array().expect("a list").iter().map(|is| is == true).collect();
    assert_eq!((&serving[..3], serving.iter().filter(|is| **is).count()), (&[false, true, true][..], 2));
    assert_eq!(
        (&graph["incentive"][1], &graph["stake"][2], &graph["last_update"][2]),
        (&json!(1.0), &json!(2000.0), &json!(3))
    );
    assert_eq!((&graph["validator_permit"][1], &graph["validator_permit"][2]), (&json!(false), &json!(true)));
    assert_eq!(graph["logged"], json!([0.0, 4.0, 0.0, 0.0]), "trust, emission, consensus, dividends of a miner");
    assert_eq!(graph["block"], graph["current_block"]);
    let hotkeys = sdk.rust(async |client| client.registered_hotkeys(NETUID).await.expect("it listens"));
    assert_eq!(graph["hotkeys"], json!(hotkeys));
    let totals = answers[1]["ok"].as_array().unwrap_or_else(|| panic!("{}", answers[1]));
    assert_eq!((&totals[1], &totals[2], &totals[255]), (&json!(2 * 65535), &json!(0), &json!(2 * 255)));
}
