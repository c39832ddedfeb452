//! What a context tells: subjects of one domain, and facts about two or three of them in every paragraph.
//!
//! A paragraph gives each fact for all of its subjects, in a sentence that holds all names and all values. Which belong together is said by
//! the order of words alone, so a claim that swaps two of the values has the same words in common with the context as a true one.

use std::collections::BTreeMap;

use deval_eval::dice::Dice;

use super::domains::{DOMAINS, Domain, Fact};
use super::layout::{Difficulty, listed, tell};
use super::names::{Kind, Names, capitalized};
use super::style::Style;

/// Subjects from which on no new one is introduced.
const MANY_SUBJECTS: usize = 30;
/// Share of the false claims about an article that may take their value from anywhere in it.
const FAR_SWAPS: f64 = 0.08;
/// Words of a summary at most.
const SUMMARY_WORDS: usize = 40;

/// A paragraph: whom it is about and what it tells of them.
#[derive(Debug)]
pub(super) struct Paragraph {
    pub(super) subjects: Vec<usize>,
    /// Places in the domain's facts.
    pub(super) facts: Vec<usize>,
    pub(super) text: String,
}

impl Paragraph {
    /// What is told, as subject and fact.
    pub(super) fn told(&self) -> Vec<(usize, usize)> {
        self.facts.iter().flat_map(|fact| self.subjects.iter().map(|subject| (*subject, *fact))).collect()
    }
}

/// Everything that a context tells.
#[derive(Debug)]
pub(super) struct World {
    pub(super) domain: &'static Domain,
    pub(super) style: Style,
    pub(super) difficulty: Difficulty,
    pub(super) paragraphs: Vec<Paragraph>,
    /// Names of the subjects.
    subjects: Vec<String>,
    /// The value of each subject and fact that is told.
    told: BTreeMap<(usize, usize), String>,
    names: Names,
}

impl World {
    /// A context with so many paragraphs that tell facts, and so many that tell none.
    pub(super) fn new(dice: &mut Dice, paragraphs: usize, asides: usize) -> Self {
        let (domain, difficulty, style) = (dice.pick(&DOMAINS), *dice.pick(&Difficulty::ALL), Style::new(dice));
        let (subjects, told, names) = (Vec::new(), BTreeMap::new(), Names::default());
        let mut world = Self { domain, style, difficulty, paragraphs: Vec::new(), subjects, told, names };
        for _ in 0..paragraphs {
            let paragraph = world.paragraph(dice);
            world.paragraphs.push(paragraph);
        }
        for _ in 0..asides {
            let (place, aside) = (dice.between(0, world.paragraphs.len()), world.aside(dice));
            world.paragraphs.insert(place, aside);
        }
        world
    }

    /// The paragraphs that tell facts.
    pub(super) fn telling(&self) -> Vec<&Paragraph> {
        self.paragraphs.iter().filter(|paragraph| !paragraph.facts.is_empty()).collect()
    }

    /// A paragraph with the names of subjects and no fact about them.
    fn aside(&mut self, dice: &mut Dice) -> Paragraph {
        let wanted = self.style.facts(dice);
        let mut sentence = |_| {
            let names: Vec<_> = self.pick_subjects(dice, &[]).iter().map(|subject| self.name(*subject)).collect();
            capitalized(&dice.pick(&ASIDES).replace("{}", &listed(&names)))
        };
        let sentences = (0..wanted).map(&mut sentence).collect();
        let heading = *dice.pick(&HEADINGS);
        let text = self.style.paragraph(dice, self.domain, heading, sentences);
        Paragraph { subjects: Vec::new(), facts: Vec::new(), text }
    }

    fn paragraph(&mut self, dice: &mut Dice) -> Paragraph {
        // Two at first, so that every context tells of more than one fact.
        let wanted = if self.told.is_empty() { 2 } else { self.style.facts(dice) };
        let facts = dice.sample(self.domain.facts.len(), wanted);
        let subjects = self.pick_subjects(dice, &facts);
        let mut sentences = Vec::new();
        for &fact in &facts {
            let values = self.names.group(dice, self.domain.facts[fact].kind, subjects.len());
            self.told.extend(subjects.iter().zip(values).map(|(subject, value)| ((*subject, fact), value)));
            let order: Vec<_> = dice.sample(subjects.len(), subjects.len()).iter().map(|i| subjects[*i]).collect();
            sentences.push(tell(dice, self.difficulty, &self.domain.facts[fact], &self.rows(&order, fact)));
        }
        let heading = capitalized(self.domain.facts[facts[0]].name);
        let text = self.style.paragraph(dice, self.domain, &heading, sentences);
        Paragraph { subjects, facts, text }
    }

    /// Known subjects of which none of the facts is told yet, and new ones.
    fn pick_subjects(&mut self, dice: &mut Dice, facts: &[usize]) -> Vec<usize> {
        let is_free = |subject: &usize| !facts.iter().any(|fact| self.told.contains_key(&(*subject, *fact)));
        let free: Vec<_> = (0..self.subjects.len()).filter(is_free).collect();
        let wanted = dice.between(2, 3);
        let mut known = dice.sample(free.len(), wanted).into_iter().map(|place| free[place]);
        let mut picked = Vec::new();
        while picked.len() < wanted {
            let may_be_new = self.subjects.len() < MANY_SUBJECTS && dice.below(3) == 0;
            let subject = if may_be_new { None } else { known.next() };
            picked.push(subject.unwrap_or_else(|| {
                let naming = self.domain.naming.unwrap_or(Kind::Coined);
                self.subjects.push(self.names.one(dice, naming));
                self.subjects.len() - 1
            }));
        }
        picked
    }

    /// Names and values of some subjects.
    fn rows(&self, subjects: &[usize], fact: usize) -> Vec<(String, String)> {
        subjects.iter().map(|subject| (self.name(*subject), self.value(*subject, fact).to_owned())).collect()
    }

    pub(super) fn name(&self, subject: usize) -> String {
        self.domain.subject.replace("{}", &self.subjects[subject])
    }

    /// What the subjects are, without a name.
    pub(super) fn noun(&self) -> String {
        self.domain.subject.split_whitespace().filter(|word| *word != "{}").collect::<Vec<_>>().join(" ")
    }

    pub(super) fn value(&self, subject: usize, fact: usize) -> &str {
        &self.told[&(subject, fact)]
    }

    /// All facts that are told, as subject and fact.
    pub(super) fn told(&self) -> Vec<(usize, usize)> {
        self.told.keys().copied().collect()
    }

    /// A claim about one subject and fact. A false one has the value of another subject, out of those that are told `among`.
    pub(super) fn claim(
        &self,
        dice: &mut Dice,
        (subject, fact): (usize, usize),
        is_true: bool,
        among: Vec<(usize, usize)>,
    ) -> String {
        let others = among.into_iter().filter(|(other, told)| *told == fact && *other != subject);
        let (stranger, _) = *dice.pick(&others.collect::<Vec<_>>());
        let value = self.value(if is_true { subject } else { stranger }, fact);
        claim(dice, &self.domain.facts[fact], &self.name(subject), value)
    }

    /// A claim about any subject and fact of a paragraph, with a value out of the same paragraph.
    pub(super) fn near_claim(&self, dice: &mut Dice, paragraph: &Paragraph, is_true: bool) -> String {
        let told = *dice.pick(&paragraph.told());
        self.claim(dice, told, is_true, paragraph.told())
    }

    /// A claim about a paragraph, now and then with a value out of another one; both must be shown.
    pub(super) fn far_claim(
        &self,
        dice: &mut Dice,
        paragraph: &Paragraph,
        told: (usize, usize),
        is_true: bool,
    ) -> String {
        let among = if dice.unit() < FAR_SWAPS { self.told() } else { paragraph.told() };
        self.claim(dice, told, is_true, among)
    }

    /// One sentence about a paragraph: with all values where that is short enough, else with the names of what is told.
    pub(super) fn summary(&self, dice: &mut Dice, paragraph: &Paragraph) -> String {
        let in_full = |fact: &usize| {
            let rows = self.rows(&paragraph.subjects, *fact);
            let pairs: Vec<_> = rows.iter().map(|(subject, value)| format!("{value} for {subject}")).collect();
            format!("the {} was {}", self.domain.facts[*fact].name, listed(&pairs))
        };
        let sentence = format!("{}.", paragraph.facts.iter().map(in_full).collect::<Vec<_>>().join("; "));
        if dice.unit() < self.style.detail && sentence.split(' ').count() <= SUMMARY_WORDS {
            return capitalized(&sentence);
        }
        let facts: Vec<_> =
            paragraph.facts.iter().map(|fact| format!("the {}", self.domain.facts[*fact].name)).collect();
        let names: Vec<_> = paragraph.subjects.iter().map(|subject| &self.subjects[*subject]).collect();
        let topics = format!("{} of {}", listed(&facts), listed(&names));
        capitalized(&dice.pick(&SUMMARIES).replace("{}", &topics))
    }
}

/// Sentences that name subjects and tell nothing of them.
const ASIDES: [&str; 6] = [
    "{} came up as well, but only in passing.",
    "there was a call for more news of {}, and none is looked for before the summer.",
    "more on {} must be left for another time, since the papers have not come in.",
    "about the early days of {} the sources are silent, as far as anybody has been able to find.",
    "somebody wanted to talk about the name of {} and was told that this belongs elsewhere.",
    "the spelling of {} varies, and this has led to letters that went astray.",
];
/// Headings above such paragraphs.
const HEADINGS: [&str; 4] = ["Background", "Remarks", "Other matters", "Notes"];

/// How a summary names its topics.
const SUMMARIES: [&str; 6] = [
    "it is told what is known of {}.",
    "{} can be read here.",
    "the text reports {}.",
    "a passage goes into {}.",
    "what follows is about {}.",
    "details are given on {}.",
];

/// Claims that fit every fact.
const CLAIMS: [&str; 3] = ["the {f} of {s} was {v}.", "{s} had {v} as the {f}.", "for {s}, the {f} was {v}."];

/// One way to claim a fact; true and false claims are worded alike.
pub(super) fn claim(dice: &mut Dice, fact: &Fact, subject: &str, value: &str) -> String {
    dice.pick(&every_claim(fact, subject, value)).clone()
}

/// All ways to claim a fact.
pub(super) fn every_claim(fact: &Fact, subject: &str, value: &str) -> Vec<String> {
    fact.claims.iter().chain(&CLAIMS).map(|template| fill(template, fact, subject, value)).collect()
}

/// A template with its slots filled and a capital first letter.
pub(super) fn fill(template: &str, fact: &Fact, subject: &str, value: &str) -> String {
    capitalized(&template.replace("{f}", fact.name).replace("{s}", subject).replace("{v}", value))
}
