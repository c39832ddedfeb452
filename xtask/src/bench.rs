//! `cargo xtask bench`: speed beside a named peer, measured in one run on the same machine.

pub(crate) mod axon;
pub(crate) mod generate;
mod hash;
pub(crate) mod upload;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use deval_eval::{
    Answer, Embed, Example, ExampleSet, Task,
    forecast::{ForecastOptions, Leaderboard, Measured, Own, Seat, forecast},
    reward::reward,
};
use deval_examples::{generate_set, import};
use deval_report::{Section, render};
use serde::Deserialize;
use serde_json::json;

use crate::{Verdict, cargo, cli::Bench, python::Environment, ui::Ui};

const RESPONSES: usize = 10_000;

pub(crate) fn run(what: Bench, amounts: axon::Amounts, extent: &generate::Extent, ui: Ui) -> anyhow::Result<Verdict> {
    let rows = match what {
        Bench::Score => vec![score(ui)?],
        Bench::Examples => vec![examples()],
        Bench::Forecast => vec![contest()?],
        Bench::Hash => return hash::run(ui),
        Bench::Upload => return upload::run(ui),
        Bench::Axon => return axon::run(amounts, ui),
        Bench::Generate => return generate::run(extent, ui),
        Bench::Numbers => vec![score(ui)?, examples(), contest()?],
    };
    let met = rows.iter().all(|row| row.met);
    let head = ["what", "ours", "peer", "ratio", "bar", ""];
    let table = Section::new("Benchmark").table(&head, rows.into_iter().map(Row::cells).collect());
    ui.print(render::terminal(&[table]));
    Ok(if met { Verdict::Ok } else { Verdict::Findings })
}

/// One measurement and what it is held to.
struct Row {
    what: String,
    ours: Duration,
    peer: Option<(&'static str, Duration)>,
    bar: &'static str,
    met: bool,
}

impl Row {
    fn cells(self) -> Vec<String> {
        let seconds = |time: Duration| format!("{:.3} s", time.as_secs_f64());
        let (peer, ratio) = match self.peer {
            Some((name, time)) => (format!("{} ({name})", seconds(time)), format!("{:.0} ×", times(time, self.ours))),
            None => (String::new(), String::new()),
        };
        let met = if self.met { "met" } else { "missed" };
        vec![self.what, seconds(self.ours), peer, ratio, self.bar.to_owned(), met.to_owned()]
    }
}

fn times(peer: Duration, ours: Duration) -> f64 {
    peer.as_secs_f64() / ours.as_secs_f64().max(1e-9)
}

/// Rewards of recorded answers against upstream's way: Python `rouge` 1.0.1 and numpy. Both must come to the same sum.
fn score(ui: Ui) -> anyhow::Result<Row> {
    let set = real_or_generated(ui)?;
    let asked: Vec<_> =
        set.examples.iter().cycle().zip(0..RESPONSES).map(|(e, number)| (e, answer(e, number))).collect();
    let started = Instant::now();
    let mut sum = 0.0;
    for (example, answer) in &asked {
        let earned = reward(example.task, (*example).into(), answer, &Constant);
        sum += earned.map_or(0.0, |earned| f64::from(earned.total));
    }
    let ours = started.elapsed();
    let peer = peer_scores(&set, &asked, ui)?;
    if peer.count != RESPONSES || (peer.total - sum).abs() > 1e-6 {
        bail!("the peer rewards {} answers with {} in all, we {RESPONSES} with {sum}", peer.count, peer.total);
    }
    let time = Duration::from_secs_f64(peer.seconds);
    let what = format!("reward {RESPONSES} responses ({})", set.info.name);
    let peer = Some(("Python rouge 1.0.1 + numpy", time));
    Ok(Row { what, ours, peer, bar: "≥ 100 ×", met: times(time, ours) >= 100.0 })
}

/// The real labelled examples where they lie beside the repository, else generated ones.
fn real_or_generated(ui: Ui) -> anyhow::Result<ExampleSet> {
    let folder = cargo::root().join("../shared/data");
    let Ok(entries) = fs::read_dir(&folder) else {
        ui.say("the real examples (../shared/data) are not there; generated ones are rewarded");
        return Ok(generate_set(0, 250, &Task::ALL));
    };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let sets = files.iter().map(|path| {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(import::read(&path.to_string_lossy(), &text, import::Format::Jsonl).0)
    });
    Ok(import::merge(sets.collect::<anyhow::Result<_>>()?, "real").0)
}

/// Answers as they come: right ones, constants, every claim a mistake, half of the mistakes, none at all.
fn answer(example: &Example, number: usize) -> Answer {
    let Example { reference, reference_mistakes, reference_true_values, .. } = example;
    let claims = || deval_eval::claims::split(&example.llm_response).into_iter().map(str::to_owned).collect();
    match number % 5 {
        0 => Answer::new(*reference, reference_mistakes.clone()),
        1 => Answer::new(0.5, claims()),
        2 => Answer::new(1.0, Vec::new()),
        3 => Answer::new(
            0.25,
            reference_mistakes.iter().step_by(2).chain(reference_true_values.first()).cloned().collect(),
        ),
        _ => Answer::new(-1.0, Vec::new()),
    }
}

/// The same vector for every text, as the peer has without a table: the time of an encoder is no part of the arithmetic.
struct Constant;

impl Embed for Constant {
    fn embed(&self, _text: &str) -> Result<Vec<f32>, String> {
        Ok(vec![1.0])
    }

    fn name(&self) -> &str {
        "constant"
    }
}

/// What the Python peer prints.
#[derive(Deserialize)]
struct PeerScored {
    count: usize,
    seconds: f64,
    total: f64,
}

fn peer_scores(set: &ExampleSet, asked: &[(&Example, Answer)], ui: Ui) -> anyhow::Result<PeerScored> {
    Environment::Pipeline.prepare(ui)?;
    let dir = cargo::root().join("target/deval/bench");
    let lines = asked.iter().map(|(example, answer)| {
        format!("{}\n", json!({ "id": example.id, "score": answer.score, "mistakes": answer.mistakes }))
    });
    let (examples, answers) = (dir.join("examples.jsonl"), dir.join("answers.jsonl"));
    write(&examples, &set.write())?;
    write(&answers, &lines.collect::<String>())?;
    let output = Command::new(Environment::Pipeline.interpreter())
        .arg(cargo::root().join("ci/bench/score.py"))
        .args([&examples, &answers])
        .output()
        .context("cannot run Python")?;
    if !output.status.success() {
        bail!("ci/bench/score.py failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("ci/bench/score.py printed something else than its result")
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    crate::store::write_atomically(path, text.as_bytes())
}

fn examples() -> Row {
    let started = Instant::now();
    let made = generate_set(1, 250, &Task::ALL).examples.len();
    let ours = started.elapsed();
    let met = made == 1000 && ours < Duration::from_secs(1);
    Row { what: format!("generate {made} examples offline"), ours, peer: None, bar: "< 1 s", met }
}

fn contest() -> anyhow::Result<Row> {
    let board = Leaderboard::sample(15);
    let reward = Measured { mean: 0.6, standard_error: 0.03, degrees: 119.0, round_sd: 0.03 };
    let options = ForecastOptions { draws: 10_000, ..ForecastOptions::default() };
    let started = Instant::now();
    let made = forecast(&board, &Own::new(Seat::New, reward), &options);
    let ours = started.elapsed();
    let made = made.map_err(crate::findings::Findings)?;
    let what = format!("forecast of {} miners, {} draws, {} rounds", made.miners, options.draws, options.rounds);
    Ok(Row { what, ours, peer: None, bar: "< 2 s", met: ours < Duration::from_secs(2) })
}
