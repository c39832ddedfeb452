//! `verdict`: all 51 gates in the validator's own order; `explain`: one of them in full.

use std::collections::BTreeMap;

use anyhow::bail;
use deval_eval::{Evaluation, Timing};
use deval_report::{
    Diagnostic, Inputs, Kind, Network, Report, Section, Severity, Step,
    gates::{self, GATES, Gate, GateStatus, GateVerdict},
};
use serde::{Deserialize, Serialize};

use super::plan;
use crate::{
    chain::{self, ChainSeen},
    context::Context,
    steps::with_margins,
    ui::Ui,
};

/// How every gate stands, as far as the reports tell.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    network: Network,
    gates: Vec<GateVerdict>,
    /// Reports that were left aside, because what they looked at is no more.
    stale: Vec<Step>,
    /// Errors of the steps that no gate speaks of.
    beyond: usize,
}

/// The part of any report that decides gates.
#[derive(Deserialize)]
struct Decided {
    #[serde(default)]
    gates: Vec<GateVerdict>,
}

/// What the reports say, report after report.
#[derive(Default)]
struct Known {
    inputs: Inputs,
    gates: BTreeMap<String, GateVerdict>,
    findings: Vec<Diagnostic>,
    /// Reports that no longer stand, with the reason.
    stale: Vec<(Step, String)>,
    /// Why the last look at the chain no longer stands.
    old_look: Option<String>,
}

/// From the reports alone; with `online`, the chain is read first.
pub(crate) fn verdict(context: &Context, online: bool) -> anyhow::Result<Report<Verdict>> {
    let network = context.network();
    if online {
        chain::look(context)?;
    }
    let known = Known::read(context);
    let gates: Vec<_> = GATES.iter().map(|gate| known.gate(gate)).collect();
    let (of_gates, mut diagnostics): (Vec<_>, Vec<_>) =
        known.findings.into_iter().partition(|finding| gates::gate(&finding.code).is_some());
    let beyond = diagnostics.iter().filter(|finding| finding.is_error()).count();
    diagnostics.extend(gates.iter().flat_map(|gate| findings_of(gate, &of_gates, network)));
    diagnostics.extend(known.stale.iter().map(|(step, reason)| outdated(*step, reason)));
    diagnostics.extend(known.old_look.iter().map(|reason| {
        let finding =
            Diagnostic::note("verdict.outdated", format!("the last look at the chain is left aside: {reason}"));
        finding.help("`cargo xtask verdict --online` looks again")
    }));
    let stale = known.stale.into_iter().map(|(step, _)| step).collect();
    let result = Verdict { network, gates, stale, beyond };
    Ok(Report::new("verdict", known.inputs, diagnostics, Some(result)))
}

impl Known {
    fn read(context: &Context) -> Self {
        let mut known = Self::default();
        let mut look = known.look(context);
        for step in Step::ALL {
            if step == Step::Evaluate {
                let made = context.store.evaluations(&known.inputs);
                known.add(made.iter().flat_map(|name| exact(context, name)).collect());
            }
            let Some(report) = context.store.read::<Decided>(step.name()) else { continue };
            if let Some(reason) = plan::outdated(context, step, &report.inputs, &known.outdated_steps()) {
                known.stale.push((step, reason));
                continue;
            }
            known.inputs.add_need(step, &report.fingerprint);
            // What was done after the look has the last word.
            if let Some(look) = look.take_if(|look| {
                let effect = matches!(step.kind(), Kind::Effect | Kind::LongRunning);
                effect && look.run.started_unix <= report.run.started_unix
            }) {
                known.add(decided(look));
            }
            known.findings.extend(report.diagnostics.iter().cloned());
            if step == Step::Evaluate {
                known.add(of_evaluation(context, step.name()));
            }
            known.add(decided(report));
        }
        known.add(look.map(decided).unwrap_or_default());
        known
    }

    /// The last look at the chain, if it still stands.
    fn look(&mut self, context: &Context) -> Option<Report<Decided>> {
        let look = context.store.read::<ChainSeen>(chain::REPORT)?;
        self.old_look = chain::outdated(context, &look);
        let Report { result, inputs, run, .. } = look;
        let result = result.filter(|_| self.old_look.is_none())?;
        self.inputs.add(chain::REPORT, format!("block {}", result.block));
        let mut decided = Report::new(chain::REPORT, inputs, Vec::new(), Some(Decided { gates: result.gates }));
        decided.run = run;
        Some(decided)
    }

    fn outdated_steps(&self) -> Vec<Step> {
        self.stale.iter().map(|(step, _)| *step).collect()
    }

    fn add(&mut self, verdicts: Vec<GateVerdict>) {
        for verdict in verdicts {
            if verdict.overrides(self.gates.get(&verdict.code)) {
                self.gates.insert(verdict.code.clone(), verdict);
            }
        }
    }

    fn gate(&self, gate: &Gate) -> GateVerdict {
        if let Some(verdict) = self.gates.get(gate.code) {
            return verdict.clone();
        }
        GateVerdict::new(gate.code, GateStatus::Unknown, gate.title).next(gate.decides)
    }
}

fn decided(report: Report<Decided>) -> Vec<GateVerdict> {
    with_margins(report.result.map(|result| result.gates).unwrap_or_default(), &report.run.timing)
}

/// What the answers of an evaluation say, exact or as an estimate.
fn of_evaluation(context: &Context, name: &str) -> Vec<GateVerdict> {
    let Some(report) = context.store.read::<Evaluation>(name) else { return Vec::new() };
    let timing: Timing = serde_json::from_value(report.run.timing).unwrap_or_default();
    let verdicts = report.result.map(|evaluation| deval_eval::gates::verdicts(&evaluation, &timing, context.network()));
    verdicts.unwrap_or_default()
}

/// What a run with flags decided exactly, as one in the container does; its estimates are left to the submission's own evaluation.
fn exact(context: &Context, name: &str) -> Vec<GateVerdict> {
    let own = context.store.read::<Decided>(name).map(decided).unwrap_or_default();
    let verdicts = of_evaluation(context, name).into_iter().chain(own);
    verdicts.filter(|verdict| !verdict.estimate && verdict.status != GateStatus::Unknown).collect()
}

/// Findings of a gate that stands ill: those of the steps, else one made of the verdict.
fn findings_of(verdict: &GateVerdict, known: &[Diagnostic], network: Network) -> Vec<Diagnostic> {
    let severity = match verdict.status {
        GateStatus::Pass | GateStatus::Unknown => return Vec::new(),
        GateStatus::Warn => Severity::Warning,
        GateStatus::Fail => Severity::Error,
    };
    let fits = |finding: &&Diagnostic| {
        finding.code == verdict.code && finding.severity <= severity && finding.severity > Severity::Note
    };
    let known: Vec<_> = known.iter().filter(fits).cloned().collect();
    if known.iter().any(|finding| finding.severity == severity) {
        return known;
    }
    let gate = gates::gate(&verdict.code).expect("a verdict names a gate");
    let finding = Diagnostic::new(severity, gate.code, format!("{}: {}", gate.title, verdict.detail));
    let help = verdict.next.as_deref().unwrap_or(gate.fix);
    let finding = finding.expected(gate.checks).help(help);
    vec![verdict.margin.as_ref().map_or(finding.clone(), |margin| finding.found(format!("{margin} on {network}")))]
}

fn outdated(step: Step, reason: &str) -> Diagnostic {
    let message = format!("the report of `{step}` is left aside: {reason}");
    Diagnostic::note("verdict.outdated", message).help(format!("run `cargo xtask {step}` again"))
}

impl Verdict {
    pub(crate) fn count(&self, status: GateStatus) -> usize {
        self.gates.iter().filter(|gate| gate.status == status).count()
    }

    pub(crate) fn sections(&self) -> Vec<Section> {
        let rows = self.gates.iter().map(|gate| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            vec![gate.code.clone(), gate.status.to_string(), text(&gate.margin), gate.detail.clone(), text(&gate.next)]
        });
        let summary = [GateStatus::Pass, GateStatus::Warn, GateStatus::Fail, GateStatus::Unknown]
            .map(|status| format!("{} {status}", self.count(status)))
            .join(", ");
        let mut section = Section::new("Verdict").row("network", self.network).row("gates", summary);
        if self.beyond > 0 {
            section = section.row("beyond the gates", format!("{} errors, see the findings", self.beyond));
        }
        if !self.stale.is_empty() {
            let steps: Vec<_> = self.stale.iter().map(ToString::to_string).collect();
            section = section.row("to be run again", steps.join(", "));
        }
        let note = "`cargo xtask explain G30` tells what a gate checks, why a validator rejects, and how to fix it.";
        vec![section.table(&["gate", "", "margin", "seen", "next"], rows.collect()).note(note)]
    }
}

/// One gate, and how it stands where it is failed, by network.
#[derive(Debug, Serialize)]
struct Explained {
    #[serde(flatten)]
    gate: &'static Gate,
    failing: BTreeMap<String, GateStatus>,
}

/// Shows one gate in full.
pub(crate) fn explain(code: &str, ui: Ui) -> anyhow::Result<crate::Verdict> {
    let Some(gate) = gates::gate(&code.to_uppercase()) else {
        bail!("there is no gate `{code}`; gates are G01 to G51");
    };
    let networks = [Network::Local, Network::Test, Network::Finney];
    if ui.is_for_people() {
        let severity = networks.map(|network| format!("{network} {}", gate.failing(network))).join(", ");
        ui.print(format!(
            "{} {}\n\nchecks    {}\nwhy       {}\nfix       {}\nfailing   {} ({severity})\ndecides   {}\nupstream  {}",
            gate.code, gate.title, gate.checks, gate.why, gate.fix, gate.outcome, gate.decides, gate.upstream
        ));
    } else {
        let failing = networks.map(|network| (network.to_string(), gate.failing(network))).into();
        ui.report(&Report::new("explain", Inputs::default(), Vec::new(), Some(Explained { gate, failing })), &[]);
    }
    Ok(crate::Verdict::Ok)
}
