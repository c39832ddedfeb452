//! The encryptions a keyfile may have, told by its first bytes. Mirrors btwallet's `keyfile.rs` and, for the oldest, bittensor's Python.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::cipher::{
    AES_128, AES_256, DecryptingKey, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

/// How a keyfile is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `$NACL`, what bittensor writes now.
    Nacl,
    /// An Ansible vault, what it wrote before.
    Ansible,
    /// Fernet, what it wrote first; current btwallet versions cannot read it.
    Fernet,
}

impl Form {
    /// How these bytes are encrypted; nothing for a plain keyfile.
    pub(super) fn of(content: &[u8]) -> Option<Self> {
        let forms = [(&b"$NACL"[..], Self::Nacl), (b"$ANSIBLE_VAULT", Self::Ansible), (b"gAAAAA", Self::Fernet)];
        forms.into_iter().find(|(mark, _)| content.starts_with(mark)).map(|(_, form)| form)
    }

    /// What is inside; nothing when the password does not open it or it is damaged.
    pub(super) fn open(self, content: &[u8], password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Nacl => open_nacl(content.strip_prefix(b"$NACL")?, password),
            Self::Ansible => open_ansible(std::str::from_utf8(content).ok()?, password),
            Self::Fernet => open_fernet(std::str::from_utf8(content).ok()?.trim(), &fernet_key(password)),
        }
    }
}

/// libsodium's `argon2i13` with its "sensitive" limits under btwallet's fixed salt, then a secretbox (nonce, tag, text).
fn open_nacl(sealed: &[u8], password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    const NONCE_BYTES: usize = 24;
    let (nonce, text) = sealed.split_at_checked(NONCE_BYTES)?;
    let key = nacl_key(password)?;
    XSalsa20Poly1305::new(key.as_slice().into()).decrypt(nonce.into(), text).ok().map(Zeroizing::new)
}

pub(super) fn nacl_key(password: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    const SALT: [u8; 16] =
        [0x13, 0x71, 0x83, 0xdf, 0xf1, 0x5a, 0x09, 0xbc, 0x9c, 0x90, 0xb5, 0x51, 0x87, 0x39, 0xe9, 0xb1];
    let limits = Params::new(512 * 1024, 8, 1, Some(32)).expect("libsodium's limits are within Argon2's");
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2i, Version::V0x13, limits).hash_password_into(password, &SALT, &mut *key).ok()?;
    Some(key)
}

/// `$ANSIBLE_VAULT;1.1;AES256`: hex of three hex lines (salt, HMAC, ciphertext), AES-256-CTR with PKCS#7 padding.
fn open_ansible(text: &str, password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (head, body) = text.split_once('\n')?;
    if head.trim_end() != "$ANSIBLE_VAULT;1.1;AES256" {
        return None;
    }
    let lines = hex::decode(body.split_whitespace().collect::<String>()).ok()?;
    let mut parts = lines.split(|byte| *byte == b'\n').map(hex::decode);
    let [salt, mac, mut sealed] = [parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?];
    let keys = stretched::<80>(password, &salt, 10_000);
    let (cipher, rest) = keys.split_at(32);
    let (signing, counter) = rest.split_at(32);
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, signing), &sealed, &mac).ok()?;
    let key = DecryptingKey::ctr(UnboundCipherKey::new(&AES_256, cipher).ok()?).ok()?;
    let counter: [u8; 16] = counter.try_into().ok()?;
    key.decrypt(&mut sealed, DecryptionContext::Iv128(counter.into())).ok()?;
    let mut plain = Zeroizing::new(sealed);
    let padding = usize::from(*plain.last()?);
    let text_bytes = plain.len().checked_sub(padding)?;
    plain.truncate(text_bytes);
    (1..=16).contains(&padding).then_some(plain)
}

/// The key that bittensor made of a password for Fernet: a signing key and a cipher key.
pub(super) fn fernet_key(password: &[u8]) -> Zeroizing<[u8; 32]> {
    const SALT: &[u8] = b"Iguesscyborgslikemyselfhaveatendencytobeparanoidaboutourorigins";
    stretched(password, SALT, 10_000_000)
}

/// A Fernet token: version, time, IV, AES-128-CBC text, HMAC-SHA256 of all before it.
pub(super) fn open_fernet(token: &str, key: &[u8; 32]) -> Option<Zeroizing<Vec<u8>>> {
    const VERSION: u8 = 0x80;
    const HEAD_BYTES: usize = 9;
    let token = URL_SAFE.decode(token).or_else(|_| URL_SAFE_NO_PAD.decode(token.trim_end_matches('='))).ok()?;
    let (signed, mac) = token.split_at_checked(token.len().checked_sub(32)?)?;
    let (signing, cipher) = key.split_at(16);
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, signing), signed, mac).ok()?;
    let (iv, text) = signed.get(HEAD_BYTES..).filter(|_| signed[0] == VERSION)?.split_first_chunk::<16>()?;
    let mut text = Zeroizing::new(text.to_vec());
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_128, cipher).ok()?).ok()?;
    let length = key.decrypt(&mut text, DecryptionContext::Iv128((*iv).into())).ok()?.len();
    text.truncate(length);
    Some(text)
}

fn stretched<const N: usize>(password: &[u8], salt: &[u8], rounds: u32) -> Zeroizing<[u8; N]> {
    let mut key = Zeroizing::new([0; N]);
    let rounds = NonZeroU32::new(rounds).expect("both callers name a positive number");
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password, &mut *key);
    key
}
