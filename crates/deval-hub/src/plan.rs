//! What has to change so that the remote tree equals the local one. Pure.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::HubError;
use crate::remote::{Digest, RemoteFile, RemoteState};

/// The Hub keeps its LFS rules there; it is never deleted.
pub(crate) const GIT_ATTRIBUTES: &str = ".gitattributes";

/// One file of the staged repository tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Path in the repository, `/` as separator.
    pub path: String,
    /// Where the bytes are.
    pub source: PathBuf,
    /// Bytes.
    pub size: u64,
    /// sha256 of the bytes, lower-case hex.
    pub sha256: String,
    /// git blob sha1, lower-case hex. May be empty for a file that the Hub keeps in LFS; a file kept in git whose sha1 is empty is
    /// never recognised as unchanged.
    pub git_sha1: String,
    /// State of the file when its digests were known to be right. They are not computed again; a file in another state is not sent.
    pub stamp: Stamp,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    size: u64,
    /// Nanoseconds since 1970.
    modified: i128,
    device: u64,
    inode: u64,
}

impl Stamp {
    /// The state of a file now, links followed.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Ok(Self { size: meta.len(), modified, device: meta.dev(), inode: meta.ino() })
    }
}

/// Which half of a submission is published, as upstream's `submit.py` has it with `--model_dir` and `--pipeline_dir`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    /// The sources: `model/` and PyArmor's runtime beside it.
    Pipeline,
    /// Everything else: weights, tokenizer, `coldkey.txt`, model card.
    Model,
}

impl Half {
    /// Whether a repository path belongs to this half.
    pub fn owns(self, path: &str) -> bool {
        let root = path.split_once('/').map(|(root, _)| root);
        let sources = root.is_some_and(|root| root == "model" || root.starts_with("pyarmor_runtime_"));
        sources == (self == Self::Pipeline)
    }
}

impl LocalFile {
    /// Whether the file is still in the state in which its digests were right.
    pub(crate) fn require_unchanged(&self) -> Result<(), HubError> {
        let now = Stamp::of(&self.source).map_err(HubError::disk(&self.source))?;
        if now == self.stamp { Ok(()) } else { Err(HubError::Changed { path: self.source.clone() }) }
    }

    /// Whether the Hub holds the same bytes under the digest it keeps.
    pub(crate) fn is_same_as(&self, remote: &RemoteFile) -> bool {
        self.size == remote.size
            && match &remote.digest {
                Digest::Sha256(oid) => *oid == self.sha256,
                Digest::GitSha1(oid) => *oid == self.git_sha1,
            }
    }
}

/// A file to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedAdd {
    /// Path in the repository.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Whether other content stands at that path now.
    pub replaces: bool,
}

/// One Hub commit, not yet made. All lists are sorted by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadPlan {
    /// Whether the repository does not exist yet and will be created, private.
    pub creates: bool,
    /// Head the plan was made for; `None` for a repository that is missing or empty.
    pub parent: Option<String>,
    /// Files to send.
    pub adds: Vec<PlannedAdd>,
    /// Remote files that are not part of the submission (GATES 16).
    pub deletes: Vec<String>,
    /// Files the Hub already has.
    pub unchanged: Vec<String>,
    /// Remote files of the half that is not published: they stay as they are.
    pub kept: Vec<RemoteFile>,
    /// The remote tree that the plan was made for.
    pub(crate) base: Vec<RemoteFile>,
    /// Nothing but this half is looked at.
    pub(crate) half: Option<Half>,
    /// Sum of the sizes in `adds`, in bytes; an upper bound, because Xet does not send what the Hub knows.
    pub bytes: u64,
}

impl UploadPlan {
    /// Whether the remote tree already equals the local one, so that no Hub commit is needed.
    pub fn is_empty(&self) -> bool {
        !self.creates && self.adds.is_empty() && self.deletes.is_empty()
    }
}

/// The plan for all files, or for those of one half.
pub(crate) fn plan(local: &[LocalFile], remote: &RemoteState, half: Option<Half>) -> UploadPlan {
    let (creates, parent, files) = match remote {
        RemoteState::Missing => (true, None, &[][..]),
        RemoteState::Present(repo) => (false, repo.head.clone(), repo.files.as_slice()),
    };
    let is_ours = |path: &str| half.is_none_or(|half| half.owns(path));
    let (ours, kept): (Vec<_>, Vec<_>) = files.iter().partition(|f| is_ours(&f.path));
    let mut stale: BTreeMap<&str, &RemoteFile> = ours.into_iter().map(|f| (f.path.as_str(), f)).collect();
    let mut wanted: Vec<&LocalFile> = local.iter().filter(|f| is_ours(&f.path)).collect();
    wanted.sort_by(|a, b| a.path.cmp(&b.path));

    let kept = kept.into_iter().filter(|f| f.path != GIT_ATTRIBUTES).cloned().collect();
    let mut plan = UploadPlan { creates, parent, kept, half, base: files.to_vec(), ..UploadPlan::default() };
    for file in wanted {
        match stale.remove(file.path.as_str()) {
            Some(remote) if file.is_same_as(remote) => plan.unchanged.push(file.path.clone()),
            other => {
                plan.bytes += file.size;
                plan.adds.push(PlannedAdd { path: file.path.clone(), size: file.size, replaces: other.is_some() });
            }
        }
    }
    plan.deletes = stale.into_keys().filter(|path| *path != GIT_ATTRIBUTES).map(str::to_owned).collect();
    plan
}

/// How one remote tree became another, file by file; empty when both hold the same.
pub(crate) fn differences(before: &[RemoteFile], after: &[RemoteFile]) -> Vec<String> {
    let mut gone: BTreeMap<&str, &RemoteFile> = before.iter().map(|f| (f.path.as_str(), f)).collect();
    let mut changes = Vec::new();
    for file in after {
        match gone.remove(file.path.as_str()) {
            None => changes.push(format!("`{}` is new", file.path)),
            Some(old) if old.digest != file.digest => changes.push(format!("`{}` has changed", file.path)),
            Some(_) => {}
        }
    }
    changes.extend(gone.into_keys().map(|path| format!("`{path}` is gone")));
    changes
}

/// sha256 over path, size and sha256 of every file in path order: the identity of a submission's tree.
pub fn listing_digest(local: &[LocalFile]) -> String {
    let mut lines: Vec<String> = local.iter().map(|f| format!("{}\0{}\0{}\n", f.path, f.size, f.sha256)).collect();
    lines.sort();
    hex::encode(Sha256::digest(lines.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::RemoteRepo;

    fn local(path: &str, size: u64, sha256: &str, git_sha1: &str) -> LocalFile {
        LocalFile {
            path: path.to_owned(),
            source: PathBuf::from(path),
            size,
            sha256: sha256.to_owned(),
            git_sha1: git_sha1.to_owned(),
            stamp: Stamp { size, modified: 0, device: 0, inode: 0 },
        }
    }

    fn remote(path: &str, size: u64, digest: Digest) -> RemoteFile {
        RemoteFile { path: path.to_owned(), size, digest, last_commit: None }
    }

    fn present(files: Vec<RemoteFile>) -> RemoteState {
        RemoteState::Present(RemoteRepo { head: Some("c0".to_owned()), files, ..RemoteRepo::default() })
    }

    #[test]
    fn missing_repository_gets_everything_sorted() {
        let files = [local("b", 2, "s2", "g2"), local("a/x", 3, "s3", "g3"), local("B", 1, "s1", "g1")];
        let plan = plan(&files, &RemoteState::Missing, None);
        assert!(plan.creates && !plan.is_empty());
        assert_eq!(plan.adds.iter().map(|a| a.path.as_str()).collect::<Vec<_>>(), ["B", "a/x", "b"]);
        assert_eq!((plan.bytes, plan.deletes.len(), plan.parent), (6, 0, None));
    }

    #[test]
    fn changes_leftovers_and_unchanged_are_told_apart() {
        let files = [
            local("config.json", 5, "s", "g-config"),
            local("model.safetensors", 9, "s-model", ""),
            local("other.safetensors", 9, "s-other", ""),
        ];
        let state = present(vec![
            remote(".gitattributes", 1, Digest::GitSha1("x".into())),
            remote("config.json", 5, Digest::GitSha1("g-config".into())),
            remote("model.safetensors", 9, Digest::Sha256("s-old".into())),
            remote("other.safetensors", 9, Digest::Sha256("s-other".into())),
            remote("z-old.safetensors", 7, Digest::Sha256("s-z".into())),
        ]);
        let first = plan(&files, &state, None);
        assert_eq!(first.adds, [PlannedAdd { path: "model.safetensors".into(), size: 9, replaces: true }]);
        assert_eq!(first.deletes, ["z-old.safetensors"]);
        assert_eq!(first.unchanged, ["config.json", "other.safetensors"]);
        assert_eq!((first.bytes, first.parent.as_deref(), first.creates), (9, Some("c0"), false));
        let mut shuffled = files.to_vec();
        shuffled.reverse();
        assert_eq!(plan(&shuffled, &state, None), first, "the order of the input does not matter");
    }

    #[test]
    fn equal_trees_need_no_commit_and_an_unknown_git_sha1_is_sent() {
        let state = present(vec![remote("a.json", 5, Digest::GitSha1("g".into()))]);
        assert!(plan(&[local("a.json", 5, "s", "g")], &state, None).is_empty());
        assert_eq!(plan(&[local("a.json", 5, "s", "")], &state, None).adds.len(), 1);
        assert_eq!(plan(&[local("a.json", 6, "s", "g")], &state, None).adds.len(), 1, "same digest, other size");
    }

    #[test]
    fn one_half_leaves_the_other_as_it_is() {
        let files = [local("model/pipeline.py", 5, "s", "g-new"), local("model.safetensors", 9, "s-new", "")];
        let state = present(vec![
            remote(".gitattributes", 1, Digest::GitSha1("x".into())),
            remote("model.safetensors", 9, Digest::Sha256("s-old".into())),
            remote("model/gone.py", 5, Digest::GitSha1("g".into())),
            remote("model/pipeline.py", 5, Digest::GitSha1("g-old".into())),
            remote("pyarmor_runtime_000000/__init__.py", 5, Digest::GitSha1("g".into())),
            remote("tokenizer.json", 7, Digest::GitSha1("g".into())),
        ]);
        let paths = |plan: &UploadPlan| -> (Vec<String>, Vec<String>, Vec<String>) {
            let path = |f: &RemoteFile| f.path.clone();
            (
                plan.adds.iter().map(|a| a.path.clone()).collect(),
                plan.deletes.clone(),
                plan.kept.iter().map(path).collect(),
            )
        };
        let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let pipeline = plan(&files, &state, Some(Half::Pipeline));
        let stale = ["model/gone.py", "pyarmor_runtime_000000/__init__.py"];
        let kept = ["model.safetensors", "tokenizer.json"];
        assert_eq!(paths(&pipeline), (owned(&["model/pipeline.py"]), owned(&stale), owned(&kept)));
        let model = plan(&files, &state, Some(Half::Model));
        let kept = ["model/gone.py", "model/pipeline.py", "pyarmor_runtime_000000/__init__.py"];
        assert_eq!(paths(&model), (owned(&["model.safetensors"]), owned(&["tokenizer.json"]), owned(&kept)));
    }

    #[test]
    fn what_somebody_else_changed_is_named() {
        let file = |path: &str, oid: &str| remote(path, 1, Digest::GitSha1(oid.into()));
        let before = [file("a", "1"), file("b", "1"), file("c", "1")];
        let after = [file("a", "1"), file("b", "2"), file("d", "1")];
        assert_eq!(differences(&before, &after), ["`b` has changed", "`d` is new", "`c` is gone"]);
        assert_eq!(differences(&before, &before), [""; 0]);
    }

    #[test]
    fn listing_digest_depends_on_content_not_order() {
        let (a, b) = (local("a", 1, "x", ""), local("b", 1, "y", ""));
        let digest = listing_digest(&[a.clone(), b.clone()]);
        assert_eq!(digest, listing_digest(&[b.clone(), a.clone()]));
        assert_ne!(digest, listing_digest(&[a]));
        assert_eq!(digest.len(), 64);
    }
}
