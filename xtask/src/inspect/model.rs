//! What the repository's files say of the model, and what the checks of a submission's folder find in them.

use std::{collections::BTreeMap, fs};

use deval_hub::RepoId;
use deval_model::{Findings, Submission, weights};
use deval_report::{Diagnostic, Network, Section};
use serde::Serialize;
use serde_json::Value;

use super::shadow::Shadow;
use crate::steps::chat_template;

/// Entries of config.json that tell one model from another.
const CONFIG: [&str; 11] = [
    "model_type",
    "architectures",
    "torch_dtype",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
];

/// Code of findings that only concern a folder on its way to a repository.
const OF_A_FOLDER: &str = "G39";

/// A model, by headers and configuration.
#[derive(Debug, Serialize)]
pub(super) struct Model {
    shards: Vec<ShardLine>,
    /// Elements of each element type.
    dtypes: BTreeMap<String, u64>,
    parameters: u64,
    /// Bytes of the weight files.
    bytes: u64,
    config: BTreeMap<String, Value>,
    /// Whether tokenizer_config.json has one.
    chat_template: bool,
}

#[derive(Debug, Serialize)]
struct ShardLine {
    name: String,
    bytes: u64,
    tensors: usize,
}

/// The model, and the verdicts and findings of its folder. No model without a weight file whose header is sound.
pub(super) fn look(shadow: &Shadow, id: &RepoId, network: Network) -> anyhow::Result<(Option<Model>, Findings)> {
    let dir = shadow.path();
    let mut found = deval_model::validate(&Submission {
        root: dir.to_owned(),
        model_dir: dir.to_owned(),
        pipeline_dir: dir.join("model"),
        coldkey_expected: None,
        wallet_fault: None,
        model_url: id.to_string(),
        network,
        ignore: Vec::new(),
        published: true,
    })?;
    found.diagnostics.retain(|finding| finding.code != OF_A_FOLDER);
    // Told already, of the name that was given.
    found.diagnostics.retain(|finding| !matches!(finding.code.as_str(), "G06" | "G19"));
    for finding in &mut found.diagnostics {
        in_a_repository(finding);
    }
    let settings = "tokenizer_config.json";
    let is_about =
        |finding: &Diagnostic| finding.is_error() && finding.place.as_ref().is_some_and(|p| p.file == settings);
    if dir.join(settings).exists() && !found.diagnostics.iter().any(is_about) {
        found.diagnostics.extend(chat_template(dir, ""));
    }
    let weights = weights::scan(dir, dir, &mut Vec::new())?;
    let model = (!weights.shards.is_empty()).then(|| Model::new(&weights, shadow));
    Ok((model, found))
}

/// Advice for a folder, in the words of a repository.
fn in_a_repository(finding: &mut Diagnostic) {
    let (message, help) = match finding.code.as_str() {
        "G31" => {
            ("there is no coldkey.txt at the root, so nobody owns the model", "publish it with its owner's coldkey.txt")
        }
        "G35" if finding.message.starts_with("submission.pipeline_dir") => {
            ("there is no folder `model/` with the pipeline", "publish `model/pipeline.py` together with the weights")
        }
        _ => return,
    };
    if finding.is_error() {
        (finding.message, finding.help) = (message.to_owned(), Some(help.to_owned()));
    }
}

impl Model {
    fn new(weights: &weights::Weights, shadow: &Shadow) -> Self {
        let read = |name: &str| -> Value {
            fs::read(shadow.path().join(name))
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok())
                .unwrap_or_default()
        };
        let config = read("config.json");
        let mut dtypes = BTreeMap::new();
        for tensor in weights.shards.iter().flat_map(|shard| &shard.tensors) {
            let elements: u64 = tensor.shape.iter().map(|dimension| *dimension as u64).product();
            *dtypes.entry(tensor.dtype.to_string()).or_default() += elements;
        }
        let line = |shard: &weights::Shard| ShardLine {
            name: shard.name.clone(),
            bytes: shard.size,
            tensors: shard.tensors.len(),
        };
        Self {
            shards: weights.shards.iter().map(line).collect(),
            parameters: dtypes.values().sum(),
            dtypes,
            bytes: weights.bytes(),
            config: CONFIG.iter().filter_map(|key| Some(((*key).to_owned(), config.get(key)?.clone()))).collect(),
            chat_template: !read("tokenizer_config.json")["chat_template"].is_null(),
        }
    }

    pub(super) fn section(&self) -> Section {
        let dtypes: Vec<String> = self.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
        let config: Vec<String> = self.config.iter().map(|(key, value)| format!("{key} {value}")).collect();
        let shards = self
            .shards
            .iter()
            .map(|shard| vec![shard.name.clone(), shard.bytes.to_string(), shard.tensors.to_string()]);
        Section::new("Model")
            .row("weights", format!("{:.3} GB in {} sound files", self.bytes as f64 * 1e-9, self.shards.len()))
            .row("parameters", dtypes.join(", "))
            .row("config.json", config.join(", "))
            .row("chat template", if self.chat_template { "in tokenizer_config.json" } else { "none" })
            .table(&["shard", "bytes", "tensors"], shards.collect())
    }
}
