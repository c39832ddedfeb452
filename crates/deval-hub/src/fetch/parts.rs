//! A file that is not complete yet: its bytes, each part at its place, and a list of the parts that are there with their SHA-256.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::Resumed;
use crate::HubError;
use crate::remote::RemoteFile;

/// Bytes of one part; the last of a file may have fewer.
pub(super) const PART: u64 = 8 << 20;

/// An open unfinished file.
#[derive(Clone)]
pub(super) struct Partial(Arc<Inner>);

struct Inner {
    path: PathBuf,
    list: PathBuf,
    data: File,
    listed: File,
    size: u64,
    /// Parts that were there when it was opened.
    known: Vec<u64>,
}

impl Partial {
    /// Opens what an earlier run left of this file, or begins it. Parts whose bytes are not the listed ones are forgotten.
    pub(super) fn open(dir: &Path, file: &RemoteFile) -> Result<(Self, Resumed), HubError> {
        // Another content under the same path is another unfinished file.
        let key = hex::encode(Sha256::digest(format!("{PART}\n{}\n{}\n{}", file.size, file.digest, file.path)));
        let path = dir.join(&key[..32]);
        let list = path.with_extension("parts");
        let open = |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let data = open(&path).map_err(HubError::disk(&path))?;
        let listed = read_list(&list).map_err(HubError::disk(&list))?;
        let mut resumed = Resumed { kept: 0, damaged: 0 };
        let mut known = BTreeMap::new();
        for (part, sha256) in listed {
            let range = range(part, file.size);
            let length = range.end - range.start;
            if length > 0 && matches_on_disk(&data, &range, &sha256).map_err(HubError::disk(&path))? {
                resumed.kept += length;
                known.insert(part, sha256);
            } else {
                resumed.damaged += length;
            }
        }
        let lines: String = known.iter().map(|(part, sha256)| line(*part, sha256)).collect();
        fs::write(&list, lines).map_err(HubError::disk(&list))?;
        data.set_len(file.size).map_err(HubError::disk(&path))?;
        let listed = OpenOptions::new().append(true).open(&list).map_err(HubError::disk(&list))?;
        let known = known.into_keys().collect();
        Ok((Self(Arc::new(Inner { path, list, data, listed, size: file.size, known })), resumed))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The parts that have to be downloaded.
    pub(super) fn missing(&self) -> Vec<u64> {
        (0..self.0.size.div_ceil(PART)).filter(|part| self.0.known.binary_search(part).is_err()).collect()
    }

    /// The bytes of a part.
    pub(super) fn range(&self, part: u64) -> Range<u64> {
        range(part, self.0.size)
    }

    /// Takes a part. It is listed after its bytes are in their place.
    pub(super) fn write(&self, part: u64, bytes: &[u8]) -> Result<(), HubError> {
        let Inner { path, list, data, listed, .. } = &*self.0;
        data.write_all_at(bytes, self.range(part).start).map_err(HubError::disk(path))?;
        let line = line(part, &hex::encode(Sha256::digest(bytes)));
        // One write call, so that lines of two threads do not mix.
        let mut listed = listed;
        listed.write_all(line.as_bytes()).map_err(HubError::disk(list))
    }

    /// Forgets everything of the file.
    pub(super) fn discard(&self) -> Result<(), HubError> {
        [&self.0.list, &self.0.path]
            .into_iter()
            .try_for_each(|path| fs::remove_file(path).map_err(HubError::disk(path)))
    }

    /// Waits until all bytes are on disk.
    pub(super) fn sync(&self) -> Result<(), HubError> {
        self.0.data.sync_all().map_err(HubError::disk(&self.0.path))
    }
}

fn range(part: u64, size: u64) -> Range<u64> {
    let start = part.saturating_mul(PART).min(size);
    start..start.saturating_add(PART).min(size)
}

fn line(part: u64, sha256: &str) -> String {
    format!("{part} {sha256}\n")
}

/// Parts and digests. What is no line of this list, such as one that a crash cut short, stands for nothing.
fn read_list(path: &Path) -> io::Result<BTreeMap<u64, String>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => String::from_utf8_lossy(&text?).into_owned(),
    };
    let entry = |line: &str| {
        let (part, sha256) = line.split_once(' ')?;
        Some((part.parse().ok()?, sha256.to_owned()))
    };
    Ok(text.lines().filter_map(entry).collect())
}

fn matches_on_disk(data: &File, range: &Range<u64>, sha256: &str) -> io::Result<bool> {
    let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
    match data.read_exact_at(&mut bytes, range.start) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| hex::encode(Sha256::digest(&bytes)) == sha256),
    }
}
