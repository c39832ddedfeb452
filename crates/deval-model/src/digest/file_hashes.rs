//! The files' own digests, made by whichever thread has the time.
//!
//! The model hash sets the pace. A second SHA-256 beside it costs a third more there, and on the other core as much as the model hash
//! itself, but that core has little else to do. So the blocks wait in order; the other thread takes some whenever it has nothing else,
//! and the model's thread takes the block at hand along when it is the next. Nobody waits for anybody. Where others use the processors
//! too, the cheaper way is the quicker one: the other thread then takes only what the model's thread has left behind.

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::blocks::Block;
use super::streams::{self, Stream};

/// Blocks that the other thread takes at once: a fraction of the pool, so that those who need them again do not run dry.
const FEW: usize = 4;

/// Digests of all files but the first, whose digest is the model's at its end.
pub(super) struct FileHashes {
    state: Mutex<State>,
    /// Whether the model's thread has to wait for a processor.
    crowded: AtomicBool,
}

struct State {
    /// Blocks that no one has hashed yet, in order.
    waiting: VecDeque<Arc<Block>>,
    /// The stream of the file that the first of them belongs to; gone while somebody hashes with it.
    stream: Option<Stream>,
    /// How many blocks were taken from those that wait, and how many the model's thread has seen.
    taken: usize,
    passed: usize,
    done: Vec<String>,
}

impl FileHashes {
    pub(super) fn new() -> Self {
        let (waiting, stream) = (VecDeque::new(), Some(Stream::new()));
        let state = State { waiting, stream, taken: 0, passed: 0, done: Vec::new() };
        Self { state: Mutex::new(state), crowded: AtomicBool::new(false) }
    }

    /// Tells whether the processors are shared with others.
    pub(super) fn set_crowded(&self, crowded: bool) {
        self.crowded.store(crowded, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
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
            state.passed += usize::from(block.file > 0);
            if stream.is_some() {
                state.waiting.pop_front();
                state.taken += 1;
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
        // What was left behind has to be done in any case: nobody else will.
        let behind = state.passed.saturating_sub(state.taken);
        let most = if self.crowded.load(Ordering::Relaxed) { behind } else { state.waiting.len() };
        let few = most.min(FEW);
        let Some(mut stream) = state.stream.take_if(|_| few > 0) else { return false };
        let blocks: Vec<_> = state.waiting.drain(..few).collect();
        state.taken += few;
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
        self.state.into_inner().expect("nothing panics while it is held").done
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

/// Whether a thread gets the processor when it wants it.
pub(super) struct Pace {
    since: Instant,
    waited: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), waited: waited() }
    }

    /// Whether this thread waited more than a tenth of the time since it was last asked.
    pub(super) fn is_crowded(&mut self) -> bool {
        let now = Self::new();
        let crowded = now.waited.saturating_sub(self.waited) * 10 > now.since - self.since;
        *self = now;
        crowded
    }
}

/// How long this thread was ready and did not run; zero where the system does not tell.
fn waited() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use sha2::{Digest as _, Sha256};

    use super::super::blocks::Pool;
    use super::*;

    #[test]
    fn in_a_crowd_only_what_was_left_behind_is_taken() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..600_000).map(|i| (i % 249) as u8).collect();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        let mut pool = Pool::new();
        let blocks: Vec<_> = (0..3).map(|_| Arc::new(pool.fill(1, &mut file).unwrap())).collect();
        let (own, mut model) = (FileHashes::new(), Stream::new());
        blocks.iter().for_each(|block| own.push(block));
        own.set_crowded(true);
        assert!(!own.hash_some(), "nothing is behind");
        own.hash_with(&mut model, &blocks[0]);
        let held = own.state().stream.take().unwrap();
        own.hash_with(&mut model, &blocks[1]);
        assert!(!own.hash_some(), "somebody else is at it");
        own.state().give_back(held, false);
        assert!(own.hash_some() && !own.hash_some(), "one was behind");
        own.set_crowded(false);
        assert!(own.hash_some() && !own.hash_some(), "with room the rest is taken");
        own.hash_with(&mut model, &blocks[2]);
        let expected = hex::encode(Sha256::digest(&bytes));
        assert_eq!((model.hex(), own.finish()), (expected.clone(), vec![expected]));
    }
}
