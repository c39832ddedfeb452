//! From what was measured to a verdict.

use std::collections::BTreeSet;

use super::source::TensorSource;
use super::{Lineage, RELATED, Relation, TensorChange};
use crate::ModelError;
use crate::weights::Shard;

/// Noise is small beside the weights, and does not follow them.
const NOISE: f64 = 0.1;

/// Where the sampled rows are all equal: the share of elements, and their weight, that are an edit and no training.
const EDIT: f64 = 1e-3;

pub(super) fn relation(lineage: &Lineage, a: &dyn TensorSource, b: &dyn TensorSource) -> Result<Relation, ModelError> {
    let whole = lineage.missing.is_empty() && lineage.added.is_empty() && lineage.reshaped.is_empty();
    let changed: Vec<_> = lineage.changed.iter().filter(|change| !change.is_copy()).collect();
    if !related(lineage) {
        return Ok(Relation::Unrelated);
    }
    if !changed.is_empty() {
        return Ok(if whole { by_spectrum(&changed) } else { Relation::FineTuned });
    }
    if !whole {
        return Ok(Relation::Restructured);
    }
    match by_trick(lineage) {
        Some(relation) => Ok(relation),
        None => layout(a, b),
    }
}

/// The most that was done to tensors that are all the base's.
fn by_trick(lineage: &Lineage) -> Option<Relation> {
    let any = |trick: fn(&TensorChange) -> bool| lineage.changed.iter().any(trick);
    if any(|change| change.permuted) {
        Some(Relation::Permuted)
    } else if any(|change| change.factor.is_some()) {
        Some(Relation::Scaled)
    } else if any(|change| change.same_values) {
        Some(Relation::DtypeOnly)
    } else {
        (!lineage.renamed.is_empty()).then_some(Relation::Renamed)
    }
}

/// Whether most of the model has a counterpart that points its way.
fn related(lineage: &Lineage) -> bool {
    let alike = |change: &&TensorChange| {
        change.is_copy() || change.moved_rows.is_some() || change.cosine.is_some_and(|cosine| cosine > RELATED)
    };
    let changed: u64 = lineage.changed.iter().filter(alike).map(|change| change.bytes).sum();
    2 * (lineage.identical_bytes + changed) >= lineage.bytes
}

fn by_spectrum(changed: &[&TensorChange]) -> Relation {
    let spectra = || changed.iter().filter_map(|change| change.spectrum);
    let matrices = changed.iter().any(|change| change.shape.len() == 2);
    if spectra().count() == changed.len() && spectra().all(|seen| seen.is_low_rank()) {
        Relation::LowRank
    } else if changed.iter().all(|change| is_noise(change, matrices)) {
        Relation::NoiseOnly
    } else {
        Relation::FineTuned
    }
}

/// Small beside the weights and without structure; a matrix that was only scaled is not noise, however small the change. A
/// vector has no structure to look for: beside matrices it goes with them, alone it is training unless it is next to nothing.
fn is_noise(change: &TensorChange, beside_matrices: bool) -> bool {
    let small = change.relative_change.is_some_and(|relative| relative <= NOISE);
    let edit = || change.changed_share <= EDIT && change.relative_change.is_some_and(|relative| relative <= EDIT);
    let undirected = || change.drift.is_none_or(|drift| drift.abs() <= NOISE);
    match change.spectrum {
        Some(seen) => small && seen.is_noise() && undirected(),
        None if beside_matrices && change.shape.len() != 2 => small,
        None => edit(),
    }
}

/// All tensors are equal: where they lie decides.
fn layout(a: &dyn TensorSource, b: &dyn TensorSource) -> Result<Relation, ModelError> {
    let places = |source: &dyn TensorSource| -> BTreeSet<(String, String)> {
        let place = |shard: &Shard| -> Vec<_> {
            shard.tensors.iter().map(|tensor| (tensor.name.clone(), shard.name.clone())).collect()
        };
        source.shards().iter().flat_map(place).collect()
    };
    if places(a) != places(b) {
        return Ok(Relation::ReShardOnly);
    }
    let same = a.shards().len() == b.shards().len() && {
        let mut same = true;
        for number in 0..a.shards().len() {
            let digests = (a.sha256(number), b.sha256(number));
            let equal = matches!(digests, (Some(a), Some(b)) if a == b);
            same = same && (equal || header(a, number)? == header(b, number)?);
        }
        same
    };
    Ok(if same { Relation::Identical } else { Relation::MetadataOnly })
}

/// The bytes before the data.
fn header(source: &dyn TensorSource, number: usize) -> Result<Vec<u8>, ModelError> {
    let mut bytes = vec![0; source.shards()[number].data_start as usize];
    source.read(number, 0, &mut bytes)?;
    Ok(bytes)
}
