//! Questions in texts turned into rows of tokens, and rows into answers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::LlamaError;
use crate::engine::Texts;
use crate::generation::GenerationConfig;
use crate::row::{Job, Row, Writing};
use crate::sampling::Sampler;
use crate::schedule::Rows;
use crate::tokenizer::TextCodec;
use crate::work::{Generate, Generation, Likelihood, Outcome, Queue, Score, StopReason, Work};

/// The queue as the scheduler sees it.
pub(crate) struct Orders<'a> {
    queue: &'a mut dyn Queue,
    texts: Texts<'a>,
    /// What the model's files want of answers.
    usual: Arc<GenerationConfig>,
    /// Texts that were longer than the context when they were asked, and tokens of the longest.
    pub(crate) beyond: (u64, usize),
    /// Positions that the model was made for.
    context: usize,
    /// Rows that were asked for but not yet given out.
    ready: VecDeque<Row>,
    next_ticket: u64,
    /// By row: its question and, of a question with several rows, its place.
    questions: HashMap<u64, (usize, usize)>,
    /// By question: what its rows have given so far.
    scores: HashMap<usize, Scores>,
}

/// Likelihoods of one question.
struct Scores {
    found: Vec<Likelihood>,
    missing: usize,
    failed: Option<LlamaError>,
}

impl<'a> Orders<'a> {
    pub(crate) fn new(
        queue: &'a mut dyn Queue,
        texts: Texts<'a>,
        usual: Arc<GenerationConfig>,
        context: usize,
    ) -> Self {
        let (ready, questions, scores) = (VecDeque::new(), HashMap::new(), HashMap::new());
        Self { queue, texts, usual, beyond: (0, 0), context, ready, next_ticket: 0, questions, scores }
    }

    /// Turns a question into rows, or answers it at once.
    fn accept(&mut self, number: usize, work: Work) {
        let jobs = match work {
            Work::Generate(work) => self.writing(work).map(|job| vec![job]),
            Work::Score(score) => score.split(self.texts.codec),
        };
        match jobs {
            Err(error) => self.queue.done(self.texts, number, Err(error)),
            Ok(jobs) if jobs.is_empty() => self.queue.done(self.texts, number, Ok(Outcome::Likelihoods(Vec::new()))),
            Ok(jobs) => {
                if matches!(jobs[0].1, Job::Score(..)) {
                    let found = vec![Likelihood { tokens: Vec::new() }; jobs.len()];
                    self.scores.insert(number, Scores { missing: found.len(), found, failed: None });
                }
                for (place, (tokens, job)) in jobs.into_iter().enumerate() {
                    if tokens.len() > self.context {
                        self.beyond = (self.beyond.0 + 1, self.beyond.1.max(tokens.len()));
                    }
                    self.questions.insert(self.next_ticket, (number, place));
                    self.ready.push_back(Row::new(self.next_ticket, tokens, job));
                    self.next_ticket += 1;
                }
            }
        }
    }

    fn writing(&self, work: Generate) -> Result<(Vec<u32>, Job), LlamaError> {
        let Generate { prompt, options, grammar } = work;
        let sampler = Sampler::new(options.sampling, &self.usual)?;
        let tokens = tokens(prompt.as_str(), "prompt", |_| self.texts.codec.encode(&prompt))?;
        let extra = options.extra_stop_tokens.iter().filter_map(|name| self.texts.codec.token_id(name));
        let stops = self.texts.stop_tokens.iter().copied().chain(extra).collect();
        let max_new_tokens = options.max_new_tokens;
        let usual = self.usual.clone();
        Ok((tokens, Job::Write(Box::new(Writing { sampler, grammar, stops, usual, max_new_tokens, stop: None }))))
    }

    fn generation(&self, row: Row, stop: StopReason) -> Result<Outcome, LlamaError> {
        if let Some(error) = row.failed {
            return Err(error);
        }
        let tokens = row.tokens[row.prompt..].to_vec();
        Ok(Outcome::Generation(Generation {
            text: self.texts.codec.decode(&tokens)?,
            prompt_tokens: row.prompt,
            new_tokens: tokens.len(),
            tokens,
            beyond_context: row.tokens.len().saturating_sub(self.context),
            stop,
            prefill_seconds: row.seconds.0,
            decode_seconds: row.seconds.1 - row.seconds.0,
        }))
    }

    fn add_score(&mut self, number: usize, place: usize, tokens: Vec<f64>, failed: Option<LlamaError>) {
        let Some(scores) = self.scores.get_mut(&number) else { return };
        scores.found[place].tokens = tokens;
        scores.missing -= 1;
        scores.failed = scores.failed.take().or(failed);
        if scores.missing == 0
            && let Some(Scores { found, failed, .. }) = self.scores.remove(&number)
        {
            self.queue.done(self.texts, number, failed.map_or(Ok(Outcome::Likelihoods(found)), Err));
        }
    }
}

impl Rows for Orders<'_> {
    fn next(&mut self) -> Option<Row> {
        while self.ready.is_empty() {
            let (number, work) = self.queue.next(self.texts)?;
            self.accept(number, work);
        }
        self.ready.pop_front()
    }

    fn done(&mut self, mut row: Row) {
        let Some((number, place)) = self.questions.remove(&row.ticket) else { return };
        match &mut row.job {
            Job::Write(writing) => {
                let stop = writing.stop.unwrap_or(StopReason::MaxNewTokens);
                let outcome = self.generation(row, stop);
                self.queue.done(self.texts, number, outcome);
            }
            Job::Score(_, scores) => {
                let scores = std::mem::take(scores);
                self.add_score(number, place, scores, row.failed.take());
            }
        }
    }
}

impl Score {
    /// The tokens of each whole text, of which those of the continuation are to be scored. The border is one of tokens too, as in the
    /// shipped pipeline.
    fn split(&self, codec: &TextCodec) -> Result<Vec<(Vec<u32>, Job)>, LlamaError> {
        if self.continuations.is_empty() {
            return Ok(Vec::new());
        }
        let prefix = tokens(self.prefix.as_str(), "prefix", |_| codec.encode(&self.prefix))?;
        let whole = |continuation: &String| {
            let continuation = tokens(continuation, "continuation", |text| codec.encode_chat(text))?;
            Ok(([prefix.as_slice(), &continuation].concat(), Job::Score(prefix.len(), Vec::new())))
        };
        self.continuations.iter().map(whole).collect()
    }
}

fn tokens(
    text: &str,
    what: &'static str,
    encode: impl FnOnce(&str) -> Result<Vec<u32>, LlamaError>,
) -> Result<Vec<u32>, LlamaError> {
    let ids = if text.is_empty() { Vec::new() } else { encode(text)? };
    if ids.is_empty() { Err(LlamaError::Empty { what }) } else { Ok(ids) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TinyLlama, write_tiny_llama};

    #[test]
    fn no_token_lies_across_the_border() {
        let dir = tempfile::tempdir().unwrap();
        write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
        let codec = TextCodec::load(dir.path()).unwrap();
        let scored = |prefix: &str, continuation: &str| {
            let score = Score { prefix: prefix.into(), continuations: vec![continuation.into()] };
            score.split(&codec).map(|mut rows| match rows.pop() {
                Some((ids, Job::Score(split, _))) => (ids, split),
                _ => panic!("texts to score are scored"),
            })
        };
        let apart = ["t", "he"].map(|text| codec.encode_chat(text).unwrap()).concat();
        assert_ne!(codec.encode_chat("the").unwrap(), apart, "one token");
        assert_eq!(scored("t", "he").unwrap(), (apart, 1));
        let (ids, split) = scored("é", "è").unwrap();
        assert_eq!((split, ids.len()), (2, 4), "two bytes each");
        assert!(matches!(scored("", "he"), Err(LlamaError::Empty { what: "prefix" })));
        assert!(matches!(scored("t", ""), Err(LlamaError::Empty { what: "continuation" })));
    }
}
