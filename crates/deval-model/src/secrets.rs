//! Secrets in files that are about to be published. What is found is named by kind and line, never repeated.

use bip39::{Language, Mnemonic};

/// A secret: what it looks like, and its line from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) what: &'static str,
    pub(crate) line: u32,
}

/// Texts that only key files have.
const MARKS: [(&[u8], &str); 3] = [
    (b"PRIVATE KEY-----", "a private key"),
    (b"PuTTY-User-Key-File-", "a private key"),
    (b"AGE-SECRET-KEY-1", "a private key"),
];

/// First bytes of wallet keys in the three encryptions of Bittensor.
const ENCRYPTED: [&[u8]; 3] = [b"$NACL", b"$ANSIBLE_VAULT", b"gAAAAA"];

/// Fields of an unencrypted wallet key. Tokenizers have some of them as tokens, so a text must follow.
const FIELDS: [&[u8]; 3] = [b"\"secretPhrase\"", b"\"secretSeed\"", b"\"privateKey\""];

/// Tokens by their beginning, with the letters and digits without a break that they have at least.
const TOKENS: [(&[u8], usize, &str); 6] = [
    (b"hf_", 30, "a Hugging Face token (hf_…)"),
    (b"sk-", 20, "an API key (sk-…)"),
    (b"ghp_", 30, "a GitHub token (ghp_…)"),
    (b"gho_", 30, "a GitHub token (gho_…)"),
    (b"ghs_", 30, "a GitHub token (ghs_…)"),
    (b"github_pat_", 20, "a GitHub token (github_pat_…)"),
];

/// Names that a secret is given to, in capitals.
const ASSIGNED: [&[u8]; 5] =
    [b"HUGGINGFACE_TOKEN", b"HF_TOKEN", b"OPENAI_API_KEY", b"WANDB_API_KEY", b"AWS_SECRET_ACCESS_KEY"];

/// Letters and digits of a given secret at least.
const SHORTEST: usize = 20;

/// Beginnings of API keys whose dashes and underscores are letters like others.
const DASHED: [&[u8]; 4] = [b"sk-proj-", b"sk-svcacct-", b"sk-admin-", b"sk-ant-"];

/// Characters that such a key has at least behind its beginning.
const SHORTEST_DASHED: usize = 16;

/// The beginning of a Google API key, and the characters behind it.
const GOOGLE: (&[u8], usize) = (b"AIzaSy", 33);

/// The first secret in a file's bytes; text in UTF-16 is decoded where a byte order mark tells of it.
pub(crate) fn find(bytes: &[u8]) -> Option<Secret> {
    find_in(bytes).or_else(|| find_in(utf16(bytes)?.as_bytes()))
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let unit: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return None,
    };
    let units = bytes[2..].as_chunks::<2>().0.iter().map(|pair| unit(*pair));
    Some(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

fn find_in(bytes: &[u8]) -> Option<Secret> {
    let marks = MARKS.iter().filter_map(|(mark, what)| Some((position(bytes, mark, 0)?, *what)));
    let tokens = TOKENS.iter().filter_map(|(start, length, what)| Some((token(bytes, start, *length)?, *what)));
    let encrypted =
        ENCRYPTED.iter().any(|start| bytes.starts_with(start)).then_some((0, "an encrypted wallet key file"));
    let fields = FIELDS.iter().filter_map(|name| Some((field(bytes, name)?, "a wallet's key file")));
    let assigned = ASSIGNED.iter().filter_map(|name| Some((assigned(bytes, name)?, "a secret that is given a name")));
    let dashed = DASHED.iter().filter_map(|start| Some((dashed(bytes, start)?, "an API key (sk-…)")));
    let google = google_key(bytes).map(|at| (at, "a Google API key (AIza…)"));
    let aws = aws_key(bytes).map(|at| (at, "an AWS access key"));
    let phrase = phrase(bytes).map(|at| (at, "the secret phrase of a wallet"));
    let found = marks.chain(tokens).chain(encrypted).chain(fields).chain(assigned).chain(aws).chain(phrase);
    let found = found.chain(dashed).chain(google);
    let (at, what) = found.min_by_key(|(at, _)| *at)?;
    let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
    Some(Secret { what, line })
}

/// Whether a file of this name is kept for secrets.
pub(crate) fn named(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let kept = [
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        ".netrc",
        "_netrc",
        ".git-credentials",
        ".pypirc",
        ".npmrc",
        "credentials",
        "kaggle.json",
    ];
    let endings = [".pem", ".key", ".p12", ".pfx", ".kdbx", ".ppk"];
    let env = name == ".env" || name.starts_with(".env.") || name.ends_with(".env");
    kept.contains(&name.as_str()) || env || endings.iter().any(|ending| name.ends_with(ending))
}

/// The first place of a text from here on.
fn position(bytes: &[u8], needle: &[u8], mut from: usize) -> Option<usize> {
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == needle[0]) {
        if bytes[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// All places of a text.
fn positions<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    std::iter::successors(position(bytes, needle, 0), move |at| position(bytes, needle, at + needle.len()))
}

/// Whether nothing of a word stands before this place.
fn is_alone(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| bytes[before]);
    before.is_none_or(|byte| !byte.is_ascii_alphanumeric() && byte != b'_' && byte != b'-')
}

/// Whether letters and digits are mixed as in keys, and not as in words and placeholders.
fn is_random(text: &[u8]) -> bool {
    let kinds = [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit];
    kinds.iter().filter(|kind| text.iter().any(kind)).count() >= 2
}

/// A token that stands by itself.
fn token(bytes: &[u8], start: &[u8], length: usize) -> Option<usize> {
    positions(bytes, start).find(|&at| {
        let rest = &bytes[at + start.len()..];
        let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"-_".contains(byte));
        let body = &rest[..end.unwrap_or(rest.len())];
        let mut runs = body.split(|byte| !byte.is_ascii_alphanumeric());
        is_alone(bytes, at) && runs.any(|run| run.len() >= length && is_random(run))
    })
}

/// What stands between this place and the next character that no key has.
fn key_from(bytes: &[u8], at: usize) -> &[u8] {
    let rest = &bytes[at..];
    &rest[..rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)).count()]
}

/// An API key that dashes and underscores may break; it mixes all kinds of characters, which names do not.
fn dashed(bytes: &[u8], start: &[u8]) -> Option<usize> {
    positions(bytes, start).find(|&at| {
        let key = key_from(bytes, at + start.len());
        let kinds = [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit];
        is_alone(bytes, at) && key.len() >= SHORTEST_DASHED && kinds.iter().all(|kind| key.iter().any(kind))
    })
}

fn google_key(bytes: &[u8]) -> Option<usize> {
    let (start, length) = GOOGLE;
    positions(bytes, start).find(|&at| {
        let key = key_from(bytes, at + start.len());
        is_alone(bytes, at) && key.len() == length && is_random(key)
    })
}

/// A JSON field that holds a text.
fn field(bytes: &[u8], name: &[u8]) -> Option<usize> {
    positions(bytes, name).find(|at| {
        let rest = bytes[at + name.len()..].trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"\""))
    })
}

/// `NAME=secret`, `NAME: "secret"` and the like, whatever the case of the name.
fn assigned(bytes: &[u8], name: &[u8]) -> Option<usize> {
    let lower = name.to_ascii_lowercase();
    let all = positions(bytes, name).chain(positions(bytes, &lower).collect::<Vec<_>>());
    let fits = |at: &usize| {
        let is_quote = |byte: &u8| b" \t\"'".contains(byte);
        let rest = &bytes[at + name.len()..];
        let rest = &rest[rest.iter().take_while(|byte| is_quote(byte)).count()..];
        let Some((b'=' | b':', rest)) = rest.split_first() else { return false };
        let rest = &rest[rest.iter().take_while(|byte| is_quote(byte)).count()..];
        let is_secret = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
        let value = &rest[..rest.iter().take_while(is_secret).count()];
        value.len() >= SHORTEST && is_random(value)
    };
    all.filter(fits).min()
}

/// `AKIA…` or `ASIA…` with 16 capitals and digits, those of the documentation left out.
fn aws_key(bytes: &[u8]) -> Option<usize> {
    let starts = positions(bytes, b"AKIA").chain(positions(bytes, b"ASIA"));
    let fits = |at: &usize| {
        let is_key = |byte: &&u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        let rest = &bytes[at + 4..];
        let body = &rest[..rest.iter().take_while(is_key).count()];
        let ends = rest.get(body.len()).is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
        body.len() == 16 && ends && is_alone(bytes, *at) && !body.ends_with(b"EXAMPLE") && is_random(body)
    };
    starts.filter(fits).min()
}

/// Twelve to 24 words of the wallets' word list with a right checksum. Words in order of the alphabet are the list itself.
fn phrase(bytes: &[u8]) -> Option<usize> {
    let mut run: Vec<(usize, &str)> = Vec::new();
    for word in bytes.split(u8::is_ascii_whitespace) {
        if word.is_empty() {
            continue;
        }
        let at = word.as_ptr().addr() - bytes.as_ptr().addr();
        match std::str::from_utf8(word).ok().filter(|word| Language::English.find_word(word).is_some()) {
            Some(word) => run.push((at, word)),
            None => {
                if let Some(at) = phrase_in(&run) {
                    return Some(at);
                }
                run.clear();
            }
        }
    }
    phrase_in(&run)
}

fn phrase_in(run: &[(usize, &str)]) -> Option<usize> {
    if run.is_sorted_by_key(|(_, word)| word) {
        return None;
    }
    let valid = |words: &[(usize, &str)]| {
        let words: Vec<_> = words.iter().map(|(_, word)| *word).collect();
        Mnemonic::parse_in_normalized(Language::English, &words.join(" ")).is_ok()
    };
    let windows = (0..run.len()).flat_map(|from| [12, 15, 18, 21, 24].map(|length| run.get(from..from + length)));
    windows.flatten().find(|words| valid(words)).map(|words| words[0].0)
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
    fn tokens_of_letters_alone_are_found_too() {
        let letters = "qZtBnWkRmYcXpLdVhGsJfNaTuQeMwKxCrP";
        for start in ["hf_", "sk-", "sk-ant-api03-", "ghp_", "github_pat_11ABC_"] {
            assert!(find(format!("x = '{start}{letters}'").as_bytes()).is_some(), "{start}");
        }
    }

    #[test]
    fn keys_with_dashes_and_short_ones_are_found() {
        let key = "aB3_dE6-gH9_jK2-mN5_pQ8";
        for start in ["sk-proj-", "sk-svcacct-", "sk-ant-api03-"] {
            assert!(find(format!("key: {start}{key}").as_bytes()).is_some(), "{start}");
        }
        assert!(find(format!("sk-{}", "proj-aB3dE6gH9jK2mN5p").as_bytes()).is_some(), "a short one");
        let google = |body: &str| find(format!("\"key\": \"AIzaSy{body}\"").as_bytes());
        let body = "D-9tSrke72PouQMnMX-a7eZSW0jkFMBWY";
        assert_eq!(google(body).map(|secret| secret.what), Some("a Google API key (AIza…)"));
        assert!(google(&body[1..]).is_none() && google(&format!("{body}x")).is_none(), "another length");
        assert!(google(&"x".repeat(33)).is_none(), "a placeholder");
    }

    #[test]
    fn text_in_utf16_is_decoded() {
        let text = format!("\u{feff}first\r\ntoken = {}\r\n", sample("hf_"));
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(order).collect();
            assert_eq!(find(&bytes), Some(Secret { what: "a Hugging Face token (hf_…)", line: 2 }));
            assert_eq!(find(&bytes[..9]), None, "half a letter");
        }
        assert_eq!(find(&[0xff, 0xfe]), None);
    }

    #[test]
    fn key_files_are_found() {
        let secret = sample("");
        for text in [
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----",
            "{\"secretPhrase\": \"a b\"}",
            "{\"privateKey\" : \"0x00\"}",
            "$NACL\u{1}\u{2}",
            "gAAAAABnZm9v",
            "$ANSIBLE_VAULT;1.1;AES256",
            &format!("export HF_TOKEN={secret}"),
            &format!("wandb_api_key: '{secret}'"),
            &format!("aws_secret_access_key = {secret}"),
            &format!("key AKIA{}", "Q3EGJ7KM2NPR5TVX"),
        ] {
            assert!(find(text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn the_phrase_of_a_wallet_is_found_in_any_file() {
        let phrase = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";
        let found = find(format!("# my notes\n\nwallet one two: {phrase} (keep)\n").as_bytes());
        assert_eq!(found, Some(Secret { what: "the secret phrase of a wallet", line: 3 }));
        assert!(find(phrase.replace(' ', "\n").as_bytes()).is_some());
        assert_eq!(find(phrase.replace("walk", "want").as_bytes()), None, "a wrong checksum");
        let list = Language::English.word_list().join("\n");
        assert_eq!(find(list.as_bytes()), None, "the word list itself");
    }

    #[test]
    fn wallet_files_in_every_encryption_are_found() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chain/wallet");
        let mut found = 0;
        for entry in crate::files::list(&golden).unwrap().into_iter().filter(crate::files::Entry::is_file) {
            found += usize::from(find(&std::fs::read(&entry.path).unwrap()).is_some());
        }
        assert!(found > 0, "{}", golden.display());
    }

    #[test]
    fn ordinary_text_is_not_a_secret() {
        for text in [
            "hf_device_map",
            "hf_hub_download_with_a_very_long_name_indeed",
            "task-1234567890123456789012345",
            "sk-learn",
            "sk-container-id-12-toggleable-content-fitted",
            "HF_TOKEN=<your_hf_key_here>",
            "HF_TOKEN = os.environ.get('HUGGINGFACE_TOKEN')",
            "OPENAI_API_KEY=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "\"privateKey\": 77043, \"secretSeed\": 1",
            "AKIAIOSFODNN7EXAMPLE",
            "sk-proj-your-own-key-goes-here",
            "sk-proj-XXXXXXXXXXXXXXXXXXXXXXXX",
            "AIzaSyXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
            "the price of gold gAAAAA",
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
        assert!(named("ID_ED25519") && named("prod.env") && named("tls.key"));
        assert!(!named("environment.yml") && !named("config.json") && !named("tokenizer.json"));
    }
}
