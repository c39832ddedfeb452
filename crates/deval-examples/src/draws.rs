//! The random part of a task that [`assemble`] is given, and the example that comes of it.

use deval_eval::Example;
use deval_eval::assembly::{Draws, Generator, JOINERS, assemble};
use deval_eval::dice::Dice;
use serde_json::Value;

/// Draws `wanted` of the usable replies, their order in the response, and all joiners.
pub(crate) fn selected(
    dice: &mut Dice,
    generator: Generator,
    replies: Vec<String>,
    flags: Vec<bool>,
    wanted: usize,
) -> Draws {
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

/// The example of these draws; every draw lies within the replies.
pub(crate) fn example(id: String, draws: &Draws, source: Value) -> Example {
    let made = assemble(draws).expect("every draw lies within the replies");
    Example {
        id,
        task: made.task,
        rag_context: made.rag_context,
        query: made.query,
        llm_response: made.llm_response,
        reference: made.reference,
        reference_mistakes: made.reference_mistakes,
        reference_true_values: made.reference_true_values,
        mistakes_unknown: false,
        source,
    }
}
