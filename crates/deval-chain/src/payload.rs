//! The JSON a miner commits: written as upstream writes it, read as upstream's validator reads it
//! (`deval/model/chain_metadata.py`, `deval/model/models.py`).

use serde_json::{Map, Value};

use crate::ChainError;

/// The longest commitment a De-Val validator can read: the chain's `Raw128`.
pub const MAX_PAYLOAD_BYTES: usize = 128;

/// A commitment that fits the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitmentPayload(String);

impl CommitmentPayload {
    /// `{"model_url": …, "model_hash": …}` byte for byte as Python's `json.dumps` writes it; without the two spaces after
    /// the separators when only that fits, which the validator parses to the same values.
    ///
    /// # Errors
    /// [`ChainError::PayloadTooLong`] when neither form fits into [`MAX_PAYLOAD_BYTES`].
    pub fn encode(model_url: &str, model_hash: &str) -> Result<Self, ChainError> {
        let (url, hash) = (python_json_string(model_url), python_json_string(model_hash));
        let default = format!("{{\"model_url\": {url}, \"model_hash\": {hash}}}");
        let compact = format!("{{\"model_url\":{url},\"model_hash\":{hash}}}");
        let bytes = compact.len();
        [default, compact].into_iter().find(|text| text.len() <= MAX_PAYLOAD_BYTES).map(Self).ok_or_else(|| {
            let around_the_url = bytes - (url.len() - 2);
            ChainError::PayloadTooLong {
                model_url: model_url.to_owned(),
                bytes,
                limit: MAX_PAYLOAD_BYTES,
                longest_url: MAX_PAYLOAD_BYTES.saturating_sub(around_the_url),
            }
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes that go on chain, at most [`MAX_PAYLOAD_BYTES`].
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether a validator reads the same model out of `committed`, however that is written.
    pub fn is_said_by(&self, committed: &[u8]) -> bool {
        committed == self.as_bytes() || parse_as_validator(committed) == parse_as_validator(self.as_bytes())
    }
}

/// Python's `json.dumps` of a string: everything outside printable ASCII is escaped, in UTF-16 units.
fn python_json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out.push('"');
    out
}

/// What a validator takes from a commitment; both `None` is what it calls an invalid model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidatorView {
    /// `model_url`.
    pub model_url: Option<String>,
    /// `model_hash`.
    pub model_hash: Option<String>,
}

/// The Python exception a commitment raises in the validator, which then skips the miner for the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raised {
    /// JSON, but not an object.
    TypeError,
    /// A key is missing, or holds something that is neither a string nor null.
    ValidationError,
}

/// Reads committed bytes as the validator does. What is not JSON is no error there: it gives an empty view.
///
/// One difference is known: a lone surrogate escape (`"\ud800"`) raises upstream and gives an empty view here.
///
/// # Errors
/// [`Raised`], where upstream raises.
pub fn parse_as_validator(bytes: &[u8]) -> Result<ValidatorView, Raised> {
    let Some(value) = std::str::from_utf8(bytes).ok().and_then(python_json) else {
        return Ok(ValidatorView::default());
    };
    let Value::Object(fields) = value else { return Err(Raised::TypeError) };
    Ok(ValidatorView {
        model_url: optional_string(&fields, "model_url")?,
        model_hash: optional_string(&fields, "model_hash")?,
    })
}

fn optional_string(fields: &Map<String, Value>, key: &str) -> Result<Option<String>, Raised> {
    match fields.get(key) {
        Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        _ => Err(Raised::ValidationError),
    }
}

/// Python's decoder also takes NaN and the infinities; a validator only sees that they are no strings, so any number will do.
fn python_json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().or_else(|| serde_json::from_str(&without_special_floats(text)).ok())
}

fn without_special_floats(text: &str) -> String {
    let mut outside = true;
    let pieces = text.split('"').map(|piece| {
        let replaced = match outside {
            true => piece.replace("-Infinity", "0").replace("Infinity", "0").replace("NaN", "0"),
            false => piece.to_owned(),
        };
        // A quote after an odd run of backslashes is part of the string.
        let escaped = !outside && (piece.len() - piece.trim_end_matches('\\').len()) % 2 == 1;
        outside = if escaped { outside } else { !outside };
        replaced
    });
    pieces.collect::<Vec<_>>().join("\"")
}

#[cfg(test)]
mod tests;
