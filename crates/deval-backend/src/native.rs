//! The native lane: the built-in engine with the miner's prompts.
//!
//! The readings are those of the shipped Python pipeline (`pipeline/model/readings.py`), so that both lanes ask the same questions.

mod notes;

use std::{collections::BTreeMap, time::Instant};

use deval_eval::{
    Answer, Backend, BackendError, BackendInfo, Lane, Lengths, Reply, Request, Task, claims,
    harness::{Finish, sampling_seed},
    python::round2,
};
use deval_llama::{
    Engine, Generate, GenerateOptions, Generation, Likelihood, LlamaError, Outcome, Sampling, Score, Work,
};
use deval_manifest::Reading;
use serde_json::Value;

use crate::{AnswerParser, Prompts};

/// How the native backend asks.
#[derive(Debug, Clone)]
pub struct NativeOptions {
    /// How an answer is read from the model.
    pub reading: Reading,
    /// Longest generated answer in tokens.
    pub max_new_tokens: usize,
    /// Seed of sampling; each sample of each request has its own stream, whatever was asked before.
    pub seed: u64,
    /// Name of the model in reports.
    pub model: String,
    /// Whether the engine was told where answers end ([`Engine::stop_at`]); otherwise they end where the reference pipeline's do.
    pub own_stops: bool,
}

/// Answers with the built-in engine.
pub struct Native {
    engine: Engine,
    prompts: Prompts,
    answers: AnswerParser,
    options: NativeOptions,
}

/// An answer and what is known about it.
struct Read {
    answer: Answer,
    raw: Option<String>,
    lengths: Vec<Lengths>,
}

/// Thresholds of the likelihood reading in nats per token, as in `pipeline/model/settings.py`: picked with SmolLM2-135M-Instruct on
/// labelled examples. Another model needs its own.
const SUPPORT_GAIN: f64 = 1.0;
const COVERAGE_GAIN: f64 = 0.2;
const RELEVANCY_GAIN: f64 = 0.4;

/// Scores that the constrained reading chooses from.
const GRID: [&str; 11] = ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0"];

/// Most mistakes that the model can list.
const MOST_LISTED: usize = 12;

/// Most points of a context that are looked at for what a summary left out.
const MOST_POINTS: usize = 12;

impl Native {
    /// A backend over a loaded engine.
    pub fn new(mut engine: Engine, prompts: Prompts, answers: AnswerParser, options: NativeOptions) -> Self {
        if !options.own_stops {
            engine.stop_as_reference();
        }
        Self { engine, prompts, answers, options }
    }

    fn read(&mut self, request: &Request, sample: u32) -> Result<Read, LlamaError> {
        let quiet = |answer| Read { answer, raw: None, lengths: Vec::new() };
        match self.options.reading {
            Reading::Generate => self.generate(request, sample),
            Reading::Constrained => self.constrained(request).map(quiet),
            Reading::Likelihood => self.likelihood(request).map(quiet),
        }
    }

    /// Two free generations, parsed as the reference pipeline parses them (upstream `neurons/miners/model/pipeline.py`), each cut at
    /// its own prompt's length.
    fn generate(&mut self, request: &Request, sample: u32) -> Result<Read, LlamaError> {
        // What upstream's pipeline passes; the rest is as the model's generation_config.json has it.
        let sampling = |seed| Sampling::Sample { temperature: 0.5, top_k: None, top_p: 0.95, seed };
        let first = sampling_seed(self.options.seed, request, sample);
        let score = self.write(&self.prompts.score(request), sampling(first))?;
        let mistakes = match self.prompts.mistakes(request) {
            Some(prompt) => Some(self.write(&prompt, sampling(first.wrapping_add(1)))?),
            None => None,
        };
        let lengths = [&score].into_iter().chain(&mistakes).map(notes::lengths).collect();
        let (score, mistakes) = (score.text, mistakes.map(|mistakes| mistakes.text).unwrap_or_default());
        let answer = Answer::new(self.answers.score(&score), self.answers.mistakes(&mistakes));
        Ok(Read { answer, raw: Some(format!("{score}\n---\n{mistakes}")), lengths })
    }

    fn write(&mut self, user: &str, sampling: Sampling) -> Result<Generation, LlamaError> {
        let prompt = self.engine.chat_prompt(self.prompts.system(), user)?;
        let options = self.generate_options(sampling);
        self.engine.generate(&prompt, &options)
    }

    fn generate_options(&self, sampling: Sampling) -> GenerateOptions {
        GenerateOptions { max_new_tokens: self.options.max_new_tokens, sampling, extra_stop_tokens: Vec::new() }
    }

    /// The score is read off a grid. Mistakes are verbatim sentences of the response: each judged yes or no where the miner has a prompt for
    /// that, otherwise as the mistakes prompt makes the model list them, held to them token by token. What a summary leaves out are
    /// sentences of the context.
    fn constrained(&mut self, request: &Request) -> Result<Answer, LlamaError> {
        let grid = if request.task == Task::Relevancy { &["0", "1"][..] } else { &GRID };
        let logprobs = self.choose(&self.prompts.score(request), grid)?;
        let score: f64 = median(grid, &logprobs).parse().expect("the grid holds numbers");
        let mistakes = match (request.task, self.prompts.mistakes(request)) {
            (Task::Relevancy, _) | (_, None) => Vec::new(),
            (Task::Hallucination | Task::Attribution, _) if self.prompts.claim(request, "").is_some() => {
                self.refused_claims(request)?
            }
            (Task::Hallucination | Task::Attribution, Some(prompt)) => {
                self.listed(&prompt, &distinct(&request.llm_response))?
            }
            (Task::SummaryCompleteness, Some(prompt)) if score < 1.0 => {
                self.listed(&prompt, &distinct(&request.rag_context))?
            }
            (Task::SummaryCompleteness, Some(_)) => Vec::new(),
        };
        Ok(Answer::new(score, mistakes))
    }

    /// Which of some sentences the model lists. One that is cut off at the longest answer was not listed.
    fn listed(&mut self, user: &str, sentences: &[String]) -> Result<Vec<String>, LlamaError> {
        let prompt = self.engine.chat_prompt(self.prompts.system(), user)?;
        let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
        let grammar = Some(self.engine.lines(&sentences, 0, MOST_LISTED));
        let options = self.generate_options(Sampling::Greedy);
        let asked = vec![Work::Generate(Generate { prompt, options, grammar })];
        let Some(Outcome::Generation(written)) = self.engine.answer_all(asked)?.pop().transpose()? else {
            return Ok(Vec::new());
        };
        let text = self.engine.raw_text(&written.tokens);
        Ok(text.split('\n').filter(|line| sentences.contains(line)).map(str::to_owned).collect())
    }

    fn refused_claims(&mut self, request: &Request) -> Result<Vec<String>, LlamaError> {
        let mut refused = Vec::new();
        for claim in distinct(&request.llm_response) {
            let Some(prompt) = self.prompts.claim(request, &claim) else { continue };
            let logprobs = self.choose(&prompt, &["yes", "no"])?;
            if logprobs[1] > logprobs[0] {
                refused.push(claim);
            }
        }
        Ok(refused)
    }

    fn choose(&mut self, user: &str, options: &[&str]) -> Result<Vec<f64>, LlamaError> {
        let prompt = self.engine.chat_prompt(self.prompts.system(), user)?;
        self.engine.choose(&format!("{prompt}Response: "), options)
    }

    /// No generation: how much likelier a text becomes once the model has read what it should follow from.
    fn likelihood(&mut self, request: &Request) -> Result<Answer, LlamaError> {
        let Request { task, rag_context, query, llm_response } = request;
        let (texts, given, alone, least) = match task {
            Task::Relevancy => {
                let response = format!(" {}", llm_response.trim());
                (vec![response], format!("Question: {query}\nAnswer:"), "Answer:", RELEVANCY_GAIN)
            }
            Task::Hallucination | Task::Attribution => {
                (distinct(llm_response), format!("{rag_context}\n\n"), "\n\n", SUPPORT_GAIN)
            }
            Task::SummaryCompleteness => (points(rag_context), format!("{llm_response}\n\n"), "\n\n", COVERAGE_GAIN),
        };
        if texts.is_empty() {
            return Ok(Answer::new(0.5, Vec::new()));
        }
        let gains = self.gains(&given, alone, &texts)?;
        let count = texts.len();
        let weak: Vec<_> =
            texts.into_iter().zip(gains).filter(|(_, gain)| *gain < least).map(|(text, _)| text).collect();
        let score = round2(1.0 - weak.len() as f64 / count as f64);
        Ok(Answer::new(score, if *task == Task::Relevancy { Vec::new() } else { weak }))
    }

    /// All texts behind both prefixes in one batch; each prefix is computed once.
    fn gains(&mut self, given: &str, alone: &str, texts: &[String]) -> Result<Vec<f64>, LlamaError> {
        let behind = |prefix: &str| Work::Score(Score { prefix: prefix.to_owned(), continuations: texts.to_vec() });
        let mut means = Vec::new();
        for outcome in self.engine.answer_all(vec![behind(given), behind(alone)])? {
            if let Outcome::Likelihoods(found) = outcome? {
                means.extend(found.iter().map(Likelihood::mean));
            }
        }
        let (given, alone) = means.split_at(texts.len());
        Ok(given.iter().zip(alone).map(|(given, alone)| given - alone).collect())
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
            evidence: BTreeMap::from([("prompts".to_owned(), self.prompts.origin().to_owned())]),
        }
    }

    fn answer(&mut self, request: &Request, sample: u32) -> Result<Reply, BackendError> {
        let started = Instant::now();
        let Read { answer, raw, lengths } = match self.read(request, sample) {
            // Upstream's pipeline would run out of memory here, and the validator would see -1.
            Err(LlamaError::ContextOverflow { tokens, limit }) => Read {
                answer: Answer::new(-1.0, Vec::new()),
                raw: Some(format!("the question has {tokens} tokens, the model takes {limit}")),
                lengths: vec![notes::refused(tokens, self.engine.info().context)],
            },
            read => read?,
        };
        Ok(Reply { answer, seconds: started.elapsed().as_secs_f64(), raw, response: None, lengths })
    }

    fn finish(&mut self) -> Result<Finish, BackendError> {
        let findings = notes::findings(&self.engine, self.options.reading);
        let run =
            if self.options.reading == Reading::Generate { notes::measured(&mut self.engine)? } else { Value::Null };
        Ok(Finish { findings, run, ..Finish::default() })
    }
}

/// The claims of a text, each once.
fn distinct(text: &str) -> Vec<String> {
    let mut claims: Vec<String> = Vec::new();
    for claim in claims::split(text) {
        if !claims.iter().any(|known| known == claim) {
            claims.push(claim.to_owned());
        }
    }
    claims
}

/// The first sentence of each of at most [`MOST_POINTS`] equal parts of the context.
fn points(context: &str) -> Vec<String> {
    let sentences = distinct(context);
    let parts = MOST_POINTS.min(sentences.len());
    (0..parts).map(|part| sentences[part * sentences.len() / parts].clone()).collect()
}

/// The point with half of the probability on either side: the reward falls with the distance from the truth.
fn median<'a>(grid: &[&'a str], logprobs: &[f64]) -> &'a str {
    let most = logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logprobs.iter().map(|logprob| (logprob - most).exp()).collect();
    let half = weights.iter().sum::<f64>() / 2.0;
    let mut reached = 0.0;
    let found = weights.iter().position(|weight| {
        reached += weight;
        reached > half
    });
    grid[found.unwrap_or(grid.len() - 1)]
}

#[cfg(test)]
mod asked;
#[cfg(test)]
mod tests;
