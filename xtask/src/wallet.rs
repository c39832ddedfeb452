//! The submission's wallet.

use deval_chain::{ChainError, Wallet};

use crate::context::Context;

/// Opens the wallet that the manifest names.
///
/// # Errors
/// Missing or unreadable key files, each named.
pub(crate) fn open(context: &Context) -> Result<Wallet, ChainError> {
    let settings = &context.manifest.wallet;
    Wallet::open(&context.path(&settings.path), &settings.name, &settings.hotkey, |name| context.secrets.get(&[name]))
}

/// The coldkey's address, when the wallet can be opened.
pub(crate) fn coldkey(context: &Context) -> Option<String> {
    open(context).ok().map(|wallet| wallet.coldkey_ss58().to_owned())
}
