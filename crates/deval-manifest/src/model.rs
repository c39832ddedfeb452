//! The typed manifest. Every default is the value that works; paths are relative to the manifest's folder.

use std::collections::BTreeMap;

use deval_report::Network;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Newest version of the format this program reads.
pub const SCHEMA: u32 = 1;

/// One submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// What is submitted and where to.
    pub submission: Submission,
    /// Whose submission it is.
    #[serde(default)]
    pub wallet: Wallet,
    /// How the repository tree is put together.
    #[serde(default)]
    pub package: Package,
    /// How the reward is estimated.
    #[serde(default)]
    pub evaluate: Evaluate,
    /// The validator's container, where it answers the questions.
    #[serde(default)]
    pub container: Container,
    /// The Hugging Face Hub.
    #[serde(default)]
    pub hub: Hub,
    /// The Bittensor chain.
    #[serde(default)]
    pub chain: Chain,
    /// The server that tells validators where the model is.
    #[serde(default)]
    pub axon: Axon,
}

/// What is submitted and where to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// Repository on the Hub, `namespace/name`; at most 29 bytes (32 with compact JSON) fit beside the hash into a commitment.
    pub model_url: String,
    /// Folder of the model in Hugging Face layout.
    pub model_dir: String,
    /// Folder with `pipeline.py` and `prompts.py`.
    #[serde(default = "pipeline_dir")]
    pub pipeline_dir: String,
    /// Network of Hub and chain.
    #[serde(default = "network")]
    pub network: Network,
}

/// Whose submission it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wallet {
    /// Folder of wallets in Bittensor's layout; a leading `~` is the home directory.
    pub path: String,
    /// Name of the wallet (its coldkey).
    pub name: String,
    /// Name of the hotkey.
    pub hotkey: String,
}

/// How the repository tree is put together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Package {
    /// Files of the model folder that stay at home: exact names or `*` patterns.
    pub ignore: Vec<String>,
    /// Whether the pipeline is shipped obfuscated by PyArmor, proven to answer as the plain one.
    pub obfuscate: bool,
}

/// What answers the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The built-in engine: quick, Python-free, an estimate.
    Native,
    /// The miner's own pipeline in the validator's container: what a validator would hear.
    Container,
}

/// How the built-in engine reads an answer from the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Free generation, parsed as upstream's reference pipeline parses it.
    Generate,
    /// The shape of the answer is forced: always parseable.
    Constrained,
    /// Log-probability of each claim with and without the context; no generation.
    Likelihood,
}

/// How the reward is estimated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluate {
    /// What answers the questions.
    pub backend: Backend,
    /// How an answer is read from the model.
    pub reading: Reading,
    /// What the native backend computes on: `"auto"` (a GPU where this was built for one), `"cpu"` or `"cuda:N"`.
    #[schemars(extend("pattern" = "^(auto|cpu|cuda:[0-9]+)$"))]
    pub device: String,
    /// Examples of each of the four tasks.
    #[schemars(range(min = 1, max = 1000))]
    pub examples_per_task: u32,
    /// Seed of the example generator, of sampling and of the bootstrap.
    pub seed: u64,
    /// Longest generated answer in tokens.
    #[schemars(range(min = 1, max = 4096))]
    pub max_new_tokens: u32,
    /// JSON Lines file of labelled examples to use in place of generated ones.
    pub examples: Option<String>,
    /// Answers to each example; more than one tells how much sampled answers vary.
    #[schemars(range(min = 1, max = 100))]
    pub samples: u32,
    /// When to stop asking.
    pub until: Until,
    /// Share of the labels that may be wrong; widens the result by a band.
    #[schemars(range(min = 0, max = 0.49))]
    pub label_noise: f64,
    /// Folder of the sentence encoder for the relevance reward (validators use WhereIsAI/UAE-Large-V1).
    pub embedder_dir: Option<String>,
    /// Repository of the sentence encoder on the Hub, `namespace/name`, in place of a folder.
    pub embedder_repo: Option<String>,
    /// What the native backend asks, and how it reads the answers.
    pub prompts: Prompts,
}

/// Where the prompts come from, and what ends and parses the answers to them. The defaults are those of the reference pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prompts {
    /// Python file in the pipeline's folder that defines them as string constants.
    pub source: String,
    /// TOML file with their texts, in place of a source that cannot be read without running it.
    pub file: Option<String>,
    /// Names of the constants, where they are others than usual; `TABLE.key` for an entry of a dictionary or class.
    pub names: BTreeMap<PromptKey, String>,
    /// How fields in braces are filled. Default: as the pipeline's source does it.
    pub fill: Option<Fill>,
    /// System prompt, in place of the source's; empty for none.
    pub system: Option<String>,
    /// Tokens that end an answer, by their text, in place of the tokenizer's end token and `<|eot_id|>`.
    pub stop_tokens: Option<Vec<String>>,
    /// Regular expression whose first group is the score in an answer in lower case.
    pub score_pattern: Option<String>,
    /// Regular expression whose first group is the mistake in a line of an answer; other lines are none.
    pub mistake_pattern: Option<String>,
    /// `date_string` for chat templates that print today's date otherwise.
    pub date: Option<String>,
}

/// A prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptKey {
    /// System prompt.
    System,
    /// Score of relevancy.
    Relevancy,
    /// Score of hallucination.
    Hallucination,
    /// Mistakes of hallucination.
    HallucinationMistakes,
    /// Yes or no to one claim of hallucination; need not be there.
    HallucinationClaim,
    /// Score of summary_completeness.
    SummaryCompleteness,
    /// Missing points of summary_completeness.
    SummaryCompletenessMistakes,
    /// Score of attribution.
    Attribution,
    /// Mistakes of attribution.
    AttributionMistakes,
    /// Yes or no to one item of attribution; need not be there.
    AttributionClaim,
}

/// How fields in braces are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fill {
    /// By `str.format`: `{{` is a brace.
    Format,
    /// `{name}` of a known name is replaced in one pass; any other brace is a brace.
    Fields,
}

/// When an evaluation stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// After the last example.
    All,
    /// As soon as the comparison with every rule without a model is settled.
    Settled,
}

/// GPUs for the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^(auto|all|none|[0-9]+)$"))]
pub enum Gpu {
    /// All of them if the engine has any.
    Auto,
    /// All of them.
    All,
    /// None.
    None,
    /// That many.
    Count(u32),
}

/// Whether the container may reach the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkAccess {
    /// It may not, as under a validator's firewall.
    Closed,
    /// It may.
    Open,
}

/// The validator's container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Container {
    /// Folder with the `Dockerfile` of the miner API.
    pub image_dir: String,
    /// Image that it is built on.
    pub base: Option<String>,
    /// GPUs: `"auto"`, `"all"`, `"none"` or a number.
    pub gpu: Gpu,
    /// Most memory, swap included, in GiB.
    #[schemars(range(min = 1, max = 4096))]
    pub memory_gib: u32,
    /// Whether the container may reach the network.
    pub network: NetworkAccess,
}

/// The Hugging Face Hub.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hub {
    /// Endpoint, when it is not the network's own.
    pub endpoint: Option<String>,
}

/// The Bittensor chain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Chain {
    /// WebSocket endpoint, when it is not the network's own.
    pub endpoint: Option<String>,
}

/// The server that tells validators where the model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Axon {
    /// Address to listen on.
    pub ip: std::net::IpAddr,
    /// Port to listen on.
    #[schemars(range(min = 1025, max = 65534))]
    pub port: u16,
    /// Address that validators reach, announced on the chain; the chain refuses loopback addresses.
    pub external_ip: Option<std::net::IpAddr>,
    /// Network interface (`eth0`) whose address is announced, in place of `external_ip`.
    pub external_interface: Option<String>,
    /// Address and port of `/health` and `/metrics`. Default: the port after `port`, for this machine only.
    pub monitor: Option<std::net::SocketAddr>,
}

impl Axon {
    /// Where `/health` and `/metrics` are served.
    pub fn monitor(&self) -> std::net::SocketAddr {
        self.monitor.unwrap_or_else(|| (std::net::Ipv4Addr::LOCALHOST, self.port.saturating_add(1)).into())
    }
}

impl Default for Wallet {
    fn default() -> Self {
        Self { path: "~/.bittensor/wallets".into(), name: "default".into(), hotkey: "default".into() }
    }
}

impl Default for Evaluate {
    fn default() -> Self {
        Self {
            backend: Backend::Native,
            reading: Reading::Generate,
            device: "auto".into(),
            examples_per_task: 30,
            seed: 0,
            max_new_tokens: 250,
            examples: None,
            samples: 1,
            until: Until::All,
            label_noise: 0.0,
            embedder_dir: None,
            embedder_repo: None,
            prompts: Prompts::default(),
        }
    }
}

impl Default for Prompts {
    fn default() -> Self {
        Self {
            source: "prompts.py".into(),
            file: None,
            names: BTreeMap::new(),
            fill: None,
            system: None,
            stop_tokens: None,
            score_pattern: None,
            mistake_pattern: None,
            date: None,
        }
    }
}

impl Default for Container {
    fn default() -> Self {
        Self {
            image_dir: "pipeline".into(),
            base: None,
            gpu: Gpu::Auto,
            memory_gib: 32,
            network: NetworkAccess::Closed,
        }
    }
}

impl std::str::FromStr for Gpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            ("all", _) => Ok(Self::All),
            ("none", _) => Ok(Self::None),
            (_, Ok(count)) => Ok(Self::Count(count)),
            _ => Err(format!("unknown GPUs `{text}`, expected `auto`, `all`, `none` or a number in quotes")),
        }
    }
}

impl TryFrom<String> for Gpu {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Gpu> for String {
    fn from(gpu: Gpu) -> Self {
        gpu.to_string()
    }
}

impl std::fmt::Display for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::All => f.write_str("all"),
            Self::None => f.write_str("none"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl Backend {
    /// Name in `deval.toml` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Container => "container",
        }
    }
}

impl Default for Axon {
    fn default() -> Self {
        Self {
            ip: std::net::Ipv4Addr::UNSPECIFIED.into(),
            port: 8091,
            external_ip: None,
            external_interface: None,
            monitor: None,
        }
    }
}

impl Reading {
    /// Name in `deval.toml` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Constrained => "constrained",
            Self::Likelihood => "likelihood",
        }
    }
}

impl PromptKey {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::System,
        Self::Relevancy,
        Self::Hallucination,
        Self::HallucinationMistakes,
        Self::HallucinationClaim,
        Self::SummaryCompleteness,
        Self::SummaryCompletenessMistakes,
        Self::Attribution,
        Self::AttributionMistakes,
        Self::AttributionClaim,
    ];

    /// Name in `deval.toml` and in template files.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Relevancy => "relevancy",
            Self::Hallucination => "hallucination",
            Self::HallucinationMistakes => "hallucination_mistakes",
            Self::HallucinationClaim => "hallucination_claim",
            Self::SummaryCompleteness => "summary_completeness",
            Self::SummaryCompletenessMistakes => "summary_completeness_mistakes",
            Self::Attribution => "attribution",
            Self::AttributionMistakes => "attribution_mistakes",
            Self::AttributionClaim => "attribution_claim",
        }
    }
}

impl Until {
    /// Name in `deval.toml` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Settled => "settled",
        }
    }
}

fn pipeline_dir() -> String {
    "pipeline/model".into()
}

fn network() -> Network {
    Network::Local
}
