use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use deval_report::Diagnostic;
use serde_json::Value;

use crate::ModelError;
use crate::config_check::twice;
use crate::files::{self, Label};
use crate::weights::{Tensor, Weights};

/// Name of the index that transformers writes beside several shards.
pub(crate) const FILE: &str = "model.safetensors.index.json";

/// The single file that transformers looks for first.
pub(super) const SINGLE: &str = "model.safetensors";

/// What transformers 4.47.1 reads of it.
struct Index {
    weight_map: BTreeMap<String, String>,
    total_size: Option<Value>,
}

impl Index {
    /// The index, or what is wrong with it and what it should be.
    fn parse(bytes: &[u8]) -> Result<Self, (String, &'static str)> {
        let index: Value = serde_json::from_slice(bytes).map_err(|error| (error.to_string(), "a JSON object"))?;
        if !index.is_object() {
            return Err(("it is not a JSON object".into(), "an object with `metadata` and `weight_map`"));
        }
        let part = |key: &str, expected| {
            let found = index.get(key);
            let kind = if found.is_some() { "is not an object" } else { "is missing" };
            found.and_then(Value::as_object).ok_or_else(|| (format!("`{key}` {kind}"), expected))
        };
        let names = part("weight_map", "an object from tensor names to file names")?;
        let metadata = part("metadata", "an object; transformers 4.47.1 raises without it")?;
        let mut weight_map = BTreeMap::new();
        for (tensor, shard) in names {
            let Some(shard) = shard.as_str() else {
                return Err((format!("`{tensor}` is put into {shard}"), "the name of a file"));
            };
            weight_map.insert(tensor.clone(), shard.to_owned());
        }
        Ok(Self { weight_map, total_size: metadata.get("total_size").cloned() })
    }
}

/// Holds the index against the shards: every file it names is there, every tensor lies where it says, no file is left out.
pub(crate) fn check(
    dir: &Path,
    label: &Label,
    weights: &Weights,
    findings: &mut Vec<Diagnostic>,
) -> Result<(), ModelError> {
    let single = weights.shards.iter().any(|shard| shard.name == SINGLE);
    match files::read_small(&dir.join(FILE), "G38", &label.file(FILE))? {
        Ok(Some(_)) if single && weights.shards.len() > 1 => findings.push(shadowed(label)),
        Ok(Some(bytes)) => findings.extend(check_bytes(&bytes, &label.file(FILE), weights)),
        Ok(None) => findings.extend(missing(label, weights, single)),
        Err(finding) => findings.push(*finding),
    }
    Ok(())
}

/// Holds the bytes of an index against the shards; findings name it `file`.
pub fn check_bytes(bytes: &[u8], file: &str, weights: &Weights) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    match Index::parse(bytes) {
        Ok(index) => {
            compare(&index, file, weights, &mut findings);
            findings.extend(wrong_total(&index, weights).map(|finding| finding.in_file(file)));
        }
        Err((fault, expected)) => {
            let help = "save the model again with `save_pretrained`, which writes the index";
            let finding = Diagnostic::error("G38", format!("the index cannot be read: {fault}")).in_file(file);
            findings.push(finding.expected(expected).help(help));
        }
    }
    findings.extend(twice::find(bytes, "G38").map(|finding| finding.in_file(file)));
    findings
}

/// Loaders pass over the total, but people and the Hub show it; a wrong one is left over from another save.
fn wrong_total(index: &Index, weights: &Weights) -> Option<Diagnostic> {
    let total = index.total_size.as_ref().filter(|_| weights.complete)?;
    let bytes: u64 = weights.shards.iter().flat_map(|shard| &shard.tensors).map(Tensor::bytes).sum();
    let message = "`metadata.total_size` of the index is not the size of the tensors";
    let finding = Diagnostic::warning("G38", message).found(total.to_string()).expected(bytes.to_string());
    (total.as_f64() != Some(bytes as f64)).then(|| finding.help("save the model again, or correct the number"))
}

/// Without an index only `model.safetensors` is loaded.
fn missing(label: &Label, weights: &Weights, single: bool) -> Option<Diagnostic> {
    let name = &weights.shards.first()?.name;
    if single && weights.shards.len() == 1 {
        return None;
    }
    let message = if single {
        "there are weight files beside model.safetensors which no loader reads, but which enter the model hash"
    } else {
        "there is neither model.safetensors nor an index of the shards"
    };
    let help = format!("save the model again, so that {FILE} is written, or remove what does not belong to it");
    Some(Diagnostic::error("G38", message).in_file(label.file(name)).help(help))
}

/// transformers looks for `model.safetensors` first and does not read the index when it is there.
fn shadowed(label: &Label) -> Diagnostic {
    let message =
        "model.safetensors lies beside an index and its shards: loaders take it alone, and all of them enter the hash";
    let help = "remove model.safetensors, or the index with its shards, whichever is left over from another save";
    Diagnostic::error("G38", message).in_file(label.file(SINGLE)).help(help)
}

fn compare(index: &Index, file: &str, weights: &Weights, findings: &mut Vec<Diagnostic>) {
    let finding = |message: String| Diagnostic::error("G38", message).in_file(file);
    let named: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    let present: BTreeSet<&str> = weights.shards.iter().map(|shard| shard.name.as_str()).collect();
    if weights.complete {
        for shard in named.difference(&present) {
            findings.push(
                finding(format!("the index names `{shard}`, which is not there")).help("fetch the missing shard"),
            );
        }
        findings.extend(
            misplaced(index, weights).map(|message| {
                finding(message).help("save the model again, or take index and shards from one download")
            }),
        );
    }
    for shard in present.difference(&named) {
        let message = format!("`{shard}` is not in the index: no loader reads it, but it enters the model hash");
        findings.push(finding(message).help("remove the file, or save the model again"));
    }
}

/// The first tensor on which index and shards disagree, with the number of all.
fn misplaced(index: &Index, weights: &Weights) -> Option<String> {
    let homes: BTreeMap<&str, &str> = weights
        .shards
        .iter()
        .flat_map(|shard| shard.tensors.iter().map(|tensor| (tensor.name.as_str(), shard.name.as_str())))
        .collect();
    let known = |shard: &str| weights.shards.iter().any(|s| s.name == shard);
    let wrong: Vec<_> = index
        .weight_map
        .iter()
        .filter(|(tensor, shard)| known(shard) && homes.get(tensor.as_str()) != Some(&shard.as_str()))
        .collect();
    let unnamed: Vec<_> = homes.keys().filter(|tensor| !index.weight_map.contains_key(**tensor)).collect();
    if let [(tensor, shard), ..] = wrong[..] {
        return Some(format!(
            "the index puts `{tensor}` into `{shard}`, where it is not ({} such tensors)",
            wrong.len()
        ));
    }
    let first = unnamed.first()?;
    Some(format!("the index leaves out `{first}` ({} such tensors)", unnamed.len()))
}
