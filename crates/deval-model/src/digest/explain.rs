use std::path::Path;

use deval_report::Section;

use super::{FileDigest, WeightsDigest};
use crate::ModelError;
use crate::files::{self, WEIGHTS};

impl WeightsDigest {
    /// Which bytes entered the model hash in which order, and which root entries of `dir` did not, so that a hash that differs
    /// elsewhere can be followed file by file.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn explain(&self, dir: &Path) -> Result<Vec<Section>, ModelError> {
        let rows = self.files.iter().map(row).collect();
        let head = ["file", "from byte", "to byte", "bytes", "SHA-256 of the file", "SHA-256 of the stream so far"];
        let entered = Section::new("What entered the model hash")
            .row("model hash", &self.model_hash)
            .row("bytes", self.bytes)
            .table(&head, rows)
            .note("One SHA-256 stream over the whole files, headers included, in code point order of their names.")
            .note("Names, sizes and everything in folders do not enter (upstream deval/model/utils.py).");
        let outside: Vec<_> =
            files::list(dir)?.into_iter().filter(|entry| !entry.name.ends_with(WEIGHTS)).map(reason).collect();
        let outside = Section::new("What did not enter").table(&["entry", "why"], outside);
        Ok(vec![entered, outside])
    }
}

fn row(file: &FileDigest) -> Vec<String> {
    let end = file.offset + file.size;
    let numbers = [file.offset, end, file.size].map(|number| number.to_string());
    let digests = [file.sha256.clone(), file.stream_sha256.clone()];
    [file.name.clone()].into_iter().chain(numbers).chain(digests).collect()
}

fn reason(entry: files::Entry) -> Vec<String> {
    let why = if entry.is_dir() {
        "a folder; the validator does not look into it"
    } else if entry.name.to_lowercase().ends_with(WEIGHTS) {
        "its ending has capitals; the validator compares case by case"
    } else {
        "its name does not end in .safetensors"
    };
    vec![entry.name, why.into()]
}
