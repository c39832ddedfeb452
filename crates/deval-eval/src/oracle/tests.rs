use std::path::Path;

use super::*;

/// Replays `<kind>.jsonl` of every kind in a folder; fails with the first difference of each kind. The number of cases.
fn all_pass(folder: &Path) -> usize {
    let results = KINDS.map(|kind| {
        let text = std::fs::read_to_string(folder.join(format!("{kind}.jsonl"))).expect(kind);
        (kind, check_file(kind, &text))
    });
    let failed: Vec<_> = results.iter().filter(|(_, result)| result.failed > 0 || result.passed == 0).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    results.iter().map(|(_, result)| result.passed).sum()
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
