//! How two models are related, decided tensor by tensor from their values.
//!
//! Both sides are read in small pieces, so memory does not grow with the model (under 200 MB, mostly the sampled rows of one matrix
//! per thread). Where the two sides are equal only bytes are compared; where they differ, cosine, relative change and the spectrum of
//! the difference tell a merged adapter from noise and from training.

mod classify;
mod eigen;
mod measure;
mod moved;
mod rename;
mod source;
mod spectrum;
mod view;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::measure::{Measured, Side};
pub use self::source::{LocalFolder, TensorSource};
pub use self::spectrum::Spectrum;
use crate::ModelError;
use crate::weights::Tensor;

/// Most threads: each holds the sampled rows of one matrix.
const THREADS: usize = 8;

/// A tensor trained from another keeps most of its direction; independent ones have none in common.
const RELATED: f64 = 0.5;

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// How the compared model stands to its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// The same tensors in the same files with the same headers.
    Identical,
    /// The same tensors, in other files.
    ReShardOnly,
    /// The same tensors in the same files; only headers differ (metadata, order, padding).
    MetadataOnly,
    /// The same values after conversion to another element type.
    DtypeOnly,
    /// The same tensors under other names.
    Renamed,
    /// Some tensors are the base's times one number each.
    Scaled,
    /// Some tensors have the base's values in another order, as when neurons are permuted.
    Permuted,
    /// The common tensors are equal, but some are missing, added or of another shape.
    Restructured,
    /// Every difference looks like independent noise, small beside the weights.
    NoiseOnly,
    /// Every difference is a matrix of low rank, as a merged adapter (LoRA) leaves it.
    LowRank,
    /// Trained from the base.
    FineTuned,
    /// Another model.
    Unrelated,
}

/// What comparing two models gave. Of two models that are read in part (`sampled`), all numbers are of that part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lineage {
    /// The verdict.
    pub relation: Relation,
    /// Tensors of the compared model.
    pub tensors: usize,
    /// Bytes of these tensors.
    pub bytes: u64,
    /// How many of them are in the base with the same element type, shape and bytes.
    pub identical_tensors: usize,
    /// Bytes of the identical tensors.
    pub identical_bytes: u64,
    /// Tensors of the base that the compared model lacks.
    pub missing: Vec<String>,
    /// Tensors that the base lacks.
    pub added: Vec<String>,
    /// Tensors that have another name in the base, by what they hold: our name, and the base's.
    #[serde(default)]
    pub renamed: Vec<(String, String)>,
    /// Tensors of another shape.
    pub reshaped: Vec<String>,
    /// Tensors of another element type.
    pub other_dtype: Vec<String>,
    /// Tensors of equal shape that are not identical, by name.
    pub changed: Vec<TensorChange>,
    /// Cosine between the two models over the changed tensors.
    pub cosine: Option<f64>,
    /// ‖a−b‖/‖b‖ over the changed tensors.
    pub relative_change: Option<f64>,
    /// Whether tensors were read in part only.
    pub sampled: bool,
}

/// One tensor that is not identical.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TensorChange {
    /// Name.
    pub name: String,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// Element type of the compared model.
    pub dtype: String,
    /// Element type of the base.
    pub base_dtype: String,
    /// Bytes in the compared model.
    pub bytes: u64,
    /// Whether the values are equal once the finer side is rounded to the coarser one, or both went through 16 bits.
    pub same_values: bool,
    /// The number that the base's tensor was multiplied by, where that and rounding explain all of the difference.
    #[serde(default)]
    pub factor: Option<f64>,
    /// Whether the values are those of the base in another order.
    #[serde(default)]
    pub permuted: bool,
    /// Share of the rows that were found in another place, where not all of them are the base's to the bit.
    #[serde(default)]
    pub moved_rows: Option<f64>,
    /// Elements that are NaN or infinite, of those that were read.
    #[serde(default)]
    pub not_finite: u64,
    /// Share of the elements that differ.
    pub changed_share: f64,
    /// Cosine of the two tensors; none for zeros and for element types other than F16, BF16 and F32.
    pub cosine: Option<f64>,
    /// ‖a−b‖/‖b‖.
    pub relative_change: Option<f64>,
    /// Cosine of the difference and the base: -1 or 1 for a tensor that was only scaled, near 0 for noise.
    pub drift: Option<f64>,
    /// What the difference of a matrix looks like.
    pub spectrum: Option<Spectrum>,
}

/// How much is read, and which rows are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Seed of everything that is sampled.
    pub seed: u64,
    /// Most bytes of one tensor that are compared on each side; none for all. The rows for the spectrum come on top.
    pub most_bytes: Option<u64>,
    /// Most rows of a matrix whose difference is looked at; none for 256, which is also the most there can be.
    pub most_rows: Option<usize>,
}

/// Compares the model folder `a` with its base `b`, reading all of both.
///
/// # Errors
/// When a folder has no weights, a header is broken, or a file cannot be read.
pub fn compare(a: &Path, b: &Path) -> Result<Lineage, ModelError> {
    compare_sources(&LocalFolder::open(a)?, &LocalFolder::open(b)?, Options::default(), &mut |_, _| {})
}

/// Compares two models wherever they lie. `progress` is told the bytes of `a` that are done and all of them, from this thread.
///
/// # Errors
/// When a source cannot be read.
pub fn compare_sources(
    a: &dyn TensorSource,
    b: &dyn TensorSource,
    options: Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Lineage, ModelError> {
    let (mut ours, mut theirs) = (sides(a), sides(b));
    drop_tied_head(&mut ours, &theirs, options)?;
    drop_tied_head(&mut theirs, &ours, options)?;
    let bytes = ours.values().map(|side| side.tensor.bytes()).sum();
    let only = |one: &BTreeMap<&str, Side<'_>>, other: &BTreeMap<&str, Side<'_>>| -> Vec<String> {
        one.keys().filter(|name| !other.contains_key(**name)).map(ToString::to_string).collect()
    };
    let (mut missing, mut added) = (only(&theirs, &ours), only(&ours, &theirs));
    let mut renamed = rename::find(&ours, &theirs, &mut added, &mut missing)?;
    let renamed_pairs = renamed.iter().map(|(our, their)| (&ours[our.as_str()], &theirs[their.as_str()]));
    let pairs = ours.iter().filter_map(|(name, side)| Some((side, theirs.get(name)?))).chain(renamed_pairs);
    let (mut pairs, reshaped): (Vec<_>, Vec<_>) = pairs.partition(|(a, b)| a.tensor.shape == b.tensor.shape);
    let mut done = 0;
    let mut measured = measure_all(&pairs, options, &mut |bytes_done| {
        done += bytes_done;
        progress(done, bytes);
    })?;
    let base: Vec<_> = theirs.values().collect();
    renamed.extend(moved::exchanged(&mut pairs, &mut measured, &base, options)?);
    renamed.sort();
    moved::rows(&pairs, &mut measured, options)?;
    let name = |pair: &(&Side<'_>, &Side<'_>)| pair.0.tensor.name.clone();
    let identical = pairs.iter().zip(&measured).filter(|(_, measured)| measured.is_none());
    let mut lineage = Lineage {
        relation: Relation::FineTuned,
        tensors: ours.len(),
        bytes,
        identical_tensors: identical.clone().count(),
        identical_bytes: identical.map(|((a, _), _)| a.tensor.bytes()).sum(),
        reshaped: reshaped.iter().map(name).collect(),
        other_dtype: pairs.iter().filter(|(a, b)| a.tensor.dtype != b.tensor.dtype).map(name).collect(),
        missing,
        added,
        renamed,
        changed: Vec::new(),
        cosine: None,
        relative_change: None,
        sampled: options
            .most_bytes
            .is_some_and(|most| pairs.iter().any(|(a, b)| a.tensor.bytes() > most && !measure::in_the_same_file(a, b))),
    };
    let changes: Vec<Measured> = measured.into_iter().flatten().collect();
    let sums = changes.iter().map(|measured| measured.sums).sum::<measure::Sums>();
    (lineage.cosine, lineage.relative_change) = (sums.cosine(), sums.relative_change());
    lineage.changed = changes.into_iter().map(|measured| measured.change).collect();
    lineage.relation = classify::relation(&lineage, a, b)?;
    Ok(lineage)
}

/// Every tensor of a source by name.
fn sides(source: &dyn TensorSource) -> BTreeMap<&str, Side<'_>> {
    let shards = source.shards().iter().enumerate();
    let tensors = shards.flat_map(|(number, shard)| {
        let side = move |tensor| Side { source, shard: number, start: shard.data_start, tensor };
        shard.tensors.iter().map(move |tensor: &Tensor| (tensor.name.as_str(), side(tensor)))
    });
    tensors.collect()
}

/// A head that repeats the embedding is the same as none, which loaders tie to it; savers differ in whether they write it.
fn drop_tied_head(
    ours: &mut BTreeMap<&str, Side<'_>>,
    theirs: &BTreeMap<&str, Side<'_>>,
    options: Options,
) -> Result<(), ModelError> {
    let (Some(head), Some(embedding)) = (ours.get(HEAD), ours.get(EMBEDDING)) else { return Ok(()) };
    let alike = head.tensor.shape == embedding.tensor.shape && head.tensor.dtype == embedding.tensor.dtype;
    if !theirs.contains_key(HEAD) && alike && measure::equal(head, embedding, &measure::ranges(head, options))? {
        ours.remove(HEAD);
    }
    Ok(())
}

/// Looks at all pairs on several threads, large ones first; the results stand in the order of the pairs. An identical pair has none.
fn measure_all(
    pairs: &[(&Side<'_>, &Side<'_>)],
    options: Options,
    done: &mut dyn FnMut(u64),
) -> Result<Vec<Option<Measured>>, ModelError> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(pairs[*at].0.tensor.bytes()));
    let next = AtomicUsize::new(0);
    let (sender, results) = channel();
    let waits = pairs.iter().any(|(a, b)| a.source.waits() || b.source.waits());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if waits { THREADS } else { cores.min(THREADS) }.min(pairs.len());
    let mut all: Vec<Option<Measured>> = pairs.iter().map(|_| None).collect();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, order) = (sender.clone(), &next, &order);
            scope.spawn(move || {
                while let Some(&at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (a, b) = pairs[at];
                    // Nobody listens any more once another pair has failed.
                    if sender.send((at, measure::pair(a, b, options))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // Owned here, so that a failure closes the channel and the threads stop.
        for (at, measured) in results {
            all[at] = measured?;
            done(pairs[at].0.tensor.bytes());
        }
        Ok(all)
    })
}

#[cfg(test)]
mod tests;
