//! From what a pipeline returns to what the validator scores (`deval/api/miner_api.py`, `deval/api/models.py`, `deval/contest.py`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::task::Answer;

/// How the container and the validator's client call an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was read.
    Success,
    /// It could not be read.
    Error,
}

/// One answer on its way from pipeline to validator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApiResponse {
    /// Status of the container's HTTP answer.
    pub http_status: u16,
    /// Status in the container's body; `None` when it answered 500.
    pub server_status_message: Option<Status>,
    /// The score that is rewarded; -1 stands for none.
    pub score: f64,
    /// The mistakes that are rewarded.
    pub mistakes: Option<Vec<String>>,
    /// Status the validator keeps.
    pub client_status_message: Status,
}

impl ApiResponse {
    fn read(score: f64, mistakes: Option<Vec<String>>) -> Self {
        let status = Status::Success;
        Self { http_status: 200, server_status_message: Some(status), score, mistakes, client_status_message: status }
    }

    /// The validator calls any parsable answer a success, the container's own "error" included.
    fn rejected() -> Self {
        Self { server_status_message: Some(Status::Error), ..Self::read(-1.0, Some(Vec::new())) }
    }

    fn broken() -> Self {
        let client_status_message = Status::Error;
        Self { http_status: 500, server_status_message: None, client_status_message, ..Self::rejected() }
    }

    /// What the reward models get to see.
    pub fn answer(&self) -> Answer {
        Answer { score: Some(self.score), mistakes: self.mistakes.clone() }
    }
}

/// What becomes of a pipeline's result, an object with `score_completion` and `mistakes_completion`. NaN and infinities may come as
/// text, which pydantic converts just the same.
pub fn api_response(pipeline_output: &Value) -> ApiResponse {
    let Some(output) = pipeline_output.as_object() else { return ApiResponse::rejected() };
    let field = |name| output.get(name).filter(|value| !value.is_null());
    let score = field("score_completion").map_or(Some(-1.0), float);
    let mistakes = field("mistakes_completion").map_or(Some(None), |value| strings(value).map(Some));
    match (score, mistakes) {
        (Some(score), Some(mistakes)) => finish(score, mistakes),
        _ => ApiResponse::rejected(),
    }
}

/// The same for an answer that is already typed.
pub fn receive(answer: &Answer) -> ApiResponse {
    finish(answer.score.unwrap_or(-1.0), answer.mistakes.clone())
}

/// JSON knows no NaN and no infinity, so the container breaks on them.
fn finish(score: f64, mistakes: Option<Vec<String>>) -> ApiResponse {
    if score.is_finite() { ApiResponse::read(score, mistakes) } else { ApiResponse::broken() }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => float_of_text(text),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// How pydantic reads a float out of text: Rust's own parser, so ASCII digits only, and where that fails once more without underscores,
/// which may stand anywhere but at the ends and side by side.
fn float_of_text(text: &str) -> Option<f64> {
    let text = text.trim();
    let misplaced = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    text.parse().ok().or_else(|| text.replace('_', "").parse().ok().filter(|_| !misplaced))
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_float_where_pydantic_takes_it_for_one() {
        let texts = ["1_0", " 0.5\u{85}", "1e-3", ".5", "5.", "+1", "1_.5", "+_1", "1e-_5", "-iNf", "i_nf", "1e999"];
        let read = texts.map(|text| float_of_text(text).expect(text));
        let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
        assert_eq!(read, [10.0, 0.5, 0.001, 0.5, 5.0, 1.0, 1.5, 1.0, 1e-5, low, high, high]);
        for text in ["", "abc", "1__0", " _1", "1_ ", "0x10", "1 2", "٠.٥", "\u{1c}1", "\u{200b}1", "1e", "."] {
            assert_eq!(float_of_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn typed_answers_follow_the_same_rules() {
        assert_eq!(receive(&Answer::default()).answer(), Answer { score: Some(-1.0), mistakes: None });
        let broken = receive(&Answer::new(f64::NAN, vec!["a".to_owned()]));
        assert_eq!((broken.http_status, broken.answer()), (500, Answer::new(-1.0, vec![])));
    }
}
