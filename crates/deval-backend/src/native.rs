//! The native lane: the built-in engine with the miner's prompts.

use std::time::Instant;

use deval_eval::{Answer, Backend, BackendError, BackendInfo, Lane, Reply, Request, Task, claims, parse};
use deval_llama::{Engine, GenerateOptions, LlamaError, Sampling};
use deval_manifest::Reading;

use crate::Prompts;

/// How the native backend asks.
#[derive(Debug, Clone)]
pub struct NativeOptions {
    /// How an answer is read from the model.
    pub reading: Reading,
    /// Longest generated answer in tokens.
    pub max_new_tokens: usize,
    /// Seed of sampling; each question has its own stream.
    pub seed: u64,
    /// Name of the model in reports.
    pub model: String,
}

/// Answers with the built-in engine.
pub struct Native {
    engine: Engine,
    prompts: Prompts,
    options: NativeOptions,
    asked: u64,
}

/// A claim counts as supported when the context raises its mean token log-probability by at least this much (nats per token).
///
/// Picked with SmolLM2-135M-Instruct on one half of labelled claims and checked on the other; see ARCHITECTURE.md.
const SUPPORT_GAIN: f64 = 0.6;

/// Scores that the constrained reading chooses from.
const SCORES: [&str; 11] = ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0"];

/// Most points of a context that are looked at for what a summary left out.
const MOST_POINTS: usize = 12;

impl Native {
    /// A backend over a loaded engine.
    pub fn new(engine: Engine, prompts: Prompts, options: NativeOptions) -> Self {
        Self { engine, prompts, options, asked: 0 }
    }

    fn read(&mut self, request: &Request) -> Result<(Answer, Option<String>), LlamaError> {
        match self.options.reading {
            Reading::Generate => self.generate(request),
            Reading::Constrained => Ok((self.constrained(request)?, None)),
            Reading::Likelihood => Ok((self.likelihood(request)?, None)),
        }
    }

    /// Two free generations, parsed as the reference pipeline parses them (upstream `neurons/miners/model/pipeline.py`), each cut at
    /// its own prompt's length.
    fn generate(&mut self, request: &Request) -> Result<(Answer, Option<String>), LlamaError> {
        let score = self.ask(&self.prompts.score(request))?;
        let mistakes = self.prompts.mistakes(request).map(|prompt| self.ask(&prompt)).transpose()?;
        let answer = Answer {
            score: Some(parse::score(&score)),
            mistakes: Some(mistakes.as_deref().map(parse::mistakes).unwrap_or_default()),
        };
        Ok((answer, Some(format!("{score}\n---\n{}", mistakes.unwrap_or_default()))))
    }

    fn ask(&mut self, user: &str) -> Result<String, LlamaError> {
        let prompt = self.engine.chat_prompt(Some(&self.prompts.system), user)?;
        self.asked += 1;
        // What upstream's pipeline passes, with the top-k that transformers adds by default.
        let sampling = Sampling::Sample {
            temperature: 0.5,
            top_k: 50,
            top_p: 0.95,
            seed: self.options.seed.wrapping_add(self.asked),
        };
        let options = GenerateOptions {
            max_new_tokens: self.options.max_new_tokens,
            sampling,
            extra_stop_tokens: vec!["<|eot_id|>".into()],
        };
        Ok(self.engine.generate(&prompt, &options)?.text)
    }

    /// The score is the likeliest of a grid; the mistakes are claims of the response, taken one by one until "None" is likelier.
    fn constrained(&mut self, request: &Request) -> Result<Answer, LlamaError> {
        let prompt = self.engine.chat_prompt(Some(&self.prompts.system), &self.prompts.score(request))?;
        let grid: &[&str] = if request.task == Task::Relevancy { &["0.0", "1.0"] } else { &SCORES };
        let logprobs = self.engine.choose(&format!("{prompt}Response: "), grid)?;
        let best = best_of(&logprobs).map_or("0.5", |index| grid[index]);
        let mistakes = match self.prompts.mistakes(request) {
            Some(user) => self.pick_mistakes(&user, request)?,
            None => Vec::new(),
        };
        Ok(Answer::new(best.parse().expect("the grid holds numbers"), mistakes))
    }

    fn pick_mistakes(&mut self, user: &str, request: &Request) -> Result<Vec<String>, LlamaError> {
        let mut prefix = self.engine.chat_prompt(Some(&self.prompts.system), user)?;
        let mut left = candidates(request);
        let mut picked = Vec::new();
        while !left.is_empty() {
            let options: Vec<&str> = left.iter().map(String::as_str).chain(["None"]).collect();
            let means: Vec<f64> = self.engine.likelihoods(&prefix, &options)?.iter().map(|l| l.mean()).collect();
            match best_of(&means) {
                Some(index) if index < left.len() => picked.push(left.remove(index)),
                _ => break,
            }
            prefix.push_str(&format!("{}\n", picked.last().expect("just pushed")));
        }
        Ok(picked)
    }

    /// No generation: how much the context raises the log-probability of each claim.
    fn likelihood(&mut self, request: &Request) -> Result<Answer, LlamaError> {
        let Request { task, rag_context, query, llm_response } = request;
        let (texts, with, without) = match task {
            Task::Relevancy => (vec![llm_response.clone()], format!("Question: {query}\nAnswer:"), "Answer:"),
            Task::Hallucination | Task::Attribution => (candidates(request), format!("{rag_context}\n\n"), "\n\n"),
            Task::SummaryCompleteness => (candidates(request), format!("{llm_response}\n\n"), "\n\n"),
        };
        if texts.is_empty() {
            return Ok(Answer::new(0.5, Vec::new()));
        }
        let gains = self.gains(&with, without, &texts)?;
        let supported = gains.iter().filter(|&&gain| gain >= SUPPORT_GAIN).count();
        let score = supported as f64 / texts.len() as f64;
        let unsupported = texts.into_iter().zip(gains).filter(|(_, gain)| *gain < SUPPORT_GAIN).map(|(text, _)| text);
        let mistakes = if *task == Task::Relevancy { Vec::new() } else { unsupported.collect() };
        Ok(Answer::new((score * 100.0).round() / 100.0, mistakes))
    }

    fn gains(&mut self, with: &str, without: &str, texts: &[String]) -> Result<Vec<f64>, LlamaError> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let with = self.engine.likelihoods(with, &texts)?;
        let without = self.engine.likelihoods(without, &texts)?;
        Ok(with.iter().zip(&without).map(|(with, without)| with.mean() - without.mean()).collect())
    }
}

impl Backend for Native {
    fn describe(&self) -> BackendInfo {
        BackendInfo {
            name: "native".into(),
            model: self.options.model.clone(),
            reading: Some(self.options.reading.name().into()),
            lane: Lane::Estimate,
            why: "the built-in engine answers, not the miner's pipeline in the validator's container".into(),
        }
    }

    fn answer(&mut self, request: &Request) -> Result<Reply, BackendError> {
        let started = Instant::now();
        let (answer, raw) = match self.read(request) {
            // Upstream's pipeline would fail here, and the validator would see -1.
            Err(LlamaError::ContextOverflow { tokens, limit }) => {
                let raw = format!("the question has {tokens} tokens, the model takes {limit}");
                (Answer::new(-1.0, Vec::new()), Some(raw))
            }
            read => read?,
        };
        Ok(Reply { answer, seconds: started.elapsed().as_secs_f64(), raw })
    }
}

/// The texts that can be mistakes: claims of the response, or for a summary the points of the context.
fn candidates(request: &Request) -> Vec<String> {
    let source = match request.task {
        Task::Relevancy | Task::Hallucination | Task::Attribution => &request.llm_response,
        Task::SummaryCompleteness => &request.rag_context,
    };
    let pieces = claims::split(source).into_iter().map(str::to_owned);
    match request.task {
        Task::SummaryCompleteness => pieces.take(MOST_POINTS).collect(),
        Task::Relevancy | Task::Hallucination | Task::Attribution => pieces.collect(),
    }
}

fn best_of(values: &[f64]) -> Option<usize> {
    (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]))
}
