//! Which blocks of the cache hold what, and which texts begin alike.

use crate::LlamaError;
use crate::model::Compute;
use crate::step::BLOCK;

/// Texts that are remembered once they are answered.
const REMEMBERED: usize = 64;

/// Who holds which block.
pub(crate) struct Pages {
    /// For each block how many texts hold it.
    holders: Vec<u32>,
    free: Vec<u32>,
    /// Most blocks.
    limit: usize,
    /// Whether memory gave out before the limit.
    short: bool,
    peak: usize,
}

impl Pages {
    pub(crate) fn new(limit: usize) -> Self {
        Self { holders: Vec::new(), free: Vec::new(), limit, short: false, peak: 0 }
    }

    /// Most blocks that there can be.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Blocks that nobody holds, with those that memory has not yet been taken for.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.limit.saturating_sub(self.holders.len())
    }

    /// Most blocks held at once.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }

    /// Whether memory gave out before the limit.
    pub(crate) fn is_short(&self) -> bool {
        self.short
    }

    /// A block that nobody else holds; `None` where all are held.
    pub(crate) fn take(&mut self, compute: &mut dyn Compute) -> Result<Option<u32>, LlamaError> {
        if self.free.is_empty() && self.holders.len() < self.limit {
            self.grow(compute)?;
        }
        let block = self.free.pop();
        if let Some(block) = block {
            self.holders[block as usize] = 1;
            self.peak = self.peak.max(self.holders.len() - self.free.len());
        }
        Ok(block)
    }

    fn grow(&mut self, compute: &mut dyn Compute) -> Result<(), LlamaError> {
        match compute.grow() {
            Err(LlamaError::OutOfMemory { .. }) if !self.holders.is_empty() => {
                (self.limit, self.short) = (self.holders.len(), true);
                Ok(())
            }
            grown => {
                grown?;
                let (old, new) = (self.holders.len(), compute.blocks().min(self.limit));
                self.holders.resize(new, 0);
                self.free.extend((old as u32..new as u32).rev());
                Ok(())
            }
        }
    }

    /// One more text holds the block.
    pub(crate) fn hold(&mut self, block: u32) {
        self.holders[block as usize] += 1;
    }

    /// A text no longer holds these blocks.
    pub(crate) fn release(&mut self, blocks: &mut Vec<u32>) {
        for block in blocks.drain(..) {
            let holders = &mut self.holders[block as usize];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(block);
            }
        }
    }
}

/// A text whose keys and values are in the cache.
pub(crate) struct Known {
    pub(crate) tokens: Vec<u32>,
    pub(crate) blocks: Vec<u32>,
    /// Tells texts apart whose keys were turned by other angles.
    pub(crate) angles: usize,
    used: u64,
}

/// Texts that were answered, for others that begin alike.
pub(crate) struct Memory {
    known: Vec<Known>,
    clock: u64,
    /// Most blocks that they hold.
    limit: usize,
}

impl Memory {
    pub(crate) fn new(limit: usize) -> Self {
        Self { known: Vec::new(), clock: 0, limit }
    }

    /// The known text that shares most tokens with this one, and how many.
    pub(crate) fn longest(&mut self, tokens: &[u32], angles: usize) -> (usize, &[u32]) {
        let same = self.known.iter_mut().filter(|known| known.angles == angles);
        match same.map(|known| (common(&known.tokens, tokens), known)).max_by_key(|(shared, _)| *shared) {
            Some((shared, known)) if shared > 0 => {
                self.clock += 1;
                known.used = self.clock;
                (shared, &known.blocks)
            }
            _ => (0, &[]),
        }
    }

    /// Remembers a text, whose blocks it now holds, in place of those that were of use least recently.
    pub(crate) fn keep(&mut self, tokens: Vec<u32>, blocks: Vec<u32>, angles: usize, pages: &mut Pages) {
        self.clock += 1;
        self.known.push(Known { tokens, blocks, angles, used: self.clock });
        while self.known.len() > REMEMBERED || self.held() > self.limit {
            self.forget(pages);
        }
    }

    /// Gives back the blocks of the text that was of use least recently; `false` where there is none.
    pub(crate) fn forget(&mut self, pages: &mut Pages) -> bool {
        let oldest = self.known.iter().enumerate().min_by_key(|(_, known)| known.used).map(|(place, _)| place);
        let forgotten = oldest.map(|place| pages.release(&mut self.known.swap_remove(place).blocks));
        forgotten.is_some()
    }

    fn held(&self) -> usize {
        self.known.iter().map(|known| known.tokens.len().div_ceil(BLOCK)).sum()
    }
}

/// How many first tokens two texts share.
pub(crate) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
