//! What can go wrong between a wallet on disk and a finalised extrinsic.

use std::io;
use std::path::PathBuf;

use deval_report::Network;

/// The work could not be done; the text names the path or endpoint and, where there is one, the remedy. No secret ever enters it.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A wallet file is not there.
    #[error("{}: no such {what}; create it with `{remedy}`, or name another wallet", path.display())]
    KeyfileMissing {
        /// The file looked for.
        path: PathBuf,
        /// Which file it is.
        what: &'static str,
        /// The command that makes it.
        remedy: &'static str,
    },
    /// A wallet file could not be read or written.
    #[error("{}: {source}", path.display())]
    KeyfileIo {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A wallet file is not a keyfile, or its key and its address disagree.
    #[error("{}: not a usable keyfile: {reason}", path.display())]
    KeyfileMalformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, without any of the content.
        reason: String,
    },
    /// An encrypted keyfile, and no password.
    #[error(
        "{}: the keyfile is encrypted and {variable} is not set; \
         set it to the password the way btcli saves it, or use an unencrypted hotkey",
        path.display()
    )]
    PasswordMissing {
        /// The file.
        path: PathBuf,
        /// The environment variable that holds its password.
        variable: String,
    },
    /// The password variable does not hold base64 of password XOR variable name.
    #[error("{variable}: not a password as bittensor stores it (base64 of the password XOR the variable's name)")]
    PasswordUnreadable {
        /// The environment variable.
        variable: String,
    },
    /// The password does not open the keyfile.
    #[error("{}: the password in {variable} does not open this keyfile", path.display())]
    PasswordWrong {
        /// The file.
        path: PathBuf,
        /// The environment variable.
        variable: String,
    },
    /// An older encryption.
    #[error(
        "{}: {form} encryption is not supported yet; open and save the key once with a current btcli, which writes $NACL",
        path.display()
    )]
    EncryptionUnsupported {
        /// The file.
        path: PathBuf,
        /// Name of the encryption.
        form: &'static str,
    },
    /// A wallet file is already there.
    #[error("{}: already exists, and a key is never overwritten", path.display())]
    WalletExists {
        /// The file.
        path: PathBuf,
    },
    /// Not an address of this chain.
    #[error("`{address}` is not an SS58 address with prefix 42: {reason}")]
    Address {
        /// The text given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No form of the commitment fits into the chain's largest raw field.
    #[error(
        "the commitment for model_url `{model_url}` needs {bytes} bytes and the chain takes {limit}: \
         the longest possible model_url is {longest_url} bytes"
    )]
    PayloadTooLong {
        /// The model url.
        model_url: String,
        /// Length of the shortest JSON form.
        bytes: usize,
        /// The chain's limit.
        limit: usize,
        /// Bytes left for the (JSON-escaped) model url.
        longest_url: usize,
    },
    /// The chain cannot be reached.
    #[error(
        "{endpoint}: cannot reach the chain: {reason}; \
         check the address and the connection, or start the local one with `cargo xtask localnet`"
    )]
    Down {
        /// The endpoint.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The chain did not answer in time.
    #[error("{endpoint}: no answer within {seconds} s while {doing}; try again, or use another endpoint")]
    Timeout {
        /// The endpoint.
        endpoint: String,
        /// The limit.
        seconds: u64,
        /// What was being done.
        doing: String,
    },
    /// The endpoint serves another chain than the submission is for.
    #[error("{endpoint}: this is not the chain of network `{expected}`: {found}")]
    WrongChain {
        /// The endpoint.
        endpoint: String,
        /// The network asked for.
        expected: Network,
        /// What tells them apart.
        found: String,
    },
    /// A request was answered with something unusable.
    #[error("{endpoint}: {doing} failed: {reason}")]
    Rpc {
        /// The endpoint.
        endpoint: String,
        /// What was being done.
        doing: String,
        /// What happened.
        reason: String,
    },
    /// The runtime or its transaction pool refused a call.
    #[error("the chain refused {call}: {error}; {remedy}")]
    Refused {
        /// `Pallet.call`.
        call: String,
        /// The error by its metadata name, or the pool's words.
        error: String,
        /// What to do.
        remedy: String,
    },
    /// The call went through, and the chain holds something else.
    #[error("{call} was finalised in block {block}, but the chain then held {found} instead of {expected}")]
    ReadBack {
        /// `Pallet.call`.
        call: String,
        /// The block of the extrinsic.
        block: u64,
        /// What was written.
        expected: String,
        /// What was read.
        found: String,
    },
}
