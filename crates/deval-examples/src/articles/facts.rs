//! Facts in a sentence that can be swapped for others of their kind: numbers, months and names.

use std::collections::BTreeMap;
use std::ops::Range;

use deval_eval::Dice;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Capitalised words that name nothing.
const NO_NAMES: [&str; 24] = [
    "A", "After", "Although", "An", "As", "At", "Before", "But", "By", "For", "From", "He", "I", "In", "It", "On",
    "She", "The", "These", "They", "This", "When", "While", "With",
];

/// What a fact may be swapped for: another one of equal kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Digits, maybe with points and commas; years are those of four digits.
    Number {
        /// How many digits.
        digits: usize,
        /// Whether points or commas stand between them.
        is_parted: bool,
    },
    /// A month.
    Month,
    /// Capitalised words.
    Name {
        /// How many, up to three.
        words: usize,
    },
}

/// A fact and where it stands in its sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) kind: Kind,
    pub(super) place: Range<usize>,
}

/// The facts of a sentence in order. Its first word is no name, for any word may be capitalised there.
pub(super) fn facts(sentence: &str) -> Vec<Fact> {
    let mut facts: Vec<Fact> = Vec::new();
    let mut is_first = true;
    for place in words(sentence) {
        let is_opening = std::mem::replace(&mut is_first, false);
        let Some(kind) =
            kind(&sentence[place.clone()]).filter(|kind| !is_opening || !matches!(kind, Kind::Name { .. }))
        else {
            continue;
        };
        match (kind, facts.last_mut()) {
            (Kind::Name { .. }, Some(Fact { kind: Kind::Name { words }, place: before }))
                if *words < 3 && &sentence[before.end..place.start] == " " =>
            {
                *words += 1;
                before.end = place.end;
            }
            _ => facts.push(Fact { kind, place }),
        }
    }
    facts
}

/// Places of words without the punctuation around them.
fn words(sentence: &str) -> impl Iterator<Item = Range<usize>> {
    let base = sentence.as_ptr() as usize;
    sentence.split(|c: char| c.is_whitespace() || "–—/-".contains(c)).filter_map(move |word| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        let start = word.as_ptr() as usize - base;
        (!word.is_empty()).then_some(start..start + word.len())
    })
}

fn kind(word: &str) -> Option<Kind> {
    if word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b',') {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        return Some(Kind::Number { digits, is_parted: digits < word.len() });
    }
    if MONTHS.contains(&word) {
        return Some(Kind::Month);
    }
    let is_name = word.len() >= 3
        && word.starts_with(char::is_uppercase)
        && word.chars().skip(1).all(|c| c.is_lowercase() || c == '\'' || c == '’')
        && !NO_NAMES.contains(&word);
    is_name.then_some(Kind::Name { words: 1 })
}

/// Everything that an article says by kind, each value once.
pub(super) struct Pool(BTreeMap<Kind, Vec<String>>);

impl Pool {
    pub(super) fn new<'a>(sentences: impl IntoIterator<Item = &'a str>) -> Self {
        let mut pool: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
        for sentence in sentences {
            for Fact { kind, place } in facts(sentence) {
                pool.entry(kind).or_default().push(sentence[place].to_owned());
            }
        }
        pool.values_mut().for_each(|values| {
            values.sort_unstable();
            values.dedup();
        });
        Self(pool)
    }

    /// The sentence with one fact swapped for another that it does not hold; `None` where the article has none.
    pub(super) fn swapped(&self, dice: &mut Dice, sentence: &str) -> Option<String> {
        let facts = facts(sentence);
        for place in dice.sample(facts.len(), facts.len()) {
            let Fact { kind, place } = &facts[place];
            let others = self.0.get(kind).into_iter().flatten().filter(|other| !sentence.contains(other.as_str()));
            let others: Vec<&String> = others.collect();
            if !others.is_empty() {
                let other = dice.pick(&others);
                return Some(format!("{}{other}{}", &sentence[..place.start], &sentence[place.end..]));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_and_swapped_for_their_own_kind() {
        let sentence = "Built in May 1890, the Great Minster of Ulm rose 161.53 metres.";
        let found: Vec<_> = facts(sentence).into_iter().map(|fact| &sentence[fact.place]).collect();
        assert_eq!(found, ["May", "1890", "Great Minster", "Ulm", "161.53"]);
        let pool = Pool::new([sentence, "It burnt in June 1531 near Neu Castle."]);
        for seed in 0..20 {
            let swapped = pool.swapped(&mut Dice::new(seed, 0), sentence).unwrap();
            let is_one =
                ["June 1890", "May 1531", "the Neu Castle of"].iter().filter(|new| swapped.contains(*new)).count();
            assert_eq!(is_one, 1, "{swapped}");
        }
        assert_eq!(pool.swapped(&mut Dice::new(0, 0), "Nothing is here."), None);
    }
}
