//! `cargo xtask test`: every test of the workspace, with what the tests need.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::Context as _;

use crate::{Verdict, cargo, python::Environment, ui::Ui};

/// Runs all tests. Those that need something this machine lacks skip with a message; with `DEVAL_TEST_REQUIRE=python,…` what is named
/// is installed where that can be done, and a skip is a failure.
pub(crate) fn run(ui: Ui) -> anyhow::Result<Verdict> {
    let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
    for (name, environment) in [
        ("python", Environment::Pipeline),
        ("python", Environment::Validator),
        ("python", Environment::Newest),
        ("bittensor", Environment::Bittensor),
    ] {
        if required.split(',').any(|required| required.trim() == name) {
            environment.prepare(ui)?;
        }
    }
    // The tests start this program.
    let built = cargo::command()
        .args(["build", "--package", "deval-localnet", "--package", "deval-axon"])
        .status()
        .context("cannot run cargo")?;
    let mut tests = cargo::command();
    tests.args(["test", "--workspace", "--no-fail-fast"]);
    let wheels = cargo::root().join("target/deval/demo/wheels");
    if wheels.exists() {
        tests.env("DEVAL_TEST_WHEELS", wheels);
    }
    // Those with a time limit, or of minutes, need the machine to themselves.
    let mut alone = cargo::command();
    alone.args(["test", "--package", "deval-tests", "--test", "it", "--", "--ignored", "--test-threads", "1"]);
    let tested = run_and_sum([tests, alone], ui)?;
    Ok(if built.success() && tested { Verdict::Ok } else { Verdict::Findings })
}

/// Passes the runners' lines on and closes with the sum over all test binaries. True when all passed.
fn run_and_sum(runs: [Command; 2], ui: Ui) -> anyhow::Result<bool> {
    let (mut sum, mut passed) = ([0; 3], true);
    for mut tests in runs {
        let mut child = tests.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
        let stdout = child.stdout.take().context("it was asked for")?;
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what cargo prints")?;
            counts(&line).iter().zip(&mut sum).for_each(|(count, sum)| *sum += count);
            ui.print(line);
        }
        passed &= child.wait().context("cannot wait for cargo")?.success();
    }
    ui.print(format!("{} passed, {} failed, {} skipped", sum[0], sum[1], sum[2]));
    Ok(passed)
}

/// Passed, failed and ignored of a line such as `test result: ok. 15 passed; 0 failed; 1 ignored; …`; zeros for any other.
fn counts(line: &str) -> [u32; 3] {
    let Some(summary) = line.strip_prefix("test result: ") else { return [0; 3] };
    ["passed", "failed", "ignored"].map(|what| {
        let words: Vec<_> = summary.split([' ', ';']).collect();
        let number = words.windows(2).find(|pair| pair[1] == what).map(|pair| pair[0]);
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn the_runners_closing_line_is_counted_and_no_other() {
        assert_eq!(counts("test result: ok. 15 passed; 2 failed; 1 ignored; 0 measured"), [15, 2, 1]);
        assert_eq!(counts("test x ... 3 passed;"), [0, 0, 0]);
    }
}
