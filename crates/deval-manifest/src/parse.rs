//! Text to manifest, with every finding at once.
//!
//! serde stops at the first error. So the document is parsed into a table with positions; when a key is refused, the finding is kept,
//! the key is taken out, and the rest is read again, until nothing is refused.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Component, Path},
};

use deval_report::{Diagnostic, Place};
use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer, Error},
};

use crate::{Manifest, SCHEMA};

/// A manifest as far as it could be read, with what is wrong and where each key stands.
#[derive(Debug)]
pub struct Parsed {
    /// Present when all obligatory keys could be read.
    pub manifest: Option<Manifest>,
    /// Everything that is wrong, in order of place.
    pub diagnostics: Vec<Diagnostic>,
    places: BTreeMap<String, Place>,
}

impl Parsed {
    /// Where a key such as `submission.model_url` is written, if it is.
    pub fn place(&self, key: &str) -> Option<&Place> {
        self.places.get(key)
    }
}

/// Reads the text of a manifest; `file` is the name used in places.
pub fn parse(text: &str, file: &str) -> Parsed {
    let source = Source { text, file };
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut places = BTreeMap::new();
    collect_places(&source, document.get_ref(), "", &mut places);
    let mut parsed = Parsed { manifest: None, diagnostics: Vec::new(), places };
    if !errors.is_empty() {
        parsed.diagnostics.extend(errors.iter().map(|error| source.finding("manifest.syntax", error)));
    } else if let Some(finding) = too_new(&source, document.get_ref()) {
        parsed.diagnostics.push(finding);
    } else {
        (parsed.manifest, parsed.diagnostics) = read(&source, document);
    }
    if let Some(manifest) = &parsed.manifest {
        let findings = out_of_range(manifest, &parsed.places);
        parsed.diagnostics.extend(findings);
    }
    parsed.diagnostics.sort_by_key(|finding| finding.place.as_ref().map(|place| (place.line, place.column)));
    parsed
}

struct Source<'a> {
    text: &'a str,
    file: &'a str,
}

impl Source<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place {
            file: self.file.to_owned(),
            line: Some(count(before.matches('\n').count() + 1)),
            column: Some(count(before[line_start..].chars().count() + 1)),
        }
    }

    fn finding(&self, code: &str, error: &Error) -> Diagnostic {
        let message = error.message().trim().replace('\n', "; ");
        let (message, expected) = match message.split_once(", expected ") {
            Some((message, expected)) => (message.to_owned(), Some(in_plain_words(expected))),
            None => (message, None),
        };
        let mut finding = Diagnostic { expected, ..Diagnostic::error(code, message) };
        if let Some(span) = error.span() {
            finding.place = Some(self.place(span.start));
            finding.found = self.text.get(span).map(str::trim).filter(|found| !found.is_empty()).map(shorten);
        }
        finding.help("see the commented `deval.toml` at the root of the repository, or `cargo xtask schema`")
    }
}

/// The names of Rust's types say nothing to those who write a manifest.
fn in_plain_words(expected: &str) -> String {
    let up_to = |most: u64| format!("a whole number from 0 to {most}");
    match expected {
        "u16" => up_to(u16::MAX.into()),
        "u32" => up_to(u32::MAX.into()),
        // TOML's own numbers end there.
        "u64" => up_to(i64::MAX as u64),
        "f32" | "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        other => other.to_owned(),
    }
}

fn shorten(found: &str) -> String {
    let line = found.lines().next().unwrap_or_default();
    if line.chars().count() > 80 { line.chars().take(79).chain(['…']).collect() } else { line.to_owned() }
}

fn read(source: &Source<'_>, mut document: Spanned<DeTable<'_>>) -> (Option<Manifest>, Vec<Diagnostic>) {
    let mut findings = Vec::new();
    let mut removed = Vec::new();
    loop {
        let error = match Manifest::deserialize(Deserializer::from(document.clone())) {
            Ok(manifest) => return (Some(manifest), findings),
            Err(error) => error,
        };
        // A key that was taken out because its value was refused is not missing as well.
        let follows = removed.iter().any(|key| error.message().contains(&format!("missing field `{key}`")));
        if !follows {
            findings.push(source.finding(code_of(&error), &error));
        }
        match error.span().and_then(|span| remove(document.get_mut(), &span)) {
            Some(key) if !follows => removed.push(key),
            _ => return (None, findings),
        }
    }
}

fn code_of(error: &Error) -> &'static str {
    match error.message() {
        message if message.starts_with("unknown field") => "manifest.unknown-key",
        message if message.starts_with("missing field") => "manifest.missing-key",
        _ => "manifest.value",
    }
}

/// Takes the entry out whose key or value has this span; the innermost one wins.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let inner = table.iter_mut().find_map(|(_, value)| match value.get_mut() {
        DeValue::Table(inner) => remove(inner, span),
        _ => None,
    });
    inner.or_else(|| {
        let contains = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
        let hit = |key: &Spanned<_>, value: &Spanned<DeValue<'_>>| {
            key.span() == *span || value.span() == *span || (!value.get_ref().is_table() && contains(&value.span()))
        };
        let name = table.iter().find(|(key, value)| hit(key, value)).map(|(key, _)| key.get_ref().to_string())?;
        table.remove(name.as_str());
        Some(name)
    })
}

fn collect_places(source: &Source<'_>, table: &DeTable<'_>, prefix: &str, places: &mut BTreeMap<String, Place>) {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            collect_places(source, inner, &format!("{path}."), places);
        }
        places.insert(path, source.place(value.span().start));
    }
}

/// An older program meeting a newer file says so at once, in place of a list of unknown keys.
fn too_new(source: &Source<'_>, document: &DeTable<'_>) -> Option<Diagnostic> {
    let value = document.get("schema")?;
    let found: u64 = value.get_ref().as_integer()?.as_str().parse().ok()?;
    (found > u64::from(SCHEMA)).then(|| {
        let mut finding = Diagnostic::error("manifest.schema-too-new", "this manifest is newer than this program")
            .found(format!("schema = {found}"))
            .expected(format!("schema = {SCHEMA}"))
            .help("update this program, or write the manifest for the older schema");
        finding.place = Some(source.place(value.span().start));
        finding
    })
}

fn out_of_range(manifest: &Manifest, places: &BTreeMap<String, Place>) -> Vec<Diagnostic> {
    let ranges = [
        ("schema", u64::from(manifest.schema), 1, u64::from(SCHEMA)),
        ("evaluate.examples_per_task", manifest.evaluate.examples_per_task.into(), 1, 1000),
        ("evaluate.max_new_tokens", manifest.evaluate.max_new_tokens.into(), 1, 4096),
        ("evaluate.samples", manifest.evaluate.samples.into(), 1, 100),
        ("container.memory_gib", manifest.container.memory_gib.into(), 1, 4096),
        ("axon.port", manifest.axon.port.into(), 1025, 65534),
    ];
    let outside = ranges.into_iter().filter(|&(_, value, least, most)| value < least || value > most);
    let mut findings: Vec<_> = outside
        .map(|(key, value, least, most)| {
            value_finding(key, places, "is out of range")
                .found(value.to_string())
                .expected(format!("{least} to {most}"))
                .help("choose a value inside the range")
        })
        .collect();
    let evaluate = &manifest.evaluate;
    if !(0.0..=0.49).contains(&evaluate.label_noise) {
        let finding = value_finding("evaluate.label_noise", places, "is out of range");
        let finding = finding.found(evaluate.label_noise.to_string()).expected("0 to 0.49");
        findings.push(finding.help("choose a value inside the range"));
    }
    if evaluate.embedder_dir.is_some() && evaluate.embedder_repo.is_some() {
        let finding =
            value_finding("evaluate.embedder_repo", places, "and `evaluate.embedder_dir` name an encoder each");
        findings.push(finding.expected("one of the two").help("delete one of them"));
    }
    for (key, name) in [("wallet.name", &manifest.wallet.name), ("wallet.hotkey", &manifest.wallet.hotkey)] {
        let mut parts = Path::new(name).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name.as_str()) {
            let finding = value_finding(key, places, "is no name").found(name).expected("a name without `/`");
            findings.push(finding.help("`wallet.path` is the folder of the wallets"));
        }
    }
    if manifest.axon.external_ip.is_some() && manifest.axon.external_interface.is_some() {
        let finding = value_finding("axon.external_interface", places, "and `axon.external_ip` name an address each");
        findings.push(finding.expected("one of the two").help("delete one of them"));
    }
    findings
}

fn value_finding(key: &str, places: &BTreeMap<String, Place>, what: &str) -> Diagnostic {
    let finding = Diagnostic::error("manifest.value", format!("`{key}` {what}"));
    Diagnostic { place: places.get(key).cloned(), ..finding }
}

#[cfg(test)]
mod tests;
