use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::{ChatRequest, Completion};

/// A model whose replies depend on the prompt, and whose delays depend on the salt as well.
#[derive(Default)]
struct Writer {
    salt: u64,
    /// One of so many replies is garbage.
    garbage: Option<u64>,
    /// Every request ends with this.
    error: Option<LlmError>,
    asked: AtomicUsize,
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn reply(request: &ChatRequest, number: u64) -> String {
    let Some(tool) = &request.tool else { return format!("Text {number} on a topic. It has two sentences.") };
    let value = |name: &str| match name {
        "key_topics" => json!(["first topic", "second topic", "third topic", "fourth topic"]),
        name => json!(format!("The {name} numbered {number}.")),
    };
    let fields = tool.properties.iter().map(|property| (property.name.to_owned(), value(property.name)));
    Value::Object(fields.collect()).to_string()
}

impl Chat for Writer {
    fn api(&self) -> &'static str {
        "openai"
    }

    fn model(&self) -> &str {
        "scripted"
    }

    async fn complete(&self, request: &ChatRequest) -> Result<Completion, LlmError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let number = hash(&request.user);
        tokio::time::sleep(Duration::from_millis(hash((number, self.salt)) % 50)).await;
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let is_garbage = self.garbage.is_some_and(|part| number.is_multiple_of(part));
        let text = if is_garbage { "Sorry, I cannot do that.".to_owned() } else { reply(request, number) };
        Ok(Completion { text, usage: Usage { requests: 1, prompt_tokens: 300, completion_tokens: 100, estimated: 0 } })
    }
}

fn articles() -> Vec<Article> {
    let section =
        |heading: &str| (heading.to_owned(), format!("The {heading} of the town took many years. ").repeat(12));
    let article = |title: &str| {
        let sections: Vec<_> = ["history", "geography", "economy"].map(section).to_vec();
        let content = sections.iter().map(|(heading, text)| format!("{heading}\n{text}\n")).collect();
        Article { title: title.to_owned(), content, sections }
    };
    ["Alpha", "Beta", "Gamma"].map(article).to_vec()
}

async fn run(writer: &Writer, plan: &Plan) -> Generated {
    generate(writer, plan, &|_| {}).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn all_seven_generators_make_sound_examples() {
    let plan = Plan::new(3, 12, articles());
    let generated = run(&Writer::default(), &plan).await;
    let examples = &generated.set.examples;
    assert_eq!((examples.len(), generated.tally.made, generated.tally.wanted), (48, 48, 48));
    let generators: BTreeSet<_> =
        examples.iter().map(|example| example.source["generator"].as_str().unwrap()).collect();
    assert_eq!(generators, GENERATORS.map(name).into());
    for example in examples {
        check(example);
    }
    let of = |task: Task| examples.iter().filter(move |example| example.task == task);
    assert!((2..11).contains(&of(Task::Relevancy).filter(|example| example.reference == 1.0).count()));
    assert!(of(Task::Attribution).any(|example| example.reference_mistakes.is_empty()));
    assert!(of(Task::Attribution).any(|example| example.reference_true_values.is_empty()));
    let info = &generated.set.info;
    assert_eq!((info.generator.as_deref(), info.seed, &info.licence), (Some("llm:scripted"), None, &None));
    assert_eq!(info.contamination, ["model-written"]);
    let (read, findings) = ExampleSet::read("set.jsonl", &generated.set.write());
    assert_eq!((&read, findings), (&generated.set, vec![]));
}

/// What has to hold whatever the model writes.
fn check(example: &Example) {
    let claims = [&example.reference_mistakes[..], &example.reference_true_values[..]].concat();
    let is_article = example.source["generator"].as_str().unwrap().contains("wikipedia");
    assert_eq!(is_article, articles().iter().any(|article| article.content == example.rag_context), "{}", example.id);
    assert!((0.0..=1.0).contains(&example.reference) && !example.llm_response.is_empty());
    if example.task == Task::Relevancy {
        assert!(claims.is_empty() && !example.query.is_empty());
        return;
    }
    assert_eq!(example.query, "");
    let shown = if example.task == Task::SummaryCompleteness { &example.reference_true_values } else { &claims };
    assert!(!shown.is_empty() && shown.iter().all(|claim| example.llm_response.contains(claim)), "{example:?}");
    if example.task == Task::SummaryCompleteness {
        assert!(example.reference_true_values.len() >= 3);
        assert!(example.reference_mistakes.iter().all(|left_out| !example.llm_response.contains(left_out)));
    } else {
        let share = example.reference_true_values.len() as f64 / claims.len() as f64;
        assert!((example.reference - share).abs() < 0.0051, "{example:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_result_depends_on_seed_and_replies_only() {
    let plan = Plan { concurrent: 1, ..Plan::new(5, 4, articles()) };
    let writer = |salt| Writer { salt, garbage: Some(2), ..Writer::default() };
    let first = run(&writer(0), &plan).await;
    assert!(!first.tally.dropped.is_empty(), "garbage makes some tries fail");
    for (salt, concurrent) in [(1, 4), (2, 64), (3, 0)] {
        let again = run(&writer(salt), &Plan { concurrent, ..plan.clone() }).await;
        assert_eq!(again, first);
    }
    let longer = run(&writer(4), &Plan { per_task: 6, ..plan.clone() }).await;
    assert!(first.set.examples.iter().all(|example| longer.set.examples.contains(example)));
    assert_ne!(run(&writer(0), &Plan { seed: 6, ..plan }).await.set.examples, first.set.examples);
}

#[tokio::test(start_paused = true)]
async fn without_articles_their_generators_are_left_out_and_said() {
    let generated = run(&Writer::default(), &Plan::new(0, 3, Vec::new())).await;
    assert_eq!(generated.tally.made, 9);
    let left_out: Vec<_> = generated.tally.left_out.iter().map(|left_out| left_out.generator.as_str()).collect();
    assert_eq!(left_out.len(), 4);
    assert!(left_out.contains(&"relevancy_wikipedia") && left_out.contains(&"summary_wikipedia"));
    let plan = Plan { tasks: vec![Task::Relevancy], ..Plan::new(0, 3, Vec::new()) };
    let error = generate(&Writer::default(), &plan, &|_| {}).await.unwrap_err();
    assert!(matches!(error, LlmError::Nothing { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn garbage_is_dropped_and_tried_up_to_a_limit() {
    let writer = Writer { garbage: Some(1), ..Writer::default() };
    let plan = Plan { tries: 3, ..Plan::new(0, 2, articles()) };
    let generated = run(&writer, &plan).await;
    assert_eq!((generated.tally.made, generated.tally.dropped.len(), generated.tally.stopped), (0, 24, None));
    let tries: Vec<_> = generated.tally.dropped.iter().map(|dropped| dropped.try_number).take(4).collect();
    assert_eq!(tries, [1, 2, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn usage_and_cost_add_up() {
    let writer = Writer::default();
    let price = Price { prompt: 1.0, completion: 10.0 };
    let plan = Plan { price: Some(price), ..Plan::new(1, 3, articles()) };
    let last = Mutex::new(None);
    let generated = generate(&writer, &plan, &|progress| *last.lock().unwrap() = Some(progress)).await.unwrap();
    let asked = writer.asked.load(Ordering::Relaxed) as u64;
    let usage = Usage { requests: asked, prompt_tokens: 300 * asked, completion_tokens: 100 * asked, estimated: 0 };
    assert_eq!(generated.tally.usage, usage);
    assert_eq!(generated.tally.cost_usd, Some(price.of_usage(&usage)));
    let last = last.lock().unwrap().unwrap();
    assert_eq!((last.made, last.wanted, last.usage, last.cost_usd), (12, 12, usage, generated.tally.cost_usd));
    let estimate = estimate(&plan);
    assert_eq!(estimate.examples, 12);
    assert!((0.5..2.0).contains(&(estimate.requests / asked as f64)), "{estimate:?} for {asked} requests");
}

#[tokio::test(start_paused = true)]
async fn the_cost_limit_is_never_exceeded_and_keeps_what_was_made() {
    let price = Price { prompt: 1.0, completion: 10.0 };
    let plan = |max_cost| Plan { price: Some(price), max_cost: Some(max_cost), ..Plan::new(1, 5, articles()) };
    let generated = run(&Writer::default(), &plan(0.15)).await;
    let tally = generated.tally;
    assert!((1..20).contains(&tally.made), "{}", tally.made);
    assert!(tally.cost_usd.unwrap() <= 0.15 && tally.stopped.unwrap().contains("raise the cost limit"));
    let error = generate(&Writer::default(), &plan(0.001), &|_| {}).await.unwrap_err();
    assert!(matches!(error, LlmError::Budget { .. }), "{error}");
    let unpriced = Plan { price: None, ..plan(1.0) };
    let error = generate(&Writer::default(), &unpriced, &|_| {}).await.unwrap_err();
    assert_eq!(error, LlmError::PriceUnknown { model: "scripted".into() });
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_stops_the_run_at_once_and_a_refused_request_after_its_tries() {
    let refused = |status| LlmError::Refused { url: "http://h".into(), status, message: "no".into() };
    let plan = Plan { concurrent: 1, tasks: vec![Task::Relevancy], ..Plan::new(0, 9, articles()) };
    for (status, asked) in [(401, 1), (400, 5)] {
        let writer = Writer { error: Some(refused(status)), ..Writer::default() };
        assert_eq!(generate(&writer, &plan, &|_| {}).await.unwrap_err(), refused(status));
        assert_eq!(writer.asked.load(Ordering::Relaxed), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn views_say_what_was_left_out_and_what_it_cost() {
    let writer = Writer { garbage: Some(3), ..Writer::default() };
    let plan = Plan { price: Some(Price::FREE), ..Plan::new(0, 3, Vec::new()) };
    let section = run(&writer, &plan).await.tally.section();
    assert!(section.rows.contains(&("cost".to_owned(), "0.0000 USD".to_owned())));
    assert!(section.notes.iter().any(|note| note == "relevancy_wikipedia is left out: no articles"));
    assert_eq!(estimate(&Plan { price: None, ..plan }).cost_usd, None);
}
