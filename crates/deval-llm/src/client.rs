//! A model behind an API: one connection pool with retries and rate limits.

use std::time::SystemTime;

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

use crate::bedrock::JSON;
use crate::http::{Settings, Wire, shown};
use crate::{Bedrock, Chat, ChatRequest, Completion, LlmError, OpenAi, Price};

/// A model behind an API.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    provider: Provider,
}

#[derive(Debug)]
enum Provider {
    OpenAi(OpenAi),
    Bedrock(Bedrock),
}

impl Client {
    /// A model behind an OpenAI-compatible endpoint.
    ///
    /// # Errors
    /// [`LlmError::Endpoint`] when the system's certificates or proxies cannot be used.
    pub fn openai(openai: OpenAi, settings: Settings) -> Result<Self, LlmError> {
        let wire = Wire::new(&openai.url, openai.key.iter().cloned().collect(), settings)?;
        Ok(Self { wire, provider: Provider::OpenAi(openai) })
    }

    /// A model on AWS Bedrock.
    ///
    /// # Errors
    /// As [`Client::openai`].
    pub fn bedrock(bedrock: Bedrock, settings: Settings) -> Result<Self, LlmError> {
        let wire = Wire::new(&bedrock.url, bedrock.auth.secrets(), settings)?;
        Ok(Self { wire, provider: Provider::Bedrock(bedrock) })
    }

    /// What the model is known to cost: nothing on this machine, else its list price, if it is in the list.
    pub fn price(&self) -> Option<Price> {
        match &self.provider {
            Provider::OpenAi(openai) => openai.price(),
            Provider::Bedrock(bedrock) => Price::listed(&bedrock.model),
        }
    }

    fn url(&self) -> &Url {
        match &self.provider {
            Provider::OpenAi(openai) => &openai.url,
            Provider::Bedrock(bedrock) => &bedrock.url,
        }
    }

    fn body(&self, request: &ChatRequest) -> Vec<u8> {
        let body = match &self.provider {
            Provider::OpenAi(openai) => openai.body(request),
            Provider::Bedrock(bedrock) => bedrock.body(request),
        };
        body.to_string().into_bytes()
    }

    /// Headers of one try: signatures hold the time.
    fn headers(&self, body: &[u8]) -> HeaderMap {
        let mut headers = match &self.provider {
            Provider::OpenAi(openai) => openai.headers(),
            Provider::Bedrock(bedrock) => bedrock.headers(body, SystemTime::now()),
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers
    }

    fn read(&self, answer: &Value, request: &ChatRequest) -> Result<Completion, LlmError> {
        let completion = match &self.provider {
            Provider::OpenAi(openai) => openai.read(answer, request),
            Provider::Bedrock(bedrock) => bedrock.read(answer, request),
        };
        completion.map_err(|what| LlmError::Answer { url: shown(self.url()), what })
    }
}

impl Chat for Client {
    fn api(&self) -> &'static str {
        match &self.provider {
            Provider::OpenAi(_) => "openai",
            Provider::Bedrock(_) => "bedrock",
        }
    }

    fn model(&self) -> &str {
        match &self.provider {
            Provider::OpenAi(openai) => &openai.model,
            Provider::Bedrock(bedrock) => &bedrock.model,
        }
    }

    async fn complete(&self, request: &ChatRequest) -> Result<Completion, LlmError> {
        let (body, reserved) = (self.body(request), request.most_tokens());
        let build =
            |client: &reqwest::Client| client.post(self.url().clone()).headers(self.headers(&body)).body(body.clone());
        let answer = self.wire.call(self.url(), reserved, build).await?;
        let completion = self.read(&answer, request)?;
        self.wire.settle(reserved, completion.usage.tokens());
        Ok(completion)
    }
}
