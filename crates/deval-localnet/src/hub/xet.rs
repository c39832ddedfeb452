//! Reading the Xet store that clients fill.
//!
//! A client told `casUrl: "local://<dir>"` opens the store itself (`LocalClient` of xet-client 1.8.0) and leaves
//! ```text
//! <dir>/xet/xorbs/xorbs/default.<xorb hash>   compressed chunks, with a footer
//! <dir>/xet/xorbs/shards/<shard hash>.mdb     which chunks make up which file, and the file's SHA-256
//! <dir>/xet/xorbs/global_dedup_lookup.redb    an index that only one process may open at a time
//! ```
//! This side reads shards and xorbs, which are immutable and appear by rename, and leaves the index alone: opening it would
//! lock every client out.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use xet_core_structures::merklehash::MerkleHash;
use xet_core_structures::metadata_shard::file_structs::{FileDataSequenceEntry, MDBFileInfo};
use xet_core_structures::metadata_shard::streaming_shard::MDBMinimalShard;
use xet_core_structures::metadata_shard::utils::parse_shard_filename;
use xet_core_structures::xorb_object::{XorbObject, deserialize_chunk_to_writer};

use super::HubError;

/// What a complete redb file begins with; written last.
const INDEX_MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// The store, and what its shards have told so far.
pub(super) struct Cas {
    root: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    shards: HashSet<MerkleHash>,
    by_sha256: HashMap<String, Arc<XetFile>>,
}

/// A file as a shard describes it.
#[derive(Debug)]
pub(super) struct XetFile {
    /// Xet's own hash of the file, in the form of `X-Xet-Hash`.
    pub(super) hash: String,
    /// Bytes.
    pub(super) size: u64,
    segments: Vec<FileDataSequenceEntry>,
}

impl Cas {
    pub(super) fn open(root: PathBuf) -> Result<Self, HubError> {
        std::fs::create_dir_all(&root).map_err(HubError::io(&root))?;
        Ok(Self { root, known: Mutex::default() })
    }

    /// Drops an index that no client can open: one was killed while it made it. The next one makes it anew; what the index finds is found
    /// by the shards as well.
    pub(super) fn mend(&self) -> Result<(), HubError> {
        let index = self.store().join("global_dedup_lookup.redb");
        let mut start = [0; INDEX_MAGIC.len()];
        let read = File::open(&index).and_then(|mut file| file.read_exact(&mut start));
        let whole = match read {
            Ok(()) => start == INDEX_MAGIC,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(HubError::io(&index)(error)),
        };
        if whole { Ok(()) } else { std::fs::remove_file(&index).map_err(HubError::io(&index)) }
    }

    /// What clients open: `local://` and the absolute path.
    pub(super) fn url(&self) -> String {
        format!("local://{}", self.root.display())
    }

    /// The file with this SHA-256 (lower-case hex), if a shard names it and every xorb it needs is there.
    ///
    /// # Errors
    /// When a shard cannot be read.
    pub(super) fn find(&self, sha256: &str) -> Result<Option<Arc<XetFile>>, HubError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.learn(&mut known)?;
        let file = known.by_sha256.get(sha256).filter(|file| {
            let whole = |segment: &FileDataSequenceEntry| self.xorb_path(&segment.xorb_hash).is_file();
            file.segments.iter().all(whole)
        });
        Ok(file.cloned())
    }

    /// Writes the file's bytes to `out`, one chunk (at most 128 KiB) in memory at a time.
    ///
    /// # Errors
    /// When a xorb cannot be read or does not hold the chunks the shard names, or `out` fails.
    pub(super) fn copy(&self, file: &XetFile, out: &mut impl Write) -> Result<(), HubError> {
        for segment in &file.segments {
            let path = self.xorb_path(&segment.xorb_hash);
            let mut xorb = BufReader::new(File::open(&path).map_err(HubError::io(&path))?);
            let footer = XorbObject::deserialize(&mut xorb).map_err(HubError::cas(&path))?;
            let (first, last) = (segment.chunk_index_start, segment.chunk_index_end);
            let (start, _) = footer.get_byte_offset(first, last).map_err(HubError::cas(&path))?;
            xorb.seek(SeekFrom::Start(start.into())).map_err(HubError::io(&path))?;
            for _ in first..last {
                deserialize_chunk_to_writer(&mut xorb, out).map_err(HubError::cas(&path))?;
            }
        }
        Ok(())
    }

    fn store(&self) -> PathBuf {
        self.root.join("xet/xorbs")
    }

    fn xorb_path(&self, hash: &MerkleHash) -> PathBuf {
        self.store().join(format!("xorbs/default.{}", hash.hex()))
    }

    fn learn(&self, known: &mut Known) -> Result<(), HubError> {
        let directory = self.store().join("shards");
        if !directory.is_dir() {
            return Ok(());
        }
        for entry in std::fs::read_dir(&directory).map_err(HubError::io(&directory))? {
            let path = entry.map_err(HubError::io(&directory))?.path();
            if let Some(hash) = parse_shard_filename(&path)
                && !known.shards.contains(&hash)
            {
                known.by_sha256.extend(read_shard(&path)?);
                known.shards.insert(hash);
            }
        }
        Ok(())
    }
}

fn read_shard(path: &Path) -> Result<Vec<(String, Arc<XetFile>)>, HubError> {
    let mut reader = BufReader::new(File::open(path).map_err(HubError::io(path))?);
    let shard = MDBMinimalShard::from_reader(&mut reader, true, false).map_err(HubError::cas(path))?;
    let views = (0..shard.num_files()).filter_map(|index| shard.file(index));
    let files = views.filter_map(|view| {
        let info = MDBFileInfo::from(view);
        let sha256 = info.metadata_ext.as_ref()?.sha256.hex();
        let hash = info.metadata.file_hash.hex();
        Some((sha256, Arc::new(XetFile { hash, size: info.file_size(), segments: info.segments })))
    });
    Ok(files.collect())
}
