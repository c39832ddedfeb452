//! Virtual environments that are made once and kept.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use deval_report::Diagnostic;
use tempfile::TempDir;

use crate::process::{self, Ended};
use crate::{PythonError, interpreter};

const STAMP: &str = "requirements.txt";
const PATIENCE: Duration = Duration::from_secs(1800);

/// A virtual environment with packages of fixed versions.
#[derive(Debug, Clone)]
pub struct Environment {
    python: PathBuf,
}

impl Environment {
    /// The environment in `dir` with these packages (`name==version`); made when it is not there or holds others. It is put together
    /// beside `dir` and takes its place in one rename; of two runs at once, the second waits for the first. Nothing is written outside
    /// of it but its lock file and what pip caches.
    ///
    /// # Errors
    /// [`PythonError::Lacking`]: no Python 3.11 in `search_path` (`python.missing`), one that makes no environments (`python.venv`),
    /// packages that cannot be had (`python.packages`).
    pub fn ensure(dir: &Path, packages: &[&str], search_path: &OsStr) -> Result<Self, PythonError> {
        if let Some(there) = Self::at(dir, packages) {
            return Ok(there);
        }
        let parent = dir.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(PythonError::io("make", parent))?;
        let _held = lock(&dir.with_extension("lock"))?;
        if let Some(made_meanwhile) = Self::at(dir, packages) {
            return Ok(made_meanwhile);
        }
        let base = interpreter::find(search_path)?;
        let making = TempDir::with_prefix_in(".environment-", parent).map_err(PythonError::io("write to", parent))?;
        make(&base, making.path())?;
        install(&python_of(making.path()), packages)?;
        let stamp = making.path().join(STAMP);
        fs::write(&stamp, packages.join("\n")).map_err(PythonError::io("write", &stamp))?;
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(PythonError::io("remove", dir))?;
        }
        fs::rename(making.path(), dir).map_err(PythonError::io("write", dir))?;
        Ok(Self { python: python_of(dir) })
    }

    /// Its interpreter.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// The environment in `dir`, if it holds these packages and its interpreter has not gone.
    fn at(dir: &Path, packages: &[&str]) -> Option<Self> {
        let python = python_of(dir);
        let holds = fs::read_to_string(dir.join(STAMP)).is_ok_and(|stamp| stamp == packages.join("\n"));
        (holds && python.exists()).then_some(Self { python })
    }
}

/// Holds a lock as long as the file is open.
fn lock(path: &Path) -> Result<File, PythonError> {
    let file = File::create(path).map_err(PythonError::io("write", path))?;
    file.lock().map_err(PythonError::io("lock", path))?;
    Ok(file)
}

fn python_of(dir: &Path) -> PathBuf {
    dir.join("bin/python")
}

fn make(base: &Path, dir: &Path) -> Result<(), PythonError> {
    let mut command = process::python(base);
    // Scripts would name the folder that is renamed; modules are run with `-m`.
    command.args(["-I", "-m", "venv"]).arg(dir);
    need(&mut command, "python.venv", "Python cannot make a virtual environment", |_| {
        "install its venv module: `apt-get install python3.11-venv`".into()
    })
}

fn install(python: &Path, packages: &[&str]) -> Result<(), PythonError> {
    let mut command = process::python(python);
    command.args(["-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]).args(packages);
    let message = format!("pip cannot install {}", packages.join(", "));
    need(&mut command, "python.packages", &message, |said| {
        let unreachable = ["connection", "Max retries", "resolve", "SSL", "proxy", "No matching distribution"];
        let reach = unreachable.iter().any(|word| said.contains(word));
        let help =
            "pip has to reach a package index once: see `pip config list`, HTTPS_PROXY, and the machine's certificates";
        if reach { help } else { "read what pip says, mend it, and run again" }.into()
    })
}

/// Runs a program; that it fails is a finding.
fn need(
    command: &mut Command,
    code: &str,
    message: &str,
    help: impl FnOnce(&str) -> String,
) -> Result<(), PythonError> {
    let ended: Ended = process::run(command, PATIENCE)?;
    if ended.succeeded() {
        return Ok(());
    }
    let said = ended.last_lines(4);
    let help = help(&said);
    Err(PythonError::Lacking(Box::new(Diagnostic::error(code, message).found(said).help(help))))
}
