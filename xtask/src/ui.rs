//! Talking to the user: results to standard output, everything else to standard error.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]

use std::time::Duration;

use deval_report::{Diagnostic, Report, Section, render};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Format;

/// Writes in the format the user asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    format: Format,
}

impl Ui {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// A remark while working.
    pub(crate) fn say(self, text: impl AsRef<str>) {
        eprintln!("{}", text.as_ref());
    }

    /// Plain text that is itself the result.
    pub(crate) fn print(self, text: impl AsRef<str>) {
        println!("{}", text.as_ref().trim_end());
    }

    /// The result of a step or view.
    pub(crate) fn report<T: Serialize>(self, report: &Report<T>, sections: &[Section]) {
        match self.format {
            Format::Human => {
                print!("{}", render::terminal(sections));
                self.findings(&report.diagnostics);
            }
            Format::Json => {
                let text = serde_json::to_string_pretty(report).expect("reports hold only what JSON can hold");
                println!("{text}");
            }
            Format::Github => report.diagnostics.iter().for_each(|finding| print!("{}", render::github(finding))),
        }
    }

    /// Findings as text, on standard error.
    pub(crate) fn findings(self, findings: &[Diagnostic]) {
        findings.iter().for_each(|finding| eprint!("{}", render::diagnostic(finding)));
    }

    /// A bar for work of known size; drawn only on a terminal.
    pub(crate) fn bar(self, what: &str, total: u64, unit: Unit) -> ProgressBar {
        let template = match unit {
            Unit::Bytes => "{msg:24} {bar:30} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>5} left",
            Unit::Items => "{msg:24} {bar:30} {pos:>6}/{len:6} {elapsed:>5} {eta:>5} left",
        };
        let style = ProgressStyle::with_template(template).expect("the templates above are well-formed");
        let bar = ProgressBar::new(total).with_style(style).with_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// A spinner for work of unknown size.
    pub(crate) fn spinner(self, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("well-formed");
        let bar = ProgressBar::new_spinner().with_style(style).with_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// What a bar counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Bytes,
    Items,
}
