use std::collections::BTreeMap;

use super::*;
use crate::embed::HashedWords;
use crate::harness::{Backend, BackendInfo, EvaluateOptions, Evaluation, Lane, Reply, evaluate};
use crate::set::{ExampleSet, SetInfo};
use crate::{Answer, BackendError, Dice, Request};

/// Gives prepared answers in order.
struct Prepared(std::vec::IntoIter<Answer>);

impl Backend for Prepared {
    fn describe(&self) -> BackendInfo {
        let [name, model, why] = ["prepared", "none", "a test"].map(str::to_owned);
        BackendInfo { name, model, reading: None, lane: Lane::Estimate, why, evidence: BTreeMap::new() }
    }

    fn answer(&mut self, _: &Request, _: u32) -> Result<Reply, BackendError> {
        Ok(Reply { answer: self.0.next().unwrap(), seconds: 0.0, raw: None, response: None, lengths: Vec::new() })
    }
}

fn run(examples: Vec<Example>, answers: Vec<Answer>) -> Evaluation {
    let set = ExampleSet::new(SetInfo::default(), examples);
    let mut backend = Prepared(answers.into_iter());
    evaluate(&mut backend, &set, &HashedWords, &EvaluateOptions::default(), &mut |_, _| {}).unwrap()
}

fn example(task: Task, reference: f64, mistakes: &[&str], true_values: &[&str]) -> Example {
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Example {
        id: format!("{task}-{reference}"),
        task,
        rag_context: String::new(),
        query: String::new(),
        llm_response: String::new(),
        reference,
        reference_mistakes: strings(mistakes),
        reference_true_values: strings(true_values),
        mistakes_unknown: false,
        source: serde_json::Value::Null,
    }
}

/// The single items of one answer: cause and loss.
fn causes_of(example: Example, score: f64, mistakes: &[&str]) -> Vec<(Cause, f64)> {
    let answer = Answer::new(score, mistakes.iter().map(|text| (*text).to_owned()).collect());
    let items = run(vec![example], vec![answer]).explanation;
    items.into_iter().map(|item| (item.cause, item.loss)).filter(|(cause, _)| *cause != Cause::Rounding).collect()
}

fn assert_causes(found: &[(Cause, f64)], expected: &[(Cause, f64)]) {
    let is_same = found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(found, expected)| found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-6);
    assert!(is_same, "{found:?} is not {expected:?}");
}

#[test]
fn every_part_goes_to_its_cause_in_definition_order() {
    let (false_claim, true_claim) = ("The harbor closed in May 1901.", "Ana leads the northern depot.");
    let half = || example(Task::Hallucination, 0.5, &[false_claim], &[true_claim]);
    assert_causes(&causes_of(half(), 0.5, &[false_claim]), &[]);
    // 0.6·0.15 of the score; then a third of 0.35 of the 0.91 left.
    let step = f64::from((1.0f64 / 3.0) as f32);
    assert_causes(
        &causes_of(half(), 0.65, &[false_claim]),
        &[(Cause::DistancePenalty, 0.91 * 0.35 * step), (Cause::OffTenth, 0.09)],
    );
    assert_causes(&causes_of(half(), 0.5, &[]), &[(Cause::NotNamed, 0.4)]);
    assert_causes(&causes_of(half(), 0.5, &[false_claim, true_claim]), &[(Cause::TrueNamed, 0.5)]);
    // All of the score's part is gone with the score; the mistakes' part is judged by itself.
    assert_causes(&causes_of(half(), -1.0, &[false_claim]), &[(Cause::Unusable, 0.6 + 0.4 * 0.35)]);
    let all_false = example(Task::Attribution, 0.0, &[false_claim], &[]);
    assert_causes(&causes_of(all_false, 0.0, &[]), &[(Cause::NotNamed, 0.4), (Cause::NothingNamed, 0.3)]);
    let all_true = example(Task::Attribution, 1.0, &[], &[true_claim]);
    assert_causes(&causes_of(all_true, 1.0, &["Snow."]), &[(Cause::NamedNone, 0.4)]);
}

#[test]
fn relevancy_tells_nearly_right_from_wrong() {
    let yes = || example(Task::Relevancy, 1.0, &[], &[]);
    assert_causes(&causes_of(yes(), 0.98, &[]), &[(Cause::NotZeroOrOne, 1.0)]);
    assert_causes(&causes_of(yes(), 0.0, &[]), &[(Cause::WrongVerdict, 1.0)]);
    assert_causes(&causes_of(yes(), -1.0, &[]), &[(Cause::Unusable, 1.0)]);
    let item = &run(vec![yes()], vec![Answer::new(0.98, vec![])]).explanation[0];
    assert_eq!(item.what, "1 relevancy score like 0.98 earn 0 (only exactly 0 or 1 counts)");
}

#[test]
fn what_the_right_answer_cannot_earn_is_told_apart() {
    let complete = example(Task::SummaryCompleteness, 1.0, &[], &["One point stands."]);
    assert_causes(&causes_of(complete.clone(), 1.0, &[]), &[(Cause::Unreachable, 0.2)]);
    let made = run(vec![complete], vec![Answer::new(1.0, vec![])]);
    assert_eq!(made.explanation[0].what, "the right answers themselves earn only 0.80 in 1 answer (not reachable)");
}

#[test]
fn an_abort_loses_all_that_could_be_reached() {
    let half = example(Task::Hallucination, 0.5, &["The harbor closed."], &["Ana leads."]);
    let made = run(vec![half.clone()], vec![Answer { score: Some(0.5), mistakes: None }]);
    assert_eq!((made.explanation[0].cause, made.explanation[0].loss), (Cause::Aborts, 1.0));
    // A dots-only label makes even the right answer raise.
    let hopeless = example(Task::Hallucination, 0.5, &["...", "a"], &["b"]);
    let made = run(vec![hopeless], vec![Answer::new(0.5, vec!["a".to_owned()])]);
    let causes: Vec<_> = made.explanation.iter().map(|item| (item.cause, item.loss)).collect();
    assert_causes(&causes, &[(Cause::Unreachable, 1.0), (Cause::Aborts, 0.0)]);
}

#[test]
fn items_are_counted_named_and_sorted() {
    let claims = ["The harbor closed in May 1901.", "Ana leads the northern depot."];
    let examples = [0.1, 0.3, 0.5].map(|reference| example(Task::Attribution, reference, &claims[..1], &claims[1..]));
    let named = vec![claims[0].to_owned()];
    let answers =
        [(f64::NAN, vec![]), (-1.0, named.clone()), (0.45, named)].map(|(score, list)| Answer::new(score, list));
    let made = run(examples.to_vec(), answers.to_vec());
    let first = &made.explanation[0];
    assert_eq!((first.cause, first.answers, first.example.as_str()), (Cause::Unusable, 2, "attribution-0.1"));
    assert!(first.what.starts_with("2 answers without a usable score (like -1"), "{}", first.what);
    assert!(made.explanation.is_sorted_by(|a, b| a.loss >= b.loss));
    let sections = sections(&made.explanation);
    let rows = &sections[0].table.as_ref().unwrap().rows;
    assert_eq!(rows[0][..2], [format!("{:+.3}", -first.loss), "attribution".to_owned()]);
    assert!(sections[0].notes[0].contains(&format!("{:+.3}", made.rewards.overall.mean - 1.0)));
    assert_eq!(sections[0].notes.len(), 2);
    assert_eq!(explain(&[]), []);
}

/// A random answer: scores of every kind, any of the claims, other texts, no list at all.
fn random_answer(dice: &mut Dice, example: &Example) -> Answer {
    let near = example.reference + 0.3 * (dice.unit() - 0.5);
    let scores = [-1.0, 0.0, 0.5, 1.0, 0.98, 5.0, f64::NAN, dice.unit(), near];
    let score = *dice.pick(&scores);
    let mut mistakes: Vec<String> = example
        .reference_mistakes
        .iter()
        .chain(&example.reference_true_values)
        .filter(|_| dice.below(3) == 0)
        .cloned()
        .collect();
    if dice.below(8) == 0 {
        mistakes.push(if dice.flip() { "...".to_owned() } else { "Penguins bought the stadium.".to_owned() });
    }
    Answer { score: Some(score), mistakes: (dice.below(20) != 0).then_some(mistakes) }
}

#[test]
fn losses_sum_to_the_distance_from_the_maximum_whatever_was_answered() {
    let text = include_str!("../../../../tests/fixtures/examples/generated.jsonl");
    let examples = ExampleSet::read("generated.jsonl", text).0.examples;
    let mut dice = Dice::new(21, 0);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let answers = examples.iter().map(|example| random_answer(&mut dice, example)).collect();
        let made = run(examples.clone(), answers);
        let sum: f64 = made.explanation.iter().map(|item| item.loss).sum();
        assert!((sum - (1.0 - made.rewards.overall.mean)).abs() < 1e-9, "{sum}");
        for item in &made.explanation {
            assert!(item.loss >= 0.0 || matches!(item.cause, Cause::BetterThanRight | Cause::Rounding), "{item:?}");
            assert!(item.cause != Cause::Rounding || item.loss.abs() < 1e-6, "{item:?}");
            seen.insert(item.cause);
        }
    }
    assert!(seen.len() >= 15, "{seen:?}");
}
