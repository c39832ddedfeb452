//! Example sets: JSON Lines with a first line that tells where the examples come from, and a digest that names them.
//!
//! ```text
//! {"deval_examples":1,"name":"offline-0","digest":"9f…","examples":120,"licence":"MIT OR Apache-2.0","seed":0,"contamination":[]}
//! {"id":"relevancy-0-000","task":"relevancy","rag_context":"…","query":"…","llm_response":"…","reference":1.0,…}
//! ```
//!
//! The first line may be absent; then the set is named after its file, and licences and tags are gathered from the examples' sources.

use std::collections::{BTreeSet, HashSet};

use deval_report::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::task::{Example, Task};

/// Newest version of the file format.
pub const FORMAT: u32 = 1;

/// What is known about a set as a whole; reports name it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetInfo {
    /// Name of the set.
    pub name: String,
    /// SHA-256 (hex) over the examples; see [`digest`].
    pub digest: String,
    /// Number of examples.
    pub examples: usize,
    /// Licences as SPDX expressions; absent when unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Seed that makes the set again, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What made the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<String>,
    /// Why a model may have seen the examples or their sources before: `public`, `training-overlap`, …
    #[serde(default)]
    pub contamination: Vec<String>,
    /// Digest of the set that this one was drawn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

/// Examples and what is known about them as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct ExampleSet {
    /// What is known about them.
    pub info: SetInfo,
    /// The examples, each with an id of its own.
    pub examples: Vec<Example>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    deval_examples: u32,
    #[serde(flatten)]
    info: SetInfo,
}

impl SetInfo {
    /// What the examples' own sources say.
    pub fn gathered(name: &str, examples: &[Example]) -> Self {
        let texts = |key: &str| -> BTreeSet<&str> {
            examples.iter().filter_map(|example| example.source.get(key)?.as_str()).collect()
        };
        let licences =
            texts("licence").into_iter().map(|licence| licence.split(&[',', ';'][..]).next().unwrap_or(licence).trim());
        let licence = licences.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" AND ");
        let contamination = if texts("repository").is_empty() { Vec::new() } else { vec!["public".to_owned()] };
        let licence = Some(licence).filter(|licence| !licence.is_empty());
        Self { name: name.to_owned(), licence, contamination, ..Self::default() }
    }
}

impl ExampleSet {
    /// A set of these examples; number and digest are counted here.
    pub fn new(info: SetInfo, examples: Vec<Example>) -> Self {
        Self { info: SetInfo { digest: digest(&examples), examples: examples.len(), ..info }, examples }
    }

    /// Reads a set. `file` names it in the findings, all of which are returned at once, beside the examples that could be read.
    pub fn read(file: &str, text: &str) -> (Self, Vec<Diagnostic>) {
        let mut lines = (1u32..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).peekable();
        let first = lines.peek().and_then(|(_, line)| serde_json::from_str::<Value>(line).ok());
        let header = first.filter(|value| value.get("deval_examples").is_some());
        let mut findings = Vec::new();
        if header.is_some() {
            lines.next();
        }
        let examples = read_examples(file, lines, &mut findings);
        let stem = file.rsplit(['/', '\\']).next().unwrap_or(file).trim_end_matches(".jsonl");
        let info = match header.map(|header| read_header(file, &header, &examples)) {
            Some(Ok(info)) => info,
            Some(Err(finding)) => {
                findings.insert(0, finding);
                SetInfo::default()
            }
            None => SetInfo::gathered(stem, &examples),
        };
        (Self::new(info, examples), findings)
    }

    /// The set as a file.
    pub fn write(&self) -> String {
        let header = json!(Header { deval_examples: FORMAT, info: self.info.clone() });
        let lines = std::iter::once(header).chain(self.examples.iter().map(|example| json!(example)));
        lines.map(|line| format!("{line}\n")).collect()
    }
}

fn read_header(file: &str, header: &Value, examples: &[Example]) -> Result<SetInfo, Diagnostic> {
    let finding = |message: &str| Diagnostic::error("examples.header", message).at(file, 1, 1);
    if header["deval_examples"].as_u64() != Some(FORMAT.into()) {
        let found = header["deval_examples"].to_string();
        return Err(finding("the example file has another version")
            .found(found)
            .expected(FORMAT.to_string())
            .help("write it again with this version of the workbench, or update the workbench"));
    }
    let header = serde_json::from_value::<Header>(header.clone());
    let info = header.map_err(|error| finding(&format!("the first line is no header: {error}")))?.info;
    let found = digest(examples);
    if found == info.digest {
        return Ok(info);
    }
    Err(finding("the examples are not those that the file was written with")
        .found(found)
        .expected(info.digest)
        .help("take back the edit, or make a set of its own: `cargo xtask examples import FILE --out NEW.jsonl` after deleting the first line"))
}

fn read_examples<'a>(
    file: &str,
    lines: impl Iterator<Item = (u32, &'a str)>,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Example> {
    let (mut examples, mut seen): (Vec<Example>, _) = (Vec::new(), HashSet::new());
    for (number, line) in lines {
        match serde_json::from_str::<Example>(line) {
            Err(error) => findings.push(unreadable(file, number, &error)),
            Ok(example) if !seen.insert(example.id.clone()) => findings.push(
                Diagnostic::error("examples.duplicate-id", "two examples have the same id")
                    .at(file, number, 1)
                    .found(example.id),
            ),
            Ok(example) => {
                findings.extend(check(&example).map(|finding| finding.at(file, number, 1)));
                examples.push(example);
            }
        }
    }
    examples
}

fn unreadable(file: &str, line: u32, error: &serde_json::Error) -> Diagnostic {
    let column = u32::try_from(error.column()).unwrap_or(u32::MAX);
    Diagnostic::error("examples.unreadable", format!("this line is no example: {error}")).at(file, line, column.max(1))
}

/// References that the reward models would refuse or that no answer can reach.
pub fn check(example: &Example) -> Option<Diagnostic> {
    let reference = example.reference;
    let (message, expected) = if !reference.is_finite() {
        ("the reference score is no number", "0 to 1")
    } else if example.task == Task::Relevancy && reference != 0.0 && reference != 1.0 {
        ("a relevancy reference must be exactly 0 or 1, else the validator raises ValueError", "0 or 1")
    } else {
        return None;
    };
    Some(Diagnostic::error("examples.reference", message).found(reference.to_string()).expected(expected))
}

/// SHA-256 (hex) over the examples as JSON with sorted keys, one per line: the name of a set.
pub fn digest(examples: &[Example]) -> String {
    let mut hasher = Sha256::new();
    for example in examples {
        hasher.update(canonical(&json!(example)));
        hasher.update("\n");
    }
    hex::encode(hasher.finalize())
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{}:{}", json!(name), canonical(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"id":"a","task":"relevancy","rag_context":"c","query":"q","llm_response":"r","reference":1}"#;

    #[test]
    fn an_example_file_reports_every_bad_line_at_once() {
        let text = format!("{GOOD}\n\n{GOOD}\nnot json\n{}", GOOD.replace(":1}", ":0.5}").replace("\"a\"", "\"b\""));
        let (set, findings) = ExampleSet::read("set.jsonl", &text);
        assert_eq!((set.examples.len(), set.info.name.as_str()), (2, "set"));
        assert_eq!(set.examples[0].source, Value::Null);
        let found: Vec<_> = findings.iter().map(|f| (f.code.as_str(), f.place.clone().unwrap().line)).collect();
        assert_eq!(
            found,
            [("examples.duplicate-id", Some(3)), ("examples.unreadable", Some(4)), ("examples.reference", Some(5))]
        );
    }

    #[test]
    fn a_written_set_reads_back_and_an_edited_one_is_told() {
        let info = SetInfo { name: "n".into(), licence: Some("MIT".into()), seed: Some(3), ..SetInfo::default() };
        let set = ExampleSet::new(info, ExampleSet::read("set.jsonl", GOOD).0.examples);
        let text = set.write();
        assert_eq!(ExampleSet::read("other.jsonl", &text), (set, vec![]));
        let (_, findings) = ExampleSet::read("other.jsonl", &text.replace("\"q\"", "\"Q\""));
        assert_eq!((findings.len(), findings[0].code.as_str()), (1, "examples.header"));
        let (_, findings) =
            ExampleSet::read("other.jsonl", &text.replace("\"deval_examples\":1", "\"deval_examples\":2"));
        assert_eq!(findings[0].found.as_deref(), Some("2"));
    }

    #[test]
    fn sources_tell_licence_and_contamination() {
        let source = r#""reference":1,"source":{"repository":"o/r","licence":"MIT (repository); texts CC-BY-4.0"}}"#;
        let (set, findings) = ExampleSet::read("d/set.jsonl", &GOOD.replace("\"reference\":1}", source));
        assert_eq!(findings, []);
        assert_eq!(set.info.licence.as_deref(), Some("MIT (repository)"));
        assert_eq!(set.info.contamination, ["public"]);
    }
}
