//! What an obfuscated tree was made from, written down inside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RECIPE;
use crate::PythonError;

const FILE: &str = "made-from.json";

/// SHA-256 by path.
pub(super) type Digests = BTreeMap<String, String>;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    recipe: String,
    sources: Digests,
    /// The tree itself, so that a touched one is not taken for whole.
    tree: Digests,
}

pub(super) fn digests(files: &BTreeMap<String, PathBuf>) -> Result<Digests, PythonError> {
    files.iter().map(|(name, path)| Ok((name.clone(), deval_model::file_sha256(path)?))).collect()
}

/// Writes down what the tree in `dir` was made from.
pub(super) fn record(dir: &Path, sources: Digests) -> Result<(), PythonError> {
    let record = Record { recipe: RECIPE.to_owned(), sources, tree: digests(&tree(dir)?)? };
    let path = dir.join(FILE);
    let text = serde_json::to_string_pretty(&record).expect("texts are JSON");
    fs::write(&path, text).map_err(PythonError::io("write", &path))
}

/// Whether the tree in `dir` was made from these sources by this program's recipe, and is as it was made.
pub(super) fn stands(dir: &Path, sources: &Digests) -> bool {
    let read = || {
        let record: Record = serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()?;
        let there = digests(&tree(dir).ok()?).ok()?;
        Some(record.recipe == RECIPE && record.sources == *sources && record.tree == there)
    };
    read().unwrap_or(false)
}

/// All files below `dir` but the record.
fn tree(dir: &Path) -> Result<BTreeMap<String, PathBuf>, PythonError> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let list = |source| PythonError::io("list", &folder)(source);
        for entry in fs::read_dir(&folder).map_err(list)? {
            let path = entry.map_err(list)?.path();
            let name = path.strip_prefix(dir).expect("it lies below").to_string_lossy().into_owned();
            match path.is_dir() {
                true => folders.push(path),
                false if name != FILE => drop(files.insert(name, path)),
                false => {}
            }
        }
    }
    Ok(files)
}
