//! Telling a webhook: one JSON object per change, in order, again and again until it is taken.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use reqwest::{Client, StatusCode, Url, redirect::Policy};
use serde_json::Value;

/// For one attempt.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the first repetition; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Changes that wait for a webhook that is away; beyond, the oldest are dropped.
const LONGEST_QUEUE: usize = 100;

/// A webhook and what it has not taken yet.
pub(super) struct Webhook {
    url: Url,
    client: Client,
    waiting: VecDeque<Value>,
    pause: Duration,
}

enum Taken {
    Yes,
    /// It will not take it, and why.
    Never(String),
    /// Not now, and why.
    Later(String),
}

impl Webhook {
    /// # Errors
    /// When the URL is none of http or https.
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        // Such addresses hold keys: they are never shown, not even where they are wrong.
        let url = Url::parse(url).ok().context("--webhook is no URL")?;
        ensure!(matches!(url.scheme(), "http" | "https"), "--webhook is no http or https URL");
        let client = Client::builder().timeout(PATIENCE).redirect(Policy::none()).build();
        let client = client.context("cannot make an HTTP client")?;
        Ok(Self { url, client, waiting: VecDeque::new(), pause: FIRST_PAUSE })
    }

    pub(super) fn push(&mut self, message: Value) {
        self.waiting.push_back(message);
        while self.waiting.len() > LONGEST_QUEUE {
            self.waiting.pop_front();
        }
    }

    /// Sends what waits, at least once each, until all is taken or the time is over. What could not be sent is told.
    pub(super) async fn send_until(&mut self, end: Instant) -> Vec<String> {
        let mut remarks = Vec::new();
        while let Some(message) = self.waiting.front() {
            match self.send(message).await {
                Taken::Yes => {
                    self.waiting.pop_front();
                    self.pause = FIRST_PAUSE;
                }
                Taken::Never(why) => {
                    remarks.push(format!("the webhook at {} refuses a change: {why}", self.host()));
                    self.waiting.pop_front();
                }
                Taken::Later(why) if Instant::now() + self.pause < end => {
                    if remarks.is_empty() {
                        remarks.push(format!("the webhook at {} does not take a change yet: {why}", self.host()));
                    }
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
                Taken::Later(why) => {
                    let waiting = self.waiting.len();
                    remarks
                        .push(format!("the webhook at {} is away: {why}; {waiting} changes wait for it", self.host()));
                    break;
                }
            }
        }
        remarks
    }

    async fn send(&self, message: &Value) -> Taken {
        let sent = self.client.post(self.url.clone()).json(message).send().await;
        match sent.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Taken::Yes,
            Ok(status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)) => {
                Taken::Later(status.to_string())
            }
            Ok(status) if status.is_server_error() => Taken::Later(status.to_string()),
            Ok(status) => Taken::Never(status.to_string()),
            Err(error) => Taken::Later(error.without_url().to_string()),
        }
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or("?")
    }
}
