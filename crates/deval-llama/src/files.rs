//! Reading and writing files whole: JSON in, staged files out.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::LlamaError;

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, LlamaError> {
    let text = fs::read(path).map_err(LlamaError::io(path))?;
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
    write_staged(path, |file| std::io::Write::write_all(file, &text).map_err(LlamaError::io(path)))
}
