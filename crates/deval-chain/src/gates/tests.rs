use std::net::IpAddr;

use deval_report::Network;
use deval_report::gates::{GateStatus, GateVerdict, Unit};

use super::{RAO, Seen, YOUNG_BLOCKS, gates};
use crate::client::{Allowance, AxonInfo, HotkeyCommitment, Metagraph, Neuron, OnChainCommitment};
use crate::{CommitmentPayload, parse_as_validator};

const HASH: &str = "1ff795ff6a07e6a68085d206fb84417da2f083f68391c2843cd2b8ac6df8538f";
const URL: &str = "me/model";
const SPACE: Allowance = Allowance::Space { max: 3100, used: 128, frees_in_blocks: 50, frees_in_milliseconds: 600_000 };

fn neuron(uid: u16, incentive: u16) -> Neuron {
    let ip: IpAddr = [203, 0, 113, uid as u8].into();
    Neuron {
        uid,
        hotkey: format!("hotkey-{uid}"),
        coldkey: format!("coldkey-{uid}"),
        registered_at: 1000,
        incentive,
        validator_permit: false,
        axon: Some(AxonInfo { block: 1100, version: 9_000_001, ip, port: 8091, protocol: 4 }),
    }
}

/// Thirty neurons, of which uid 5 is ours; the higher the uid, the more it earns.
fn subnet() -> Metagraph {
    Metagraph { netuid: 202, block: 10_000, neurons: (0..30).map(|uid| neuron(uid, uid * 10)).collect() }
}

fn on_chain(block: u32, text: &str) -> OnChainCommitment {
    OnChainCommitment { block, payload: text.as_bytes().to_vec(), raw: Vec::new() }
}

fn ours() -> OnChainCommitment {
    on_chain(5000, CommitmentPayload::encode(URL, HASH).unwrap().as_str())
}

fn of(uid: u16, block: u32) -> HotkeyCommitment {
    let view = parse_as_validator(&ours().payload).unwrap();
    HotkeyCommitment { hotkey: format!("hotkey-{uid}"), block, view }
}

fn seen<'a>(metagraph: &'a Metagraph, commitment: &'a OnChainCommitment) -> Seen<'a> {
    Seen {
        network: Network::Finney,
        hotkey: "hotkey-5",
        metagraph,
        stake: None,
        commitment: Some(commitment),
        commitments: &[],
        allowance: SPACE,
        block_milliseconds: 12_000,
        model_url: URL,
        model_hash: Some(HASH),
        coldkey_txt: Some(b"coldkey-5"),
        repository: Some((true, "revision abc")),
    }
}

fn gate(seen: &Seen<'_>, code: &str) -> Option<GateVerdict> {
    gates(seen).into_iter().find(|gate| gate.code == code)
}

fn status(seen: &Seen<'_>, code: &str) -> Option<GateStatus> {
    gate(seen, code).map(|gate| gate.status)
}

#[test]
fn a_submission_in_order_passes_every_gate_of_the_chain() {
    let (metagraph, commitment) = (subnet(), ours());
    let seen = seen(&metagraph, &commitment);
    let all = gates(&seen);
    let codes: Vec<_> = all.iter().map(|gate| gate.code.as_str()).collect();
    let expected = ["G01", "G02", "G03", "G07", "G17", "G18", "G19", "G20", "G21", "G22", "G28", "G29", "G30", "G34"];
    assert_eq!(codes, expected);
    for gate in &all {
        assert_eq!(gate.status, GateStatus::Pass, "{gate:?}");
    }
    let distance = |code| gate(&seen, code).unwrap().distance.unwrap();
    assert_eq!((distance("G07").value, distance("G07").unit), (411_000.0, Unit::Blocks));
    assert_eq!(gate(&seen, "G07").unwrap().margin.unwrap(), "411000 blocks left (57.1 days)");
    assert_eq!((distance("G21").value, distance("G21").unit), (2972.0, Unit::Bytes));
}

#[test]
fn nothing_is_asked_of_who_is_not_registered_or_does_not_serve() {
    let (mut metagraph, commitment) = (subnet(), ours());
    metagraph.neurons[5].axon.as_mut().unwrap().ip = [0, 0, 0, 0].into();
    assert_eq!(status(&seen(&metagraph, &commitment), "G01"), Some(GateStatus::Fail));
    metagraph.neurons[5].axon = None;
    assert_eq!(status(&seen(&metagraph, &commitment), "G01"), Some(GateStatus::Fail));
    metagraph.neurons.remove(5);
    let found = gates(&seen(&metagraph, &commitment));
    assert_eq!((found[0].code.as_str(), found[0].status), ("G01", GateStatus::Fail));
    assert!(found[0].next.as_ref().unwrap().contains("register"));
    assert!(!found.iter().any(|gate| ["G02", "G03", "G07", "G30"].contains(&gate.code.as_str())));
}

#[test]
fn a_permit_with_much_stake_makes_a_validator_of_a_miner() {
    let (mut metagraph, commitment) = (subnet(), ours());
    metagraph.neurons[5].validator_permit = true;
    let with = |stake| gate(&Seen { stake, ..seen(&metagraph, &commitment) }, "G02").unwrap();
    assert_eq!(with(None).status, GateStatus::Unknown);
    assert_eq!(with(Some(4096 * RAO)).status, GateStatus::Pass);
    assert_eq!(with(Some(4095 * RAO)).margin.unwrap(), "1.000 of stake left");
    let (too_much, half) = (with(Some(4096 * RAO + 1)), with(Some(4096 * RAO + RAO / 2)));
    assert_eq!((too_much.status, half.margin.unwrap().as_str()), (GateStatus::Fail, "0.500 of stake too much"));
}

#[test]
fn shared_coldkeys_and_addresses_are_told() {
    let (mut metagraph, commitment) = (subnet(), ours());
    metagraph.neurons[8].coldkey = "coldkey-5".into();
    metagraph.neurons[9].axon = metagraph.neurons[5].axon.clone();
    let found = gate(&seen(&metagraph, &commitment), "G03").unwrap();
    assert_eq!(found.status, GateStatus::Warn);
    assert_eq!(found.detail, "shares its coldkey with uid 8; shares its address with uid 9");
}

#[test]
fn the_window_ends_unless_the_incentive_is_among_the_highest() {
    let (mut metagraph, commitment) = (subnet(), ours());
    let at = |metagraph: &mut Metagraph, block: u64, incentive: u16| {
        metagraph.block = block;
        metagraph.neurons[5].incentive = incentive;
        gate(&seen(metagraph, &commitment), "G07").unwrap()
    };
    let end = 1000 + YOUNG_BLOCKS;
    assert_eq!(at(&mut metagraph, end, 50).status, GateStatus::Warn, "the last block");
    assert_eq!(at(&mut metagraph, end, 295).status, GateStatus::Pass, "high enough for any age");
    let past = at(&mut metagraph, end + 1, 50);
    assert_eq!((past.status, past.distance.unwrap().value), (GateStatus::Fail, -1.0));
    assert_eq!(at(&mut metagraph, end + 1, 295).status, GateStatus::Pass);
    // Nineteen are above uid 10, and uid 5 earns the same: one of the two is taken.
    let tie = at(&mut metagraph, end + 1, 100);
    assert_eq!(tie.status, GateStatus::Warn);
    assert!(tie.detail.contains("shared by 2"), "{tie:?}");
}

#[test]
fn a_commitment_that_a_validator_cannot_use_is_told() {
    let metagraph = subnet();
    let with = |text: &str, code: &str| status(&seen(&metagraph, &on_chain(5000, text)), code);
    assert_eq!(with("[]", "G18"), Some(GateStatus::Fail));
    assert_eq!(with("no JSON", "G18"), Some(GateStatus::Fail));
    assert_eq!(with("", "G19"), Some(GateStatus::Fail), "a field that is not raw");
    let other = CommitmentPayload::encode("me/other", HASH).unwrap();
    assert_eq!(with(other.as_str(), "G22"), Some(GateStatus::Warn));
    assert_eq!(
        (with(other.as_str(), "G20"), with(other.as_str(), "G28")),
        (Some(GateStatus::Fail), Some(GateStatus::Pass))
    );
    let upper = CommitmentPayload::encode(URL, &HASH.to_uppercase()).unwrap();
    assert_eq!(
        (with(upper.as_str(), "G28"), with(upper.as_str(), "G29")),
        (Some(GateStatus::Fail), Some(GateStatus::Fail))
    );
    let compact = ours().payload.into_iter().filter(|byte| *byte != b' ').collect();
    assert_eq!(with(&String::from_utf8(compact).unwrap(), "G20"), Some(GateStatus::Pass), "other spacing, same values");
    let commitment = ours();
    let none = Seen { commitment: None, ..seen(&metagraph, &commitment) };
    assert_eq!((status(&none, "G17"), status(&none, "G28")), (Some(GateStatus::Fail), None));
    assert_eq!(with_block_zero(&metagraph), Some(GateStatus::Fail));
}

fn with_block_zero(metagraph: &Metagraph) -> Option<GateStatus> {
    status(&seen(metagraph, &OnChainCommitment { block: 0, ..ours() }), "G17")
}

#[test]
fn repository_and_coldkey_are_compared_with_the_chain() {
    let (metagraph, commitment) = (subnet(), ours());
    let seen = seen(&metagraph, &commitment);
    let other = Seen { repository: Some((false, "`main` holds other files")), ..seen };
    assert_eq!(status(&other, "G29"), Some(GateStatus::Fail));
    assert_eq!(status(&Seen { repository: None, ..seen }, "G29"), None);
    let newline = gate(&Seen { coldkey_txt: Some(b"coldkey-5\n"), ..seen }, "G30").unwrap();
    assert_eq!(newline.status, GateStatus::Fail);
    assert!(newline.detail.contains("white space"), "{newline:?}");
    assert_eq!(status(&Seen { coldkey_txt: Some(b"coldkey-6"), ..seen }, "G30"), Some(GateStatus::Fail));
}

#[test]
fn the_earlier_block_owns_a_hash() {
    let (metagraph, commitment) = (subnet(), ours());
    let with =
        |all: &[HotkeyCommitment]| gate(&Seen { commitments: all, ..seen(&metagraph, &commitment) }, "G34").unwrap();
    let own = of(5, 5000);
    let later = with(&[own.clone(), of(7, 5100)]);
    assert_eq!((later.status, later.distance.unwrap().value), (GateStatus::Pass, 100.0));
    assert_eq!(with(&[of(7, 5000), own.clone()]).status, GateStatus::Fail, "the same block");
    let earlier = with(&[of(9, 4990), of(7, 4900), own]);
    assert_eq!((earlier.status, earlier.margin.unwrap().as_str()), (GateStatus::Fail, "100 blocks after uid 7"));
    assert_eq!(with(&[of(99, 10)]).status, GateStatus::Pass, "nobody of the subnet");
    let not_yet = Seen { commitment: None, commitments: &[of(7, 4900)], ..seen(&metagraph, &commitment) };
    assert_eq!(status(&not_yet, "G34"), Some(GateStatus::Fail));
}

#[test]
fn what_is_left_of_the_quota_is_told() {
    let (metagraph, commitment) = (subnet(), ours());
    let with = |allowance| gate(&Seen { allowance, ..seen(&metagraph, &commitment) }, "G21");
    let full = Allowance::Space { max: 3100, used: 3050, frees_in_blocks: 50, frees_in_milliseconds: 600_000 };
    let full = with(full).unwrap();
    assert_eq!((full.status, full.next.unwrap().as_str()), (GateStatus::Warn, "wait 50 blocks (about 10 minutes)"));
    let early = with(Allowance::Interval { blocks: 100, left: 40, left_milliseconds: 480_000 }).unwrap();
    assert_eq!((early.status, early.distance.unwrap().value), (GateStatus::Warn, -40.0));
    assert_eq!(with(Allowance::Unlimited), None);
}
