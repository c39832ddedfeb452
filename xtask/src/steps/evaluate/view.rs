//! How an evaluation is shown.

use deval_eval::{
    Evaluation, Lane, Speed, explain,
    harness::{Rewards, Stopping},
    speed::{Rates, predict},
    stats::Summary,
};
use deval_report::{
    Report, Section,
    gates::{Distance, GateVerdict},
};

/// Rewards beside the baselines, then every example.
pub(super) fn sections(evaluation: &Evaluation) -> Vec<Section> {
    let results = evaluation.results.iter().map(|result| {
        let status = match (&result.aborts, result.answer.score) {
            (Some(aborts), _) => format!("the validator aborts: {}", aborts.reason),
            (None, score) => format!("{:.2}", score),
        };
        let mistakes = result.answer.mistakes.as_ref().map_or(0, Vec::len);
        vec![
            result.id.clone(),
            format!("{:.2}", result.reference),
            status,
            mistakes.to_string(),
            format!("{:.3}", result.total()),
        ]
    });
    let examples = Section::new("Examples")
        .row("digest", &evaluation.set.digest)
        .table(&["example", "right score", "score", "mistakes", "reward"], results.collect());
    let mut sections = vec![summary(evaluation)];
    sections.extend(evaluation.stopping.iter().flat_map(Stopping::sections));
    sections.extend(explain::sections(&evaluation.explanation));
    sections.extend(evaluation.speed.iter().map(Speed::section));
    sections.push(examples);
    sections
}

/// Gates with the margins that the times of a run gave them; these stand apart, because they change from run to run.
pub(crate) fn with_margins(gates: Vec<GateVerdict>, timing: &serde_json::Value) -> Vec<GateVerdict> {
    let measured = |gate: &GateVerdict| serde_json::from_value::<Distance>(timing["margins"][&gate.code].clone()).ok();
    let add = |gate: GateVerdict| match measured(&gate) {
        Some(Distance { value, unit }) => gate.distance(value, unit),
        None => gate,
    };
    gates.into_iter().map(add).collect()
}

/// How long the questions take this machine one at a time, by the text that was timed on it.
pub(super) fn here(report: &Report<Evaluation>) -> Option<Section> {
    let (evaluation, timed) = (report.result.as_ref()?, &report.run.timing["engine"]);
    let of = |key: &str| serde_json::from_value::<(usize, f64)>(timed[key].clone()).ok();
    let (prompt, answer) = (of("prompt")?, of("answer")?);
    let (rates, speed) = (Rates::measured(prompt, answer)?, evaluation.speed.as_ref()?);
    let found = predict(("this machine", "measured"), &rates, &evaluation.results, speed.max_new_tokens);
    let rate = |(tokens, seconds): (usize, f64)| format!("{:.1} tokens/s over {tokens}", tokens as f64 / seconds);
    let head = ["machine", "median", "99 %", "longest answers", "at risk", "max_new_tokens that fits"];
    let section = Section::new("Speed here (estimate)").row("prompt", rate(prompt)).row("answer", rate(answer));
    let note = "The built-in engine on one question at a time, at the pace of one short text; not what the miner's pipeline takes.";
    Some(section.table(&head, vec![found.row()]).note(note))
}

/// The gates that a container decided, with the margins of this run, and how the container did.
pub(super) fn container(report: &Report<Evaluation>) -> Vec<Section> {
    let Some(evaluation) = report.result.as_ref().filter(|evaluation| !evaluation.gates.is_empty()) else {
        return Vec::new();
    };
    let timing = &report.run.timing;
    let row =
        |gate: GateVerdict| vec![gate.code, gate.status.to_string(), gate.margin.unwrap_or_default(), gate.detail];
    let rows = with_margins(evaluation.gates.clone(), timing).into_iter().map(row).collect();
    let seconds =
        |key: &str| timing["latency"][key].as_f64().map_or_else(String::new, |seconds| format!("{seconds:.3} s"));
    let run = &timing["container"];
    let mut section = Section::new("Container")
        .row("image", run["image"]["tag"].as_str().unwrap_or_default())
        .row("network", run["network"].as_str().unwrap_or_default())
        .row("ready after", format!("{:.1} s", run["ready_seconds"].as_f64().unwrap_or_default()))
        .row("answers", format!("median {}, 99 % {}, slowest {}", seconds("p50"), seconds("p99"), seconds("max")));
    if let Some(overhead) = run["overhead_ms"][0].as_f64() {
        section = section.row("harness", format!("median {overhead:.2} ms beside the API's own time"));
    }
    match run["resumed"].as_u64() {
        Some(resumed) if resumed > 0 => {
            section = section.row("resumed", format!("{resumed} answers of an interrupted run"))
        }
        _ => {}
    }
    vec![section.table(&["gate", "status", "margin", "seen"], rows)]
}

/// Reward per task with interval, beside what a rule without a model earns on the same examples.
pub(crate) fn summary(evaluation: &Evaluation) -> Section {
    let baselines: Vec<_> =
        evaluation.baselines.iter().map(|result| (result.baseline.name(), &result.rewards)).collect();
    let mut head = vec!["", "reward", "95 % interval"];
    head.extend(baselines.iter().map(|(name, _)| *name));
    head.push("right answers");
    let columns = || baselines.iter().map(|(_, rewards)| *rewards).chain([&evaluation.ceiling]);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for task in &evaluation.rewards.tasks {
        let others = columns().map(|rewards| of_task(rewards, task.task));
        rows.push(cells(task.task.name(), &task.reward).into_iter().chain(others).collect());
    }
    let others = columns().map(|rewards| format!("{:.3}", rewards.overall.mean));
    rows.push(cells("all", &evaluation.rewards.overall).into_iter().chain(others).collect());
    let backend = &evaluation.backend;
    let reading = backend.reading.as_ref().map(|reading| format!(", reading `{reading}`")).unwrap_or_default();
    let lane = match evaluation.lane {
        Lane::Exact => "exact".to_owned(),
        Lane::Estimate => format!("estimate: {}", evaluation.reasons.join("; ")),
    };
    let set = &evaluation.set;
    let section = Section::new("Reward")
        .row("model", format!("{} by the {} backend{reading}", backend.model, backend.name))
        .row(
            "examples",
            format!("{} ({}, {} examples)", set.name, set.digest.get(..12).unwrap_or_default(), set.examples),
        )
        .row("embedder", &evaluation.embedder)
        .row("lane", lane);
    let section = match backend.evidence.get("prompts") {
        Some(origin) => section.row("prompts", origin),
        None => section,
    };
    let noise = evaluation.rewards.overall.label_noise.as_ref();
    let section = noise.into_iter().fold(section, |section, noise| {
        let band = format!("{:.3} to {:.3}", noise.band.low, noise.band.high);
        section.row(format!("with {:.0} % wrong labels", 100.0 * noise.rate), band)
    });
    section.table(&head, rows).note(&evaluation.meaning)
}

fn cells(name: &str, reward: &Summary) -> Vec<String> {
    let interval = match (&reward.t95, &reward.note) {
        (Some(interval), _) => format!("{:.3} to {:.3}", interval.low, interval.high),
        (None, Some(note)) => note.clone(),
        (None, None) => String::new(),
    };
    vec![name.to_owned(), format!("{:.3}", reward.mean), interval]
}

fn of_task(rewards: &Rewards, task: deval_eval::Task) -> String {
    let found = rewards.tasks.iter().find(|summary| summary.task == task);
    found.map(|summary| format!("{:.3}", summary.reward.mean)).unwrap_or_default()
}
