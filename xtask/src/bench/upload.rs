//! `cargo xtask bench upload`: two gigabytes of weights to the local Hub, by us and by the newest huggingface_hub in turns.
//!
//! Every turn has a Hub, a repository and caches of its own, so that nothing is known of the contents, and a process of its own, whose
//! peak of memory is told. Ours gets its digests from the hash step, as `publish` does; that step has its own benchmark.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use deval_hub::{Expected, HubClient, Journal, LocalFile, RepoId, Stamp, Subject, Token};
use deval_report::{Section, render};
use serde::{Deserialize, Serialize};

use super::hash::{load, peak_memory};
use crate::{Verdict, cargo, localnet::Localnet, python::Environment, ui::Ui};

/// Started by the benchmark: our upload in a process of its own.
pub(crate) const UPLOAD_COMMAND: &str = "bench-upload-once";

/// Shards, and bytes of each.
const SHARDS: usize = 4;
const SHARD: usize = 500_000_000;

/// Turns of each.
const TURNS: usize = 4;

/// How much faster than the peer, and the most memory.
const BAR: f64 = 1.5;
const MEMORY_BAR: u64 = 300_000_000;

const REPO: &str = "me/bench";

/// What git calls `{}`; config.json is the one file that the Hub keeps in git.
const GIT_SHA1_OF_CONFIG: &str = "9e26dfeeb6e641a33dae4961196235bdb965b21b";

/// One upload, in a process of its own.
#[derive(Debug, Args)]
pub(crate) struct Once {
    /// The Hub.
    endpoint: String,
    /// Folder of the shards; `digests.json` beside it.
    model: PathBuf,
    /// Folder of caches.
    work: PathBuf,
}

/// What one upload took; the peer prints the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Took {
    seconds: f64,
    /// Bytes.
    peak: u64,
    #[serde(default)]
    version: String,
}

/// A file and what the hash step knows of it.
#[derive(Serialize, Deserialize)]
struct Known {
    path: String,
    size: u64,
    sha256: String,
}

pub(super) fn run(ui: Ui) -> anyhow::Result<Verdict> {
    Environment::Newest.prepare(ui)?;
    let dir = cargo::root().join("target/deval/bench/upload");
    prepare(&dir, ui)?;
    let before = load();
    let (mut ours, mut theirs): (Option<Took>, Option<Took>) = (None, None);
    for turn in 1..=TURNS {
        let spinner = ui.spinner(&format!("turn {turn} of {TURNS}"));
        keep_best(&mut ours, on_a_new_hub(&dir, ui, |hub| once(&dir, hub))?);
        keep_best(&mut theirs, on_a_new_hub(&dir, ui, |hub| peer(&dir, hub))?);
        spinner.finish_and_clear();
    }
    let (ours, theirs) = (ours.context("a turn was made")?, theirs.context("a turn was made")?);
    let ratio = theirs.seconds / ours.seconds;
    let bytes = (SHARDS * SHARD) as f64;
    let row = |who: String, took: &Took, ratio: String| {
        let rate = bytes / 1e6 / took.seconds;
        vec![who, format!("{:.2} s, {rate:.0} MB/s", took.seconds), format!("{:.0} MB", took.peak as f64 / 1e6), ratio]
    };
    let peer = format!("huggingface_hub {}, upload_folder", theirs.version);
    let rows = vec![row("ours".into(), &ours, String::new()), row(peer, &theirs, format!("{ratio:.2}"))];
    let met = ratio >= BAR && ours.peak < MEMORY_BAR;
    let table = Section::new("Upload benchmark")
        .row("weights", format!("{:.2} GB in {SHARDS} files, random, in the page cache", bytes / 1e9))
        .row("load of the machine", format!("{before} before, {} after, our own work included", load()))
        .row("bar", format!("{BAR} times the peer, and less than {} MB: {}", MEMORY_BAR / 1_000_000, said(met)))
        .table(&["who", "best", "peak memory", "ratio"], rows)
        .note(format!(
            "In turns, {TURNS} times, each with a Hub, a repository and caches of its own; the best turn counts. Ours reads the Hub \
             commit back. Random bytes cannot be packed: ours finds that by samples, and packs no chunk."
        ));
    ui.print(render::terminal(&[table]));
    Ok(if met { Verdict::Ok } else { Verdict::Findings })
}

fn said(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// The faster of two, with the larger peak.
fn keep_best(best: &mut Option<Took>, took: Took) {
    let peak = best.as_ref().map_or(0, |best| best.peak).max(took.peak);
    let faster = best.take().filter(|best| best.seconds <= took.seconds).unwrap_or(took);
    *best = Some(Took { peak, ..faster });
}

fn on_a_new_hub(dir: &Path, ui: Ui, upload: impl FnOnce(&str) -> anyhow::Result<Took>) -> anyhow::Result<Took> {
    let state = tempfile::Builder::new().prefix("hub-").tempdir_in(dir).context("no folder for a Hub can be made")?;
    let localnet = Localnet::reuse_or_start(state.path(), ui)?;
    upload(&localnet.hub)
}

fn once(dir: &Path, hub: &str) -> anyhow::Result<Took> {
    let work = tempfile::Builder::new().prefix("work-").tempdir_in(dir).context("no folder for caches can be made")?;
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let mut command = Command::new(program);
    command.arg(UPLOAD_COMMAND).arg(hub).arg(dir.join("model")).arg(work.path());
    told(&mut command)
}

fn peer(dir: &Path, hub: &str) -> anyhow::Result<Took> {
    let mut command = Command::new(Environment::Newest.interpreter());
    command.arg(cargo::root().join("ci/bench/upload.py")).arg(hub).arg(REPO).arg(dir.join("model"));
    told(&mut command)
}

/// Runs a program to its end; its last line tells what it took.
fn told(command: &mut Command) -> anyhow::Result<Took> {
    let output = command.output().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "an upload failed: {text}{}", String::from_utf8_lossy(&output.stderr).trim());
    serde_json::from_str(text.lines().last().unwrap_or_default()).context("an upload did not say what it took")
}

/// Our upload, as `publish` does it: reads what stands on the Hub, plans, creates the repository, sends, commits, reads back.
pub(crate) fn upload_once(arguments: &Once, ui: Ui) -> anyhow::Result<()> {
    let Once { endpoint, model, work } = arguments;
    let text = fs::read(model.with_file_name("digests.json")).context("the digests are missing")?;
    let known: Vec<Known> = serde_json::from_slice(&text).context("the digests are damaged")?;
    let local = known.into_iter().map(|Known { path, size, sha256 }| {
        let source = model.join(&path);
        let stamp = Stamp::of(&source).with_context(|| format!("cannot look at {}", source.display()))?;
        Ok(LocalFile { path, source, size, sha256, git_sha1: GIT_SHA1_OF_CONFIG.to_owned(), stamp })
    });
    let local: Vec<LocalFile> = local.collect::<anyhow::Result<_>>()?;
    let (repo, client) = (RepoId::parse(REPO)?, HubClient::new(endpoint, Some(Token::new("hf_localnet")?), work)?);
    let subject = Subject {
        hub: client.endpoint(),
        repo: REPO.to_owned(),
        chain: "none".to_owned(),
        listing: deval_hub::listing_digest(&local),
    };
    let journal = Journal::open(&work.join("journal.jsonl"), subject)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let started = Instant::now();
    let state = runtime.block_on(client.remote_state(&repo))?;
    let plan = HubClient::plan(&local, &state, None);
    let outcome = runtime.block_on(client.upload(&repo, &plan, &local, &journal, &|_| ()))?;
    let expected = Expected { revision: &outcome.revision, local: &local, kept: &[] };
    let verified = runtime.block_on(client.verify(&repo, expected, false))?;
    ensure!(verified.findings.is_empty(), "what stands on the Hub is not what was sent: {:?}", verified.findings);
    let took = Took { seconds: started.elapsed().as_secs_f64(), peak: peak_memory()?, version: String::new() };
    ui.print(serde_json::to_string(&took)?);
    Ok(())
}

/// Makes the shards and a small file, and the digests that the hash step would know, unless they are there.
fn prepare(dir: &Path, ui: Ui) -> anyhow::Result<()> {
    let (model, digests) = (dir.join("model"), dir.join("digests.json"));
    if digests.exists() {
        return Ok(());
    }
    let spinner = ui.spinner("making weights");
    fs::create_dir_all(&model).with_context(|| format!("cannot create {}", model.display()))?;
    fs::write(model.join("config.json"), "{}").context("cannot write config.json")?;
    for shard in 0..SHARDS {
        let path = model.join(format!("model-{:05}-of-{SHARDS:05}.safetensors", shard + 1));
        noise(&path, shard as u64).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut known = Vec::new();
    for entry in fs::read_dir(&model).context("cannot list the shards")? {
        let path = entry.context("cannot list the shards")?.path();
        known.push(Known {
            path: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            size: fs::metadata(&path).context("cannot look at a shard")?.len(),
            sha256: deval_model::file_sha256(&path)?,
        });
    }
    spinner.finish_and_clear();
    crate::store::write_atomically(&digests, &serde_json::to_vec(&known)?)
}

/// Bytes that no compressor shrinks, as weights are but for their exponents (splitmix64).
fn noise(path: &Path, seed: u64) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = seed.wrapping_mul(0x1234_5678_9abc_def1);
    for _ in 0..SHARD / 8 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.write_all(&(word ^ (word >> 31)).to_le_bytes())?;
    }
    out.flush()
}
