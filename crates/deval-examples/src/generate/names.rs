//! Names, dates and numbers: drawn from tables or put together, none twice within an example.

use std::collections::HashSet;
use std::sync::LazyLock;

use deval_eval::dice::Dice;

const FIRST_NAMES: &str = "Ana Bram Celia Dario Edda Femi Gita Hugo Ines Jarek Kamal Leonie Marek Nora Oskar Paula Quinn Rosa Sven Tala Ugo \
    Vera Wim Xenia Yusuf Zora Amir Beate Cyril Delia Emil Fiona Goran Hedda Ivo Joana Kofi Ludo Mina Nils Olga Pavel Ruth Selma Tomas Uma \
    Viktor Wanda Yara Zeno Arno Bianca Casper Dora Elif Faruk Greta Henrik Ilse Jonas Katya Lorenz Marta Nadim Odile Petra Ravi Signe Timo \
    Ulla Valentin Wilma Yannick Zita Alva Boris Clara Dilan Ewa Florin Gloria Hasan Irma Julius";
const SURNAMES: &str = "Abara Brandt Castell Dvorak Eriksen Farouk Galli Horvat Ishii Jansen Kowal Lund Moretti Nwosu Okafor Petit Quist Rahman \
    Silva Toth Urban Vogel Weiss Yilmaz Zeman Aalto Bianchi Costa Duval Egger Fischer Gomez Haddad Ilves Jonker Keller Lindt Marek Novak \
    Olsen Pereira Rossi Santos Tanaka Ulrich Varga Wagner Yamada Zorn Albers Bogdan Cermak Demir Esposito Fabre Grant Hansson Ivanov Jelinek \
    Kaya Larsen Mbeki Nagy Ortega Pavlov Reyes Sorensen Tamm Vidal Wolff Zielinski Arslan Berger Conti Dahl Engel Ferrer Gruber Holm";
const WORDS: &str = "Amber Anchor Aspen Atlas Aurora Badger Beacon Birch Bramble Cedar Cobalt Compass Copper Coral Crescent Delta Ember Falcon \
    Fennel Garnet Glacier Granite Harbor Hazel Heron Indigo Ivory Jasper Juniper Keystone Lantern Larch Laurel Linden Lotus Magnolia Maple \
    Marble Meadow Mercury Nimbus Oak Olive Onyx Opal Orchard Osprey Pearl Pepper Pioneer Quarry Raven Ridge Robin Saffron Sable Sparrow Summit \
    Thistle Topaz Tundra Umber Velvet Violet Walnut Willow Zenith Zinc";
const PLACE_HEADS: &str = "Alder Ash Bel Brack Brook Cald Carn Dun East Elm Fal Fen Gar Glen Hart Hazel High Holm Kel Kirk Lang Lin Marl Mill \
    Nor Oak Pen Raven Red Rock Salt Sea Stan Stone Thorn Tor Wald West White Win";
const PLACE_TAILS: &str = "bach berg borough bridge burg bury dale don field ford gate ham haven hill holt hurst ley marsh mere mouth port shaw \
    stead stow thorpe ton vale well wick worth";
const SYLLABLES: &str = "al an ar bel bor cal cor da dor el en fal fen gal hal il jor ka kel lar len lor ma mer mon nar nel or os pel quor ral \
    ran sel sol ta tel tor ul va vel vor wen xan yor zan zel";
const ORG_TAILS: &str = "Associates Brothers Company Consulting Cooperative Foundation Group Holding Industries Institute Logistics Partners \
    Services Society Systems Trust Union Works";
const MONTHS: &str = "January February March April May June July August September October November December";

/// The words of a table.
type Table = LazyLock<Vec<&'static str>>;

static FIRST: Table = LazyLock::new(|| FIRST_NAMES.split_whitespace().collect());
static LAST: Table = LazyLock::new(|| SURNAMES.split_whitespace().collect());
static NOUNS: Table = LazyLock::new(|| WORDS.split_whitespace().collect());
static HEADS: Table = LazyLock::new(|| PLACE_HEADS.split_whitespace().collect());
static TAILS: Table = LazyLock::new(|| PLACE_TAILS.split_whitespace().collect());
static PARTS: Table = LazyLock::new(|| SYLLABLES.split_whitespace().collect());
static FIRMS: Table = LazyLock::new(|| ORG_TAILS.split_whitespace().collect());

/// What kind of thing a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Person,
    Place,
    Org,
    Date,
    Time,
    Percent,
    /// A number with its unit, between two bounds.
    Amount(&'static str, usize, usize),
    /// Two or three syllables that mean nothing.
    Coined,
    /// A common noun as a name.
    Word,
    Surname,
}

impl Kind {
    /// Reads the notation of `domains.txt`.
    pub(super) fn parse(text: &'static str) -> Option<Self> {
        Some(match text {
            "person" => Self::Person,
            "place" => Self::Place,
            "org" => Self::Org,
            "date" => Self::Date,
            "time" => Self::Time,
            "percent" => Self::Percent,
            "coined" => Self::Coined,
            "word" => Self::Word,
            "surname" => Self::Surname,
            _ => {
                let mut parts = text.split_once(' ')?.1.rsplitn(3, ' ');
                let (high, low) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                Self::Amount(parts.next()?, low, high)
            }
        })
    }
}

/// Draws values and remembers them.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// `n` new values of one kind; numbers, dates and times lie near each other, people may share a first or a last name.
    pub(super) fn group(&mut self, dice: &mut Dice, kind: Kind, n: usize) -> Vec<String> {
        let mut anchor = Anchor::new(dice, kind);
        let mut values = Vec::new();
        while values.len() < n {
            let value = anchor.value(dice, kind);
            anchor.reach += 1;
            if self.0.insert(value.clone()) {
                values.push(value);
            }
        }
        values
    }

    /// One new value.
    pub(super) fn one(&mut self, dice: &mut Dice, kind: Kind) -> String {
        self.group(dice, kind, 1).remove(0)
    }
}

/// What the values of a group lie around; the reach grows with every draw, so that new values are always found.
struct Anchor {
    number: usize,
    reach: usize,
    first: &'static str,
    last: &'static str,
}

impl Anchor {
    fn new(dice: &mut Dice, kind: Kind) -> Self {
        let (low, high) = match kind {
            Kind::Amount(_, low, high) => (low, high),
            Kind::Percent => (120, 860),
            Kind::Time => (6 * 12, 20 * 12),
            _ => (0, 12 * 28 - 1),
        };
        let number = dice.between(low, high);
        Self { number, reach: 3 + number / 12, first: word(dice, &FIRST), last: word(dice, &LAST) }
    }

    fn near(&self, dice: &mut Dice) -> usize {
        dice.between(self.number.saturating_sub(self.reach).max(self.number.min(11)), self.number + self.reach)
    }

    fn value(&self, dice: &mut Dice, kind: Kind) -> String {
        match kind {
            Kind::Person => self.person(dice),
            Kind::Place => format!("{}{}", word(dice, &HEADS), word(dice, &TAILS)),
            Kind::Org if dice.flip() => format!("{} {}", word(dice, &LAST), word(dice, &FIRMS)),
            Kind::Org => format!("{} {}", word(dice, &NOUNS), word(dice, &FIRMS)),
            Kind::Date => date(self.near(dice)),
            Kind::Time => time(self.near(dice)),
            Kind::Percent => percent(self.near(dice)),
            Kind::Amount(unit, ..) => format!("{} {unit}", grouped(self.near(dice))),
            Kind::Coined => coined(dice),
            Kind::Word => one_or_two(dice, &NOUNS, ' '),
            Kind::Surname => one_or_two(dice, &LAST, '-'),
        }
    }

    fn person(&self, dice: &mut Dice) -> String {
        match dice.below(6) {
            0 => format!("{} {}", self.first, word(dice, &LAST)),
            1 => format!("{} {}", word(dice, &FIRST), self.last),
            _ => format!("{} {}", word(dice, &FIRST), word(dice, &LAST)),
        }
    }
}

/// `n` different first names, at most as many as there are.
pub(super) fn first_names(dice: &mut Dice, n: usize) -> Vec<&'static str> {
    dice.sample(FIRST.len(), n).into_iter().map(|place| FIRST[place]).collect()
}

fn word(dice: &mut Dice, table: &Table) -> &'static str {
    dice.pick::<&str>(table)
}

/// Mostly one word; two where one would not do, for a table must never run out.
fn one_or_two(dice: &mut Dice, table: &Table, between: char) -> String {
    let first = word(dice, table);
    if dice.below(3) > 0 { first.to_owned() } else { format!("{first}{between}{}", word(dice, table)) }
}

fn coined(dice: &mut Dice) -> String {
    let syllables: String = (0..dice.between(2, 3)).map(|_| word(dice, &PARTS)).collect();
    capitalized(&syllables)
}

fn date(day: usize) -> String {
    let month = MONTHS.split(' ').nth(day / 28 % 12).expect("there are twelve");
    format!("{month} {}", 1 + day % 28)
}

fn time(twelfths: usize) -> String {
    format!("{}:{:02}", twelfths / 12 % 24, twelfths % 12 * 5)
}

fn percent(tenths: usize) -> String {
    if tenths.is_multiple_of(10) {
        format!("{} percent", tenths / 10)
    } else {
        format!("{}.{} percent", tenths / 10, tenths % 10)
    }
}

fn grouped(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

/// The text with a capital first letter.
pub(super) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
