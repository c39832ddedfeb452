//! Entry for fuzzing: whatever the bytes, it returns, and what it returns holds together. A broken promise is a panic.
//!
//! `crates/deval-model/fuzz` calls it under cargo-fuzz, `crates/deval-model/tests/mutations.rs` under a seed on a stable toolchain.

use crate::parse;

/// A manifest. Every finding lies within the text, and a manifest without findings is read again as the same.
pub fn manifest(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = u32::try_from(text.matches('\n').count()).map_or(u32::MAX, |newlines| newlines.saturating_add(1));
    let parsed = parse(&text, "deval.toml");
    for finding in &parsed.diagnostics {
        let line = finding.place.as_ref().and_then(|place| place.line);
        assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{finding:?}");
    }
    assert!(parsed.manifest.is_some() || !parsed.diagnostics.is_empty(), "neither a manifest nor a reason");
    let Some(manifest) = parsed.manifest.filter(|_| parsed.diagnostics.is_empty()) else { return };
    let written = toml::to_string(&manifest).expect("what TOML gave, TOML can hold");
    let again = parse(&written, "deval.toml");
    assert!(again.diagnostics.is_empty() && again.manifest.as_ref() == Some(&manifest), "{written}\n{again:?}");
}
