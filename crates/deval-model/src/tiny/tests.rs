use std::collections::BTreeSet;

use super::*;
use crate::{check_config, weights};

fn written(kind: Kind) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), kind).unwrap();
    dir
}

fn file(kind: Kind, name: &str) -> Vec<u8> {
    fs::read(written(kind).path().join(name)).unwrap()
}

#[test]
fn both_kinds_are_sound_models() {
    for kind in [Kind::Chain, Kind::Random { seed: 0 }] {
        let dir = written(kind);
        let mut findings = Vec::new();
        let weights = weights::scan(dir.path(), dir.path(), &mut findings).unwrap();
        check_config(dir.path(), dir.path(), &weights, &mut findings).unwrap();
        assert_eq!(findings, [], "{kind:?}");
        let bytes: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 200_000, "{bytes}");
    }
}

#[test]
fn equal_kinds_give_equal_bytes_and_seeds_other_weights() {
    let weights = |seed| file(Kind::Random { seed }, "model.safetensors");
    assert_eq!(weights(3), weights(3));
    assert_ne!(weights(3), weights(4));
    assert_eq!(file(Kind::Chain, "tokenizer.json"), file(Kind::Random { seed: 3 }, "tokenizer.json"));
}

#[test]
fn the_alphabet_is_that_of_gpt_2() {
    let letters: Vec<char> = alphabet().collect();
    assert_eq!(letters.iter().collect::<BTreeSet<_>>().len(), 256);
    for (byte, letter) in [(b'A', 'A'), (b' ', 'Ġ'), (b'\n', 'Ċ'), (0, 'Ā'), (0xad, 'Ń'), (0xff, 'ÿ')] {
        assert_eq!(letters[usize::from(byte)], letter);
    }
}

#[test]
fn tokens_have_the_numbers_that_the_weights_are_made_for() {
    let tokens: Vec<(usize, Value)> = added_tokens().collect();
    let named = |text: &str| tokens.iter().find(|(_, token)| token["content"] == text).unwrap().0;
    assert_eq!(named("<|begin_of_text|>"), BEGIN);
    assert_eq!(named("<|end_of_text|>"), END_OF_TEXT);
    assert_eq!(named("<|eot_id|>"), END_OF_TURN);
    assert_eq!(named(CHAIN_ANSWER), ANSWER);
    assert_eq!(named("Response: 1.0"), VOCABULARY - 1);
}
