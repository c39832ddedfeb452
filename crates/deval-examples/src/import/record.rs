//! From named fields, as CSV cells or JSON values, to an example.

use deval_eval::{Example, Task, claims, python};
use deval_report::Diagnostic;
use serde_json::{Map, Value};

/// Fields of an example by their own names.
const FIELDS: [&str; 10] = [
    "id",
    "task",
    "rag_context",
    "query",
    "llm_response",
    "reference",
    "reference_mistakes",
    "reference_true_values",
    "mistakes_unknown",
    "source",
];
/// Fields that no example can do without.
const NEEDED: [&str; 4] = ["task", "rag_context", "llm_response", "reference"];
/// Characters of a bad value that a finding shows.
const SHOWN: usize = 80;

/// Names as the header has them, known ones in lower case, empty and repeated ones numbered.
pub(crate) fn column_names(head: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(head.len());
    for (place, name) in (1..).zip(head) {
        let lower = name.trim().to_ascii_lowercase();
        let name = if FIELDS.contains(&lower.as_str()) { lower } else { name.trim().to_owned() };
        let is_free = !name.is_empty() && !names.contains(&name);
        names.push(if is_free { name } else { format!("column_{place}") });
    }
    names
}

pub(crate) fn missing_columns(names: &[String]) -> Vec<Diagnostic> {
    let missing = NEEDED.into_iter().filter(|needed| !names.iter().any(|name| name == needed));
    let finding = |name| {
        Diagnostic::error("examples.column", format!("the column `{name}` is missing"))
            .found(shown(&names.join(",")))
            .expected("task,api,model_id,rag_context,query,llm_response,reference")
    };
    missing.map(finding).collect()
}

/// The row's fields. Empty cells stay empty text where an example has such a field, else they are nothing. A cell of `source` is JSON and
/// tells `api` and `model_id` too.
pub(crate) fn of_cells(names: &[String], cells: Vec<String>) -> Result<Map<String, Value>, String> {
    if cells.len() != names.len() {
        return Err(format!("the row has {} cells, the header has {}", cells.len(), names.len()));
    }
    let is_told = |name: &str, cell: &str| !cell.is_empty() || (FIELDS.contains(&name) && name != "source");
    let told = names.iter().cloned().zip(cells).filter(|(name, cell)| is_told(name, cell));
    let mut fields: Map<String, Value> = told.map(|(name, cell)| (name, Value::String(cell))).collect();
    if let Some(Value::String(cell)) = fields.get("source") {
        let source = serde_json::from_str(cell).unwrap_or_else(|_| Value::String(cell.clone()));
        fields.insert("source".to_owned(), source);
        fields.retain(|name, _| name != "api" && name != "model_id");
    }
    Ok(fields)
}

/// The example of a record, and whether its claims are unlabelled because nothing tells them.
pub(crate) fn example(mut fields: Map<String, Value>, default_id: String) -> Result<(Example, bool), Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let mut get = |name: &str| fields.shift_remove(name).filter(|value| !value.is_null());
    let id = kept(id(get("id"), default_id), &mut wrong);
    let task = kept(task(get("task")), &mut wrong);
    let mut text = |name, is_needed| kept(text(name, get(name), is_needed), &mut wrong);
    let (rag_context, query) = (text("rag_context", true), text("query", false));
    let llm_response = text("llm_response", true);
    let reference = kept(reference(get("reference")), &mut wrong);
    let mistakes = kept(strings("reference_mistakes", get("reference_mistakes")), &mut wrong).flatten();
    let true_values = kept(strings("reference_true_values", get("reference_true_values")), &mut wrong).flatten();
    let unknown = kept(flag("mistakes_unknown", get("mistakes_unknown")), &mut wrong);
    let source = get("source");
    let (
        Some(id),
        Some(task),
        Some(rag_context),
        Some(query),
        Some(llm_response),
        Some(reference),
        Some(mistakes_unknown),
        true,
    ) = (id, task, rag_context, query, llm_response, reference, unknown, wrong.is_empty())
    else {
        return Err(wrong);
    };
    let is_labelled = mistakes.is_some() || true_values.is_some() || mistakes_unknown;
    let (reference_mistakes, reference_true_values) = (mistakes.unwrap_or_default(), true_values.unwrap_or_default());
    let source = sourced(source, fields);
    let example = Example {
        id,
        task,
        rag_context,
        query,
        llm_response,
        reference,
        reference_mistakes,
        reference_true_values,
        mistakes_unknown,
        source,
    };
    Ok(if is_labelled { (example, false) } else { labelled(example) })
}

/// The labels that follow from the reference: all claims are true, or all are mistakes. The points that a summary left out do not follow.
fn labelled(mut example: Example) -> (Example, bool) {
    let all = || claims::split(&example.llm_response).into_iter().map(str::to_owned).collect();
    match example.task {
        Task::Relevancy => {}
        _ if example.reference == 1.0 => example.reference_true_values = all(),
        Task::Hallucination | Task::Attribution if example.reference == 0.0 => example.reference_mistakes = all(),
        Task::Hallucination | Task::Attribution | Task::SummaryCompleteness => example.mistakes_unknown = true,
    }
    let is_unknown = example.mistakes_unknown;
    (example, is_unknown)
}

/// What is left of a record belongs to its source.
fn sourced(source: Option<Value>, mut rest: Map<String, Value>) -> Value {
    match source {
        None if rest.is_empty() => Value::Null,
        None => Value::Object(rest),
        Some(source) if rest.is_empty() => source,
        Some(Value::Object(mut source)) => {
            rest.into_iter().for_each(|(name, value)| _ = source.entry(name).or_insert(value));
            Value::Object(source)
        }
        Some(source) => {
            rest.insert("source".to_owned(), source);
            Value::Object(rest)
        }
    }
}

fn kept<T>(read: Result<T, Diagnostic>, wrong: &mut Vec<Diagnostic>) -> Option<T> {
    read.map_err(|finding| wrong.push(finding)).ok()
}

fn unfit(name: &str, found: Option<&Value>, expected: &str) -> Diagnostic {
    let found = found
        .map_or_else(|| "nothing".to_owned(), |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let message = format!("the column `{name}` cannot be read");
    Diagnostic::error("examples.column", message).found(shown(&found)).expected(expected)
}

fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn id(value: Option<Value>, default_id: String) -> Result<String, Diagnostic> {
    match value {
        None => Ok(default_id),
        Some(Value::String(id)) if id.is_empty() => Ok(default_id),
        Some(Value::String(id)) => Ok(id),
        Some(Value::Number(id)) => Ok(id.to_string()),
        Some(value) => Err(unfit("id", Some(&value), "text")),
    }
}

/// By the name on the wire, in any case; an enum's prefix (`TasksEnum.RELEVANCY`) is cut.
fn task(value: Option<Value>) -> Result<Task, Diagnostic> {
    let name = value.as_ref().and_then(Value::as_str).map(|name| name.trim().to_ascii_lowercase());
    let task = name.and_then(|name| Task::from_name(name.rsplit('.').next().unwrap_or(&name)));
    task.ok_or_else(|| unfit("task", value.as_ref(), &Task::ALL.map(Task::name).join(", ")))
}

fn text(name: &str, value: Option<Value>, is_needed: bool) -> Result<String, Diagnostic> {
    match value {
        None if !is_needed => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        value => Err(unfit(name, value.as_ref(), "text")),
    }
}

fn reference(value: Option<Value>) -> Result<f64, Diagnostic> {
    let number =
        value.as_ref().and_then(|value| value.as_f64().or_else(|| python::strip(value.as_str()?).parse().ok()));
    number.filter(|number| number.is_finite()).ok_or_else(|| unfit("reference", value.as_ref(), "a number from 0 to 1"))
}

/// A list of texts, in a CSV cell as JSON; `None` when there is none.
fn strings(name: &str, value: Option<Value>) -> Result<Option<Vec<String>>, Diagnostic> {
    let parsed = match &value {
        None => return Ok(None),
        Some(Value::String(cell)) if cell.trim().is_empty() => return Ok(None),
        Some(Value::String(cell)) => serde_json::from_str(cell).ok(),
        Some(value) => serde_json::from_value(value.clone()).ok(),
    };
    parsed.map(Some).ok_or_else(|| unfit(name, value.as_ref(), "a JSON list of texts"))
}

fn flag(name: &str, value: Option<Value>) -> Result<bool, Diagnostic> {
    match &value {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "" | "0" | "false" => Ok(false),
            "1" | "true" => Ok(true),
            _ => Err(unfit(name, value.as_ref(), "true or false")),
        },
        Some(_) => Err(unfit(name, value.as_ref(), "true or false")),
    }
}
