//! How a comparison is shown.

use deval_report::Section;

use super::{Difference, Paired, Side};
use crate::stats::plan;

impl Paired {
    /// The comparison, the examples that changed most, and what a lead of this size takes.
    pub fn sections(&self) -> Vec<Section> {
        let side = |side: &Side| {
            let reading = side.backend.reading.as_ref().map(|reading| format!(", {reading}")).unwrap_or_default();
            format!("{:.3} {} ({}{reading}) on {}", side.mean, side.backend.model, side.backend.name, side.set)
        };
        let mut rows: Vec<_> = self.tasks.iter().map(|task| cells(task.task.name(), &task.paired)).collect();
        rows.push(cells("all", &self.overall));
        let head = ["", "B − A", "95 % interval", "p (bootstrap)", "better", "worse", "equal", "p (sign test)"];
        let summary = Section::new("B against A")
            .row("A", side(&self.a))
            .row("B", side(&self.b))
            .row("result", &self.sentence)
            .table(&head, rows);
        let summary = self.notes.iter().fold(summary, Section::note);
        let changed = self.changed.iter().map(|change| {
            let numbers = [change.a, change.b].map(|reward| format!("{reward:.3}"));
            let [a, b] = numbers;
            vec![change.id.clone(), a, b, format!("{:+.3}", change.difference())]
        });
        let changed = Section::new("Changed most").table(&["example", "A", "B", "B − A"], changed.collect());
        [summary, changed].into_iter().chain(plan::sections(std::slice::from_ref(&self.plan))).collect()
    }
}

fn cells(name: &str, paired: &Difference) -> Vec<String> {
    let Difference { difference, p_bootstrap, signs } = paired;
    let interval = match (&difference.t95, &difference.note) {
        (Some(interval), _) => format!("{:+.3} to {:+.3}", interval.low, interval.high),
        (None, note) => note.clone().unwrap_or_default(),
    };
    let p = |p: f64| format!("{p:.3}");
    vec![
        name.to_owned(),
        format!("{:+.3}", difference.mean),
        interval,
        p_bootstrap.map_or_else(|| "unknown".to_owned(), p),
        signs.better.to_string(),
        signs.worse.to_string(),
        signs.equal.to_string(),
        p(signs.p),
    ]
}
