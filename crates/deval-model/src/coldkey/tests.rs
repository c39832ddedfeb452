use super::*;
use crate::golden;

const ADDRESS: &str = "5DfhGyQdFobKM8NsWvEeAKk5EQQgYe9AydgJ7rMB6E1EqRzV";

fn messages(bytes: &[u8]) -> Vec<String> {
    check(bytes, Some(ADDRESS), FILE).into_iter().map(|finding| finding.message).collect()
}

#[test]
fn golden_vectors_agree() {
    golden::each("coldkey", |input, expected| {
        let named = input["file_name"].as_str() == Some(FILE);
        let bytes = hex::decode(input["file_hex"].as_str().unwrap_or_default()).unwrap();
        let chain = input["chain_coldkey"].as_str().unwrap();
        let read = if named { read_coldkey(&bytes) } else { None };
        assert_eq!(read.as_deref(), expected["read"].as_str());
        assert_eq!(named && matches(&bytes, chain), expected["match"].as_bool().unwrap());
    });
}

#[test]
fn an_address_is_decoded_to_its_account() {
    let account = account(ADDRESS).unwrap();
    assert_eq!(hex::encode(account), "46ebddef8cd9bb167dc30878d7113b7e168e6f0646beffd77d69d39bad76b47a");
    assert!(super::account(&ADDRESS.replace('V', "W")).is_none());
    assert!(super::account("").is_none());
}

#[test]
fn the_exact_address_is_accepted() {
    assert_eq!(messages(ADDRESS.as_bytes()), Vec::<String>::new());
}

#[test]
fn every_stray_byte_has_its_own_sentence() {
    let cases: [(&str, &str); 6] = [
        ("{}\n", "ends with a newline"),
        ("{}\r\n", "Windows newline"),
        ("{}\r", "carriage return"),
        ("\u{feff}{}", "byte order mark"),
        (" {}", "white space"),
        ("{}\u{200b}", "white space"),
    ];
    for (template, expected) in cases {
        let found = messages(template.replace("{}", ADDRESS).as_bytes());
        assert_eq!(found.len(), 1, "{template:?}: {found:?}");
        assert!(found[0].contains(expected), "{template:?}: {found:?}");
    }
}

#[test]
fn what_is_no_address_is_told_apart_and_never_repeated() {
    let mut polkadot = vec![0];
    polkadot.extend([7; 32]);
    let hash = Blake2b512::new().chain_update(b"SS58PRE").chain_update(&polkadot).finalize();
    polkadot.extend(&hash[..2]);
    let cases = [
        (format!("0x{}", "46".repeat(32)), "hexadecimal"),
        (ADDRESS.replace("EqRzV", "EqRzW"), "checksum"),
        ("bottom drive obey lake curtain smoke basket hold race lonely fit walk\n".into(), "something else"),
        (format!("{ADDRESS}\n{ADDRESS}"), "more than one line"),
        (bs58::encode(&polkadot).into_string(), "another network"),
    ];
    for (text, expected) in cases {
        let found = check(text.as_bytes(), None, FILE);
        let last = found.last().unwrap();
        assert!(last.message.contains(expected), "{text}: {last:?}");
        assert!(!format!("{found:?}").contains("obey"), "{found:?}");
    }
    assert!(messages(b"")[0].contains("empty"));
    assert!(messages(&[0xff])[0].contains("UTF-8"));
}

#[test]
fn another_coldkey_is_a_finding_with_both() {
    let other = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
    let found = check(other.as_bytes(), Some(ADDRESS), FILE);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].found.as_deref(), found[0].expected.as_deref()), (Some(other), Some(ADDRESS)));
}

#[test]
fn text_longer_than_any_address_is_not_decoded_and_not_repeated() {
    // Decoded, this would take years.
    let long = "x".repeat(30_000_000);
    assert_eq!(account(&long), None);
    let found = check(long.as_bytes(), Some(ADDRESS), FILE);
    assert_eq!((found.len(), found[0].found.as_deref()), (1, Some("30000000 bytes")));
    assert!(found[0].message.contains("longer than any address"), "{found:?}");
    let padded = format!("{ADDRESS}{}", " ".repeat(100_000));
    assert_eq!(check(padded.as_bytes(), Some(ADDRESS), FILE)[0].found.as_deref(), Some("100048 bytes"));
}
