//! Contest rules.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{float, floats, raised, read, whole};
use crate::contest::{self, Attempt, Candidate, Round, Verdict};
use crate::ranking::{self, Ranking};
use crate::task::Task;

type Rewards = BTreeMap<Task, Vec<f32>>;

pub(super) fn replay(kind: &str, input: &Value) -> Result<Value, String> {
    match kind {
        "contest_ranking" => ranking(input),
        "contest_validate" => validate(input),
        "contest_epoch" => epoch(input),
        "moving_average" => moving_average(input),
        "eligibility" => Ok(json!({ "evaluate": whole::<Candidate>(input)?.is_evaluated() })),
        _ => {
            let (sent, scored) = contest::run_step(read(input, "num_tasks")?, &read::<Vec<f64>>(input, "sizes_gib")?);
            Ok(json!({ "queries_sent": sent, "responses_scored": scored }))
        }
    }
}

#[derive(Deserialize)]
struct Submission {
    uid: u32,
    block: u64,
}

fn ranking(input: &Value) -> Result<Value, String> {
    let pairs: Vec<(u32, Value)> = read(input, "avg_rewards")?;
    let (uids, scores): (Vec<u32>, Vec<Value>) = pairs.into_iter().unzip();
    let scores: Vec<_> = uids.into_iter().zip(floats(&Value::Array(scores))?).collect();
    let blocks =
        read::<Vec<Submission>>(input, "submissions")?.into_iter().map(|model| (model.uid, model.block)).collect();
    let Ranking { ranked, mut tiers, pools, final_tiers, weights } = ranking::rank(&scores, &blocks);
    tiers.reverse();
    let ranked: Vec<_> = ranked.into_iter().map(|(uid, score)| (uid, float(score))).collect();
    Ok(json!({
        "ranked": ranked, "tiers_worst_first": tiers, "pools": pools, "final_tiers": final_tiers, "weights": weights,
    }))
}

fn verdict(outcome: &Result<Verdict, crate::ValidatorAborts>) -> Value {
    match outcome {
        Ok(verdict) => json!(matches!(verdict, Verdict::Valid { .. })),
        Err(abort) => raised(abort),
    }
}

fn validate(input: &Value) -> Result<Value, String> {
    let mut round = Round::new(read(input, "start_time")?, read(input, "max_size_gb")?);
    let (mut table, mut valid) = (BTreeMap::new(), Vec::new());
    for attempt in read::<Vec<Attempt>>(input, "attempts")? {
        let outcome = round.validate(&attempt);
        valid.push(verdict(&outcome));
        store(&mut table, attempt.uid, &outcome, Rewards::new());
    }
    let owner: BTreeMap<_, _> = round.owners().iter().map(|(hash, (uid, _))| (hash, uid)).collect();
    Ok(json!({ "valid": valid, "hash_owner": owner, "uids_with_rewards": table.keys().collect::<Vec<_>>() }))
}

/// The reward table after a model was validated: nothing for an exception, empty lists for an invalid model.
fn store(
    table: &mut BTreeMap<u32, Rewards>,
    uid: u32,
    outcome: &Result<Verdict, crate::ValidatorAborts>,
    rewards: Rewards,
) {
    match outcome {
        Err(_) => {}
        Ok(Verdict::Invalid(_)) => {
            table.insert(uid, Rewards::new());
        }
        Ok(Verdict::Valid { displaces }) => {
            if let Some(owner) = displaces {
                table.remove(owner);
            }
            table.insert(uid, rewards);
        }
    }
}

fn averages(table: &BTreeMap<u32, Rewards>, denom: u32) -> BTreeMap<u32, f32> {
    let average = |rewards: &Rewards| contest::average(rewards.values().flatten().copied(), denom);
    table.iter().map(|(uid, rewards)| (*uid, average(rewards))).collect()
}

fn narrow(values: &Value) -> Result<Vec<f32>, String> {
    Ok(floats(values)?.into_iter().map(|value| value as f32).collect())
}

#[derive(Deserialize)]
struct Rewarded {
    uid: u32,
    rewards: BTreeMap<Task, Value>,
}

impl Rewarded {
    fn rewards(&self) -> Result<Rewards, String> {
        self.rewards.iter().map(|(task, values)| Ok((*task, narrow(values)?))).collect()
    }
}

fn moving_average(input: &Value) -> Result<Value, String> {
    let mut table = BTreeMap::new();
    for miner in read::<Vec<Rewarded>>(input, "model_rewards")? {
        table.insert(miner.uid, miner.rewards()?);
    }
    let scores = contest::update_scores(&narrow(&input["previous"])?, &averages(&table, read(input, "denom")?));
    Ok(json!({ "scores": widened(&scores) }))
}

fn widened(scores: &[f32]) -> Vec<Value> {
    scores.iter().map(|score| float(f64::from(*score))).collect()
}

fn epoch(input: &Value) -> Result<Value, String> {
    let mut round = Round::new(read(input, "start_time")?, read(input, "max_size_gb")?);
    let (mut table, mut valid) = (BTreeMap::new(), BTreeMap::new());
    for miner in read::<Vec<Value>>(input, "miners")? {
        match miner.get("outcome").and_then(Value::as_str) {
            Some("evaluated") => {
                let (attempt, rewarded): (Attempt, Rewarded) = (whole(&miner)?, whole(&miner)?);
                let outcome = round.validate(&attempt);
                valid.insert(attempt.uid, verdict(&outcome));
                store(&mut table, attempt.uid, &outcome, rewarded.rewards()?);
            }
            Some("not_evaluated") => {
                table.insert(read(&miner, "uid")?, Rewards::new());
            }
            _ => {}
        }
    }
    let averages = averages(&table, read(input, "denom")?);
    let scores = contest::update_scores(&narrow(&input["previous_scores"])?, &averages);
    let by_uid: Vec<_> = (0..).zip(scores.iter().map(|score| f64::from(*score))).collect();
    let ranking = ranking::rank(&by_uid, &round.blocks());
    Ok(json!({
        "valid": valid, "scores": widened(&scores), "final_tiers": ranking.final_tiers, "weights": ranking.weights,
    }))
}
