//! What the read gives for each tensor: a digest of its bytes, and the counts of [`super::health`].

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::blocks::Block;
use super::health::{self, Counts, Health, TensorHealth};
use crate::ModelError;
use crate::files::Entry;
use crate::weights::{Shard, Tensor};

/// One tensor's digest. Two tensors with equal element type, shape and digest are the same, whatever file they lie in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TensorDigest {
    /// Weight file.
    pub file: String,
    /// Tensor.
    pub name: String,
    /// Element type as safetensors writes it.
    pub dtype: String,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// Bytes of its data.
    pub bytes: u64,
    /// BLAKE3 of its data in lower-case hexadecimal. Nothing outside asks for it, so it need not be SHA-256, which would take a
    /// core of its own.
    pub blake3: String,
}

/// Digests and counts of all tensors, in the order of the read.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) health: Health,
    pub(super) tensors: Vec<TensorDigest>,
}

/// Looks at the blocks of all files. A file whose header is broken is passed over: its header is a finding of its own.
pub(super) fn examine(entries: &[Entry], blocks: impl Iterator<Item = Arc<Block>>) -> Result<Seen, ModelError> {
    let mut seen = Seen::default();
    let mut scan: Option<Scan> = None;
    for block in blocks {
        if scan.as_ref().is_none_or(|scan| scan.file != block.file) {
            scan = Some(Scan::new(block.file, &entries[block.file])?);
        }
        let Some(scan) = &mut scan else { continue };
        scan.take(block.bytes(), &mut seen);
    }
    Ok(seen)
}

/// Where the read stands in one file.
struct Scan {
    file: usize,
    name: String,
    tensors: std::vec::IntoIter<Tensor>,
    current: Option<Tensor>,
    counts: Counts,
    digest: blake3::Hasher,
    /// Bytes until the current tensor goes on.
    skip: u64,
    /// Bytes of the current tensor that are still to come.
    left: u64,
    /// The first bytes of an element that a block border cut.
    carry: Vec<u8>,
}

impl Scan {
    fn new(file: usize, entry: &Entry) -> Result<Self, ModelError> {
        let shard = crate::weights::read_header(&entry.path, &entry.name, &entry.name)?.ok();
        let (skip, tensors) = shard.map_or((0, Vec::new()), |Shard { data_start, tensors, .. }| (data_start, tensors));
        let mut scan = Self {
            file,
            name: entry.name.clone(),
            tensors: tensors.into_iter(),
            current: None,
            counts: Counts::default(),
            digest: blake3::Hasher::new(),
            skip,
            left: 0,
            carry: Vec::new(),
        };
        scan.advance();
        Ok(scan)
    }

    /// Goes on to the next tensor; tensors follow each other without a gap, which the header check has made sure of.
    fn advance(&mut self) {
        self.current = self.tensors.next();
        self.left = self.current.as_ref().map_or(0, Tensor::bytes);
        self.counts = Counts::default();
        self.digest.reset();
        self.carry.clear();
    }

    fn take(&mut self, mut bytes: &[u8], seen: &mut Seen) {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        bytes = &bytes[skipped as usize..];
        while let Some(tensor) = &self.current {
            let here = self.left.min(bytes.len() as u64);
            let (mine, others) = bytes.split_at(here as usize);
            health::count(tensor.dtype, mine, &mut self.carry, &mut self.counts);
            self.digest.update(mine);
            self.left -= here;
            bytes = others;
            if self.left > 0 {
                return;
            }
            self.finish(seen);
        }
    }

    fn finish(&mut self, seen: &mut Seen) {
        let counts = self.counts;
        seen.health.totals.add(counts);
        if let Some(tensor) = self.current.take() {
            let file = self.name.clone();
            if counts.is_finding() {
                seen.health.tensors.push(TensorHealth { file: file.clone(), name: tensor.name.clone(), counts });
            }
            let (bytes, blake3) = (tensor.bytes(), self.digest.finalize().to_hex().to_string());
            let Tensor { name, dtype, shape, .. } = tensor;
            seen.tensors.push(TensorDigest { file, name, dtype: dtype.to_string(), shape, bytes, blake3 });
        }
        self.advance();
    }
}
