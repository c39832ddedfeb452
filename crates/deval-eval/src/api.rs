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
    /// It came too late.
    Timeout,
}

/// One answer on its way from pipeline to validator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApiResponse {
    /// Status of the container's HTTP answer; 0 when none came.
    pub http_status: u16,
    /// Status in the container's body; `None` where it had none.
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
        Self::failed(500)
    }

    /// What the validator makes of an answer that it cannot read, or of none at all (`http_status` 0).
    pub fn failed(http_status: u16) -> Self {
        let client_status_message = Status::Error;
        Self { http_status, server_status_message: None, client_status_message, ..Self::rejected() }
    }

    /// What the validator makes of an answer that did not come in time.
    pub fn late() -> Self {
        Self { client_status_message: Status::Timeout, ..Self::failed(0) }
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

/// What the validator's client makes of an HTTP answer (`query_eval` in `deval/api/miner_docker_client.py`): it reads the body whatever the
/// status, and calls a success what has a score and mistakes that it can read.
pub fn http_response(http_status: u16, body: &[u8]) -> ApiResponse {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let score = value.get("score").and_then(float).filter(|score| score.is_finite());
    let mistakes = match value.get("mistakes") {
        None | Some(Value::Null) => Some(None),
        Some(value) => strings(value).map(Some),
    };
    let server_status_message = match value.get("status_message").and_then(Value::as_str) {
        Some("success") => Some(Status::Success),
        Some("error") => Some(Status::Error),
        _ => None,
    };
    match (score, mistakes) {
        (Some(score), Some(mistakes)) => {
            ApiResponse { http_status, server_status_message, ..ApiResponse::read(score, mistakes) }
        }
        _ => ApiResponse::failed(http_status),
    }
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
    fn http_answers_are_read_as_the_validators_client_reads_them() {
        let body = r#"{"score":-1.0,"mistakes":[],"response_time":0.1,"status_message":"error"}"#;
        let rejected = http_response(200, body.as_bytes());
        assert_eq!(rejected, ApiResponse::rejected(), "an error of the container is rewritten to a success");
        let null = http_response(200, br#"{"score":0.5,"mistakes":null,"response_time":1,"status_message":"success"}"#);
        assert_eq!((null.score, null.mistakes), (0.5, None));
        for body in ["Internal Server Error", r#"{"detail":[]}"#, r#"{"score":0.5,"mistakes":[1]}"#, ""] {
            assert_eq!(http_response(500, body.as_bytes()), ApiResponse::failed(500), "{body}");
        }
        assert_eq!(ApiResponse::late().answer(), Answer::new(-1.0, vec![]));
    }

    #[test]
    fn typed_answers_follow_the_same_rules() {
        assert_eq!(receive(&Answer::default()).answer(), Answer { score: Some(-1.0), mistakes: None });
        let broken = receive(&Answer::new(f64::NAN, vec!["a".to_owned()]));
        assert_eq!((broken.http_status, broken.answer()), (500, Answer::new(-1.0, vec![])));
    }
}
