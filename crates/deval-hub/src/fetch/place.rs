//! Where a copy goes: what may lie in its directory, and how a file gets to its place without replacing anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::UNFINISHED;
use super::parts::Partial;
use crate::HubError;
use crate::remote::{Digest, RemoteFile};

/// The files of the tree that are in the directory, all of them with the right bytes.
///
/// # Errors
/// [`HubError::NotEmpty`] for anything that is not of the tree, [`HubError::Differs`] for a file with other bytes.
pub(super) fn survey(dir: &Path, tree: &[RemoteFile]) -> Result<BTreeSet<String>, HubError> {
    let tree: BTreeMap<&str, &RemoteFile> = tree.iter().map(|file| (file.path.as_str(), file)).collect();
    let mut present = BTreeSet::new();
    let mut open = vec![String::new()];
    while let Some(folder) = open.pop() {
        let place = dir.join(&folder);
        let entries = match fs::read_dir(&place) {
            Err(error) if folder.is_empty() && error.kind() == io::ErrorKind::NotFound => return Ok(present),
            entries => entries.map_err(HubError::disk(&place))?,
        };
        for entry in entries {
            let entry = entry.map_err(HubError::disk(&place))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if folder.is_empty() && name == UNFINISHED {
                continue;
            }
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            // Links are neither: what lies behind one is not the directory's.
            let kind = entry.file_type().map_err(HubError::disk(entry.path()))?;
            let below = format!("{path}/");
            if kind.is_dir() && tree.range(below.as_str()..).next().is_some_and(|(next, _)| next.starts_with(&below)) {
                open.push(path);
            } else if let Some(file) = tree.get(path.as_str()).filter(|_| kind.is_file()) {
                compare(&entry.path(), file)?;
                present.insert(path);
            } else {
                return Err(HubError::NotEmpty { path: dir.to_owned(), found: path });
            }
        }
    }
    Ok(present)
}

fn compare(path: &Path, file: &RemoteFile) -> Result<(), HubError> {
    let size = fs::metadata(path).map_err(HubError::disk(path))?.len();
    let differs = |found: String, expected: String| Err(HubError::Differs { path: path.to_owned(), found, expected });
    if size != file.size {
        return differs(format!("{size} bytes"), format!("{} bytes", file.size));
    }
    let found = digest(path, &file.digest)?;
    if found == file.digest { Ok(()) } else { differs(found.to_string(), file.digest.to_string()) }
}

/// Moves a complete file to its place, which must still be free.
pub(super) fn settle(partial: Partial, dir: &Path, path: &str) -> Result<(), HubError> {
    partial.sync()?;
    let target = dir.join(path);
    make_folders(dir, path)?;
    // Unlike a renaming, a link replaces nothing.
    match fs::hard_link(partial.path(), &target) {
        Ok(()) => partial.discard(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(HubError::disk(&target)(error)),
        Err(_) if !target.exists() => {
            // A file system without links.
            fs::rename(partial.path(), &target).map_err(HubError::disk(&target))
        }
        Err(error) => Err(HubError::disk(&target)(error)),
    }
}

/// The folders above a file, none of which may be a link to elsewhere.
fn make_folders(dir: &Path, path: &str) -> Result<(), HubError> {
    for (end, _) in path.match_indices('/') {
        let folder = dir.join(&path[..end]);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(HubError::disk(&folder))?,
        }
        if !fs::symlink_metadata(&folder).map_err(HubError::disk(&folder))?.is_dir() {
            return Err(HubError::disk(&folder)(io::Error::other("not a folder")));
        }
    }
    Ok(())
}

/// The digest of a file on disk, of the same kind as `like`.
pub(super) fn digest(path: &Path, like: &Digest) -> Result<Digest, HubError> {
    let digest = || {
        let file = File::open(path)?;
        Ok(match like {
            Digest::Sha256(_) => {
                let mut sha256 = Sha256::new();
                pieces(file, |piece| sha256.update(piece))?;
                Digest::Sha256(hex::encode(sha256.finalize()))
            }
            Digest::GitSha1(_) => {
                let mut sha1 = Sha1::new_with_prefix(format!("blob {}\0", file.metadata()?.len()));
                pieces(file, |piece| sha1.update(piece))?;
                Digest::GitSha1(hex::encode(sha1.finalize()))
            }
        })
    };
    digest().map_err(HubError::disk(path))
}

fn pieces(mut file: File, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => take(&buffer[..read]),
        }
    }
}
