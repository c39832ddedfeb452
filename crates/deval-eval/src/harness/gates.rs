//! Gates that the answers themselves decide: what they hold, beside the right answers.

use deval_report::gates::GateStatus;

use super::ask::Asked;
use super::*;
use crate::python;
use crate::reward::Model;

/// Words of a mistake from which on the validator may run into Python's recursion limit (upstream `deval/rewards/rouge_reward.py`).
const LONG_MISTAKE_WORDS: usize = 700;

/// One answer beside its example's task.
type Rule = fn(&ExampleResult) -> bool;

/// G45 to G49, those left out that no example asked for.
pub(super) fn of_answers(asked: &[Asked<'_>]) -> Vec<GateVerdict> {
    let results: Vec<&ExampleResult> = asked.iter().flat_map(|asked| &asked.results).collect();
    let relevancy: Rule = |result| result.task == Task::Relevancy;
    let claims: Rule = |result| result.task != Task::Relevancy;
    let rules: [(&str, Rule, Rule, &str); 5] = [
        ("G45", claims, |result| result.answer.mistakes.is_none(), "without mistakes_completion"),
        ("G46", claims, |result| mistakes(result).any(is_dots), "with a mistake of dots only"),
        ("G47", claims, |result| words(result) >= LONG_MISTAKE_WORDS, "with a mistake of 700 words or more"),
        ("G48", relevancy, |result| ![0.0, 1.0].contains(&result.answer.score), "with a score other than 0 and 1"),
        ("G49", claims, names_true_claims, "that the validator punishes for naming true claims"),
    ];
    rules
        .iter()
        .filter_map(|(code, applies, offends, what)| verdict(code, &results, *applies, *offends, what))
        .collect()
}

fn verdict(code: &str, results: &[&ExampleResult], applies: Rule, offends: Rule, what: &str) -> Option<GateVerdict> {
    let asked: Vec<_> = results.iter().filter(|result| applies(result)).collect();
    let offending: Vec<_> = asked.iter().filter(|result| offends(result)).collect();
    let first = offending.first().map(|result| format!(", first {}", result.id)).unwrap_or_default();
    let detail = format!("{} of {} answers {what}{first}", offending.len(), asked.len());
    let longest = asked.iter().map(|result| words(result)).max()?;
    // Naming true claims costs reward and nothing else: it is a matter of degree.
    let status = match (offending.is_empty(), code) {
        (true, _) => GateStatus::Pass,
        (false, "G49") => GateStatus::Warn,
        (false, _) => GateStatus::Fail,
    };
    let verdict = GateVerdict::new(code, status, detail);
    Some(match code {
        "G47" => verdict.margin(format!("{} words", LONG_MISTAKE_WORDS.saturating_sub(longest))),
        _ => verdict,
    })
}

fn mistakes(result: &ExampleResult) -> impl Iterator<Item = &str> {
    result.answer.mistakes.iter().flatten().map(String::as_str)
}

/// Such an entry has no sentence for `rouge`, which raises.
fn is_dots(mistake: &str) -> bool {
    !mistake.is_empty() && mistake.chars().all(|c| c == '.')
}

fn words(result: &ExampleResult) -> usize {
    mistakes(result).map(|mistake| python::split(mistake).count()).max().unwrap_or(0)
}

/// Whether mistakes are punished as matches of true claims.
fn names_true_claims(result: &ExampleResult) -> bool {
    let penalties = result.reward.iter().flat_map(|reward| &reward.penalties);
    let mut of_mistakes = penalties.filter(|penalty| penalty.model == Model::ExactMatch);
    of_mistakes.any(|penalty| penalty.value > 0.0)
}
