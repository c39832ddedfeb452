//! Choosing the next token from logits.
//!
//! Mirrors transformers `generation/logits_process.py`: temperature, then top-k, top-p, min-p, typical-p, then a draw.

use std::cmp::Ordering;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::LlamaError;
use crate::generation::GenerationConfig;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most probable token, the lowest id among equals.
    Greedy,
    /// A seeded draw.
    Sample {
        /// Divides the logits; greater than 0.
        temperature: f32,
        /// Only this many most probable tokens (and those equal to the last of them); 0 for all, `None` for as many as the model's
        /// `generation_config.json` says.
        top_k: Option<usize>,
        /// Only the most probable tokens that together reach this probability; in (0, 1].
        top_p: f32,
        /// Same seed, same answer.
        seed: u64,
    },
}

/// Chooses tokens one after the other.
pub(crate) enum Sampler {
    Greedy,
    Draw(Box<Draw>),
}

/// A seeded draw.
pub(crate) struct Draw {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    typical_p: Option<f64>,
    random: ChaCha8Rng,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling, usual: &GenerationConfig) -> Result<Self, LlamaError> {
        let Sampling::Sample { temperature, top_k, top_p, seed } = sampling else {
            return Ok(Self::Greedy);
        };
        let refused = |message: String| Err(LlamaError::Sampling { message });
        if !(temperature.is_finite() && temperature > 0.0) {
            return refused(format!("temperature {temperature} is not greater than 0"));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return refused(format!("top_p {top_p} is not in (0, 1]"));
        }
        Ok(Self::Draw(Box::new(Draw {
            temperature: temperature.into(),
            top_k: top_k.unwrap_or(usual.top_k),
            top_p: top_p.into(),
            min_p: usual.rules.min_p.unwrap_or(0.0),
            typical_p: usual.rules.typical_p,
            random: ChaCha8Rng::seed_from_u64(seed),
        })))
    }

    /// The next token.
    pub(crate) fn next(&mut self, logits: &[f32]) -> Result<u32, LlamaError> {
        let best = argmax(logits)?;
        match self {
            Self::Greedy => Ok(best),
            Self::Draw(draw) => Ok(draw.next(&most_probable(logits, draw.top_k))),
        }
    }

    /// The next token out of a few.
    pub(crate) fn next_among(&mut self, logits: &[f32], tokens: &[u32]) -> Result<u32, LlamaError> {
        let vocab = logits.len();
        let mut order = Vec::with_capacity(tokens.len());
        for token in tokens {
            let logit =
                *logits.get(*token as usize).ok_or(LlamaError::TokenOutOfVocabulary { token: *token, vocab })?;
            order.push((*token, logit));
        }
        if order.iter().any(|(_, logit)| !logit.is_finite()) {
            return Err(LlamaError::NotANumber);
        }
        order.sort_by(by_probability);
        order.dedup();
        let best =
            order.first().map(|(token, _)| *token).ok_or(LlamaError::Empty { what: "list of allowed tokens" })?;
        let Self::Draw(draw) = self else { return Ok(best) };
        keep_most_probable(&mut order, draw.top_k);
        Ok(draw.next(&order))
    }
}

impl Draw {
    /// Draws one of some tokens, most probable first.
    fn next(&mut self, order: &[(u32, f32)]) -> u32 {
        let kept = self.kept(order);
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.random::<f64>() * total;
        let drawn = kept.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        drawn.map_or(order[0].0, |(token, _)| *token)
    }

    /// The tokens that a draw is among, most probable first, with their unnormalised probabilities.
    pub(crate) fn kept(&self, order: &[(u32, f32)]) -> Vec<(u32, f64)> {
        let mut kept = nucleus(order, self.temperature, self.top_p);
        let least = self.min_p * kept.first().map_or(0.0, |(_, weight)| *weight);
        let count = kept.iter().take_while(|(_, weight)| *weight >= least).count();
        kept.truncate(count.max(1));
        if let Some(mass) = self.typical_p {
            keep_typical(&mut kept, mass);
        }
        kept
    }
}

/// Numbers that are compared side by side.
const LANES: usize = 16;

fn argmax(logits: &[f32]) -> Result<u32, LlamaError> {
    let mut peaks = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = logits.as_chunks::<LANES>();
    let mut is_number = true;
    for chunk in whole {
        for (peak, logit) in peaks.iter_mut().zip(chunk) {
            is_number &= !logit.is_nan();
            *peak = if *logit > *peak { *logit } else { *peak };
        }
    }
    is_number &= !rest.iter().any(|logit| logit.is_nan());
    let peak = peaks.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    let best = logits.iter().position(|logit| *logit == peak).filter(|_| is_number && peak.is_finite());
    best.map(|token| token as u32).ok_or(LlamaError::NotANumber)
}

/// Most probable first, the lowest id among equals.
fn by_probability(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The `top_k` most probable tokens with their logits, and those equal to the last of them; all for 0.
pub(crate) fn most_probable(logits: &[f32], top_k: usize) -> Vec<(u32, f32)> {
    let mut order: Vec<(u32, f32)> = Vec::new();
    let (mut least, mut most) = (f32::NEG_INFINITY, top_k.saturating_mul(4).saturating_add(64));
    for (token, logit) in logits.iter().enumerate() {
        if *logit < least {
            continue;
        }
        order.push((token as u32, *logit));
        // What can no longer be among them is thrown out now and then; equals stay, and each time there may be twice as many.
        if top_k > 0 && order.len() >= most {
            order.sort_by(by_probability);
            keep_most_probable(&mut order, top_k);
            least = order.get(top_k - 1).map_or(least, |(_, logit)| *logit);
            most = most.max(2 * order.len());
        }
    }
    order.sort_by(by_probability);
    keep_most_probable(&mut order, top_k);
    order
}

fn keep_most_probable(order: &mut Vec<(u32, f32)>, top_k: usize) {
    if let Some((_, least)) = top_k.checked_sub(1).and_then(|place| order.get(place)).copied() {
        order.retain(|(_, logit)| *logit >= least);
    }
}

/// Of tokens, most probable first, those that together reach `top_p`, with their unnormalised probabilities.
fn nucleus(order: &[(u32, f32)], temperature: f64, top_p: f64) -> Vec<(u32, f64)> {
    let peak = order.first().map_or(0.0, |(_, logit)| f64::from(*logit));
    let weight = |logit: f32| ((f64::from(logit) - peak) / temperature).exp();
    let mut kept: Vec<(u32, f64)> = order.iter().map(|(token, logit)| (*token, weight(*logit))).collect();
    let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
    let mut before = 0.0;
    let reaching = kept.iter().take_while(|(_, weight)| {
        let needed = before < top_p * total;
        before += weight;
        needed
    });
    let count = reaching.count();
    kept.truncate(count.max(1));
    kept
}

/// Keeps the tokens whose surprise is nearest to the expected one, until they reach `mass`.
fn keep_typical(kept: &mut Vec<(u32, f64)>, mass: f64) {
    let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
    let surprise = |weight: f64| -(weight / total).ln();
    let likely = kept.iter().filter(|(_, weight)| *weight > 0.0);
    let expected: f64 = likely.map(|(_, weight)| weight / total * surprise(*weight)).sum();
    let distance = |weight: f64| (surprise(weight) - expected).abs();
    let mut nearest: Vec<(f64, f64)> = kept.iter().map(|(_, weight)| (distance(*weight), *weight)).collect();
    nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut reached = 0.0;
    let last = nearest.iter().position(|(_, weight)| {
        reached += weight / total;
        reached >= mass
    });
    let farthest = nearest[last.unwrap_or(nearest.len() - 1)].0;
    kept.retain(|(_, weight)| distance(*weight) <= farthest);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    fn sampler(sampling: Sampling) -> Result<Sampler, LlamaError> {
        Sampler::new(sampling, &GenerationConfig::default())
    }

    #[test]
    fn greedy_takes_the_lowest_of_equals_and_refuses_nan() {
        let mut greedy = sampler(Sampling::Greedy).unwrap();
        assert_eq!(greedy.next(&LOGITS).unwrap(), 1);
        for bad in [vec![0.0, f32::NAN], vec![f32::NAN, 0.0], vec![f32::NEG_INFINITY; 3], vec![f32::INFINITY], vec![]] {
            assert!(matches!(greedy.next(&bad), Err(LlamaError::NotANumber)), "{bad:?}");
        }
    }

    #[test]
    fn top_k_keeps_ties_and_top_p_keeps_the_reaching_token() {
        let candidates = |k, p| nucleus(&most_probable(&LOGITS, k), 1.0, p);
        let tokens = |k, p| candidates(k, p).into_iter().map(|(token, _)| token).collect::<Vec<_>>();
        assert_eq!(tokens(0, 1.0), [1, 3, 2, 0, 4]);
        assert_eq!(tokens(1, 1.0), [1, 3]);
        assert_eq!(tokens(9, 1.0).len(), 5);
        assert_eq!(tokens(0, 0.5), [1, 3], "0.403 does not reach 0.5, the second does");
        assert_eq!(tokens(0, 1e-9), [1]);
    }

    #[test]
    fn a_long_tail_is_thrown_out_on_the_way_without_a_trace() {
        let logits: Vec<f32> = (0..5000u32).map(|token| (token * 7919 % 997) as f32).collect();
        let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        all.sort_by(by_probability);
        for top_k in [1, 3, 50, 4999, 6000] {
            let mut expected = all.clone();
            keep_most_probable(&mut expected, top_k);
            assert_eq!(most_probable(&logits, top_k), expected);
        }
        assert_eq!(most_probable(&logits, 0), all);
    }

    #[test]
    fn a_few_tokens_are_chosen_among_as_if_there_were_no_others() {
        let mut greedy = sampler(Sampling::Greedy).unwrap();
        assert_eq!(greedy.next_among(&LOGITS, &[4, 0]).unwrap(), 0);
        assert_eq!(greedy.next_among(&LOGITS, &[3, 2, 1, 1]).unwrap(), 1);
        assert!(matches!(
            greedy.next_among(&LOGITS, &[5]),
            Err(LlamaError::TokenOutOfVocabulary { token: 5, vocab: 5 })
        ));
        assert!(matches!(greedy.next_among(&[f32::NAN, 1.0], &[0, 1]), Err(LlamaError::NotANumber)));
        let sampling = Sampling::Sample { temperature: 9.0, top_k: Some(0), top_p: 1.0, seed: 1 };
        let mut sampler = sampler(sampling).unwrap();
        let drawn: BTreeSet<u32> = (0..200).map(|_| sampler.next_among(&LOGITS, &[0, 4]).unwrap()).collect();
        assert_eq!(drawn, BTreeSet::from([0, 4]));
    }

    #[test]
    fn draws_follow_the_distribution_and_the_seed() {
        let sampling = Sampling::Sample { temperature: 0.5, top_k: Some(3), top_p: 1.0, seed: 7 };
        let draw = || {
            let mut sampler = sampler(sampling).unwrap();
            (0..4000).map(|_| sampler.next(&LOGITS).unwrap()).collect::<Vec<_>>()
        };
        let tokens = draw();
        assert_eq!(tokens, draw());
        let share = |token| tokens.iter().filter(|drawn| **drawn == token).count() as f64 / 4000.0;
        let expected = 1.0 / (2.0 + (-2.0f64).exp());
        assert!((share(1) - expected).abs() < 0.03, "{}", share(1));
        assert_eq!(share(0) + share(4), 0.0);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for (temperature, top_p) in [(0.0, 1.0), (f32::NAN, 1.0), (1.0, 0.0), (1.0, 1.5)] {
            let sampling = Sampling::Sample { temperature, top_k: Some(0), top_p, seed: 0 };
            assert!(matches!(sampler(sampling), Err(LlamaError::Sampling { .. })));
        }
    }
}
