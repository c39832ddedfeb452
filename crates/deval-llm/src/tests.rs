//! The clients against servers that misbehave on command.

mod fake;

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use serde_json::json;

use self::fake::{Fake, Reaction};
use crate::*;

const KEY: &str = "sk-very-secret-key";

fn settings() -> Settings {
    let retry = Retry { tries: 4, base: Duration::from_millis(4), patience: Duration::from_secs(2) };
    Settings { retry, timeout: Duration::from_secs(20), ..Settings::default() }
}

fn key() -> Secret {
    Secret::new("OPENAI_API_KEY", KEY).unwrap()
}

fn openai(fake: &Fake, settings: Settings) -> Client {
    Client::openai(OpenAi::new(&fake.url, Some(key()), "m", false).unwrap(), settings).unwrap()
}

fn request() -> ChatRequest {
    let property = |name, is_list| Property { name, description: "what it is", is_list };
    let properties = vec![property("context", false), property("claim", false)];
    let tool = Some(Tool { name: "hallucination", description: "Takes both.", properties });
    ChatRequest { system: Some("Be brief.".into()), user: "Write.".into(), tool, sampling: Sampling::default() }
}

async fn complete(reactions: Vec<Reaction>) -> (Result<Completion, LlmError>, Fake) {
    let fake = Fake::start(reactions).await;
    let answer = openai(&fake, settings()).complete(&request()).await;
    (answer, fake)
}

#[tokio::test]
async fn openai_requests_are_as_upstream_sends_them() {
    let (answer, fake) = complete(vec![Reaction::Tool(r#"{"context": "c", "claim": "d"}"#)]).await;
    let usage = Usage { requests: 1, prompt_tokens: 120, completion_tokens: 30, estimated: 0 };
    assert_eq!(answer.unwrap(), Completion { text: r#"{"context": "c", "claim": "d"}"#.into(), usage });
    let seen = &fake.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(seen.header("authorization"), format!("Bearer {KEY}"));
    let body = json!({
        "model": "m",
        "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Write." }],
        "max_tokens": 500,
        "response_format": { "type": "text" },
        "temperature": 0.7,
        "top_p": 0.97,
        "tools": [request().tool.unwrap().openai()],
        "tool_choice": "auto",
    });
    assert_eq!(seen.json(), body);
}

#[tokio::test]
async fn servers_that_ignore_tools_are_understood() {
    let fenced = "Sure!\n```json\n{\"context\": \"c\", \"claim\": \"d\"}\n```";
    for content in [r#"{"context": "c", "claim": "d"}"#, fenced] {
        let (answer, _) = complete(vec![Reaction::Content(content)]).await;
        assert_eq!(answer.unwrap().text, r#"{"context": "c", "claim": "d"}"#);
    }
    let (answer, _) = complete(vec![Reaction::Content("I would rather not.")]).await;
    assert_eq!(answer.unwrap().text, "I would rather not.");
    let uncounted = r#"{"choices": [{"message": {"content": "123456789"}}]}"#;
    let (answer, _) = complete(vec![Reaction::Body(uncounted)]).await;
    let usage = answer.unwrap().usage;
    assert_eq!((usage.completion_tokens, usage.estimated), (3, 1));
    for body in ["{}", "<html>", r#"{"choices": []}"#] {
        let (answer, fake) = complete(vec![Reaction::Body(body)]).await;
        assert!(matches!(answer, Err(LlmError::Answer { .. })), "{body}");
        assert_eq!(fake.seen().len(), 1);
    }
}

#[tokio::test]
async fn what_passes_is_repeated() {
    let ok = || Reaction::Content("fine");
    for reactions in [
        vec![Reaction::Status(429, Some("0.05"), "slow down"), ok()],
        vec![Reaction::Status(429, Some("Sun, 06 Nov 1994 08:49:37 GMT"), "slow down"), ok()],
        vec![Reaction::Status(500, None, "oops"), Reaction::Status(503, None, "busy"), ok()],
        vec![Reaction::Dropped, Reaction::Status(529, None, "overloaded"), Reaction::Dropped, ok()],
    ] {
        let tries = reactions.len();
        let start = Instant::now();
        let (answer, fake) = complete(reactions).await;
        assert_eq!((answer.unwrap().text.as_str(), fake.seen().len()), ("fine", tries));
        assert!(tries != 2 || fake.asked_wait().is_none_or(|wait| start.elapsed() >= wait));
    }
    let (answer, fake) = complete(vec![Reaction::Status(500, None, "oops"); 9]).await;
    assert!(matches!(answer, Err(LlmError::Failed { status: 500, .. })));
    assert_eq!(fake.seen().len(), 4);
    let (answer, fake) = complete(vec![Reaction::Status(429, Some("3600"), "come back tomorrow"); 2]).await;
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("3600s") && error.contains("tomorrow") && fake.seen().len() == 1, "{error}");
}

#[tokio::test]
async fn refusals_are_told_once_without_the_key() {
    let said = format!(r#"{{"error": {{"message": "{}{KEY} is wrong"}}}}"#, "long ".repeat(40));
    let endless = format!("{KEY} ").repeat(1000);
    for (status, remedy) in
        [(400, "the model's name"), (401, "set a valid key"), (403, "access"), (404, "base URL"), (302, "moved")]
    {
        for body in [&said, &endless] {
            let fake = Fake::start(vec![Reaction::Said(status, body.clone())]).await;
            let error = openai(&fake, settings()).complete(&request()).await.unwrap_err();
            let (shown, debug) = (error.to_string(), format!("{error:?}"));
            assert!(shown.contains(remedy) && shown.contains("(hidden)") && shown.len() < 600, "{shown}");
            assert!(!shown.contains("secret") && !debug.contains("secret"), "{debug}");
            assert_eq!(fake.seen().len(), 1);
        }
    }
}

#[tokio::test]
async fn slow_servers_and_dead_ones_are_told_apart() {
    let fake = Fake::start(vec![Reaction::Slow]).await;
    let hasty =
        Settings { timeout: Duration::from_millis(60), retry: Retry { tries: 1, ..settings().retry }, ..settings() };
    let error = openai(&fake, hasty).complete(&request()).await.unwrap_err();
    assert!(matches!(&error, LlmError::TimedOut { after, .. } if *after == hasty.timeout), "{error}");
    let gone = OpenAi::new("http://127.0.0.1:1", Some(key()), "m", false).unwrap();
    let client = Client::openai(gone, settings()).unwrap();
    assert_eq!(client.price(), Some(Price::FREE));
    let error = client.complete(&request()).await.unwrap_err();
    assert!(matches!(error, LlmError::Down { .. }), "{error}");
    assert!(error.to_string().contains("http://127.0.0.1:1/v1/chat/completions"), "{error}");
    assert!(!format!("{client:?}").contains("very-secret"));
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_allowed() {
    let fake = Fake::start(vec![Reaction::Content("fine"); 30]).await;
    let limits = Limits { concurrent: NonZeroUsize::new(3).unwrap(), ..Limits::default() };
    let client = openai(&fake, Settings { limits, ..settings() });
    let asked = request();
    let answers = futures::future::join_all((0..30).map(|_| client.complete(&asked))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!((1..=3).contains(&fake.most_at_once()), "{}", fake.most_at_once());
}

fn bedrock(fake: &Fake, auth: AwsAuth) -> Client {
    let model = "us.anthropic.claude-3-haiku-20240307-v1:0";
    Client::bedrock(Bedrock::new("us-east-1", model, auth, Some(&fake.url)).unwrap(), settings()).unwrap()
}

fn signed() -> AwsAuth {
    let secret = |text| Secret::new("AWS", text).unwrap();
    AwsAuth::Signed {
        access_key_id: secret("AKIDEXAMPLE"),
        secret_access_key: secret("very-secret-access"),
        session_token: Some(secret("very-secret-session")),
    }
}

#[tokio::test]
async fn bedrock_speaks_converse_with_a_signature_or_a_bearer_token() {
    let tool = r#"{"output": {"message": {"role": "assistant", "content": [{"text": "Let me."},
        {"toolUse": {"toolUseId": "t", "name": "hallucination", "input": {"context": "c", "claim": "d"}}}]}},
        "stopReason": "tool_use", "usage": {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}}"#;
    let text =
        r#"{"output": {"message": {"content": [{"text": "```\n{\"context\": \"c\", \"claim\": \"d\"}\n```"}]}}}"#;
    let fake = Fake::start(vec![
        Reaction::Status(429, None, "ThrottlingException"),
        Reaction::Body(tool),
        Reaction::Body(text),
    ])
    .await;
    let answer = bedrock(&fake, signed()).complete(&request()).await.unwrap();
    assert_eq!(answer.text, r#"{"context":"c","claim":"d"}"#);
    assert_eq!(answer.usage, Usage { requests: 1, prompt_tokens: 7, completion_tokens: 5, estimated: 0 });
    let answer = bedrock(&fake, AwsAuth::Bearer(key())).complete(&request()).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.usage.estimated), (r#"{"context": "c", "claim": "d"}"#, 1));

    let seen = fake.seen();
    for seen in &seen {
        assert_eq!(seen.path, "/model/us.anthropic.claude-3-haiku-20240307-v1%3A0/converse");
        let body = json!({
            "messages": [{ "role": "user", "content": [{ "text": "Write." }] }],
            "inferenceConfig": { "maxTokens": 500, "temperature": 0.7, "topP": 0.97 },
            "system": [{ "text": "Be brief." }],
            "toolConfig": { "tools": [request().tool.unwrap().bedrock()] },
        });
        assert_eq!(seen.json(), body);
    }
    assert_eq!(seen[1].header("x-amz-security-token"), "very-secret-session");
    assert_eq!(seen[1].header("authorization"), seen[1].signature("AKIDEXAMPLE", "very-secret-access"));
    assert_eq!(seen[2].header("authorization"), format!("Bearer {KEY}"));
}

#[tokio::test]
async fn bedrock_refusals_do_not_repeat_credentials() {
    let said = r#"{"message": "The canonical string was POST very-secret-session very-secret-access AKIDEXAMPLE"}"#;
    let fake = Fake::start(vec![Reaction::Said(403, said.to_owned())]).await;
    let client = bedrock(&fake, signed());
    let error = client.complete(&request()).await.unwrap_err();
    for shown in [error.to_string(), format!("{error:?}"), format!("{client:?}")] {
        assert!(!shown.contains("secret-") && !shown.contains("AKID"), "{shown}");
    }
    assert!(error.to_string().contains("The canonical string was POST (hidden)"));
}

#[tokio::test]
async fn wikipedia_gives_one_article_per_request() {
    let page = r#"{"query": {"pages": {"1": {"pageid": 1, "ns": 0, "title": "T", "extract": "E\n\n\n== H ==\nt"}}}}"#;
    let reactions = vec![Reaction::Body(page), Reaction::Status(503, None, "busy"), Reaction::Body(page)];
    let fake = Fake::start(reactions).await;
    let articles = wikipedia::random_articles(2, &fake.url, settings()).await.unwrap();
    let titles = articles.iter().map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
    assert_eq!(titles.map(|page| page["query"]["pages"]["1"]["title"].clone()).collect::<Vec<_>>(), ["T", "T"]);
    let seen = &fake.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/w/api.php"));
    for part in ["generator=random", "grnnamespace=0", "explaintext=1", "format=json"] {
        assert!(seen.query.contains(part), "{}", seen.query);
    }
    assert!(seen.header("user-agent").starts_with("deval/") && seen.header("user-agent").contains("https://"));
    let fake =
        Fake::start(vec![Reaction::Body(r#"{"error": {"code": "maxlag", "info": "Waiting for a host"}}"#)]).await;
    let error = wikipedia::random_articles(1, &fake.url, settings()).await.unwrap_err().to_string();
    assert!(error.contains("Waiting for a host") && error.contains("/w/api.php") && !error.contains('?'), "{error}");
}

#[tokio::test]
async fn a_set_is_written_over_http() {
    let fake = Fake::start(Vec::new()).await;
    let limits = Limits { requests_per_minute: NonZeroU32::new(1_000_000), ..Limits::default() };
    let client = openai(&fake, Settings { limits, ..settings() });
    let article = Article { title: "T".into(), content: "Much is known. ".repeat(20), sections: Vec::new() };
    let plan = Plan { price: Price::listed("gpt-4o-mini"), ..Plan::new(0, 2, vec![article]) };
    let Generated { set, tally } = generate(&client, &plan, &|_| {}).await.unwrap();
    assert_eq!((set.examples.len(), tally.usage.requests), (8, fake.seen().len() as u64));
    assert_eq!(tally.usage.prompt_tokens, 120 * tally.usage.requests);
    assert_eq!(set.examples[0].source["api"], "openai");
    assert!(tally.cost_usd.unwrap() > 0.0 && tally.dropped.is_empty(), "{tally:?}");
}
