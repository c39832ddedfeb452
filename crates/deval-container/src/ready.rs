//! From a started container to one that may be asked: readiness, hash, coldkey.

use std::time::{Duration, Instant};

use deval_eval::{
    harness::QUESTION_BUDGET_SECONDS,
    speed::{HASH_BUDGET_SECONDS, READY_BUDGET_SECONDS},
};
use deval_report::Diagnostic;
use serde_json::Value;

use crate::{
    client::{Api, Call},
    error::ContainerError,
    logs::Phase,
    run::{Running, State},
};

/// How long a validator waits. Tests shorten it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// For `/health`: 50 polls, 10 s apart.
    pub ready: Duration,
    /// For the hash and the coldkey, each.
    pub hash: Duration,
    /// For an answer.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let budgets = [READY_BUDGET_SECONDS, HASH_BUDGET_SECONDS, QUESTION_BUDGET_SECONDS];
        let [ready, hash, answer] = budgets.map(Duration::from_secs_f64);
        Self { ready, hash, answer }
    }
}

/// Time between two looks; a validator looks every 10 s.
const LOOK: Duration = Duration::from_millis(150);
/// Longest wait for one `/health`, of which a hanging server takes all.
const HEALTH: Duration = Duration::from_secs(5);
/// Lines of a failed start that are shown.
const REASON_LINES: usize = 25;
/// Phases in order.
const PHASES: [&str; 4] = ["fetch", "import", "load", "ready"];

/// What is heard while a container starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A phase is over.
    Phase(Phase),
    /// It answers; seconds since the start.
    Ready(f64),
}

/// What must agree with what the container says of the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Model hash in lower-case hexadecimal.
    pub model_hash: String,
    /// The coldkey's address.
    pub coldkey: String,
}

/// Seconds that starting took.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Started {
    pub(crate) ready: f64,
    pub(crate) hash: f64,
}

/// Waits until the container answers. Findings when it does not.
pub(crate) async fn wait(
    running: &mut Running,
    api: &Api,
    limits: &Limits,
    progress: &mut dyn FnMut(Event),
) -> Result<Result<f64, Diagnostic>, ContainerError> {
    let started = Instant::now();
    let mut heard = 0;
    loop {
        let phases: Vec<_> = running.logs().phases().iter().skip(heard).cloned().collect();
        heard += phases.len();
        phases.into_iter().for_each(|phase| progress(Event::Phase(phase)));
        let left = limits.ready.saturating_sub(started.elapsed());
        let call = api.get("/health", HEALTH.min(left)).await;
        if matches!(&call, Call::Answered(answer) if answer.status == 200) {
            let seconds = started.elapsed().as_secs_f64();
            progress(Event::Ready(seconds));
            return Ok(Ok(seconds));
        }
        let state = running.state().await?;
        if !state.is_running {
            running.last_lines().await;
            return Ok(Err(ended(&state, running)));
        }
        if left.is_zero() {
            return Ok(Err(too_slow(limits, running)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a container that ended says of itself.
pub(crate) fn describe(state: &State) -> String {
    match state.exit_code {
        137 if state.is_out_of_memory => "exit code 137: killed for its memory".to_owned(),
        137 => "exit code 137: killed".to_owned(),
        code => format!("exit code {code}"),
    }
}

fn ended(state: &State, running: &Running) -> Diagnostic {
    let logs = running.logs();
    let finding = match hanging_phase(logs.phases()) {
        _ if state.is_out_of_memory => {
            Diagnostic::error("container.memory", "the container was killed for its memory before it was ready")
                .help("load less, or give more with `memory` in the [container] table; a validator's machine has its own limit")
        }
        "fetch" if logs.text().contains("fetch") => {
            Diagnostic::error("G23", "the container ended while it fetched the package")
                .help("see that the repository is public and that the Hub can be reached from the container")
        }
        _ => Diagnostic::error("G35", "the container ended before it was ready").help(
            "mend what the pipeline raises; a validator goes on polling for all of its 500 s and then counts the model as invalid",
        ),
    };
    finding.found(format!("{}\n{}", describe(state), logs.reason(REASON_LINES)))
}

fn too_slow(limits: &Limits, running: &Running) -> Diagnostic {
    let logs = running.logs();
    Diagnostic::error("G25", format!("the container was not ready within {} s", limits.ready.as_secs()))
        .found(format!("it hangs in `{}`\n{}", hanging_phase(logs.phases()), logs.reason(REASON_LINES)))
        .expected("an answer of /health")
        .help("load less or faster; whatever comes up later is not asked any more")
}

/// The phase that was not over yet.
fn hanging_phase(phases: &[Phase]) -> &'static str {
    let done = |name: &&&str| phases.iter().any(|phase| phase.name == ***name);
    // Without a download, `fetch` is never told of.
    let last = PHASES.iter().rposition(|name| done(&name)).map_or(1, |last| last + 1);
    PHASES.get(last).copied().unwrap_or("ready")
}

/// Asks for hash and coldkey and compares them. Seconds until the hash was there, and findings.
pub(crate) async fn identify(api: &Api, expected: &Expected, limits: &Limits) -> (f64, Vec<Diagnostic>) {
    let started = Instant::now();
    let hash = text_of(api.get("/get_model_hash", limits.hash).await, "hash");
    let seconds = started.elapsed().as_secs_f64();
    let coldkey = text_of(api.get("/get_model_coldkey", limits.hash).await, "coldkey");
    let mut findings = Vec::new();
    match hash {
        Ok(hash) if hash.as_deref() == Some(&expected.model_hash) => {}
        Ok(hash) => findings.push(
            Diagnostic::error("G27", "the container computes another model hash")
                .found(hash.unwrap_or_else(|| "none".to_owned()))
                .expected(&expected.model_hash)
                .help("run `cargo xtask hash --rerun` and look for *.safetensors that do not belong to the model"),
        ),
        Err(why) => findings.push(
            Diagnostic::error("G26", "the container told no model hash")
                .found(why)
                .expected(format!("an answer within {} s", limits.hash.as_secs()))
                .help("make the weights smaller, or their folder faster to read"),
        ),
    }
    match coldkey {
        Ok(coldkey) if coldkey.as_deref() == Some(&expected.coldkey) => {}
        coldkey => findings.push(
            Diagnostic::error("G30", "the container reads another coldkey")
                .found(match coldkey {
                    Ok(coldkey) => coldkey.map_or_else(|| "none".to_owned(), |coldkey| format!("{coldkey:?}")),
                    Err(why) => why,
                })
                .expected(&expected.coldkey)
                .help("let `cargo xtask package` write coldkey.txt"),
        ),
    }
    (seconds, findings)
}

fn text_of(call: Call, field: &str) -> Result<Option<String>, String> {
    match call {
        Call::Answered(answer) if answer.status == 200 => {
            let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            Ok(value.get(field).and_then(Value::as_str).map(str::to_owned))
        }
        Call::Answered(answer) => Err(format!("HTTP {}", answer.status)),
        Call::Late => Err("no answer in time".to_owned()),
        Call::Failed(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_after_the_last_one_hangs() {
        let phases = |names: &[&str]| -> Vec<Phase> {
            names.iter().map(|name| Phase { name: (*name).to_owned(), seconds: None }).collect()
        };
        assert_eq!(hanging_phase(&[]), "import");
        assert_eq!(hanging_phase(&phases(&["fetch"])), "import");
        assert_eq!(hanging_phase(&phases(&["import"])), "load");
        assert_eq!(hanging_phase(&phases(&["import", "load"])), "ready");
    }
}
