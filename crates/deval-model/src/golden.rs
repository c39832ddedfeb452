//! Golden vectors of the upstream code: a slice is kept with the tests, the full set is used where it is present.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Runs `check(input, expected)` over every vector of a set, naming the case that fails.
pub(crate) fn each(set: &str, mut check: impl FnMut(&Value, &Value)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let slice = root.join(format!("tests/fixtures/model/{set}.jsonl"));
    let full = root.join(format!("../shared/golden/scoring/{set}.jsonl"));
    for path in [Some(slice), present(full)].into_iter().flatten() {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let name = &case["case"];
            let caught =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&case["input"], &case["expected"])));
            assert!(caught.is_ok(), "{name} of {}", path.display());
        }
    }
}

fn present(full: PathBuf) -> Option<PathBuf> {
    if full.is_file() {
        return Some(full);
    }
    let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == "shared"), "{} is required but missing", full.display());
    eprintln!("skipped: {} is not here, only the slice was checked", full.display());
    None
}
