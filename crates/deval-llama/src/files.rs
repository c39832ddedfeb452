//! Reading and writing files whole: JSON in, staged files out.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::LlamaError;

/// Nothing in a model directory but its weights comes near.
const LARGEST_TEXT: u64 = 256 << 20;

/// Reads a file whole: one that is a file, and no larger than such files are.
pub(crate) fn read_text(path: &Path) -> Result<Vec<u8>, LlamaError> {
    let found = fs::metadata(path).map_err(LlamaError::io(path))?;
    if !found.is_file() || found.len() > LARGEST_TEXT {
        let kind = if found.is_file() { format!("{} bytes", found.len()) } else { "no file".to_owned() };
        let message = format!("found {kind}, expected a file of at most {LARGEST_TEXT} bytes");
        return Err(LlamaError::io(path)(io::Error::new(io::ErrorKind::InvalidData, message)));
    }
    fs::read(path).map_err(LlamaError::io(path))
}

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, LlamaError> {
    let text = read_text(path)?;
    serde_json::from_slice(&text).map_err(LlamaError::json(path))
}

/// Reads a JSON file that may be absent.
pub(crate) fn read_json_if_present<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LlamaError> {
    if path.exists() { read_json(path).map(Some) } else { Ok(None) }
}

/// Writes `path` through a temporary file beside it, so that it is either whole or not there. Mode 0644.
pub(crate) fn write_staged(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), LlamaError>,
) -> Result<(), LlamaError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut staged = tempfile::NamedTempFile::new_in(parent).map_err(LlamaError::io(parent))?;
    fill(staged.as_file_mut())?;
    staged.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(LlamaError::io(path))?;
    staged.persist(path).map_err(|failed| LlamaError::io(path)(failed.error))?;
    Ok(())
}

/// Writes indented JSON with a final newline, as Hugging Face's own files have it.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), LlamaError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(LlamaError::json(path))?;
    text.push(b'\n');
    write_staged(path, |file| io::Write::write_all(file, &text).map_err(LlamaError::io(path)))
}
