use std::path::Path;

use deval_report::Section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FileDigest, TensorDigest, WeightsDigest};
use crate::ModelError;
use crate::files::{self, WEIGHTS};

/// Bytes of the number before a header.
const PREFIX: u64 = 8;

/// Which bytes entered the model hash in which order, and what did not enter, so that a hash that differs elsewhere can be followed
/// to where it goes another way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// All bytes of the stream, in order, without a gap.
    pub pieces: Vec<Piece>,
    /// Root entries that did not enter.
    pub outside: Vec<Outside>,
}

/// Bytes that follow each other in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Piece {
    /// Weight file.
    pub file: String,
    /// First byte in the stream that is hashed.
    pub offset: u64,
    /// First byte in the file.
    pub file_offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// What they are.
    pub what: Content,
}

/// What bytes of a weight file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The length of the header, little-endian.
    HeaderLength,
    /// The header, JSON.
    Header,
    /// A tensor's data.
    Tensor {
        /// Name.
        name: String,
        /// Element type.
        dtype: String,
        /// Shape, outermost first.
        shape: Vec<usize>,
    },
    /// A file whose header is not sound, or that has no tensors, as a whole: the validator hashes it all the same.
    File,
}

/// A root entry that did not enter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outside {
    /// Name.
    pub entry: String,
    /// Why.
    pub why: String,
}

impl WeightsDigest {
    /// Which bytes entered the model hash, and which root entries of `dir` did not.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn explain(&self, dir: &Path) -> Result<Explanation, ModelError> {
        let outside = files::list(dir)?.into_iter().filter(|entry| !entry.name.ends_with(WEIGHTS));
        let outside = outside.map(|entry| Outside { why: reason(&entry).into(), entry: entry.name }).collect();
        Ok(Explanation { pieces: self.files.iter().flat_map(|file| self.pieces(file)).collect(), outside })
    }

    fn pieces(&self, file: &FileDigest) -> Vec<Piece> {
        let tensors: Vec<&TensorDigest> = self.tensors.iter().filter(|tensor| tensor.file == file.name).collect();
        let data: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
        let mut pieces = Vec::new();
        let mut at = 0;
        let mut add = |bytes, what| {
            let (file, offset) = (file.name.clone(), file.offset + at);
            pieces.push(Piece { file, offset, file_offset: at, bytes, what });
            at += bytes;
        };
        if tensors.is_empty() {
            add(file.size, Content::File);
            return pieces;
        }
        add(PREFIX, Content::HeaderLength);
        add(file.size.saturating_sub(data + PREFIX), Content::Header);
        for tensor in tensors {
            let TensorDigest { name, dtype, shape, .. } = tensor.clone();
            add(tensor.bytes, Content::Tensor { name, dtype, shape });
        }
        pieces
    }
}

impl Explanation {
    /// The explanation of a digest as views show it; the tensors of a file are one line.
    pub fn sections(&self, digest: &WeightsDigest) -> Vec<Section> {
        let rows = self.pieces.chunk_by(|a, b| a.file == b.file && is_tensor(a) && is_tensor(b)).map(row).collect();
        let pieces = Section::new("What entered the model hash, in this order")
            .table(&["file", "from byte", "in the file", "bytes", "what"], rows)
            .note("One SHA-256 stream over the whole files, headers included, in code point order of their names.")
            .note("Names, sizes and everything in folders do not enter (upstream deval/model/utils.py).");
        let files = digest.files.iter().map(|file| vec![file.name.clone(), file.stream_sha256.clone()]).collect();
        let stream = Section::new("The hash on the way")
            .table(&["up to the end of", "SHA-256 of the stream so far"], files)
            .note("A validator whose hash differs went another way in the first file where its own differs from this.");
        let outside = self.outside.iter().map(|outside| vec![outside.entry.clone(), outside.why.clone()]).collect();
        vec![pieces, stream, Section::new("What did not enter").table(&["entry", "why"], outside)]
    }
}

fn is_tensor(piece: &Piece) -> bool {
    matches!(piece.what, Content::Tensor { .. })
}

fn row(pieces: &[Piece]) -> Vec<String> {
    let (first, last) = (&pieces[0], &pieces[pieces.len() - 1]);
    let bytes: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    let what = match (&first.what, &last.what) {
        (Content::HeaderLength, _) => "length of the header".to_owned(),
        (Content::Header, _) => "header".to_owned(),
        (Content::File, _) => "the whole file; no tensor is known in it".to_owned(),
        (Content::Tensor { name: from, .. }, Content::Tensor { name: to, .. }) => {
            format!("{} tensors, {from} to {to}", pieces.len())
        }
        (Content::Tensor { name, .. }, _) => name.clone(),
    };
    let numbers = [first.offset, first.file_offset, bytes].map(|number| number.to_string());
    [first.file.clone()].into_iter().chain(numbers).chain([what]).collect()
}

fn reason(entry: &files::Entry) -> &'static str {
    if entry.is_dir() {
        "a folder; the validator does not look into it"
    } else if entry.name.to_lowercase().ends_with(WEIGHTS) {
        "its ending has capitals; the validator compares case by case"
    } else {
        "its name does not end in .safetensors"
    }
}
