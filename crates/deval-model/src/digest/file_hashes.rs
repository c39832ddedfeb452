//! The files' own digests, made by whichever thread has the time.
//!
//! The model hash sets the pace. A second SHA-256 beside it costs a third more there, and on the other core as much as the model hash
//! itself, but that core has little else to do. So the blocks wait in order; the other thread takes some whenever it has nothing else,
//! and the model's thread takes the block at hand along when it is the next. Nobody waits for anybody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use super::blocks::Block;
use super::streams::{self, Stream};

/// Blocks that the other thread takes at once: a fraction of the pool, so that those who need them again do not run dry.
const FEW: usize = 4;

/// Digests of all files but the first, whose digest is the model's at its end.
pub(super) struct FileHashes(Mutex<State>);

struct State {
    /// Blocks that no one has hashed yet, in order.
    waiting: VecDeque<Arc<Block>>,
    /// The stream of the file that the first of them belongs to; gone while somebody hashes with it.
    stream: Option<Stream>,
    done: Vec<String>,
}

impl FileHashes {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { waiting: VecDeque::new(), stream: Some(Stream::new()), done: Vec::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it is held")
    }

    /// Adds the next block.
    pub(super) fn push(&self, block: &Arc<Block>) {
        if block.file > 0 {
            self.state().waiting.push_back(Arc::clone(block));
        }
    }

    /// Hashes the block into the model's stream, and into its file's when it is the next there.
    pub(super) fn hash_with(&self, model: &mut Stream, block: &Arc<Block>) {
        let stream = {
            let mut state = self.state();
            let next = state.waiting.front().is_some_and(|first| Arc::ptr_eq(first, block));
            let stream = if next { state.stream.take() } else { None };
            if stream.is_some() {
                state.waiting.pop_front();
            }
            stream
        };
        let Some(mut stream) = stream else { return model.update(block.bytes()) };
        streams::update_both(model, &mut stream, block.bytes());
        self.state().give_back(stream, block.last);
    }

    /// Hashes a few waiting blocks; false when there are none, or somebody else is at it.
    pub(super) fn hash_some(&self) -> bool {
        let mut state = self.state();
        let few = state.waiting.len().min(FEW);
        let Some(mut stream) = state.stream.take_if(|_| few > 0) else { return false };
        let blocks: Vec<_> = state.waiting.drain(..few).collect();
        drop(state);
        for block in blocks {
            stream.update(block.bytes());
            if block.last {
                self.state().done.push(stream.hex());
                stream = Stream::new();
            }
        }
        self.state().give_back(stream, false);
        true
    }

    /// The digests, once every block was pushed and nobody hashes any more.
    pub(super) fn finish(self) -> Vec<String> {
        while self.hash_some() {}
        self.0.into_inner().expect("nothing panics while it is held").done
    }
}

impl State {
    fn give_back(&mut self, stream: Stream, ended: bool) {
        if ended {
            self.done.push(stream.hex());
        }
        self.stream = Some(if ended { Stream::new() } else { stream });
    }
}
