//! Extrinsics that wait for a block, and what became of those that did.

use std::collections::{HashMap, HashSet};

use frame_support::storage::{TransactionOutcome, with_transaction_unchecked};
use sp_core::H256;
use sp_runtime::traits::{BlakeTwo256, Hash};
use sp_runtime::transaction_validity::{
    InvalidTransaction, TransactionTag, TransactionValidityError, ValidTransaction,
};

use crate::chain::node::Refusal;
use crate::chain::runtime::{Executive, UncheckedExtrinsic};

/// An extrinsic that passed the pool's checks.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// BLAKE2b-256 of its bytes.
    pub(crate) hash: H256,
    /// As it came.
    pub(crate) bytes: Vec<u8>,
    extrinsic: UncheckedExtrinsic,
    validity: ValidTransaction,
}

/// What became of an extrinsic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits for another one of its sender.
    Future,
    /// It is in the next block.
    Ready,
    /// It is in the block at this place of the chain.
    Included(usize),
    /// It lost its validity while it waited.
    Invalid,
}

/// What a block made of the waiting extrinsics.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// In the block, in this order.
    pub(crate) included: Vec<H256>,
    /// Never valid again.
    invalid: Vec<H256>,
}

/// The waiting extrinsics.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    waiting: Vec<Waiting>,
    included: HashMap<H256, usize>,
    invalid: HashSet<H256>,
}

impl Pool {
    /// Takes an extrinsic that the runtime called valid, as `sc-transaction-pool` does: one per sender and nonce.
    pub(crate) fn admit(
        &mut self,
        bytes: &[u8],
        extrinsic: UncheckedExtrinsic,
        validity: ValidTransaction,
    ) -> Result<H256, Refusal> {
        let hash = BlakeTwo256::hash(bytes);
        if self.waiting.iter().any(|other| other.hash == hash) {
            return Err(Refusal::AlreadyImported(hash));
        }
        let takes = |other: &&Waiting| other.validity.provides.iter().any(|tag| validity.provides.contains(tag));
        if let Some(other) = self.waiting.iter().find(takes) {
            return Err(Refusal::Priority { old: other.validity.priority, new: validity.priority });
        }
        self.waiting.push(Waiting { hash, bytes: bytes.to_vec(), extrinsic, validity });
        Ok(hash)
    }

    /// Those waiting, in the order they came.
    pub(crate) fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// Notes what the block at `place` made of them.
    pub(crate) fn settle(&mut self, applied: &Applied, place: usize) {
        self.waiting.retain(|w| !applied.included.contains(&w.hash) && !applied.invalid.contains(&w.hash));
        self.included.extend(applied.included.iter().map(|hash| (*hash, place)));
        self.invalid.extend(&applied.invalid);
    }

    /// What became of an extrinsic; `None` for one that was never here.
    pub(crate) fn fate(&self, hash: H256) -> Option<Fate> {
        if let Some(place) = self.included.get(&hash) {
            return Some(Fate::Included(*place));
        }
        if self.invalid.contains(&hash) {
            return Some(Fate::Invalid);
        }
        let waiting = self.waiting.iter().find(|waiting| waiting.hash == hash)?;
        Some(if self.is_ready(waiting) { Fate::Ready } else { Fate::Future })
    }

    /// Whether any could go into a block now.
    pub(crate) fn any_ready(&self) -> bool {
        self.waiting.iter().any(|waiting| self.is_ready(waiting))
    }

    /// Whether everything that an extrinsic requires comes from others that are ready.
    fn is_ready(&self, waiting: &Waiting) -> bool {
        let provider = |tag: &TransactionTag| self.waiting.iter().find(|other| other.validity.provides.contains(tag));
        waiting.validity.requires.iter().all(|tag| provider(tag).is_some_and(|other| self.is_ready(other)))
    }
}

/// Puts extrinsics into the block being built. Must run inside the runtime.
pub(crate) fn apply(waiting: &[Waiting]) -> Applied {
    let mut applied = Applied::default();
    let mut open: Vec<_> = waiting.iter().collect();
    loop {
        let before = open.len();
        open.retain(|waiting| match apply_one(&waiting.extrinsic) {
            Ok(()) => {
                applied.included.push(waiting.hash);
                false
            }
            // A nonce ahead of its time, or a full block.
            Err(TransactionValidityError::Invalid(
                InvalidTransaction::Future | InvalidTransaction::ExhaustsResources,
            )) => true,
            Err(_) => {
                applied.invalid.push(waiting.hash);
                false
            }
        });
        if open.len() == before {
            return applied;
        }
    }
}

/// The inner result of an extrinsic is its call's: a failed call is in the block, with its event.
fn apply_one(extrinsic: &UncheckedExtrinsic) -> Result<(), TransactionValidityError> {
    with_transaction_unchecked(|| match Executive::apply_extrinsic(extrinsic.clone()) {
        Ok(_) => TransactionOutcome::Commit(Ok(())),
        Err(refused) => TransactionOutcome::Rollback(Err(refused)),
    })
}
