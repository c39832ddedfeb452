//! What the second thread does beside the model hash: reading first, then the tensors, then the files' own digests.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use rustix::fs::{Advice, fadvise};

use super::blocks::{Block, Pool};
use super::file_hashes::FileHashes;
use crate::ModelError;
use crate::files::Entry;

/// Blocks that are read before the model's thread asks for them, so that it never waits.
const AHEAD: usize = 8;

/// Every block once, for whoever looks at the tensors; before that each was sent to the model's thread.
pub(super) struct Feed<'a> {
    entries: &'a [Entry],
    /// The file that is read, and its number.
    file: Option<File>,
    number: usize,
    pool: Pool,
    to_hash: Sender<Arc<Block>>,
    sent: usize,
    own: &'a FileHashes,
    /// Blocks whose tensors nobody has looked at.
    read: VecDeque<Arc<Block>>,
    failed: Result<(), ModelError>,
}

impl<'a> Feed<'a> {
    pub(super) fn new(entries: &'a [Entry], own: &'a FileHashes, to_hash: Sender<Arc<Block>>) -> Self {
        let (pool, read) = (Pool::new(), VecDeque::new());
        Self { entries, file: None, number: 0, pool, to_hash, sent: 0, own, read, failed: Ok(()) }
    }

    /// Whether everything could be read.
    pub(super) fn finish(self) -> Result<(), ModelError> {
        self.failed
    }

    fn is_at_end(&self) -> bool {
        self.number == self.entries.len() || self.failed.is_err()
    }

    fn is_short(&self) -> bool {
        self.sent < self.own.begun() + AHEAD
    }

    fn take(&mut self, buffer: Vec<u8>) {
        self.failed = self.try_take(buffer);
    }

    fn try_take(&mut self, buffer: Vec<u8>) -> Result<(), ModelError> {
        let path = &self.entries[self.number].path;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open(&self.entries[self.number])?,
        };
        let block = self.pool.fill(buffer, self.number, &mut file).map_err(ModelError::io("read", path))?;
        let block = Arc::new(block);
        if block.last {
            self.number += 1;
        } else {
            self.file = Some(file);
        }
        self.own.push(&block);
        self.read.push_back(Arc::clone(&block));
        self.sent += 1;
        // The model's thread takes all there is.
        self.to_hash.send(block).ok();
        Ok(())
    }
}

fn open(entry: &Entry) -> Result<File, ModelError> {
    let file = File::open(&entry.path).map_err(ModelError::io("open", &entry.path))?;
    // Weights larger than memory are not to push out what others use; where the system knows no such advice, it is read as ever.
    for advice in [Advice::Sequential, Advice::NoReuse] {
        fadvise(&file, 0, None, advice).ok();
    }
    Ok(file)
}

impl Iterator for Feed<'_> {
    type Item = Arc<Block>;

    fn next(&mut self) -> Option<Arc<Block>> {
        loop {
            let more = !self.is_at_end();
            if more
                && self.is_short()
                && let Some(buffer) = self.pool.spare()
            {
                self.take(buffer);
            } else if let Some(block) = self.read.pop_front() {
                return Some(block);
            } else if !self.own.is_crowded() && self.own.hash_some() {
                // There may be room for another block now.
            } else if more && let Some(buffer) = self.pool.spare() {
                self.take(buffer);
            } else if self.own.hash_some() {
                // In a crowd too: blocks that wait for it kept the buffers away.
            } else if more {
                // None waits for its own digest or for us, so the model's thread holds them all.
                let buffer = self.pool.wait();
                self.take(buffer);
            } else {
                return None;
            }
        }
    }
}
