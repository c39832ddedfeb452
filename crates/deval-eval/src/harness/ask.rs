//! Asks one example and rewards the answers, beside what the baselines and the right answer earn on it.

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
    pub(super) progress: &'a mut dyn FnMut(usize, usize),
}

impl Asker<'_> {
    pub(super) fn ask<'e>(&mut self, example: &'e Example) -> Result<Asked<'e>, EvalError> {
        let embed = self.embed;
        let digest: String = set::digest(std::slice::from_ref(example)).chars().take(DIGEST_DIGITS).collect();
        let results =
            (0..self.samples).map(|sample| self.sample(example, sample, &digest)).collect::<Result<_, _>>()?;
        let baseline = |baseline: Baseline| Ok(total(score(example, &baseline.answer(&example.request()), embed)?.1));
        let baselines = Baseline::ALL.into_iter().map(baseline).collect::<Result<_, _>>()?;
        let right = Answer::new(example.reference, example.reference_mistakes.clone());
        Ok(Asked { example, results, baselines, right: score(example, &right, embed)?.1.ok() })
    }

    fn sample(&mut self, example: &Example, sample: u32, digest: &str) -> Result<ExampleResult, EvalError> {
        let reply = self.backend.answer(&example.request(), sample).map_err(|source| EvalError::Backend {
            backend: self.name.clone(),
            example: example.id.clone(),
            source,
        })?;
        let (answer, outcome) = score(example, &reply.answer, self.embed)?;
        let answer = reply.response.unwrap_or(answer);
        self.seconds.push(reply.seconds);
        (self.progress)(self.seconds.len(), self.expected);
        let (reward, aborts) = match outcome {
            Ok(reward) => (Some(reward), None),
            Err(aborts) => (None, Some(aborts)),
        };
        let (id, digest, task, reference) = (example.id.clone(), digest.to_owned(), example.task, example.reference);
        let Reply { raw, lengths, .. } = reply;
        Ok(ExampleResult { id, digest, task, reference, sample, answer, reward, aborts, raw, lengths })
    }
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
