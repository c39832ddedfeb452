//! `cargo xtask ci <job>`: what the workflows and `.ci/run` call.

use anyhow::{Context as _, bail};

use crate::{Verdict, cargo, cli::Job, testing, ui::Ui};

pub(crate) fn run(job: Job, ui: Ui) -> anyhow::Result<Verdict> {
    match job {
        Job::Lint => {
            run_cargo(&["fmt", "--all", "--check"])?;
            run_cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
            Ok(Verdict::Ok)
        }
        Job::Test => testing::run(ui),
        Job::Demo => {
            run_cargo(&["xtask", "demo"])?;
            run_cargo(&["xtask", "evaluate", "--snapshot", "check"])?;
            nothing_left_to_do(ui)
        }
    }
}

/// The demo again: no step may run, and neither Hub nor chain may change.
fn nothing_left_to_do(ui: Ui) -> anyhow::Result<Verdict> {
    let output = cargo::command().args(["xtask", "demo"]).output().context("cannot run cargo")?;
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

fn run_cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let status = cargo::command().args(arguments).status().context("cannot run cargo")?;
    if status.success() { Ok(()) } else { bail!("`cargo {}` ended with {status}", arguments.join(" ")) }
}
