//! What a miner asks the chain and pays it: the wallet, a registration, the plan of a commitment, the gates of the chain.

use std::{fs, os::unix::fs::PermissionsExt as _};

use deval_chain::{Client, Wallet};
use deval_report::Network;
use serde_json::{Value, json};

use crate::{
    bad_input::evaluation,
    harness::{Project, Ran},
    way::{Localnet, registered},
};

const TAO: u64 = 1_000_000_000;

fn code(ran: &Ran, expected: i32) {
    assert_eq!(ran.code, expected, "{}\n{}", ran.stdout, ran.stderr);
}

fn wallet(project: &Project) -> Wallet {
    Wallet::open(&project.path("wallets"), "demo", "default", |_| None).expect("it was made")
}

/// A project whose hotkey is registered by its own coldkey, which has some TAO left.
fn owned() -> Project {
    let project = Project::new();
    project.manifest(&evaluation());
    fs::create_dir_all(project.path("target/deval/localnet")).expect("writable");
    let (localnet, own) = (Localnet::start(&project), wallet(&project));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let chain = Client::connect(&localnet.chain, Network::Local).await.expect("it listens");
        chain.fund_from_alice(own.coldkey_ss58(), 5 * TAO).await.expect("Alice is rich");
        let key = own.coldkey(|_| None).expect("it is not encrypted");
        chain.burned_register(202, &key, &own.hotkey_ss58()).await.expect("it can pay");
    });
    project
}

fn codes(report: &Value) -> Vec<&str> {
    let findings = report["diagnostics"].as_array().expect("a list");
    findings.iter().map(|finding| finding["code"].as_str().expect("a code")).collect()
}

#[test]
fn the_wallet_shows_addresses_and_no_secret() {
    let project = Project::new();
    let hotkey = project.path("wallets/demo/hotkeys/default");
    let secret: Value = serde_json::from_slice(&fs::read(&hotkey).expect("it is there")).expect("JSON");
    let ran = project.run(&["wallet", "show"]);
    code(&ran, 0);
    assert!(ran.stdout.contains(&wallet(&project).hotkey_ss58()), "{}", ran.stdout);
    assert!(ran.stdout.contains(wallet(&project).coldkey_ss58()), "{}", ran.stdout);
    for key in ["secretSeed", "privateKey"] {
        let secret = secret[key].as_str().expect("a secret").trim_start_matches("0x");
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{key}");
    }
    fs::set_permissions(&hotkey, fs::Permissions::from_mode(0o644)).expect("ours");
    let report = project.json(&["wallet", "show"]);
    assert_eq!(codes(&report), ["wallet.permissions"]);
    assert_eq!(
        (&report["diagnostics"][0]["found"], &report["diagnostics"][0]["expected"]),
        (&json!("mode 0644"), &json!("mode 0600"))
    );
    fs::remove_file(&hotkey).expect("ours");
    code(&project.run(&["wallet", "show"]), 1);
}

#[test]
fn an_encrypted_hotkey_without_password_and_terminal_is_told_at_once() {
    let project = Project::new();
    project.manifest(&evaluation());
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/chain/wallet/");
    fs::copy(format!("{fixtures}keyfile_ansible.txt"), project.path("wallets/demo/hotkeys/default")).expect("writable");
    let ran = project.run(&["wallet", "show"]);
    code(&ran, 0);
    assert!(ran.stdout.contains("encrypted"), "{}", ran.stdout);
    fs::create_dir_all(project.path("target/deval/localnet")).expect("writable");
    let _localnet = Localnet::start(&project);
    let ran = project.run(&["register"]);
    code(&ran, 2);
    assert!(
        ran.stderr.contains("the keyfile is encrypted and BT_PW_") && ran.stderr.contains("is not set"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_registration_is_planned_and_done_once() {
    let project = Project::new();
    project.manifest(&evaluation());
    fs::create_dir_all(project.path("target/deval/localnet")).expect("writable");
    let own = wallet(&project);
    let plan = project.json(&["register"]);
    assert_eq!(codes(&plan), ["register.balance"], "{plan:#}");
    {
        let localnet = Localnet::start(&project);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let chain = Client::connect(&localnet.chain, Network::Local).await.expect("it listens");
            chain.fund_from_alice(own.coldkey_ss58(), 5 * TAO).await.expect("Alice is rich");
        });
    }
    let plan = project.json(&["register"]);
    assert_eq!(
        (codes(&plan), &plan["result"]["executed"], &plan["result"]["uid"]),
        (vec![], &json!(false), &Value::Null)
    );
    assert!(plan["result"]["cost_rao"].as_u64().expect("a cost") > 0 && plan["result"]["fee_rao"].is_u64(), "{plan:#}");
    let dear = project.json(&["register", "--limit", "0.000000001", "--execute"]);
    assert_eq!((codes(&dear), &dear["result"]["executed"]), (vec!["register.limit"], &json!(false)));
    let done = project.json(&["register", "--execute"]);
    assert_eq!((codes(&done), done["result"]["uid"].is_u64()), (vec![], true), "{done:#}");
    assert!(done["result"]["extrinsic"].is_string());
    let again = project.json(&["register", "--execute"]);
    assert_eq!((&again["result"]["uid"], &again["result"]["extrinsic"]), (&done["result"]["uid"], &Value::Null));
    assert!(project.run(&["register"]).stdout.contains("nothing to do"));
}

#[test]
fn the_chain_decides_its_gates_in_the_verdict() {
    let project = owned();
    code(&project.run(&["publish", "--execute"]), 0);
    let before = project.json(&["verdict", "--online"]);
    let status = |verdict: &Value, code: &str| {
        let gates = verdict["result"]["gates"].as_array().expect("all gates");
        gates.iter().find(|gate| gate["code"] == code).expect("a gate")["status"].as_str().expect("a status").to_owned()
    };
    assert_eq!((status(&before, "G01"), status(&before, "G17")), ("fail".into(), "fail".into()));
    let plan = project.json(&["commit"]);
    let stands = &plan["result"]["before"];
    assert!(stands["uid"].is_u64() && stands["takes"] == true, "{plan:#}");
    assert!(stands["quota"].as_str().expect("words").contains("0 of 3100 bytes used"), "{plan:#}");
    code(&project.run(&["commit", "--execute"]), 0);
    let after = project.json(&["verdict"]);
    for gate in ["G02", "G03", "G07", "G17", "G18", "G19", "G20", "G21", "G22", "G28", "G29", "G30", "G34"] {
        assert!(matches!(&*status(&after, gate), "pass" | "warn"), "{gate}: {after:#}");
    }
    assert_eq!(
        (status(&after, "G07"), status(&after, "G34"), status(&after, "G29")),
        ("pass".into(), "pass".into(), "pass".into())
    );
    assert_eq!(status(&after, "G01"), "fail", "no axon is announced yet");

    let seen: Value =
        serde_json::from_slice(&fs::read(project.path("target/deval/chain.json")).expect("a report")).expect("JSON");
    assert!(
        seen["result"]["block"].as_u64() >= seen["result"]["committed"].as_u64() && seen["result"]["uid"].is_u64(),
        "{seen:#}"
    );
    let mut old = seen.clone();
    old["run"]["started_unix"] = json!(1);
    fs::write(project.path("target/deval/chain.json"), old.to_string()).expect("writable");
    let verdict = project.json(&["verdict"]);
    assert_eq!(
        (status(&verdict, "G07"), status(&verdict, "G17")),
        ("unknown".into(), "pass".into()),
        "the receipt still stands"
    );
    assert!(codes(&verdict).contains(&"verdict.outdated"), "{verdict:#}");
}

#[test]
fn incentives_are_standings_with_a_warning() {
    let project = registered();
    code(&project.run(&["evaluate"]), 0);
    let forecast = project.json(&["forecast", "--leaderboard", "chain", "--draws", "200"]);
    let codes = codes(&forecast);
    assert!(codes.contains(&"leaderboard.incentives"), "{forecast:#}");
    assert!(forecast["inputs"]["leaderboard"].as_str().is_some_and(|from| from.contains("at block")), "{forecast:#}");
}
