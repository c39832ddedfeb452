//! Nonces against replayed requests: upstream's rules, always applied and with a bounded memory.
//!
//! Upstream keeps every nonce for ever, forgives any age to old versions of its dendrite and lets nonces of the future pass.
//! Here age always counts, the future is limited, and what has become too old to be accepted again is forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha3::{Digest, Sha3_256};

const SECOND: i128 = 1_000_000_000;
/// Upstream's `ALLOWED_DELTA`.
const ALLOWED_DELTA: i128 = 4 * SECOND;
/// The timeout header widens the window, and it is not signed. Real dendrites send 5 (De-Val) or 12 (the default).
const LONGEST_TIMEOUT_S: f64 = 60.0;
/// How far a validator's clock may be ahead.
const FUTURE: i128 = 300 * SECOND;
/// Dendrites of one hotkey that are told apart; a real one keeps its uuid until it is restarted.
const UUIDS_PER_HOTKEY: usize = 64;
/// Bytes of a uuid that is kept as it is; a real one has 36.
const LONGEST_UUID: usize = 64;
/// Hotkeys remembered before the stale ones are swept out; a subnet has 256.
const HOTKEYS: usize = 4096;

/// The last accepted nonce of each dendrite of each hotkey.
#[derive(Default)]
pub(crate) struct NonceTable(Mutex<HashMap<[u8; 32], Vec<Seen>>>);

struct Seen {
    uuid: Box<str>,
    nonce: i128,
}

/// One request's claim to be new. Times in nanoseconds.
pub(crate) struct Claim<'a> {
    pub(crate) hotkey: [u8; 32],
    pub(crate) uuid: &'a str,
    pub(crate) nonce: i128,
    pub(crate) now: i128,
    /// The timeout header, in seconds.
    pub(crate) timeout: f64,
}

impl NonceTable {
    /// Whether the nonce may be accepted; the error is upstream's message.
    pub(crate) fn check(&self, claim: &Claim) -> Result<(), String> {
        claim.newer_than(self.lock().get(&claim.hotkey))?;
        claim.fresh()
    }

    /// Accepts a nonce whose signature was verified, once.
    pub(crate) fn accept(&self, claim: &Claim) -> Result<(), String> {
        let mut hotkeys = self.lock();
        claim.newer_than(hotkeys.get(&claim.hotkey))?;
        let oldest_possible = claim.now - window(LONGEST_TIMEOUT_S);
        if hotkeys.len() >= HOTKEYS {
            hotkeys.retain(|_, seen| seen.iter().any(|s| s.nonce > oldest_possible));
        }
        let seen = hotkeys.entry(claim.hotkey).or_default();
        let uuid = bounded(claim.uuid);
        seen.retain(|s| s.uuid != uuid && s.nonce > oldest_possible);
        if seen.len() >= UUIDS_PER_HOTKEY {
            let oldest = (0..seen.len()).min_by_key(|&i| seen[i].nonce).unwrap_or(0);
            seen.swap_remove(oldest);
        }
        seen.push(Seen { uuid, nonce: claim.nonce });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Vec<Seen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim<'_> {
    fn newer_than(&self, seen: Option<&Vec<Seen>>) -> Result<(), String> {
        let uuid = bounded(self.uuid);
        match seen.into_iter().flatten().find(|s| s.uuid == uuid) {
            Some(last) if self.nonce <= last.nonce => {
                Err("Nonce is too old, a newer one was last processed".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether the nonce is neither too old nor of the future; no more is asked of a request without any effect.
    pub(crate) fn fresh(&self) -> Result<(), String> {
        let allowed = window(self.timeout.min(LONGEST_TIMEOUT_S));
        let age = self.now.saturating_sub(self.nonce);
        if age >= allowed {
            let (allowed, age) = (seconds(allowed), seconds(age));
            return Err(format!(
                "Nonce is too old: acceptable delta is {allowed:.2} seconds but request was {age:.2} seconds old"
            ));
        }
        if age < -FUTURE {
            return Err(format!("Nonce is too far in the future: more than {:.0} seconds", seconds(FUTURE)));
        }
        Ok(())
    }
}

fn window(timeout: f64) -> i128 {
    ALLOWED_DELTA + (timeout * 1e9) as i128
}

fn seconds(nanoseconds: i128) -> f64 {
    nanoseconds as f64 / 1e9
}

/// A uuid is any text the caller likes; a long one is known by its digest, so that it takes no more memory than others.
fn bounded(uuid: &str) -> Box<str> {
    if uuid.len() <= LONGEST_UUID { uuid.into() } else { hex::encode(Sha3_256::digest(uuid)).into() }
}

#[cfg(test)]
mod tests;
