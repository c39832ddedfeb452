//! Small things about folders and files that several checks share.

use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use deval_report::Diagnostic;

use crate::ModelError;

/// Suffix of weight files; the validator compares it case by case.
pub(crate) const WEIGHTS: &str = ".safetensors";

/// Files larger than this are data: no configuration, tokenizer, index or source is, and no secret is looked for in them.
pub(crate) const LARGEST_READ: u64 = 64 * 1024 * 1024;

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

/// What lies at a path, when it is not a file; `None` for a file, and for nothing at all.
pub(crate) fn not_a_file(path: &Path) -> Option<&'static str> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => None,
        Ok(meta) if meta.is_dir() => Some("a folder"),
        Ok(_) => Some("a pipe, a socket or a device"),
        Err(_) => fs::symlink_metadata(path).is_ok().then_some("a link that leads nowhere"),
    }
}

/// Reads a file that is small by nature; `None` when nothing is there. What is not a file, or larger than any of its kind, is a finding of
/// this code at `file`, and not opened.
pub(crate) fn read_small(path: &Path, code: &str, file: &str) -> Result<Checked<Option<Vec<u8>>>, ModelError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some(what) = not_a_file(path) {
        let finding = Diagnostic::error(code, format!("{name} is {what}, not a file")).in_file(file);
        return Ok(Err(Box::new(finding.help("put the file itself there"))));
    }
    if !path.is_file() {
        return Ok(Ok(None));
    }
    let bytes = read_start(path, LARGEST_READ + 1)?;
    if bytes.len() as u64 <= LARGEST_READ {
        return Ok(Ok(Some(bytes)));
    }
    let finding = Diagnostic::error(code, format!("{name} is too large to be what its name says")).in_file(file);
    let expected = format!("at most {}", human(LARGEST_READ));
    Ok(Err(Box::new(finding.expected(expected).help("write it again; something else was saved under this name"))))
}

/// A finding in the place of a value.
pub(crate) type Checked<T> = Result<T, Box<Diagnostic>>;

/// Reads at most so many bytes of a file.
pub(crate) fn read_start(path: &Path, most: u64) -> Result<Vec<u8>, ModelError> {
    let file = File::open(path).map_err(ModelError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).map_err(ModelError::io("read", path))?;
    Ok(bytes)
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
