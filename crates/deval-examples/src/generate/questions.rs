//! Queries about an article, with answers that fit and answers that do not.
//!
//! How much of the query's wording an answer takes up is drawn before it is known whether it fits: the subject and the fact, the fact alone, the
//! subject alone, or nothing at all. An answer that does not fit is about another subject, or about another fact.

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
/// Answers that take up the query, then give the value of a fact, `{g}`, that may be another one.
const PREFACED: [&str; 5] = [
    "{s} and the {f} are often asked about; the {g} was {v}.",
    "regarding the {f} of {s}, it is known that the {g} was {v}.",
    "you ask about the {f} of {s}: the {g} was {v}.",
    "on {s} and the {f}, the text says that the {g} was {v}.",
    "the {f} of {s} is a good question, and the {g} was {v}.",
];
/// Short answers.
const BARE: [&str; 6] =
    ["{v}.", "It was {v}.", "That would be {v}.", "As far as is known, {v}.", "The text says {v}.", "{v}, it seems."];
/// Answers that leave the subject out.
const SUBJECTLESS: [&str; 3] =
    ["The {f} {s} was {v}.", "As to the {f} {s}, it was {v}.", "The {f} {s} is given as {v}."];
/// What stands for the subject.
const THERE: [&str; 4] = ["in this case", "here, as the text has it,", "in the present context", "that you ask about"];

/// A query and an answer to it or past it.
pub(super) fn exchange(dice: &mut Dice, world: &World, fits: bool) -> (String, String) {
    let (subject, fact) = *dice.pick(&world.told());
    let query =
        fill(*dice.pick(&world.domain.facts[fact].queries), &world.domain.facts[fact], &world.name(subject), "");
    let asked = (subject, fact);
    let answer = match dice.below(20) {
        0..5 => compared(dice, world, asked, fits),
        5..10 => prefaced(dice, world, asked, fits),
        10..14 => plain(dice, world, asked, fits),
        14..16 => subjectless(dice, world, asked, fits),
        _ => bare(dice, world, asked, fits),
    };
    (query, answer)
}

/// Subject and fact are named, then this fact is told or another one.
fn prefaced(dice: &mut Dice, world: &World, asked: (usize, usize), fits: bool) -> String {
    let told = if fits { asked } else { other_fact(dice, world, asked) };
    let template = dice.pick(&PREFACED).replace("{g}", world.domain.facts[told.1].name);
    fill(&template, &world.domain.facts[asked.1], &world.name(asked.0), world.value(told.0, told.1))
}

/// Both subjects and the fact are named; only one of them has the value.
fn compared(dice: &mut Dice, world: &World, (subject, fact): (usize, usize), fits: bool) -> String {
    let other = another(dice, world, |(other, told)| told == fact && other != subject).expect("a fact is told of two subjects at least").0;
    let (answered, beside) = if fits { (subject, other) } else { (other, subject) };
    let template = dice.pick(&COMPARED).replace("{o}", &world.name(beside));
    fill(&template, &world.domain.facts[fact], &world.name(answered), world.value(answered, fact))
}

/// The fact without the subject; or the same fact of another subject.
fn subjectless(dice: &mut Dice, world: &World, (subject, fact): (usize, usize), fits: bool) -> String {
    let other = another(dice, world, |(other, told)| told == fact && other != subject).expect("a fact is told of two subjects at least").0;
    let there = if fits { (*dice.pick(&THERE)).to_owned() } else { format!("of {}", world.name(other)) };
    let told = if fits { subject } else { other };
    fill(*dice.pick(&SUBJECTLESS), &world.domain.facts[fact], &there, world.value(told, fact))
}

/// The subject is named; the answer tells another fact, or the same fact of another subject.
fn plain(dice: &mut Dice, world: &World, asked: (usize, usize), fits: bool) -> String {
    let (subject, fact) = asked;
    let told = match (fits, dice.flip()) {
        (true, _) => Some(asked),
        (false, true) => another(dice, world, |(other, told)| told == fact && other != subject),
        (false, false) => another(dice, world, |(other, told)| told != fact && other == subject),
    };
    let (subject, fact) = told.unwrap_or_else(|| other_fact(dice, world, asked));
    claim(dice, &world.domain.facts[fact], &world.name(subject), world.value(subject, fact))
}

/// A value of the kind that was asked for, or of another kind.
fn bare(dice: &mut Dice, world: &World, asked: (usize, usize), fits: bool) -> String {
    let (subject, fact) = if fits { asked } else { other_fact(dice, world, asked) };
    fill(*dice.pick(&BARE), &world.domain.facts[fact], "", world.value(subject, fact))
}

/// Another fact of any subject. The facts of a domain are of different kinds, so that it cannot be taken for the one asked for.
fn other_fact(dice: &mut Dice, world: &World, (_, fact): (usize, usize)) -> (usize, usize) {
    another(dice, world, |(_, told)| told != fact).expect("an article tells several facts")
}

fn another(dice: &mut Dice, world: &World, fits: impl Fn((usize, usize)) -> bool) -> Option<(usize, usize)> {
    let all: Vec<_> = world.told().into_iter().filter(|told| fits(*told)).collect();
    if all.is_empty() { None } else { Some(*dice.pick(&all)) }
}
