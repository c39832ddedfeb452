//! Small things about folders and files that several checks share.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use crate::ModelError;

/// Suffix of weight files; the validator compares it case by case.
pub(crate) const WEIGHTS: &str = ".safetensors";

/// One entry of a folder, links followed.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// `None` for a link that leads nowhere.
    pub(crate) meta: Option<Metadata>,
}

impl Entry {
    pub(crate) fn is_file(&self) -> bool {
        self.meta.as_ref().is_some_and(Metadata::is_file)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.meta.as_ref().is_some_and(Metadata::is_dir)
    }

    pub(crate) fn size(&self) -> u64 {
        self.meta.as_ref().map_or(0, Metadata::len)
    }
}

/// The entries of a folder in code point order, which is the order of their UTF-8 bytes.
pub(crate) fn list(dir: &Path) -> Result<Vec<Entry>, ModelError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(ModelError::io("list", dir))? {
        let path = entry.map_err(ModelError::io("list", dir))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            return Err(ModelError::Name(path));
        };
        let meta = fs::metadata(&path).ok();
        entries.push(Entry { name, path, meta });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The root entries that the validator takes for weights, in its order (upstream `deval/model/utils.py`).
pub(crate) fn weight_entries(dir: &Path) -> Result<Vec<Entry>, ModelError> {
    let mut entries = list(dir)?;
    entries.retain(|entry| entry.name.ends_with(WEIGHTS));
    Ok(entries)
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    fs::read(path).map_err(ModelError::io("read", path))
}

/// How a path is named in findings: relative to the manifest's folder, with `/` as separator.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    text: String,
}

impl Label {
    /// A folder as findings name it.
    pub(crate) fn new(root: &Path, dir: &Path) -> Self {
        let shown = dir.strip_prefix(root).unwrap_or(dir);
        let text = shown.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        Self { text: text.replace("//", "/") }
    }

    /// A file in that folder.
    pub(crate) fn file(&self, name: &str) -> String {
        if self.text.is_empty() { name.to_owned() } else { format!("{}/{name}", self.text) }
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &str {
        if self.text.is_empty() { "." } else { &self.text }
    }
}

/// Sizes for people: decimal units, as the Hub and the validator count.
pub(crate) fn human(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
