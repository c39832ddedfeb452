//! Weight files by their headers alone: sound, complete, and as the index says (gates G13, G27, G38). No weight byte is read.

mod header;
mod index;
mod loading;

use std::collections::BTreeMap;
use std::path::Path;

use deval_report::Diagnostic;
use safetensors::Dtype;

pub(crate) use header::read as read_header;
pub use header::{Shard, Tensor, read_bytes as read_header_bytes};
pub use index::check_bytes as check_index_bytes;

use crate::ModelError;
use crate::files::{self, Entry, Label};

/// All weight files at the root of a model folder.
#[derive(Debug, Default)]
pub struct Weights {
    /// Files with a sound header, in the validator's order.
    pub shards: Vec<Shard>,
    /// Whether every weight file had a sound header, so that a missing tensor is really missing.
    pub complete: bool,
}

impl Weights {
    /// Bytes of the sound weight files.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.size).sum()
    }

    /// Every tensor by name, with its element type and shape.
    pub fn tensors(&self) -> BTreeMap<&str, (Dtype, &[usize])> {
        let tensors = self.shards.iter().flat_map(|shard| &shard.tensors);
        tensors.map(|tensor| (tensor.name.as_str(), (tensor.dtype, tensor.shape.as_slice()))).collect()
    }
}

/// Reads the headers of all root weight files and the index beside them; what is wrong goes to `findings`.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn scan(dir: &Path, root: &Path, findings: &mut Vec<Diagnostic>) -> Result<Weights, ModelError> {
    let weights = scan_headers(dir, root, findings)?;
    let label = Label::new(root, dir);
    loading::check(&weights, &label, findings);
    index::check(dir, &label, &weights, findings)?;
    Ok(weights)
}

/// The same without the index.
pub(crate) fn scan_headers(dir: &Path, root: &Path, findings: &mut Vec<Diagnostic>) -> Result<Weights, ModelError> {
    let label = Label::new(root, dir);
    let entries = files::weight_entries(dir)?;
    let before = findings.len();
    if entries.is_empty() {
        findings.push(none_at_root(dir, &label)?);
    }
    let mut shards = Vec::new();
    for entry in &entries {
        match open(entry, &label.file(&entry.name))? {
            Ok(shard) => shards.push(shard),
            Err(finding) => findings.push(*finding),
        }
    }
    repeated_tensors(&shards, &label, findings);
    let complete = findings.len() == before;
    Ok(Weights { shards, complete })
}

fn open(entry: &Entry, file: &str) -> Result<Result<Shard, Box<Diagnostic>>, ModelError> {
    if entry.is_file() {
        return read_header(&entry.path, &entry.name, file);
    }
    let (what, help) = match &entry.meta {
        None => ("a link that leads nowhere", "restore the file it points to, or remove the link"),
        Some(_) => ("not a file", "rename it; the validator's hash opens every root entry with this ending"),
    };
    let finding = Diagnostic::error("G27", format!("this entry is {what}, and its name ends in .safetensors"));
    Ok(Err(Box::new(finding.in_file(file).help(help))))
}

/// The one finding for a folder without weights, with the likely reason.
fn none_at_root(dir: &Path, label: &Label) -> Result<Diagnostic, ModelError> {
    let entries = files::list(dir)?;
    let with_ending = |ending: &str| entries.iter().find(|e| e.is_file() && e.name.to_lowercase().ends_with(ending));
    let below = entries.iter().find(|entry| {
        entry.is_dir()
            && files::list(&entry.path).is_ok_and(|inner| inner.iter().any(|e| e.name.ends_with(files::WEIGHTS)))
    });
    let help = if let Some(entry) = with_ending(files::WEIGHTS) {
        format!("`{}` has its ending in capitals; the validator looks for `.safetensors`", entry.name)
    } else if let Some(entry) = below {
        format!("the weights are in `{}/`; move them up, the validator does not look into folders", entry.name)
    } else if let Some(entry) = with_ending(".bin").or_else(|| with_ending(".pth")) {
        format!("`{}` is a pickle; save the model with `save_pretrained(…, safe_serialization=True)`", entry.name)
    } else {
        "save the model into this folder with `save_pretrained(…, safe_serialization=True)`".into()
    };
    let message = format!("there are no weights (*.safetensors) in `{}`", label.folder());
    Ok(Diagnostic::error("G13", message).in_file(label.folder()).help(help))
}

/// A tensor in two shards: which one a loader takes is chance.
fn repeated_tensors(shards: &[Shard], label: &Label, findings: &mut Vec<Diagnostic>) {
    let mut homes = BTreeMap::new();
    for shard in shards {
        let repeated = shard.tensors.iter().find(|tensor| homes.insert(&tensor.name, &shard.name).is_some());
        if let Some(tensor) = repeated {
            let message = format!("the tensor `{}` is also in another weight file", tensor.name);
            let finding = Diagnostic::error("G38", message).in_file(label.file(&shard.name));
            findings.push(
                finding
                    .help("remove the file that does not belong to the model (consolidated.safetensors, old shards)"),
            );
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
