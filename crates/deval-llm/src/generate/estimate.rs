//! What a plan will take.

use deval_eval::assembly::Generator;
use deval_report::Section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tally::usd;
use super::{Article, Plan};
use crate::PRICES_OF;

/// Tokens of instructions and tool.
const PROMPT: f64 = 350.0;
/// Tokens per character of an article.
const PER_CHARACTER: f64 = 0.25;
/// Tokens of a paragraph with its claim as JSON.
const PARAGRAPH: f64 = 200.0;
/// Tokens of a claim, a list of topics, a question with its answer.
const SHORT: f64 = 60.0;

/// Expected requests, tokens and cost of a plan whose replies all make tasks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Examples.
    pub examples: usize,
    /// Requests.
    pub requests: f64,
    /// Tokens of prompts.
    pub prompt_tokens: f64,
    /// Tokens of answers.
    pub completion_tokens: f64,
    /// USD at the plan's price; absent where none is known.
    pub cost_usd: Option<f64>,
}

/// Requests, tokens per prompt, tokens per answer.
type Calls = (f64, f64, f64);

/// What a plan will take, before anything is asked. Long articles make the difference: most generators about articles send the whole text
/// with every request.
pub fn estimate(plan: &Plan) -> Estimate {
    let mut estimate =
        Estimate { examples: 0, requests: 0.0, prompt_tokens: 0.0, completion_tokens: 0.0, cost_usd: None };
    for (task, _) in plan.places() {
        let generators = plan.generators(task);
        estimate.examples += 1;
        for generator in &generators {
            let (requests, prompt, completion) = calls(*generator, &plan.articles);
            let requests = requests / generators.len() as f64;
            estimate.requests += requests;
            estimate.prompt_tokens += requests * prompt;
            estimate.completion_tokens += requests * completion;
        }
    }
    let cost = |price: crate::Price| price.of(estimate.prompt_tokens as u64, estimate.completion_tokens as u64);
    Estimate { cost_usd: plan.price.map(cost), ..estimate }
}

fn calls(generator: Generator, articles: &[Article]) -> Calls {
    let mean = |sum: usize| sum as f64 / articles.len().max(1) as f64;
    let article = PROMPT + PER_CHARACTER * mean(articles.iter().map(|article| article.content.len()).sum());
    let sections = mean(articles.iter().map(|article| article.sections.len().max(1)).sum());
    match generator {
        Generator::AttributionGeneration => (5.0, PROMPT, PARAGRAPH),
        Generator::HallucinationGeneration | Generator::SummaryGeneration => (12.5, PROMPT, PARAGRAPH),
        Generator::HallucinationWikipediaClaims => (2.0 * sections, PROMPT + (article - PROMPT) / sections, SHORT),
        Generator::HallucinationWikipediaTopics | Generator::SummaryWikipedia => (7.0, article, SHORT),
        Generator::RelevancyWikipedia => (1.0, article, SHORT),
    }
}

impl Estimate {
    /// For every view.
    pub fn section(&self) -> Section {
        Section::new("Estimate")
            .row("examples", self.examples)
            .row("requests", format!("about {:.0}", self.requests))
            .row("tokens", format!("about {:.0} in, {:.0} out", self.prompt_tokens, self.completion_tokens))
            .row("cost", self.cost_usd.map_or_else(|| "unknown: no price".to_owned(), usd))
            .note(format!("listed prices are of {PRICES_OF} and may be outdated; tries that are dropped come on top"))
    }
}
