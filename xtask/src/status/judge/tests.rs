use std::{net::SocketAddr, path::Path};

use chrono::{DateTime, Utc};
use deval_chain::{AxonInfo, HotkeyCommitment, IncentiveRank, Neuron, OnChainCommitment, ValidatorView};
use deval_hub::{Digest, LocalFile, RemoteCommit, RemoteFile, RemoteRepo, Stamp};
use deval_report::Network;

use super::judge;
use crate::status::{
    PairState, Standing,
    axon::{Outcome, Probe},
    look::{ChainSeen, HubSeen, LocalSeen, Seen},
};

const OURS: &str = "5Ours";
const THEIRS: &str = "5Theirs";

fn hash() -> String {
    "ab".repeat(32)
}

fn time(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn view(hash: &str) -> ValidatorView {
    ValidatorView { model_url: Some("demo/tiny".into()), model_hash: Some(hash.into()) }
}

/// A submission with which all is well.
fn good() -> Seen {
    let address: SocketAddr = "198.51.100.7:8091".parse().unwrap();
    let weights = "model.safetensors";
    let told = Outcome::Told { model_url: "demo/tiny".into(), seconds: 0.01 };
    let axon = AxonInfo { block: 110, version: 9_000_001, ip: address.ip(), port: address.port(), protocol: 4 };
    let payload = format!(r#"{{"model_url": "demo/tiny", "model_hash": "{}"}}"#, hash()).into_bytes();
    Seen {
        network: Network::Finney,
        hotkey: OURS.into(),
        coldkey: "5Cold".into(),
        model_url: "demo/tiny".into(),
        wanted: Some(address),
        local: LocalSeen {
            model_hash: Some(hash()),
            source: "hash",
            files: vec![LocalFile {
                path: weights.into(),
                source: weights.into(),
                size: 1,
                sha256: hash(),
                git_sha1: String::new(),
                // Of some file: no transfer is judged here.
                stamp: Stamp::of(Path::new("Cargo.toml")).unwrap(),
            }],
            ..LocalSeen::default()
        },
        hub: Ok(HubSeen {
            repository: Some(RemoteRepo {
                head: Some("c0ffee".into()),
                files: vec![RemoteFile {
                    path: weights.into(),
                    size: 1,
                    digest: Digest::Sha256(hash()),
                    last_commit: None,
                }],
                last_commit: Some(RemoteCommit {
                    id: "c0ffee".into(),
                    title: "model".into(),
                    date: "2026-11-01T00:00:00.000Z".into(),
                }),
                ..RemoteRepo::default()
            }),
            public: true,
            differences: Vec::new(),
        }),
        chain: Ok(ChainSeen {
            block: 1000,
            block_milliseconds: 12_000,
            neuron: Some(Neuron {
                uid: 7,
                hotkey: OURS.into(),
                coldkey: "5Cold".into(),
                registered_at: 100,
                incentive: 5,
                validator_permit: false,
                axon: Some(axon),
            }),
            rank: Some(IncentiveRank { incentive: 5, rank: 30, sharing: 1, of: 60 }),
            commitment: Some(OnChainCommitment { block: 500, payload, raw: Vec::new() }),
            commitments: vec![HotkeyCommitment { hotkey: OURS.into(), block: 500, view: view(&hash()) }],
            uids: [(OURS.to_owned(), 7), (THEIRS.to_owned(), 9)].into(),
            probe: Some(Probe { own_address: false, outcome: told, answers_locally: None }),
        }),
    }
}

/// The reasons that are to be acted on.
fn reasons(seen: &Seen) -> Vec<String> {
    judge(seen, time("2026-11-29T00:00:00Z"), None).0.reasons
}

fn changed(change: impl FnOnce(&mut Seen)) -> Vec<String> {
    let mut seen = good();
    change(&mut seen);
    reasons(&seen)
}

fn on_chain(change: impl FnOnce(&mut ChainSeen)) -> Vec<String> {
    changed(|seen| change(seen.chain.as_mut().unwrap()))
}

fn on_hub(change: impl FnOnce(&mut RemoteRepo)) -> Vec<String> {
    changed(|seen| change(seen.hub.as_mut().unwrap().repository.as_mut().unwrap()))
}

#[test]
fn all_is_well_with_a_good_submission() {
    let (status, findings) = judge(&good(), time("2026-11-29T00:00:00Z"), None);
    assert_eq!((status.verdict, findings.len()), (Standing::Good, 0), "{findings:?}");
    let registered = status.registration.unwrap();
    assert_eq!((registered.uid, registered.window_blocks_left, registered.in_top), (7, 419_100, Some(false)));
    assert!((registered.window_days_left - 419_100.0 * 12.0 / 86_400.0).abs() < 1e-9);
    let pairs = [status.models.local_hub, status.models.local_chain, status.models.hub_chain];
    assert!(pairs.iter().all(|pair| pair.state == PairState::Equal), "{pairs:?}");
}

#[test]
fn the_window_counts_blocks_since_the_registration_unless_the_rank_is_high() {
    let at = |block: u64, rank: usize, sharing: usize| {
        on_chain(|chain| {
            (chain.block, chain.rank) = (block, Some(IncentiveRank { incentive: 5, rank, sharing, of: 60 }));
        })
    };
    assert_eq!(at(100 + 420_000, 30, 1), ["window.ends"], "the last block is inside");
    assert_eq!(at(100 + 420_001, 30, 1), ["window.closed"]);
    assert_eq!(at(100 + 420_001, 20, 1), [""; 0]);
    assert_eq!(at(100 + 420_001, 20, 2), ["window.chance"]);
    assert_eq!(at(100 + 420_001, 21, 1), ["window.closed"]);
    assert_eq!(at(100 + 420_000 - 7 * 7200, 30, 1), ["window.ends"], "a week is spoken of");
    assert_eq!(at(100 + 420_000 - 7 * 7200 - 1, 30, 1), [""; 0]);
}

#[test]
fn each_pair_of_the_three_places_is_told_apart() {
    let other = "cd".repeat(32);
    let commit = |chain: &mut ChainSeen, hash: &str| {
        let payload = format!(r#"{{"model_url":"demo/tiny","model_hash":"{hash}"}}"#).into_bytes();
        chain.commitment.as_mut().unwrap().payload = payload;
    };
    assert_eq!(on_chain(|chain| commit(chain, &other)), ["local-chain.differs", "hub-chain.differs"]);
    let newer = changed(|seen| {
        let hub = seen.hub.as_mut().unwrap();
        hub.repository.as_mut().unwrap().files[0].digest = Digest::Sha256(other.clone());
        hub.differences = vec!["other model.safetensors".into()];
    });
    assert_eq!(newer, ["local-hub.differs", "hub-chain.differs"]);
    assert_eq!(changed(|seen| seen.local.model_hash = Some(other.clone())), ["local-chain.differs"]);
    let sharded = on_hub(|repository| {
        let second = RemoteFile { path: "model-2.safetensors".into(), ..repository.files[0].clone() };
        repository.files.push(second);
    });
    assert_eq!(sharded, ["hub-chain.unproven"], "the hash of two files in a row is known to nobody");
    assert_eq!(changed(|seen| seen.local = LocalSeen::default()), ["local.unknown"]);
    assert_eq!(on_chain(|chain| chain.commitment = None), ["commitment.missing"]);
    let broken = on_chain(|chain| chain.commitment.as_mut().unwrap().payload = b"[]".into());
    assert_eq!(broken, ["commitment.unreadable"]);
}

#[test]
fn of_equal_models_the_earlier_commitment_wins_and_only_registered_ones_count() {
    let copy = |block: u32, hotkey: &str| {
        let hotkey = hotkey.to_owned();
        let mut seen = good();
        let commitment = HotkeyCommitment { hotkey, block, view: view(&hash()) };
        seen.chain.as_mut().unwrap().commitments.push(commitment);
        let (status, _) = judge(&seen, time("2026-11-29T00:00:00Z"), None);
        (status.duplicates[0].wins, status.reasons)
    };
    let wins = (true, vec!["duplicate.wins".to_owned()]);
    assert_eq!(copy(499, THEIRS), wins);
    assert_eq!(copy(500, THEIRS), wins, "uid 9 is evaluated after uid 7, and the later one takes it");
    assert_eq!(copy(501, THEIRS), (false, Vec::new()));
    assert_eq!(copy(1, "5Gone"), (false, Vec::new()), "who is not registered is not evaluated");
}

#[test]
fn a_hub_commit_counts_against_rounds_that_began_before_it() {
    let date = "2026-11-28T12:00:00.000Z";
    let mut seen = good();
    let repository = seen.hub.as_mut().unwrap().repository.as_mut().unwrap();
    repository.last_commit.as_mut().unwrap().date = date.into();
    let at = |now: &str, start: Option<&str>| {
        let (_, findings) = judge(&seen, time(now), start.map(time));
        findings.into_iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(at("2026-11-29T05:59:59Z", None), ["hub.commit-recent"]);
    assert_eq!(at("2026-11-29T06:00:00Z", None), [""; 0], "no round lasts longer than 18 hours");
    assert_eq!(at("2026-11-29T06:00:00Z", Some("2026-11-28T11:59:59Z")), ["hub.commit-in-round"]);
    assert_eq!(at("2026-11-28T12:00:01Z", Some("2026-11-28T12:00:00Z")), [""; 0], "equal is in time");
}

#[test]
fn the_axon_is_judged_by_its_answer_and_by_what_the_question_proves() {
    let probed = |outcome: Outcome, own_address: bool, answers_locally: Option<bool>| {
        on_chain(|chain| chain.probe = Some(Probe { own_address, outcome, answers_locally }))
    };
    let silent = || Outcome::Silent { reason: "refused".into() };
    assert_eq!(probed(silent(), false, Some(false)), ["axon.unreachable"]);
    assert_eq!(probed(silent(), true, Some(true)), ["axon.unreachable"], "its own address needs no router");
    assert_eq!(probed(silent(), false, Some(true)), ["axon.unproven"]);
    assert_eq!(probed(Outcome::Refused { status: 403, message: String::new() }, false, None), ["axon.refuses"]);
    let other = Outcome::Told { model_url: "demo/other".into(), seconds: 0.1 };
    assert_eq!(probed(other, false, None), ["axon.other-model"]);
    let moved = changed(|seen| seen.wanted = Some("198.51.100.8:8091".parse().unwrap()));
    assert_eq!(moved, ["axon.elsewhere"]);
    assert_eq!(on_chain(|chain| chain.neuron.as_mut().unwrap().axon = None), ["axon.unannounced"]);
    let private = on_chain(|chain| {
        chain.neuron.as_mut().unwrap().axon.as_mut().unwrap().ip = "192.168.1.5".parse().unwrap();
    });
    assert_eq!(private, ["axon.elsewhere", "axon.private"]);
}

#[test]
fn what_cannot_be_looked_at_is_told_and_the_rest_is_judged() {
    let mut seen = good();
    (seen.chain, seen.local.changed) = (Err("refused".into()), Some("`model.safetensors` changed".into()));
    let (status, _) = judge(&seen, time("2026-11-29T00:00:00Z"), None);
    assert_eq!((status.verdict, status.reasons), (Standing::Unseen, vec!["chain.away".into(), "local.changed".into()]));
    assert_eq!(status.models.local_hub.state, PairState::Equal);
    let unregistered = on_chain(|chain| (chain.neuron, chain.rank, chain.commitment) = (None, None, None));
    assert_eq!(unregistered, ["hotkey.unregistered"]);
    let hidden = changed(|seen| seen.hub.as_mut().unwrap().public = false);
    assert_eq!(hidden, ["hub.private"]);
}
