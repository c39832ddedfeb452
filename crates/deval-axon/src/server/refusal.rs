//! The answers that are none: with bittensor's headers where its middleware speaks, plain where its web framework does.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_LENGTH, HOST, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::json;
use uuid::Uuid;

use super::{Call, content_headers, respond, synapse_headers};
use crate::synapse::{DEFAULT_TIMEOUT, PING, Terminal};

/// A refusal that repeats the call's headers with a status.
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    call: Box<Call>,
}

impl Refusal {
    pub(super) fn of(call: Call, status: StatusCode, message: String) -> Self {
        Self { status, message, call: Box::new(call) }
    }

    pub(super) fn unknown_synapse(name: &str) -> Self {
        let message = format!("Synapse name '{name}' not found. Available synapses ['Synapse', 'ModelQuerySynapse']");
        Self::of(unread(), StatusCode::NOT_FOUND, message)
    }

    pub(super) fn into_response(self, process_time: f64) -> Response {
        let Self { status, message, mut call } = self;
        let body = json!({ "message": message }).to_string();
        call.axon.status_code = Some(status.as_u16().into());
        call.axon.status_message = Some(message);
        call.axon.process_time = Some(process_time);
        let mut headers = HeaderMap::new();
        synapse_headers(&mut headers, call.synapse, call.timeout, &call.axon, &call.dendrite, body.len());
        headers.extend(content_headers(body.len()));
        respond(status, headers, body)
    }
}

/// What upstream answers when an exception leaves its middleware or its validation.
pub(super) fn internal_error(call: Option<Call>) -> Refusal {
    let message = format!("Internal Server Error #{}", Uuid::new_v4());
    Refusal::of(call.unwrap_or_else(unread), StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// Upstream answers an unreadable request as an empty base synapse.
fn unread() -> Call {
    let (dendrite, axon) = (Terminal::default(), Terminal::default());
    Call { synapse: PING, timeout: Some(DEFAULT_TIMEOUT), body_hash: None, dendrite, axon }
}

/// FastAPI's answer without a route.
pub(super) fn plain(status: StatusCode, detail: &str) -> Response {
    let body = json!({ "detail": detail }).to_string();
    let mut headers = HeaderMap::new();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST, GET"));
    }
    headers.extend(content_headers(body.len()));
    respond(status, headers, body)
}

/// FastAPI's answer to a body that is not JSON. It also tells where; nobody reads that.
pub(super) fn not_json() -> Response {
    let body = json!({"detail": [{
        "type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error", "input": {},
        "ctx": {"error": "Expecting value"},
    }]});
    let body = body.to_string();
    respond(StatusCode::UNPROCESSABLE_ENTITY, content_headers(body.len()), body)
}

/// Starlette's redirect away from a trailing slash.
pub(super) fn redirect(parts: &Parts, synapse: &str) -> Response {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    if let Ok(location) = HeaderValue::try_from(format!("http://{host}/{synapse}{query}")) {
        headers.insert(LOCATION, location);
    }
    respond(StatusCode::TEMPORARY_REDIRECT, headers, Body::empty())
}
