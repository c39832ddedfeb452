//! PyArmor on a clean copy of the sources, its output checked and kept.
//!
//! Mirrors upstream `scripts/obfuscate.py`: PyArmor 8.5.11, `--platform linux.x86_64`, the runtime folder beside `model/`.

mod kept;
mod size;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deval_model::python_source::{self, FOLDER};
use deval_report::Diagnostic;
use tempfile::TempDir;

use crate::environment::Environment;
use crate::process::{self, Ended};
use crate::{PythonError, interpreter};

/// The version of upstream's lock file; the validator's container runs what it writes.
pub const VERSION: &str = "8.5.11";

/// What [`obfuscate`] makes of the same sources, beside PyArmor's own whims: enters fingerprints.
pub const RECIPE: &str = "PyArmor 8.5.11 for linux.x86_64";

const PLATFORM: &str = "linux.x86_64";
const PATIENCE: Duration = Duration::from_secs(120);

/// PyArmor in an environment of its own.
#[derive(Debug)]
pub struct Armor(Environment);

/// What is obfuscated.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Every file that is shipped, relative to the pipeline folder, with its path.
    pub files: &'a BTreeMap<String, PathBuf>,
    /// The pipeline folder as findings name it.
    pub folder: &'a str,
}

/// A tree of obfuscated sources: `model/` and, beside it, the runtime.
#[derive(Debug)]
pub struct Armored {
    /// Root of the tree.
    pub dir: PathBuf,
    /// Obfuscated files.
    pub files: usize,
    /// Whether an earlier run made it.
    pub kept: bool,
    /// Files that come near the trial's limit.
    pub remarks: Vec<Diagnostic>,
}

impl Armor {
    /// PyArmor in the environment `dir`, which is made when it is not there.
    ///
    /// # Errors
    /// See [`Environment::ensure`].
    pub fn ensure(dir: &Path, search_path: &OsStr) -> Result<Self, PythonError> {
        let mut packages = vec!["pyarmor==8.5.11", "pyarmor.cli.core==6.5.3"];
        if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
            // Without it PyArmor would run pip on its own.
            packages.push("pyarmor.cli.core.linux==6.5.3");
        }
        Environment::ensure(dir, &packages, search_path).map(Self)
    }

    /// Obfuscates the sources into `out`, which is replaced; what lies there is taken when it was made from the same sources and nobody
    /// touched it since, because PyArmor writes other bytes every time. `again` makes it new.
    ///
    /// # Errors
    /// [`PythonError::Sources`]: nothing to obfuscate (`obfuscate.empty`), obfuscated already (`obfuscate.twice`), no Python (`G35`),
    /// too large for the trial (`obfuscate.size`), refused for another reason (`obfuscate.failed`), or an output that no validator
    /// could run (`obfuscate.incomplete`, `G37`).
    pub fn obfuscate(&self, sources: Sources<'_>, out: &Path, again: bool) -> Result<Armored, PythonError> {
        let made_from = kept::digests(sources.files)?;
        let remarks = self.look_at(sources)?;
        let armored = |kept| Armored { dir: out.to_owned(), files: sources.files.len(), kept, remarks };
        if !again && kept::stands(out, &made_from) {
            return Ok(armored(true));
        }
        let parent = out.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(PythonError::io("make", parent))?;
        let work = TempDir::with_prefix_in(".obfuscating-", parent).map_err(PythonError::io("write to", parent))?;
        let made = self.run(sources, work.path())?;
        check(&made, sources)?;
        kept::record(&made, made_from)?;
        if out.exists() {
            fs::remove_dir_all(out).map_err(PythonError::io("remove", out))?;
        }
        fs::rename(&made, out).map_err(PythonError::io("write", out))?;
        Ok(armored(false))
    }

    /// Refuses what PyArmor would stumble over without saying where; remarks on files that are nearly too large.
    fn look_at(&self, sources: Sources<'_>) -> Result<Vec<Diagnostic>, PythonError> {
        if sources.files.is_empty() {
            let finding = Diagnostic::error("obfuscate.empty", "there is no Python source to obfuscate");
            return Err(finding
                .in_file(sources.folder)
                .help("set submission.pipeline_dir to the folder with pipeline.py")
                .into());
        }
        let read = |path: &PathBuf| fs::read(path).map_err(PythonError::io("read", path));
        for (name, path) in sources.files {
            if is_armored(&String::from_utf8_lossy(&read(path)?)) {
                let finding = Diagnostic::error("obfuscate.twice", "this source is obfuscated already");
                let help = "point submission.pipeline_dir at the plain sources, or set `obfuscate = false`";
                return Err(finding.in_file(sources.file(name)).help(help).into());
            }
        }
        let measured = size::measure(self.0.python(), sources)?;
        Ok(measured.iter().filter_map(|(name, size)| size.remark(&sources.file(name))).collect())
    }

    /// Copies the sources below `work`, runs PyArmor there, and returns its output folder. PyArmor names the package after the folder
    /// that it is given, and keeps settings below HOME.
    fn run(&self, sources: Sources<'_>, work: &Path) -> Result<PathBuf, PythonError> {
        let (plain, home, made) = (work.join("plain"), work.join("home"), work.join("made"));
        fs::create_dir_all(&home).map_err(PythonError::io("make", &home))?;
        for (name, from) in sources.files {
            copy(from, &plain.join(FOLDER).join(name))?;
        }
        let mut command = process::python(self.0.python());
        command.args(["-I", "-m", "pyarmor.cli", "gen", "--platform", PLATFORM, "-O"]).arg(&made).arg(FOLDER);
        command.current_dir(&plain).env("HOME", &home).env_remove("PYARMOR_HOME");
        let ended = process::run(&mut command, PATIENCE)?;
        if ended.succeeded() { Ok(made) } else { Err(self.refusal(&ended, sources)?) }
    }

    /// Why PyArmor ended without output.
    fn refusal(&self, ended: &Ended, sources: Sources<'_>) -> Result<PythonError, PythonError> {
        let errors: Vec<&str> =
            ended.stderr.lines().filter_map(|line| line.strip_prefix("ERROR")).map(str::trim).collect();
        if errors.iter().any(|line| line.contains("out of license")) {
            let last = ended.stderr.lines().rev().find_map(|line| line.strip_prefix("INFO     obfuscating file "));
            let measured = size::measure(self.0.python(), sources)?;
            return Ok(PythonError::Sources(size::too_large(&measured, last.unwrap_or_default(), sources)));
        }
        let said = if errors.is_empty() { ended.last_lines(4) } else { errors.join("\n") };
        let message =
            if ended.status.is_some() { "PyArmor refuses the sources" } else { "PyArmor does not come to an end" };
        let help = format!(
            "see whether Python {} imports them: `python3.11 -c \"import model.pipeline\"`",
            interpreter::VERSION
        );
        Ok(Diagnostic::error("obfuscate.failed", message).in_file(sources.folder).found(said).help(help).into())
    }
}

impl Sources<'_> {
    /// A source as findings name it.
    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}

/// Every source has its counterpart of this PyArmor, and the runtime beside them is one that the validator can load.
fn check(made: &Path, sources: Sources<'_>) -> Result<(), PythonError> {
    let mut findings = Vec::new();
    for name in sources.files.keys() {
        let text = fs::read_to_string(made.join(FOLDER).join(name)).unwrap_or_default();
        if !is_armored(&text) {
            let message = format!("PyArmor left no obfuscated `{FOLDER}/{name}`");
            let found = text.lines().next().unwrap_or("no file").to_owned();
            let finding = Diagnostic::error("obfuscate.incomplete", message).in_file(sources.file(name));
            findings.push(finding.found(found).expected(format!("a file that begins with `{}`", mark())));
        }
    }
    let mut seen = Vec::new();
    let armored = python_source::check(&made.join(FOLDER), made, &mut seen)?;
    findings.extend(seen.into_iter().filter(|finding| finding.code == "G37" && finding.is_error()));
    if armored.runtimes.is_empty() && findings.is_empty() {
        let message = "the obfuscated sources name no PyArmor runtime";
        findings.push(Diagnostic::error("obfuscate.incomplete", message).in_file(sources.folder));
    }
    if findings.is_empty() { Ok(()) } else { Err(PythonError::Sources(findings)) }
}

fn mark() -> String {
    format!("# Pyarmor {VERSION}")
}

/// Whether a text has the shape that PyArmor 8 writes: its mark, the import of its runtime, one call.
fn is_armored(text: &str) -> bool {
    let mut lines = text.lines();
    let marked = lines.next().is_some_and(|line| line.starts_with("# Pyarmor "));
    let import = lines.next().is_some_and(|line| line.starts_with("from ") && line.ends_with(" import __pyarmor__"));
    marked && import && lines.next().is_some_and(|line| line.starts_with("__pyarmor__("))
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), PythonError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(PythonError::io("make", parent))?;
    }
    fs::copy(from, to).map(|_| ()).map_err(PythonError::io("copy", from))
}

#[cfg(test)]
mod tests;
