//! `cargo xtask test`: every test of the workspace, with what the tests need.

use anyhow::Context as _;

use crate::{Verdict, cargo, python, ui::Ui};

/// Runs all tests. Those that need something this machine lacks skip with a message; with `DEVAL_TEST_REQUIRE=python,…` what is named
/// is installed where that can be done, and a skip is a failure.
pub(crate) fn run(ui: Ui) -> anyhow::Result<Verdict> {
    let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
    if required.split(',').any(|name| name.trim() == "python") {
        python::prepare(ui)?;
    }
    // The tests start this program.
    let built = cargo::command().args(["build", "--package", "deval-localnet"]).status().context("cannot run cargo")?;
    let mut tests = cargo::command();
    tests.args(["test", "--workspace", "--no-fail-fast"]);
    let wheels = cargo::root().join("target/deval/demo/wheels");
    if wheels.exists() {
        tests.env("DEVAL_TEST_WHEELS", wheels);
    }
    let tested = tests.status().context("cannot run cargo")?;
    Ok(if built.success() && tested.success() { Verdict::Ok } else { Verdict::Findings })
}
