use super::*;
use crate::embed::HashedWords;

/// Sets of many small examples: the task decides what an answer of 1 earns.
fn examples(counts: [usize; 4]) -> ExampleSet {
    let make = |(task, count): (Task, usize)| {
        (0..count).map(move |number| Example {
            id: format!("{task}-{number}"),
            task,
            rag_context: format!("Fact {number} holds."),
            query: "Which fact holds?".to_owned(),
            llm_response: format!("Fact {number} holds. Fact {number} fails."),
            reference: [0.0, 1.0, 0.5][number % if task == Task::Relevancy { 2 } else { 3 }],
            reference_mistakes: vec![format!("Fact {number} fails.")],
            reference_true_values: vec![format!("Fact {number} holds.")],
            mistakes_unknown: false,
            source: serde_json::Value::Null,
        })
    };
    ExampleSet::new(SetInfo::default(), Task::ALL.into_iter().zip(counts).flat_map(make).collect())
}

/// Knows the right answers, and gives them or something else.
struct Oracle<'a, F>(&'a ExampleSet, F);

impl<F: Fn(&Example) -> Answer> Backend for Oracle<'_, F> {
    fn describe(&self) -> BackendInfo {
        let [name, model, why] = ["oracle", "none", "a test"].map(str::to_owned);
        BackendInfo { name, model, reading: None, lane: Lane::Estimate, why, evidence: BTreeMap::new() }
    }

    fn answer(&mut self, request: &Request, _: u32) -> Result<Reply, BackendError> {
        let example = self.0.examples.iter().find(|example| example.request() == *request).unwrap();
        Ok(Reply { answer: (self.1)(example), seconds: 1.0, raw: None, response: None, lengths: Vec::new() })
    }
}

fn settle(examples: &ExampleSet, seed: u64, answer: impl Fn(&Example) -> Answer) -> (Evaluation, Vec<(usize, usize)>) {
    let options = EvaluateOptions { seed, until: Until::Settled, ..EvaluateOptions::default() };
    let mut heard = Vec::new();
    let mut backend = Oracle(examples, answer);
    let made = evaluate(&mut backend, examples, &HashedWords, &options, &mut |done, all| heard.push((done, all)));
    (made.unwrap(), heard)
}

fn right(example: &Example) -> Answer {
    Answer::new(example.reference, example.reference_mistakes.clone())
}

#[test]
fn right_answers_are_soon_better_than_every_rule() {
    let examples = examples([60; 4]);
    let (made, heard) = settle(&examples, 1, right);
    let stopping = made.stopping.as_ref().unwrap();
    println!("right answers: {}", stopping.sentence());
    assert_eq!((stopping.decision, stopping.of, stopping.unbalanced), (Decision::Better, 240, 0));
    assert!(stopping.asked < 120 && stopping.asked % 4 == 0, "{stopping:?}");
    assert_eq!((made.results.len(), heard[0]), (stopping.asked, (0, 240)));
    assert!(stopping.bounds.iter().all(|bound| bound.difference.low > 0.0));
    assert!(made.meaning.contains("settled after"), "{}", made.meaning);
    assert!(made.reasons.iter().any(|reason| reason.contains("more extreme")));
    let text = serde_json::to_string(&made).unwrap();
    assert_eq!(serde_json::from_str::<Evaluation>(&text).unwrap().stopping, made.stopping);
}

#[test]
fn bad_answers_are_soon_worse_than_some_rule() {
    let examples = examples([60; 4]);
    let (made, _) =
        settle(&examples, 1, |example| Answer::new(1.0 - example.reference, example.reference_true_values.clone()));
    let stopping = made.stopping.unwrap();
    println!("wrong answers: {}", stopping.sentence());
    assert_eq!(stopping.decision, Decision::Worse);
    assert!(stopping.asked < 240 && stopping.sentence().starts_with("worse than `"), "{stopping:?}");
}

#[test]
fn a_rule_is_never_better_than_itself() {
    let examples = examples([7, 12, 5, 9]);
    let (made, _) = settle(&examples, 1, |example| Baseline::ConstantHalf.answer(&example.request()));
    let stopping = made.stopping.unwrap();
    let itself = &stopping.bounds[1];
    assert_eq!((stopping.asked, stopping.of, stopping.unbalanced), (20, 20, 13));
    assert!(itself.difference.low < 0.0 && 0.0 < itself.difference.high, "{itself:?}");
    assert_eq!(stopping.sentence(), "not settled after 20 examples");
    let sections = stopping.sections();
    assert_eq!(sections[0].table.as_ref().unwrap().rows.len(), 4);
    assert!(sections[0].notes[1].starts_with("13 examples were not asked"));
}

#[test]
fn rounds_are_balanced_random_and_repeat_by_seed() {
    let set = examples([5, 3, 0, 4]);
    let all: Vec<&Example> = set.examples.iter().collect();
    let ids = |seed| {
        let rounds = rounds(&all, seed);
        rounds
            .iter()
            .map(|round| round.iter().map(|example| example.id.clone()).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    let made = ids(7);
    assert_eq!(made, ids(7));
    assert_ne!(made, ids(8));
    assert_eq!(made.len(), 3);
    for round in made {
        let tasks: Vec<_> = round.iter().map(|id| id.split('-').next().unwrap().to_owned()).collect();
        assert_eq!(tasks, ["relevancy", "hallucination", "attribution"]);
    }
}
