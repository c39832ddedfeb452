//! Keys.

use std::fmt;

use crate::LlmError;

/// A key. It cannot be shown, compared or serialised; only the headers of requests carry it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes a key as it stands in an environment variable or a file: surrounding white space is dropped. `name` tells in errors which
    /// key is meant.
    ///
    /// # Errors
    /// [`LlmError::Secret`] when it is empty or holds characters that no key has.
    pub fn new(name: &str, text: &str) -> Result<Self, LlmError> {
        let bad = |reason| Err(LlmError::Secret { name: name.to_owned(), reason });
        let text = text.trim();
        if text.is_empty() {
            return bad("it is empty");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return bad("it holds a character that no key has");
        }
        Ok(Self(text.to_owned()))
    }

    /// The key in an environment variable, `None` where it is not set.
    ///
    /// # Errors
    /// As [`Secret::new`].
    pub fn from_env(variable: &str) -> Result<Option<Self>, LlmError> {
        match std::env::var(variable) {
            Ok(text) => Self::new(variable, &text).map(Some),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Self::new(variable, "\u{fffd}").map(Some),
        }
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// The text without this key: servers repeat what they refuse.
    pub(crate) fn scrub(&self, text: &str) -> String {
        text.replace(&self.0, "(hidden)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_itself() {
        let secret = Secret::new("KEY", " sk-secret123\n").unwrap();
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "Secret(hidden) Some(\n    Secret(hidden),\n)");
        assert_eq!(secret.expose(), "sk-secret123");
        assert_eq!(secret.scrub("no such key: sk-secret123!"), "no such key: (hidden)!");
    }

    #[test]
    fn refuses_what_is_no_key_without_repeating_it() {
        for bad in ["", "  ", "sk a secret", "sk_\u{e9}secret", "secret\nsecret"] {
            let error = Secret::new("KEY", bad).unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("KEY"), "{error}");
        }
        assert!(Secret::from_env("DEVAL_LLM_NO_SUCH_VARIABLE").unwrap().is_none());
    }
}
