use deval_report::Diagnostic;

use super::index::SINGLE;
use super::{Shard, Tensor, Weights};
use crate::files::Label;

/// What transformers 4.47.1 and torch ask of a file that the safetensors library opens.
pub(super) fn check(weights: &Weights, label: &Label, findings: &mut Vec<Diagnostic>) {
    for shard in &weights.shards {
        let faults = format(shard).into_iter().chain(unaligned(shard));
        findings.extend(faults.map(|finding| finding.in_file(label.file(&shard.name))));
    }
}

/// transformers raises without a format that it knows. A single file of TensorFlow's or Flax's it hands to that framework, which the
/// validator's container does not have; in a shard it lets the same name pass (`modeling_utils.py`, `load_state_dict` and
/// `from_pretrained`).
fn format(shard: &Shard) -> Option<Diagnostic> {
    let format = shard.format.as_deref();
    let loads = match format {
        Some("pt" | "mlx") => true,
        Some("tf" | "flax") => shard.name != SINGLE,
        _ => false,
    };
    let message =
        "the header's `__metadata__` has no `format` with which transformers 4.47.1 loads the file as PyTorch";
    let help = "save it with `save_pretrained`, or with `save_file(…, metadata={\"format\": \"pt\"})`";
    let finding =
        Diagnostic::error("G38", message).found(format.map_or("no format".to_owned(), |name| format!("{name:?}")));
    (!loads).then(|| finding.expected("\"pt\"").help(help))
}

/// The first tensor that does not begin at a multiple of its element's size in the file.
fn unaligned(shard: &Shard) -> Option<Diagnostic> {
    let size = |tensor: &Tensor| (tensor.dtype.bitsize() as u64 / 8).max(1);
    let begin = |tensor: &Tensor| shard.data_start + tensor.begin;
    let tensor =
        shard.tensors.iter().find(|tensor| tensor.bytes() > 0 && !begin(tensor).is_multiple_of(size(tensor)))?;
    let message = format!(
        "the data of `{}` is not aligned to its elements: libraries open it, but must copy or read it slowly",
        tensor.name
    );
    let help = "save the file again with the safetensors library, which pads the header to a multiple of 8 bytes";
    let finding = Diagnostic::warning("G38", message).found(format!("byte {}", begin(tensor)));
    Some(finding.expected(format!("a multiple of {} bytes", size(tensor))).help(help))
}
