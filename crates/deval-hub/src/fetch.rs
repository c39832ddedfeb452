//! The way back: a copy of a repository of which every byte was checked.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::hf::HfHub;
use crate::http::{Api, shown};
use crate::remote::{self, Digest, RemoteFile, Snapshot, model_url};
use crate::{HubError, RepoId};

pub(crate) async fn fetch(
    api: &Api,
    repo: &RepoId,
    revision: &str,
    dir: &Path,
    wanted: &(dyn Fn(&str) -> bool + Sync),
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Snapshot, HubError> {
    require_empty(dir)?;
    let mut snapshot = remote::snapshot(api, repo, revision).await?;
    snapshot.files.retain(|file| wanted(&file.path));
    require_inside(api, repo, &snapshot.files)?;
    fs::create_dir_all(dir).map_err(HubError::disk(dir))?;
    let staging = tempfile::Builder::new().prefix(".fetch-").tempdir_in(dir).map_err(HubError::disk(dir))?;
    let hub = HfHub::new(api, repo)?;
    let total = snapshot.files.iter().map(|f| f.size).sum();
    let mut done = 0;
    for file in &snapshot.files {
        hub.download(&snapshot.revision, &file.path, staging.path()).await?;
        check(repo, file, staging.path().join(&file.path)).await?;
        done += file.size;
        progress(done, total);
    }
    move_up(staging.path(), dir).map_err(HubError::disk(dir))?;
    Ok(snapshot)
}

fn move_up(staging: &Path, dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(staging)? {
        let entry = entry?;
        fs::rename(entry.path(), dir.join(entry.file_name()))?;
    }
    Ok(())
}

fn require_empty(dir: &Path) -> Result<(), HubError> {
    let mut entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(HubError::disk(dir))?,
    };
    let Some(entry) = entries.next() else { return Ok(()) };
    let found = entry.map_err(HubError::disk(dir))?.file_name().to_string_lossy().into_owned();
    Err(HubError::NotEmpty { path: dir.to_owned(), found })
}

/// Whoever runs the Hub must not be able to write outside the directory.
fn require_inside(api: &Api, repo: &RepoId, files: &[RemoteFile]) -> Result<(), HubError> {
    let inside =
        |file: &&RemoteFile| Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_)));
    let Some(file) = files.iter().find(|file| !inside(file)) else { return Ok(()) };
    let what = format!("it lists {:?}, which is outside the repository", file.path);
    Err(HubError::Answer { url: shown(&model_url(api, repo, &[])), what })
}

async fn check(repo: &RepoId, file: &RemoteFile, path: PathBuf) -> Result<(), HubError> {
    let (expected, disk) = (file.digest.clone(), HubError::disk(path.clone()));
    let work = tokio::task::spawn_blocking(move || digest(&path, &expected));
    let found = work.await.map_err(io::Error::other).flatten().map_err(disk)?;
    if found == file.digest {
        return Ok(());
    }
    let (repo, path) = (repo.to_string(), file.path.clone());
    Err(HubError::Corrupt { repo, path, found: found.to_string(), expected: file.digest.to_string() })
}

/// The digest of a file on disk, of the same kind as `like`.
fn digest(path: &Path, like: &Digest) -> io::Result<Digest> {
    let file = File::open(path)?;
    match like {
        Digest::Sha256(_) => {
            let mut sha256 = Sha256::new();
            pieces(file, |piece| sha256.update(piece))?;
            Ok(Digest::Sha256(hex::encode(sha256.finalize())))
        }
        Digest::GitSha1(_) => {
            let mut sha1 = Sha1::new_with_prefix(format!("blob {}\0", file.metadata()?.len()));
            pieces(file, |piece| sha1.update(piece))?;
            Ok(Digest::GitSha1(hex::encode(sha1.finalize())))
        }
    }
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
