//! How many examples, and rounds of the validator, a lead needs to be settled.

use deval_report::Section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::student::{normal_quantile, t_quantile};

/// Examples of one round of the validator: 30 of each of the four tasks (`num_task_examples` in `deval/utils/constants.py`).
pub const ROUND: u64 = 120;
/// Nobody asks more.
const MOST_EXAMPLES: u64 = 1_000_000_000_000;

/// A lead and how surely it must be found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Goal {
    /// Difference of the mean rewards; its sign does not matter.
    pub lead: f64,
    /// Probability of calling a lead settled that is none, two-sided.
    pub level: f64,
    /// Probability of settling this lead.
    pub power: f64,
}

impl Goal {
    /// This lead at a level of 5 % with a power of 80 %.
    pub fn new(lead: f64) -> Self {
        Self { lead, level: 0.05, power: 0.8 }
    }

    fn is_possible(&self) -> bool {
        let inside = |p: f64| p > 0.0 && p < 1.0;
        self.lead.is_finite() && self.lead != 0.0 && inside(self.level) && inside(self.power)
    }
}

/// Which examples two models answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Design {
    /// Both the same ones.
    Paired,
    /// Each its own.
    Unpaired,
}

/// What a goal takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The goal.
    pub goal: Goal,
    /// Which examples are asked.
    pub design: Design,
    /// Examples that each model must answer.
    pub examples: Option<u64>,
    /// Rounds of the validator ([`ROUND`] examples each) that hold as many.
    pub rounds: Option<u64>,
    /// Why there is no number.
    pub reason: Option<String>,
}

impl Plan {
    /// Both models on the same examples; `spread` is the standard deviation between examples of the difference.
    pub fn paired(goal: Goal, spread: Option<f64>) -> Self {
        Self::new(goal, Design::Paired, spread, |n| (n - 1) as usize)
    }

    /// Each model on examples of its own; `spreads` are the standard deviations between examples of either one's rewards. Degrees of
    /// freedom after Welch.
    pub fn unpaired(goal: Goal, [a, b]: [Option<f64>; 2]) -> Self {
        let squares = a.zip(b).map(|(a, b)| (a * a, b * b));
        let share = squares.map_or(1.0, |(a, b)| (a + b).powi(2) / (a * a + b * b));
        let spread = squares.map(|(a, b)| (a + b).sqrt());
        Self::new(goal, Design::Unpaired, spread, |n| ((n - 1) as f64 * share) as usize)
    }

    fn new(goal: Goal, design: Design, spread: Option<f64>, degrees: impl Fn(u64) -> usize) -> Self {
        let found = match spread {
            _ if !goal.is_possible() => {
                Err("the goal needs a lead other than 0, and a level and a power between 0 and 1")
            }
            None => Err("the spread is unknown: fewer than two examples were measured"),
            Some(spread) if spread <= 0.0 || !spread.is_finite() => {
                Err("the spread is unknown: all measured examples gave the same")
            }
            Some(spread) => smallest(goal, spread, degrees).ok_or("the lead is too small for any number of examples"),
        };
        let (examples, reason) = match found {
            Ok(examples) => (Some(examples), None),
            Err(reason) => (None, Some(reason.to_owned())),
        };
        Self { goal, design, examples, rounds: examples.map(|examples| examples.div_ceil(ROUND)), reason }
    }
}

/// The smallest number of examples whose standard error is small enough for level and power together. Student's t stands for both
/// quantiles; against the exact power (non-central t) the number is right or one too small. `None` beyond [`MOST_EXAMPLES`].
fn smallest(goal: Goal, spread: f64, degrees: impl Fn(u64) -> usize) -> Option<u64> {
    let ratio = (spread / goal.lead).powi(2);
    let (level, power) = (1.0 - goal.level / 2.0, goal.power);
    let normal = (normal_quantile(level) + normal_quantile(power)).max(0.0).powi(2) * ratio;
    let is_enough = |n: u64| {
        let degrees = degrees(n);
        let needed = (t_quantile(level, degrees) + t_quantile(power, degrees)).max(0.0).powi(2) * ratio;
        needed <= n as f64 * (1.0 + 1e-9)
    };
    // The normal quantiles are too small, so the search starts below; it is a few steps long.
    ((normal as u64).max(2)..MOST_EXAMPLES).find(|n| is_enough(*n))
}

/// Plans as a table.
pub fn sections(plans: &[Plan]) -> Vec<Section> {
    let number = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
    let row = |plan: &Plan| {
        let asked = match plan.design {
            Design::Paired => "the same for both",
            Design::Unpaired => "other ones for each",
        };
        let lead = format!("{:.3}", plan.goal.lead.abs());
        vec![
            lead,
            asked.to_owned(),
            number(plan.examples),
            number(plan.rounds),
            plan.reason.clone().unwrap_or_default(),
        ]
    };
    let section = Section::new("Examples until a lead is settled")
        .table(&["lead", "examples", "of each model", "rounds", ""], plans.iter().map(row).collect());
    let goal = plans.first().map(|plan| plan.goal);
    vec![goal.into_iter().fold(section, |section, goal| {
        section.note(format!(
            "two-sided level {} %, power {} %; a round of the validator has {ROUND} examples",
            percent(goal.level),
            percent(goal.power)
        ))
    })]
}

fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(lead: f64, level: f64, power: f64) -> Goal {
        Goal { lead, level, power }
    }

    /// Smallest n whose exact power by scipy 1.17.1 (`stats.nct`) suffices.
    #[test]
    fn numbers_are_those_of_the_exact_power() {
        let expected = [
            (goal(0.2, 0.05, 0.8), 0.3, 20, 37),
            (goal(-0.02, 0.05, 0.8), 0.25, 1229, 2454),
            (goal(0.5, 0.05, 0.8), 0.3, 6, 7),
            (goal(0.05, 0.01, 0.9), 0.25, 376, 746),
            (goal(0.1, 0.05, 0.8), 0.3, 73, 143),
            (goal(0.6, 0.05, 0.8), 0.2, 4, 4),
        ];
        for (goal, spread, paired, unpaired) in expected {
            let plans = [Plan::paired(goal, Some(spread)), Plan::unpaired(goal, [Some(spread); 2])];
            for (plan, exact) in plans.iter().zip([paired, unpaired]) {
                let made = plan.examples.unwrap();
                assert!(made == exact || made + 1 == exact, "{plan:?}: {exact}");
                assert_eq!(plan.rounds, Some(made.div_ceil(120)));
            }
        }
        let welch = Plan::unpaired(goal(0.1, 0.05, 0.8), [Some(0.3), Some(0.2)]).examples.unwrap();
        assert!(welch == 103 || welch == 104, "{welch}");
    }

    #[test]
    fn no_number_comes_without_a_spread_or_a_lead() {
        for (lead, spread, reason) in [(0.1, None, "fewer"), (0.1, Some(0.0), "the same"), (0.0, Some(0.1), "lead")] {
            let plan = Plan::paired(Goal::new(lead), spread);
            assert_eq!((plan.examples, plan.rounds), (None, None));
            assert!(plan.reason.unwrap().contains(reason));
        }
        assert!(Plan::unpaired(Goal::new(0.1), [Some(0.1), None]).reason.is_some());
        assert!(Plan::paired(goal(0.1, 0.0, 0.8), Some(0.1)).reason.is_some());
        for lead in [f64::MIN_POSITIVE, 1e-7] {
            assert!(Plan::paired(Goal::new(lead), Some(1.0)).reason.unwrap().contains("too small"));
        }
        assert!(Plan::paired(Goal::new(1e-5), Some(1.0)).examples.unwrap() > 70_000_000_000);
    }

    #[test]
    fn a_table_shows_numbers_and_reasons() {
        let plans = [Plan::paired(Goal::new(0.2), Some(0.3)), Plan::paired(Goal::new(0.2), None)];
        let sections = sections(&plans);
        let rows = &sections[0].table.as_ref().unwrap().rows;
        assert_eq!(rows[0], ["0.200", "the same for both", "20", "1", ""]);
        assert_eq!(rows[1][2], "unknown");
        assert!(sections[0].notes[0].contains("level 5 %, power 80 %"));
    }
}
