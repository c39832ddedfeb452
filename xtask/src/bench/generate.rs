//! `bench generate`: the built-in engine beside what a miner would use instead, on the same prompts and cores in one run.
//!
//! Ours runs in this process, whose kernels are optimised in every profile; the peers run one after the other in a process of their own
//! (`ci/bench/generate.py`), so that nobody shares the cores. Questions are those of `evaluate` and go through the engine as there, in one
//! queue; but answers are greedy and likelihoods are kept, so that both sides can be compared token for token.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use deval_backend::{PromptFiles, Prompts};
use deval_eval::{Example, Task, claims};
use deval_llama::{Engine, EngineOptions, Generate, GenerateOptions, Generation, Outcome, Sampling, Score, Work};
use deval_report::{Section, render};
use serde::Deserialize;
use serde_json::{Value, json};

use super::real_or_generated;
use crate::{Verdict, cargo, demo::model::convert_smollm2, findings::Findings, python::Environment, ui::Ui};

/// Length of the prompts that rates are measured with, and of the answers.
const PROMPT: usize = 512;
const ANSWER: usize = 64;
/// Behind so few tokens it is the weights that a step reads, and hardly keys and values, which texts do not share.
const SHORT_PROMPT: usize = 64;

/// How much is measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct Extent {
    /// `bench generate`: examples of each task that are answered.
    #[arg(long, value_name = "N", default_value_t = 8)]
    answered: usize,
    /// `bench generate`: most new tokens of an answer.
    #[arg(long, value_name = "N", default_value_t = 250)]
    new_tokens: usize,
    /// `bench generate`: examples whose claims are read by likelihood.
    #[arg(long, value_name = "N", default_value_t = 120)]
    readings: usize,
    /// `bench generate`: a Python with torch, transformers and llama-cpp-python in place of the one that is prepared.
    #[arg(long, value_name = "FILE")]
    peers: Option<PathBuf>,
}

/// What is asked of both sides.
struct Questions {
    /// System and user turn.
    asks: Vec<(String, String)>,
    /// How much likelier some texts are after `given` than after `alone`.
    readings: Vec<Reading>,
}

struct Reading {
    given: String,
    alone: String,
    texts: Vec<String>,
}

/// One ratio and its bar.
struct Row {
    what: &'static str,
    ours: String,
    peer: String,
    ratio: f64,
    /// Smallest ratio, and whether it is only hoped for.
    bar: f64,
    hoped: bool,
}

impl Row {
    /// Rates in tokens a second.
    fn rates(what: &'static str, ours: f64, (name, peer): (&str, f64), bar: f64) -> Self {
        let rate = |rate: f64| format!("{rate:.1} tok/s");
        Self { what, ours: rate(ours), peer: format!("{} ({name})", rate(peer)), ratio: ours / peer, bar, hoped: false }
    }

    fn seconds(what: &'static str, ours: f64, (name, peer): (&str, f64), bar: f64) -> Self {
        let peer_text = format!("{peer:.1} s ({name})");
        Self { what, ours: format!("{ours:.2} s"), peer: peer_text, ratio: peer / ours, bar, hoped: false }
    }

    fn met(&self) -> bool {
        self.hoped || self.ratio >= self.bar
    }

    fn cells(self) -> Vec<String> {
        let verdict = match (self.ratio >= self.bar, self.hoped) {
            (true, _) => "met",
            (false, true) => "not reached",
            (false, false) => "missed",
        };
        let bar = format!("≥ {} ×{}", self.bar, if self.hoped { ", hoped for" } else { "" });
        vec![self.what.to_owned(), self.ours, self.peer, format!("{:.2} ×", self.ratio), bar, verdict.to_owned()]
    }
}

pub(super) fn run(extent: &Extent, ui: Ui) -> anyhow::Result<Verdict> {
    let dir = cargo::root().join("target/deval/bench");
    let (model, gguf) = (dir.join("smollm2"), dir.join("smollm2.gguf"));
    if !model.join("model.safetensors").exists() || !gguf.exists() {
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        convert_smollm2(&dir.join("wheels"), &gguf, &model, ui)?;
    }
    let python = python(extent, ui)?;
    let questions = questions(extent, ui)?;
    let ours = measure(&model, &questions, extent, ui)?;
    let peers = Peers::ask(&python, (&model, &gguf), &questions, extent)?;
    let rows = rows(&ours, &peers)?;
    let met = rows.iter().all(Row::met);
    let head = ["what", "ours", "peer", "ratio", "bar", ""];
    let table = Section::new("Generation").table(&head, rows.into_iter().map(Row::cells).collect());
    let scale = Section::new("Likelihood by number of examples").table(
        &["examples", "per example", "peak memory"],
        ours.scale.iter().map(|(n, s, mib)| vec![n.to_string(), format!("{s:.3} s"), format!("{mib} MiB")]).collect(),
    );
    ui.print(render::terminal(&[table.note(note(&ours, &peers)), scale]));
    Ok(if met { Verdict::Ok } else { Verdict::Findings })
}

fn python(extent: &Extent, ui: Ui) -> anyhow::Result<PathBuf> {
    if let Some(python) = &extent.peers {
        return Ok(python.clone());
    }
    Environment::Pipeline.prepare(ui)?;
    Ok(Environment::Pipeline.interpreter())
}

fn questions(extent: &Extent, ui: Ui) -> anyhow::Result<Questions> {
    let root = cargo::root();
    let files = PromptFiles { pipeline: &root.join("pipeline/model"), pipeline_label: "pipeline/model", root };
    let prompts = Prompts::load(&Default::default(), files).map_err(Findings)?;
    let system = prompts.system().context("the demo's pipeline has a system prompt")?;
    let set = real_or_generated(ui)?;
    let of = |task: Task| set.examples.iter().filter(move |example| example.task == task);
    let asked = Task::ALL.into_iter().flat_map(|task| of(task).take(extent.answered)).map(Example::request);
    let users = asked.flat_map(|request| [Some(prompts.score(&request)), prompts.mistakes(&request)]);
    let asks = users.flatten().map(|user| (system.to_owned(), user)).collect();
    let readings = of(Task::Hallucination).chain(of(Task::Attribution)).take(extent.readings).map(|example| Reading {
        given: format!("{}\n\n", example.rag_context),
        alone: "\n\n".into(),
        texts: claims::split(&example.llm_response).into_iter().map(str::to_owned).collect(),
    });
    Ok(Questions { asks, readings: readings.filter(|reading| !reading.texts.is_empty()).collect() })
}

/// Tokens a second of some texts together, each behind `prompt` tokens.
struct Decoded {
    texts: usize,
    prompt: usize,
    rate: f64,
}

/// What ours takes.
struct Ours {
    generate_seconds: f64,
    answers: Vec<Generation>,
    prefill: f64,
    decode: Vec<Decoded>,
    likelihood_seconds: f64,
    gains: Vec<Vec<f64>>,
    /// Examples, seconds an example, peak memory in MiB.
    scale: Vec<(usize, f64, u64)>,
}

impl Ours {
    fn decode(&self, texts: usize, prompt: usize) -> f64 {
        let found = self.decode.iter().find(|decoded| (decoded.texts, decoded.prompt) == (texts, prompt));
        found.map_or(f64::NAN, |decoded| decoded.rate)
    }
}

fn measure(model: &Path, questions: &Questions, extent: &Extent, ui: Ui) -> anyhow::Result<Ours> {
    let mut scale = Vec::new();
    let mut last = (0.0, Vec::new());
    let all = questions.readings.len();
    for number in [8, 30].into_iter().filter(|number| *number < all).chain([all]) {
        ui.say(format!("ours: likelihood of {number} examples"));
        last = likelihood(&mut Engine::load(model)?, &questions.readings[..number])?;
        scale.push((number, last.0 / number as f64, peak_mib()));
    }
    ui.say("ours: rates");
    let (prefill, decode) = rates(model)?;
    ui.say(format!("ours: {} answers", questions.asks.len()));
    let mut engine = Engine::load(model)?;
    engine.stop_as_reference();
    let started = Instant::now();
    let work = questions.asks.iter().map(|(system, user)| {
        Ok(Work::Generate(Generate {
            prompt: engine.chat_prompt(Some(system), user)?,
            options: greedy(extent.new_tokens),
            grammar: None,
        }))
    });
    let work = work.collect::<anyhow::Result<_>>()?;
    let answers = generations(&mut engine, work)?;
    let generate_seconds = started.elapsed().as_secs_f64();
    let (likelihood_seconds, gains) = last;
    Ok(Ours { generate_seconds, answers, prefill, decode, likelihood_seconds, gains, scale })
}

fn greedy(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, sampling: Sampling::Greedy, extra_stop_tokens: vec!["<|eot_id|>".into()] }
}

fn generations(engine: &mut Engine, work: Vec<Work>) -> anyhow::Result<Vec<Generation>> {
    let answers = engine.answer_all(work)?.into_iter().map(|outcome| match outcome? {
        Outcome::Generation(generation) => Ok(generation),
        Outcome::Likelihoods(_) => bail!("an answer that is none"),
    });
    answers.collect()
}

/// Prefill of one text, and decoding of some; the best of three.
fn rates(model: &Path) -> anyhow::Result<(f64, Vec<Decoded>)> {
    let (mut prefill, mut decode) = (0.0, Vec::new());
    for (texts, prompt) in [(1, PROMPT), (8, PROMPT), (16, PROMPT), (1, SHORT_PROMPT), (16, SHORT_PROMPT)] {
        let mut best = 0.0;
        for _ in 0..3 {
            let mut engine = Engine::load_with(model, EngineOptions { texts, ..EngineOptions::default() })?;
            let ask = |new| (0..texts).map(|number| text(number, prompt, new)).collect::<Vec<_>>();
            // The prompts are remembered, so that the second time there is little but decoding.
            let first = generations(&mut engine, ask(1))?;
            if (texts, prompt) == (1, PROMPT) {
                prefill = f64::max(prefill, first[0].prompt_tokens as f64 / first[0].prefill_seconds);
            }
            let short = timed(|| generations(&mut engine, ask(1)))?.0;
            let (long, answers) = timed(|| generations(&mut engine, ask(ANSWER + 1)))?;
            let tokens: usize = answers.iter().map(|answer| answer.new_tokens.saturating_sub(1)).sum();
            best = f64::max(best, tokens as f64 / (long - short));
        }
        decode.push(Decoded { texts, prompt, rate: best });
    }
    Ok((prefill, decode))
}

/// A text of about `length` tokens to continue.
fn text(number: usize, length: usize, new: usize) -> Work {
    let sentence = "The committee met on Tuesday, heard what the others had to say, and agreed to publish the report. ";
    // One token a word in these sentences, nearly.
    let prompt = format!("Minutes number {number}. {}", sentence.repeat(length / 21));
    Work::Generate(Generate { prompt: prompt.into(), options: greedy(new), grammar: None })
}

fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(f64, T)> {
    let started = Instant::now();
    let result = work()?;
    Ok((started.elapsed().as_secs_f64(), result))
}

fn likelihood(engine: &mut Engine, readings: &[Reading]) -> anyhow::Result<(f64, Vec<Vec<f64>>)> {
    let score = |prefix: &str, reading: &Reading| {
        Work::Score(Score { prefix: prefix.into(), continuations: reading.texts.clone() })
    };
    let work = readings.iter().flat_map(|reading| [score(&reading.given, reading), score(&reading.alone, reading)]);
    let work = work.collect();
    let (seconds, outcomes) = timed(|| Ok(engine.answer_all(work)?))?;
    let means = outcomes.into_iter().map(|outcome| match outcome? {
        Outcome::Likelihoods(found) => Ok(found.iter().map(deval_llama::Likelihood::mean).collect::<Vec<f64>>()),
        Outcome::Generation(_) => bail!("a likelihood that is none"),
    });
    let means = means.collect::<anyhow::Result<Vec<_>>>()?;
    let gain = |pair: &[Vec<f64>]| pair[0].iter().zip(&pair[1]).map(|(given, alone)| given - alone).collect();
    Ok((seconds, means.chunks_exact(2).map(gain).collect()))
}

/// Most memory that this process had so far.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}

/// What the peers take; see `ci/bench/generate.py`.
struct Peers {
    serial: Part,
    f32_rates: Part,
    bf16_rates: Part,
    likelihood: Part,
    /// Absent where the environment has no llama-cpp-python.
    llama_cpp: Option<Part>,
}

#[derive(Deserialize)]
struct Answered {
    parts: Vec<Part>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Part {
    seconds: f64,
    tokens: Vec<Vec<u32>>,
    prefill: Vec<f64>,
    decode: Vec<f64>,
    gains: Vec<Vec<f64>>,
}

impl Part {
    fn best(rates: &[f64]) -> f64 {
        rates.iter().copied().fold(0.0, f64::max)
    }
}

impl Peers {
    fn ask(
        python: &Path,
        (model, gguf): (&Path, &Path),
        questions: &Questions,
        extent: &Extent,
    ) -> anyhow::Result<Self> {
        let asks: Vec<Value> =
            questions.asks.iter().map(|(system, user)| json!({ "system": system, "user": user })).collect();
        let readings = questions.readings.iter();
        let readings: Vec<Value> =
            readings.map(|r| json!({ "given": r.given, "alone": r.alone, "texts": r.texts })).collect();
        let rates = |dtype: &str| json!({ "part": "rates", "model": model, "dtype": dtype, "prompt_tokens": PROMPT, "new_tokens": ANSWER });
        let parts = [
            json!({ "part": "serial", "model": model, "dtype": "float32", "asks": asks, "max_new_tokens": extent.new_tokens }),
            rates("float32"),
            json!({ "part": "likelihood", "model": model, "dtype": "float32", "readings": readings, "shared": true }),
            rates("bfloat16"),
        ];
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let mut parts = answered(python, &json!({ "threads": threads, "parts": parts }))?.into_iter();
        let mut next = || parts.next().context("ci/bench/generate.py left out a part");
        let (serial, f32_rates, likelihood, bf16_rates) = (next()?, next()?, next()?, next()?);
        let imported = Command::new(python).args(["-c", "import llama_cpp"]).output();
        // In a process of its own: beside torch it aborts.
        let llama_cpp = match imported.is_ok_and(|output| output.status.success()) {
            true => {
                let part = json!({ "part": "llama_cpp", "gguf": gguf, "prompt_tokens": PROMPT, "new_tokens": ANSWER });
                answered(python, &json!({ "threads": threads, "parts": [part] }))?.pop()
            }
            false => None,
        };
        Ok(Self { serial, f32_rates, bf16_rates, likelihood, llama_cpp })
    }
}

fn answered(python: &Path, request: &Value) -> anyhow::Result<Vec<Part>> {
    let mut child = Command::new(python)
        .arg(cargo::root().join("ci/bench/generate.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run Python")?;
    child
        .stdin
        .take()
        .context("no way in")?
        .write_all(request.to_string().as_bytes())
        .context("Python does not listen")?;
    let output = child.wait_with_output().context("Python ended badly")?;
    ensure!(output.status.success(), "ci/bench/generate.py ended with {}", output.status);
    let result: Answered =
        serde_json::from_slice(&output.stdout).context("ci/bench/generate.py printed something else")?;
    Ok(result.parts)
}

fn rows(ours: &Ours, peers: &Peers) -> anyhow::Result<Vec<Row>> {
    ensure!(peers.serial.tokens.len() == ours.answers.len(), "the peer answered another number of questions");
    let (f32_prefill, f32_decode) = (Part::best(&peers.f32_rates.prefill), Part::best(&peers.f32_rates.decode));
    let bf16_prefill = Part::best(&peers.bf16_rates.prefill);
    let (one, sixteen) = (ours.decode(1, PROMPT), ours.decode(16, PROMPT));
    let short = |texts| ours.decode(texts, SHORT_PROMPT);
    let mut rows = vec![
        Row::seconds("generate, end to end", ours.generate_seconds, ("transformers f32", peers.serial.seconds), 4.0),
        Row::rates("prefill", ours.prefill, ("transformers f32", f32_prefill), 1.0),
        Row { hoped: true, ..Row::rates("prefill", ours.prefill, ("transformers bf16", bf16_prefill), 1.0) },
        Row::rates("decode, 1 text", one, ("transformers f32", f32_decode), 3.0),
        Row::rates("decode, 16 texts", sixteen, ("ours, 1 text", one), 5.0),
        // What the two bars before come to: a fast single text leaves the processor less to gain.
        Row::rates("decode, 16 texts", sixteen, ("transformers f32", f32_decode), 15.0),
        Row::rates("decode, 16 short texts", short(16), ("ours, 1 short text", short(1)), 5.0),
        Row::seconds("likelihood", ours.likelihood_seconds, ("transformers f32", peers.likelihood.seconds), 3.0),
    ];
    if let Some(peer) = &peers.llama_cpp {
        let decode = Part::best(&peer.decode);
        rows.push(Row::rates("decode, 8 texts", ours.decode(8, PROMPT), ("llama.cpp Q4_1, 1 text", decode), 1.5));
    }
    Ok(rows)
}

/// Whether both sides said the same.
fn note(ours: &Ours, peers: &Peers) -> String {
    let equal = ours.answers.iter().zip(&peers.serial.tokens).filter(|(a, b)| a.tokens == **b).count();
    let gains = ours.gains.iter().flatten().zip(peers.likelihood.gains.iter().flatten());
    let apart = gains.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let missing = if peers.llama_cpp.is_none() { " llama-cpp-python is not there and was not asked." } else { "" };
    let profile = if cfg!(debug_assertions) { "dev (its kernels are optimised)" } else { "release" };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    format!(
        "Profile {profile}, {cores} cores. Rates are of texts behind {PROMPT} tokens, short ones behind {SHORT_PROMPT}. {equal} of {} answers are equal token for token; likelihoods lie at most {apart:.4} nats a \
         token apart.{missing}",
        ours.answers.len()
    )
}
