//! The secret.

use std::fmt;

use reqwest::header::HeaderValue;

use crate::HubError;

/// A Hub access token. It cannot be printed, compared or serialised; only requests to the Hub's own endpoint carry it.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// Takes a token as it stands in an environment variable or a file: surrounding white space is dropped.
    ///
    /// # Errors
    /// [`HubError::Token`] when it is empty or holds characters a token never has.
    pub fn new(text: &str) -> Result<Self, HubError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(HubError::Token { reason: "it is empty" });
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(HubError::Token { reason: "it holds a character that no token has" });
        }
        let mut header = HeaderValue::try_from(format!("Bearer {text}"))
            .map_err(|_| HubError::Token { reason: "it holds a character that no token has" })?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    /// The value of the `Authorization` header, marked sensitive.
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_itself() {
        let token = Token::new(" hf_secret123\n").unwrap();
        for shown in [format!("{token}"), format!("{token:?}"), format!("{:#?}", Some(token.clone()))] {
            assert!(!shown.contains("secret"), "{shown}");
        }
        assert!(!format!("{:?}", token.header()).contains("secret"));
        assert_eq!(token.header().to_str().unwrap(), "Bearer hf_secret123");
    }

    #[test]
    fn refuses_what_is_no_token_without_repeating_it() {
        for bad in ["", "  ", "hf_a b_secret", "hf_\u{e9}secret", "hf_secret\nhf_secret"] {
            let error = Token::new(bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
