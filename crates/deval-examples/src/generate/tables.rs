//! What examples are drawn from: names, facts with their claims and questions, filler, dialogue. All made up for this project.

use deval_eval::dice::Dice;

const FIRST_NAMES: [&str; 32] = [
    "Ana", "Bram", "Celia", "Dario", "Edda", "Femi", "Gita", "Hugo", "Ines", "Jarek", "Kamal", "Leonie", "Marek",
    "Nora", "Oskar", "Paula", "Quinn", "Rosa", "Sven", "Tala", "Ugo", "Vera", "Wim", "Xenia", "Yusuf", "Zora", "Amir",
    "Beate", "Cyril", "Delia", "Emil", "Fiona",
];
const LAST_NAMES: [&str; 32] = [
    "Abara", "Brandt", "Castell", "Dvorak", "Eriksen", "Farouk", "Galli", "Horvat", "Ishii", "Jansen", "Kowal", "Lund",
    "Moretti", "Nwosu", "Okafor", "Petit", "Quist", "Rahman", "Silva", "Toth", "Urban", "Vogel", "Weiss", "Xu",
    "Yilmaz", "Zeman", "Aalto", "Bianchi", "Costa", "Duval", "Egger", "Fischer",
];
const TEAMS: [&str; 26] = [
    "Harbor", "Lantern", "Granite", "Meadow", "Summit", "Orchard", "Compass", "Delta", "Ember", "Falcon", "Glacier",
    "Juniper", "Cobalt", "Maple", "Nimbus", "Onyx", "Pioneer", "Quarry", "Ridge", "Saffron", "Tundra", "Violet",
    "Willow", "Zenith", "Beacon", "Cedar",
];
const PRODUCTS: [&str; 28] = [
    "Aquila", "Borealis", "Cirrus", "Dynamo", "Eclipse", "Fathom", "Gantry", "Halcyon", "Ionis", "Jolt", "Kestrel",
    "Lumen", "Marlin", "Nautilus", "Osprey", "Pallas", "Quill", "Rotor", "Sextant", "Tempo", "Umbra", "Vesper", "Wren",
    "Xylo", "Yonder", "Zephyr", "Argo", "Bristle",
];
const PLACES: [&str; 28] = [
    "Lisbon", "Graz", "Tampere", "Porto", "Gdansk", "Leuven", "Bergen", "Turin", "Nantes", "Aarhus", "Split", "Cork",
    "Bilbao", "Malmo", "Trieste", "Utrecht", "Zagreb", "Riga", "Basel", "Ghent", "Lyon", "Krakow", "Seville", "Tartu",
    "Bruges", "Varna", "Oulu", "Patras",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A kind of fact: how a context tells it, how a claim repeats it, what can be asked about it. `{…}` are slots.
pub(super) struct Fact {
    pub(super) context: [&'static str; 2],
    pub(super) claim: [&'static str; 2],
    pub(super) query: &'static str,
    /// In full and in short.
    pub(super) answer: [&'static str; 2],
}

pub(super) const FACTS: [Fact; 14] = [
    Fact {
        context: [
            "{person} of the {team} team confirmed that {product} will ship from {place} on {date}.",
            "The first boxes of {product} leave {place} on {date}, as {person} from the {team} team announced.",
        ],
        claim: [
            "{product} will ship from {place} on {date}.",
            "According to {person}, {product} leaves {place} on {date}.",
        ],
        query: "When will {product} ship?",
        answer: ["{product} will ship on {date}.", "On {date}."],
    },
    Fact {
        context: [
            "The {team} team asked for {count} thousand euros to rework {product}, and {person} signed the request.",
            "{person} signed a request of the {team} team: {count} thousand euros for a new version of {product}.",
        ],
        claim: [
            "{person} signed the {team} team's request for {count} thousand euros.",
            "The {team} team wants {count} thousand euros for {product}.",
        ],
        query: "How much money does the {team} team want for {product}?",
        answer: ["The {team} team wants {count} thousand euros for {product}.", "About {count} thousand euros."],
    },
    Fact {
        context: [
            "On {date} the {team} team moved its workshop to {place}, a step that {person} had prepared for a year.",
            "{person} had prepared it for a year: since {date} the workshop of the {team} team is in {place}.",
        ],
        claim: [
            "The {team} team moved its workshop to {place} on {date}.",
            "{person} prepared the {team} team's move to {place}.",
        ],
        query: "Where did the {team} team move its workshop?",
        answer: ["The {team} team moved its workshop to {place}.", "To {place}."],
    },
    Fact {
        context: [
            "{person} trained {count} volunteers in {place} to repair {product} without special tools.",
            "In {place}, {count} volunteers learned from {person} how to repair {product} without special tools.",
        ],
        claim: [
            "{person} trained {count} volunteers in {place}.",
            "Volunteers in {place} learned from {person} to repair {product}.",
        ],
        query: "Who trained the volunteers to repair {product}?",
        answer: ["{person} trained the volunteers to repair {product}.", "It was {person}."],
    },
    Fact {
        context: [
            "The shops of {place} had sold {count} units of {product} by {date}, which {person} called a record.",
            "{person} spoke of a record: {count} units of {product} were sold in {place} by {date}.",
        ],
        claim: [
            "The shops of {place} sold {count} units of {product}.",
            "By {date}, {count} units of {product} were sold in {place}.",
        ],
        query: "How many units of {product} were sold in {place}?",
        answer: ["In {place}, {count} units of {product} were sold.", "Exactly {count}."],
    },
    Fact {
        context: [
            "The audit of {product}, led by {person}, closed on {date} with {count} open findings.",
            "{person} closed the audit of {product} on {date} and left {count} findings open.",
        ],
        claim: [
            "The audit of {product} closed with {count} open findings.",
            "{person} closed the audit of {product} on {date}.",
        ],
        query: "How many findings did the audit of {product} leave open?",
        answer: ["The audit of {product} left {count} findings open.", "There are {count} left."],
    },
    Fact {
        context: [
            "{product} failed in {place} on {date}, and the {team} team needed {count} minutes to bring it back.",
            "It took the {team} team {count} minutes to bring {product} back after it failed in {place} on {date}.",
        ],
        claim: [
            "{product} failed in {place} on {date}.",
            "The {team} team brought {product} back within {count} minutes.",
        ],
        query: "How long did the {team} team need to bring {product} back?",
        answer: ["The {team} team needed {count} minutes to bring {product} back.", "It took {count} minutes."],
    },
    Fact {
        context: [
            "A survey of the {team} team about {product} was answered by {count} people in {place}.",
            "In {place}, {count} people answered what the {team} team wanted to know about {product}.",
        ],
        claim: [
            "In {place}, {count} people answered the {team} team's survey.",
            "The {team} team asked people in {place} about {product}.",
        ],
        query: "How many people answered the survey about {product}?",
        answer: ["The survey about {product} was answered by {count} people.", "There were {count} answers."],
    },
    Fact {
        context: [
            "{product} won the regional prize in {place}, and {person} accepted it on {date}.",
            "On {date}, {person} accepted the regional prize for {product} in {place}.",
        ],
        claim: [
            "{person} accepted the regional prize for {product}.",
            "{product} won the regional prize in {place} on {date}.",
        ],
        query: "Who accepted the regional prize for {product}?",
        answer: ["{person} accepted the regional prize for {product}.", "It was {person}."],
    },
    Fact {
        context: [
            "Every month the {team} team buys {count} crates of parts for {product} from a supplier in {place}.",
            "A supplier in {place} delivers {count} crates of parts for {product} to the {team} team every month.",
        ],
        claim: [
            "The {team} team buys {count} crates of parts every month.",
            "Parts for {product} come from a supplier in {place}.",
        ],
        query: "Where is the supplier of parts for {product}?",
        answer: ["The supplier of parts for {product} is in {place}.", "The supplier is in {place}."],
    },
    Fact {
        context: [
            "{person} gave {count} drawings of {product} to the archive in {place} on {date}.",
            "The archive in {place} received {count} drawings of {product} from {person} on {date}.",
        ],
        claim: [
            "{person} gave {count} drawings of {product} to an archive.",
            "The archive in {place} received drawings of {product} on {date}.",
        ],
        query: "To which archive did the drawings of {product} go?",
        answer: ["The drawings of {product} went to the archive in {place}.", "To the one in {place}."],
    },
    Fact {
        context: [
            "Since {date}, {person} leads the {team} team, which has grown to {count} members in {place}.",
            "The {team} team in {place} has {count} members and is led by {person} since {date}.",
        ],
        claim: ["{person} leads the {team} team since {date}.", "The {team} team in {place} has {count} members."],
        query: "Who leads the {team} team?",
        answer: ["The {team} team is led by {person}.", "That is {person}."],
    },
    Fact {
        context: [
            "The council of {place} rejected {product} on {date} after {person} had spoken for {count} minutes.",
            "{person} spoke for {count} minutes, then the council of {place} rejected {product} on {date}.",
        ],
        claim: [
            "The council of {place} rejected {product} on {date}.",
            "{person} spoke for {count} minutes before the council.",
        ],
        query: "What did the council of {place} reject?",
        answer: ["The council of {place} rejected {product}.", "They rejected {product}."],
    },
    Fact {
        context: [
            "A test of {product} near {place} ended on {date} when {person} measured {count} degrees.",
            "When {person} measured {count} degrees near {place} on {date}, the test of {product} was ended.",
        ],
        claim: [
            "The test of {product} near {place} ended on {date}.",
            "{person} measured {count} degrees during the test of {product}.",
        ],
        query: "What temperature was measured during the test of {product}?",
        answer: ["During the test of {product}, {count} degrees were measured.", "It was {count} degrees."],
    },
];

pub(super) const FILLERS: [&str; 16] = [
    "The minutes were sent round the same evening.",
    "Nobody in the room objected.",
    "Several readers asked for details, which will follow.",
    "It had been a quiet week until then.",
    "The decision had been expected for some time.",
    "A longer report is kept with the office.",
    "Local papers carried the story on an inside page.",
    "The weather played no part in it.",
    "Opinions about this differ, as they often do.",
    "Similar plans had come to nothing before.",
    "The figures were checked twice.",
    "There was applause at the end.",
    "More is to be said at the next meeting.",
    "The neighbours were told beforehand.",
    "An earlier draft had said something else.",
    "This went better than many had feared.",
];

pub(super) const ACTIONS: [&str; 20] = [
    "send the revised budget to finance",
    "book the large meeting room",
    "call the supplier about the late parts",
    "draft the press statement",
    "update the safety checklist",
    "test the spare batteries",
    "invite the new interns",
    "collect the survey forms",
    "repair the loading ramp",
    "order lunch for the visitors",
    "archive the old drawings",
    "translate the user manual",
    "renew the insurance contract",
    "clean the paint workshop",
    "interview two candidates",
    "measure the noise in the hall",
    "prepare slides for the board",
    "return the rented van",
    "check the backup tapes",
    "water the plants on the third floor",
];
pub(super) const DEADLINES: [&str; 8] = [
    "by Friday",
    "before the end of the month",
    "on Tuesday morning",
    "by noon tomorrow",
    "before the next meeting",
    "within two weeks",
    "by the first of June",
    "on Monday",
];
pub(super) const OFFERS: [&str; 5] =
    ["I will", "I'll", "Leave that to me, I will", "Fine, then I'll", "As promised, I will"];
pub(super) const REMARKS: [&str; 10] = [
    "What comes next on the list?",
    "We should not forget anything this time.",
    "Good, that helps a lot.",
    "Thank you, please keep us posted.",
    "Who has time for this?",
    "That sounds right to me.",
    "I am fully booked, sorry.",
    "Let us write that down.",
    "Could somebody take this over?",
    "Perfect, then we can go on.",
];

/// The slots of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Person,
    Team,
    Product,
    Place,
    Date,
    Count,
}

impl Slot {
    const ALL: [Self; 6] = [Self::Person, Self::Team, Self::Product, Self::Place, Self::Date, Self::Count];

    fn pattern(self) -> &'static str {
        match self {
            Self::Person => "{person}",
            Self::Team => "{team}",
            Self::Product => "{product}",
            Self::Place => "{place}",
            Self::Date => "{date}",
            Self::Count => "{count}",
        }
    }
}

/// One value for every slot, in the order of [`Slot::ALL`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Values([String; 6]);

impl Values {
    /// The slots that a template uses.
    pub(super) fn slots(template: &str) -> Vec<Slot> {
        Slot::ALL.into_iter().filter(|slot| template.contains(slot.pattern())).collect()
    }

    pub(super) fn fill(&self, template: &str) -> String {
        let fill = |text: String, slot: Slot| text.replace(slot.pattern(), &self.0[slot as usize]);
        Slot::ALL.into_iter().fold(template.to_owned(), fill)
    }

    /// The same with one value of another.
    pub(super) fn swapped(&self, slot: Slot, other: &Self) -> Self {
        let mut values = self.clone();
        values.0[slot as usize].clone_from(&other.0[slot as usize]);
        values
    }

    /// The same told of another's team and product, which most questions are about.
    pub(super) fn about(&self, other: &Self) -> Self {
        self.swapped(Slot::Team, other).swapped(Slot::Product, other)
    }

    /// What a fact is mostly about.
    pub(super) fn subject(&self) -> &str {
        &self.0[Slot::Product as usize]
    }

    pub(super) fn first_name(&self) -> &str {
        let person = &self.0[Slot::Person as usize];
        person.split_once(' ').map_or(person, |(first, _)| first)
    }
}

/// `n` sets of values, at most 24, of which no two share a value.
pub(super) fn values(dice: &mut Dice, n: usize) -> Vec<Values> {
    let mut column =
        |from: &[&'static str]| dice.sample(from.len(), n).into_iter().map(|place| from[place]).collect::<Vec<_>>();
    let (first, last) = (column(&FIRST_NAMES), column(&LAST_NAMES));
    let (teams, products, places) = (column(&TEAMS), column(&PRODUCTS), column(&PLACES));
    let (days, counts) = (dice.sample(12 * 28, n), dice.sample(900, n));
    let date = |day: usize| format!("{} {}", MONTHS[day / 28], 1 + day % 28);
    let value = |i: usize| {
        let [team, product, place] = [teams[i], products[i], places[i]].map(str::to_owned);
        Values([format!("{} {}", first[i], last[i]), team, product, place, date(days[i]), (32 + counts[i]).to_string()])
    };
    (0..n).map(value).collect()
}
