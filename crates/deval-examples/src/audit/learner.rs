//! A bag-of-words learner with cross-validation: how far surface cues lead.

use deval_eval::dice::Dice;
use deval_eval::{Answer, Embed, Example, Task};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::features::{BUCKETS, Row, labelled_claims, rows};
use super::{AuditOptions, mean_reward};

/// Passes over the training part.
const EPOCHS: usize = 12;
const STEP: f64 = 0.1;
/// Weight decay of a word, which is seen rarely, and of a count.
const DECAY: (f64, f64) = (1e-3, 1e-4);
/// Fewest rows to learn from.
const MIN_ROWS: usize = 20;

/// What a logistic regression over words and overlaps makes of the examples it was not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Learned {
    /// Claims, answers or summaries it was asked about.
    pub rows: usize,
    /// Chance that it ranks a true claim above a false one (relevancy: a fitting answer above an unfitting one; summaries: one with a
    /// reference from the median up above another); 0.5 is chance, and absent where all are alike.
    pub auc: Option<f64>,
    /// Mean reward of the answers it would give.
    pub reward: f64,
    /// The same after training on shuffled labels: what chance gives.
    pub chance_reward: f64,
    /// AUC after training on shuffled labels.
    pub chance_auc: Option<f64>,
}

/// Trains and asks; `None` where there is too little to learn from.
pub(super) fn learn(task: Task, examples: &[&Example], options: AuditOptions, embed: &dyn Embed) -> Option<Learned> {
    let mut rows = rows(task, examples);
    if options.folds < 2 || rows.len() < MIN_ROWS || examples.len() < options.folds {
        return None;
    }
    standardize(&mut rows);
    let mut dice = Dice::new(options.seed, task as u64);
    let order = dice.sample(examples.len(), examples.len());
    let folds: Vec<_> = order.into_iter().map(|place| place % options.folds).collect();
    let targets: Vec<f64> = rows.iter().map(|row| row.target).collect();
    let shuffled: Vec<f64> = dice.sample(rows.len(), rows.len()).into_iter().map(|place| targets[place]).collect();
    let mut outcome = |labels: &[f64]| {
        let told = cross_validate(&rows, labels, &folds, options.folds, &mut dice);
        let reward = mean_reward(examples, answers(task, examples, &rows, &told).into_iter(), embed)?;
        Some((reward, auc(&told, &targets)))
    };
    let ((reward, auc), (chance_reward, chance_auc)) = (outcome(&targets)?, outcome(&shuffled)?);
    Some(Learned { rows: rows.len(), auc, reward, chance_reward, chance_auc })
}

/// Each count to mean 0 and variance 1.
fn standardize(rows: &mut [Row]) {
    let n = rows.len() as f64;
    for place in 0..rows.first().map_or(0, |row| row.counts.len()) {
        let mean = rows.iter().map(|row| row.counts[place]).sum::<f64>() / n;
        let variance = rows.iter().map(|row| (row.counts[place] - mean).powi(2)).sum::<f64>() / n;
        let scale = if variance > 0.0 { variance.sqrt() } else { 1.0 };
        rows.iter_mut().for_each(|row| row.counts[place] = (row.counts[place] - mean) / scale);
    }
}

/// What is told of each row by a model that has not seen its example.
fn cross_validate(rows: &[Row], labels: &[f64], folds: &[usize], n: usize, dice: &mut Dice) -> Vec<f64> {
    let mut told = vec![0.5; rows.len()];
    for fold in 0..n {
        let is_held_out = |row: &usize| folds[rows[*row].example] == fold;
        let (held_out, training): (Vec<_>, Vec<_>) = (0..rows.len()).partition(is_held_out);
        let model = Model::train(rows, labels, &training, dice);
        held_out.into_iter().for_each(|row| told[row] = model.tell(&rows[row]));
    }
    told
}

/// Logistic regression, trained by AdaGrad.
struct Model {
    bias: Weight,
    words: Vec<Weight>,
    counts: Vec<Weight>,
}

#[derive(Clone, Copy, Default)]
struct Weight {
    value: f64,
    squares: f64,
}

impl Weight {
    fn learn(&mut self, slope: f64, decay: f64) {
        let slope = slope + decay * self.value;
        self.squares += slope * slope;
        self.value -= STEP * slope / (self.squares.sqrt() + 1e-8);
    }
}

impl Model {
    fn train(rows: &[Row], labels: &[f64], training: &[usize], dice: &mut Dice) -> Self {
        let counts = rows.first().map_or(0, |row| row.counts.len());
        let mut model = Self {
            bias: Weight::default(),
            words: vec![Weight::default(); BUCKETS],
            counts: vec![Weight::default(); counts],
        };
        for _ in 0..EPOCHS {
            for place in dice.sample(training.len(), training.len()) {
                let row = training[place];
                model.learn(&rows[row], labels[row]);
            }
        }
        model
    }

    fn tell(&self, row: &Row) -> f64 {
        let words: f64 = row.words.iter().map(|word| self.words[*word].value).sum();
        let counts: f64 = row.counts.iter().zip(&self.counts).map(|(count, weight)| count * weight.value).sum();
        1.0 / (1.0 + (-(self.bias.value + words * Self::scale(row) + counts)).exp())
    }

    fn learn(&mut self, row: &Row, label: f64) {
        let slope = self.tell(row) - label;
        self.bias.learn(slope, 0.0);
        let scale = Self::scale(row);
        row.words.iter().for_each(|word| self.words[*word].learn(slope * scale, DECAY.0));
        for (count, weight) in row.counts.iter().zip(&mut self.counts) {
            weight.learn(slope * count, DECAY.1);
        }
    }

    /// Makes the words of a row a vector of length 1.
    fn scale(row: &Row) -> f64 {
        1.0 / (row.words.len().max(1) as f64).sqrt()
    }
}

/// The answers that a validator would get.
fn answers(task: Task, examples: &[&Example], rows: &[Row], told: &[f64]) -> Vec<Answer> {
    let mut by_example = vec![Vec::new(); examples.len()];
    for (row, told) in rows.iter().zip(told) {
        by_example[row.example].push(*told);
    }
    let answer = |(example, told): (&&Example, Vec<f64>)| {
        let score = told.iter().sum::<f64>() / told.len().max(1) as f64;
        match task {
            Task::Relevancy => Answer::new(f64::from(u8::from(score >= 0.5)), Vec::new()),
            Task::SummaryCompleteness => Answer::new(score, Vec::new()),
            Task::Hallucination | Task::Attribution => {
                let claims = labelled_claims(example).zip(&told).filter(|(_, told)| **told < 0.5);
                Answer::new(score, claims.map(|((claim, _), _)| claim.clone()).collect())
            }
        }
    };
    examples.iter().zip(by_example).map(answer).collect()
}

/// Chance that a row with a target from the median up is ranked above another one; ties count half (Mann and Whitney).
fn auc(told: &[f64], targets: &[f64]) -> Option<f64> {
    let mut sorted = targets.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, median) = (*sorted.first()?, sorted[sorted.len() / 2]);
    let border = if median > low { median } else { *sorted.iter().find(|target| **target > low)? };
    let mut order: Vec<_> = told.iter().zip(targets).map(|(told, target)| (*told, *target >= border)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0.0, 0.0);
    for tied in order.chunk_by(|a, b| a.0 == b.0) {
        let high = tied.iter().filter(|(_, is_high)| *is_high).count() as f64;
        let low = tied.len() as f64 - high;
        wins += high * (below + low / 2.0);
        below += low;
    }
    let high = told.len() as f64 - below;
    Some(wins / (high * below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_counts_pairs_and_halves_ties() {
        assert_eq!(auc(&[0.1, 0.4, 0.4, 0.9], &[0.0, 0.0, 1.0, 1.0]), Some(0.875));
        assert_eq!(auc(&[0.9, 0.1], &[0.0, 1.0]), Some(0.0));
        assert_eq!((auc(&[0.3, 0.4], &[1.0, 1.0]), auc(&[], &[])), (None, None));
    }

    #[test]
    fn words_that_tell_are_learnt() {
        let row =
            |i: usize| Row { example: i, words: vec![i % 2, 2 + i % 7], counts: vec![0.0], target: (i % 2) as f64 };
        let rows: Vec<_> = (0..60).map(row).collect();
        let (labels, folds): (Vec<_>, Vec<_>) = rows.iter().map(|row| (row.target, row.example % 3)).unzip();
        let told = cross_validate(&rows, &labels, &folds, 3, &mut Dice::new(1, 0));
        assert_eq!(auc(&told, &labels), Some(1.0));
    }
}
