//! What happens around every request: the journal, the fault script, and the header that says this Hub is a fake.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use super::{Hub, HubError, date};

/// One thing to do wrong: for the first `times` requests with this method whose path and query contain `path_contains`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// HTTP method in capitals.
    pub(crate) method: String,
    /// Part of the path, as sent (percent-encoded).
    pub(crate) path_contains: String,
    /// How often; 0 never happens.
    pub(crate) times: u32,
    /// What to do instead of, or before, the right thing.
    pub(crate) action: FaultAction,
}

/// How a request goes wrong. In JSON: `"status:503"`, `"drop"`, `"apply_then_drop"`, `"delay_ms:2000"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum FaultAction {
    /// Answer with this status; nothing is applied.
    Status(StatusCode),
    /// Close the connection without an answer; nothing is applied.
    Drop,
    /// Do what was asked, then close the connection without an answer.
    ApplyThenDrop,
    /// Wait, then do the right thing.
    Delay(Duration),
}

impl TryFrom<String> for FaultAction {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parsed = match text.split_once(':') {
            None if text == "drop" => Some(Self::Drop),
            None if text == "apply_then_drop" => Some(Self::ApplyThenDrop),
            Some(("status", code)) => code.parse().ok().map(Self::Status),
            Some(("delay_ms", millis)) => millis.parse().ok().map(|millis| Self::Delay(Duration::from_millis(millis))),
            _ => None,
        };
        parsed.ok_or_else(|| format!("{text:?} is none of status:<code>, drop, apply_then_drop, delay_ms:<n>"))
    }
}

pub(super) struct FaultScript(Mutex<Vec<Fault>>);

impl FaultScript {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        Self(Mutex::new(faults))
    }

    fn take(&self, method: &Method, path: &str) -> Option<FaultAction> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = |fault: &&mut Fault| {
            fault.times > 0 && method.as_str() == fault.method && path.contains(&fault.path_contains)
        };
        let fault = faults.iter_mut().find(hit)?;
        fault.times -= 1;
        Some(fault.action)
    }
}

/// The request journal: one JSON object per line, appended. Headers, and with them tokens, never get here.
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    pub(super) fn open(path: PathBuf) -> Result<Self, HubError> {
        let file = File::options().create(true).append(true).open(&path).map_err(HubError::io(&path))?;
        Ok(Self { path, file: Mutex::new(file) })
    }

    fn record(&self, method: &Method, path: &str, status: Option<StatusCode>) -> Result<(), HubError> {
        let status = status.map(|status| status.as_u16());
        let line = json!({ "time": date::now(), "method": method.as_str(), "path": path, "status": status });
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // One write call, so that a killed process leaves whole lines.
        file.write_all(format!("{line}\n").as_bytes()).map_err(HubError::io(&self.path))
    }
}

/// The outermost layer. A dropped answer has `"status": null` in the journal.
pub(super) async fn observe(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let answer = match hub.faults.take(&method, &path) {
        None => Some(next.run(request).await),
        Some(FaultAction::Status(status)) => Some((status, "as the fault script says").into_response()),
        Some(FaultAction::Drop) => None,
        Some(FaultAction::ApplyThenDrop) => {
            next.run(request).await;
            None
        }
        Some(FaultAction::Delay(time)) => {
            tokio::time::sleep(time).await;
            Some(next.run(request).await)
        }
    };
    if let Err(error) = hub.journal.record(&method, &path, answer.as_ref().map(Response::status)) {
        return super::answer::Refusal::from(error).into_response();
    }
    let mut answer = answer.unwrap_or_else(dropped);
    answer.headers_mut().insert("x-deval-localnet", HeaderValue::from_static("fake-hub"));
    answer
}

/// hyper closes a connection whose body fails before it has sent the head of the answer.
fn dropped() -> Response {
    let broken: Result<Bytes, io::Error> = Err(io::Error::other("dropped by the fault script"));
    Response::new(Body::from_stream(futures::stream::iter([broken])))
}
