//! Asks examples and rewards the answers, beside what the baselines and the right answers earn on them.

use sha2::{Digest, Sha256};

use super::*;
use crate::set;

/// Hex digits of an example's digest.
const DIGEST_DIGITS: usize = 16;

/// Everything known about one example.
pub(super) struct Asked<'a> {
    pub(super) example: &'a Example,
    /// Sample by sample.
    pub(super) results: Vec<ExampleResult>,
    /// Rewards of [`Baseline::ALL`], in their order.
    pub(super) baselines: Vec<f64>,
    /// Reward of the right answer; absent when it aborts the validator.
    pub(super) right: Option<Reward>,
}

impl Asked<'_> {
    /// Rewards sample by sample.
    pub(super) fn totals(&self) -> Vec<f64> {
        self.results.iter().map(ExampleResult::total).collect()
    }

    /// Rewards sample by sample, less that of a baseline by its place.
    pub(super) fn leads(&self, baseline: usize) -> Vec<f64> {
        self.results.iter().map(|result| result.total() - self.baselines[baseline]).collect()
    }
}

/// Asks a backend and keeps the time.
pub(super) struct Asker<'a> {
    pub(super) backend: &'a mut dyn Backend,
    pub(super) name: String,
    pub(super) embed: &'a dyn Embed,
    pub(super) samples: u32,
    /// Most answers that will be asked for.
    pub(super) expected: usize,
    pub(super) seconds: Vec<f64>,
    /// Whether answers were given together.
    pub(super) together: bool,
    pub(super) progress: &'a mut dyn FnMut(usize, usize),
}

impl Asker<'_> {
    /// Asks some examples at once. What needs no answer comes first: an embedder that fails does so before the first question.
    pub(super) fn ask<'e>(&mut self, examples: &[&'e Example]) -> Result<Vec<Asked<'e>>, EvalError> {
        let mut asked = examples.iter().map(|example| self.prepare(example)).collect::<Result<Vec<_>, _>>()?;
        let mut replies = self.replies(examples)?.into_iter();
        for asked in &mut asked {
            let own = (0..self.samples).zip(replies.by_ref());
            asked.results = own
                .map(|(sample, reply)| result(asked.example, sample, reply, self.embed))
                .collect::<Result<_, _>>()?;
        }
        Ok(asked)
    }

    fn prepare<'e>(&self, example: &'e Example) -> Result<Asked<'e>, EvalError> {
        let baseline =
            |baseline: Baseline| Ok(total(score(example, &baseline.answer(&example.request()), self.embed)?.1));
        let baselines = Baseline::ALL.into_iter().map(baseline).collect::<Result<_, _>>()?;
        let right = Answer::new(example.reference, example.reference_mistakes.clone());
        Ok(Asked { example, results: Vec::new(), baselines, right: score(example, &right, self.embed)?.1.ok() })
    }

    /// The replies to all samples of all examples, in this order.
    fn replies(&mut self, examples: &[&Example]) -> Result<Vec<Reply>, EvalError> {
        let samples = self.samples;
        let requests: Vec<_> = examples.iter().map(|example| example.request()).collect();
        let asks = requests.iter().flat_map(|request| (0..samples).map(move |sample| Ask { request, sample }));
        let asks: Vec<_> = asks.collect();
        let mut replies: Vec<Option<Reply>> = asks.iter().map(|_| None).collect();
        let (mut done, expected, progress) = (self.seconds.len(), self.expected, &mut self.progress);
        let mut hear = |place: usize, reply| {
            replies[place] = Some(reply);
            done += 1;
            progress(done, expected);
        };
        self.backend.answer_all(&asks, &mut hear).map_err(|GaveUp { place, source }| EvalError::Backend {
            backend: self.name.clone(),
            example: examples[place / samples as usize].id.clone(),
            source,
        })?;
        let all = replies.into_iter().map(|reply| reply.expect("a backend that does not give up answers everything"));
        let all: Vec<_> = all.collect();
        self.seconds.extend(all.iter().map(|reply| reply.seconds));
        self.together |= all.len() > 1 && self.backend.answers_together();
        Ok(all)
    }
}

/// What one answer to an example earns.
fn result(example: &Example, sample: u32, reply: Reply, embed: &dyn Embed) -> Result<ExampleResult, EvalError> {
    let (answer, outcome) = score(example, &reply.answer, embed)?;
    let Reply { raw, response, lengths, .. } = reply;
    let answer = response.unwrap_or(answer);
    let (reward, aborts) = match outcome {
        Ok(reward) => (Some(reward), None),
        Err(aborts) => (None, Some(aborts)),
    };
    let digest = set::digest(std::slice::from_ref(example)).chars().take(DIGEST_DIGITS).collect();
    let (id, task, reference) = (example.id.clone(), example.task, example.reference);
    Ok(ExampleResult { id, digest, task, reference, sample, answer, reward, aborts, raw, lengths })
}

type Outcome = Result<Reward, ValidatorAborts>;

fn total(outcome: Outcome) -> f64 {
    outcome.map_or(0.0, |reward| f64::from(reward.total))
}

/// Rewards one answer, typed exceptions included.
fn score(example: &Example, answer: &Answer, embed: &dyn Embed) -> Result<(ApiResponse, Outcome), EvalError> {
    let failed =
        |why: String| EvalError::Embedder { embedder: embed.name().to_owned(), example: example.id.clone(), why };
    let answer = api::receive(answer);
    match reward(example.task, example.into(), &answer.answer(), embed) {
        Ok(reward) if reward.total.is_finite() => Ok((answer, Ok(reward))),
        Ok(_) => Err(failed("the relevance reward is no number".to_owned())),
        Err(Unscored::Aborts(abort)) => Ok((answer, Err(abort))),
        Err(Unscored::Embedder(why)) => Err(failed(why)),
    }
}

/// Seed of the random draws for one sample of one request, the same whatever was asked before.
pub fn sampling_seed(seed: u64, request: &Request, sample: u32) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(sample.to_le_bytes());
    let Request { task, rag_context, query, llm_response } = request;
    for text in [task.name(), rag_context, query, llm_response] {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    let hash = hasher.finalize();
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
