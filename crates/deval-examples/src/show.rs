//! One example, readable: what is asked, and every labelled claim where it stands.

use deval_eval::{Example, Task};
use deval_report::Section;
use serde_json::Value;

/// Head, context, response with its claims marked, and what the labels say beyond the response. A claim that stands in the response is marked
/// ✓ or ✗, other text ·.
pub fn show(example: &Example) -> Vec<Section> {
    let context = example.rag_context.lines().fold(Section::new("context"), Section::note);
    let mut response = Section::new("response");
    let shown = pieces(example);
    for (mark, text) in &shown {
        response = response.row(*mark, text);
    }
    let mut sections = vec![head(example), context, response];
    let is_shown = |label: &&String| shown.iter().any(|(_, text)| text == label);
    let is_summary = example.task == Task::SummaryCompleteness;
    let title = if is_summary { "left out" } else { "mistakes that are not verbatim in the response" };
    sections.extend(list(title, "✗", example.reference_mistakes.iter().filter(|label| !is_shown(label))));
    let true_values = example.reference_true_values.iter().filter(|label| !is_shown(label));
    sections.extend(list("true values that are not verbatim in the response", "✓", true_values));
    sections
}

fn head(example: &Example) -> Section {
    let mut head = Section::new(&example.id).row("task", example.task).row("reference", example.reference);
    if !example.query.is_empty() {
        head = head.row("query", &example.query);
    }
    if example.mistakes_unknown {
        head = head.note("The claims are not labelled: only the score can be rewarded.");
    }
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match &example.source {
        Value::Null => head,
        Value::Object(fields) => fields.iter().fold(head, |head, (name, value)| head.row(name, plain(value))),
        other => head.row("source", plain(other)),
    }
}

fn list<'a>(title: &str, mark: &str, labels: impl Iterator<Item = &'a String>) -> Option<Section> {
    let section = labels.fold(Section::new(title), |section, label| section.row(mark, label));
    (!section.rows.is_empty()).then_some(section)
}

/// The response cut at its labelled claims: the earlier claim first, of two at one place the longer one.
fn pieces(example: &Example) -> Vec<(&'static str, &str)> {
    let response = example.llm_response.as_str();
    let labels = |mark, labels: &'_ [String]| -> Vec<(usize, usize, &'static str)> {
        let labels = labels.iter().filter(|label| !label.is_empty());
        labels
            .flat_map(|label| response.match_indices(label.as_str()).map(|(at, _)| (at, at + label.len(), mark)))
            .collect()
    };
    let mut found = labels("✗", &example.reference_mistakes);
    found.extend(labels("✓", &example.reference_true_values));
    found.sort_by_key(|(start, end, _)| (*start, std::cmp::Reverse(*end)));
    let (mut pieces, mut done) = (Vec::new(), 0);
    for (start, end, mark) in found {
        if start >= done {
            pieces.push(("·", &response[done..start]));
            pieces.push((mark, &response[start..end]));
            done = end;
        }
    }
    pieces.push(("·", &response[done..]));
    pieces.retain(|(mark, text)| *mark != "·" || text.chars().any(char::is_alphanumeric));
    pieces
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_marked_where_they_stand() {
        let example: Example = serde_json::from_value(json!({
            "id": "a", "task": "hallucination", "rag_context": "One.\nTwo.", "llm_response": "Note: A is 1.\nA is 12.\n\tB is 2.A is 1.",
            "reference": 0.5, "reference_mistakes": ["A is 1.", "C is 3."], "reference_true_values": ["A is 12.", "B is 2."],
            "source": { "licence": "MIT", "index": 3 },
        }))
        .unwrap();
        let sections = show(&example);
        let row = |label: &str, value: &str| (label.to_owned(), value.to_owned());
        assert_eq!(sections[0].rows[2..], [row("licence", "MIT"), row("index", "3")]);
        assert_eq!(sections[1].notes, ["One.", "Two."]);
        let marked =
            [row("·", "Note: "), row("✗", "A is 1."), row("✓", "A is 12."), row("✓", "B is 2."), row("✗", "A is 1.")];
        assert_eq!(sections[2].rows, marked);
        assert_eq!((sections.len(), &sections[3].rows), (4, &vec![row("✗", "C is 3.")]));
    }
}
