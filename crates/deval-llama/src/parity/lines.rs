//! Lines of mixed Unicode.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Where letters come from: first and last of a range.
const RANGES: [(u32, u32); 34] = [
    (0x20, 0x7e),
    (0x61, 0x7a),
    (0x30, 0x39),
    (0xa0, 0x24f),
    (0x250, 0x36f),
    (0x370, 0x3ff),
    (0x400, 0x52f),
    (0x590, 0x5ff),
    (0x600, 0x6ff),
    (0x900, 0x97f),
    (0xe00, 0xe7f),
    (0x10a0, 0x10ff),
    (0x1100, 0x11ff),
    (0x1e00, 0x1fff),
    (0x2000, 0x206f),
    (0x2070, 0x20cf),
    (0x2100, 0x218f),
    (0x2190, 0x23ff),
    (0x2460, 0x24ff),
    (0x2500, 0x27bf),
    (0x3000, 0x30ff),
    (0x4e00, 0x9fff),
    (0xac00, 0xd7a3),
    (0xe000, 0xe0ff),
    (0xf900, 0xfaff),
    (0xfe00, 0xfe0f),
    (0xff00, 0xffef),
    (0xfffd, 0xffff),
    (0x1d400, 0x1d7ff),
    (0x1f1e6, 0x1f1ff),
    (0x1f300, 0x1f6ff),
    (0x1f3fb, 0x1f3ff),
    (0x20000, 0x20100),
    (0x10fff0, 0x10ffff),
];

const PIECES: [&str; 43] = [
    " ",
    "  ",
    "   ",
    "\t",
    "\r\n",
    "\n\n",
    " \n ",
    "\u{a0}",
    "\u{3000}",
    "\u{2028}",
    "\u{85}",
    "\u{1c}",
    "\u{0}",
    "\u{feff}",
    "\u{200b}",
    "\u{200d}",
    "the ",
    "The",
    "committee ",
    "don't",
    "I'LL",
    "we've",
    " 's",
    " .",
    " n't ?",
    "'s",
    "1234567890",
    "3.14",
    "-1,000.00",
    "½",
    "Ⅻ",
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<unk>",
    "▁",
    "👩\u{200d}🚀",
    "e\u{301}",
    "http://a.b/c?d=e&f",
    "snake_case camelCase",
];

/// The same lines for the same number.
pub(super) fn lines(count: usize) -> Vec<String> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    (0..count).map(|_| line(&mut random)).collect()
}

fn line(random: &mut ChaCha8Rng) -> String {
    let mut text = String::new();
    for _ in 0..random.random_range(0..14) {
        if random.random::<f32>() < 0.45 {
            text += PIECES[random.random_range(0..PIECES.len())];
            continue;
        }
        let (first, last) = RANGES[random.random_range(0..RANGES.len())];
        for _ in 0..random.random_range(1..7) {
            text.extend(char::from_u32(random.random_range(first..=last)));
        }
    }
    text
}
