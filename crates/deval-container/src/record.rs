//! What was seen of the answers, and the gates that it decides.

use std::collections::BTreeMap;

use deval_eval::{Task, api::Status, contest, stats};
use deval_report::{
    Diagnostic,
    gates::{Distance, GateStatus, GateVerdict, Unit},
};

use crate::{
    journal::Entry,
    ready::{Limits, Started},
};

/// Bytes of a GiB.
const GIB: f64 = 1_073_741_824.0;

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) task: Task,
    pub(crate) entry: Entry,
    /// Milliseconds that the API itself took.
    pub(crate) server_ms: Option<f64>,
}

/// A look at the writable layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    pub(crate) task: Task,
    /// Which question of its task, from 0.
    pub(crate) question: usize,
    pub(crate) bytes: u64,
}

/// A container that ended while it was asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ended {
    /// Answers before that.
    pub(crate) after: usize,
    pub(crate) how: String,
    pub(crate) is_memory: bool,
    /// Last lines that it printed.
    pub(crate) reason: String,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) all: Vec<Record>,
    pub(crate) resumed: usize,
    /// Bytes of the writable layer once the container was ready.
    ready_layer: u64,
    pub(crate) layers: Vec<Measured>,
    /// Why answers failed while the container lived.
    pub(crate) troubles: Vec<String>,
}

/// Whether an answer breaks a rule, and how.
type Rule = fn(&Record) -> Option<String>;

impl Records {
    pub(crate) fn new(ready_layer: u64) -> Self {
        Self { ready_layer, ..Self::default() }
    }

    pub(crate) fn add(&mut self, record: Record) {
        self.all.push(record);
    }

    /// G26 to G50 as far as the run decides them, without times. `package` is what a validator's writable layer holds beside ours.
    pub(crate) fn gates(&self, package: u64, limits: &Limits) -> Vec<GateVerdict> {
        let ready = format!("/health answered within {} s", limits.ready.as_secs());
        let hash = format!("the container's hash came within {} s", limits.hash.as_secs());
        let mut gates = vec![
            GateVerdict::new("G25", GateStatus::Pass, ready),
            GateVerdict::new("G26", GateStatus::Pass, hash),
            GateVerdict::new("G27", GateStatus::Pass, "the container computes our model hash"),
            GateVerdict::new("G30", GateStatus::Pass, "the container reads our coldkey"),
            self.size(package),
            GateVerdict::new("G35", GateStatus::Pass, "the container imported and loaded DeValPipeline"),
        ];
        let rules: [(&str, Rule, &str); 5] = [
            ("G40", late, "late"),
            ("G41", broken, "with an error page or none at all"),
            ("G42", no_mapping, "that are no dict"),
            ("G43", bad_score, "without a score from 0 to 1"),
            ("G44", bad_mistakes, "with mistakes that are no list of text"),
        ];
        gates.extend(rules.iter().map(|(code, rule, what)| self.verdict(code, *rule, what)));
        gates.push(self.growth(package));
        gates
    }

    fn verdict(&self, code: &str, rule: Rule, what: &str) -> GateVerdict {
        let numbered = (1..).zip(&self.all);
        let told =
            |(number, record): (usize, &Record)| Some(format!("answer {number} ({}), {}", record.task, rule(record)?));
        let offending: Vec<_> = numbered.filter_map(told).collect();
        let status = if offending.is_empty() { GateStatus::Pass } else { GateStatus::Fail };
        let first = offending.first().map(|first| format!("; the first is {first}")).unwrap_or_default();
        GateVerdict::new(code, status, format!("{} of {} answers {what}{first}", offending.len(), self.all.len()))
    }

    fn size(&self, package: u64) -> GateVerdict {
        let gib = (self.ready_layer + package) as f64 / GIB;
        let status = if gib > contest::MAX_CONTAINER_GIB { GateStatus::Fail } else { GateStatus::Pass };
        GateVerdict::new("G32", status, format!("{gib:.2} GiB in the writable layer once ready, the package included"))
            .distance(hundredths(contest::MAX_CONTAINER_GIB - gib), Unit::Gibibytes)
    }

    /// As `run_step` looks at it: against the size before the first question of each task.
    fn growth(&self, package: u64) -> GateVerdict {
        let gib = |bytes: u64| (bytes + package) as f64 / GIB;
        let before = |task: Task| {
            let earlier = self.layers.iter().take_while(|look| look.task != task);
            earlier.last().map_or(self.ready_layer, |look| look.bytes)
        };
        let looks = self.layers.iter().map(|look| (look, (gib(look.bytes) - gib(before(look.task))).abs()));
        let worst = looks.clone().map(|(_, change)| change).fold(0.0, f64::max);
        let dropped = looks.filter(|(look, change)| {
            gib(look.bytes) > contest::MAX_CONTAINER_GIB || *change > contest::MAX_CONTAINER_GROWTH_GIB
        });
        let (status, detail) = match dropped.map(|(look, _)| look).next() {
            Some(look) => (
                GateStatus::Fail,
                format!(
                    "it changed by {worst:.2} GiB; {} would be dropped from question {} on",
                    look.task, look.question
                ),
            ),
            None => (GateStatus::Pass, format!("it changed by {worst:.2} GiB over {} looks", self.layers.len())),
        };
        GateVerdict::new("G50", status, detail)
            .distance(hundredths(contest::MAX_CONTAINER_GROWTH_GIB - worst), Unit::Gibibytes)
    }

    /// Margins that times decide.
    pub(crate) fn margins(&self, started: &Started, limits: &Limits) -> BTreeMap<String, Distance> {
        let slowest = self.all.iter().map(|record| record.entry.seconds).fold(0.0, f64::max);
        let left =
            |limit: std::time::Duration, used: f64| Distance { value: limit.as_secs_f64() - used, unit: Unit::Seconds };
        [
            ("G25", left(limits.ready, started.ready)),
            ("G26", left(limits.hash, started.hash)),
            ("G40", left(limits.answer, slowest)),
        ]
        .map(|(code, margin)| (code.to_owned(), margin))
        .into()
    }

    /// What else is worth saying.
    pub(crate) fn findings(&self, ended: Option<&Ended>) -> Vec<Diagnostic> {
        let ended = ended.map(|ended| {
            let code = if ended.is_memory { "container.memory" } else { "container.ended" };
            Diagnostic::error(
                code,
                format!("the container ended over question {}, after {} answers", ended.after + 1, ended.after),
            )
            .found(format!("{}\n{}", ended.how, ended.reason))
            .expected("a container that lives; no validator starts it again, so every further answer counts as -1")
            .help("mend what ends it; nothing may call exit, and memory must not grow from question to question")
        });
        let odd: Vec<_> = self.all.iter().filter_map(|record| record.entry.observed.as_ref()?.odd()).collect();
        let odd = odd.first().map(|first| {
            Diagnostic::note(
                "container.types",
                format!("{} answers have types that only happen to be taken", odd.len()),
            )
            .found(first)
            .expected("a float and a list of str")
            .help("convert them with float(…) and list(…); the order of a set changes from run to run")
        });
        ended.into_iter().chain(odd).collect()
    }

    /// Gates that fail for nothing but the end of the container, of which a finding of its own tells.
    pub(crate) fn told(&self, ended: Option<&Ended>) -> &'static [&'static str] {
        let is_first = |ended: &Ended| !self.all[..ended.after].iter().any(|record| broken(record).is_some());
        if ended.is_some_and(is_first) { &["G41"] } else { &[] }
    }

    /// Milliseconds that an answer took beside the API's own time: median and 99th percentile.
    pub(crate) fn overhead(&self) -> Option<[f64; 2]> {
        let mut beside: Vec<f64> =
            self.all.iter().filter_map(|record| Some(record.entry.seconds * 1000.0 - record.server_ms?)).collect();
        beside.sort_by(f64::total_cmp);
        (!beside.is_empty()).then(|| [0.5, 0.99].map(|part| stats::quantile(&beside, part)))
    }
}

/// A few bytes of the writable layer differ from run to run; they are no part of a result that is to be the same again.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn late(record: &Record) -> Option<String> {
    let is_late = record.entry.response.client_status_message == Status::Timeout;
    is_late.then(|| format!("given up after {:.0} s", record.entry.seconds))
}

fn broken(record: &Record) -> Option<String> {
    let Entry { response, observed, .. } = &record.entry;
    if let Some(exception) = observed.as_ref().and_then(|observed| observed.raised.as_ref()) {
        let message = observed.as_ref().and_then(|observed| observed.message.clone()).unwrap_or_default();
        return Some(format!("{exception}: {message}"));
    }
    // Where the API tells what it saw, a 500 without an exception belongs to the score or to the mistakes.
    let is_error = response.client_status_message == Status::Error && observed.is_none();
    is_error.then(|| match response.http_status {
        0 => "no HTTP answer".to_owned(),
        status => format!("HTTP {status}"),
    })
}

fn no_mapping(record: &Record) -> Option<String> {
    match &record.entry.observed {
        Some(observed) if observed.raised.is_some() || observed.keys.is_some() => None,
        Some(observed) => observed.kind.clone(),
        None => (record.entry.response.server_status_message == Some(Status::Error)).then(|| "unreadable".to_owned()),
    }
}

fn bad_score(record: &Record) -> Option<String> {
    let Entry { response, observed, .. } = &record.entry;
    let told = observed.as_ref().and_then(|observed| observed.bad_score());
    let is_read = response.server_status_message == Some(Status::Success);
    told.or_else(|| (is_read && !(0.0..=1.0).contains(&response.score)).then(|| response.score.to_string()))
}

fn bad_mistakes(record: &Record) -> Option<String> {
    record.entry.observed.as_ref().and_then(|observed| observed.bad_mistakes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use deval_eval::api::ApiResponse;

    use super::*;

    const GIB_BYTES: u64 = 1 << 30;

    fn records(layers: &[(Task, usize, u64)]) -> Records {
        let layers = layers.iter().map(|&(task, question, gib)| Measured { task, question, bytes: gib * GIB_BYTES });
        Records { layers: layers.collect(), ..Records::new(GIB_BYTES) }
    }

    fn status(records: &Records, package: u64, code: &str) -> (GateStatus, String) {
        let gates = records.gates(package * GIB_BYTES, &Limits::default());
        let gate = gates.into_iter().find(|gate| gate.code == code).unwrap();
        (gate.status, gate.detail)
    }

    #[test]
    fn growth_is_measured_within_each_task_as_run_step_does() {
        let (first, second) = (Task::Relevancy, Task::Hallucination);
        let slow = records(&[(first, 0, 1), (first, 10, 3), (second, 0, 3), (second, 10, 5)]);
        assert_eq!(status(&slow, 15, "G50").0, GateStatus::Pass, "2 GiB in each task is not more than 2 GiB");
        let quick = records(&[(first, 0, 1), (first, 10, 3), (second, 0, 3), (second, 10, 6)]);
        let (failed, detail) = status(&quick, 15, "G50");
        assert!(
            failed == GateStatus::Fail && detail.contains("hallucination would be dropped from question 10"),
            "{detail}"
        );
        assert_eq!(status(&records(&[(first, 0, 3)]), 18, "G50").0, GateStatus::Fail, "over 20 GiB in all");
    }

    #[test]
    fn the_package_counts_in_the_layer() {
        assert_eq!(status(&records(&[]), 19, "G32").0, GateStatus::Pass);
        assert_eq!(status(&records(&[]), 20, "G32").0, GateStatus::Fail);
    }

    #[test]
    fn times_are_margins_and_never_verdicts() {
        let mut records = records(&[]);
        let entry = |seconds| Entry {
            request: String::new(),
            sample: 0,
            response: ApiResponse::failed(500),
            observed: None,
            seconds,
        };
        records.add(Record { task: Task::Relevancy, entry: entry(1.5), server_ms: Some(1490.0) });
        records.add(Record { task: Task::Relevancy, entry: entry(3.0), server_ms: None });
        let limits = Limits { answer: Duration::from_secs(20), ..Limits::default() };
        let margins = records.margins(&Started { ready: 30.0, hash: 1.0 }, &limits);
        assert_eq!(["G25", "G26", "G40"].map(|code| margins[code].value), [470.0, 59.0, 17.0]);
        assert_eq!(records.overhead(), Some([10.0; 2]));
        let (failed, detail) = status(&records, 0, "G41");
        assert!(failed == GateStatus::Fail && detail.contains("2 of 2") && detail.contains("HTTP 500"), "{detail}");
    }
}
