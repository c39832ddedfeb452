//! What a set of examples is like: its distribution, what it is worth against surface cues, what is wrong with it.

mod check;
mod features;
mod learner;
mod overlap;
mod view;

use std::collections::{BTreeMap, HashSet};

use deval_eval::assembly::JOINERS;
use deval_eval::baseline::Baseline;
use deval_eval::embed::{HashedWords, Memo};
use deval_eval::reward::{Truth, reward};
use deval_eval::{Answer, Embed, Example, ExampleSet, SetInfo, Task, python};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::{check, findings};
pub use learner::Learned;
pub use overlap::{Overlap, SHINGLE_WORDS, TRAINING_OVERLAP, overlap, overlap_findings};

/// Characters from which on a context or a response counts as long; a context of this size takes about 6,000 tokens.
pub const LONG_CHARS: usize = 24_000;

/// How to look at a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditOptions {
    /// Parts of the cross-validation; 0 and 1 leave the learner out.
    pub folds: usize,
    /// Seed of its draws.
    pub seed: u64,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { folds: 5, seed: 0 }
    }
}

/// What a set is like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Audit {
    /// The set.
    pub set: SetInfo,
    /// Name of the embedder behind the summary rewards.
    pub embedder: String,
    /// Each task of which there are examples, in the validator's order.
    pub tasks: Vec<TaskAudit>,
}

/// What the examples of one task are like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskAudit {
    /// The task.
    pub task: Task,
    /// Number of examples.
    pub examples: usize,
    /// Examples whose claims are not labelled.
    pub unlabelled: usize,
    /// Examples by reference: 0, above 0 to 0.25, to 0.5, to 0.75, below 1, and 1.
    pub references: [usize; 6],
    /// Words of the contexts.
    pub context_words: Spread,
    /// Words of the responses.
    pub response_words: Spread,
    /// Labelled claims of an example.
    pub claims: Spread,
    /// Examples without a false claim, among those with labels.
    pub all_true: usize,
    /// Examples without a true claim, among those with labels.
    pub all_false: usize,
    /// Claims of the response that stand in it word by word, and all of them (summaries: the points kept).
    pub verbatim: (usize, usize),
    /// Examples with a query.
    pub queries: usize,
    /// Examples that repeat context, query, response and claims of an earlier one.
    pub duplicates: usize,
    /// Contexts or responses of more than [`LONG_CHARS`] characters.
    pub long: usize,
    /// What follows the claims in the responses: each of the validator's joiners, in its order, and anything else.
    pub joiners: Vec<usize>,
    /// Examples by generator.
    pub generators: BTreeMap<String, usize>,
    /// Mean rewards of the answers that need no model.
    pub baselines: Vec<BaselineReward>,
    /// What a learner makes of surface cues; absent where there is too little to learn from.
    pub learned: Option<Learned>,
}

/// Median and maximum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// Median, the upper one of two.
    pub p50: usize,
    /// Maximum.
    pub max: usize,
}

/// A rule's mean reward over the labelled examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineReward {
    /// The rule.
    pub baseline: Baseline,
    /// Its mean reward.
    pub reward: f64,
}

impl TaskAudit {
    /// The best of the constant answers; `None` without labelled examples.
    pub fn best_constant(&self) -> Option<BaselineReward> {
        let constants = self.baselines.iter().filter(|row| row.baseline.is_constant()).copied();
        constants.max_by(|a, b| a.reward.total_cmp(&b.reward))
    }
}

/// Looks at a set. The same set and options give the same numbers.
pub fn audit(set: &ExampleSet, options: AuditOptions) -> Audit {
    let embed = Memo::new(&HashedWords);
    let of = |task| set.examples.iter().filter(|example| example.task == task).collect::<Vec<_>>();
    let tasks = Task::ALL.into_iter().map(|task| (task, of(task))).filter(|(_, examples)| !examples.is_empty());
    let tasks = tasks.map(|(task, examples)| task_audit(task, &examples, options, &embed)).collect();
    Audit { set: set.info.clone(), embedder: embed.name().to_owned(), tasks }
}

fn task_audit(task: Task, examples: &[&Example], options: AuditOptions, embed: &dyn Embed) -> TaskAudit {
    let labelled: Vec<_> = examples.iter().copied().filter(|example| !example.mistakes_unknown).collect();
    let count = |fits: &dyn Fn(&Example) -> bool| examples.iter().filter(|example| fits(example)).count();
    let count_labelled = |fits: &dyn Fn(&Example) -> bool| labelled.iter().filter(|example| fits(example)).count();
    let spread = |of: &dyn Fn(&Example) -> usize| Spread::of(examples.iter().map(|example| of(example)));
    let has_claims = task != Task::Relevancy;
    TaskAudit {
        task,
        examples: examples.len(),
        unlabelled: examples.len() - labelled.len(),
        references: histogram(examples),
        context_words: spread(&|example| python::split(&example.rag_context).count()),
        response_words: spread(&|example| python::split(&example.llm_response).count()),
        claims: spread(&|example| example.reference_mistakes.len() + example.reference_true_values.len()),
        all_true: count_labelled(&|example| has_claims && example.reference_mistakes.is_empty()),
        all_false: count_labelled(&|example| has_claims && example.reference_true_values.is_empty()),
        verbatim: verbatim(&labelled),
        queries: count(&|example| !example.query.is_empty()),
        duplicates: examples.len() - examples.iter().map(|example| content(example)).collect::<HashSet<_>>().len(),
        long: count(&|example| [&example.rag_context, &example.llm_response].iter().any(|text| is_long(text))),
        joiners: joiners(&labelled),
        generators: generators(examples),
        baselines: baselines(&labelled, embed),
        learned: learner::learn(task, &labelled, options, embed),
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = usize>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_unstable();
        Self { p50: values.get(values.len() / 2).copied().unwrap_or(0), max: values.last().copied().unwrap_or(0) }
    }
}

fn is_long(text: &str) -> bool {
    text.len() > LONG_CHARS && text.chars().count() > LONG_CHARS
}

fn histogram(examples: &[&Example]) -> [usize; 6] {
    let mut bins = [0; 6];
    for example in examples {
        let reference = example.reference;
        let bin = match reference {
            r if r >= 1.0 => 5,
            r if r > 0.0 => ((r * 4.0).ceil() as usize).clamp(1, 4),
            _ => 0,
        };
        bins[bin] += 1;
    }
    bins
}

/// The claims that the response consists of; a summary does not hold the points left out.
fn shown(example: &Example) -> impl Iterator<Item = &String> {
    let mistakes = example.reference_mistakes.iter().filter(|_| example.task != Task::SummaryCompleteness);
    mistakes.chain(&example.reference_true_values)
}

fn verbatim(examples: &[&Example]) -> (usize, usize) {
    let is_found = |example: &Example| shown(example).filter(|claim| example.llm_response.contains(*claim)).count();
    let found = examples.iter().map(|example| is_found(example)).sum();
    (found, examples.iter().map(|example| shown(example).count()).sum())
}

/// Texts and claims that make an example, without the truth about them.
type Content<'a> = (&'a str, &'a str, &'a str, Vec<&'a String>);

fn content(example: &Example) -> Content<'_> {
    let mut claims: Vec<_> = example.reference_mistakes.iter().chain(&example.reference_true_values).collect();
    claims.sort_unstable();
    (&example.rag_context, &example.query, &example.llm_response, claims)
}

fn joiners(examples: &[&Example]) -> Vec<usize> {
    let mut seen = vec![0; JOINERS.len() + 1];
    for example in examples {
        let response = example.llm_response.as_str();
        let mut places: Vec<_> =
            shown(example).filter_map(|claim| Some((response.find(claim.as_str())?, claim.len()))).collect();
        places.sort_unstable();
        let starts = places.iter().skip(1).map(|(start, _)| *start).chain([response.len()]);
        for ((start, length), next) in places.iter().zip(starts) {
            let between = response.get(start + length..next);
            let joiner = JOINERS.iter().position(|joiner| between == Some(joiner));
            seen[joiner.unwrap_or(JOINERS.len())] += 1;
        }
    }
    seen
}

fn generators(examples: &[&Example]) -> BTreeMap<String, usize> {
    let mut generators = BTreeMap::new();
    for name in examples.iter().filter_map(|example| example.source.get("generator")?.as_str()) {
        *generators.entry(name.to_owned()).or_default() += 1;
    }
    generators
}

fn baselines(examples: &[&Example], embed: &dyn Embed) -> Vec<BaselineReward> {
    let reward = |baseline: Baseline| {
        let answers = examples.iter().map(|example| baseline.answer(&example.request()));
        Some(BaselineReward { baseline, reward: mean_reward(examples, answers, embed)? })
    };
    Baseline::ALL.into_iter().filter_map(reward).collect()
}

/// Mean over the examples whose answer can be rewarded.
fn mean_reward(examples: &[&Example], answers: impl Iterator<Item = Answer>, embed: &dyn Embed) -> Option<f64> {
    let total = |(example, answer): (&&Example, Answer)| {
        Some(f64::from(reward(example.task, Truth::from(*example), &answer, embed).ok()?.total))
    };
    let totals: Vec<f64> = examples.iter().zip(answers).filter_map(total).filter(|total| total.is_finite()).collect();
    if totals.is_empty() { None } else { Some(totals.iter().sum::<f64>() / totals.len() as f64) }
}

#[cfg(test)]
mod tests;
