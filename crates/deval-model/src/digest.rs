//! One read of the weights: the model hash, each file's SHA-256 and the health of every tensor.
//!
//! The model hash is one stream over all files and cannot be split, so it sets the pace on a thread of its own. Another thread reads,
//! digests the tensors and counts NaN and infinities: two threads, so that neither waits for a processor where there are two. Each
//! file's own SHA-256 is made by either of them (see [`file_hashes`]).

mod blocks;
mod cache;
mod explain;
mod feed;
mod file_hashes;
mod health;
mod streams;
mod tensors;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::blocks::Block;
use self::cache::Stamp;
pub use self::explain::{Content, Explanation, Outside, Piece};
use self::feed::Feed;
use self::file_hashes::{FileHashes, Pace};
pub use self::health::{Counts, Health, TensorHealth};
use self::streams::Stream;
use self::tensors::Seen;
pub use self::tensors::TensorDigest;
use crate::ModelError;
use crate::files::{self, Entry};

/// Blocks after which is looked whether others use the processors too.
const PACE: usize = 64;

/// What one read of the weights gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightsDigest {
    /// SHA-256 over the bytes of all root `*.safetensors` files in code point order of their names, in lower-case hexadecimal
    /// (upstream `deval/model/utils.py`, `compute_model_hash`).
    pub model_hash: String,
    /// Bytes in all.
    pub bytes: u64,
    /// Each file, in hashing order.
    pub files: Vec<FileDigest>,
    /// NaN, infinities and zeros.
    pub health: Health,
    /// Each tensor of the files with a sound header, in the order of the read.
    #[serde(default)]
    pub tensors: Vec<TensorDigest>,
    /// Whether the digests come from the side cache, so that no weight byte was read.
    #[serde(default)]
    pub from_cache: bool,
}

/// One weight file's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileDigest {
    /// File name at the root.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal, which is also the Hub's LFS oid.
    pub sha256: String,
    /// Where the file begins in the stream that the model hash is made of.
    #[serde(default)]
    pub offset: u64,
    /// The hash of the stream up to the file's end. A validator whose hash differs went another way in the first file where its
    /// own differs from this one; after the last file it is the model hash.
    #[serde(default)]
    pub stream_sha256: String,
}

/// Digests the weights of a model folder in one streaming read, or not at all when `cache` (a JSON file of the caller's choice)
/// knows the same names, sizes, modification times and inodes.
///
/// `progress` is told the bytes done and the bytes in all, from this thread. A folder without weights has the hash of nothing, as
/// upstream has it. Less than 100 MB of memory are used, whatever the size.
///
/// # Errors
/// When a root entry named `*.safetensors` is no readable file, as upstream raises there, or when it changes while it is read.
pub fn digest_weights(
    dir: &Path,
    cache: Option<&Path>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<WeightsDigest, ModelError> {
    let now = SystemTime::now();
    let entries = files::weight_entries(dir)?;
    let stamps = cache::stamp(&entries)?;
    if let Some(digest) = cache.and_then(|path| cache::load(path, &stamps)) {
        progress(digest.bytes, digest.bytes);
        return Ok(digest);
    }
    let digest = read(&entries, &stamps, progress)?;
    if let Some(path) = cache {
        cache::store(path, now, &stamps, &digest)?;
    }
    Ok(digest)
}

fn read(entries: &[Entry], stamps: &[Stamp], progress: &mut dyn FnMut(u64, u64)) -> Result<WeightsDigest, ModelError> {
    let bytes = stamps.iter().map(|stamp| stamp.size).sum();
    let (to_hash, hashing) = channel();
    let own = FileHashes::new();
    let (ends, seen, reading) = thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut feed = Feed::new(entries, &own, to_hash);
            let seen = tensors::examine(entries, &mut feed);
            // After a failure too: the model's thread waits for what is still to be read.
            feed.by_ref().for_each(drop);
            (seen, feed.finish())
        });
        let ends = hash(hashing, &own, |done| progress(done, bytes));
        let (seen, reading) = other.join().expect("the digest thread does not panic");
        (ends, seen, reading)
    });
    reading?;
    let now = cache::stamp(entries)?;
    if let Some(changed) = (0..entries.len()).find(|&at| now[at] != stamps[at]) {
        return Err(ModelError::Changed(entries[changed].path.clone()));
    }
    let Seen { health, tensors } = seen?;
    let files = file_digests(stamps, &ends, &own.finish());
    let model_hash = ends.last().cloned().unwrap_or_else(|| Stream::new().hex());
    Ok(WeightsDigest { model_hash, bytes, files, health, tensors, from_cache: false })
}

/// The files with their place in the stream. The first one's digest is the model's at its end.
fn file_digests(stamps: &[Stamp], ends: &[String], own: &[String]) -> Vec<FileDigest> {
    let mut offset = 0;
    let digests = ends.iter().take(1).chain(own);
    let files = stamps.iter().zip(digests).zip(ends).map(|((stamp, sha256), end)| {
        let (name, size) = (stamp.name.clone(), stamp.size);
        let file = FileDigest { name, size, sha256: sha256.clone(), offset, stream_sha256: end.clone() };
        offset += size;
        file
    });
    files.collect()
}

/// The model's stream at the end of each file.
fn hash(blocks: Receiver<Arc<Block>>, own: &FileHashes, mut progress: impl FnMut(u64)) -> Vec<String> {
    let (mut model, mut pace) = (Stream::new(), Pace::new());
    let mut ends = Vec::new();
    let mut done = 0;
    for (number, block) in blocks.into_iter().enumerate() {
        if number % PACE == 0 {
            own.set_crowded(pace.is_crowded());
        }
        own.hash_with(&mut model, &block);
        done += block.bytes().len() as u64;
        progress(done);
        if block.last {
            ends.push(model.hex());
        }
    }
    ends
}

#[cfg(test)]
mod tests;
