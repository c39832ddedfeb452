//! Replays the golden vectors: proof that this crate computes what the reference validator computes.
//!
//! A file holds one JSON object per line, `{"case", "input", "expected"}`; its stem is the *kind*. NaN and infinities are the strings
//! `"NaN"`, `"Infinity"`, `"-Infinity"`; `{"error": "<class>"}` stands for a Python exception.

mod contest;
mod rewards;
mod submission;

use std::convert::Infallible;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::abort::ValidatorAborts;
use crate::python::json;

/// Every kind that can be replayed.
pub const KINDS: [&str; 28] = [
    "api_response",
    "chain_commit_decode",
    "chain_commit_encode",
    "coldkey",
    "contest_epoch",
    "contest_ranking",
    "contest_validate",
    "eligibility",
    "mistakes_parse",
    "model_hash",
    "moving_average",
    "reference_score",
    "repo_size",
    "reward_dist_penalty",
    "reward_exact_match",
    "reward_float_diff",
    "reward_ordinal",
    "reward_relevance",
    "reward_rouge",
    "rouge_l",
    "rouge_l_recursion",
    "run_step_container",
    "score_parse",
    "task_assembly",
    "total_attribution",
    "total_hallucination",
    "total_relevancy",
    "total_summary_completeness",
];

/// Outcome of one vector file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OracleResult {
    /// Cases with the expected outcome.
    pub passed: usize,
    /// Cases without, unreadable lines included.
    pub failed: usize,
    /// The first failing case in full: case, input, expected, got.
    pub first_difference: Option<Value>,
}

#[derive(Deserialize)]
struct Case {
    case: String,
    input: Value,
    expected: Value,
}

impl OracleResult {
    /// Whether the file proves something: it has cases, and all of them pass.
    pub fn is_proof(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// `rouge_l: 360 passed, 0 failed`, and below it the first difference in full.
    pub fn describe(&self, kind: &str) -> String {
        let counts = format!("{kind}: {} passed, {} failed", self.passed, self.failed);
        match &self.first_difference {
            Some(difference) => format!("{counts}\n{difference:#}"),
            None if self.passed == 0 => format!("{counts} (an empty file proves nothing)"),
            None => counts,
        }
    }
}

/// Replays every line of a vector file; blank lines do not count.
///
/// # Errors
/// Those of the lines, at the first one.
pub fn check_lines<L: AsRef<str>, E>(
    kind: &str,
    lines: impl IntoIterator<Item = Result<L, E>>,
) -> Result<OracleResult, E> {
    let mut result = OracleResult::default();
    for line in lines {
        let line = line?;
        let line = line.as_ref().trim();
        match Some(line).filter(|line| !line.is_empty()).map(|line| check_line(kind, line)) {
            None => {}
            Some(None) => result.passed += 1,
            Some(Some(difference)) => {
                result.failed += 1;
                result.first_difference.get_or_insert(difference);
            }
        }
    }
    Ok(result)
}

/// Replays a vector file held in memory.
pub fn check_file(kind: &str, text: &str) -> OracleResult {
    let Ok(result) = check_lines(kind, text.lines().map(Ok::<_, Infallible>));
    result
}

fn check_line(kind: &str, line: &str) -> Option<Value> {
    let case = match read_case(line) {
        Ok(case) => case,
        Err(error) => return Some(json!({ "unreadable": error.to_string(), "line": line })),
    };
    let got = replay(kind, &case.input).unwrap_or_else(|why| json!({ "not_replayed": why }));
    let equal = same(kind, "", &case.expected, &got);
    (!equal).then(|| json!({ "case": case.case, "input": case.input, "expected": case.expected, "got": got }))
}

/// Python writes lone surrogates that only its own reader takes.
fn read_case(line: &str) -> Result<Case, serde_json::Error> {
    let strict = serde_json::from_str(line);
    strict.or_else(|error| serde_json::from_value(json::loads(line).map_err(|_| error)?))
}

/// What this crate computes for a vector's input, in the vector's form.
///
/// # Errors
/// An unknown kind, or an input without the fields of its kind.
pub fn replay(kind: &str, input: &Value) -> Result<Value, String> {
    match kind {
        "rouge_l" | "rouge_l_recursion" => rewards::rouge_l(input),
        "score_parse" | "mistakes_parse" | "api_response" => rewards::reading(kind, input),
        kind if kind.starts_with("reward_") || kind.starts_with("total_") => rewards::replay(kind, input),
        "repo_size" | "model_hash" | "coldkey" | "chain_commit_encode" | "chain_commit_decode" => {
            submission::replay(kind, input)
        }
        "reference_score" | "task_assembly" => submission::tasks(kind, input),
        "contest_ranking" | "contest_validate" | "contest_epoch" | "moving_average" | "run_step_container"
        | "eligibility" => contest::replay(kind, input),
        _ => Err(format!("unknown kind of vectors `{kind}`")),
    }
}

/// Compares with the tolerance that the README grants this field: `field` is the name of the nearest enclosing object key.
fn same(kind: &str, field: &str, expected: &Value, got: &Value) -> bool {
    if let (Some(expected), Some(got)) = (number(expected), number(got)) {
        return expected == got
            || (expected.is_nan() && got.is_nan())
            || (expected - got).abs() <= tolerance(kind, field);
    }
    match (expected, got) {
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len()
                && expected.iter().zip(got).all(|(expected, got)| same(kind, field, expected, got))
        }
        (Value::Object(expected), Value::Object(got)) => {
            let equal = |(key, value): (&String, &Value)| got.get(key).is_some_and(|got| same(kind, key, value, got));
            expected.len() == got.len() && expected.iter().all(equal)
        }
        _ => expected == got,
    }
}

fn tolerance(kind: &str, field: &str) -> f64 {
    match (kind, field) {
        ("reward_relevance", _) | ("total_summary_completeness", "relevance" | "total") => 1e-6,
        ("contest_ranking", "weights" | "pools") | ("contest_epoch", "weights") => 1e-12,
        _ => 0.0,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// A float as the vectors write it.
fn float(value: f64) -> Value {
    match value {
        value if value.is_nan() => json!("NaN"),
        value if value.is_infinite() => json!(if value > 0.0 { "Infinity" } else { "-Infinity" }),
        value => json!(value),
    }
}

/// Numbers that may be written as text, `true` counts as 1; `None` for null, an absent field or anything else.
fn optional_float(input: &Value, field: &str) -> Option<f64> {
    let value = input.get(field)?;
    value.as_bool().map_or_else(|| number(value), |flag| Some(f64::from(u8::from(flag))))
}

fn floats(value: &Value) -> Result<Vec<f64>, String> {
    let items = value.as_array().ok_or_else(|| format!("not an array of numbers: {value}"))?;
    items.iter().map(|item| number(item).ok_or_else(|| format!("not a number: {item}"))).collect()
}

fn read<T: DeserializeOwned>(input: &Value, field: &str) -> Result<T, String> {
    let value = input.get(field).cloned().unwrap_or(Value::Null);
    serde_json::from_value(value).map_err(|error| format!("input field `{field}`: {error}"))
}

fn whole<T: DeserializeOwned>(input: &Value) -> Result<T, String> {
    serde_json::from_value(input.clone()).map_err(|error| format!("input: {error}"))
}

/// An exception as the vectors write it.
fn raised(abort: &ValidatorAborts) -> Value {
    json!({ "error": abort.python_exception })
}

#[cfg(test)]
mod tests;
