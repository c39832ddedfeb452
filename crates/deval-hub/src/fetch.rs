//! The way back: a copy of a repository of which every byte was checked, and which goes on where it broke off.
//!
//! Files grow in `.deval-fetch` inside the directory, part by part ([`parts`]), and move to their places one by one, each when all of
//! its bytes have the digest that the Hub lists. What is in the directory already is compared, never replaced ([`place`]).

mod parts;
mod place;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::StreamExt as _;

use self::parts::Partial;
use crate::http::Api;
use crate::ranges::RemoteFiles;
use crate::remote::RemoteFile;
use crate::{HubError, RepoId};

/// Folder of what is not complete yet.
pub(crate) const UNFINISHED: &str = ".deval-fetch";

const LOCK: &str = "lock";

/// Files that grow at the same time: one is digested while the next is downloaded.
const FILES_AT_ONCE: usize = 2;

/// Parts of one file on their way at the same time.
const PARTS_AT_ONCE: usize = 3;

/// What a copy is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Id of the Hub commit.
    pub revision: String,
    /// The wanted files, sorted by path.
    pub files: Vec<RemoteFile>,
    /// Bytes of files that were in the directory already.
    pub kept: u64,
    /// Bytes that a run before this one had downloaded of files it did not complete.
    pub resumed: u64,
    /// Bytes of such parts that were damaged since, and downloaded again.
    pub damaged: u64,
    /// Bytes of file contents that came over the network.
    pub received: u64,
}

pub(crate) async fn fetch(
    api: &Api,
    repo: &RepoId,
    revision: &str,
    dir: &Path,
    wanted: &(dyn Fn(&str) -> bool + Sync),
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Fetched, HubError> {
    let remote = RemoteFiles::open(api, repo, revision).await?;
    let mut files = remote.files().to_vec();
    files.retain(|file| wanted(&file.path));
    let (target, tree) = (dir.to_owned(), remote.files().to_vec());
    let present = blocking(dir, move || place::survey(&target, &tree)).await?;
    let unfinished = dir.join(UNFINISHED);
    fs::create_dir_all(&unfinished).map_err(HubError::disk(&unfinished))?;
    let lock = Lock::take(&unfinished)?;
    let (here, missing): (Vec<_>, Vec<_>) = files.iter().partition(|file| present.contains(&file.path));
    let total = files.iter().map(|file| file.size).sum();
    let kept: u64 = here.iter().map(|file| file.size).sum();
    let copy = Copy {
        repo,
        remote: &remote,
        dir,
        unfinished,
        progress,
        total,
        done: kept.into(),
        failed: AtomicBool::new(false),
    };
    copy.advance(0);
    let pieces = drain(&copy.failed, missing, FILES_AT_ONCE, |file| copy.file(file)).await?;
    // What other revisions left there is of no more use either.
    fs::remove_dir_all(&copy.unfinished).map_err(HubError::disk(&copy.unfinished))?;
    drop(lock);
    let (resumed, damaged) = pieces.iter().fold((0, 0), |sum, piece| (sum.0 + piece.kept, sum.1 + piece.damaged));
    let (revision, received) = (remote.revision().to_owned(), remote.bytes_read());
    Ok(Fetched { revision, files, kept, resumed, damaged, received })
}

/// Keeps a second copy out of the directory, where both would tread on each other.
struct Lock {
    _file: File,
    unfinished: PathBuf,
}

impl Lock {
    fn take(unfinished: &Path) -> Result<Self, HubError> {
        let path = unfinished.join(LOCK);
        let disk = HubError::disk(&path);
        let file = File::create(&path).map_err(HubError::disk(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file, unfinished: unfinished.to_owned() }),
            Err(TryLockError::WouldBlock) => {
                Err(disk(io::Error::other("another download into this directory is running")))
            }
            Err(TryLockError::Error(error)) => Err(disk(error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Without parts there is nothing to go on with; the folder is kept if it holds any.
        let _ = fs::remove_file(self.unfinished.join(LOCK));
        let _ = fs::remove_dir(&self.unfinished);
    }
}

/// Whether a download into this directory broke off.
pub fn is_unfinished(dir: &Path) -> bool {
    dir.join(UNFINISHED).exists()
}

/// A copy in the making.
struct Copy<'a> {
    repo: &'a RepoId,
    remote: &'a RemoteFiles,
    dir: &'a Path,
    unfinished: PathBuf,
    progress: &'a (dyn Fn(u64, u64) + Sync),
    total: u64,
    done: AtomicU64,
    /// Whether something went wrong, so that nothing more is begun.
    failed: AtomicBool,
}

/// What was there of a file.
struct Resumed {
    kept: u64,
    damaged: u64,
}

impl Copy<'_> {
    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.progress)(done, self.total);
    }

    async fn file(&self, file: &RemoteFile) -> Result<Resumed, HubError> {
        let (unfinished, wanted) = (self.unfinished.clone(), file.clone());
        let (partial, resumed) = blocking(&self.unfinished, move || Partial::open(&unfinished, &wanted)).await?;
        self.advance(resumed.kept);
        let one = |part| self.part(file, &partial, part);
        drain(&self.failed, partial.missing(), PARTS_AT_ONCE, one).await?;
        self.finish(file, partial).await?;
        Ok(resumed)
    }

    async fn part(&self, file: &RemoteFile, partial: &Partial, part: u64) -> Result<(), HubError> {
        let (partial, range) = (partial.clone(), partial.range(part));
        let bytes = self.remote.read(file, range.clone()).await?;
        blocking(&self.unfinished, move || partial.write(part, &bytes)).await?;
        self.advance(range.end - range.start);
        Ok(())
    }

    /// Checks a file that is whole, and moves it to its place.
    async fn finish(&self, file: &RemoteFile, partial: Partial) -> Result<(), HubError> {
        let (expected, path) = (file.digest.clone(), partial.path().to_owned());
        let found = blocking(partial.path(), move || place::digest(&path, &expected)).await?;
        if found != file.digest {
            partial.discard()?;
            let (repo, path) = (self.repo.to_string(), file.path.clone());
            return Err(HubError::Corrupt { repo, path, found: found.to_string(), expected: file.digest.to_string() });
        }
        let (dir, path) = (self.dir.to_owned(), file.path.clone());
        blocking(self.dir, move || place::settle(partial, &dir, &path)).await
    }
}

/// Does things, some of them at the same time. After a failure anywhere nothing more is begun, but what was begun comes to its end: a
/// part that is on its way is not thrown away.
async fn drain<I, T, F>(
    failed: &AtomicBool,
    things: Vec<I>,
    at_once: usize,
    each: impl Fn(I) -> F,
) -> Result<Vec<T>, HubError>
where
    F: Future<Output = Result<T, HubError>>,
{
    let mut first = None;
    let mut done = Vec::with_capacity(things.len());
    let expected = things.len();
    let begun = futures::stream::iter(things).take_while(|_| std::future::ready(!failed.load(Ordering::Relaxed)));
    let mut ends = begun.map(each).buffer_unordered(at_once);
    while let Some(end) = ends.next().await {
        match end {
            Ok(value) => done.push(value),
            Err(error) => {
                failed.store(true, Ordering::Relaxed);
                first = first.filter(|first| !matches!(first, HubError::Stopped)).or(Some(error));
            }
        }
    }
    match first {
        Some(error) => Err(error),
        // Something else failed, which tells why; this only did not come to its end.
        None if done.len() < expected => Err(HubError::Stopped),
        None => Ok(done),
    }
}

/// Work with files, where it keeps nobody waiting.
async fn blocking<T: Send + 'static>(
    place: &Path,
    work: impl FnOnce() -> Result<T, HubError> + Send + 'static,
) -> Result<T, HubError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| HubError::disk(place)(io::Error::other(error)))?
}
