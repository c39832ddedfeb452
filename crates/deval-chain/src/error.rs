//! What can go wrong between a wallet on disk and a finalised extrinsic.

use std::io;
use std::path::{Path, PathBuf};

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
    /// This user may not read a wallet file.
    #[error(
        "{}: this user may not read it; run as its owner, or give it to this user (`chown`) with mode 0600",
        path.display()
    )]
    KeyfileDenied {
        /// The file.
        path: PathBuf,
    },
    /// A wallet file could not be read or written.
    #[error("{}: {reason}; check the path under [wallet], and the disk", path.display())]
    KeyfileIo {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A wallet file is not a keyfile, or its key and its address disagree.
    #[error("{}: not a usable keyfile: {reason}; restore it, or write it again with `{}`", path.display(), remake(path))]
    KeyfileMalformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, without any of the content.
        reason: String,
    },
    /// An encrypted keyfile, and no password.
    #[error(
        "{}: the keyfile is encrypted and {variable} is not set; \
         set it to the password the way btcli saves it, run this at a terminal, or use an unencrypted hotkey",
        path.display()
    )]
    PasswordMissing {
        /// The file.
        path: PathBuf,
        /// The environment variable that holds its password.
        variable: String,
    },
    /// The password variable holds neither the password XOR variable name nor base64 of it.
    #[error(
        "{variable}: not a password as bittensor stores it (the password XOR the variable's name, bare or as base64), \
         or it does not open the keyfile; let btcli save it again, or run this at a terminal"
    )]
    PasswordUnreadable {
        /// The environment variable.
        variable: String,
    },
    /// The password does not open the keyfile.
    #[error("{}: {whence} does not open this keyfile, or the file is damaged; try again, or write it again with `{}`", path.display(), remake(path))]
    PasswordWrong {
        /// The file.
        path: PathBuf,
        /// Which password: `the password in BT_PW_…`, or the one that was typed.
        whence: String,
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
    #[error(
        "{endpoint}: this is not the chain of network `{expected}`: {found}; nothing was sent: check `submission.network` and `chain.endpoint`"
    )]
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
    /// A call was sent, and whether it is in could not be seen.
    #[error(
        "{endpoint}: {call} was sent (extrinsic {extrinsic}) and may be in a block up to {last_block}: {reason}; \
         run the step again: it looks at the chain first and sends nothing that is there"
    )]
    Unsure {
        /// The endpoint.
        endpoint: String,
        /// `Pallet.call`.
        call: String,
        /// Hash of the extrinsic, `0x…`.
        extrinsic: String,
        /// The last block that may hold it.
        last_block: u64,
        /// Why it was not seen.
        reason: String,
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

/// The command that writes a wallet's file again from what its owner has noted down.
fn remake(path: &Path) -> &'static str {
    match path.parent().and_then(Path::file_name) {
        Some(parent) if parent == "hotkeys" => "btcli wallet regen-hotkey",
        _ if path.ends_with("coldkeypub.txt") => "btcli wallet regen-coldkeypub",
        _ => "btcli wallet regen-coldkey",
    }
}
