use std::collections::BTreeMap;

use super::*;
use crate::baseline::Baseline;
use crate::embed::HashedWords;
use crate::harness::{Backend, EvaluateOptions, Lane, Reply, evaluate};
use crate::set::ExampleSet;
use crate::{Answer, BackendError, Example, Request};

/// Answers from a function of example and sample.
struct Scripted<'a, F>(&'a ExampleSet, F);

impl<F: Fn(&Example, u32) -> Answer> Backend for Scripted<'_, F> {
    fn describe(&self) -> BackendInfo {
        let [name, model, why] = ["scripted", "none", "a test"].map(str::to_owned);
        BackendInfo { name, model, reading: None, lane: Lane::Estimate, why, evidence: BTreeMap::new() }
    }

    fn answer(&mut self, request: &Request, sample: u32) -> Result<Reply, BackendError> {
        let example = self.0.examples.iter().find(|example| example.request() == *request).unwrap();
        Ok(Reply { answer: (self.1)(example, sample), seconds: 0.0, raw: None, response: None, lengths: Vec::new() })
    }
}

fn examples() -> ExampleSet {
    let text = include_str!("../../../../tests/fixtures/examples/generated.jsonl");
    ExampleSet::read("generated.jsonl", text).0
}

fn run(set: &ExampleSet, samples: u32, answer: impl Fn(&Example, u32) -> Answer) -> Evaluation {
    let options = EvaluateOptions { samples, ..EvaluateOptions::default() };
    evaluate(&mut Scripted(set, answer), set, &HashedWords, &options, &mut |_, _| {}).unwrap()
}

fn right(example: &Example, _: u32) -> Answer {
    Answer::new(example.reference, example.reference_mistakes.clone())
}

fn overlap(example: &Example, _: u32) -> Answer {
    Baseline::WordOverlap.answer(&example.request())
}

fn paired(a: &Evaluation, b: &Evaluation) -> Paired {
    compare(a, b, CompareOptions::default()).unwrap()
}

#[test]
fn the_same_answers_differ_by_nothing() {
    let set = examples();
    let (once, thrice) = (run(&set, 1, overlap), run(&set, 3, overlap));
    for made in [paired(&once, &once), paired(&once, &thrice)] {
        let Difference { difference, p_bootstrap, signs } = &made.overall;
        assert!(difference.mean.abs() < 1e-12 && difference.t95.is_none());
        assert_eq!((*p_bootstrap, signs.p, signs.equal), (Some(1.0), 1.0, set.examples.len()));
        assert_eq!((made.changed.len(), made.plan.examples), (0, None));
        assert!(made.tasks.iter().all(|task| task.paired.p_bootstrap == Some(1.0) && task.paired.signs.p == 1.0));
        assert_eq!(made.sentence, format!("A and B earn the same on all {} examples", set.examples.len()));
        assert!(!serde_json::to_string(&made).unwrap().contains("NaN"));
    }
}

#[test]
fn a_lead_is_found_and_turns_with_the_sides() {
    let set = examples();
    let (a, b) = (run(&set, 1, overlap), run(&set, 1, right));
    let (made, turned) = (paired(&a, &b), paired(&b, &a));
    let expected = b.rewards.overall.mean - a.rewards.overall.mean;
    assert!((made.overall.difference.mean - expected).abs() < 1e-12);
    assert_eq!(made.overall.difference.mean, -turned.overall.difference.mean);
    assert!(made.overall.difference.t95.unwrap().low > 0.0 && made.overall.p_bootstrap.unwrap() < 0.01);
    let (signs, back) = (made.overall.signs, turned.overall.signs);
    assert_eq!((signs.better, signs.worse, signs.p), (back.worse, back.better, back.p));
    assert!(made.sentence.starts_with("B beats A by ") && turned.sentence.starts_with("A beats B by "));
    assert!(made.sentence.contains("(95 %), p") && made.sentence.contains("sign test p"), "{}", made.sentence);
    assert!(made.changed.len() <= 10 && made.changed[0].difference() > 0.3);
    assert!(made.changed.is_sorted_by(|a, b| a.difference().abs() >= b.difference().abs()));
    assert_eq!(made.tasks.iter().map(|task| task.task).collect::<Vec<_>>(), Task::ALL);
    assert!(made.plan.examples.unwrap() < 120);
    let text = serde_json::to_string(&made).unwrap();
    assert_eq!(serde_json::from_str::<Paired>(&text).unwrap(), made);
    let sections = made.sections();
    println!("{}", made.sentence);
    assert_eq!(sections.len(), 3);
    assert_eq!(sections[0].table.as_ref().unwrap().rows.len(), 5);
}

#[test]
fn samples_are_averaged_before_they_are_compared() {
    let set = examples();
    let mixed = run(&set, 2, |example, sample| if sample == 0 { right(example, 0) } else { overlap(example, 0) });
    let (a, b) = (run(&set, 1, overlap), run(&set, 1, right));
    let (half, whole) = (paired(&a, &mixed).overall.difference, paired(&a, &b).overall.difference);
    assert!((2.0 * half.mean - whole.mean).abs() < 1e-12);
    assert!((2.0 * half.standard_error.unwrap() - whole.standard_error.unwrap()).abs() < 1e-12);
}

#[test]
fn other_examples_are_refused_or_reduced_to_the_common_ones() {
    let set = examples();
    let part = ExampleSet::new(set.info.clone(), set.examples[3..].to_vec());
    let (whole, part) = (run(&set, 1, overlap), run(&part, 1, right));
    let refused = compare(&whole, &part, CompareOptions::default()).unwrap_err();
    assert!(matches!(refused, CompareError::OtherExamples { .. }));
    assert!(refused.to_string().contains("in common"), "{refused}");
    let common_only = CompareOptions { seed: 1, common_only: true, lead: None };
    let made = compare(&whole, &part, common_only).unwrap();
    assert_eq!(made.overall.difference.examples, set.examples.len() - 3);
    assert!((made.b.mean - part.rewards.overall.mean).abs() < 1e-12);
    assert!(made.notes[0].contains("common examples"), "{:?}", made.notes);
    let other = ExampleSet::new(set.info.clone(), set.examples[..2].to_vec());
    let nothing = compare(&part, &run(&other, 1, right), common_only).unwrap_err();
    assert!(matches!(nothing, CompareError::NothingInCommon));
}

#[test]
fn an_edited_example_and_another_embedder_are_told() {
    let set = examples();
    let mut edited = set.clone();
    edited.examples[1].rag_context.push('!');
    let edited = ExampleSet::new(edited.info, edited.examples);
    let (a, b) = (run(&set, 1, overlap), run(&edited, 1, overlap));
    let told = compare(&a, &b, CompareOptions { seed: 1, common_only: true, lead: None }).unwrap_err();
    assert!(matches!(&told, CompareError::Edited { example } if *example == set.examples[1].id), "{told}");
    let elsewhere = Evaluation { embedder: "another".to_owned(), ..a.clone() };
    let told = compare(&a, &elsewhere, CompareOptions::default()).unwrap_err();
    assert!(told.to_string().contains("`another`"), "{told}");
}

#[test]
fn a_single_example_gives_no_interval_and_no_panic() {
    let set = examples();
    let one = ExampleSet::new(set.info.clone(), set.examples[..1].to_vec());
    let made = paired(&run(&one, 1, |_, _| Answer::new(0.5, vec![])), &run(&one, 1, right));
    assert_eq!((made.overall.p_bootstrap, made.overall.difference.t95, made.overall.signs.p), (None, None, 1.0));
    assert!(made.sentence.contains("± unknown, sign test"), "{}", made.sentence);
    assert_eq!(made.plan.examples, None);
    assert!(!made.sections().is_empty());
}
