//! A miner's wallet in bittensor's layout: `ROOT/NAME/{coldkeypub.txt, coldkey, hotkeys/HOTKEY}`.

mod keyfile;

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

impl Wallet {
    /// Opens `root/name` with one of its hotkeys. `env` looks up the `BT_PW_…` variable of an encrypted key.
    ///
    /// # Errors
    /// The `Keyfile…`, `Password…` and `EncryptionUnsupported` variants of [`ChainError`], each naming the file.
    pub fn open(
        root: &Path,
        name: &str,
        hotkey: &str,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ChainError> {
        let dir = root.join(name);
        if !dir.is_dir() {
            return Err(ChainError::KeyfileMissing { path: dir, what: "wallet", remedy: "btcli wallet create" });
        }
        let coldkey = keyfile::read_address(&dir.join("coldkeypub.txt"))?;
        let hotkey = keyfile::read_key(&dir.join("hotkeys").join(hotkey), &keyfile::HOTKEY, env)?;
        Ok(Self { dir, coldkey, hotkey })
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
        fs::create_dir_all(&hotkeys).map_err(|source| ChainError::KeyfileIo { path: hotkeys, source })?;
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
        let path = self.dir.join("coldkey");
        let key = keyfile::read_key(&path, &keyfile::COLDKEY, env)?;
        if key.ss58() == self.coldkey {
            return Ok(key);
        }
        let reason = format!("its key belongs to {}, and coldkeypub.txt names {}", key.ss58(), self.coldkey);
        Err(ChainError::KeyfileMalformed { path, reason })
    }
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
            _ => ChainError::KeyfileIo { path, source },
        }
    })
}

#[cfg(test)]
mod tests;
