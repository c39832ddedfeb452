//! A folder that looks like the repository: small files as they are, weights as far as their headers, everything else of the right size
//! and empty inside. The checks of the submission's folder run on it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use deval_hub::{RemoteFile, RemoteFiles};
use deval_model::coldkey;
use futures::{StreamExt as _, TryStreamExt as _};
use tempfile::TempDir;

use super::is_weights;
use crate::hub;

/// The largest file that is read whole, in bytes: tokenizers of large vocabularies have 20 to 40 MB.
const SMALL: u64 = 64_000_000;

/// Most bytes of small files that are read.
const BUDGET: u64 = 256_000_000;

/// Files that are read at the same time.
const AT_ONCE: usize = 8;

pub(super) struct Shadow {
    dir: TempDir,
    /// Bytes of the headers of weights.
    pub(super) headers: u64,
}

impl Shadow {
    /// Reads what there is to read.
    pub(super) async fn cast(files: &RemoteFiles) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("no temporary folder can be made")?;
        let mut budget = BUDGET;
        let mut plan = Vec::new();
        for file in files.files() {
            let whole = is_looked_into(&file.path) && file.size <= SMALL.min(budget);
            if whole && !is_weights(file) {
                budget -= file.size;
            }
            plan.push((file, whole));
        }
        let root = dir.path();
        let reads = plan.into_iter().map(|(file, whole)| read(files, file, whole, root));
        let headers: Vec<u64> = futures::stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(Self { headers: headers.into_iter().sum(), dir })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The address in `coldkey.txt`, whatever stands around it is a finding. What is no address may be a secret, and is not shown.
    pub(super) fn coldkey(&self) -> Option<String> {
        let text = fs::read_to_string(self.path().join(coldkey::FILE)).ok()?;
        Some(text.trim().to_owned()).filter(|address| coldkey::account(address).is_some())
    }
}

/// Writes one file of the shadow; returns the bytes that were read of a header.
async fn read(files: &RemoteFiles, file: &RemoteFile, whole: bool, root: &Path) -> anyhow::Result<u64> {
    let bytes = if is_weights(file) {
        hub::header(files, file).await?
    } else if whole {
        files.read(file, 0..file.size).await?
    } else {
        Vec::new()
    };
    let path: PathBuf = root.join(&file.path);
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(&path, &bytes)?;
        fs::File::options().write(true).open(&path)?.set_len(file.size)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(if is_weights(file) { bytes.len() as u64 } else { 0 })
}

/// What the checks read: configuration and tokenizer at the root, the pipeline's sources and PyArmor's runtime.
fn is_looked_into(path: &str) -> bool {
    match path.split_once('/') {
        None => !is_of_weights(path),
        Some((folder, _)) => (folder == "model" || folder.starts_with("pyarmor_runtime")) && !is_of_weights(path),
    }
}

/// Endings of files that hold weights in one format or another.
fn is_of_weights(path: &str) -> bool {
    let endings = [".safetensors", ".bin", ".pth", ".pt", ".gguf", ".onnx", ".h5", ".msgpack", ".ckpt"];
    let path = path.to_ascii_lowercase();
    endings.iter().any(|ending| path.ends_with(ending))
}
