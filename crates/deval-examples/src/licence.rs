//! Licences of sources as SPDX expressions.

use std::collections::BTreeSet;

/// Identifiers that are looked for in free text.
const KNOWN: [&str; 20] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC-BY-2.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-SA-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "GFDL-1.3-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "ISC",
    "MIT",
    "MPL-2.0",
    "ODC-By-1.0",
    "PDDL-1.0",
    "Unlicense",
];

/// The licences that a note like `MIT (annotations); transcripts CC-BY-4.0` names, joined by `AND`. A text that is an expression already, or
/// that names none, stays as it is.
pub fn spdx(note: &str) -> String {
    let words =
        || note.split(|c: char| !(c.is_ascii_alphanumeric() || ".-+".contains(c))).filter(|word| !word.is_empty());
    let is_known = |word: &str| KNOWN.contains(&word);
    if words().all(|word| is_known(word) || ["AND", "OR"].contains(&word)) && !note.contains([',', ';']) {
        return note.to_owned();
    }
    let named: BTreeSet<&str> = words().map(|word| word.trim_end_matches('.')).filter(|word| is_known(word)).collect();
    if named.is_empty() { note.to_owned() } else { Vec::from_iter(named).join(" AND ") }
}

/// One expression that asks for all of these, each named once; `None` when there is none.
pub fn all_of<'a>(licences: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let notes: Vec<String> = licences.into_iter().map(spdx).collect();
    let parts = notes.iter().flat_map(|note| conjuncts(note)).filter(|part| !part.is_empty());
    let parts: BTreeSet<&str> = parts.collect();
    let is_alone = parts.len() == 1;
    let guarded = |part: &str| if part.contains(" OR ") && !is_alone { format!("({part})") } else { part.to_owned() };
    let parts: Vec<String> = parts.into_iter().map(guarded).collect();
    (!parts.is_empty()).then(|| parts.join(" AND "))
}

/// The parts of an expression between its outermost `AND`s, without parentheses around; an `OR` beside them keeps it whole.
fn conjuncts(expression: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0i32, 0, Vec::new());
    for (place, byte) in expression.bytes().enumerate() {
        depth += i32::from(byte == b'(') - i32::from(byte == b')');
        let rest = &expression.as_bytes()[place..];
        if depth == 0 && rest.starts_with(b" OR ") {
            return vec![expression.trim()];
        }
        if depth == 0 && rest.starts_with(b" AND ") {
            parts.push(&expression[start..place]);
            start = place + " AND ".len();
        }
    }
    parts.push(&expression[start..]);
    parts.into_iter().map(bare).collect()
}

fn bare(part: &str) -> &str {
    let part = part.trim();
    let inner = part.strip_prefix('(').and_then(|part| part.strip_suffix(')'));
    inner.filter(|inner| !inner.contains(['(', ')'])).map_or(part, str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_become_expressions() {
        assert_eq!(spdx("MIT (QMSum annotations); AMI transcripts CC-BY-4.0"), "CC-BY-4.0 AND MIT");
        assert_eq!(spdx("Apache-2.0 (repository)"), "Apache-2.0");
        assert_eq!(spdx("MIT OR Apache-2.0"), "MIT OR Apache-2.0");
        assert_eq!(spdx("as released by the city"), "as released by the city");
    }

    #[test]
    fn every_licence_is_named_once() {
        assert_eq!(
            all_of(["MIT", "CC-BY-4.0 AND MIT", "MIT OR Apache-2.0"]).unwrap(),
            "CC-BY-4.0 AND MIT AND (MIT OR Apache-2.0)"
        );
        assert_eq!(
            all_of(["CC-BY-4.0 AND (MIT OR Apache-2.0)", "MIT OR Apache-2.0"]).unwrap(),
            "CC-BY-4.0 AND (MIT OR Apache-2.0)"
        );
        assert_eq!(all_of(["MIT OR Apache-2.0", "MIT OR Apache-2.0"]).unwrap(), "MIT OR Apache-2.0");
        assert_eq!(all_of([]), None);
        for odd in ["(", ")(", " AND ", "(MIT) AND (MIT", "é AND é"] {
            all_of([odd]);
        }
    }
}
