use std::collections::BTreeSet;
use std::time::Duration;

use super::{Questions, Target, malformed, refuse, run};
use crate::system_clock;
use crate::testing::{listening, miner, recorded_axon, stranger, validator};

#[tokio::test]
async fn signed_questions_are_answered_and_others_are_failures() {
    let axon = recorded_axon(system_clock);
    let listening = listening(axon.clone()).await;
    let target = Target { address: listening.address(), hotkey: miner().ss58() };
    let dendrites = ["a", "b"].map(|uuid| Questions::sign(&target, &validator(), uuid, 20));
    let load = run(dendrites.to_vec(), None).await;
    assert_eq!((load.answered, load.failed, load.microseconds.len()), (40, 0, 40), "{:?}", load.first_failure);
    assert!(load.rate() > 0.0 && load.milliseconds(0.99) >= load.milliseconds(0.5));

    // The same questions again are replays, and a stranger's are refused.
    let replayed = run(dendrites.to_vec(), None).await;
    assert_eq!((replayed.answered, replayed.failed), (0, 40));
    let refused = run(vec![Questions::sign(&target, &stranger(), "c", 1)], None).await;
    assert!(refused.first_failure.is_some_and(|reason| reason.starts_with("403 ")));
    assert_eq!(axon.metrics().with_status(200), 40);
    let over = run(vec![Questions::sign(&target, &validator(), "d", 5)], Some(Duration::ZERO)).await;
    assert_eq!((over.answered, over.milliseconds(0.99)), (0, 0.0));
}

#[tokio::test]
async fn an_axon_that_is_not_there_answers_nothing() {
    let target = Target { address: "127.0.0.1:1".parse().unwrap(), hotkey: miner().ss58() };
    let load = run(vec![Questions::sign(&target, &validator(), "a", 3)], None).await;
    assert_eq!((load.answered, load.failed), (0, 3));
    assert!(load.first_failure.is_some_and(|reason| reason.contains("refused")));
}

#[tokio::test]
async fn every_malformed_question_is_refused_and_good_ones_are_answered_afterwards() {
    let axon = recorded_axon(system_clock);
    let listening = listening(axon.clone()).await;
    let target = Target { address: listening.address(), hotkey: miner().ss58() };
    let refusals = refuse(&target, &validator(), 0, 0..1500).await;
    assert_eq!(refusals.wrong, [], "{:#?}", refusals.statuses);
    let kinds: BTreeSet<_> = refusals.statuses.keys().map(|(kind, _)| kind).collect();
    assert_eq!(kinds.len(), 12);
    assert_eq!(axon.metrics().with_status(200), 0);
    assert!(axon.metrics().render().contains("panics_total 0\n"));
    let load = run(vec![Questions::sign(&target, &validator(), "a", 3)], None).await;
    assert_eq!(load.answered, 3, "{:?}", load.first_failure);
}

#[test]
fn malformed_questions_are_told_by_seed_and_number() {
    let target = Target { address: "127.0.0.1:9".parse().unwrap(), hotkey: miner().ss58() };
    let kinds = |seed| (0..50).map(|number| malformed(&target, &validator(), seed, number).kind).collect::<Vec<_>>();
    assert_eq!(kinds(1), kinds(1));
    assert_ne!(kinds(1), kinds(2));
}
