//! The vectors of x86-64 for the MD5 kernel: 8 lanes with AVX2, 16 with AVX-512, and two groups of those at once.
//!
//! The streams' blocks are loaded as they lie, 16 words of one stream, and turned by shuffles into one word of 16 streams:
//! a gather instruction would take several times as long.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_slli_epi32, _mm256_srli_epi32,
    _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
    _mm256_xor_si256, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::md5_kernel::{BLOCK_BYTES, LANES_MAX, Md5State, Vector, advance};

/// # Safety
/// The processor has AVX2, and the first 8 inputs are equally long, in whole blocks.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn avx2x8(states: &mut [Md5State; LANES_MAX], inputs: &[&[u8]; LANES_MAX]) {
    // SAFETY: the caller's word, and this function enables what the vector needs.
    unsafe { advance::<Avx2, 1>(states, inputs) }
}

/// # Safety
/// The processor has AVX-512F, and the first 16 inputs are equally long, in whole blocks.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn avx512x16(states: &mut [Md5State; LANES_MAX], inputs: &[&[u8]; LANES_MAX]) {
    // SAFETY: the caller's word, and this function enables what the vector needs.
    unsafe { advance::<Avx512, 1>(states, inputs) }
}

/// # Safety
/// The processor has AVX-512F, and all 32 inputs are equally long, in whole blocks.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn avx512x32(states: &mut [Md5State; LANES_MAX], inputs: &[&[u8]; LANES_MAX]) {
    // SAFETY: the caller's word, and this function enables what the vector needs.
    unsafe { advance::<Avx512, 2>(states, inputs) }
}

#[derive(Clone, Copy)]
struct Avx512(__m512i);

/// Truth tables for `vpternlogd`: bit `4x + 2y + z` is the function's value.
const F: i32 = 0xCA;
const G: i32 = 0xE4;
const H: i32 = 0x96;
const I: i32 = 0x39;

impl Vector for Avx512 {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: the caller has AVX-512F; so below, in every function without pointers.
        Avx512(unsafe { _mm512_set1_epi32(word as i32) })
    }

    #[inline(always)]
    unsafe fn gather(words: &[u32; 16]) -> Self {
        // SAFETY: 16 words are 64 bytes, and the load needs no alignment.
        Avx512(unsafe { _mm512_loadu_si512(words.as_ptr().cast()) })
    }

    #[inline(always)]
    unsafe fn scatter(self) -> [u32; 16] {
        let mut words = [0; 16];
        // SAFETY: 16 words are 64 bytes, and the store needs no alignment.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), self.0) };
        words
    }

    #[inline(always)]
    unsafe fn load(inputs: &[&[u8]], offset_bytes: usize) -> [Self; 16] {
        assert_eq!(inputs.len(), Self::LANES);
        // SAFETY: every input has a block of 64 bytes at the offset (the caller's word), and the load needs no alignment.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); 16];
            for lane in 0..16 {
                debug_assert!(offset_bytes + BLOCK_BYTES <= inputs[lane].len());
                rows[lane] = _mm512_loadu_si512(inputs[lane].as_ptr().add(offset_bytes).cast());
            }
            // Within each group of four streams and each quarter of the block: quads[4 * group + n] has, in its quarter q,
            // word 4q + n of the four.
            let mut quads = [_mm512_setzero_si512(); 16];
            for group in 0..4 {
                let low = _mm512_unpacklo_epi32(rows[4 * group], rows[4 * group + 1]);
                let high = _mm512_unpackhi_epi32(rows[4 * group], rows[4 * group + 1]);
                let low2 = _mm512_unpacklo_epi32(rows[4 * group + 2], rows[4 * group + 3]);
                let high2 = _mm512_unpackhi_epi32(rows[4 * group + 2], rows[4 * group + 3]);
                quads[4 * group] = _mm512_unpacklo_epi64(low, low2);
                quads[4 * group + 1] = _mm512_unpackhi_epi64(low, low2);
                quads[4 * group + 2] = _mm512_unpacklo_epi64(high, high2);
                quads[4 * group + 3] = _mm512_unpackhi_epi64(high, high2);
            }
            // Then the quarters of the four groups are put side by side.
            let mut words = [Avx512(_mm512_setzero_si512()); 16];
            for n in 0..4 {
                let first = _mm512_shuffle_i32x4::<0x44>(quads[n], quads[4 + n]);
                let last = _mm512_shuffle_i32x4::<0xEE>(quads[n], quads[4 + n]);
                let first2 = _mm512_shuffle_i32x4::<0x44>(quads[8 + n], quads[12 + n]);
                let last2 = _mm512_shuffle_i32x4::<0xEE>(quads[8 + n], quads[12 + n]);
                words[n] = Avx512(_mm512_shuffle_i32x4::<0x88>(first, first2));
                words[4 + n] = Avx512(_mm512_shuffle_i32x4::<0xDD>(first, first2));
                words[8 + n] = Avx512(_mm512_shuffle_i32x4::<0x88>(last, last2));
                words[12 + n] = Avx512(_mm512_shuffle_i32x4::<0xDD>(last, last2));
            }
            words
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as in `splat`.
        Avx512(unsafe { _mm512_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
        // SAFETY: as in `splat`.
        Avx512(unsafe { _mm512_rol_epi32::<LEFT>(self.0) })
    }

    #[inline(always)]
    unsafe fn f(x: Self, y: Self, z: Self) -> Self {
        // SAFETY: as in `splat`.
        Avx512(unsafe { _mm512_ternarylogic_epi32::<F>(x.0, y.0, z.0) })
    }

    #[inline(always)]
    unsafe fn g(x: Self, y: Self, z: Self) -> Self {
        // SAFETY: as in `splat`.
        Avx512(unsafe { _mm512_ternarylogic_epi32::<G>(x.0, y.0, z.0) })
    }

    #[inline(always)]
    unsafe fn h(x: Self, y: Self, z: Self) -> Self {
        // SAFETY: as in `splat`.
        Avx512(unsafe { _mm512_ternarylogic_epi32::<H>(x.0, y.0, z.0) })
    }

    #[inline(always)]
    unsafe fn i(x: Self, y: Self, z: Self) -> Self {
        // SAFETY: as in `splat`.
        Avx512(unsafe { _mm512_ternarylogic_epi32::<I>(x.0, y.0, z.0) })
    }
}

#[derive(Clone, Copy)]
struct Avx2(__m256i);

impl Vector for Avx2 {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: the caller has AVX2; so below, in every function without pointers.
        Avx2(unsafe { _mm256_set1_epi32(word as i32) })
    }

    #[inline(always)]
    unsafe fn gather(words: &[u32; 16]) -> Self {
        // SAFETY: the first 8 words are 32 bytes, and the load needs no alignment.
        Avx2(unsafe { _mm256_loadu_si256(words.as_ptr().cast()) })
    }

    #[inline(always)]
    unsafe fn scatter(self) -> [u32; 16] {
        let mut words = [0; 16];
        // SAFETY: the first 8 words are 32 bytes, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), self.0) };
        words
    }

    #[inline(always)]
    unsafe fn load(inputs: &[&[u8]], offset_bytes: usize) -> [Self; 16] {
        assert_eq!(inputs.len(), Self::LANES);
        // SAFETY: every input has a block of 64 bytes at the offset (the caller's word), half of it is 32, and the load
        // needs no alignment.
        unsafe {
            let mut words = [Avx2(_mm256_setzero_si256()); 16];
            for half in 0..2 {
                let mut rows = [_mm256_setzero_si256(); 8];
                for lane in 0..8 {
                    debug_assert!(offset_bytes + BLOCK_BYTES <= inputs[lane].len());
                    rows[lane] = _mm256_loadu_si256(inputs[lane].as_ptr().add(offset_bytes + 32 * half).cast());
                }
                // quads[4 * group + n] has, in its half h, word 4h + n of the group's four streams.
                let mut quads = [_mm256_setzero_si256(); 8];
                for group in 0..2 {
                    let low = _mm256_unpacklo_epi32(rows[4 * group], rows[4 * group + 1]);
                    let high = _mm256_unpackhi_epi32(rows[4 * group], rows[4 * group + 1]);
                    let low2 = _mm256_unpacklo_epi32(rows[4 * group + 2], rows[4 * group + 3]);
                    let high2 = _mm256_unpackhi_epi32(rows[4 * group + 2], rows[4 * group + 3]);
                    quads[4 * group] = _mm256_unpacklo_epi64(low, low2);
                    quads[4 * group + 1] = _mm256_unpackhi_epi64(low, low2);
                    quads[4 * group + 2] = _mm256_unpacklo_epi64(high, high2);
                    quads[4 * group + 3] = _mm256_unpackhi_epi64(high, high2);
                }
                for n in 0..4 {
                    words[8 * half + n] = Avx2(_mm256_permute2x128_si256::<0x20>(quads[n], quads[4 + n]));
                    words[8 * half + 4 + n] = Avx2(_mm256_permute2x128_si256::<0x31>(quads[n], quads[4 + n]));
                }
            }
            words
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as in `splat`.
        Avx2(unsafe { _mm256_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
        // SAFETY: as in `splat`.
        unsafe { Avx2(_mm256_or_si256(_mm256_slli_epi32::<LEFT>(self.0), _mm256_srli_epi32::<RIGHT>(self.0))) }
    }

    #[inline(always)]
    unsafe fn f(x: Self, y: Self, z: Self) -> Self {
        // SAFETY: as in `splat`. `z ^ (x & (y ^ z))` is `x & y | !x & z` with one operation less.
        Avx2(unsafe { _mm256_xor_si256(z.0, _mm256_and_si256(x.0, _mm256_xor_si256(y.0, z.0))) })
    }

    #[inline(always)]
    unsafe fn g(x: Self, y: Self, z: Self) -> Self {
        // SAFETY: as in `splat`, and `f` with z choosing.
        unsafe { Self::f(z, x, y) }
    }

    #[inline(always)]
    unsafe fn h(x: Self, y: Self, z: Self) -> Self {
        // SAFETY: as in `splat`.
        Avx2(unsafe { _mm256_xor_si256(_mm256_xor_si256(x.0, y.0), z.0) })
    }

    #[inline(always)]
    unsafe fn i(x: Self, y: Self, z: Self) -> Self {
        // SAFETY: as in `splat`. There is no `or` with a complement, so all bits are flipped first.
        unsafe {
            let not_z = _mm256_xor_si256(z.0, _mm256_set1_epi32(-1));
            Avx2(_mm256_xor_si256(y.0, _mm256_or_si256(x.0, not_z)))
        }
    }
}
