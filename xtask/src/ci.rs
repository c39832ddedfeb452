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
            cargo(&["xtask", "demo"])?;
            Ok(Verdict::Ok)
        }
    }
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let status = Command::new("cargo").args(arguments).current_dir(root).status().context("cannot run cargo")?;
    if status.success() { Ok(()) } else { bail!("`cargo {}` ended with {status}", arguments.join(" ")) }
}
