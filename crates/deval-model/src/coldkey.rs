//! `coldkey.txt`: the file that ties a repository to its owner (upstream `deval/api/miner_api.py`, `deval/contest.py`).

use blake2::{Blake2b512, Digest};
use deval_eval::submission::{coldkey_matches, read_coldkey};
use deval_report::Diagnostic;

/// Name of the file at the repository's root.
pub const FILE: &str = "coldkey.txt";

/// Address format of Bittensor.
const PREFIX: u8 = 42;

/// Most characters of 35 bytes in base 58. Longer text is no address, and is not decoded: that takes quadratic time.
const LONGEST: usize = 48;

/// Whether the validator takes a file of these bytes for that coldkey.
pub fn matches(bytes: &[u8], chain_coldkey: &str) -> bool {
    read_coldkey(bytes).is_some_and(|text| coldkey_matches(&text, chain_coldkey))
}

/// The account of an SS58 address with prefix 42 and a valid checksum.
pub fn account(address: &str) -> Option<[u8; 32]> {
    let bytes = decode(address)?;
    let (body, checksum) = bytes.split_at_checked(33)?;
    let hash = Blake2b512::new().chain_update(b"SS58PRE").chain_update(body).finalize();
    let sound = body[0] == PREFIX && checksum == &hash[..2];
    sound.then(|| body[1..].try_into().expect("33 bytes less the prefix"))
}

fn decode(address: &str) -> Option<Vec<u8>> {
    let short = (address.len() <= LONGEST).then_some(address)?;
    bs58::decode(short).into_vec().ok()
}

/// Everything that is wrong with these bytes as `coldkey.txt`, as findings of gate G30 at `file`.
pub fn check(bytes: &[u8], expected: Option<&str>, file: &str) -> Vec<Diagnostic> {
    let finding = |message: String, help: &str| Diagnostic::error("G30", message).in_file(file).help(help);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return vec![finding("coldkey.txt is not UTF-8, so the validator reads nothing".into(), REWRITE)];
    };
    if text.is_empty() {
        return vec![finding("coldkey.txt is empty".into(), REWRITE)];
    }
    let core = core(text);
    let mut findings = Vec::new();
    let owner = account(core);
    if core != text {
        let stray = finding(stray(text, core), REWRITE);
        findings.push(if owner.is_some() { stray.found(shown(text)) } else { stray });
    }
    // What is no address may be a secret pasted by mistake, so it is never repeated.
    match (owner, expected) {
        (None, _) => findings.push(finding(not_an_address(core), ADDRESS).found(format!("{} bytes", text.len()))),
        (Some(_), Some(expected)) if core != expected => {
            let message = "coldkey.txt names another coldkey than the wallet".to_owned();
            findings.push(finding(message, OWNER).found(core).expected(expected));
        }
        _ => {}
    }
    findings
}

const REWRITE: &str =
    "delete the file, `cargo xtask package` writes it from the wallet; or `printf %s ADDRESS > coldkey.txt`";
const ADDRESS: &str = "the address is in the wallet's coldkeypub.txt under `ss58Address`";
const OWNER: &str = "name the wallet that owns the hotkey under [wallet], or correct the file";

/// The address within what surrounds it.
fn core(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}' | '\0'))
}

/// The text as it is, or how long it is.
fn shown(text: &str) -> String {
    if text.len() <= 2 * LONGEST { format!("{text:?}") } else { format!("{} bytes", text.len()) }
}

fn stray(text: &str, core: &str) -> String {
    let what = if text.starts_with('\u{feff}') {
        "begins with a byte order mark (BOM)"
    } else if text.ends_with("\r\n") {
        "ends with a Windows newline (CRLF)"
    } else if text.ends_with('\n') {
        "ends with a newline"
    } else if text.ends_with('\r') {
        "ends with a carriage return (CR)"
    } else if core.is_empty() {
        "holds nothing but white space"
    } else {
        "has white space or invisible characters around the address"
    };
    format!("coldkey.txt {what}; the validator compares without trimming")
}

fn not_an_address(core: &str) -> String {
    let decoded = decode(core).unwrap_or_default();
    let reason = if core.lines().count() > 1 {
        "more than one line"
    } else if core.trim_start_matches("0x").len() == 64
        && core.trim_start_matches("0x").bytes().all(|b| b.is_ascii_hexdigit())
    {
        "a public key in hexadecimal"
    } else if decoded.len() == 35 && decoded[0] != PREFIX {
        "an address of another network"
    } else if decoded.len() == 35 {
        "an address with a wrong checksum (a mistyped character?)"
    } else if core.len() > LONGEST && !core.contains(char::is_whitespace) {
        "a text longer than any address"
    } else {
        "something else"
    };
    format!("coldkey.txt must hold one SS58 address with prefix 42, not {reason}")
}

#[cfg(test)]
mod tests;
