use super::Subnet;
use crate::AxonError;

fn hotkeys(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn the_last_known_hotkeys_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cache/hotkeys.json");
    let first = Subnet::kept_in(&file, "test/202");
    assert!(first.is_unknown() && !first.standing("a").serving);
    first.replace(7, hotkeys(&["a", "b"])).unwrap();

    let second = Subnet::kept_in(&file, "test/202");
    assert_eq!((second.block(), second.is_registered("a"), second.is_registered("c")), (7, true, false));
    assert!(second.standing("a").serving);
    second.replace(8, hotkeys(&["c"])).unwrap();
    let third = Subnet::kept_in(&file, "test/202");
    assert_eq!((third.block(), third.is_registered("a"), third.is_registered("c")), (8, false, true));
    assert!(Subnet::kept_in(&file, "finney/15").is_unknown(), "another subnet's hotkeys are nobody's");
}

#[test]
fn a_file_that_is_none_is_as_good_as_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hotkeys.json");
    for text in ["", "{", "[]", r#"{"subnet":"test/202"}"#, "\u{0}\u{0}"] {
        std::fs::write(&file, text).unwrap();
        assert!(Subnet::kept_in(&file, "test/202").is_unknown(), "{text}");
    }
}

#[test]
fn hotkeys_that_cannot_be_kept_are_known_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hotkeys.json/below");
    std::fs::write(dir.path().join("hotkeys.json"), "a file").unwrap();
    let subnet = Subnet::kept_in(&file, "test/202");
    assert!(matches!(subnet.replace(1, hotkeys(&["a"])), Err(AxonError::Keep { .. })));
    assert!(subnet.is_registered("a"));
}

#[test]
fn what_is_wrong_has_a_reason() {
    let subnet = Subnet::of([]);
    let standing = subnet.standing("a");
    assert_eq!(standing.reasons, ["hotkeys.unknown", "chain.away", "axon.unannounced"]);
    subnet.replace(5, hotkeys(&["b"])).unwrap();
    assert!(subnet.chain_answers(true), "news");
    assert!(!subnet.chain_answers(true), "no news");
    subnet.announced(true);
    assert_eq!(subnet.standing("a").reasons, ["hotkey.unregistered"]);
    let standing = subnet.standing("b");
    assert_eq!((standing.reasons.len(), standing.hotkeys, standing.block), (0, 1, 5));
    subnet.known.write().unwrap().read_unix -= 4000;
    let standing = subnet.standing("b");
    assert_eq!(standing.reasons, ["hotkeys.old"]);
    assert!(standing.serving && standing.age_seconds >= 4000);
}
