//! What is known of the subnet: who is registered, since which block, and whether the chain can be reached.
//!
//! Upstream's miner keeps a metagraph in memory. Here the last known one also stands while the chain is away, and after a restart.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use deval_chain::{Client, parse_ss58};
use serde::{Deserialize, Serialize};

use crate::metrics::single;
use crate::{AxonError, system_clock};

/// The registered hotkeys of a subnet, as of some block. They can be replaced while an axon asks.
#[derive(Debug)]
pub struct Subnet {
    known: RwLock<Known>,
    /// The accounts of the hotkeys; reading an address takes longer than all other work on a request but the signature.
    accounts: RwLock<HashMap<String, [u8; 32]>>,
    file: Option<PathBuf>,
    chain_answers: AtomicBool,
    announced: AtomicBool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// Which subnet of which network this is.
    subnet: String,
    block: u64,
    /// Seconds since 1970, when the chain was read.
    read_unix: u64,
    hotkeys: HashSet<String>,
}

/// How a subnet stands; for people, probes and metrics.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// False when every validator is refused, because nobody is known.
    pub serving: bool,
    /// What is not as it should be: `hotkeys.unknown`, `hotkeys.old`, `hotkey.unregistered`, `chain.away`, `axon.unannounced`.
    pub reasons: Vec<&'static str>,
    /// Registered hotkeys.
    pub hotkeys: usize,
    /// The block they were read at.
    pub block: u64,
    /// Seconds since they were read.
    pub age_seconds: u64,
}

/// Upstream's miner reads its metagraph every 100 blocks of 12 s; three times that is old.
const OLD_SECONDS: u64 = 3600;

impl Subnet {
    /// Knows these hotkeys (SS58), and keeps no file.
    pub fn of(hotkeys: impl IntoIterator<Item = String>) -> Self {
        let hotkeys = hotkeys.into_iter().collect();
        Self::with(Known { hotkeys, read_unix: unix_now(), ..Known::default() }, None)
    }

    /// Knows what `file` holds of this subnet (`finney/15`), and keeps it up to date. A file that is missing, unreadable, or of another
    /// subnet is as good as none: it is only what the chain said earlier.
    pub fn kept_in(file: &Path, subnet: &str) -> Self {
        let text = std::fs::read(file).unwrap_or_default();
        let known = serde_json::from_slice::<Known>(&text).ok().filter(|known| known.subnet == subnet);
        let known = known.unwrap_or_else(|| Known { subnet: subnet.to_owned(), ..Known::default() });
        Self::with(known, Some(file.to_owned()))
    }

    fn with(known: Known, file: Option<PathBuf>) -> Self {
        let (chain_answers, announced) = (AtomicBool::new(false), AtomicBool::new(false));
        let accounts = RwLock::new(known.accounts());
        Self { known: RwLock::new(known), accounts, file, chain_answers, announced }
    }

    /// Whether the hotkey is registered: upstream's blacklist refuses every other.
    pub fn is_registered(&self, hotkey_ss58: &str) -> bool {
        self.read().hotkeys.contains(hotkey_ss58)
    }

    /// The account of a hotkey, registered or not; nothing when it is no address.
    pub(crate) fn account(&self, hotkey_ss58: &str) -> Option<[u8; 32]> {
        let known = self.accounts.read().unwrap_or_else(PoisonError::into_inner).get(hotkey_ss58).copied();
        known.or_else(|| parse_ss58(hotkey_ss58).ok())
    }

    /// The block of the last read; 0 before the first.
    pub fn block(&self) -> u64 {
        self.read().block
    }

    /// Whether nobody is known yet.
    pub fn is_unknown(&self) -> bool {
        self.read().hotkeys.is_empty()
    }

    /// Reads the hotkeys from the chain and puts them into the place of the old ones.
    ///
    /// # Errors
    /// [`AxonError::Chain`], and the old ones stand; [`AxonError::Keep`] when only the file could not be written.
    pub async fn refresh(&self, chain: &Client, netuid: u16) -> Result<(), AxonError> {
        let block = chain.block_number().await?;
        self.replace(block, chain.registered_hotkeys(netuid).await?)
    }

    fn replace(&self, block: u64, hotkeys: Vec<String>) -> Result<(), AxonError> {
        let subnet = self.read().subnet.clone();
        let known = Known { subnet, block, read_unix: unix_now(), hotkeys: hotkeys.into_iter().collect() };
        let text = serde_json::to_vec(&known).expect("text and numbers");
        *self.accounts.write().unwrap_or_else(PoisonError::into_inner) = known.accounts();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        let Some(file) = &self.file else { return Ok(()) };
        write_whole(file, &text).map_err(|reason| AxonError::Keep { path: file.clone(), reason })
    }

    /// Tells whether the chain could be reached; true when that is news.
    pub fn chain_answers(&self, answers: bool) -> bool {
        self.chain_answers.swap(answers, Relaxed) != answers
    }

    /// Tells whether the chain says where the axon is.
    pub fn announced(&self, announced: bool) {
        self.announced.store(announced, Relaxed);
    }

    /// How it stands for the axon of this hotkey.
    pub fn standing(&self, hotkey_ss58: &str) -> Standing {
        let known = self.read();
        let age_seconds = unix_now().saturating_sub(known.read_unix);
        let unknown = known.hotkeys.is_empty();
        let reasons = [
            ("hotkeys.unknown", unknown),
            ("hotkeys.old", !unknown && age_seconds > OLD_SECONDS),
            ("hotkey.unregistered", !unknown && !known.hotkeys.contains(hotkey_ss58)),
            ("chain.away", !self.chain_answers.load(Relaxed)),
            ("axon.unannounced", !self.announced.load(Relaxed)),
        ];
        let reasons = reasons.into_iter().filter_map(|(reason, holds)| holds.then_some(reason)).collect();
        Standing { serving: !unknown, reasons, hotkeys: known.hotkeys.len(), block: known.block, age_seconds }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn accounts(&self) -> HashMap<String, [u8; 32]> {
        self.hotkeys.iter().filter_map(|hotkey| Some((hotkey.clone(), parse_ss58(hotkey).ok()?))).collect()
    }
}

impl Standing {
    /// Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let has = |reason| u8::from(!self.reasons.contains(&reason));
        single(&mut text, "registered_hotkeys", "gauge", "Hotkeys that are answered.", self.hotkeys);
        single(&mut text, "registered_hotkeys_block", "gauge", "Block they were read at.", self.block);
        single(&mut text, "registered_hotkeys_age_seconds", "gauge", "Time since they were read.", self.age_seconds);
        single(
            &mut text,
            "registered",
            "gauge",
            "Whether the axon's own hotkey is among them.",
            has("hotkey.unregistered"),
        );
        single(&mut text, "chain_answers", "gauge", "Whether the chain could be reached.", has("chain.away"));
        single(&mut text, "announced", "gauge", "Whether the chain says where the axon is.", has("axon.unannounced"));
        text
    }
}

fn unix_now() -> u64 {
    system_clock() / 1_000_000_000
}

/// Whole or not at all, so that a kill leaves the old content or the new.
fn write_whole(file: &Path, content: &[u8]) -> std::io::Result<()> {
    let dir = file.parent().ok_or(ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(dir)?;
    let new = file.with_extension("new");
    std::fs::write(&new, content)?;
    std::fs::rename(&new, file)
}

#[cfg(test)]
mod tests;
