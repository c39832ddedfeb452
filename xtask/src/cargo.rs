//! Cargo, called from a program that cargo started.

use std::{
    env,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::ui::Ui;

/// Root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// A cargo in the workspace that does not see what the outer one set. Build scripts watch those variables (ring's does), and half of
/// the workspace would be compiled again whenever the two take turns.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    env::vars_os().map(|(name, _)| name).filter(|name| is_of_a_package(name)).for_each(|name| {
        command.env_remove(name);
    });
    command
}

/// A program of the workspace that is started and not linked, from beside this one. It is built when it is missing or older than its
/// sources; one that was put beside a copy of this program is taken as it is.
pub(crate) fn program(package: &str, ui: Ui) -> anyhow::Result<PathBuf> {
    let here = env::current_exe().context("cannot tell where this program is")?;
    let binary = here.with_file_name(package);
    let installed = binary.is_file() && !binary.with_extension("d").exists();
    if installed || is_fresh(&binary, package).unwrap_or(false) {
        return Ok(binary);
    }
    match build(package, &here, ui) {
        Err(error) if binary.is_file() => ui.say(format!("{} is older than its sources: {error:#}", binary.display())),
        built => built?,
    }
    Ok(binary)
}

fn build(package: &str, here: &Path, ui: Ui) -> anyhow::Result<()> {
    let target = here.ancestors().nth(2).context("this program lies in a target folder")?;
    ui.say(format!("building {package} (the first time takes minutes)"));
    let spinner = ui.spinner(&format!("building {package}"));
    let mut cargo = command();
    cargo.args(["build", "--quiet", "--package", package, "--target-dir"]).arg(target);
    if here.parent().is_some_and(|dir| dir.ends_with("release")) {
        cargo.arg("--release");
    }
    let output = cargo.output().with_context(|| format!("cannot run cargo to build {package}"))?;
    spinner.finish_and_clear();
    if !output.status.success() {
        bail!("{package} does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Whether the binary is newer than everything it is made from, by the dependency file that cargo writes beside it. Asking cargo itself
/// takes most of a second.
fn is_fresh(binary: &Path, package: &str) -> io::Result<bool> {
    let built = fs::metadata(binary)?.modified()?;
    let dependencies = fs::read_to_string(binary.with_extension("d"))?;
    let sources =
        dependencies.split_once(": ").map_or("", |(_, sources)| sources).split_whitespace().map(PathBuf::from);
    let manifests = ["Cargo.lock", "Cargo.toml", &format!("crates/{package}/Cargo.toml")].map(|name| root().join(name));
    for path in sources.chain(manifests) {
        if fs::metadata(path)?.modified()? > built {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_of_a_package(name: &OsStr) -> bool {
    let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    name == "CARGO" || name.to_str().is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
}
