//! What the axon counts, in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Statuses that are counted apart; every other counts as 500.
const STATUSES: [u16; 11] = [200, 307, 401, 403, 404, 405, 408, 413, 422, 500, 503];
/// Upper bounds of the histogram, in seconds. A validator waits five.
const BOUNDS: [f64; 8] = [0.0005, 0.001, 0.002, 0.005, 0.02, 0.1, 1.0, 5.0];

/// Counters of one axon, since it was made.
#[derive(Debug, Default)]
pub struct Metrics {
    answers: [AtomicU64; STATUSES.len()],
    durations: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
    last_success: AtomicU64,
    open: AtomicUsize,
    connections: AtomicU64,
    turned_away: AtomicU64,
    broken: AtomicU64,
    panics: AtomicU64,
}

impl Metrics {
    pub(crate) fn answered(&self, status: u16, seconds: f64) {
        let known = STATUSES.iter().position(|known| *known == status);
        let other = STATUSES.len() - 2;
        self.answers[known.unwrap_or(other)].fetch_add(1, Relaxed);
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.durations[bucket].fetch_add(1, Relaxed);
        let nanoseconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_nanos();
        self.nanoseconds.fetch_add(u64::try_from(nanoseconds).unwrap_or(0), Relaxed);
        if status == 200 {
            self.last_success.store(crate::system_clock() / 1_000_000_000, Relaxed);
        }
    }

    pub(crate) fn connected(&self, open: usize) {
        self.connections.fetch_add(1, Relaxed);
        self.open.store(open, Relaxed);
    }

    pub(crate) fn disconnected(&self, open: usize, panicked: bool) {
        self.open.store(open, Relaxed);
        self.panics.fetch_add(u64::from(panicked), Relaxed);
    }

    pub(crate) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
    }

    pub(crate) fn broken(&self) {
        self.broken.fetch_add(1, Relaxed);
    }

    /// Requests that were answered with this status.
    pub fn with_status(&self, status: u16) -> u64 {
        STATUSES.iter().position(|known| *known == status).map_or(0, |i| self.answers[i].load(Relaxed))
    }

    /// Requests that were answered.
    pub fn requests(&self) -> u64 {
        self.answers.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let name = "deval_axon_requests_total";
        head(&mut text, name, "counter", "Requests by the status they were answered with.");
        for (status, count) in STATUSES.iter().zip(&self.answers) {
            line(&mut text, name, &format!("{{status=\"{status}\"}}"), count.load(Relaxed));
        }
        self.render_durations(&mut text);
        let since = self.last_success.load(Relaxed);
        single(
            &mut text,
            "last_success_timestamp_seconds",
            "gauge",
            "When a validator was last told the model.",
            since,
        );
        let open = self.open.load(Relaxed);
        single(&mut text, "open_connections", "gauge", "Connections now.", open);
        let counters = [
            ("connections_total", "Connections taken.", &self.connections),
            ("connections_turned_away_total", "Connections beyond the limit of one address.", &self.turned_away),
            ("connections_broken_total", "Connections that ended in something else than HTTP.", &self.broken),
            ("panics_total", "Requests that ended in a bug.", &self.panics),
        ];
        for (name, help, count) in counters {
            single(&mut text, name, "counter", help, count.load(Relaxed));
        }
        text
    }

    fn render_durations(&self, text: &mut String) {
        let name = "deval_axon_request_duration_seconds";
        head(text, name, "histogram", "Time to answer a request.");
        let mut count = 0;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(&self.durations) {
            count += bucket.load(Relaxed);
            line(text, &format!("{name}_bucket"), &format!("{{le=\"{bound}\"}}"), count);
        }
        let sum = Duration::from_nanos(self.nanoseconds.load(Relaxed)).as_secs_f64();
        line(text, &format!("{name}_sum"), "", sum);
        line(text, &format!("{name}_count"), "", count);
    }
}

/// A metric with one value; its name is `deval_axon_{name}`.
pub(crate) fn single(text: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    let name = format!("deval_axon_{name}");
    head(text, &name, kind, help);
    line(text, &name, "", value);
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{name}{labels} {value}");
}
