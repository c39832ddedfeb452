use std::collections::{BTreeMap, BTreeSet, HashSet};

use deval_eval::claims;
use deval_eval::set::digest;

use super::dialogue::{ACCEPTANCES, dialogues};
use super::names::first_names;
use super::world::every_claim;
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
fn a_set_of_some_tasks_holds_the_same_examples() {
    let set = generate_set(1, 3, &[Task::Attribution, Task::Hallucination]);
    let all = generate(1, 3);
    assert_eq!(set.examples, [&all[9..], &all[3..6]].concat());
    assert_eq!((set.info.name.as_str(), set.info.generator.as_deref()), ("offline-1", Some(GENERATOR)));
    assert_eq!((set.info.examples, set.info.seed, set.info.contamination.len()), (6, Some(1), 0));
}

#[test]
fn the_digest_ignores_the_order_of_source_keys_and_nothing_else() {
    let mut examples = generate(1, 1);
    let before = digest(&examples);
    let Value::Object(source) = examples[0].source.clone() else { panic!("a source has fields") };
    examples[0].source = source.into_iter().rev().collect();
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

/// Names and numbers of a claim; its first word has a capital letter anyway.
fn entities(claim: &str) -> impl Iterator<Item = &str> {
    let words = claim.trim_end_matches('.').split_whitespace().skip(1).map(|word| word.trim_matches([',', ':', ';']));
    words.filter(|word| word.starts_with(|c: char| c.is_uppercase() || c.is_numeric()))
}

#[test]
fn the_context_holds_every_name_and_number_of_true_and_of_false_claims() {
    for example in generate(12, 200).iter().filter(|example| example.task == Task::Hallucination) {
        for claim in example.reference_mistakes.iter().chain(&example.reference_true_values) {
            let is_missing = |name: &&str| !example.rag_context.contains(name);
            assert_eq!(entities(claim).find(is_missing), None, "{}: {claim}", example.id);
            assert!(entities(claim).count() > 0, "{claim}");
        }
    }
}

#[test]
fn a_false_claim_is_true_of_no_subject_and_gives_the_value_of_another() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed, 0);
        let world = world(&mut dice);
        let told: Vec<_> =
            world.told().into_iter().map(|(subject, fact)| (subject, fact, world.value(subject, fact))).collect();
        assert_eq!(
            told.iter().map(|(.., value)| value).collect::<HashSet<_>>().len(),
            told.len(),
            "a value is told once"
        );
        let claims_of = |subject, fact, value| every_claim(&world.domain.facts[fact], &world.name(subject), value);
        let right: HashSet<_> =
            told.iter().flat_map(|&(subject, fact, value)| claims_of(subject, fact, value)).collect();
        for paragraph in &world.paragraphs {
            assert!(right.contains(&world.near_claim(&mut dice, paragraph, true)));
            let (_, fact) = *dice.pick(&paragraph.told());
            let wrong = world.claim(&mut dice, (paragraph.subjects[0], fact), false, world.told());
            let values = || told.iter().filter(|told| told.1 == fact).map(|told| told.2);
            let swapped = paragraph.subjects.iter().flat_map(|s| values().flat_map(|value| claims_of(*s, fact, value)));
            assert!(!right.contains(&wrong) && swapped.collect::<HashSet<_>>().contains(&wrong), "{wrong}");
        }
    }
}

#[test]
fn a_misattribution_names_somebody_else_of_the_dialogue() {
    for seed in 0..100 {
        let mut dice = Dice::new(seed, 0);
        let names = first_names(&mut dice, 2 + seed as usize % 19);
        let flags = [true, false, true, false, false];
        for (dialogue, is_true) in dialogues(&mut dice, &names, &flags).iter().zip(flags) {
            let accepts = |line: &&str| ACCEPTANCES.iter().any(|words| line.contains(words));
            let accepting: Vec<_> = dialogue.text.lines().filter(accepts).collect();
            let [line] = accepting[..] else { panic!("{} accept in {}", accepting.len(), dialogue.text) };
            let owner = line.split(':').next().unwrap();
            let named = dialogue.item.trim_start_matches("It is ").split(' ').next().unwrap();
            assert_eq!(named == owner, is_true, "{dialogue:?}");
            assert!(dialogue.text.lines().any(|line| line.starts_with(&format!("{named}: "))), "{dialogue:?}");
        }
    }
}

#[test]
fn a_fitting_answer_gives_the_value_that_was_asked_for_and_another_does_not() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed, 1);
        let (world, fits) = (world(&mut dice), seed % 2 == 0);
        let (query, answer) = questions::exchange(&mut dice, &world, fits);
        let asks = |(subject, fact): &(usize, usize)| {
            let fact = &world.domain.facts[*fact];
            fact.queries.iter().any(|template| template.replace("{s}", &world.name(*subject)) == query)
        };
        let (subject, fact) = world.told().into_iter().find(asks).unwrap();
        assert_eq!(
            answer.contains(&world::fill("{v}", &world.domain.facts[fact], "", world.value(subject, fact))),
            fits,
            "{query} {answer}"
        );
    }
}

#[test]
fn the_distribution_is_upstreams() {
    let examples = generate(14, 300);
    let of = |task: Task| examples.iter().filter(move |example| example.task == task);
    let share = |task: Task, wanted: f64| of(task).filter(|example| example.reference == wanted).count() as f64 / 300.0;
    assert!((0.4..0.6).contains(&share(Task::Relevancy, 1.0)));
    for task in [Task::Hallucination, Task::Attribution] {
        assert!(share(task, 1.0) > 0.05 && share(task, 0.0) > 0.05, "{task}");
    }
    assert!((0.45..0.75).contains(&share(Task::SummaryCompleteness, 1.0)));
    assert!(of(Task::Relevancy).all(|example| !example.query.is_empty() && example.reference_mistakes.is_empty()));
    assert!(of(Task::Attribution).all(|example| example.query.is_empty()));
    for joiner in JOINERS.into_iter().filter(|joiner| !joiner.is_empty()) {
        assert!(of(Task::Hallucination).any(|example| example.llm_response.contains(joiner)), "{joiner:?}");
    }
    let mut generators = BTreeMap::<&str, usize>::new();
    examples
        .iter()
        .for_each(|example| *generators.entry(example.source["generator"].as_str().unwrap()).or_default() += 1);
    assert!(generators.len() == 7 && generators.values().all(|n| *n > 70), "{generators:?}");
}

#[test]
fn counts_are_upstreams() {
    let (mut topics, mut participants) = (BTreeSet::new(), BTreeSet::new());
    for example in generate(15, 300) {
        let (kept, left_out) = (example.reference_true_values.len(), example.reference_mistakes.len());
        let is_article = example.source["generator"] == "summary_wikipedia";
        match example.task {
            Task::SummaryCompleteness if is_article => assert_eq!((example.reference, left_out), (1.0, 0)),
            Task::SummaryCompleteness => assert!((3..=20).contains(&kept) && (3..=20).contains(&(kept + left_out))),
            Task::Hallucination => assert!((1..=60).contains(&(kept + left_out)), "{}", example.id),
            Task::Attribution => {
                assert!((1..=5).contains(&(kept + left_out)));
                participants.insert(example.source["participants"].as_u64().unwrap());
            }
            Task::Relevancy => {}
        }
        topics.insert(example.source["topic"].as_str().unwrap().to_owned());
    }
    assert_eq!(participants, (2..=20).collect());
    assert_eq!(topics.len(), domains::DOMAINS.len());
}

#[test]
fn no_slot_stays_open_and_no_claim_is_long() {
    for example in generate(16, 200) {
        let texts = [&example.rag_context, &example.query, &example.llm_response];
        assert!(texts.iter().all(|text| !text.contains(['{', '}'])), "{}", example.id);
        for claim in example.reference_mistakes.iter().chain(&example.reference_true_values) {
            assert!((3..=45).contains(&claim.split(' ').count()) && claim.ends_with('.'), "{claim}");
        }
    }
}
