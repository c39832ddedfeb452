//! The random part of a task that [`assemble`] is given, and the example that comes of it.

use deval_eval::Example;
use deval_eval::assembly::{Draws, Generator, JOINERS, MIN_SUMMARIES, assemble};
use deval_eval::dice::Dice;
use serde_json::Value;

/// Draws `wanted` of the usable replies less one for each that is not, their order in the response, and all joiners.
pub(crate) fn selected(
    dice: &mut Dice,
    generator: Generator,
    replies: Vec<String>,
    flags: Vec<bool>,
    wanted: usize,
) -> Draws {
    let failed = replies.iter().filter(|reply| reply.is_empty()).count();
    let has_list = matches!(generator, Generator::SummaryWikipedia | Generator::HallucinationWikipediaTopics);
    let usable = replies.len() - failed - usize::from(has_list);
    let least = match generator {
        Generator::RelevancyWikipedia => 0,
        Generator::SummaryGeneration | Generator::SummaryWikipedia => MIN_SUMMARIES,
        _ => 1,
    };
    let shown = wanted.saturating_sub(failed).max(least).min(usable);
    let selected = dice.sample(usable, shown);
    let response_order = dice.sample(shown, shown).into_iter().map(|place| selected[place]).collect();
    let joiners = |dice: &mut Dice, n| (0..n).map(|_| (*dice.pick(&JOINERS)).to_owned()).collect();
    let (context_joiners, response_joiners) = (joiners(dice, usable), joiners(dice, shown));
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
    assemble(draws).expect("every draw lies within the replies").into_example(id, source)
}
