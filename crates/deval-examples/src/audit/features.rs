//! Surface cues: what can be counted without reading.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use deval_eval::baseline::{content_words, coverage};
use deval_eval::{Example, Task};

/// Buckets for words.
pub(super) const BUCKETS: usize = 1 << 13;

/// One thing to tell: a claim, an answer to a query, a summary.
#[derive(Debug)]
pub(super) struct Row {
    /// Place of its example.
    pub(super) example: usize,
    /// Buckets of its words.
    pub(super) words: Vec<usize>,
    /// Overlaps, lengths, places.
    pub(super) counts: Vec<f64>,
    /// What is to be told, 0 to 1: truth, relevance, the reference of a summary.
    pub(super) target: f64,
}

/// A row for each labelled claim, or for each example where there are none.
pub(super) fn rows(task: Task, examples: &[&Example]) -> Vec<Row> {
    let of = |(place, example): (usize, &&Example)| match task {
        Task::Relevancy => vec![relevancy(place, example)],
        Task::SummaryCompleteness => vec![summary(place, example)],
        Task::Hallucination | Task::Attribution => claims(place, example),
    };
    examples.iter().enumerate().flat_map(of).collect()
}

/// The claims of an example, the false ones first, as [`rows`] orders them.
pub(super) fn labelled_claims(example: &Example) -> impl Iterator<Item = (&String, bool)> {
    let with = |truth: bool| move |claim| (claim, truth);
    let mistakes = example.reference_mistakes.iter().map(with(false));
    mistakes.chain(example.reference_true_values.iter().map(with(true)))
}

fn claims(place: usize, example: &Example) -> Vec<Row> {
    let context = Text::new(&example.rag_context);
    let response = example.llm_response.as_str();
    let row = |(claim, truth): (&String, bool)| {
        let (words, sequence) = (content_words(claim), sequence(claim));
        let (best, sentence) = context.best(&context.sentences, &words);
        let position = response.find(claim.as_str()).unwrap_or(0) as f64 / response.len().max(1) as f64;
        let counts = vec![
            coverage(&words, &context.words),
            context.best(&context.lines, &words).0,
            best,
            longest_common(&sequence, &context.sequence),
            sentence.map_or(0.0, |sentence| longest_common(&sequence, &sentence.sequence)),
            sequence.len() as f64,
            position,
        ];
        Row { example: place, words: buckets(claim), counts, target: f64::from(u8::from(truth)) }
    };
    labelled_claims(example).map(row).collect()
}

fn relevancy(place: usize, example: &Example) -> Row {
    let [query, response, context] =
        [&example.query, &example.llm_response, &example.rag_context].map(|text| content_words(text));
    let (asked, told) = (sequence(&example.query), sequence(&example.llm_response));
    let counts = vec![
        coverage(&query, &response),
        coverage(&response, &query),
        coverage(&response, &context),
        longest_common(&asked, &told),
        (told.len() as f64).ln_1p(),
        (asked.len() as f64).ln_1p(),
    ];
    Row { example: place, words: buckets(&example.llm_response), counts, target: example.reference }
}

fn summary(place: usize, example: &Example) -> Row {
    let (context, response) = (Text::new(&example.rag_context), Text::new(&example.llm_response));
    let lines = context.lines.iter().map(|line| response.best_of_sentences(line));
    let ratio = |part: usize, whole: usize| (part as f64 + 1.0).ln() - (whole as f64 + 1.0).ln();
    let counts = vec![
        coverage(&context.words, &response.words),
        coverage(&response.words, &context.words),
        lines.sum::<f64>() / context.lines.len().max(1) as f64,
        ratio(response.sequence.len(), context.sequence.len()),
        (response.sequence.len() as f64).ln_1p(),
        (context.sequence.len() as f64).ln_1p(),
    ];
    Row { example: place, words: buckets(&example.llm_response), counts, target: example.reference.clamp(0.0, 1.0) }
}

/// A line or a sentence.
struct Piece {
    words: HashSet<String>,
    sequence: Vec<u64>,
}

impl Piece {
    fn new(text: &str) -> Self {
        Self { words: content_words(text), sequence: sequence(text) }
    }
}

/// A text with its parts.
struct Text {
    words: HashSet<String>,
    sequence: Vec<u64>,
    lines: Vec<Piece>,
    sentences: Vec<Piece>,
}

impl Text {
    fn new(text: &str) -> Self {
        let Piece { words, sequence } = Piece::new(text);
        let pieces =
            |marks: &[char]| text.split(marks).map(Piece::new).filter(|piece| !piece.words.is_empty()).collect();
        Self { words, sequence, lines: pieces(&['\n']), sentences: pieces(&['\n', '.', ';', '!', '?']) }
    }

    /// The piece that holds most of the words, and which share of them it holds.
    fn best<'a>(&self, pieces: &'a [Piece], words: &HashSet<String>) -> (f64, Option<&'a Piece>) {
        pieces.iter().fold((0.0, None), |(best, found), piece| {
            let covered = coverage(words, &piece.words);
            if covered > best { (covered, Some(piece)) } else { (best, found) }
        })
    }

    /// Largest share of a sentence's words that a line holds.
    fn best_of_sentences(&self, line: &Piece) -> f64 {
        self.sentences.iter().map(|sentence| coverage(&sentence.words, &line.words)).fold(0.0, f64::max)
    }
}

fn hash(word: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    word.hash(&mut hasher);
    hasher.finish()
}

/// Hashes of the lower-cased words in order.
fn sequence(text: &str) -> Vec<u64> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| hash(&word.to_lowercase())).collect()
}

fn buckets(text: &str) -> Vec<usize> {
    let mut buckets: Vec<_> = sequence(text).into_iter().map(|word| (word % BUCKETS as u64) as usize).collect();
    buckets.sort_unstable();
    buckets.dedup();
    buckets
}

/// Length of the longest run of words that both have.
fn longest_common(a: &[u64], b: &[u64]) -> f64 {
    let (mut best, mut row) = (0usize, vec![0usize; b.len() + 1]);
    for x in a {
        for (j, y) in b.iter().enumerate().rev() {
            row[j + 1] = if x == y { row[j] + 1 } else { 0 };
            best = best.max(row[j + 1]);
        }
    }
    best as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_common_run_is_counted_in_words() {
        let common = |a, b| longest_common(&sequence(a), &sequence(b));
        assert_eq!(common("The ferry left Porto.", "Late, the ferry left; Porto slept"), 4.0);
        assert_eq!((common("a b c", "c b a"), common("", "a")), (1.0, 0.0));
    }
}
