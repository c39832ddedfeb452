//! Reads example sets: upstream's CSV (`scripts/generate_task_examples.py`), our own CSV, and JSON Lines with or without a header.
//!
//! Much is accepted: columns in any order, more columns than known (kept in `source`), a byte order mark, any line ends, numbers as text.
//! Whatever cannot be read is told row by row, with every other row kept.

mod record;

use std::collections::{BTreeSet, HashSet};

use deval_eval::dice::Dice;
use deval_eval::set::{check, digest};
use deval_eval::{Example, ExampleSet, SetInfo, Task};
use deval_report::Diagnostic;
use serde_json::{Map, Value};

use crate::{csv_format, licence};

/// How a file is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// As the file's name says (`.csv`, `.jsonl`, `.ndjson`, `.json`), else as its first character does.
    #[default]
    Auto,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

impl Format {
    fn of(self, file: &str, text: &str) -> Self {
        let extension = file.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        match (self, extension.as_deref()) {
            (Self::Auto, Some("csv")) => Self::Csv,
            (Self::Auto, Some("jsonl" | "ndjson" | "json")) => Self::Jsonl,
            (Self::Auto, _) if text.trim_start().starts_with('{') => Self::Jsonl,
            (Self::Auto, _) => Self::Csv,
            (given, _) => given,
        }
    }
}

/// What the reader of a set knows better than its file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Name of the set.
    pub name: Option<String>,
    /// Licence as an SPDX expression.
    pub licence: Option<String>,
    /// Contamination tags to add.
    pub contamination: Vec<String>,
}

impl Overrides {
    /// The set with what is given here; the digest stays.
    pub fn apply(&self, mut set: ExampleSet) -> ExampleSet {
        set.info.name = self.name.clone().unwrap_or(set.info.name);
        set.info.licence = self.licence.clone().or(set.info.licence);
        set.info.contamination = united(set.info.contamination.iter().chain(&self.contamination));
        set
    }
}

/// Reads a set. `file` names it in the findings, all of which are returned beside the examples that could be read.
///
/// An example without an id is called `<file stem>-<row>`, counted from 1. Where a record has neither mistakes nor true values, they follow
/// from the reference where they can; otherwise the example is marked `mistakes_unknown` and a note tells how many are.
pub fn read(file: &str, text: &str, format: Format) -> (ExampleSet, Vec<Diagnostic>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let stem = stem(file);
    let mut findings = Vec::new();
    let records = match format.of(file, text) {
        Format::Csv => csv_records(file, text, &mut findings),
        Format::Jsonl | Format::Auto if has_header(text) => return ExampleSet::read(file, text),
        Format::Jsonl | Format::Auto => json_records(file, text, &mut findings),
    };
    let examples = examples(file, stem, records, &mut findings);
    let info = SetInfo::gathered(stem, &examples);
    let notes = examples.iter().filter_map(|example| example.source.get("licence")?.as_str());
    let licence = licence::all_of(notes.collect::<BTreeSet<_>>());
    findings.sort_by_key(|finding| finding.place.as_ref().and_then(|place| place.line).unwrap_or(u32::MAX));
    (ExampleSet::new(SetInfo { licence, ..info }, examples), findings)
}

fn stem(file: &str) -> &str {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let endings = [".csv", ".jsonl", ".ndjson", ".json"];
    endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

fn has_header(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty());
    let value = first.and_then(|line| serde_json::from_str::<Value>(line).ok());
    value.is_some_and(|value| value.get("deval_examples").is_some())
}

/// A line and its fields by name.
type Record = (u32, Map<String, Value>);

fn csv_records(file: &str, text: &str, findings: &mut Vec<Diagnostic>) -> Vec<Record> {
    let mut rows = csv_format::rows(text).into_iter();
    let Some(head) = rows.next() else {
        findings.push(Diagnostic::error("examples.empty", "the file holds no header and no rows").at(file, 1, 1));
        return Vec::new();
    };
    let names = record::column_names(&head.cells.unwrap_or_default());
    let missing = record::missing_columns(&names);
    if !missing.is_empty() {
        findings.extend(missing.into_iter().map(|finding| finding.at(file, head.line, 1)));
        return Vec::new();
    }
    let mut records = Vec::new();
    for row in rows {
        match row.cells.map_err(str::to_owned).and_then(|cells| record::of_cells(&names, cells)) {
            Ok(fields) => records.push((row.line, fields)),
            Err(why) => findings.push(Diagnostic::error("examples.row", why).at(file, row.line, 1)),
        }
    }
    records
}

fn json_records(file: &str, text: &str, findings: &mut Vec<Diagnostic>) -> Vec<Record> {
    let mut records = Vec::new();
    for (number, line) in (1u32..).zip(text.split('\n')).filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str::<Map<String, Value>>(line) {
            Ok(fields) => records.push((number, fields)),
            Err(error) => findings.push(
                Diagnostic::error("examples.unreadable", format!("this line is no JSON object: {error}")).at(
                    file,
                    number,
                    u32::try_from(error.column()).unwrap_or(u32::MAX).max(1),
                ),
            ),
        }
    }
    records
}

fn examples(file: &str, stem: &str, records: Vec<Record>, findings: &mut Vec<Diagnostic>) -> Vec<Example> {
    let (mut examples, mut seen, mut unlabelled) = (Vec::new(), HashSet::new(), 0);
    for (row, (line, fields)) in (1..).zip(records) {
        match record::example(fields, format!("{stem}-{row:03}")) {
            Err(wrong) => findings.extend(wrong.into_iter().map(|finding| finding.at(file, line, 1))),
            Ok((example, _)) if !seen.insert(example.id.clone()) => findings.push(
                Diagnostic::error("examples.duplicate-id", "two examples have the same id")
                    .at(file, line, 1)
                    .found(example.id),
            ),
            Ok((example, is_unlabelled)) => {
                findings.extend(check(&example).map(|finding| finding.at(file, line, 1)));
                unlabelled += usize::from(is_unlabelled);
                examples.push(example);
            }
        }
    }
    if unlabelled > 0 {
        let message =
            format!("{unlabelled} of {} examples have a reference score but no labelled claims", examples.len());
        findings.push(
            Diagnostic::note("examples.unlabelled", message)
                .in_file(file)
                .help("they count for the score part of the reward only; add the columns `reference_mistakes` and `reference_true_values`"),
        );
    }
    examples
}

/// One set out of several, in order. An example that is there already is dropped; another one under the same id gets `~2`, `~3`, … behind its
/// id. Licences are joined by `AND`, contamination tags united; notes tell what was dropped or renamed.
pub fn merge(sets: Vec<ExampleSet>, name: &str) -> (ExampleSet, Vec<Diagnostic>) {
    let licence = licence::all_of(sets.iter().filter_map(|set| set.info.licence.as_deref()));
    let contamination = united(sets.iter().flat_map(|set| &set.info.contamination));
    let (mut examples, mut findings) = (Vec::new(), Vec::new());
    let (mut ids, mut contents, mut dropped) = (HashSet::new(), HashSet::new(), 0);
    for mut example in sets.into_iter().flat_map(|set| set.examples) {
        let content = digest(&[Example { id: String::new(), source: Value::Null, ..example.clone() }]);
        if !contents.insert(content) {
            dropped += 1;
            continue;
        }
        if !ids.insert(example.id.clone()) {
            let renamed = free_id(&example.id, &ids);
            findings.push(
                Diagnostic::note("examples.renamed", "another set has the same id")
                    .found(&example.id)
                    .expected(&renamed),
            );
            ids.insert(renamed.clone());
            example.id = renamed;
        }
        examples.push(example);
    }
    if dropped > 0 {
        let message = format!("{dropped} examples are there already, word for word; they are kept once");
        findings.push(Diagnostic::note("examples.repeated", message));
    }
    let info = SetInfo { name: name.to_owned(), licence, contamination, ..SetInfo::default() };
    (ExampleSet::new(info, examples), findings)
}

fn free_id(id: &str, taken: &HashSet<String>) -> String {
    let mut ids = (2u64..).map(|count| format!("{id}~{count}"));
    ids.find(|id| !taken.contains(id)).expect("there are more numbers than examples")
}

fn united<'a>(tags: impl Iterator<Item = &'a String>) -> Vec<String> {
    tags.collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

/// `per_task` examples of each task, drawn by seed and kept in the set's order; fewer, with a warning, where there are fewer. The new set
/// records the digest of the one it was drawn from, and the seed.
pub fn select(set: &ExampleSet, tasks: &[Task], per_task: usize, seed: u64) -> (ExampleSet, Vec<Diagnostic>) {
    let (mut chosen, mut findings) = (Vec::new(), Vec::new());
    for task in Task::ALL.into_iter().filter(|task| tasks.contains(task)) {
        let of_task: Vec<usize> = (0..set.examples.len()).filter(|place| set.examples[*place].task == task).collect();
        if of_task.len() < per_task {
            let message = format!("the set has too few examples of {task}");
            findings.push(
                Diagnostic::warning("examples.few", message)
                    .found(of_task.len().to_string())
                    .expected(per_task.to_string()),
            );
        }
        let drawn = Dice::new(seed, task as u64).sample(of_task.len(), per_task);
        chosen.extend(drawn.into_iter().map(|place| of_task[place]));
    }
    chosen.sort_unstable();
    let examples = chosen.into_iter().map(|place| set.examples[place].clone()).collect();
    let info = SetInfo { of: Some(set.info.digest.clone()), seed: Some(seed), ..set.info.clone() };
    (ExampleSet::new(info, examples), findings)
}

#[cfg(test)]
mod tests;
