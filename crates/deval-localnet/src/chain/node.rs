//! The chain itself: blocks, the state after each, and finality some blocks behind.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parity_scale_codec::DecodeLimit;
use sp_core::H256;
use sp_core::storage::Storage;
use sp_runtime::traits::{BlakeTwo256, Hash, Header as _};
use sp_runtime::transaction_validity::{TransactionSource, TransactionValidityError};
use sp_runtime::{BuildStorage, Digest};
use sp_state_machine::BasicExternalities;
use tokio::sync::watch;

use crate::chain::pool::{self, Applied, Pool, Waiting};
use crate::chain::runtime::{
    AccountId, BalancesConfig, Executive, Header, RuntimeGenesisConfig, SubtensorModuleConfig, System,
    UncheckedExtrinsic, dispatch,
};
use crate::chain::store::{Block, Change, Store};
use crate::chain::{ChainConfig, ChainError};

/// The subnets at genesis: De-Val on finney and on the test network.
const NETUIDS: [u16; 2] = [15, 202];

/// Public key of `//Alice`, who owns the subnets and the money.
pub(crate) const ALICE: [u8; 32] = [
    0xd4, 0x35, 0x93, 0xc7, 0x15, 0xfd, 0xd3, 0x1c, 0x61, 0x14, 0x1a, 0xbd, 0x04, 0xa9, 0x9f, 0xd6, 0x82, 0x2c, 0x85,
    0x58, 0x85, 0x4c, 0xcd, 0xe3, 0x9a, 0x56, 0x84, 0xe7, 0xa5, 0x6d, 0xa2, 0x7d,
];

/// A million TAO in rao.
const ALICE_FUNDS: u64 = 1_000_000_000_000_000;

/// Nesting of calls that is still decoded; subtensor's own limit.
const MAX_CALL_DEPTH: u32 = 8;

type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// Why an extrinsic is not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It does not decode.
    Format,
    /// The runtime refuses it.
    Invalid(TransactionValidityError),
    /// It waits already.
    AlreadyImported(H256),
    /// Another one of the same sender and nonce waits.
    Priority {
        /// The priority of the one that waits.
        old: u64,
        /// The priority of this one.
        new: u64,
    },
    /// The block could not be written.
    Chain(ChainError),
}

/// When blocks are made and become final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sealing {
    /// Whether an extrinsic gets its block at once, and as many empty ones on top as make it final.
    pub(crate) instant: bool,
    /// Blocks between the head and the newest final one.
    pub(crate) lag: usize,
}

/// The chain with all its blocks and states.
#[derive(Debug)]
pub(crate) struct Chain {
    store: Store,
    /// By place: the numbers may have gaps, where a test let time pass.
    blocks: Vec<(H256, Block)>,
    numbers: HashMap<u32, usize>,
    hashes: HashMap<H256, usize>,
    history: History,
    pool: Pool,
    sealing: Sealing,
    finalized: usize,
    news: watch::Sender<()>,
}

impl Chain {
    /// Opens the chain in `config.state_dir`, or starts one there.
    pub(crate) fn open(config: &ChainConfig) -> Result<Self, ChainError> {
        let (store, blocks) = Store::open(&config.state_dir)?;
        let mut chain = Self {
            store,
            blocks: Vec::new(),
            numbers: HashMap::new(),
            hashes: HashMap::new(),
            history: History::default(),
            pool: Pool::default(),
            sealing: Sealing { instant: config.block_time.is_none(), lag: 1 },
            finalized: 0,
            news: watch::Sender::new(()),
        };
        let fresh = blocks.is_empty();
        blocks.into_iter().for_each(|block| chain.push(block));
        if fresh {
            chain.write(genesis(config)?)?;
        }
        // A process killed between a block and the empty one after it left the block without finality.
        if chain.blocks.last().is_some_and(|(_, block)| !block.extrinsics.is_empty()) {
            chain.produce()?;
        }
        Ok(chain)
    }

    /// Whether there is nothing but the genesis block.
    pub(crate) fn is_new(&self) -> bool {
        self.blocks.len() == 1
    }

    /// Place of the newest block.
    pub(crate) fn top(&self) -> usize {
        self.blocks.len() - 1
    }

    /// Place of the newest final block.
    pub(crate) fn finalized(&self) -> usize {
        self.finalized
    }

    /// Number of the newest block.
    pub(crate) fn head(&self) -> u32 {
        self.blocks[self.top()].1.header.number
    }

    /// Tells of everything new: blocks, finality, extrinsics.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// The block at a place, with its hash.
    pub(crate) fn at(&self, place: usize) -> Option<(H256, &Block)> {
        self.blocks.get(place).map(|(hash, block)| (*hash, block))
    }

    /// The place of a number.
    pub(crate) fn place(&self, number: u32) -> Option<usize> {
        self.numbers.get(&number).copied()
    }

    /// The place of a hash.
    pub(crate) fn find(&self, hash: H256) -> Option<usize> {
        self.hashes.get(&hash).copied()
    }

    /// The value of a storage key after a block.
    pub(crate) fn storage(&self, key: &[u8], at: u32) -> Option<&[u8]> {
        self.history.value(key, at)
    }

    /// Up to `count` keys with a prefix after a block, those behind `after` only.
    pub(crate) fn keys(&self, prefix: &[u8], count: usize, after: Option<&[u8]>, at: u32) -> Vec<Vec<u8>> {
        self.history.keys(prefix, count, after, at)
    }

    /// Answers a runtime interface call on the state after a block; `None` for an unknown name or arguments that do not decode.
    pub(crate) fn call(&self, method: &str, arguments: &[u8], at: u32) -> Option<Vec<u8>> {
        if method == "Core_execute_block" || method == "Core_initialize_block" {
            return None;
        }
        let state = self.history.state(at);
        // The generated dispatcher panics on arguments that do not decode, and they come from outside.
        catch_unwind(AssertUnwindSafe(|| run(state, || dispatch(method, arguments)).0)).ok().flatten()
    }

    /// Runs runtime code on the newest state, which it leaves as it was.
    pub(crate) fn read<R>(&self, code: impl FnOnce() -> R) -> R {
        self.read_at(self.head(), code)
    }

    /// Runs runtime code on the state after a block, which it leaves as it was.
    pub(crate) fn read_at<R>(&self, at: u32, code: impl FnOnce() -> R) -> R {
        run(self.history.state(at), code).0
    }

    /// The extrinsics that wait for a block.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// When blocks are made.
    pub(crate) fn sealing(&self) -> Sealing {
        self.sealing
    }

    /// Changes when blocks are made. What is final stays final.
    pub(crate) fn set_sealing(&mut self, sealing: Sealing) -> Result<(), ChainError> {
        self.sealing = sealing;
        self.seal_instantly()?;
        self.finalize();
        Ok(())
    }

    /// Takes an extrinsic into the pool, as a node does.
    pub(crate) fn submit(&mut self, bytes: &[u8]) -> Result<H256, Refusal> {
        let extrinsic = UncheckedExtrinsic::decode_all_with_depth_limit(MAX_CALL_DEPTH, &mut &*bytes)
            .map_err(|_| Refusal::Format)?;
        let (checked, parent) = (extrinsic.clone(), self.blocks[self.top()].0);
        let validity = self.read(|| Executive::validate_transaction(TransactionSource::External, checked, parent));
        let hash = self.pool.admit(bytes, extrinsic, validity.map_err(Refusal::Invalid)?)?;
        self.seal_instantly().map_err(Refusal::Chain)?;
        self.news.send_replace(());
        Ok(hash)
    }

    /// Seals a block with what waits.
    pub(crate) fn produce(&mut self) -> Result<u32, ChainError> {
        self.act(|| Ok(())).map(|done: Result<(), String>| debug_assert!(done.is_ok(), "nothing was to be done"))?;
        Ok(self.head())
    }

    /// Seals a block that begins with `work` on the state, as root would do it; none when the work is refused.
    pub(crate) fn act<R>(&mut self, work: impl FnOnce() -> Result<R, String>) -> Result<Result<R, String>, ChainError> {
        self.act_at(self.head() + 1, work)
    }

    /// Goes on to a later number, as if all blocks before it had been made: there is one that jumps, and as many on top as make
    /// it final. `false` when the number is not a later one.
    pub(crate) fn skip_to(&mut self, number: u32) -> Result<bool, ChainError> {
        let later = number > self.head();
        let jump = number.saturating_sub(u32::try_from(self.sealing.lag).unwrap_or(u32::MAX));
        if jump > self.head() {
            let jumped: Result<(), String> = self.act_at(jump, || Ok(()))?;
            debug_assert!(jumped.is_ok(), "nothing was to be done");
        }
        while self.head() < number {
            self.produce()?;
        }
        Ok(later)
    }

    fn act_at<R>(
        &mut self,
        number: u32,
        work: impl FnOnce() -> Result<R, String>,
    ) -> Result<Result<R, String>, ChainError> {
        let (parent, before) = (self.blocks[self.top()].0, self.history.state(self.head()));
        let (built, after) = run(before.clone(), || build(number, parent, work, self.pool.waiting()));
        let Built { header, result, applied } = match built {
            Ok(built) => built,
            Err(refused) => return Ok(Err(refused)),
        };
        let bytes = |hash: &H256| self.pool.waiting().iter().find(|w| w.hash == *hash).map(|w| w.bytes.clone());
        let extrinsics = applied.included.iter().filter_map(bytes).collect();
        self.pool.settle(&applied, self.blocks.len());
        self.write(Block { header, extrinsics, changes: difference(&before, after) })?;
        Ok(Ok(result))
    }

    /// Where blocks are made at once: one for what waits, and those that make it final.
    fn seal_instantly(&mut self) -> Result<(), ChainError> {
        if self.sealing.instant && self.pool.any_ready() {
            self.produce()?;
            self.finish_instantly()?;
        }
        Ok(())
    }

    /// Where blocks are made at once: those that make the head final.
    pub(crate) fn finish_instantly(&mut self) -> Result<(), ChainError> {
        for _ in 0..if self.sealing.instant { self.sealing.lag } else { 0 } {
            self.produce()?;
        }
        Ok(())
    }

    fn write(&mut self, block: Block) -> Result<(), ChainError> {
        self.store.append(&block)?;
        self.push(block);
        Ok(())
    }

    fn push(&mut self, block: Block) {
        let (number, hash) = (block.header.number, block.header.hash());
        self.history.push(number, &block.changes);
        self.numbers.insert(number, self.blocks.len());
        self.hashes.insert(hash, self.blocks.len());
        self.blocks.push((hash, block));
        self.finalize();
    }

    fn finalize(&mut self) {
        self.finalized = self.finalized.max(self.top().saturating_sub(self.sealing.lag));
        self.news.send_replace(());
    }
}

/// Every value a key ever had, with the block that gave it.
#[derive(Debug, Default)]
struct History(BTreeMap<Vec<u8>, Versions>);

/// Values of one key by block, `None` where it was removed.
type Versions = Vec<(u32, Option<Vec<u8>>)>;

impl History {
    fn push(&mut self, number: u32, changes: &[Change]) {
        for (key, value) in changes {
            self.0.entry(key.clone()).or_default().push((number, value.clone()));
        }
    }

    fn value(&self, key: &[u8], at: u32) -> Option<&[u8]> {
        self.0.get(key).and_then(|versions| value_at(versions, at))
    }

    fn keys(&self, prefix: &[u8], count: usize, after: Option<&[u8]>, at: u32) -> Vec<Vec<u8>> {
        let start = after.filter(|after| *after >= prefix).map_or(Bound::Included(prefix), Bound::Excluded);
        self.0
            .range::<[u8], _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, versions)| value_at(versions, at).is_some())
            .map(|(key, _)| key.clone())
            .take(count)
            .collect()
    }

    fn state(&self, at: u32) -> Values {
        let value = |versions| value_at(versions, at).map(<[u8]>::to_vec);
        self.0.iter().filter_map(|(key, versions)| Some((key.clone(), value(versions)?))).collect()
    }
}

fn value_at(versions: &[(u32, Option<Vec<u8>>)], at: u32) -> Option<&[u8]> {
    let known = versions.partition_point(|(number, _)| *number <= at);
    versions[..known].last().and_then(|(_, value)| value.as_deref())
}

/// Runs runtime code on a state; the state comes back as the code left it.
fn run<R>(state: Values, code: impl FnOnce() -> R) -> (R, Values) {
    let mut storage = Storage { top: state, ..Storage::default() };
    let result = BasicExternalities::execute_with_storage(&mut storage, code);
    (result, storage.top)
}

/// A block that was built.
struct Built<R> {
    header: Header,
    result: R,
    applied: Applied,
}

/// Builds a block inside the runtime; an error is `work`'s.
fn build<R>(
    number: u32,
    parent: H256,
    work: impl FnOnce() -> Result<R, String>,
    waiting: &[Waiting],
) -> Result<Built<R>, String> {
    let blank = Header::new(number, H256::zero(), H256::zero(), parent, Digest::default());
    // The runtime wants no gap, where a test let time pass.
    System::set_block_number(number - 1);
    Executive::initialize_block(&blank);
    let result = work()?;
    let applied = pool::apply(waiting);
    Ok(Built { header: Executive::finalize_block(), result, applied })
}

fn difference(before: &Values, after: Values) -> Vec<Change> {
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), None)).collect::<Vec<_>>();
    let changed = after.into_iter().filter(|(key, value)| before.get(key) != Some(value));
    changed.map(|(key, value)| (key, Some(value))).chain(gone).collect()
}

fn genesis(config: &ChainConfig) -> Result<Block, ChainError> {
    let alice = AccountId::new(ALICE);
    let networks = NETUIDS.map(|netuid| (netuid, alice.clone())).to_vec();
    let storage = RuntimeGenesisConfig {
        balances: BalancesConfig { balances: vec![(alice, ALICE_FUNDS)], ..Default::default() },
        subtensor_module: SubtensorModuleConfig { networks, serving_rate_limit: config.serving_rate_limit },
        ..Default::default()
    }
    .build_storage()
    .map_err(ChainError::Genesis)?;
    let root = |values: Values| BlakeTwo256::trie_root(values.into_iter().collect(), sp_runtime::StateVersion::V1);
    let header = Header::new(0, root(Values::new()), root(storage.top.clone()), H256::zero(), Digest::default());
    Ok(Block { header, extrinsics: Vec::new(), changes: difference(&Values::new(), storage.top) })
}
