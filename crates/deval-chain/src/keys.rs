//! sr25519 keys and SS58 addresses. Substrate's signing context, Bittensor's prefix (42).

use std::fmt;
use std::str::FromStr;

use schnorrkel::keys::{ExpansionMode, MiniSecretKey};
use subxt::config::SubstrateConfig;
use subxt::utils::{AccountId32, MultiSignature};
use subxt_signer::{SecretUri, bip39::Mnemonic, sr25519};

use crate::ChainError;

const SIGNING_CONTEXT: &[u8] = b"substrate";

/// An sr25519 key pair. Its secret half is wiped on drop and never printed: `Debug` shows the address.
#[derive(Clone)]
pub struct KeyPair {
    secret: Secret,
    public: [u8; 32],
}

/// subxt-signer knows phrases, seeds and derivation; only schnorrkel takes an already expanded 64-byte secret.
#[derive(Clone)]
enum Secret {
    Derived(sr25519::Keypair),
    Expanded(schnorrkel::Keypair),
}

impl KeyPair {
    /// From a BIP-39 phrase without password. `None` when it is not one.
    pub fn from_phrase(phrase: &str) -> Option<Self> {
        let mnemonic = Mnemonic::parse(phrase).ok()?;
        sr25519::Keypair::from_phrase(&mnemonic, None).ok().map(Self::derived)
    }

    /// From a 32-byte seed (bittensor's `secretSeed`).
    pub fn from_seed(seed: [u8; 32]) -> Option<Self> {
        sr25519::Keypair::from_secret_key(seed).ok().map(Self::derived)
    }

    /// From substrate's secret URI, such as `//Alice` or `//Bob//vali`.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let uri = SecretUri::from_str(uri).ok()?;
        sr25519::Keypair::from_uri(&uri).ok().map(Self::derived)
    }

    /// From the expanded 64-byte secret (bittensor's `privateKey`).
    pub fn from_private_key(secret: &[u8; 64]) -> Option<Self> {
        let pair = schnorrkel::SecretKey::from_bytes(secret).ok()?.to_keypair();
        Some(Self { public: pair.public.to_bytes(), secret: Secret::Expanded(pair) })
    }

    fn derived(pair: sr25519::Keypair) -> Self {
        Self { public: pair.public_key().0, secret: Secret::Derived(pair) }
    }

    /// The public key, which is also the account id.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The address.
    pub fn ss58(&self) -> String {
        ss58(&self.public)
    }

    /// Signs; sr25519 signatures are randomised, so two of the same message differ.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match &self.secret {
            Secret::Derived(pair) => pair.sign(message).0,
            Secret::Expanded(pair) => pair.sign_simple(SIGNING_CONTEXT, message).to_bytes(),
        }
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.ss58())
    }
}

impl subxt::tx::Signer<SubstrateConfig> for KeyPair {
    fn account_id(&self) -> AccountId32 {
        AccountId32(self.public)
    }

    fn sign(&self, payload: &[u8]) -> MultiSignature {
        MultiSignature::Sr25519(KeyPair::sign(self, payload))
    }
}

/// The 64-byte secret a seed expands to, as bittensor's keyfiles store it.
pub(crate) fn expand_seed(seed: &[u8; 32]) -> [u8; 64] {
    let mini = MiniSecretKey::from_bytes(seed).expect("a mini secret is any 32 bytes");
    mini.expand(ExpansionMode::Ed25519).to_bytes()
}

/// A fresh seed from the system's randomness.
pub(crate) fn random_seed() -> [u8; 32] {
    MiniSecretKey::generate().to_bytes()
}

/// Whether `signature` is `public`'s signature of `message`.
pub fn verify(signature: &[u8; 64], message: &[u8], public: &[u8; 32]) -> bool {
    sr25519::verify(&sr25519::Signature(*signature), message, &sr25519::PublicKey(*public))
}

/// The SS58 address (prefix 42) of an account.
pub fn ss58(account: &[u8; 32]) -> String {
    AccountId32(*account).to_string()
}

/// Characters of the longest address of 32 bytes: two bytes of prefix and two of checksum around them.
const LONGEST_ADDRESS: usize = 50;

/// The account of an SS58 address.
///
/// # Errors
/// [`ChainError::Address`] when the text is malformed, its checksum is wrong, or its prefix is not 42.
pub fn parse_ss58(address: &str) -> Result<[u8; 32], ChainError> {
    let refuse = |reason| ChainError::Address { address: address.chars().take(60).collect(), reason };
    // Base58 is decoded in quadratic time; no address of 32 bytes is longer.
    if address.len() > LONGEST_ADDRESS {
        return Err(refuse("it is too long"));
    }
    let account = AccountId32::from_str(address).map_err(|_| refuse("malformed, or the checksum does not match"))?;
    // The parser takes every prefix; only prefix 42 encodes back to the same text.
    if account.to_string() == address { Ok(account.0) } else { Err(refuse("the prefix is another chain's")) }
}

#[cfg(test)]
mod tests;
