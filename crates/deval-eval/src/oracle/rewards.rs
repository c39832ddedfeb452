//! Rewards, rouge and the reading of answers.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{float, number, optional_float, raised, read};
use crate::abort::ValidatorAborts;
use crate::embed::Embed;
use crate::reward::{self, Component, Truth, Unscored};
use crate::task::{Answer, Task};
use crate::{api, parse, rouge};

/// The embedding table of a vector.
struct Table(HashMap<String, Vec<f32>>);

impl Table {
    fn read(input: &Value) -> Result<Self, String> {
        let pairs: Option<Vec<(String, Vec<f32>)>> = read(input, "embeddings")?;
        Ok(Self(pairs.unwrap_or_default().into_iter().collect()))
    }
}

impl Embed for Table {
    fn embed(&self, text: &str) -> Result<Vec<f32>, String> {
        self.0.get(text).cloned().ok_or_else(|| format!("no embedding for {text:?}"))
    }

    fn name(&self) -> &str {
        "table"
    }
}

pub(super) fn rouge_l(input: &Value) -> Result<Value, String> {
    let (hyp, reference): (String, String) = (read(input, "hyp")?, read(input, "ref")?);
    Ok(match rouge::rouge_l(&hyp, &reference) {
        Err(abort) => raised(&abort),
        Ok(rouge) => json!({
            "r": rouge.r, "p": rouge.p, "f": rouge.f,
            "unique_hyp": rouge.unique_hyp, "unique_ref": rouge.unique_ref, "overlap": rouge.overlap,
        }),
    })
}

pub(super) fn reading(kind: &str, input: &Value) -> Result<Value, String> {
    if kind == "api_response" {
        let response = api::api_response(input.get("pipeline_output").unwrap_or(&Value::Null));
        return serde_json::to_value(response).map_err(|error| error.to_string());
    }
    let response: String = read(input, "response")?;
    Ok(match kind {
        "score_parse" => json!({ "score": float(parse::score(&response)) }),
        _ => json!({ "mistakes": parse::mistakes(&response) }),
    })
}

pub(super) fn replay(kind: &str, input: &Value) -> Result<Value, String> {
    if !is_comparable(input.get("score")) {
        return Ok(raised(&ValidatorAborts::type_error("the score is no number")));
    }
    if kind.starts_with("total_") {
        return total(input);
    }
    let (reference, score) = (optional_float(input, "reference"), optional_float(input, "score"));
    match kind {
        "reward_float_diff" => Ok(single(Ok(reward::float_diff(reference, score)))),
        "reward_ordinal" => Ok(single(reward::ordinal(reference, score))),
        "reward_dist_penalty" => Ok(single(reward::dist_penalty(reference, score))),
        _ => lists(kind, input),
    }
}

/// Whether Python can compare the score with a number, or finds none.
fn is_comparable(score: Option<&Value>) -> bool {
    score.is_none_or(|score| score.is_null() || score.is_boolean() || number(score).is_some())
}

fn lists(kind: &str, input: &Value) -> Result<Value, String> {
    let reference: Vec<String> = read(input, "reference")?;
    let completion: Option<Vec<String>> = read(input, "completion")?;
    let completion = completion.as_deref();
    match kind {
        "reward_exact_match" => Ok(single(reward::exact_match(&reference, completion))),
        "reward_rouge" => Ok(single(reward::rouge(&reference, completion))),
        "reward_relevance" => relevance(&reference, completion, &Table::read(input)?),
        _ => Err(format!("unknown kind of vectors `{kind}`")),
    }
}

fn single(outcome: Result<f32, ValidatorAborts>) -> Value {
    outcome.map_or_else(|abort| raised(&abort), |reward| json!({ "reward": float(f64::from(reward)) }))
}

fn relevance(reference: &[String], completion: Option<&[String]>, table: &Table) -> Result<Value, String> {
    match reward::relevance(reference, completion, table) {
        Ok(relevance) => Ok(json!({
            "reward": float(f64::from(relevance.reward)),
            "cosine": float(relevance.cosine),
            "baseline": float(relevance.baseline),
        })),
        Err(Unscored::Aborts(abort)) => Ok(raised(&abort)),
        Err(Unscored::Embedder(why)) => Err(why),
    }
}

fn total(input: &Value) -> Result<Value, String> {
    let task: Task = read(input, "task")?;
    let (mistakes, true_values): (Vec<String>, Vec<String>) =
        (read(input, "reference_mistakes")?, read(input, "reference_true_values")?);
    let truth =
        Truth { score: optional_float(input, "reference_score"), mistakes: &mistakes, true_values: &true_values };
    let answer = Answer { score: optional_float(input, "score"), mistakes: read(input, "mistakes")? };
    match reward::reward(task, truth, &answer, &Table::read(input)?) {
        Ok(reward) => Ok(json!({
            "rewards": by_name(&reward.rewards),
            "penalties": by_name(&reward.penalties),
            "total": float(f64::from(reward.total)),
        })),
        Err(Unscored::Aborts(abort)) => Ok(raised(&abort)),
        Err(Unscored::Embedder(why)) => Err(why),
    }
}

fn by_name(components: &[Component]) -> Value {
    let named = components.iter().map(|part| (part.model.name().to_owned(), float(f64::from(part.value))));
    Value::Object(named.collect::<Map<_, _>>())
}
