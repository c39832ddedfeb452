//! What the user can type. What it means is decided elsewhere.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The miner's workbench for De-Val (Bittensor subnet 15).
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
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

#[derive(Debug, Args)]
pub(crate) struct Effect {
    /// Do it; without this the plan is shown and nothing outside the machine is changed.
    #[arg(long)]
    pub(crate) execute: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Every gate that can be decided from the disk.
    Validate,
    /// Stage the repository tree.
    Package,
    /// Model hash, per-file digests, weight health.
    Hash,
    /// Estimate the reward.
    Evaluate,
    /// Publish to the Hub: private, one Hub commit, read back.
    Publish(Effect),
    /// Commit the model hash on chain, read it back, make the repository public.
    Commit(Effect),
    /// Serve the axon that tells validators where the model is.
    Serve(Effect),
    /// What would run, and why.
    Plan,
    /// All 51 gates in the validator's own order.
    Verdict,
    /// One HTML page of all reports.
    Report,
    /// Download a repository into an empty folder and check every file against the Hub's digests.
    Fetch {
        /// `namespace/name`.
        model_url: String,
        /// The folder; created when it is missing.
        dir: PathBuf,
    },
    /// What a gate checks, why a validator rejects, how to fix it.
    Explain {
        /// `G01` to `G51`.
        gate: String,
    },
    /// The whole way on a real small model, on the local network.
    Demo,
    /// Run the local Hub and the local chain until stopped.
    Localnet(LocalnetPorts),
    /// All tests.
    Test,
    /// Replay vector files produced by the upstream code.
    Oracle {
        /// Files whose stem is the kind of vector.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// JSON Schema of deval.toml.
    Schema {
        /// Write it to ci/deval.schema.json.
        #[arg(long)]
        write: bool,
    },
    /// One job of continuous integration.
    Ci {
        #[arg(value_enum)]
        job: Job,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Job {
    /// Formatting and lints.
    Lint,
    /// All tests.
    Test,
    /// The demo, twice; the second run must find nothing left to do.
    Demo,
}

#[derive(Debug, Args)]
pub(crate) struct LocalnetPorts {
    /// Port of the local Hub; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) hub_port: u16,
    /// Port of the local chain; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) chain_port: u16,
}
