//! One model directory, ready to answer.
//!
//! Questions go through the model together, however many there are ([`Engine::work`]); what one is answered depends
//! on itself only.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use candle_core::utils::cuda_is_available;
use candle_core::{DType, Device};

use crate::LlamaError;
use crate::chat::{ChatTemplate, Message};
use crate::config::LlamaConfig;
use crate::cpu::Cpu;
use crate::generation::GenerationConfig;
use crate::grammar::Lines;
use crate::memory;
use crate::model::{Compute, Decoder};
use crate::orders::Orders;
use crate::sampling::Sampling;
use crate::schedule::{Limits, Scheduler};
use crate::tensors::Tensors;
use crate::tokenizer::TextCodec;
use crate::weights::Weights;
use crate::work::{
    EngineStats, Generate, GenerateOptions, Generation, Grammar, Likelihood, Outcome, Prompt, Queue, Score, Work,
};

/// Memory for the key/value cache where the system does not tell how much it has.
const USUAL_CACHE_BYTES: usize = 1 << 30;

/// Texts may be this many times longer than the context, or so long at least; transformers has no such limit but memory and patience.
const LONGEST_TEXT: (usize, usize) = (4, 4096);

/// A loaded model with its tokenizer and chat template.
pub struct Engine {
    dir: PathBuf,
    scheduler: Scheduler,
    codec: TextCodec,
    template: Option<ChatTemplate>,
    stop_tokens: Vec<u32>,
    generation: Arc<GenerationConfig>,
    /// Texts beyond the context, and tokens of the longest.
    beyond: (u64, usize),
    info: ModelInfo,
}

/// How an engine turns conversations into prompts and tokens into text; what a [`Queue`] sees of it while it works.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    dir: &'a Path,
    pub(crate) codec: &'a TextCodec,
    template: Option<&'a ChatTemplate>,
    pub(crate) stop_tokens: &'a [u32],
}

impl Texts<'_> {
    /// The conversation as the model expects it, up to where its answer starts.
    ///
    /// # Errors
    /// No chat template, or one that fails.
    pub fn chat_prompt(&self, system: Option<&str>, user: &str) -> Result<Prompt, LlamaError> {
        let template = self.template.ok_or_else(|| LlamaError::NoTemplate { path: self.dir.to_owned() })?;
        let system = system.map(|content| Message { role: "system", content });
        let messages: Vec<Message<'_>> = system.into_iter().chain([Message { role: "user", content: user }]).collect();
        template.render(&messages, true).map(Prompt::Chat)
    }

    /// A grammar of answers that are some of `choices`, one a line, between `least` and `most` of them, each at most once and in any order.
    /// Choices that are empty or hold a newline do not count.
    pub fn lines(&self, choices: &[&str], least: usize, most: usize) -> Box<dyn Grammar> {
        Box::new(Lines::new(self.codec.vocabulary().clone(), self.stop_tokens.to_vec(), choices, least, most))
    }

    /// What tokens stand for to the byte, without what [`Engine::decode`] tidies up.
    pub fn raw_text(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| self.codec.vocabulary().bytes(*token)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU where this was built for GPUs (feature `cuda`) and there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU, in f32.
    Cpu,
    /// A GPU by its number, in the type of the weights.
    Cuda(usize),
}

impl DeviceChoice {
    /// Whether it is a GPU.
    pub fn is_gpu(self) -> bool {
        self.gpu().is_some()
    }

    /// Number of the GPU.
    fn gpu(self) -> Option<usize> {
        match self {
            Self::Cuda(number) => Some(number),
            Self::Auto if cuda_is_available() => open_gpu(0).is_ok().then_some(0),
            Self::Auto | Self::Cpu => None,
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    /// `auto`, `cpu` or `cuda:N`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("cuda:").map(str::parse);
        match (text, number) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            _ => Err(format!("{text:?} is no device, expected auto, cpu or cuda:N")),
        }
    }
}

/// Where and how much is computed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// What computes.
    pub device: DeviceChoice,
    /// Texts that go through the model together, at least 1. No answer depends on it.
    pub texts: usize,
    /// Most tokens in the key/value cache; where absent, as many as a quarter of the free memory holds, or one text as long as the context
    /// in up to three quarters.
    pub cache_tokens: Option<usize>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { device: DeviceChoice::Auto, texts: 32, cache_tokens: None }
    }
}

/// What a model directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Name of the directory.
    pub name: String,
    /// `LlamaForCausalLM`.
    pub architecture: String,
    /// Weights, tied ones counted once.
    pub parameters: u64,
    /// Type of the weights on disk as safetensors spells it (`F16`); compute is f32.
    pub dtype: String,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Longest sequence in tokens.
    pub context: usize,
    /// Whether the embedding is also the output matrix.
    pub tied: bool,
    /// Bytes of the weights on disk.
    pub bytes: u64,
    /// Numbers of the key/value cache per token.
    pub cache_numbers: usize,
    /// Numbers of all heads' queries.
    pub query_width: usize,
}

impl Engine {
    /// Loads a Hugging Face model directory: `config.json`, safetensors, `tokenizer.json`, and if present
    /// `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json`.
    ///
    /// # Errors
    /// Whatever is absent, unreadable or not supported, by name.
    pub fn load(dir: &Path) -> Result<Self, LlamaError> {
        Self::load_with(dir, EngineOptions::default())
    }

    /// As [`Engine::load`], with bounds for the batch.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load_with(dir: &Path, options: EngineOptions) -> Result<Self, LlamaError> {
        let codec = TextCodec::load(dir)?;
        let template = ChatTemplate::load(dir)?;
        let weights = Weights::open(dir)?;
        let decoder = decoder(options.device, LlamaConfig::load(dir)?, &weights)?;
        let generation = Arc::new(GenerationConfig::load(dir)?);
        let stops = if generation.eos.is_empty() { &decoder.config().eos } else { &generation.eos };
        let stop_tokens = stops.clone();
        let info = model_info(dir, decoder.as_ref(), &weights);
        let limits = limits(decoder.config(), options);
        let scheduler = Scheduler::new(decoder, limits);
        Ok(Self { dir: dir.to_owned(), scheduler, codec, template, stop_tokens, generation, beyond: (0, 0), info })
    }

    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What the model's files want of answers. It holds for every answer that no grammar is given for, greedy ones included, as
    /// in transformers.
    pub fn generation(&self) -> &GenerationConfig {
        &self.generation
    }

    /// What was done so far.
    pub fn stats(&self) -> EngineStats {
        let (texts_beyond_context, longest_beyond_context) = self.beyond;
        EngineStats { texts_beyond_context, longest_beyond_context, ..self.scheduler.stats() }
    }

    /// Continues a text of about `tokens` tokens by exactly `answer`, alone and whatever it says, to see how long that takes.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn measure(&mut self, tokens: usize, answer: usize) -> Result<Generation, LlamaError> {
        let text: String = (0..tokens.div_ceil(2)).map(|number| format!("{} ", number % 10)).collect();
        let stops = std::mem::take(&mut self.stop_tokens);
        let options =
            GenerateOptions { max_new_tokens: answer, sampling: Sampling::Greedy, extra_stop_tokens: Vec::new() };
        let generation = self.generate(text, &options);
        self.stop_tokens = stops;
        generation
    }

    /// Ends answers where the reference pipeline does (upstream `neurons/miners/model/pipeline.py`), whatever `generation_config.json` lists:
    /// at the tokenizer's end token, and at `<|eot_id|>`, for which transformers takes the unknown token where there is none.
    pub fn stop_as_reference(&mut self) {
        let known = [self.codec.end_token(), self.codec.token_id_or_unknown("<|eot_id|>")];
        self.stop_tokens = known.into_iter().flatten().collect();
    }

    /// Ends answers at these tokens alone.
    ///
    /// # Errors
    /// A name that is no token.
    pub fn stop_at(&mut self, names: &[String]) -> Result<(), LlamaError> {
        let id = |name: &String| {
            let path = self.dir.join("tokenizer.json");
            self.codec.token_id(name).ok_or_else(|| LlamaError::tokenizer(&path, format!("there is no token {name:?}")))
        };
        self.stop_tokens = names.iter().map(id).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Gives the chat template one more variable, such as the `date_string` of Llama 3's.
    pub fn set_template_variable(&mut self, name: &str, value: &str) {
        self.template = self.template.take().map(|template| template.with(name, value));
    }

    /// How it turns conversations into prompts and tokens into text.
    pub fn texts(&self) -> Texts<'_> {
        let Self { dir, codec, template, stop_tokens, .. } = self;
        Texts { dir, codec, template: template.as_ref(), stop_tokens }
    }

    /// As [`Texts::chat_prompt`].
    ///
    /// # Errors
    /// No chat template, or one that fails.
    pub fn chat_prompt(&self, system: Option<&str>, user: &str) -> Result<Prompt, LlamaError> {
        self.texts().chat_prompt(system, user)
    }

    /// The tokens of a text, as every method here sees it.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn encode(&self, text: impl Into<Prompt>) -> Result<Vec<u32>, LlamaError> {
        self.codec.encode(&text.into())
    }

    /// The text of tokens, special ones left out.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, LlamaError> {
        self.codec.decode(tokens)
    }

    /// Number of tokens of a text.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn count_tokens(&self, text: impl Into<Prompt>) -> Result<usize, LlamaError> {
        Ok(self.encode(text)?.len())
    }

    /// The id of a token by its name (`<|eot_id|>`).
    pub fn token_id(&self, name: &str) -> Option<u32> {
        self.codec.token_id(name)
    }

    /// The model's own end tokens.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// Answers all questions of a queue. They go through the model together; where one is answered, the next takes its
    /// place, and what texts have in common at their beginning is computed once.
    ///
    /// # Errors
    /// Only when nothing can be computed any more; the queue then does not hear of the questions that are open.
    pub fn work(&mut self, queue: &mut dyn Queue) -> Result<(), LlamaError> {
        let Self { dir, codec, template, stop_tokens, scheduler, info, generation, beyond } = self;
        let texts = Texts { dir, codec, template: template.as_ref(), stop_tokens };
        let mut orders = Orders::new(queue, texts, generation.clone(), info.context);
        let worked = scheduler.run(&mut orders);
        let (texts, longest) = orders.beyond;
        *beyond = (beyond.0 + texts, beyond.1.max(longest));
        worked
    }

    /// Answers some questions; the answers are in the order of the questions.
    ///
    /// # Errors
    /// Only when nothing can be computed any more.
    pub fn answer_all(&mut self, work: Vec<Work>) -> Result<Vec<Result<Outcome, LlamaError>>, LlamaError> {
        let mut list = List { answers: work.iter().map(|_| None).collect(), work: work.into_iter().enumerate() };
        self.work(&mut list)?;
        Ok(list.answers.into_iter().map(|answer| answer.expect("the engine answers every question")).collect())
    }

    /// Continues `prompt`.
    ///
    /// # Errors
    /// An empty prompt, one that does not fit the cache, sampling numbers out of range, logits that are NaN.
    pub fn generate(&mut self, prompt: impl Into<Prompt>, options: &GenerateOptions) -> Result<Generation, LlamaError> {
        let work = Generate { prompt: prompt.into(), options: options.clone(), grammar: None };
        match self.answer(Work::Generate(work))? {
            Outcome::Generation(generation) => Ok(generation),
            Outcome::Likelihoods(_) => unreachable!("a text to continue is continued"),
        }
    }

    /// How probable `continuation` is after `prefix`; see [`Engine::likelihoods`].
    ///
    /// # Errors
    /// As [`Engine::likelihoods`].
    pub fn log_likelihood(&mut self, prefix: impl Into<Prompt>, continuation: &str) -> Result<Likelihood, LlamaError> {
        let only = self.likelihoods(prefix, &[continuation])?.pop();
        only.ok_or(LlamaError::Empty { what: "list of continuations" })
    }

    /// How probable each continuation is after the same prefix, which is computed once.
    ///
    /// Prefix and continuation are tokenised apart, as the shipped pipeline does it (`log_probs` in `pipeline/model/lm.py`): no token
    /// lies across the border, and only the prefix has the tokenizer's own leading tokens (BOS).
    ///
    /// # Errors
    /// An empty prefix or continuation, a text that does not fit the cache, logits that are NaN.
    pub fn likelihoods(
        &mut self,
        prefix: impl Into<Prompt>,
        continuations: &[&str],
    ) -> Result<Vec<Likelihood>, LlamaError> {
        let continuations = continuations.iter().map(|text| (*text).to_owned()).collect();
        match self.answer(Work::Score(Score { prefix: prefix.into(), continuations }))? {
            Outcome::Likelihoods(likelihoods) => Ok(likelihoods),
            Outcome::Generation(_) => unreachable!("texts to score are scored"),
        }
    }

    /// Log-probability of each candidate as the continuation of `prefix`, which is computed once: a reading of the
    /// model that always yields one of the candidates.
    ///
    /// # Errors
    /// As [`Engine::likelihoods`].
    pub fn choose(&mut self, prefix: impl Into<Prompt>, candidates: &[&str]) -> Result<Vec<f64>, LlamaError> {
        Ok(self.likelihoods(prefix, candidates)?.iter().map(Likelihood::sum).collect())
    }

    fn answer(&mut self, work: Work) -> Result<Outcome, LlamaError> {
        self.answer_all(vec![work])?.pop().expect("one question has one answer")
    }
}

/// Questions that are all there from the start.
struct List {
    work: std::iter::Enumerate<std::vec::IntoIter<Work>>,
    answers: Vec<Option<Result<Outcome, LlamaError>>>,
}

impl Queue for List {
    fn next(&mut self, _: Texts<'_>) -> Option<(usize, Work)> {
        self.work.next()
    }

    fn done(&mut self, _: Texts<'_>, number: usize, outcome: Result<Outcome, LlamaError>) {
        self.answers[number] = Some(outcome);
    }
}

/// The decoder of a model on a device.
pub(crate) fn decoder(
    choice: DeviceChoice,
    config: LlamaConfig,
    weights: &Weights,
) -> Result<Box<dyn Compute>, LlamaError> {
    let Some(number) = choice.gpu() else {
        memory::check(&config, weights)?;
        return Ok(Box::new(Decoder::load(Cpu::default(), config, weights)?));
    };
    let dtype = match weights.dtype("model.embed_tokens.weight").as_deref() {
        Some("BF16") => DType::BF16,
        Some("F16") => DType::F16,
        _ => DType::F32,
    };
    Ok(Box::new(Decoder::load(Tensors::new(gpu(number)?, dtype), config, weights)?))
}

fn gpu(number: usize) -> Result<Device, LlamaError> {
    let (why, help) = match open_gpu(number) {
        Ok(device) => return Ok(device),
        Err(error) if cuda_is_available() => (error, "take one that `nvidia-smi` lists, or `cpu`"),
        Err(_) => (
            "this program was built without GPUs".to_owned(),
            "build it with `--features cuda` (ci/gpu/build.sh xtask)",
        ),
    };
    Err(LlamaError::Device { number, why, help })
}

/// A GPU; where the driver's library is absent, what looks for it panics.
fn open_gpu(number: usize) -> Result<Device, String> {
    let opened = catch_unwind(|| Device::new_cuda(number));
    opened.map_err(|_| "there is no driver for GPUs".to_owned())?.map_err(|error| error.to_string())
}

/// How much goes through a model together.
fn limits(config: &LlamaConfig, options: EngineOptions) -> Limits {
    let texts = options.texts.max(1);
    let bytes_per_token = (2 * config.layers * config.kv_heads * config.head_dim).saturating_mul(size_of::<f32>());
    let usual = || {
        let quarter = memory::free().map_or(USUAL_CACHE_BYTES, |bytes| bytes / 4) / bytes_per_token;
        // One text as long as the context may take more.
        let cache = quarter.max(config.max_positions.min(quarter.saturating_mul(3)));
        cache.min(texts.saturating_mul(config.max_positions.max(LONGEST_TEXT.1)))
    };
    let cache = options.cache_tokens.unwrap_or_else(usual).max(1);
    Limits { texts, cache, text: config.max_positions.saturating_mul(LONGEST_TEXT.0).max(LONGEST_TEXT.1).min(cache) }
}

fn model_info(dir: &Path, model: &dyn Compute, weights: &Weights) -> ModelInfo {
    let config = model.config();
    ModelInfo {
        name: dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        architecture: "LlamaForCausalLM".into(),
        parameters: model.parameters(),
        dtype: weights.dtype("model.embed_tokens.weight").unwrap_or_default(),
        layers: config.layers,
        hidden: config.hidden_size,
        vocab: config.vocab_size,
        context: config.max_positions,
        tied: config.tied,
        bytes: weights.bytes(),
        cache_numbers: 2 * config.layers * config.kv_heads * config.head_dim,
        query_width: config.heads * config.head_dim,
    }
}

#[cfg(test)]
mod tests;
