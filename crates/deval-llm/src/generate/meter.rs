//! Counts what requests take, and holds the cost limit.

use std::sync::Mutex;

use crate::limit::lock;
use crate::{Chat, ChatRequest, LlmError, Price, Usage};

/// A chat that counts.
pub(super) struct Meter<'a, C> {
    chat: &'a C,
    price: Option<Price>,
    max_cost: Option<f64>,
    spent: Mutex<Spent>,
}

#[derive(Default)]
struct Spent {
    usage: Usage,
    /// Most USD of the requests under way.
    promised: f64,
}

impl<'a, C: Chat> Meter<'a, C> {
    pub(super) fn new(chat: &'a C, price: Option<Price>, max_cost: Option<f64>) -> Self {
        Self { chat, price, max_cost, spent: Mutex::default() }
    }

    /// Usage and USD so far. Tries that broke before their answer came are not known.
    pub(super) fn used(&self) -> (Usage, Option<f64>) {
        let usage = lock(&self.spent).usage;
        (usage, self.price.map(|price| price.of_usage(&usage)))
    }

    /// Asks, unless that could exceed the cost limit.
    pub(super) async fn ask(&self, request: &ChatRequest) -> Result<String, LlmError> {
        let most = self.promise(request)?;
        let answer = self.chat.complete(request).await;
        let mut spent = lock(&self.spent);
        spent.promised -= most;
        let completion = answer?;
        spent.usage += completion.usage;
        Ok(completion.text)
    }

    /// Holds back the most that a request can cost.
    fn promise(&self, request: &ChatRequest) -> Result<f64, LlmError> {
        let Some(price) = self.price else { return Ok(0.0) };
        let next = price.of(request.prompt_tokens(), request.sampling.max_tokens.into());
        let mut spent = lock(&self.spent);
        let so_far = price.of_usage(&spent.usage) + spent.promised;
        if let Some(limit) = self.max_cost.filter(|limit| so_far + next > *limit) {
            return Err(LlmError::Budget { limit, spent: so_far, next });
        }
        spent.promised += next;
        Ok(next)
    }
}
