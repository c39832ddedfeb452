//! What is asked of a language model and what comes back, whatever the API.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::LlmError;

/// Something that completes chats.
pub trait Chat: Sync {
    /// The API's name: `openai` or `bedrock`.
    fn api(&self) -> &'static str;

    /// The model's id.
    fn model(&self) -> &str;

    /// Asks once; what comes back is not checked against the tool.
    fn complete(&self, request: &ChatRequest) -> impl Future<Output = Result<Completion, LlmError>> + Send;
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// What the model is told about its role.
    pub system: Option<String>,
    /// The question.
    pub user: String,
    /// The tool that takes the answer; without one the answer is free text.
    pub tool: Option<Tool>,
    /// How the answer is drawn.
    pub sampling: Sampling,
}

/// How an answer is drawn. What is `None` is left out of requests: some models refuse one beside the other, or both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Temperature.
    pub temperature: Option<f64>,
    /// Probability mass of the tokens that are drawn from.
    pub top_p: Option<f64>,
    /// The most tokens of an answer.
    pub max_tokens: u32,
}

impl Default for Sampling {
    /// What upstream sends.
    fn default() -> Self {
        Self { temperature: Some(0.7), top_p: Some(0.97), max_tokens: 500 }
    }
}

/// A tool whose arguments are the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub description: &'static str,
    /// Its arguments, all required.
    pub properties: Vec<Property>,
}

/// One argument of a tool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Property {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub description: &'static str,
    /// Whether it is a list of texts instead of one.
    pub is_list: bool,
}

impl Tool {
    fn parameters(&self) -> Value {
        let properties: Map<_, _> = self.properties.iter().map(|p| (p.name.to_owned(), p.schema())).collect();
        let required: Vec<_> = self.properties.iter().map(|property| property.name).collect();
        json!({ "type": "object", "properties": properties, "required": required })
    }

    /// The schema as OpenAI's API takes it.
    pub fn openai(&self) -> Value {
        let mut parameters = self.parameters();
        parameters["additionalProperties"] = false.into();
        let function = json!({ "name": self.name, "description": self.description, "parameters": parameters });
        json!({ "type": "function", "function": function })
    }

    /// The schema as Bedrock's converse API takes it.
    pub fn bedrock(&self) -> Value {
        let spec = json!({
            "name": self.name,
            "description": self.description,
            "inputSchema": { "json": self.parameters() },
        });
        json!({ "toolSpec": spec })
    }
}

impl Property {
    fn schema(&self) -> Value {
        if self.is_list {
            return json!({ "type": "array", "items": { "type": "string" }, "description": self.description });
        }
        json!({ "type": "string", "description": self.description })
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// As upstream keeps it: the arguments of the first tool call as JSON, else the text. Where a tool was offered and text came back, the
    /// text without what models put around JSON.
    pub text: String,
    /// What it took.
    pub usage: Usage,
}

/// Requests and tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Answered requests.
    pub requests: u64,
    /// Tokens of the prompts.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub completion_tokens: u64,
    /// Requests whose tokens the server did not count; theirs are estimated from the length of the texts.
    pub estimated: u64,
}

impl Usage {
    /// One request with what the server counted, or an estimate.
    pub(crate) fn of_one(counted: Option<(u64, u64)>, request: &ChatRequest, answer: &str) -> Self {
        let estimate = || (request.prompt_tokens(), tokens(answer.len()));
        let (prompt_tokens, completion_tokens) = counted.unwrap_or_else(estimate);
        Self { requests: 1, prompt_tokens, completion_tokens, estimated: counted.is_none().into() }
    }

    /// Tokens of prompts and answers together.
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens + self.completion_tokens
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.estimated += other.estimated;
    }
}

impl ChatRequest {
    /// Tokens of the prompt with its tool, estimated.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        let tool = self.tool.as_ref().map_or(0, |tool| tool.openai().to_string().len());
        tokens(self.user.len() + self.system.as_ref().map_or(0, String::len) + tool)
    }

    /// The most tokens that prompt and answer can take, estimated.
    pub(crate) fn most_tokens(&self) -> u64 {
        self.prompt_tokens() + u64::from(self.sampling.max_tokens)
    }
}

/// Tokens of so many bytes: about four bytes each in English; three are on the safe side.
fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(3)
}

/// A text without the thinking that some servers leave before it.
pub(crate) fn spoken(text: &str) -> &str {
    text.rsplit_once("</think>").map_or(text, |(_, answer)| answer).trim()
}

/// The JSON inside an answer in text: without thinking, a code fence, or words around the braces; the arguments of a tool call that was
/// written out. Text without an object stays as it is.
pub(crate) fn unwrapped(text: &str) -> String {
    let answer = spoken(text);
    let object = answer.find('{').zip(answer.rfind('}')).filter(|(first, last)| first < last);
    let Some(object) = object.map(|(first, last)| &answer[first..=last]) else { return answer.to_owned() };
    let Ok(Value::Object(fields)) = serde_json::from_str(object) else { return answer.to_owned() };
    let arguments = ["arguments", "parameters"].iter().find_map(|name| fields.get(*name));
    match arguments.filter(|_| fields.contains_key("name")) {
        Some(arguments) => dumped(arguments),
        None => object.to_owned(),
    }
}

/// Arguments as a text: APIs send them as a text already, or as an object.
pub(crate) fn dumped(arguments: &Value) -> String {
    arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_found_in_what_models_write_around_it() {
        for text in [
            r#"{"a": "b}"}"#,
            "```json\n{\"a\": \"b}\"}\n```",
            "<think>{\"a\": 1}</think>\nHere it is:\n```\n{\"a\": \"b}\"}\n```\nEnjoy!",
            r#"[{"name": "t", "arguments": {"a": "b}"}}]"#,
            r#"{"name": "t", "parameters": "{\"a\": \"b}\"}"}"#,
        ] {
            let value: Value = serde_json::from_str(&unwrapped(text)).unwrap();
            assert_eq!(value, json!({ "a": "b}" }), "{text}");
        }
        assert_eq!(spoken("<think>So?</think>\n\nA text.\n"), "A text.");
        for text in ["no json", "} {", "{broken", "{\"a\": }", ""] {
            assert_eq!(unwrapped(text), text);
        }
    }

    #[test]
    fn schemas_are_as_upstream_renders_them() {
        let property = |name, is_list| Property { name, description: "d", is_list };
        let tool = Tool {
            name: "t",
            description: "does",
            properties: vec![property("a", false), property("key_topics", true)],
        };
        let properties = json!({
            "a": { "type": "string", "description": "d" },
            "key_topics": { "type": "array", "items": { "type": "string" }, "description": "d" },
        });
        let parameters = json!({ "type": "object", "properties": properties, "required": ["a", "key_topics"] });
        let spec = json!({ "name": "t", "description": "does", "inputSchema": { "json": parameters } });
        assert_eq!(tool.bedrock(), json!({ "toolSpec": spec }));
        let mut closed = parameters;
        closed["additionalProperties"] = false.into();
        let function = json!({ "name": "t", "description": "does", "parameters": closed });
        assert_eq!(tool.openai(), json!({ "type": "function", "function": function }));
    }
}
