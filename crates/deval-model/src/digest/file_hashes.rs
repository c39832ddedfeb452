//! The files' own digests, made by whichever thread has the time.
//!
//! The model hash sets the pace. A second SHA-256 beside it costs a third more there; on the other core it costs as much as the model
//! hash itself, but that core has time to spare. So the blocks wait in order; the model's thread takes the first of them along with each
//! of its own, unless the other thread has asked for some. Where others use the processors too, the cheaper way is the quicker one: the
//! other thread then takes only what keeps the reader waiting.

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::blocks::Block;
use super::streams::{self, Stream};

/// Blocks that the other thread takes at once: a fraction of the pool, so that those who need them again do not run dry.
const FEW: usize = 4;

/// Digests of all files but the first, whose digest is the model's at its end.
pub(super) struct FileHashes {
    state: Mutex<State>,
    /// Blocks that the model's thread has begun.
    begun: AtomicUsize,
    /// Whether the other thread waits for the stream.
    wanted: AtomicBool,
    /// Whether the model's thread has to wait for a processor.
    crowded: AtomicBool,
}

struct State {
    /// Blocks that no one has hashed yet, in order.
    waiting: VecDeque<Arc<Block>>,
    /// The stream of the file that the first of them belongs to; gone while somebody hashes with it.
    stream: Option<Stream>,
    done: Vec<String>,
}

impl FileHashes {
    pub(super) fn new() -> Self {
        let state = State { waiting: VecDeque::new(), stream: Some(Stream::new()), done: Vec::new() };
        let [wanted, crowded] = [false; 2].map(AtomicBool::new);
        Self { state: Mutex::new(state), begun: AtomicUsize::new(0), wanted, crowded }
    }

    /// Tells whether the processors are shared with others.
    pub(super) fn set_crowded(&self, crowded: bool) {
        self.crowded.store(crowded, Ordering::Relaxed);
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Blocks that the model's thread has begun.
    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
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

    /// Hashes the block into the model's stream, and the first of those that wait into its file's.
    pub(super) fn hash_with(&self, model: &mut Stream, block: &Block) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let beside = if self.wanted.load(Ordering::Relaxed) { None } else { self.state().take() };
        let Some((mut stream, first)) = beside else { return model.update(block.bytes()) };
        streams::update_both(model, block.bytes(), &mut stream, first.bytes());
        self.state().give_back(stream, first.last);
    }

    /// Hashes a few waiting blocks; false when there are none.
    pub(super) fn hash_some(&self) -> bool {
        self.wanted.store(true, Ordering::Relaxed);
        let mut some = false;
        for _ in 0..FEW {
            let Some((mut stream, first)) = self.next() else { break };
            stream.update(first.bytes());
            self.state().give_back(stream, first.last);
            some = true;
        }
        self.wanted.store(false, Ordering::Relaxed);
        some
    }

    /// The first block that waits, once the model's thread has given the stream back; that takes a fraction of a millisecond.
    fn next(&self) -> Option<(Stream, Arc<Block>)> {
        loop {
            let mut state = self.state();
            if let Some(taken) = state.take() {
                return Some(taken);
            }
            if state.waiting.is_empty() {
                return None;
            }
            drop(state);
            thread::yield_now();
        }
    }

    /// The digests, once every block was pushed and nobody hashes any more.
    pub(super) fn finish(self) -> Vec<String> {
        while self.hash_some() {}
        self.state.into_inner().expect("nothing panics while it is held").done
    }
}

impl State {
    fn take(&mut self) -> Option<(Stream, Arc<Block>)> {
        let stream = self.stream.take_if(|_| !self.waiting.is_empty())?;
        Some((stream, self.waiting.pop_front().expect("one waits")))
    }

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
    fn blocks_are_hashed_in_order_whoever_takes_them() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..1_300_000).map(|i| (i % 249) as u8).collect();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        let mut pool = Pool::new();
        let mut block = || {
            let buffer = pool.spare().unwrap();
            Arc::new(pool.fill(buffer, 1, &mut file).unwrap())
        };
        let blocks: Vec<_> = (0..5).map(|_| block()).collect();
        let (own, mut model) = (FileHashes::new(), Stream::new());
        assert!(!own.hash_some(), "nothing waits");
        blocks.iter().for_each(|block| own.push(block));
        own.hash_with(&mut model, &blocks[0]);
        assert_eq!((own.state().waiting.len(), own.begun()), (4, 1), "one was taken along");
        own.wanted.store(true, Ordering::Relaxed);
        own.hash_with(&mut model, &blocks[1]);
        assert_eq!(own.state().waiting.len(), 4, "the other thread asked first");
        assert!(own.hash_some(), "it takes the rest");
        assert!(own.state().waiting.is_empty() && !own.wanted.load(Ordering::Relaxed));
        blocks[2..].iter().for_each(|block| own.hash_with(&mut model, block));
        let expected = hex::encode(Sha256::digest(&bytes));
        assert_eq!((model.hex(), own.finish()), (expected.clone(), vec![expected]));
    }
}
