use crate::testing::{bytes, json};
use crate::{ChainError, KeyPair, parse_ss58, ss58, verify};

fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn uris_seeds_and_phrases_give_bittensors_addresses() {
    let vectors = json("wallet/vectors.json");
    let seed = |v: &serde_json::Value| bytes(&v["seed"]).try_into().unwrap();
    let keys = (vectors["uris"].as_array().unwrap().iter().map(|v| (v, KeyPair::from_uri(text(v, "uri")))))
        .chain(vectors["seeds"].as_array().unwrap().iter().map(|v| (v, KeyPair::from_seed(seed(v)))))
        .chain(vectors["mnemonics"].as_array().unwrap().iter().map(|v| (v, KeyPair::from_phrase(text(v, "mnemonic")))));
    let mut checked = 0;
    for (vector, key) in keys {
        let key = key.unwrap();
        assert_eq!(key.public().to_vec(), bytes(&vector["public_key"]));
        assert_eq!(key.ss58(), text(vector, "ss58_42"));
        assert_eq!(parse_ss58(&key.ss58()).unwrap(), key.public());
        checked += 1;
    }
    assert_eq!(checked, 14);
}

#[test]
fn bittensors_signatures_verify_and_changed_ones_do_not() {
    for vector in json("wallet/vectors.json")["signatures"].as_array().unwrap() {
        let public: [u8; 32] = bytes(&vector["public_key"]).try_into().unwrap();
        let mut signature: [u8; 64] = bytes(&vector["signature"]).try_into().unwrap();
        let message = text(vector, "message_utf8").as_bytes();
        assert!(verify(&signature, message, &public), "{vector}");
        assert!(!verify(&signature, &[message, b"."].concat(), &public));
        signature[5] ^= 1;
        assert!(!verify(&signature, message, &public));
    }
}

#[test]
fn addresses_with_other_prefixes_or_malformed_are_refused() {
    let vectors = json("wallet/vectors.json");
    for (prefix, address) in vectors["ss58_other_prefixes"].as_object().unwrap() {
        assert_eq!(parse_ss58(address.as_str().unwrap()).is_ok(), prefix == "42", "{prefix}");
    }
    for bad in vectors["ss58_bad_for_42"].as_array().unwrap() {
        assert!(matches!(parse_ss58(text(bad, "s")), Err(ChainError::Address { .. })), "{bad}");
    }
    assert_eq!(ss58(&[0; 32]), "5C4hrfjw9DjXZTzV3MwzrrAr9P1MJhSrvWGWqi1eSuyUpnhM");
}

#[test]
fn a_key_prints_as_its_address_only() {
    let key = KeyPair::from_uri("//Alice//miner").unwrap();
    assert_eq!(format!("{key:?}"), "KeyPair(5CMfubeU6u6DYitJ7vniM3yrst51JywttqiTFFe71MVAjALc)");
}

/// bittensor's own check is lenient there; a dendrite signs the plain text.
#[test]
fn only_the_message_itself_is_verified() {
    let key = KeyPair::from_uri("//Alice").unwrap();
    assert!(!verify(&key.sign(b"<Bytes>hello</Bytes>"), b"hello", &key.public()));
    assert!(!verify(&key.sign(b"hello"), b"0x68656c6c6f", &key.public()));
}

#[test]
fn an_expanded_secret_signs_like_its_seed() {
    let seed = [0xab; 32];
    let (from_seed, expanded) =
        (KeyPair::from_seed(seed).unwrap(), KeyPair::from_private_key(&super::expand_seed(&seed)).unwrap());
    assert_eq!(from_seed.public(), expanded.public());
    assert!(verify(&expanded.sign(b"hello"), b"hello", &from_seed.public()));
    assert!(KeyPair::from_private_key(&[0xff; 64]).is_none());
}
