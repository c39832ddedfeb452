//! Examples without a network and without a model, the same for the same seed.
//!
//! Facts are drawn from tables; a false claim is a true one with one fact swapped for a value that the context does not hold. The pieces then
//! go through [`assemble`], so joiners, counts and references come out as the validator makes them.

mod tables;

use deval_eval::assembly::{Assembled, Draws, Generator, JOINERS, assemble};
use deval_eval::dice::Dice;
use deval_eval::{Example, Task};
use serde_json::{Value, json};

use tables::{ACTIONS, DEADLINES, FACTS, FILLERS, Fact, OFFERS, REMARKS, Values, values};

/// Paragraphs of a context; upstream goes up to 20, which a small model on a CPU feels.
const PARAGRAPHS: (usize, usize) = (5, 12);
/// Dialogues of an attribution context, as upstream.
const DIALOGUES: usize = 5;

/// `per_task` examples of each task, in the validator's order of tasks. An example depends on the seed, its task and its place only, so a
/// longer set begins with the shorter one.
pub fn generate(seed: u64, per_task: usize) -> Vec<Example> {
    let places = Task::ALL.into_iter().flat_map(|task| (0..per_task).map(move |index| (task, index)));
    places.map(|(task, index)| example(seed, task, index)).collect()
}

fn example(seed: u64, task: Task, index: usize) -> Example {
    let mut dice = Dice::new(seed, index as u64 * 4 + task as u64);
    let draws = match task {
        Task::Relevancy => relevancy(&mut dice),
        Task::Hallucination => hallucination(&mut dice),
        Task::SummaryCompleteness if dice.flip() => full_summary(&mut dice),
        Task::SummaryCompleteness => partial_summary(&mut dice),
        Task::Attribution => attribution(&mut dice),
    };
    let generator = draws.generator;
    let made = assemble(&draws).expect("every draw lies within the replies");
    let source = json!({ "generator": generator, "seed": seed, "index": index });
    labelled(format!("{task}-{seed}-{index:03}"), made, source)
}

fn labelled(id: String, made: Assembled, source: Value) -> Example {
    let Assembled { task, rag_context, query, llm_response, reference, reference_mistakes, reference_true_values } =
        made;
    Example {
        id,
        task,
        rag_context,
        query,
        llm_response,
        reference,
        reference_mistakes,
        reference_true_values,
        mistakes_unknown: false,
        source,
    }
}

/// Facts about different people, teams, products and places, and spare values that no paragraph mentions.
struct World {
    facts: Vec<(&'static Fact, Values)>,
    spare: Vec<Values>,
}

impl World {
    fn new(dice: &mut Dice) -> Self {
        let paragraphs = dice.between(PARAGRAPHS.0, PARAGRAPHS.1);
        let mut values = values(dice, 2 * paragraphs);
        let spare = values.split_off(paragraphs);
        let kinds = dice.sample(FACTS.len(), paragraphs);
        Self { facts: kinds.into_iter().map(|kind| &FACTS[kind]).zip(values).collect(), spare }
    }

    /// A paragraph per fact: the fact, with filler before or behind.
    fn paragraphs(&self, dice: &mut Dice) -> Vec<String> {
        let mut paragraph = |(fact, values): &(&Fact, Values)| {
            let (template, filler) = (*dice.pick(&fact.context), *dice.pick(&FILLERS));
            let sentence = values.fill(template);
            if dice.flip() { format!("{sentence} {filler}") } else { format!("{filler} {sentence}") }
        };
        self.facts.iter().map(&mut paragraph).collect()
    }

    /// The claim about a fact, with one of its values swapped for a spare one unless it is to be true.
    fn claim(&self, dice: &mut Dice, place: usize, is_true: bool) -> String {
        let (fact, values) = &self.facts[place];
        let template = *dice.pick(&fact.claim);
        if is_true {
            return values.fill(template);
        }
        let slot = *dice.pick(&Values::slots(template));
        values.swapped(slot, dice.pick(&self.spare)).fill(template)
    }
}

fn hallucination(dice: &mut Dice) -> Draws {
    let world = World::new(dice);
    let (paragraphs, truth) = (world.paragraphs(dice), dice.unit());
    let flags: Vec<bool> = paragraphs.iter().map(|_| dice.unit() < truth).collect();
    let claims: Vec<_> = flags.iter().enumerate().map(|(place, is_true)| world.claim(dice, place, *is_true)).collect();
    let replies = replies(&paragraphs, "claim", &claims);
    let wanted = dice.between(1, paragraphs.len());
    selected(dice, Generator::HallucinationGeneration, replies, flags, wanted)
}

fn attribution(dice: &mut Dice) -> Draws {
    let participants = dice.between(2, 8);
    let names: Vec<String> = values(dice, participants).iter().map(|values| values.first_name().to_owned()).collect();
    let truth = dice.unit();
    let actions = dice.sample(ACTIONS.len(), DIALOGUES);
    let (mut dialogues, mut items, mut flags) = (Vec::new(), Vec::new(), Vec::new());
    for action in actions {
        let task = format!("{} {}", ACTIONS[action], dice.pick(&DEADLINES));
        let order = dice.sample(names.len(), 2);
        let [owner, other] = [&names[order[0]], &names[order[1]]];
        let is_true = dice.unit() < truth;
        dialogues.push(dialogue(dice, owner, other, &task));
        items.push(format!("{} will {task}.", if is_true { owner } else { other }));
        flags.push(is_true);
    }
    let replies = replies(&dialogues, "action_item", &items);
    let wanted = dice.between(1, DIALOGUES);
    selected(dice, Generator::AttributionGeneration, replies, flags, wanted)
}

/// Two remarks around the offer to do something.
fn dialogue(dice: &mut Dice, owner: &str, other: &str, task: &str) -> String {
    let (question, thanks) = (*dice.pick(&REMARKS), *dice.pick(&REMARKS));
    format!("{other}: {question}\n{owner}: {} {task}.\n{other}: {thanks}", dice.pick(&OFFERS))
}

fn partial_summary(dice: &mut Dice) -> Draws {
    let world = World::new(dice);
    let paragraphs = world.paragraphs(dice);
    let summaries: Vec<_> = (0..paragraphs.len()).map(|place| world.claim(dice, place, true)).collect();
    let replies = replies(&paragraphs, "summary", &summaries);
    let wanted = dice.between(PARAGRAPHS.0, paragraphs.len());
    selected(dice, Generator::SummaryGeneration, replies, Vec::new(), wanted)
}

fn full_summary(dice: &mut Dice) -> Draws {
    let world = World::new(dice);
    let content = world.paragraphs(dice).join("\n\n");
    let topics: Vec<_> = world.facts.iter().map(|(_, values)| values.subject()).collect();
    let mut replies = vec![json!({ "key_topics": topics }).to_string()];
    replies.extend((0..world.facts.len()).map(|place| world.claim(dice, place, true)));
    let wanted = world.facts.len();
    Draws { content, ..selected(dice, Generator::SummaryWikipedia, replies, Vec::new(), wanted) }
}

/// An unfitting answer is about another fact, half the time told of the very thing that was asked about. Either kind may be short, so that
/// shared words alone do not give it away.
fn relevancy(dice: &mut Dice) -> Draws {
    let world = World::new(dice);
    let content = world.paragraphs(dice).join("\n\n");
    let (chance, order) = (dice.unit(), dice.sample(world.facts.len(), 2));
    let flag = dice.unit() <= chance;
    let [(fact, asked), (other, told)] = [&world.facts[order[0]], &world.facts[order[1]]];
    let subject = if dice.flip() { told.about(asked) } else { told.clone() };
    let (answers, values) = if flag { (&fact.answer, asked) } else { (&other.answer, &subject) };
    let template = *dice.pick(answers);
    let replies = vec![json!({ "query": asked.fill(fact.query), "answer": values.fill(template) }).to_string()];
    Draws { content, ..selected(dice, Generator::RelevancyWikipedia, replies, vec![flag], 0) }
}

fn replies(contexts: &[String], field: &str, claims: &[String]) -> Vec<String> {
    contexts
        .iter()
        .zip(claims)
        .map(|(context, claim)| json!({ "context": context, field: claim }).to_string())
        .collect()
}

/// Draws `wanted` of the usable replies, their order in the response, and all joiners.
fn selected(dice: &mut Dice, generator: Generator, replies: Vec<String>, flags: Vec<bool>, wanted: usize) -> Draws {
    let usable = if generator == Generator::SummaryWikipedia { replies.len() - 1 } else { replies.len() };
    let selected = dice.sample(usable, wanted);
    let response_order = dice.sample(wanted, wanted).into_iter().map(|place| selected[place]).collect();
    let joiners = |dice: &mut Dice, n| (0..n).map(|_| (*dice.pick(&JOINERS)).to_owned()).collect();
    let (context_joiners, response_joiners) = (joiners(dice, usable), joiners(dice, wanted));
    let (content, initial_count) = (String::new(), wanted as i64);
    Draws {
        generator,
        replies,
        content,
        initial_count,
        flags,
        selected,
        response_order,
        context_joiners,
        response_joiners,
    }
}

#[cfg(test)]
mod tests;
