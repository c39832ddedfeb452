//! What the user can type. What it means is decided elsewhere.

mod examples;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use deval_hub::Half;
use deval_llama::DeviceChoice;
use deval_manifest::Gpu;

pub(crate) use self::examples::{Api, ExamplesCommand, From, Generate, Import, ModelArgs};
use crate::{bench, snapshot};

/// The miner's workbench for De-Val (Bittensor subnet 15).
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The submission.
    #[arg(long, global = true, default_value = "deval.toml", value_name = "FILE")]
    pub(crate) manifest: PathBuf,
    /// What is written to standard output; everything else goes to standard error.
    #[arg(long, global = true, value_enum, default_value = "human")]
    pub(crate) format: Format,
    /// Run check and build steps again, even when nothing changed.
    #[arg(long, global = true)]
    pub(crate) rerun: bool,
    /// How work in progress is shown on standard error.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub(crate) progress: Progress,
    /// Nothing on standard error but findings and errors.
    #[arg(short, long, global = true, conflicts_with = "progress")]
    pub(crate) quiet: bool,
}

/// How work in progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// A bar on a terminal, else as `plain`.
    Auto,
    /// A line every ten seconds.
    Plain,
    /// One JSON object per line and second; remarks and findings too.
    Json,
    /// Nothing.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people.
    Human,
    /// The report envelope.
    Json,
    /// GitHub workflow annotations.
    Github,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Effect {
    /// Do it; without this the plan is shown and nothing outside the machine is changed.
    #[arg(long)]
    pub(crate) execute: bool,
    /// Ask nothing: on finney the plan is otherwise confirmed by typing.
    #[arg(long, requires = "execute")]
    pub(crate) yes: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    pub(crate) effect: Effect,
    /// Publish this half and leave the other on the Hub as it is.
    #[arg(long, value_enum)]
    pub(crate) only: Option<HalfArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HalfArg {
    /// The sources. No new model hash, so no chain commitment; but the date of the last Hub commit moves.
    Pipeline,
    /// Everything else: weights, tokenizer, coldkey.txt, model card.
    Model,
}

impl HalfArg {
    pub(crate) fn value(self) -> Half {
        match self {
            Self::Pipeline => Half::Pipeline,
            Self::Model => Half::Model,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Every gate that can be decided from the disk.
    Validate,
    /// Stage the repository tree.
    Package,
    /// Model hash, per-file digests, weight health.
    Hash(HashArgs),
    /// Estimate the reward.
    Evaluate(EvaluateArgs),
    /// Whether one evaluation beats another on the same examples.
    Compare {
        /// Report A.
        a: PathBuf,
        /// Report B; the difference is B less A.
        b: PathBuf,
        /// Compare the examples that both hold, where the sets differ.
        #[arg(long)]
        common: bool,
        /// Tell how many rounds settle a lead of this size, in place of the measured one.
        #[arg(long, value_name = "REWARD", value_parser = reward)]
        lead: Option<f64>,
    },
    /// Tier and weight to expect in the contest.
    Forecast(ForecastArgs),
    /// Make, convert, show and check sets of task examples.
    #[command(subcommand)]
    Examples(ExamplesCommand),
    /// Publish to the Hub: private, one Hub commit, read back.
    Publish(PublishArgs),
    /// Commit the model hash on chain, read it back, make the repository public.
    Commit(Effect),
    /// Register the hotkey on the subnet; the coldkey pays what the chain asks now.
    Register(RegisterArgs),
    /// The wallet that the manifest names.
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Serve the axon that tells validators where the model is.
    Serve(ServeArgs),
    /// How the submission stands: on the disk, on the Hub, on chain, at the axon. Exit 0 good, 1 something to act on, 2 not all was seen.
    #[command(after_long_help = crate::status::reasons_help())]
    Status(StatusArgs),
    /// What would run, and why.
    Plan,
    /// All 51 gates in the validator's own order.
    Verdict {
        /// Look at the chain first; without this the last look counts, for an hour.
        #[arg(long)]
        online: bool,
    },
    /// One HTML page of all reports.
    Report,
    /// How the model comes from its base, tensor by tensor.
    Lineage {
        /// Folder of the base model, or its repository on the Hub, of which only headers and samples are read.
        #[arg(long, value_name = "DIR|NAMESPACE/NAME")]
        against: String,
    },
    /// Audit any repository from metadata and headers, without downloading its weights.
    Inspect(InspectArgs),
    /// Download a repository and check every file against the Hub's digests; a broken download goes on where it was.
    Fetch(FetchArgs),
    /// What a gate checks, why a validator rejects, how to fix it.
    Explain {
        /// `G01` to `G51`.
        gate: String,
    },
    /// The whole way on a real small model, on the local network.
    Demo,
    /// Run the local Hub and the local chain until stopped.
    Localnet(LocalnetArgs),
    /// All tests.
    Test,
    /// Replay vector files produced by the upstream code.
    Oracle {
        /// Files whose stem is the kind of vector, or directories of such files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// JSON Schema of deval.toml.
    Schema {
        /// Write it to ci/deval.schema.json.
        #[arg(long)]
        write: bool,
    },
    /// Speed beside named peers, measured in one run.
    Bench {
        #[arg(value_enum)]
        what: Bench,
        #[command(flatten)]
        axon: bench::axon::Amounts,
        #[command(flatten)]
        generate: bench::generate::Extent,
    },
    /// One upload in a process of its own; started by `bench upload`.
    #[command(name = bench::upload::UPLOAD_COMMAND, hide = true)]
    UploadForBench(bench::upload::Once),
    /// One snapshot assertion; started by `evaluate --snapshot`.
    #[command(name = snapshot::ASSERT_COMMAND, hide = true)]
    AssertSnapshot(snapshot::Assertion),
    /// One job of continuous integration.
    Ci {
        #[arg(value_enum)]
        job: Job,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// `namespace/name`.
    pub(crate) model_url: String,
    /// Stream the weights to compute the validator's digest of them, and check the listed digest of each file.
    #[arg(long)]
    pub(crate) hash: bool,
    /// The Hub to ask, such as `https://huggingface.co`; the manifest's without this.
    #[arg(long, value_name = "URL")]
    pub(crate) hub: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// `namespace/name`.
    pub(crate) model_url: String,
    /// The folder: new, empty, or with files of this repository, which are compared and kept.
    pub(crate) dir: PathBuf,
    /// The Hub to ask, such as `https://huggingface.co`; the manifest's without this.
    #[arg(long, value_name = "URL")]
    pub(crate) hub: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    pub(crate) effect: Effect,
    /// The most it may burn; what it costs now, without this.
    #[arg(long, value_name = "TAO")]
    pub(crate) limit: Option<String>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum WalletCommand {
    /// Its addresses, and nothing secret.
    Show,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct HashArgs {
    /// Show which bytes entered the model hash in which order, and what did not enter.
    #[arg(long)]
    pub(crate) explain: bool,
    /// Forget what is known of unchanged files and read all weights again.
    #[arg(long)]
    pub(crate) no_cache: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) effect: Effect,
    /// Print what keeps the axon running on this machine, and do nothing else.
    #[arg(long, value_enum, conflicts_with = "execute")]
    pub(crate) print: Option<Keeper>,
    /// Print what a running server of this hotkey would serve now; its reload asks.
    #[arg(long, value_name = "HOTKEY", hide = true, conflicts_with_all = ["execute", "print"])]
    pub(crate) settings_for: Option<String>,
    #[command(flatten)]
    pub(crate) external: ExternalArgs,
    /// How what happens is told on standard error while serving.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) log: LogFormat,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    /// Look again and again until stopped, and tell what changed.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Seconds from one look to the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "watch", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) every: u64,
    /// With `--watch`: send each change there, as JSON, until it is taken. The address is never shown.
    #[arg(long, value_name = "URL", env = "DEVAL_WEBHOOK", hide_env_values = true)]
    pub(crate) webhook: Option<String>,
    /// When the validator's running round began (RFC 3339), for gate 33.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) round_start: Option<DateTime<Utc>>,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    time.map_err(|error| format!("expected a time such as 2026-11-29T18:00:00Z: {error}"))
}

/// The address that validators reach; each stands for a key of the manifest's [axon] table.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub(crate) struct ExternalArgs {
    /// This address.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) external_ip: Option<std::net::IpAddr>,
    /// The address of this network interface, such as `eth0`.
    #[arg(long, value_name = "NAME")]
    pub(crate) external_interface: Option<String>,
    /// What the server of this URL answers, as plain text. Nobody is asked without this.
    #[arg(long, value_name = "URL")]
    pub(crate) ask_external_ip: Option<String>,
}

/// What keeps a server running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keeper {
    /// A systemd unit.
    Systemd,
    /// A pm2 ecosystem file.
    Pm2,
    /// A Compose file that builds the image and runs it.
    Container,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Every flag stands for a key of the manifest's [evaluate] table, for this run only.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct EvaluateArgs {
    /// Example set (JSON Lines) in place of the manifest's.
    #[arg(long, value_name = "FILE")]
    pub(crate) examples: Option<PathBuf>,
    /// Generated examples of each task.
    #[arg(long, value_name = "N", conflicts_with = "examples", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) per_task: Option<u32>,
    /// Seed of generated examples, of sampling and of the bootstrap.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// How an answer is read from the model.
    #[arg(long, value_enum)]
    pub(crate) reading: Option<ReadingArg>,
    /// What the built-in engine computes on: `auto`, `cpu` or `cuda:N`.
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    pub(crate) device: Option<String>,
    /// Answers to each example, which tell how much they vary.
    #[arg(long, visible_alias = "repeat", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) samples: Option<u32>,
    /// Share of the labels that may be wrong, 0 to 0.49: widens the result by a band.
    #[arg(long, value_name = "SHARE")]
    pub(crate) label_noise: Option<f64>,
    /// When to stop: after all examples, or once every comparison with a rule without a model is settled.
    #[arg(long, value_enum)]
    pub(crate) until: Option<UntilArg>,
    /// Reward recorded answers (JSON Lines with `id`, `score`, `mistakes`) in place of asking a model.
    #[arg(long, value_name = "FILE")]
    pub(crate) answers: Option<PathBuf>,
    /// What answers: the built-in engine, or the pipeline in the validator's container.
    #[arg(long, value_enum, conflicts_with = "answers")]
    pub(crate) backend: Option<BackendArg>,
    #[command(flatten)]
    pub(crate) container: ContainerArgs,
    /// Tell how many examples and rounds settle a lead of this size over another model.
    #[arg(long, value_name = "REWARD", value_parser = reward)]
    pub(crate) lead: Option<f64>,
    /// Write the report to this file too.
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Check the result against the accepted one, or accept it (never in CI).
    #[arg(long, value_enum)]
    pub(crate) snapshot: Option<SnapshotMode>,
}

impl EvaluateArgs {
    /// Whether the run asks the same as the manifest does.
    pub(crate) fn ask_nothing_else(&self) -> bool {
        let Self {
            examples,
            per_task,
            seed,
            reading,
            device,
            samples,
            label_noise,
            until,
            answers,
            backend,
            container,
            lead: _,
            save: _,
            snapshot: _,
        } = self;
        let numbers = per_task.is_none() && seed.is_none() && samples.is_none() && label_noise.is_none();
        let who = answers.is_none() && backend.is_none() && container.ask_nothing_else();
        let what = examples.is_none() && reading.is_none() && device.is_none() && until.is_none();
        numbers && who && what
    }
}

/// Flags of the container backend; each implies it.
#[derive(Debug, Clone, Default, Args)]
#[group(id = "container_flags", multiple = true, conflicts_with_all = ["answers"])]
pub(crate) struct ContainerArgs {
    /// GPUs for the container: `auto`, `all`, `none` or a number.
    #[arg(long, value_name = "GPUS")]
    pub(crate) gpu: Option<Gpu>,
    /// Image that the container's image is built on.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) base: Option<String>,
    /// Let the container download the published package, behind the validator's firewall, in place of mounting the staged one.
    #[arg(long)]
    pub(crate) fetch: bool,
    /// Ask on while a late answer still occupies the container, as a validator does (the default); `--serial-exact=false` waits for it, so
    /// that each example is judged on its own.
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) serial_exact: Option<bool>,
    /// Check the contract only: odd requests of each task, row by row.
    #[arg(long, conflicts_with_all = ["snapshot", "save", "lead"])]
    pub(crate) conformance: bool,
}

impl ContainerArgs {
    /// Whether none was given.
    pub(crate) fn ask_nothing_else(&self) -> bool {
        let Self { gpu, base, fetch, serial_exact, conformance } = self;
        gpu.is_none() && base.is_none() && !fetch && serial_exact.is_none() && !conformance
    }

    /// Whether each late answer keeps the container from the next.
    pub(crate) fn is_serial_exact(&self) -> bool {
        self.serial_exact.unwrap_or(true)
    }
}

/// `evaluate.backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendArg {
    Native,
    Container,
}

fn reward(text: &str) -> Result<f64, String> {
    let reward = text.parse::<f64>().ok().filter(|reward| *reward > 0.0 && *reward <= 1.0);
    reward.ok_or_else(|| "expected a difference of rewards, above 0 and at most 1".to_owned())
}

/// `evaluate.device`.
fn device(text: &str) -> Result<String, String> {
    text.parse::<DeviceChoice>().map(|_| text.to_owned())
}

/// `evaluate.reading`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReadingArg {
    Generate,
    Constrained,
    Likelihood,
}

/// `evaluate.until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UntilArg {
    All,
    Settled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SnapshotMode {
    /// Compare with the accepted result.
    Check,
    /// Accept the result.
    Update,
}

#[derive(Debug, Args)]
pub(crate) struct ForecastArgs {
    /// The leaderboard: `chain`, which makes one of the miners' incentives, or a file. CSV with the columns `uid`, `score` and, where known, `block`, `hotkey`, `model_hash`, or JSON,
    /// `{"deval_leaderboard":1,"name":"…","miners":[{"uid":3,"score":0.7},…]}`.
    #[arg(long, value_name = "FILE|chain")]
    pub(crate) leaderboard: PathBuf,
    /// Evaluation report to take our reward from; the submission's own by default.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Our uid on the leaderboard; without it we are the miner that `chain` knows by our hotkey, or join as a new one.
    #[arg(long, value_name = "N")]
    pub(crate) uid: Option<u32>,
    /// The miner whose seat we take when we register.
    #[arg(long, value_name = "UID", conflicts_with = "uid")]
    pub(crate) replaces: Option<u32>,
    /// Our score so far; the leaderboard's, or 0 for a new miner, without it.
    #[arg(long, value_name = "SCORE")]
    pub(crate) score: Option<f32>,
    /// The validator does not evaluate us: our score only decays.
    #[arg(long)]
    pub(crate) not_evaluated: bool,
    /// Block of our chain commitment; without it the leaderboard's, or now.
    #[arg(long, value_name = "BLOCK")]
    pub(crate) block: Option<u64>,
    /// Rounds to look ahead.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) rounds: u32,
    /// Monte Carlo draws.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub(crate) draws: u32,
    /// Seed of the draws.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// Rewards of 10,000 responses, against Python `rouge` 1.0.1 and numpy.
    Score,
    /// 1,000 offline examples.
    Examples,
    /// A forecast of 256 miners with 10,000 draws.
    Forecast,
    /// Score, examples and forecast.
    Numbers,
    /// One read of over 4 GiB of weights, against upstream's loop in Python, openssl, sha256sum and sha2; and what needs no read.
    Hash,
    /// Upload of 2 GB to the local Hub, against the newest huggingface_hub; peak memory.
    Upload,
    /// The axon under load, against the Python axon of bittensor 9.0.1; memory over many requests; malformed requests.
    Axon,
    /// The built-in engine, against transformers (f32 and bf16) and llama.cpp on the same prompts and cores.
    Generate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Job {
    /// Formatting and lints.
    Lint,
    /// All tests.
    Test,
    /// The demo, its evaluation against the accepted one, the demo again: the second run must find nothing left to do.
    Demo,
}

#[derive(Debug, Default, Args)]
pub(crate) struct LocalnetArgs {
    /// Port of the local Hub; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) hub_port: u16,
    /// Port of the local chain; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) chain_port: u16,
    /// Milliseconds between two blocks (the real chain: 12000); without it blocks come with extrinsics.
    #[arg(long, value_name = "MS")]
    pub(crate) block_time: Option<u64>,
    /// JSON list of calls, `{"method": "dev_setMiners", "params": […]}`, that a new chain begins with.
    #[arg(long, value_name = "FILE")]
    pub(crate) prepare: Option<PathBuf>,
    /// JSON list of what the Hub shall do wrong, such as
    /// `[{"method":"POST","path_contains":"/commit/","skip":1,"times":2,"action":{"status":503}}]`; crates/deval-localnet/src/hub/faults.rs
    /// tells all of its form.
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,
    /// Further options of deval-localnet, such as `-- --hub-transfer multipart`.
    #[arg(last = true, value_name = "OPTIONS")]
    pub(crate) more: Vec<String>,
}
