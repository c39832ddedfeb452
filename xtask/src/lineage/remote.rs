//! A model on the Hub of which only headers and ranges are read.

use anyhow::{Context as _, anyhow, ensure};
use deval_hub::{Digest, RemoteFile, RemoteFiles, RepoId};
use deval_model::{
    ModelError,
    lineage::TensorSource,
    weights::{Shard, read_header_bytes},
};
use tokio::runtime::Handle;

use crate::{context::Context, hub};

/// The weights of a repository.
pub(super) struct HubModel {
    name: String,
    files: RemoteFiles,
    weights: Vec<RemoteFile>,
    shards: Vec<Shard>,
    runtime: Handle,
}

impl HubModel {
    /// Reads the tree of `main` and the headers of its weights.
    pub(super) fn open(context: &Context, repo: &RepoId) -> anyhow::Result<Self> {
        let client = hub::reader(context)?;
        let files = context.runtime.block_on(client.open(repo, "main"))?;
        let at_root = |file: &&RemoteFile| !file.path.contains('/') && file.path.ends_with(".safetensors");
        let weights: Vec<_> = files.files().iter().filter(at_root).cloned().collect();
        ensure!(!weights.is_empty(), "{repo} has no weights (*.safetensors) at its root to compare with");
        let runtime = context.runtime.handle().clone();
        let mut model = Self { name: repo.to_string(), files, weights, shards: Vec::new(), runtime };
        for file in &model.weights {
            let shard = model.header(file).with_context(|| format!("`{}` of {repo}", file.path))?;
            model.shards.push(shard);
        }
        Ok(model)
    }

    pub(super) fn revision(&self) -> &str {
        self.files.revision()
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.files.bytes_read()
    }

    fn header(&self, file: &RemoteFile) -> anyhow::Result<Shard> {
        let start = self.runtime.block_on(hub::header(&self.files, file))?;
        read_header_bytes(&start, &file.path, file.size).map_err(|finding| anyhow!("{}", finding.message))
    }
}

impl TensorSource for HubModel {
    fn shards(&self) -> &[Shard] {
        &self.shards
    }

    fn read(&self, shard: usize, offset: u64, buffer: &mut [u8]) -> Result<(), ModelError> {
        let file = &self.weights[shard];
        let range = offset..offset + buffer.len() as u64;
        let bytes = self.runtime.block_on(self.files.read(file, range)).map_err(|error| ModelError::Remote {
            what: format!("`{}` of {}", file.path, self.name),
            source: error.into(),
        })?;
        buffer.copy_from_slice(&bytes);
        Ok(())
    }

    fn sha256(&self, shard: usize) -> Option<&str> {
        match &self.weights[shard].digest {
            Digest::Sha256(digest) => Some(digest),
            Digest::GitSha1(_) => None,
        }
    }

    fn waits(&self) -> bool {
        true
    }
}
