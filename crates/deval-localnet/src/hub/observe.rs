//! What happens around every request: the journal, the fault script, and the header that says this Hub is a fake.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, RANGE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::answer::{Caller, Refusal};
use super::faults::{Fault, FaultAction, dropped};
use super::quota::Standing;
use super::{Hub, HubError, date};

/// The request journal: one JSON object per line, appended. Of the headers only the range and the lengths get here, never a token.
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    pub(super) fn open(path: PathBuf) -> Result<Self, HubError> {
        let file = File::options().create(true).append(true).open(&path).map_err(HubError::io(&path))?;
        Ok(Self { path, file: Mutex::new(file) })
    }

    fn record(&self, line: &Value) -> Result<(), HubError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // One write call, so that a killed process leaves whole lines.
        file.write_all(format!("{line}\n").as_bytes()).map_err(HubError::io(&self.path))
    }
}

/// What the journal keeps of a request.
fn request_line(request: &Request, path: &str) -> Value {
    let headers = request.headers();
    let mut line = json!({ "time": date::now(), "method": request.method().as_str(), "path": path });
    line["caller"] = json!(Caller::of(headers).map_or("unknown", Caller::name));
    if let Some(range) = headers.get(RANGE).and_then(|range| range.to_str().ok()) {
        line["range"] = json!(range);
    }
    if let Some(length) = length(headers) {
        line["request_bytes"] = json!(length);
    }
    line
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The outermost layer. A dropped answer has `"status": null` in the journal.
pub(super) async fn observe(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let mut line = request_line(&request, &path);
    let fault = hub.faults.take(request.method(), &path);
    let standing = Caller::of(request.headers()).ok().and_then(|caller| hub.quota.count(caller, &path));
    if fault == Some(FaultAction::Hang) {
        // It never ends, so it gets its line now.
        let _told_nowhere = hub.journal.record(&line);
    }
    let refusal = standing.as_ref().and_then(Standing::refusal);
    let answer = match &fault {
        None if refusal.is_some() => refusal,
        None => Some(next.run(request).await),
        Some(fault) => fault.answer(request, next).await,
    };
    line["status"] = json!(answer.as_ref().map(|answer| answer.status().as_u16()));
    if let Some(fault) = &fault {
        line["fault"] = json!(fault.name());
    }
    if let Some(length) = answer.as_ref().and_then(|answer| length(answer.headers())) {
        line["answer_bytes"] = json!(length);
    }
    if let Err(error) = hub.journal.record(&line) {
        return Refusal::from(error).into_response();
    }
    let mut answer = answer.unwrap_or_else(dropped);
    if let Some(standing) = standing {
        standing.write(answer.headers_mut());
    }
    answer.headers_mut().insert(HeaderName::from_static("x-deval-localnet"), HeaderValue::from_static("fake-hub"));
    answer
}

/// `PUT /_localnet/faults`: another script in the place of what is left of the one before. Not journalled.
pub(super) async fn replace_faults(State(hub): State<Arc<Hub>>, Json(faults): Json<Vec<Fault>>) -> StatusCode {
    hub.faults.replace(faults);
    StatusCode::NO_CONTENT
}
