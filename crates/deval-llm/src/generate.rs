//! Upstream's task generators (`deval/tasks/*`, SCORING.md §5 of the protocol notes) over a [`Chat`].
//!
//! Requests go out side by side, but the examples depend on the plan and the replies only: every example has a stream of draws of its own.
//! The exception is a run that its cost limit or an error stops: which examples were finished by then depends on timing.

mod estimate;
mod meter;
mod replies;
mod tally;
mod write;

use std::sync::Mutex;

use deval_eval::assembly::{Generator, assemble};
use deval_eval::{Dice, Example, ExampleSet, SetInfo, Task};
use futures::StreamExt;
use serde_json::json;

pub use estimate::{Estimate, estimate};
pub use tally::{Dropped, LeftOut, Tally};

use crate::limit::lock;
use crate::{Chat, LlmError, Price, Sampling, Usage};
use meter::Meter;
use write::Writer;

/// An article that claims, topics and queries are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Article {
    /// Its title.
    pub title: String,
    /// The whole text, which becomes the context.
    pub content: String,
    /// Heading and text of its sections; without any, the whole text is taken for one.
    pub sections: Vec<(String, String)>,
}

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Seed of all draws.
    pub seed: u64,
    /// Examples per task.
    pub per_task: usize,
    /// Which tasks; repeated ones count once.
    pub tasks: Vec<Task>,
    /// Articles; without any, the generators about articles are left out.
    pub articles: Vec<Article>,
    /// How answers are drawn.
    pub sampling: Sampling,
    /// Tries per example, where replies do not make a task.
    pub tries: u32,
    /// Examples that are worked on at the same time; at least one is.
    pub concurrent: usize,
    /// What tokens cost.
    pub price: Option<Price>,
    /// The most USD to spend.
    pub max_cost: Option<f64>,
}

impl Plan {
    /// A plan for all four tasks with upstream's sampling, five tries per example, four examples at the same time and no cost limit.
    pub fn new(seed: u64, per_task: usize, articles: Vec<Article>) -> Self {
        let (tasks, sampling) = (Task::ALL.to_vec(), Sampling::default());
        Self { seed, per_task, tasks, articles, sampling, tries: 5, concurrent: 4, price: None, max_cost: None }
    }

    /// The generators that upstream draws a task from evenly, without those that lack articles.
    fn generators(&self, task: Task) -> Vec<Generator> {
        let all = GENERATORS.into_iter().filter(|generator| generator.task() == task);
        all.filter(|generator| !self.articles.is_empty() || !needs_article(*generator)).collect()
    }

    /// Task and number of every example, in the validator's order of tasks.
    fn places(&self) -> impl Iterator<Item = (Task, usize)> {
        let tasks =
            Task::ALL.into_iter().filter(|task| self.tasks.contains(task) && !self.generators(*task).is_empty());
        tasks.flat_map(|task| (0..self.per_task).map(move |index| (task, index)))
    }

    fn left_out(&self) -> Vec<LeftOut> {
        let wanted = GENERATORS.into_iter().filter(|generator| self.tasks.contains(&generator.task()));
        let left_out = wanted.filter(|generator| self.articles.is_empty() && needs_article(*generator));
        left_out
            .map(|generator| LeftOut { generator: name(generator).to_owned(), reason: "no articles".to_owned() })
            .collect()
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Examples made.
    pub made: usize,
    /// Examples wanted.
    pub wanted: usize,
    /// Tries whose replies made no task.
    pub dropped: usize,
    /// What was used.
    pub usage: Usage,
    /// USD, where the price is known.
    pub cost_usd: Option<f64>,
}

/// What a run made.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The examples.
    pub set: ExampleSet,
    /// What it took.
    pub tally: Tally,
}

const GENERATORS: [Generator; 7] = [
    Generator::RelevancyWikipedia,
    Generator::HallucinationGeneration,
    Generator::HallucinationWikipediaClaims,
    Generator::HallucinationWikipediaTopics,
    Generator::SummaryGeneration,
    Generator::SummaryWikipedia,
    Generator::AttributionGeneration,
];

/// Upstream's name of a generator.
fn name(generator: Generator) -> &'static str {
    match generator {
        Generator::AttributionGeneration => "attribution_generation",
        Generator::HallucinationGeneration => "hallucination_generation",
        Generator::HallucinationWikipediaClaims => "hallucination_wikipedia_claims",
        Generator::HallucinationWikipediaTopics => "hallucination_wikipedia_topics",
        Generator::RelevancyWikipedia => "relevancy_wikipedia",
        Generator::SummaryGeneration => "summary_generation",
        Generator::SummaryWikipedia => "summary_wikipedia",
    }
}

fn needs_article(generator: Generator) -> bool {
    name(generator).contains("wikipedia")
}

/// Writes the examples of a plan. Replies that make no task are dropped as upstream drops them, and tried again with new draws.
///
/// # Errors
/// [`LlmError::Nothing`] for a plan without examples; [`LlmError::PriceUnknown`] for a cost limit without a price; and what stopped a run
/// that made no example. A run that made some returns them, with the cause in [`Tally::stopped`].
pub async fn generate<C: Chat>(
    chat: &C,
    plan: &Plan,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Generated, LlmError> {
    let places: Vec<_> = plan.places().collect();
    if places.is_empty() {
        let reason = "the plan holds no example; relevancy can only be written about articles".to_owned();
        return Err(LlmError::Nothing { reason });
    }
    if plan.max_cost.is_some() && plan.price.is_none() {
        return Err(LlmError::PriceUnknown { model: chat.model().to_owned() });
    }
    let run = Run::new(chat, plan, places.len(), progress);
    let outcomes = futures::stream::iter(places).map(|(task, index)| run.example(task, index));
    let outcomes: Vec<Outcome> = outcomes.buffered(plan.concurrent.max(1)).collect().await;
    run.finish(outcomes)
}

/// What became of one example.
#[derive(Default)]
struct Outcome {
    example: Option<Example>,
    dropped: Vec<Dropped>,
}

struct Run<'a, C> {
    chat: &'a C,
    plan: &'a Plan,
    meter: Meter<'a, C>,
    wanted: usize,
    /// Examples made and tries dropped.
    counts: Mutex<(usize, usize)>,
    stopped: Mutex<Option<LlmError>>,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl<'a, C: Chat> Run<'a, C> {
    fn new(chat: &'a C, plan: &'a Plan, wanted: usize, progress: &'a (dyn Fn(Progress) + Sync)) -> Self {
        let meter = Meter::new(chat, plan.price, plan.max_cost);
        Self { chat, plan, meter, wanted, counts: Mutex::default(), stopped: Mutex::default(), progress }
    }

    async fn example(&self, task: Task, index: usize) -> Outcome {
        let (mut outcome, generators) = (Outcome::default(), self.plan.generators(task));
        let mut dice = Dice::new(self.plan.seed, index as u64 * 4 + task as u64);
        let mut refused = None;
        for number in 1..=self.plan.tries {
            if lock(&self.stopped).is_some() {
                return outcome;
            }
            let generator = *dice.pick(&generators);
            let reason = match self.attempt(generator, (index, number), &mut dice).await {
                Ok(Ok(example)) => {
                    outcome.example = Some(example);
                    self.tell(true);
                    return outcome;
                }
                Ok(Err(reason)) => reason,
                Err(error) if error.is_about_the_request() => refused.insert(error).to_string(),
                Err(error) => {
                    self.stop(error);
                    return outcome;
                }
            };
            outcome.dropped.push(Dropped { generator: name(generator).to_owned(), index, try_number: number, reason });
            self.tell(false);
        }
        // Where no request was ever answered, other examples would be refused alike.
        if let Some(error) = refused.filter(|_| self.meter.used().0.requests == 0) {
            self.stop(error);
        }
        outcome
    }

    /// One try; the inner error is upstream's reason to drop a task.
    async fn attempt(
        &self,
        generator: Generator,
        (index, number): (usize, u32),
        dice: &mut Dice,
    ) -> Result<Result<Example, String>, LlmError> {
        let written = Writer::new(&self.meter, self.plan).write(generator, dice).await?;
        let made = match assemble(&written.draws) {
            Ok(made) => made,
            Err(abort) => return Ok(Err(abort.to_string())),
        };
        let source = json!({
            "generator": name(generator),
            "api": self.chat.api(),
            "model_id": self.chat.model(),
            "topic": written.topic,
            "subtopic": written.subtopic,
            "seed": self.plan.seed,
            "index": index,
            "try": number,
        });
        let id = format!("{}-llm-{}-{index:03}", generator.task(), self.plan.seed);
        Ok(Ok(made.into_example(id, source)))
    }

    fn tell(&self, is_made: bool) {
        let (made, dropped) = {
            let mut counts = lock(&self.counts);
            if is_made {
                counts.0 += 1;
            } else {
                counts.1 += 1;
            }
            *counts
        };
        let (usage, cost_usd) = self.meter.used();
        (self.progress)(Progress { made, wanted: self.wanted, dropped, usage, cost_usd });
    }

    /// No further example is begun; the first cause counts.
    fn stop(&self, error: LlmError) {
        lock(&self.stopped).get_or_insert(error);
    }

    fn finish(self, outcomes: Vec<Outcome>) -> Result<Generated, LlmError> {
        let (examples, dropped): (Vec<_>, Vec<_>) =
            outcomes.into_iter().map(|outcome| (outcome.example, outcome.dropped)).unzip();
        let examples: Vec<_> = examples.into_iter().flatten().collect();
        let stopped = lock(&self.stopped).clone();
        if let (Some(error), true) = (&stopped, examples.is_empty()) {
            return Err(error.clone());
        }
        let (usage, cost_usd) = self.meter.used();
        let model = self.chat.model().to_owned();
        let info = SetInfo {
            name: format!("llm-{}", self.plan.seed),
            generator: Some(format!("llm:{model}")),
            contamination: vec!["model-written".to_owned()],
            ..SetInfo::default()
        };
        let tally = Tally {
            api: self.chat.api().to_owned(),
            model,
            wanted: self.wanted,
            made: examples.len(),
            dropped: dropped.into_iter().flatten().collect(),
            left_out: self.plan.left_out(),
            usage,
            cost_usd,
            stopped: stopped.map(|error| error.to_string()),
        };
        Ok(Generated { set: ExampleSet::new(info, examples), tally })
    }
}

#[cfg(test)]
mod tests;
