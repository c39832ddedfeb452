//! Continuous batching: rows of tokens go through the layers together, whatever their lengths, and a waiting text takes
//! the place of an answered one at once.
//!
//! Texts that begin alike are computed once: a text waits while another computes what both begin with, then holds the
//! same blocks of the cache. As no row's numbers depend on the rows beside it (on the CPU to the last bit), neither do
//! the answers.

use std::collections::VecDeque;
use std::ops::Range;

use rayon::prelude::*;

use crate::LlamaError;
use crate::model::{Compute, check_tokens};
use crate::pages::{Memory, Pages, common};
use crate::rotary::Rotary;
use crate::row::Row;
use crate::step::{BLOCK, Span, Step};
use crate::work::EngineStats;

/// Rows of one step at most; bounds what lies between the layers.
const STEP_ROWS: usize = 512;

/// Tokens of answered texts that are remembered.
const REMEMBERED_TOKENS: usize = 8192;

/// Bounds of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Texts that go through together.
    pub(crate) texts: usize,
    /// Tokens in the cache.
    pub(crate) cache: usize,
    /// Tokens of one text.
    pub(crate) text: usize,
}

/// Where rows come from and go to.
pub(crate) trait Rows {
    /// The next row, if one is there.
    fn next(&mut self) -> Option<Row>;
    /// A row that is done, or has failed.
    fn done(&mut self, row: Row);
}

/// Runs rows on a decoder.
pub(crate) struct Scheduler {
    compute: Box<dyn Compute>,
    rotary: Rotary,
    pages: Pages,
    memory: Memory,
    limits: Limits,
    active: Vec<Row>,
    waiting: VecDeque<Row>,
    stats: EngineStats,
}

impl Scheduler {
    pub(crate) fn new(compute: Box<dyn Compute>, limits: Limits) -> Self {
        let blocks = limits.cache.div_ceil(BLOCK).max(1);
        let config = compute.config();
        let rotary = Rotary::new(config.rope.clone(), config.head_dim);
        let (pages, memory) = (Pages::new(blocks), Memory::new((REMEMBERED_TOKENS / BLOCK).min(blocks / 4)));
        let (active, waiting, stats) = (Vec::new(), VecDeque::new(), EngineStats::default());
        Self { compute, rotary, pages, memory, limits, active, waiting, stats }
    }

    pub(crate) fn stats(&self) -> EngineStats {
        let limited = self.pages.is_short().then(|| self.pages.limit() * BLOCK);
        EngineStats { peak_cache_tokens: self.pages.peak() * BLOCK, cache_limited_to: limited, ..self.stats }
    }

    /// Runs all rows that there are to the end.
    ///
    /// # Errors
    /// Only when nothing can be computed any more; what is wrong with a row is told with it.
    pub(crate) fn run(&mut self, rows: &mut dyn Rows) -> Result<(), LlamaError> {
        let ended = self.run_all(rows);
        for mut row in self.active.drain(..).chain(self.waiting.drain(..)) {
            self.pages.release(&mut row.blocks);
        }
        ended
    }

    fn run_all(&mut self, rows: &mut dyn Rows) -> Result<(), LlamaError> {
        loop {
            self.fill(rows);
            self.admit()?;
            self.settle(rows);
            if self.active.is_empty() && self.waiting.is_empty() {
                match rows.next() {
                    Some(row) => self.wait(row),
                    None => return Ok(()),
                }
                continue;
            }
            let plan = self.plan()?;
            if !plan.is_empty()
                && let Err(error) = self.step(&plan)
            {
                self.shrink(error)?;
            }
            self.settle(rows);
        }
    }

    /// Takes rows from the outside, so that there is a choice among the next.
    fn fill(&mut self, rows: &mut dyn Rows) {
        while self.waiting.len() < self.limits.texts {
            match rows.next() {
                Some(row) => self.wait(row),
                None => return,
            }
        }
    }

    fn wait(&mut self, mut row: Row) {
        let config = self.compute.config();
        if let Err(error) = check_tokens(config, &row.tokens) {
            row.failed = Some(error);
        } else if row.prompt > self.limits.text {
            row.failed = Some(LlamaError::ContextOverflow { tokens: row.prompt, limit: self.limits.text });
            if row.prompt <= config.max_positions {
                let (texts, _) = self.stats.refused_for_memory.unwrap_or_default();
                self.stats.refused_for_memory = Some((texts + 1, self.limits.text));
            }
        }
        row.angles = self.rotary.key(row.prompt);
        row.start();
        self.waiting.push_back(row);
    }

    /// Lets waiting rows in, but for those that had better wait for what others compute.
    fn admit(&mut self) -> Result<(), LlamaError> {
        let mut place = 0;
        while place < self.waiting.len() && self.active.len() < self.limits.texts {
            let row = &self.waiting[place];
            if row.is_over() {
                let row = self.waiting.remove(place).expect("the place is within");
                self.active.push(row);
                continue;
            }
            if self.awaits_another(row) {
                place += 1;
                continue;
            }
            let needed = row.target().div_ceil(BLOCK) + self.active.len();
            while self.pages.available() < needed && self.memory.forget(&mut self.pages) {}
            if self.pages.available() < needed && !self.active.is_empty() {
                return Ok(());
            }
            let mut row = self.waiting.remove(place).expect("the place is within");
            row.look_at_the_clock();
            self.share(&mut row)?;
            self.active.push(row);
        }
        Ok(())
    }

    /// Whether an active row is about to compute much of what this one begins with.
    fn awaits_another(&self, row: &Row) -> bool {
        let useful = |other: &Row| {
            let shared = common(&other.tokens, &row.tokens).min(row.most_shared()).min(other.prompt);
            other.angles == row.angles && shared > other.computed + BLOCK
        };
        self.active.iter().any(useful)
    }

    /// Lets a row hold the blocks of the text that begins most alike.
    fn share(&mut self, row: &mut Row) -> Result<(), LlamaError> {
        let most = row.most_shared();
        let active = self.active.iter().filter(|other| other.angles == row.angles);
        let active = active.map(|other| (common(&other.tokens[..other.computed], &row.tokens), &other.blocks));
        let (active, blocks) = active.max_by_key(|(shared, _)| *shared).map_or((0, &[][..]), |(n, own)| (n, own));
        let (known, known_blocks) = self.memory.longest(&row.tokens, row.angles);
        let (shared, blocks) = if known > active { (known, known_blocks) } else { (active, blocks) };
        let shared = shared.min(most);
        let whole = shared / BLOCK;
        row.blocks.extend(&blocks[..whole]);
        row.blocks.iter().for_each(|block| self.pages.hold(*block));
        row.computed = whole * BLOCK;
        if !shared.is_multiple_of(BLOCK) {
            let from = blocks[whole];
            if let Some(own) = self.pages.take(self.compute.as_mut())? {
                self.compute.copy_block(from, own)?;
                row.blocks.push(own);
                row.computed = shared;
            }
        }
        self.stats.shared_tokens += row.computed as u64;
        Ok(())
    }

    /// Which rows compute which of their positions next: single tokens of answers first, then prompts.
    fn plan(&mut self) -> Result<Vec<(usize, Range<usize>)>, LlamaError> {
        let mut order: Vec<u64> = self.active.iter().filter(|row| row.pending() == 1).map(|row| row.ticket).collect();
        order.extend(self.active.iter().filter(|row| row.pending() != 1).map(|row| row.ticket));
        let (mut plan, mut left): (Vec<u64>, _) = (Vec::new(), STEP_ROWS);
        for ticket in order {
            let Some(place) = self.place(ticket) else { continue };
            let count = self.active[place].pending().min(left);
            if count > 0 && self.make_room(ticket, self.active[place].computed + count, &plan)? {
                plan.push(ticket);
                left -= count;
            }
        }
        let mut left = STEP_ROWS;
        let range = |ticket: u64| {
            let place = self.place(ticket)?;
            let row = &self.active[place];
            let count = row.pending().min(left);
            left -= count;
            Some((place, row.computed..row.computed + count))
        };
        Ok(plan.into_iter().filter_map(range).collect())
    }

    fn place(&self, ticket: u64) -> Option<usize> {
        self.active.iter().position(|row| row.ticket == ticket)
    }

    /// Gives a row blocks for its first `tokens` positions, if need be those of remembered texts, then those of the
    /// youngest other row that is not yet planned.
    fn make_room(&mut self, ticket: u64, tokens: usize, planned: &[u64]) -> Result<bool, LlamaError> {
        loop {
            let Some(place) = self.place(ticket) else { return Ok(false) };
            if self.active[place].blocks.len() * BLOCK >= tokens {
                return Ok(true);
            }
            if tokens <= self.limits.text
                && let Some(block) = self.pages.take(self.compute.as_mut())?
            {
                self.active[place].blocks.push(block);
            } else if tokens > self.limits.text
                || (!self.memory.forget(&mut self.pages) && !self.restart(ticket, planned))
            {
                if tokens > self.limits.text || planned.is_empty() {
                    self.active[place].overflow(tokens, self.pages.limit() * BLOCK);
                }
                return Ok(false);
            }
        }
    }

    /// Sends the youngest row that is neither this one nor planned back to wait.
    fn restart(&mut self, ticket: u64, planned: &[u64]) -> bool {
        let free = |row: &&Row| row.ticket != ticket && !row.blocks.is_empty() && !planned.contains(&row.ticket);
        let Some(youngest) = self.active.iter().filter(free).map(|row| row.ticket).max() else { return false };
        let Some(place) = self.place(youngest) else { return false };
        let mut row = self.active.remove(place);
        self.pages.release(&mut row.blocks);
        row.start_anew();
        self.waiting.push_front(row);
        self.stats.restarted += 1;
        true
    }

    /// Computes the planned positions and tells the rows their logits.
    fn step(&mut self, plan: &[(usize, Range<usize>)]) -> Result<(), LlamaError> {
        let (mut step, mut wanted) = (Step::default(), Vec::new());
        self.active.iter_mut().for_each(|row| row.heard = 0..0);
        for (place, positions) in plan {
            let row = &mut self.active[*place];
            let first = step.tokens.len();
            let span = Span { blocks: row.blocks.clone(), start: positions.start, len: positions.len() };
            let inverse = |position: usize| self.rotary.frequencies(row.length_at(position));
            step.push(span, &row.tokens[positions.clone()], inverse, self.rotary.scale());
            let asked = row.wanted(positions);
            row.heard = wanted.len()..wanted.len() + asked.len();
            row.heard_from = asked.start;
            wanted.extend(asked.map(|position| first + position - positions.start));
        }
        self.stats.steps += 1;
        self.stats.computed_tokens += step.tokens.len() as u64;
        let (active, vocab) = (&mut self.active, self.compute.config().vocab_size);
        self.compute.run(&step, &wanted, &mut |first, logits| {
            active.par_iter_mut().for_each(|row| row.hear(first, logits, vocab));
        })?;
        for (place, positions) in plan {
            self.active[*place].computed = positions.end;
        }
        Ok(())
    }

    /// Goes on with half of the rows where the device had no memory for a step.
    fn shrink(&mut self, error: LlamaError) -> Result<(), LlamaError> {
        if !matches!(error, LlamaError::OutOfMemory { .. }) || self.active.len() < 2 {
            return Err(error);
        }
        self.limits.texts = self.active.len() / 2;
        self.stats.texts_limited_to = Some(self.limits.texts);
        for mut row in self.active.split_off(self.limits.texts).into_iter().rev() {
            self.pages.release(&mut row.blocks);
            row.start_anew();
            self.waiting.push_front(row);
        }
        Ok(())
    }

    /// Gives away the rows that are done.
    fn settle(&mut self, rows: &mut dyn Rows) {
        let mut place = 0;
        while place < self.active.len() {
            if !self.active[place].is_over() {
                place += 1;
                continue;
            }
            let mut row = self.active.remove(place);
            let kept = row.computed.min(row.most_shared());
            let known = self.memory.longest(&row.tokens[..kept], row.angles).0;
            let mut blocks = std::mem::take(&mut row.blocks);
            if row.failed.is_none() && known < kept {
                let mut spare = blocks.split_off(kept.div_ceil(BLOCK));
                self.pages.release(&mut spare);
                self.memory.keep(row.tokens[..kept].to_vec(), blocks, row.angles, &mut self.pages);
            } else {
                self.pages.release(&mut blocks);
            }
            rows.done(row);
        }
    }
}
