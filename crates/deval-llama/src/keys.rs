//! A JSON object read key by key, so that every fault names its key, what stands there and what is expected.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::LlamaError;
use crate::files::read_json;

/// Most letters of a value that a message repeats.
const LONGEST_QUOTE: usize = 60;

/// What a key can hold.
pub(crate) trait Field: DeserializeOwned {
    /// What is expected, as a message says it.
    const EXPECTED: &str;
}

impl Field for usize {
    const EXPECTED: &str = "a whole number from 0 on";
}

impl Field for f64 {
    const EXPECTED: &str = "a number";
}

impl Field for bool {
    const EXPECTED: &str = "true or false";
}

impl Field for String {
    const EXPECTED: &str = "a text";
}

impl Field for Vec<String> {
    const EXPECTED: &str = "a list of texts";
}

impl Field for Vec<u32> {
    const EXPECTED: &str = "a list of token numbers";
}

impl Field for Map<String, Value> {
    const EXPECTED: &str = "an object or null";
}

/// An object, and the way to it from the top of its file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    prefix: String,
    map: Map<String, Value>,
}

impl Keys {
    /// Reads the file whose top is the object.
    pub(crate) fn read(path: &Path) -> Result<Self, LlamaError> {
        Ok(Self { prefix: String::new(), map: read_json(path)? })
    }

    /// The object under a key.
    pub(crate) fn below(&self, key: &str) -> Result<Option<Self>, String> {
        let map = self.get(key)?;
        Ok(map.map(|map| Self { prefix: format!("{}{key}.", self.prefix), map }))
    }

    /// What stands under a key; null is nothing.
    pub(crate) fn get<T: Field>(&self, key: &str) -> Result<Option<T>, String> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let found = serde_json::from_value(value.clone()).map(Some);
                found.map_err(|_| format!("{}{key} is {}, expected {}", self.prefix, quote(value), T::EXPECTED))
            }
        }
    }

    /// What has to stand under a key.
    pub(crate) fn need<T: Field>(&self, key: &str) -> Result<T, String> {
        self.get(key)?.ok_or_else(|| format!("{}{key} is not there, expected {}", self.prefix, T::EXPECTED))
    }

    /// What stands under a key as it is written, null included.
    pub(crate) fn raw(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }
}

/// A value as it is written, cut where it is long.
pub(crate) fn quote(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
impl From<Value> for Keys {
    fn from(value: Value) -> Self {
        Self { prefix: String::new(), map: value.as_object().cloned().unwrap_or_default() }
    }
}
