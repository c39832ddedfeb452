//! Asks a backend, rewards its answers as the validator would, and says what the numbers mean.

mod ask;
mod judge;
mod stopping;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use deval_report::{
    Diagnostic,
    gates::{Distance, GateVerdict},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::abort::ValidatorAborts;
use crate::api::{self, ApiResponse};
use crate::baseline::Baseline;
use crate::embed::{Embed, Memo, VALIDATOR_EMBEDDER};
use crate::error::{BackendError, EvalError};
use crate::explain::Item;
use crate::reward::{Reward, Unscored, reward};
use crate::set::{ExampleSet, SetInfo};
use crate::speed::{Lengths, Speed};
use crate::stats::plan::{Goal, Plan};
use crate::stats::{self, Summary};
use crate::task::{Answer, Example, Request, Task};

use ask::Asker;
use judge::Case;

pub use ask::sampling_seed;
pub use stopping::{Bound, Decision, Stopping};

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
    /// Why not. In the exact lane: what about it differs from a validator all the same; empty if nothing does.
    pub why: String,
    /// What the answers depend on, by name: digests of the package, of the recipe of the image, of the weights.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<String, String>,
}

/// One answer and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// Wall-clock seconds. Of answers given together, those since the one before was there: they add up to what all of them took.
    pub seconds: f64,
    /// The model's own text, where there is one.
    pub raw: Option<String>,
    /// What the validator's client got, where an HTTP answer tells more than the answer alone.
    pub response: Option<ApiResponse>,
    /// How long the texts were that the model continued for it, in the order of the pipeline; empty where that is not known.
    pub lengths: Vec<Lengths>,
}

/// What a backend knows after the last answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finish {
    /// Gates that the run decided, without times: the same for the same answers.
    pub gates: Vec<GateVerdict>,
    /// By gate: its margin in this run, where times decide it.
    pub margins: BTreeMap<String, Distance>,
    /// What else was wrong with the submission.
    pub findings: Vec<Diagnostic>,
    /// What differs from run to run: times, identifiers, logs.
    pub run: serde_json::Value,
}

/// One request of several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ask<'a> {
    /// The request.
    pub request: &'a Request,
    /// Which of its samples, from 0 on.
    pub sample: u32,
}

/// A backend that can answer nothing more.
#[derive(Debug)]
pub struct GaveUp {
    /// Place of the request that it gave up at.
    pub place: usize,
    /// Why.
    pub source: BackendError,
}

/// What answers evaluation requests.
pub trait Backend {
    /// What this is.
    fn describe(&self) -> BackendInfo;

    /// Whether [`Backend::answer_all`] works at several answers at once, so that none has a time of its own.
    fn answers_together(&self) -> bool {
        false
    }

    /// Answers one request. Of several samples of one request, counted from 0, each is drawn anew where the backend draws at all
    /// ([`sampling_seed`]); a backend that does not answers the same again.
    ///
    /// # Errors
    /// Only when it can answer nothing more; an unusable answer is an [`Answer`] too.
    fn answer(&mut self, request: &Request, sample: u32) -> Result<Reply, BackendError>;

    /// Answers each request once, as [`Backend::answer`] would; by itself one after the other. `hear` is told each reply and the place of
    /// its request as soon as it is there, in any order.
    ///
    /// # Errors
    /// Only when it can answer nothing more; not every request is answered then.
    fn answer_all(&mut self, asks: &[Ask<'_>], hear: &mut dyn FnMut(usize, Reply)) -> Result<(), GaveUp> {
        for (place, ask) in asks.iter().enumerate() {
            hear(place, self.answer(ask.request, ask.sample).map_err(|source| GaveUp { place, source })?);
        }
        Ok(())
    }

    /// Ends the run, after the last answer.
    ///
    /// # Errors
    /// When what was answered cannot be told.
    fn finish(&mut self) -> Result<Finish, BackendError> {
        Ok(Finish::default())
    }
}

/// When asking ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// All examples were asked, in the order of the set.
    #[default]
    All,
    /// It is settled whether the answers beat every baseline; see [`Stopping`].
    Settled,
}

/// How an evaluation is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvaluateOptions {
    /// How often each example is asked, at least once.
    pub samples: u32,
    /// Seed of the bootstrap and of the order in which examples are asked until it is settled.
    pub seed: u64,
    /// Assumed share of wrong labels, 0 to below 0.5; see [`stats::LabelNoise`].
    pub label_noise: Option<f64>,
    /// When asking ends.
    pub until: Until,
}

impl Default for EvaluateOptions {
    /// Every example once, seed 0, labels taken as right.
    fn default() -> Self {
        Self { samples: 1, seed: 0, label_noise: None, until: Until::All }
    }
}

impl EvaluateOptions {
    fn check(&self) -> Result<(), EvalError> {
        match self.label_noise {
            _ if self.samples == 0 => Err(EvalError::NoSamples),
            Some(rate) if !(0.0..0.5).contains(&rate) => Err(EvalError::LabelNoise(rate)),
            _ => Ok(()),
        }
    }
}

/// One answer's outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExampleResult {
    /// The example.
    pub id: String,
    /// First 16 hex digits of its digest, which tells an edited example from the one of the same id ([`crate::set::digest`] of it alone).
    pub digest: String,
    /// Its task.
    pub task: Task,
    /// The right score.
    pub reference: f64,
    /// Which answer to it, from 0 on.
    pub sample: u32,
    /// What the validator gets to see of the answer; a score that is no number has become -1 with status `error`.
    pub answer: ApiResponse,
    /// What it earns; absent when the validator aborts.
    pub reward: Option<Reward>,
    /// Why the validator aborts.
    pub aborts: Option<ValidatorAborts>,
    /// The model's own text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub raw: Option<String>,
    /// How long the texts were that the model continued for it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lengths: Vec<Lengths>,
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
    /// All examples, each counting the same, as in the validator: sum over all questions by their number.
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
    /// Examples of it that were left out because nothing rewards them: their claims are not labelled.
    pub left_out: usize,
    /// Seed of the bootstrap and of the order of asking.
    pub seed: u64,
    /// How often each example was asked.
    pub samples: u32,
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
    /// Where the rest up to a mean reward of 1 was lost, largest loss first.
    pub explanation: Vec<Item>,
    /// Why asking stopped, where it was to stop once settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
    /// What this proves, in plain words.
    pub meaning: String,
    /// Gates that the run decided, in the validator's order; only the validator's own container decides any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateVerdict>,
    /// How long the questions would take elsewhere, where the lengths of the texts are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// Every answer in the order of asking, the samples of an example one after another.
    pub results: Vec<ExampleResult>,
    /// How long it took; changes from run to run.
    #[serde(skip)]
    pub timing: Timing,
    /// By gate: its margin in this run, where times decide it; changes from run to run.
    #[serde(skip)]
    pub margins: BTreeMap<String, Distance>,
    /// What the backend found wrong with the submission.
    #[serde(skip)]
    pub findings: Vec<Diagnostic>,
    /// What else changes from run to run: identifiers, logs.
    #[serde(skip)]
    pub run: serde_json::Value,
}

impl Evaluation {
    /// What it takes to settle a lead of this size over another model whose rewards spread as these do: on the same examples (the
    /// spread is that of the distance to the best baseline, the one difference that was measured) and on examples of each one's own.
    pub fn plans(&self, goal: Goal) -> [Plan; 2] {
        let own = self.rewards.overall.spread();
        [Plan::paired(goal, self.versus.difference.spread()), Plan::unpaired(goal, [own, own])]
    }
}

/// How long answers took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// [`Reply::seconds`], in the order of asking.
    pub seconds: Vec<f64>,
    /// Their sum.
    pub total: f64,
    /// How long one answer takes; unknown where answers were given together.
    pub latency: Option<Latency>,
}

/// Seconds that single answers take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
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
    pub fn new(seconds: Vec<f64>, together: bool) -> Self {
        let seconds: Vec<f64> = seconds.into_iter().map(|s| if s.is_finite() { s } else { 0.0 }).collect();
        let latency = (!together).then(|| Latency::new(&seconds));
        Self { total: seconds.iter().sum(), latency, seconds }
    }
}

impl Latency {
    fn new(seconds: &[f64]) -> Self {
        let mut sorted = seconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            p50: stats::quantile(&sorted, 0.5),
            p99: stats::quantile(&sorted, 0.99),
            max: stats::quantile(&sorted, 1.0),
            over_budget: sorted.iter().filter(|s| **s > QUESTION_BUDGET_SECONDS).count(),
        }
    }
}

/// Asks the backend, rewards the answers and compares them with the baselines. `progress` hears how many answers of how many at most are
/// there, from 0 on. Examples without claim labels are left out unless their task is rewarded without claims.
///
/// # Errors
/// Impossible options, no examples; a backend or an embedder that gives up.
pub fn evaluate(
    backend: &mut dyn Backend,
    set: &ExampleSet,
    embed: &dyn Embed,
    options: &EvaluateOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation, EvalError> {
    options.check()?;
    let is_rewarded = |example: &&Example| !example.mistakes_unknown || example.task == Task::Relevancy;
    let examples: Vec<&Example> = set.examples.iter().filter(is_rewarded).collect();
    let left_out = set.examples.len() - examples.len();
    if examples.is_empty() {
        return Err(EvalError::NoExamples { left_out });
    }
    let rounds = match options.until {
        Until::All => vec![examples.clone()],
        Until::Settled => stopping::rounds(&examples, options.seed),
    };
    let expected = rounds.iter().map(Vec::len).sum::<usize>() * options.samples as usize;
    progress(0, expected);
    let (info, embed) = (backend.describe(), Memo::new(embed));
    let (name, samples, seconds, together) = (info.name.clone(), options.samples, Vec::new(), false);
    let mut asker = Asker { backend, name, embed: &embed, samples, expected, seconds, together, progress };
    let (asked, stopping) = match options.until {
        Until::All => (asker.ask(&examples)?, None),
        Until::Settled => {
            stopping::ask(&mut asker, &rounds, examples.len()).map(|(asked, stopping)| (asked, Some(stopping)))?
        }
    };
    let timing = Timing::new(asker.seconds, asker.together);
    let finish = |source| EvalError::Finish { backend: info.name.clone(), source };
    let Finish { gates, margins, findings, run } = asker.backend.finish().map_err(finish)?;
    let (set, embedder) = (&set.info, embed.name());
    let case = Case { backend: info, embedder, set, left_out, options, asked, stopping, gates };
    Ok(Evaluation { timing, margins, findings, run, ..judge::judge(case) })
}
