use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::weights::{self, Shard};
use crate::{ModelError, WeightsDigest};

/// A model whose headers are known and whose bytes can be read in ranges: a folder, or a repository behind a network.
pub trait TensorSource: Sync {
    /// The weight files in the validator's order, each with a sound header.
    fn shards(&self) -> &[Shard];

    /// Fills `buffer` with the bytes of a file (by its number in [`TensorSource::shards`]) from `offset` on.
    ///
    /// # Errors
    /// When these bytes cannot be read.
    fn read(&self, shard: usize, offset: u64, buffer: &mut [u8]) -> Result<(), ModelError>;

    /// SHA-256 of a whole file in lower-case hexadecimal, where it is known: equal files need not be read.
    fn sha256(&self, _shard: usize) -> Option<&str> {
        None
    }

    /// Whether a read mostly waits for somebody else, so that more threads than cores are of use.
    fn waits(&self) -> bool {
        false
    }
}

/// The weights of a model folder.
#[derive(Debug)]
pub struct LocalFolder {
    shards: Vec<Shard>,
    files: Vec<(PathBuf, File)>,
    /// SHA-256 of each file, if they were given.
    digests: Vec<String>,
}

impl LocalFolder {
    /// Opens all weight files at the root and reads their headers. The index is not looked at.
    ///
    /// # Errors
    /// When there are no weights, a header is broken, or a file cannot be read.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let mut findings = Vec::new();
        let weights = weights::scan_headers(dir, dir, &mut findings)?;
        if let Some(finding) = findings.into_iter().find(|finding| finding.is_error()) {
            let place = finding.place.map(|place| place.file).unwrap_or_default();
            return Err(ModelError::Unsound { path: dir.join(place), message: finding.message });
        }
        let open = |shard: &Shard| {
            let path = dir.join(&shard.name);
            let file = File::open(&path).map_err(ModelError::io("open", &path))?;
            Ok((path, file))
        };
        let files = weights.shards.iter().map(open).collect::<Result<_, ModelError>>()?;
        Ok(Self { shards: weights.shards, files, digests: Vec::new() })
    }

    /// The same with the digests of its files, as [`crate::digest_weights`] gave them.
    pub fn with_digests(mut self, digest: &WeightsDigest) -> Self {
        let known = |shard: &Shard| digest.files.iter().find(|file| file.name == shard.name);
        let of = |shard| known(shard).map(|file| file.sha256.clone()).unwrap_or_default();
        self.digests = self.shards.iter().map(of).collect();
        self
    }
}

impl TensorSource for LocalFolder {
    fn shards(&self) -> &[Shard] {
        &self.shards
    }

    fn sha256(&self, shard: usize) -> Option<&str> {
        self.digests.get(shard).map(String::as_str).filter(|digest| !digest.is_empty())
    }

    fn read(&self, shard: usize, offset: u64, buffer: &mut [u8]) -> Result<(), ModelError> {
        let (path, file) = &self.files[shard];
        file.read_exact_at(buffer, offset).map_err(ModelError::io("read", path))
    }
}
