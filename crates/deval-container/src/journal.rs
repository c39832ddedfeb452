//! Answers recorded while a run goes on, so that an interrupted one need not ask again.
//!
//! One file per fingerprint; its first line repeats the fingerprint, every further one is an answer. The last line may be torn.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, TryLockError},
    io::Write as _,
    path::{Path, PathBuf},
};

use deval_eval::{Request, api::ApiResponse};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{error::ContainerError, observed::Observed};

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Digest of the request.
    pub(crate) request: String,
    pub(crate) sample: u32,
    pub(crate) response: ApiResponse,
    pub(crate) observed: Option<Observed>,
    pub(crate) seconds: f64,
}

/// Digest of a request, by which its answer is found again.
pub(crate) fn digest(request: &Request) -> String {
    let text = serde_json::to_string(request).expect("a request is plain text");
    hex::encode(Sha256::digest(text))
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    deval_journal: u32,
    fingerprint: String,
}

/// The answers of one run.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Held as long as this run lives.
    lock: (PathBuf, File),
    known: HashMap<(String, u32), VecDeque<Entry>>,
}

impl Journal {
    /// Opens the journal of a fingerprint, with what an interrupted run left in it.
    pub(crate) fn open(dir: &Path, fingerprint: &str) -> Result<Self, ContainerError> {
        let path = dir.join(format!("{}.jsonl", fingerprint.get(..16).unwrap_or(fingerprint)));
        fs::create_dir_all(dir).map_err(ContainerError::file("write", dir))?;
        let lock = lock(&path)?;
        let header = Header { deval_journal: 1, fingerprint: fingerprint.to_owned() };
        let text = fs::read(&path).unwrap_or_default();
        let entries = read(&text, &header);
        let file = rewrite(&path, &header, &entries).map_err(ContainerError::file("write", &path))?;
        let mut known: HashMap<_, VecDeque<_>> = HashMap::new();
        for entry in entries {
            known.entry((entry.request.clone(), entry.sample)).or_default().push_back(entry);
        }
        Ok(Self { path, file, lock, known })
    }

    /// The recorded answer; each is given once.
    pub(crate) fn take(&mut self, request: &str, sample: u32) -> Option<Entry> {
        self.known.get_mut(&(request.to_owned(), sample))?.pop_front()
    }

    /// Records an answer, at once and for good.
    pub(crate) fn add(&mut self, entry: &Entry) -> Result<(), ContainerError> {
        let written = write(&mut self.file, entry).and_then(|()| self.file.sync_data());
        written.map_err(ContainerError::file("write", &self.path))
    }

    /// Ends a run that was not interrupted: there is nothing to resume.
    pub(crate) fn remove(&self) -> Result<(), ContainerError> {
        let remove = |path: &Path| fs::remove_file(path).map_err(ContainerError::file("remove", path));
        remove(&self.path)?;
        remove(&self.lock.0)
    }
}

/// Two runs must not share a journal: each would take the other's answers for its own.
fn lock(journal: &Path) -> Result<(PathBuf, File), ContainerError> {
    let path = journal.with_extension("lock");
    let file = File::create(&path).map_err(ContainerError::file("write", &path))?;
    match file.try_lock() {
        Ok(()) => Ok((path, file)),
        Err(TryLockError::WouldBlock) => Err(ContainerError::Busy { path: journal.to_owned() }),
        Err(TryLockError::Error(error)) => Err(ContainerError::file("lock", &path)(error)),
    }
}

/// Written anew, so that nothing is appended to a torn line; whole or not at all, so that a second interruption loses nothing.
fn rewrite(path: &Path, header: &Header, entries: &[Entry]) -> std::io::Result<File> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    write(&mut file, header)?;
    entries.iter().try_for_each(|entry| write(&mut file, entry))?;
    file.sync_data()?;
    fs::rename(&new, path)?;
    Ok(file)
}

fn write(file: &mut File, value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line)
}

/// Entries of the same fingerprint, up to the first line that cannot be read.
fn read(text: &[u8], expected: &Header) -> Vec<Entry> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let header = lines.next().and_then(|line| serde_json::from_slice::<Header>(line).ok());
    if header.is_none_or(|header| header.fingerprint != expected.fingerprint || header.deval_journal != 1) {
        return Vec::new();
    }
    lines.map_while(|line| serde_json::from_slice(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(request: &str) -> Entry {
        Entry { request: request.to_owned(), sample: 0, response: ApiResponse::late(), observed: None, seconds: 20.5 }
    }

    #[test]
    fn an_interrupted_run_finds_its_answers_and_no_other_does() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), "aaaa").unwrap();
        ["one", "two", "two"].iter().for_each(|request| journal.add(&entry(request)).unwrap());
        let path = dir.path().join("aaaa.jsonl");
        assert!(matches!(Journal::open(dir.path(), "aaaa"), Err(ContainerError::Busy { .. })), "one run at a time");
        drop(journal);
        let mut torn = fs::read(&path).unwrap();
        torn.extend(b"{\"request\":\"three\",\"sam");
        fs::write(&path, &torn).unwrap();

        let mut resumed = Journal::open(dir.path(), "aaaa").unwrap();
        assert_eq!(resumed.take("one", 0), Some(entry("one")));
        assert_eq!(resumed.take("one", 0), None, "an answer is given once");
        assert!(
            resumed.take("two", 0).is_some() && resumed.take("two", 0).is_some() && resumed.take("two", 0).is_none()
        );
        assert!(resumed.take("three", 0).is_none() && resumed.take("one", 1).is_none());
        resumed.add(&entry("three")).unwrap();
        drop(resumed);
        let mut resumed = Journal::open(dir.path(), "aaaa").unwrap();
        assert!(resumed.take("three", 0).is_some(), "nothing follows a torn line");

        fs::copy(&path, dir.path().join("bbbb.jsonl")).unwrap();
        assert!(Journal::open(dir.path(), "bbbb").unwrap().take("one", 0).is_none(), "another run's answers");
        resumed.remove().unwrap();
        drop(resumed);
        assert!(Journal::open(dir.path(), "aaaa").unwrap().take("one", 0).is_none(), "a finished run starts anew");
    }
}
