//! `plan`: what would run, and why.

use deval_report::{Inputs, Kind, Report, Section, Stale, Step};
use serde::Serialize;

use crate::{
    context::Context,
    steps::{Evaluate, Hash, Package, Pure, Validate, stale},
};

/// Every step with what would happen to it.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    steps: Vec<Planned>,
}

#[derive(Debug, Serialize)]
struct Planned {
    step: Step,
    kind: Kind,
    /// Whether the last report stands.
    fresh: bool,
    /// Why it would run, or what it would need.
    because: Vec<String>,
}

pub(crate) fn plan(context: &Context) -> anyhow::Result<Report<Plan>> {
    let mut steps: Vec<Planned> = Vec::new();
    for step in Step::ALL {
        let mut planned = match step {
            Step::Validate => check::<Validate>(context),
            Step::Package => check::<Package>(context),
            Step::Hash => check::<Hash>(context),
            Step::Evaluate => check::<Evaluate>(context),
            Step::Publish | Step::Commit | Step::Serve => effect(context, step),
        };
        // A step whose need will run has to be looked at again after that.
        let waiting = steps.iter().filter(|earlier| !earlier.fresh && step.needs().contains(&earlier.step));
        let waiting: Vec<_> = waiting.map(|earlier| format!("`{}` comes first", earlier.step)).collect();
        planned.fresh &= waiting.is_empty();
        planned.because.extend(waiting);
        steps.push(planned);
    }
    Ok(Report::new("plan", Inputs::default(), Vec::new(), Some(Plan { steps })))
}

fn check<S: Pure>(context: &Context) -> Planned {
    let because = match reasons::<S>(context) {
        Ok(reasons) => reasons.iter().map(ToString::to_string).collect(),
        Err(error) => vec![format!("{error:#}")],
    };
    Planned { step: S::STEP, kind: S::STEP.kind(), fresh: because.is_empty(), because }
}

fn reasons<S: Pure>(context: &Context) -> anyhow::Result<Vec<Stale>> {
    let mut inputs = S::inputs(context)?;
    for &step in S::STEP.needs() {
        let needed = context.store.read::<serde_json::Value>(step.name());
        inputs.add_need(step, &needed.map(|report| report.fingerprint).unwrap_or_default());
    }
    Ok(stale::<S>(context, &inputs, context.store.read(S::STEP.name()).as_ref()))
}

/// Why a report no longer stands: for `validate` what it looked at, for the others the reports they were made from.
pub(crate) fn outdated(context: &Context, step: Step, inputs: &Inputs, before: &[Step]) -> Option<String> {
    if step == Step::Validate {
        let changed: Vec<_> = match Validate::inputs(context) {
            Ok(now) => now.changes_since(inputs).iter().map(ToString::to_string).collect(),
            Err(error) => vec![format!("{error:#}")],
        };
        return (!changed.is_empty()).then(|| changed.join(", "));
    }
    let of = |need: &&Step| context.store.read::<serde_json::Value>(need.name()).map(|report| report.fingerprint);
    let other = |need: &&Step| inputs.need(**need).is_some_and(|known| of(need).as_deref() != Some(known));
    let need = step.needs().iter().find(|need| before.contains(need) || other(need))?;
    Some(format!("`{need}` has changed since"))
}

fn effect(context: &Context, step: Step) -> Planned {
    let done = context.store.read::<serde_json::Value>(step.name()).is_some();
    let because = match (step.kind(), done) {
        (Kind::LongRunning, _) => "runs until stopped, with --execute",
        (_, true) => "has a receipt; with --execute it looks again and sends only what differs",
        (_, false) => "not done yet; needs --execute",
    };
    Planned { step, kind: step.kind(), fresh: false, because: vec![because.to_owned()] }
}

impl Plan {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let rows = self.steps.iter().map(|planned| {
            let state = match (planned.kind, planned.fresh) {
                (_, true) => "fresh",
                (Kind::Check | Kind::Build, false) => "runs",
                (Kind::Effect | Kind::LongRunning, false) => "effect",
            };
            vec![planned.step.to_string(), state.to_owned(), planned.because.join("; ")]
        });
        vec![Section::new("Plan").table(&["step", "", "because"], rows.collect())]
    }
}
