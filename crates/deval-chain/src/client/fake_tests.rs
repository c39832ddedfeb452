//! Reads and effects over the metadata of real runtimes.

use subxt::ext::codec::Compact;

use super::fake::{Call, Node, Pool};
use super::{Allowance, Client};
use crate::{ChainError, CommitmentPayload, KeyPair, Metagraph, Wallet, duplicates, parse_as_validator, ss58};

const NETUID: u16 = 202;
const HASH: &str = "1ff795ff6a07e6a68085d206fb84417da2f083f68391c2843cd2b8ac6df8538f";
const SUBTENSOR: &str = "SubtensorModule";
/// `Axons` as the runtime stores it.
type Axon = (u64, u32, u128, u16, u8, u8, u8, u8);

fn axon(ip: u128, port: u16) -> Axon {
    (90, 9_000_001, ip, port, 4, 4, 0, 0)
}

/// A commitment as the runtime stores it: deposit, block, one field.
fn commitment(block: u32, text: &str) -> (u64, u32, Compact<u32>, RawField) {
    (0, block, Compact(1), RawField(text.as_bytes().to_vec()))
}

/// `Raw0` to `Raw128`: the length is in the variant's index.
struct RawField(Vec<u8>);

impl subxt::ext::codec::Encode for RawField {
    fn encode(&self) -> Vec<u8> {
        [&[self.0.len() as u8 + 1], &*self.0].concat()
    }
}

fn payload(url: &str) -> CommitmentPayload {
    CommitmentPayload::encode(url, HASH).unwrap()
}

fn hotkey(uid: u16) -> [u8; 32] {
    [uid as u8 + 1; 32]
}

/// A subnet of these incentives.
fn subnet(node: &Node, incentives: &[u16]) {
    node.set(SUBTENSOR, "NetworksAdded", (NETUID,), true);
    node.set(SUBTENSOR, "SubnetworkN", (NETUID,), incentives.len() as u16);
    node.set(SUBTENSOR, "Incentive", (NETUID,), incentives.to_vec());
    for uid in 0..incentives.len() as u16 {
        node.set(SUBTENSOR, "Keys", (NETUID, uid), hotkey(uid));
        node.set(SUBTENSOR, "Uids", (NETUID, hotkey(uid)), uid);
        node.set(SUBTENSOR, "Owner", (hotkey(uid),), [200u8; 32]);
        node.set(SUBTENSOR, "BlockAtRegistration", (NETUID, uid), 10 + u64::from(uid));
    }
}

/// A wallet whose hotkey is registered.
fn registered(node: &Node) -> (tempfile::TempDir, Wallet) {
    let root = tempfile::tempdir().unwrap();
    let wallet = Wallet::create_throwaway(root.path(), "w", "h").unwrap();
    node.set(SUBTENSOR, "NetworksAdded", (NETUID,), true);
    node.set(SUBTENSOR, "Uids", (NETUID, wallet.hotkey().public()), 3u16);
    (root, wallet)
}

fn nodes() -> Vec<Node> {
    let found: Vec<_> = [365, 393].into_iter().filter_map(Node::of).collect();
    if found.is_empty() {
        crate::testing::skip("shared", "the metadata of real runtimes is not beside the checkout");
    }
    found
}

#[tokio::test]
async fn a_subnet_is_read_whole_and_in_pages() {
    for node in nodes() {
        let client = node.client().await;
        assert_eq!(client.subnet(NETUID).await.unwrap(), None);
        subnet(&node, &(0..150).collect::<Vec<u16>>());
        node.set(SUBTENSOR, "Axons", (NETUID, hotkey(7)), axon(3_405_803_785, 8091));
        node.set(SUBTENSOR, "Axons", (NETUID, hotkey(8)), axon(0, 8091));
        let mut permits = vec![false; 150];
        permits[9] = true;
        node.set(SUBTENSOR, "ValidatorPermit", (NETUID,), permits);
        node.set(SUBTENSOR, "Burn", (NETUID,), 1_500_000u64);
        node.set(SUBTENSOR, "Tempo", (NETUID,), 99u16);
        let parameters = client.subnet(NETUID).await.unwrap().unwrap();
        assert_eq!((parameters.neurons, parameters.burn, parameters.tempo), (150, 1_500_000, 99));
        assert_eq!((parameters.block, parameters.block_milliseconds), (100, 12_000));
        assert!(parameters.serving_rate_limit > 0 && parameters.immunity_period > 0 && parameters.max_neurons > 0);

        let graph = client.metagraph(NETUID).await.unwrap();
        assert!(graph.neurons.iter().map(|neuron| neuron.uid).eq(0..150));
        let neuron = graph.neuron(&ss58(&hotkey(7))).unwrap();
        assert_eq!((neuron.uid, neuron.registered_at, neuron.incentive), (7, 17, 7));
        assert_eq!(neuron.coldkey, ss58(&[200; 32]));
        let serving = |uid: usize| graph.neurons[uid].is_serving();
        assert_eq!((serving(7), serving(8), serving(9)), (true, false, false));
        let permitted = |uid: usize| graph.neurons[uid].validator_permit;
        assert_eq!((permitted(8), permitted(9)), (false, true));
        let all: Vec<_> = (0..150).map(|uid| ss58(&hotkey(uid))).collect();
        assert_eq!(client.registered_hotkeys(NETUID).await.unwrap(), all);
        assert!(node.asked("state_getStorage") < 200, "one request for each owner, and few others");
    }
}

#[test]
fn equal_incentives_share_the_best_place() {
    let graph = |incentives: &[u16]| {
        let neurons = (0..).zip(incentives).map(|(uid, incentive)| crate::Neuron {
            uid,
            hotkey: String::new(),
            coldkey: String::new(),
            registered_at: 0,
            incentive: *incentive,
            validator_permit: false,
            axon: None,
        });
        Metagraph { netuid: NETUID, block: 1, neurons: neurons.collect() }
    };
    let place = |graph: &Metagraph, uid| {
        let rank = graph.incentive_rank(uid).unwrap();
        (rank.rank, rank.sharing, rank.of)
    };
    let some = graph(&[5, 9, 5, 0, 0]);
    assert_eq!([0, 1, 2, 3].map(|uid| place(&some, uid)), [(2, 2, 5), (1, 1, 5), (2, 2, 5), (4, 2, 5)]);
    assert_eq!(some.incentive_rank(5), None);
    let among = |uid, places| some.incentive_rank(uid).unwrap().is_among(places);
    assert_eq!(
        [among(1, 1), among(0, 1), among(0, 3), among(3, 3)],
        [Some(true), Some(false), Some(true), Some(false)]
    );
    assert_eq!(among(0, 2), None, "which of two equals is taken, nobody can tell");
    assert_eq!(graph(&[0; 256]).incentive_rank(0).unwrap().is_among(20), None);
}

#[tokio::test]
async fn commitments_of_a_subnet_are_read_the_earliest_first() {
    for node in nodes() {
        let client = node.client().await;
        let text = |url: &str| format!("{{\"model_url\": \"{url}\", \"model_hash\": \"{HASH}\"}}");
        for (uid, block) in [(0, 30), (1, 20), (2, 40), (3, 20)] {
            node.set(
                "Commitments",
                "CommitmentOf",
                (NETUID, hotkey(uid)),
                commitment(block, &text(&format!("a/{uid}"))),
            );
        }
        node.set("Commitments", "CommitmentOf", (NETUID, hotkey(4)), commitment(5, "no JSON"));
        node.set("Commitments", "CommitmentOf", (15u16, hotkey(5)), commitment(1, &text("other/subnet")));
        let all = client.commitments(NETUID).await.unwrap();
        assert_eq!(all.iter().map(|found| found.block).collect::<Vec<_>>(), [5, 20, 20, 30, 40]);
        assert_eq!((all[0].view.model_hash.as_ref(), all[3].view.model_url.as_deref()), (None, Some("a/0")));
        let own = ss58(&hotkey(0));
        let found = duplicates(&all, HASH, &own);
        assert_eq!(found.iter().map(|found| found.block).collect::<Vec<_>>(), [20, 20, 40]);
        let (found, block) = client.commitment_and_block(NETUID, &own).await.unwrap();
        assert_eq!((found.unwrap().block, block), (30, 100));
    }
}

#[tokio::test]
async fn the_quota_tells_what_is_left_and_when_it_is_free_again() {
    for node in nodes() {
        let client = node.client().await;
        let own = ss58(&hotkey(0));
        node.set(SUBTENSOR, "Tempo", (NETUID,), 360u16);
        node.set("Commitments", "MaxSpace", (), 3100u32);
        let Allowance::Space { max, used, frees_in_blocks, frees_in_milliseconds } =
            client.allowance(NETUID, &own).await.unwrap()
        else {
            panic!("this runtime has a quota")
        };
        // (block + 203) / 361: block 101 is in epoch 0, and block 158 is the first of epoch 1.
        assert_eq!((max, used, frees_in_blocks, frees_in_milliseconds), (3100, 0, 58, 58 * 12_000));
        node.set("Commitments", "UsedSpaceOf", (NETUID, hotkey(0)), (0u64, 2900u64));
        let left = client.allowance(NETUID, &own).await.unwrap();
        assert_eq!((left.takes(128), left.takes(200), left.takes(201)), (true, true, false));
        assert_eq!((left.commitments_left(128), left.commitments_left(10)), (Some(1), Some(2)));
        assert_eq!(left.wait().unwrap(), "58 blocks (about 12 minutes)");
        node.at_block(157);
        assert!(client.allowance(NETUID, &own).await.unwrap().takes(3100), "the next block begins an epoch");
    }
}

#[tokio::test]
async fn the_stake_comes_from_the_runtimes_metagraph() {
    let node = Node::of(393);
    let Some(node) = node else { return };
    let client = node.client().await;
    node.answers("SubnetInfoRuntimeApi_get_metagraph", Option::<u8>::None);
    assert_eq!(client.total_stake(NETUID, 0).await.unwrap(), None);
}

#[tokio::test]
async fn a_runtime_upgrade_between_two_reads_is_followed() {
    let Some(node) = Node::of(365) else { return };
    let client = node.client().await;
    let (_root, wallet) = registered(&node);
    node.set("Commitments", "CommitmentOf", (NETUID, wallet.hotkey().public()), commitment(7, payload("a/b").as_str()));
    let before = client.commitment(NETUID, &wallet.hotkey_ss58()).await.unwrap();
    node.upgrade(393);
    assert_eq!(client.commitment(NETUID, &wallet.hotkey_ss58()).await.unwrap(), before);
    assert_eq!(client.uid(NETUID, &wallet.hotkey_ss58()).await.unwrap(), Some(3));
    // Not for the upgrade, which is final: it is not sent again.
    node.pool([Pool::Refuses(1010, "Invalid Transaction", Some("Transaction has a bad signature"))]);
    let error = client.commit(NETUID, &wallet, &payload("a/c")).await.unwrap_err().to_string();
    assert!(error.contains("bad signature") && error.contains("upgraded just now"), "{error}");
}

#[tokio::test]
async fn an_extrinsic_is_found_on_the_chain_after_the_connection_broke() {
    for node in nodes() {
        let client = node.client().await;
        let (_root, wallet) = registered(&node);
        // The chain shows the commitment of the extrinsic from the start of the read back.
        let text = payload("a/b");
        let key = wallet.hotkey().public();
        node.pool([Pool::TakesAndBreaks(Call::Succeeds)]);
        let sent = client.commit(NETUID, &wallet, &text).await.unwrap_err();
        assert!(
            matches!(sent, ChainError::ReadBack { block: 101, .. }),
            "found in block 101, whose state the test left: {sent}"
        );
        node.set("Commitments", "CommitmentOf", (NETUID, key), commitment(101, text.as_str()));
        let again = client.commit(NETUID, &wallet, &text).await.unwrap();
        assert!(again.already_there && again.block_number == 101);
        assert_eq!(parse_as_validator(&again.read_back).unwrap().model_url.as_deref(), Some("a/b"));
        assert_eq!(node.submitted(), 1, "never a second one");
    }
}

async fn refusal(pool: Pool) -> Option<(Node, String)> {
    let node = Node::of(393)?;
    let client = node.client().await;
    let (_root, wallet) = registered(&node);
    node.pool([pool]);
    let error = client.commit(NETUID, &wallet, &payload("a/b")).await.unwrap_err().to_string();
    Some((node, error))
}

#[tokio::test]
async fn whatever_ends_a_submission_nothing_is_sent_twice() {
    let failed = |pallet, error| Pool::TakesAndBreaks(Call::Fails(pallet, error));
    for (pool, words) in [
        (failed("Commitments", "AccountNotAllowedCommit"), ["Commitments.AccountNotAllowedCommit", "register"]),
        (failed("Commitments", "SpaceLimitExceeded"), ["Commitments.SpaceLimitExceeded", "blocks (about"]),
        (Pool::Breaks, ["not included by block 164", "run the step again"]),
        (Pool::Drops, ["not included by block 164", "dropped"]),
        (Pool::Sleeps, ["may be in a block up to 164", "run the step again"]),
        (
            Pool::Refuses(1010, "Invalid Transaction", Some("Custom error: 10")),
            ["HotKeyNotRegisteredInNetwork", "register"],
        ),
        (Pool::Refuses(1012, "Transaction is temporarily banned", None), ["temporarily banned", "run the step again"]),
        (
            Pool::Refuses(
                1010,
                "Invalid Transaction",
                Some("Inability to pay some fees (e.g. account balance too low)"),
            ),
            ["Inability to pay", "coldkey"],
        ),
    ] {
        let Some((node, error)) = refusal(pool.clone()).await else { return };
        assert!(words.iter().all(|word| error.contains(word)), "{pool:?}: {error}");
        assert_eq!(node.submitted(), 1, "{pool:?}");
    }
}

#[tokio::test]
async fn an_extrinsic_that_was_overtaken_looks_at_the_chain_again() {
    let Some(node) = Node::of(393) else { return };
    let client = node.client().await;
    let (_root, wallet) = registered(&node);
    let stale = || Pool::Refuses(1010, "Invalid Transaction", Some("Transaction is outdated"));
    node.pool([stale(), Pool::Refuses(1014, "Priority is too low", Some("(10 > 10)")), Pool::Sleeps]);
    let error = client.commit(NETUID, &wallet, &payload("a/b")).await.unwrap_err();
    assert!(matches!(error, ChainError::Unsure { .. }), "{error}");
    assert_eq!(node.submitted(), 3, "two that were not taken, and the one that was");
    node.pool((0..10_000).map(|_| stale()));
    let error = client.commit(NETUID, &wallet, &payload("a/c")).await.unwrap_err().to_string();
    assert!(error.contains("outdated") && error.contains("run the step again"), "{error}");
}

#[tokio::test]
async fn nothing_is_sent_once_another_chain_answers() {
    let Some(node) = Node::of(393) else { return };
    let client = node.client().await;
    let (_root, wallet) = registered(&node);
    node.becomes_another_chain();
    let error = client.commit(NETUID, &wallet, &payload("a/b")).await.unwrap_err();
    assert!(matches!(error, ChainError::WrongChain { .. }), "{error}");
    assert_eq!(node.submitted(), 0);
}

#[tokio::test]
async fn a_registration_above_the_limit_is_not_sent() {
    for node in nodes() {
        let client: Client = node.client().await;
        let (key, hot) = (KeyPair::from_uri("//Alice").unwrap(), ss58(&[9; 32]));
        node.set(SUBTENSOR, "NetworksAdded", (NETUID,), true);
        node.set(SUBTENSOR, "Burn", (NETUID,), 700u64);
        node.answers("TransactionPaymentApi_query_info", (Compact(1u64), Compact(1u64), 0u8, 123_456u64));
        let plan = client.registration_plan(NETUID, &key.ss58(), &hot).await.unwrap();
        assert_eq!((plan.uid, plan.subnet.burn, plan.balance, plan.fee), (None, 700, 0, Some(123_456)));
        assert_eq!((plan.call.as_str(), plan.limit_on_chain), ("SubtensorModule.burned_register", false));
        let error = client.register(NETUID, &key, &hot, 699).await.unwrap_err().to_string();
        assert!(error.contains("700 rao and the limit is 699"), "{error}");
        node.set(SUBTENSOR, "Owner", ([9u8; 32],), [1u8; 32]);
        let plan = client.registration_plan(NETUID, &key.ss58(), &hot).await.unwrap();
        assert_eq!(plan.other_owner, Some(ss58(&[1; 32])));
        node.set(SUBTENSOR, "Uids", (NETUID, [9u8; 32]), 5u16);
        let there = client.register(NETUID, &key, &hot, 1).await.unwrap();
        assert_eq!((there.already_there, there.uid, node.submitted()), (true, 5, 0));
    }
}
