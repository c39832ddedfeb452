use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use regex::Regex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::listen::CONNECTIONS_FROM_ONE;
use crate::testing::{
    Message, RECORDED, SECOND, axon, config, fixture, listening, miner, read_answer, recorded_axon, send_raw, stranger,
    validator,
};
use crate::{Axon, AxonConfig, Subnet, bind, monitor, serve_monitor};

/// What is no function of the request: times, random names and signatures, Python's object sizes, the peer's address; and
/// what this axon does not send: the server's name, and a signature of its own under a refusal.
const NOT_COMPARED: [&str; 5] = ["date", "server", "connection", "bt_header_axon_signature", "content-length"];
const VALUE_NOT_COMPARED: [&str; 6] = [
    "bt_header_axon_process_time",
    "bt_header_axon_nonce",
    "bt_header_axon_uuid",
    "bt_header_dendrite_ip",
    "bt_header_dendrite_port",
    "total_size",
];

fn now() -> u64 {
    u64::try_from(RECORDED + SECOND).unwrap()
}

/// Nonces, uuids, signatures and process times stand for themselves; a stranger's key may be any.
static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let rules = [
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
        (r"(0x)?[0-9a-f]{128}", "${1}SIGNATURE"),
        (r"\b1[0-9]{18}\b", "NONCE"),
        (r#""process_time":[0-9.e-]+"#, r#""process_time":TIME"#),
        ("5Dqpu3aR99f2XgDsayNgH3G4YjE9NpK4vHxLXUU6unuTENoK", "STRANGER"),
        ("5FLSigC9HGRKVhB9FiEo4Y3koPsNmBmLJbpXg2mp1hXcS59Y", "STRANGER"),
        (r"127\.0\.0\.1:\d+", "HOST"),
    ];
    rules.map(|(pattern, by)| (Regex::new(pattern).unwrap(), by)).into()
});

fn normal(text: &str) -> String {
    RULES.iter().fold(text.to_owned(), |text, (rule, by)| rule.replace_all(&text, *by).into_owned())
}

fn comparable(message: &Message) -> (String, Vec<(String, String)>, String) {
    let headers = message.headers.iter().filter(|(name, _)| !NOT_COMPARED.contains(&name.as_str()));
    let headers = headers.map(|(name, value)| {
        let value = if VALUE_NOT_COMPARED.contains(&name.as_str()) { String::new() } else { normal(value) };
        (name.clone(), value)
    });
    (message.start.clone(), headers.collect(), normal(std::str::from_utf8(&message.body).unwrap()))
}

/// The measured answers of bittensor 9.0.1, by case.
fn measured() -> BTreeMap<String, Message> {
    let text = String::from_utf8(fixture("cases.txt")).unwrap().replace("\r\n", "\n");
    let mut cases = BTreeMap::new();
    let starts: Vec<_> = Regex::new(r"(?m)^(\S.*?) +-> HTTP/1\.1 ").unwrap().captures_iter(&text).collect();
    for (i, start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).map_or(text.len(), |next| next.get(0).unwrap().start());
        let raw = text[start.get(0).unwrap().start()..end].split_once("--- raw response\n").unwrap().1;
        let (head, body) = raw.split_once("\n\n").unwrap();
        cases.insert(start[1].to_owned(), Message::of_head(head, body.trim().as_bytes().to_vec()));
    }
    cases
}

fn base() -> Message {
    Message::recorded_request()
}

/// A new dendrite, signed now.
fn fresh() -> Message {
    aged(0)
}

/// A new dendrite whose nonce is so many nanoseconds old.
fn aged(age: i128) -> Message {
    let nonce = i128::from(now()) - age;
    let request = base().set("bt_header_dendrite_uuid", "00000000-0000-0000-0000-000000000001");
    request.set("bt_header_dendrite_nonce", &nonce.to_string()).signed()
}

fn at(method_and_path: &str) -> Message {
    let mut request = fresh();
    request.start = format!("{method_and_path} HTTP/1.1");
    request
}

fn with_bad_signature(request: Message) -> Message {
    let signature = validator().sign(b"something else");
    request.set("bt_header_dendrite_signature", &format!("0x{}", hex::encode(signature)))
}

fn without_bittensor(path: &str) -> Message {
    let mut request = at(path).with_body("{}");
    let kept = ["Host", "Content-Length", "Content-Type"];
    request.headers.retain(|(name, _)| kept.contains(&name.as_str()));
    request
}

/// Every case: what is sent before, and what is sent.
fn requests() -> Vec<(&'static str, Vec<Message>, Message)> {
    let dendrite = |field: &str| format!("bt_header_dendrite_{field}");
    let plain_signature = fresh().get(&dendrite("signature")).unwrap()[2..].to_owned();
    let smaller = base().set(&dendrite("nonce"), &(RECORDED - SECOND / 2).to_string()).signed();
    let foreign = fresh().signed_for(&miner().ss58(), &stranger());
    let old_version = |version: &str| aged(1000 * SECOND).set(&dendrite("version"), version);
    let after = |request: Message| vec![request];
    let one = |name, request| (name, Vec::new(), request);
    vec![
        one("ok_resigned", fresh()),
        ("replay_of_capture(nonce already used)", after(base()), base()),
        ("nonce_smaller_same_uuid", after(base()), smaller),
        one("new_uuid_nonce_8.0s_old(timeout 5 + 4 = 9 allowed)", aged(8 * SECOND)),
        one("new_uuid_nonce_10s_old", aged(10 * SECOND)),
        one("new_uuid_nonce_far_future", aged(-3600 * SECOND)),
        one("bad_signature", with_bad_signature(fresh())),
        one("signature_without_0x", fresh().set(&dendrite("signature"), &plain_signature)),
        one("blacklisted", foreign.clone()),
        one("blacklisted_and_bad_signature", with_bad_signature(foreign)),
        one(
            "wrong_axon_hotkey_in_header_and_signature",
            fresh().set("bt_header_axon_hotkey", &stranger().ss58()).signed_for(&stranger().ss58(), &validator()),
        ),
        one("no_axon_hotkey_header(signed for right axon)", fresh().without("bt_header_axon_hotkey")),
        one("no_nonce", fresh().without(&dendrite("nonce"))),
        one("no_signature", fresh().without(&dendrite("signature"))),
        one("no_dendrite_hotkey", fresh().without(&dendrite("hotkey"))),
        one("no_uuid", fresh().without(&dendrite("uuid"))),
        one("no_version_header_old_nonce(pre-7.2 rule)", aged(1000 * SECOND).without(&dendrite("version"))),
        one("version_719_old_nonce", old_version("7001009")),
        one("version_720_old_nonce", old_version("7002000")),
        one("unparsable_nonce", fresh().set(&dendrite("nonce"), "soon")),
        one("unparsable_timeout", fresh().set("timeout", "soon")),
        one("no_timeout_header_nonce_5s_old(default 12? None->0)", aged(5 * SECOND).without("timeout")),
        one("computed_body_hash_wrong_but_signed", fresh().set("computed_body_hash", &"0".repeat(64)).signed()),
        one("computed_body_hash_missing", fresh().without("computed_body_hash")),
        one("body_changed_after_signing(fields not hashed)", changed_body()),
        one("body_empty_object", fresh().with_body("{}")),
        one("body_not_json", fresh().with_body("not json")),
        one("body_empty", fresh().with_body("")),
        one("body_wrong_type", fresh().with_body(r#"{"repo_id": 5}"#)),
        one("body_list", fresh().with_body("[1]")),
        one("unknown_synapse", at("POST /Nope")),
        one("root_path", at("POST /")),
        one("sub_path", at("POST /ModelQuerySynapse/x")),
        one("trailing_slash", at("POST /ModelQuerySynapse/")),
        one("query_string", at("POST /ModelQuerySynapse?a=1")),
        one("GET_with_body", at("GET /ModelQuerySynapse")),
        one("PUT", at("PUT /ModelQuerySynapse")),
        one("Synapse_ping_no_headers", without_bittensor("POST /Synapse")),
        one("no_bt_headers_at_all", without_bittensor("POST /ModelQuerySynapse")),
        one("no_content_type", fresh().without("Content-Type")),
    ]
}

fn changed_body() -> Message {
    let body = String::from_utf8(base().body).unwrap().replace("\"repo_id\": \"\"", "\"repo_id\": \"evil\"");
    fresh().with_body(body)
}

/// Where this axon is stricter on purpose.
const HARDENED: [&str; 4] = [
    "new_uuid_nonce_far_future",
    "no_version_header_old_nonce(pre-7.2 rule)",
    "version_719_old_nonce",
    "version_720_old_nonce",
];

#[tokio::test]
async fn every_measured_case_is_answered_as_bittensor_answers() {
    let mut measured = measured();
    for (name, before, request) in requests() {
        let address = axon(now).await;
        for earlier in before {
            assert_eq!(earlier.send(address).await.start, "HTTP/1.1 200 OK");
        }
        let answer = request.send(address).await;
        let wanted = measured.remove(name).unwrap_or_else(|| panic!("{name} was not measured"));
        if HARDENED.contains(&name) {
            assert_eq!(answer.start, "HTTP/1.1 401 Unauthorized", "{name}");
        } else {
            assert_eq!(comparable(&answer), comparable(&wanted), "{name}");
        }
    }
    assert!(measured.is_empty(), "not tried: {:?}", measured.keys());
}

#[tokio::test]
async fn the_recorded_request_gets_the_recorded_answer() {
    let recorded = Message::parse(&fixture("response.bin"));
    let answer = send_raw(axon(now).await, &fixture("request.bin")).await;
    assert_eq!(comparable(&answer), comparable(&recorded));
    assert_eq!(answer.get("content-length"), Some(answer.body.len().to_string().as_str()));
    // With the recorded process time in it, the body is the recorded one to the byte.
    let body = String::from_utf8(answer.body)
        .unwrap()
        .replace("\"process_time\":0.0", "\"process_time\":6.461143493652344e-05");
    assert_eq!(body.as_bytes(), recorded.body);
}

#[tokio::test]
async fn process_time_is_measured_by_the_clock() {
    let ticks = Arc::new(AtomicU64::new(0));
    let clock = move || now() + ticks.fetch_add(1, Ordering::Relaxed) * 64_000;
    let answer = fresh().send(axon(clock).await).await;
    assert_eq!(answer.get("bt_header_axon_process_time"), Some("6.4e-05"));
}

#[tokio::test]
async fn a_signed_ping_is_answered_and_an_unknown_key_may_ping() {
    let address = axon(now).await;
    let ping = at("POST /Synapse").signed_for(&miner().ss58(), &stranger());
    let answer = ping.send(address).await;
    assert_eq!((answer.start.as_str(), answer.get("name")), ("HTTP/1.1 200 OK", Some("Synapse")));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(body.get("repo_id").is_none() && body.get("axon").is_some(), "{body}");
}

#[tokio::test]
async fn what_no_dendrite_sends_is_refused_without_a_crash() {
    let deep = "[".repeat(60_000);
    let cases = [
        (fresh().with_body(vec![b' '; 70_000]), "413"),
        (fresh().with_body(deep), "422"),
        (fresh().with_body([0xff, 0xfe]), "422"),
        (fresh().with_body(r#"{"required_hash_fields": ["repo_id"]}"#), "500"),
        (fresh().with_body(r#"{"dendrite": null}"#), "500"),
        (fresh().set("bt_header_dendrite_signature", "0xzz"), "401"),
        (fresh().set("bt_header_dendrite_signature", "0x00"), "401"),
        (fresh().set("timeout", "nan"), "500"),
        (fresh().set("timeout", "-inf"), "500"),
        (aged(30 * SECOND).set("timeout", "1e300"), "200"),
        (aged(70 * SECOND).set("timeout", "1e300"), "401"),
        (fresh().set("timeout", "-1e300"), "401"),
        (fresh().set("header_size", "big"), "500"),
        (fresh().set("bt_header_axon_port", "-1"), "200"),
        (fresh().set("bt_header_dendrite_nonce", "-170141183460469231731687303715884105728"), "401"),
        (fresh().set("bt_header_dendrite_nonce", "170141183460469231731687303715884105727"), "401"),
        (fresh().set("bt_header_dendrite_nonce", "170141183460469231731687303715884105728"), "500"),
        (at("DELETE /"), "404"),
        (at("POST //"), "404"),
        (at("POST /%4dodelQuerySynapse"), "404"),
    ];
    let address = axon(now).await;
    for (i, (request, status)) in cases.into_iter().enumerate() {
        let request = request.set("bt_header_dendrite_uuid", &format!("u{i}"));
        let resign = request.get("bt_header_dendrite_signature").is_some_and(|s| s.len() == 130);
        let answer = if resign { request.signed() } else { request }.send(address).await;
        assert!(answer.start.contains(status), "case {i}: {} instead of {status}", answer.start);
    }
}

#[tokio::test]
async fn a_body_cannot_write_headers() {
    let body = r#"{"dendrite": {"ip": "1\r\nevil: yes"}, "axon": {"hotkey": "ü"}}"#;
    let answer = fresh().with_body(body).send(axon(now).await).await;
    assert_eq!(answer.start, "HTTP/1.1 200 OK");
    assert_eq!((answer.get("evil"), answer.get("bt_header_dendrite_ip")), (None, None));
}

#[tokio::test]
async fn answers_are_replaced_between_two_requests_of_one_connection() {
    let axon = recorded_axon(now);
    let listening = listening(axon.clone()).await;
    let mut stream = TcpStream::connect(listening.address()).await.unwrap();
    let ask = async |stream: &mut TcpStream, uuid: &str| {
        let request = base().set("bt_header_dendrite_uuid", uuid).signed();
        request.send_over(stream).await
    };
    assert!(String::from_utf8(ask(&mut stream, "a").await.body).unwrap().contains("base-eval"));
    axon.answer_with(AxonConfig { model_id: "newer".to_owned(), ..config() });
    let body = String::from_utf8(ask(&mut stream, "b").await.body).unwrap();
    assert!(body.contains(r#""model_id":"newer""#), "{body}");
}

#[tokio::test]
async fn a_stopping_axon_answers_what_is_under_way_and_closes_the_rest() {
    let listening = listening(recorded_axon(now)).await;
    let address = listening.address();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    let whole = fresh().bytes();
    let (first, rest) = whole.split_at(whole.len() - 10);
    busy.write_all(first).await.unwrap();
    // The axon has begun with the second connection when it answers a third.
    assert_eq!(
        at("POST /ModelQuerySynapse").set("bt_header_dendrite_uuid", "u").signed().send(address).await.start,
        "HTTP/1.1 200 OK"
    );
    let stopping = tokio::spawn(listening.stop());
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0, "idle connections are closed");
    busy.write_all(rest).await.unwrap();
    let answer = read_answer(&mut busy).await;
    assert_eq!(answer.start, "HTTP/1.1 200 OK");
    stopping.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let axon = recorded_axon(now);
    let listening = listening(axon.clone()).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_FROM_ONE {
        held.push(TcpStream::connect(listening.address()).await.unwrap());
    }
    let mut one_more = TcpStream::connect(listening.address()).await.unwrap();
    assert_eq!(one_more.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(axon.metrics().render().contains("connections_turned_away_total 1\n"));
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(listening.address()).await.unwrap();
    assert_eq!(fresh().send_over(&mut other).await.start, "HTTP/1.1 200 OK", "another address is served");
}

#[tokio::test(start_paused = true)]
async fn who_sends_too_slowly_is_not_waited_for() {
    let axon = recorded_axon(now);
    let listening = listening(axon.clone()).await;
    let mut silent = TcpStream::connect(listening.address()).await.unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0, "no header in time");
    let mut slow = TcpStream::connect(listening.address()).await.unwrap();
    let whole = fresh().bytes();
    slow.write_all(&whole[..whole.len() - 10]).await.unwrap();
    assert_eq!(read_answer(&mut slow).await.start, "HTTP/1.1 408 Request Timeout");
    assert_eq!(axon.metrics().with_status(408), 1);
}

#[tokio::test]
async fn what_is_counted_can_be_scraped() {
    let axon = recorded_axon(now);
    let listening = listening(axon.clone()).await;
    fresh().send(listening.address()).await;
    at("POST /Nope").send(listening.address()).await;
    let text = axon.metrics().render();
    for line in [
        "deval_axon_requests_total{status=\"200\"} 1",
        "deval_axon_requests_total{status=\"404\"} 1",
        "deval_axon_request_duration_seconds_bucket{le=\"+Inf\"} 2",
        "deval_axon_request_duration_seconds_count 2",
        "deval_axon_panics_total 0",
        "# TYPE deval_axon_request_duration_seconds histogram",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    assert_eq!(axon.metrics().requests(), 2);
}

#[tokio::test]
async fn the_second_port_tells_how_the_axon_stands() {
    let subnet = Arc::new(Subnet::of([]));
    let axon = Axon::new(config(), subnet.clone(), now);
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = monitor(axon, subnet.clone(), &miner().ss58());
    tokio::spawn(serve_monitor(listener, router));
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, body) = get("/health").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("hotkeys.unknown"), "{body}");
    let known = Subnet::of([miner().ss58()]);
    known.chain_answers(true);
    known.announced(true);
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let known = Arc::new(known);
    let router = monitor(Axon::new(config(), known.clone(), now), known, &miner().ss58());
    tokio::spawn(serve_monitor(listener, router));
    let health: serde_json::Value =
        reqwest::get(format!("http://{address}/health")).await.unwrap().json().await.unwrap();
    assert_eq!((&health["serving"], &health["reasons"]), (&true.into(), &serde_json::json!([])));
    let metrics = reqwest::get(format!("http://{address}/metrics")).await.unwrap();
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4");
    let text = metrics.text().await.unwrap();
    assert!(text.contains("deval_axon_registered_hotkeys 1\n") && text.contains("deval_axon_announced 1\n"), "{text}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = axon(now).await;
    let error = crate::bind(taken).await.unwrap_err().to_string();
    assert!(error.contains(&taken.to_string()) && error.contains("another program"), "{error}");
}
