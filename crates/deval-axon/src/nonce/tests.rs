use super::{Claim, HOTKEYS, NonceTable, SECOND, UUIDS_PER_HOTKEY};

const NOW: i128 = 1_795_378_652 * SECOND;

fn claim(hotkey: u32, uuid: &str, age: i128, timeout: f64) -> Claim<'_> {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&hotkey.to_le_bytes());
    Claim { hotkey: key, uuid, nonce: NOW - age, now: NOW, timeout }
}

fn sizes(table: &NonceTable) -> (usize, usize) {
    let hotkeys = table.lock();
    (hotkeys.len(), hotkeys.values().map(Vec::len).max().unwrap_or(0))
}

#[test]
fn the_window_is_four_seconds_and_the_timeout() {
    let fresh = |age: i128, timeout| claim(1, "u", age, timeout).fresh();
    assert!(fresh(9 * SECOND - 1, 5.0).is_ok());
    assert!(fresh(9 * SECOND, 5.0).is_err());
    assert!(fresh(4 * SECOND - 1, 0.0).is_ok());
    assert!(fresh(63 * SECOND, 1e18).is_ok(), "a long timeout counts as a minute");
    assert!(fresh(64 * SECOND, 1e18).is_err());
    assert!(fresh(-300 * SECOND, 5.0).is_ok());
    assert!(fresh(-301 * SECOND, 5.0).unwrap_err().contains("future"));
    assert_eq!(
        fresh(10 * SECOND, 5.0).unwrap_err(),
        "Nonce is too old: acceptable delta is 9.00 seconds but request was 10.00 seconds old"
    );
}

#[test]
fn a_nonce_is_accepted_once_and_only_rising() {
    let table = NonceTable::default();
    let tell = |age: i128, uuid| table.accept(&claim(1, uuid, age, 5.0));
    assert!(tell(SECOND, "a").is_ok());
    assert_eq!(tell(SECOND, "a").unwrap_err(), "Nonce is too old, a newer one was last processed");
    assert!(tell(2 * SECOND, "a").is_err());
    assert!(tell(SECOND - 1, "a").is_ok());
    assert!(tell(SECOND, "b").is_ok(), "another dendrite of the same key");
    assert!(table.accept(&claim(2, "a", SECOND, 5.0)).is_ok(), "another key");
    assert!(table.check(&claim(1, "a", SECOND, 5.0)).is_err());
}

#[test]
fn memory_is_bounded_whatever_a_caller_invents() {
    let table = NonceTable::default();
    for i in 0..1000u32 {
        assert!(table.accept(&claim(1, &i.to_string(), 0, 5.0)).is_ok());
    }
    assert_eq!(sizes(&table), (1, UUIDS_PER_HOTKEY));
    let later = NOW + 100 * SECOND;
    let long_uuid = "u".repeat(10_000);
    assert!(table.accept(&Claim { now: later, nonce: later, ..claim(1, &long_uuid, 0, 5.0) }).is_ok());
    assert_eq!(sizes(&table), (1, 1), "what is too old to come back is forgotten");
}

#[test]
fn hotkeys_that_went_silent_are_forgotten() {
    let table = NonceTable::default();
    let hotkeys = u32::try_from(HOTKEYS).unwrap();
    for hotkey in 0..hotkeys {
        assert!(table.accept(&claim(hotkey, "u", 0, 5.0)).is_ok());
    }
    let later = NOW + 100 * SECOND;
    assert!(table.accept(&Claim { now: later, nonce: later, ..claim(hotkeys, "u", 0, 5.0) }).is_ok());
    assert_eq!(sizes(&table), (1, 1));
}
