//! `cargo xtask ci <job>`: what the workflows and `.ci/run` call.

use std::{path::Path, process::Command};

use anyhow::{Context as _, bail};

use crate::{Verdict, cli::Job, testing, ui::Ui};

pub(crate) fn run(job: Job, ui: Ui) -> anyhow::Result<Verdict> {
    match job {
        Job::Lint => {
            cargo(&["fmt", "--all", "--check"])?;
            cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
            Ok(Verdict::Ok)
        }
        Job::Test => testing::run(ui),
        Job::Demo => {
            cargo(&["xtask", "demo"])?;
            nothing_left_to_do(ui)
        }
    }
}

/// The demo again: no step may run, and neither Hub nor chain may change.
fn nothing_left_to_do(ui: Ui) -> anyhow::Result<Verdict> {
    let output =
        Command::new("cargo").args(["xtask", "demo"]).current_dir(root()?).output().context("cannot run cargo")?;
    let said = [output.stderr, output.stdout].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    ui.say(&said);
    let quiet =
        !said.contains(" runs: ") && said.contains("no new Hub commit") && said.contains("no new chain commitment");
    if output.status.success() && quiet {
        Ok(Verdict::Ok)
    } else {
        bail!("the demo's second run had something left to do")
    }
}

fn root() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("cargo").args(arguments).current_dir(root()?).status().context("cannot run cargo")?;
    if status.success() { Ok(()) } else { bail!("`cargo {}` ended with {status}", arguments.join(" ")) }
}
