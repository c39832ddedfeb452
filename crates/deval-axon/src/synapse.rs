//! What travels: bittensor's synapse in headers and in JSON.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// What bittensor 9.0.1 calls itself in numbers.
pub(crate) const BITTENSOR_VERSION: i64 = 9_000_001;
/// The class De-Val asks with; it is also the path.
pub(crate) const MODEL_QUERY: &str = "ModelQuerySynapse";
/// bittensor's base class, which every axon answers too.
pub(crate) const PING: &str = "Synapse";
/// Where axons and dendrites carry the body's hash.
pub(crate) const BODY_HASH: &str = "computed_body_hash";

/// Upstream's default `timeout` of a synapse, in seconds.
pub(crate) const DEFAULT_TIMEOUT: f64 = 12.0;

/// sha3-256 of nothing, in hexadecimal: De-Val's synapse requires no field to be hashed.
pub(crate) const EMPTY_BODY_HASH: &str = "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a";

/// The text both sides sign or verify.
pub(crate) fn signed_message(nonce: i128, dendrite: &str, axon: &str, uuid: &str, body_hash: &str) -> String {
    format!("{nonce}.{dendrite}.{axon}.{uuid}.{body_hash}")
}

/// One end of a call (upstream's `TerminalInfo`).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Terminal {
    pub(crate) status_code: Option<i64>,
    pub(crate) status_message: Option<String>,
    pub(crate) process_time: Option<f64>,
    pub(crate) ip: Option<String>,
    pub(crate) port: Option<i64>,
    pub(crate) version: Option<i64>,
    pub(crate) nonce: Option<i128>,
    pub(crate) uuid: Option<String>,
    pub(crate) hotkey: Option<String>,
    pub(crate) signature: Option<String>,
}

/// A header that must hold a number holds something else, or any header is not text.
#[derive(Debug)]
pub(crate) struct Unparsable;

impl Terminal {
    /// Reads `bt_header_{side}_…`.
    pub(crate) fn from_headers(headers: &HeaderMap, side: &str) -> Result<Self, Unparsable> {
        let name = |field: &str| format!("bt_header_{side}_{field}");
        let text = |field| header(headers, &name(field)).map(|value| value.map(str::to_owned));
        let integer = |field| number(headers, &name(field));
        Ok(Self {
            status_code: integer("status_code")?,
            status_message: text("status_message")?,
            process_time: float(headers, &name("process_time"))?,
            ip: text("ip")?,
            port: integer("port")?,
            version: integer("version")?,
            nonce: number(headers, &name("nonce"))?,
            uuid: text("uuid")?,
            hotkey: text("hotkey")?,
            signature: text("signature")?,
        })
    }

    /// Writes what is there, in upstream's order.
    pub(crate) fn headers(&self, side: &str) -> Vec<(String, String)> {
        let fields = [
            ("status_code", self.status_code.map(|v| v.to_string())),
            ("status_message", self.status_message.clone()),
            ("process_time", self.process_time.map(python_float)),
            ("ip", self.ip.clone()),
            ("port", self.port.map(|v| v.to_string())),
            ("version", self.version.map(|v| v.to_string())),
            ("nonce", self.nonce.map(|v| v.to_string())),
            ("uuid", self.uuid.clone()),
            ("hotkey", self.hotkey.clone()),
            ("signature", self.signature.clone()),
        ];
        let present = fields.into_iter().filter_map(|(field, value)| Some((field, value?)));
        present.map(|(field, value)| (format!("bt_header_{side}_{field}"), value)).collect()
    }
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Unparsable> {
    headers.get(name).map(HeaderValue::to_str).transpose().map_err(|_| Unparsable)
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Result<Option<T>, Unparsable> {
    header(headers, name)?.map(str::parse).transpose().map_err(|_| Unparsable)
}

pub(crate) fn float(headers: &HeaderMap, name: &str) -> Result<Option<f64>, Unparsable> {
    match number::<f64>(headers, name)? {
        Some(value) if !value.is_finite() => Err(Unparsable),
        value => Ok(value),
    }
}

/// Sizes are Python's object sizes upstream: numbers nobody reads, but both sides parse them.
pub(crate) fn check_sizes(headers: &HeaderMap) -> Result<(), Unparsable> {
    number::<i128>(headers, "header_size")?;
    number::<i128>(headers, "total_size")?;
    Ok(())
}

/// `sys.getsizeof` of a dict of strings with so many entries, in Python 3.11: what upstream calls the size of its headers.
pub(crate) fn python_size_of_dict(entries: usize) -> usize {
    match entries {
        0 => 64,
        1..=5 => 184,
        6..=10 => 272,
        11..=21 => 464,
        _ => 832,
    }
}

/// `str` of a Python float, for the values that occur here.
pub(crate) fn python_float(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once("e-") {
        Some((digits, exponent)) => format!("{digits}e-{exponent:0>2}"),
        None => text,
    }
}

/// Adds the headers that are valid; a body's text that is none cannot be repeated in a header.
pub(crate) fn extend(headers: &mut HeaderMap, pairs: impl IntoIterator<Item = (String, String)>) {
    for (name, value) in pairs {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
}

/// The JSON of a request. Unknown keys are ignored, as upstream ignores them.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct RequestBody {
    pub(crate) timeout: Option<f64>,
    pub(crate) total_size: Option<i64>,
    pub(crate) header_size: Option<i64>,
    pub(crate) dendrite: Terminal,
    pub(crate) axon: Terminal,
    pub(crate) computed_body_hash: Option<String>,
    pub(crate) required_hash_fields: Vec<String>,
    pub(crate) repo_id: String,
    pub(crate) model_id: String,
}

impl Default for RequestBody {
    fn default() -> Self {
        Self {
            timeout: Some(DEFAULT_TIMEOUT),
            total_size: Some(0),
            header_size: Some(0),
            dendrite: Terminal::default(),
            axon: Terminal::default(),
            computed_body_hash: Some(String::new()),
            required_hash_fields: Vec::new(),
            repo_id: String::new(),
            model_id: String::new(),
        }
    }
}

/// The JSON of a synapse, in upstream's key order.
#[derive(Debug, Serialize)]
pub(crate) struct SynapseBody<'a> {
    pub(crate) name: &'a str,
    pub(crate) timeout: Option<f64>,
    pub(crate) total_size: Option<i64>,
    pub(crate) header_size: Option<i64>,
    pub(crate) dendrite: &'a Terminal,
    pub(crate) axon: &'a Terminal,
    pub(crate) computed_body_hash: Option<&'a str>,
    #[serde(flatten)]
    pub(crate) model: Option<ModelFields<'a>>,
}

/// What De-Val's class adds to the base class.
#[derive(Debug, Serialize)]
pub(crate) struct ModelFields<'a> {
    pub(crate) required_hash_fields: &'a [String],
    pub(crate) repo_id: &'a str,
    pub(crate) model_id: &'a str,
}
