//! The axon's process: what `cargo xtask serve --execute` turns into.
//!
//! It reads [`Start`] from its standard input, serves until it is stopped, and shows and stores the report. Exit codes are those of
//! `cargo xtask`: 0 ok, 1 findings about the submission, 2 the work could not be done.

mod chain;
mod log;
mod reload;
mod running;

use std::{
    fmt, fs,
    io::{self, IsTerminal as _},
    num::NonZero,
    path::Path,
    process::ExitCode,
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use deval_axon::{
    Answered, ServeReceipt,
    start::{Companion, Output, Start},
};
use deval_report::{Diagnostic, Inputs, Report, render};
use nix::{
    sys::wait::waitpid,
    unistd::{Pid, close},
};

/// More threads answer no faster than the kernel hands out connections, and each has memory of its own.
const MOST_THREADS: usize = 4;

/// What is wrong with the submission: the run ends with 1.
#[derive(Debug)]
struct Finding(Diagnostic);

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Finding {}

fn main() -> ExitCode {
    let start = match read() {
        Ok(start) => start,
        Err(error) => return failed(&error, Output::Human),
    };
    let (output, companion) = (start.output, start.companion);
    let served = serve(start);
    if let Some(companion) = companion {
        dismiss(companion);
    }
    match served {
        Ok(report) => {
            show(&report, output);
            ExitCode::from(if report.is_ok() { 0 } else { 1 })
        }
        Err(error) => failed(&error, output),
    }
}

fn read() -> anyhow::Result<Start> {
    const USAGE: &str = "deval-axon is started by `cargo xtask serve --execute`, which tells it what to serve";
    ensure!(!io::stdin().is_terminal(), USAGE);
    serde_json::from_reader(io::stdin().lock()).context(USAGE)
}

fn serve(start: Start) -> anyhow::Result<Report<ServeReceipt>> {
    log::begin(start.json_log, start.secrets.clone())?;
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.context("cannot start the async runtime")?;
    for finding in &start.report.diagnostics {
        tracing::warn!(code = finding.code, "{}", finding.message);
    }
    let (plan, stored) = (start.report.clone(), start.stored.clone());
    let started = (Instant::now(), unix_now());
    let finished = |answered: &Answered| {
        let mut report = plan.clone();
        report.result = report.result.map(|receipt| receipt.with_answer(answered));
        (report.run.started_unix, report.run.seconds) = (started.1, started.0.elapsed().as_secs_f64());
        report
    };
    let answered = runtime.block_on(running::serve(start, |answered| store(&stored, &finished(answered))))?;
    Ok(finished(&answered))
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whole or not at all, so that a kill leaves the old report or the new.
fn store(path: &Path, report: &Report<ServeReceipt>) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(report).context("cannot write the report as JSON")?;
    let new = path.with_extension("new");
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Ends the companion and waits for it, so that whoever comes next finds its files closed.
fn dismiss(companion: Companion) {
    // It may have ended already.
    let _ = close(companion.stdin);
    let _ = waitpid(Pid::from_raw(companion.process), None);
}

fn show(report: &Report<ServeReceipt>, output: Output) {
    let sections = report.result.as_ref().map(ServeReceipt::sections).unwrap_or_default();
    match output {
        Output::Human => {
            write(io::stdout(), &render::terminal(&sections));
            write(io::stderr(), &report.diagnostics.iter().map(render::diagnostic).collect::<String>());
        }
        Output::Json | Output::Github => envelope(report, output),
    }
}

/// The error as `cargo xtask` shows it.
fn failed(error: &anyhow::Error, output: Output) -> ExitCode {
    let finding = error.downcast_ref::<Finding>();
    let diagnostic = match finding {
        Some(Finding(diagnostic)) => diagnostic.clone(),
        None => Diagnostic::error("run.failed", format!("{error:#}")),
    };
    match output {
        Output::Human => write(io::stderr(), &render::diagnostic(&diagnostic)),
        Output::Json | Output::Github => {
            envelope(&Report::<ServeReceipt>::new("serve", Inputs::default(), vec![diagnostic], None), output);
        }
    }
    ExitCode::from(if finding.is_some() { 1 } else { 2 })
}

fn envelope(report: &Report<ServeReceipt>, output: Output) {
    let text = match output {
        Output::Github => report.diagnostics.iter().map(render::github).collect(),
        Output::Human | Output::Json => {
            serde_json::to_string_pretty(report).expect("reports hold only what JSON can hold") + "\n"
        }
    };
    write(io::stdout(), &text);
}

/// A reader who has gone away wanted no more.
fn write(mut to: impl io::Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}
