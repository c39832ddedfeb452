//! Two evaluations on the same examples, example by example.

#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::CompareError;
use crate::harness::{BackendInfo, Evaluation, ExampleResult};
use crate::set::SetInfo;
use crate::stats::plan::{Goal, Plan};
use crate::stats::{self, Signs, Summary, TIE};
use crate::task::Task;

/// Examples listed because they changed most.
const MOST_CHANGED: usize = 10;
const POSSIBLE_DIFFERENCE: (f64, f64) = (-1.0, 1.0);

/// How two evaluations are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CompareOptions {
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Whether to compare the examples that both answered when the others differ.
    pub common_only: bool,
    /// The lead to plan for; the measured one when absent.
    pub lead: Option<f64>,
}

/// One of the two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// What answered.
    pub backend: BackendInfo,
    /// Its example set.
    pub set: String,
    /// How often each example was asked.
    pub samples: u32,
    /// Mean reward over the compared examples.
    pub mean: f64,
    /// Answers to them that abort the validator; each counts 0.
    pub aborts: usize,
}

/// Differences B − A and how sure they are. Samples are averaged within an example first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Mean difference per example with its intervals.
    pub difference: Summary,
    /// Two-sided p value of "no difference" by the paired bootstrap (see [`stats::p_value`]); absent where the spread is unknown.
    pub p_bootstrap: Option<f64>,
    /// Examples on which B is better or worse, with the sign test.
    pub signs: Signs,
}

/// The same for one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskDifference {
    /// Which task.
    pub task: Task,
    /// Differences on its examples.
    pub paired: Difference,
}

/// An example on which A and B earn differently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The example.
    pub id: String,
    /// Its task.
    pub task: Task,
    /// What A earns.
    pub a: f64,
    /// What B earns.
    pub b: f64,
}

/// A paired comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Paired {
    /// The first evaluation.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Over all compared examples, each counting the same.
    pub overall: Difference,
    /// By task, in the validator's order. These p values are not corrected for looking at several tasks.
    pub tasks: Vec<TaskDifference>,
    /// The ten examples with the largest differences at most, largest first.
    pub changed: Vec<Change>,
    /// What it takes to settle a lead as large as the measured one.
    pub plan: Plan,
    /// What was found, in a sentence.
    pub sentence: String,
    /// What to keep in mind.
    pub notes: Vec<String>,
}

/// Compares two evaluations example by example.
///
/// # Errors
/// Different examples (unless only the common ones are asked for), an example that was edited in between, none in common, relevance rewards of
/// two embedders.
pub fn compare(a: &Evaluation, b: &Evaluation, options: CompareOptions) -> Result<Paired, CompareError> {
    let changes = matched(a, b, options.common_only)?;
    let differences = |task: Option<Task>| {
        let chosen = changes.iter().filter(|change| task.is_none_or(|task| change.task == task));
        chosen.map(Change::difference).collect::<Vec<_>>()
    };
    let overall = difference(&differences(None), options.seed);
    let tasks = Task::ALL.into_iter().map(|task| (task, differences(Some(task))));
    let tasks = tasks.filter(|(_, differences)| !differences.is_empty());
    let goal = Goal::new(options.lead.unwrap_or(overall.difference.mean));
    Ok(Paired {
        a: side(a, &changes, |change| change.a),
        b: side(b, &changes, |change| change.b),
        seed: options.seed,
        tasks: tasks.map(|(task, own)| TaskDifference { task, paired: difference(&own, options.seed) }).collect(),
        plan: Plan::paired(goal, overall.difference.spread()),
        sentence: sentence(&overall),
        notes: notes(a, b, changes.len()),
        changed: most_changed(&changes),
        overall,
    })
}

impl Change {
    /// B − A.
    pub fn difference(&self) -> f64 {
        self.b - self.a
    }
}

/// All answers to one example.
struct Answered<'a> {
    first: &'a ExampleResult,
    totals: Vec<f64>,
}

fn answered(evaluation: &Evaluation) -> BTreeMap<&str, Answered<'_>> {
    let mut answered = BTreeMap::<&str, Answered<'_>>::new();
    for result in &evaluation.results {
        let entry = answered.entry(&result.id).or_insert_with(|| Answered { first: result, totals: Vec::new() });
        entry.totals.push(result.total());
    }
    answered
}

/// The examples that both answered, by id.
fn matched(a: &Evaluation, b: &Evaluation, common_only: bool) -> Result<Vec<Change>, CompareError> {
    let (of_a, of_b) = (answered(a), answered(b));
    let common: Vec<_> = of_a.values().filter_map(|in_a| Some((in_a, of_b.get(in_a.first.id.as_str())?))).collect();
    let is_same = common.len() == of_a.len() && common.len() == of_b.len();
    let named = |set: &SetInfo| format!("{} ({})", set.name, set.digest.chars().take(12).collect::<String>());
    if !is_same && !common_only {
        let (a, b, in_a, in_b) = (named(&a.set), named(&b.set), of_a.len(), of_b.len());
        return Err(CompareError::OtherExamples { a, b, in_a, in_b, common: common.len() });
    }
    if common.is_empty() {
        return Err(CompareError::NothingInCommon);
    }
    if let Some((edited, _)) = common.iter().find(|(a, b)| identity(a.first) != identity(b.first)) {
        return Err(CompareError::Edited { example: edited.first.id.clone() });
    }
    if a.embedder != b.embedder && common.iter().any(|(a, _)| a.first.task == Task::SummaryCompleteness) {
        return Err(CompareError::OtherEmbedder { a: a.embedder.clone(), b: b.embedder.clone() });
    }
    let change = |(a, b): &(&Answered<'_>, &Answered<'_>)| Change {
        id: a.first.id.clone(),
        task: a.first.task,
        a: stats::mean(&a.totals),
        b: stats::mean(&b.totals),
    };
    Ok(common.iter().map(change).collect())
}

/// What must agree for an example to be the same.
fn identity(result: &ExampleResult) -> (Task, u64, &str) {
    (result.task, result.reference.to_bits(), &result.digest)
}

fn side(evaluation: &Evaluation, changes: &[Change], reward: impl Fn(&Change) -> f64) -> Side {
    let is_compared = |id: &str| changes.binary_search_by(|change| change.id.as_str().cmp(id)).is_ok();
    let aborted = evaluation.results.iter().filter(|result| result.aborts.is_some() && is_compared(&result.id));
    Side {
        backend: evaluation.backend.clone(),
        set: evaluation.set.name.clone(),
        samples: evaluation.samples,
        mean: stats::mean(&changes.iter().map(reward).collect::<Vec<_>>()),
        aborts: aborted.count(),
    }
}

fn difference(differences: &[f64], seed: u64) -> Difference {
    let numbered: Vec<_> = differences.iter().copied().enumerate().collect();
    Difference {
        difference: stats::summarize(&numbered, POSSIBLE_DIFFERENCE, Some(seed)),
        p_bootstrap: stats::p_value(differences, seed),
        signs: Signs::count(differences),
    }
}

fn most_changed(changes: &[Change]) -> Vec<Change> {
    let size = |change: &Change| change.difference().abs();
    let mut changed: Vec<_> = changes.iter().filter(|change| size(change) > TIE).cloned().collect();
    changed.sort_by(|a, b| size(b).total_cmp(&size(a)));
    changed.truncate(MOST_CHANGED);
    changed
}

/// "B beats A by 0.031 ± 0.012 (95 %), p = 0.004 (paired bootstrap), sign test p = 0.01: 41 better, 20 worse, 59 equal".
fn sentence(overall: &Difference) -> String {
    let Difference { difference, p_bootstrap, signs } = overall;
    let Signs { better, worse, equal, p } = signs;
    let (winner, loser) = if difference.mean > 0.0 { ("B", "A") } else { ("A", "B") };
    let lead = difference.mean.abs();
    if better + worse == 0 {
        return format!("A and B earn the same on all {equal} examples");
    }
    let (verb, reach) = match difference.reach() {
        _ if lead <= TIE => {
            return format!("A and B earn the same on average: {better} better, {worse} worse, {equal} equal");
        }
        Some(reach) if reach < lead => ("beats", format!("± {reach:.3} (95 %)")),
        Some(reach) => ("is ahead of", format!("± {reach:.3} (95 %), not settled")),
        None => ("is ahead of", "± unknown".to_owned()),
    };
    let bootstrap = p_bootstrap.map(|p| format!(", {} (paired bootstrap)", p_text(p))).unwrap_or_default();
    let sign = p_text(*p);
    format!(
        "{winner} {verb} {loser} by {lead:.3} {reach}{bootstrap}, sign test {sign}: B on {better} examples better, {worse} worse, {equal} equal"
    )
}

/// `p = 0.012`, or that it is below what is worth telling.
fn p_text(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") }
}

fn notes(a: &Evaluation, b: &Evaluation, compared: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let asked = |evaluation: &Evaluation| evaluation.rewards.overall.examples;
    if compared < asked(a) || compared < asked(b) {
        notes.push(format!("{compared} common examples of A's {} and B's {} are compared", asked(a), asked(b)));
    }
    for (name, evaluation) in [("A", a), ("B", b)] {
        if evaluation.aborts > 0 {
            notes.push(format!(
                "{name} would abort the validator with {} answers, counted as 0 here",
                evaluation.aborts
            ));
        }
        if evaluation.stopping.as_ref().is_some_and(|stopping| stopping.asked < stopping.of) {
            notes.push(format!("{name} stopped once settled; p values and intervals assume a number fixed beforehand"));
        }
    }
    notes
}
