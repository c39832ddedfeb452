//! Asks a backend, rewards its answers as the validator would, and says what the numbers mean.

mod judge;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::abort::ValidatorAborts;
use crate::api::{self, ApiResponse};
use crate::baseline::Baseline;
use crate::embed::{Embed, Memo, VALIDATOR_EMBEDDER};
use crate::error::{BackendError, EvalError};
use crate::reward::{Reward, Unscored, reward};
use crate::set::{ExampleSet, SetInfo};
use crate::stats::{self, Summary};
use crate::task::{Answer, Example, Request, Task};

/// Seconds after which the validator gives up on a question.
pub const QUESTION_BUDGET_SECONDS: f64 = 20.0;

/// How far the numbers can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// What the validator would compute.
    Exact,
    /// An estimate of it, for the reasons given.
    Estimate,
}

/// What answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendInfo {
    /// `native`, `container`, `url`, `replay`, …
    pub name: String,
    /// Which model, by a name that holds no path.
    pub model: String,
    /// How answers are read from the model, where there is a choice: `generate`, `constrained`, `likelihood`.
    pub reading: Option<String>,
    /// Whether this backend answers as the validator's container would.
    pub lane: Lane,
    /// Why not; empty for the exact lane.
    pub why: String,
}

/// One answer and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// The model's own text, where there is one.
    pub raw: Option<String>,
}

/// What answers evaluation requests.
pub trait Backend {
    /// What this is.
    fn describe(&self) -> BackendInfo;

    /// Answers one request.
    ///
    /// # Errors
    /// Only when it can answer nothing more; an unusable answer is an [`Answer`] too.
    fn answer(&mut self, request: &Request) -> Result<Reply, BackendError>;
}

/// One example's outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExampleResult {
    /// The example.
    pub id: String,
    /// Its task.
    pub task: Task,
    /// The right score.
    pub reference: f64,
    /// What the validator gets to see of the answer; a score that is no number has become -1 with status `error`.
    pub answer: ApiResponse,
    /// What it earns; absent when the validator aborts.
    pub reward: Option<Reward>,
    /// Why the validator aborts.
    pub aborts: Option<ValidatorAborts>,
    /// The model's own text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub raw: Option<String>,
}

impl ExampleResult {
    /// The reward; 0 when the validator aborts.
    pub fn total(&self) -> f64 {
        self.reward.as_ref().map_or(0.0, |reward| f64::from(reward.total))
    }
}

/// Mean reward of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskSummary {
    /// Which task.
    pub task: Task,
    /// Its rewards.
    pub reward: Summary,
}

/// Rewards over all examples and by task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rewards {
    /// All examples.
    pub overall: Summary,
    /// By task, in the validator's order, tasks without examples left out.
    pub tasks: Vec<TaskSummary>,
}

/// What a rule without a model earns on the same examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineResult {
    /// Which rule.
    pub baseline: Baseline,
    /// What it earns.
    pub rewards: Rewards,
}

/// Distance to the best baseline, example by example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The best baseline.
    pub baseline: Baseline,
    /// Reward less the baseline's.
    pub difference: Summary,
}

/// The outcome of an evaluation. Everything in it is the same for the same answers; times are in [`Evaluation::timing`], which is not
/// serialised with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evaluation {
    /// What answered.
    pub backend: BackendInfo,
    /// What embedded for the relevance reward.
    pub embedder: String,
    /// How far the numbers can be trusted.
    pub lane: Lane,
    /// Why they are an estimate.
    pub reasons: Vec<String>,
    /// The example set.
    pub set: SetInfo,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// What was earned.
    pub rewards: Rewards,
    /// Mean as the validator adds it up, in f32 and in order.
    pub validator_average: f32,
    /// Answers without a usable score.
    pub unusable: usize,
    /// Answers that abort the validator; one is enough to lose the round.
    pub aborts: usize,
    /// What rules without a model earn.
    pub baselines: Vec<BaselineResult>,
    /// What the right answers earn.
    pub ceiling: Rewards,
    /// The best baseline and the distance to it.
    pub versus: Comparison,
    /// What this proves, in plain words.
    pub meaning: String,
    /// Every example.
    pub results: Vec<ExampleResult>,
    /// How long it took; changes from run to run.
    #[serde(skip)]
    pub timing: Timing,
}

/// Seconds per answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// Answer by answer, in example order.
    pub seconds: Vec<f64>,
    /// Their sum.
    pub total: f64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Slowest.
    pub max: f64,
    /// Answers slower than [`QUESTION_BUDGET_SECONDS`]; the validator would have given up on them.
    pub over_budget: usize,
}

impl Timing {
    /// Sums up seconds per answer; anything that is no finite number counts as 0.
    pub fn new(seconds: Vec<f64>) -> Self {
        let seconds: Vec<f64> = seconds.into_iter().map(|s| if s.is_finite() { s } else { 0.0 }).collect();
        let mut sorted = seconds.clone();
        sorted.sort_by(f64::total_cmp);
        Self {
            total: seconds.iter().sum(),
            p50: stats::quantile(&sorted, 0.5),
            p99: stats::quantile(&sorted, 0.99),
            max: stats::quantile(&sorted, 1.0),
            over_budget: sorted.iter().filter(|s| **s > QUESTION_BUDGET_SECONDS).count(),
            seconds,
        }
    }
}

/// Asks the backend every example in order, rewards the answers and compares them with the baselines. `progress` hears how many of how many
/// are done, from 0 on.
///
/// # Errors
/// No examples; a backend or an embedder that gives up.
pub fn evaluate(
    backend: &mut dyn Backend,
    set: &ExampleSet,
    embed: &dyn Embed,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation, EvalError> {
    let examples = &set.examples;
    if examples.is_empty() {
        return Err(EvalError::NoExamples);
    }
    let (info, embed) = (backend.describe(), Memo::new(embed));
    progress(0, examples.len());
    let (mut results, mut seconds) = (Vec::new(), Vec::new());
    for example in examples {
        let reply = backend.answer(&example.request()).map_err(|source| EvalError::Backend {
            backend: info.name.clone(),
            example: example.id.clone(),
            source,
        })?;
        seconds.push(reply.seconds);
        results.push(ExampleResult { raw: reply.raw, ..score(example, &reply.answer, &embed)? });
        progress(results.len(), examples.len());
    }
    judge::judge(info, set, results, &embed).map(|made| Evaluation { timing: Timing::new(seconds), ..made })
}

/// Rewards one answer, typed exceptions included.
fn score(example: &Example, answer: &Answer, embed: &dyn Embed) -> Result<ExampleResult, EvalError> {
    let answer = api::receive(answer);
    let (reward, aborts) = match reward(example.task, example.into(), &answer.answer(), embed) {
        Ok(reward) if reward.total.is_finite() => (Some(reward), None),
        Ok(_) => return Err(embedder_failed(example, embed, "the relevance reward is no number".to_owned())),
        Err(Unscored::Aborts(abort)) => (None, Some(abort)),
        Err(Unscored::Embedder(why)) => return Err(embedder_failed(example, embed, why)),
    };
    let (id, task, reference) = (example.id.clone(), example.task, example.reference);
    Ok(ExampleResult { id, task, reference, answer, reward, aborts, raw: None })
}

fn embedder_failed(example: &Example, embed: &dyn Embed, why: String) -> EvalError {
    EvalError::Embedder { embedder: embed.name().to_owned(), example: example.id.clone(), why }
}
