//! Questions that no axon may answer: spoilt at random, each by one rule, and told by seed and number.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use deval_chain::KeyPair;
use deval_eval::Dice;

use super::wire::{Connection, request_bytes};
use super::{START, Target, question};
use crate::synapse::EMPTY_BODY_HASH;
use crate::system_clock;

const SECOND: i128 = 1_000_000_000;
/// An answer to a malformed question comes at once, or the connection is closed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request that must be refused.
#[derive(Debug, Clone)]
pub struct Malformed {
    /// What was spoilt.
    pub kind: &'static str,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// The statuses that refuse it; 0 stands for a closed connection.
    pub expected: &'static [u16],
    /// Whether the request ends with what is sent, so that the connection can be kept.
    whole: bool,
}

/// How malformed questions were refused.
#[derive(Debug, Clone, Default)]
pub struct Refusals {
    /// How often each kind got each status; 0 stands for a closed connection.
    pub statuses: BTreeMap<(&'static str, u16), u64>,
    /// Number and status of each that was not refused as expected.
    pub wrong: Vec<(u64, u16)>,
}

/// The parts of a good question that a rule may spoil.
struct Parts {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// The malformed question of this number; the same for the same seed, but for its nonce and its random signature.
pub fn malformed<'a>(target: &'a Target, validator: &'a KeyPair, seed: u64, number: u64) -> Malformed {
    let mut dice = Dice::new(seed, number);
    let maker = Maker { target, validator, uuid: format!("malformed-{number}") };
    let rules: [fn(&Maker<'a>, &mut Dice) -> Malformed; 12] = [
        Maker::spoilt_signature,
        Maker::strange_signature,
        Maker::changed_header,
        Maker::missing_header,
        Maker::foreign_key,
        Maker::wrong_time,
        Maker::unparsable_number,
        Maker::spoilt_body,
        Maker::other_path,
        Maker::bad_bytes_in_a_header,
        Maker::too_much,
        Maker::no_http,
    ];
    dice.pick(&rules)(&maker, &mut dice)
}

/// Sends the malformed questions of these numbers, and tells what became of them. Connections come from loopback addresses by turns,
/// because the system remembers closed ones for a while.
pub async fn refuse(target: &Target, validator: &KeyPair, seed: u64, numbers: std::ops::Range<u64>) -> Refusals {
    let mut refusals = Refusals::default();
    let mut connection: Option<Connection> = None;
    for number in numbers {
        let question = malformed(target, validator, seed, number);
        let mut status = 0;
        if let Some(kept) = connection.take() {
            (status, connection) = question.send(kept).await;
        }
        // A kept connection may have been closed behind its last answer.
        if status == 0 {
            let from = (target.address.ip() == Ipv4Addr::LOCALHOST).then(|| loopback(number));
            (status, connection) = match Connection::open(target.address, from).await {
                Ok(opened) => question.send(opened).await,
                Err(_) => (u16::MAX, None),
            };
        }
        *refusals.statuses.entry((question.kind, status)).or_default() += 1;
        if !question.expected.contains(&status) {
            refusals.wrong.push((number, status));
        }
    }
    refusals
}

fn loopback(number: u64) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, (number % 250) as u8 + 1).into()
}

impl Malformed {
    /// The status that came back, 0 for none, and the connection when it can be used again.
    async fn send(&self, mut connection: Connection) -> (u16, Option<Connection>) {
        if !self.whole {
            return (connection.send_and_end(&self.bytes, PATIENCE).await, None);
        }
        match connection.exchange(&self.bytes, PATIENCE).await.map(|answer| (answer.status, answer.kept)) {
            Ok((status, kept)) => (status, kept.then_some(connection)),
            Err(_) => (0, None),
        }
    }
}

impl Refusals {
    /// Adds what others came to.
    pub fn add(&mut self, other: Self) {
        other.statuses.into_iter().for_each(|(key, count)| *self.statuses.entry(key).or_default() += count);
        self.wrong.extend(other.wrong);
    }
}

struct Maker<'a> {
    target: &'a Target,
    validator: &'a KeyPair,
    uuid: String,
}

impl Maker<'_> {
    /// A question that would be answered.
    fn good(&self) -> Parts {
        self.signed_by(self.validator, 0)
    }

    /// From the validator, so many nanoseconds old, but signed with `key`.
    fn signed_by(&self, key: &KeyPair, age: i128) -> Parts {
        let question = question(self.target, i128::from(system_clock()) - age, &self.uuid);
        let hotkey = self.validator.ss58();
        let signature = question.signature(&hotkey, key);
        let (headers, body) = question.build(hotkey, signature, EMPTY_BODY_HASH.to_owned());
        let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Parts { headers: headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(), body }
    }

    fn made(&self, kind: &'static str, parts: &Parts, expected: &'static [u16]) -> Malformed {
        Malformed { kind, bytes: parts.bytes(START, self.target), expected, whole: true }
    }

    /// One bit of the signature is another.
    fn spoilt_signature(&self, dice: &mut Dice) -> Malformed {
        let mut parts = self.good();
        let signature = parts.value("bt_header_dendrite_signature");
        let mut bytes = hex::decode(&signature[2..]).expect("a signature was just written in hexadecimal");
        bytes[dice.below(64)] ^= 1 << dice.below(8);
        *signature = format!("0x{}", hex::encode(bytes));
        self.made("spoilt signature", &parts, &[401])
    }

    /// The signature is of another form.
    fn strange_signature(&self, dice: &mut Dice) -> Malformed {
        let mut parts = self.good();
        let signature = parts.value("bt_header_dendrite_signature");
        *signature = match dice.below(5) {
            0 => signature[2..].to_owned(),
            1 => signature[..dice.between(0, 129)].to_owned(),
            2 => format!("{signature}{}", text(dice, 1, 2000)),
            3 => format!("0x{}", text(dice, 128, 128).replace(|c: char| c.is_ascii_hexdigit(), "g")),
            _ => text(dice, 0, 200),
        };
        self.made("strange signature", &parts, &[401])
    }

    /// One character of what is signed is another. Hexadecimal digits keep their meaning in either case, names of headers too.
    fn changed_header(&self, dice: &mut Dice) -> Malformed {
        let mut parts = self.good();
        let signed = ["nonce", "uuid", "hotkey", "signature"].map(|field| format!("bt_header_dendrite_{field}"));
        let name = *dice.pick(&[&*signed[0], &signed[1], &signed[2], &signed[3], "computed_body_hash"]);
        let value = parts.value(name);
        let place = dice.below(value.len());
        let old = value.as_bytes()[place];
        let new = loop {
            let new = dice.between(0x21, 0x7e) as u8;
            if !new.eq_ignore_ascii_case(&old) {
                break char::from(new);
            }
        };
        value.replace_range(place..=place, &new.to_string());
        self.made("changed header", &parts, &[401, 403, 500])
    }

    fn missing_header(&self, dice: &mut Dice) -> Malformed {
        let mut parts = self.good();
        let needed = ["nonce", "uuid", "hotkey", "signature"].map(|field| format!("bt_header_dendrite_{field}"));
        let name = *dice.pick(&[&*needed[0], &needed[1], &needed[2], &needed[3], "computed_body_hash"]);
        parts.headers.retain(|(known, _)| known != name);
        self.made("missing header", &parts, &[401, 403])
    }

    /// Signed by somebody else: in the validator's name, or in their own.
    fn foreign_key(&self, dice: &mut Dice) -> Malformed {
        let stranger = KeyPair::from_seed(std::array::from_fn(|_| dice.below(256) as u8));
        let stranger = stranger.expect("any 32 bytes are a seed");
        if dice.flip() {
            return self.made("foreign key", &self.signed_by(&stranger, 0), &[401]);
        }
        let maker = Maker { target: self.target, validator: &stranger, uuid: self.uuid.clone() };
        self.made("foreign key", &maker.good(), &[403])
    }

    /// Signed long ago, or for some later day.
    fn wrong_time(&self, dice: &mut Dice) -> Malformed {
        let seconds = dice.between(70, 1_000_000) as i128 * SECOND;
        let age = if dice.flip() { seconds } else { -10 * seconds };
        self.made("wrong time", &self.signed_by(self.validator, age), &[401])
    }

    fn unparsable_number(&self, dice: &mut Dice) -> Malformed {
        let mut parts = self.good();
        let names = ["timeout", "header_size", "total_size", "bt_header_dendrite_version", "bt_header_axon_port"];
        let junk = ["", "soon", "nan", "inf", "1e", "0x10", "--1", "1 2", "9".repeat(400).as_str()].map(str::to_owned);
        let name = *dice.pick(&names);
        *parts.value(name) = dice.pick(&junk).clone();
        // A float may have any number of digits.
        let expected: &[u16] = if name == "timeout" { &[401, 500] } else { &[500] };
        if parts.value(name).len() == 400 && name == "timeout" {
            *parts.value(name) = "inf".to_owned();
        }
        self.made("unparsable number", &parts, expected)
    }

    /// Rightly signed, with a body that is none.
    fn spoilt_body(&self, dice: &mut Dice) -> Malformed {
        let mut parts = self.good();
        parts.body = match dice.below(7) {
            0 => parts.body[..dice.below(parts.body.len())].to_vec(),
            1 => random_bytes(dice, 1, 4000, 0x80),
            2 => br#"{"repo_id": 5}"#.to_vec(),
            3 => br#"{"timeout": "soon", "axon": [], "dendrite": 3}"#.to_vec(),
            4 => "[".repeat(dice.between(1, 60_000)).into_bytes(),
            5 => format!("{{\"required_hash_fields\": [{:?}]}}", text(dice, 1, 50)).into_bytes(),
            _ => Vec::new(),
        };
        self.made("spoilt body", &parts, &[422, 500])
    }

    fn other_path(&self, dice: &mut Dice) -> Malformed {
        let letters =
            |dice: &mut Dice| (0..dice.between(1, 30)).map(|_| dice.between(97, 122) as u8 as char).collect::<String>();
        let word = letters(dice);
        let start = match dice.below(5) {
            0 => format!("POST /{word}"),
            1 => format!("POST /ModelQuerySynapse/{word}"),
            2 => format!("POST /ModelQuerySynaps%65/{word}"),
            3 => format!("{} /ModelQuerySynapse", word.to_uppercase()),
            _ => "DELETE /ModelQuerySynapse".to_owned(),
        };
        let bytes = self.good().bytes(&start, self.target);
        // A random word can be a method that has no body and is no POST, but hardly GET.
        Malformed { kind: "other path or method", bytes, expected: &[404, 405, 400], whole: true }
    }

    fn bad_bytes_in_a_header(&self, dice: &mut Dice) -> Malformed {
        let mut bytes = self.good().bytes(START, self.target);
        let field = format!("\r\nbt_header_dendrite_{}: ", dice.pick(&["nonce", "uuid", "hotkey", "signature"]));
        let place = super::places(&bytes, field.as_bytes())[0] + field.len() + dice.below(10);
        bytes[place] = *dice.pick(&[0, 1, 7, 8, 0x0b, 0x7f, 0x80, 0xa0, 0xc3, 0xff, b'\r', b'\n']);
        Malformed { kind: "bad bytes in a header", bytes, expected: &[400, 401, 403, 500, 0], whole: true }
    }

    /// More headers, longer headers or a longer body than a dendrite sends.
    fn too_much(&self, dice: &mut Dice) -> Malformed {
        let mut parts = self.good();
        match dice.below(3) {
            0 => parts.headers.extend((0..dice.between(70, 300)).map(|i| (format!("x-{i}"), "1".to_owned()))),
            1 => parts.headers.push(("x-long".to_owned(), "a".repeat(dice.between(40_000, 100_000)))),
            _ => parts.body = vec![b' '; dice.between(70_000, 200_000)],
        }
        self.made("too much", &parts, &[400, 413, 431, 0])
    }

    /// Bytes that are no request, or only its beginning.
    fn no_http(&self, dice: &mut Dice) -> Malformed {
        let good = self.good().bytes(START, self.target);
        let bytes = match dice.below(4) {
            0 => random_bytes(dice, 1, 3000, 0),
            1 => good[..dice.below(good.len() - 1)].to_vec(),
            2 => [b"\x16\x03\x01\x02\x00\x01".as_slice(), &random_bytes(dice, 100, 500, 0)].concat(),
            _ => String::from_utf8_lossy(&good)
                .replace("Content-Length", "Transfer-Encoding: chunked\r\nContent-Length")
                .into_bytes(),
        };
        Malformed { kind: "no HTTP", bytes, expected: &[400, 401, 404, 405, 413, 422, 431, 0], whole: false }
    }
}

impl Parts {
    fn value(&mut self, name: &str) -> &mut String {
        let found = self.headers.iter_mut().find(|(known, _)| known == name);
        found.map(|(_, value)| value).expect("a dendrite sends this header")
    }

    fn bytes(&self, start: &str, target: &Target) -> Vec<u8> {
        request_bytes(start, target, self.headers.iter().map(|(name, value)| (&**name, &**value)), &self.body)
    }
}

/// Printable characters.
fn text(dice: &mut Dice, least: usize, most: usize) -> String {
    (0..dice.between(least, most)).map(|_| char::from(dice.between(0x21, 0x7e) as u8)).collect()
}

/// Any bytes; the first has these bits set too, so that it begins no JSON.
fn random_bytes(dice: &mut Dice, least: usize, most: usize, first: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..dice.between(least, most)).map(|_| dice.below(256) as u8).collect();
    bytes[0] |= first;
    bytes
}
