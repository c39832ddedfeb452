//! Tokens: from the environment, else from `.env` beside the manifest. Never printed, never packaged.

use std::{
    collections::{BTreeMap, HashMap},
    env,
    path::Path,
};

use anyhow::Context as _;

/// Looks a name up in the environment, then in `.env`.
pub(crate) struct Secrets {
    dotenv: HashMap<String, String>,
}

impl Secrets {
    /// Reads `.env` in the manifest's folder, if there is one.
    pub(crate) fn beside(manifest_dir: &Path) -> anyhow::Result<Self> {
        let path = manifest_dir.join(".env");
        if !path.exists() {
            return Ok(Self { dotenv: HashMap::new() });
        }
        // The parser's own error would quote the line, and with it the token.
        let pairs = dotenvy::from_path_iter(&path).ok().and_then(|lines| lines.collect::<Result<_, _>>().ok());
        let dotenv = pairs.with_context(|| format!("{} is not `NAME=value` on every line", path.display()))?;
        Ok(Self { dotenv })
    }

    /// Every value that is a secret by its name, from the environment and from `.env`.
    pub(crate) fn values(&self) -> Vec<String> {
        const WORDS: [&str; 7] = ["TOKEN", "SECRET", "PASSWORD", "PASSPHRASE", "CREDENTIAL", "API_KEY", "BT_PW_"];
        let all = env::vars().chain(self.dotenv.clone());
        all.filter(|(name, _)| WORDS.iter().any(|word| name.to_uppercase().contains(word)))
            .map(|(_, value)| value)
            .collect()
    }

    /// Names and values of `.env` whose names begin so.
    pub(crate) fn in_dotenv(&self, prefix: &str) -> BTreeMap<String, String> {
        let begins = |pair: &(&String, &String)| pair.0.starts_with(prefix);
        self.dotenv.iter().filter(begins).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The first of these names that has a value.
    pub(crate) fn get(&self, names: &[&str]) -> Option<String> {
        let from_env = names.iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
        from_env
            .or_else(|| names.iter().find_map(|name| self.dotenv.get(*name).filter(|value| !value.is_empty()).cloned()))
    }
}
