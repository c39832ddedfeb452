//! rouge-l of the Python package `rouge` 1.0.1 (`rouge/rouge.py`, `rouge/rouge_score.py`, defaults), union of common subsequences.

use std::collections::{HashMap, HashSet};

use crate::abort::{PythonException, ValidatorAborts};
use crate::python;

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
    let mut words = HashMap::new();
    let hyp = sentences(hyp, &mut words);
    let reference = sentences(reference, &mut words);
    for (name, text) in [("hypothesis (the task's text)", &hyp), ("reference (the miner's text)", &reference)] {
        if text.is_empty() {
            return Err(ValidatorAborts::value_error(format!("rouge: the {name} is empty or only dots")));
        }
    }
    let overlap = union_of_subsequences(&reference, &hyp, words.len())?;
    let (unique_hyp, unique_ref) = (distinct(&hyp), distinct(&reference));
    let (r, p) = (overlap as f64 / unique_ref as f64, overlap as f64 / unique_hyp as f64);
    let f = 2.0 * ((p * r) / (p + r + 1e-8));
    Ok(RougeL { r, p, f, unique_hyp, unique_ref, overlap })
}

/// Pieces between dots as word numbers. A piece of length 0 is dropped; a blank one is a sentence of the empty word.
fn sentences<'a>(text: &'a str, words: &mut HashMap<&'a str, u32>) -> Vec<Vec<u32>> {
    let mut number = |word: &'a str| {
        let next = words.len() as u32;
        *words.entry(word).or_insert(next)
    };
    let pieces = text.split('.').filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| {
            let sentence: Vec<u32> = python::split(piece).map(&mut number).collect();
            if sentence.is_empty() { vec![number("")] } else { sentence }
        })
        .collect()
}

fn distinct(sentences: &[Vec<u32>]) -> usize {
    sentences.iter().flatten().collect::<HashSet<_>>().len()
}

fn union_of_subsequences(rows: &[Vec<u32>], columns: &[Vec<u32>], vocabulary: usize) -> Result<usize, ValidatorAborts> {
    let mut taken = vec![false; vocabulary];
    let mut table = Vec::new();
    for row in rows {
        for column in columns {
            fill_table(row, column, &mut table);
            trace_back(row, column, &table, &mut taken)?;
        }
    }
    Ok(taken.into_iter().filter(|taken| *taken).count())
}

/// Lengths of the longest common subsequences of all prefixes; `(rows + 1) × (columns + 1)`, row by row.
fn fill_table(rows: &[u32], columns: &[u32], table: &mut Vec<u32>) {
    let width = columns.len() + 1;
    table.clear();
    table.resize((rows.len() + 1) * width, 0);
    for (i, word) in rows.iter().enumerate() {
        let (above, below) = table.split_at_mut((i + 1) * width);
        let (above, below) = (&above[i * width..], &mut below[..width]);
        for (j, other) in columns.iter().enumerate() {
            below[j + 1] = if word == other { above[j] + 1 } else { above[j + 1].max(below[j]) };
        }
    }
}

/// Marks the words of one longest common subsequence: up only if strictly better than left, as `_recon_lcs` goes.
fn trace_back(rows: &[u32], columns: &[u32], table: &[u32], taken: &mut [bool]) -> Result<(), ValidatorAborts> {
    let at = |i: usize, j: usize| table[i * (columns.len() + 1) + j];
    let (mut i, mut j, mut steps) = (rows.len(), columns.len(), 0);
    while i > 0 && j > 0 {
        if rows[i - 1] == columns[j - 1] {
            taken[rows[i - 1] as usize] = true;
            (i, j) = (i - 1, j - 1);
        } else if at(i - 1, j) > at(i, j - 1) {
            i -= 1;
        } else {
            j -= 1;
        }
        steps += 1;
    }
    if steps < RECURSION_STEPS {
        return Ok(());
    }
    let reason =
        format!("rouge: a sentence without dots needs {steps} recursive steps, the limit is about {RECURSION_STEPS}");
    Err(ValidatorAborts::new(PythonException::RecursionError, reason))
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
}
