//! Keys that a JSON file has twice: every reader keeps the last one in silence.

use std::collections::HashSet;
use std::fmt;

use deval_report::Diagnostic;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A warning of this code for the first key that is twice in an object of valid JSON.
pub(crate) fn find(json: &[u8], code: &str) -> Option<Diagnostic> {
    let key = serde_json::from_slice::<Twice>(json).ok()?.0?;
    let finding =
        Diagnostic::warning(code, format!("the key `{key}` is there twice in one object; the last one counts"));
    Some(finding.found(format!("`{key}` twice")).expected("once").help("remove the one that is not meant"))
}

/// The first key that is twice in a value or below it.
struct Twice(Option<String>);

impl<'de> Deserialize<'de> for Twice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TwiceVisitor)
    }
}

struct TwiceVisitor;

impl<'de> Visitor<'de> for TwiceVisitor {
    type Value = Twice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Twice, E> {
        Ok(Twice(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Twice, E> {
        Ok(Twice(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Twice, E> {
        Ok(Twice(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Twice, E> {
        Ok(Twice(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Twice, E> {
        Ok(Twice(None))
    }

    fn visit_unit<E>(self) -> Result<Twice, E> {
        Ok(Twice(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Twice, A::Error> {
        let mut first = None;
        while let Some(Twice(below)) = list.next_element()? {
            first = first.or(below);
        }
        Ok(Twice(first))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Twice, A::Error> {
        let (mut keys, mut first) = (HashSet::new(), None);
        while let Some((key, Twice(below))) = map.next_entry::<String, Twice>()? {
            first = first.or(below);
            if let Some(key) = keys.replace(key) {
                first = first.or(Some(key));
            }
        }
        Ok(Twice(first))
    }
}
