//! What can keep this crate from doing its work.

use std::io;
use std::path::{Path, PathBuf};

/// Why a model could not be loaded, run or converted.
#[derive(Debug, thiserror::Error)]
pub enum LlamaError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A JSON file does not parse, or a key has the wrong type.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A configuration that this crate cannot run, or that cannot be true.
    #[error("{path}: {message}")]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// The key, what was found and what is expected.
        message: String,
    },
    /// No weights, or a weights file that is not safetensors.
    #[error("{path}: {message}")]
    Weights {
        /// The weights file, or the directory that should hold one.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A tensor that the configuration asks for is not in the weights.
    #[error(
        "{path}: tensor `{name}` is missing (expected shape {expected:?}): config.json and the weights must be of one model"
    )]
    MissingTensor {
        /// The model directory, or the shard that the index names.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape according to `config.json`.
        expected: Vec<usize>,
    },
    /// A tensor has another shape than the configuration says.
    #[error(
        "{path}: tensor `{name}` has shape {found:?}, expected {expected:?}: config.json and the weights must be of one model"
    )]
    TensorShape {
        /// The weights file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape according to `config.json`.
        expected: Vec<usize>,
        /// Its shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is not of a floating-point type that can be read.
    #[error(
        "{path}: tensor `{name}` has type {found}, expected F32, F16 or BF16; save the model in one of them (`torch_dtype`)"
    )]
    TensorType {
        /// The weights file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type in the file.
        found: String,
    },
    /// The tokenizer could not be loaded or failed on a text.
    #[error("{path}: {message}")]
    Tokenizer {
        /// `tokenizer.json` or `vocab.txt`, or the directory that should hold one.
        path: PathBuf,
        /// What the tokenizer said.
        message: String,
    },
    /// The model directory has no chat template.
    #[error("{path}: no chat template in tokenizer_config.json (`chat_template`) or chat_template.jinja")]
    NoTemplate {
        /// The model directory.
        path: PathBuf,
    },
    /// The chat template does not compile or does not render.
    #[error("chat template: {message}")]
    Template {
        /// What the template engine said.
        message: String,
    },
    /// A text is far beyond the model's context, or larger than the key/value cache.
    #[error(
        "a text of {tokens} tokens does not fit, at most {limit} do: shorten it, or free memory for the key/value cache"
    )]
    ContextOverflow {
        /// Tokens of the text.
        tokens: usize,
        /// Most tokens of one text.
        limit: usize,
    },
    /// There is no such GPU.
    #[error("device cuda:{number} cannot be used: {why}; {help}, or compute on `cpu`")]
    Device {
        /// Number of the GPU.
        number: usize,
        /// What is wrong.
        why: String,
        /// What helps.
        help: &'static str,
    },
    /// The device has no memory left.
    #[error("the device has no memory left for the {what}: close other programs, or take a device with more")]
    OutOfMemory {
        /// What it was for.
        what: &'static str,
    },
    /// This machine has no memory for the model.
    #[error(
        "the model needs {needed:.1} GiB of memory (weights {weights:.1}, one step and the least cache {rest:.1}), {free:.1} GiB are free: \
         close other programs, or take a machine with more"
    )]
    TooLarge {
        /// GiB of weights.
        weights: f64,
        /// GiB of what is computed with.
        rest: f64,
        /// GiB of both.
        needed: f64,
        /// GiB that can be had.
        free: f64,
    },
    /// The tokenizer produced an id that the embedding does not have.
    #[error(
        "token id {token} is outside the model's vocabulary of {vocab}: config.json and tokenizer.json must be of one model; \
         added tokens need rows in the embedding (`resize_token_embeddings`)"
    )]
    TokenOutOfVocabulary {
        /// The id.
        token: u32,
        /// `vocab_size`.
        vocab: usize,
    },
    /// A text that must not be empty is.
    #[error("the {what} is empty, expected at least one token")]
    Empty {
        /// Which text.
        what: &'static str,
    },
    /// Sampling numbers out of range.
    #[error("sampling: {message}")]
    Sampling {
        /// Which one, found and expected.
        message: String,
    },
    /// The model computed NaN or only infinities, as weights with NaN do, and weights so large that f32 cannot hold the sums.
    #[error(
        "the model's logits are not numbers: its weights hold NaN or infinity (`cargo xtask hash` counts them), or are so large that \
         sums overflow; train again with a lower learning rate, or save an earlier checkpoint"
    )]
    NotANumber,
    /// A GGUF file that cannot be converted.
    #[error("{path}: {message}")]
    Gguf {
        /// The GGUF file.
        path: PathBuf,
        /// The key or tensor, found and expected.
        message: String,
    },
    /// A wheel that cannot be opened or lacks the member.
    #[error("{path}: {message}")]
    Wheel {
        /// The wheel.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A file is not the one it should be.
    #[error("{name} has sha256 {found}, expected {expected}")]
    Digest {
        /// The file or archive member.
        name: String,
        /// Lower-case hex.
        expected: String,
        /// Lower-case hex.
        found: String,
    },
    /// candle failed.
    #[error("computation: {0}")]
    Compute(candle_core::Error),
}

impl From<candle_core::Error> for LlamaError {
    /// A device without memory is told apart by what its driver says; candle passes that on as text.
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string().to_lowercase();
        if text.contains("out of memory") || text.contains("out_of_memory") {
            return Self::OutOfMemory { what: "computation" };
        }
        Self::Compute(error)
    }
}

impl LlamaError {
    /// Attaches a path to an I/O error.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// Attaches a path to a JSON error.
    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self + '_ {
        move |source| Self::Json { path: path.to_owned(), source }
    }

    /// A refusal of a configuration.
    pub(crate) fn config(path: &Path, message: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), message: message.into() }
    }

    /// A weights file that cannot be used.
    pub(crate) fn weights(path: &Path, message: impl ToString) -> Self {
        Self::Weights { path: path.to_owned(), message: message.to_string() }
    }

    /// A tokenizer that cannot be used.
    pub(crate) fn tokenizer(path: &Path, message: impl ToString) -> Self {
        Self::Tokenizer { path: path.to_owned(), message: message.to_string() }
    }

    /// A GGUF file that cannot be converted.
    pub(crate) fn gguf(path: &Path, message: impl ToString) -> Self {
        Self::Gguf { path: path.to_owned(), message: message.to_string() }
    }
}
