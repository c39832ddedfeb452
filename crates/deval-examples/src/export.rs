//! Writes example sets as CSV; JSON Lines are written by [`ExampleSet::write`].

use deval_eval::{Example, ExampleSet};
use deval_report::Diagnostic;
use serde_json::{Value, json};

use crate::csv_format;

/// Upstream's columns (`scripts/generate_task_examples.py`).
const UPSTREAM: [&str; 7] = ["task", "api", "model_id", "rag_context", "query", "llm_response", "reference"];
/// What we add: lists and sources as JSON.
const OURS: [&str; 5] = ["id", "reference_mistakes", "reference_true_values", "mistakes_unknown", "source"];

/// The set as CSV in the dialect of Python's `csv` module: upstream's seven columns, then ours unless only upstream's are wanted. With ours,
/// [`crate::import::read`] gives back the very same examples.
pub fn csv(set: &ExampleSet, upstream: bool) -> String {
    let ours = |wanted: bool| OURS.iter().filter(move |_| wanted);
    let head = UPSTREAM.iter().chain(ours(!upstream)).map(ToString::to_string).collect();
    csv_format::write(std::iter::once(head).chain(set.examples.iter().map(|example| row(example, upstream))))
}

fn row(example: &Example, upstream: bool) -> Vec<String> {
    let label = |name: &str| example.source.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut row = vec![
        example.task.to_string(),
        label("api"),
        label("model_id"),
        example.rag_context.clone(),
        example.query.clone(),
        example.llm_response.clone(),
        format!("{:?}", example.reference),
    ];
    if !upstream {
        let source = if example.source.is_null() { String::new() } else { example.source.to_string() };
        row.extend([
            example.id.clone(),
            json!(example.reference_mistakes).to_string(),
            json!(example.reference_true_values).to_string(),
            example.mistakes_unknown.to_string(),
            source,
        ]);
    }
    row
}

/// What a CSV of this set does not hold.
pub fn lost(set: &ExampleSet, upstream: bool) -> Vec<Diagnostic> {
    let head = "name, licence, seed, generator and contamination tags of the set";
    let mut lost = vec![Diagnostic::note("export.header", format!("CSV has no place for {head}"))];
    if upstream {
        let labelled =
            |example: &&Example| !(example.reference_mistakes.is_empty() && example.reference_true_values.is_empty());
        let count = set.examples.iter().filter(labelled).count();
        let message = format!(
            "the seven columns drop ids and sources, and the labelled claims of {count} examples: upstream's CSV cannot be scored"
        );
        lost.push(Diagnostic::warning("export.labels", message).help("leave `--upstream` away to keep them"));
    }
    lost
}

#[cfg(test)]
mod tests;
