//! rouge-l of the Python package `rouge` 1.0.1 (`rouge/rouge.py`, `rouge/rouge_score.py`, defaults), union of common subsequences.

mod words;

pub(crate) use words::{Text, Words};

use crate::abort::{PythonException, ValidatorAborts};

/// Steps of the recursive traceback at which Python's recursion limit of 1000 strikes inside the validator's call chain: measured at 991
/// steps from module level, less one for each frame above.
const RECURSION_STEPS: usize = 975;

/// Counts and ratios of one pair of texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RougeL {
    /// Recall: overlap over the reference's distinct words.
    pub r: f64,
    /// Precision: overlap over the hypothesis' distinct words.
    pub p: f64,
    /// `2·(p·r/(p+r+1e-8))`.
    pub f: f64,
    /// Distinct words of the hypothesis.
    pub unique_hyp: usize,
    /// Distinct words of the reference.
    pub unique_ref: usize,
    /// Size of the union of the words of all longest common subsequences.
    pub overlap: usize,
}

/// `Rouge().get_scores(hyp, ref)[0]["rouge-l"]`. The reward models pass the task's text as `hyp` and the miner's as `reference`.
///
/// # Errors
/// `ValueError` when a text has no sentence (empty, or only dots), `RecursionError` when a traceback gets too long.
pub fn rouge_l(hyp: &str, reference: &str) -> Result<RougeL, ValidatorAborts> {
    let mut words = Words::default();
    let (hyp, reference) = (words.text(hyp), words.text(reference));
    Comparison::default().rouge_l(&hyp, &reference)
}

/// Compares texts of one vocabulary, pair after pair, in buffers that are used again.
#[derive(Default)]
pub(crate) struct Comparison {
    /// Number of the present pair.
    pair: u32,
    /// By word: the last pair that had it in common.
    common: Vec<u32>,
    table: Table,
}

impl Comparison {
    /// [`rouge_l`] of two texts that were split before.
    pub(crate) fn rouge_l(&mut self, hyp: &Text, reference: &Text) -> Result<RougeL, ValidatorAborts> {
        for (name, text) in [("hypothesis (the task's text)", hyp), ("reference (the miner's text)", reference)] {
            if text.is_empty() {
                return Err(ValidatorAborts::value_error(format!("rouge: the {name} is empty or only dots")));
            }
        }
        let overlap = self.union_of_subsequences(hyp, reference)?;
        let (unique_hyp, unique_ref) = (hyp.unique, reference.unique);
        let (r, p) = (overlap as f64 / unique_ref as f64, overlap as f64 / unique_hyp as f64);
        let f = 2.0 * ((p * r) / (p + r + 1e-8));
        Ok(RougeL { r, p, f, unique_hyp, unique_ref, overlap })
    }

    fn union_of_subsequences(&mut self, hyp: &Text, reference: &Text) -> Result<usize, ValidatorAborts> {
        self.pair += 1;
        self.common.resize(self.common.len().max(hyp.vocabulary.max(reference.vocabulary)), 0);
        self.table.latest.resize(self.common.len(), 0);
        let mut overlap = 0;
        for columns in hyp.sentences() {
            self.table.index(columns);
            for rows in reference.sentences() {
                self.table.fill(rows, columns.len());
                let steps = self.table.trace_back(rows, columns, |word| {
                    let seen = std::mem::replace(&mut self.common[word as usize], self.pair);
                    overlap += usize::from(seen != self.pair);
                });
                if steps >= RECURSION_STEPS {
                    return Err(too_deep(steps));
                }
            }
            self.table.forget(columns);
        }
        Ok(overlap)
    }
}

fn too_deep(steps: usize) -> ValidatorAborts {
    let reason =
        format!("rouge: a sentence without dots needs {steps} recursive steps, the limit is about {RECURSION_STEPS}");
    ValidatorAborts::new(PythonException::RecursionError, reason)
}

/// Lengths of the longest common subsequences of all prefixes, of which a bit per cell tells enough: whether the length stays the same from
/// the column on the left. 64 columns are computed at once, by addition with carry (Crochemore et al. 2001, Hyyrö 2004).
#[derive(Default)]
struct Table {
    /// By row from the second on: a bit per column, 1 where the length is that of the column before.
    same: Vec<u64>,
    /// By word: 1 + the last column that holds it, 0 for none.
    latest: Vec<u32>,
    /// By column: the same for the columns before it.
    earlier: Vec<u32>,
    /// The columns of the row's word.
    matches: Vec<u64>,
}

impl Table {
    fn index(&mut self, columns: &[u32]) {
        self.earlier.clear();
        for (column, word) in (1..).zip(columns) {
            self.earlier.push(std::mem::replace(&mut self.latest[*word as usize], column));
        }
    }

    fn forget(&mut self, columns: &[u32]) {
        columns.iter().for_each(|word| self.latest[*word as usize] = 0);
    }

    fn fill(&mut self, rows: &[u32], columns: usize) {
        let width = columns.div_ceil(64);
        self.same.clear();
        self.same.resize((rows.len() + 1) * width, u64::MAX);
        self.matches.clear();
        self.matches.resize(width, 0);
        for (row, word) in rows.iter().enumerate() {
            self.mark(*word, |block, bit| *block |= bit);
            let (above, below) = self.same.split_at_mut((row + 1) * width);
            let mut carry = false;
            for ((above, below), matches) in above[row * width..].iter().zip(below).zip(&self.matches) {
                let (sum, first) = above.overflowing_add(above & matches);
                let (sum, second) = sum.overflowing_add(u64::from(carry));
                carry = first || second;
                *below = sum | (above & !matches);
            }
            self.mark(*word, |block, bit| *block &= !bit);
        }
    }

    /// Goes through the columns of a word.
    fn mark(&mut self, word: u32, change: impl Fn(&mut u64, u64)) {
        let mut column = self.latest[word as usize];
        while column > 0 {
            let place = column as usize - 1;
            change(&mut self.matches[place / 64], 1 << (place % 64));
            column = self.earlier[place];
        }
    }

    /// Takes the words of one longest common subsequence as `_recon_lcs` does: up only if strictly better than left, which is where the
    /// length grows from the column on the left although the words differ. The number of steps.
    fn trace_back(&self, rows: &[u32], columns: &[u32], mut take: impl FnMut(u32)) -> usize {
        let width = columns.len().div_ceil(64);
        let (mut i, mut j, mut steps) = (rows.len(), columns.len(), 0);
        while i > 0 && j > 0 {
            let column = j - 1;
            if rows[i - 1] == columns[column] {
                take(rows[i - 1]);
                (i, j) = (i - 1, column);
            } else if self.same[i * width + column / 64] >> (column % 64) & 1 == 0 {
                i -= 1;
            } else {
                j -= 1;
            }
            steps += 1;
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identical_texts_stay_just_below_one() {
        assert_eq!(rouge_l("a b", "a b").unwrap().f, 0.999999995);
        assert_eq!(rouge_l(" ", "  ").unwrap().f, 0.999999995);
    }

    #[test]
    fn a_blank_piece_is_a_word_and_an_empty_one_is_not() {
        assert_eq!(rouge_l("a.", "a").unwrap().unique_hyp, 1);
        assert_eq!(rouge_l("a. ", "a").unwrap().unique_hyp, 2);
    }

    #[test]
    fn only_dots_is_a_value_error() {
        let abort = rouge_l("a", "...").unwrap_err();
        assert_eq!(abort.python_exception, PythonException::ValueError);
        assert!(abort.reason.contains("miner's text"), "{abort}");
    }

    #[test]
    fn steps_count_not_length() {
        let long = |word: &str| (0..1200).map(|i| format!("{word}{i} ")).collect::<String>();
        let recursion = |hyp: &str, reference: &str| rouge_l(hyp, reference).err().map(|abort| abort.python_exception);
        assert_eq!(recursion(&long("a"), "x"), Some(PythonException::RecursionError));
        assert_eq!(recursion("x", &long("a")), None);
        assert_eq!(recursion(&long("a"), &long("a")), Some(PythonException::RecursionError));
    }

    /// The table as `rouge` fills it, cell by cell, and the same way back through it.
    fn cell_by_cell(rows: &[u32], columns: &[u32]) -> (Vec<u32>, usize) {
        let width = columns.len() + 1;
        let mut table = vec![0; (rows.len() + 1) * width];
        for i in 1..=rows.len() {
            for j in 1..width {
                table[i * width + j] = match rows[i - 1] == columns[j - 1] {
                    true => table[(i - 1) * width + j - 1] + 1,
                    false => table[(i - 1) * width + j].max(table[i * width + j - 1]),
                };
            }
        }
        let (mut i, mut j, mut steps, mut taken) = (rows.len(), columns.len(), 0, Vec::new());
        while i > 0 && j > 0 {
            steps += 1;
            if rows[i - 1] == columns[j - 1] {
                taken.push(rows[i - 1]);
                (i, j) = (i - 1, j - 1);
            } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        (taken, steps)
    }

    #[test]
    fn a_bit_per_cell_leads_the_same_way_back() {
        let mut dice = crate::Dice::new(3, 0);
        for _ in 0..2000 {
            let vocabulary = *dice.pick(&[1, 2, 4, 30]);
            let mut sentence = || (0..dice.between(1, 200)).map(|_| dice.below(vocabulary) as u32).collect::<Vec<_>>();
            let (rows, columns) = (sentence(), sentence());
            let mut table = Table { latest: vec![0; vocabulary], ..Table::default() };
            table.index(&columns);
            table.fill(&rows, columns.len());
            let mut taken = Vec::new();
            let steps = table.trace_back(&rows, &columns, |word| taken.push(word));
            assert_eq!((taken, steps), cell_by_cell(&rows, &columns), "{rows:?} {columns:?}");
            table.forget(&columns);
            assert!(table.latest.iter().all(|column| *column == 0));
        }
    }
}
