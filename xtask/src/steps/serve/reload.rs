//! When the settings are read again: on SIGHUP, and when the manifest or the commit receipt changed on disk.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use deval_report::{Diagnostic, Step};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::settings::Settings;
use crate::{
    cli::{ExternalArgs, Global},
    context::Context,
    findings::Findings,
    ui::Ui,
};

/// How often the files are looked at.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits for changes, and reads the settings.
pub(super) struct Reload {
    global: Global,
    flags: ExternalArgs,
    hotkey: String,
    ui: Ui,
    files: [PathBuf; 2],
    seen: Vec<Option<Stamp>>,
    hangup: Signal,
}

/// Changes whenever the content does: whoever writes a file touches its time, its size or its inode.
type Stamp = (u64, u64, i64, i64);

impl Reload {
    /// Everything from here on is a change.
    pub(super) fn new(
        context: &Context,
        global: &Global,
        flags: &ExternalArgs,
        hotkey: String,
    ) -> anyhow::Result<Self> {
        let _runtime = context.runtime.enter();
        let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let files = [global.manifest.clone(), context.store.path(Step::Commit.name())];
        let seen = stamps(&files);
        Ok(Self { global: global.clone(), flags: flags.clone(), hotkey, ui: context.ui, files, seen, hangup })
    }

    /// Completes when it is time to read the settings again.
    pub(super) async fn due(&mut self) {
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
    pub(super) async fn read(&self) -> Result<Settings, String> {
        let (global, flags, hotkey, ui) = (self.global.clone(), self.flags.clone(), self.hotkey.clone(), self.ui);
        // Opening a submission reads files, and makes and ends a runtime of its own.
        let read = tokio::task::spawn_blocking(move || {
            let context = Context::open(&global, ui)?;
            Settings::read(&context, &flags, &hotkey).map(|(settings, _)| settings)
        });
        match read.await {
            Ok(settings) => settings.map_err(|error| words(&error)),
            Err(error) => Err(error.to_string()),
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

fn words(error: &anyhow::Error) -> String {
    let line = |finding: &Diagnostic| {
        let place = finding.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        let told = [("found", &finding.found), ("expected", &finding.expected)];
        let told = told.iter().filter_map(|(what, value)| value.as_ref().map(|value| format!(", {what} {value}")));
        format!("{place}{}{}", finding.message, told.collect::<String>())
    };
    match error.downcast_ref::<Findings>() {
        Some(findings) => findings.0.iter().map(line).collect::<Vec<_>>().join("; "),
        None => format!("{error:#}"),
    }
}
