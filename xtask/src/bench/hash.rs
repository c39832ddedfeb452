//! `cargo xtask bench hash`: one read of the weights beside everything else that hashes them.
//!
//! What is compared takes turns, and the best of all turns counts, because other work on the machine only ever makes a turn slower.

mod model;

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use deval_model::{WeightsDigest, digest_weights, weights};
use deval_report::{Section, render};
use memmap2::Mmap;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{Verdict, cargo, ui::Ui};

/// Turns of everything but `sha256sum`, which gets one.
const TURNS: usize = 5;

/// Runs of what takes milliseconds.
const QUICK_TURNS: usize = 20;

pub(super) fn run(ui: Ui) -> anyhow::Result<Verdict> {
    let dir = cargo::root().join("target/deval/bench/hash");
    model::prepare(&dir, ui)?;
    let model = dir.join("model");
    let before = load();
    let spinner = ui.spinner("hashing in turns");
    // The first read also brings the files into the page cache; the peak of memory is taken before any file is mapped.
    let digest = digest(&model)?.1;
    let peak = peak_memory()?;
    let mut times = Times::default();
    for _ in 0..TURNS {
        times.turn(&model, &digest)?;
    }
    times.sha256sum = command("sha256sum", &[], &model, &digest)?;
    let headers = headers(&dir.join("sparse"))?;
    let rerun = rerun(&dir)?;
    spinner.finish_and_clear();
    let rows = times.rows(&digest).into_iter().chain([headers, rerun, memory(peak)]).collect::<Vec<_>>();
    let met = rows.iter().all(|row| row.met != Some(false));
    let gigabytes = digest.bytes as f64 / 1e9;
    let table = Section::new("Hash benchmark")
        .row("weights", format!("{gigabytes:.2} GB in {} files, in the page cache", digest.files.len()))
        .row("load of the machine", format!("{before} before, {} after, our own work included", load()))
        .row("processors", std::thread::available_parallelism().map_or(1, usize::from))
        .table(&["what", "best", "ratio", "bar", ""], rows.into_iter().map(Row::cells).collect())
        .note(format!("Everything took turns, {TURNS} times; the best turn of each counts. sha256sum had one."));
    ui.print(render::terminal(&[table]));
    Ok(if met { Verdict::Ok } else { Verdict::Findings })
}

/// One line of the table.
struct Row {
    what: String,
    best: String,
    ratio: String,
    bar: &'static str,
    /// None for a line without a bar.
    met: Option<bool>,
}

impl Row {
    fn cells(self) -> Vec<String> {
        let met = self.met.map_or("", |met| if met { "ok" } else { "not" });
        vec![self.what, self.best, self.ratio, self.bar.to_owned(), met.to_owned()]
    }
}

/// Best times so far.
struct Times {
    ours: Duration,
    python: Duration,
    openssl: Duration,
    sha2: Duration,
    sha256sum: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let none = Duration::MAX;
        Self { ours: none, python: none, openssl: none, sha2: none, sha256sum: none }
    }
}

impl Times {
    /// Everything once, each beside ours.
    fn turn(&mut self, model: &Path, expected: &WeightsDigest) -> anyhow::Result<()> {
        self.ours(model, expected)?;
        self.python = self.python.min(python(model, expected)?);
        self.ours(model, expected)?;
        self.openssl = self.openssl.min(command("openssl", &["dgst", "-sha256", "-r"], model, expected)?);
        self.ours(model, expected)?;
        self.sha2 = self.sha2.min(mapped(model, expected)?);
        Ok(())
    }

    fn ours(&mut self, model: &Path, expected: &WeightsDigest) -> anyhow::Result<()> {
        let (time, found) = digest(model)?;
        ensure!(found == *expected, "two reads of the same files gave different digests");
        self.ours = self.ours.min(time);
        Ok(())
    }

    fn rows(&self, digest: &WeightsDigest) -> Vec<Row> {
        let rate = |time: Duration| digest.bytes as f64 / 1e9 / time.as_secs_f64();
        let ratio = |peer: Duration| peer.as_secs_f64() / self.ours.as_secs_f64();
        let row = |what: &str, time: Duration, bar: &'static str, met: Option<bool>| Row {
            what: what.to_owned(),
            best: format!("{:.3} s, {:.2} GB/s", time.as_secs_f64(), rate(time)),
            ratio: if time == self.ours { String::new() } else { format!("{:.2}", ratio(time)) },
            bar,
            met,
        };
        let (fastest, name) =
            if self.openssl < self.sha2 { (self.openssl, "openssl") } else { (self.sha2, "sha2 over a map") };
        let against_fastest = ratio(fastest);
        let mut rows = vec![
            row("one pass: model hash, SHA-256 of each file, tensors, health", self.ours, "", None),
            row("upstream's loop, Python hashlib, 4 KiB reads", self.python, "≥ 1.6", Some(ratio(self.python) >= 1.6)),
            row("openssl dgst -sha256", self.openssl, "", None),
            row("sha2 over a map, one stream, nothing else", self.sha2, "", None),
            row("sha256sum", self.sha256sum, "", None),
        ];
        rows.push(Row {
            what: format!("the fastest single stream ({name})"),
            best: String::new(),
            ratio: format!("{against_fastest:.2}"),
            bar: "≥ 0.9",
            met: Some(against_fastest >= 0.9),
        });
        rows
    }
}

fn digest(model: &Path) -> anyhow::Result<(Duration, WeightsDigest)> {
    let started = Instant::now();
    let digest = digest_weights(model, None, &mut |_, _| ())?;
    Ok((started.elapsed(), digest))
}

/// What `ci/bench/hash.py` prints.
#[derive(Deserialize)]
struct PeerHashed {
    model_hash: String,
    seconds: f64,
}

fn python(model: &Path, expected: &WeightsDigest) -> anyhow::Result<Duration> {
    let script = cargo::root().join("ci/bench/hash.py");
    let output = Command::new("python3.11").arg(script).arg(model).output().context("cannot run python3.11")?;
    ensure!(output.status.success(), "ci/bench/hash.py: {}", String::from_utf8_lossy(&output.stderr).trim());
    let peer: PeerHashed = serde_json::from_slice(&output.stdout).context("ci/bench/hash.py printed no result")?;
    ensure!(
        peer.model_hash == expected.model_hash,
        "Python hashes to {}, we to {}",
        peer.model_hash,
        expected.model_hash
    );
    Ok(Duration::from_secs_f64(peer.seconds))
}

/// A program that prints `digest name` for each file, one process for all of them.
fn command(program: &str, arguments: &[&str], model: &Path, expected: &WeightsDigest) -> anyhow::Result<Duration> {
    let files = expected.files.iter().map(|file| model.join(&file.name));
    let started = Instant::now();
    let output = Command::new(program).args(arguments).args(files).output();
    let time = started.elapsed();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let known: Vec<_> = expected.files.iter().map(|file| file.sha256.as_str()).collect();
    ensure!(found == known, "{program} finds {found:?}, we {known:?}");
    Ok(time)
}

/// The model hash alone, by the sha2 crate over memory maps.
fn mapped(model: &Path, expected: &WeightsDigest) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut stream = Sha256::new();
    for file in &expected.files {
        let file = File::open(model.join(&file.name))?;
        #[expect(unsafe_code, reason = "the files are the benchmark's own, and nobody shortens them")]
        let map = unsafe { Mmap::map(&file) }?;
        stream.update(&map);
    }
    let found: String = stream.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(found == expected.model_hash, "sha2 hashes to {found}, we to {}", expected.model_hash);
    Ok(started.elapsed())
}

/// Headers, index and tensors in two files, of a model with the shape of LLaMA 3 8B.
fn headers(sparse: &Path) -> anyhow::Result<Row> {
    let mut best = Duration::MAX;
    for _ in 0..QUICK_TURNS {
        let mut findings = Vec::new();
        let started = Instant::now();
        let weights = weights::scan(sparse, sparse, &mut findings)?;
        best = best.min(started.elapsed());
        ensure!(findings.is_empty() && weights.shards.len() == 4, "the sparse model is not sound: {findings:?}");
    }
    Ok(quick("headers and index of 4 shards, 291 tensors, 16.06 GB", best, "< 20 ms", best < Duration::from_millis(20)))
}

fn quick(what: impl Into<String>, time: Duration, bar: &'static str, met: bool) -> Row {
    let best = format!("{:.2} ms", time.as_secs_f64() * 1e3);
    Row { what: what.into(), best, ratio: String::new(), bar, met: Some(met) }
}

/// `cargo xtask hash` on an unchanged submission, from the start of the process to its end, and the bytes that it read.
fn rerun(dir: &Path) -> anyhow::Result<Row> {
    // Once to have the report; the digests of the weights are in the side cache then.
    hash(dir)?;
    let (mut best, mut read) = (Duration::MAX, 0);
    for _ in 0..QUICK_TURNS {
        let (time, bytes) = hash(dir)?;
        (best, read) = (best.min(time), read.max(bytes));
    }
    let small = read < fs::metadata(dir.join("model/model-00001-of-00004.safetensors"))?.len() / 100;
    let what = format!("cargo xtask hash on an unchanged submission; {:.1} MB read of all files", read as f64 / 1e6);
    Ok(quick(what, best, "< 50 ms, no weights", best < Duration::from_millis(50) && small))
}

/// Wall time, and what `/proc` counts as read until the process ended.
fn hash(dir: &Path) -> anyhow::Result<(Duration, u64)> {
    let started = Instant::now();
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut child = Command::new(program)
        .arg("hash")
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run this program")?;
    // Its standard error closes when it ends; until it is waited for, its counters can be read.
    let said = std::io::read_to_string(child.stderr.take().context("it is piped")?)?;
    let time = started.elapsed();
    let read = counter(Path::new(&format!("/proc/{}/io", child.id())), "rchar:")?;
    ensure!(child.wait()?.success(), "`cargo xtask hash` in {} failed:\n{said}", dir.display());
    Ok((time, read))
}

fn memory(peak: u64) -> Row {
    let what = format!("peak memory of the pass (VmHWM, all of this process): {:.0} MB", peak as f64 / 1e6);
    Row { what, best: String::new(), ratio: String::new(), bar: "< 200 MB", met: Some(peak < 200_000_000) }
}

pub(super) fn peak_memory() -> anyhow::Result<u64> {
    Ok(counter(Path::new("/proc/self/status"), "VmHWM:")? * 1024)
}

/// The number after a name in one of the kernel's tables.
fn counter(table: &Path, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(table).with_context(|| format!("cannot read {}", table.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    match line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()) {
        Some(number) => Ok(number),
        None => bail!("{} has no {name}", table.display()),
    }
}

/// Load of the last minute.
pub(super) fn load() -> String {
    let text = fs::read_to_string(PathBuf::from("/proc/loadavg")).unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}
