//! Rotary position frequencies.
//!
//! Mirrors transformers 4.47 `modeling_rope_utils.py` (`_compute_default_rope_parameters`, `_compute_linear_scaling_rope_parameters`,
//! `_compute_dynamic_ntk_parameters`, `_compute_yarn_parameters`, `_compute_llama3_parameters`): what is a tensor there is f32 here,
//! what is a Python number is f64.

use std::f32::consts::PI;

/// How positions turn into angles.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the geometric row of frequencies.
    pub theta: f64,
    /// How a longer context than the trained one is reached.
    pub scaling: RopeScaling,
}

/// Stretching of the rotary frequencies.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// None.
    Default,
    /// Every frequency divided by the factor.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// The base grows with the sequence once that is longer than the context ("dynamic NTK").
    Dynamic {
        /// At least 1.
        factor: f64,
        /// `max_position_embeddings`.
        context: usize,
    },
    /// YaRN: low frequencies are divided, high ones stay, with a linear passage between.
    Yarn {
        /// At least 1.
        factor: f64,
        /// Cosines and sines are multiplied by it.
        attention_factor: f64,
        /// Rotations within the context above which a frequency stays.
        beta_fast: f64,
        /// Rotations within the context below which a frequency is divided.
        beta_slow: f64,
        /// `max_position_embeddings`; transformers 4.47 does not read `original_max_position_embeddings` here.
        context: usize,
    },
    /// Llama 3: only low frequencies are divided, with a smooth passage.
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Wavelengths over `original_context / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths under `original_context / high_freq_factor` stay.
        high_freq_factor: f64,
        /// Context length the model was first trained with.
        original_context: usize,
    },
}

impl Rope {
    /// The `head_dim / 2` inverse frequencies of a sequence that the context holds.
    pub(crate) fn inverse_frequencies(&self, head_dim: usize) -> Vec<f32> {
        self.inverse_frequencies_at(head_dim, 0)
    }

    /// The same for the tokens that are computed while the sequence is `length` tokens long. Only `dynamic` looks at the length, and
    /// only beyond the context: as in transformers, a prompt is rotated by its whole length, each further token by the length with it,
    /// and keys once rotated stay. Unlike there, a sequence never inherits the base of a longer one that was computed before it.
    pub(crate) fn inverse_frequencies_at(&self, head_dim: usize, length: usize) -> Vec<f32> {
        let base = self.base(head_dim, length) as f32;
        let plain = (0..head_dim).step_by(2).map(|even| base.powf(even as f32 / head_dim as f32));
        match &self.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => plain.map(|period| 1.0 / period).collect(),
            RopeScaling::Linear { factor } => plain.map(|period| 1.0 / period / *factor as f32).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let (factor, context) = (*factor as f32, *original_context as f64);
                let scaled = |frequency| llama3(frequency, factor, context, *low_freq_factor, *high_freq_factor);
                plain.map(|period| scaled(1.0 / period)).collect()
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, context, .. } => {
                let at = |rotations| self.correction(rotations, head_dim, *context);
                let low = at(*beta_fast).floor().max(0.0);
                let high = at(*beta_slow).ceil().min(head_dim as f64 - 1.0);
                plain.enumerate().map(|(pair, period)| yarn(pair, period, *factor as f32, low, high)).collect()
            }
        }
    }

    /// What cosines and sines are multiplied by.
    pub(crate) fn attention_factor(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor as f32,
            _ => 1.0,
        }
    }

    /// Longest sequence whose frequencies do not depend on its length.
    pub(crate) fn steady_length(&self) -> usize {
        match self.scaling {
            RopeScaling::Dynamic { context, .. } => context,
            _ => usize::MAX,
        }
    }

    fn base(&self, head_dim: usize, length: usize) -> f64 {
        let RopeScaling::Dynamic { factor, context } = self.scaling else { return self.theta };
        let dim = head_dim as f64;
        let stretch = factor * length.max(context) as f64 / context as f64 - (factor - 1.0);
        self.theta * stretch.powf(dim / (dim - 2.0))
    }

    /// The pair of dimensions that turns this often within the context.
    fn correction(&self, rotations: f64, head_dim: usize, context: usize) -> f64 {
        let turns = context as f64 / (rotations * 2.0 * std::f64::consts::PI);
        head_dim as f64 * turns.ln() / (2.0 * self.theta.ln())
    }
}

fn llama3(frequency: f32, factor: f32, context: f64, low: f64, high: f64) -> f32 {
    let wavelength = 2.0 * PI / frequency;
    if wavelength > (context / low) as f32 {
        frequency / factor
    } else if wavelength < (context / high) as f32 {
        frequency
    } else {
        let smooth = (context as f32 / wavelength - low as f32) / (high - low) as f32;
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

fn yarn(pair: usize, period: f32, factor: f32, low: f64, high: f64) -> f32 {
    let width = if low == high { 0.001 } else { high - low };
    let ramp = ((pair as f32 - low as f32) / width as f32).clamp(0.0, 1.0);
    let kept = 1.0 - ramp;
    1.0 / (factor * period) * (1.0 - kept) + 1.0 / period * kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(theta: f64, scaling: RopeScaling, head_dim: usize, length: usize) -> Vec<f32> {
        Rope { theta, scaling }.inverse_frequencies_at(head_dim, length)
    }

    #[test]
    fn llama3_keeps_high_frequencies_and_divides_low_ones() {
        let plain = frequencies(500_000.0, RopeScaling::Default, 128, 0);
        let scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
        let scaled = frequencies(500_000.0, scaling, 128, 0);
        assert_eq!(plain[0], 1.0);
        assert_eq!(scaled[0], plain[0]);
        assert_eq!(scaled[63], plain[63] / 8.0);
        let between = scaled.iter().zip(&plain).filter(|(s, p)| *s < p && **s > **p / 8.0).count();
        assert!(between > 3, "{between} frequencies lie in the smooth passage");
    }

    #[test]
    fn linear_divides_every_frequency() {
        assert_eq!(frequencies(10_000.0, RopeScaling::Linear { factor: 4.0 }, 4, 0), [0.25, 0.0025]);
    }

    #[test]
    fn dynamic_is_plain_within_the_context_and_slower_beyond() {
        let plain = frequencies(10_000.0, RopeScaling::Default, 16, 0);
        let dynamic = |length| frequencies(10_000.0, RopeScaling::Dynamic { factor: 2.0, context: 64 }, 16, length);
        assert_eq!(dynamic(0), plain);
        assert_eq!(dynamic(64), plain);
        let (longer, longest) = (dynamic(65), dynamic(256));
        assert!(longer[1..].iter().zip(&plain[1..]).all(|(longer, plain)| longer < plain));
        assert!(longest[1..].iter().zip(&longer[1..]).all(|(longest, longer)| longest < longer));
    }

    #[test]
    fn yarn_keeps_what_turns_often_and_divides_what_hardly_turns() {
        let plain = frequencies(10_000.0, RopeScaling::Default, 64, 0);
        let scaling =
            RopeScaling::Yarn { factor: 4.0, attention_factor: 1.1, beta_fast: 32.0, beta_slow: 1.0, context: 2048 };
        let scaled = frequencies(10_000.0, scaling.clone(), 64, 0);
        assert_eq!(scaled[0], plain[0]);
        assert!((scaled[31] - plain[31] / 4.0).abs() < 1e-9);
        assert_eq!(Rope { theta: 10_000.0, scaling }.attention_factor(), 1.1);
    }
}
