//! The miner API as the validator's client asks it (upstream `deval/api/miner_docker_client.py`).

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use deval_eval::{Request, python::json_string};
use serde_json::Value;

use crate::error::{ContainerError, chain};

/// Most bytes of an answer that are read; the validator has no limit, its memory does.
const MOST_BYTES: usize = 32 << 20;

/// Every question has a connection of its own, as with Python's `requests`: uvicorn closes the one over which it sent a 500, and a
/// question on a kept one would be lost.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    /// An HTTP answer.
    Answered(Answered),
    /// Nothing, or not all of it, in time.
    Late,
    /// No connection, no HTTP, or too much of it.
    Failed(String),
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// What the pipeline returned, as the API saw it before it made JSON of it.
    pub(crate) observed: Option<Value>,
    /// Milliseconds that the API itself took.
    pub(crate) server_ms: Option<f64>,
}

impl Api {
    pub(crate) fn new(address: SocketAddr) -> Result<Self, ContainerError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| ContainerError::Engine { doing: "making an HTTP client", why: chain(&error) })?;
        Ok(Self { http, base: format!("http://{address}") })
    }

    pub(crate) async fn get(&self, path: &str, limit: Duration) -> Call {
        self.call(self.http.get(format!("{}{path}", self.base)), limit).await
    }

    /// Any request.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &str, limit: Duration) -> Call {
        let method = method.parse().unwrap_or(reqwest::Method::GET);
        let request = self.http.request(method, format!("{}{path}", self.base));
        self.call(request.header("content-type", "application/json").body(body.to_owned()), limit).await
    }

    /// Asks a question; the body is JSON text as Python's `requests` sends it.
    pub(crate) async fn ask(&self, body: String, limit: Duration) -> (Call, Duration) {
        let request = self.http.post(format!("{}/eval_query", self.base));
        let request = request.header("content-type", "application/json").body(body);
        let started = Instant::now();
        let call = self.call(request, limit).await;
        (call, started.elapsed())
    }

    async fn call(&self, request: reqwest::RequestBuilder, limit: Duration) -> Call {
        match tokio::time::timeout(limit, read(request)).await {
            Ok(call) => call,
            Err(_) => Call::Late,
        }
    }
}

async fn read(request: reqwest::RequestBuilder) -> Call {
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Call::Failed(chain(&error.without_url())),
    };
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let observed = header("x-deval-observed").and_then(|text| serde_json::from_str(&text).ok());
    let server_ms = header("server-timing").and_then(|text| app_milliseconds(&text));
    let (status, mut body) = (response.status().as_u16(), Vec::new());
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MOST_BYTES => body.extend(&chunk),
            Ok(Some(_)) => return Call::Failed(format!("the answer is longer than {MOST_BYTES} bytes")),
            Ok(None) => return Call::Answered(Answered { status, body, observed, server_ms }),
            Err(error) => return Call::Failed(chain(&error.without_url())),
        }
    }
}

/// `app;dur=12.3` of a `server-timing` header.
fn app_milliseconds(text: &str) -> Option<f64> {
    let app = text.split(',').find(|metric| metric.trim().starts_with("app;"))?;
    app.split(';').find_map(|part| part.trim().strip_prefix("dur=")).and_then(|number| number.parse().ok())
}

/// The body of a question: Python's `json.dumps`, so everything outside ASCII is escaped.
pub(crate) fn question(request: &Request) -> String {
    let Request { task, rag_context, query, llm_response } = request;
    body(task.name(), &json_string(rag_context), &json_string(query), &json_string(llm_response))
}

/// The same from fields that are JSON already.
pub(crate) fn body(task: &str, rag_context: &str, query: &str, llm_response: &str) -> String {
    let task = json_string(task);
    format!(
        "{{\"tasks\": [{task}], \"rag_context\": {rag_context}, \"query\": {query}, \"llm_response\": {llm_response}}}"
    )
}

#[cfg(test)]
mod tests {
    use deval_eval::Task;

    use super::*;

    #[test]
    fn a_question_is_what_python_would_send() {
        let request = Request {
            task: Task::Relevancy,
            rag_context: "a\"é😀".to_owned(),
            query: String::new(),
            llm_response: "x\n".to_owned(),
        };
        let expected = "{\"tasks\": [\"relevancy\"], \"rag_context\": \"a\\\"\\u00e9\\ud83d\\ude00\", \"query\": \"\", \
                        \"llm_response\": \"x\\n\"}";
        assert_eq!(question(&request), expected);
    }

    #[test]
    fn server_timing_is_read_among_other_metrics() {
        assert_eq!(app_milliseconds("db;dur=53, app;dur=47.2"), Some(47.2));
        assert_eq!(app_milliseconds("total;dur=1"), None);
    }
}
