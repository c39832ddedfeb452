//! What is read of a submission, and task assembly.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{raised, read, whole};
use crate::assembly::{self, Assembled, Draws};
use crate::submission::{self, Entry};

/// Most bytes that a vector's file is filled with.
const MAX_FILE: usize = 1 << 30;

#[derive(Deserialize)]
struct File {
    path: String,
    hex: Option<String>,
    fill_byte: Option<u8>,
    length: Option<usize>,
    symlink: Option<String>,
}

impl File {
    fn entry(&self) -> Result<Entry, String> {
        match self {
            Self { symlink: Some(target), .. } => Ok(Entry::Link(target.clone())),
            Self { hex: Some(hex), .. } => hex::decode(hex).map(Entry::File).map_err(|error| error.to_string()),
            Self { length: Some(length), path, .. } if *length > MAX_FILE => Err(format!("`{path}` is too large")),
            Self { fill_byte: Some(byte), length: Some(length), .. } => Ok(Entry::File(vec![*byte; *length])),
            Self { path, .. } => Err(format!("`{path}` has no content")),
        }
    }
}

pub(super) fn replay(kind: &str, input: &Value) -> Result<Value, String> {
    match kind {
        "repo_size" => repo_size(input),
        "model_hash" => model_hash(input),
        "coldkey" => coldkey(input),
        "chain_commit_encode" => {
            let (url, hash): (String, String) = (read(input, "model_url")?, read(input, "model_hash")?);
            let message = submission::encode_commitment(&url, &hash);
            Ok(json!({ "message_bytes": message.len(), "message": message }))
        }
        _ => decode(input),
    }
}

fn repo_size(input: &Value) -> Result<Value, String> {
    let files: Vec<(String, u64)> = read(input, "files")?;
    let size_gb = submission::repo_size_gb(files.into_iter().map(|(_, bytes)| bytes));
    let accepted = submission::size_accepted(size_gb, read(input, "min_gb")?, read(input, "max_gb")?);
    Ok(json!({ "size_gb": size_gb, "accepted": accepted }))
}

fn model_hash(input: &Value) -> Result<Value, String> {
    let files: Vec<File> = read(input, "entries")?;
    let tree: Result<BTreeMap<_, _>, _> = files.iter().map(|file| Ok((file.path.clone(), file.entry()?))).collect();
    Ok(match submission::model_hash(&tree.map_err(|error: String| error)?) {
        Ok((sha256, order)) => json!({ "sha256": sha256, "order": order }),
        Err(abort) => raised(&abort),
    })
}

fn coldkey(input: &Value) -> Result<Value, String> {
    let name: Option<String> = read(input, "file_name")?;
    let bytes = read::<Option<String>>(input, "file_hex")?.map(hex::decode).transpose();
    let bytes = bytes.map_err(|error| error.to_string())?.filter(|_| name.as_deref() == Some("coldkey.txt"));
    let found = bytes.and_then(|bytes| submission::read_coldkey(&bytes));
    let chain: String = read(input, "chain_coldkey")?;
    let matches = found.as_deref().is_some_and(|coldkey| submission::coldkey_matches(coldkey, &chain));
    Ok(json!({ "match": matches, "read": found }))
}

fn decode(input: &Value) -> Result<Value, String> {
    let raw = hex::decode(read::<String>(input, "raw_hex")?).map_err(|error| error.to_string())?;
    Ok(match submission::decode_commitment(&raw, read(input, "block")?) {
        Ok(found) => json!({ "model_url": found.model_url, "model_hash": found.model_hash, "block": found.block }),
        Err(abort) => raised(&abort),
    })
}

pub(super) fn tasks(kind: &str, input: &Value) -> Result<Value, String> {
    if kind == "reference_score" {
        let reference = assembly::reference_score(read(input, "num_true")?, read(input, "num_claims")?);
        return Ok(json!({ "reference": reference }));
    }
    let draws: Draws = whole(input)?;
    Ok(assembly::assemble(&draws).map_or_else(|abort| raised(&abort), |made| assembled(&draws, made)))
}

/// Title and topic of every source are the words "Title" and "Topic".
fn assembled(draws: &Draws, made: Assembled) -> Value {
    json!({
        "rag_context": made.rag_context, "query": made.query, "llm_response": made.llm_response, "reference": made.reference,
        "reference_mistakes": made.reference_mistakes, "reference_true_values": made.reference_true_values,
        "task": made.task, "topic": "Title", "subtopic": "Topic", "llm_calls": draws.replies.len(),
    })
}
