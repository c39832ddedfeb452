//! SHA-256 of the model and of a file beside it, at the same time.
//!
//! One SHA-256 keeps a processor with SHA instructions waiting for itself: each step needs the one before. A second one in between
//! costs a third of one alone.

use sha2::block_api::compress256;

/// Bytes that are compressed at once.
const BLOCK: usize = 64;

type Blocks<'a> = &'a [[u8; BLOCK]];

/// FIPS 180-4, 5.3.3.
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// One SHA-256.
#[derive(Clone)]
pub(super) struct Stream {
    state: [u32; 8],
    /// Bytes that do not make a block yet.
    pending: Vec<u8>,
    length: u64,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self { state: START, pending: Vec::with_capacity(BLOCK), length: 0 }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let (blocks, tail) = self.top_up(bytes).as_chunks();
        compress256(&mut self.state, blocks);
        self.pending.extend(tail);
    }

    /// The digest of what came so far, in lower-case hexadecimal.
    pub(super) fn hex(&self) -> String {
        let mut end = self.clone();
        end.pending.push(0x80);
        let padded = (end.pending.len() + 8).next_multiple_of(BLOCK);
        end.pending.resize(padded - 8, 0);
        end.pending.extend((self.length * 8).to_be_bytes());
        compress256(&mut end.state, end.pending.as_chunks().0);
        end.state.iter().map(|word| format!("{word:08x}")).collect()
    }

    /// Completes a block that was begun; the bytes that are left.
    fn top_up<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.length += bytes.len() as u64;
        if self.pending.is_empty() {
            return bytes;
        }
        let (mine, rest) = bytes.split_at((BLOCK - self.pending.len()).min(bytes.len()));
        self.pending.extend(mine);
        let full = self.pending.as_chunks().0;
        if !full.is_empty() {
            compress256(&mut self.state, full);
            self.pending.clear();
        }
        rest
    }
}

/// Gives each of two streams its bytes.
pub(super) fn update_both(a: &mut Stream, a_bytes: &[u8], b: &mut Stream, b_bytes: &[u8]) {
    let (a_blocks, a_tail) = a.top_up(a_bytes).as_chunks();
    let (b_blocks, b_tail) = b.top_up(b_bytes).as_chunks();
    let both = a_blocks.len().min(b_blocks.len());
    compress_both(&mut a.state, &a_blocks[..both], &mut b.state, &b_blocks[..both]);
    compress256(&mut a.state, &a_blocks[both..]);
    compress256(&mut b.state, &b_blocks[both..]);
    a.pending.extend(a_tail);
    b.pending.extend(b_tail);
}

/// Compresses as many blocks into one state as into the other.
fn compress_both(a: &mut [u32; 8], a_blocks: Blocks<'_>, b: &mut [u32; 8], b_blocks: Blocks<'_>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") {
        #[expect(unsafe_code, reason = "the function is safe where the processor has what was just asked for")]
        return unsafe { x86::compress_both(a, a_blocks, b, b_blocks) };
    }
    compress256(a, a_blocks);
    compress256(b, b_blocks);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::{BLOCK, Blocks};

    /// The round constants (FIPS 180-4, 4.2.2), four for each double step, in quarters.
    const ROUNDS: [[[u32; 4]; 4]; 4] = [
        [
            [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
            [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
            [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
            [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        ],
        [
            [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
            [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
            [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
            [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        ],
        [
            [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
            [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
            [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
            [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        ],
        [
            [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
            [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
            [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
            [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
        ],
    ];

    /// One SHA-256 in registers: the state as the instructions want it, and the last 16 words of the schedule.
    struct Lane {
        abef: __m128i,
        cdgh: __m128i,
        words: [__m128i; 4],
    }

    impl Lane {
        #[inline]
        #[target_feature(enable = "sha,sse4.1")]
        fn new([a, b, c, d, e, f, g, h]: [u32; 8]) -> Self {
            Self { abef: vector([f, e, b, a]), cdgh: vector([h, g, d, c]), words: [vector([0; 4]); 4] }
        }

        #[inline]
        #[target_feature(enable = "sha,sse4.1")]
        fn state(&self) -> [u32; 8] {
            let ([f, e, b, a], [h, g, d, c]) = (numbers(self.abef), numbers(self.cdgh));
            [a, b, c, d, e, f, g, h]
        }

        #[inline]
        #[target_feature(enable = "sha,sse4.1")]
        fn load(&mut self, block: &[u8; BLOCK]) {
            let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
            let (quarters, _) = block.as_chunks::<8>();
            for at in 0..4 {
                let half = |at: usize| i64::from_le_bytes(quarters[at]);
                self.words[at] = _mm_shuffle_epi8(_mm_set_epi64x(half(2 * at + 1), half(2 * at)), big_endian);
            }
        }

        /// Four rounds with the words at this place.
        #[inline]
        #[target_feature(enable = "sha,sse4.1")]
        fn rounds(&mut self, at: usize, constants: __m128i) {
            let sum = _mm_add_epi32(self.words[at], constants);
            self.cdgh = _mm_sha256rnds2_epu32(self.cdgh, self.abef, sum);
            self.abef = _mm_sha256rnds2_epu32(self.abef, self.cdgh, _mm_shuffle_epi32::<0x0e>(sum));
        }

        /// The next four words take the place of the oldest, which are at this place.
        #[inline]
        #[target_feature(enable = "sha,sse4.1")]
        fn schedule(&mut self, at: usize) {
            let word = |back: usize| self.words[(at + 4 - back) % 4];
            let older = _mm_sha256msg1_epu32(word(4), word(3));
            let sum = _mm_add_epi32(older, _mm_alignr_epi8::<4>(word(1), word(2)));
            self.words[at] = _mm_sha256msg2_epu32(sum, word(1));
        }
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1")]
    fn vector([a, b, c, d]: [u32; 4]) -> __m128i {
        _mm_set_epi32(d as i32, c as i32, b as i32, a as i32)
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1")]
    fn numbers(x: __m128i) -> [u32; 4] {
        [_mm_extract_epi32::<0>(x), _mm_extract_epi32::<1>(x), _mm_extract_epi32::<2>(x), _mm_extract_epi32::<3>(x)]
            .map(|x| x as u32)
    }

    #[target_feature(enable = "sha,sse4.1")]
    pub(super) fn compress_both(a: &mut [u32; 8], a_blocks: Blocks<'_>, b: &mut [u32; 8], b_blocks: Blocks<'_>) {
        let mut lanes = [Lane::new(*a), Lane::new(*b)];
        for (x, y) in a_blocks.iter().zip(b_blocks) {
            let before = [0, 1].map(|lane: usize| (lanes[lane].abef, lanes[lane].cdgh));
            lanes[0].load(x);
            lanes[1].load(y);
            // Written out, so that all words stay in registers.
            let (first, others) = ROUNDS.split_first().expect("the rounds come in four quarters");
            let [lane_a, lane_b] = &mut lanes;
            for (at, constants) in first.iter().enumerate() {
                let constants = vector(*constants);
                lane_a.rounds(at, constants);
                lane_b.rounds(at, constants);
            }
            for quarter in others {
                for (at, constants) in quarter.iter().enumerate() {
                    let constants = vector(*constants);
                    lane_a.schedule(at);
                    lane_b.schedule(at);
                    lane_a.rounds(at, constants);
                    lane_b.rounds(at, constants);
                }
            }
            for (lane, (abef, cdgh)) in lanes.iter_mut().zip(before) {
                lane.abef = _mm_add_epi32(lane.abef, abef);
                lane.cdgh = _mm_add_epi32(lane.cdgh, cdgh);
            }
        }
        (*a, *b) = (lanes[0].state(), lanes[1].state());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    fn sha256(bytes: &[u8]) -> String {
        hex::encode(Sha256::digest(bytes))
    }

    #[test]
    fn every_length_around_a_block_agrees() {
        let bytes: Vec<u8> = (0..400).map(|i| (i * 7 % 251) as u8).collect();
        for length in 0..bytes.len() {
            let mut stream = Stream::new();
            stream.update(&bytes[..length]);
            assert_eq!(stream.hex(), sha256(&bytes[..length]), "{length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn two_streams_that_began_apart_agree_with_two_digests(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..8),
            before in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let (mut a, mut b) = (Stream::new(), Stream::new());
            a.update(&before);
            pieces.iter().for_each(|piece| update_both(&mut a, piece, &mut b, piece));
            let together = pieces.concat();
            prop_assert_eq!(b.hex(), sha256(&together));
            prop_assert_eq!(a.hex(), sha256(&[before, together].concat()));
        }
    }
}
