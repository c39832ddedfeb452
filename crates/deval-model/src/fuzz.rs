//! Entries for fuzzing: whatever the bytes, they return, and what they return holds together. A broken promise is a panic.
//!
//! `fuzz/` calls them under cargo-fuzz, `tests/mutations.rs` under a seed on a stable toolchain.

use crate::weights::{self, Shard, Weights};
use crate::{coldkey, python_source};

/// A weight file's header. One that is accepted covers its data without gap or overlap.
pub fn header(bytes: &[u8]) {
    let Ok(shard) = weights::read_header_bytes(bytes, "model.safetensors", bytes.len() as u64) else { return };
    let mut at = 0;
    for tensor in &shard.tensors {
        let bits = tensor.shape.iter().fold(tensor.dtype.bitsize(), |bits, dim| bits * dim) as u64;
        assert!(tensor.begin == at && bits == 8 * tensor.bytes(), "{tensor:?} at {at}");
        at = tensor.end;
    }
    assert_eq!(shard.data_start + at, shard.size);
}

/// An index, held against two shards.
pub fn index(bytes: &[u8]) {
    let shard = |name: &str| Shard { name: name.into(), size: 8, data_start: 8, tensors: Vec::new(), format: None };
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"].map(shard).into();
    for complete in [false, true] {
        let weights = Weights { shards: Vec::clone(&shards), complete };
        for finding in weights::check_index_bytes(bytes, "index", &weights) {
            assert!(finding.place.is_some(), "{finding:?}");
        }
    }
}

/// A Python source. Every finding lies within it.
pub fn python(bytes: &[u8]) {
    let lines = bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r' | b'\x0c')).count() as u32 + 1;
    for finding in python_source::check_bytes(bytes, python_source::FILE) {
        let line = finding.place.as_ref().and_then(|place| place.line);
        assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{finding:?}");
    }
}

/// `coldkey.txt`. No finding means that a validator takes the file for its owner's, and nothing else does.
pub fn coldkey(bytes: &[u8]) {
    let sound = coldkey::check(bytes, None, coldkey::FILE).is_empty();
    let address = std::str::from_utf8(bytes).ok().filter(|text| coldkey::account(text).is_some());
    assert_eq!(sound, address.is_some());
    if let Some(address) = address {
        assert!(coldkey::matches(bytes, address) && coldkey::check(bytes, Some(address), coldkey::FILE).is_empty());
    }
}
