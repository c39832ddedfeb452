//! Reports on disk: `target/deval/<step>.json`, written whole or not at all.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use deval_report::{Inputs, Report, SCHEMA, Step};
use serde::{Serialize, de::DeserializeOwned};

/// The folder of reports of one submission.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn path(&self, step: &str) -> PathBuf {
        self.dir.join(format!("{step}.json"))
    }

    /// The last report, unless there is none that this version can read.
    pub(crate) fn read<T: DeserializeOwned>(&self, step: &str) -> Option<Report<T>> {
        let report: Report<T> = serde_json::from_slice(&fs::read(self.path(step)).ok()?).ok()?;
        (report.schema == SCHEMA).then_some(report)
    }

    /// Names of the evaluations with flags that were made of the package and weights whose fingerprints are among these inputs.
    pub(crate) fn evaluations(&self, inputs: &Inputs) -> Vec<String> {
        let same = |name: &String| {
            let Some(made) = self.read::<serde_json::Value>(name).map(|report| report.inputs) else { return false };
            let of = |need: &Step| inputs.need(*need).zip(made.need(*need)).is_some_and(|(known, made)| known == made);
            Step::Evaluate.needs().iter().all(of)
        };
        let entries = fs::read_dir(self.dir.join("evaluations")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned));
        let mut names: Vec<_> = names.map(|name| format!("evaluations/{name}")).filter(same).collect();
        names.sort();
        names
    }

    /// Stores the report under its step's name.
    pub(crate) fn write<T: Serialize>(&self, report: &Report<T>) -> anyhow::Result<()> {
        self.write_as(&report.step, report)
    }

    pub(crate) fn write_as<T: Serialize>(&self, name: &str, report: &Report<T>) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(report).context("cannot write the report as JSON")?;
        write_atomically(&self.path(name), &text)
    }
}

/// Writes a file whole or not at all, so that a kill leaves the old content or the new. A link stays one: its target is written.
///
/// # Errors
/// Also for a path that is no regular file: a device or a pipe would be replaced by one.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let resolved = path.canonicalize();
    let path = resolved.as_deref().unwrap_or(path);
    ensure!(!path.exists() || path.is_file(), "{} is no regular file; name another one to write to", path.display());
    let dir = path.parent().context("a file has a folder")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // As any program writes files; the umask takes away what it should.
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(dir)
        .with_context(|| format!("cannot write in {}", dir.display()))?;
    file.write_all(content)
        .and_then(|()| file.as_file().sync_data())
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
