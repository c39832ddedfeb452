//! `cargo xtask compare`: whether one evaluation beats another on the same examples.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, bail};
use deval_eval::{
    Evaluation,
    compare::{CompareOptions, Paired, compare},
};
use deval_report::{Inputs, Report, SCHEMA, Section};
use serde::Serialize;
use serde_json::Value;

use crate::{Verdict, ui::Ui};

pub(crate) fn run(a: &Path, b: &Path, common_only: bool, lead: Option<f64>, ui: Ui) -> anyhow::Result<Verdict> {
    let [of_a, of_b] = [read(a)?, read(b)?];
    let mut inputs = Inputs::default();
    inputs.add("a", &of_a.fingerprint);
    inputs.add("b", &of_b.fingerprint);
    let differences = differences(&of_a, &of_b);
    let [a, b] = [evaluation(a, of_a)?, evaluation(b, of_b)?];
    let paired = compare(&a, &b, CompareOptions { seed: a.seed, common_only, lead })?;
    let mut sections = paired.sections();
    sections.push(section(&differences));
    ui.report(&Report::new("compare", inputs, Vec::new(), Some(Compared { paired, differences })), &sections);
    Ok(Verdict::Ok)
}

/// What a comparison found, and what could explain it.
#[derive(Serialize)]
struct Compared {
    #[serde(flatten)]
    paired: Paired,
    differences: Vec<Difference>,
}

/// Something that the answers depend on, and that is not the same in A and in B.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    what: String,
    a: Option<String>,
    b: Option<String>,
}

fn differences(a: &Report<Evaluation>, b: &Report<Evaluation>) -> Vec<Difference> {
    let [a, b] = [a, b].map(facts);
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let changed = names.into_iter().filter(|name| a.get(*name) != b.get(*name));
    changed.map(|what| Difference { what: what.clone(), a: a.get(what).cloned(), b: b.get(what).cloned() }).collect()
}

/// All that the answers of a report depend on, by name: settings, digests, versions, and the container that gave them.
fn facts(report: &Report<Evaluation>) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([("program".to_owned(), report.run.version.clone())]);
    if let Some(evaluation) = &report.result {
        facts.insert("backend".to_owned(), evaluation.backend.name.clone());
        facts.insert("embedder".to_owned(), evaluation.embedder.clone());
        facts.insert("set".to_owned(), evaluation.set.digest.clone());
        let evidence = evaluation.backend.evidence.iter();
        facts.extend(evidence.map(|(name, value)| (format!("evidence.{name}"), value.clone())));
    }
    let inputs = serde_json::to_value(&report.inputs).unwrap_or_default();
    add(&mut facts, "", &inputs);
    let run = &report.run.timing["container"];
    for part in ["image", "engine", "network", "gpu"] {
        add(&mut facts, &format!("container.{part}"), &run[part]);
    }
    facts
}

/// Every text, number and flag below a value, by its path.
fn add(facts: &mut BTreeMap<String, String>, path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            // Whether an image was built in this run explains nothing.
            for (name, value) in fields.iter().filter(|(name, _)| *name != "was_there") {
                let dot = if path.is_empty() { "" } else { "." };
                add(facts, &format!("{path}{dot}{name}"), value);
            }
        }
        Value::Null => {}
        Value::String(text) => drop(facts.insert(path.to_owned(), text.clone())),
        other => drop(facts.insert(path.to_owned(), other.to_string())),
    }
}

fn section(differences: &[Difference]) -> Section {
    let section = Section::new("What differs");
    if differences.is_empty() {
        return section.note("nothing that they depend on differs");
    }
    let cell = |text: &Option<String>| text.clone().unwrap_or_default();
    let rows = differences.iter().map(|found| vec![found.what.clone(), cell(&found.a), cell(&found.b)]);
    section.table(&["what", "A", "B"], rows.collect())
}

/// A report of `evaluate`, wherever it lies.
pub(crate) fn read(path: &Path) -> anyhow::Result<Report<Evaluation>> {
    let text = fs::read(path).with_context(|| {
        format!("cannot read {}; `cargo xtask evaluate --save FILE` writes a report where you want it", path.display())
    })?;
    let report: Report<Evaluation> =
        serde_json::from_slice(&text).with_context(|| format!("{} is no report of `evaluate`", path.display()))?;
    if report.schema != SCHEMA {
        bail!("{} has report format {}, expected {SCHEMA}; evaluate again", path.display(), report.schema);
    }
    Ok(report)
}

/// Its result.
pub(crate) fn evaluation(path: &Path, report: Report<Evaluation>) -> anyhow::Result<Evaluation> {
    report.result.with_context(|| format!("the evaluation in {} ended with findings and has no result", path.display()))
}
