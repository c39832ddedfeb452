//! `cargo xtask compare`: whether one evaluation beats another on the same examples.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use deval_eval::{
    Evaluation,
    compare::{CompareOptions, compare},
};
use deval_report::{Inputs, Report, SCHEMA};

use crate::{Verdict, ui::Ui};

pub(crate) fn run(a: &Path, b: &Path, common_only: bool, lead: Option<f64>, ui: Ui) -> anyhow::Result<Verdict> {
    let [of_a, of_b] = [read(a)?, read(b)?];
    let mut inputs = Inputs::default();
    inputs.add("a", &of_a.fingerprint);
    inputs.add("b", &of_b.fingerprint);
    let [a, b] = [evaluation(a, of_a)?, evaluation(b, of_b)?];
    let paired = compare(&a, &b, CompareOptions { seed: a.seed, common_only, lead })?;
    let sections = paired.sections();
    ui.report(&Report::new("compare", inputs, Vec::new(), Some(paired)), &sections);
    Ok(Verdict::Ok)
}

/// A report of `evaluate`, wherever it lies.
pub(crate) fn read(path: &Path) -> anyhow::Result<Report<Evaluation>> {
    let text = fs::read(path).with_context(|| {
        format!("cannot read {}; `cargo xtask evaluate --save FILE` writes a report where you want it", path.display())
    })?;
    let report: Report<Evaluation> =
        serde_json::from_slice(&text).with_context(|| format!("{} is no report of `evaluate`", path.display()))?;
    if report.schema != SCHEMA {
        bail!("{} has report format {}, expected {SCHEMA}; evaluate again", path.display(), report.schema);
    }
    Ok(report)
}

/// Its result.
pub(crate) fn evaluation(path: &Path, report: Report<Evaluation>) -> anyhow::Result<Evaluation> {
    report.result.with_context(|| format!("the evaluation in {} ended with findings and has no result", path.display()))
}
