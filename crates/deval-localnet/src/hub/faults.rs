//! What the Hub shall do wrong: a list of faults, in a file (`--faults FILE`) or sent while it runs (`PUT /_localnet/faults`).
//!
//! A JSON list, tried in order; a request meets the first fault that matches it and still strikes:
//! ```json
//! [
//!   {"method": "POST", "path_contains": "/commit/", "skip": 1, "times": 2, "action": {"status": 503}},
//!   {"path_contains": "/resolve/", "action": {"status": {"code": 429, "headers": {"Retry-After": "2"}, "message": "slow down"}}},
//!   {"path_contains": "/cdn/", "times": 4, "action": {"truncate": 100000}}
//! ]
//! ```
//! `method` (any when missing) and `path_contains` (part of path and query as they are sent, percent-encoded; everything when missing)
//! choose the requests. The first `skip` of them (0) pass, the next `times` (1) are struck, the rest pass again. Actions:
//!
//! | action | what happens |
//! |---|---|
//! | `"drop"` | the connection is closed without an answer; nothing is applied |
//! | `"apply_then_drop"` | what was asked for is done, then the connection is closed without an answer |
//! | `{"status": 503}` | this answer; nothing is applied. In place of the number `{"code", "headers", "error_code", "message"}` |
//! | `{"apply_then_status": 502}` | what was asked for is done, then this answer, as a gateway gives whose time is up |
//! | `"lock"` | 409 as the Hub words it while another commit is in progress; nothing is applied |
//! | `"hang"` | no answer, and the connection stays open; nothing is applied |
//! | `{"delay_ms": 2000}` | a pause, then the right answer |
//! | `{"truncate": 1000}` | the right answer, but the connection is closed after so many bytes of its body |
//! | `{"corrupt": 1000}` | the right answer, but the byte at this place of its body has its lowest bit turned |
//! | `{"slow": {"bytes": 512, "every_ms": 100}}` | the right answer, whose body comes in such pieces with such pauses |

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::json;

use super::answer::Refusal;

/// One thing to do wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// HTTP method in capitals; any when missing.
    method: Option<String>,
    /// Part of path and query, as sent (percent-encoded).
    #[serde(default)]
    path_contains: String,
    /// Matching requests that pass before the fault strikes.
    #[serde(default)]
    skip: u32,
    /// How often it strikes; 0 is never.
    #[serde(default = "once")]
    times: u32,
    action: FaultAction,
}

fn once() -> u32 {
    1
}

/// How a request goes wrong; see the module's table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FaultAction {
    Drop,
    ApplyThenDrop,
    Status(Canned),
    ApplyThenStatus(Canned),
    Lock,
    Hang,
    DelayMs(u64),
    Truncate(u64),
    Corrupt(u64),
    Slow { bytes: usize, every_ms: u64 },
}

/// An answer of the script's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "CannedForm")]
pub(super) struct Canned(CannedAnswer);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct CannedAnswer {
    code: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// `X-Error-Code`.
    error_code: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CannedForm {
    Code(u16),
    Answer(CannedAnswer),
}

impl From<CannedForm> for Canned {
    fn from(form: CannedForm) -> Self {
        Self(match form {
            CannedForm::Code(code) => CannedAnswer { code, headers: BTreeMap::new(), error_code: None, message: None },
            CannedForm::Answer(answer) => answer,
        })
    }
}

impl Canned {
    fn answer(&self) -> Response {
        let CannedAnswer { code, headers, error_code, message } = &self.0;
        let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = message.as_deref().unwrap_or("as the fault script says");
        let mut answer = (status, Json(json!({ "error": message }))).into_response();
        let own = [("x-error-message", Some(message)), ("x-error-code", error_code.as_deref())];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in own.chain(headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                answer.headers_mut().insert(name, value);
            }
        }
        answer
    }
}

impl FaultAction {
    /// Its name in the request journal.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::ApplyThenDrop => "apply_then_drop",
            Self::Status(_) => "status",
            Self::ApplyThenStatus(_) => "apply_then_status",
            Self::Lock => "lock",
            Self::Hang => "hang",
            Self::DelayMs(_) => "delay_ms",
            Self::Truncate(_) => "truncate",
            Self::Corrupt(_) => "corrupt",
            Self::Slow { .. } => "slow",
        }
    }

    /// The answer to a request that this befalls; `None` closes the connection.
    pub(super) async fn answer(&self, request: Request, next: Next) -> Option<Response> {
        match self {
            Self::Drop => return None,
            Self::ApplyThenDrop => {
                next.run(request).await;
                return None;
            }
            Self::Status(canned) => return Some(canned.answer()),
            Self::ApplyThenStatus(canned) => {
                next.run(request).await;
                return Some(canned.answer());
            }
            Self::Lock => return Some(locked()),
            Self::Hang => std::future::pending::<()>().await,
            Self::DelayMs(millis) => tokio::time::sleep(Duration::from_millis(*millis)).await,
            Self::Truncate(_) | Self::Corrupt(_) | Self::Slow { .. } => (),
        }
        Some(self.spoil(next.run(request).await))
    }

    /// What this does to the body of a right answer.
    fn spoil(&self, answer: Response) -> Response {
        match *self {
            Self::Truncate(after) => with_body(answer, |body| truncated(body, after)),
            Self::Corrupt(place) => with_body(answer, |body| corrupted(body, place)),
            Self::Slow { bytes, every_ms } => with_body(answer, |body| slow(body, bytes.max(1), every_ms)),
            _ => answer,
        }
    }
}

fn locked() -> Response {
    let message = "Another commit operation is in progress for this repository. Please try again later.";
    Refusal::new(StatusCode::CONFLICT, message).into_response()
}

/// The same answer with another body; the length that was promised stays.
fn with_body(answer: Response, spoil: impl FnOnce(Body) -> Body) -> Response {
    let (mut head, body) = answer.into_parts();
    if let Some(length) = axum::body::HttpBody::size_hint(&body).exact().filter(|length| *length > 0) {
        head.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    Response::from_parts(head, spoil(body))
}

fn truncated(body: Body, after: u64) -> Body {
    let start = (body.into_data_stream(), after);
    let pieces = futures::stream::try_unfold(start, async |(mut body, left)| {
        if left == 0 {
            // What was sent is seen by the client before the connection breaks.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Err(io::Error::other("cut by the fault script"));
        }
        let Some(piece) = body.try_next().await.map_err(io::Error::other)? else { return Ok(None) };
        let piece = piece.slice(..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        let left = left - piece.len() as u64;
        Ok(Some((piece, (body, left))))
    });
    Body::from_stream(pieces)
}

fn corrupted(body: Body, place: u64) -> Body {
    let pieces = body.into_data_stream().scan(place, |left, piece| {
        let piece = piece.map(|piece: Bytes| {
            let here = usize::try_from(*left).ok().filter(|here| *here < piece.len());
            *left = left.checked_sub(piece.len() as u64).unwrap_or(u64::MAX);
            let Some(here) = here else { return piece };
            let mut bytes = piece.to_vec();
            bytes[here] ^= 1;
            bytes.into()
        });
        std::future::ready(Some(piece))
    });
    Body::from_stream(pieces)
}

fn slow(body: Body, bytes: usize, every_ms: u64) -> Body {
    let crumbs = body.into_data_stream().map_ok(move |piece| {
        let crumbs: Vec<_> =
            (0..piece.len()).step_by(bytes).map(|at| piece.slice(at..piece.len().min(at + bytes))).collect();
        futures::stream::iter(crumbs.into_iter().map(Ok::<_, axum::Error>))
    });
    let crumbs = crumbs.try_flatten().then(move |crumb| async move {
        tokio::time::sleep(Duration::from_millis(every_ms)).await;
        crumb
    });
    Body::from_stream(crumbs)
}

/// hyper closes a connection whose body fails before it has sent the head of the answer.
pub(super) fn dropped() -> Response {
    let broken: Result<Bytes, io::Error> = Err(io::Error::other("dropped by the fault script"));
    Response::new(Body::from_stream(futures::stream::iter([broken])))
}

/// The faults that are left.
pub(super) struct FaultScript(Mutex<Vec<Fault>>);

impl FaultScript {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        Self(Mutex::new(faults))
    }

    pub(super) fn replace(&self, faults: Vec<Fault>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// What befalls this request.
    pub(super) fn take(&self, method: &Method, path: &str) -> Option<FaultAction> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in faults.iter_mut().filter(|fault| fault.matches(method, path)) {
            match (fault.skip, fault.times) {
                (0, 0) => (),
                (0, _) => {
                    fault.times -= 1;
                    return Some(fault.action.clone());
                }
                _ => fault.skip -= 1,
            }
        }
        None
    }
}

impl Fault {
    fn matches(&self, method: &Method, path: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| method.as_str() == wanted) && path.contains(&self.path_contains)
    }
}
