use std::fmt;
use std::path::Path;

use deval_report::Diagnostic;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::read_json;
use crate::ModelError;
use crate::files::{self, Label};

const TOKENIZER: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";

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
            let help = "save it with `tokenizer.save_pretrained(…)` from a fast tokenizer";
            let finding = Diagnostic::error("model.file-missing", format!("{TOKENIZER} is missing"));
            findings.push(finding.in_file(label.file(TOKENIZER)).help(help));
        }
        Err(finding) => findings.push(*finding),
    }
    if let Some(settings) = read_json(dir, SETTINGS, label, findings)? {
        let added = settings.get("added_tokens_decoder").and_then(Value::as_object);
        let highest = added.into_iter().flat_map(|added| added.keys()).filter_map(|id| id.parse().ok()).max();
        findings.extend(beyond(highest, vocabulary, label, SETTINGS));
        findings.extend(chat_template(&settings, dir.join("chat_template.jinja").is_file(), label));
    }
    Ok(())
}

fn numbers(bytes: &[u8], label: &Label, vocabulary: Option<u64>, findings: &mut Vec<Diagnostic>) {
    let finding = |message: String| Diagnostic::error("model.tokenizer", message).in_file(label.file(TOKENIZER));
    let tokenizer = match serde_json::from_slice::<Tokenizer>(bytes) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return findings.push(finding(format!("{TOKENIZER} cannot be read: {error}"))),
    };
    let added = tokenizer.added_tokens.iter().map(|token| token.id).max();
    findings.extend(beyond(added.max(tokenizer.model.vocab.highest), vocabulary, label, TOKENIZER));
}

/// A token without a row in the embedding; the model raises, or reads beyond it, as soon as it occurs.
fn beyond(highest: Option<u64>, vocabulary: Option<u64>, label: &Label, name: &str) -> Option<Diagnostic> {
    let (highest, size) = (highest?, vocabulary?);
    let message = format!("the tokenizer has token {highest}, but the model's vocabulary has {size}");
    let finding = Diagnostic::error("model.tokenizer", message).in_file(label.file(name));
    let help = "resize the embeddings, or use the tokenizer the model was trained with";
    (highest >= size).then(|| finding.found(highest.to_string()).expected(format!("at most {}", size - 1)).help(help))
}

fn chat_template(settings: &Value, separate: bool, label: &Label) -> Option<Diagnostic> {
    let there = settings.get("chat_template").is_some_and(|value| value.is_string() || value.is_array());
    if there {
        return None;
    }
    let (message, help) = if separate {
        let message =
            "the chat template is only in chat_template.jinja, which the validator's transformers 4.47.1 does not read";
        (message, "put its text into tokenizer_config.json under `chat_template`")
    } else {
        (
            "there is no chat template, and the pipeline cannot put a prompt together",
            "take it from the instruct model you started from",
        )
    };
    Some(Diagnostic::error("model.chat-template", message).in_file(label.file(SETTINGS)).help(help))
}

/// As much of `tokenizer.json` as the check needs; merges, the bulk of it, are passed over.
#[derive(Deserialize)]
struct Tokenizer {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
}

#[derive(Deserialize)]
struct Model {
    vocab: Vocabulary,
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
