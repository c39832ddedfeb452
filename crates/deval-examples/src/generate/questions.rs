//! Queries about an article, with answers that fit and answers that do not.
//!
//! How much of the query's wording an answer takes up is drawn before it is known whether it fits: subject and fact, one of them, or
//! nothing at all. An answer that does not fit is about another subject, or about another fact.

use deval_eval::dice::Dice;

use super::world::{World, claim, fill};

/// Answers about `{s}` that also name another subject, `{o}`.
const COMPARED: [&str; 5] = [
    "set beside {o}, {s} had {v} as the {f}.",
    "{o} aside, the {f} of {s} was {v}.",
    "other than with {o}, the {f} of {s} was {v}.",
    "{s}, not {o}, had {v} as the {f}.",
    "much was said of {o}, while {s} had {v} as the {f}.",
];
/// Answers that name two facts of the subject, `{f}` and `{g}`, and give the value of the first.
const PREFACED: [&str; 5] = [
    "as to the {f} of {s}, and not the {g}, it was {v}.",
    "leaving the {g} of {s} aside, the {f} was {v}.",
    "on {s} much could be said, from the {g} to the {f}, which was {v}.",
    "the {f} of {s}, unlike the {g}, is easy to give: {v}.",
    "never mind the {g} of {s}; the {f} was {v}.",
];
/// Short answers.
const BARE: [&str; 6] =
    ["{v}.", "It was {v}.", "That would be {v}.", "As far as is known, {v}.", "The text says {v}.", "{v}, it seems."];

/// A query and an answer to it or past it.
pub(super) fn exchange(dice: &mut Dice, world: &World, fits: bool) -> (String, String) {
    let (subject, fact) = *dice.pick(&world.told());
    let query =
        fill(dice.pick::<&str>(&world.domain.facts[fact].queries), &world.domain.facts[fact], &world.name(subject), "");
    let asked = (subject, fact);
    let answer = match dice.below(10) {
        0..3 => compared(dice, world, asked, fits),
        3..6 => prefaced(dice, world, asked, fits),
        6..8 => plain(dice, world, asked, fits),
        _ => bare(dice, world, asked, fits),
    };
    (query, answer)
}

/// Two facts of the subject are named, the one asked for and another; one of them is told.
fn prefaced(dice: &mut Dice, world: &World, asked: (usize, usize), fits: bool) -> String {
    let other = other_fact(dice, world, asked);
    let (told, beside) = if fits { (asked, other) } else { (other, asked) };
    let template = dice.pick(&PREFACED).replace("{g}", world.domain.facts[beside.1].name);
    fill(&template, &world.domain.facts[told.1], &world.name(asked.0), world.value(told.0, told.1))
}

/// Both subjects and the fact are named; only one of them has the value.
fn compared(dice: &mut Dice, world: &World, (subject, fact): (usize, usize), fits: bool) -> String {
    let other = another(dice, world, |(other, told)| told == fact && other != subject)
        .expect("a fact is told of two subjects at least")
        .0;
    let (answered, beside) = if fits { (subject, other) } else { (other, subject) };
    let template = dice.pick(&COMPARED).replace("{o}", &world.name(beside));
    fill(&template, &world.domain.facts[fact], &world.name(answered), world.value(answered, fact))
}

/// The subject is named, or not by its name; the answer tells another fact, or the same fact of another subject.
fn plain(dice: &mut Dice, world: &World, asked: (usize, usize), fits: bool) -> String {
    let (subject, fact) = asked;
    let told = match (fits, dice.flip()) {
        (true, _) => Some(asked),
        (false, true) => another(dice, world, |(other, told)| told == fact && other != subject),
        (false, false) => another(dice, world, |(other, told)| told != fact && other == subject),
    };
    let (subject, fact) = told.unwrap_or_else(|| other_fact(dice, world, asked));
    let name = if fits && dice.below(3) > 0 { world.noun() } else { world.name(subject) };
    claim(dice, &world.domain.facts[fact], &name, world.value(subject, fact))
}

/// A value of the kind that was asked for, or of another kind.
fn bare(dice: &mut Dice, world: &World, asked: (usize, usize), fits: bool) -> String {
    let (subject, fact) = if fits { asked } else { other_fact(dice, world, asked) };
    fill(dice.pick::<&str>(&BARE), &world.domain.facts[fact], "", world.value(subject, fact))
}

/// Another fact, of the same subject if one is told. The facts of a domain are of different kinds, so that it cannot be taken for the one
/// asked for.
fn other_fact(dice: &mut Dice, world: &World, (subject, fact): (usize, usize)) -> (usize, usize) {
    another(dice, world, |(other, told)| told != fact && other == subject)
        .or_else(|| another(dice, world, |(_, told)| told != fact))
        .expect("an article tells several facts")
}

fn another(dice: &mut Dice, world: &World, fits: impl Fn((usize, usize)) -> bool) -> Option<(usize, usize)> {
    let all: Vec<_> = world.told().into_iter().filter(|told| fits(*told)).collect();
    if all.is_empty() { None } else { Some(*dice.pick(&all)) }
}
