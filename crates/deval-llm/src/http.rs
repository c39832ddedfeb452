//! Requests: one connection pool, one retry policy, the rate limits, and errors that say where.

use std::error::Error as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use deval_eval::Dice;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use crate::limit::{Limiter, Limits};
use crate::{LlmError, Secret};

/// What this crate calls itself; Wikimedia asks for an address.
const USER_AGENT: &str = concat!("deval/", env!("CARGO_PKG_VERSION"), " (", env!("CARGO_PKG_REPOSITORY"), ")");
/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 16 << 20;
/// The most characters of a server's message that are shown.
const MAX_MESSAGE: usize = 300;

/// How often and how patiently requests are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all when the endpoint fails, limits the rate or a connection breaks.
    pub tries: u32,
    /// First pause; doubles up to sixteen times, with jitter.
    pub base: Duration,
    /// Longest time to wait because the endpoint asked for it, all waits of one request together.
    pub patience: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 6, base: Duration::from_millis(500), patience: Duration::from_secs(300) }
    }
}

/// How requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// When requests are repeated.
    pub retry: Retry,
    /// How many go out.
    pub limits: Limits,
    /// Longest time from a request to the end of its answer.
    pub timeout: Duration,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let (retry, limits) = (Retry::default(), Limits::default());
        Self { retry, limits, timeout: Duration::from_secs(120), seed: 0 }
    }
}

/// Counts the tries of one request.
struct Tries {
    policy: Retry,
    dice: Dice,
    failed: u32,
    waited: Duration,
}

impl Tries {
    fn new(policy: Retry, dice: Dice) -> Self {
        Self { policy, dice, failed: 0, waited: Duration::ZERO }
    }

    /// How long to pause before the next try, or `None` when there is no point in another one.
    fn pause(&mut self, error: &LlmError) -> Option<Duration> {
        if !error.is_transient() {
            return None;
        }
        self.failed += 1;
        // Two more tries bridge a restart or a lost answer. Beyond, the user would wait for minutes, and might pay for every try.
        let is_silent = matches!(error, LlmError::Down { .. } | LlmError::TimedOut { .. });
        let tries = if is_silent { self.policy.tries.min(3) } else { self.policy.tries };
        let pause = error.wait().unwrap_or_else(|| self.backoff());
        self.waited += error.wait().unwrap_or_default();
        (self.failed < tries && self.waited <= self.policy.patience).then_some(pause)
    }

    fn backoff(&mut self) -> Duration {
        let ceiling = self.policy.base * 2u32.pow((self.failed - 1).min(4));
        ceiling.mul_f64(0.5 + 0.5 * self.dice.unit())
    }
}

/// The HTTP side of a client.
#[derive(Debug)]
pub(crate) struct Wire {
    client: Client,
    settings: Settings,
    limiter: Limiter,
    secrets: Vec<Secret>,
    requests: AtomicU64,
}

impl Wire {
    /// A connection pool for one endpoint. The secrets are removed from whatever the endpoint says.
    pub(crate) fn new(endpoint: &Url, secrets: Vec<Secret>, settings: Settings) -> Result<Self, LlmError> {
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .timeout(settings.timeout);
        if is_loopback(endpoint) {
            builder = builder.no_proxy();
        }
        let client =
            builder.build().map_err(|error| LlmError::Endpoint { url: shown(endpoint), reason: innermost(&error) })?;
        Ok(Self { client, settings, limiter: Limiter::new(settings.limits), secrets, requests: AtomicU64::default() })
    }

    /// Sends what `build` makes, until it succeeds or there is no point in another try. `tokens` is what the request may use.
    pub(crate) async fn call(
        &self,
        url: &Url,
        tokens: u64,
        build: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Value, LlmError> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut tries = Tries::new(self.settings.retry, Dice::new(self.settings.seed, number));
        loop {
            let permit = self.limiter.admit(tokens).await;
            let error = match self.once(url, build(&self.client)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            drop(permit);
            let Some(pause) = tries.pause(&error) else { return Err(error) };
            if error.wait().is_some() {
                self.limiter.hold(pause);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Tells how many of a call's tokens were used.
    pub(crate) fn settle(&self, reserved: u64, used: u64) {
        self.limiter.settle(reserved, used);
    }

    async fn once(&self, url: &Url, request: RequestBuilder) -> Result<Value, LlmError> {
        let response = request.send().await.map_err(|error| self.broken(url, &error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.body(url, response).await?;
        if !status.is_success() {
            return Err(refused(url, status, wait_asked(&headers, SystemTime::now()), self.scrub(&said(&body))));
        }
        serde_json::from_slice(&body)
            .map_err(|error| LlmError::Answer { url: shown(url), what: format!("it is no JSON: {error}") })
    }

    async fn body(&self, url: &Url, mut response: Response) -> Result<Vec<u8>, LlmError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(url, &error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(LlmError::Answer { url: shown(url), what: format!("it is over {MAX_ANSWER} bytes long") });
            }
        }
        Ok(body)
    }

    fn broken(&self, url: &Url, error: &reqwest::Error) -> LlmError {
        let (url, reason) = (shown(url), self.scrub(&innermost(error)));
        if error.is_timeout() && !error.is_connect() {
            LlmError::TimedOut { url, after: self.settings.timeout }
        } else if error.is_connect() {
            LlmError::Down { url, reason }
        } else {
            LlmError::Dropped { url, reason }
        }
    }

    /// The text without keys, shortened.
    fn scrub(&self, text: &str) -> String {
        let clean = self.secrets.iter().fold(text.to_owned(), |text, secret| secret.scrub(&text));
        clean.chars().take(MAX_MESSAGE).collect()
    }
}

/// Parses an endpoint: http or https, with a host, without credentials.
pub(crate) fn endpoint(text: &str) -> Result<Url, LlmError> {
    let bad = |url: &str, reason: String| LlmError::Endpoint { url: url.to_owned(), reason };
    let begins = || "it must begin with https:// or http://".to_owned();
    // What cannot be parsed is not shown: a key may stand in it.
    let url = Url::parse(text.trim()).map_err(|error| bad("…", format!("{error}; {}", begins())))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad(&format!("{}:…", url.scheme()), begins()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad(&shown(&url), "it holds a user or password; give the key in the environment".to_owned()));
    }
    Ok(url)
}

/// The URL without user, password, query and fragment.
pub(crate) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path().trim_end_matches('/'))
}

/// A header that is not shown.
pub(crate) fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::try_from(text).expect("secrets are ASCII without control characters");
    value.set_sensitive(true);
    value
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    // Without a cause the error's own text would show the URL with its query.
    if error.source().is_some() { cause.to_string() } else { "the request failed".to_owned() }
}

fn refused(url: &Url, status: StatusCode, wait: Option<Duration>, message: String) -> LlmError {
    let (url, code) = (shown(url), status.as_u16());
    match code {
        // An account without credit answers 429 as well; waiting does not fill it.
        429 if message.contains("quota") && message.contains("billing") => {
            LlmError::Refused { url, status: code, message }
        }
        429 => LlmError::RateLimited { url, wait, message },
        408 | 500..=599 => LlmError::Failed { url, status: code, wait, message },
        _ => LlmError::Refused { url, status: code, message },
    }
}

/// How long `Retry-After` asks to wait: seconds or an HTTP date.
fn wait_asked(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.0..1e9).contains(seconds));
    let date = || Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default());
    seconds.map(Duration::from_secs_f64).or_else(date)
}

/// What the body of a refusal says: `error.message`, `error`, `message` or `detail`, else all of it.
fn said(body: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let places = ["/error/message", "/error", "/message", "/Message", "/detail"];
    let message = places.iter().find_map(|place| parsed.pointer(place)?.as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "no explanation".to_owned() } else { text }
}

#[cfg(test)]
mod tests;
