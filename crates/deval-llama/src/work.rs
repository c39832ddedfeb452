//! What an engine is asked and what it answers.

use crate::LlamaError;
use crate::engine::Texts;
use crate::sampling::Sampling;

/// How an answer is generated.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Upper limit of new tokens.
    pub max_new_tokens: usize,
    /// How each is chosen.
    pub sampling: Sampling,
    /// Tokens that end the answer beside the model's own, by name (`<|eot_id|>`); unknown names are ignored.
    pub extra_stop_tokens: Vec<String>,
}

/// Which tokens an answer may go on with.
pub trait Grammar: Send {
    /// The ids that may follow what was accepted so far, in any order; a stop token among them lets the model end. The
    /// answer ends where there is none. Where there is a single one it is taken without asking the model.
    fn allowed(&mut self) -> Vec<u32>;

    /// One of them was taken; stop tokens are not told.
    fn accept(&mut self, token: u32);
}

/// One question.
pub enum Work {
    /// Continue a text.
    Generate(Generate),
    /// Tell how probable texts are.
    Score(Score),
}

/// A text that the model reads before it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A conversation as the chat template renders it ([`crate::Engine::chat_prompt`]), taken as it stands: transformers'
    /// `apply_chat_template` adds nothing to it.
    Chat(String),
    /// Running text, with the tokenizer's own leading tokens (BOS) unless it starts with a special token.
    Text(String),
}

impl Prompt {
    /// The text, control tokens included.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Chat(text) | Self::Text(text) => text,
        }
    }
}

impl<T: Into<String>> From<T> for Prompt {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

/// A text to continue.
pub struct Generate {
    /// The text.
    pub prompt: Prompt,
    /// How.
    pub options: GenerateOptions,
    /// What the answer must look like.
    pub grammar: Option<Box<dyn Grammar>>,
}

/// Texts to score after the same prefix, which is computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    /// The text before.
    pub prefix: Prompt,
    /// The texts.
    pub continuations: Vec<String>,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// To [`Work::Generate`].
    Generation(Generation),
    /// To [`Work::Score`]: one for each continuation.
    Likelihoods(Vec<Likelihood>),
}

/// Where questions come from and answers go to ([`crate::Engine::work`]).
pub trait Queue {
    /// The next question, under a number of the queue's choice. It is asked for whenever the engine has room, after
    /// `None` again whenever an answer was given; the engine stops when nothing is left to answer and this says `None`.
    fn next(&mut self, texts: Texts<'_>) -> Option<(usize, Work)>;

    /// The answer to a question, as soon as it is there, in any order.
    fn done(&mut self, texts: Texts<'_>, number: usize, outcome: Result<Outcome, LlamaError>);
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model chose an end token.
    EndToken,
    /// `max_new_tokens` was reached.
    MaxNewTokens,
    /// The key/value cache holds no more tokens of one text.
    ContextFull,
    /// The grammar allows no further token.
    Grammar,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The new tokens as text, special tokens left out. The prompt is not in it.
    pub text: String,
    /// The new tokens, without the end token.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// New tokens, the end token not counted.
    pub new_tokens: usize,
    /// Tokens of prompt and answer for which the model was not made, as they are beyond its context. They are computed
    /// nevertheless, as transformers does.
    pub beyond_context: usize,
    /// Why it ended.
    pub stop: StopReason,
    /// Wall time from its start in the batch until the logits of the first new token.
    pub prefill_seconds: f64,
    /// Wall time of the rest.
    pub decode_seconds: f64,
}

/// How probable a model finds a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihood {
    /// Natural log-probability of each token given all before it.
    pub tokens: Vec<f64>,
}

impl Likelihood {
    /// Log-probability of the whole text.
    pub fn sum(&self) -> f64 {
        self.tokens.iter().sum()
    }

    /// Mean log-probability of a token.
    pub fn mean(&self) -> f64 {
        self.sum() / self.tokens.len() as f64
    }
}

/// What an engine has done since it was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Passes through the layers.
    pub steps: u64,
    /// Tokens that went through them.
    pub computed_tokens: u64,
    /// Tokens whose keys and values were there already, as another text begins alike.
    pub shared_tokens: u64,
    /// Texts that were started anew, as the cache was full.
    pub restarted: u64,
    /// Most tokens that the cache held at once.
    pub peak_cache_tokens: usize,
    /// Tokens that the cache can hold at most, once memory has given out: fewer texts then go through together.
    pub cache_limited_to: Option<usize>,
    /// Texts that still go through together, once the device had no memory for a step of more.
    pub texts_limited_to: Option<usize>,
    /// Texts within the model's context that memory had no room for, and most tokens that it has room for.
    pub refused_for_memory: Option<(u64, usize)>,
    /// Texts of which a part was beyond the model's context when they were asked.
    pub texts_beyond_context: u64,
    /// Tokens of the longest of them.
    pub longest_beyond_context: usize,
}
