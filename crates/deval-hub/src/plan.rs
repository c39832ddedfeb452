//! What has to change so that the remote tree equals the local one. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

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
}

impl LocalFile {
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
    /// Sum of the sizes in `adds`, in bytes; an upper bound, because Xet does not send what the Hub knows.
    pub bytes: u64,
}

impl UploadPlan {
    /// Whether the remote tree already equals the local one, so that no Hub commit is needed.
    pub fn is_empty(&self) -> bool {
        !self.creates && self.adds.is_empty() && self.deletes.is_empty()
    }
}

pub(crate) fn plan(local: &[LocalFile], remote: &RemoteState) -> UploadPlan {
    let (creates, parent, files) = match remote {
        RemoteState::Missing => (true, None, &[][..]),
        RemoteState::Present(repo) => (false, repo.head.clone(), repo.files.as_slice()),
    };
    let mut stale: BTreeMap<&str, &RemoteFile> = files.iter().map(|f| (f.path.as_str(), f)).collect();
    let mut wanted: Vec<&LocalFile> = local.iter().collect();
    wanted.sort_by(|a, b| a.path.cmp(&b.path));

    let mut plan = UploadPlan { creates, parent, ..UploadPlan::default() };
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
        let plan = plan(&files, &RemoteState::Missing);
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
        let first = plan(&files, &state);
        assert_eq!(first.adds, [PlannedAdd { path: "model.safetensors".into(), size: 9, replaces: true }]);
        assert_eq!(first.deletes, ["z-old.safetensors"]);
        assert_eq!(first.unchanged, ["config.json", "other.safetensors"]);
        assert_eq!((first.bytes, first.parent.as_deref(), first.creates), (9, Some("c0"), false));
        let mut shuffled = files.to_vec();
        shuffled.reverse();
        assert_eq!(plan(&shuffled, &state), first, "the order of the input does not matter");
    }

    #[test]
    fn equal_trees_need_no_commit_and_an_unknown_git_sha1_is_sent() {
        let state = present(vec![remote("a.json", 5, Digest::GitSha1("g".into()))]);
        assert!(plan(&[local("a.json", 5, "s", "g")], &state).is_empty());
        assert_eq!(plan(&[local("a.json", 5, "s", "")], &state).adds.len(), 1);
        assert_eq!(plan(&[local("a.json", 6, "s", "g")], &state).adds.len(), 1, "same digest, other size");
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
