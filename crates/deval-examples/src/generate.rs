//! Examples without a network and without a model, the same for the same seed.
//!
//! Every context tells the same facts of several subjects. A false claim gives one of them the value of another, so that it has as many words
//! in common with the context as a true one; an action item is given to somebody else of the same dialogue. The pieces then go through
//! [`assemble`](deval_eval::assembly::assemble), so joiners, counts and references come out as the validator makes them.

mod dialogue;
mod domains;
mod layout;
mod names;
mod questions;
mod style;
mod world;

use deval_eval::assembly::{Draws, Generator, JOINERS, MIN_SUMMARIES, join};
use deval_eval::dice::Dice;
use deval_eval::{Example, ExampleSet, SetInfo, Task};
use serde_json::{Value, json};

use crate::draws::{self, selected};
use world::{Paragraph, World};

/// What makes these examples; another version makes others of the same seed.
pub const GENERATOR: &str = "offline/2";
/// Paragraphs of a context, as upstream.
const PARAGRAPHS: (usize, usize) = (5, 20);
/// Paragraphs of an article that is summed up.
const ARTICLE_PARAGRAPHS: (usize, usize) = (8, 30);
/// Dialogues of an attribution context, as upstream.
const DIALOGUES: usize = 5;
/// Participants of a meeting, as upstream.
const PARTICIPANTS: (usize, usize) = (2, 20);
/// Claims about a section of an article, as upstream.
const CLAIMS_PER_SECTION: (usize, usize) = (1, 3);
/// Share of the model's replies that cannot be used.
const UNUSABLE: f64 = 0.02;

/// `per_task` examples of each task, in the validator's order of tasks. An example depends on the seed, its task and its place only, so a
/// longer set begins with the shorter one.
pub fn generate(seed: u64, per_task: usize) -> Vec<Example> {
    generate_set(seed, per_task, &Task::ALL).examples
}

/// A set named `offline-SEED` with `per_task` examples of each of these tasks, which are the ones that [`generate`] gives.
pub fn generate_set(seed: u64, per_task: usize, tasks: &[Task]) -> ExampleSet {
    let places = tasks.iter().flat_map(|task| (0..per_task).map(move |index| (*task, index)));
    let info = SetInfo {
        name: format!("offline-{seed}"),
        licence: Some("MIT OR Apache-2.0".to_owned()),
        seed: Some(seed),
        generator: Some(GENERATOR.to_owned()),
        ..SetInfo::default()
    };
    ExampleSet::new(info, places.map(|(task, index)| example(seed, task, index)).collect())
}

fn example(seed: u64, task: Task, index: usize) -> Example {
    let mut dice = Dice::new(seed, index as u64 * 4 + task as u64);
    let (draws, labels) = match task {
        Task::Relevancy => relevancy(&mut dice),
        Task::Hallucination => hallucination(&mut dice),
        Task::SummaryCompleteness => summary(&mut dice),
        Task::Attribution => attribution(&mut dice),
    };
    let mut source = json!({ "generator": draws.generator, "seed": seed, "index": index });
    if let (Some(source), Value::Object(labels)) = (source.as_object_mut(), labels) {
        source.extend(labels);
    }
    draws::example(format!("{task}-{seed}-{index:03}"), &draws, source)
}

/// What a draw is about, for the example's source.
fn labels(world: &World) -> Value {
    json!({
        "topic": world.domain.topic,
        "subtopic": world.noun(),
        "context_type": world.style.tone.name,
        "difficulty": world.difficulty.name(),
    })
}

fn world(dice: &mut Dice) -> World {
    let paragraphs = dice.between(PARAGRAPHS.0, PARAGRAPHS.1);
    World::new(dice, paragraphs, 0)
}

/// The text of an article. Its paragraphs are parted as those of other contexts are, or else the look would tell the generator, and that the
/// reference of a summary.
fn article(dice: &mut Dice, world: &World) -> String {
    let joiners: Vec<_> = world.paragraphs.iter().map(|_| *dice.pick(&JOINERS)).collect();
    join(world.paragraphs.iter().map(|paragraph| paragraph.text.as_str()), &joiners)
}

/// Sections of one or two paragraphs each.
fn sections<'a>(dice: &mut Dice, world: &'a World) -> Vec<Vec<&'a Paragraph>> {
    let (mut sections, mut rest) = (Vec::new(), world.telling());
    while !rest.is_empty() {
        let size = dice.between(1, 2).min(rest.len());
        sections.push(rest.drain(..size).collect());
    }
    sections
}

/// Whether each of `n` claims is to be true; how likely that is is drawn once.
fn flags(dice: &mut Dice, n: usize) -> Vec<bool> {
    let truth = dice.unit();
    (0..n).map(|_| dice.unit() <= truth).collect()
}

fn hallucination(dice: &mut Dice) -> (Draws, Value) {
    let world = world(dice);
    let draws = match dice.below(3) {
        0 => paragraph_claims(dice, &world),
        1 => section_claims(dice, &world),
        _ => topic_claims(dice, &world),
    };
    (draws, labels(&world))
}

fn paragraph_claims(dice: &mut Dice, world: &World) -> Draws {
    let flags = flags(dice, world.paragraphs.len());
    let pair = |(paragraph, is_true): (&Paragraph, &bool)| {
        (paragraph.text.clone(), world.near_claim(dice, paragraph, *is_true))
    };
    let pairs: Vec<_> = world.paragraphs.iter().zip(&flags).map(pair).collect();
    let replies = replies(dice, "claim", pairs, 1);
    let wanted = dice.between(1, replies.len());
    selected(dice, Generator::HallucinationGeneration, replies, flags, wanted)
}

fn section_claims<'a>(dice: &mut Dice, world: &'a World) -> Draws {
    let (content, sections) = (article(dice, world), sections(dice, world));
    let mut told = Vec::new();
    for section in &sections {
        let of =
            |paragraph: &&'a Paragraph| paragraph.told().into_iter().map(|told| (*paragraph, told)).collect::<Vec<_>>();
        let all: Vec<_> = section.iter().flat_map(of).collect();
        let wanted = dice.between(CLAIMS_PER_SECTION.0, CLAIMS_PER_SECTION.1);
        told.extend(dice.sample(all.len(), wanted).into_iter().map(|place| all[place]));
    }
    let flags = flags(dice, told.len());
    let claim = |((paragraph, told), is_true): (&(&Paragraph, (usize, usize)), &bool)| {
        json!({ "response": world.far_claim(dice, paragraph, *told, *is_true) }).to_string()
    };
    let replies = told.iter().zip(&flags).map(claim).collect();
    let replies = with_failures(dice, replies, 1);
    Draws { content, ..all_shown(dice, Generator::HallucinationWikipediaClaims, replies, flags) }
}

fn topic_claims(dice: &mut Dice, world: &World) -> Draws {
    let (content, sections) = (article(dice, world), sections(dice, world));
    let flags = flags(dice, sections.len());
    let mut replies = vec![key_topics(world, &sections)];
    for (section, is_true) in sections.iter().zip(&flags) {
        let paragraph = *dice.pick(section);
        let told = *dice.pick(&paragraph.told());
        replies.push(world.far_claim(dice, paragraph, told, *is_true));
    }
    Draws { content, ..all_shown(dice, Generator::HallucinationWikipediaTopics, replies, flags) }
}

fn key_topics(world: &World, sections: &[Vec<&Paragraph>]) -> String {
    let topics: Vec<_> = sections.iter().map(|section| world.domain.facts[section[0].facts[0]].name).collect();
    json!({ "key_topics": topics }).to_string()
}

fn summary(dice: &mut Dice) -> (Draws, Value) {
    let is_full = dice.flip();
    let world = summed_up_world(dice, is_full);
    let draws = if is_full { full_summary(dice, &world) } else { partial_summary(dice, &world) };
    (draws, labels(&world))
}

/// What is summed up. Between the topics stand paragraphs that tell nothing: without them, the ratio of summaries to paragraphs would tell
/// whether any is missing; where some are, there are fewer such paragraphs, so that the ratio is about the same.
fn summed_up_world(dice: &mut Dice, is_full: bool) -> World {
    if is_full {
        let paragraphs = dice.between(ARTICLE_PARAGRAPHS.0, ARTICLE_PARAGRAPHS.1);
        let topics = dice.between(MIN_SUMMARIES, (paragraphs * 3 / 4).max(PARAGRAPHS.0));
        return World::new(dice, topics, paragraphs - topics);
    }
    let topics = dice.between(PARAGRAPHS.0, PARAGRAPHS.1);
    let asides = dice.between(topics / 5, topics * 3 / 4);
    World::new(dice, topics, asides)
}

fn partial_summary(dice: &mut Dice, world: &World) -> Draws {
    let pairs = summed_up(dice, world);
    let replies = replies(dice, "summary", pairs, MIN_SUMMARIES);
    let wanted = dice.between(PARAGRAPHS.0, replies.len());
    selected(dice, Generator::SummaryGeneration, replies, Vec::new(), wanted)
}

/// Every paragraph that tells something with its summary; those that tell nothing go with their neighbours.
fn summed_up(dice: &mut Dice, world: &World) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut before = String::new();
    for paragraph in &world.paragraphs {
        if !paragraph.facts.is_empty() {
            pairs.push((std::mem::take(&mut before) + &paragraph.text, world.summary(dice, paragraph)));
        } else if let Some((context, _)) = pairs.last_mut() {
            *context += &format!("{}{}", dice.pick(&JOINERS), paragraph.text);
        } else {
            before += &format!("{}{}", paragraph.text, dice.pick(&JOINERS));
        }
    }
    pairs
}

fn full_summary(dice: &mut Dice, world: &World) -> Draws {
    let content = article(dice, world);
    let topics: Vec<_> = world.telling().into_iter().map(|paragraph| vec![paragraph]).collect();
    let mut replies = vec![key_topics(world, &topics)];
    replies.extend(topics.iter().map(|topic| world.summary(dice, topic[0])));
    Draws { content, ..all_shown(dice, Generator::SummaryWikipedia, replies, Vec::new()) }
}

fn relevancy(dice: &mut Dice) -> (Draws, Value) {
    let world = world(dice);
    let content = article(dice, &world);
    let chance = dice.unit();
    let flag = dice.unit() <= chance;
    let (query, answer) = questions::exchange(dice, &world, flag);
    let replies = vec![json!({ "query": query, "answer": answer }).to_string()];
    (Draws { content, ..selected(dice, Generator::RelevancyWikipedia, replies, vec![flag], 0) }, labels(&world))
}

fn attribution(dice: &mut Dice) -> (Draws, Value) {
    let participants = dice.between(PARTICIPANTS.0, PARTICIPANTS.1);
    let (names, flags) = (names::first_names(dice, participants), flags(dice, DIALOGUES));
    let dialogues = dialogue::dialogues(dice, &names, &flags);
    let pairs: Vec<_> = dialogues.into_iter().map(|dialogue| (dialogue.text, dialogue.item)).collect();
    let replies = replies(dice, "action_item", pairs, 1);
    let wanted = dice.between(1, DIALOGUES);
    let draws = selected(dice, Generator::AttributionGeneration, replies, flags, wanted);
    (draws, json!({ "topic": "meetings", "context_type": "dialogue", "participants": participants }))
}

/// One reply per context, some of which cannot be used; at least `keep` can.
fn replies(dice: &mut Dice, field: &str, pairs: Vec<(String, String)>, keep: usize) -> Vec<String> {
    let reply = |(context, claim)| json!({ "context": context, field: claim }).to_string();
    let replies = pairs.into_iter().map(reply).collect();
    with_failures(dice, replies, keep)
}

fn with_failures(dice: &mut Dice, mut replies: Vec<String>, keep: usize) -> Vec<String> {
    let may_fail = replies.len().saturating_sub(keep);
    let failed: Vec<_> = (0..replies.len()).filter(|_| dice.unit() < UNUSABLE).take(may_fail).collect();
    for place in failed {
        replies[place].clear();
    }
    replies
}

/// Article generators show all that could be used.
fn all_shown(dice: &mut Dice, generator: Generator, replies: Vec<String>, flags: Vec<bool>) -> Draws {
    let wanted = replies.len();
    selected(dice, generator, replies, flags, wanted)
}

#[cfg(test)]
mod tests;
