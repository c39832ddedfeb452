//! What goes through the layers together, whatever computes it.

use std::borrow::Cow;

/// Positions of a block of the key/value cache.
pub(crate) const BLOCK: usize = 16;

/// Consecutive tokens of one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// Blocks of the cache that hold the sequence's positions, [`BLOCK`] of them each.
    pub(crate) blocks: Vec<u32>,
    /// Position of the first token.
    pub(crate) start: usize,
    /// Number of tokens.
    pub(crate) len: usize,
}

impl Span {
    /// Block and place in it of a position.
    pub(crate) fn place(&self, position: usize) -> (u32, usize) {
        (self.blocks[position / BLOCK], position % BLOCK)
    }
}

/// Rows of tokens, each with a position of its own. Each row sees the positions of its sequence up to its own: those
/// that the cache holds, and those of the same step.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// The tokens of all spans, one after the other.
    pub(crate) tokens: Vec<u32>,
    /// Whose they are.
    pub(crate) spans: Vec<Span>,
    /// Rotary angles of each row, `head_dim / 2` cosines.
    pub(crate) cos: Vec<f32>,
    /// As many sines.
    pub(crate) sin: Vec<f32>,
}

impl Step {
    /// Adds tokens of a sequence, each turned by the rotary frequencies of its position; its cosines and sines are
    /// multiplied by `scale`.
    pub(crate) fn push<'a>(
        &mut self,
        span: Span,
        tokens: &[u32],
        frequencies: impl Fn(usize) -> Cow<'a, [f32]>,
        scale: f32,
    ) {
        for position in span.start..span.start + span.len {
            for frequency in frequencies(position).iter() {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                self.cos.push(cos * scale);
                self.sin.push(sin * scale);
            }
        }
        self.tokens.extend(tokens);
        self.spans.push(span);
    }

    /// Number of the first row of each span.
    pub(crate) fn first_rows(&self) -> impl Iterator<Item = (usize, &Span)> {
        self.spans.iter().scan(0, |next, span| {
            let first = *next;
            *next += span.len;
            Some((first, span))
        })
    }
}

/// The shape of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) queries: usize,
    /// Key and value heads; divides `queries`.
    pub(crate) keys: usize,
    /// Width of one head.
    pub(crate) dim: usize,
    /// How many positions a token sees, itself included; all where absent.
    pub(crate) window: Option<usize>,
}

impl Heads {
    /// Query heads of a key head.
    pub(crate) fn group(&self) -> usize {
        self.queries / self.keys
    }

    /// First position that the token at `position` sees.
    pub(crate) fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}
