//! Putting files into the staged tree.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::listing::{Item, Source};
use super::{PackageFile, digests};
use crate::ModelError;

/// Mode of every file in the package: the container runs as another user.
const MODE: u32 = 0o644;

/// How a file came into the tree.
#[derive(Debug)]
pub(super) enum Placed {
    Written,
    Linked,
    /// Weights that could not be linked, for this reason.
    CopiedWeights(io::Error),
}

/// A tree in the making, beside the folder that it will replace. Dropped before it is finished, it disappears.
pub(super) struct Staging {
    out: PathBuf,
    tree: PathBuf,
}

impl Staging {
    /// An empty tree; what an interrupted run left there is removed.
    pub(super) fn new(out: &Path) -> Result<Self, ModelError> {
        let tree = beside(out, "staging");
        remove(&tree)?;
        fs::create_dir_all(&tree).map_err(ModelError::io("make", &tree))?;
        Ok(Self { out: out.to_owned(), tree })
    }

    pub(super) fn place(&self, item: &Item) -> Result<(PackageFile, Placed), ModelError> {
        let to = self.tree.join(&item.path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(ModelError::io("make", parent))?;
        }
        if let Some(secret) = item.secret()? {
            return Err(ModelError::Secret { path: item.path.clone(), what: secret.what });
        }
        match &item.source {
            Source::File(from) if item.is_weights() => weights(item, from, &to),
            Source::File(from) => {
                fs::copy(from, &to).map_err(ModelError::io("copy", from)).and_then(|_| written(item, &to))
            }
            Source::Text(text) => {
                fs::write(&to, text).map_err(ModelError::io("write", &to)).and_then(|()| written(item, &to))
            }
        }
    }

    /// Puts the tree in the place of the old one.
    pub(super) fn finish(self) -> Result<(), ModelError> {
        let old = beside(&self.out, "old");
        remove(&old)?;
        if self.out.exists() {
            fs::rename(&self.out, &old).map_err(ModelError::io("move", &self.out))?;
        }
        fs::rename(&self.tree, &self.out).map_err(ModelError::io("write", &self.out))?;
        remove(&old)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After `finish` there is nothing left to remove.
        fs::remove_dir_all(&self.tree).ok();
    }
}

/// Files in a staged tree.
pub(super) fn count(dir: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(files)
}

fn beside(out: &Path, word: &str) -> PathBuf {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!(".{name}.{word}"))
}

fn remove(dir: &Path) -> Result<(), ModelError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ModelError::io("remove", dir)(error)),
        _ => Ok(()),
    }
}

/// A hard link; a copy where the file system or its owner does not allow one. The copy shares its blocks with the original where the
/// file system can do that (the system's copy asks for it).
fn weights(item: &Item, from: &Path, to: &Path) -> Result<(PackageFile, Placed), ModelError> {
    let placed = match fs::hard_link(from, to).and_then(|()| readable(to)) {
        Ok(()) => Placed::Linked,
        Err(reason) => {
            // A link whose mode could not be set is still there, and copying onto it would write into the original.
            fs::remove_file(to).ok();
            copy(from, to)?;
            Placed::CopiedWeights(reason)
        }
    };
    Ok((PackageFile { path: item.path.clone(), size: item.size, sha256: None, git_sha1: None }, placed))
}

/// A copy with the original's time, by which it is told later that neither was written to since.
fn copy(from: &Path, to: &Path) -> Result<(), ModelError> {
    fs::copy(from, to).map_err(ModelError::io("copy", from))?;
    let time = fs::metadata(from).and_then(|meta| meta.modified()).map_err(ModelError::io("look at", from))?;
    let file = File::options().write(true).open(to).map_err(ModelError::io("open", to))?;
    file.set_modified(time).map_err(ModelError::io("set the time of", to))?;
    fs::set_permissions(to, Permissions::from_mode(MODE)).map_err(ModelError::io("set the mode of", to))
}

/// Makes a file readable for everyone, if it is not; other bits belong to its owner.
fn readable(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o444 == 0o444 { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(mode | 0o444)) }
}

fn written(item: &Item, to: &Path) -> Result<(PackageFile, Placed), ModelError> {
    fs::set_permissions(to, Permissions::from_mode(MODE)).map_err(ModelError::io("set the mode of", to))?;
    let (size, sha256, git_sha1) = digests::of(to)?;
    let file = PackageFile { path: item.path.clone(), size, sha256: Some(sha256), git_sha1: Some(git_sha1) };
    Ok((file, Placed::Written))
}
