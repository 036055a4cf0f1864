//! Standard normal draws at the speed of the generator behind them.
//!
//! The transform of Box and Muller (1958): with u, v uniform, √(−2 ln u) (cos 2πv, sin 2πv) are two independent N(0, 1) draws. Unlike
//! rejection methods it takes the same steps for every draw, so that a CPU computes as many at once as its registers hold. It is
//! written in additions, multiplications, divisions and roots alone, which are rounded alike everywhere: the draws do not depend on
//! the CPU. u has 52 bits (single precision: 32), which ends the tails at 8.5 (6.8) standard deviations; one draw in 10¹⁶ (10¹¹)
//! lies beyond.

use std::f64::consts::{FRAC_PI_2, LN_2};

use pulp::Arch;
use rand::Rng;

/// Random bytes that are transformed at a time.
const BYTES: usize = 1024;

/// Random bytes to be transformed into draws.
struct Block<'a, T>(&'a [u8; BYTES], &'a mut T);

macro_rules! normal {
    ($fill:ident, $block:ident, $real:ty, $word:ty, $uniform:expr, $angle:expr, mantissa $mantissa:expr,
     logarithm $log:expr, sine $sine:expr, cosine $cosine:expr) => {
        /// Fills `out` with independent N(0, 1) draws.
        pub fn $fill(rng: &mut (impl Rng + ?Sized), out: &mut [$real]) {
            const DRAWS: usize = BYTES / size_of::<$real>();
            let arch = Arch::new();
            let mut bytes = [0; BYTES];
            let mut draws = [0.0; DRAWS];
            for out in out.chunks_mut(DRAWS) {
                rng.fill_bytes(&mut bytes);
                arch.dispatch(Block(&bytes, &mut draws));
                out.copy_from_slice(&draws[..out.len()]);
            }
        }

        impl pulp::NullaryFnOnce for Block<'_, [$real; BYTES / size_of::<$real>()]> {
            type Output = ();

            // A closure would not be inlined into the code for the CPU's registers.
            #[inline(always)]
            fn call(self) {
                $block(self.0, self.1);
            }
        }

        /// The first half of the words gives radii, the second angles; cosines go to the first half of the draws, sines to the second.
        #[inline(always)]
        fn $block(bytes: &[u8; BYTES], draws: &mut [$real; BYTES / size_of::<$real>()]) {
            const WORD: usize = size_of::<$word>();
            const TOP: u32 = <$word>::BITS - 2;
            const MANTISSA: u32 = $mantissa;
            // The bits of √½: what lies above them belongs to the next exponent.
            const LEAST: $word = (std::f64::consts::FRAC_1_SQRT_2 as $real).to_bits();
            const ONE: $word = (1.0 as $real).to_bits();
            // An integer below 2^MANTISSA in the low bits of this is itself above this number.
            const MAGIC: $word = ONE + ((MANTISSA as $word) << MANTISSA);
            let (radii, angles) = bytes.split_at(BYTES / 2);
            let (cosines, sines) = draws.split_at_mut(BYTES / 2 / WORD);
            let words = radii.chunks_exact(WORD).zip(angles.chunks_exact(WORD));
            for ((radius, angle), (x, y)) in words.zip(cosines.iter_mut().zip(sines)) {
                let word = |bytes: &[u8]| {
                    let mut word = [0; WORD];
                    word.copy_from_slice(bytes);
                    <$word>::from_le_bytes(word)
                };
                // u = m 2^e with √½ ≤ m < √2; ln m = 2 artanh s, |s| ≤ 0.172.
                let u: $real = $uniform(word(radius));
                let shifted = u.to_bits() + (ONE - LEAST);
                let exponent = shifted >> MANTISSA;
                let e = <$real>::from_bits(MAGIC | exponent)
                    - <$real>::from_bits(MAGIC)
                    - ((ONE >> MANTISSA) as $real);
                let m = <$real>::from_bits((shifted & ((1 << MANTISSA) - 1)) + LEAST);
                let s = (m - 1.0) / (m + 1.0);
                let ln = e * (LN_2 as $real) + 2.0 * s * series(s * s, $log);
                let r = (-2.0 * ln).sqrt();
                // θ = q π/2 + t, |t| ≤ π/4: the top two bits are q.
                let angle = word(angle);
                let q = angle >> TOP;
                let t = $angle(angle) * (FRAC_PI_2 as $real);
                let (cos, sin) = (series(t * t, $cosine), t * series(t * t, $sine));
                let swap = q & 1 == 1;
                let negative =
                    |negative: $word, x: $real| <$real>::from_bits(x.to_bits() ^ (negative << (TOP + 1)));
                *x = r * negative((q ^ (q >> 1)) & 1, if swap { sin } else { cos });
                *y = r * negative(q >> 1, if swap { cos } else { sin });
            }
        }
    };
}

/// Σ c_i xⁱ.
#[inline(always)]
fn series<const N: usize, T>(x: T, c: [T; N]) -> T
where
    T: Copy + std::ops::Add<Output = T> + std::ops::Mul<Output = T>,
{
    let mut sum = c[N - 1];
    for i in (0..N - 1).rev() {
        sum = sum * x + c[i];
    }
    sum
}

/// 1/(2i + 1): artanh s = s Σ s²ⁱ/(2i + 1).
const fn odd(i: i32) -> f64 {
    1.0 / (2 * i + 1) as f64
}

/// (−1)^⌊n/2⌋ / n!.
const fn taylor(n: i32) -> f64 {
    let (mut factorial, mut i) = (1.0, 2);
    while i <= n {
        factorial *= i as f64;
        i += 1;
    }
    if n / 2 % 2 == 0 { 1.0 / factorial } else { -1.0 / factorial }
}

normal!(
    fill_f64, block_f64, f64, u64,
    |word: u64| 2.0 - f64::from_bits(word >> 12 | 1.0f64.to_bits()),
    |word: u64| f64::from_bits(word & ((1 << 52) - 1) | 1.0f64.to_bits()) - 1.5,
    mantissa 52,
    logarithm const {
        [odd(0), odd(1), odd(2), odd(3), odd(4), odd(5), odd(6), odd(7), odd(8), odd(9)]
    },
    sine const {
        [taylor(1), taylor(3), taylor(5), taylor(7), taylor(9), taylor(11), taylor(13), taylor(15)]
    },
    cosine const {
        [taylor(0), taylor(2), taylor(4), taylor(6), taylor(8), taylor(10), taylor(12), taylor(14), taylor(16)]
    }
);

normal!(
    fill_f32, block_f32, f32, u32,
    |word: u32| (word as f32 + 0.5) * (1.0 / (1u64 << 32) as f32),
    |word: u32| f32::from_bits(word & ((1 << 23) - 1) | 1.0f32.to_bits()) - 1.5,
    mantissa 23,
    logarithm const { [odd(0) as f32, odd(1) as f32, odd(2) as f32, odd(3) as f32, odd(4) as f32] },
    sine const {
        [taylor(1) as f32, taylor(3) as f32, taylor(5) as f32, taylor(7) as f32, taylor(9) as f32]
    },
    cosine const {
        [taylor(0) as f32, taylor(2) as f32, taylor(4) as f32, taylor(6) as f32, taylor(8) as f32, taylor(10) as f32]
    }
);

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;
    use crate::seed::Seed;
    use proptest::prelude::*;

    fn words<const N: usize>(bytes: &[u8]) -> Vec<u64> {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        bytes.chunks_exact(N).map(word).collect()
    }

    /// The transform by the functions of the standard library; the quadrant and the place in it are bits of the angle.
    fn transformed(bits: u32, u: impl Fn(u64) -> f64, words: &[u64], place_bits: u32) -> Vec<f64> {
        let (radii, angles) = words.split_at(words.len() / 2);
        let polar = |trigonometric: fn(f64) -> f64| {
            radii.iter().zip(angles).map(move |(&radius, &angle)| (radius, angle, trigonometric))
        };
        let draw = |(radius, angle, trigonometric): (u64, u64, fn(f64) -> f64)| {
            let place = (angle & ((1 << place_bits) - 1)) as f64 / (1u64 << place_bits) as f64 - 0.5;
            let theta = PI / 2.0 * ((angle >> (bits - 2)) as f64 + place);
            (-2.0 * u(radius).ln()).sqrt() * trigonometric(theta)
        };
        polar(f64::cos).chain(polar(f64::sin)).map(draw).collect()
    }

    proptest! {
        #[test]
        fn draws_are_the_transform_of_their_words(seed in any::<u64>(), extreme in 0usize..8) {
            let mut bytes = [0; BYTES];
            Seed::new(seed).rng().fill_bytes(&mut bytes);
            // The smallest and the largest u.
            bytes[8 * extreme..8 * (extreme + 1)].fill(if seed % 2 == 0 { 0 } else { 255 });
            let mut draws = [0.0; BYTES / 8];
            block_f64(&bytes, &mut draws);
            let u = |word: u64| 1.0 - (word >> 12) as f64 / (1u64 << 52) as f64;
            for (got, want) in draws.into_iter().zip(transformed(64, u, &words::<8>(&bytes), 52)) {
                prop_assert!((got - want).abs() < 1e-14, "{} {}", got, want);
            }
            let mut draws = [0.0; BYTES / 4];
            block_f32(&bytes, &mut draws);
            let u = |word: u64| f64::from((word as f32 + 0.5) / (1u64 << 32) as f32);
            for (got, want) in draws.into_iter().zip(transformed(32, u, &words::<4>(&bytes), 23)) {
                prop_assert!((f64::from(got) - want).abs() < 4e-6, "{} {}", got, want);
            }
        }
    }

    #[test]
    fn the_cpu_does_not_matter_and_short_vectors_begin_like_long_ones() {
        let mut long = vec![0.0; 1000];
        fill_f64(&mut Seed::new(1).rng(), &mut long);
        let (mut bytes, mut rng, mut plain) = ([0; BYTES], Seed::new(1).rng(), [0.0; BYTES / 8]);
        for part in long.chunks(BYTES / 8) {
            rng.fill_bytes(&mut bytes);
            block_f64(&bytes, &mut plain);
            assert_eq!(part, &plain[..part.len()]);
        }
        let mut short = vec![0.0; 130];
        fill_f64(&mut Seed::new(1).rng(), &mut short);
        assert_eq!(short, long[..130]);
    }

    /// 2^20 draws in 64 cells of equal probability: χ² with 63 degrees of freedom, α = 10⁻⁶ for each of two precisions.
    #[test]
    fn draws_have_the_normal_law() {
        use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};
        let n = 1 << 20;
        let (mut double, mut single) = (vec![0.0f64; n], vec![0.0f32; n]);
        fill_f64(&mut Seed::new(5).rng(), &mut double);
        fill_f32(&mut Seed::new(6).rng(), &mut single);
        let normal = Normal::new(0.0, 1.0).unwrap();
        let limit = ChiSquared::new(63.0).unwrap().inverse_cdf(1.0 - 1e-6);
        for draws in [double, single.into_iter().map(f64::from).collect()] {
            let mut cells = [0.0; 64];
            draws.iter().for_each(|&x| cells[((normal.cdf(x) * 64.0) as usize).min(63)] += 1.0);
            let expected = n as f64 / 64.0;
            let chi: f64 = cells.iter().map(|cell| (cell - expected).powi(2) / expected).sum();
            assert!(chi < limit, "{chi} of {limit}");
            // Cosine and sine of one radius, and draws in succession, are uncorrelated: 5 standard errors.
            for lag in [1, BYTES / 16, BYTES / 8] {
                let product: f64 = draws.iter().zip(&draws[lag..]).map(|(x, y)| x * y).sum();
                assert!(product.abs() < 5.0 * (n as f64).sqrt(), "{lag}: {product}");
            }
        }
    }
}
