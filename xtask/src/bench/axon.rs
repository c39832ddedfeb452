//! `bench axon`: the axon under load, beside the Python axon of bittensor 9.0.1 on the same machine in the same run; then a million
//! requests and a hundred thousand malformed ones, with an eye on memory.
//!
//! Both axons run in processes of their own, ours as `cargo xtask serve` runs it, with its eye on the local chain, and answer the same
//! questions over the same sixteen connections. Questions are signed
//! before the clock runs.

mod server;

use std::{thread, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use deval_axon::load::{Load, Questions, Refusals, refuse, run as run_load};
use deval_chain::KeyPair;
use deval_report::{Section, render};

use self::server::{Bench, Server, cpu_seconds};
use crate::{Verdict, python::Environment, ui::Ui};

const CONNECTIONS: usize = 16;
/// Questions signed at a time; they must be sent within four minutes.
const BATCH: usize = 50_000;
/// How long each axon is measured.
const MEASURED: Duration = Duration::from_secs(20);
/// Questions for the Python axon, which answers some twenty a second.
const FOR_PYTHON: usize = 4_000;
/// Questions for ours; when they are answered sooner, the time ends with them.
const FOR_OURS: usize = 80_000;

/// How much is sent.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Amounts {
    /// `bench axon`: requests of the run that watches memory.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..))]
    requests: u64,
    /// `bench axon`: malformed requests.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    malformed: u64,
    /// `bench axon`: seed of the malformed requests.
    #[arg(long, value_name = "N", default_value_t = 0)]
    fuzz_seed: u64,
}

pub(super) fn run(amounts: Amounts, ui: Ui) -> anyhow::Result<Verdict> {
    Environment::Bittensor.prepare(ui)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let python = Server::python()?;
    ui.say(format!("asking the Python axon for {} s", MEASURED.as_secs()));
    let theirs = runtime.block_on(measure(&python, FOR_PYTHON))?;
    drop(python);
    let bench = Bench::prepare(&runtime, ui)?;
    let ours = Server::ours(&bench, ui)?;
    ui.say(format!("asking our axon for {} s", MEASURED.as_secs()));
    let measured = runtime.block_on(measure(&ours, FOR_OURS))?;
    ui.say(format!("{} requests", amounts.requests));
    let long = runtime.block_on(watch_memory(&ours, amounts.requests, ui))?;
    ui.say(format!("{} malformed requests", amounts.malformed));
    let malformed = runtime.block_on(all_malformed(&ours, amounts))?;
    let rows = [compared(&measured, &theirs), long.rows(amounts.requests), malformed.rows(amounts.malformed)].concat();
    let met = rows.iter().all(|row| row.met);
    let head = ["what", "ours", "peer", "ratio", "bar", ""];
    let section = Section::new("Axon under load").table(&head, rows.into_iter().map(Row::cells).collect());
    let share = 100.0 * measured.generator_seconds / (measured.generator_seconds + measured.cpu_seconds).max(1e-9);
    let note = format!(
        "Both on the same {} cores, {CONNECTIONS} connections, signed questions with nonces of their own. The load generator shares the \
         cores: while our axon was measured it took {share:.0} % of the processor time of both. {}",
        thread::available_parallelism().map_or(1, usize::from),
        malformed.summary(),
    );
    ui.print(render::terminal(&[section.note(note)]));
    Ok(if met { Verdict::Ok } else { Verdict::Findings })
}

fn key(uri: &str) -> anyhow::Result<KeyPair> {
    KeyPair::from_uri(uri).context("a development key")
}

/// One axon, measured.
struct Measured {
    load: Load,
    resident: u64,
    anonymous: u64,
    cpu_seconds: f64,
    generator_seconds: f64,
}

async fn measure(server: &Server, questions: usize) -> anyhow::Result<Measured> {
    // The first answers pay for what is made once.
    let warm = ask(server, 160, None).await?;
    ensure!(warm.failed == 0, "the axon does not answer: {}", warm.first_failure.unwrap_or_default());
    let signed = sign(server, questions)?;
    let process = server.process().to_string();
    let (before, own_before) = (cpu_seconds(&process)?, cpu_seconds("self")?);
    let load = run_load(signed, Some(MEASURED)).await;
    ensure!(load.failed == 0, "{} were not answered: {}", load.failed, load.first_failure.unwrap_or_default());
    let (cpu, generator) = (cpu_seconds(&process)? - before, cpu_seconds("self")? - own_before);
    let (resident, anonymous) = (server.resident()?, server.anonymous()?);
    Ok(Measured { load, resident, anonymous, cpu_seconds: cpu, generator_seconds: generator })
}

async fn ask(server: &Server, questions: usize, limit: Option<Duration>) -> anyhow::Result<Load> {
    Ok(run_load(sign(server, questions)?, limit).await)
}

/// Signs on all cores; each connection has a dendrite of its own.
fn sign(server: &Server, questions: usize) -> anyhow::Result<Vec<Questions>> {
    let (validator, target) = (&key("//Bob//vali")?, &server.target);
    let signed = thread::scope(|scope| {
        let sign = |connection: usize| {
            Questions::sign(target, validator, &format!("bench-{connection}"), questions / CONNECTIONS)
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(|connection| scope.spawn(move || sign(connection))).collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Result<Vec<_>, _>>()
    });
    signed.map_err(|_| anyhow::anyhow!("signing does not panic"))
}

/// Many requests, and the memory after each batch.
struct Long {
    load: Load,
    memory: Vec<u64>,
}

async fn watch_memory(server: &Server, requests: u64, ui: Ui) -> anyhow::Result<Long> {
    let mut long = Long { load: Load::default(), memory: Vec::new() };
    let batch = BATCH.min(usize::try_from(requests / 10)?);
    while long.load.answered < requests {
        let load = ask(server, batch, None).await?;
        ensure!(load.answered > 0, "not one request was answered: {}", load.first_failure.unwrap_or_default());
        long.load.add(load);
        long.memory.push(server.resident()?);
        ui.say(format!("{} answered, {} kB resident", long.load.answered, long.memory.last().unwrap_or(&0)));
    }
    Ok(long)
}

/// What became of the malformed requests.
struct Fuzzed {
    refusals: Refusals,
    before: u64,
    after: u64,
    panics: u64,
    answered_afterwards: bool,
}

async fn all_malformed(server: &Server, amounts: Amounts) -> anyhow::Result<Fuzzed> {
    let validator = key("//Bob//vali")?;
    // What the first of them need stays.
    let mut refusals = refuse(&server.target, &validator, amounts.fuzz_seed, 0..amounts.malformed / 10).await;
    let before = server.resident()?;
    let rest = amounts.malformed / 10..amounts.malformed;
    let share = (rest.end - rest.start).div_ceil(4).max(1);
    let tasks = (0..4).map(|part| {
        let start = (rest.start + part * share).min(rest.end);
        let (target, validator, numbers) =
            (server.target.clone(), validator.clone(), start..(start + share).min(rest.end));
        tokio::spawn(async move { refuse(&target, &validator, amounts.fuzz_seed, numbers).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        refusals.add(task.await.context("refusing does not panic")?);
    }
    let after = server.resident()?;
    let good = ask(server, 160, None).await?;
    Ok(Fuzzed { refusals, before, after, panics: panics(server).await?, answered_afterwards: good.failed == 0 })
}

/// What the server itself counted.
async fn panics(server: &Server) -> anyhow::Result<u64> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let metrics = server.metrics.context("our axon has a second port")?;
    let mut stream = tokio::net::TcpStream::connect(metrics).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let line = text.lines().find_map(|line| line.strip_prefix("deval_axon_panics_total "));
    line.context("it counts panics")?.parse().context("a count is a number")
}

/// One line of the table.
#[derive(Clone)]
struct Row {
    what: String,
    ours: String,
    peer: String,
    ratio: String,
    bar: &'static str,
    met: bool,
}

impl Row {
    fn alone(what: impl Into<String>, ours: String, bar: &'static str, met: bool) -> Self {
        Self { what: what.into(), ours, peer: String::new(), ratio: String::new(), bar, met }
    }

    fn cells(self) -> Vec<String> {
        let met = if self.met { "met" } else { "missed" };
        vec![self.what, self.ours, self.peer, self.ratio, self.bar.to_owned(), met.to_owned()]
    }
}

fn compared(ours: &Measured, theirs: &Measured) -> Vec<Row> {
    let rate = ours.load.rate() / theirs.load.rate().max(1e-9);
    let p99 = |measured: &Measured| measured.load.milliseconds(0.99);
    let memory = ours.resident as f64 / theirs.resident as f64;
    let per_request = |measured: &Measured| measured.cpu_seconds * 1e6 / measured.load.answered.max(1) as f64;
    let megabytes = |measured: &Measured| {
        let [all, own] = [measured.resident, measured.anonymous].map(|kilobytes| kilobytes as f64 / 1000.0);
        format!("{all:.1} MB, {own:.1} of them no file's")
    };
    vec![
        Row {
            what: "requests per second".into(),
            ours: format!("{:.0}", ours.load.rate()),
            peer: format!("{:.1} (Python bittensor 9.0.1)", theirs.load.rate()),
            ratio: format!("{rate:.0} ×"),
            bar: "≥ 100 ×",
            met: rate >= 100.0,
        },
        Row {
            what: "time to the answer, p99".into(),
            ours: format!("{:.1} ms", p99(ours)),
            peer: format!("{:.0} ms", p99(theirs)),
            ratio: format!("{:.0} ×", p99(theirs) / p99(ours).max(1e-9)),
            bar: "< 20 ms",
            met: p99(ours) < 20.0,
        },
        Row {
            what: "processor time per request".into(),
            ours: format!("{:.0} µs", per_request(ours)),
            peer: format!("{:.0} µs", per_request(theirs)),
            ratio: format!("{:.0} ×", per_request(theirs) / per_request(ours).max(1e-9)),
            bar: "",
            met: true,
        },
        Row {
            what: "resident memory".into(),
            ours: megabytes(ours),
            peer: megabytes(theirs),
            ratio: format!("1/{:.1}", 1.0 / memory),
            bar: "≤ 1/5",
            met: memory <= 0.2,
        },
    ]
}

impl Long {
    fn rows(&self, requests: u64) -> Vec<Row> {
        let tenth = self.memory.len().div_ceil(10);
        let (early, last) =
            (self.memory.get(tenth - 1).copied().unwrap_or(0), self.memory.last().copied().unwrap_or(0));
        let growth = 100.0 * (last as f64 / early as f64 - 1.0);
        let answered = format!("{} of {requests}, {} failed", self.load.answered, self.load.failed);
        let memory = format!("{early} kB after a tenth, {last} kB at the end ({growth:+.1} %)");
        vec![
            Row::alone("answered", answered, "all", self.load.failed == 0 && self.load.answered >= requests),
            Row::alone("memory over them", memory, "flat (≤ +5 %)", growth <= 5.0),
        ]
    }
}

impl Fuzzed {
    fn rows(&self, malformed: u64) -> Vec<Row> {
        let answered: u64 =
            self.refusals.statuses.iter().filter(|((_, status), _)| *status == 200).map(|(_, n)| n).sum();
        let wrong = self.refusals.wrong.len();
        let growth = 100.0 * (self.after as f64 / self.before as f64 - 1.0);
        let memory = format!("{} kB after a tenth, {} kB at the end ({growth:+.1} %)", self.before, self.after);
        let refused = format!("{answered} answered with 200, {wrong} not refused as expected");
        let panics = format!("{}, good ones answered afterwards: {}", self.panics, self.answered_afterwards);
        vec![
            Row::alone(format!("{malformed} malformed"), refused, "none", answered == 0 && wrong == 0),
            Row::alone("panics", panics, "none", self.panics == 0 && self.answered_afterwards),
            Row::alone("memory over them", memory, "flat (≤ +5 %)", growth <= 5.0),
        ]
    }

    fn summary(&self) -> String {
        let mut statuses = std::collections::BTreeMap::<u16, u64>::new();
        self.refusals.statuses.iter().for_each(|((_, status), count)| *statuses.entry(*status).or_default() += count);
        let told = statuses.iter().map(|(status, count)| match status {
            0 => format!("closed {count}"),
            status => format!("{status}: {count}"),
        });
        let first =
            self.refusals.wrong.first().map(|(number, status)| format!("; first unexpected: {number} got {status}"));
        format!("Malformed requests by status: {}{}.", told.collect::<Vec<_>>().join(", "), first.unwrap_or_default())
    }
}
