//! Load for an axon: questions signed beforehand and sent over kept connections, and questions that must not be answered.
//!
//! What is sent is put together before the clock runs, so that the axon is what is measured.

mod malformed;
mod wire;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use deval_chain::KeyPair;

pub use self::malformed::{Malformed, Refusals, malformed, refuse};
use self::wire::{Connection, request_bytes};
use crate::dendrite::Question;
use crate::synapse::EMPTY_BODY_HASH;
use crate::system_clock;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Nonces are ahead of the clock, so that questions stay fresh while others are signed and sent. An axon takes up to 300 s.
const AHEAD: Duration = Duration::from_secs(240);

/// Method and path of a question.
const START: &str = "POST /ModelQuerySynapse";

/// The axon under load.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its hotkey (SS58).
    pub hotkey: String,
}

/// Questions of one dendrite that differ in nonce and signature. They must be sent within four minutes.
#[derive(Debug, Clone)]
pub struct Questions {
    target: Target,
    /// A whole request, with the first question's nonce and signature.
    template: Vec<u8>,
    /// Where nonces and signatures stand in it.
    nonce_places: Vec<usize>,
    signature_places: Vec<usize>,
    signed: Vec<(String, String)>,
}

/// What came of a load.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Questions answered with 200 and the model.
    pub answered: u64,
    /// Questions answered with anything else, or not at all.
    pub failed: u64,
    /// The first of these.
    pub first_failure: Option<String>,
    /// From the first question to the last answer.
    pub seconds: f64,
    /// Of each answered question, in microseconds, sorted.
    pub microseconds: Vec<u32>,
}

impl Questions {
    /// Signs so many questions of the dendrite `uuid`.
    pub fn sign(target: &Target, validator: &KeyPair, uuid: &str, count: usize) -> Self {
        let first = i128::from(system_clock()) + AHEAD.as_nanos() as i128;
        let hotkey = validator.ss58();
        let mut question = question(target, first, uuid);
        let signed: Vec<_> = (0..count as i128)
            .map(|number| {
                question.nonce = first + number;
                (question.nonce.to_string(), question.signature(&hotkey, validator))
            })
            .collect();
        question.nonce = first;
        let any = signed.first().map_or_else(|| "0x".to_owned(), |(_, signature)| signature.clone());
        let (headers, body) = question.build(hotkey, any.clone(), EMPTY_BODY_HASH.to_owned());
        let pairs = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let template = request_bytes(START, target, pairs, &body);
        let places = |text: &str| places(&template, text.as_bytes());
        let (nonce_places, signature_places) = (places(&first.to_string()), places(&any));
        Self { target: target.clone(), template, nonce_places, signature_places, signed }
    }

    fn write(&self, number: usize, request: &mut [u8]) {
        let (nonce, signature) = &self.signed[number];
        let mut put = |places: &[usize], text: &str| {
            places.iter().for_each(|place| request[*place..place + text.len()].copy_from_slice(text.as_bytes()));
        };
        put(&self.nonce_places, nonce);
        put(&self.signature_places, signature);
    }

    /// One question after another over one connection, until all are sent or the time is over.
    async fn ask(self, until: Option<Instant>) -> Load {
        let (mut load, mut request) = (Load::default(), self.template.clone());
        let mut connection = None;
        for number in 0..self.signed.len() {
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            self.write(number, &mut request);
            let started = Instant::now();
            match ask_once(&mut connection, self.target.address, &request).await {
                Ok(()) => {
                    load.answered += 1;
                    load.microseconds.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                Err(reason) => {
                    load.failed += 1;
                    load.first_failure.get_or_insert(reason);
                    connection = None;
                }
            }
        }
        load
    }
}

async fn ask_once(connection: &mut Option<Connection>, address: SocketAddr, request: &[u8]) -> Result<(), String> {
    if connection.is_none() {
        *connection = Some(Connection::open(address, None).await.map_err(|e| e.to_string())?);
    }
    let connection = connection.as_mut().ok_or("it was just opened")?;
    let answer = connection.exchange(request, Duration::from_secs(60)).await.map_err(|e| e.to_string())?;
    match answer.status {
        // A synapse whose last field is filled in: a search through every body would cost more than the axon's work on it.
        200 if answer.body.ends_with(b"\"}") && !answer.body.ends_with(b"\"\"}") => Ok(()),
        status => Err(format!("{status} {}", String::from_utf8_lossy(answer.body))),
    }
}

/// Sends the questions of each dendrite over a connection of its own, all at once; for so long at most.
pub async fn run(dendrites: Vec<Questions>, limit: Option<Duration>) -> Load {
    let started = Instant::now();
    let until = limit.map(|limit| started + limit);
    let tasks: Vec<_> = dendrites.into_iter().map(|questions| tokio::spawn(questions.ask(until))).collect();
    let mut sum = Load::default();
    for task in tasks {
        // A task that panicked answered nothing.
        sum.add(task.await.unwrap_or_default());
    }
    sum.seconds = started.elapsed().as_secs_f64();
    sum.microseconds.sort_unstable();
    sum
}

impl Load {
    /// Adds what another load came to, one after the other.
    pub fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.seconds += other.seconds;
        self.microseconds.extend(other.microseconds);
        self.microseconds.sort_unstable();
    }

    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds.max(1e-9)
    }

    /// The time within which this share of the answers came, in milliseconds; 0 without any answer.
    pub fn milliseconds(&self, share: f64) -> f64 {
        let last = self.microseconds.len().saturating_sub(1);
        let place = (self.microseconds.len() as f64 * share) as usize;
        self.microseconds.get(place.min(last)).map_or(0.0, |&time| f64::from(time) / 1000.0)
    }
}

fn question<'a>(target: &'a Target, nonce: i128, uuid: &str) -> Question<'a> {
    Question {
        axon: target.address,
        axon_hotkey: &target.hotkey,
        timeout: TIMEOUT,
        nonce,
        uuid: uuid.to_owned(),
        own_ip: "127.0.0.1",
    }
}

/// Where `text` stands in `bytes`.
fn places(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    bytes.windows(text.len()).enumerate().filter(|(_, window)| *window == text).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests;
