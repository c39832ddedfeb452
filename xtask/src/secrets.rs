//! Tokens: from the environment, else from `.env` beside the manifest. Never printed, never packaged.

use std::{
    collections::{BTreeMap, HashMap},
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use deval_hub::Token;

/// Names of the Hub's token, the first with a value counts: the one that upstream reads, and the one of Hugging Face's own tools.
const HUB_TOKEN: [&str; 2] = ["HUGGINGFACE_TOKEN", "HF_TOKEN"];

/// Longest token file that is read, in bytes.
const LONGEST_TOKEN: u64 = 10_000;

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

    /// The Hub's token: from the environment, else from `.env`, else from the file in which `hf auth login` keeps it.
    ///
    /// # Errors
    /// When what is found there is no token, or the file cannot be read. Neither is shown.
    pub(crate) fn hub_token(&self) -> anyhow::Result<Option<Token>> {
        if let Some(token) = self.get(&HUB_TOKEN) {
            return Token::new(&token)
                .map(Some)
                .context("HUGGINGFACE_TOKEN or HF_TOKEN, from the environment or `.env`");
        }
        let Some(path) = token_file(|name| env::var(name).ok().filter(|value| !value.is_empty())) else {
            return Ok(None);
        };
        let shown = || format!("the token file {}", path.display());
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(meta) if !meta.is_file() || meta.len() > LONGEST_TOKEN => anyhow::bail!("{} holds no token", shown()),
            _ => {}
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", shown()))?;
        if text.trim().is_empty() { Ok(None) } else { Token::new(&text).map(Some).with_context(shown) }
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

/// Where Hugging Face's tools keep the token (`huggingface_hub/constants.py`, `HF_TOKEN_PATH`).
fn token_file(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let home = || variable("HOME").map(PathBuf::from).or_else(env::home_dir);
    let path = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| {
        let cache = || variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(home()?.join(".cache")));
        let root = variable("HF_HOME").map(PathBuf::from).or_else(|| Some(cache()?.join("huggingface")));
        Some(root?.join("token"))
    })?;
    // As Python's `os.path.expanduser`.
    match path.strip_prefix("~") {
        Ok(rest) => Some(home()?.join(rest)),
        Err(_) => Some(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(variables: &[(&str, &str)]) -> String {
        let value =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        token_file(value).unwrap().display().to_string()
    }

    #[test]
    fn the_token_file_is_where_hugging_faces_tools_keep_it() {
        let home = ("HOME", "/home/me");
        assert_eq!(file(&[home]), "/home/me/.cache/huggingface/token");
        assert_eq!(file(&[home, ("XDG_CACHE_HOME", "/cache")]), "/cache/huggingface/token");
        assert_eq!(file(&[home, ("XDG_CACHE_HOME", "/cache"), ("HF_HOME", "/hf")]), "/hf/token");
        assert_eq!(file(&[home, ("HF_HOME", "/hf"), ("HF_TOKEN_PATH", "/run/token")]), "/run/token");
        assert_eq!(file(&[home, ("HF_HOME", "~/hf")]), "/home/me/hf/token");
    }
}
