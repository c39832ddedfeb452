//! When the settings are read again: on SIGHUP, and when the manifest or the commit receipt changed on disk.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;
use deval_axon::start::{self, Settings};
use deval_report::{Diagnostic, Report};
use tokio::{
    process::Command,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

/// How often the files are looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// Reading two files takes less.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for changes, and reads the settings.
pub(crate) struct Reload {
    command: Vec<String>,
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    hangup: Signal,
}

/// Changes whenever the content does: whoever writes a file touches its time, its size or its inode.
type Stamp = (u64, u64, i64, i64);

impl Reload {
    /// Everything from here on is a change.
    pub(crate) fn new(reload: start::Reload) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let seen = stamps(&reload.files);
        Ok(Self { command: reload.command, files: reload.files, seen, hangup })
    }

    /// Completes when it is time to read the settings again.
    pub(crate) async fn due(&mut self) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
            let now = stamps(&self.files);
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }

    /// The settings as they are on disk now; the reason in words when they cannot be used.
    pub(crate) async fn read(&self) -> Result<Settings, String> {
        let [program, arguments @ ..] = &*self.command else { return Err("there is no program to read them".into()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = match timeout(PATIENCE, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("{program} does not start: {error}")),
            Err(_) => return Err(format!("{program} did not read them within {} s", PATIENCE.as_secs())),
        };
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).map_err(|error| format!("{program} tells others: {error}"));
        }
        match serde_json::from_slice::<Report<serde_json::Value>>(&output.stdout) {
            Ok(report) => Err(report.diagnostics.iter().map(words).collect::<Vec<_>>().join("; ")),
            Err(_) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |file: &PathBuf| {
        let metadata = fs::metadata(file).ok()?;
        Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
    };
    files.iter().map(stamp).collect()
}

fn words(finding: &Diagnostic) -> String {
    let place = finding.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
    let told = [("found", &finding.found), ("expected", &finding.expected)];
    let told = told.iter().filter_map(|(what, value)| value.as_ref().map(|value| format!(", {what} {value}")));
    format!("{place}{}{}", finding.message, told.collect::<String>())
}
