//! A miner's wallet in bittensor's layout: `ROOT/NAME/{coldkeypub.txt, coldkey, hotkeys/HOTKEY}`.

mod keyfile;
mod sealed;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::keys::random_seed;
use crate::{ChainError, KeyPair};

/// The coldkey's address and the hotkey. The coldkey's secret stays on disk until [`Wallet::coldkey`] asks for it.
#[derive(Debug, Clone)]
pub struct Wallet {
    dir: PathBuf,
    coldkey: String,
    hotkey: KeyPair,
}

/// Where the passwords of encrypted keyfiles come from.
pub trait Passwords {
    /// What a `BT_PW_…` variable holds: the password XOR the variable's name, bare or as base64, as btcli saves it.
    fn stored(&self, variable: &str) -> Option<Zeroizing<String>>;

    /// Asks a person for the password of a keyfile, where one sits at a terminal; nothing else may wait for an answer.
    fn ask(&self, path: &Path) -> Option<Zeroizing<String>>;

    /// Hears of a typed password that opened its keyfile, in the form that the variable would hold.
    fn opened(&self, _variable: &str, _stored: Zeroizing<String>) {}
}

/// The variables only; nobody is asked.
struct Stored<F>(F);

impl<F: Fn(&str) -> Option<String>> Passwords for Stored<F> {
    fn stored(&self, variable: &str) -> Option<Zeroizing<String>> {
        (self.0)(variable).map(Zeroizing::new)
    }

    fn ask(&self, _: &Path) -> Option<Zeroizing<String>> {
        None
    }
}

/// The addresses of a wallet, without any of its secrets.
#[derive(Debug)]
pub struct WalletAddresses {
    /// The coldkey's, as SS58.
    pub coldkey: String,
    /// The hotkeys by name with their addresses (SS58); nothing for an encrypted one without a public keyfile beside it, and an error for
    /// one that cannot be used.
    pub hotkeys: Vec<(String, Result<Option<String>, ChainError>)>,
}

/// A keyfile with a secret that others than its owner may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// The file.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

impl Wallet {
    /// Opens `root/name` with one of its hotkeys. `env` looks up the `BT_PW_…` variable of an encrypted key; nobody is asked.
    ///
    /// # Errors
    /// The `Keyfile…` and `Password…` variants of [`ChainError`], each naming the file.
    pub fn open(
        root: &Path,
        name: &str,
        hotkey: &str,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ChainError> {
        Self::open_with(root, name, hotkey, &Stored(env))
    }

    /// The same with any source of passwords.
    ///
    /// # Errors
    /// As [`Wallet::open`].
    pub fn open_with(root: &Path, name: &str, hotkey: &str, passwords: &impl Passwords) -> Result<Self, ChainError> {
        let coldkey = Self::coldkey_of(root, name)?;
        let dir = root.join(name);
        let hotkey = keyfile::read_key(&dir.join("hotkeys").join(hotkey), &keyfile::HOTKEY, passwords)?;
        Ok(Self { dir, coldkey, hotkey })
    }

    /// The addresses of `root/name` and of all its hotkeys. No password is needed.
    ///
    /// # Errors
    /// The `Keyfile…` variants of [`ChainError`] and [`ChainError::Address`], each naming the file.
    pub fn addresses(root: &Path, name: &str) -> Result<WalletAddresses, ChainError> {
        let coldkey = Self::coldkey_of(root, name)?;
        let dir = root.join(name);
        let hotkeys = hotkey_files(&dir)?.into_iter().map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, keyfile::address_of_secret(&path, &keyfile::HOTKEY))
        });
        Ok(WalletAddresses { coldkey, hotkeys: hotkeys.collect() })
    }

    /// The coldkey's address of `root/name`, from its public keyfile.
    ///
    /// # Errors
    /// As [`Wallet::addresses`].
    pub fn coldkey_of(root: &Path, name: &str) -> Result<String, ChainError> {
        keyfile::read_address(&existing(root, name)?.join("coldkeypub.txt"))
    }

    /// The secret keyfiles of `root/name` that others than their owner may read.
    ///
    /// # Errors
    /// [`ChainError::KeyfileMissing`] without such a wallet, [`ChainError::KeyfileIo`].
    pub fn exposed(root: &Path, name: &str) -> Result<Vec<Exposed>, ChainError> {
        let dir = existing(root, name)?;
        let mut files = hotkey_files(&dir)?;
        files.push(dir.join("coldkey"));
        Ok(files.into_iter().filter_map(exposed).collect())
    }

    /// Makes a wallet of random keys, unencrypted and readable by their owner only: for the local network, where nothing can
    /// be lost with it.
    ///
    /// # Errors
    /// [`ChainError::WalletExists`] when any of its files is there already, [`ChainError::KeyfileIo`] when one cannot be written.
    pub fn create_throwaway(root: &Path, name: &str, hotkey: &str) -> Result<Self, ChainError> {
        let dir = root.join(name);
        let hotkeys = dir.join("hotkeys");
        let paths = [hotkeys.join(hotkey), dir.join("coldkey"), dir.join("coldkeypub.txt")];
        if let Some(path) = paths.iter().find(|path| path.exists()) {
            return Err(ChainError::WalletExists { path: path.clone() });
        }
        fs::create_dir_all(&hotkeys).map_err(|reason| ChainError::KeyfileIo { path: hotkeys, reason })?;
        let [hot, cold] = [Zeroizing::new(random_seed()), Zeroizing::new(random_seed())];
        let [hot_path, cold_path, address_path] = paths;
        let hotkey = write_new(&hot_path, &keyfile::of_seed(&hot)).map(|()| keyfile::key_of_seed(&hot))?;
        write_new(&cold_path, &keyfile::of_seed(&cold))?;
        let coldkey = keyfile::key_of_seed(&cold);
        write_new(&address_path, &keyfile::of_address(&coldkey))?;
        Ok(Self { dir, coldkey: coldkey.ss58(), hotkey })
    }

    /// The coldkey's address: the owner of the hotkey, and what `coldkey.txt` in the model repository must hold.
    pub fn coldkey_ss58(&self) -> &str {
        &self.coldkey
    }

    /// The hotkey's address.
    pub fn hotkey_ss58(&self) -> String {
        self.hotkey.ss58()
    }

    /// The hotkey, which signs commitments, announcements and requests.
    pub fn hotkey(&self) -> &KeyPair {
        &self.hotkey
    }

    /// Reads the coldkey's secret, which only registration needs.
    ///
    /// # Errors
    /// As [`Wallet::open`]; also when the key is not the one of `coldkeypub.txt`.
    pub fn coldkey(&self, env: impl Fn(&str) -> Option<String>) -> Result<KeyPair, ChainError> {
        self.coldkey_with(&Stored(env))
    }

    /// The same with any source of passwords.
    ///
    /// # Errors
    /// As [`Wallet::coldkey`].
    pub fn coldkey_with(&self, passwords: &impl Passwords) -> Result<KeyPair, ChainError> {
        let path = self.dir.join("coldkey");
        let key = keyfile::read_key(&path, &keyfile::COLDKEY, passwords)?;
        if key.ss58() == self.coldkey {
            return Ok(key);
        }
        let reason = format!("its key belongs to {}, and coldkeypub.txt names {}", key.ss58(), self.coldkey);
        Err(ChainError::KeyfileMalformed { path, reason })
    }
}

fn existing(root: &Path, name: &str) -> Result<PathBuf, ChainError> {
    let dir = root.join(name);
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(ChainError::KeyfileMissing { path: dir, what: "wallet", remedy: "btcli wallet create" })
}

/// The secret keyfiles of a wallet's hotkeys, by name; btwallet 4 puts public ones beside them, and editors hidden ones.
fn hotkey_files(dir: &Path) -> Result<Vec<PathBuf>, ChainError> {
    let dir = dir.join("hotkeys");
    let entries = match fs::read_dir(&dir) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|reason| ChainError::KeyfileIo { path: dir, reason })?,
    };
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    let hidden = |name: &str| name.starts_with('.') || name.ends_with("pub.txt");
    let mut files: Vec<_> =
        files.filter(|path| path.file_name().is_some_and(|name| !hidden(&name.to_string_lossy()))).collect();
    files.sort();
    Ok(files)
}

#[cfg(unix)]
fn exposed(path: PathBuf) -> Option<Exposed> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(&path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(Exposed { path, mode })
}

/// Who may read a file is not told by bits elsewhere.
#[cfg(not(unix))]
fn exposed(_: PathBuf) -> Option<Exposed> {
    None
}

fn write_new(path: &Path, content: &str) -> Result<(), ChainError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).and_then(|mut file| file.write_all(content.as_bytes())).map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => ChainError::WalletExists { path },
            _ => ChainError::KeyfileIo { path, reason: source },
        }
    })
}

#[cfg(test)]
mod tests;
