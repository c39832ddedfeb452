//! What a submission looks like without reading its weights: enough to tell whether a check of headers and small files still stands.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::ModelError;
use crate::files::{self, Entry, WEIGHTS};
use crate::python_source::{self, FOLDER};

/// Longest header that safetensors allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Name and digest of every file of the model folder and the pipeline folder. Of weights only size and header enter. A folder that is
/// missing has no files.
///
/// # Errors
/// When a file cannot be read.
pub fn outline(model_dir: &Path, pipeline_dir: &Path) -> Result<Vec<(String, String)>, ModelError> {
    let mut outline = nested_sources(pipeline_dir)?;
    for (prefix, dir) in [("", model_dir), ("model/", pipeline_dir)] {
        let entries = if dir.is_dir() { files::list(dir)? } else { Vec::new() };
        // What Python leaves behind when it runs is never packaged.
        for entry in entries.into_iter().filter(|entry| entry.name != "__pycache__") {
            outline.push((format!("{prefix}{}", entry.name), digest(&entry)?));
        }
    }
    Ok(outline)
}

/// The sources in folders of the pipeline folder.
fn nested_sources(pipeline_dir: &Path) -> Result<Vec<(String, String)>, ModelError> {
    let sources = if pipeline_dir.is_dir() { python_source::find(pipeline_dir)? } else { BTreeMap::new() };
    let nested = sources.into_iter().filter(|(name, _)| name.contains('/'));
    nested.map(|(name, path)| Ok((format!("{FOLDER}/{name}"), file_sha256(&path)?))).collect()
}

/// SHA-256 of a file in lower-case hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn file_sha256(path: &Path) -> Result<String, ModelError> {
    sha256_of_start(path, u64::MAX)
}

fn digest(entry: &Entry) -> Result<String, ModelError> {
    if !entry.is_file() {
        return Ok(if entry.is_dir() { "folder" } else { "broken link" }.to_owned());
    }
    if !entry.name.ends_with(WEIGHTS) {
        return file_sha256(&entry.path);
    }
    let mut start = [0; 8];
    let read = File::open(&entry.path).and_then(|mut file| file.read(&mut start));
    read.map_err(ModelError::io("read", &entry.path))?;
    let header = u64::from_le_bytes(start).min(MAX_HEADER) + 8;
    Ok(format!("{} bytes, header {}", entry.size(), sha256_of_start(&entry.path, header)?))
}

fn sha256_of_start(path: &Path, most: u64) -> Result<String, ModelError> {
    let mut file = File::open(path).map_err(ModelError::io("open", path))?.take(most);
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(ModelError::io("read", path))?;
        if read == 0 {
            return Ok(hex::encode(digest.finalize()));
        }
        digest.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_enter_by_size_and_header_and_small_files_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let weights = [&2_u64.to_le_bytes()[..], b"{}", b"data"].concat();
        std::fs::write(dir.path().join("a.safetensors"), &weights).unwrap();
        std::fs::write(dir.path().join("config.json"), "{}").unwrap();
        let before = outline(dir.path(), &dir.path().join("none")).unwrap();
        assert_eq!(before.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a.safetensors", "config.json"]);
        std::fs::write(
            dir.path().join("a.safetensors"),
            weights.iter().map(|b| b ^ u8::from(*b == b'd')).collect::<Vec<_>>(),
        )
        .unwrap();
        assert_eq!(outline(dir.path(), Path::new("none")).unwrap(), before, "data bytes do not enter");
        std::fs::write(dir.path().join("config.json"), "{ }").unwrap();
        assert_ne!(outline(dir.path(), Path::new("none")).unwrap(), before);
    }

    #[test]
    fn sources_in_folders_of_the_pipeline_enter_by_content() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("inner")).unwrap();
        let seen = |text: &str| {
            std::fs::write(dir.path().join("inner/a.py"), text).unwrap();
            outline(Path::new("none"), dir.path()).unwrap()
        };
        let before = seen("x = 1");
        assert_eq!(
            before.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["model/inner/a.py", "model/inner"]
        );
        assert_ne!(seen("x = 2"), before);
    }
}
