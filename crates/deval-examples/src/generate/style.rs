//! How contexts look: wordiness, headings, tone.

use deval_eval::dice::Dice;

use super::domains::Domain;

/// A tone: sentences that open or close a paragraph and state nothing.
#[derive(Debug)]
pub(super) struct Tone {
    pub(super) name: &'static str,
    openers: [&'static str; 4],
    closers: [&'static str; 4],
}

const TONES: [Tone; 5] = [
    Tone {
        name: "news",
        openers: [
            "There was more on this during the day.",
            "Readers wrote in to ask for particulars.",
            "The matter has drawn some attention.",
            "Our correspondent looked into the papers.",
        ],
        closers: [
            "Nobody was available for further comment.",
            "The story is being followed.",
            "Calls to the office were not returned.",
            "A fuller account is to appear at the weekend.",
        ],
    },
    Tone {
        name: "minutes",
        openers: [
            "The next item was taken up without delay.",
            "The floor was given to the rapporteur.",
            "There were no objections to the agenda.",
            "The point had been carried over from last time.",
        ],
        closers: [
            "The chair thanked all speakers.",
            "This was noted without a vote.",
            "The item was closed.",
            "No questions were raised.",
        ],
    },
    Tone {
        name: "email",
        openers: [
            "Just a quick word before the weekend.",
            "You asked for this, so here it is.",
            "Sorry for the late reply.",
            "I went through my notes again.",
        ],
        closers: [
            "Tell me if anything is unclear.",
            "More when I am back at my desk.",
            "Please pass this on to whoever needs it.",
            "I hope that helps.",
        ],
    },
    Tone {
        name: "report",
        openers: [
            "The figures below were checked against the files.",
            "This part rests on what was handed in.",
            "The sources agree on the following.",
            "A short look at the facts is in order.",
        ],
        closers: [
            "Further tables are kept with the office.",
            "No reason for this is given in the files.",
            "The next edition will come back to it.",
            "Rounding was avoided throughout.",
        ],
    },
    Tone {
        name: "encyclopedia",
        openers: [
            "Accounts of this are scattered over several volumes.",
            "The early history is not well documented.",
            "Local chronicles mention the matter briefly.",
            "Later writers have treated this in passing.",
        ],
        closers: [
            "The originals are kept in the regional archive.",
            "Some details remain disputed.",
            "A monograph on the subject is out of print.",
            "Photographs from that time are rare.",
        ],
    },
];

/// Filler for any domain and tone.
const FILLERS: [&str; 24] = [
    "The minutes were sent round the same evening.",
    "Nobody had expected it to go so smoothly.",
    "Several people asked for details, which will follow.",
    "It had been a quiet week until then.",
    "The decision had been expected for some time.",
    "The weather played no part in it.",
    "Opinions about this differ, as they often do.",
    "Similar plans had come to nothing before.",
    "There was applause at the end.",
    "The neighbours were told beforehand.",
    "This went better than many had feared.",
    "Some had hoped for more, others for less.",
    "It took longer to explain than to do.",
    "Old hands remember how it used to be.",
    "A photograph hangs in the hallway.",
    "The paperwork filled two folders.",
    "There had been rumours to the contrary.",
    "On the whole, people were content.",
    "A few doubts were voiced and then dropped.",
    "The coffee was better than usual.",
    "Outside, the road was being mended.",
    "Much of this was known already.",
    "The rest is a matter of taste.",
    "Questions about it were answered in good time.",
];

/// The look of one context.
#[derive(Debug)]
pub(super) struct Style {
    pub(super) tone: &'static Tone,
    /// Filler sentences of a paragraph at most.
    filler: usize,
    /// Chance of a second fact in a paragraph.
    density: f64,
    /// Chance that a summary gives the values.
    pub(super) detail: f64,
    has_headings: bool,
}

impl Style {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let (tone, filler) = (dice.pick(&TONES), *dice.pick(&[0, 1, 2, 4]));
        Self { tone, filler, density: dice.unit() * 0.8, detail: dice.unit(), has_headings: dice.flip() }
    }

    /// Number of facts of a paragraph.
    pub(super) fn facts(&self, dice: &mut Dice) -> usize {
        1 + usize::from(dice.unit() < self.density)
    }

    /// The sentences of a paragraph with filler before and behind, under a heading if the context has any.
    pub(super) fn paragraph(&self, dice: &mut Dice, domain: &Domain, heading: &str, facts: Vec<String>) -> String {
        let mut sentences = facts;
        for _ in 0..dice.between(self.filler / 2, self.filler) {
            let place = dice.below(sentences.len() + 1);
            let filler = self.filler(dice, domain, place == 0).to_owned();
            if !sentences.contains(&filler) {
                sentences.insert(place, filler);
            }
        }
        let text = sentences.join(" ");
        if self.has_headings { format!("== {heading} ==\n{text}") } else { text }
    }

    fn filler(&self, dice: &mut Dice, domain: &Domain, is_first: bool) -> &'static str {
        match dice.below(3) {
            0 => dice.pick::<&str>(&domain.fillers),
            1 => dice.pick::<&str>(&FILLERS),
            _ if is_first => dice.pick::<&str>(&self.tone.openers),
            _ => dice.pick::<&str>(&self.tone.closers),
        }
    }
}
