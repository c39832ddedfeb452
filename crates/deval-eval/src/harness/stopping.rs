//! Asking until it is settled whether the answers beat what needs no model.

#[cfg(test)]
mod tests;

use deval_report::Section;

use super::ask::{Asked, Asker};
use super::*;
use crate::dice::Dice;
use crate::stats::{ConfidenceSequence, Interval};

/// Probability of a wrong decision, over all baselines together and however often one looks.
const LEVEL: f64 = 0.05;
/// First of the seed's streams for the order of the examples, one per task.
const ORDER_STREAM: u64 = 100;

/// What sequential asking found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Better than every baseline.
    Better,
    /// Worse than some baseline.
    Worse,
    /// Neither, though all examples were asked.
    Unsettled,
}

/// Bounds of the distance to one baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bound {
    /// The baseline.
    pub baseline: Baseline,
    /// Mean reward less the baseline's lies here.
    pub difference: Interval,
}

/// When and why asking stopped.
///
/// Examples are asked in balanced rounds, one of each task in the set, each task's in a seeded random order, and bounds are looked at after
/// every round. What they bound is the mean with each task counting the same, as in the validator's round; a task with more examples than the
/// smallest one has is not asked to its end. The bounds hold at all looks at once with 95 % (see [`ConfidenceSequence`]), shared equally between
/// the baselines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stopping {
    /// Examples that were asked.
    pub asked: usize,
    /// Examples that could be asked in balanced rounds.
    pub of: usize,
    /// Examples that no balanced round holds.
    pub unbalanced: usize,
    /// Probability of a wrong decision at most.
    pub level: f64,
    /// What was found.
    pub decision: Decision,
    /// Bounds at the end, baseline by baseline.
    pub bounds: Vec<Bound>,
}

impl Stopping {
    /// What was decided after how many examples.
    pub fn sentence(&self) -> String {
        let Self { asked, of, bounds, .. } = self;
        match self.decision {
            Decision::Better => {
                format!("better than every rule without a model, settled after {asked} of {of} examples")
            }
            Decision::Worse => {
                let worse = bounds.iter().filter(|bound| bound.difference.high < 0.0);
                let names: Vec<_> = worse.map(|bound| format!("`{}`", bound.baseline.name())).collect();
                format!("worse than {}, settled after {asked} of {of} examples", names.join(" and "))
            }
            Decision::Unsettled => format!("not settled after {asked} examples"),
        }
    }

    /// The record with the bounds as a table.
    pub fn sections(&self) -> Vec<Section> {
        let row = |bound: &Bound| {
            let Interval { low, high } = bound.difference;
            vec![bound.baseline.name().to_owned(), format!("{low:+.3} to {high:+.3}")]
        };
        let section = Section::new("Stopping")
            .row("decision", self.sentence())
            .table(&["rule without a model", "distance to it, at any look"], self.bounds.iter().map(row).collect())
            .note("each task counts the same; t and bootstrap intervals assume a number of examples fixed beforehand");
        vec![match self.unbalanced {
            0 => section,
            n => section.note(format!("{n} examples were not asked: the smallest task has no more to balance them")),
        }]
    }
}

/// Balanced rounds: one example of each task, each task's in random order.
pub(super) fn rounds<'e>(examples: &[&'e Example], seed: u64) -> Vec<Vec<&'e Example>> {
    let shuffled = |task: Task| -> Vec<&'e Example> {
        let own: Vec<_> = examples.iter().copied().filter(|example| example.task == task).collect();
        let order = Dice::new(seed, ORDER_STREAM + task as u64).sample(own.len(), own.len());
        order.into_iter().map(|place| own[place]).collect()
    };
    let tasks: Vec<_> = Task::ALL.into_iter().map(shuffled).filter(|own| !own.is_empty()).collect();
    let rounds = tasks.iter().map(Vec::len).min().unwrap_or(0);
    (0..rounds).map(|round| tasks.iter().map(|own| own[round]).collect()).collect()
}

/// Asks round by round until a decision is found or nothing is left; `all` is the number of examples there are.
pub(super) fn ask<'e>(
    asker: &mut Asker<'_>,
    rounds: &[Vec<&'e Example>],
    all: usize,
) -> Result<(Vec<Asked<'e>>, Stopping), EvalError> {
    let mut sequences = Baseline::ALL.map(|_| ConfidenceSequence::new(LEVEL / Baseline::ALL.len() as f64));
    let mut asked = Vec::new();
    for round in rounds {
        let answered = asker.ask(round)?;
        for (place, sequence) in sequences.iter_mut().enumerate() {
            let leads: Vec<_> = answered.iter().map(|asked| stats::mean(&asked.leads(place))).collect();
            sequence.push_round(&leads);
        }
        asked.extend(answered);
        if decide(&sequences) != Decision::Unsettled {
            break;
        }
    }
    let of = rounds.iter().map(Vec::len).sum();
    let bounds = Baseline::ALL.into_iter().zip(&sequences);
    let stopping = Stopping {
        asked: asked.len(),
        of,
        unbalanced: all - of,
        level: LEVEL,
        decision: decide(&sequences),
        bounds: bounds.map(|(baseline, sequence)| Bound { baseline, difference: sequence.interval() }).collect(),
    };
    Ok((asked, stopping))
}

fn decide(sequences: &[ConfidenceSequence]) -> Decision {
    let bounds = || sequences.iter().map(ConfidenceSequence::interval);
    if bounds().all(|bound| bound.low > 0.0) {
        Decision::Better
    } else if bounds().any(|bound| bound.high < 0.0) {
        Decision::Worse
    } else {
        Decision::Unsettled
    }
}
