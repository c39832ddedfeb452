//! What an evaluation says of the validator's gates G40 to G49 and G51.
//!
//! The rule: an estimate neither passes nor fails a gate. What would have cost something is `warn`; where nothing was seen the gate stays
//! `unknown`, with what was looked at. Only answers of the exact lane pass or fail. Times are always estimates, because the machine is
//! another than the validator's, and so is the moving average.

use deval_report::Network;
use deval_report::gates::{self, GateStatus, GateVerdict, Unit};

use crate::abort::PythonException;
use crate::api::{ApiResponse, Status};
use crate::harness::{Evaluation, ExampleResult, Lane, Latency, QUESTION_BUDGET_SECONDS, Timing};
use crate::python;
use crate::reward::Model;
use crate::task::Task;

/// Words of one sentence from which on rouge-l comes near Python's recursion limit (GATES 47: 700 were fine, 1000 were not).
const LONG_SENTENCE: usize = 700;

/// Constant rewards of this size keep the moving average at zero: it settles at the reward less 0.025 (`deval/base/validator.py`,
/// 0.8 of the new and 0.2 of the old, less 0.02).
const LOWEST_AVERAGE: f64 = 0.025;

/// Verdicts in the validator's order. Gates on which these answers say nothing are left out.
pub fn verdicts(evaluation: &Evaluation, timing: &Timing, network: Network) -> Vec<GateVerdict> {
    let seen = Seen { evaluation, network };
    let checks = [
        seen.count("G41", all, broken, "answered with HTTP 500: the pipeline raised, or its score is not finite"),
        seen.count(
            "G42",
            all,
            refused,
            "refused: no dict, a score that is no number, or mistakes that are no list of text",
        ),
        seen.count(
            "G43",
            readable,
            without_score,
            "without a score from 0 to 1 (an answer that cannot be parsed is -1)",
        ),
        seen.count(
            "G45",
            with_claims,
            |result| result.answer.mistakes.is_none(),
            "without mistakes: the reward raises",
        ),
        seen.count("G46", with_claims, only_dots, "with a mistake of dots only: the reward raises"),
        seen.longest_sentence(),
        seen.count("G48", relevancy, |result| !matches!(result.answer.score, 0.0 | 1.0), "neither 0 nor 1"),
        seen.count(
            "G49",
            with_claims,
            punished,
            "with a penalty for the mistakes: true claims named, or none where none is true",
        ),
    ];
    let checks = checks.into_iter().flatten();
    seen.slowest(timing).into_iter().chain(checks).chain(seen.average()).collect()
}

/// Adds what the answers of the exact lane decide to what the run itself decided, in the validator's order. Estimates are left out.
pub fn complete(evaluation: &mut Evaluation, network: Network) {
    let decided = verdicts(evaluation, &evaluation.timing, network);
    for verdict in decided.into_iter().filter(|verdict| !verdict.estimate) {
        if evaluation.gates.iter().all(|known| known.code != verdict.code) {
            evaluation.gates.push(verdict);
        }
    }
    evaluation.gates.sort_by(|a, b| a.code.cmp(&b.code));
}

struct Seen<'a> {
    evaluation: &'a Evaluation,
    network: Network,
}

impl Seen<'_> {
    /// How many of the answers in question have a fault; `None` when none was in question.
    fn count(
        &self,
        code: &str,
        in_question: impl Fn(&ExampleResult) -> bool,
        faulty: impl Fn(&ExampleResult) -> bool,
        what: &str,
    ) -> Option<GateVerdict> {
        let asked: Vec<_> = self.evaluation.results.iter().filter(|result| in_question(result)).collect();
        let wrong: Vec<_> = asked.iter().filter(|result| faulty(result)).collect();
        let example = wrong.first().map(|result| format!(", `{}` first", result.id)).unwrap_or_default();
        let detail = format!("{} of {} answers {what}{example}", wrong.len(), asked.len());
        let share = 100.0 * wrong.len() as f64 / asked.len() as f64;
        let verdict = self.verdict(code, !wrong.is_empty(), self.lane(), detail);
        (!asked.is_empty())
            .then(|| verdict.margin(format!("{share:.1} % of the answers")).distance(0.0 - share, Unit::Percent))
    }

    fn longest_sentence(&self) -> Option<GateVerdict> {
        let results = self.evaluation.results.iter().filter(|result| with_claims(result));
        let longest = results.clone().map(longest).max()?;
        let raised = results.filter(|result| raises(result, PythonException::RecursionError)).count();
        let detail =
            format!("the longest sentence of a mistake has {longest} words; {raised} answers made ROUGE-L raise");
        let verdict = self.verdict("G47", longest >= LONG_SENTENCE || raised > 0, self.lane(), detail);
        Some(verdict.distance(LONG_SENTENCE as f64 - longest as f64, Unit::Words))
    }

    /// Nothing where no time was taken, as with recorded answers.
    fn slowest(&self, timing: &Timing) -> Option<GateVerdict> {
        let of = timing.seconds.len();
        let verdict = |over, detail| self.verdict("G40", over, Lane::Estimate, detail);
        let Some(Latency { p50, max, over_budget, .. }) = timing.latency else {
            // One answer alone takes longer than its share.
            let share = timing.total / of as f64;
            let detail = format!("{of} answers were given together, {share:.1} s each on this machine");
            return (timing.total > 0.0).then(|| verdict(share > QUESTION_BUDGET_SECONDS, detail));
        };
        let detail =
            format!("{over_budget} of {of} answers above 20 s on this machine; slowest {max:.1} s, median {p50:.1} s");
        (max > 0.0).then(|| verdict(over_budget > 0, detail).distance(QUESTION_BUDGET_SECONDS - max, Unit::Seconds))
    }

    fn average(&self) -> Option<GateVerdict> {
        let average = f64::from(self.evaluation.validator_average);
        let detail = format!("the average reward is {average:.3}; the moving average settles 0.025 below it");
        let verdict = self.verdict("G51", average <= LOWEST_AVERAGE, Lane::Estimate, detail);
        average.is_finite().then(|| verdict.distance(average - LOWEST_AVERAGE, Unit::Reward))
    }

    /// Of the answers themselves; embedder and examples do not enter these gates.
    fn lane(&self) -> Lane {
        self.evaluation.backend.lane
    }

    fn verdict(&self, code: &str, wrong: bool, lane: Lane, detail: String) -> GateVerdict {
        let gate = gates::gate(code).expect("a code of the table");
        let status = match (lane, wrong) {
            (Lane::Exact, true) => gate.failing(self.network),
            (Lane::Exact, false) => GateStatus::Pass,
            (Lane::Estimate, true) => GateStatus::Warn,
            (Lane::Estimate, false) => GateStatus::Unknown,
        };
        let next = if wrong { gate.fix } else { gate.decides };
        match (lane, status) {
            (Lane::Exact, GateStatus::Pass) => GateVerdict::new(code, status, detail),
            (Lane::Exact, _) => GateVerdict::new(code, status, detail).next(next),
            (Lane::Estimate, _) => GateVerdict::new(code, status, format!("estimate: {detail}")).next(next).estimate(),
        }
    }
}

fn all(_: &ExampleResult) -> bool {
    true
}

fn relevancy(result: &ExampleResult) -> bool {
    result.task == Task::Relevancy && readable(result)
}

fn with_claims(result: &ExampleResult) -> bool {
    result.task != Task::Relevancy && readable(result)
}

fn readable(result: &ExampleResult) -> bool {
    !broken(result) && !refused(result)
}

fn broken(result: &ExampleResult) -> bool {
    result.answer.http_status >= 500
}

fn refused(result: &ExampleResult) -> bool {
    let ApiResponse { server_status_message, client_status_message, .. } = &result.answer;
    !broken(result) && (*server_status_message != Some(Status::Success) || *client_status_message == Status::Error)
}

fn without_score(result: &ExampleResult) -> bool {
    !(0.0..=1.0).contains(&result.answer.score)
}

fn raises(result: &ExampleResult, exception: PythonException) -> bool {
    result.aborts.as_ref().is_some_and(|aborts| aborts.python_exception == exception)
}

/// A list that made the reward raise here, or that would on other examples of the task.
fn only_dots(result: &ExampleResult) -> bool {
    let dots = |text: &String| !text.is_empty() && text.chars().all(|c| c == '.');
    let mistakes = result.answer.mistakes.iter().flatten();
    let of_dots = mistakes.clone().filter(|text| dots(text)).count();
    // Summaries are compared as one text, which dots alone do not empty.
    let counts = match result.task {
        Task::SummaryCompleteness => of_dots > 0 && of_dots == mistakes.count(),
        Task::Hallucination | Task::Attribution => of_dots > 0,
        Task::Relevancy => false,
    };
    counts || raises(result, PythonException::ValueError)
}

/// Words of the longest piece between two dots, as rouge-l splits.
fn longest(result: &ExampleResult) -> usize {
    let mistakes = result.answer.mistakes.as_deref().unwrap_or_default();
    let words = |text: &str| text.split('.').map(|sentence| python::split(sentence).count()).max().unwrap_or(0);
    match result.task {
        Task::SummaryCompleteness => words(&mistakes.join("\n")),
        Task::Relevancy | Task::Hallucination | Task::Attribution => {
            mistakes.iter().map(|text| words(text)).max().unwrap_or(0)
        }
    }
}

fn punished(result: &ExampleResult) -> bool {
    let penalties = result.reward.iter().flat_map(|reward| &reward.penalties);
    penalties.into_iter().any(|part| part.model != Model::DistPenalty && part.value > 0.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::embed::HashedWords;
    use crate::error::BackendError;
    use crate::harness::{Backend, BackendInfo, EvaluateOptions, Reply, evaluate};
    use crate::set::{ExampleSet, SetInfo};
    use crate::task::{Answer, Example, Request};

    struct Fixed(Lane, Answer, f64);

    impl Backend for Fixed {
        fn describe(&self) -> BackendInfo {
            let [name, model, why] = ["fixed", "none", ""].map(str::to_owned);
            BackendInfo { name, model, reading: None, lane: self.0, why, evidence: BTreeMap::new() }
        }

        fn answer(&mut self, _: &Request, _: u32) -> Result<Reply, BackendError> {
            Ok(Reply { answer: self.1.clone(), seconds: self.2, raw: None, response: None, lengths: Vec::new() })
        }
    }

    /// Two examples of each task with one true and one false claim.
    fn set() -> ExampleSet {
        let example = |task: Task, number: usize| Example {
            id: format!("{task}-{number}"),
            task,
            rag_context: "Ada wrote the report. Ben read it.".into(),
            query: "Who wrote it?".into(),
            llm_response: "Ada wrote the report. Ben burned it.".into(),
            reference: if task == Task::Relevancy { 1.0 } else { 0.5 },
            reference_mistakes: vec!["Ben burned it".into()],
            reference_true_values: vec!["Ada wrote the report".into()],
            mistakes_unknown: false,
            source: serde_json::Value::Null,
        };
        let examples = Task::ALL.into_iter().flat_map(|task| [example(task, 0), example(task, 1)]).collect();
        ExampleSet::new(SetInfo::default(), examples)
    }

    fn of(lane: Lane, answer: Answer, seconds: f64, network: Network) -> Vec<GateVerdict> {
        let mut backend = Fixed(lane, answer, seconds);
        let made = evaluate(&mut backend, &set(), &HashedWords, &EvaluateOptions::default(), &mut |_, _| {}).unwrap();
        verdicts(&made, &made.timing, network)
    }

    fn status(verdicts: &[GateVerdict], code: &str) -> Option<GateStatus> {
        verdicts.iter().find(|verdict| verdict.code == code).map(|verdict| verdict.status)
    }

    /// How a gate stands after these answers, in the exact lane and as an estimate.
    fn both(code: &str, answer: &Answer) -> [Option<GateStatus>; 2] {
        [Lane::Exact, Lane::Estimate].map(|lane| status(&of(lane, answer.clone(), 1.0, Network::Finney), code))
    }

    fn named(mistakes: &[&str]) -> Answer {
        Answer::new(1.0, mistakes.iter().map(|text| (*text).to_owned()).collect())
    }

    const FAILS: [Option<GateStatus>; 2] = [Some(GateStatus::Fail), Some(GateStatus::Warn)];
    const COSTS: [Option<GateStatus>; 2] = [Some(GateStatus::Warn), Some(GateStatus::Warn)];
    const HOLDS: [Option<GateStatus>; 2] = [Some(GateStatus::Pass), Some(GateStatus::Unknown)];

    #[test]
    fn good_answers_pass_exactly_and_leave_an_estimate_unknown() {
        let good = named(&["Ben burned it"]);
        for code in ["G41", "G42", "G43", "G45", "G46", "G47", "G48", "G49"] {
            assert_eq!(both(code, &good), HOLDS, "{code}");
        }
        let estimate = of(Lane::Estimate, good, 1.0, Network::Finney);
        assert!(estimate.is_sorted_by_key(|verdict| verdict.code.clone()));
        for verdict in estimate {
            assert!(
                verdict.estimate && verdict.detail.starts_with("estimate: ") && verdict.next.is_some(),
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn each_fault_decides_its_gate() {
        let long = "word ".repeat(700);
        for (code, answer, expected) in [
            ("G41", Answer::new(f64::NAN, vec![]), FAILS),
            ("G43", Answer::new(-1.0, vec![]), FAILS),
            ("G43", Answer::new(1.5, vec![]), FAILS),
            ("G45", Answer { score: Some(1.0), mistakes: None }, FAILS),
            ("G46", named(&["Ben burned it", "..."]), FAILS),
            ("G47", named(&[&long]), FAILS),
            ("G48", Answer::new(0.98, vec![]), COSTS),
            ("G49", named(&["Ada wrote the report"]), COSTS),
        ] {
            assert_eq!(both(code, &answer), expected, "{code} {answer:?}");
        }
    }

    #[test]
    fn distances_are_numbers() {
        let verdicts =
            of(Lane::Exact, named(&["one two three", "Ben burned it. all of it it is"]), 23.5, Network::Finney);
        let distance = |code| verdicts.iter().find(|verdict| verdict.code == code).unwrap().distance.unwrap();
        assert_eq!(
            (distance("G47").value, distance("G47").unit),
            (694.0, Unit::Words),
            "a summary's points are one text"
        );
        assert_eq!((distance("G40").value, distance("G40").unit), (-3.5, Unit::Seconds));
        assert!(distance("G51").value > 0.3);
        assert_eq!(status(&verdicts, "G40"), Some(GateStatus::Warn), "another machine is never exact");
    }

    #[test]
    fn answers_given_together_tell_no_slowest_one() {
        let mut backend = Fixed(Lane::Estimate, Answer::new(1.0, vec![]), 30.0);
        let options = EvaluateOptions::default();
        let made = evaluate(&mut backend, &set(), &HashedWords, &options, &mut |_, _| {}).unwrap();
        for (seconds, expected) in [(30.0, GateStatus::Warn), (0.5, GateStatus::Unknown)] {
            let verdicts = verdicts(&made, &Timing::new(vec![seconds; 8], true), Network::Finney);
            assert_eq!(status(&verdicts, "G40"), Some(expected));
            let gate = verdicts.iter().find(|verdict| verdict.code == "G40").unwrap();
            assert!(gate.distance.is_none() && gate.detail.contains("8 answers were given together"), "{gate:?}");
        }
    }

    #[test]
    fn what_was_not_looked_at_is_left_out() {
        let relevancy = ExampleSet::new(SetInfo::default(), set().examples.into_iter().take(2).collect());
        let mut recorded = Fixed(Lane::Exact, Answer::new(1.0, vec![]), 0.0);
        let options = EvaluateOptions::default();
        let made = evaluate(&mut recorded, &relevancy, &HashedWords, &options, &mut |_, _| {}).unwrap();
        let codes: Vec<_> = verdicts(&made, &made.timing, Network::Local).into_iter().map(|gate| gate.code).collect();
        assert_eq!(codes, ["G41", "G42", "G43", "G48", "G51"]);
    }
}
