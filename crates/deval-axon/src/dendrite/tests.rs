use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Question, query};
use crate::AxonError;
use sha3::{Digest, Sha3_256};

use crate::synapse::EMPTY_BODY_HASH;
use crate::system_clock;
use crate::testing::{Message, RECORDED, axon, miner, stranger, validator};

const TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn the_question_is_the_recorded_one_to_the_byte() {
    let recorded = Message::recorded_request();
    let hotkey = miner().ss58();
    let question = Question {
        axon: "127.0.0.1:18092".parse().unwrap(),
        axon_hotkey: &hotkey,
        timeout: TIMEOUT,
        nonce: RECORDED,
        uuid: recorded.get("bt_header_dendrite_uuid").unwrap().to_owned(),
        own_ip: "203.0.113.7",
    };
    let signature = recorded.get("bt_header_dendrite_signature").unwrap().to_owned();
    let (headers, body) = question.build(validator().ss58(), signature, EMPTY_BODY_HASH.to_owned());
    assert_eq!(String::from_utf8(body).unwrap(), String::from_utf8(recorded.body.clone()).unwrap());
    // What the HTTP client adds by itself is not the dendrite's.
    let client = ["Host", "Accept", "Accept-Encoding", "User-Agent", "Content-Length"];
    let wanted = recorded.headers.iter().filter(|(name, _)| !client.contains(&name.as_str()));
    let wanted: Vec<_> = wanted.map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    let sent: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    assert_eq!(sent, wanted);
    assert_eq!(EMPTY_BODY_HASH, hex::encode(Sha3_256::digest("")));
}

#[tokio::test]
async fn a_validator_reads_the_model_and_a_stranger_is_refused() {
    let address = axon(system_clock).await;
    let reply = query(address, &miner().ss58(), &validator(), TIMEOUT).await.unwrap();
    assert_eq!((reply.repo_id.as_str(), reply.model_id.as_str()), ("deval-core", "base-eval"));
    assert_eq!((reply.status_code, reply.status_message.as_str()), (200, "Success"));
    assert!(reply.seconds < 2.0, "{}", reply.seconds);

    let refused = query(address, &miner().ss58(), &stranger(), TIMEOUT).await.unwrap();
    assert_eq!((refused.repo_id.as_str(), refused.status_code), ("", 403));
    assert!(refused.status_message.contains("blacklisted"));
    let mistaken = query(address, &stranger().ss58(), &validator(), TIMEOUT).await.unwrap();
    assert_eq!(mistaken.status_code, 401);
}

/// Answers everything with the same bytes.
async fn always(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 8192]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

async fn ask(answer: &'static str) -> Result<super::ModelQueryReply, AxonError> {
    query(always(answer).await, &miner().ss58(), &validator(), TIMEOUT).await
}

#[tokio::test]
async fn what_is_no_axon_is_named() {
    let text = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n{}";
    let no_json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n<>";
    let null = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 29\r\n\r\n{\"repo_id\":null,\"model_id\":1}";
    for (answer, reason) in [(text, "content type"), (no_json, "not JSON"), (null, "`repo_id` is null")] {
        let error = ask(answer).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let bare = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 30\r\n\r\n{\"repo_id\":\"o\",\"model_id\":\"m\"}";
    assert_eq!(ask(bare).await.unwrap().model_id, "m");
}

#[tokio::test]
async fn silence_and_a_closed_port_are_errors_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let error = query(address, &miner().ss58(), &validator(), Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, AxonError::Timeout { .. }), "{error}");
    drop(silent);
    let error = query(address, &miner().ss58(), &validator(), TIMEOUT).await.unwrap_err();
    assert!(matches!(error, AxonError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}
