//! Tensors under another name, found by what they hold.

use std::collections::BTreeMap;

use super::measure::{Scratch, Side};
use crate::ModelError;

/// Values that are looked at, from the middle of a tensor.
const PROBE: u64 = 1024;

/// Of fewer elements nothing can be said.
const FEWEST: u64 = 8;

/// A tensor and what became of it by training, rounding or scaling have more in common than this; others less, but for vectors of
/// like numbers, where the best match is taken.
const ALIKE: f64 = 0.9;

/// How much nearer another tensor must be than the one of the same name; all vectors of norms are near each other.
const FAR_BETTER: f64 = 4.0;

type Sides<'a> = BTreeMap<&'a str, Side<'a>>;

/// Pairs of our names and the base's, best match first; they are taken out of `added` and `missing`.
pub(super) fn find(
    ours: &Sides<'_>,
    theirs: &Sides<'_>,
    added: &mut Vec<String>,
    missing: &mut Vec<String>,
) -> Result<Vec<(String, String)>, ModelError> {
    if added.is_empty() || missing.is_empty() {
        return Ok(Vec::new());
    }
    let (new, old) = (probes(ours, added)?, probes(theirs, missing)?);
    let pairs = new.iter().flat_map(|a| old.iter().map(move |b| (likeness(a, b), a.name, b.name)));
    let mut pairs: Vec<_> = pairs.filter(|(alike, ..)| *alike > ALIKE).collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut renamed: Vec<(String, String)> = Vec::new();
    for (_, our, their) in pairs {
        if !renamed.iter().any(|(a, b)| a == our || b == their) {
            renamed.push((our.to_owned(), their.to_owned()));
        }
    }
    added.retain(|name| !renamed.iter().any(|(our, _)| our == name));
    missing.retain(|name| !renamed.iter().any(|(_, their)| their == name));
    renamed.sort();
    Ok(renamed)
}

/// A tensor of the base that one of ours is far more like than the one it was compared with, by the same values; the best for each pair.
pub(super) fn nearest<'a, 'b>(
    pairs: &[(&Side<'b>, &Side<'b>)],
    base: &[&'a Side<'b>],
) -> Result<Vec<Option<&'a Side<'b>>>, ModelError> {
    let known = base.iter().map(|side| probe(side)).collect::<Result<Vec<_>, _>>()?;
    let mut found = Vec::new();
    for (ours, theirs) in pairs {
        let (Some(ours), Some(theirs)) = (probe(ours)?, probe(theirs)?) else {
            found.push(None);
            continue;
        };
        let own = likeness(&ours, &theirs);
        let others =
            base.iter().zip(&known).filter_map(|(side, probe)| Some((likeness(&ours, probe.as_ref()?), *side)));
        let best = others.max_by(|a, b| a.0.total_cmp(&b.0));
        let is_far_better = |alike: f64| alike > ALIKE && (1.0 - alike) * FAR_BETTER < 1.0 - own;
        found.push(best.filter(|(alike, _)| is_far_better(*alike)).map(|(_, side)| side));
    }
    Ok(found)
}

struct Probe<'a> {
    name: &'a str,
    shape: &'a [usize],
    /// Scaled to length 1.
    values: Vec<f64>,
}

fn probes<'a>(sides: &'a Sides<'_>, names: &[String]) -> Result<Vec<Probe<'a>>, ModelError> {
    let wanted = sides.iter().filter(|(name, _)| names.iter().any(|wanted| wanted == *name));
    wanted.filter_map(|(_, side)| probe(side).transpose()).collect()
}

/// Nothing for a tensor of which nothing can be said.
fn probe<'a>(side: &'a Side<'_>) -> Result<Option<Probe<'a>>, ModelError> {
    let count = side.elements().min(PROBE);
    if !side.has_values() || count < FEWEST {
        return Ok(None);
    }
    let from = (side.elements() - count) / 2;
    let mut scratch = Scratch::default();
    side.values(&(from..from + count), &mut scratch)?;
    let length = scratch.values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let values = scratch.values.iter().map(|x| f64::from(*x) / length).collect();
    Ok(Some(Probe { name: &side.tensor.name, shape: &side.tensor.shape, values }))
}

/// Cosine without its sign; not above anything for zeros, NaN and other shapes.
fn likeness(a: &Probe<'_>, b: &Probe<'_>) -> f64 {
    if a.shape != b.shape {
        return 0.0;
    }
    a.values.iter().zip(&b.values).map(|(x, y)| x * y).sum::<f64>().abs()
}
