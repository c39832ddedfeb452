//! Blocks on disk: one file per block, written once, so a chain that was killed is a shorter chain.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use parity_scale_codec::{Decode, DecodeAll, Encode};
use sp_runtime::traits::{BlakeTwo256, Hash};

use crate::chain::ChainError;
use crate::chain::runtime::{Header, VERSION};

/// One change of the state: a key and its new value, or none when it is gone.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// A block with what it did to the state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Block {
    /// The header, with the state root after the block.
    pub(crate) header: Header,
    /// The extrinsics as they came.
    pub(crate) extrinsics: Vec<Vec<u8>>,
    /// The changes against the parent's state.
    pub(crate) changes: Vec<Change>,
}

/// The directory of the blocks.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens or makes the directory and reads its blocks, checking that each follows its parent.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Vec<Block>), ChainError> {
        fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
        let store = Self { dir: dir.to_owned() };
        let mut blocks: Vec<Block> = Vec::new();
        for path in store.files()? {
            let block = store.read(&path)?;
            let parent = blocks.last().map(|parent| parent.header.hash()).unwrap_or_default();
            if block.header.parent_hash != parent || store.path(block.header.number) != path {
                return Err(ChainError::Damaged { path, what: "it does not follow its parent" });
            }
            blocks.push(block);
        }
        Ok((store, blocks))
    }

    /// Writes a block: it is there whole or not at all, also when the process dies in between.
    pub(crate) fn append(&self, block: &Block) -> Result<(), ChainError> {
        let path = self.path(block.header.number);
        let temporary = path.with_extension("tmp");
        let payload = block.encode();
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(magic().as_bytes())?;
            file.write_all(BlakeTwo256::hash(&payload).as_bytes())?;
            file.write_all(&payload)?;
            // An empty block lost to a power cut is no loss, and there may be hundreds in a row.
            if !block.extrinsics.is_empty() {
                file.sync_all()?;
            }
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| io_error(&path, source))
    }

    /// The files of blocks, by number.
    fn files(&self) -> Result<Vec<PathBuf>, ChainError> {
        let list = || fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
        let mut paths = list().map_err(|source| io_error(&self.dir, source))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "block"));
        paths.sort();
        Ok(paths)
    }

    fn read(&self, path: &Path) -> Result<Block, ChainError> {
        let bytes = fs::read(path).map_err(|source| io_error(path, source))?;
        let path = path.to_owned();
        let Some(rest) = bytes.strip_prefix(magic().as_bytes()) else {
            return Err(ChainError::OtherVersion { path });
        };
        let intact = rest.split_at_checked(32).filter(|(sum, payload)| BlakeTwo256::hash(payload).as_bytes() == *sum);
        let Some((_, mut payload)) = intact else {
            return Err(ChainError::Damaged { path, what: "its checksum is wrong" });
        };
        let block = Block::decode_all(&mut payload);
        block.map_err(|_| ChainError::Damaged { path, what: "it is not a block" })
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:010}.block"))
    }
}

/// First line of every block file; another runtime reads other state, so its version is part of it.
fn magic() -> String {
    format!("deval-localnet block 2 spec {}\n", VERSION.spec_version)
}

fn io_error(path: &Path, source: std::io::Error) -> ChainError {
    ChainError::Io { path: path.to_owned(), source }
}
