//! Python 3.11: obfuscated sources hold byte code, which no other version runs.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deval_report::Diagnostic;

use crate::PythonError;
use crate::process;

/// The version that validators run, as Python itself prints it.
pub const VERSION: &str = "3.11";

const NAMES: [&str; 3] = ["python3.11", "python3", "python"];
const PATIENCE: Duration = Duration::from_secs(30);

/// The first CPython 3.11 in the folders of `search_path` (as in `PATH`).
///
/// # Errors
/// [`PythonError::Lacking`] (`python.missing`) that names what was found in its place.
pub fn find(search_path: &OsStr) -> Result<PathBuf, PythonError> {
    let mut others = Vec::new();
    for name in NAMES {
        for candidate in env::split_paths(search_path).map(|dir| dir.join(name)).filter(|path| path.is_file()) {
            match version(&candidate) {
                Some(version) if is_wanted(&version) => return Ok(candidate),
                Some(version) => others.push(format!("{name} is {version}")),
                None => {}
            }
        }
    }
    others.dedup();
    let found = if others.is_empty() { "no Python".to_owned() } else { others.join(", ") };
    let finding = Diagnostic::error("python.missing", format!("there is no Python {VERSION}"))
        .found(found)
        .expected(format!("`python{VERSION}` or `python3` of version {VERSION} in PATH"))
        .help("install it: `apt-get install python3.11 python3.11-venv`, `brew install python@3.11`, `uv python install 3.11` or pyenv");
    Err(PythonError::Lacking(Box::new(finding)))
}

fn is_wanted(version: &str) -> bool {
    version.strip_prefix(VERSION).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(" CPython"))
}

/// What an interpreter says it is, such as `3.11.7 CPython`; none for what does not run (pyenv leaves such files).
fn version(interpreter: &Path) -> Option<String> {
    let ask = "import platform as p; print(p.python_version(), p.python_implementation())";
    let ended = process::run(process::python(interpreter).args(["-I", "-c", ask]), PATIENCE).ok()?;
    ended.succeeded().then(|| ended.stdout.trim().to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A folder with a program that prints this.
    pub(crate) fn fake(name: &str, script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        dir
    }

    pub(crate) fn lacking<T>(result: Result<T, PythonError>) -> Diagnostic {
        match result.map(|_| ()) {
            Err(PythonError::Lacking(finding)) => *finding,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_python_is_a_finding_with_a_remedy() {
        let empty = tempfile::tempdir().unwrap();
        let finding = lacking(find(empty.path().as_os_str()));
        assert_eq!((finding.code.as_str(), finding.found.as_deref()), ("python.missing", Some("no Python")));
        assert!(finding.help.unwrap().contains("apt-get install python3.11"));
    }

    #[test]
    fn another_version_is_named_and_a_shim_that_fails_is_not() {
        let wrong = fake("python3", "echo 3.12.1 CPython");
        let shim = fake("python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127");
        let other = fake("python", "echo 3.11.9 PyPy");
        let path = env::join_paths([wrong.path(), shim.path(), other.path()]).unwrap();
        let finding = lacking(find(&path));
        assert_eq!(finding.found.as_deref(), Some("python3 is 3.12.1 CPython, python is 3.11.9 PyPy"));
    }

    #[test]
    fn python3_of_the_right_version_does() {
        let wrong = fake("python3", "echo 3.110.1 CPython");
        let right = fake("python3", "echo 3.11.2 CPython");
        let path = env::join_paths([wrong.path(), right.path()]).unwrap();
        assert_eq!(find(&path).unwrap(), right.path().join("python3"));
    }
}
