//! Which rotary frequencies a token is turned by.

use std::borrow::Cow;

use crate::config::Rope;

/// The rotary frequencies of a model.
pub(crate) struct Rotary {
    rope: Rope,
    head_dim: usize,
    /// Those of a text that the context holds.
    usual: Vec<f32>,
}

impl Rotary {
    pub(crate) fn new(rope: Rope, head_dim: usize) -> Self {
        let usual = rope.inverse_frequencies(head_dim);
        Self { rope, head_dim, usual }
    }

    /// The `head_dim / 2` inverse frequencies for a token that is computed while its text has `length` tokens.
    pub(crate) fn frequencies(&self, length: usize) -> Cow<'_, [f32]> {
        if length > self.rope.steady_length() {
            Cow::Owned(self.rope.inverse_frequencies_at(self.head_dim, length))
        } else {
            Cow::Borrowed(&self.usual)
        }
    }

    /// Tells apart prompts of which the same beginning is turned by different angles.
    pub(crate) fn key(&self, prompt: usize) -> usize {
        if prompt > self.rope.steady_length() { prompt } else { 0 }
    }

    /// What cosines and sines are multiplied by.
    pub(crate) fn scale(&self) -> f32 {
        self.rope.attention_factor()
    }
}
