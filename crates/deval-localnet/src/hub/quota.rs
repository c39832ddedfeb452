//! Requests per caller and window, as the Hub limits them (IETF `RateLimit` headers).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::answer::{Caller, Refusal};

/// The Hub's own windows are five minutes; these are short enough to be waited for.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// Downloads that the Hub allows for each request of its API, by its table of September 2025.
const RESOLVES_PER_CALL: u32 = 6;

/// What has been asked for in the window that runs.
pub(super) struct Quota {
    /// API requests of one caller in one window; none for no limit.
    calls: Option<u32>,
    seen: Mutex<HashMap<(Caller, &'static str), Window>>,
}

/// When it began, and what was asked for in it.
type Window = (Instant, u32);

/// How a caller stands after a request.
pub(super) struct Standing {
    bucket: &'static str,
    limit: u32,
    left: u32,
    reset: u64,
    is_over: bool,
}

impl Quota {
    pub(super) fn new(calls: Option<u32>) -> Self {
        Self { calls, seen: Mutex::default() }
    }

    /// Counts a request; `None` where there is no limit.
    pub(super) fn count(&self, caller: Caller, path: &str) -> Option<Standing> {
        let calls = self.calls?;
        let (bucket, limit) = if path.starts_with("/api/") {
            ("api", calls)
        } else if path.contains("/resolve/") {
            ("resolvers", calls.saturating_mul(RESOLVES_PER_CALL))
        } else {
            return None;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, count) = seen.entry((caller, bucket)).or_insert_with(|| (Instant::now(), 0));
        if start.elapsed() >= WINDOW {
            (*start, *count) = (Instant::now(), 0);
        }
        *count += 1;
        // Rounded up: who waits as long as told has a new window.
        let reset = WINDOW.saturating_sub(start.elapsed()).as_secs() + 1;
        Some(Standing { bucket, limit, left: limit.saturating_sub(*count), reset, is_over: *count > limit })
    }
}

impl Standing {
    /// The refusal of a request that was one too many.
    pub(super) fn refusal(&self) -> Option<Response> {
        let message = format!("We had to rate limit you: {} requests in {} s", self.limit, WINDOW.as_secs());
        self.is_over.then(|| Refusal::new(StatusCode::TOO_MANY_REQUESTS, message).into_response())
    }

    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let Self { bucket, limit, left, reset, .. } = self;
        let window = WINDOW.as_secs();
        let lines = [
            ("ratelimit", format!("\"{bucket}\";r={left};t={reset}")),
            ("ratelimit-policy", format!("\"fixed window\";\"{bucket}\";q={limit};w={window}")),
        ];
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}
