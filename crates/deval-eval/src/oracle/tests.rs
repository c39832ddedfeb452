use std::path::Path;

use super::*;

/// Replays `<kind>.jsonl` of a folder and fails with the first difference.
fn all_pass(folder: &Path) -> usize {
    KINDS.into_iter().map(|kind| file_passes(folder, kind)).sum()
}

fn file_passes(folder: &Path, kind: &str) -> usize {
    let text = std::fs::read_to_string(folder.join(format!("{kind}.jsonl"))).expect(kind);
    let result = check_file(kind, &text);
    assert_eq!(result.failed, 0, "{kind}: {}", serde_json::to_string_pretty(&result.first_difference).unwrap());
    assert!(result.passed > 0, "{kind} is empty");
    result.passed
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_kind_passes_its_slice() {
    assert_eq!(all_pass(&root().join("../../tests/fixtures/scoring")), 27 * 40 + 6);
}

#[test]
fn every_shared_vector_passes() {
    let folder = root().join("../../../shared/golden/scoring");
    if folder.is_dir() {
        assert_eq!(all_pass(&folder), 9330);
        return;
    }
    let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == "shared"), "DEVAL_TEST_REQUIRE asks for the shared vectors");
    println!("skipped: the full vectors (../shared/golden/scoring) are not there");
}

#[test]
fn a_difference_is_reported_in_full() {
    let right = r#"{"case":"c1","input":{"num_true":1,"num_claims":2},"expected":{"reference":0.5}}"#;
    let text = [right, &right.replace("0.5", "0.51"), "{", right].join("\n");
    let result = check_file("reference_score", &text);
    assert_eq!((result.passed, result.failed), (2, 2));
    let difference = result.first_difference.unwrap();
    assert_eq!((&difference["got"]["reference"], &difference["expected"]["reference"]), (&json!(0.5), &json!(0.51)));
}

#[test]
fn exact_fields_allow_no_tolerance() {
    assert!(!same("reward_float_diff", "reward", &json!(0.5), &json!(0.5 + 1e-12)));
    assert!(same("reward_relevance", "reward", &json!(0.5), &json!(0.5 + 1e-7)));
    assert!(same("contest_ranking", "weights", &json!([[3, 0.5]]), &json!([[3, 0.5 + 1e-13]])));
    assert!(same("moving_average", "scores", &json!(["NaN"]), &json!(["NaN"])));
    assert!(!same("api_response", "mistakes", &json!(null), &json!([])));
    assert!(replay("unheard_of", &json!({})).is_err());
}
