//! One keyfile: plain JSON, or JSON inside an encryption. Mirrors btwallet's `keyfile.rs` and `keypair.rs`.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use super::Passwords;
use super::sealed::Form;
use crate::keys::expand_seed;
use crate::{ChainError, KeyPair, parse_ss58};

/// Bytes that no keyfile has.
const LARGEST: u64 = 64 * 1024;

/// Which of a wallet's files a message is about, and the command that makes it.
pub(super) struct Kind {
    what: &'static str,
    remedy: &'static str,
}

pub(super) const HOTKEY: Kind = Kind { what: "hotkey", remedy: "btcli wallet new-hotkey" };
pub(super) const COLDKEY: Kind = Kind { what: "coldkey", remedy: "btcli wallet new-coldkey" };
const COLDKEY_ADDRESS: Kind = Kind { what: "coldkey address", remedy: "btcli wallet regen-coldkeypub" };

/// A keyfile's JSON; any field may be absent or null.
#[derive(Deserialize)]
struct Content {
    #[serde(rename = "secretPhrase")]
    phrase: Option<String>,
    #[serde(rename = "secretSeed")]
    seed: Option<String>,
    #[serde(rename = "privateKey")]
    private_key: Option<String>,
    #[serde(rename = "ss58Address")]
    address: Option<String>,
    #[serde(rename = "publicKey")]
    public_key: Option<String>,
}

impl Drop for Content {
    fn drop(&mut self) {
        [&mut self.phrase, &mut self.seed, &mut self.private_key].into_iter().for_each(Zeroize::zeroize);
    }
}

/// Reads a secret keyfile.
pub(super) fn read_key(path: &Path, kind: &Kind, passwords: &impl Passwords) -> Result<KeyPair, ChainError> {
    key_in(path, &decrypt(path, read(path, kind)?, passwords)?)
}

/// The key in a keyfile's JSON.
fn key_in(path: &Path, content: &[u8]) -> Result<KeyPair, ChainError> {
    let content = parse(path, content)?;
    let key = secret_of(&content).map_err(|reason| malformed(path, reason))?;
    match &content.address {
        Some(address) if *address != key.ss58() => {
            Err(malformed(path, format!("its sr25519 key belongs to {}, and it says {address}", key.ss58())))
        }
        _ => Ok(key),
    }
}

/// Reads the address of a public keyfile (`coldkeypub.txt`).
pub(super) fn read_address(path: &Path) -> Result<String, ChainError> {
    let content = parse(path, &read(path, &COLDKEY_ADDRESS)?)?;
    let address = content.address.clone().ok_or_else(|| malformed(path, "it has no ss58Address"))?;
    let account = parse_ss58(&address)?;
    match &content.public_key {
        Some(public) if hex_bytes::<32>(public) != Some(account) => {
            Err(malformed(path, "publicKey and ss58Address belong to different keys"))
        }
        _ => Ok(address),
    }
}

/// The address of a secret keyfile's key; of an encrypted one, what the public keyfile beside it names, if there is one.
pub(super) fn address_of_secret(path: &Path, kind: &Kind) -> Result<Option<String>, ChainError> {
    let content = read(path, kind)?;
    if Form::of(&content).is_none() {
        return key_in(path, &content).map(|key| Some(key.ss58()));
    }
    let mut public = path.file_name().unwrap_or_default().to_owned();
    public.push("pub.txt");
    let public = path.with_file_name(public);
    if public.is_file() { read_address(&public).map(Some) } else { Ok(None) }
}

fn read(path: &Path, kind: &Kind) -> Result<Zeroizing<Vec<u8>>, ChainError> {
    let failed = |reason: io::Error| {
        let path = path.to_owned();
        match reason.kind() {
            io::ErrorKind::NotFound => ChainError::KeyfileMissing { path, what: kind.what, remedy: kind.remedy },
            io::ErrorKind::PermissionDenied => ChainError::KeyfileDenied { path },
            _ => ChainError::KeyfileIo { path, reason },
        }
    };
    // A pipe would be waited for.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(malformed(path, "it is not a file"));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 1));
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content)).map_err(failed)?;
    if content.len() as u64 > LARGEST {
        return Err(malformed(path, "it is too large"));
    }
    Ok(content)
}

fn malformed(path: &Path, reason: impl Into<String>) -> ChainError {
    ChainError::KeyfileMalformed { path: path.to_owned(), reason: reason.into() }
}

/// serde's messages quote the value they do not like, so only the position is passed on.
fn parse(path: &Path, bytes: &[u8]) -> Result<Content, ChainError> {
    serde_json::from_slice(bytes).map_err(|e| {
        let place = format!("not the JSON object bittensor writes (line {}, column {})", e.line(), e.column());
        let reason = match bytes {
            [] => "it is empty".to_owned(),
            [0xef, 0xbb, 0xbf, ..] => "it begins with a byte order mark (BOM): save it without".to_owned(),
            _ => place,
        };
        malformed(path, reason)
    })
}

/// btwallet's order: phrase, seed, expanded secret.
fn secret_of(content: &Content) -> Result<KeyPair, &'static str> {
    if let Some(phrase) = &content.phrase {
        return KeyPair::from_phrase(phrase).ok_or("secretPhrase is not a BIP-39 phrase");
    }
    if let Some(seed) = &content.seed {
        let seed = hex_bytes::<32>(seed).map(Zeroizing::new).ok_or("secretSeed is not 32 bytes of hex")?;
        return KeyPair::from_seed(*seed).ok_or("secretSeed is not an sr25519 seed");
    }
    let Some(private) = &content.private_key else { return Err("it holds no secret (is it a public keyfile?)") };
    let private = hex_bytes::<64>(private).map(Zeroizing::new).ok_or("privateKey is not 64 bytes of hex")?;
    KeyPair::from_private_key(&private).ok_or("privateKey is not an sr25519 secret")
}

fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes).ok()?;
    Some(bytes)
}

fn decrypt(
    path: &Path,
    content: Zeroizing<Vec<u8>>,
    passwords: &impl Passwords,
) -> Result<Zeroizing<Vec<u8>>, ChainError> {
    let Some(form) = Form::of(&content) else { return Ok(content) };
    let variable = password_variable(path);
    let Some(stored) = passwords.stored(&variable).or_else(|| passwords.stored(&shell_name(&variable))) else {
        let missing = || ChainError::PasswordMissing { path: path.to_owned(), variable: variable.clone() };
        let typed = passwords.ask(path).ok_or_else(missing)?;
        let opened = form.open(&content, typed.as_bytes()).ok_or_else(|| wrong(path, "this password".to_owned()))?;
        passwords.opened(&variable, stored_password(typed.as_bytes(), &variable));
        return Ok(opened);
    };
    let coded = STANDARD.decode(stored.trim()).map(Zeroizing::new).ok();
    let bare = Zeroizing::new(stored.as_bytes().to_vec());
    let opened = coded.iter().chain([&bare]).find_map(|bytes| form.open(&content, &masked(bytes, &variable)));
    opened.ok_or_else(|| match coded {
        Some(_) => wrong(path, format!("the password in {variable}")),
        None => ChainError::PasswordUnreadable { variable: variable.clone() },
    })
}

fn wrong(path: &Path, whence: String) -> ChainError {
    ChainError::PasswordWrong { path: path.to_owned(), whence }
}

/// btwallet's name for the variable that holds a keyfile's password: its absolute path, upper-cased.
fn password_variable(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    // A path beside the manifest begins with the manifest's folder; bittensor is given the wallet's own.
    let plain = absolute.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
        plain
    });
    format!("BT_PW_{}", plain.to_string_lossy().replace(['/', '.'], "_").to_uppercase())
}

/// The name under which a shell or `.env` can hold the variable: bittensor's has whatever the path has, such as `-`.
fn shell_name(variable: &str) -> String {
    variable.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

/// btwallet 4 stores base64(password XOR variable name), the name repeated as often as needed; the older ones store it without base64.
fn stored_password(password: &[u8], variable: &str) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(masked(password, variable)))
}

fn masked(bytes: &[u8], variable: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.iter().zip(variable.bytes().cycle()).map(|(byte, mask)| byte ^ mask).collect())
}

/// The key of a seed this crate made.
pub(super) fn key_of_seed(seed: &[u8; 32]) -> KeyPair {
    KeyPair::from_seed(*seed).expect("a seed is any 32 bytes")
}

/// A secret keyfile. Without a phrase: bittensor falls back to the seed.
pub(super) fn of_seed(seed: &[u8; 32]) -> Zeroizing<String> {
    let key = key_of_seed(seed);
    let account = format!("0x{}", hex::encode(key.public()));
    let private_key = Zeroizing::new(expand_seed(seed));
    let content = json!({
        "accountId": account,
        "publicKey": account,
        "privateKey": format!("0x{}", hex::encode(*private_key)),
        "secretSeed": format!("0x{}", hex::encode(seed)),
        "ss58Address": key.ss58(),
    });
    Zeroizing::new(content.to_string())
}

/// A public keyfile.
pub(super) fn of_address(key: &KeyPair) -> String {
    let account = format!("0x{}", hex::encode(key.public()));
    json!({"accountId": account, "publicKey": account, "ss58Address": key.ss58()}).to_string()
}
