//! What the validator reads of a submission: size, model hash, coldkey, chain commitment. Pure rules over bytes that someone else read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::abort::{PythonException, ValidatorAborts};
use crate::python;

/// Symbolic links that Linux follows before it gives up.
const MAX_LINKS: usize = 40;

/// Repository size as the validator sees it, in decimal GB: a 64-bit sum in listing order, so equal totals may differ in the last bits
/// (`get_model_size` in `deval/model/huggingface_model.py`).
pub fn repo_size_gb(bytes: impl IntoIterator<Item = u64>) -> f64 {
    bytes.into_iter().fold(0.0, |sum, bytes| sum + bytes as f64 * 1e-9)
}

/// Whether a repository of this size is evaluated; both borders count.
pub fn size_accepted(size_gb: f64, min_gb: f64, max_gb: f64) -> bool {
    (min_gb..=max_gb).contains(&size_gb)
}

/// An entry of a directory tree held in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file's bytes.
    File(Vec<u8>),
    /// A symbolic link and its target; an absolute target is outside the tree, so the link is broken.
    Link(String),
}

/// Model hash of a tree: SHA-256 over the top-level `*.safetensors` in byte order of their names, which are returned beside it.
///
/// # Errors
/// `IsADirectoryError` for a directory so named, `FileNotFoundError` for a broken link, `NotADirectoryError` for one through a file,
/// `OSError` for one in circles.
pub fn model_hash(tree: &BTreeMap<String, Entry>) -> Result<(String, Vec<String>), ValidatorAborts> {
    let top_level = tree.keys().map(|path| path.split_once('/').map_or(path.as_str(), |(name, _)| name));
    let names: BTreeSet<_> = top_level.filter(|name| name.ends_with(".safetensors")).collect();
    let mut hasher = Sha256::new();
    for name in &names {
        hasher.update(open(tree, name)?);
    }
    Ok((hex::encode(hasher.finalize()), names.into_iter().map(str::to_owned).collect()))
}

/// The bytes behind a top-level name, links followed as Linux follows them.
fn open<'a>(tree: &'a BTreeMap<String, Entry>, name: &str) -> Result<&'a [u8], ValidatorAborts> {
    let raise = |exception, what: &str| Err(ValidatorAborts::new(exception, format!("`{name}` {what}")));
    let missing = || raise(PythonException::FileNotFoundError, "is a broken link");
    let is_directory = |path: &str| {
        tree.range(format!("{path}/")..).next().is_some_and(|(entry, _)| entry.starts_with(&format!("{path}/")))
    };
    let (mut at, mut links) = (Vec::new(), 0);
    let mut ahead: Vec<&str> = vec![name];
    while let Some(part) = ahead.pop() {
        match part {
            "" | "." => continue,
            ".." if at.pop().is_none() => return missing(),
            ".." => continue,
            part => at.push(part),
        }
        let path = at.join("/");
        match tree.get(&path) {
            Some(Entry::File(bytes)) if ahead.is_empty() => return Ok(bytes),
            Some(Entry::File(_)) => return raise(PythonException::NotADirectoryError, "leads through a file"),
            Some(Entry::Link(target)) => {
                links += 1;
                if links > MAX_LINKS {
                    return raise(PythonException::OSError, "is a link to itself or over 40 links away");
                }
                if target.starts_with('/') {
                    return missing();
                }
                at.pop();
                ahead.extend(target.rsplit('/'));
            }
            None if is_directory(&path) => {}
            None => return missing(),
        }
    }
    raise(PythonException::IsADirectoryError, "is a directory")
}

/// What the validator reads from a `coldkey.txt`: UTF-8 with universal newlines and no trimming, so a trailing newline stays and makes
/// the model invalid. `None` when the bytes are no UTF-8.
pub fn read_coldkey(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(|text| text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// Whether a coldkey as read belongs to the miner; an empty one belongs to nobody.
pub fn coldkey_matches(coldkey: &str, chain_coldkey: &str) -> bool {
    !coldkey.is_empty() && coldkey == chain_coldkey
}

/// A chain commitment as the validator decodes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitment {
    /// `namespace/name`.
    pub model_url: Option<String>,
    /// 64 hexadecimal digits.
    pub model_hash: Option<String>,
    /// Block of the commitment, from the chain.
    pub block: u64,
}

/// The message that is committed: Python's `json.dumps` of the two fields.
pub fn encode_commitment(model_url: &str, model_hash: &str) -> String {
    let (url, hash) = (python::json_string(model_url), python::json_string(model_hash));
    format!("{{\"model_url\": {url}, \"model_hash\": {hash}}}")
}

/// Decodes a committed message (`ChainModelMetadataStore.retrieve_model_metadata`). What cannot be read gives two empty fields.
///
/// # Errors
/// `TypeError` for JSON that is no object, `ValidationError` for a missing key or a wrong type.
pub fn decode_commitment(raw: &[u8], block: u64) -> Result<Commitment, ValidatorAborts> {
    let unread = Commitment { model_url: None, model_hash: None, block };
    let text = std::str::from_utf8(raw).ok();
    let Some(value) = text.and_then(|text| python::json::loads(text).ok()) else { return Ok(unread) };
    let object = value.as_object().ok_or_else(|| ValidatorAborts::type_error("the commitment is no JSON object"))?;
    let field = |name: &str| match object.get(name) {
        Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        _ => Err(ValidatorAborts::new(PythonException::ValidationError, format!("`{name}` is missing or no string"))),
    };
    Ok(Commitment { model_url: field("model_url")?, model_hash: field("model_hash")?, block })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_billion_bytes_may_be_too_small() {
        let split = [vec![12_000_000_000], vec![1, 11_999_999_999], vec![4_100_000_000, 7_900_000_000]];
        let sizes = split.map(repo_size_gb);
        assert!(sizes.iter().all(|size| (size - 12.0).abs() < 1e-9));
        assert!(size_accepted(12.0, 12.0, 18.0) && !size_accepted(11.999999999999998, 12.0, 18.0));
    }

    #[test]
    fn re_splitting_keeps_the_hash() {
        let tree = |files: &[(&str, &str)]| {
            files.iter().map(|(name, text)| ((*name).to_owned(), Entry::File(text.as_bytes().to_vec()))).collect()
        };
        let whole = model_hash(&tree(&[("model.safetensors", "abcd")])).unwrap().0;
        let split = model_hash(&tree(&[
            ("b.safetensors", "cd"),
            ("a.safetensors", "ab"),
            (".safetensors", ""),
            ("x.SAFETENSORS", "!"),
        ]))
        .unwrap();
        assert_eq!(
            split,
            (whole, vec![".safetensors".to_owned(), "a.safetensors".to_owned(), "b.safetensors".to_owned()])
        );
    }

    #[test]
    fn links_lead_where_linux_leads() {
        let link = |target: &str| Entry::Link(target.to_owned());
        let entry = |target: &str| {
            let tree = [
                ("a.safetensors", link(target)),
                ("real/x", Entry::File(b"abc".to_vec())),
                ("real/up", link("../real/./x")),
                ("alias", link("real")),
                ("loop", link("loop")),
            ];
            let tree = tree.map(|(path, entry)| (path.to_owned(), entry)).into();
            model_hash(&tree).map(|(hash, _)| hash).map_err(|abort| abort.python_exception)
        };
        let hash = Ok(hex::encode(Sha256::digest("abc")));
        for target in ["real/x", "./real//x", "alias/x", "real/up", "alias/up", "real/../alias/./x"] {
            assert_eq!(entry(target), hash, "{target}");
        }
        assert_eq!(entry("real"), Err(PythonException::IsADirectoryError));
        assert_eq!(entry("real/x/y"), Err(PythonException::NotADirectoryError));
        assert_eq!(entry("loop"), Err(PythonException::OSError));
        for target in ["nowhere", "real/nothing", "../a.safetensors", "/etc/hostname", "reals/x"] {
            assert_eq!(entry(target), Err(PythonException::FileNotFoundError), "{target}");
        }
    }

    #[test]
    fn commitments_are_read_as_python_reads_json() {
        let decode = |text: &str| decode_commitment(text.as_bytes(), 7).map(|read| read.model_url);
        let url = |url: &str| Ok(Some(url.to_owned()));
        assert_eq!(decode(r#"{"model_url": "u", "model_hash": null, "x": [NaN, 1e999]}"#), url("u"));
        assert_eq!(decode(r#"{"model_url": "a\ud800", "model_hash": "h", "model_url": "b"}"#), url("b"));
        assert_eq!(decode("{\"model_url\": \"a\nb\", \"model_hash\": null}"), Ok(None));
        assert_eq!(decode("\u{feff}{}"), Ok(None));
        let exception = |text: &str| decode(text).map_err(|abort| abort.python_exception);
        assert_eq!(exception("Infinity"), Err(PythonException::TypeError));
        assert_eq!(exception(r#"{"model_url": NaN, "model_hash": "h"}"#), Err(PythonException::ValidationError));
    }

    #[test]
    fn a_commitment_takes_99_bytes_and_the_url() {
        let message = encode_commitment("ns/name", &"0".repeat(64));
        assert_eq!(message.len(), 99 + "ns/name".len());
        let decoded = decode_commitment(message.as_bytes(), 7).unwrap();
        assert_eq!((decoded.model_url.as_deref(), decoded.block), (Some("ns/name"), 7));
    }
}
