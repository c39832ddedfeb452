//! What was about to be done, and what came of it: one JSON line per fact, on disk before the next request.
//!
//! One journal holds a whole transaction: Hub, chain, and visibility. It is an aid, not the judge: what stands on the Hub and on chain
//! is decided by reading it. It tells a resumed run, and a human, where the run before it stopped, and keeps two runs from working at
//! the same time.

use std::fs::{self, File, OpenOptions, TryLockError};
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

/// One effect of a transaction, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// A repository that others could see is made private, before new weights go there.
    Hide,
    /// The repository is created, private.
    Create,
    /// File contents are sent.
    Transfer,
    /// The one Hub commit is made.
    HubCommit,
    /// The remote tree is read back and compared.
    Verify,
    /// The hash is committed on chain and read back.
    ChainCommitment,
    /// The repository is made public.
    MakePublic,
    /// The repository is read as a stranger reads it. Its outcome ends the transaction.
    VerifyPublic,
}

/// What a transaction is about. Runs with equal subjects continue each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Endpoint of the Hub.
    pub hub: String,
    /// Repository id.
    pub repo: String,
    /// Network and netuid of the chain, such as `finney/15`.
    pub chain: String,
    /// Identity of what is published, see [`crate::listing_digest`].
    pub listing: String,
}

/// One line of the journal. It has no room for a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What is done.
    pub effect: Effect,
    /// Before or after.
    pub phase: Phase,
    /// What the transaction is about.
    pub of: Subject,
    /// Intent: what the effect builds on (a revision, a hotkey). Outcome: what it left (a revision, a block).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Record {
    /// Whether nothing of the transaction is left to do after this.
    fn is_last(&self) -> bool {
        self.effect == Effect::VerifyPublic && self.phase == Phase::Outcome
    }
}

/// An append-only file of [`Record`]s, held by one process at a time. Every record is on disk when it is written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    subject: Subject,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    records: Vec<Record>,
}

impl Journal {
    /// Opens or creates the journal for a transaction and reads what is there. A last line that a crash cut short is dropped.
    ///
    /// # Errors
    /// [`HubError::Disk`]; [`HubError::Busy`] while another process holds the journal; [`HubError::Journal`] when a complete line is no
    /// record.
    pub fn open(path: &Path, subject: Subject) -> Result<Self, HubError> {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(HubError::disk(parent))?;
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(HubError::disk(path))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => HubError::Busy { path: path.to_owned() },
            TryLockError::Error(error) => HubError::disk(path)(error),
        })?;
        let bytes = fs::read(path).map_err(HubError::disk(path))?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        let records = parse(path, &bytes[..whole])?;
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(HubError::disk(path))?;
        }
        sync_dir(parent)?;
        Ok(Self { path: path.to_owned(), subject, inner: Mutex::new(Inner { file, records }) })
    }

    /// Everything recorded so far, oldest first, of other transactions too.
    pub fn records(&self) -> Vec<Record> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).records.clone()
    }

    /// Where a transaction about something else (another repository, chain or package) stopped, if the last one was about something
    /// else and did not end.
    pub fn leftover(&self) -> Option<Record> {
        self.records().pop().filter(|last| last.of != self.subject && !last.is_last())
    }

    /// The intent of an effect without outcome: the run before this one stopped inside it.
    pub fn pending(&self, effect: Effect) -> Option<Record> {
        self.own().rev().find(|r| r.effect == effect).filter(|r| r.phase == Phase::Intent)
    }

    /// Whether the transaction was begun and has not ended.
    pub fn is_open(&self) -> bool {
        self.own().next_back().is_some_and(|last| !last.is_last())
    }

    /// Records of this transaction: those with its subject behind the last one with another.
    fn own(&self) -> impl DoubleEndedIterator<Item = Record> {
        let records = self.records();
        let begin = records.iter().rposition(|r| r.of != self.subject).map_or(0, |other| other + 1);
        records.into_iter().skip(begin)
    }

    /// Records that an effect is about to happen, and on what.
    ///
    /// # Errors
    /// [`HubError::Disk`].
    pub fn intend(&self, effect: Effect, on: Option<&str>) -> Result<(), HubError> {
        self.write(effect, Phase::Intent, on)
    }

    /// Records that an effect happened, and what it left.
    ///
    /// # Errors
    /// [`HubError::Disk`].
    pub fn done(&self, effect: Effect, left: Option<&str>) -> Result<(), HubError> {
        self.write(effect, Phase::Outcome, left)
    }

    /// Appends a record and waits until it is on disk.
    fn write(&self, effect: Effect, phase: Phase, at: Option<&str>) -> Result<(), HubError> {
        let record = Record { effect, phase, of: self.subject.clone(), at: at.map(str::to_owned) };
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

    fn subject(listing: &str) -> Subject {
        let text = str::to_owned;
        Subject { hub: text("http://hub"), repo: text("me/m"), chain: text("local/202"), listing: text(listing) }
    }

    fn open(path: &Path) -> Journal {
        Journal::open(path, subject("d")).unwrap()
    }

    #[test]
    fn survives_being_cut_at_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/publish.jsonl");
        let journal = open(&path);
        journal.intend(Effect::Create, None).unwrap();
        journal.done(Effect::Create, Some("c0")).unwrap();
        journal.intend(Effect::HubCommit, Some("c0")).unwrap();
        let written = journal.records();
        drop(journal);
        let bytes = fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let lines = bytes[..cut].iter().filter(|b| **b == b'\n').count();
            let journal = open(&path);
            assert_eq!(journal.records(), written[..lines]);
            journal.done(Effect::HubCommit, Some("c1")).unwrap();
            drop(journal);
            assert_eq!(open(&path).records().len(), lines + 1, "the cut line is gone, the new one is whole");
        }
    }

    #[test]
    fn knows_what_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(&dir.path().join("j"));
        assert!(journal.pending(Effect::HubCommit).is_none() && !journal.is_open());
        journal.intend(Effect::HubCommit, Some("c0")).unwrap();
        assert_eq!(journal.pending(Effect::HubCommit).unwrap().at.as_deref(), Some("c0"));
        assert!(journal.pending(Effect::Create).is_none() && journal.is_open());
        journal.done(Effect::HubCommit, Some("c1")).unwrap();
        assert!(journal.pending(Effect::HubCommit).is_none() && journal.is_open());
        journal.done(Effect::VerifyPublic, None).unwrap();
        assert!(!journal.is_open());
    }

    #[test]
    fn a_transaction_about_something_else_is_told_until_it_ends_and_never_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        open(&path).intend(Effect::HubCommit, Some("c0")).unwrap();
        let others = [
            Subject { repo: "me/other".into(), ..subject("d") },
            Subject { chain: "finney/15".into(), ..subject("d") },
            Subject { hub: "http://elsewhere".into(), ..subject("d") },
            subject("another package"),
        ];
        for other in others {
            let journal = Journal::open(&path, other).unwrap();
            let left = journal.leftover().unwrap();
            assert_eq!((left.effect, left.of), (Effect::HubCommit, subject("d")));
            assert!(journal.pending(Effect::HubCommit).is_none() && !journal.is_open());
        }
        assert!(open(&path).leftover().is_none(), "our own is continued");
        let other = Journal::open(&path, subject("later")).unwrap();
        other.intend(Effect::Create, None).unwrap();
        drop(other);
        assert!(open(&path).pending(Effect::HubCommit).is_none(), "another transaction came between");
        Journal::open(&path, subject("later")).unwrap().done(Effect::VerifyPublic, None).unwrap();
        assert!(open(&path).leftover().is_none(), "it ended");
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let first = open(&path);
        let error = Journal::open(&path, subject("d")).unwrap_err();
        assert!(matches!(error, HubError::Busy { .. }) && error.to_string().contains("another run"), "{error}");
        drop(first);
        open(&path);
    }

    #[test]
    fn a_foreign_line_is_an_error_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        open(&path).intend(Effect::Create, None).unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("what?\n");
        fs::write(&path, text).unwrap();
        let error = Journal::open(&path, subject("d")).unwrap_err();
        assert!(error.to_string().contains("j:2: not a journal record"), "{error}");
    }
}
