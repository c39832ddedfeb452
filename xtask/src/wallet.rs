//! The submission's wallet.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use deval_chain::{ChainError, KeyPair, Passwords, Wallet};
use deval_model::coldkey::account;
use deval_report::{Diagnostic, Inputs, Report, Section};
use nix::{
    sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices as Key, tcgetattr, tcsetattr},
    unistd,
};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{context::Context, secrets::Secrets};

/// Passwords from the environment and `.env`, else from whoever sits at the terminal.
struct AtTerminal<'a>(&'a Secrets);

impl Passwords for AtTerminal<'_> {
    fn stored(&self, variable: &str) -> Option<Zeroizing<String>> {
        self.0.get(&[variable]).map(Zeroizing::new)
    }

    fn ask(&self, path: &Path) -> Option<Zeroizing<String>> {
        let terminal = console::Term::stderr();
        if !io::stdin().is_terminal() || !terminal.is_term() {
            return None;
        }
        terminal.write_line(&format!("password of {} (nothing is shown while you type):", path.display())).ok()?;
        let typed = hidden_line();
        terminal.write_line("").ok()?;
        typed
    }

    fn opened(&self, variable: &str, stored: Zeroizing<String>) {
        self.0.typed.borrow_mut().insert(variable.to_owned(), stored);
    }
}

/// One line of the terminal at standard input, which does not show it; nothing where Enter did not end it. No key ends the program meanwhile,
/// or what is typed afterwards would not be shown either: the one that interrupts (Ctrl-C) ends the line.
fn hidden_line() -> Option<Zeroizing<String>> {
    /// Longest line that a terminal gives.
    const LONGEST: usize = 4096;
    let stdin = io::stdin();
    let usual = tcgetattr(&stdin).ok()?;
    let mut hidden = usual.clone();
    hidden.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
    hidden.local_flags.insert(LocalFlags::ICANON);
    hidden.control_chars[Key::VEOL as usize] = usual.control_chars[Key::VINTR as usize];
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden).ok()?;
    let mut line = Zeroizing::new([0_u8; LONGEST]);
    let read = unistd::read(&stdin, &mut line[..]);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &usual).ok()?;
    let typed = str::from_utf8(&line[..read.ok()?]).ok()?.strip_suffix('\n')?;
    Some(Zeroizing::new(typed.trim_end_matches('\r').to_owned()))
}

/// Opens the wallet that the manifest names. The password of an encrypted hotkey is asked for where somebody sits at a terminal, once.
///
/// # Errors
/// Missing or unreadable key files, each named.
pub(crate) fn open(context: &Context) -> Result<Wallet, ChainError> {
    let (root, settings) = (root(context), &context.manifest.wallet);
    Wallet::open_with(&root, &settings.name, &settings.hotkey, &AtTerminal(&context.secrets))
}

/// The coldkey's secret, which only a registration needs.
///
/// # Errors
/// As [`open`].
pub(crate) fn coldkey_secret(context: &Context, wallet: &Wallet) -> Result<KeyPair, ChainError> {
    wallet.coldkey_with(&AtTerminal(&context.secrets))
}

fn root(context: &Context) -> PathBuf {
    context.path(&context.manifest.wallet.path)
}

/// A finding for each secret keyfile that others may read.
pub(crate) fn exposed(context: &Context) -> Vec<Diagnostic> {
    let found = Wallet::exposed(&root(context), &context.manifest.wallet.name).unwrap_or_default();
    let finding = |file: deval_chain::Exposed| {
        let path = file.path.strip_prefix(context.root()).unwrap_or(&file.path).display().to_string();
        Diagnostic::warning("wallet.permissions", "others than its owner may read this secret key")
            .in_file(&path)
            .found(format!("mode {:04o}", file.mode))
            .expected("mode 0600")
            .help(format!("`chmod 600 {path}`; if it was like that on a shared machine, take a new hotkey"))
    };
    found.into_iter().map(finding).collect()
}

/// The addresses of the wallet that the manifest names.
#[derive(Debug, Serialize)]
pub(crate) struct Addresses {
    name: String,
    /// The hotkey that the manifest names.
    hotkey: String,
    coldkey: String,
    hotkeys: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Named {
    name: String,
    /// Absent for an encrypted hotkey without a public keyfile beside it, and for one that cannot be used.
    address: Option<String>,
    unusable: bool,
}

/// `cargo xtask wallet show`: addresses, and nothing secret. No password is asked for.
pub(crate) fn show(context: &Context) -> anyhow::Result<Report<Addresses>> {
    let settings = &context.manifest.wallet;
    let found = Wallet::addresses(&root(context), &settings.name)?;
    let mut diagnostics = exposed(context);
    if !found.hotkeys.iter().any(|(name, _)| *name == settings.hotkey) {
        let finding =
            Diagnostic::error("wallet.hotkey", "the wallet has no hotkey of this name").found(&settings.hotkey);
        let names: Vec<_> = found.hotkeys.iter().map(|(name, _)| name.as_str()).collect();
        let finding = finding.expected(if names.is_empty() { "any hotkey".to_owned() } else { names.join(", ") });
        diagnostics.push(
            context.place(finding.help("name another under [wallet], or `btcli wallet new-hotkey`"), "wallet.hotkey"),
        );
    }
    let mut named = |(name, address): (String, Result<Option<String>, ChainError>)| {
        let fault = address.as_ref().err().map(ToString::to_string);
        if let Some(fault) = &fault {
            let message = format!("the hotkey `{name}` cannot be used");
            let ours = name == settings.hotkey;
            let finding = if ours { Diagnostic::error } else { Diagnostic::warning };
            diagnostics.push(finding("wallet.hotkey", message).found(fault));
        }
        Named { name, unusable: fault.is_some(), address: address.ok().flatten() }
    };
    let hotkeys = found.hotkeys.into_iter().map(&mut named).collect();
    let (name, hotkey) = (settings.name.clone(), settings.hotkey.clone());
    let result = Addresses { name, hotkey, coldkey: found.coldkey, hotkeys };
    Ok(Report::new("wallet", Inputs::default(), diagnostics, Some(result)))
}

impl Addresses {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let shown = |named: &Named| {
            let mark = if named.name == self.hotkey { "used" } else { "" };
            let absent = if named.unusable { "cannot be used" } else { "encrypted, and no public keyfile beside it" };
            let address = named.address.clone().unwrap_or_else(|| absent.to_owned());
            vec![named.name.clone(), address, mark.to_owned()]
        };
        let section = Section::new(format!("Wallet {}", self.name)).row("coldkey", &self.coldkey);
        vec![section.table(&["hotkey", "address", ""], self.hotkeys.iter().map(shown).collect())]
    }
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
    // An encrypted key is opened when it is needed, not to look at it.
    let error = match Wallet::open(&root(context), &settings.name, &settings.hotkey, |_| None).err()? {
        ChainError::PasswordMissing { .. } => return None,
        error => error,
    };
    let file = match &error {
        ChainError::Address { .. } => public,
        ChainError::KeyfileMissing { path, .. }
        | ChainError::KeyfileIo { path, .. }
        | ChainError::KeyfileDenied { path }
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

/// The coldkey's address; the hotkey is not needed for it.
///
/// # Errors
/// A missing or unreadable public keyfile, named.
pub(crate) fn coldkey_address(context: &Context) -> Result<String, ChainError> {
    Wallet::coldkey_of(&root(context), &context.manifest.wallet.name)
}

/// The coldkey's address, when the wallet can be opened.
pub(crate) fn coldkey(context: &Context) -> Option<String> {
    if fault(context).is_some() {
        return None;
    }
    coldkey_address(context).ok()
}
