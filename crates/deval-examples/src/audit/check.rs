//! What is wrong with a set, or worth knowing before its numbers are believed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use deval_eval::{Example, ExampleSet, Task, python};
use deval_report::Diagnostic;
use serde::Deserialize;

/// Words of a claim from which on Python's recursion limit may come into reach: rouge-l walks back through a table of two sentences.
const CLAIM_WORDS: usize = 700;
/// Distance of a reference from what the labels say that rounding cannot explain.
const ROUNDING: f64 = 0.006;

#[derive(Deserialize)]
struct Named {
    id: String,
}

/// Reads a set and looks through it; every finding has its line of `file`.
pub fn check(file: &str, text: &str) -> (ExampleSet, Vec<Diagnostic>) {
    let (set, mut found) = ExampleSet::read(file, text);
    let mut lines = BTreeMap::new();
    for (number, line) in (1u32..).zip(text.lines()) {
        if let Ok(Named { id }) = serde_json::from_str(line) {
            lines.entry(id).or_insert(number);
        }
    }
    let place = |(id, finding): (&str, Diagnostic)| match lines.get(id) {
        Some(line) => finding.at(file, *line, 1),
        None => finding.in_file(file),
    };
    found.extend(findings(&set.examples).into_iter().map(place));
    (set, found)
}

/// Findings about examples, each beside the id of the example it was made in.
pub fn findings(examples: &[Example]) -> Vec<(&str, Diagnostic)> {
    let of = |example| single(example).into_iter().map(move |finding: Diagnostic| (example, finding));
    let mut found: Vec<(&Example, Diagnostic)> = examples.iter().flat_map(of).collect();
    found.extend(repeated(examples));
    found.into_iter().map(|(example, finding)| (example.id.as_str(), finding)).collect()
}

fn single(example: &Example) -> Vec<Diagnostic> {
    let mut found: Vec<_> = [empty(example), query(example)].into_iter().flatten().collect();
    if example.task == Task::Relevancy {
        return found;
    }
    if example.mistakes_unknown {
        found.push(
            Diagnostic::note("examples.unlabelled", "the claims are not labelled, so only the score can be rewarded")
                .help("label the claims, or leave the example out where mistakes matter"),
        );
    }
    found.extend(claims(example));
    found.extend(reference(example));
    found
}

fn empty(example: &Example) -> Option<Diagnostic> {
    let fields = [("rag_context", &example.rag_context), ("llm_response", &example.llm_response)];
    let is_empty = |(_, text): &(_, &String)| python::strip(text).is_empty();
    let names: Vec<_> = fields.into_iter().filter(is_empty).map(|(name, _)| name).collect();
    if names.is_empty() {
        return None;
    }
    let severe = names.contains(&"llm_response") || example.task != Task::Relevancy;
    let of = if severe { Diagnostic::error } else { Diagnostic::note };
    Some(of("examples.empty", "there is nothing to judge").found(format!("no text in {}", names.join(" and "))))
}

/// Only relevancy comes with a query (`deval/tasks/relevancy`).
fn query(example: &Example) -> Option<Diagnostic> {
    let has_query = !python::strip(&example.query).is_empty();
    match (example.task, has_query) {
        (Task::Relevancy, false) => {
            Some(Diagnostic::error("examples.query", "a relevancy example needs a query").expected("a question"))
        }
        (Task::Relevancy, true) | (_, false) => None,
        (task, true) => Some(
            Diagnostic::note("examples.query", format!("validators send no query for {task}"))
                .found(example.query.clone())
                .expected("an empty query"),
        ),
    }
}

fn claims(example: &Example) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let sides = [(&example.reference_mistakes, false), (&example.reference_true_values, true)];
    for (claim, is_shown) in
        sides.into_iter().flat_map(|(side, is_true)| side.iter().map(move |claim| (claim, is_true)))
    {
        let must_show = is_shown || example.task != Task::SummaryCompleteness;
        if !claim.is_empty() && claim.chars().all(|c| c == '.') {
            found.push(
                Diagnostic::error("examples.dots", "a claim of dots only makes the validator raise ValueError")
                    .found(claim.clone())
                    .help("leave the claim out"),
            );
        } else if python::split(claim).count() > CLAIM_WORDS {
            found.push(
                Diagnostic::warning(
                    "examples.long-claim",
                    "a claim this long may raise RecursionError in the validator",
                )
                .found(format!("{} words", python::split(claim).count()))
                .expected(format!("at most {CLAIM_WORDS} words")),
            );
        }
        if must_show && !example.llm_response.contains(claim.as_str()) {
            let message = "a labelled claim does not stand in the response word by word";
            found.push(Diagnostic::warning("examples.not-verbatim", message).found(claim.clone()));
        }
    }
    found
}

/// Whether the reference is the share of true claims. A summary's counts what was wanted, and is 1 for articles.
fn reference(example: &Example) -> Option<Diagnostic> {
    let (labelled, claims) = (example.reference_true_values.len(), example.reference_mistakes.len());
    let is_counted = !example.mistakes_unknown && example.task != Task::SummaryCompleteness && labelled + claims > 0;
    let expected = python::round2(labelled as f64 / ((labelled + claims) as f64 + 1e-10));
    if !is_counted || (example.reference - expected).abs() < ROUNDING {
        return None;
    }
    let message = "the reference is not the share of true claims";
    Some(
        Diagnostic::warning("examples.reference-labels", message)
            .found(example.reference.to_string())
            .expected(format!("{expected}: {labelled} of {} claims are true", labelled + claims)),
    )
}

/// Reference, false claims, true claims.
type Labels<'a> = (u64, BTreeSet<&'a String>, BTreeSet<&'a String>);

fn labels(example: &Example) -> Labels<'_> {
    let Example { reference, reference_mistakes, reference_true_values, .. } = example;
    (reference.to_bits(), reference_mistakes.iter().collect(), reference_true_values.iter().collect())
}

/// Examples whose texts were there before, with the same labels or other ones.
fn repeated(examples: &[Example]) -> Vec<(&Example, Diagnostic)> {
    let mut found = Vec::new();
    let mut known: HashMap<_, Vec<&Example>> = HashMap::new();
    for example in examples {
        let texts = (example.task, example.rag_context.as_str(), example.query.as_str(), example.llm_response.as_str());
        let earlier = known.entry(texts).or_default();
        let same = earlier.iter().find(|other| labels(other) == labels(example));
        if let Some(same) = same {
            let finding = Diagnostic::warning("examples.duplicate", "this example repeats an earlier one");
            found.push((example, finding.found(format!("the same as `{}`", same.id))));
        } else if let Some(other) = earlier.first() {
            found.push((example, contradiction(&other.id)));
        }
        earlier.push(example);
    }
    found
}

fn contradiction(first: &str) -> Diagnostic {
    Diagnostic::warning("examples.contradiction", "the same texts have other labels in an earlier example")
        .found(format!("other than `{first}`"))
        .help("keep one of them; a model cannot please both")
}
