//! `cargo xtask lineage`: how the model comes from its base, tensor by tensor.

use std::path::Path;

use deval_model::lineage;
use deval_report::{Inputs, Report};

use crate::{Verdict, context::Context};

/// Compares the submission's model with the one in the folder `against`.
pub(crate) fn run(context: &Context, against: &Path) -> anyhow::Result<Verdict> {
    let spinner = context.ui.spinner("comparing the weights");
    let lineage = lineage::compare(&context.model_dir(), against)?;
    spinner.finish_and_clear();
    let (findings, sections) = (lineage.findings(), lineage.sections());
    let report = Report::new("lineage", Inputs::default(), findings, Some(lineage));
    context.ui.report(&report, &sections);
    Ok(if report.is_ok() { Verdict::Ok } else { Verdict::Findings })
}
