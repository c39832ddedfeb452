use super::Told;

fn told() -> Told {
    Told {
        submission: ["local".into(), "5Ours".into(), "demo/tiny".into()],
        reasons: vec!["axon.unreachable".into()],
        uid: Some(7),
        commitment: Some((Some("ab".into()), 5)),
        hub_commit: Some("c0ffee".into()),
        axon: Some("192.0.2.1:8091".into()),
    }
}

#[test]
fn only_what_changed_is_a_change() {
    assert_eq!(told().since(&told()), None);
    let other = Told { reasons: vec!["hub.away".into()], ..told() };
    let line = other.since(&told()).unwrap().line();
    assert_eq!(line, "new: hub.away; gone: axon.unreachable");
    let moved = Told { commitment: Some((Some("ab".into()), 6)), ..told() };
    assert_eq!(moved.since(&told()).unwrap().line(), "changed: commitment");
}

#[test]
fn what_an_outage_hides_is_no_change_of_it() {
    let none = Told { uid: None, commitment: None, axon: None, ..told() };
    let away = Told { reasons: vec!["chain.away".into()], ..none.clone() }.carrying(&told());
    assert_eq!(away.since(&told()).unwrap().line(), "new: chain.away");
    assert_eq!(told().carrying(&away).since(&away).unwrap().line(), "gone: chain.away");
    let pruned = Told { reasons: vec!["hotkey.unregistered".into()], ..none }.carrying(&told());
    let line = "new: hotkey.unregistered; gone: axon.unreachable; changed: uid, commitment, announced address";
    assert_eq!(pruned.since(&told()).unwrap().line(), line);
}
