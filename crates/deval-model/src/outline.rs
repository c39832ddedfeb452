//! What a submission looks like without reading its weights: enough to tell whether a check of headers and small files still stands.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::ModelError;
use crate::files::{self, Entry, WEIGHTS};
use crate::package;
use crate::python_source::{self, FOLDER};

/// Longest header that safetensors allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Names of files that are refused, and so not looked at, when they are large; Python sources are as well.
const SMALL: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors.index.json",
    "coldkey.txt",
    "README.md",
    package::IGNORE,
];

/// Name and digest of every file of the model folder and the pipeline folder. Of weights only size and header enter. A folder that is
/// missing has no files.
///
/// # Errors
/// When a file cannot be read.
pub fn outline(model_dir: &Path, pipeline_dir: &Path) -> Result<Vec<(String, String)>, ModelError> {
    let mut outline = nested_sources(pipeline_dir)?;
    let rules = match package::Rules::read(model_dir, &[]) {
        // A finding later on; until it is mended every file counts.
        Err(ModelError::Unsound { .. }) => package::Rules::default(),
        rules => rules?,
    };
    for (prefix, dir) in [("", model_dir), ("model/", pipeline_dir)] {
        let entries = match files::list(dir) {
            _ if !dir.is_dir() => Vec::new(),
            // Such a folder is refused, so nothing else in it matters.
            Err(ModelError::Name(path)) => {
                outline.push((format!("{prefix}{}", path.display()), "a name that is not UTF-8".into()));
                Vec::new()
            }
            entries => entries?,
        };
        // What Python leaves behind when it runs is never packaged.
        for entry in entries.into_iter().filter(|entry| entry.name != "__pycache__") {
            let name = format!("{prefix}{}", entry.name);
            // Old checkpoints may be as large as the weights; that they stay out is all that counts.
            let stays_out = package::never(&entry.name) && entry.name != package::IGNORE || rules.leave_out(&name);
            let digest = if stays_out && entry.is_file() { "stays out".to_owned() } else { digest(&entry)? };
            outline.push((name, digest));
        }
    }
    Ok(outline)
}

/// The sources in folders of the pipeline folder.
fn nested_sources(pipeline_dir: &Path) -> Result<Vec<(String, String)>, ModelError> {
    let sources = match python_source::find(pipeline_dir) {
        _ if !pipeline_dir.is_dir() => BTreeMap::new(),
        // As above: the folder is refused.
        Err(ModelError::Name(path)) => {
            return Ok(vec![(format!("{FOLDER}/{}", path.display()), "a name that is not UTF-8".into())]);
        }
        sources => sources?,
    };
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
        return Ok(files::not_a_file(&entry.path).unwrap_or("nothing").to_owned());
    }
    let small = SMALL.contains(&entry.name.as_str()) || entry.name.ends_with(".py");
    if small && entry.size() > files::LARGEST_READ {
        return Ok(format!("{} bytes, too large", entry.size()));
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

    #[test]
    fn what_stays_out_enters_by_name_and_what_is_no_file_by_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pytorch_model.bin"), "x").unwrap();
        std::fs::write(dir.path().join("model.gguf"), "x").unwrap();
        std::fs::write(dir.path().join(".devalignore"), "notes.txt\n").unwrap();
        std::fs::create_dir(dir.path().join("config.json")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("vocab.txt")).unwrap();
        let before = outline(dir.path(), Path::new("none")).unwrap();
        let of = |name: &str| before.iter().find(|(known, _)| known == name).unwrap().1.clone();
        assert_eq!((of("pytorch_model.bin"), of("model.gguf")), ("stays out".into(), "stays out".into()));
        assert_eq!((of("config.json"), of("vocab.txt")), ("a folder".into(), "a link that leads nowhere".into()));
        std::fs::File::create(dir.path().join("tokenizer.json")).unwrap().set_len(1 << 40).unwrap();
        let large = outline(dir.path(), Path::new("none")).unwrap();
        assert!(large.contains(&("tokenizer.json".into(), format!("{} bytes, too large", 1_u64 << 40))));
        std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
        std::fs::write(dir.path().join("model.gguf"), "y").unwrap();
        assert_eq!(outline(dir.path(), Path::new("none")).unwrap(), before);
        std::fs::write(dir.path().join(".devalignore"), "!*.gguf\n").unwrap();
        assert_ne!(outline(dir.path(), Path::new("none")).unwrap()[0], before[0]);
        use std::os::unix::ffi::OsStrExt as _;
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.txt")), "").unwrap();
        assert!(outline(dir.path(), Path::new("none")).unwrap()[0].1.contains("not UTF-8"));
        assert!(outline(Path::new("none"), dir.path()).unwrap()[0].1.contains("not UTF-8"));
    }
}
