//! Who committed what on a subnet, and how much more a hotkey may commit.

use subxt::ext::scale_decode::DecodeAsType;

use super::reads::{OnChainCommitment, StoredCommitment, raw_bytes};
use super::subnet::block_milliseconds;
use super::{AtBlock, Client};
use crate::payload::ValidatorView;
use crate::{ChainError, parse_as_validator, parse_ss58, ss58};

/// What the smallest commitment costs, in bytes (subtensor's `pallets/commitments/src/lib.rs`, no constant of the metadata).
const SMALLEST_COST: u64 = 100;

/// A hotkey with its commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotkeyCommitment {
    /// The hotkey, as SS58.
    pub hotkey: String,
    /// The block it counts from.
    pub block: u32,
    /// What a validator takes from it; empty where its parser raises.
    pub view: ValidatorView,
}

/// How much a hotkey may still commit on a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// Bytes per epoch of the subnet; each commitment costs its length, 100 at least.
    Space {
        /// Bytes in each epoch.
        max: u64,
        /// Bytes used in the present one.
        used: u64,
        /// Blocks until all of it is free again.
        frees_in_blocks: u64,
        /// The same in milliseconds.
        frees_in_milliseconds: u64,
    },
    /// Older runtimes: one commitment, then none for some blocks.
    Interval {
        /// Blocks between two commitments.
        blocks: u64,
        /// Blocks until the next is taken; 0 for now.
        left: u64,
        /// The same in milliseconds.
        left_milliseconds: u64,
    },
    /// The runtime names no limit that is known here.
    Unlimited,
}

impl Allowance {
    /// Whether a commitment of so many bytes is taken now.
    pub fn takes(&self, bytes: usize) -> bool {
        match *self {
            Self::Space { max, used, .. } => used + cost(bytes) <= max,
            Self::Interval { left, .. } => left == 0,
            Self::Unlimited => true,
        }
    }

    /// Commitments of so many bytes that are taken before something has to be waited for; nothing where there is no limit.
    pub fn commitments_left(&self, bytes: usize) -> Option<u64> {
        match *self {
            Self::Space { max, used, .. } => Some(max.saturating_sub(used) / cost(bytes)),
            Self::Interval { left, .. } => Some(u64::from(left == 0)),
            Self::Unlimited => None,
        }
    }

    /// Blocks and minutes, in words, until everything is free again.
    pub fn wait(&self) -> Option<String> {
        let (blocks, milliseconds) = match *self {
            Self::Space { frees_in_blocks, frees_in_milliseconds, .. } => (frees_in_blocks, frees_in_milliseconds),
            Self::Interval { left, left_milliseconds, .. } => (left, left_milliseconds),
            Self::Unlimited => return None,
        };
        Some(format!("{blocks} blocks (about {} minutes)", milliseconds.div_ceil(60_000)))
    }
}

/// What the quota charges for a commitment.
fn cost(bytes: usize) -> u64 {
    SMALLEST_COST.max(bytes as u64)
}

/// Commitments of a model hash by others, the earliest first; `own` is our hotkey (SS58).
pub fn duplicates<'a>(all: &'a [HotkeyCommitment], model_hash: &str, own: &str) -> Vec<&'a HotkeyCommitment> {
    let same = |found: &&HotkeyCommitment| found.view.model_hash.as_deref() == Some(model_hash) && found.hotkey != own;
    let mut found: Vec<_> = all.iter().filter(same).collect();
    found.sort_by_key(|found| found.block);
    found
}

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct StoredUsage {
    last_epoch: u64,
    used_space: u64,
}

impl Client {
    /// The commitments of all hotkeys that ever committed on the subnet, the earliest first. A hotkey that is no longer registered
    /// keeps its commitment on the chain until it is pruned there.
    ///
    /// # Errors
    /// [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn commitments(&self, netuid: u16) -> Result<Vec<HotkeyCommitment>, ChainError> {
        let at = &self.at().await?;
        let stored: Vec<((u16, [u8; 32]), StoredCommitment)> =
            self.iterate(at, "Commitments", "CommitmentOf", netuid).await?;
        let commitment = |((_, hotkey), stored): &((u16, [u8; 32]), StoredCommitment)| {
            let payload = stored.info.fields.first().and_then(raw_bytes).unwrap_or_default();
            let view = parse_as_validator(&payload).unwrap_or_default();
            HotkeyCommitment { hotkey: ss58(hotkey), block: stored.block, view }
        };
        let mut all: Vec<_> = stored.iter().map(commitment).collect();
        all.sort_by(|a, b| (a.block, &a.hotkey).cmp(&(b.block, &b.hotkey)));
        Ok(all)
    }

    /// How much a hotkey (SS58) may still commit, as the next block would count it.
    ///
    /// # Errors
    /// [`ChainError::Address`], [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn allowance(&self, netuid: u16, hotkey: &str) -> Result<Allowance, ChainError> {
        let (at, account) = (&self.at().await?, parse_ss58(hotkey)?);
        if has_entry(at, "MaxSpace") {
            return self.space(at, netuid, account).await;
        }
        if !has_entry(at, "RateLimit") {
            return Ok(Allowance::Unlimited);
        }
        let blocks = self.fetch::<_, u64>(at, "Commitments", "RateLimit", ()).await?.unwrap_or(0);
        let last: Option<u64> = self.fetch(at, "Commitments", "LastCommitment", (netuid, account)).await?;
        let left = last.map_or(0, |last| (last + blocks).saturating_sub(at.block_number()));
        Ok(Allowance::Interval { blocks, left, left_milliseconds: left * block_milliseconds(at) })
    }

    async fn space(&self, at: &AtBlock, netuid: u16, account: [u8; 32]) -> Result<Allowance, ChainError> {
        let max = self.fetch::<_, u64>(at, "Commitments", "MaxSpace", ()).await?.unwrap_or(0);
        let usage: Option<StoredUsage> = self.fetch(at, "Commitments", "UsedSpaceOf", (netuid, account)).await?;
        let tempo: u16 = self.of_subnet(at, "Tempo", netuid).await?;
        let next = at.block_number() + 1;
        let epoch = Epoch::of(netuid, tempo, next);
        let used = usage.filter(|usage| usage.last_epoch == epoch.index).map_or(0, |usage| usage.used_space);
        let frees_in_blocks = epoch.ends - at.block_number();
        let frees_in_milliseconds = frees_in_blocks * block_milliseconds(at);
        Ok(Allowance::Space { max, used, frees_in_blocks, frees_in_milliseconds })
    }

    /// The hotkey's own commitment with the block of the read, so that ages can be told.
    ///
    /// # Errors
    /// As [`Client::allowance`].
    pub async fn commitment_and_block(
        &self,
        netuid: u16,
        hotkey: &str,
    ) -> Result<(Option<OnChainCommitment>, u64), ChainError> {
        let at = self.at().await?;
        let found = self.commitment_at(&at, netuid, parse_ss58(hotkey)?).await?;
        Ok((found, at.block_number()))
    }
}

/// A subnet's epoch at a block: subtensor's `get_epoch_index`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) index: u64,
    /// First block of the next one.
    pub(super) ends: u64,
}

impl Epoch {
    pub(super) fn of(netuid: u16, tempo: u16, block: u64) -> Self {
        let (offset, length) = (u64::from(netuid) + 1, u64::from(tempo) + 1);
        let index = (block + offset) / length;
        Self { index, ends: (index + 1) * length - offset.min((index + 1) * length) }
    }
}

fn has_entry(at: &AtBlock, entry: &str) -> bool {
    let storage = at.metadata_ref().pallet_by_name("Commitments").and_then(|pallet| pallet.storage());
    storage.is_some_and(|storage| storage.entry_by_name(entry).is_some())
}
