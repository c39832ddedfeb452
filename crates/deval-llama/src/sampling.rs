//! Choosing the next token from logits.
//!
//! Mirrors transformers `generation/logits_process.py`: temperature, then top-k, then top-p, then a draw.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::LlamaError;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most probable token, the lowest id among equals.
    Greedy,
    /// A seeded draw.
    Sample {
        /// Divides the logits; greater than 0.
        temperature: f32,
        /// Only this many most probable tokens (and those equal to the last of them); 0 for all.
        top_k: usize,
        /// Only the most probable tokens that together reach this probability; in (0, 1].
        top_p: f32,
        /// Same seed, same answer.
        seed: u64,
    },
}

/// Chooses tokens one after the other.
pub(crate) enum Sampler {
    Greedy,
    Draw { temperature: f64, top_k: usize, top_p: f64, random: Box<ChaCha8Rng> },
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling) -> Result<Self, LlamaError> {
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
        let random = Box::new(ChaCha8Rng::seed_from_u64(seed));
        Ok(Self::Draw { temperature: temperature.into(), top_k, top_p: top_p.into(), random })
    }

    /// The next token.
    pub(crate) fn next(&mut self, logits: &[f32]) -> Result<u32, LlamaError> {
        let best = argmax(logits)?;
        match self {
            Self::Greedy => Ok(best),
            Self::Draw { temperature, top_k, top_p, random } => {
                let kept = candidates(logits, *temperature, *top_k, *top_p);
                let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
                let mut left = random.random::<f64>() * total;
                let drawn = kept.iter().find(|(_, weight)| {
                    left -= weight;
                    left < 0.0
                });
                Ok(drawn.map_or(best, |(token, _)| *token))
            }
        }
    }
}

fn argmax(logits: &[f32]) -> Result<u32, LlamaError> {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return Err(LlamaError::NotANumber);
        }
        if *logit > logits[best] {
            best = token;
        }
    }
    let finite = logits.get(best).is_some_and(|logit| logit.is_finite());
    if finite { Ok(best as u32) } else { Err(LlamaError::NotANumber) }
}

/// Tokens with their unnormalised probabilities, most probable first.
fn candidates(logits: &[f32], temperature: f64, top_k: usize, top_p: f64) -> Vec<(u32, f64)> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let logit = |token: u32| logits[token as usize];
    order.sort_by(|a, b| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b)));
    if let Some(least) = top_k.checked_sub(1).and_then(|place| order.get(place)).map(|token| logit(*token)) {
        order.retain(|token| logit(*token) >= least);
    }
    let peak = f64::from(logit(order[0]));
    let weights = order.iter().map(|token| (*token, ((f64::from(logit(*token)) - peak) / temperature).exp()));
    let mut kept: Vec<(u32, f64)> = weights.collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    #[test]
    fn greedy_takes_the_lowest_of_equals_and_refuses_nan() {
        let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
        assert_eq!(greedy.next(&LOGITS).unwrap(), 1);
        for bad in [vec![0.0, f32::NAN], vec![f32::NAN, 0.0], vec![f32::NEG_INFINITY; 3], vec![f32::INFINITY], vec![]] {
            assert!(matches!(greedy.next(&bad), Err(LlamaError::NotANumber)), "{bad:?}");
        }
    }

    #[test]
    fn top_k_keeps_ties_and_top_p_keeps_the_reaching_token() {
        let tokens = |k, p| candidates(&LOGITS, 1.0, k, p).into_iter().map(|(token, _)| token).collect::<Vec<_>>();
        assert_eq!(tokens(0, 1.0), [1, 3, 2, 0, 4]);
        assert_eq!(tokens(1, 1.0), [1, 3]);
        assert_eq!(tokens(9, 1.0).len(), 5);
        assert_eq!(tokens(0, 0.5), [1, 3], "0.403 does not reach 0.5, the second does");
        assert_eq!(tokens(0, 1e-9), [1]);
    }

    #[test]
    fn draws_follow_the_distribution_and_the_seed() {
        let sampling = Sampling::Sample { temperature: 0.5, top_k: 3, top_p: 1.0, seed: 7 };
        let draw = || {
            let mut sampler = Sampler::new(sampling).unwrap();
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
            let sampling = Sampling::Sample { temperature, top_k: 0, top_p, seed: 0 };
            assert!(matches!(Sampler::new(sampling), Err(LlamaError::Sampling { .. })));
        }
    }
}
