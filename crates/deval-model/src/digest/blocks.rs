//! Blocks of file bytes from a fixed pool, so that memory stays bounded however far a consumer falls behind.

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of one block: small enough to stay in a core's cache between reader and hasher.
const SIZE: usize = 256 * 1024;

/// Blocks in the pool.
const COUNT: usize = 32;

/// A piece of one file.
#[derive(Debug)]
pub(super) struct Block {
    /// Number of the file.
    pub(super) file: usize,
    /// Whether the file ends with this block, which may then be empty.
    pub(super) last: bool,
    buffer: Vec<u8>,
    filled: usize,
    home: Sender<Vec<u8>>,
}

impl Block {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // The pool is gone once everything is read; the buffer is then simply freed.
        self.home.send(std::mem::take(&mut self.buffer)).ok();
    }
}

pub(super) struct Pool {
    made: usize,
    free: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        let (home, free) = channel();
        Self { made: 0, free, home }
    }

    /// The next piece of a file.
    pub(super) fn fill(&self, mut buffer: Vec<u8>, number: usize, file: &mut File) -> io::Result<Block> {
        let filled = fill(&mut buffer, file)?;
        Ok(Block { file: number, last: filled < SIZE, buffer, filled, home: self.home.clone() })
    }

    /// A buffer that came home, or a new one while there are few.
    pub(super) fn spare(&mut self) -> Option<Vec<u8>> {
        let home = self.free.try_recv().ok();
        home.or_else(|| {
            let few = self.made < COUNT;
            self.made += usize::from(few);
            few.then(|| vec![0; SIZE])
        })
    }

    /// The next buffer to come home. Somebody else has to hold one.
    pub(super) fn wait(&self) -> Vec<u8> {
        self.free.recv().expect("the sender is held here")
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(buffer: &mut [u8], file: &mut File) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
