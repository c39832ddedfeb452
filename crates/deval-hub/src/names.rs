//! The paths that a repository lists: whoever runs the Hub must not choose what is written where.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::fetch::UNFINISHED;
use crate::http::{Api, shown};
use crate::remote::{RemoteFile, model_url};
use crate::{HubError, RepoId};

/// Whoever runs the Hub must not be able to write outside the directory, nor two files into one place.
pub(crate) fn check(api: &Api, repo: &RepoId, files: &[RemoteFile]) -> Result<(), HubError> {
    let refuse = |path: &str, why: &str| {
        let what = format!("it lists {path:?}, which {why}");
        Err(HubError::Answer { url: shown(&model_url(api, repo, &[])), what })
    };
    let mut names = BTreeSet::new();
    for RemoteFile { path, .. } in files {
        let plain = Path::new(path).components().map(|part| matches!(part, Component::Normal(_)).then_some(part));
        let plain: Option<PathBuf> = plain.collect();
        if plain.is_none_or(|plain| plain.as_os_str() != path.as_str()) {
            return refuse(path, "is outside the repository");
        }
        // They change what a terminal shows, and addresses lose them.
        if path.contains(char::is_control) {
            return refuse(path, "holds a control character");
        }
        if path.split('/').next() == Some(UNFINISHED) {
            return refuse(path, "is where unfinished downloads lie");
        }
        if !names.insert(path.as_str()) {
            return refuse(path, "is there twice");
        }
    }
    let folders = |path: &str| path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect::<Vec<_>>();
    match names.iter().flat_map(|path| folders(path)).find(|folder| names.contains(folder.as_str())) {
        Some(both) => refuse(&both, "is a file and a folder"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    #[test]
    fn names_that_a_copy_must_not_have() {
        let api = Api::new("http://127.0.0.1:1", None).unwrap();
        let repo = RepoId::parse("me/m").unwrap();
        let file = |path: &str| RemoteFile {
            path: path.to_owned(),
            size: 1,
            digest: Digest::GitSha1(String::new()),
            last_commit: None,
        };
        let checked = |paths: &[&str]| check(&api, &repo, &paths.iter().copied().map(file).collect::<Vec<_>>());
        checked(&["a b/ü.txt", "a b/日本", "f\\g", "q?&#%41"]).unwrap();
        let cases: [(&[&str], &str); 7] = [
            (&["../x"], "outside"),
            (&["/x"], "outside"),
            (&["a//b"], "outside"),
            (&["a\u{1b}[31m"], "\"a\\u{1b}[31m\", which holds a control character"),
            (&["a\nG15 pass"], "control character"),
            (&["a", "a"], "twice"),
            (&["a", "a/b"], "a file and a folder"),
        ];
        for (paths, said) in cases {
            let error = checked(paths).unwrap_err().to_string();
            assert!(error.contains(said), "{paths:?}: {error}");
        }
    }
}
