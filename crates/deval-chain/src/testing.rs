//! Fixtures: vectors taken from bittensor and from a real subtensor runtime.

use std::path::{Path, PathBuf};

use serde_json::Value;

pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chain").join(path)
}

pub(crate) fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(path)).unwrap()).unwrap()
}

pub(crate) fn json_lines(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture(path)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn bytes(hex_text: &Value) -> Vec<u8> {
    hex::decode(hex_text.as_str().unwrap().trim_start_matches("0x")).unwrap()
}

/// A test that cannot run says so, and fails where the environment promised that it can.
pub(crate) fn skip(needs: &str, why: &str) {
    let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == needs), "{needs} is required, and {why}");
    eprintln!("skipped: {why}");
}
