//! A recorded exchange with bittensor 9.0.1's axon, changed and signed again at will, over a real socket.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use deval_chain::KeyPair;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::synapse::signed_message;
use crate::{Axon, AxonConfig, Listening, Subnet, bind};

/// The nonce of the recorded request.
pub(crate) const RECORDED: i128 = 1_795_378_652_026_904_752;
pub(crate) const SECOND: i128 = 1_000_000_000;

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/axon").join(name)).unwrap()
}

// Deriving a key takes its time, so each is derived once.
static MINER: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::from_uri("//Alice//miner").unwrap());
static VALIDATOR: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::from_uri("//Bob//vali").unwrap());
static STRANGER: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::from_uri("//Charlie").unwrap());

pub(crate) fn miner() -> KeyPair {
    MINER.clone()
}

pub(crate) fn validator() -> KeyPair {
    VALIDATOR.clone()
}

pub(crate) fn stranger() -> KeyPair {
    STRANGER.clone()
}

/// What the recorded axon answered with.
pub(crate) fn config() -> AxonConfig {
    AxonConfig { hotkey_ss58: miner().ss58(), repo_id: "deval-core".to_owned(), model_id: "base-eval".to_owned() }
}

/// An axon as the recorded one, with a clock; it knows the recorded validator only.
pub(crate) fn recorded_axon(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Axon {
    Axon::new(config(), Arc::new(Subnet::of([validator().ss58()])), clock)
}

pub(crate) async fn listening(axon: Axon) -> Listening {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    Listening::start(listener, address, axon)
}

/// The address of a [`recorded_axon`] that answers as long as the test runs.
pub(crate) async fn axon(clock: impl Fn() -> u64 + Send + Sync + 'static) -> SocketAddr {
    let listening = listening(recorded_axon(clock)).await;
    let address = listening.address();
    std::mem::forget(listening);
    address
}

/// An HTTP message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        Self::of_head(head, bytes[end + 4..].to_vec())
    }

    pub(crate) fn of_head(head: &str, body: Vec<u8>) -> Self {
        let mut lines = head.lines();
        let start = lines.next().unwrap().to_owned();
        let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap();
        Self { start, headers: lines.map(header).collect(), body }
    }

    pub(crate) fn recorded_request() -> Self {
        Self::parse(&fixture("request.bin"))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        match self.headers.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self
    }

    pub(crate) fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.set("Content-Length", &length)
    }

    /// Signs as a dendrite would: over what the headers say, for the given axon.
    pub(crate) fn signed_for(self, axon_hotkey: &str, key: &KeyPair) -> Self {
        let nonce = self.get("bt_header_dendrite_nonce").and_then(|nonce| nonce.parse().ok()).unwrap_or(RECORDED);
        let uuid = self.get("bt_header_dendrite_uuid").unwrap_or("None");
        let hash = self.get("computed_body_hash").unwrap_or("None");
        let message = signed_message(nonce, &key.ss58(), axon_hotkey, uuid, hash);
        let signature = format!("0x{}", hex::encode(key.sign(message.as_bytes())));
        self.set("bt_header_dendrite_hotkey", &key.ss58()).set("bt_header_dendrite_signature", &signature)
    }

    pub(crate) fn signed(self) -> Self {
        self.signed_for(&miner().ss58(), &validator())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let head = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>();
        [format!("{}\r\n{head}\r\n", self.start).as_bytes(), &self.body].concat()
    }

    pub(crate) async fn send(&self, address: SocketAddr) -> Self {
        send_raw(address, &self.bytes()).await
    }

    pub(crate) async fn send_over(&self, stream: &mut TcpStream) -> Self {
        stream.write_all(&self.bytes()).await.unwrap();
        read_answer(stream).await
    }
}

/// Sends bytes and reads one answer.
pub(crate) async fn send_raw(address: SocketAddr, bytes: &[u8]) -> Message {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_answer(&mut stream).await
}

/// Reads one answer.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> Message {
    let mut answer = Vec::new();
    loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            let message = Message::parse(&answer);
            let length: usize = message.get("content-length").unwrap().parse().unwrap();
            if answer.len() == end + 4 + length {
                return message;
            }
        }
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
    }
}
