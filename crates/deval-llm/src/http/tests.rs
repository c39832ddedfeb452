use reqwest::header::HeaderValue;

use super::*;

fn refusal(status: u16, wait: Option<u64>) -> LlmError {
    let url = Url::parse("http://h/x").unwrap();
    refused(&url, StatusCode::from_u16(status).unwrap(), wait.map(Duration::from_secs), "no".into())
}

#[test]
fn endpoints_are_http_without_credentials() {
    for bad in
        ["", "api.openai.com", "ftp://x", "file:///x", "https://user:secret@h/v1", "https://secret@h", "sk-secret"]
    {
        let error = endpoint(bad).unwrap_err();
        assert!(matches!(error, LlmError::Endpoint { .. }) && !error.to_string().contains("secret"), "{error}");
    }
    assert_eq!(shown(&endpoint("https://h/a/?api-version=1#f").unwrap()), "https://h/a");
}

#[test]
fn waits_are_seconds_or_dates() {
    let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
    let wait =
        |text: &'static str| wait_asked(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]), now);
    assert_eq!(wait("7"), Some(Duration::from_secs(7)));
    assert_eq!(wait("0.5"), Some(Duration::from_millis(500)));
    assert_eq!(wait("Sun, 06 Nov 1994 08:50:00 GMT"), Some(Duration::from_secs(23)));
    assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!([wait("soon"), wait("-1"), wait("1e300"), wait("NaN")], [None; 4]);
}

#[test]
fn permanent_refusals_are_not_repeated_and_patience_ends() {
    let policy = Retry { tries: 3, base: Duration::from_millis(100), patience: Duration::from_secs(10) };
    let tries = || Tries::new(policy, Dice::new(0, 0));
    for status in [301, 400, 401, 403, 404, 422] {
        assert_eq!(tries().pause(&refusal(status, None)), None, "{status}");
    }
    let mut failing = tries();
    let pauses: Vec<_> = (0..3).map(|_| failing.pause(&refusal(503, None))).collect();
    assert!(pauses[0].unwrap() <= policy.base && pauses[1].unwrap() >= policy.base && pauses[2].is_none());
    assert_eq!(pauses[0], tries().pause(&refusal(500, None)), "the jitter repeats");
    let mut limited = tries();
    assert_eq!(limited.pause(&refusal(429, Some(8))), Some(Duration::from_secs(8)));
    assert_eq!(limited.pause(&refusal(429, Some(8))), None);
    assert_eq!(tries().pause(&refusal(429, Some(11))), None);
}

#[test]
fn an_empty_account_is_not_a_rate_limit() {
    let url = Url::parse("http://h/x").unwrap();
    let message = "You exceeded your current quota, please check your plan and billing details.".to_owned();
    let error = refused(&url, StatusCode::TOO_MANY_REQUESTS, None, message);
    assert!(!error.is_transient() && error.to_string().contains("no credit"), "{error}");
}

#[test]
fn messages_are_found_where_servers_put_them() {
    for (body, message) in [
        (r#"{"error":{"message":"a  b","code":null}}"#, "a b"),
        (r#"{"error":"c"}"#, "c"),
        (r#"{"message":"d"}"#, "d"),
        (r#"{"detail":"e"}"#, "e"),
        ("<h1>Bad\nGateway</h1>", "<h1>Bad Gateway</h1>"),
        ("", "no explanation"),
    ] {
        assert_eq!(said(body.as_bytes()), message);
    }
}
