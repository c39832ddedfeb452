//! What the validator reads of a submission: size, model hash, coldkey, chain commitment. Pure rules over bytes that someone else read.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::abort::{PythonException, ValidatorAborts};
use crate::python;

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
    /// A symbolic link to a path relative to the root.
    Link(String),
}

/// Model hash of a tree: SHA-256 over the top-level `*.safetensors` in byte order of their names, which are returned beside it.
///
/// # Errors
/// `IsADirectoryError` for a directory so named, `FileNotFoundError` for a broken link.
pub fn model_hash(tree: &BTreeMap<String, Entry>) -> Result<(String, Vec<String>), ValidatorAborts> {
    let top_level =
        tree.keys().map(|path| path.split_once('/').map_or((path.as_str(), false), |(name, _)| (name, true)));
    let mut names: Vec<_> = top_level.filter(|(name, _)| name.ends_with(".safetensors")).collect();
    names.sort_unstable();
    names.dedup();
    let mut hasher = Sha256::new();
    for &(name, is_directory) in &names {
        if is_directory {
            return Err(ValidatorAborts::new(PythonException::IsADirectoryError, format!("`{name}` is a directory")));
        }
        hasher.update(content(tree, name)?);
    }
    Ok((hex::encode(hasher.finalize()), names.iter().map(|(name, _)| (*name).to_owned()).collect()))
}

fn content<'a>(tree: &'a BTreeMap<String, Entry>, name: &str) -> Result<&'a [u8], ValidatorAborts> {
    let mut path = name;
    for _ in 0..=tree.len() {
        match tree.get(path) {
            Some(Entry::File(bytes)) => return Ok(bytes),
            Some(Entry::Link(target)) => path = target,
            None => break,
        }
    }
    Err(ValidatorAborts::new(PythonException::FileNotFoundError, format!("`{name}` is a broken link")))
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
    let Ok(value) = serde_json::from_slice::<Value>(raw) else { return Ok(unread) };
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
    fn a_broken_link_raises() {
        let tree = BTreeMap::from([("a.safetensors".to_owned(), Entry::Link("a.safetensors".to_owned()))]);
        assert_eq!(model_hash(&tree).unwrap_err().python_exception, PythonException::FileNotFoundError);
    }

    #[test]
    fn a_commitment_takes_99_bytes_and_the_url() {
        let message = encode_commitment("ns/name", &"0".repeat(64));
        assert_eq!(message.len(), 99 + "ns/name".len());
        let decoded = decode_commitment(message.as_bytes(), 7).unwrap();
        assert_eq!((decoded.model_url.as_deref(), decoded.block), (Some("ns/name"), 7));
    }
}
