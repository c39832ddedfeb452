//! The steps: what each reads, and the one way to run a check or build step.

mod commit;
mod evaluate;
mod hash;
mod package;
mod publish;
mod serve;
mod transaction;
mod validate;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
pub(crate) use commit::{CommitReceipt, commit};
use deval_report::{Diagnostic, Inputs, Kind, Report, Run, Section, Stale, Step};
pub(crate) use evaluate::{
    Evaluate, run as evaluate,
    view::{summary as evaluation_summary, with_margins},
};
pub(crate) use hash::{Hash, run as hash};
pub(crate) use package::{Package, tree};
pub(crate) use publish::{PublishReceipt, publish};
use serde::{Serialize, de::DeserializeOwned};
pub(crate) use serve::{ServeReceipt, ask_once, print_keeper, print_settings, serve, server, validator};
pub(crate) use validate::{Validate, chat_template};

use crate::{context::Context, findings::Findings};

/// What a run of a step produced.
pub(crate) struct Outcome<T> {
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) result: Option<T>,
    pub(crate) timing: serde_json::Value,
}

/// A check or build step: its result is a function of its inputs, so a fresh report is taken in place of a run.
pub(crate) trait Pure {
    const STEP: Step;
    type Output: Serialize + DeserializeOwned;

    /// Name of the report, without its extension.
    fn report_name(_context: &Context) -> anyhow::Result<String> {
        Ok(Self::STEP.name().to_owned())
    }

    /// The steps whose reports it reads.
    fn needs(_context: &Context) -> &'static [Step] {
        Self::STEP.needs()
    }

    /// What the result depends on beside the steps it needs.
    fn inputs(context: &Context) -> anyhow::Result<Inputs>;

    fn run(context: &Context) -> anyhow::Result<Outcome<Self::Output>>;

    fn sections(output: &Self::Output) -> Vec<Section>;

    /// Whether what the step left on disk is still there.
    fn output_is_there(_context: &Context, _output: &Self::Output) -> bool {
        true
    }
}

/// The report of a step: the earlier one when it is fresh, else a new one. Runs the steps it needs.
///
/// # Errors
/// [`Findings`] when a needed step ended with findings.
pub(crate) fn ensure<S: Pure>(context: &Context) -> anyhow::Result<Report<S::Output>> {
    // Needs first: what they find explains inputs that cannot be read.
    let needs =
        S::needs(context).iter().map(|&step| Ok((step, need(context, step)?))).collect::<anyhow::Result<Vec<_>>>()?;
    let mut inputs = S::inputs(context)?;
    needs.iter().for_each(|(step, fingerprint)| inputs.add_need(*step, fingerprint));
    let name = S::report_name(context)?;
    let earlier = context.store.read::<S::Output>(&name);
    let because = stale::<S>(context, &inputs, earlier.as_ref());
    if let Some(fresh) = earlier.filter(|_| because.is_empty()) {
        context.ui.say(format!("{:9} fresh", S::STEP.name()));
        return Ok(fresh);
    }
    let reasons: Vec<_> = because.iter().map(ToString::to_string).collect();
    context.ui.say(format!("{:9} runs: {}", S::STEP.name(), reasons.join(", ")));
    let watch = Watch::start();
    let outcome = S::run(context)?;
    let mut report = Report::new(S::STEP.name(), inputs, outcome.diagnostics, outcome.result);
    report.run = watch.stop(because, outcome.timing);
    context.store.write_as(&name, &report)?;
    Ok(report)
}

/// Why a step has to run; empty when its last report still stands.
pub(crate) fn stale<S: Pure>(context: &Context, inputs: &Inputs, earlier: Option<&Report<S::Output>>) -> Vec<Stale> {
    let Some(earlier) = earlier else {
        return vec![Stale::NeverRan];
    };
    if context.rerun {
        return vec![Stale::Forced];
    }
    let gone = earlier.result.as_ref().is_some_and(|output| !S::output_is_there(context, output));
    let mut reasons = inputs.changes_since(&earlier.inputs);
    reasons.extend(gone.then_some(Stale::OutputMissing));
    reasons
}

/// Fingerprint of a needed step. Check and build steps are run when they are not fresh; effects are never run for another step's sake.
///
/// # Errors
/// [`Findings`] when the step ended with findings, which are repeated, or is an effect that was not done yet.
pub(crate) fn need(context: &Context, step: Step) -> anyhow::Result<String> {
    if let Some(known) = context.ensured.borrow().get(&step) {
        return Ok(known.clone());
    }
    let fingerprint = match step {
        Step::Validate => fingerprint_of(ensure::<Validate>(context)?),
        Step::Package => fingerprint_of(ensure::<Package>(context)?),
        Step::Hash => fingerprint_of(ensure::<Hash>(context)?),
        Step::Evaluate => fingerprint_of(ensure::<Evaluate>(context)?),
        Step::Publish | Step::Commit | Step::Serve => match context.store.read::<serde_json::Value>(step.name()) {
            Some(receipt) => fingerprint_of(receipt),
            None => Err(Findings::from(
                Diagnostic::error("step.need", format!("`{step}` was not done yet"))
                    .help(format!("run `cargo xtask {step}` to see its plan, then `cargo xtask {step} --execute`")),
            )),
        },
    }?;
    context.ensured.borrow_mut().insert(step, fingerprint.clone());
    Ok(fingerprint)
}

fn fingerprint_of<T>(report: Report<T>) -> Result<String, Findings> {
    if report.is_ok() {
        return Ok(report.fingerprint);
    }
    let finding = Diagnostic::error("step.need", format!("`{}` ended with findings", report.step))
        .help(format!("mend what it found, then run `cargo xtask {}` again", report.step));
    Err(Findings(report.diagnostics.into_iter().filter(Diagnostic::is_error).chain([finding]).collect()))
}

/// The stored result of a step that this step needs and that therefore stands.
pub(crate) fn result_of<T: DeserializeOwned>(context: &Context, step: Step) -> anyhow::Result<T> {
    let report = context.store.read::<T>(step.name());
    let result = report.and_then(|report| report.result);
    let again = if matches!(step.kind(), Kind::Check | Kind::Build) { "--rerun" } else { "--execute" };
    result.ok_or_else(|| anyhow!("the report of `{step}` is unreadable; run `cargo xtask {step} {again}`"))
}

/// Measures a run.
pub(crate) struct Watch {
    started: Instant,
    started_unix: u64,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { started: Instant::now(), started_unix }
    }

    pub(crate) fn stop(self, because: Vec<Stale>, timing: serde_json::Value) -> Run {
        Run {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix: self.started_unix,
            seconds: self.started.elapsed().as_secs_f64(),
            because,
            timing,
        }
    }
}
