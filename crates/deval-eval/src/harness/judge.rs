//! From single rewards to means, baselines and a sentence.

use super::ask::Asked;
use super::*;
use crate::contest;
use crate::explain::{self, Judged};
use crate::stats::LabelNoise;

const POSSIBLE_REWARD: (f64, f64) = (0.0, 1.0);
const POSSIBLE_DIFFERENCE: (f64, f64) = (-1.0, 1.0);

/// What there is to judge.
pub(super) struct Case<'a> {
    pub(super) backend: BackendInfo,
    pub(super) embedder: &'a str,
    pub(super) set: &'a SetInfo,
    pub(super) left_out: usize,
    pub(super) options: &'a EvaluateOptions,
    pub(super) asked: Vec<Asked<'a>>,
    pub(super) stopping: Option<Stopping>,
    pub(super) gates: Vec<GateVerdict>,
}

pub(super) fn judge(case: Case<'_>) -> Evaluation {
    let Case { backend, embedder, set, left_out, options, asked, stopping, gates } = case;
    let seed = Some(options.seed);
    let baseline = |(place, baseline): (usize, Baseline)| {
        let rewards = rewards(&asked, &|asked| vec![asked.baselines[place]], None, None);
        BaselineResult { baseline, rewards }
    };
    let baselines: Vec<_> = Baseline::ALL.into_iter().enumerate().map(baseline).collect();
    let best = best(&baselines);
    let leads = summarize(&asked, &|asked| asked.leads(best), POSSIBLE_DIFFERENCE, seed);
    let right = |asked: &Asked<'_>| vec![asked.right.as_ref().map_or(0.0, |right| f64::from(right.total))];
    let reasons = reasons(&backend, embedder, &asked, left_out, stopping.as_ref());
    let mut made = Evaluation {
        lane: if reasons.is_empty() { Lane::Exact } else { Lane::Estimate },
        embedder: embedder.to_owned(),
        set: set.clone(),
        seed: options.seed,
        samples: options.samples,
        rewards: rewards(&asked, &|asked| asked.totals(), options.label_noise, seed),
        ceiling: rewards(&asked, &right, None, None),
        versus: Comparison { baseline: baselines[best].baseline, difference: leads },
        explanation: explanation(&asked),
        meaning: String::new(),
        validator_average: 0.0,
        unusable: 0,
        aborts: 0,
        timing: Timing::default(),
        margins: BTreeMap::new(),
        findings: Vec::new(),
        run: serde_json::Value::Null,
        gates,
        results: asked.into_iter().flat_map(|asked| asked.results).collect(),
        backend,
        reasons,
        left_out,
        baselines,
        stopping,
        speed: None,
    };
    count(&mut made);
    made.meaning = meaning(&made);
    made
}

/// What is counted over the answers.
fn count(made: &mut Evaluation) {
    let in_order = made.results.iter().map(|result| result.reward.as_ref().map_or(0.0, |reward| reward.total));
    made.validator_average = contest::average(in_order, u32::try_from(made.results.len()).unwrap_or(u32::MAX));
    made.unusable = made.results.iter().filter(|result| !(0.0..=1.0).contains(&result.answer.score)).count();
    made.aborts = made.results.iter().filter(|result| result.aborts.is_some()).count();
}

/// Place of the baseline that earns most, the first of equals.
fn best(baselines: &[BaselineResult]) -> usize {
    let mean = |place: &usize| baselines[*place].rewards.overall.mean;
    let best = (0..baselines.len()).reduce(|best, other| if mean(&other) > mean(&best) { other } else { best });
    best.expect("there are four baselines")
}

fn explanation(asked: &[Asked<'_>]) -> Vec<explain::Item> {
    let judged = asked.iter().flat_map(|asked| {
        let judged = |result| Judged { example: asked.example, result, right: asked.right.as_ref() };
        asked.results.iter().map(judged)
    });
    explain::explain(&judged.collect::<Vec<_>>())
}

/// Values of one example, sample by sample.
type Values<'a> = &'a dyn Fn(&Asked<'_>) -> Vec<f64>;

fn summarize<'a, 'e: 'a>(
    asked: impl IntoIterator<Item = &'a Asked<'e>>,
    values: Values<'_>,
    range: (f64, f64),
    seed: Option<u64>,
) -> Summary {
    let numbered = (0..).zip(asked);
    let values = numbered.flat_map(|(number, asked)| values(asked).into_iter().map(move |value| (number, value)));
    stats::summarize(&values.collect::<Vec<_>>(), range, seed)
}

fn rewards(asked: &[Asked<'_>], values: Values<'_>, label_noise: Option<f64>, seed: Option<u64>) -> Rewards {
    let of = |chosen: &[&Asked<'_>]| {
        let means: Vec<f64> = chosen.iter().map(|asked| stats::mean(&values(asked))).collect();
        let label_noise = label_noise.map(|rate| LabelNoise::new(rate, &means, POSSIBLE_REWARD));
        Summary { label_noise, ..summarize(chosen.iter().copied(), values, POSSIBLE_REWARD, seed) }
    };
    let of_task = |task: Task| {
        let chosen: Vec<_> = asked.iter().filter(|asked| asked.example.task == task).collect();
        (!chosen.is_empty()).then(|| TaskSummary { task, reward: of(&chosen) })
    };
    let tasks = Task::ALL.into_iter().filter_map(of_task).collect();
    Rewards { overall: of(&asked.iter().collect::<Vec<_>>()), tasks }
}

fn reasons(
    backend: &BackendInfo,
    embedder: &str,
    asked: &[Asked<'_>],
    left_out: usize,
    stopping: Option<&Stopping>,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if backend.lane == Lane::Estimate {
        reasons.push(format!("the backend `{}` is not the validator's container: {}", backend.name, backend.why));
    }
    if backend.lane == Lane::Exact && !backend.why.is_empty() {
        reasons.push(backend.why.clone());
    }
    let has_summaries = asked.iter().any(|asked| asked.example.task == Task::SummaryCompleteness);
    if has_summaries && embedder != VALIDATOR_EMBEDDER {
        reasons
            .push(format!("the relevance reward embeds with `{embedder}`, the validator with `{VALIDATOR_EMBEDDER}`"));
    }
    reasons.push("the examples are our own: the validator makes new ones every round".to_owned());
    if left_out > 0 {
        reasons
            .push(format!("{left_out} examples are left out: their claims are not labelled, so nothing rewards them"));
    }
    if stopping.is_some_and(|stopping| stopping.asked < stopping.of) {
        reasons.push("asking stopped when the lead was settled, which makes a mean look more extreme".to_owned());
    }
    reasons
}

/// What the numbers prove, the worst first.
fn meaning(made: &Evaluation) -> String {
    let (own, n, answers) = (made.rewards.overall.mean, made.rewards.overall.examples, made.results.len());
    if made.aborts > 0 {
        return format!(
            "{} of {answers} answers would abort the validator: the whole round would be lost, whatever the rest earns",
            made.aborts
        );
    }
    let constants = made.baselines.iter().filter(|result| result.baseline.is_constant());
    let constant = constants.map(|result| result.rewards.overall.mean).fold(0.0, f64::max);
    if own < constant {
        return format!(
            "below the best constant answer ({own:.3} < {constant:.3}): proves the plumbing, not the quality"
        );
    }
    let (name, difference) = (made.versus.baseline.name(), made.versus.difference.mean);
    if difference <= 0.0 {
        return format!(
            "no better than `{name}`, a rule without a model ({difference:+.3}): proves the plumbing, not the quality"
        );
    }
    let is_settled = made.versus.difference.t95.is_some_and(|interval| interval.low > 0.0);
    let verdict = match &made.stopping {
        // An interval for a fixed number of examples says nothing about one that was chosen by looking.
        Some(stopping) => stopping.sentence(),
        None if is_settled => "more than chance explains".to_owned(),
        None => "too few examples to tell from chance".to_owned(),
    };
    format!("{difference:+.3} over `{name}`, the best rule without a model, on {n} examples: {verdict}")
}
