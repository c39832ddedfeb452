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

/// 40 shared vectors of each kind (six of recursion), then cases on which a port differs that trusts Rust's own JSON, digits or floats;
/// those are named `-python-` and come from Python 3.11 with pydantic 2.9.2.
#[test]
fn every_kind_passes_its_slice() {
    assert_eq!(all_pass(&root().join("../../tests/fixtures/scoring")), 27 * 40 + 6 + 82);
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

#[test]
fn a_file_is_streamed_and_an_empty_one_proves_nothing() {
    let right = r#"{"case":"c1","input":{"num_true":1,"num_claims":2},"expected":{"reference":0.5}}"#;
    let result = check_lines("reference_score", ["", right, " "].map(Ok::<_, String>)).unwrap();
    assert_eq!((result.is_proof(), result.describe("k").as_str()), (true, "k: 1 passed, 0 failed"));
    let empty = check_file("reference_score", "\n");
    assert!(!empty.is_proof() && empty.describe("k").contains("k: 0 passed, 0 failed ("));
    let wrong = check_file("reference_score", &right.replace("0.5", "0.4"));
    assert!(wrong.describe("k").starts_with("k: 0 passed, 1 failed\n{\n  \"case\": \"c1\""), "{}", wrong.describe("k"));
    assert_eq!(check_lines("k", [Ok(right), Err("broken")]), Err("broken"));
}

#[test]
fn scores_are_python_objects() {
    let reward = |kind, score: Value| replay(kind, &json!({ "reference": 1.0, "score": score })).unwrap();
    assert_eq!(reward("reward_float_diff", json!(true)), json!({ "reward": 1.0 }));
    for kind in ["reward_float_diff", "reward_ordinal", "reward_dist_penalty"] {
        assert_eq!(reward(kind, json!("0.5")), json!({ "error": "TypeError" }), "{kind}");
    }
}

#[test]
fn lone_surrogates_and_infinite_scores_are_read() {
    let line = r#"{"case":"c","input":{"response":"a\ud800\n b"},"expected":{"mistakes":["a\ud800","b"]}}"#;
    assert!(check_file("mistakes_parse", line).is_proof());
    let input = json!({ "avg_rewards": [[3, "Infinity"], [4, "NaN"]], "submissions": [] });
    assert_eq!(replay("contest_ranking", &input).unwrap()["ranked"], json!([[3, "Infinity"]]));
}

/// Values that no vector holds, in every field of every kind.
#[test]
fn garbage_is_told_and_never_panics() {
    let folder = root().join("../../tests/fixtures/scoring");
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!("NaN"),
        json!("zz"),
        json!([]),
        json!([[]]),
        json!([null, 1]),
        json!({}),
        json!({"a": 1}),
    ];
    let mut dice = crate::Dice::new(1, 0);
    for kind in KINDS {
        let text = std::fs::read_to_string(folder.join(format!("{kind}.jsonl"))).expect(kind);
        for line in text.lines() {
            let mut case: Value = serde_json::from_str(line).unwrap();
            for _ in 0..3 {
                spoil(&mut case["input"], dice.pick(&odd), &mut dice);
            }
            let cut: String = line.chars().take(dice.below(line.len())).collect();
            let result = check_file(kind, &format!("{case}\n{cut}"));
            assert!(result.passed + result.failed >= 1, "{kind}");
        }
    }
}

/// Puts a value somewhere into another one.
fn spoil(value: &mut Value, odd: &Value, dice: &mut crate::Dice) {
    let deeper = dice.below(3) > 0;
    match value {
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = dice.below(items.len());
            spoil(&mut items[at], odd, dice);
        }
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let at = dice.below(fields.len());
            fields.values_mut().skip(at).take(1).for_each(|field| spoil(field, odd, dice));
        }
        value => *value = odd.clone(),
    }
}
