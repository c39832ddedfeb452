//! What is asked of the engine for one request, and how an answer is read from what it says.

use deval_eval::{Answer, Ask, Lengths, Request, Task, claims, harness::sampling_seed, python::round2};
use deval_llama::{
    Generate, GenerateOptions, Generation, Likelihood, LlamaError, Outcome, Sampling, Score, Texts, Work,
};
use deval_manifest::Reading;

use super::{NativeOptions, notes};
use crate::{AnswerParser, Prompts};

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
pub(super) const MOST_POINTS: usize = 12;

/// How a request goes on.
pub(super) enum Next<'a> {
    /// With some questions, at least one, and what becomes of the outcomes, which come in the order of the questions.
    Ask(Vec<Work>, Then<'a>),
    /// With the answer.
    Answer(Read),
}

/// An answer and what is known about it.
pub(super) struct Read {
    pub(super) answer: Answer,
    /// The model's own text, where there is one.
    pub(super) raw: Option<String>,
    /// Of each text that was written.
    pub(super) lengths: Vec<Lengths>,
}

/// What is made of outcomes.
pub(super) type Then<'a> = Box<dyn FnOnce(Texts<'_>, Vec<Outcome>) -> Step<'a> + 'a>;

pub(super) type Step<'a> = Result<Next<'a>, LlamaError>;

/// Asks and reads.
pub(super) struct Reader {
    pub(super) prompts: Prompts,
    pub(super) answers: AnswerParser,
    pub(super) options: NativeOptions,
    /// Positions that the model was made for.
    pub(super) context: usize,
}

impl Reader {
    pub(super) fn begin<'a>(&'a self, ask: Ask<'a>, texts: Texts<'_>) -> Step<'a> {
        match self.options.reading {
            Reading::Generate => self.generate(ask, texts),
            Reading::Constrained => self.constrained(ask.request, texts),
            Reading::Likelihood => Ok(likelihood(ask.request)),
        }
    }

    /// Two free generations, parsed as the reference pipeline parses them (upstream `neurons/miners/model/pipeline.py`), each cut at
    /// its own prompt's length.
    fn generate<'a>(&'a self, Ask { request, sample }: Ask<'a>, texts: Texts<'_>) -> Step<'a> {
        // What upstream's pipeline passes; the rest is as the model's generation_config.json has it.
        let sampling = |seed| Sampling::Sample { temperature: 0.5, top_k: None, top_p: 0.95, seed };
        let first = sampling_seed(self.options.seed, request, sample);
        let mut asked = vec![self.write(texts, &self.prompts.score(request), sampling(first))?];
        if let Some(prompt) = self.prompts.mistakes(request) {
            asked.push(self.write(texts, &prompt, sampling(first.wrapping_add(1)))?);
        }
        let parse = move |_: Texts<'_>, written: Vec<Outcome>| {
            let written: Vec<_> = written.iter().map(generation).collect();
            let lengths = written.iter().map(|written| notes::lengths(written)).collect();
            let (score, mistakes) = (&written[0].text, written.get(1).map_or("", |mistakes| &mistakes.text));
            let answer = Answer::new(self.answers.score(score), self.answers.mistakes(mistakes));
            Ok(Next::Answer(Read { answer, raw: Some(format!("{score}\n---\n{mistakes}")), lengths }))
        };
        Ok(ask(asked, parse))
    }

    fn write(&self, texts: Texts<'_>, user: &str, sampling: Sampling) -> Result<Work, LlamaError> {
        let prompt = texts.chat_prompt(self.prompts.system(), user)?;
        Ok(Work::Generate(Generate { prompt, options: self.generate_options(sampling), grammar: None }))
    }

    fn generate_options(&self, sampling: Sampling) -> GenerateOptions {
        GenerateOptions { max_new_tokens: self.options.max_new_tokens, sampling, extra_stop_tokens: Vec::new() }
    }

    /// The score is read off a grid. Mistakes are verbatim sentences of the response: each judged yes or no where the miner has a prompt for
    /// that, otherwise as the mistakes prompt makes the model list them, held to them token by token. What a summary leaves out are
    /// sentences of the context.
    fn constrained<'a>(&'a self, request: &'a Request, texts: Texts<'_>) -> Step<'a> {
        let grid = if request.task == Task::Relevancy { &["0", "1"][..] } else { &GRID };
        let asked = self.choice(texts, &self.prompts.score(request), grid)?;
        match (request.task, self.prompts.mistakes(request)) {
            (Task::Relevancy, _) | (_, None) => {
                Ok(ask([asked], move |_, outcomes| Ok(read(score(grid, &outcomes[0]), Vec::new()))))
            }
            (Task::Hallucination | Task::Attribution, Some(prompt)) => match self.prompts.claim(request, "") {
                Some(_) => self.judge_claims(request, texts, asked),
                None => self.list_claims(request, texts, (asked, &prompt)),
            },
            (Task::SummaryCompleteness, Some(prompt)) => Ok(ask([asked], move |texts, outcomes| {
                let score = score(&GRID, &outcomes[0]);
                if score >= 1.0 {
                    return Ok(read(score, Vec::new()));
                }
                let sentences = distinct(&request.rag_context);
                let listing = self.list(texts, &prompt, &sentences)?;
                Ok(ask([listing], move |texts, outcomes| Ok(read(score, listed(texts, &outcomes[0], &sentences)))))
            })),
        }
    }

    fn judge_claims<'a>(&'a self, request: &'a Request, texts: Texts<'_>, first: Work) -> Step<'a> {
        let claims = distinct(&request.llm_response);
        let prompts = claims.iter().filter_map(|claim| self.prompts.claim(request, claim));
        let judgements = prompts.map(|prompt| self.choice(texts, &prompt, &["yes", "no"]));
        let asked = [Ok(first)].into_iter().chain(judgements).collect::<Result<Vec<_>, _>>()?;
        Ok(ask(asked, move |_, outcomes| {
            let is_refused = |outcome: &Outcome| {
                let sums: Vec<f64> = likelihoods(outcome).iter().map(Likelihood::sum).collect();
                sums[1] > sums[0]
            };
            let judged = claims.into_iter().zip(&outcomes[1..]);
            let refused = judged.filter(|(_, outcome)| is_refused(outcome)).map(|(claim, _)| claim).collect();
            Ok(read(score(&GRID, &outcomes[0]), refused))
        }))
    }

    fn list_claims<'a>(&'a self, request: &'a Request, texts: Texts<'_>, (first, prompt): (Work, &str)) -> Step<'a> {
        let sentences = distinct(&request.llm_response);
        let listing = self.list(texts, prompt, &sentences)?;
        Ok(ask([first, listing], move |texts, outcomes| {
            let mistakes = listed(texts, &outcomes[1], &sentences);
            Ok(read(score(&GRID, &outcomes[0]), mistakes))
        }))
    }

    /// Which of some sentences the model lists.
    fn list(&self, texts: Texts<'_>, user: &str, sentences: &[String]) -> Result<Work, LlamaError> {
        let prompt = texts.chat_prompt(self.prompts.system(), user)?;
        let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
        let grammar = Some(texts.lines(&sentences, 0, MOST_LISTED));
        Ok(Work::Generate(Generate { prompt, options: self.generate_options(Sampling::Greedy), grammar }))
    }

    fn choice(&self, texts: Texts<'_>, user: &str, options: &[&str]) -> Result<Work, LlamaError> {
        let prefix = texts.chat_prompt(self.prompts.system(), user)?;
        // Tokens that the options have in common weigh the same in each.
        let continuations = options.iter().map(|option| format!("Response: {option}")).collect();
        Ok(Work::Score(Score { prefix, continuations }))
    }
}

/// An answer that was read without writing a text.
fn read<'a>(score: f64, mistakes: Vec<String>) -> Next<'a> {
    Next::Answer(Read { answer: Answer::new(score, mistakes), raw: None, lengths: Vec::new() })
}

fn ask<'a>(asked: impl Into<Vec<Work>>, then: impl FnOnce(Texts<'_>, Vec<Outcome>) -> Step<'a> + 'a) -> Next<'a> {
    Next::Ask(asked.into(), Box::new(then))
}

fn generation(outcome: &Outcome) -> &Generation {
    match outcome {
        Outcome::Generation(generation) => generation,
        Outcome::Likelihoods(_) => unreachable!("a text to continue is continued"),
    }
}

fn likelihoods(outcome: &Outcome) -> &[Likelihood] {
    match outcome {
        Outcome::Likelihoods(likelihoods) => likelihoods,
        Outcome::Generation(_) => unreachable!("texts to score are scored"),
    }
}

/// The sentences that were listed. One that is cut off at the longest answer was not.
fn listed(texts: Texts<'_>, outcome: &Outcome, sentences: &[String]) -> Vec<String> {
    let text = texts.raw_text(&generation(outcome).tokens);
    text.split('\n').filter(|line| sentences.iter().any(|known| known == line)).map(str::to_owned).collect()
}

/// No generation: how much likelier a text becomes once the model has read what it should follow from. Each prefix is computed once.
fn likelihood(request: &Request) -> Next<'_> {
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
        return read(0.5, Vec::new());
    }
    let behind = |prefix: String| Work::Score(Score { prefix: prefix.into(), continuations: texts.clone() });
    ask([behind(given), behind(alone.to_owned())], move |_, outcomes| {
        let [given, alone] = [0, 1].map(|place| likelihoods(&outcomes[place]).iter().map(Likelihood::mean));
        let count = texts.len();
        let gains = texts.into_iter().zip(given.zip(alone));
        let weak: Vec<_> = gains.filter(|(_, (given, alone))| given - alone < least).map(|(text, _)| text).collect();
        let score = round2(1.0 - weak.len() as f64 / count as f64);
        let mistakes = if request.task == Task::Relevancy { Vec::new() } else { weak };
        Ok(read(score, mistakes))
    })
}

/// The claims of a text, each once.
pub(super) fn distinct(text: &str) -> Vec<String> {
    let mut claims: Vec<String> = Vec::new();
    for claim in claims::split(text) {
        if !claims.iter().any(|known| known == claim) {
            claims.push(claim.to_owned());
        }
    }
    claims
}

/// The first sentence of each of at most [`MOST_POINTS`] equal parts of the context.
pub(super) fn points(context: &str) -> Vec<String> {
    let sentences = distinct(context);
    let parts = MOST_POINTS.min(sentences.len());
    (0..parts).map(|part| sentences[part * sentences.len() / parts].clone()).collect()
}

/// The score that the model gives by what it finds of the scores of a grid.
fn score(grid: &[&str], outcome: &Outcome) -> f64 {
    let sums: Vec<f64> = likelihoods(outcome).iter().map(Likelihood::sum).collect();
    median(grid, &sums).parse().expect("the grid holds numbers")
}

/// The point with half of the probability on either side: the reward falls with the distance from the truth.
pub(super) fn median<'a>(grid: &[&'a str], logprobs: &[f64]) -> &'a str {
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
