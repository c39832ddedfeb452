//! Sentences that give one fact for two or three subjects at once.

use deval_eval::dice::Dice;

use super::domains::Fact;
use super::names::capitalized;

/// How hard it is to tell which value belongs to which subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difficulty {
    /// Name and value stand together.
    Easy,
    /// Anything.
    Medium,
    /// Names and values stand apart or beside the wrong ones.
    Hard,
}

impl Difficulty {
    pub(super) const ALL: [Self; 3] = [Self::Easy, Self::Medium, Self::Hard];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Medium => "medium",
            Self::Hard => "hard",
        }
    }

    fn layouts(self) -> Vec<Layout> {
        match self {
            Self::Easy => EASY.to_vec(),
            Self::Medium => EASY.into_iter().chain(HARD).chain([Layout::Single]).collect(),
            Self::Hard => HARD.to_vec(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Layout {
    While,
    Each,
    Attribute,
    AttributeFirst,
    Single,
    Respectively,
    Entries,
    Former,
    Unlike,
    NotBut,
    Exchanged,
    ChangedPlaces,
}

const EASY: [Layout; 4] = [Layout::While, Layout::Each, Layout::Attribute, Layout::AttributeFirst];
const HARD: [Layout; 7] = [
    Layout::Respectively,
    Layout::Entries,
    Layout::Former,
    Layout::Unlike,
    Layout::NotBut,
    Layout::Exchanged,
    Layout::ChangedPlaces,
];

/// Tells a fact of all `rows` (name and value, two or three of them) in one sentence or two.
pub(super) fn tell(dice: &mut Dice, difficulty: Difficulty, fact: &Fact, rows: &[(String, String)]) -> String {
    let layout = *dice.pick(&difficulty.layouts());
    let (names, values): (Vec<_>, Vec<_>) = rows.iter().cloned().unzip();
    let did = |i: usize| fact.did.replace("{}", &values[i]);
    let clause = |i: usize| format!("{} {}", names[i], did(i));
    let clauses: Vec<_> = (0..rows.len()).map(clause).collect();
    let third = clauses.get(2).map_or(String::new(), |clause| format!(", and {clause}"));
    let ([a, b], [x, y], name) = ([&names[0], &names[1]], [&values[0], &values[1]], fact.name);
    let pairs = |text: &dyn Fn(&str, &str) -> String| {
        listed(&rows.iter().map(|(subject, value)| text(subject, value)).collect::<Vec<_>>())
    };
    let text = match layout {
        Layout::While => format!("{}, while {}{third}.", clauses[0], clauses[1]),
        Layout::Each => format!("{}.", listed(&clauses)),
        Layout::Attribute => format!("the {name} was {}.", pairs(&|subject, value| format!("{value} for {subject}"))),
        Layout::AttributeFirst => {
            format!("as to the {name}, {}.", pairs(&|subject, value| format!("{subject} had {value}")))
        }
        Layout::Single => {
            clauses.iter().map(|clause| format!("{}.", capitalized(clause))).collect::<Vec<_>>().join(" ")
        }
        Layout::Respectively => {
            format!("{} {}, respectively.", listed(&names), fact.did.replace("{}", &listed(&values)))
        }
        Layout::Entries => {
            format!(
                "the entries for the {name} read {}; they stand for {}, in this order.",
                listed(&values),
                listed(&names)
            )
        }
        Layout::Former => format!("first take {a}, then {b}: the latter {}, the former {}{third}.", did(1), did(0)),
        Layout::Unlike => format!("{b}, unlike {a}, {}, whereas {}{third}.", did(1), clauses[0]),
        Layout::NotBut => format!("not {a} but {b} {}, while {}{third}.", did(1), clauses[0]),
        Layout::Exchanged => {
            format!(
                "an early list had {y} as the {name} of {a} and {x} as that of {b}; it was the other way round{third}."
            )
        }
        Layout::ChangedPlaces => {
            format!(
                "had {a} and {b} changed places, {y} would have been the {name} of {a}, and {x} that of {b}{third}."
            )
        }
    };
    capitalized(&text)
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn listed(items: &[impl AsRef<str>]) -> String {
    let items: Vec<_> = items.iter().map(AsRef::as_ref).collect();
    match items.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}
