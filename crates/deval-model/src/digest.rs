//! One read of the weights: the model hash, each file's SHA-256 and the health of every tensor.
//!
//! The model hash is one stream over all files and cannot be split, so it sets the pace on a thread of its own. Another thread reads,
//! and a third digests the tensors and counts NaN and infinities. Each file's own SHA-256 is made by either of the two that hash (see
//! [`file_hashes`]).

mod blocks;
mod cache;
mod explain;
mod file_hashes;
mod health;
mod streams;
mod tensors;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::SystemTime;

use rustix::fs::{Advice, fadvise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::blocks::{Block, Pool};
use self::cache::Stamp;
pub use self::explain::{Content, Explanation, Outside, Piece};
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
    let (to_tensors, examining) = channel();
    let own = FileHashes::new();
    let (ends, seen, reading) = thread::scope(|scope| {
        let reader = scope.spawn(|| send_all(entries, &own, &[to_hash, to_tensors]));
        let seen = scope.spawn(|| {
            let mut blocks = with_spare_time(examining, &own);
            let seen = tensors::examine(entries, &mut blocks);
            // After a failure too: blocks that wait for a hash are blocks that the reader waits for.
            blocks.for_each(drop);
            seen
        });
        let ends = hash(hashing, &own, |done| progress(done, bytes));
        let joined = "the digest threads do not panic";
        (ends, seen.join().expect(joined), reader.join().expect(joined))
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

/// Reads every file once and hands each block to every consumer.
fn send_all(entries: &[Entry], own: &FileHashes, consumers: &[Sender<Arc<Block>>]) -> Result<(), ModelError> {
    let mut pool = Pool::new();
    for (number, entry) in entries.iter().enumerate() {
        let mut file = File::open(&entry.path).map_err(ModelError::io("open", &entry.path))?;
        // Weights larger than memory are not to push out what others use; where the system knows no such advice, it is read as ever.
        for advice in [Advice::Sequential, Advice::NoReuse] {
            fadvise(&file, 0, None, advice).ok();
        }
        loop {
            let block = pool.fill(number, &mut file).map_err(ModelError::io("read", &entry.path))?;
            let last = block.last;
            let block = Arc::new(block);
            own.push(&block);
            for consumer in consumers {
                // A consumer goes early only when it has failed, and then says so itself.
                consumer.send(Arc::clone(&block)).ok();
            }
            if last {
                break;
            }
        }
    }
    Ok(())
}

/// The blocks as they come; while none is there, files are hashed.
fn with_spare_time<'a>(blocks: Receiver<Arc<Block>>, own: &'a FileHashes) -> impl Iterator<Item = Arc<Block>> + 'a {
    std::iter::from_fn(move || {
        loop {
            match blocks.try_recv() {
                Ok(block) => return Some(block),
                Err(TryRecvError::Empty) if own.hash_some() => {}
                Err(TryRecvError::Empty) => return blocks.recv().ok(),
                Err(TryRecvError::Disconnected) => {
                    while own.hash_some() {}
                    return None;
                }
            }
        }
    })
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
