//! Values that stand in another place than in the base: in the tensor of another layer, or in another row of the same matrix.

use deval_eval::Dice;
use safetensors::Dtype;

use super::measure::{Bag, Measured, Scratch, Side};
use super::spectrum::dot;
use super::{Options, RELATED, measure, rename};
use crate::ModelError;

/// Rows of one matrix that are looked for in the other.
const SOUGHT: usize = 64;

/// Columns by which rows are compared, and how alike rows must be there: independent ones of so many are never.
const COLUMNS: usize = 256;
const ALIKE: f64 = 0.9;

/// Share of the sought rows that must be found.
const MOST: f64 = 0.9;

/// Matrices that are searched before the rest is given up.
const TRIED: usize = 4;

/// Values of a matrix that are read at once.
const AT_ONCE: usize = 1 << 17;

pub(super) type Pair<'a, 'b> = (&'a Side<'b>, &'a Side<'b>);

/// Whether a tensor has little in common with the one of its name.
fn is_lost(measured: Option<&Measured>) -> bool {
    let lost = |measured: &Measured| {
        let change = &measured.change;
        !change.is_copy() && change.shape.len() == 2 && change.cosine.is_some_and(|cosine| cosine.abs() < RELATED)
    };
    measured.is_some_and(lost)
}

/// Compares tensors that are lost with those of the base that hold the same, as after layers changed places. The names of both.
pub(super) fn exchanged<'a, 'b>(
    pairs: &mut [Pair<'a, 'b>],
    measured: &mut [Option<Measured>],
    base: &[&'a Side<'b>],
    options: Options,
) -> Result<Vec<(String, String)>, ModelError> {
    if !measured.iter().any(|measured| is_lost(measured.as_ref())) {
        return Ok(Vec::new());
    }
    let is_changed = |measured: &Option<Measured>| measured.as_ref().is_some_and(|seen| !seen.change.is_copy());
    let changed: Vec<usize> = (0..pairs.len()).filter(|&at| is_changed(&measured[at])).collect();
    let ours: Vec<_> = changed.iter().map(|&at| pairs[at]).collect();
    let mut names = Vec::new();
    for (at, other) in changed.into_iter().zip(rename::nearest(&ours, base)?) {
        let Some(other) = other else { continue };
        let ours = pairs[at].0;
        names.push((ours.tensor.name.clone(), other.tensor.name.clone()));
        pairs[at] = (ours, other);
        measured[at] = measure::pair(ours, other, options)?;
    }
    Ok(names)
}

/// Looks for rows that changed places, in matrices that are lost.
pub(super) fn rows(
    pairs: &[Pair<'_, '_>],
    measured: &mut [Option<Measured>],
    options: Options,
) -> Result<(), ModelError> {
    let (mut tried, mut found) = (0, 0);
    for (&(a, b), measured) in pairs.iter().zip(measured) {
        let Some(Measured { change, .. }) = measured.as_mut().filter(|seen| is_lost(Some(seen))) else { continue };
        if tried >= TRIED && found == 0 {
            break;
        }
        tried += 1;
        // What lies behind a network is read in part, the other side in full.
        let (here, there) = if b.source.waits() { (a, b) } else { (b, a) };
        if here.source.waits() {
            continue;
        }
        let Found { same, alike } = find(here, there, options)?;
        // What was read in full is known to have other values than the base.
        let is_known = a.is_whole(&measure::ranges(a, options));
        change.permuted = !is_known && same == 1.0;
        change.moved_rows = Some(same.max(alike)).filter(|share| !change.permuted && *share >= MOST);
        found += usize::from(change.permuted || change.moved_rows.is_some());
    }
    Ok(())
}

/// Shares of the sought rows that are in the other matrix: with the same values in any order, and pointing the same way.
struct Found {
    same: f64,
    alike: f64,
}

struct Sought {
    bag: Bag,
    /// The first values, scaled to length 1.
    start: Vec<f32>,
    is_same: bool,
    best: f32,
}

fn find(here: &Side<'_>, there: &Side<'_>, options: Options) -> Result<Found, ModelError> {
    let (height, width) = (here.tensor.shape[0], here.tensor.shape[1]);
    // Both in the coarser of the two types, so that a conversion hides nothing.
    let round = if here.tensor.dtype == there.tensor.dtype { None } else { Some(Dtype::BF16) };
    let mut scratch = Scratch::default();
    let mut sought = Vec::new();
    for row in Dice::new(options.seed, 2).sample(height, SOUGHT.min(height)) {
        there.values(&((row * width) as u64..((row + 1) * width) as u64), &mut scratch)?;
        sought.extend(Sought::new(&scratch.values, round));
    }
    let at_once = (AT_ONCE / width.max(1)).max(1);
    for first in (0..height).step_by(at_once) {
        let last = (first + at_once).min(height);
        here.values(&((first * width) as u64..(last * width) as u64), &mut scratch)?;
        for row in scratch.values.chunks_exact(width) {
            let Some(row) = Sought::new(row, round) else { continue };
            sought.iter_mut().for_each(|sought| sought.compare(&row));
        }
    }
    let share = |is: &dyn Fn(&Sought) -> bool| {
        sought.iter().filter(|sought| is(sought)).count() as f64 / sought.len().max(1) as f64
    };
    Ok(Found { same: share(&|row| row.is_same), alike: share(&|row| f64::from(row.best.abs()) > ALIKE) })
}

impl Sought {
    /// Nothing for a row without values.
    fn new(row: &[f32], round: Option<Dtype>) -> Option<Self> {
        let mut bag = Bag::default();
        match round {
            Some(dtype) => bag.add(&row.iter().map(|x| measure::round(*x, dtype)).collect::<Vec<_>>()),
            None => bag.add(row),
        }
        let start = &row[..row.len().min(COLUMNS)];
        let length = dot(start, start).sqrt() as f32;
        let is_sound = length.is_finite() && length > 0.0;
        let start = start.iter().map(|x| x / length).collect();
        is_sound.then_some(Self { bag, start, is_same: false, best: 0.0 })
    }

    fn compare(&mut self, row: &Self) {
        self.is_same |= self.bag == row.bag;
        let alike = dot(&self.start, &row.start) as f32;
        if alike.abs() > self.best.abs() {
            self.best = alike;
        }
    }
}
