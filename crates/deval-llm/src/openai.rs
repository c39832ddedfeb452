//! OpenAI's chat completions, as OpenAI and most servers speak them (llama.cpp, vLLM, Ollama, OpenRouter, …).

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};

use crate::chat::{dumped, spoken, unwrapped};
use crate::http::{endpoint, is_loopback, sensitive, shown};
use crate::{ChatRequest, Completion, LlmError, Price, Secret, Usage};

/// Where OpenAI's own API is.
pub const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";

/// A model behind an OpenAI-compatible endpoint.
#[derive(Debug, Clone)]
pub struct OpenAi {
    pub(crate) url: Url,
    pub(crate) key: Option<Secret>,
    pub(crate) model: String,
}

impl OpenAi {
    /// `base_url` is the part before `/chat/completions`; a bare host means its `/v1`. Local servers need no key.
    ///
    /// # Errors
    /// [`LlmError::Endpoint`]; [`LlmError::Unencrypted`] when a key would travel over plain http to another machine and `allow_plain_http`
    /// is not set.
    pub fn new(base_url: &str, key: Option<Secret>, model: &str, allow_plain_http: bool) -> Result<Self, LlmError> {
        let mut url = endpoint(base_url)?;
        if url.scheme() == "http" && key.is_some() && !allow_plain_http && !is_loopback(&url) {
            return Err(LlmError::Unencrypted { url: shown(&url) });
        }
        let base = url.path().trim_end_matches('/').trim_end_matches("/chat/completions").to_owned();
        let base = if base.is_empty() { "/v1".to_owned() } else { base };
        url.set_path(&format!("{base}/chat/completions"));
        Ok(Self { url, key, model: model.to_owned() })
    }

    /// Free on this machine, else the list price.
    pub(crate) fn price(&self) -> Option<Price> {
        if is_loopback(&self.url) { Some(Price::FREE) } else { Price::listed(&self.model) }
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let bearer = |key: &Secret| (AUTHORIZATION, sensitive(&format!("Bearer {}", key.expose())));
        self.key.iter().map(bearer).collect()
    }

    pub(crate) fn body(&self, request: &ChatRequest) -> Value {
        let system = request.system.iter().map(|text| json!({ "role": "system", "content": text }));
        let messages: Vec<_> = system.chain([json!({ "role": "user", "content": request.user })]).collect();
        let sampling = request.sampling;
        let mut body = json!({
            "model": self.model,
            "messages": messages,
            "max_tokens": sampling.max_tokens,
            "response_format": { "type": "text" },
        });
        for (name, value) in [("temperature", sampling.temperature), ("top_p", sampling.top_p)] {
            if let Some(value) = value {
                body[name] = value.into();
            }
        }
        if let Some(tool) = &request.tool {
            body["tools"] = json!([tool.openai()]);
            body["tool_choice"] = "auto".into();
        }
        body
    }

    /// The first tool call's arguments, else the content.
    pub(crate) fn read(&self, answer: &Value, request: &ChatRequest) -> Result<Completion, String> {
        let message = answer.pointer("/choices/0/message").ok_or("it has no `choices[0].message`")?;
        let content = || message.get("content").and_then(Value::as_str).unwrap_or_default();
        let text = match message.pointer("/tool_calls/0/function/arguments") {
            Some(arguments) => dumped(arguments),
            None if request.tool.is_some() => unwrapped(content()),
            None => spoken(content()).to_owned(),
        };
        let count = |name: &str| answer.get("usage")?.get(name)?.as_u64();
        let usage = Usage::of_one(count("prompt_tokens").zip(count("completion_tokens")), request, &text);
        Ok(Completion { text, usage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_come_in_many_shapes() {
        for (base, url) in [
            ("http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1/chat/completions"),
            ("http://[::1]:8000/v1/", "http://[::1]:8000/v1/chat/completions"),
            (OPENAI_BASE_URL, "https://api.openai.com/v1/chat/completions"),
            ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/chat/completions"),
            ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
            ("https://h/deploy/d?api-version=1", "https://h/deploy/d/chat/completions?api-version=1"),
        ] {
            assert_eq!(OpenAi::new(base, None, "m", false).unwrap().url.as_str(), url);
        }
    }

    #[test]
    fn keys_do_not_travel_unencrypted_unless_the_caller_says_so() {
        let key = || Some(Secret::new("KEY", "sk-secret").unwrap());
        let refused = OpenAi::new("http://gpu.lan:8000/v1", key(), "m", false).unwrap_err();
        assert_eq!(refused, LlmError::Unencrypted { url: "http://gpu.lan:8000/v1".into() });
        assert!(OpenAi::new("http://gpu.lan:8000/v1", key(), "m", true).is_ok());
        assert!(OpenAi::new("http://gpu.lan:8000/v1", None, "m", false).is_ok());
        assert!(OpenAi::new("http://localhost:8000/v1", key(), "m", false).is_ok());
        assert!(!format!("{:?}", OpenAi::new("https://h", key(), "m", false).unwrap()).contains("secret"));
    }
}
