//! The miner's prompts, read from `prompts.py` without running it.

use std::collections::BTreeMap;

use deval_eval::{Request, Task};
use ruff_python_ast::{Expr, Stmt};
use ruff_python_parser::parse_module;
use thiserror::Error;

/// The prompts cannot be read from the source.
#[derive(Debug, Error)]
pub enum PromptsError {
    /// The source is not Python.
    #[error("prompts.py does not parse: {0}")]
    Syntax(String),
    /// A prompt is missing, or computed and so unknown without running the source.
    #[error("prompts.py has no string constant `{0}`; define it as a plain string literal")]
    Missing(&'static str),
}

/// System prompt and templates; `{rag_context}`, `{query}`, `{llm_response}` and `{claim}` stand for the texts they are filled with.
#[derive(Debug, Clone)]
pub struct Prompts {
    /// System prompt.
    pub system: String,
    templates: BTreeMap<&'static str, String>,
}

const NAMES: [&str; 9] = [
    "RELEVANCY_PROMPT",
    "HALLUCINATION_PROMPT",
    "HALLUCINATION_MISTAKES_PROMPT",
    "SUMMARY_COMPLETENESS_PROMPT",
    "SUMMARY_COMPLETENESS_MISTAKES_PROMPT",
    "ATTRIBUTION_PROMPT",
    "ATTRIBUTION_MISTAKES_PROMPT",
    "HALLUCINATION_CLAIM_PROMPT",
    "ATTRIBUTION_CLAIM_PROMPT",
];

impl Prompts {
    /// Reads module-level string constants; adjacent literals count as one, as in Python.
    ///
    /// # Errors
    /// The source does not parse, or one of the prompts is not a plain string constant.
    pub fn parse(source: &str) -> Result<Self, PromptsError> {
        let module = parse_module(source).map_err(|error| PromptsError::Syntax(error.to_string()))?;
        let constants: BTreeMap<&str, String> = module.syntax().body.iter().filter_map(constant).collect();
        let find = |name: &'static str| constants.get(name).cloned().ok_or(PromptsError::Missing(name));
        let templates = NAMES.into_iter().map(|name| Ok((name, find(name)?))).collect::<Result<_, _>>()?;
        Ok(Self { system: find("SYSTEM_PROMPT")?, templates })
    }

    /// The user prompt that asks for the score.
    pub fn score(&self, request: &Request) -> String {
        let name = match request.task {
            Task::Relevancy => "RELEVANCY_PROMPT",
            Task::Hallucination => "HALLUCINATION_PROMPT",
            Task::SummaryCompleteness => "SUMMARY_COMPLETENESS_PROMPT",
            Task::Attribution => "ATTRIBUTION_PROMPT",
        };
        self.filled(name, request, "")
    }

    /// The user prompt that asks for the mistakes; relevancy has none.
    pub fn mistakes(&self, request: &Request) -> Option<String> {
        let name = match request.task {
            Task::Relevancy => return None,
            Task::Hallucination => "HALLUCINATION_MISTAKES_PROMPT",
            Task::SummaryCompleteness => "SUMMARY_COMPLETENESS_MISTAKES_PROMPT",
            Task::Attribution => "ATTRIBUTION_MISTAKES_PROMPT",
        };
        Some(self.filled(name, request, ""))
    }

    /// The user prompt that asks whether one claim of the response holds; only for the tasks that have claims.
    pub fn claim(&self, request: &Request, claim: &str) -> Option<String> {
        let name = match request.task {
            Task::Relevancy | Task::SummaryCompleteness => return None,
            Task::Hallucination => "HALLUCINATION_CLAIM_PROMPT",
            Task::Attribution => "ATTRIBUTION_CLAIM_PROMPT",
        };
        Some(self.filled(name, request, claim))
    }

    fn filled(&self, name: &str, request: &Request, claim: &str) -> String {
        let fields = [
            ("{rag_context}", request.rag_context.as_str()),
            ("{query}", &request.query),
            ("{llm_response}", &request.llm_response),
            ("{claim}", claim),
        ];
        fill(&self.templates[name], &fields)
    }
}

fn constant(statement: &Stmt) -> Option<(&str, String)> {
    let (target, value) = match statement {
        Stmt::Assign(assign) => (assign.targets.first()?, &*assign.value),
        Stmt::AnnAssign(assign) => (&*assign.target, &**assign.value.as_ref()?),
        _ => return None,
    };
    match (target, value) {
        (Expr::Name(name), Expr::StringLiteral(text)) => Some((name.id.as_str(), text.value.to_str().to_owned())),
        _ => None,
    }
}

/// Replaces the fields in one pass, so that braces inside the texts stay as they are.
fn fill(template: &str, fields: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(brace) = rest.find('{') {
        let (before, from_brace) = rest.split_at(brace);
        out.push_str(before);
        rest = match fields.iter().find(|(field, _)| from_brace.starts_with(field)) {
            Some((field, text)) => {
                out.push_str(text);
                &from_brace[field.len()..]
            }
            None => {
                out.push('{');
                &from_brace[1..]
            }
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> String {
        let prompts: String = NAMES.iter().map(|name| format!("{name} = (\"{name} \" '{{llm_response}}')\n")).collect();
        format!("\"\"\"doc\"\"\"\nSYSTEM_PROMPT: str = \"s\"\n{prompts}")
    }

    fn request(llm_response: &str) -> Request {
        Request {
            task: Task::Hallucination,
            rag_context: "ctx".into(),
            query: String::new(),
            llm_response: llm_response.into(),
        }
    }

    #[test]
    fn constants_are_read_and_filled_once() {
        let prompts = Prompts::parse(&source()).unwrap();
        assert_eq!(prompts.system, "s");
        assert_eq!(prompts.score(&request("{rag_context} {x}")), "HALLUCINATION_PROMPT {rag_context} {x}");
        assert_eq!(prompts.mistakes(&request("a")).as_deref(), Some("HALLUCINATION_MISTAKES_PROMPT a"));
    }

    #[test]
    fn a_computed_prompt_is_refused_by_name() {
        let text = source().replace("SYSTEM_PROMPT: str = \"s\"", "SYSTEM_PROMPT = load()");
        let error = Prompts::parse(&text).unwrap_err();
        assert!(error.to_string().contains("SYSTEM_PROMPT"), "{error}");
    }

    #[test]
    fn the_shipped_prompts_can_be_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipeline/model/prompts.py");
        let prompts = Prompts::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        let asked = prompts.score(&request("The answer."));
        assert!(asked.contains("ctx") && asked.contains("The answer."), "{asked}");
    }
}
