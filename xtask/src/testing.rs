//! `cargo xtask test`: every test of the workspace, with what the tests need.

use std::process::Command;

use anyhow::Context as _;

use crate::{Verdict, python, ui::Ui};

/// Runs all tests. Those that need something this machine lacks skip with a message; with `DEVAL_TEST_REQUIRE=python,…` what is named
/// is installed where that can be done, and a skip is a failure.
pub(crate) fn run(ui: Ui) -> anyhow::Result<Verdict> {
    let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
    if required.split(',').any(|name| name.trim() == "python") {
        python::prepare(ui)?;
    }
    // The tests start both programs.
    let built = cargo().args(["build", "--package", "deval-localnet", "--package", "xtask"]).status();
    let tested = cargo().args(["test", "--workspace", "--no-fail-fast"]).status();
    let ok = built.context("cannot run cargo")?.success() && tested.context("cannot run cargo")?.success();
    Ok(if ok { Verdict::Ok } else { Verdict::Findings })
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}
