//! Sentence embeddings for the relevance reward.

use std::cell::RefCell;
use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// Name of the model that the validator embeds with (`deval/rewards/relevance.py`, through AnglE, CLS pooling, 512 tokens).
pub const VALIDATOR_EMBEDDER: &str = "WhereIsAI/UAE-Large-V1";

/// Turns a text into a vector; all vectors of one embedder have the same length.
pub trait Embed {
    /// The embedding, or what went wrong.
    fn embed(&self, text: &str) -> Result<Vec<f32>, String>;
    /// Which model this is; anything but [`VALIDATOR_EMBEDDER`] makes summary rewards an estimate.
    fn name(&self) -> &str;
}

/// Embeds every text once.
pub struct Memo<'a> {
    inner: &'a dyn Embed,
    known: RefCell<HashMap<String, Vec<f32>>>,
}

impl<'a> Memo<'a> {
    /// A memo in front of `inner`.
    pub fn new(inner: &'a dyn Embed) -> Self {
        Self { inner, known: RefCell::default() }
    }
}

impl Embed for Memo<'_> {
    fn embed(&self, text: &str) -> Result<Vec<f32>, String> {
        if let Some(vector) = self.known.borrow().get(text) {
            return Ok(vector.clone());
        }
        let vector = self.inner.embed(text)?;
        self.known.borrow_mut().insert(text.to_owned(), vector.clone());
        Ok(vector)
    }

    fn name(&self) -> &str {
        self.inner.name()
    }
}

/// A stand-in that needs no model: counts of lower-cased words, hashed into [`HashedWords::WIDTH`] signed buckets beside one constant
/// that plays the part of the real model's similarity to the empty text. It exercises the code path; its numbers mean little.
#[derive(Debug, Clone, Copy, Default)]
pub struct HashedWords;

impl HashedWords {
    /// Number of buckets, the constant included.
    pub const WIDTH: usize = 257;
}

impl Embed for HashedWords {
    fn embed(&self, text: &str) -> Result<Vec<f32>, String> {
        let mut vector = vec![0.0; Self::WIDTH];
        vector[0] = 2.0;
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        for word in words {
            let hash = Sha256::digest(word.to_lowercase());
            vector[1 + usize::from(hash[0])] += if hash[1] % 2 == 0 { 1.0 } else { -1.0 };
        }
        Ok(vector)
    }

    fn name(&self) -> &str {
        "hashed words (no model)"
    }
}

/// Cosine similarity as torch computes it: each norm at least 1e-8, so a zero vector is similar to nothing.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a).sqrt().max(1e-8) * dot(b, b).sqrt().max(1e-8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_of_a_zero_vector_is_zero() {
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 2.0]), 0.0);
        assert!((cosine(&[1.0, 2.0], &[2.0, 4.0]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_memo_asks_once() {
        struct Counting(RefCell<usize>);
        impl Embed for Counting {
            fn embed(&self, _: &str) -> Result<Vec<f32>, String> {
                *self.0.borrow_mut() += 1;
                Ok(vec![1.0])
            }
            fn name(&self) -> &str {
                "counting"
            }
        }
        let counting = Counting(RefCell::new(0));
        let memo = Memo::new(&counting);
        for text in ["a", "a", "b", "a"] {
            memo.embed(text).unwrap();
        }
        assert_eq!((*counting.0.borrow(), memo.name()), (2, "counting"));
    }

    #[test]
    fn shared_words_make_hashed_texts_similar() {
        let [a, b, c] = ["The engine was moved.", "the ENGINE moved", "Quarterly figures rose"]
            .map(|t| HashedWords.embed(t).unwrap());
        assert!(cosine(&a, &b) > cosine(&a, &c) + 0.2);
    }
}
