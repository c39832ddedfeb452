//! The submission's wallet.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use deval_chain::{ChainError, Wallet};
use deval_model::coldkey::account;
use deval_report::Diagnostic;

use crate::context::Context;

/// Opens the wallet that the manifest names.
///
/// # Errors
/// Missing or unreadable key files, each named.
pub(crate) fn open(context: &Context) -> Result<Wallet, ChainError> {
    let settings = &context.manifest.wallet;
    Wallet::open(&context.path(&settings.path), &settings.name, &settings.hotkey, |name| context.secrets.get(&[name]))
}

/// File with the coldkey's address, in the wallet's folder.
const PUBLIC: &str = "coldkeypub.txt";

/// Bytes that no such file has.
const LARGEST: u64 = 64 * 1024;

/// What is wrong with a wallet whose folder is there; nothing when there is none at all.
pub(crate) fn fault(context: &Context) -> Option<Diagnostic> {
    let settings = &context.manifest.wallet;
    let dir = context.path(&settings.path).join(&settings.name);
    if !dir.is_dir() {
        return None;
    }
    let public = dir.join(PUBLIC);
    let shown = |path: &Path| path.strip_prefix(context.root()).unwrap_or(path).display().to_string();
    if let Some(what) = public_fault(&public) {
        let finding = Diagnostic::error("G31", format!("the wallet's {PUBLIC} {what}")).in_file(shown(&public));
        return Some(finding.expected("the JSON object that bittensor writes").help("`btcli wallet regen-coldkeypub`"));
    }
    let error = open(context).err()?;
    let file = match &error {
        ChainError::Address { .. } => public,
        ChainError::KeyfileMissing { path, .. }
        | ChainError::KeyfileIo { path, .. }
        | ChainError::KeyfileMalformed { path, .. } => path.clone(),
        _ => dir,
    };
    let finding = Diagnostic::error("G31", format!("the wallet cannot be used: {error}")).in_file(shown(&file));
    Some(finding.help("restore the file (`btcli wallet regen-coldkeypub`, `btcli wallet regen-hotkey`), or name another wallet under [wallet]"))
}

/// What a public keyfile is in place of what bittensor writes, as far as its bytes tell at once.
fn public_fault(path: &Path) -> Option<String> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) => return Some(format!("cannot be read: {error}")),
    };
    if !meta.is_file() {
        return Some("is not a file".into());
    }
    let mut bytes = Vec::new();
    if let Err(error) = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)) {
        return Some(format!("cannot be read: {error}"));
    }
    if bytes.len() as u64 > LARGEST {
        return Some("is too large to be a keyfile".into());
    }
    let text = String::from_utf8_lossy(&bytes);
    if text.trim().is_empty() {
        return Some("is empty".into());
    }
    if text.starts_with('\u{feff}') {
        return Some("begins with a byte order mark (BOM)".into());
    }
    if account(text.trim()).is_some() {
        return Some("holds the bare address, not a JSON object with ss58Address".into());
    }
    let address = serde_json::from_slice::<serde_json::Value>(&bytes).ok()?;
    let long = address["ss58Address"].as_str().is_some_and(|address| address.len() > 64);
    long.then(|| "has an ss58Address longer than any address".into())
}

/// The coldkey's address, when the wallet can be opened.
pub(crate) fn coldkey(context: &Context) -> Option<String> {
    if fault(context).is_some() {
        return None;
    }
    open(context).ok().map(|wallet| wallet.coldkey_ss58().to_owned())
}
