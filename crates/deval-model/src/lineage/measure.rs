//! Two tensors of equal shape, read side by side.

use std::iter::{self, Sum};
use std::ops::{Add, Range};

use deval_eval::Dice;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;

use super::source::TensorSource;
use super::{Options, TensorChange, spectrum};
use crate::ModelError;
use crate::weights::Tensor;

/// Elements of one piece.
const PIECE: u64 = 128 * 1024;

/// Elements of the shortest piece of a sample.
const SHORTEST: u64 = 4096;

/// Lanes of the sums.
const LANES: usize = 8;

/// One tensor of one model.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) source: &'a dyn TensorSource,
    pub(super) shard: usize,
    /// Where the data of the shard begins.
    pub(super) start: u64,
    pub(super) tensor: &'a Tensor,
}

/// A pair that is not identical.
pub(super) struct Measured {
    pub(super) change: TensorChange,
    pub(super) sums: Sums,
}

/// Sums over the elements of two tensors a and b with d = a − b; pairs with NaN or infinity are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) bb: f64,
    pub(super) dd: f64,
    pub(super) db: f64,
}

impl Side<'_> {
    pub(super) fn elements(&self) -> u64 {
        self.tensor.shape.iter().map(|dim| *dim as u64).product()
    }

    /// Bytes of one element; types of less than a byte are compared as bytes.
    fn width(&self) -> u64 {
        (self.tensor.dtype.bitsize() as u64 / 8).max(1)
    }

    fn bytes(&self, range: &Range<u64>, raw: &mut Vec<u8>) -> Result<(), ModelError> {
        raw.resize((range.end - range.start) as usize, 0);
        self.source.read(self.shard, self.start + self.tensor.begin + range.start, raw)
    }

    /// The values of some elements, in order.
    pub(super) fn values(&self, range: &Range<u64>, scratch: &mut Scratch) -> Result<(), ModelError> {
        let width = self.width();
        self.bytes(&(range.start * width..range.end * width), &mut scratch.raw)?;
        decode(self.tensor.dtype, &scratch.raw, &mut scratch.values);
        Ok(())
    }

    fn has_values(&self) -> bool {
        matches!(self.tensor.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32)
    }
}

/// Buffers of one side.
#[derive(Default)]
pub(super) struct Scratch {
    raw: Vec<u8>,
    pub(super) values: Vec<f32>,
}

fn decode(dtype: Dtype, raw: &[u8], values: &mut Vec<f32>) {
    values.clear();
    match dtype {
        Dtype::BF16 => {
            values.extend(raw.as_chunks().0.iter().map(|x| f32::from_bits(u32::from(u16::from_le_bytes(*x)) << 16)))
        }
        Dtype::F16 => {
            let halves: Vec<f16> = raw.as_chunks().0.iter().map(|x| f16::from_le_bytes(*x)).collect();
            values.resize(halves.len(), 0.0);
            halves.convert_to_f32_slice(values);
        }
        _ => values.extend(raw.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x))),
    }
}

/// All elements of a tensor.
pub(super) fn whole(side: &Side<'_>) -> Vec<Range<u64>> {
    iter::once(0..side.elements()).collect()
}

/// Compares two tensors of equal shape; identical ones give nothing.
pub(super) fn pair(a: &Side<'_>, b: &Side<'_>, options: Options) -> Result<Option<Measured>, ModelError> {
    let same_type = a.tensor.dtype == b.tensor.dtype;
    let ranges = ranges(a, options);
    if same_type && equal(a, b, &ranges)? {
        return Ok(None);
    }
    let mut change = TensorChange {
        name: a.tensor.name.clone(),
        shape: a.tensor.shape.clone(),
        dtype: a.tensor.dtype.to_string(),
        base_dtype: b.tensor.dtype.to_string(),
        bytes: a.tensor.bytes(),
        same_values: false,
        changed_share: 1.0,
        cosine: None,
        relative_change: None,
        drift: None,
        spectrum: None,
    };
    if !a.has_values() || !b.has_values() {
        return Ok(Some(Measured { change, sums: Sums::default() }));
    }
    let Scan { sums, changed, elements, rounded } = scan(a, b, &ranges)?;
    change.same_values = !same_type && rounded.contains(&true);
    change.changed_share = changed as f64 / elements.max(1) as f64;
    (change.cosine, change.relative_change, change.drift) = (sums.cosine(), sums.relative_change(), sums.drift());
    if !change.same_values {
        change.spectrum = spectrum::of_difference(a, b, options.seed)?;
    }
    Ok(Some(Measured { change, sums }))
}

/// Which elements are read: all, or as many pieces as the limit allows, spread by the seed.
fn ranges(side: &Side<'_>, options: Options) -> Vec<Range<u64>> {
    let elements = side.elements();
    let most = options.most_bytes.map_or(u64::MAX, |most| most / side.width());
    if elements <= most || side.tensor.dtype.bitsize() < 8 {
        return whole(side);
    }
    let piece = PIECE.min((most / 4).max(SHORTEST));
    let slots = (elements / piece).max(1);
    let mut slots = Dice::new(options.seed, 0).sample(slots as usize, (most / piece).max(1) as usize);
    slots.sort_unstable();
    slots.into_iter().map(|slot| slot as u64 * piece..((slot as u64 + 1) * piece).min(elements)).collect()
}

fn pieces(ranges: &[Range<u64>]) -> impl Iterator<Item = Range<u64>> {
    ranges.iter().flat_map(|range| {
        let starts = (range.start..range.end).step_by(PIECE as usize);
        starts.map(|from| from..(from + PIECE).min(range.end))
    })
}

/// Whether the bytes of these elements are equal; stops at the first difference. The element types are the same.
pub(super) fn equal(a: &Side<'_>, b: &Side<'_>, ranges: &[Range<u64>]) -> Result<bool, ModelError> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let width = a.width();
    let bytes: Vec<Range<u64>> = match ranges {
        // A type of less than a byte has fewer bytes than elements.
        [all] if all.end == a.elements() && all.start == 0 => iter::once(0..a.tensor.bytes()).collect(),
        some => some.iter().map(|range| range.start * width..range.end * width).collect(),
    };
    for piece in pieces(&bytes) {
        a.bytes(&piece, &mut left)?;
        b.bytes(&piece, &mut right)?;
        if left != right {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Scan {
    sums: Sums,
    changed: u64,
    elements: u64,
    /// Whether a rounded to the type of b is b, and the other way round.
    rounded: [bool; 2],
}

fn scan(a: &Side<'_>, b: &Side<'_>, ranges: &[Range<u64>]) -> Result<Scan, ModelError> {
    let (mut left, mut right) = (Scratch::default(), Scratch::default());
    let mut seen = Scan { sums: Sums::default(), changed: 0, elements: 0, rounded: [true; 2] };
    for piece in pieces(ranges) {
        a.values(&piece, &mut left)?;
        b.values(&piece, &mut right)?;
        let (x, y) = (&left.values, &right.values);
        seen.sums = seen.sums + sums(x, y);
        seen.changed += x.iter().zip(y).filter(|(x, y)| x != y).count() as u64;
        seen.elements += piece.end - piece.start;
        seen.rounded[0] = seen.rounded[0] && rounds_to(x, y, b.tensor.dtype);
        seen.rounded[1] = seen.rounded[1] && rounds_to(y, x, a.tensor.dtype);
    }
    Ok(seen)
}

/// Whether `fine`, rounded to the element type, is `coarse` to the bit.
fn rounds_to(fine: &[f32], coarse: &[f32], dtype: Dtype) -> bool {
    let round = |x: f32| match dtype {
        Dtype::F16 => f16::from_f32(x).to_f32(),
        Dtype::BF16 => bf16::from_f32(x).to_f32(),
        _ => x,
    };
    fine.iter().zip(coarse).all(|(x, y)| round(*x).to_bits() == y.to_bits())
}

fn sums(a: &[f32], b: &[f32]) -> Sums {
    let fast = lanes(a, b);
    if fast.bb.is_finite() && fast.dd.is_finite() {
        return fast;
    }
    let sound = a.iter().zip(b).filter(|(x, y)| x.is_finite() && y.is_finite());
    let (a, b): (Vec<f32>, Vec<f32>) = sound.map(|(x, y)| (*x, *y)).unzip();
    lanes(&a, &b)
}

/// The sums in lanes that a processor adds at once.
fn lanes(a: &[f32], b: &[f32]) -> Sums {
    let mut lanes = [[0f64; LANES]; 3];
    let [bb, dd, db] = &mut lanes;
    let mut add = |x: &[f32; LANES], y: &[f32; LANES]| {
        for lane in 0..LANES {
            let (x, y) = (f64::from(x[lane]), f64::from(y[lane]));
            let d = x - y;
            bb[lane] += y * y;
            dd[lane] += d * d;
            db[lane] += d * y;
        }
    };
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
    a.iter().zip(b).for_each(|(x, y)| add(x, y));
    let (mut x, mut y) = ([0.0; LANES], [0.0; LANES]);
    x[..a_rest.len()].copy_from_slice(a_rest);
    y[..b_rest.len()].copy_from_slice(b_rest);
    add(&x, &y);
    let [bb, dd, db] = lanes.map(|lane| lane.iter().sum());
    Sums { bb, dd, db }
}

impl Sums {
    /// Cosine of a and b. Of ‖a‖² and a·b only what d adds is computed, so that nothing cancels where d is small.
    pub(super) fn cosine(self) -> Option<f64> {
        let aa = self.bb + 2.0 * self.db + self.dd;
        finite((self.bb + self.db) / (aa * self.bb).sqrt()).map(|cosine| cosine.clamp(-1.0, 1.0))
    }

    pub(super) fn relative_change(self) -> Option<f64> {
        finite((self.dd / self.bb).sqrt())
    }

    fn drift(self) -> Option<f64> {
        finite(self.db / (self.dd * self.bb).sqrt()).map(|cosine| cosine.clamp(-1.0, 1.0))
    }
}

fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

impl Add for Sums {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bb: self.bb + other.bb, dd: self.dd + other.dd, db: self.db + other.db }
    }
}

impl Sum for Sums {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
