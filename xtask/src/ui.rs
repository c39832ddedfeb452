//! Talking to the user: results to standard output, everything else to standard error.

use std::{
    io::{self, ErrorKind, IsTerminal as _, Write},
    time::Duration,
};

use deval_report::{Diagnostic, Report, Section, render};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::cli::{Format, Global, Progress};

/// Writes in the format the user asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    format: Format,
    progress: Progress,
    quiet: bool,
}

impl Ui {
    pub(crate) fn new(global: &Global) -> Self {
        let progress = match global.progress {
            _ if global.quiet => Progress::None,
            Progress::Auto if !io::stderr().is_terminal() => Progress::Plain,
            chosen => chosen,
        };
        Self { format: global.format, progress, quiet: global.quiet }
    }

    /// How work in progress is shown: as bars (`auto`), or as chosen.
    pub(crate) fn progress(self) -> Progress {
        self.progress
    }

    /// Whether text for people is asked for.
    pub(crate) fn is_for_people(self) -> bool {
        self.format == Format::Human
    }

    /// A remark while working.
    pub(crate) fn say(self, text: impl AsRef<str>) {
        match self.progress {
            _ if self.quiet => {}
            Progress::Json => self.event(&json!({"event": "remark", "text": text.as_ref()})),
            _ => write(io::stderr(), &format!("{}\n", render::visible(text.as_ref()))),
        }
    }

    /// One line of JSON about work in progress.
    pub(crate) fn event(self, event: &serde_json::Value) {
        write(io::stderr(), &format!("{event}\n"));
    }

    /// A question to the one at the terminal, which is asked even of the quiet.
    pub(crate) fn ask(self, text: impl AsRef<str>) {
        write(io::stderr(), text.as_ref());
    }

    /// Plain text that is itself the result.
    pub(crate) fn print(self, text: impl AsRef<str>) {
        write(io::stdout(), &format!("{}\n", text.as_ref().trim_end()));
    }

    /// The result of a step or view.
    pub(crate) fn report<T: Serialize>(self, report: &Report<T>, sections: &[Section]) {
        match self.format {
            Format::Human => {
                write(io::stdout(), &render::terminal(sections));
                self.findings(&report.diagnostics);
            }
            Format::Json => {
                let text = serde_json::to_string_pretty(report).expect("reports hold only what JSON can hold");
                write(io::stdout(), &format!("{text}\n"));
            }
            Format::Github => write(io::stdout(), &report.diagnostics.iter().map(render::github).collect::<String>()),
        }
    }

    /// Findings on standard error: as text, or among the lines of JSON.
    pub(crate) fn findings(self, findings: &[Diagnostic]) {
        if self.progress == Progress::Json {
            return findings.iter().for_each(|finding| self.event(&json!({"event": "finding", "finding": finding})));
        }
        write(io::stderr(), &findings.iter().map(render::diagnostic).collect::<String>());
    }

    /// A bar for work of known size; drawn only on a terminal.
    pub(crate) fn bar(self, what: &str, total: u64, unit: Unit) -> ProgressBar {
        let template = match unit {
            Unit::Bytes => "{msg:24} {bar:30} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>5} left",
            Unit::Items => "{msg:24} {bar:30} {pos:>6}/{len:6} {elapsed:>5} {eta:>5} left",
        };
        let style = ProgressStyle::with_template(template).expect("the templates above are well-formed");
        let bar =
            ProgressBar::with_draw_target(Some(total), self.target()).with_style(style).with_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// A spinner for work of unknown size.
    pub(crate) fn spinner(self, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("well-formed");
        let bar = ProgressBar::with_draw_target(None, self.target()).with_style(style).with_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    fn target(self) -> ProgressDrawTarget {
        if self.progress == Progress::Auto { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
    }
}

/// What a bar counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Bytes,
    Items,
}

/// Writes all of it. A reader who has gone away wanted no more; that a disk is full is told where it can be.
fn write(mut to: impl Write, text: &str) {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _nowhere_else = writeln!(io::stderr(), "cannot write the result: {error}");
        }
        _ => {}
    }
}
