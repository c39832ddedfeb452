//! From single rewards to means, baselines and a sentence.

use super::*;
use crate::contest;

/// Seed of every bootstrap, so that reports repeat.
const SEED: u64 = 15;
const POSSIBLE_REWARD: (f64, f64) = (0.0, 1.0);
const POSSIBLE_DIFFERENCE: (f64, f64) = (-1.0, 1.0);

pub(super) fn judge(
    backend: BackendInfo,
    set: &ExampleSet,
    results: Vec<ExampleResult>,
    embed: &dyn Embed,
) -> Result<Evaluation, EvalError> {
    let examples = &set.examples;
    let totals = totals(&results);
    let baselines = baselines(examples, embed)?;
    let ceiling =
        collect(examples, embed, |example| Answer::new(example.reference, example.reference_mistakes.clone()))?;
    let (baseline, best_totals) = best(&baselines);
    let differences: Vec<f64> = totals.iter().zip(best_totals).map(|(own, other)| own - other).collect();
    let versus = Comparison { baseline, difference: summarize(&differences, POSSIBLE_DIFFERENCE, Some(SEED)) };
    let rewards = rewards(examples, &totals, Some(SEED));
    let aborts = results.iter().filter(|result| result.aborts.is_some()).count();
    let baselines: Vec<BaselineResult> = baselines.into_iter().map(|(result, _)| result).collect();
    let meaning = meaning(&rewards, &baselines, &versus, aborts);
    let reasons = reasons(&backend, embed.name(), examples);
    let in_order = results.iter().map(|result| result.reward.as_ref().map_or(0.0, |reward| reward.total));
    let denom = u32::try_from(results.len()).unwrap_or(u32::MAX);
    Ok(Evaluation {
        validator_average: contest::average(in_order, denom),
        unusable: results.iter().filter(|result| !(0.0..=1.0).contains(&result.answer.score)).count(),
        lane: if reasons.is_empty() { Lane::Exact } else { Lane::Estimate },
        embedder: embed.name().to_owned(),
        set: set.info.clone(),
        seed: SEED,
        timing: Timing::default(),
        ceiling: self::rewards(examples, &ceiling, None),
        backend,
        reasons,
        rewards,
        aborts,
        baselines,
        versus,
        meaning,
        results,
    })
}

fn totals(results: &[ExampleResult]) -> Vec<f64> {
    results.iter().map(ExampleResult::total).collect()
}

fn collect(
    examples: &[Example],
    embed: &dyn Embed,
    answer: impl Fn(&Example) -> Answer,
) -> Result<Vec<f64>, EvalError> {
    examples.iter().map(|example| Ok(score(example, &answer(example), embed)?.total())).collect()
}

fn baselines(examples: &[Example], embed: &dyn Embed) -> Result<Vec<(BaselineResult, Vec<f64>)>, EvalError> {
    let run = |baseline: Baseline| {
        let totals = collect(examples, embed, |example| baseline.answer(&example.request()))?;
        Ok((BaselineResult { baseline, rewards: rewards(examples, &totals, None) }, totals))
    };
    Baseline::ALL.into_iter().map(run).collect()
}

/// The baseline that earns most, the first of equals.
fn best(baselines: &[(BaselineResult, Vec<f64>)]) -> (Baseline, &[f64]) {
    let mean = |(result, _): &(BaselineResult, Vec<f64>)| result.rewards.overall.mean;
    let best = baselines.iter().reduce(|best, other| if mean(other) > mean(best) { other } else { best });
    let (result, totals) = best.expect("there are four baselines");
    (result.baseline, totals)
}

fn summarize(values: &[f64], range: (f64, f64), seed: Option<u64>) -> Summary {
    stats::summarize(&values.iter().copied().enumerate().collect::<Vec<_>>(), range, seed)
}

fn rewards(examples: &[Example], totals: &[f64], seed: Option<u64>) -> Rewards {
    let of = |task: Task| {
        let chosen = examples.iter().zip(totals).filter(|(example, _)| example.task == task);
        chosen.map(|(_, total)| *total).collect::<Vec<_>>()
    };
    let present = Task::ALL.into_iter().map(|task| (task, of(task))).filter(|(_, totals)| !totals.is_empty());
    let tasks =
        present.map(|(task, totals)| TaskSummary { task, reward: summarize(&totals, POSSIBLE_REWARD, seed) }).collect();
    Rewards { overall: summarize(totals, POSSIBLE_REWARD, seed), tasks }
}

fn reasons(backend: &BackendInfo, embedder: &str, examples: &[Example]) -> Vec<String> {
    let mut reasons = Vec::new();
    if backend.lane == Lane::Estimate {
        reasons.push(format!("the backend `{}` is not the validator's container: {}", backend.name, backend.why));
    }
    let has_summaries = examples.iter().any(|example| example.task == Task::SummaryCompleteness);
    if has_summaries && embedder != VALIDATOR_EMBEDDER {
        reasons
            .push(format!("the relevance reward embeds with `{embedder}`, the validator with `{VALIDATOR_EMBEDDER}`"));
    }
    reasons.push("the examples are our own: the validator makes new ones every round".to_owned());
    reasons
}

/// What the numbers prove, the worst first.
fn meaning(rewards: &Rewards, baselines: &[BaselineResult], versus: &Comparison, aborts: usize) -> String {
    let (own, n) = (rewards.overall.mean, rewards.overall.examples);
    if aborts > 0 {
        return format!(
            "{aborts} of {n} answers would abort the validator: the whole round would be lost, whatever the rest earns"
        );
    }
    let constants = baselines.iter().filter(|result| result.baseline.is_constant());
    let constant = constants.map(|result| result.rewards.overall.mean).fold(0.0, f64::max);
    if own < constant {
        return format!(
            "below the best constant answer ({own:.3} < {constant:.3}): proves the plumbing, not the quality"
        );
    }
    let (name, difference) = (versus.baseline.name(), versus.difference.mean);
    if difference <= 0.0 {
        return format!(
            "no better than `{name}`, a rule without a model ({difference:+.3}): proves the plumbing, not the quality"
        );
    }
    let is_settled = versus.difference.t95.is_some_and(|interval| interval.low > 0.0);
    let verdict = if is_settled { "more than chance explains" } else { "too few examples to tell from chance" };
    format!("{difference:+.3} over `{name}`, the best rule without a model, on {n} examples: {verdict}")
}
