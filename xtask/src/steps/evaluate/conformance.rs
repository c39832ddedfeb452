//! `evaluate --conformance`: the contract of the pipeline, row by row, without examples.

use deval_container::conformance;
use deval_report::{Inputs, Report};

use super::container;
use crate::{
    Verdict,
    context::Context,
    steps::{Watch, need},
};

pub(super) fn run(context: &Context) -> anyhow::Result<Verdict> {
    for step in [deval_report::Step::Package, deval_report::Step::Hash] {
        need(context, step)?;
    }
    let watch = Watch::start();
    let mut inputs = Inputs::default();
    container::inputs(context, &mut inputs)?;
    let spinner = context.ui.spinner("starting the container");
    let mut lane = container::open(context, "conformance", &spinner)?;
    let conformance =
        conformance::check(&mut lane, &mut |row, of| spinner.set_message(format!("request {row} of {of}")))?;
    spinner.finish_and_clear();
    let sections = conformance.sections();
    let mut report = Report::new("conformance", inputs, conformance.findings(), Some(conformance));
    report.run = watch.stop(Vec::new(), serde_json::Value::Null);
    context.store.write(&report)?;
    context.ui.report(&report, &sections);
    Ok(if report.is_ok() { Verdict::Ok } else { Verdict::Findings })
}
