//! The side cache: digests of files that have not changed since. It is a convenience of one machine and never part of a fingerprint.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::WeightsDigest;
use crate::ModelError;
use crate::files::Entry;

/// Format of the cache file.
const VERSION: u32 = 2;

/// A file written this shortly before it was read may be written again without a later time stamp.
const SETTLED: Duration = Duration::from_millis(100);

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// File name.
    pub(super) name: String,
    /// Bytes.
    pub(super) size: u64,
    /// Time of the last change, in nanoseconds since 1970.
    pub(super) mtime_ns: i128,
    /// Inode of the file itself, links followed.
    pub(super) inode: u64,
}

#[derive(Serialize, Deserialize)]
struct Cache {
    version: u32,
    stamps: Vec<Stamp>,
    digest: WeightsDigest,
}

/// Stamps of the weight files, fresh from the file system.
pub(super) fn stamp(entries: &[Entry]) -> Result<Vec<Stamp>, ModelError> {
    entries.iter().map(one).collect()
}

fn one(entry: &Entry) -> Result<Stamp, ModelError> {
    let meta = fs::metadata(&entry.path).map_err(ModelError::io("look at", &entry.path))?;
    if !meta.is_file() {
        return Err(ModelError::NotAFile(entry.path.clone()));
    }
    Ok(Stamp { name: entry.name.clone(), size: meta.len(), mtime_ns: mtime_ns(&meta), inode: meta.ino() })
}

fn mtime_ns(meta: &Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

/// The digest for exactly these stamps. A cache that is missing, damaged or of another version is no cache.
pub(super) fn load(path: &Path, stamps: &[Stamp]) -> Option<WeightsDigest> {
    let cache: Cache = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let fresh = cache.version == VERSION && cache.stamps == stamps;
    fresh.then_some(WeightsDigest { from_cache: true, ..cache.digest })
}

/// Keeps the digest, unless a file was so young at `now`, before it was read, that its time stamp cannot be trusted.
pub(super) fn store(path: &Path, now: SystemTime, stamps: &[Stamp], digest: &WeightsDigest) -> Result<(), ModelError> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let settled = (now.saturating_sub(SETTLED)).as_nanos() as i128;
    if stamps.iter().any(|stamp| stamp.mtime_ns > settled) {
        return Ok(());
    }
    let cache = Cache { version: VERSION, stamps: stamps.to_vec(), digest: digest.clone() };
    let text = serde_json::to_vec_pretty(&cache).expect("a digest is plain data");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(ModelError::io("make", parent))?;
    }
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&beside, text).map_err(ModelError::io("write", &beside))?;
    fs::rename(&beside, path).map_err(ModelError::io("write", path))
}
