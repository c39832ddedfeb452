//! The question as a validator's dendrite asks it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Uri};
use deval_chain::KeyPair;
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::Formatter;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::AxonError;
use crate::server::system_clock;
use crate::synapse::{
    self, BITTENSOR_VERSION, BODY_HASH, EMPTY_BODY_HASH, MODEL_QUERY, ModelFields, SynapseBody, Terminal, python_float,
};

/// What bittensor 9.0.1 measures as the sizes of this synapse: of Python's objects, and without a meaning to anyone.
const HEADER_SIZE: i64 = 464;
const TOTAL_SIZE: i64 = 3142;
/// An answer is below one kilobyte.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// What a validator's dendrite takes from the axon's answer.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ModelQueryReply {
    /// Owner of the model repository; empty unless the status is 200.
    pub repo_id: String,
    /// Name of the model repository; empty unless the status is 200.
    pub model_id: String,
    /// The axon's status.
    pub status_code: i64,
    /// The axon's words for it.
    pub status_message: String,
    /// From connecting to the last byte.
    pub seconds: f64,
}

impl ModelQueryReply {
    /// Where the model is, as a validator puts it together: `namespace/name`.
    pub fn model_url(&self) -> String {
        format!("{}/{}", self.repo_id, self.model_id)
    }
}

/// Asks an axon which model it submits. A refusal is a reply, as it is for a validator.
///
/// # Errors
/// [`AxonError::Unreachable`], [`AxonError::Timeout`], and [`AxonError::BadAnswer`] where upstream's dendrite reports 422.
pub async fn query(
    axon: SocketAddr,
    axon_hotkey: &str,
    validator: &KeyPair,
    timeout: Duration,
) -> Result<ModelQueryReply, AxonError> {
    let question = Question {
        axon,
        axon_hotkey,
        timeout,
        nonce: system_clock().into(),
        uuid: Uuid::new_v4().to_string(),
        own_ip: "0.0.0.0",
    };
    let (headers, body) = question.sign(validator);
    let started = Instant::now();
    let exchanged = tokio::time::timeout(timeout, exchange(axon, headers, body)).await;
    let late = |_| AxonError::Timeout { address: axon, seconds: timeout.as_secs_f64() };
    let (status, headers, answer) = exchanged.map_err(late)??;
    read_reply(axon, status, &headers, &answer, started.elapsed().as_secs_f64())
}

/// One request over a connection of its own. Validators use plain HTTP, so a client with TLS would be memory for nothing.
async fn exchange(
    axon: SocketAddr,
    mut headers: HeaderMap,
    body: Vec<u8>,
) -> Result<(u16, HeaderMap, Vec<u8>), AxonError> {
    let failed = |error: &dyn std::error::Error| AxonError::Unreachable { address: axon, reason: innermost(error) };
    let host = HeaderValue::try_from(axon.to_string()).expect("an address is a header's value");
    headers.insert(HOST, host);
    let mut request = Request::new(Body::from(body));
    (*request.method_mut(), *request.headers_mut()) = (Method::POST, headers);
    *request.uri_mut() = Uri::try_from(format!("/{MODEL_QUERY}")).expect("a path");
    let stream = TcpStream::connect(axon).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    // It ends with the sender, which this future owns.
    tokio::spawn(connection);
    let (parts, mut body) = sender.send_request(request).await.map_err(|error| failed(&error))?.into_parts();
    let mut answer = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| failed(&error))?;
        answer.extend_from_slice(&frame.into_data().unwrap_or_default());
        if answer.len() > LARGEST_ANSWER {
            return Err(bad(axon, format!("it is longer than {LARGEST_ANSWER} bytes")));
        }
    }
    Ok((parts.status.as_u16(), parts.headers, answer))
}

/// One signed question. The parts that differ from one to the next are given, so that the bytes can be tested.
pub(crate) struct Question<'a> {
    pub(crate) axon: SocketAddr,
    pub(crate) axon_hotkey: &'a str,
    pub(crate) timeout: Duration,
    pub(crate) nonce: i128,
    pub(crate) uuid: String,
    pub(crate) own_ip: &'a str,
}

impl Question<'_> {
    fn sign(&self, validator: &KeyPair) -> (HeaderMap, Vec<u8>) {
        let hotkey = validator.ss58();
        let signature = self.signature(&hotkey, validator);
        self.build(hotkey, signature, EMPTY_BODY_HASH.to_owned())
    }

    /// The signature of `key` under this question from `hotkey`, as it is sent.
    pub(crate) fn signature(&self, hotkey: &str, key: &KeyPair) -> String {
        let message = synapse::signed_message(self.nonce, hotkey, self.axon_hotkey, &self.uuid, EMPTY_BODY_HASH);
        format!("0x{}", hex::encode(key.sign(message.as_bytes())))
    }

    pub(crate) fn build(&self, hotkey: String, signature: String, hash: String) -> (HeaderMap, Vec<u8>) {
        let axon = Terminal {
            ip: Some(self.axon.ip().to_string()),
            port: Some(self.axon.port().into()),
            hotkey: Some(self.axon_hotkey.to_owned()),
            ..Terminal::default()
        };
        let dendrite = Terminal {
            ip: Some(self.own_ip.to_owned()),
            version: Some(BITTENSOR_VERSION),
            nonce: Some(self.nonce),
            uuid: Some(self.uuid.clone()),
            hotkey: Some(hotkey),
            signature: Some(signature),
            ..Terminal::default()
        };
        (self.headers(&axon, &dendrite, hash), self.body(&axon, &dendrite))
    }

    fn headers(&self, axon: &Terminal, dendrite: &Terminal, hash: String) -> HeaderMap {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let mut pairs =
            vec![pair("name", MODEL_QUERY.to_owned()), pair("timeout", python_float(self.timeout.as_secs_f64()))];
        pairs.extend(axon.headers("axon"));
        pairs.extend(dendrite.headers("dendrite"));
        pairs.push(pair("header_size", HEADER_SIZE.to_string()));
        pairs.push(pair("total_size", TOTAL_SIZE.to_string()));
        pairs.push((BODY_HASH.to_owned(), hash));
        pairs.push(pair("content-type", "application/json".to_owned()));
        let mut headers = HeaderMap::new();
        synapse::extend(&mut headers, pairs);
        headers
    }

    fn body(&self, axon: &Terminal, dendrite: &Terminal) -> Vec<u8> {
        let body = SynapseBody {
            name: MODEL_QUERY,
            timeout: Some(self.timeout.as_secs_f64()),
            total_size: Some(TOTAL_SIZE),
            header_size: Some(0),
            dendrite,
            axon,
            computed_body_hash: Some(""),
            model: Some(ModelFields { required_hash_fields: &[], repo_id: "", model_id: "" }),
        };
        let mut bytes = Vec::new();
        let mut writer = serde_json::Serializer::with_formatter(&mut bytes, PythonSeparators);
        body.serialize(&mut writer).expect("a synapse is text and numbers, and memory takes it");
        bytes
    }
}

/// `json.dumps` separates with `", "` and `": "`.
struct PythonSeparators;

impl Formatter for PythonSeparators {
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

/// Upstream's `process_server_response`: fields from the body of a 200 only; the status from the headers, which win, or the body.
fn read_reply(
    axon: SocketAddr,
    status: u16,
    headers: &HeaderMap,
    answer: &[u8],
    seconds: f64,
) -> Result<ModelQueryReply, AxonError> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.starts_with("application/json") {
        return Err(bad(
            axon,
            format!("status {status} with content type `{content_type}` instead of application/json"),
        ));
    }
    let json: Value =
        serde_json::from_slice(answer).map_err(|e| bad(axon, format!("status {status}, not JSON: {e}")))?;
    let told = Terminal::from_headers(headers, "axon").unwrap_or_default();
    let field = |name: &str| match (status, &json[name]) {
        (200, Value::String(text)) => Ok(text.clone()),
        (200, other) => Err(bad(axon, format!("`{name}` is {other} instead of a string"))),
        _ => Ok(String::new()),
    };
    let body_message = json["message"].as_str().or(json["axon"]["status_message"].as_str());
    Ok(ModelQueryReply {
        repo_id: field("repo_id")?,
        model_id: field("model_id")?,
        status_code: told.status_code.or(json["axon"]["status_code"].as_i64()).unwrap_or(status.into()),
        status_message: told.status_message.or(body_message.map(str::to_owned)).unwrap_or_default(),
        seconds,
    })
}

fn bad(address: SocketAddr, reason: String) -> AxonError {
    AxonError::BadAnswer { address, reason }
}

/// hyper's own text hides why; its source says "Connection refused".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests;
