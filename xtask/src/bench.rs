//! `cargo xtask bench`: speed beside a named peer, measured in one run on the same machine.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use deval_eval::{
    Answer, Example, ExampleSet, HashedWords, SetInfo, Task,
    forecast::{ForecastOptions, Leaderboard, Own, forecast},
    reward::reward,
};
use deval_report::Section;
use serde::Deserialize;
use serde_json::json;

use crate::{Verdict, cargo, cli::Bench, python, ui::Ui};

const RESPONSES: usize = 10_000;
const PEER_ENVIRONMENT: &str = "target/deval/python";

pub(crate) fn run(what: Bench, ui: Ui) -> anyhow::Result<Verdict> {
    let rows = match what {
        Bench::Score => vec![score(ui)?],
        Bench::Examples => vec![examples()],
        Bench::Forecast => vec![contest()?],
        Bench::Numbers => vec![score(ui)?, examples(), contest()?],
    };
    let met = rows.iter().all(|row| row.met);
    let cells = rows.into_iter().map(Row::cells).collect();
    let head = ["what", "ours", "peer", "ratio", "bar", ""];
    ui.print(deval_report::render::terminal(&[Section::new("Benchmark").table(&head, cells)]));
    Ok(if met { Verdict::Ok } else { Verdict::Findings })
}

/// One measurement and what it is held to.
struct Row {
    what: String,
    ours: Duration,
    peer: Option<(String, Duration)>,
    bar: String,
    met: bool,
}

impl Row {
    fn cells(self) -> Vec<String> {
        let seconds = |time: Duration| format!("{:.3} s", time.as_secs_f64());
        let (peer, ratio) = match &self.peer {
            Some((name, time)) => (format!("{} ({name})", seconds(*time)), format!("{:.0} ×", times(*time, self.ours))),
            None => (String::new(), String::new()),
        };
        let met = if self.met { "met" } else { "missed" };
        vec![self.what, seconds(self.ours), peer, ratio, self.bar, met.to_owned()]
    }
}

fn times(peer: Duration, ours: Duration) -> f64 {
    peer.as_secs_f64() / ours.as_secs_f64().max(1e-9)
}

/// What the Python peer prints.
#[derive(Deserialize)]
struct PeerScored {
    count: usize,
    seconds: f64,
    sum: f64,
}

/// Rewards of recorded answers against upstream's way: Python `rouge` 1.0.1 and numpy.
fn score(ui: Ui) -> anyhow::Result<Row> {
    let set = real_or_generated()?;
    let asked: Vec<(&Example, Answer)> = set.examples.iter().cycle().zip(0..RESPONSES).map(|(e, n)| (e, answer(e, n))).collect();
    let started = Instant::now();
    let mut sum = 0.0;
    for (example, answer) in &asked {
        let earned = reward(example.task, (*example).into(), answer, &HashedWords);
        sum += earned.map_or(0.0, |earned| f64::from(earned.total));
    }
    let ours = started.elapsed();
    let peer = peer_scores(&set, &asked, ui)?;
    if peer.count != RESPONSES || (peer.sum - sum).abs() > 1e-6 * RESPONSES as f64 {
        bail!("the peer scored {} answers with the sum {}, we {RESPONSES} with {sum}", peer.count, peer.sum);
    }
    let time = Duration::from_secs_f64(peer.seconds);
    let met = times(time, ours) >= 100.0;
    let what = format!("score {RESPONSES} responses ({})", set.info.name);
    Ok(Row { what, ours, peer: Some(("rouge 1.0.1 + numpy".to_owned(), time)), bar: "≥ 100 ×".to_owned(), met })
}
