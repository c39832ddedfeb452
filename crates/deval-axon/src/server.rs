//! The axon: bittensor's order of checks, statuses, headers and bodies.
//!
//! Path, headers, blacklist, signature and nonce, route, body, answer. Differences from bittensor 9.0.1, each on purpose:
//! age and future of a nonce are always limited (see [`crate::nonce`]), connections, headers and bodies are limited in number,
//! size and time (see [`listen`]), and refusals are not signed. Upstream signs a text with two hotkeys as the caller wrote them,
//! and nobody checks that signature: a key that signs strangers' words is a risk for nothing.

mod listen;
mod refusal;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use deval_chain::verify;
use uuid::Uuid;

pub use self::listen::{Listening, bind};
use self::refusal::{Refusal, internal_error, plain, redirect};
use crate::metrics::Metrics;
use crate::nonce::{Claim, NonceTable};
use crate::subnet::Subnet;
use crate::synapse::{
    self, BITTENSOR_VERSION, BODY_HASH, EMPTY_BODY_HASH, MODEL_QUERY, ModelFields, PING, RequestBody, SynapseBody,
    Terminal, Unparsable,
};

/// A `ModelQuerySynapse` is below one kilobyte.
const LARGEST_BODY: usize = 64 * 1024;
/// From the last header to the last byte of the body; a validator waits 5 s for the whole.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// What the axon answers with.
#[derive(Debug, Clone)]
pub struct AxonConfig {
    /// The miner's hotkey: requests must be signed for it.
    pub hotkey_ss58: String,
    /// Owner of the model repository.
    pub repo_id: String,
    /// Name of the model repository.
    pub model_id: String,
}

/// The axon. Clones are the same axon, so its answers can be replaced while it serves.
#[derive(Clone)]
pub struct Axon(Arc<Inner>);

struct Inner {
    config: RwLock<Arc<AxonConfig>>,
    subnet: Arc<Subnet>,
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    nonces: NonceTable,
    /// Upstream names every axon process.
    uuid: String,
    metrics: Metrics,
}

/// Nanoseconds since 1970, by the system's clock.
pub fn system_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A request whose headers could be read.
struct Call {
    synapse: &'static str,
    timeout: Option<f64>,
    body_hash: Option<String>,
    dendrite: Terminal,
    axon: Terminal,
}

impl Axon {
    /// An axon that answers the hotkeys of `subnet`. `clock` tells nanoseconds since 1970 ([`system_clock`] outside tests).
    pub fn new(config: AxonConfig, subnet: Arc<Subnet>, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            config: RwLock::new(Arc::new(config)),
            subnet,
            clock: Box::new(clock),
            nonces: NonceTable::default(),
            uuid: Uuid::new_v4().to_string(),
            metrics: Metrics::default(),
        }))
    }

    /// Answers with this from the next request on; requests under way keep what they began with.
    pub fn answer_with(&self, config: AxonConfig) {
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// What was counted.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Answers one request.
    pub(crate) async fn respond(&self, peer: SocketAddr, request: Request) -> Response {
        let (started, (parts, body)) = ((self.0.clock)(), request.into_parts());
        let config = self.0.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let exchange = Exchange { axon: &self.0, config: &config, peer, started };
        let answering = exchange.respond(&parts, body);
        let late = |_| plain(StatusCode::REQUEST_TIMEOUT, "Request timed out");
        let response = tokio::time::timeout(REQUEST_TIME, answering).await.unwrap_or_else(late);
        self.0.metrics.answered(response.status().as_u16(), exchange.seconds());
        response
    }
}

/// One request, with what does not change while it is answered.
struct Exchange<'a> {
    axon: &'a Inner,
    config: &'a AxonConfig,
    peer: SocketAddr,
    /// By the axon's clock, as [`Exchange::seconds`].
    started: u64,
}

impl Exchange<'_> {
    async fn respond(&self, parts: &Parts, body: Body) -> Response {
        let answered = match self.admit(parts) {
            Ok(call) => self.route(call, parts, body).await,
            Err(refusal) => Err(refusal),
        };
        answered.unwrap_or_else(|refusal| refusal.into_response(self.seconds()))
    }

    fn seconds(&self) -> f64 {
        Duration::from_nanos((self.axon.clock)().saturating_sub(self.started)).as_secs_f64()
    }

    /// Everything that is decided without the body.
    fn admit(&self, parts: &Parts) -> Result<Call, Refusal> {
        let name = parts.uri.path().split('/').nth(1).unwrap_or_default();
        let Some(synapse) = [PING, MODEL_QUERY].into_iter().find(|known| *known == name) else {
            return Err(Refusal::unknown_synapse(name));
        };
        let call = self.read_headers(parts, synapse).map_err(|Unparsable| internal_error(None))?;
        let known = call.dendrite.hotkey.as_deref().is_some_and(|hotkey| self.axon.subnet.is_registered(hotkey));
        if synapse == MODEL_QUERY && !known {
            let message = "Forbidden. Key is blacklisted: Unrecognized hotkey.".to_owned();
            return Err(Refusal::of(call, StatusCode::FORBIDDEN, message));
        }
        match self.verify(&call) {
            Ok(()) => Ok(call),
            Err(reason) => {
                Err(Refusal::of(call, StatusCode::UNAUTHORIZED, format!("Not Verified with error: {reason}")))
            }
        }
    }

    fn read_headers(&self, parts: &Parts, synapse: &'static str) -> Result<Call, Unparsable> {
        let headers = &parts.headers;
        synapse::check_sizes(headers)?;
        let mut axon = Terminal::from_headers(headers, "axon")?;
        axon.version = Some(BITTENSOR_VERSION);
        axon.nonce = Some(self.started.into());
        axon.uuid = Some(self.axon.uuid.clone());
        let mut dendrite = Terminal::from_headers(headers, "dendrite")?;
        dendrite.ip = Some(self.peer.ip().to_string());
        dendrite.port = Some(self.peer.port().into());
        let body_hash = synapse::header(headers, BODY_HASH)?.map(str::to_owned);
        Ok(Call { synapse, timeout: synapse::float(headers, "timeout")?, body_hash, dendrite, axon })
    }

    /// Upstream's `default_verify`; the error is its message.
    fn verify(&self, call: &Call) -> Result<(), String> {
        let Some(hotkey) = call.dendrite.hotkey.as_deref() else {
            return Err("No SS58 formatted address or public key provided.".to_owned());
        };
        let public = self.axon.subnet.account(hotkey).ok_or("Invalid SS58 address.")?;
        let nonce = call.dendrite.nonce.ok_or("Missing Nonce")?;
        let uuid = call.dendrite.uuid.as_deref().unwrap_or("None");
        let timeout = call.timeout.unwrap_or(0.0);
        let claim = Claim { hotkey: public, uuid, nonce, now: self.started.into(), timeout };
        self.axon.nonces.check(&claim)?;
        let body_hash = call.body_hash.as_deref().unwrap_or("None");
        let message = synapse::signed_message(nonce, hotkey, &self.config.hotkey_ss58, uuid, body_hash);
        let text = call.dendrite.signature.as_deref();
        let text = text.ok_or("Unsupported signature format. Expected str or bytes.")?;
        let bytes = text.strip_prefix("0x").and_then(|digits| hex::decode(digits).ok());
        let bytes = bytes.ok_or("Invalid signature format. Expected hex string.")?;
        let signature = <[u8; 64]>::try_from(bytes);
        if !signature.is_ok_and(|signature| verify(&signature, message.as_bytes(), &public)) {
            return Err(format!("Signature mismatch with {message} and {text}"));
        }
        // A ping changes nothing and anybody may send it: only those whom the axon answers fill the table.
        if call.synapse == PING { claim.fresh() } else { self.axon.nonces.accept(&claim) }
    }

    async fn route(&self, call: Call, parts: &Parts, body: Body) -> Result<Response, Refusal> {
        let rest = parts.uri.path().strip_prefix('/').and_then(|path| path.strip_prefix(call.synapse));
        match rest {
            Some("") if parts.method == Method::POST || parts.method == Method::GET => {}
            Some("") => return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")),
            Some("/") => return Ok(redirect(parts, call.synapse)),
            _ => return Ok(plain(StatusCode::NOT_FOUND, "Not Found")),
        }
        match to_bytes(body, LARGEST_BODY).await {
            Ok(body) => self.answer(call, &body),
            Err(_) => Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large")),
        }
    }

    fn answer(&self, call: Call, body: &Bytes) -> Result<Response, Refusal> {
        if body.is_empty() {
            return Err(internal_error(Some(call)));
        }
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else { return Ok(refusal::not_json()) };
        let shape = json.is_object().then(|| serde_json::from_value::<RequestBody>(json).ok()).flatten();
        // De-Val's class hashes no field; a body that asks for one is of another protocol.
        let right_hash = call.body_hash.as_deref() == Some(EMPTY_BODY_HASH);
        let hashed = |body: &RequestBody| body.required_hash_fields.is_empty() && right_hash;
        let Some(mut request) = shape.filter(hashed) else { return Err(internal_error(Some(call))) };
        request.axon.status_code = Some(200);
        request.axon.status_message = Some("Success".to_owned());
        request.axon.process_time = Some(self.seconds());
        let body = self.reply_body(call.synapse, &request);
        let mut headers = content_headers(body.len());
        synapse_headers(&mut headers, call.synapse, request.timeout, &request.axon, &request.dendrite, body.len());
        Ok(respond(StatusCode::OK, headers, body))
    }

    fn reply_body(&self, synapse: &str, request: &RequestBody) -> Vec<u8> {
        let model = (synapse == MODEL_QUERY).then_some(ModelFields {
            required_hash_fields: &request.required_hash_fields,
            repo_id: &self.config.repo_id,
            model_id: &self.config.model_id,
        });
        let reply = SynapseBody {
            name: synapse,
            timeout: request.timeout,
            total_size: request.total_size,
            header_size: request.header_size,
            dendrite: &request.dendrite,
            axon: &request.axon,
            computed_body_hash: request.computed_body_hash.as_deref(),
            model,
        };
        serde_json::to_vec(&reply).expect("a synapse is text and numbers")
    }
}

fn content_headers(length: usize) -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    HeaderMap::from_iter([(CONTENT_LENGTH, length.into()), (CONTENT_TYPE, json)])
}

/// Upstream's `Synapse.to_headers`.
fn synapse_headers(
    headers: &mut HeaderMap,
    name: &str,
    timeout: Option<f64>,
    axon: &Terminal,
    dendrite: &Terminal,
    body_length: usize,
) {
    let timeout = timeout.map_or("None".to_owned(), synapse::python_float);
    let mut pairs = vec![("name".to_owned(), name.to_owned()), ("timeout".to_owned(), timeout)];
    pairs.extend(axon.headers("axon"));
    pairs.extend(dendrite.headers("dendrite"));
    let size: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    // Where upstream refuses, its own signature is among the headers.
    let entries = pairs.len() + usize::from(axon.uuid.is_some());
    pairs.push(("header_size".to_owned(), synapse::python_size_of_dict(entries).to_string()));
    pairs.push(("total_size".to_owned(), (size + body_length).to_string()));
    pairs.push((BODY_HASH.to_owned(), EMPTY_BODY_HASH.to_owned()));
    synapse::extend(headers, pairs);
}

fn respond(status: StatusCode, headers: HeaderMap, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests;
