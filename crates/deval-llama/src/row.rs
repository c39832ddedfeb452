//! One text on its way through the batch.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::LlamaError;
use crate::cpu::log_sum_exp;
use crate::generation::GenerationConfig;
use crate::sampling::Sampler;
use crate::work::{Grammar, StopReason};

/// A text, and what is to become of it.
pub(crate) struct Row {
    /// Tells rows apart; the older the lower.
    pub(crate) ticket: u64,
    /// The prompt and what was added to it.
    pub(crate) tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub(crate) prompt: usize,
    /// Leading tokens whose keys and values are in the cache.
    pub(crate) computed: usize,
    /// The blocks that hold them.
    pub(crate) blocks: Vec<u32>,
    /// Tells texts apart whose keys are turned by other angles.
    pub(crate) angles: usize,
    pub(crate) job: Job,
    pub(crate) failed: Option<LlamaError>,
    /// Which of a step's logits are this row's, and the position of the first.
    pub(crate) heard: Range<usize>,
    pub(crate) heard_from: usize,
    started: Option<Instant>,
    /// Seconds until the first logits, and until now.
    pub(crate) seconds: (f64, f64),
}

/// What is done with a text.
pub(crate) enum Job {
    Write(Box<Writing>),
    /// The tokens from the first number on are scored.
    Score(usize, Vec<f64>),
}

/// An answer in the making.
pub(crate) struct Writing {
    pub(crate) sampler: Sampler,
    pub(crate) grammar: Option<Box<dyn Grammar>>,
    pub(crate) stops: Vec<u32>,
    /// What the model's files want of answers.
    pub(crate) usual: Arc<GenerationConfig>,
    pub(crate) max_new_tokens: usize,
    pub(crate) stop: Option<StopReason>,
}

impl Row {
    pub(crate) fn new(ticket: u64, tokens: Vec<u32>, job: Job) -> Self {
        let prompt = tokens.len();
        Self {
            ticket,
            tokens,
            prompt,
            computed: 0,
            blocks: Vec::new(),
            angles: 0,
            job,
            failed: None,
            heard: 0..0,
            heard_from: 0,
            started: None,
            seconds: (0.0, 0.0),
        }
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_over(&self) -> bool {
        let done = match &self.job {
            Job::Write(writing) => writing.stop.is_some(),
            Job::Score(split, scores) => scores.len() == self.tokens.len() - split,
        };
        done || self.failed.is_some()
    }

    /// Leading tokens that have to be computed.
    pub(crate) fn target(&self) -> usize {
        match &self.job {
            Job::Write(_) => self.tokens.len(),
            Job::Score(..) => self.tokens.len() - 1,
        }
    }

    /// Tokens that have to be computed yet.
    pub(crate) fn pending(&self) -> usize {
        self.target() - self.computed
    }

    /// Leading tokens that may be taken from another text: those whose logits are not asked for.
    pub(crate) fn most_shared(&self) -> usize {
        match &self.job {
            Job::Write(_) => self.prompt - 1,
            Job::Score(split, _) => split - 1,
        }
    }

    /// How long the text was when this position was first computed: a prompt comes at once, then token by token.
    pub(crate) fn length_at(&self, position: usize) -> usize {
        (position + 1).max(self.prompt)
    }

    /// Of these positions, those whose logits are asked for.
    pub(crate) fn wanted(&self, positions: &Range<usize>) -> Range<usize> {
        match &self.job {
            Job::Write(_) if positions.end < self.tokens.len() => 0..0,
            Job::Write(_) => positions.end - 1..positions.end,
            Job::Score(split, scores) => {
                (positions.start.max(split - 1 + scores.len())).min(positions.end)..positions.end
            }
        }
    }

    /// Does what needs no logits.
    pub(crate) fn start(&mut self) {
        if self.failed.is_none()
            && let Job::Write(writing) = &mut self.job
            && let Err(error) = writing.go_on(&mut self.tokens, self.prompt, None)
        {
            self.failed = Some(error);
        }
    }

    /// Forgets that anything was computed.
    pub(crate) fn start_anew(&mut self) {
        self.computed = 0;
        if let Job::Score(_, scores) = &mut self.job {
            scores.clear();
        }
    }

    /// Ends a row that cannot grow to `tokens`.
    pub(crate) fn overflow(&mut self, tokens: usize, limit: usize) {
        match &mut self.job {
            Job::Write(writing) if self.tokens.len() > self.prompt => writing.stop = Some(StopReason::ContextFull),
            _ => self.failed = Some(LlamaError::ContextOverflow { tokens, limit }),
        }
    }

    /// Takes what is its own of some logits, the first of which has number `first` in the step.
    pub(crate) fn hear(&mut self, first: usize, logits: &[f32], vocab: usize) {
        let mine = self.heard.start.max(first)..self.heard.end.min(first + logits.len() / vocab);
        for number in mine {
            if self.is_over() {
                return;
            }
            let position = self.heard_from + number - self.heard.start;
            let logits = &logits[(number - first) * vocab..][..vocab];
            if let Err(error) = self.take(position, logits) {
                self.failed = Some(error);
            }
        }
        self.look_at_the_clock();
    }

    fn take(&mut self, position: usize, logits: &[f32]) -> Result<(), LlamaError> {
        match &mut self.job {
            Job::Write(writing) => writing.go_on(&mut self.tokens, self.prompt, Some(logits)),
            Job::Score(_, scores) => {
                let probability = f64::from(logits[self.tokens[position + 1] as usize]) - log_sum_exp(logits);
                scores.push(probability);
                if !probability.is_finite() { Err(LlamaError::NotANumber) } else { Ok(()) }
            }
        }
    }

    /// Starts the clock, or reads it.
    pub(crate) fn look_at_the_clock(&mut self) {
        let seconds = self.started.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
        if self.seconds.0 == 0.0 && !self.heard.is_empty() {
            self.seconds.0 = seconds;
        }
        self.seconds.1 = seconds;
    }
}

impl Writing {
    /// Adds the token that the logits speak for, and all that the grammar leaves no choice about.
    fn go_on(&mut self, tokens: &mut Vec<u32>, prompt: usize, mut logits: Option<&[f32]>) -> Result<(), LlamaError> {
        while self.stop.is_none() {
            if tokens.len() - prompt >= self.max_new_tokens {
                self.stop = Some(StopReason::MaxNewTokens);
                break;
            }
            let allowed = self.grammar.as_mut().map(|grammar| grammar.allowed());
            let token = match (allowed.as_deref(), logits) {
                (Some([]), _) => {
                    self.stop = Some(StopReason::Grammar);
                    break;
                }
                (Some([only]), _) => *only,
                (_, None) => break,
                (Some(some), Some(logits)) => self.sampler.next_among(logits, some)?,
                (None, Some(logits)) => {
                    let changed = self.usual.rules.apply(tokens, prompt, &self.stops, logits)?;
                    self.sampler.next(changed.as_deref().unwrap_or(logits))?
                }
            };
            logits = None;
            if self.stops.contains(&token) {
                self.stop = Some(StopReason::EndToken);
                break;
            }
            if let Some(grammar) = &mut self.grammar {
                grammar.accept(token);
            }
            tokens.push(token);
        }
        Ok(())
    }
}
