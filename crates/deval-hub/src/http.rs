//! Requests to the Hub: one connection pool, one retry policy, errors that say where.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Method, Request, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::{HubError, Token};

/// What this crate calls itself, also when hf-hub speaks for it.
pub(crate) const USER_AGENT: &str = concat!("deval/", env!("CARGO_PKG_VERSION"));

/// Tries while another Hub commit holds the repository's lock (409).
pub(crate) const LOCK_TRIES: u32 = 12;

/// Silence after which a connection counts as broken.
pub(crate) const STALL: Duration = Duration::from_secs(120);

/// How often and how patiently requests are repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    /// Tries in all when the Hub fails or a connection breaks.
    pub(crate) tries: u32,
    /// First pause; doubles up to sixteen times, with jitter.
    pub(crate) base: Duration,
    /// Longest time to wait because the Hub asked for it, all waits of one request together.
    pub(crate) patience: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 6, base: Duration::from_millis(500), patience: Duration::from_secs(900) }
    }
}

/// Counts the tries of one request.
pub(crate) struct Tries {
    policy: Retry,
    failed: u32,
    waited: Duration,
}

impl Tries {
    pub(crate) fn new(policy: Retry) -> Self {
        Self { policy, failed: 0, waited: Duration::ZERO }
    }

    /// How long to pause before the next try, or `None` when there is no point in another one.
    pub(crate) fn pause(&mut self, error: &HubError) -> Option<Duration> {
        match error {
            HubError::RateLimited { wait: Some(wait), .. } => self.as_asked(*wait),
            HubError::Status { wait: Some(wait), .. } if error.is_transient() => {
                self.failed += 1;
                if self.failed < self.policy.tries { self.as_asked(*wait) } else { None }
            }
            // Nobody listens: two more tries bridge a restart, and the miner is told within seconds.
            HubError::Down { .. } => self.backoff(self.policy.tries.min(3)),
            error if error.is_locked() => self.backoff(LOCK_TRIES),
            error if error.is_transient() => self.backoff(self.policy.tries),
            _ => None,
        }
    }

    /// What the Hub asked for, while all such waits together stay within the patience. A Hub that asks for no time at all is not
    /// asked again at once.
    fn as_asked(&mut self, wait: Duration) -> Option<Duration> {
        let wait = wait.max(self.policy.base);
        self.waited += wait;
        (self.waited <= self.policy.patience).then_some(wait)
    }

    /// The next growing pause, or `None` after `tries` failures.
    pub(crate) fn backoff(&mut self, tries: u32) -> Option<Duration> {
        self.failed += 1;
        let ceiling = self.policy.base * 2u32.pow((self.failed - 1).min(4));
        (self.failed < tries).then(|| ceiling.mul_f64(0.5 + 0.5 * rand::random::<f64>()))
    }
}

/// Told before a pause: why, and for how long.
pub(crate) type OnPause<'a> = &'a (dyn Fn(&HubError, Duration) + Sync);

/// The HTTP side of the client.
#[derive(Clone)]
pub(crate) struct Api {
    client: reqwest::Client,
    endpoint: Url,
    auth: Option<HeaderValue>,
    pub(crate) retry: Retry,
    /// Silence after which a connection counts as broken.
    pub(crate) stall: Duration,
}

/// A complete successful answer.
pub(crate) struct Answer {
    url: Url,
    pub(crate) headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, HubError> {
        serde_json::from_slice(&self.body)
            .map_err(|e| HubError::Answer { url: shown(&self.url), what: format!("not the promised JSON: {e}") })
    }
}

impl Api {
    pub(crate) fn new(endpoint: &str, token: Option<&Token>) -> Result<Self, HubError> {
        let bad = |reason: String| HubError::Endpoint { endpoint: endpoint.to_owned(), reason };
        let url = Url::parse(endpoint).map_err(|e| bad(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(bad("it must begin with http:// or https://".to_owned()));
        }
        // A redirect of an API call means another repository; one of `resolve` is looked at, not followed.
        let client = transport(&url, Policy::none(), STALL)?;
        Ok(Self { client, endpoint: url, auth: token.map(Token::header), retry: Retry::default(), stall: STALL })
    }

    /// The same, but sooner out of patience with silence.
    #[cfg(test)]
    pub(crate) fn with_stall(self, stall: Duration) -> Self {
        let client = transport(&self.endpoint, Policy::none(), stall).expect("it was built before");
        Self { client, stall, ..self }
    }

    /// The same endpoint, without the token.
    pub(crate) fn anonymous(&self) -> Self {
        Self { auth: None, ..self.clone() }
    }

    pub(crate) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// The token, for a client that makes its own header of it.
    pub(crate) fn token(&self) -> Option<&str> {
        self.auth.as_ref()?.to_str().ok()?.strip_prefix("Bearer ")
    }

    /// URL of the endpoint with further path segments, each encoded as one.
    pub(crate) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        url.path_segments_mut().expect("http URLs have a path").pop_if_empty().extend(segments);
        url
    }

    /// The headers that make the Hub know this client.
    pub(crate) fn auth_headers(&self) -> HeaderMap {
        self.auth.iter().map(|value| (AUTHORIZATION, value.clone())).collect()
    }

    /// A request that carries the token only if it goes to the endpoint itself.
    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let own = url.origin() == self.endpoint.origin();
        let request = self.client.request(method, url);
        if own { request.headers(self.auth_headers()) } else { request }
    }

    /// Makes a call until it succeeds or there is no point in another one.
    pub(crate) async fn repeat<T, F>(&self, on_pause: OnPause<'_>, mut call: impl FnMut() -> F) -> Result<T, HubError>
    where
        F: Future<Output = Result<T, HubError>>,
    {
        let mut tries = Tries::new(self.retry);
        loop {
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(pause) = tries.pause(&error) else { return Err(error) };
            on_pause(&error, pause);
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends with retries and reads the whole answer; any status but 2xx is an error.
    pub(crate) async fn send(&self, request: RequestBuilder, on_pause: OnPause<'_>) -> Result<Answer, HubError> {
        let request = build(request)?;
        self.repeat(on_pause, || self.once(copy(&request))).await
    }

    /// `GET` with retries.
    pub(crate) async fn get(&self, url: Url) -> Result<Answer, HubError> {
        self.send(self.request(Method::GET, url), &|_, _| {}).await
    }

    /// Sends once and reads the whole answer; any status but 2xx is an error.
    pub(crate) async fn once(&self, request: Request) -> Result<Answer, HubError> {
        let url = request.url().clone();
        let response = self.client.execute(request).await.map_err(|e| self.broken(&url, &e))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(|e| self.broken(&url, &e))?.to_vec();
        if status.is_success() {
            Ok(Answer { url, headers, body })
        } else {
            Err(refused(&url, status, &headers, &body))
        }
    }

    /// Sends with retries and returns at the headers, redirects and permanent refusals included.
    pub(crate) async fn peek(&self, request: RequestBuilder) -> Result<Response, HubError> {
        let request = build(request)?;
        self.repeat(&|_, _| {}, || self.headers(copy(&request))).await
    }

    /// Sends once and returns at the headers; what may succeed later is an error.
    pub(crate) async fn headers_of(&self, request: RequestBuilder) -> Result<Response, HubError> {
        self.headers(build(request)?).await
    }

    async fn headers(&self, request: Request) -> Result<Response, HubError> {
        let url = request.url().clone();
        let response = self.client.execute(request).await.map_err(|e| self.broken(&url, &e))?;
        let error = refused(&url, response.status(), response.headers(), &[]);
        if error.is_transient() { Err(error) } else { Ok(response) }
    }

    pub(crate) fn broken(&self, url: &Url, error: &reqwest::Error) -> HubError {
        let reason = innermost(error);
        if error.is_connect() && url.origin() == self.endpoint.origin() {
            return HubError::Down { endpoint: shown(&self.endpoint), reason };
        }
        HubError::Dropped { url: shown(url), reason }
    }
}

/// A pool of connections for one endpoint; one that is silent for `stall` counts as broken.
pub(crate) fn transport(endpoint: &Url, redirects: Policy, stall: Duration) -> Result<reqwest::Client, HubError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirects)
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(stall);
    if is_loopback(endpoint) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|e| HubError::Endpoint { endpoint: shown(endpoint), reason: innermost(&e) })
}

/// Finishes a request whose body is in memory, so that it can be sent more than once.
pub(crate) fn build(request: RequestBuilder) -> Result<Request, HubError> {
    request.build().map_err(|e| HubError::Answer {
        url: e.url().map(shown).unwrap_or_default(),
        what: format!("the request cannot be built: {}", innermost(&e)),
    })
}

pub(crate) fn copy(request: &Request) -> Request {
    request.try_clone().expect("every body here is in memory")
}

/// The URL without user, password, query and fragment: presigned URLs keep their secret in the query.
pub(crate) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path().trim_end_matches('/'))
}

/// The target of `Link: <…>; rel="next"`.
pub(crate) fn next_page(headers: &HeaderMap) -> Option<&str> {
    let link = headers.get("link")?.to_str().ok()?;
    let part = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    Some(part.split_once('<')?.1.split_once('>')?.0)
}

fn is_loopback(url: &Url) -> bool {
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

pub(crate) fn refused(url: &Url, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> HubError {
    let url = shown(url);
    if status == StatusCode::TOO_MANY_REQUESTS {
        return HubError::RateLimited { url, wait: asked_wait(headers) };
    }
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let message = match (header("x-error-message"), header("location")) {
        (_, target) if status.is_redirection() => {
            format!("it sends to {}", target.split(['?', '#']).next().unwrap_or(""))
        }
        (message, _) if message.is_empty() => body_message(body),
        (message, _) => message,
    };
    HubError::Status { url, status, code: header("x-error-code"), message, wait: retry_after(headers) }
}

/// How long a 429 asks to wait: the longest of what `t` of the `RateLimit` headers and `Retry-After` say.
fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let limits = headers.get_all("ratelimit").into_iter().filter_map(|v: &HeaderValue| v.to_str().ok());
    let resets = limits.flat_map(|v| v.split([';', ',']).filter_map(|part| part.trim().strip_prefix("t=")));
    let resets = resets.filter_map(|seconds| seconds.trim().parse().ok().map(Duration::from_secs));
    resets.chain(retry_after(headers)).max()
}

/// `Retry-After`: seconds, or a date of HTTP.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let date = || Some(httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default());
    text.parse().ok().map(Duration::from_secs).or_else(date)
}

/// What the body of a refusal says, shortened.
pub(crate) fn body_message(body: &[u8]) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = parsed.as_ref().and_then(|v| v.get("error")).and_then(|v| v.as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "no explanation".to_owned() } else { text.chars().take(300).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_must_be_http() {
        for bad in ["", "huggingface.co", "ftp://x", "file:///x"] {
            assert!(matches!(Api::new(bad, None), Err(HubError::Endpoint { .. })), "{bad}");
        }
        let api = Api::new("http://127.0.0.1:1/prefix/", None).unwrap();
        assert_eq!(api.url(["api", "a/b c"]).as_str(), "http://127.0.0.1:1/prefix/api/a%2Fb%20c");
    }

    #[test]
    fn shown_urls_hold_no_secret() {
        let url = Url::parse("https://user:pw@cdn.example/a/b?X-Signature=abc#f").unwrap();
        assert_eq!(shown(&url), "https://cdn.example/a/b");
    }

    #[test]
    fn waits_are_read_from_both_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(asked_wait(&headers), None);
        headers.insert("retry-after", HeaderValue::from_static("7"));
        assert_eq!(asked_wait(&headers), Some(Duration::from_secs(7)));
        headers.insert("ratelimit", HeaderValue::from_static("\"api\";r=0;t=23"));
        assert_eq!(asked_wait(&headers), Some(Duration::from_secs(23)));
        headers.insert("ratelimit", HeaderValue::from_static("\"api\";r=9;t=3, \"pages\";r=0;t=5"));
        assert_eq!(asked_wait(&headers), Some(Duration::from_secs(7)), "the longest, or the next try is refused too");
    }

    #[test]
    fn a_date_in_retry_after_is_a_wait_too() {
        let mut headers = HeaderMap::new();
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
        headers.insert("retry-after", HeaderValue::from_str(&later).unwrap());
        let wait = asked_wait(&headers).unwrap();
        assert!((85..=90).contains(&wait.as_secs()), "{wait:?}");
        headers.insert("retry-after", HeaderValue::from_static("Wed, 21 Oct 2015 07:28:00 GMT"));
        assert_eq!(asked_wait(&headers), Some(Duration::ZERO), "a date that is over");
        headers.insert("retry-after", HeaderValue::from_static("soon"));
        assert_eq!(asked_wait(&headers), None);
    }

    #[test]
    fn a_wait_of_nothing_is_no_busy_loop_and_an_overloaded_hub_is_given_up() {
        let policy = Retry { tries: 3, base: Duration::from_millis(100), patience: Duration::from_millis(250) };
        let mut tries = Tries::new(policy);
        let limited = HubError::RateLimited { url: String::new(), wait: Some(Duration::ZERO) };
        let pauses: Vec<_> = std::iter::from_fn(|| tries.pause(&limited)).collect();
        assert_eq!(pauses, [policy.base; 2]);
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static("0"));
        let url = Url::parse("http://h/x").unwrap();
        let overloaded = refused(&url, StatusCode::SERVICE_UNAVAILABLE, &headers, b"");
        let mut tries = Tries::new(Retry { patience: Duration::from_secs(9), ..policy });
        assert_eq!(std::iter::from_fn(|| tries.pause(&overloaded)).count(), 2, "three tries in all");
    }

    #[test]
    fn next_link_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers
            .insert("link", HeaderValue::from_static("<http://h/p?a>; rel=\"prev\", <http://h/n?c=1>; rel=\"next\""));
        assert_eq!(next_page(&headers), Some("http://h/n?c=1"));
    }

    #[test]
    fn permanent_refusals_are_not_repeated_and_patience_ends() {
        let refusal = |code: u16| {
            refused(&Url::parse("http://h/x").unwrap(), StatusCode::from_u16(code).unwrap(), &HeaderMap::new(), b"")
        };
        let policy = Retry { tries: 3, base: Duration::from_millis(100), patience: Duration::from_secs(10) };
        for code in [400, 401, 403, 404, 409, 412, 413, 422] {
            assert_eq!(Tries::new(policy).pause(&refusal(code)), None, "{code}");
        }
        let mut tries = Tries::new(policy);
        let pauses: Vec<_> = (0..3).map(|_| tries.pause(&refusal(503))).collect();
        assert!(pauses[0].unwrap() <= policy.base && pauses[1].unwrap() <= 2 * policy.base && pauses[2].is_none());
        let limited = |s| HubError::RateLimited { url: String::new(), wait: Some(Duration::from_secs(s)) };
        let mut tries = Tries::new(policy);
        assert_eq!(tries.pause(&limited(8)), Some(Duration::from_secs(8)));
        assert_eq!(tries.pause(&limited(8)), None);
    }
}
