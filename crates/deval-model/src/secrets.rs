//! Secrets in files that are about to be published. What is found is named by kind and line, never repeated.

/// Files larger than this are data and are not searched.
pub(crate) const LARGEST: u64 = 32 * 1024 * 1024;

/// A secret: what it looks like, and its line from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) what: &'static str,
    pub(crate) line: u32,
}

/// Texts that only key files have.
const MARKS: [(&[u8], &str); 5] = [
    (b"PRIVATE KEY-----", "a private key"),
    (b"\"secretPhrase\"", "a wallet's key file"),
    (b"\"secretSeed\"", "a wallet's key file"),
    (b"$NACL", "an encrypted wallet key file"),
    (b"$ANSIBLE_VAULT", "an encrypted wallet key file"),
];

/// Tokens by their beginning, with the length that the rest has at least.
const TOKENS: [(&[u8], usize, &str); 2] =
    [(b"hf_", 30, "a Hugging Face token (hf_…)"), (b"sk-", 24, "an API key (sk-…)")];

/// The first secret in a file's bytes.
pub(crate) fn find(bytes: &[u8]) -> Option<Secret> {
    let marks = MARKS.iter().filter_map(|(mark, what)| Some((position(bytes, mark)?, *what)));
    let tokens = TOKENS.iter().filter_map(|(start, length, what)| Some((token(bytes, start, *length)?, *what)));
    let (at, what) = marks.chain(tokens).min_by_key(|(at, _)| *at)?;
    let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
    Some(Secret { what, line })
}

/// Whether a file of this name is kept for secrets.
pub(crate) fn named(name: &str) -> bool {
    let kept = matches!(name, "id_rsa" | "id_ed25519" | ".netrc" | ".git-credentials" | ".pypirc");
    kept || name == ".env" || name.starts_with(".env.") || name.ends_with(".pem")
}

fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == needle[0]) {
        if bytes[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// A token that stands by itself: nothing of a word before it, and long enough behind its beginning to be no word either.
fn token(bytes: &[u8], start: &[u8], length: usize) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = position(&bytes[from..], start).map(|at| from + at) {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        let rest = bytes[at + start.len()..].iter();
        let body: Vec<u8> =
            rest.copied().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_').collect();
        let alone = before.is_none_or(|byte| !byte.is_ascii_alphanumeric() && byte != b'_' && byte != b'-');
        let mixed = body.iter().any(u8::is_ascii_digit) && body.iter().any(u8::is_ascii_alphabetic);
        if alone && mixed && body.len() >= length {
            return Some(at);
        }
        from = at + start.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Put together here, so that this file holds none.
    fn sample(start: &str) -> String {
        format!("{start}{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3h")
    }

    #[test]
    fn tokens_are_found_with_their_line() {
        let text = format!("# settings\ntoken = \"{}\"\n", sample("hf_"));
        assert_eq!(find(text.as_bytes()), Some(Secret { what: "a Hugging Face token (hf_…)", line: 2 }));
        assert_eq!(find(sample("sk-").as_bytes()).map(|secret| secret.what), Some("an API key (sk-…)"));
        assert_eq!(find(sample("sk-proj-").as_bytes()).map(|secret| secret.line), Some(1));
    }

    #[test]
    fn key_files_are_found() {
        for text in ["-----BEGIN OPENSSH PRIVATE KEY-----", "{\"secretPhrase\": \"a b\"}", "$NACL\u{1}\u{2}"] {
            assert!(find(text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn ordinary_text_is_not_a_secret() {
        for text in [
            "hf_device_map",
            "hf_hub_download_with_a_very_long_name_indeed",
            "task-1234567890123456789012345",
            "sk-learn",
            "",
            "h",
        ] {
            assert_eq!(find(text.as_bytes()), None, "{text}");
        }
        assert!(find(format!("x{}", sample("hf_")).as_bytes()).is_none());
    }

    #[test]
    fn names_kept_for_secrets() {
        assert!(named(".env") && named(".env.local") && named("id_rsa") && named("server.pem"));
        assert!(!named("environment.yml") && !named("config.json"));
    }
}
