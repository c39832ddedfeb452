//! What was about to be done, and what came of it: one JSON line per fact, on disk before the next request.
//!
//! The journal is an aid, not the judge: what stands on the Hub is decided by reading it. It tells a resumed run, and a human, where
//! the run before it stopped.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::HubError;

/// Which side of an effect a record stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Written before the effect.
    Intent,
    /// Written after it succeeded.
    Outcome,
}

/// One line of the journal. It has no room for a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What is done: `create`, `transfer`, `commit`, or a name of the caller's.
    pub step: String,
    /// Before or after.
    pub phase: Phase,
    /// Repository, hotkey, or whatever the step acts on.
    pub target: String,
    /// Intent: the revision it builds on. Outcome: the revision it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Identity of what is published, see [`crate::listing_digest`].
    pub listing: String,
}

/// An append-only file of [`Record`]s. Every record is on disk when `write` returns.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    records: Vec<Record>,
}

impl Journal {
    /// Opens or creates the journal and reads what is there. A last line that a crash cut short is dropped.
    ///
    /// # Errors
    /// [`HubError::Disk`], or [`HubError::Journal`] when a complete line is no record.
    pub fn open(path: &Path) -> Result<Self, HubError> {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(HubError::disk(parent))?;
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(HubError::disk(path))?;
        let bytes = fs::read(path).map_err(HubError::disk(path))?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        let records = parse(path, &bytes[..whole])?;
        file.set_len(whole as u64).map_err(HubError::disk(path))?;
        sync_dir(parent)?;
        Ok(Self { path: path.to_owned(), inner: Mutex::new(Inner { file, records }) })
    }

    /// Everything recorded so far, oldest first.
    pub fn records(&self) -> Vec<Record> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).records.clone()
    }

    /// The newest record of a step, if it is an intent without outcome: the run before this one stopped inside the effect.
    pub fn pending(&self, step: &str) -> Option<Record> {
        self.records().into_iter().rev().find(|r| r.step == step).filter(|r| r.phase == Phase::Intent)
    }

    /// Appends a record and waits until it is on disk.
    ///
    /// # Errors
    /// [`HubError::Disk`].
    pub fn write(&self, record: Record) -> Result<(), HubError> {
        let mut line = serde_json::to_vec(&record).expect("strings and enums always become JSON");
        line.push(b'\n');
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.file.write_all(&line).and_then(|()| inner.file.sync_data()).map_err(HubError::disk(&self.path))?;
        inner.records.push(record);
        Ok(())
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Record>, HubError> {
    bytes
        .split(|b| *b == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            serde_json::from_slice(line).map_err(|e| HubError::Journal {
                path: path.to_owned(),
                line: index + 1,
                reason: e.to_string(),
            })
        })
        .collect()
}

/// A new file is only sure to be there after a crash when its directory is on disk too.
fn sync_dir(dir: &Path) -> Result<(), HubError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(HubError::disk(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: &str, phase: Phase) -> Record {
        let revision = (phase == Phase::Outcome).then(|| "c1".to_owned());
        Record { step: step.into(), phase, target: "me/m".into(), revision, listing: "d".into() }
    }

    #[test]
    fn survives_being_cut_at_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/publish.jsonl");
        let written =
            [record("create", Phase::Intent), record("create", Phase::Outcome), record("commit", Phase::Intent)];
        let journal = Journal::open(&path).unwrap();
        written.iter().for_each(|r| journal.write(r.clone()).unwrap());
        drop(journal);
        let bytes = fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let lines = bytes[..cut].iter().filter(|b| **b == b'\n').count();
            let journal = Journal::open(&path).unwrap();
            assert_eq!(journal.records(), written[..lines]);
            journal.write(record("commit", Phase::Outcome)).unwrap();
            drop(journal);
            let again = Journal::open(&path).unwrap().records();
            assert_eq!(again.len(), lines + 1, "the cut line is gone, the new one is whole");
        }
    }

    #[test]
    fn knows_what_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("j")).unwrap();
        assert_eq!(journal.pending("commit"), None);
        journal.write(record("commit", Phase::Intent)).unwrap();
        assert_eq!(journal.pending("commit"), Some(record("commit", Phase::Intent)));
        assert_eq!(journal.pending("create"), None);
        journal.write(record("commit", Phase::Outcome)).unwrap();
        assert_eq!(journal.pending("commit"), None);
    }

    #[test]
    fn a_foreign_line_is_an_error_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        Journal::open(&path).unwrap().write(record("create", Phase::Intent)).unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("what?\n");
        fs::write(&path, text).unwrap();
        assert!(Journal::open(&path).unwrap_err().to_string().contains("j:2: not a journal record"));
    }
}
