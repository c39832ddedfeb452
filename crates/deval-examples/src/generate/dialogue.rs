//! Dialogues in which somebody takes on an action item, and somebody else might have.
//!
//! The one who takes it on is as often as not the one whose name stands in the line that words it.

use deval_eval::dice::Dice;

use super::names::{Kind, Names, capitalized};

/// What can be taken on: as it is said, and as the action item words it.
const ACTIONS: [(&str, &str); 40] = [
    ("send the revised budget to {org}", "mail the new budget to {org}"),
    ("book the large room in {place}", "reserve the big room in {place}"),
    ("call {org} about the late parts", "ring {org} because of the overdue parts"),
    ("draft the press statement", "write the text for the press"),
    ("update the safety checklist", "bring the safety checklist up to date"),
    ("test the spare batteries", "try out the extra batteries"),
    ("invite the new interns to {place}", "ask the interns over to {place}"),
    ("collect the survey forms", "gather in the questionnaires"),
    ("repair the loading ramp", "fix the ramp"),
    ("order lunch for the visitors from {org}", "get food for the guests from {org}"),
    ("archive the old drawings", "file the old plans away"),
    ("translate the user manual", "put the manual into another language"),
    ("renew the contract with {org}", "extend the agreement with {org}"),
    ("clean the paint workshop", "tidy up where the painting is done"),
    ("interview the candidates from {place}", "talk to the applicants from {place}"),
    ("measure the noise in the hall", "take sound readings in the hall"),
    ("prepare slides for the board", "make the presentation for the directors"),
    ("return the rented van to {place}", "take the hired van back to {place}"),
    ("check the backup tapes", "look through the backups"),
    ("water the plants on the third floor", "look after the greenery upstairs"),
    ("count the stock in {place}", "take the inventory in {place}"),
    ("answer the letter from {org}", "reply to {org}"),
    ("compare the three offers", "set the quotations side by side"),
    ("rewrite the opening paragraph", "word the introduction anew"),
    ("set up the projector", "get the projector going"),
    ("pick up the guests in {place}", "fetch the visitors from {place}"),
    ("pay the deposit to {org}", "transfer the down payment to {org}"),
    ("move the server racks", "shift the machines"),
    ("proofread the annual report", "go over the yearly report for errors"),
    ("label the sample jars", "put names on the samples"),
    ("print the badges", "run off the name tags"),
    ("talk to the landlord in {place}", "have a word with the owner in {place}"),
    ("find a speaker for the opening", "look for somebody to give the first talk"),
    ("close the old accounts at {org}", "wind up the accounts with {org}"),
    ("replace the broken sensor", "put in a new sensor"),
    ("plan the trip to {place}", "work out the journey to {place}"),
    ("cancel the order with {org}", "call off what was bought from {org}"),
    ("write down the results", "make a record of the outcome"),
    ("review the code of the importer", "read through the import code"),
    ("sort the complaints from {place}", "put the complaints from {place} in order"),
];
const DEADLINES: [&str; 10] = [
    "by Friday",
    "before the end of the month",
    "on Tuesday morning",
    "by noon tomorrow",
    "before the next meeting",
    "within two weeks",
    "on {date}",
    "by {date}",
    "before {date}",
    "on {date} at the latest",
];
/// How the item words it.
const ITEMS: [&str; 5] = [
    "{n} will {t}.",
    "{n} agreed to {t}.",
    "{n} is going to {t}.",
    "{n} has taken it on to {t}.",
    "It is {n} who will {t}.",
];
/// Said by the one who takes it on, and by nobody else.
pub(super) const ACCEPTANCES: [&str; 10] = [
    "I'll do it.",
    "Leave it with me.",
    "I'll take care of it.",
    "Put me down for it.",
    "I can manage that, no trouble.",
    "I'll see to it myself.",
    "Then it falls to me, fine.",
    "Count on me for that.",
    "I have the time, so I'll do that.",
    "That's mine, then.",
];
const REFUSALS: [&str; 8] = [
    "I'm away that week.",
    "I have too much on already.",
    "it is not my field.",
    "I did it the last two times.",
    "I don't have the keys.",
    "my plate is full.",
    "I'd rather not.",
    "somebody else knows more about it.",
];
const REMARKS: [&str; 16] = [
    "What comes next on the list?",
    "We should not forget anything this time.",
    "Good, that helps a lot.",
    "Thank you, please keep us posted.",
    "That sounds right to me.",
    "Let us write that down.",
    "Perfect, then we can go on.",
    "Sorry, I came in late.",
    "Is everybody on the line?",
    "I have no objection.",
    "That was quicker than I thought.",
    "Last month it was much harder.",
    "Could you speak up a little?",
    "All right, next point.",
    "I was about to say the same.",
    "Fine with me.",
];
/// `{o}` takes `{t}` on with `{yes}`, `{x}` does not; `{u}` is another task.
const PAIR_SCRIPTS: [&str; 12] = [
    "{o}: I could {t}. {yes}\n{x}: {remark}",
    "{x}: Somebody has to {t}.\n{o}: {yes}\n{x}: {remark}",
    "{x}: {o}, could you {t}?\n{o}: {yes}",
    "{o}: {x}, could you {t}?\n{x}: Sorry, {no}\n{o}: {yes}",
    "{x}: I might {t}, but {no}\n{o}: {yes}\n{x}: {remark}",
    "{o}: Who can {t}? {x}?\n{x}: Not this time, {no}\n{o}: {yes}\n{x}: {remark}",
    "{o}: Let us split it: I {t}, {x} can {u}. {yes}\n{x}: {remark}",
    "{x}: I would {u} if {o} could {t}.\n{o}: {yes}",
    "{x}: I can't {t}, {no}\n{o}: {yes}",
    "{o}: As to the plan to {t}: {yes}\n{x}: {remark}",
    "{o}: We still have to {t}, {x}. {remark}\n{x}: {remark}\n{o}: {yes}",
    "{x}: {o}, did you want to {t}?\n{o}: {yes}\n{x}: {remark}",
];
/// The same with a third person, `{y}`, who asks.
const TRIPLE_SCRIPTS: [&str; 10] = [
    "{y}: {o} or {x}, who of you can {t}?\n{x}: Sorry, {no}\n{o}: {yes}",
    "{y}: {x} or {o}, who of you can {t}?\n{o}: {yes}\n{x}: {remark}",
    "{y}: We still have to {t}.\n{x}: I was going to, but {no}\n{o}: {yes}",
    "{y}: Did {x} offer to {t}?\n{o}: No, that was me. {yes}\n{x}: {remark}",
    "{y}: Did {o} offer to {t}?\n{x}: I was asked as well, but {no}\n{o}: {yes}",
    "{y}: {x}, can you {t}?\n{x}: Sorry, {no} Perhaps {o}?\n{o}: {yes}",
    "{y}: {o}, can you {t}?\n{o}: {yes}\n{x}: {remark}",
    "{y}: Who is to {t}?\n{o}: {yes}\n{x}: {remark}",
    "{o}: Should I {t}?\n{y}: Or should {x}?\n{x}: No, {no}\n{o}: {yes}",
    "{y}: I hear that {x} wants to {t}.\n{o}: No, that was my idea. {yes}\n{x}: {remark}",
];

/// A dialogue and the action item that somebody draws from it.
#[derive(Debug)]
pub(super) struct Dialogue {
    pub(super) text: String,
    pub(super) item: String,
}

/// `n` dialogues between these participants, with an item each; true ones name the one who took it on.
pub(super) fn dialogues(dice: &mut Dice, participants: &[&str], flags: &[bool]) -> Vec<Dialogue> {
    let mut names = Names::default();
    let actions = dice.sample(ACTIONS.len(), 2 * flags.len());
    let dialogue = |(i, is_true): (usize, &bool)| {
        let (said, worded) = action(dice, &mut names, actions[2 * i]);
        let (other, _) = action(dice, &mut names, actions[2 * i + 1]);
        let cast: Vec<_> = dice.sample(participants.len(), 3).into_iter().map(|place| participants[place]).collect();
        let text = perform(dice, &cast, &said, &other);
        let text = framed(dice, participants, text);
        let name = cast[usize::from(!is_true)];
        let item = dice.pick(&ITEMS).replace("{n}", name).replace("{t}", &worded);
        Dialogue { text, item }
    };
    flags.iter().enumerate().map(dialogue).collect()
}

/// An action as it is said and as the item words it, with a deadline in both, in the first, or in neither.
fn action(dice: &mut Dice, names: &mut Names, place: usize) -> (String, String) {
    let (said, worded) = ACTIONS[place];
    let (org, town) = (names.one(dice, Kind::Org), names.one(dice, Kind::Place));
    let deadline = dice.pick(&DEADLINES).replace("{date}", &names.one(dice, Kind::Date));
    let fill = |text: &str| text.replace("{org}", &org).replace("{place}", &town);
    match dice.below(3) {
        0 => (fill(said), fill(worded)),
        1 => (format!("{} {deadline}", fill(said)), fill(worded)),
        _ => (format!("{} {deadline}", fill(said)), format!("{} {deadline}", fill(worded))),
    }
}

/// Plays a script; the first of the cast takes the task on, the second does not.
fn perform(dice: &mut Dice, cast: &[&str], task: &str, other: &str) -> String {
    let mut text = match cast {
        [_, _] => *dice.pick(&PAIR_SCRIPTS),
        _ if dice.flip() => *dice.pick(&PAIR_SCRIPTS),
        _ => *dice.pick(&TRIPLE_SCRIPTS),
    }
    .replace("{t}", task)
    .replace("{u}", other);
    for (role, name) in ["{o}", "{x}", "{y}"].into_iter().zip(cast) {
        text = text.replace(role, name);
    }
    for (slot, table) in [("{yes}", &ACCEPTANCES[..]), ("{no}", &REFUSALS), ("{remark}", &REMARKS)] {
        while let Some(place) = text.find(slot) {
            text.replace_range(place..place + slot.len(), dice.pick::<&str>(table));
        }
    }
    text
}

/// Remarks of anybody before and behind.
fn framed(dice: &mut Dice, participants: &[&str], text: String) -> String {
    let mut remark = || format!("{}: {}", dice.pick(participants), dice.pick(&REMARKS));
    let (before, behind) = ([remark(), remark()], [remark(), remark()]);
    let (first, last) = (dice.below(3), dice.below(3));
    let lines = before[..first].iter().chain([&text]).chain(&behind[..last]);
    lines.map(|line| capitalized(line)).collect::<Vec<_>>().join("\n")
}
