//! How the bytes on their way are shown: a bar, lines for people, JSON lines, or nothing.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use deval_hub::UploadEvent;
use indicatif::{DecimalBytes, HumanDuration, ProgressBar};
use serde_json::json;

use crate::{
    cli::Progress,
    ui::{Ui, Unit},
};

/// Pause between two lines for people.
const PLAIN_PAUSE: Duration = Duration::from_secs(10);
/// Pause between two JSON lines.
const JSON_PAUSE: Duration = Duration::from_secs(1);

/// Shows one transfer.
pub(crate) struct Meter {
    ui: Ui,
    what: &'static str,
    bar: ProgressBar,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    told: Option<Instant>,
    last: Option<Bytes>,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bytes {
    done: u64,
    total: u64,
    sent: u64,
    /// Share of what is done that need not be sent.
    known: f64,
    /// Bytes per second.
    rate: f64,
}

impl Meter {
    pub(crate) fn new(ui: Ui, what: &'static str, total: u64) -> Self {
        let bar = ui.bar(what, total, Unit::Bytes);
        Self { ui, what, bar, started: Instant::now(), state: Mutex::default() }
    }

    /// Takes an event of an upload.
    pub(crate) fn hear(&self, event: UploadEvent) {
        match event {
            UploadEvent::Transfer { done, total, sent, known, rate } => {
                let average = done as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
                self.advance(Bytes { done, total, sent, known, rate: rate.unwrap_or(average) });
            }
            UploadEvent::Waiting { reason, pause } => {
                self.remark("waiting", &format!("{reason}; next try in {:.1} s", pause.as_secs_f64()))
            }
            UploadEvent::Creating => self.remark("creating", "the repository is new, and private"),
            UploadEvent::SendingAgain => {
                self.remark(
                    "sending-again",
                    "the Hub lacks contents that its store claimed to have; all are sent again",
                );
            }
            UploadEvent::Committing => self.remark("committing", "one Hub commit"),
            _ => {}
        }
    }

    fn advance(&self, now: Bytes) {
        self.bar.set_length(now.total);
        self.bar.set_position(now.done);
        self.bar.set_message(format!("{} ({:.0} % known)", self.what, now.known * 100.0));
        let pause = match self.ui.progress() {
            Progress::Plain => PLAIN_PAUSE,
            Progress::Json => JSON_PAUSE,
            Progress::Auto | Progress::None => return,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.told.is_none_or(|told| told.elapsed() >= pause) {
            state.told = Some(Instant::now());
            state.last = None;
            self.tell(now);
        } else {
            state.last = Some(now);
        }
    }

    fn tell(&self, now: Bytes) {
        match self.ui.progress() {
            Progress::Json => self.ui.event(&now.json(self.what)),
            _ => self.ui.say(now.line(self.what)),
        }
    }

    fn remark(&self, event: &str, text: &str) {
        self.tell_last();
        match self.ui.progress() {
            Progress::Json => self.ui.event(&json!({"event": event, "what": self.what, "text": text})),
            Progress::Plain => self.ui.say(format!("{}: {text}", self.what)),
            Progress::Auto => self.bar.set_message(format!("{}: {text}", self.what)),
            Progress::None => {}
        }
    }

    /// The last state is told even if it came right after the one before.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
        self.tell_last();
    }

    fn tell_last(&self) {
        let last = self.state.lock().unwrap_or_else(PoisonError::into_inner).last.take();
        if let Some(last) = last {
            self.tell(last);
        }
    }
}

impl Bytes {
    /// Time to go at this rate.
    fn left(self) -> Option<Duration> {
        let seconds = self.total.saturating_sub(self.done) as f64 / self.rate;
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn line(self, what: &str) -> String {
        let Self { done, total, sent, known, rate } = self;
        let left = self.left().map_or_else(|| "unknown time".to_owned(), |left| HumanDuration(left).to_string());
        format!(
            "{what}: {} of {}, {}/s, {} sent, {:.0} % known to the Hub, {left} left",
            bytes(done),
            bytes(total),
            bytes(rate as u64),
            bytes(sent),
            known * 100.0
        )
    }

    fn json(self, what: &str) -> serde_json::Value {
        let Self { done, total, sent, known, rate } = self;
        json!({
            "event": "transfer", "what": what, "bytes_done": done, "bytes_total": total, "bytes_sent": sent,
            "deduplicated": known, "bytes_per_second": rate, "seconds_left": self.left().map(|left| left.as_secs_f64()),
        })
    }
}

/// An amount for people, in decimal units as the Hub counts.
pub(crate) fn bytes(amount: u64) -> String {
    DecimalBytes(amount).to_string()
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn a_line_tells_bytes_rate_share_and_time() {
        let now = Bytes { done: 4_000_000_000, total: 16_000_000_000, sent: 3_000_000_000, known: 0.25, rate: 100e6 };
        let expected =
            "publishing: 4.00 GB of 16.00 GB, 100.00 MB/s, 3.00 GB sent, 25 % known to the Hub, 2 minutes left";
        assert_eq!(now.line("publishing"), expected);
        let json = now.json("publishing");
        assert_eq!((&json["event"], json["seconds_left"].as_f64()), (&"transfer".into(), Some(120.0)));
        assert_eq!((json["deduplicated"].as_f64(), json["bytes_sent"].as_u64()), (Some(0.25), Some(3_000_000_000)));
        let still = Bytes { rate: 0.0, ..now };
        assert!(still.line("publishing").ends_with("unknown time left") && still.json("x")["seconds_left"].is_null());
    }
}
