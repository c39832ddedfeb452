//! `config.json`, tokenizer and chat template against the tensors: a LLaMA that transformers 4.47.1 loads as it was trained.

mod llama;
mod tokenizer;
mod tokenizer_class;
pub(crate) mod twice;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

use deval_report::Diagnostic;
use safetensors::Dtype;
use serde_json::Value;

use self::llama::Llama;
use crate::ModelError;
use crate::files::{self, Label};
use crate::weights::Weights;

const CONFIG: &str = "config.json";

const COPY: &str = "copy it from the model it was trained from; `save_pretrained` writes it";

/// Holds configuration, tensors and tokenizer against each other; what is wrong goes to `findings`.
///
/// # Errors
/// When a file is there but cannot be read.
pub fn check(dir: &Path, root: &Path, weights: &Weights, findings: &mut Vec<Diagnostic>) -> Result<(), ModelError> {
    let label = Label::new(root, dir);
    let config = read_json(dir, CONFIG, &label, findings)?;
    if let Some(config) = &config {
        architecture(config, &label, findings);
        rope(config, &label, findings);
        findings.extend(values::check(config).into_iter().map(|finding| finding.in_file(label.file(CONFIG))));
        if let Some(llama) = Llama::from_config(config, &label.file(CONFIG), findings) {
            tensors(&llama, weights, &label, findings);
        }
    }
    let vocabulary =
        config.as_ref().and_then(|config| config.get("vocab_size")).and_then(Value::as_u64).filter(|size| *size > 0);
    if let (Some(config), Some(size)) = (&config, vocabulary) {
        findings.extend(special_tokens(config, size).map(|finding| finding.in_file(label.file(CONFIG))));
    }
    tokenizer::check(dir, &label, vocabulary, findings)
}

/// A JSON object at the root, or a finding.
fn read_json(
    dir: &Path,
    name: &str,
    label: &Label,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<Value>, ModelError> {
    let file = label.file(name);
    let bytes = match files::read_small(&dir.join(name), "model.json", &file)? {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let finding = Diagnostic::error("model.file-missing", format!("{name} is missing"));
            findings.push(finding.in_file(file).help(COPY));
            return Ok(None);
        }
        Err(finding) => {
            findings.push(*finding);
            return Ok(None);
        }
    };
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(value) if value.is_object() => {
            findings.extend(twice::find(&bytes, "model.json").map(|finding| finding.in_file(file)));
            return Ok(Some(value));
        }
        Ok(_) => {
            let finding = Diagnostic::error("model.json", format!("{name} is not a JSON object")).in_file(file);
            findings.push(finding.help(COPY));
        }
        Err(error) => {
            let message = format!("{name} is not valid JSON: {error}");
            let finding = Diagnostic::error("model.json", message).help(COPY);
            findings.push(finding.at(file, error.line() as u32, error.column() as u32));
        }
    }
    Ok(None)
}

fn architecture(config: &Value, label: &Label, findings: &mut Vec<Diagnostic>) {
    let finding = |code: &str, message: &str| Diagnostic::error(code, message).in_file(label.file(CONFIG));
    let kind = config["model_type"].as_str().unwrap_or("nothing");
    let class = config["architectures"][0].as_str().unwrap_or("nothing");
    if kind != "llama" || class != "LlamaForCausalLM" {
        let message = "De-Val takes LLaMA models only";
        let found = format!("model_type {kind}, architecture {class}");
        let finding = finding("model.architecture", message).found(found).expected("llama, LlamaForCausalLM");
        findings.push(finding.help("submit a LLaMA, saved by `LlamaForCausalLM.save_pretrained`"));
    }
    let known = |dtype: &&Value| {
        let name = dtype.as_str().unwrap_or_default();
        dtype.is_null() || ["float16", "half", "bfloat16", "float32", "float"].contains(&name)
    };
    if let Some(dtype) = config.get("torch_dtype").filter(|dtype| !known(dtype)) {
        let help = "save the model in 16 bits and with this type in config.json";
        let message = "torch_dtype is none that a validator's GPU computes a LLaMA in";
        let finding = finding("model.dtype", message).found(dtype.as_str().map_or(dtype.to_string(), str::to_owned));
        findings.push(finding.expected("float16, bfloat16 or float32").help(help));
    }
    if config.get("quantization_config").is_some_and(|value| !value.is_null()) {
        let help = "merge and save the model in 16 bits";
        findings.push(
            finding("model.quantized", "quantised models are not supported").found("quantization_config").help(help),
        );
    }
}

/// Numbers of special tokens, each a number or a list of such, that are not in the vocabulary.
fn special_tokens(config: &Value, vocabulary: u64) -> Option<Diagnostic> {
    let ids = |key: &str| match &config[key] {
        Value::Array(ids) => ids.clone(),
        id => vec![id.clone()],
    };
    let known = |id: &Value| id.is_null() || id.as_u64().is_some_and(|id| id < vocabulary) || id.as_i64() == Some(-1);
    let wrong = |key: &&str| ids(key).iter().any(|id| !known(id));
    let key = ["bos_token_id", "eos_token_id", "pad_token_id"].into_iter().find(wrong)?;
    let finding = Diagnostic::error("model.config", format!("`{key}` is no token of the vocabulary"));
    Some(finding.found(config[key].to_string()).expected(format!("below {vocabulary}")).help(values::HELP))
}

/// transformers 5 writes `rope_parameters` in place of two older keys; the validator's 4.47.1 ignores it in silence and computes
/// other positions than the model was trained with.
fn rope(config: &Value, label: &Label, findings: &mut Vec<Diagnostic>) {
    let newer = config.get("rope_parameters").filter(|value| !value.is_null());
    let Some(newer) = newer.filter(|_| config.get("rope_theta").is_none()) else { return };
    let message = "the validator's transformers 4.47.1 does not know `rope_parameters` and would use rope_theta 10000";
    let theta = newer.get("rope_theta").map_or("10000.0".to_owned(), Value::to_string);
    let help = format!("add `\"rope_theta\": {theta}` and `rope_scaling` (null when there is none) beside it");
    let finding = Diagnostic::error("model.rope-parameters", message).in_file(label.file(CONFIG));
    findings.push(finding.found("rope_parameters").expected("rope_theta, rope_scaling").help(help));
}

/// Names, shapes and element types of the tensors.
fn tensors(llama: &Llama, weights: &Weights, label: &Label, findings: &mut Vec<Diagnostic>) {
    let present = weights.tensors();
    let expected: BTreeMap<String, Vec<usize>> = llama.tensors().collect();
    let finding = |code: &str, message: String| Diagnostic::error(code, message).in_file(label.folder());
    let missing: Vec<_> = expected.keys().filter(|name| !present.contains_key(name.as_str())).collect();
    if let Some(first) = missing.first().filter(|_| weights.complete) {
        let message = format!(
            "the tensor `{first}` is missing ({} in all); a loader would fill it with random numbers",
            missing.len()
        );
        findings.push(
            finding("model.tensor-missing", message).help("save the whole model, not an adapter or a part of it"),
        );
    }
    let differs =
        |(name, shape): &(&String, &Vec<usize>)| present.get(name.as_str()).is_some_and(|(_, found)| found != shape);
    let wrong: Vec<_> = expected.iter().filter(differs).collect();
    if let Some((name, shape)) = wrong.first() {
        let message =
            format!("the tensor `{name}` has not the shape that config.json asks for ({} in all)", wrong.len());
        let found = format!("{:?}", present[name.as_str()].1);
        let finding = finding("model.tensor-shape", message).found(found).expected(format!("{shape:?}"));
        findings.push(finding.help("config.json and weights must come from one `save_pretrained`"));
    }
    let unknown: Vec<_> = present.keys().filter(|name| !expected.contains_key(**name) && !ignored(name)).collect();
    if let Some(first) = unknown.first() {
        let message =
            format!("the tensor `{first}` is no part of a LLaMA of this configuration ({} in all)", unknown.len());
        let unknown = Diagnostic::warning("model.tensor-unknown", message).in_file(label.folder());
        findings.push(unknown.help("loaders ignore it, but it enters hash and size; merge adapters before saving"));
    }
    if llama.tied() && present.contains_key(HEAD) {
        let message = "lm_head.weight is there although tie_word_embeddings is true: the model computes with the embeddings in its place";
        let help = "leave it out to save its bytes, which enter hash and size, or set tie_word_embeddings to false";
        findings.push(Diagnostic::warning("model.tensor-unknown", message).in_file(label.folder()).help(help));
    }
    findings.extend(element_type(&present).map(|message| finding("model.dtype", message)));
}

const HEAD: &str = "lm_head.weight";

/// What older versions of transformers saved beside the parameters, and a head that is tied all the same.
fn ignored(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || name == HEAD
}

fn element_type(present: &BTreeMap<&str, (Dtype, &[usize])>) -> Option<String> {
    let allowed = [Dtype::F16, Dtype::BF16, Dtype::F32];
    let (name, (dtype, _)) = present.iter().find(|(_, (dtype, _))| !allowed.contains(dtype))?;
    Some(format!("the tensor `{name}` has element type {dtype}; only F16, BF16 and F32 are loaded as they are"))
}

#[cfg(test)]
pub(crate) mod tests;
