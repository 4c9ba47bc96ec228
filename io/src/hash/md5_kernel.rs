//! MD5's compression function (RFC 1321 §3.4) over the lanes of a vector: lane n of every vector belongs to stream n, so
//! that one instruction takes a step of all streams. The code is written once, over [`Vector`]; the processor's vectors are
//! in `md5_simd`, and the tests have one that is a plain array, which any machine and Miri can run.

#[cfg(target_arch = "x86_64")]
use super::md5_simd;

/// MD5 between two blocks: the words A, B, C and D of RFC 1321.
pub type Md5State = [u32; 4];

/// MD5 before its first block.
pub(super) const START: Md5State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// What one compression takes in.
pub(super) const BLOCK_BYTES: usize = 64;

/// Lanes of the widest kernel.
pub(super) const LANES_MAX: usize = 32;

/// A way to advance several streams at once that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Which);

/// Built only where the processor has what it needs, which is what makes [`Kernel::advance`] safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2x8,
    #[cfg(target_arch = "x86_64")]
    Avx512x16,
    #[cfg(target_arch = "x86_64")]
    Avx512x32,
}

impl Kernel {
    /// One stream at a time. Every machine has it.
    pub const SCALAR: Kernel = Kernel(Which::Scalar);

    /// The kernels of this machine, the narrowest first; the first one is [`Kernel::SCALAR`].
    pub fn of_this_machine() -> Vec<Kernel> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "more is added on x86-64 alone"))]
        let mut kernels = vec![Kernel::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                kernels.push(Kernel(Which::Avx2x8));
            }
            if is_x86_feature_detected!("avx512f") {
                kernels.extend([Kernel(Which::Avx512x16), Kernel(Which::Avx512x32)]);
            }
        }
        kernels
    }

    /// How many streams it advances at once.
    pub fn width(self) -> usize {
        match self.0 {
            Which::Scalar => 1,
            #[cfg(target_arch = "x86_64")]
            Which::Avx2x8 => 8,
            #[cfg(target_arch = "x86_64")]
            Which::Avx512x16 => 16,
            #[cfg(target_arch = "x86_64")]
            Which::Avx512x32 => 32,
        }
    }

    /// From how many streams on it is quicker than the next narrower kernel, its other lanes idle. A block takes the scalar
    /// kernel 87 ns, 8 lanes of AVX2 190 ns, 16 of AVX-512 160 ns and 32 of them 190 ns (performance.md §4.1).
    pub(super) fn streams_min(self) -> usize {
        match self.0 {
            Which::Scalar => 1,
            #[cfg(target_arch = "x86_64")]
            Which::Avx2x8 => 3,
            #[cfg(target_arch = "x86_64")]
            Which::Avx512x16 => 2,
            #[cfg(target_arch = "x86_64")]
            Which::Avx512x32 => 20,
        }
    }

    /// Takes all of `inputs[n]` into `states[n]`.
    ///
    /// # Panics
    /// When there are more streams than the kernel is wide or not as many states as inputs, or when the inputs are not
    /// equally long whole blocks.
    pub fn advance(self, states: &mut [Md5State], inputs: &[&[u8]]) {
        assert!((1..=self.width()).contains(&inputs.len()) && states.len() == inputs.len());
        let len_bytes = inputs[0].len();
        assert!(len_bytes.is_multiple_of(BLOCK_BYTES) && inputs.iter().all(|input| input.len() == len_bytes));
        if self == Kernel::SCALAR {
            return compress_one(&mut states[0], inputs[0]);
        }
        // An idle lane follows the first stream, and what it makes of it is thrown away.
        let (mut all_states, mut all_inputs) = ([START; LANES_MAX], [inputs[0]; LANES_MAX]);
        all_states[..states.len()].copy_from_slice(states);
        all_inputs[..inputs.len()].copy_from_slice(inputs);
        match self.0 {
            Which::Scalar => unreachable!("taken above"),
            // SAFETY: this value exists only where `of_this_machine` found AVX2; every one of the 8 inputs has the same
            // number of whole blocks, checked above.
            #[cfg(target_arch = "x86_64")]
            Which::Avx2x8 => unsafe { md5_simd::avx2x8(&mut all_states, &all_inputs) },
            // SAFETY: as above, with AVX-512F and 16 inputs.
            #[cfg(target_arch = "x86_64")]
            Which::Avx512x16 => unsafe { md5_simd::avx512x16(&mut all_states, &all_inputs) },
            // SAFETY: as above, with AVX-512F and 32 inputs.
            #[cfg(target_arch = "x86_64")]
            Which::Avx512x32 => unsafe { md5_simd::avx512x32(&mut all_states, &all_inputs) },
        }
        states.copy_from_slice(&all_states[..states.len()]);
    }
}

/// Takes whole blocks into one state.
pub(super) fn compress_one(state: &mut Md5State, input: &[u8]) {
    let (blocks, rest) = input.as_chunks::<BLOCK_BYTES>();
    assert!(rest.is_empty(), "whole blocks alone are compressed");
    md5::block_api::compress(state, blocks);
}

/// The digest of a state, as bytes.
pub(super) fn digest(state: &Md5State) -> [u8; 16] {
    let mut digest = [0; 16];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

/// One 32-bit word of each of `LANES` streams.
///
/// # Safety
/// Each function may be called only where the processor has the instructions that its implementation uses. It must be
/// inlined into a function that enables them: each is `inline(always)`.
pub(super) trait Vector: Copy {
    /// At most 16.
    const LANES: usize;
    unsafe fn splat(word: u32) -> Self;
    /// The first `LANES` of these words.
    unsafe fn gather(words: &[u32; 16]) -> Self;
    /// The words of the lanes; zeros behind them.
    unsafe fn scatter(self) -> [u32; 16];
    /// The 16 words of one block of each stream: vector n has the streams' n-th words. Every input must have
    /// [`BLOCK_BYTES`] from `offset_bytes` on.
    unsafe fn load(inputs: &[&[u8]], offset_bytes: usize) -> [Self; 16];
    unsafe fn add(self, other: Self) -> Self;
    /// Rotates each word left by `LEFT` bits; `RIGHT` is `32 - LEFT`, for processors that must shift twice.
    unsafe fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self;
    /// `x & y | !x & z`
    unsafe fn f(x: Self, y: Self, z: Self) -> Self;
    /// `x & z | y & !z`
    unsafe fn g(x: Self, y: Self, z: Self) -> Self;
    /// `x ^ y ^ z`
    unsafe fn h(x: Self, y: Self, z: Self) -> Self;
    /// `y ^ (x | !z)`
    unsafe fn i(x: Self, y: Self, z: Self) -> Self;
}

/// Advances `GROUPS` vectors of streams by all blocks of their inputs. Several groups fill the processor's pipes while each
/// waits for its own chain.
///
/// # Safety
/// As [`Vector`]; and the first `GROUPS * LANES` inputs are equally long, in whole blocks.
#[inline(always)]
pub(super) unsafe fn advance<V: Vector, const GROUPS: usize>(states: &mut [Md5State], inputs: &[&[u8]]) {
    let lanes = GROUPS * V::LANES;
    let (states, inputs) = (&mut states[..lanes], &inputs[..lanes]);
    // SAFETY: the caller has the instructions; the offsets stay below the length that all inputs have, a whole block before
    // its end.
    unsafe {
        let mut state = [[V::splat(0); GROUPS]; 4];
        for word in 0..4 {
            for group in 0..GROUPS {
                let mut words = [0; 16];
                for lane in 0..V::LANES {
                    words[lane] = states[group * V::LANES + lane][word];
                }
                state[word][group] = V::gather(&words);
            }
        }
        for offset_bytes in (0..inputs[0].len()).step_by(BLOCK_BYTES) {
            let mut words = [[V::splat(0); 16]; GROUPS];
            for group in 0..GROUPS {
                words[group] = V::load(&inputs[group * V::LANES..(group + 1) * V::LANES], offset_bytes);
            }
            compress(&mut state, &words);
        }
        for word in 0..4 {
            for group in 0..GROUPS {
                let words = state[word][group].scatter();
                for lane in 0..V::LANES {
                    states[group * V::LANES + lane][word] = words[lane];
                }
            }
        }
    }
}

/// The 64 steps of one block.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn compress<V: Vector, const GROUPS: usize>(state: &mut [[V; GROUPS]; 4], words: &[[V; 16]; GROUPS]) {
    let [mut a, mut b, mut c, mut d] = *state;
    // a = b + ((a + function(b, c, d) + word + constant) <<< shift); what does not depend on the step before comes first.
    macro_rules! step {
        ($function:ident, $a:ident, $b:ident, $c:ident, $d:ident, $word:expr, $shift:literal, $constant:expr) => {
            for group in 0..GROUPS {
                let known = $a[group].add(words[group][$word].add(V::splat($constant)));
                let sum = known.add(V::$function($b[group], $c[group], $d[group]));
                $a[group] = sum.rotate::<$shift, { 32 - $shift }>().add($b[group]);
            }
        };
    }
    macro_rules! round {
        ($function:ident, $first:literal, $stride:literal, $table:expr, $s0:literal, $s1:literal, $s2:literal, $s3:literal) => {
            round!(@four $function, $first, $stride, $table, 0, $s0, $s1, $s2, $s3);
            round!(@four $function, $first, $stride, $table, 4, $s0, $s1, $s2, $s3);
            round!(@four $function, $first, $stride, $table, 8, $s0, $s1, $s2, $s3);
            round!(@four $function, $first, $stride, $table, 12, $s0, $s1, $s2, $s3);
        };
        (@four $function:ident, $first:literal, $stride:literal, $table:expr, $n:literal, $s0:literal, $s1:literal, $s2:literal, $s3:literal) => {
            step!($function, a, b, c, d, ($first + $stride * $n) % 16, $s0, $table[$n]);
            step!($function, d, a, b, c, ($first + $stride * ($n + 1)) % 16, $s1, $table[$n + 1]);
            step!($function, c, d, a, b, ($first + $stride * ($n + 2)) % 16, $s2, $table[$n + 2]);
            step!($function, b, c, d, a, ($first + $stride * ($n + 3)) % 16, $s3, $table[$n + 3]);
        };
    }
    // SAFETY: the caller has the instructions.
    unsafe {
        round!(f, 0, 1, TABLE[0], 7, 12, 17, 22);
        round!(g, 1, 5, TABLE[1], 5, 9, 14, 20);
        round!(h, 5, 3, TABLE[2], 4, 11, 16, 23);
        round!(i, 0, 7, TABLE[3], 6, 10, 15, 21);
        for group in 0..GROUPS {
            state[0][group] = state[0][group].add(a[group]);
            state[1][group] = state[1][group].add(b[group]);
            state[2][group] = state[2][group].add(c[group]);
            state[3][group] = state[3][group].add(d[group]);
        }
    }
}

/// `floor(2^32 * abs(sin(n)))` for n from 1 on, a row for each round: the table T of RFC 1321.
#[rustfmt::skip]
const TABLE: [[u32; 16]; 4] = [
    [0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
     0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821],
    [0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
     0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a],
    [0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
     0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665],
    [0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
     0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391],
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Four lanes that are an array: the kernel's own code without an intrinsic.
    #[derive(Clone, Copy)]
    struct Plain([u32; 4]);

    impl Plain {
        fn map(self, with: impl Fn(u32) -> u32) -> Plain {
            Plain(self.0.map(with))
        }

        fn zip(x: Plain, y: Plain, z: Plain, with: impl Fn(u32, u32, u32) -> u32) -> Plain {
            Plain(std::array::from_fn(|lane| with(x.0[lane], y.0[lane], z.0[lane])))
        }
    }

    impl Vector for Plain {
        const LANES: usize = 4;

        unsafe fn splat(word: u32) -> Plain {
            Plain([word; 4])
        }

        unsafe fn gather(words: &[u32; 16]) -> Plain {
            Plain(std::array::from_fn(|lane| words[lane]))
        }

        unsafe fn scatter(self) -> [u32; 16] {
            std::array::from_fn(|lane| self.0.get(lane).copied().unwrap_or(0))
        }

        unsafe fn load(inputs: &[&[u8]], offset_bytes: usize) -> [Plain; 16] {
            std::array::from_fn(|word| {
                let start = offset_bytes + 4 * word;
                Plain(std::array::from_fn(|lane| {
                    u32::from_le_bytes(inputs[lane][start..start + 4].try_into().unwrap())
                }))
            })
        }

        unsafe fn add(self, other: Plain) -> Plain {
            Plain::zip(self, other, other, |x, y, _| x.wrapping_add(y))
        }

        unsafe fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Plain {
            self.map(|word| word << LEFT | word >> RIGHT)
        }

        unsafe fn f(x: Plain, y: Plain, z: Plain) -> Plain {
            Plain::zip(x, y, z, |x, y, z| x & y | !x & z)
        }

        unsafe fn g(x: Plain, y: Plain, z: Plain) -> Plain {
            Plain::zip(x, y, z, |x, y, z| x & z | y & !z)
        }

        unsafe fn h(x: Plain, y: Plain, z: Plain) -> Plain {
            Plain::zip(x, y, z, |x, y, z| x ^ y ^ z)
        }

        unsafe fn i(x: Plain, y: Plain, z: Plain) -> Plain {
            Plain::zip(x, y, z, |x, y, z| y ^ (x | !z))
        }
    }

    fn twin<const GROUPS: usize>(states: &mut [Md5State], inputs: &[&[u8]]) {
        // SAFETY: an array needs no instruction of its own, and its functions check every index.
        unsafe { advance::<Plain, GROUPS>(states, inputs) }
    }

    /// As many streams as asked for, of a number of blocks, none like another.
    fn streams(count: usize, blocks: usize, seed: u8) -> Vec<Vec<u8>> {
        let byte = |stream: usize, at: usize| (at * 31 + stream * 97 + at / 251) as u8 ^ seed;
        (0..count).map(|stream| (0..blocks * BLOCK_BYTES).map(|at| byte(stream, at)).collect()).collect()
    }

    fn check(name: &str, count: usize, blocks: usize, seed: u8, advance: impl Fn(&mut [Md5State], &[&[u8]])) {
        let contents = streams(count, blocks, seed);
        let inputs: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        // States that are not the start's, each its own: as after other blocks.
        let before: Vec<Md5State> = (0..count as u32).map(|n| START.map(|word| word.rotate_left(n) ^ n)).collect();
        let mut states = before.clone();
        advance(&mut states, &inputs);
        for (stream, state) in states.iter().enumerate() {
            let mut expected = before[stream];
            compress_one(&mut expected, inputs[stream]);
            assert_eq!(*state, expected, "{name}: stream {stream} of {count}, {blocks} blocks, seed {seed}");
        }
    }

    #[test]
    fn the_twin_on_plain_arrays_is_md5() {
        for blocks in [0, 1, 2, 5] {
            check("one group", 4, blocks, 7, twin::<1>);
            check("two groups", 8, blocks, 7, twin::<2>);
        }
    }

    #[test]
    fn every_kernel_of_this_machine_is_md5_in_every_lane() {
        for kernel in Kernel::of_this_machine() {
            for count in 1..=kernel.width() {
                let name = format!("{kernel:?}");
                check(&name, count, 3, count as u8, |states, inputs| kernel.advance(states, inputs));
            }
        }
    }

    #[test]
    fn a_buffer_at_any_address_can_be_read() {
        for kernel in Kernel::of_this_machine() {
            let content: Vec<u8> = (0..4 * BLOCK_BYTES + 64).map(|at| at as u8).collect();
            let inputs: Vec<&[u8]> = (0..kernel.width()).map(|shift| &content[shift..][..2 * BLOCK_BYTES]).collect();
            let mut states = vec![START; inputs.len()];
            kernel.advance(&mut states, &inputs);
            for (state, input) in states.iter().zip(&inputs) {
                let mut expected = START;
                compress_one(&mut expected, input);
                assert_eq!(*state, expected, "{kernel:?}");
            }
        }
    }

    #[test]
    fn unequal_inputs_are_our_mistake_and_never_read_beyond() {
        for kernel in Kernel::of_this_machine() {
            for lengths in [[64, 128], [63, 63], [128, 64]] {
                let inputs: Vec<Vec<u8>> = lengths.iter().map(|&length| vec![0; length]).collect();
                let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
                let advance = || kernel.advance(&mut [START; 2], &inputs);
                assert!(std::panic::catch_unwind(advance).is_err(), "{kernel:?} {lengths:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn kernels_agree_with_each_other(count in 1usize..=32, blocks in 0usize..20, seed in any::<u8>()) {
            for kernel in Kernel::of_this_machine() {
                let count = count.min(kernel.width());
                check(&format!("{kernel:?}"), count, blocks, seed, |states, inputs| kernel.advance(states, inputs));
            }
            check("twin", 8, blocks, seed, twin::<2>);
        }
    }
}
