use std::collections::HashSet;

use regex::Regex;

use deval_eval::claims;
use deval_eval::set::digest;

use super::*;

#[test]
fn the_same_seed_gives_the_same_set_and_a_longer_one_begins_with_it() {
    let (short, long, other) = (generate(1, 3), generate(1, 5), generate(2, 3));
    assert_eq!(digest(&short), digest(&generate(1, 3)));
    assert_ne!(digest(&short), digest(&other));
    assert_eq!((short.len(), &short[..3], &short[3..6]), (12, &long[..3], &long[5..8]));
    assert_eq!(long.iter().map(|example| &example.id).collect::<HashSet<_>>().len(), 20);
}

#[test]
fn the_digest_ignores_the_order_of_source_keys_and_nothing_else() {
    let mut examples = generate(1, 1);
    let before = digest(&examples);
    examples[0].source = json!({ "index": 0, "seed": 1, "generator": "relevancy_wikipedia" });
    assert_eq!(digest(&examples), before);
    examples[0].query.push('?');
    assert_ne!(digest(&examples), before);
}

#[test]
fn claims_are_verbatim_and_come_apart_again() {
    for example in generate(11, 200) {
        let labels = example.reference_mistakes.iter().chain(&example.reference_true_values);
        let shown: HashSet<&str> = match example.task {
            Task::SummaryCompleteness => example.reference_true_values.iter().map(String::as_str).collect(),
            Task::Hallucination | Task::Attribution => labels.map(String::as_str).collect(),
            Task::Relevancy => HashSet::from([example.llm_response.as_str()]),
        };
        assert_eq!(claims::split(&example.llm_response).into_iter().collect::<HashSet<_>>(), shown, "{}", example.id);
    }
}

/// Names, dates and numbers of a text.
fn entities(text: &str) -> HashSet<&str> {
    let entity = Regex::new(r"[A-Z][a-z]+ \d+|\p{Lu}\w+|\d+").unwrap();
    let openings = ["According", "By", "During", "In", "Parts", "The", "Volunteers"];
    entity.find_iter(text).map(|found| found.as_str()).filter(|name| !openings.contains(name)).collect()
}

#[test]
fn the_context_holds_every_fact_of_a_true_claim_and_not_of_a_false_one() {
    for example in generate(12, 200).iter().filter(|example| example.task == Task::Hallucination) {
        let context = entities(&example.rag_context);
        let is_supported = |claim: &String| entities(claim).is_subset(&context);
        let unsupported = example.reference_true_values.iter().find(|claim| !is_supported(claim));
        assert_eq!(
            (unsupported, example.reference_mistakes.iter().find(|claim| is_supported(claim))),
            (None, None),
            "{}",
            example.id
        );
    }
}

#[test]
fn a_misattribution_names_somebody_else_of_the_dialogue() {
    for example in generate(13, 100).iter().filter(|example| example.task == Task::Attribution) {
        for claim in example.reference_mistakes.iter().chain(&example.reference_true_values) {
            let (name, rest) = claim.trim_end_matches('.').split_once(" will ").unwrap();
            let owner = example.rag_context.lines().find(|line| line.contains(rest)).unwrap();
            let is_owner = owner.contains(&format!("{name}: "));
            assert_eq!(is_owner, example.reference_true_values.contains(claim), "{}: {claim}\n{owner}", example.id);
            assert!(example.rag_context.contains(&format!("{name}: ")));
        }
    }
}

#[test]
fn the_distribution_is_upstreams() {
    let examples = generate(14, 300);
    let of = |task: Task| examples.iter().filter(move |example| example.task == task);
    let share = |task: Task, wanted: f64| of(task).filter(|example| example.reference == wanted).count() as f64 / 300.0;
    assert!((0.4..0.6).contains(&share(Task::Relevancy, 1.0)));
    assert!(share(Task::Hallucination, 1.0) > 0.05 && share(Task::Hallucination, 0.0) > 0.05);
    assert!((0.4..0.75).contains(&share(Task::SummaryCompleteness, 1.0)));
    assert!(of(Task::Relevancy).all(|example| !example.query.is_empty() && example.reference_mistakes.is_empty()));
    assert!(of(Task::Attribution).all(|example| example.query.is_empty()));
    for joiner in JOINERS.into_iter().filter(|joiner| !joiner.is_empty()) {
        assert!(of(Task::Hallucination).any(|example| example.llm_response.contains(joiner)), "{joiner:?}");
    }
}
