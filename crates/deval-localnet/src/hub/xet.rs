//! The Xet store: chunks in xorbs, and shards that tell which chunks make up which file.
//!
//! ```text
//! <root>/xorbs/<xorb hash>      chunks one after the other, each behind its header, compressed or not; as the client sent it
//! <root>/shards/<shard hash>.mdb   which chunks make up which file, and the file's SHA-256
//! <root>/staged/<xorb hash>.<grant>   xorbs that were sent but not committed yet
//! ```
//! A xorb is held to the checksum that its client announced, and to its own chunk headers. Its chunks are not hashed again: what a file is
//! made of is held to the file's SHA-256 when it is put together. [`super::cas`] speaks to the clients.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Cursor, Read as _, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xet_core_structures::merklehash::{MerkleHash, compute_data_hash};
use xet_core_structures::metadata_shard::file_structs::{FileDataSequenceEntry, MDBFileInfo};
use xet_core_structures::metadata_shard::streaming_shard::MDBMinimalShard;
use xet_core_structures::metadata_shard::utils::{parse_shard_filename, shard_file_name};
use xet_core_structures::xorb_object::{deserialize_chunk_to_writer, parse_chunk_header};

use super::HubError;
use super::store::Store;

/// Bytes of a chunk's header.
const CHUNK_HEADER: usize = 8;

/// The store, and what its shards have told so far.
pub(super) struct Cas {
    root: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    shards: HashSet<MerkleHash>,
    by_sha256: HashMap<String, Arc<XetFile>>,
    by_hash: HashMap<String, Arc<XetFile>>,
    /// Shards by the chunks that clients may ask for.
    by_chunk: HashMap<MerkleHash, MerkleHash>,
}

/// A file as a shard describes it.
#[derive(Debug)]
pub(super) struct XetFile {
    /// Xet's own hash of the file, in the form of `X-Xet-Hash`.
    pub(super) hash: String,
    /// Bytes.
    pub(super) size: u64,
    pub(super) segments: Vec<FileDataSequenceEntry>,
}

/// The chunks of a xorb, in order.
pub(super) struct Chunks {
    /// Where each begins in the xorb, its header included, and where the last one ends.
    pub(super) starts: Vec<u64>,
    /// Bytes of each, decompressed.
    pub(super) lengths: Vec<u64>,
}

impl Cas {
    pub(super) fn open(root: PathBuf) -> Result<Self, HubError> {
        for directory in ["xorbs", "shards", "staged"].map(|name| root.join(name)) {
            std::fs::create_dir_all(&directory).map_err(HubError::io(&directory))?;
        }
        Ok(Self { root, known: Mutex::default() })
    }

    /// The file with this SHA-256 (lower-case hex), if a shard names it and every xorb it needs is there.
    ///
    /// # Errors
    /// When a shard cannot be read.
    pub(super) fn find(&self, sha256: &str) -> Result<Option<Arc<XetFile>>, HubError> {
        Ok(self.known()?.by_sha256.get(sha256).filter(|file| self.is_whole(file)).cloned())
    }

    /// The file with this Xet hash, under the same conditions.
    ///
    /// # Errors
    /// When a shard cannot be read.
    pub(super) fn find_by_hash(&self, hash: &MerkleHash) -> Result<Option<Arc<XetFile>>, HubError> {
        Ok(self.known()?.by_hash.get(&hash.hex()).filter(|file| self.is_whole(file)).cloned())
    }

    fn is_whole(&self, file: &XetFile) -> bool {
        file.segments.iter().all(|segment| self.xorb_path(&segment.xorb_hash).is_file())
    }

    /// A shard that names this chunk, for a client that wants to know what it need not send.
    ///
    /// # Errors
    /// When a shard cannot be read.
    pub(super) fn shard_with(&self, chunk: &MerkleHash) -> Result<Option<Vec<u8>>, HubError> {
        let Some(shard) = self.known()?.by_chunk.get(chunk).copied() else { return Ok(None) };
        let path = self.shard_path(&shard);
        let bytes = std::fs::read(&path).map_err(HubError::io(&path))?;
        let shard = parse_shard(&path, &bytes)?;
        let mut xorbs = (0..shard.num_xorb()).filter_map(|index| shard.xorb(index));
        let is_whole = xorbs.all(|xorb| self.xorb_path(&xorb.xorb_hash()).is_file());
        Ok(is_whole.then_some(bytes))
    }

    /// Keeps a shard that a client sent; in memory it is a part in a thousand of the contents.
    ///
    /// # Errors
    /// [`HubError::Cas`] when it does not parse.
    pub(super) fn add_shard(&self, store: &Store, bytes: &[u8]) -> Result<(), HubError> {
        let directory = self.root.join("shards");
        let shard = parse_shard(&directory, bytes)?;
        let verified = (0..shard.num_files()).all(|i| shard.file(i).is_some_and(|file| file.contains_verification()));
        // Clients send it without the tables that make it a file.
        let mut whole = Vec::with_capacity(shard.serialized_size(verified));
        shard.serialize(&mut whole, verified, None).map_err(HubError::cas(&directory))?;
        store.write(&self.shard_path(&compute_data_hash(&whole)), &whole)
    }

    /// Writes the file's bytes to `out`, one chunk (at most 128 KiB) in memory at a time.
    ///
    /// # Errors
    /// When a xorb cannot be read or does not hold the chunks the shard names, or `out` fails.
    pub(super) fn copy(&self, file: &XetFile, out: &mut impl Write) -> Result<(), HubError> {
        for segment in &file.segments {
            let path = self.xorb_path(&segment.xorb_hash);
            let range = self.chunks(&segment.xorb_hash)?.bytes(chunk_range(segment));
            let mut xorb = BufReader::new(File::open(&path).map_err(HubError::io(&path))?);
            let range = range.ok_or_else(|| HubError::NoSuchChunks { path: path.clone() })?;
            xorb.seek(SeekFrom::Start(range.start)).map_err(HubError::io(&path))?;
            for _ in chunk_range(segment) {
                deserialize_chunk_to_writer(&mut xorb, out).map_err(HubError::cas(&path))?;
            }
        }
        Ok(())
    }

    /// The chunks of a xorb, by their headers.
    ///
    /// # Errors
    /// When it cannot be read, or is not a sequence of chunks.
    pub(super) fn chunks(&self, xorb: &MerkleHash) -> Result<Chunks, HubError> {
        Chunks::read(&self.xorb_path(xorb))
    }

    pub(super) fn xorb_path(&self, hash: &MerkleHash) -> PathBuf {
        self.root.join("xorbs").join(hash.hex())
    }

    /// Where a xorb waits for its commit. The grant is of digits and `-` only.
    pub(super) fn staged_path(&self, hash: &MerkleHash, grant: &str) -> PathBuf {
        self.root.join("staged").join(format!("{}.{grant}", hash.hex()))
    }

    fn shard_path(&self, hash: &MerkleHash) -> PathBuf {
        self.root.join("shards").join(shard_file_name(hash))
    }

    /// What all shards tell, those included that came since the last look.
    fn known(&self) -> Result<MutexGuard<'_, Known>, HubError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.root.join("shards");
        for entry in std::fs::read_dir(&directory).map_err(HubError::io(&directory))? {
            let path = entry.map_err(HubError::io(&directory))?.path();
            if let Some(hash) = parse_shard_filename(&path)
                && !known.shards.contains(&hash)
            {
                let bytes = std::fs::read(&path).map_err(HubError::io(&path))?;
                known.learn(hash, &parse_shard(&path, &bytes)?);
            }
        }
        Ok(known)
    }
}

impl Known {
    fn learn(&mut self, hash: MerkleHash, shard: &MDBMinimalShard) {
        for info in (0..shard.num_files()).filter_map(|index| shard.file(index)).map(MDBFileInfo::from) {
            let Some(extension) = &info.metadata_ext else { continue };
            let (sha256, xet_hash, size) = (extension.sha256.hex(), info.metadata.file_hash.hex(), info.file_size());
            let file = Arc::new(XetFile { hash: xet_hash.clone(), size, segments: info.segments });
            self.by_sha256.insert(sha256, file.clone());
            self.by_hash.insert(xet_hash, file);
        }
        self.by_chunk.extend(shard.global_dedup_eligible_chunks().into_iter().map(|chunk| (chunk, hash)));
        self.shards.insert(hash);
    }
}

impl Chunks {
    /// # Errors
    /// When the file cannot be read, or is not a sequence of chunks.
    pub(super) fn read(path: &Path) -> Result<Self, HubError> {
        let file = File::open(path).map_err(HubError::io(path))?;
        let end = file.metadata().map_err(HubError::io(path))?.len();
        let mut reader = BufReader::with_capacity(CHUNK_HEADER, file);
        let (mut starts, mut lengths, mut at) = (vec![0], Vec::new(), 0);
        while at < end {
            let mut header = [0; CHUNK_HEADER];
            reader.read_exact(&mut header).map_err(HubError::io(path))?;
            let header = parse_chunk_header(header).map_err(HubError::cas(path))?;
            let length = header.get_compressed_length();
            at += CHUNK_HEADER as u64 + u64::from(length);
            if at > end {
                return Err(HubError::NoSuchChunks { path: path.to_owned() });
            }
            reader.seek_relative(length.into()).map_err(HubError::io(path))?;
            starts.push(at);
            lengths.push(header.get_uncompressed_length().into());
        }
        Ok(Self { starts, lengths })
    }

    /// Where these chunks lie in the xorb.
    pub(super) fn bytes(&self, chunks: Range<usize>) -> Option<Range<u64>> {
        Some(*self.starts.get(chunks.start)?..*self.starts.get(chunks.end)?)
    }
}

/// The chunks that a segment takes from its xorb.
pub(super) fn chunk_range(segment: &FileDataSequenceEntry) -> Range<usize> {
    segment.chunk_index_start as usize..segment.chunk_index_end as usize
}

fn parse_shard(path: &Path, bytes: &[u8]) -> Result<MDBMinimalShard, HubError> {
    MDBMinimalShard::from_reader(&mut Cursor::new(bytes), true, true).map_err(HubError::cas(path))
}
