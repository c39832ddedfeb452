//! Tokens and passwords: from the environment, else from `.env` beside the manifest, else typed. Never printed, never packaged.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    env, fs, io,
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::Context as _;
use deval_hub::Token;
use zeroize::Zeroizing;

use crate::ui::Ui;

/// Names of the Hub's token, the first with a value counts: the one that upstream reads, and the one of Hugging Face's own tools.
const HUB_TOKEN: [&str; 2] = ["HUGGINGFACE_TOKEN", "HF_TOKEN"];

/// Longest token file that is read, in bytes.
const LONGEST_TOKEN: u64 = 10_000;

/// What was typed in this run, by name. Clones are the same.
pub(crate) type Typed = Rc<RefCell<BTreeMap<String, Zeroizing<String>>>>;

/// What could be read of a `.env`, and the lines that could not.
#[derive(Default)]
struct DotEnv {
    pairs: HashMap<String, String>,
    left_out: Vec<usize>,
}

impl DotEnv {
    /// Line by line where one cannot be read, so that it does not take the others with it. Such a line is not shown: it may hold a token.
    fn read(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let parsed = |text: &str| dotenvy::from_read_iter(text.as_bytes()).collect::<Result<HashMap<_, _>, _>>();
        if let Ok(pairs) = parsed(text) {
            return Self { pairs, left_out: Vec::new() };
        }
        text.lines().enumerate().fold(Self::default(), |mut read, (number, line)| {
            match parsed(line).or_else(|_| parsed(&quoted(line))) {
                Ok(pairs) => read.pairs.extend(pairs),
                Err(_) => read.left_out.push(number + 1),
            }
            read
        })
    }
}

/// A value with spaces needs quotes for some readers of `.env`, and none for others.
fn quoted(line: &str) -> String {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    if value.contains(['\'', '"', '\\']) { line.to_owned() } else { format!("{name}='{}'", value.trim()) }
}

/// Looks a name up in the environment, then in `.env`, then among what was typed.
pub(crate) struct Secrets {
    dotenv: HashMap<String, String>,
    pub(crate) typed: Typed,
}

impl Secrets {
    /// Reads `.env` in the manifest's folder, if there is one; `ui` hears which lines were left out.
    pub(crate) fn beside(manifest_dir: &Path, ui: Ui) -> anyhow::Result<Self> {
        let path = manifest_dir.join(".env");
        if !path.exists() {
            return Ok(Self { dotenv: HashMap::new(), typed: Typed::default() });
        }
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let DotEnv { pairs: dotenv, left_out } = DotEnv::read(&String::from_utf8_lossy(&text));
        for line in left_out {
            ui.say(format!("{}:{line} is not `NAME=value` and was left out", path.display()));
        }
        Ok(Self { dotenv, typed: Typed::default() })
    }

    /// Every value that is a secret by its name, wherever it is from.
    pub(crate) fn values(&self) -> Vec<String> {
        const WORDS: [&str; 7] = ["TOKEN", "SECRET", "PASSWORD", "PASSPHRASE", "CREDENTIAL", "API_KEY", "BT_PW_"];
        let all = env::vars().chain(self.beside_environment());
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

    /// Names and values that stand in `.env` or were typed, and begin so.
    pub(crate) fn not_in_environment(&self, prefix: &str) -> BTreeMap<String, String> {
        self.beside_environment().into_iter().filter(|(name, _)| name.starts_with(prefix)).collect()
    }

    fn beside_environment(&self) -> BTreeMap<String, String> {
        let typed = self.typed.borrow();
        let typed = typed.iter().map(|(name, value)| (name.clone(), value.to_string()));
        self.dotenv.clone().into_iter().chain(typed).collect()
    }

    /// The first of these names that has a value.
    pub(crate) fn get(&self, names: &[&str]) -> Option<String> {
        let filled = |value: &String| !value.is_empty();
        let from_env = names.iter().find_map(|name| env::var(name).ok().filter(filled));
        from_env
            .or_else(|| names.iter().find_map(|name| self.dotenv.get(*name).filter(|value| filled(value)).cloned()))
            .or_else(|| names.iter().find_map(|name| self.typed.borrow().get(*name).map(|value| value.to_string())))
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
    fn one_line_that_cannot_be_read_does_not_hide_the_others() {
        let read =
            DotEnv::read("\u{feff}# a miner's\nNOTE=my run name\r\nMY-KEY=3\nexport HF_TOKEN='hf_a'\nBROKEN='x\n");
        let mut pairs: Vec<_> = read.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pairs.sort_unstable();
        assert_eq!((pairs, read.left_out), (vec![("HF_TOKEN", "hf_a"), ("NOTE", "my run name")], vec![3, 5]));
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
