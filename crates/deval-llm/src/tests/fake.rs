//! A server on loopback that does as it is told, and once it has nothing left to do answers every tool call.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::Secret;
use crate::sigv4::{Signed, Signer};

/// What the server does with one request.
#[derive(Debug, Clone)]
pub(super) enum Reaction {
    /// A tool call with these arguments.
    Tool(&'static str),
    /// A message with this content.
    Content(&'static str),
    /// This body, status 200.
    Body(&'static str),
    /// A status, `Retry-After`, and a message.
    Status(u16, Option<&'static str>, &'static str),
    /// A status and a body.
    Said(u16, String),
    /// The connection breaks within the body.
    Dropped,
    /// Nothing for a long time.
    Slow,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The signature that these headers and this body should have.
    pub(super) fn signature(&self, access_key_id: &str, secret: &str) -> String {
        let secret_access_key = &Secret::new("AWS", secret).unwrap();
        let signer = Signer { access_key_id, secret_access_key, region: "us-east-1", service: "bedrock" };
        let names = ["content-type", "host", "x-amz-date", "x-amz-security-token"];
        let headers = names.map(|name| (name, self.header(name)));
        let signed = Signed { method: &self.method, path: &self.path, headers: &headers, body: &self.body };
        signer.authorization(self.header("x-amz-date"), &signed)
    }
}

#[derive(Default)]
struct Inner {
    reactions: VecDeque<Reaction>,
    asked_wait: Option<Duration>,
    seen: Vec<Seen>,
    under_way: usize,
    most: usize,
}

type Shared = Arc<Mutex<Inner>>;

pub(super) struct Fake {
    pub(super) url: String,
    shared: Shared,
}

impl Fake {
    pub(super) async fn start(reactions: Vec<Reaction>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked_wait = reactions.iter().find_map(|reaction| match reaction {
            Reaction::Status(_, Some(wait), _) => wait.parse().ok().map(Duration::from_secs_f64),
            _ => None,
        });
        let shared: Shared =
            Arc::new(Mutex::new(Inner { reactions: reactions.into(), asked_wait, ..Inner::default() }));
        let router = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shared.lock().unwrap().seen.clone()
    }

    /// The most requests that were under way together.
    pub(super) fn most_at_once(&self) -> usize {
        self.shared.lock().unwrap().most
    }

    /// The first wait in seconds that it asks for.
    pub(super) fn asked_wait(&self) -> Option<Duration> {
        self.shared.lock().unwrap().asked_wait
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
    let seen = Seen { method: parts.method.to_string(), path, query, headers: parts.headers, body };
    let reaction = {
        let mut inner = shared.lock().unwrap();
        inner.seen.push(seen.clone());
        inner.under_way += 1;
        inner.most = inner.most.max(inner.under_way);
        inner.reactions.pop_front()
    };
    tokio::time::sleep(Duration::from_millis(2)).await;
    let response = match reaction {
        Some(reaction) => react(reaction).await,
        None => filled(&seen),
    };
    shared.lock().unwrap().under_way -= 1;
    response
}

async fn react(reaction: Reaction) -> Response {
    match reaction {
        Reaction::Tool(arguments) => tool_call(arguments),
        Reaction::Content(content) => message(&json!({ "role": "assistant", "content": content })),
        Reaction::Body(body) => body.into_response(),
        Reaction::Said(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Reaction::Status(status, wait, message) => {
            let body = json!({ "error": { "message": message } }).to_string();
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            if let Some(wait) = wait {
                response.headers_mut().insert("retry-after", wait.parse().unwrap());
            }
            response
        }
        Reaction::Dropped => {
            let pieces = [Ok("{\"choices\": ["), Err(std::io::Error::other("broken"))];
            Body::from_stream(futures::stream::iter(pieces)).into_response()
        }
        Reaction::Slow => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            "".into_response()
        }
    }
}

fn tool_call(arguments: &str) -> Response {
    let call = json!({ "id": "c", "type": "function", "function": { "name": "t", "arguments": arguments } });
    message(&json!({ "role": "assistant", "content": null, "tool_calls": [call] }))
}

fn message(message: &Value) -> Response {
    let usage = json!({ "prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150 });
    json!({ "choices": [{ "index": 0, "message": message }], "usage": usage }).to_string().into_response()
}

/// Every argument of the tool that is offered, or some text.
fn filled(seen: &Seen) -> Response {
    let body = seen.json();
    let Some(Value::Object(properties)) = body.pointer("/tools/0/function/parameters/properties") else {
        return message(&json!({ "role": "assistant", "content": "A sentence on the topic." }));
    };
    let value = |property: &Value| match property["type"].as_str() {
        Some("array") => json!(["one", "two", "three"]),
        _ => json!("A sentence."),
    };
    let arguments: Value = properties.iter().map(|(name, property)| (name.clone(), value(property))).collect();
    tool_call(&arguments.to_string())
}
