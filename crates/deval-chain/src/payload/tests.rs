use proptest::prelude::*;

use crate::testing::{bytes, json_lines};
use crate::{ChainError, CommitmentPayload, MAX_PAYLOAD_BYTES, Raised, ValidatorView, parse_as_validator};

const HASH: &str = "1ff795ff6a07e6a68085d206fb84417da2f083f68391c2843cd2b8ac6df8538f";

#[test]
fn encodes_as_upstream_wherever_upstreams_form_fits() {
    let (mut same, mut compact, mut refused) = (0, 0, 0);
    for vector in json_lines("chain_commit_encode.jsonl") {
        let input = |key: &str| vector["input"][key].as_str().unwrap();
        let message = vector["expected"]["message"].as_str().unwrap();
        let bytes = vector["expected"]["message_bytes"].as_u64().unwrap() as usize;
        assert_eq!(message.len(), bytes);
        match CommitmentPayload::encode(input("model_url"), input("model_hash")) {
            Ok(payload) if bytes <= MAX_PAYLOAD_BYTES => {
                assert_eq!(payload.as_str(), message);
                same += 1;
            }
            Ok(payload) => {
                assert_eq!(payload.as_bytes().len(), bytes - 3);
                assert_eq!(parse_as_validator(payload.as_bytes()), parse_as_validator(message.as_bytes()));
                compact += 1;
            }
            Err(ChainError::PayloadTooLong { bytes: needed, .. }) => {
                assert_eq!(needed, bytes - 3);
                assert!(needed > MAX_PAYLOAD_BYTES);
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(same + compact + refused, 330);
    assert!(same > 100, "{same} {compact} {refused}");
}

#[test]
fn reads_as_upstreams_validator_reads() {
    for vector in json_lines("chain_commit_decode.jsonl") {
        let expected = &vector["expected"];
        let text = |key: &str| expected[key].as_str().map(str::to_owned);
        let wanted = match expected["error"].as_str() {
            Some("TypeError") => Err(Raised::TypeError),
            Some("ValidationError") => Err(Raised::ValidationError),
            Some(other) => panic!("{other}"),
            None => Ok(ValidatorView { model_url: text("model_url"), model_hash: text("model_hash") }),
        };
        assert_eq!(parse_as_validator(&bytes(&vector["input"]["raw_hex"])), wanted, "{vector}");
    }
}

#[test]
fn pythons_special_floats_are_numbers_outside_strings_only() {
    let view = |text: &str| parse_as_validator(text.as_bytes());
    assert_eq!(view(r#"{"model_url": NaN, "model_hash": "x"}"#), Err(Raised::ValidationError));
    let extra = view(r#"{"model_url": "NaN\"/b", "model_hash": "x", "extra": -Infinity}"#).unwrap();
    assert_eq!(extra.model_url.as_deref(), Some("NaN\"/b"));
}

#[test]
fn the_length_budget_is_29_bytes_and_32_when_compact() {
    let encode = |bytes: usize| CommitmentPayload::encode(&"u".repeat(bytes), HASH);
    assert_eq!(encode(29).unwrap().as_bytes().len(), 128);
    assert!(encode(29).unwrap().as_str().contains("\": \""));
    assert_eq!(encode(32).unwrap().as_bytes().len(), 128);
    assert!(!encode(30).unwrap().as_str().contains(' '));
    let error = encode(33).unwrap_err().to_string();
    let wanted = format!(
        "the commitment for model_url `{}` needs 129 bytes and the chain takes 128: \
         the longest possible model_url is 32 bytes",
        "u".repeat(33)
    );
    assert_eq!(error, wanted);
}

#[test]
fn non_ascii_is_counted_as_it_is_escaped() {
    assert!(CommitmentPayload::encode("a/ééééé", HASH).unwrap().as_str().contains("\\u00e9"));
    assert!(CommitmentPayload::encode("a/éééééé", HASH).is_err());
    assert!(CommitmentPayload::encode("😀", HASH).unwrap().as_str().contains("\\ud83d\\ude00"));
    assert!(CommitmentPayload::encode("\u{7f}", HASH).unwrap().as_str().contains("\\u007f"));
}

proptest! {
    #[test]
    fn what_fits_is_read_back_and_what_does_not_is_told(
        url in "\\PC{0,40}|[\u{0}-\u{1f}\"\\\\é😀/]{0,20}",
        hash in "[0-9a-f]{64}|\\PC{0,80}",
    ) {
        match CommitmentPayload::encode(&url, &hash) {
            Ok(payload) => {
                prop_assert!(payload.as_bytes().len() <= MAX_PAYLOAD_BYTES && payload.as_str().is_ascii());
                let view = ValidatorView { model_url: Some(url), model_hash: Some(hash) };
                prop_assert_eq!(parse_as_validator(payload.as_bytes()), Ok(view));
            }
            Err(ChainError::PayloadTooLong { bytes, .. }) => prop_assert!(bytes > MAX_PAYLOAD_BYTES),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn nothing_that_is_committed_makes_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..160),
        text in "[\\[{\"\\\\:,NaInfty0-9}\\]-]{0,60}",
    ) {
        let _ = (parse_as_validator(&bytes), parse_as_validator(text.as_bytes()));
    }
}
