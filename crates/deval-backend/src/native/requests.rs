//! Requests on their way through the engine, as many at once as it has room for.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use deval_eval::{Answer, Ask, GaveUp, Reply};
use deval_llama::{LlamaError, Outcome, Queue, Texts, Work};

use super::notes;
use super::readings::{Next, Read, Reader, Step, Then};

/// Requests as the engine sees them.
pub(super) struct Requests<'a, 'h> {
    reader: &'a Reader,
    asks: &'a [Ask<'a>],
    /// Requests that were begun.
    begun: usize,
    /// By place: requests that wait for outcomes.
    open: HashMap<usize, Open<'a>>,
    /// Questions that the engine was not yet given.
    ready: VecDeque<(usize, Work)>,
    /// By number: whose question it is, and which of its questions.
    questions: HashMap<usize, (usize, usize)>,
    next_number: usize,
    hear: &'h mut dyn FnMut(usize, Reply),
    gave_up: Option<GaveUp>,
    /// When the last reply was there.
    since: Instant,
}

/// A request that waits for outcomes.
struct Open<'a> {
    outcomes: Vec<Option<Result<Outcome, LlamaError>>>,
    then: Then<'a>,
}

impl<'a, 'h> Requests<'a, 'h> {
    pub(super) fn new(reader: &'a Reader, asks: &'a [Ask<'a>], hear: &'h mut dyn FnMut(usize, Reply)) -> Self {
        let (open, ready, questions) = (HashMap::new(), VecDeque::new(), HashMap::new());
        let since = Instant::now();
        Self { reader, asks, begun: 0, open, ready, questions, next_number: 0, hear, gave_up: None, since }
    }

    /// What is to be told once the engine has worked.
    pub(super) fn end(self, worked: Result<(), LlamaError>) -> Result<(), GaveUp> {
        let last = self.asks.len().saturating_sub(1);
        let place = self.open.into_keys().min().unwrap_or(last);
        worked.map_err(|error| GaveUp { place, source: error.into() })?;
        self.gave_up.map_or(Ok(()), Err)
    }

    fn go_on(&mut self, place: usize, step: Step<'a>) {
        match step {
            Ok(Next::Ask(asked, then)) => {
                self.open.insert(place, Open { outcomes: asked.iter().map(|_| None).collect(), then });
                for (at, work) in asked.into_iter().enumerate() {
                    self.questions.insert(self.next_number, (place, at));
                    self.ready.push_back((self.next_number, work));
                    self.next_number += 1;
                }
            }
            Ok(Next::Answer(read)) => self.reply(place, read),
            // Upstream's pipeline would run out of memory here, and the validator would see -1.
            Err(LlamaError::ContextOverflow { tokens, limit }) => {
                let raw = Some(format!("the question has {tokens} tokens, the model takes {limit}"));
                let lengths = vec![notes::refused(tokens, self.reader.context)];
                self.reply(place, Read { answer: Answer::new(-1.0, Vec::new()), raw, lengths });
            }
            Err(error) => {
                self.ready.clear();
                self.gave_up.get_or_insert(GaveUp { place, source: error.into() });
            }
        }
    }

    fn reply(&mut self, place: usize, Read { answer, raw, lengths }: Read) {
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        (self.hear)(place, Reply { answer, seconds, raw, response: None, lengths });
    }
}

impl Queue for Requests<'_, '_> {
    fn next(&mut self, texts: Texts<'_>) -> Option<(usize, Work)> {
        while self.ready.is_empty() && self.gave_up.is_none() {
            let place = self.begun;
            let step = self.reader.begin(*self.asks.get(place)?, texts);
            self.begun += 1;
            self.go_on(place, step);
        }
        self.ready.pop_front()
    }

    fn done(&mut self, texts: Texts<'_>, number: usize, outcome: Result<Outcome, LlamaError>) {
        let Some((place, at)) = self.questions.remove(&number) else { return };
        let Some(open) = self.open.get_mut(&place) else { return };
        open.outcomes[at] = Some(outcome);
        if open.outcomes.iter().all(Option::is_some)
            && let Some(Open { outcomes, then }) = self.open.remove(&place)
        {
            let outcomes: Result<Vec<_>, _> = outcomes.into_iter().flatten().collect();
            let step = outcomes.and_then(|outcomes| then(texts, outcomes));
            self.go_on(place, step);
        }
    }
}
