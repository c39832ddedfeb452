//! `report`: one HTML page of all reports.

use deval_report::{Diagnostic, Inputs, Report, Section, Step, render};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    context::Context,
    steps::{CommitReceipt, Evaluate, Hash, Package, PublishReceipt, Pure, ServeReceipt, Validate},
    store::write_atomically,
};

/// Where the page lies.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    /// Relative to the manifest.
    pub(crate) path: String,
    /// Steps whose reports are in it.
    steps: Vec<Step>,
    #[serde(skip)]
    sections: Vec<Section>,
}

impl Page {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let mut sections = self.sections.clone();
        sections.push(Section::new("Page").row("written to", &self.path));
        sections
    }
}

pub(crate) fn report(context: &Context) -> anyhow::Result<Report<Page>> {
    let mut page = Collected::default();
    page.add(context, Step::Validate, Validate::sections);
    page.add(context, Step::Package, Package::sections);
    page.add(context, Step::Hash, Hash::sections);
    page.add(context, Step::Evaluate, Evaluate::sections);
    page.add(context, Step::Publish, PublishReceipt::sections);
    page.add(context, Step::Commit, CommitReceipt::sections);
    page.add(context, Step::Serve, ServeReceipt::sections);
    let verdict = super::verdict(context, false)?;
    page.sections.extend(verdict.result.iter().flat_map(super::Verdict::sections));
    let title = format!("De-Val submission {}", context.manifest.submission.model_url);
    let html = render::html(&title, &page.sections, &page.diagnostics);
    write_atomically(&context.out("report.html"), html.as_bytes())?;
    let result = Page { path: "target/deval/report.html".into(), steps: page.steps, sections: page.sections };
    Ok(Report::new("report", page.inputs, page.diagnostics, Some(result)))
}

#[derive(Default)]
struct Collected {
    inputs: Inputs,
    steps: Vec<Step>,
    sections: Vec<Section>,
    diagnostics: Vec<Diagnostic>,
}

impl Collected {
    fn add<T: DeserializeOwned>(&mut self, context: &Context, step: Step, sections: impl Fn(&T) -> Vec<Section>) {
        let Some(report) = context.store.read::<T>(step.name()) else { return };
        self.steps.push(step);
        self.inputs.add_need(step, &report.fingerprint);
        self.sections.extend(report.result.iter().flat_map(sections));
        self.diagnostics.extend(report.diagnostics);
    }
}
