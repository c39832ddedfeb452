//! `verdict`: all 51 gates in the validator's own order; `explain`: one of them in full.

use std::collections::BTreeMap;

use anyhow::bail;
use deval_report::{
    Inputs, Report, Section, Step,
    gates::{self, DecidedBy, GATES, Gate, GateStatus, GateVerdict},
};
use serde::{Deserialize, Serialize};

use crate::{context::Context, ui::Ui};

/// How every gate stands, as far as the reports tell.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    gates: Vec<GateVerdict>,
}

/// The part of any report that decides gates.
#[derive(Deserialize)]
struct Decided {
    #[serde(default)]
    gates: Vec<GateVerdict>,
}

pub(crate) fn verdict(context: &Context) -> anyhow::Result<Report<Verdict>> {
    let mut inputs = Inputs::default();
    let mut known = BTreeMap::new();
    let mut diagnostics = Vec::new();
    for step in Step::ALL {
        let Some(report) = context.store.read::<Decided>(step.name()) else { continue };
        inputs.add_need(step, &report.fingerprint);
        diagnostics.extend(report.diagnostics.into_iter().filter(|finding| gates::gate(&finding.code).is_some()));
        let decided = report.result.map(|result| result.gates).unwrap_or_default();
        // A later step has seen more, except where it could not tell.
        known
            .extend(decided.into_iter().filter(|gate| gate.status != GateStatus::Unknown).map(|g| (g.code.clone(), g)));
    }
    let validated = context.store.read::<Decided>(Step::Validate.name()).is_some();
    let gates =
        GATES.iter().map(|gate| known.remove(gate.code).unwrap_or_else(|| undecided(gate, validated))).collect();
    Ok(Report::new("verdict", inputs, diagnostics, Some(Verdict { gates })))
}

fn undecided(gate: &Gate, validated: bool) -> GateVerdict {
    // What `validate` leaves open no step can decide: the gate's own advice is all there is.
    let open = validated && matches!(gate.decided_by, DecidedBy::Disk | DecidedBy::Budget);
    let next = if open { gate.fix } else { gate.decided_by.next_action() };
    GateVerdict::new(gate.code, GateStatus::Unknown, gate.title).next(next)
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
        vec![
            Section::new("Verdict")
                .row("gates", summary)
                .table(&["gate", "", "margin", "seen", "next"], rows.collect())
                .note(
                    "`cargo xtask explain G30` tells what a gate checks, why a validator rejects, and how to fix it.",
                ),
        ]
    }
}

/// Prints one gate in full.
pub(crate) fn explain(code: &str, ui: Ui) -> anyhow::Result<crate::Verdict> {
    let Some(gate) = gates::gate(&code.to_uppercase()) else {
        bail!("there is no gate `{code}`; gates are G01 to G51");
    };
    ui.print(format!(
        "{} {}\n\nchecks    {}\nwhy       {}\nfix       {}\nfailing   {}\nupstream  {}",
        gate.code, gate.title, gate.checks, gate.why, gate.fix, gate.outcome, gate.upstream
    ));
    Ok(crate::Verdict::Ok)
}
