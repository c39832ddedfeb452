//! The exact lane: the miner's pipeline in the validator's container, asked as a validator asks.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use deval_eval::{Backend, BackendError, BackendInfo, Lane as Trust, Reply, Request, Task, api, harness::Finish};
use deval_report::Diagnostic;
use sha2::{Digest as _, Sha256};

use crate::{
    client::{Api, Call, question},
    engine::{Engine, block_on, runtime},
    error::ContainerError,
    image::Image,
    journal::{self, Entry, Journal},
    observed::Observed,
    ready::{self, Event, Expected, Limits, Started},
    record::{Ended, Measured, Record, Records},
    run::{Closure, RunOptions, Running, Source, State},
};

/// Questions of one task between two looks at the writable layer (upstream `run_step` in `deval/contest.py`).
const LOOK_EVERY: usize = 10;
/// A connection breaks a moment before the engine knows that the container ended.
pub(crate) const ENDING_LOOKS: usize = 6;
/// Time between two such looks.
const ENDING_LOOK: Duration = Duration::from_millis(50);
/// How many answer limits a late answer is waited for, where it is.
const PATIENCE: u32 = 15;

/// How the lane is run.
#[derive(Debug, Clone)]
pub struct LaneOptions {
    /// The container.
    pub run: RunOptions,
    /// What the container must say of the package.
    pub expected: Expected,
    /// Bytes of the package: where it is mounted they are not in the writable layer, but a validator's container has them there.
    pub package_bytes: u64,
    /// What the answers depend on, by name; goes into the report.
    pub evidence: BTreeMap<String, String>,
    /// Folder of the journals, and what beside the evidence an answer depends on; without it nothing is resumed.
    pub journal: Option<(PathBuf, String)>,
    /// Whether questions go on while a late answer still occupies the server, as a validator's do. Else each late answer is waited for, so
    /// that the next example is judged on its own.
    pub is_serial_exact: bool,
    /// How long is waited.
    pub limits: Limits,
    /// Called after the containers were removed when the user interrupts; usually ends the process.
    pub on_interrupt: Option<fn()>,
}

/// Why there is no lane.
#[derive(Debug)]
pub enum Refused {
    /// A validator would not ask this submission anything.
    Findings(Vec<Diagnostic>),
    /// It could not be tried.
    Failed(ContainerError),
}

impl From<ContainerError> for Refused {
    fn from(error: ContainerError) -> Self {
        Self::Failed(error)
    }
}

/// A container that is ready to be asked.
pub struct Lane {
    pub(crate) running: Running,
    pub(crate) api: Api,
    options: LaneOptions,
    engine: Engine,
    image: Image,
    started: Started,
    journal: Option<Journal>,
    records: Records,
    /// How often each task was asked in this run, resumed answers included.
    asked: BTreeMap<Task, usize>,
    ended: Option<Ended>,
    watch: Watch,
}

/// Waits for the user to interrupt.
struct Watch {
    task: tokio::task::JoinHandle<()>,
    is_interrupted: Arc<AtomicBool>,
}

impl Watch {
    /// Once the user interrupted, the container is taken away and this process is about to end: what comes back then is no answer.
    async fn hold_if_interrupted(&self) {
        if self.is_interrupted.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lane {
    /// Starts a container and waits until it may be asked.
    ///
    /// # Errors
    /// [`Refused::Findings`] when it never becomes ready or is not the expected package.
    pub fn open(
        engine: &Engine,
        image: &Image,
        options: LaneOptions,
        progress: &mut dyn FnMut(Event),
    ) -> Result<Self, Refused> {
        let mut running = Running::start(engine, image, &options.run)?;
        let watch = watch(engine, &running, options.on_interrupt);
        let api = Api::new(running.address)?;
        let ready = block_on(ready::wait(&mut running, &api, &options.limits, progress))?;
        let ready = ready.map_err(|finding| Refused::Findings(vec![finding]))?;
        let (hash, findings) = block_on(ready::identify(&api, &options.expected, &options.limits));
        if !findings.is_empty() {
            return Err(Refused::Findings(findings));
        }
        let layer = block_on(running.layer_bytes())?;
        let started = Started { ready, hash };
        let journal = options.journal.as_ref().map(|(dir, more)| {
            let fingerprint = fingerprint(&options, image, more, running.has_gpu);
            Journal::open(dir, &fingerprint)
        });
        Ok(Self {
            journal: journal.transpose()?,
            records: Records::new(layer),
            engine: engine.clone(),
            image: image.clone(),
            asked: BTreeMap::new(),
            ended: None,
            watch,
            running,
            api,
            options,
            started,
        })
    }

    /// Where the miner API answers.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Bytes that the container has printed so far, as far as the engine handed them over.
    pub fn log_bytes(&self) -> u64 {
        self.running.logs().bytes()
    }

    /// Answers that were recorded by an interrupted run and not asked for again.
    pub fn resumed(&self) -> usize {
        self.records.resumed
    }

    /// Kills the container from outside, as the engine or an administrator may.
    ///
    /// # Errors
    /// The engine.
    pub fn kill(&self) -> Result<(), ContainerError> {
        block_on(self.running.kill())
    }

    async fn ask(&mut self, request: &Request, sample: u32) -> Result<Reply, ContainerError> {
        let key = journal::digest(request);
        let earlier = self.journal.as_mut().and_then(|journal| journal.take(&key, sample));
        let record = match earlier {
            Some(entry) => {
                self.records.resumed += 1;
                Record { task: request.task, entry, server_ms: None }
            }
            None if self.ended.is_some() => self.unasked(request, key, sample),
            None => self.question(request, key, sample).await?,
        };
        self.measure(request.task).await?;
        let Entry { response, seconds, observed, .. } = &record.entry;
        let raw = observed.as_ref().and_then(|observed| observed.raised.as_ref().zip(observed.message.as_ref()));
        let raw = raw.map(|(exception, message)| format!("{exception}: {message}"));
        let reply = Reply {
            answer: response.answer(),
            seconds: *seconds,
            raw,
            response: Some(response.clone()),
            lengths: Vec::new(),
        };
        self.records.add(record);
        Ok(reply)
    }

    /// The server is gone: the validator's connection is refused at once.
    fn unasked(&self, request: &Request, key: String, sample: u32) -> Record {
        let response = api::ApiResponse::failed(0);
        let entry = Entry { request: key, sample, response, observed: None, seconds: 0.0 };
        Record { task: request.task, entry, server_ms: None }
    }

    async fn question(&mut self, request: &Request, key: String, sample: u32) -> Result<Record, ContainerError> {
        let (call, took) = self.api.ask(question(request), self.options.limits.answer).await;
        self.watch.hold_if_interrupted().await;
        let (mut observed, mut server_ms) = (None, None);
        let response = match call {
            Call::Answered(answer) => {
                observed = answer.observed.and_then(|value| serde_json::from_value::<Observed>(value).ok());
                server_ms = answer.server_ms;
                api::http_response(answer.status, &answer.body)
            }
            Call::Late => {
                self.after_late().await?;
                api::ApiResponse::late()
            }
            Call::Failed(why) => {
                self.look_after(&why, ENDING_LOOKS).await?;
                api::ApiResponse::failed(0)
            }
        };
        let entry = Entry { request: key, sample, response, observed, seconds: took.as_secs_f64() };
        // What a dead container did not answer is asked again by the next run.
        if let Some(journal) = self.journal.as_mut().filter(|_| self.ended.is_none()) {
            journal.add(&entry)?;
        }
        Ok(Record { task: request.task, entry, server_ms })
    }

    /// Longest wait for an answer.
    pub(crate) fn limit(&self) -> Duration {
        self.options.limits.answer
    }

    /// A late answer: the container may have died over it; and it may be waited for.
    async fn after_late(&mut self) -> Result<(), ContainerError> {
        // Its connection did not break, and the next question is not to wait.
        self.look_after("the answer is late", 1).await?;
        if self.options.is_serial_exact { Ok(()) } else { self.wait_until_free().await }
    }

    /// Waits until the server has done with a late answer.
    pub(crate) async fn wait_until_free(&mut self) -> Result<(), ContainerError> {
        let started = Instant::now();
        let patience = self.options.limits.answer * PATIENCE;
        while self.ended.is_none() && started.elapsed() < patience {
            let call = self.api.get("/health", self.options.limits.answer.max(Duration::from_secs(1))).await;
            if matches!(call, Call::Answered(_)) {
                break;
            }
            self.look_after("a late answer is waited for", ENDING_LOOKS).await?;
        }
        Ok(())
    }

    /// Notices that the container has ended.
    pub(crate) async fn look_after(&mut self, why: &str, looks: usize) -> Result<(), ContainerError> {
        for look in 0..looks {
            if look > 0 {
                tokio::time::sleep(ENDING_LOOK).await;
            }
            let state = self.running.state().await;
            self.watch.hold_if_interrupted().await;
            let state = state?;
            if !state.is_running {
                self.running.last_lines().await;
                self.ended = Some(self.end(&state));
                return Ok(());
            }
        }
        self.records.troubles.push(why.to_owned());
        Ok(())
    }

    fn end(&self, state: &State) -> Ended {
        let reason = self.running.logs().reason(25);
        Ended { after: self.records.all.len(), how: ready::describe(state), is_memory: state.is_out_of_memory, reason }
    }

    /// The writable layer, before the first question of a task and after its questions 0, 10, 20, …
    async fn measure(&mut self, task: Task) -> Result<(), ContainerError> {
        let asked = self.asked.entry(task).or_insert(0);
        let number = *asked;
        *asked += 1;
        if number.is_multiple_of(LOOK_EVERY) && self.ended.is_none() {
            let bytes = self.running.layer_bytes().await;
            self.watch.hold_if_interrupted().await;
            self.records.layers.push(Measured { task, question: number, bytes: bytes? });
        }
        Ok(())
    }

    fn caveats(&self) -> String {
        let mut caveats = Vec::new();
        if !self.running.has_gpu {
            caveats.push("the container computes on a CPU, a validator's on a GPU");
        }
        if self.running.closure == Closure::None {
            caveats.push("the container could reach the network, which a validator's firewall forbids");
        }
        if !self.options.is_serial_exact {
            caveats.push("late answers were waited for, which no validator does");
        }
        caveats.join("; ")
    }

    fn run_details(&self) -> serde_json::Value {
        let logs = self.running.logs();
        let info = &self.engine.info;
        serde_json::json!({
            "image": { "tag": self.image.tag, "id": self.image.id, "was_there": self.image.was_there },
            "engine": { "version": info.version, "api": info.api, "system": info.system, "driver": info.driver },
            "container": self.running.id,
            "network": self.running.closure.words(),
            "gpu": self.running.has_gpu,
            "ready_seconds": self.started.ready,
            "hash_seconds": self.started.hash,
            "phases": logs.phases(),
            "resumed": self.records.resumed,
            "overhead_ms": self.records.overhead(),
            "ended": self.ended.as_ref().map(|ended| ended.how.clone()),
            "told": self.records.told(self.ended.as_ref()),
            "troubles": self.records.troubles,
            "log_bytes": logs.bytes(),
            "log": logs.text(),
        })
    }
}

/// What an answer depends on.
fn fingerprint(options: &LaneOptions, image: &Image, more: &str, has_gpu: bool) -> String {
    let LaneOptions { run, evidence, is_serial_exact, limits, .. } = options;
    let RunOptions { memory, pids, scratch, is_open, environment, .. } = run;
    let is_fetched = matches!(run.source, Source::Fetched { .. });
    let settings = format!(
        "{}\n{is_fetched}\n{evidence:?}\n{more}\n{has_gpu}\n{is_serial_exact}\n{limits:?}\n{memory} {pids} {scratch} {is_open}\n{environment:?}",
        image.id
    );
    hex::encode(Sha256::digest(settings))
}

/// Removes the containers when the user interrupts.
fn watch(engine: &Engine, running: &Running, on_interrupt: Option<fn()>) -> Watch {
    let (docker, owner) = (engine.docker.clone(), running.owner());
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_interrupted);
    let task = runtime().spawn(async move {
        let Some(end) = on_interrupt else { return };
        interrupted().await;
        flag.store(true, Ordering::Relaxed);
        // Nobody is left to tell; the next run removes what this one could not.
        let _gone = owner.release(&docker).await;
        end();
    });
    Watch { task, is_interrupted }
}

#[cfg(unix)]
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Backend for Lane {
    fn describe(&self) -> BackendInfo {
        BackendInfo {
            name: "container".into(),
            model: self.options.run.model_url.clone(),
            reading: None,
            lane: Trust::Exact,
            why: self.caveats(),
            evidence: self.options.evidence.clone(),
        }
    }

    fn answer(&mut self, request: &Request, sample: u32) -> Result<Reply, BackendError> {
        Ok(block_on(self.ask(request, sample))?)
    }

    fn finish(&mut self) -> Result<Finish, BackendError> {
        let package = match self.options.run.source {
            Source::Mounted(_) => self.options.package_bytes,
            Source::Fetched { .. } => 0,
        };
        let gates = self.records.gates(package, &self.options.limits);
        let margins = self.records.margins(&self.started, &self.options.limits);
        let findings = self.records.findings(self.ended.as_ref());
        let run = self.run_details();
        if let Some(journal) = &self.journal {
            journal.remove()?;
        }
        Ok(Finish { gates, margins, findings, run })
    }
}
