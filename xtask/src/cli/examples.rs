//! `cargo xtask examples …`.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use clap::{Args, Subcommand, ValueEnum};
use deval_eval::Task;

#[derive(Debug, Subcommand)]
pub(crate) enum ExamplesCommand {
    /// Make a set: offline (no network, no model), from articles, or by a language model.
    Generate(Box<Generate>),
    /// Read CSV or JSON Lines (several files become one set) and write either.
    Import(Import),
    /// Show examples in full.
    Show {
        /// The set.
        file: PathBuf,
        /// Only the example with this id.
        #[arg(long)]
        id: Option<String>,
        /// Only examples of these tasks.
        #[arg(long = "task", value_name = "TASK", value_parser = task)]
        tasks: Vec<Task>,
        /// Show this many.
        #[arg(long, value_name = "N", default_value_t = 1)]
        limit: usize,
    },
    /// Check a set: labels, distribution, what a bag of words earns on it, overlap with training text.
    Check {
        /// The set.
        file: PathBuf,
        /// Training text (any text files): examples that share 13 words in a row with it are named.
        #[arg(long, value_name = "FILE")]
        against: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// Where the set is written; `.csv` for CSV, JSON Lines otherwise.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Examples of each task.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) per_task: u32,
    /// Only these tasks.
    #[arg(long = "task", value_name = "TASK", value_parser = task)]
    pub(crate) tasks: Vec<Task>,
    /// Seed: the same seed makes the same set.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Articles as contexts: a MediaWiki dump (`.xml`, `.xml.bz2`), WikiExtractor JSON Lines, text files, or a folder of these.
    #[arg(long, value_name = "PATH")]
    pub(crate) articles: Vec<PathBuf>,
    /// Random articles from Wikipedia's API as contexts.
    #[arg(long, value_name = "N")]
    pub(crate) wikipedia: Option<usize>,
    /// Most articles that are read.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) most_articles: usize,
    /// Let a language model write the texts.
    #[arg(long, value_enum, value_name = "API")]
    pub(crate) llm: Option<Api>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// Which interface a language model is asked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Api {
    /// Any OpenAI-compatible endpoint; the key is OPENAI_API_KEY, from the environment or `.env`.
    Openai,
    /// AWS Bedrock's converse API; AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    Bedrock,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Language model")]
pub(crate) struct ModelArgs {
    /// Name of the model.
    #[arg(long = "model", value_name = "NAME", default_value = "gpt-4o-mini")]
    pub(crate) name: String,
    /// OpenAI-compatible endpoint.
    #[arg(long, value_name = "URL", default_value = "https://api.openai.com/v1")]
    pub(crate) base_url: String,
    /// AWS region.
    #[arg(long, default_value = "us-east-1")]
    pub(crate) region: String,
    /// Send the key over plain HTTP to another machine.
    #[arg(long, requires = "llm")]
    pub(crate) allow_plain_http: bool,
    /// Stop before the cost passes this, in USD.
    #[arg(long, value_name = "USD", requires = "llm", value_parser = amount)]
    pub(crate) max_cost: Option<f64>,
    /// Price in USD per million tokens, `IN/OUT`, in place of the listed one.
    #[arg(long, value_name = "IN/OUT", requires = "llm")]
    pub(crate) price: Option<String>,
    /// Most requests a minute.
    #[arg(long, value_name = "N", requires = "llm")]
    pub(crate) requests_per_minute: Option<NonZeroU32>,
    /// Most tokens a minute.
    #[arg(long, value_name = "N", requires = "llm")]
    pub(crate) tokens_per_minute: Option<NonZeroU32>,
    /// Requests at a time.
    #[arg(long, value_name = "N", default_value = "4")]
    pub(crate) concurrency: NonZeroUsize,
    /// Only tell what it would cost.
    #[arg(long, requires = "llm")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// CSV (upstream's seven columns, more are kept) or JSON Lines.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Where the set is written; `.csv` for CSV, JSON Lines otherwise.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// How the files are written.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) from: From,
    /// Write just upstream's seven columns.
    #[arg(long)]
    pub(crate) upstream: bool,
    /// Name of the set.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Licence, as an SPDX expression.
    #[arg(long, value_name = "SPDX")]
    pub(crate) licence: Option<String>,
    /// Contamination tag: why a model may have seen the examples before.
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Draw this many examples of each task.
    #[arg(long, value_name = "N")]
    pub(crate) per_task: Option<usize>,
    /// Only these tasks.
    #[arg(long = "task", value_name = "TASK", value_parser = task)]
    pub(crate) tasks: Vec<Task>,
    /// Seed of the draw.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

/// How a file of examples is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// As its name or its first character says.
    Auto,
    Csv,
    Jsonl,
}

fn amount(text: &str) -> Result<f64, String> {
    let amount = text.parse::<f64>().ok().filter(|amount| amount.is_finite() && *amount >= 0.0);
    amount.ok_or_else(|| "expected an amount, 0 or more".to_owned())
}

fn task(name: &str) -> Result<Task, String> {
    let known = || Task::ALL.map(Task::name).join(", ");
    Task::from_name(name).ok_or_else(|| format!("expected one of {}", known()))
}
