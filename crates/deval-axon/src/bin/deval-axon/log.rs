//! What the server tells while it runs: lines for people or JSON, on standard error, without secrets.

use std::io::{self, IsTerminal as _, Write};

use anyhow::Context as _;
use regex::bytes::{NoExpand, Regex};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// What is told without `DEVAL_LOG`: this program's own remarks, and what goes wrong in what it is made of.
const DEFAULT: &str = "warn,deval_axon=info";

/// Begins to tell. `secrets` are never written, whoever says them.
///
/// # Errors
/// When it was begun before, or `DEVAL_LOG` is no filter.
pub(crate) fn begin(json: bool, secrets: Vec<String>) -> anyhow::Result<()> {
    let filter = std::env::var("DEVAL_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    let filter = EnvFilter::try_new(&filter)
        .with_context(|| format!("DEVAL_LOG=`{filter}` is no filter such as `{DEFAULT}`"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Redacted::new(secrets)?);
    let begun = match json {
        true => lines.json().flatten_event(true).try_init(),
        false => lines.compact().with_target(false).with_ansi(io::stderr().is_terminal()).try_init(),
    };
    begun.map_err(|error| anyhow::anyhow!("cannot begin the log: {error}"))
}

/// Standard error, with stars in the place of secrets: those it knows, and what looks like one.
#[derive(Debug, Clone)]
struct Redacted {
    secrets: Vec<Vec<u8>>,
    looks: Vec<Regex>,
}

impl Redacted {
    fn new(secrets: Vec<String>) -> anyhow::Result<Self> {
        // Shorter ones would star out half of a text, and protect nothing.
        let known = secrets.into_iter().filter(|secret| secret.len() >= 6);
        // In JSON a secret may be written with escapes.
        let escaped = |secret: &String| serde_json::to_string(secret).map(|text| text.trim_matches('"').to_owned());
        let secrets = known.flat_map(|secret| [escaped(&secret).unwrap_or_default(), secret]);
        let mut secrets: Vec<_> = secrets.map(String::into_bytes).filter(|secret| !secret.is_empty()).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let looks = [
            r"hf_[A-Za-z0-9]{8,}",
            // A private key; a signature too, which nobody misses.
            r"(?:0x)?[0-9a-fA-F]{128}",
            // Name and password of a URL, and its query.
            r#"//[^/@\s"]+@"#,
            r#"\?[\w.-]+=[^\s"]*"#,
        ];
        let looks =
            looks.map(Regex::new).into_iter().collect::<Result<_, _>>().context("the patterns are well-formed")?;
        Ok(Self { secrets, looks })
    }

    fn redact(&self, line: &[u8]) -> Vec<u8> {
        let mut line = line.to_vec();
        for secret in &self.secrets {
            while let Some(place) = line.windows(secret.len()).position(|window| window == &**secret) {
                line.splice(place..place + secret.len(), *b"***");
            }
        }
        self.looks.iter().fold(line, |line, look| look.replace_all(&line, NoExpand(b"***")).into_owned())
    }
}

/// One event is one write.
impl Write for Redacted {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(&self.redact(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Redacted {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Redacted;

    #[test]
    fn secrets_are_starred_out_and_nothing_else() {
        let redacted = Redacted::new(vec!["p\"ssw\\rd".to_owned(), "abc".to_owned(), "/v1/mykey".to_owned()]);
        let redacted = redacted.unwrap();
        let told = |line: &str| String::from_utf8(redacted.redact(line.as_bytes())).unwrap();
        assert_eq!(told("abc stays, 5DcR6QTZ stays"), "abc stays, 5DcR6QTZ stays");
        assert_eq!(told("p\"ssw\\rd twice p\"ssw\\rd"), "*** twice ***");
        assert_eq!(told(r#"{"message":"p\"ssw\\rd"}"#), r#"{"message":"***"}"#);
        assert_eq!(told("token hf_abcdefghijkl."), "token ***.");
        assert_eq!(told(&format!("key 0x{} end", "0f".repeat(64))), "key *** end");
        assert_eq!(told("wss://user:pass@node:443/v1/mykey"), "wss:***node:443***");
    }

    #[test]
    fn the_query_of_a_url_is_no_ones_business() {
        let redacted = Redacted::new(Vec::new()).unwrap();
        assert_eq!(redacted.redact(b"wss://node/?apikey=1234 is away"), b"wss://node/*** is away");
    }
}
