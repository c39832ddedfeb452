//! Repositories on disk: a linear history on `main`, files by digest. See [`super`] for the layout.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempDir};

use super::xet::Cas;
use super::{HubError, date};

/// The one branch.
pub(super) const MAIN: &str = "main";

const SETTINGS: &str = "settings.json";

/// `namespace/name`, checked: safe to use as a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RepoId {
    ns: String,
    name: String,
}

impl RepoId {
    /// The Hub's rule: at most 96 of `A-Za-z0-9._-`, no `-` or `.` at either end, no `--` or `..`, no `.git` at the end.
    pub(super) fn new(ns: &str, name: &str) -> Option<Self> {
        let fits = |part: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            (1..=96).contains(&part.len())
                && part.bytes().all(known)
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("--")
                && !part.contains("..")
                && !part.ends_with(".git")
        };
        (fits(ns) && fits(name)).then(|| Self { ns: ns.into(), name: name.into() })
    }

    pub(super) fn namespace(&self) -> &str {
        &self.ns
    }
}

impl std::fmt::Display for RepoId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ns, self.name)
    }
}

/// Who may see a repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) private: bool,
    /// `false`, `"auto"` or `"manual"`.
    pub(super) gated: Value,
    pub(super) created_at: String,
    /// Taken down. No request does that: edit the file.
    #[serde(default)]
    pub(super) disabled: bool,
}

impl Settings {
    pub(super) fn is_gated(&self) -> bool {
        self.gated != json!(false)
    }
}

/// An existing repository.
#[derive(Debug)]
pub(super) struct Repo {
    pub(super) id: RepoId,
    pub(super) settings: Settings,
    directory: PathBuf,
}

/// A commit and the whole tree it leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Commit {
    #[serde(flatten)]
    pub(super) stamp: Stamp,
    pub(super) parent: Option<String>,
    /// Title and, after a blank line, the description.
    pub(super) message: String,
    pub(super) author: String,
    /// By path, in byte order.
    pub(super) files: BTreeMap<String, Entry>,
}

/// What a listing says about a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// 40 lower-case hex digits.
    pub(super) id: String,
    pub(super) title: String,
    pub(super) date: String,
}

/// A file of a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) content: Content,
    /// The commit that last changed it.
    pub(super) last_commit: Stamp,
}

/// A file's identity; `size` is in bytes, and of the real file also for LFS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Content {
    /// `oid` is git's blob SHA-1.
    Regular { oid: String, size: u64 },
    /// Linked by SHA-256; `xet_hash` if it came over Xet.
    Lfs { sha256: String, size: u64, xet_hash: Option<String> },
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Regular { size, .. } | Self::Lfs { size, .. } => *size,
        }
    }

    /// Git's blob SHA-1: of the file, or of the LFS pointer in its place.
    pub(super) fn git_oid(&self) -> String {
        match self {
            Self::Regular { oid, .. } => oid.clone(),
            Self::Lfs { sha256, size, .. } => git_oid(lfs_pointer(sha256, *size).as_bytes()),
        }
    }

    /// The digest an uploader compares with: SHA-256 for LFS, git's blob SHA-1 else.
    pub(super) fn oid(&self) -> &str {
        match self {
            Self::Regular { oid, .. } => oid,
            Self::Lfs { sha256, .. } => sha256,
        }
    }
}

/// The text git holds in place of an LFS file.
pub(super) fn lfs_pointer(sha256: &str, size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
}

fn git_oid(bytes: &[u8]) -> String {
    let header = format!("blob {}\0", bytes.len());
    hex::encode(Sha1::new().chain_update(header).chain_update(bytes).finalize())
}

/// What a new commit is made of.
pub(super) struct Draft {
    pub(super) title: String,
    pub(super) description: String,
    pub(super) author: String,
    /// The whole tree.
    pub(super) files: BTreeMap<String, Content>,
}

/// All repositories, and the LFS files put together so far.
pub(super) struct Store {
    root: PathBuf,
    writer: Mutex<()>,
    assembly: Mutex<()>,
}

impl Store {
    pub(super) fn open(root: &Path) -> Result<Self, HubError> {
        let store = Self { root: root.to_owned(), writer: Mutex::default(), assembly: Mutex::default() };
        let tmp = store.tmp();
        if tmp.exists() {
            std::fs::remove_dir_all(&tmp).map_err(HubError::io(&tmp))?;
        }
        for directory in [tmp, store.repos(), store.lfs()] {
            std::fs::create_dir_all(&directory).map_err(HubError::io(&directory))?;
        }
        Ok(store)
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn repos(&self) -> PathBuf {
        self.root.join("repos")
    }

    fn lfs(&self) -> PathBuf {
        self.root.join("lfs")
    }

    fn directory(&self, id: &RepoId) -> PathBuf {
        self.repos().join(&id.ns).join(&id.name)
    }

    /// Held over read-then-write, so that two commits cannot have the same parent.
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where an LFS file lies once it is one plain file.
    pub(super) fn lfs_path(&self, sha256: &str) -> PathBuf {
        self.lfs().join(sha256)
    }

    /// Where a part of a multipart upload waits for the others.
    pub(super) fn part_path(&self, sha256: &str, part: u32) -> PathBuf {
        self.root.join("parts").join(sha256).join(part.to_string())
    }

    /// A new file that gets its place by [`NamedTempFile::persist`], and is gone if it never does.
    pub(super) fn stage(&self) -> Result<NamedTempFile, HubError> {
        let tmp = self.tmp();
        NamedTempFile::new_in(&tmp).map_err(HubError::io(&tmp))
    }

    /// Namespaces that have repositories.
    pub(super) fn namespaces(&self) -> Result<Vec<String>, HubError> {
        let repos = self.repos();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&repos).map_err(HubError::io(&repos))? {
            names.push(entry.map_err(HubError::io(&repos))?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn repo(&self, id: &RepoId) -> Result<Option<Repo>, HubError> {
        let directory = self.directory(id);
        let settings: Option<Settings> = read_json(&directory.join(SETTINGS))?;
        Ok(settings.map(|settings| Repo { id: id.clone(), settings, directory }))
    }

    /// Creates the repository with its initial commit; `false` if it exists. It appears whole, by one rename.
    pub(super) fn create(&self, id: &RepoId, settings: &Settings, draft: Draft) -> Result<bool, HubError> {
        let (parent, target) = (self.repos().join(&id.ns), self.directory(id));
        if target.exists() {
            return Ok(false);
        }
        let tmp = self.tmp();
        let staged = TempDir::new_in(&tmp).map_err(HubError::io(&tmp))?;
        self.write_json(&staged.path().join(SETTINGS), settings)?;
        self.append(staged.path(), None, draft)?;
        std::fs::create_dir_all(&parent).map_err(HubError::io(&parent))?;
        std::fs::rename(staged.path(), &target).map_err(HubError::io(&target))?;
        Ok(true)
    }

    pub(super) fn save_settings(&self, repo: &Repo) -> Result<(), HubError> {
        self.write_json(&repo.directory.join(SETTINGS), &repo.settings)
    }

    /// Stores a regular file under its digest; no commit names it yet.
    pub(super) fn add_blob(&self, bytes: &[u8]) -> Result<Content, HubError> {
        let oid = git_oid(bytes);
        let path = self.blob_path(&oid);
        if !path.is_file() {
            self.write(&path, bytes)?;
        }
        Ok(Content::Regular { oid, size: bytes.len() as u64 })
    }

    /// A regular file's text.
    pub(super) fn read_blob(&self, oid: &str) -> Result<String, HubError> {
        let path = self.blob_path(oid);
        let bytes = std::fs::read(&path).map_err(HubError::io(&path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Where a regular file of any repository lies. Content-addressed, so repositories share them.
    pub(super) fn blob_path(&self, oid: &str) -> PathBuf {
        self.root.join("blobs").join(oid)
    }

    /// Takes a repository away with its history; contents stay, they may be another's too.
    pub(super) fn delete(&self, repo: &Repo) -> Result<(), HubError> {
        // The settings first: without them it does not exist.
        let settings = repo.directory.join(SETTINGS);
        std::fs::remove_file(&settings).map_err(HubError::io(&settings))?;
        std::fs::remove_dir_all(&repo.directory).map_err(HubError::io(&repo.directory))
    }

    pub(super) fn commit(&self, repo: &Repo, parent: &Commit, draft: Draft) -> Result<Commit, HubError> {
        self.append(&repo.directory, Some(parent), draft)
    }

    /// The tree is written first and `main` last, so a commit is there whole or not at all.
    fn append(&self, directory: &Path, parent: Option<&Commit>, draft: Draft) -> Result<Commit, HubError> {
        let commit = draft.onto(parent);
        self.write_json(&commit_path(directory, &commit.stamp.id), &commit)?;
        self.write(&directory.join(MAIN), commit.stamp.id.as_bytes())?;
        Ok(commit)
    }

    pub(super) fn revision(&self, repo: &Repo, revision: &str) -> Result<Option<Commit>, HubError> {
        if revision == MAIN || revision == "refs/heads/main" {
            return self.head(repo).map(Some);
        }
        let is_id = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id { read_json(&commit_path(&repo.directory, revision)) } else { Ok(None) }
    }

    pub(super) fn head(&self, repo: &Repo) -> Result<Commit, HubError> {
        let main = repo.directory.join(MAIN);
        let id = std::fs::read_to_string(&main).map_err(HubError::io(&main))?;
        self.must_read(repo, &id)
    }

    /// `from` and everything before it, newest first.
    pub(super) fn history(&self, repo: &Repo, from: Commit) -> Result<Vec<Commit>, HubError> {
        let mut commits = vec![from];
        while let Some(parent) = commits.last().and_then(|commit| commit.parent.clone()) {
            commits.push(self.must_read(repo, &parent)?);
        }
        Ok(commits)
    }

    fn must_read(&self, repo: &Repo, id: &str) -> Result<Commit, HubError> {
        let path = commit_path(&repo.directory, id);
        read_json(&path)?.ok_or_else(|| HubError::Io { path, source: io::ErrorKind::NotFound.into() })
    }

    /// The LFS file as one plain file. Put together from the Xet store once, and only kept if it is what its
    /// digest says. Blocks; may take as long as copying the file.
    ///
    /// # Errors
    /// When the Xet store has lost it or gives other bytes.
    pub(super) fn lfs_file(&self, cas: &Cas, sha256: &str) -> Result<PathBuf, HubError> {
        let path = self.lfs_path(sha256);
        if path.is_file() {
            return Ok(path);
        }
        let _one_at_a_time = self.assembly.lock().unwrap_or_else(PoisonError::into_inner);
        if path.is_file() {
            return Ok(path);
        }
        let file = cas.find(sha256)?.ok_or_else(|| HubError::LostObject { oid: sha256.into() })?;
        let mut staged = self.stage()?;
        let mut out = Digesting { out: BufWriter::new(&mut staged), sha256: Sha256::new(), size: 0 };
        cas.copy(&file, &mut out)?;
        out.flush().map_err(HubError::io(&path))?;
        let (found, found_size) = (hex::encode(out.sha256.finalize_reset()), out.size);
        drop(out);
        if found != sha256 || found_size != file.size {
            return Err(HubError::WrongObject { oid: sha256.into(), size: file.size, found, found_size });
        }
        persist(staged, &path)?;
        Ok(path)
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<(), HubError> {
        let text = serde_json::to_vec_pretty(value).map_err(|source| HubError::State { path: path.into(), source })?;
        self.write(path, &text)
    }

    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), HubError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(HubError::io(parent))?;
        }
        let mut staged = self.stage()?;
        staged.write_all(bytes).map_err(HubError::io(path))?;
        persist(staged, path)
    }
}

impl Draft {
    fn onto(self, parent: Option<&Commit>) -> Commit {
        let Self { title, description, author, files } = self;
        let (date, parent_id) = (date::now(), parent.map(|parent| parent.stamp.id.clone()));
        let message = if description.is_empty() { title.clone() } else { format!("{title}\n\n{description}") };
        let identity = json!([parent_id, message, author, date, files]).to_string();
        let stamp = Stamp { id: hex::encode(Sha1::digest(identity)), title, date };
        let before = |path: &str| parent.and_then(|parent| parent.files.get(path));
        let entry = |(path, content): (String, Content)| {
            let unchanged = before(&path).filter(|entry| entry.content.git_oid() == content.git_oid());
            let last_commit = unchanged.map_or_else(|| stamp.clone(), |entry| entry.last_commit.clone());
            (path, Entry { content, last_commit })
        };
        let files = files.into_iter().map(entry).collect();
        Commit { stamp, parent: parent_id, message, author, files }
    }
}

struct Digesting<W> {
    out: W,
    sha256: Sha256,
    size: u64,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// SHA-256 (lower-case hex) and size of a file.
pub(super) fn digest(path: &Path) -> Result<(String, u64), HubError> {
    let mut file = std::fs::File::open(path).map_err(HubError::io(path))?;
    let mut out = Digesting { out: io::sink(), sha256: Sha256::new(), size: 0 };
    io::copy(&mut file, &mut out).map_err(HubError::io(path))?;
    Ok((hex::encode(out.sha256.finalize()), out.size))
}

fn commit_path(directory: &Path, id: &str) -> PathBuf {
    directory.join("commits").join(format!("{id}.json"))
}

fn persist(staged: NamedTempFile, path: &Path) -> Result<(), HubError> {
    staged.persist(path).map(drop).map_err(|error| HubError::Io { path: path.into(), source: error.error })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, HubError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HubError::io(path)(error)),
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|source| HubError::State { path: path.into(), source })
        }
    }
}
