//! Answers that can only be certain lines: a token-level grammar over the bytes of the tokens.
//!
//! A token fits when all its bytes do, wherever it begins and ends: it may end a line and begin the next, and no way of cutting a text into
//! tokens is preferred over another.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::work::Grammar;

/// The bytes of every ordinary token, in order.
pub(crate) struct Vocabulary {
    sorted: Vec<(Box<[u8]>, u32)>,
    bytes: HashMap<u32, usize>,
}

impl Vocabulary {
    /// Reads the tokens of a tokenizer; special ones stand for no text.
    pub(crate) fn new(tokenizer: &Tokenizer) -> Self {
        let decoder = tokenizer.get_decoder().and_then(|decoder| serde_json::to_string(decoder).ok());
        let letters = decoder.is_some_and(|decoder| decoder.contains("\"ByteLevel\"")).then(letters);
        let added = tokenizer.get_added_tokens_decoder();
        let text = |token: &str| match &letters {
            Some(letters) => token.chars().map(|letter| letters.get(&letter).copied()).collect(),
            None => Some(piece(token)),
        };
        let bytes = |token: String, id: u32| match added.get(&id) {
            Some(added) if added.special => None,
            Some(added) => Some(added.content.clone().into_bytes()),
            None => text(&token),
        };
        let all = tokenizer.get_vocab(true).into_iter();
        let all = all.filter_map(|(token, id)| Some((bytes(token, id)?.into_boxed_slice(), id)));
        let mut sorted: Vec<_> = all.filter(|(bytes, _)| !bytes.is_empty()).collect();
        sorted.sort_unstable();
        let bytes = sorted.iter().enumerate().map(|(place, (_, id))| (*id, place)).collect();
        Self { sorted, bytes }
    }

    /// What a token stands for; nothing for a special one.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(&token).map_or(&[], |place| &self.sorted[*place].0)
    }

    /// The tokens among `range` that have this byte at `depth`.
    fn with_byte(&self, range: Range<usize>, depth: usize, byte: u8) -> Range<usize> {
        let tokens = &self.sorted[range.clone()];
        let at = |token: &(Box<[u8]>, u32)| token.0.get(depth).map_or(-1, |byte| i32::from(*byte));
        let first = tokens.partition_point(|token| at(token) < i32::from(byte));
        let end = tokens.partition_point(|token| at(token) <= i32::from(byte));
        range.start + first..range.start + end
    }
}

/// The byte-level alphabet: which byte a letter stands for.
fn letters() -> HashMap<char, u8> {
    let mut beyond = 256;
    let letter = |byte: u8| {
        let own = char::from(byte);
        if matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) {
            return (own, byte);
        }
        let letter = char::from_u32(beyond).expect("324 is the largest");
        beyond += 1;
        (letter, byte)
    };
    let letters: HashMap<char, u8> = (0..=255).map(letter).collect();
    debug_assert!(ByteLevel::alphabet().iter().all(|letter| letters.contains_key(letter)));
    letters
}

/// A piece of a sentencepiece vocabulary: `▁` is a space, `<0x0A>` a byte.
fn piece(token: &str) -> Vec<u8> {
    let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match byte.filter(|digits| digits.len() == 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
        Some(byte) => vec![byte],
        None => token.replace('▁', " ").into_bytes(),
    }
}

/// An answer of some of the given lines, each at most once and in any order.
pub(crate) struct Lines {
    vocabulary: Arc<Vocabulary>,
    stops: Vec<u32>,
    choices: Vec<Vec<u8>>,
    least: usize,
    most: usize,
    at: Place,
}

/// How far the answer is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    /// Lines that are complete.
    used: Vec<usize>,
    /// The line that is being written.
    line: Vec<u8>,
}

impl Lines {
    /// Between `least` and `most` of `choices`, which hold no newline; empty ones and repeats do not count. The model ends the answer with
    /// one of `stops`.
    pub(crate) fn new(
        vocabulary: Arc<Vocabulary>,
        stops: Vec<u32>,
        choices: &[&str],
        least: usize,
        most: usize,
    ) -> Self {
        let mut distinct: Vec<Vec<u8>> = Vec::new();
        for choice in choices.iter().filter(|choice| !choice.is_empty() && !choice.contains('\n')) {
            if !distinct.iter().any(|known| known == choice.as_bytes()) {
                distinct.push(choice.as_bytes().to_vec());
            }
        }
        let most = most.min(distinct.len());
        Self { vocabulary, stops, least: least.min(most), most, choices: distinct, at: Place::default() }
    }

    /// The lines that can still become this one.
    fn candidates<'a>(&'a self, at: &'a Place) -> impl Iterator<Item = usize> + 'a {
        let open = at.used.len() < self.most;
        let fits =
            move |choice: &usize| open && !at.used.contains(choice) && self.choices[*choice].starts_with(&at.line);
        (0..self.choices.len()).filter(fits)
    }

    fn complete(&self, at: &Place) -> Option<usize> {
        self.candidates(at).find(|choice| self.choices[*choice].len() == at.line.len())
    }

    /// Whether the answer may end here: at the start of a line, or behind a whole one.
    fn may_end(&self, at: &Place) -> bool {
        match at.line.is_empty() {
            true => at.used.len() >= self.least,
            false => self.complete(at).is_some() && at.used.len() + 1 >= self.least,
        }
    }

    fn next(&self, at: &Place, byte: u8) -> Option<Place> {
        let mut next = at.clone();
        if byte == b'\n' {
            // Behind the last line there is nothing to begin.
            let choice = self.complete(at).filter(|_| !at.line.is_empty() && at.used.len() + 1 < self.most)?;
            next.used.push(choice);
            next.line.clear();
            return Some(next);
        }
        next.line.push(byte);
        let fits = self.candidates(&next).next().is_some();
        fits.then_some(next)
    }

    /// Bytes that may follow.
    fn following(&self, at: &Place) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            self.candidates(at).filter_map(|choice| self.choices[choice].get(at.line.len()).copied()).collect();
        if self.next(at, b'\n').is_some() {
            bytes.push(b'\n');
        }
        bytes.sort_unstable();
        bytes.dedup();
        bytes
    }

    /// Adds the tokens of `range`, which are alike up to `depth` where the answer is `at`, that fit.
    fn collect(&self, range: Range<usize>, depth: usize, at: &Place, found: &mut Vec<u32>) {
        let tokens = &self.vocabulary.sorted[range.clone()];
        found.extend(tokens.iter().take_while(|token| token.0.len() == depth && depth > 0).map(|token| token.1));
        for byte in self.following(at) {
            let narrower = self.vocabulary.with_byte(range.clone(), depth, byte);
            if let Some(next) = self.next(at, byte).filter(|_| !narrower.is_empty()) {
                self.collect(narrower, depth + 1, &next, found);
            }
        }
    }
}

impl Grammar for Lines {
    fn allowed(&mut self) -> Vec<u32> {
        let mut found = Vec::new();
        self.collect(0..self.vocabulary.sorted.len(), 0, &self.at, &mut found);
        if self.may_end(&self.at) && !found.is_empty() {
            found.extend(&self.stops);
        }
        found
    }

    fn accept(&mut self, token: u32) {
        let vocabulary = Arc::clone(&self.vocabulary);
        for byte in vocabulary.bytes(token) {
            if let Some(next) = self.next(&self.at, *byte) {
                self.at = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{TinyLlama, write_tiny_llama};

    fn vocabulary() -> (Tokenizer, Arc<Vocabulary>) {
        let dir = tempfile::tempdir().unwrap();
        write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
        let tokenizer = Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
        let vocabulary = Arc::new(Vocabulary::new(&tokenizer));
        (tokenizer, vocabulary)
    }

    const STOP: u32 = 2;

    /// Answers as some model would that likes the tokens of `choose`, in turn.
    fn answer(vocabulary: &Arc<Vocabulary>, choices: &[&str], least: usize, most: usize, choose: &[usize]) -> String {
        let mut grammar = Lines::new(vocabulary.clone(), vec![STOP], choices, least, most);
        let mut bytes = Vec::new();
        for step in 0..10_000 {
            let allowed = grammar.allowed();
            if allowed.is_empty() {
                break;
            }
            let token = allowed[choose[step % choose.len()] % allowed.len()];
            if token == STOP {
                break;
            }
            bytes.extend(vocabulary.bytes(token));
            grammar.accept(token);
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn tokens_stand_for_their_bytes() {
        let (tokenizer, vocabulary) = vocabulary();
        let text = "The committee's\n naïve 🙂\t\u{0}";
        let encoded = tokenizer.encode(text, false).unwrap();
        let bytes: Vec<u8> = encoded.get_ids().iter().flat_map(|id| vocabulary.bytes(*id).to_vec()).collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), text);
        assert_eq!(vocabulary.bytes(STOP), b"", "special tokens stand for no text");
        assert_eq!(piece("▁The"), b" The");
        assert_eq!((piece("<0x0A>"), piece("<0x>")), (vec![b'\n'], b"<0x>".to_vec()));
    }

    #[test]
    fn a_token_may_reach_over_any_border_but_never_off_the_lines() {
        let (tokenizer, vocabulary) = vocabulary();
        let id = |text: &str| tokenizer.token_to_id(text).unwrap();
        let mut grammar = Lines::new(vocabulary.clone(), vec![STOP], &["then", "there is"], 0, 2);
        let first = grammar.allowed();
        for (token, fits) in [("t", true), ("th", true), ("the", true), ("to", false), ("he", false), ("Ġ", false)] {
            assert_eq!(first.contains(&id(token)), fits, "{token}");
        }
        assert!(first.contains(&STOP), "no line at all is an answer");
        grammar.accept(id("the"));
        let next = grammar.allowed();
        assert!(next.contains(&id("n")) && next.contains(&id("re")) && !next.contains(&STOP), "{next:?}");
        grammar.accept(id("n"));
        assert!(grammar.allowed().contains(&STOP), "a whole line is an answer");
        grammar.accept(id("Ċ"));
        grammar.accept(id("the"));
        assert!(!grammar.allowed().contains(&id("n")), "each line once");
    }

    #[test]
    fn one_of_several_ends_by_itself() {
        let (_, vocabulary) = vocabulary();
        for pick in 0..5 {
            let text = answer(&vocabulary, &["Response: 0.5", "Response: 1.0"], 1, 1, &[pick]);
            assert!(["Response: 0.5", "Response: 1.0"].contains(&text.as_str()), "{text:?}");
        }
        assert_eq!(answer(&vocabulary, &[], 0, 5, &[0]), "");
    }

    proptest! {
        #[test]
        fn an_answer_is_always_some_of_the_lines(
            choices in prop::collection::vec("[a-z .é🙂]{0,12}", 0..6),
            choose in prop::collection::vec(0_usize..1000, 1..40),
            least in 0_usize..3,
        ) {
            let (_, vocabulary) = vocabulary();
            let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
            let text = answer(&vocabulary, &choices, least, usize::MAX, &choose);
            let lines: Vec<&str> = text.split('\n').filter(|line| !line.is_empty()).collect();
            prop_assert!(lines.iter().all(|line| choices.contains(line)), "{text:?}");
            let mut distinct = lines.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), lines.len());
            let possible = choices.iter().filter(|choice| !choice.is_empty()).collect::<std::collections::BTreeSet<_>>().len();
            prop_assert!(lines.len() >= least.min(possible));
        }
    }
}
