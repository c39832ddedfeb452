use std::fmt;
use std::path::Path;

use deval_report::Diagnostic;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{read_json, tokenizer_class};
use crate::ModelError;
use crate::files::{self, Label};

const TOKENIZER: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";

/// Read by transformers where they are there.
const BESIDE: [&str; 3] = ["special_tokens_map.json", "added_tokens.json", "generation_config.json"];

/// Kinds of models that the tokenizers library reads.
const KINDS: [&str; 4] = ["BPE", "WordPiece", "WordLevel", "Unigram"];

/// Tokenizer files are there, their token numbers lie within the model's vocabulary, and there is a chat template.
pub(crate) fn check(
    dir: &Path,
    label: &Label,
    vocabulary: Option<u64>,
    findings: &mut Vec<Diagnostic>,
) -> Result<(), ModelError> {
    match files::read_small(&dir.join(TOKENIZER), "model.tokenizer", &label.file(TOKENIZER))? {
        Ok(Some(bytes)) => numbers(&bytes, label, vocabulary, findings),
        Ok(None) => {
            let finding = Diagnostic::error("model.file-missing", format!("{TOKENIZER} is missing"));
            findings.push(finding.in_file(label.file(TOKENIZER)).help(SAVE));
        }
        Err(finding) => findings.push(*finding),
    }
    if let Some(settings) = read_json(dir, SETTINGS, label, findings)? {
        let added = settings.get("added_tokens_decoder").and_then(Value::as_object);
        let highest = added.into_iter().flat_map(|added| added.keys()).filter_map(|id| id.parse().ok()).max();
        findings.extend(beyond(highest, vocabulary, label, SETTINGS));
        findings.extend(tokenizer_class::check(&settings).map(|finding| finding.in_file(label.file(SETTINGS))));
        // transformers 4.47.1 takes that file before anything in the settings.
        if !dir.join("chat_template.jinja").is_file() {
            findings.extend(chat_template(&settings, label));
        }
    }
    for name in BESIDE {
        beside(dir, name, label, findings)?;
    }
    Ok(())
}

/// A file that need not be there, but must be a JSON object if it is. A `generation_config.json` that is no JSON at all does not stop
/// transformers: it passes over the file and generates with its own settings.
fn beside(dir: &Path, name: &str, label: &Label, findings: &mut Vec<Diagnostic>) -> Result<(), ModelError> {
    let before = findings.len();
    if files::not_a_file(&dir.join(name)).is_none() && !dir.join(name).is_file() {
        return Ok(());
    }
    read_json(dir, name, label, findings)?;
    for finding in &mut findings[before..] {
        finding.help = Some("save it again with `save_pretrained`, or remove the file".to_owned());
    }
    Ok(())
}

fn numbers(bytes: &[u8], label: &Label, vocabulary: Option<u64>, findings: &mut Vec<Diagnostic>) {
    let finding = |message: String| Diagnostic::error("model.tokenizer", message).in_file(label.file(TOKENIZER));
    let tokenizer = match serde_json::from_slice::<Tokenizer>(bytes) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            let fault = finding(format!("{TOKENIZER} cannot be read: {}", in_plain_words(&error)));
            return findings.push(fault.expected("a file as the tokenizers library saves it").help(SAVE));
        }
    };
    if let Some((fault, found, expected)) = tokenizer.fault() {
        findings
            .push(finding(format!("{TOKENIZER} cannot be loaded: {fault}")).found(found).expected(expected).help(SAVE));
    }
    let added = tokenizer.added_tokens.iter().map(|token| token.id).max();
    findings.extend(beyond(added.max(tokenizer.model.vocab.highest), vocabulary, label, TOKENIZER));
}

const SAVE: &str = "save it with `tokenizer.save_pretrained(…)` from a fast tokenizer";

/// The parser's words without the names of types in this file.
fn in_plain_words(error: &serde_json::Error) -> String {
    let text = error
        .to_string()
        .replace(" with 9 elements", "")
        .replace(" with 3 elements", "")
        .replace(" with 1 element", "");
    let text = text
        .replace("struct Tokenizer", "an object with added_tokens and model")
        .replace("struct Added", "an object with id");
    text.replace("struct Model", "an object with vocab")
        .replace("a sequence", "a list")
        .replace("u64", "a whole number")
}

/// A token without a row in the embedding; the model raises, or reads beyond it, as soon as it occurs.
fn beyond(highest: Option<u64>, vocabulary: Option<u64>, label: &Label, name: &str) -> Option<Diagnostic> {
    let (highest, size) = (highest?, vocabulary?);
    let message = format!("the tokenizer has token {highest}, but the model's vocabulary has {size}");
    let finding = Diagnostic::error("model.tokenizer", message).in_file(label.file(name));
    let help = "resize the embeddings, or use the tokenizer the model was trained with";
    (highest >= size).then(|| finding.found(highest.to_string()).expected(format!("at most {}", size - 1)).help(help))
}

fn chat_template(settings: &Value, label: &Label) -> Option<Diagnostic> {
    let finding = |message: &str| Diagnostic::error("model.chat-template", message).in_file(label.file(SETTINGS));
    let template = settings.get("chat_template").unwrap_or(&Value::Null);
    match template {
        Value::String(_) => return None,
        Value::Array(_) | Value::Object(_) => {
            let (fault, expected) = named_templates(template)?;
            let help = "put the text of the template itself under `chat_template`, or name one of the list `default`";
            return Some(finding(fault).found(names(template)).expected(expected).help(help));
        }
        Value::Null => {}
        other => {
            let help = "take it from the instruct model you started from";
            let finding = finding("the chat template is not a text, and transformers raises on it");
            return Some(finding.found(other.to_string()).expected("a Jinja template").help(help));
        }
    }
    let missing = finding("there is no chat template, and the pipeline cannot put a prompt together");
    Some(missing.help("take it from the instruct model you started from"))
}

/// What is wrong with a list of named templates, or with an object from names to templates, and what it should be. The pipeline names
/// none, so transformers takes `default` and raises without it.
fn named_templates(templates: &Value) -> Option<(&'static str, &'static str)> {
    let whole = |entry: &Value| entry["name"].is_string() && entry.get("template").is_some();
    if templates.as_array().is_some_and(|list| !list.iter().all(whole)) {
        return Some((
            "an entry of the list of chat templates has not both a name and a template",
            "`name` and `template`",
        ));
    }
    let default = match templates {
        Value::Array(list) => list.iter().rfind(|entry| entry["name"] == "default").map(|entry| &entry["template"]),
        templates => templates.get("default"),
    };
    match default {
        Some(Value::String(_)) => None,
        Some(_) => Some(("the chat template `default` is not a text", "a Jinja template")),
        None => Some(("none of the chat templates is named `default`, and transformers raises", "one named `default`")),
    }
}

fn names(templates: &Value) -> String {
    let names: Vec<String> = match templates {
        Value::Array(list) => list.iter().map(|entry| entry["name"].to_string()).collect(),
        templates => templates.as_object().into_iter().flat_map(|named| named.keys().cloned()).collect(),
    };
    if names.is_empty() { "no template".to_owned() } else { names.join(", ") }
}

/// As much of `tokenizer.json` as the check needs; merges, the bulk of it, are passed over. The library refuses any other key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokenizer {
    #[serde(default, deserialize_with = "present")]
    version: Option<Value>,
    #[serde(default, rename = "truncation")]
    _truncation: IgnoredAny,
    #[serde(default, rename = "padding")]
    _padding: IgnoredAny,
    added_tokens: Vec<Added>,
    #[serde(default, rename = "normalizer")]
    _normalizer: IgnoredAny,
    #[serde(default, rename = "pre_tokenizer")]
    _pre_tokenizer: IgnoredAny,
    #[serde(default, rename = "post_processor")]
    _post_processor: IgnoredAny,
    #[serde(default, rename = "decoder")]
    _decoder: IgnoredAny,
    model: Model,
}

impl Tokenizer {
    /// What keeps the tokenizers library from loading it: what is wrong, what was found, what it takes.
    fn fault(&self) -> Option<(&'static str, String, String)> {
        let Model { kind, merges, .. } = &self.model;
        if let Some(version) = self.version.as_ref().filter(|version| *version != "1.0") {
            return Some(("its `version` is not known", version.to_string(), "\"1.0\"".to_owned()));
        }
        let known = |kind: &Value| kind.as_str().is_some_and(|kind| KINDS.contains(&kind));
        if let Some(kind) = kind.as_ref().filter(|kind| !known(kind)) {
            return Some(("its `model.type` is not known", kind.to_string(), KINDS.join(", ")));
        }
        let unmerged = kind.as_ref().is_some_and(|kind| kind == "BPE") && merges.is_none();
        unmerged.then(|| ("its `model` has no merges", "BPE without merges".to_owned(), "a list `merges`".to_owned()))
    }
}

#[derive(Deserialize)]
struct Added {
    id: u64,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default, rename = "type", deserialize_with = "present")]
    kind: Option<Value>,
    vocab: Vocabulary,
    merges: Option<IgnoredAny>,
}

/// A value that is there, also when it is null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

struct Vocabulary {
    highest: Option<u64>,
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VocabularyVisitor)
    }
}

struct VocabularyVisitor;

impl<'de> Visitor<'de> for VocabularyVisitor {
    type Value = Vocabulary;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tokens to numbers, or a list of tokens")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
        let mut highest = None;
        while let Some((IgnoredAny, number)) = map.next_entry::<IgnoredAny, u64>()? {
            highest = highest.max(Some(number));
        }
        Ok(Vocabulary { highest })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocabulary, A::Error> {
        let mut count = 0u64;
        while let Some(IgnoredAny) = list.next_element()? {
            count += 1;
        }
        Ok(Vocabulary { highest: count.checked_sub(1) })
    }
}
