//! Cutting a file into the chunks of the content store, on a thread of its own.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use xet_core_structures::merklehash::{MerkleHash, compute_data_hash};
use xet_core_structures::xorb_object::constants::MAX_CHUNK_SIZE;
use xet_data::deduplication::Chunker;

use crate::HubError;

/// Bytes read at a time: small enough to be cut, hashed and copied while they are in the processor's cache.
const BLOCK: usize = 2 << 20;

/// Blocks that wait to be taken, beside the one that is read.
const AHEAD: usize = 1;

/// A part of a file, at most a block and a chunk, with the chunks in it.
pub(super) struct Block {
    bytes: Vec<u8>,
    chunks: Vec<(MerkleHash, Range<usize>)>,
}

impl Block {
    pub(super) fn hashes(&self) -> Vec<MerkleHash> {
        self.chunks.iter().map(|(hash, _)| *hash).collect()
    }

    /// Bytes of the chunk with this index.
    pub(super) fn chunk(&self, index: usize) -> &[u8] {
        &self.bytes[self.chunks[index].1.clone()]
    }
}

/// The blocks of a file, in order. It is read once, and no faster than blocks are taken.
pub(super) fn of(source: PathBuf) -> mpsc::Receiver<Result<Block, HubError>> {
    let (blocks, taken) = mpsc::channel(AHEAD);
    spawn_blocking(move || {
        let told = File::open(&source).and_then(|file| cut(file, |block| blocks.blocking_send(Ok(block)).is_ok()));
        if let Err(error) = told {
            // Nobody listens where the transfer has ended.
            let _ = blocks.blocking_send(Err(HubError::disk(&source)(error)));
        }
    });
    taken
}

/// Reads to the end, or until a block is not wanted.
fn cut(mut file: File, mut take: impl FnMut(Block) -> bool) -> std::io::Result<()> {
    let (mut chunker, mut rest) = (Chunker::default(), Vec::new());
    loop {
        let mut bytes = Vec::with_capacity(BLOCK + *MAX_CHUNK_SIZE);
        bytes.append(&mut rest);
        let ended = (&mut file).take(BLOCK as u64).read_to_end(&mut bytes)? < BLOCK;
        let (mut chunks, mut start) = (Vec::new(), 0);
        // A chunk is never longer: with that many bytes, and with the last ones, a boundary is certain.
        while bytes.len() - start >= *MAX_CHUNK_SIZE || (ended && start < bytes.len()) {
            let end = chunker.next_boundary(&bytes[start..]).map_or(bytes.len(), |length| start + length);
            chunks.push((compute_data_hash(&bytes[start..end]), start..end));
            start = end;
        }
        rest.extend_from_slice(&bytes[start..]);
        if !take(Block { bytes, chunks }) || ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn chunks_are_those_of_hugging_faces_own_clients() {
        let noise = (0..300_000u32).flat_map(|number| Sha256::digest(number.to_le_bytes()));
        // Without boundaries in its middle, so that chunks of the greatest length occur.
        let whole: Vec<u8> = noise.clone().chain(std::iter::repeat_n(0, 3_000_000)).chain(noise.take(777)).collect();
        for length in [0, 1, 8_191, *MAX_CHUNK_SIZE, BLOCK, BLOCK + 1, 5_000_000, whole.len()] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&whole[..length]).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            let mut found = Vec::new();
            cut(file, |block| {
                found.extend((0..block.chunks.len()).map(|index| (block.chunks[index].0, block.chunk(index).to_vec())));
                true
            })
            .unwrap();
            let theirs = Chunker::default().next_block(&whole[..length], true);
            let theirs: Vec<_> = theirs.into_iter().map(|chunk| (chunk.hash, chunk.data.to_vec())).collect();
            assert!(found == theirs, "{length} bytes");
        }
    }
}
