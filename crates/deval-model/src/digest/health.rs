//! NaN, infinities and zeros, counted while the hash runs.

use deval_report::Diagnostic;
use safetensors::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was counted in one tensor, or in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Elements looked at (F16, BF16 and F32).
    pub elements: u64,
    /// Not a number.
    pub nan: u64,
    /// Plus or minus infinity.
    pub inf: u64,
    /// Plus or minus zero.
    pub zero: u64,
}

/// A tensor worth a look: NaN or infinity in it, or nothing but zeros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TensorHealth {
    /// Weight file.
    pub file: String,
    /// Tensor.
    pub name: String,
    /// What was counted in it.
    pub counts: Counts,
}

/// Health of all weights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Over all tensors.
    pub totals: Counts,
    /// Only the tensors worth a look, in the order of the read.
    pub tensors: Vec<TensorHealth>,
}

impl Health {
    /// What the counts say about the model: NaN and infinities spoil every answer; a tensor of zeros was hardly trained.
    pub fn findings(&self) -> Vec<Diagnostic> {
        let broken = self.tensors.iter().filter(|tensor| tensor.counts.nan + tensor.counts.inf > 0);
        let zeros = self.tensors.iter().filter(|tensor| tensor.counts.zero == tensor.counts.elements);
        let broken = broken.map(|TensorHealth { file, name, counts }| {
            let message = format!("the tensor `{name}` has {} NaN and {} infinities", counts.nan, counts.inf);
            Diagnostic::error("model.not-finite", message)
                .in_file(file)
                .help("train or convert it again; float16 ends at 65504")
        });
        let zeros = zeros.map(|TensorHealth { file, name, .. }| {
            Diagnostic::warning("model.zeros", format!("the tensor `{name}` is all zeros")).in_file(file)
        });
        broken.chain(zeros).collect()
    }
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.elements += other.elements;
        self.nan += other.nan;
        self.inf += other.inf;
        self.zero += other.zero;
    }

    pub(super) fn is_finding(self) -> bool {
        self.nan + self.inf > 0 || self.elements > 0 && self.zero == self.elements
    }
}

/// Elements per turn of the inner loop: its counters fit into the lanes of the elements, and adding to them wraps, because a
/// check for overflow (there is none in 8192 steps) would keep a dev build from working in lanes.
const TURN: usize = 8192;

pub(super) fn count(dtype: Dtype, bytes: &[u8], carry: &mut Vec<u8>, counts: &mut Counts) {
    match dtype {
        Dtype::F16 => with_carry(bytes, carry, |elements| halves(elements, 0x7c00, counts)),
        Dtype::BF16 => with_carry(bytes, carry, |elements| halves(elements, 0x7f80, counts)),
        Dtype::F32 => with_carry(bytes, carry, |elements| singles(elements, counts)),
        _ => {}
    }
}

/// Cuts bytes into elements of `N`, putting together the one that a block border has cut.
fn with_carry<const N: usize>(mut bytes: &[u8], carry: &mut Vec<u8>, mut each: impl FnMut(&[[u8; N]])) {
    if !carry.is_empty() {
        let missing = (N - carry.len()).min(bytes.len());
        carry.extend(&bytes[..missing]);
        bytes = &bytes[missing..];
        let Some(element) = carry.first_chunk::<N>() else { return };
        each(&[*element]);
        carry.clear();
    }
    let (elements, rest) = bytes.as_chunks::<N>();
    each(elements);
    carry.extend(rest);
}

/// Without sign, an exponent of all ones is the infinity, and what is greater is NaN.
fn halves(elements: &[[u8; 2]], infinity: i16, counts: &mut Counts) {
    for turn in elements.chunks(TURN) {
        let (mut nan, mut inf, mut zero) = (0i16, 0i16, 0i16);
        for element in turn {
            let magnitude = i16::from_le_bytes(*element) & 0x7fff;
            nan = nan.wrapping_add(i16::from(magnitude > infinity));
            inf = inf.wrapping_add(i16::from(magnitude == infinity));
            zero = zero.wrapping_add(i16::from(magnitude == 0));
        }
        counts.add(Counts { elements: turn.len() as u64, nan: nan as u64, inf: inf as u64, zero: zero as u64 });
    }
}

fn singles(elements: &[[u8; 4]], counts: &mut Counts) {
    for turn in elements.chunks(TURN) {
        let (mut nan, mut inf, mut zero) = (0i32, 0i32, 0i32);
        for element in turn {
            let magnitude = i32::from_le_bytes(*element) & 0x7fff_ffff;
            nan = nan.wrapping_add(i32::from(magnitude > 0x7f80_0000));
            inf = inf.wrapping_add(i32::from(magnitude == 0x7f80_0000));
            zero = zero.wrapping_add(i32::from(magnitude == 0));
        }
        counts.add(Counts { elements: turn.len() as u64, nan: nan as u64, inf: inf as u64, zero: zero as u64 });
    }
}
