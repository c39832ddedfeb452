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

/// The most that rounding to 16 bits changes a tensor, relative to its length: half a unit of BF16's seven digits.
const COARSEST: f64 = 1.0 / 256.0;

/// A difference that points this much along the base is a factor, whatever the rest is.
const ALONG: f64 = 0.99;

/// Of fewer elements a factor says nothing.
const FEWEST: u64 = 8;

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

    /// Whether all elements lie in these ranges.
    pub(super) fn is_whole(&self, ranges: &[Range<u64>]) -> bool {
        matches!(ranges, [all] if all.start == 0 && all.end == self.elements())
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

    pub(super) fn has_values(&self) -> bool {
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
fn whole(side: &Side<'_>) -> Vec<Range<u64>> {
    iter::once(0..side.elements()).collect()
}

/// Compares two tensors of equal shape; identical ones give nothing.
pub(super) fn pair(a: &Side<'_>, b: &Side<'_>, options: Options) -> Result<Option<Measured>, ModelError> {
    let same_type = a.tensor.dtype == b.tensor.dtype;
    let ranges = ranges(a, options);
    if in_the_same_file(a, b) || same_type && equal(a, b, &ranges)? {
        return Ok(None);
    }
    let mut change = TensorChange {
        name: a.tensor.name.clone(),
        shape: a.tensor.shape.clone(),
        dtype: a.tensor.dtype.to_string(),
        base_dtype: b.tensor.dtype.to_string(),
        bytes: a.tensor.bytes(),
        same_values: false,
        factor: None,
        permuted: false,
        moved_rows: None,
        not_finite: 0,
        changed_share: 1.0,
        cosine: None,
        relative_change: None,
        drift: None,
        spectrum: None,
    };
    if !a.has_values() || !b.has_values() {
        return Ok(Some(Measured { change, sums: Sums::default() }));
    }
    let Scan { sums, changed, elements, rounded, bags, factors, not_finite } = scan(a, b, &ranges)?;
    change.not_finite = not_finite;
    change.same_values = rounded.contains(&true);
    change.changed_share = changed as f64 / elements.max(1) as f64;
    (change.cosine, change.relative_change, change.drift) = (sums.cosine(), sums.relative_change(), sums.drift());
    if !change.same_values {
        change.permuted = a.is_whole(&ranges) && bags[0] == bags[1];
        change.factor = factor(elements, factors, sums);
    }
    if !change.is_copy() {
        change.spectrum = spectrum::of_difference(a, b, options)?;
    }
    Ok(Some(Measured { change, sums }))
}

/// Whether both lie at the same place of files with the same digest, so that nothing has to be read.
pub(super) fn in_the_same_file(a: &Side<'_>, b: &Side<'_>) -> bool {
    let digests = (a.source.sha256(a.shard), b.source.sha256(b.shard));
    matches!(digests, (Some(a), Some(b)) if a == b) && a.tensor == b.tensor
}

/// Which elements are read: all, or as many pieces as the limit allows, spread by the seed.
pub(super) fn ranges(side: &Side<'_>, options: Options) -> Vec<Range<u64>> {
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
    let bytes: Vec<Range<u64>> = if a.is_whole(ranges) {
        // A type of less than a byte has fewer bytes than elements.
        iter::once(0..a.tensor.bytes()).collect()
    } else {
        ranges.iter().map(|range| range.start * width..range.end * width).collect()
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
    /// Elements of a that are NaN or infinite.
    not_finite: u64,
    /// Whether b is a rounded to b's type, and a is b rounded to a's, straight or by way of 16 bits, or cut to 16 bits.
    rounded: [bool; 5],
    factors: Factors,
    /// Of a and of b.
    bags: [Bag; 2],
}

/// Values without their order: sums over their bits, which only the same values give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bag {
    sum: u64,
    squares: u64,
}

impl Bag {
    pub(super) fn add(&mut self, values: &[f32]) {
        for value in values {
            // The halves change places, because 16-bit values have nothing in the lower one.
            let bits = u64::from(value.to_bits().rotate_left(16));
            self.sum = self.sum.wrapping_add(bits);
            self.squares = self.squares.wrapping_add(bits * bits);
        }
    }
}

fn scan(a: &Side<'_>, b: &Side<'_>, ranges: &[Range<u64>]) -> Result<Scan, ModelError> {
    let (mut left, mut right) = (Scratch::default(), Scratch::default());
    let mut seen = Scan {
        sums: Sums::default(),
        changed: 0,
        elements: 0,
        not_finite: 0,
        rounded: [true; 5],
        factors: Factors::ANY,
        bags: [Bag::default(); 2],
    };
    let (a_type, b_type) = (a.tensor.dtype, b.tensor.dtype);
    for piece in pieces(ranges) {
        a.values(&piece, &mut left)?;
        b.values(&piece, &mut right)?;
        let (x, y) = (&left.values, &right.values);
        seen.sums = seen.sums + sums(x, y);
        seen.changed += x.iter().zip(y).filter(|(x, y)| x != y).count() as u64;
        seen.elements += piece.end - piece.start;
        seen.not_finite += x.iter().filter(|x| !x.is_finite()).count() as u64;
        let [to_b, to_a, by_bf16, by_f16, cut] = &mut seen.rounded;
        *to_b = *to_b && is_rounded(x, y, |x| round(x, b_type));
        *to_a = *to_a && is_rounded(y, x, |y| round(y, a_type));
        *by_bf16 = *by_bf16 && is_rounded(y, x, |y| round(round(y, Dtype::BF16), a_type));
        *by_f16 = *by_f16 && is_rounded(y, x, |y| round(round(y, Dtype::F16), a_type));
        *cut = *cut && is_rounded(y, x, |y| f32::from_bits(y.to_bits() & 0xffff_0000));
        seen.factors = seen.factors.narrow(x, y, a_type);
        if a_type == b_type {
            seen.bags[0].add(x);
            seen.bags[1].add(y);
        } else {
            // In the coarsest type, so that a conversion hides nothing.
            let coarse = |values: &[f32]| values.iter().map(|x| round(*x, Dtype::BF16)).collect::<Vec<_>>();
            seen.bags[0].add(&coarse(x));
            seen.bags[1].add(&coarse(y));
        }
    }
    Ok(seen)
}

/// Whether `fine`, rounded, is `coarse` to the bit.
fn is_rounded(fine: &[f32], coarse: &[f32], round: impl Fn(f32) -> f32) -> bool {
    fine.iter().zip(coarse).all(|(x, y)| round(*x).to_bits() == y.to_bits())
}

pub(super) fn round(x: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F16 => f16::from_f32(x).to_f32(),
        Dtype::BF16 => bf16::from_f32(x).to_f32(),
        _ => x,
    }
}

/// The numbers by which each element of b may have been multiplied to get that of a, rounded.
#[derive(Debug, Clone, Copy)]
struct Factors {
    least: f64,
    most: f64,
}

impl Factors {
    const ANY: Self = Self { least: f64::NEG_INFINITY, most: f64::INFINITY };
    const NONE: Self = Self { least: f64::INFINITY, most: f64::NEG_INFINITY };

    fn exist(self) -> bool {
        self.least <= self.most
    }

    /// What is left of them with further elements; stops when nothing is. Training leaves nothing after a few elements: in 16 bits it
    /// moves some by a whole unit and others not at all, in 32 bits all by more than rounding.
    fn narrow(mut self, a: &[f32], b: &[f32], dtype: Dtype) -> Self {
        let sixteen = dtype == Dtype::F32 && a.iter().all(|x| x.to_bits() & 0xffff == 0);
        let dtype = if sixteen { Dtype::BF16 } else { dtype };
        for (x, y) in a.iter().zip(b) {
            if !self.exist() {
                break;
            }
            self = self.with(*x, *y, dtype);
        }
        self
    }

    fn with(self, x: f32, y: f32, dtype: Dtype) -> Self {
        if x == y && (y == 0.0 || y.is_infinite()) {
            return self;
        }
        if y == 0.0 || !x.is_finite() || !y.is_finite() {
            return Self::NONE;
        }
        // Half a unit is rounding; the product may have been rounded to 32 bits before.
        let room = 0.501 * spectrum::unit(x, dtype);
        let ends = [-room, room].map(|room| (f64::from(x) + room) / f64::from(y));
        Self { least: self.least.max(ends[0].min(ends[1])), most: self.most.min(ends[0].max(ends[1])) }
    }
}

/// The one number by which b was multiplied to get a, if that and rounding explain all of the difference.
fn factor(elements: u64, factors: Factors, sums: Sums) -> Option<f64> {
    if elements < FEWEST {
        return None;
    }
    if factors.exist() {
        return finite((factors.least + factors.most) / 2.0);
    }
    let rest = ((sums.dd - sums.db * sums.db / sums.bb).max(0.0) / sums.aa()).sqrt();
    let along = sums.drift().is_some_and(|drift| drift.abs() >= ALONG);
    (along && rest <= COARSEST).then(|| 1.0 + sums.db / sums.bb)
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
        finite((self.bb + self.db) / (self.aa() * self.bb).sqrt()).map(|cosine| cosine.clamp(-1.0, 1.0))
    }

    fn aa(self) -> f64 {
        self.bb + 2.0 * self.db + self.dd
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
