//! Texts as sentences of word numbers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use crate::python;

/// The vocabulary of the texts that are compared with each other.
#[derive(Default)]
pub(crate) struct Words<'a> {
    numbers: HashMap<&'a str, u32, BuildHasherDefault<WordHasher>>,
    /// By word: the last text that had it.
    seen_in: Vec<u32>,
    texts: u32,
}

/// A text.
pub(crate) struct Text {
    words: Vec<u32>,
    sentences: Vec<Range<usize>>,
    /// Number of distinct words.
    pub(super) unique: usize,
    /// All its word numbers are below this one.
    pub(super) vocabulary: usize,
}

impl<'a> Words<'a> {
    /// Pieces between dots. A piece of length 0 is dropped; a blank one is a sentence of the empty word.
    pub(crate) fn text(&mut self, text: &'a str) -> Text {
        self.texts += 1;
        self.numbers.reserve(text.len() / LETTERS);
        let mut split = Text { words: Vec::new(), sentences: Vec::new(), unique: 0, vocabulary: 0 };
        for piece in text.split('.').filter(|piece| !piece.is_empty()) {
            let start = split.words.len();
            python::split(piece).for_each(|word| self.push(word, &mut split));
            if split.words.len() == start {
                self.push("", &mut split);
            }
            split.sentences.push(start..split.words.len());
        }
        split.vocabulary = self.seen_in.len();
        split
    }

    fn push(&mut self, word: &'a str, text: &mut Text) {
        let next = self.seen_in.len() as u32;
        let number = *self.numbers.entry(word).or_insert(next);
        if number == next {
            self.seen_in.push(0);
        }
        let seen = std::mem::replace(&mut self.seen_in[number as usize], self.texts);
        text.unique += usize::from(seen != self.texts);
        text.words.push(number);
    }
}

impl Text {
    pub(super) fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    pub(super) fn sentences(&self) -> impl Iterator<Item = &[u32]> {
        self.sentences.iter().map(|sentence| &self.words[sentence.clone()])
    }
}

/// A hash for short words, several times as fast as the standard one.
#[derive(Default)]
struct WordHasher(u64);

/// Letters of a text per word that is new, as a guess.
const LETTERS: usize = 12;

/// The golden ratio's fraction: odd, its bits in no pattern.
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

impl WordHasher {
    fn mix(&mut self, word: u64) {
        let mixed = u128::from(self.0 ^ word) * u128::from(MIXER);
        self.0 = (mixed >> 64) as u64 ^ mixed as u64;
    }
}

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks();
        chunks.iter().for_each(|chunk| self.mix(u64::from_le_bytes(*chunk)));
        self.mix(rest.iter().fold(1, |word, byte| word << 8 | u64::from(*byte)));
    }

    /// The mark after a string, which the 1 in front of its last bytes makes needless.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
