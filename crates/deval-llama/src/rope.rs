//! Rotary position frequencies.
//!
//! Mirrors transformers `modeling_rope_utils.py`: `_compute_default_rope_parameters`,
//! `_compute_linear_scaling_rope_parameters`, `_compute_llama3_parameters`; all in f32 as there.

use std::f32::consts::PI;

use candle_core::{Device, Tensor};

/// How positions turn into angles.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the geometric row of frequencies.
    pub theta: f32,
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
        factor: f32,
    },
    /// Llama 3: only low frequencies are divided, with a smooth passage.
    Llama3 {
        /// At least 1.
        factor: f32,
        /// Wavelengths over `original_context / low_freq_factor` are divided.
        low_freq_factor: f32,
        /// Wavelengths under `original_context / high_freq_factor` stay.
        high_freq_factor: f32,
        /// Context length the model was first trained with.
        original_context: usize,
    },
}

impl Rope {
    /// The `head_dim / 2` inverse frequencies.
    pub(crate) fn inverse_frequencies(&self, head_dim: usize) -> Vec<f32> {
        (0..head_dim)
            .step_by(2)
            .map(|even| 1.0 / self.theta.powf(even as f32 / head_dim as f32))
            .map(|frequency| self.scaling.apply(frequency))
            .collect()
    }
}

impl RopeScaling {
    fn apply(&self, frequency: f32) -> f32 {
        let Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } = self else {
            return match self {
                Self::Linear { factor } => frequency / factor,
                _ => frequency,
            };
        };
        let context = *original_context as f32;
        let wavelength = 2.0 * PI / frequency;
        if wavelength > context / low_freq_factor {
            frequency / factor
        } else if wavelength < context / high_freq_factor {
            frequency
        } else {
            let smooth = (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
    }
}

/// Cosines and sines of positions `start .. start + len`, each `(len, head_dim / 2)`.
pub(crate) fn angles(
    inverse: &[f32],
    start: usize,
    len: usize,
    device: &Device,
) -> candle_core::Result<(Tensor, Tensor)> {
    let angle = |position: usize| inverse.iter().map(move |frequency| position as f32 * frequency);
    let all: Vec<f32> = (start..start + len).flat_map(angle).collect();
    let angles = Tensor::from_vec(all, (len, inverse.len()), device)?;
    Ok((angles.cos()?, angles.sin()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_high_frequencies_and_divides_low_ones() {
        let plain = Rope { theta: 500_000.0, scaling: RopeScaling::Default }.inverse_frequencies(128);
        let scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
        let scaled = Rope { theta: 500_000.0, scaling }.inverse_frequencies(128);
        assert_eq!(plain[0], 1.0);
        assert_eq!(scaled[0], plain[0]);
        assert_eq!(scaled[63], plain[63] / 8.0);
        let between = scaled.iter().zip(&plain).filter(|(s, p)| *s < p && **s > **p / 8.0).count();
        assert!(between > 3, "{between} frequencies lie in the smooth passage");
    }

    #[test]
    fn linear_divides_every_frequency() {
        let scaling = RopeScaling::Linear { factor: 4.0 };
        let frequencies = Rope { theta: 10_000.0, scaling }.inverse_frequencies(4);
        assert_eq!(frequencies, [0.25, 0.0025]);
    }
}
