//! The chain itself: state by block, one block per extrinsic, finality one block behind.

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

use crate::chain::runtime::{
    AccountId, BalancesConfig, Executive, Header, RuntimeGenesisConfig, SubtensorModuleConfig, System,
    UncheckedExtrinsic, dispatch,
};
use crate::chain::store::{Block, Change, Store};
use crate::chain::{ChainConfig, ChainError};

/// The subnets at genesis: De-Val on finney and on the test network.
const NETUIDS: [u16; 2] = [15, 202];

/// Public key of `//Alice`, who owns the subnets and the money.
const ALICE: [u8; 32] = [
    0xd4, 0x35, 0x93, 0xc7, 0x15, 0xfd, 0xd3, 0x1c, 0x61, 0x14, 0x1a, 0xbd, 0x04, 0xa9, 0x9f, 0xd6, 0x82, 0x2c, 0x85,
    0x58, 0x85, 0x4c, 0xcd, 0xe3, 0x9a, 0x56, 0x84, 0xe7, 0xa5, 0x6d, 0xa2, 0x7d,
];

/// A million TAO in rao.
const ALICE_FUNDS: u64 = 1_000_000_000_000_000;

/// Nesting of calls that is still decoded; subtensor's own limit.
const MAX_CALL_DEPTH: u32 = 8;

type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// Where a submitted extrinsic ended up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inclusion {
    /// BLAKE2b-256 of the extrinsic.
    pub(crate) extrinsic: H256,
    /// The block that holds it; final, because an empty block was sealed after it.
    pub(crate) block: H256,
}

/// Why an extrinsic is in no block.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It does not decode.
    Format,
    /// The runtime refuses it.
    Invalid(TransactionValidityError),
    /// The block could not be written.
    Chain(ChainError),
}

/// The chain with all its blocks and states.
#[derive(Debug)]
pub(crate) struct Chain {
    store: Store,
    blocks: Vec<Block>,
    hashes: Vec<H256>,
    numbers: HashMap<H256, u32>,
    history: History,
    head: watch::Sender<u32>,
}

impl Chain {
    /// Opens the chain in `config.state_dir`, or starts one there.
    pub(crate) fn open(config: &ChainConfig) -> Result<Self, ChainError> {
        let (store, blocks) = Store::open(&config.state_dir)?;
        let mut chain = Self {
            store,
            blocks: Vec::new(),
            hashes: Vec::new(),
            numbers: HashMap::new(),
            history: History::default(),
            head: watch::Sender::new(0),
        };
        let fresh = blocks.is_empty();
        blocks.into_iter().for_each(|block| chain.push(block));
        if fresh {
            chain.write(genesis(config)?)?;
        }
        // A process killed between a block and the empty one after it left the block without finality.
        if chain.blocks.last().is_some_and(|block| !block.extrinsics.is_empty()) {
            chain.seal(None).map_err(Refusal::into_chain_error)?;
        }
        Ok(chain)
    }

    /// Number of the newest block.
    pub(crate) fn head(&self) -> u32 {
        *self.head.borrow()
    }

    /// Number of the newest final block: the one below the head.
    pub(crate) fn finalized(&self) -> u32 {
        self.head().saturating_sub(1)
    }

    /// Tells of every new head.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u32> {
        self.head.subscribe()
    }

    /// The block of a number.
    pub(crate) fn block(&self, number: u32) -> Option<&Block> {
        self.blocks.get(number as usize)
    }

    /// The hash of a number.
    pub(crate) fn hash(&self, number: u32) -> Option<H256> {
        self.hashes.get(number as usize).copied()
    }

    /// The number of a hash.
    pub(crate) fn number(&self, hash: H256) -> Option<u32> {
        self.numbers.get(&hash).copied()
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

    /// The next nonce of an account.
    pub(crate) fn nonce(&self, account: AccountId) -> u32 {
        run(self.history.state(self.head()), || System::account_nonce(account)).0
    }

    /// Checks an extrinsic as a pool does, puts it into a block of its own and seals an empty block on top, which makes it final.
    pub(crate) fn submit(&mut self, bytes: &[u8]) -> Result<Inclusion, Refusal> {
        let extrinsic = UncheckedExtrinsic::decode_all_with_depth_limit(MAX_CALL_DEPTH, &mut &*bytes)
            .map_err(|_| Refusal::Format)?;
        let head = self.head();
        let (checked, parent) = (extrinsic.clone(), self.hashes[head as usize]);
        run(self.history.state(head), || Executive::validate_transaction(TransactionSource::External, checked, parent))
            .0
            .map_err(Refusal::Invalid)?;
        let block = self.seal(Some((extrinsic, bytes)))?;
        self.seal(None)?;
        Ok(Inclusion { extrinsic: BlakeTwo256::hash(bytes), block })
    }

    /// Seals empty blocks, so that tests can let time pass.
    pub(crate) fn advance(&mut self, blocks: u32) -> Result<u32, ChainError> {
        for _ in 0..blocks {
            self.seal(None).map_err(Refusal::into_chain_error)?;
        }
        Ok(self.head())
    }

    fn seal(&mut self, extrinsic: Option<(UncheckedExtrinsic, &[u8])>) -> Result<H256, Refusal> {
        let head = self.head();
        let before = self.history.state(head);
        let (checked, bytes) =
            extrinsic.map_or((None, Vec::new()), |(checked, bytes)| (Some(checked), vec![bytes.to_vec()]));
        let parent = self.hashes[head as usize];
        let (header, after) = run(before.clone(), || build(head + 1, parent, checked));
        let header = header.map_err(Refusal::Invalid)?;
        let hash = header.hash();
        self.write(Block { header, extrinsics: bytes, changes: difference(&before, after) }).map_err(Refusal::Chain)?;
        Ok(hash)
    }

    fn write(&mut self, block: Block) -> Result<(), ChainError> {
        self.store.append(&block)?;
        self.push(block);
        Ok(())
    }

    fn push(&mut self, block: Block) {
        let (number, hash) = (block.header.number, block.header.hash());
        self.history.push(number, &block.changes);
        self.blocks.push(block);
        self.hashes.push(hash);
        self.numbers.insert(hash, number);
        self.head.send_replace(number);
    }
}

impl Refusal {
    /// For blocks without extrinsics, which the runtime cannot refuse.
    fn into_chain_error(self) -> ChainError {
        match self {
            Self::Chain(error) => error,
            Self::Format | Self::Invalid(_) => unreachable!("an empty block has nothing to refuse"),
        }
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

/// Builds a block inside the runtime.
fn build(number: u32, parent: H256, extrinsic: Option<UncheckedExtrinsic>) -> Result<Header, TransactionValidityError> {
    let blank = Header::new(number, H256::zero(), H256::zero(), parent, Digest::default());
    Executive::initialize_block(&blank);
    if let Some(extrinsic) = extrinsic {
        // The inner result is the call's: a failed call is in the block, with its event.
        let _outcome = Executive::apply_extrinsic(extrinsic)?;
    }
    Ok(Executive::finalize_block())
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
