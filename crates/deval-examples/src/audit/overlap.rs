//! Contamination: what of a set stands in a training text as well.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use deval_eval::ExampleSet;
use deval_report::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Words of a shingle, as is usual when test sets are cleaned of training data.
pub const SHINGLE_WORDS: usize = 13;
/// Tag of a set that overlaps.
pub const TRAINING_OVERLAP: &str = "training-overlap";
/// Odd, so that products of it keep all bits.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// What an example shares with training texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overlap {
    /// Id of the example.
    pub id: String,
    /// Shingles of its context and response that a training text has too.
    pub shared: usize,
    /// Shingles it has.
    pub shingles: usize,
    /// Names of those training texts.
    pub texts: Vec<String>,
}

impl Overlap {
    /// Share of the shingles that are found.
    pub fn share(&self) -> f64 {
        self.shared as f64 / self.shingles.max(1) as f64
    }
}

/// Examples that share a run of `n` lower-cased words of context or response with a training text, in the order of the set. The texts are gone
/// through once; memory is needed for the set alone. With `n` = 0 nothing is shared.
pub fn overlap<'a>(
    set: &ExampleSet,
    training_texts: impl Iterator<Item = (&'a str, &'a str)>,
    n: usize,
) -> Vec<Overlap> {
    let mut owners: HashMap<u64, Vec<usize>> = HashMap::new();
    for (place, example) in set.examples.iter().enumerate() {
        let mut own = HashSet::new();
        for text in [&example.rag_context, &example.llm_response] {
            each_shingle(text, n, |shingle| own.extend([shingle]));
        }
        own.into_iter().for_each(|shingle| owners.entry(shingle).or_default().push(place));
    }
    let mut names = vec![BTreeSet::new(); set.examples.len()];
    let mut found = HashSet::new();
    for (name, text) in training_texts {
        each_shingle(text, n, |shingle| {
            for place in owners.get(&shingle).into_iter().flatten() {
                names[*place].insert(name);
                found.insert(shingle);
            }
        });
    }
    let (mut shared, mut all) = (vec![0; names.len()], vec![0; names.len()]);
    for (shingle, places) in &owners {
        for place in places {
            all[*place] += 1;
            shared[*place] += usize::from(found.contains(shingle));
        }
    }
    let of = |(place, names): (usize, &BTreeSet<&str>)| Overlap {
        id: set.examples[place].id.clone(),
        shared: shared[place],
        shingles: all[place],
        texts: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    names.iter().enumerate().map(of).filter(|overlap| overlap.shared > 0).collect()
}

/// A warning per example; a set with any of them should carry [`TRAINING_OVERLAP`].
pub fn overlap_findings(overlaps: &[Overlap]) -> Vec<(&str, Diagnostic)> {
    let finding = |overlap: &Overlap| {
        let Overlap { shared, shingles, texts, .. } = overlap;
        Diagnostic::warning("examples.training-overlap", "a training text holds parts of this example")
            .found(format!(
                "{shared} of {shingles} runs of words ({:.0} %) in {}",
                100.0 * overlap.share(),
                texts.join(", ")
            ))
            .help("leave the example out, or tag the set: a model that was trained on the text knows it")
    };
    overlaps.iter().map(|overlap| (overlap.id.as_str(), finding(overlap))).collect()
}

/// Calls `see` with a hash of every run of `n` words.
fn each_shingle(text: &str, n: usize, mut see: impl FnMut(u64)) {
    let Some(last) = n.checked_sub(1) else { return };
    let leaving = (0..last).fold(1u64, |power, _| power.wrapping_mul(BASE));
    let (mut window, mut rolling, mut lower) = (vec![0u64; n], 0u64, String::new());
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    for (i, word) in words.enumerate() {
        lower.clear();
        lower.extend(word.chars().flat_map(char::to_lowercase));
        let mut hasher = DefaultHasher::new();
        lower.hash(&mut hasher);
        let (hash, oldest) = (hasher.finish(), &mut window[i % n]);
        rolling = rolling.wrapping_sub(oldest.wrapping_mul(leaving)).wrapping_mul(BASE).wrapping_add(hash);
        *oldest = hash;
        if i >= last {
            see(rolling);
        }
    }
}
