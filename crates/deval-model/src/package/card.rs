//! The metadata of a model card: the Hub refuses an upload whose README.md begins with YAML that it cannot read.

use std::collections::BTreeSet;
use std::path::Path;

use deval_report::Diagnostic;

use crate::ModelError;
use crate::files;

const FENCE: &str = "---";

/// What is wrong with a model card that was brought along. Cards without metadata are taken.
pub(super) fn check(path: &Path, file: &str) -> Result<Option<Diagnostic>, ModelError> {
    let bytes = match files::read_small(path, "package.card", file)? {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(finding) => return Ok(Some(*finding)),
    };
    let found = fault(&String::from_utf8_lossy(&bytes)).map(|(line, fault)| {
        let finding = Diagnostic::error("package.card", format!("the metadata of the model card {fault}"));
        let help = "mend it, or remove README.md: a card is then written";
        finding.at(file, line, 1).expected("YAML between two lines of `---`").help(help)
    });
    Ok(found)
}

/// Line and fault of metadata that is no YAML mapping.
fn fault(text: &str) -> Option<(u32, String)> {
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = (1..).zip(text.lines());
    lines.next().filter(|(_, first)| first.trim_end() == FENCE)?;
    let mut keys = BTreeSet::new();
    for (number, line) in lines {
        if line.trim_end() == FENCE {
            return None;
        }
        if line.trim_start_matches(' ').starts_with('\t') {
            return Some((number, "is indented with a tab, which YAML forbids".into()));
        }
        let nested = line.starts_with([' ', '-', '#', ']', '}']) || line.trim().is_empty();
        let key = line.split_once(':').filter(|(_, rest)| rest.is_empty() || rest.starts_with(' ')).map(|(key, _)| key);
        match key {
            _ if nested => {}
            None => return Some((number, "has a line that is neither `key: value` nor a list item".into())),
            Some(key) if !keys.insert(key) => return Some((number, format!("has the key `{key}` twice"))),
            Some(_) => {}
        }
    }
    Some((1, "has no end: the closing `---` is missing".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_that_the_hub_cannot_read_is_found() {
        for good in [
            "",
            "# A card",
            "---\nlicense: mit\ntags:\n- a\n- b\nmodel-index:\n  - name: x\n---\n# A",
            "\u{feff}---\n---\n",
            "----\n",
        ] {
            assert_eq!(fault(good), None, "{good:?}");
        }
        for (bad, line, words) in [
            ("---\nlicense: mit\n", 1, "no end"),
            ("---\ntags:\n\t- a\n---\n", 3, "tab"),
            ("---\nlicense: mit\nlicense: mit\n---\n", 3, "twice"),
            ("---\n# fine\nA sentence.\n---\n", 3, "neither"),
            ("---\nlicense:mit\n---\n", 2, "neither"),
        ] {
            let (found, fault) = fault(bad).unwrap();
            assert!(found == line && fault.contains(words), "{bad:?}: {found} {fault}");
        }
    }
}
