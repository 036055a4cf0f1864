//! Standard normal draws at the speed of the generator behind them.
//!
//! The transform of Box and Muller (1958): with u, v uniform, √(−2 ln u) (cos 2πv, sin 2πv) are two
//! independent N(0, 1) draws. Unlike rejection methods it takes the same steps for every draw, so that a CPU
//! computes as many at once as its registers hold. It is written in additions, multiplications, divisions and
//! roots alone, which are rounded alike everywhere: the draws do not depend on the CPU.
//!
//! u is a multiple of 2⁻⁷⁵ and v one of 2⁻⁵⁴: draws reach 10.2 standard deviations, and one in 10²² of the
//! ideal law lies beyond. How far the draws are from that law, and what it costs, is counted in
//! [`crate::privacy::floating`].

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, LN_2};

use pulp::Arch;
use rand::Rng;

/// Random bytes that are transformed at a time.
const BYTES: usize = 1024;

/// Draws of a block.
const DRAWS: usize = BYTES / 8;

/// The largest size of a draw: √(2 · 75 · ln 2), rounded up.
pub const REACH: f64 = 10.2;

/// A draw is farther than this from the transform of exact numbers only where u is rounded to a multiple of
/// 2⁻⁷⁵ that is not much smaller than u, or for a radius below 2⁻⁷ (mean error below 2⁻⁵⁰).
pub const ERROR: f64 = 1.0 / (1u64 << 46) as f64;

/// The bits of 1.
const ONE: u64 = 1.0f64.to_bits();

/// Random bytes to be transformed into draws.
struct Block<'a>(&'a [u8; BYTES], &'a mut [f64; DRAWS]);

/// Fills `out` with independent N(0, 1) draws.
pub fn fill_f64(rng: &mut (impl Rng + ?Sized), out: &mut [f64]) {
    let arch = Arch::new();
    let mut bytes = [0; BYTES];
    let mut draws = [0.0; DRAWS];
    for out in out.chunks_mut(DRAWS) {
        rng.fill_bytes(&mut bytes);
        arch.dispatch(Block(&bytes, &mut draws));
        out.copy_from_slice(&draws[..out.len()]);
    }
}

/// The same draws in single precision.
pub fn fill_f32(rng: &mut (impl Rng + ?Sized), out: &mut [f32]) {
    let mut draws = [0.0; DRAWS];
    for out in out.chunks_mut(DRAWS) {
        fill_f64(rng, &mut draws);
        out.iter_mut().zip(draws).for_each(|(out, draw)| *out = draw as f32);
    }
}

impl pulp::NullaryFnOnce for Block<'_> {
    type Output = ();

    // A closure would not be inlined into the code for the CPU's registers.
    #[inline(always)]
    fn call(self) {
        block(self.0, self.1);
    }
}

/// The first half of the words gives radii, the second angles; cosines go to the first half of the draws,
/// sines to the second.
#[inline(always)]
fn block(bytes: &[u8; BYTES], draws: &mut [f64; DRAWS]) {
    let (radii, angles) = bytes.split_at(BYTES / 2);
    let (cosines, sines) = draws.split_at_mut(DRAWS / 2);
    let words = radii.chunks_exact(8).zip(angles.chunks_exact(8));
    for ((radius, angle), (x, y)) in words.zip(cosines.iter_mut().zip(sines)) {
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            u64::from_le_bytes(word)
        };
        let (radius, angle) = (word(radius), word(angle));
        let r = (-2.0 * ln(uniform(radius, angle))).sqrt();
        // θ = q π/2 + t, |t| ≤ π/4: the top two bits are q.
        let q = angle >> 62;
        let t = (f64::from_bits(angle & ((1 << 52) - 1) | ONE) - 1.5) * FRAC_PI_2;
        let (cos, sin) = (series(t * t, COSINE), t * series(t * t, SINE));
        let swap = q & 1 == 1;
        let negative = |negative: u64, x: f64| f64::from_bits(x.to_bits() ^ (negative << 63));
        *x = r * negative((q ^ (q >> 1)) & 1, if swap { sin } else { cos });
        *y = r * negative(q >> 1, if swap { cos } else { sin });
    }
}

/// u in (0, 1], an odd multiple of 2⁻⁷⁵ up to one rounding: 52 bits of `radius`, then its other 12 and the 10
/// that `angle` does not need. Near 0, where the large draws come from, nothing is rounded.
#[inline(always)]
fn uniform(radius: u64, angle: u64) -> f64 {
    const STEP: f64 = 1.0 / (1u64 << 52) as f64;
    let coarse = 2.0 - f64::from_bits(radius >> 12 | ONE);
    let fine = (radius & 0xfff) << 10 | angle >> 52 & 0x3ff;
    let half = STEP / (1u64 << 23) as f64;
    coarse - ((f64::from_bits(fine << 30 | ONE) - 1.0) * STEP + half)
}

/// ln u for a positive normal u.
#[inline(always)]
pub(crate) fn ln(u: f64) -> f64 {
    // The bits of √½: what lies above them belongs to the next exponent.
    const LEAST: u64 = FRAC_1_SQRT_2.to_bits();
    // An integer below 2⁵² in the low bits of this is itself above this number.
    const MAGIC: u64 = ONE + (52 << 52);
    // u = m 2^e with √½ ≤ m < √2; ln m = 2 artanh s, |s| ≤ 0.172.
    let shifted = u.to_bits() + (ONE - LEAST);
    let e = f64::from_bits(MAGIC | shifted >> 52) - f64::from_bits(MAGIC) - (ONE >> 52) as f64;
    let m = f64::from_bits((shifted & ((1 << 52) - 1)) + LEAST);
    let s = (m - 1.0) / (m + 1.0);
    e * LN_2 + 2.0 * s * series(s * s, LOGARITHM)
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

const LOGARITHM: [f64; 10] = [odd(0), odd(1), odd(2), odd(3), odd(4), odd(5), odd(6), odd(7), odd(8), odd(9)];
const SINE: [f64; 8] =
    [taylor(1), taylor(3), taylor(5), taylor(7), taylor(9), taylor(11), taylor(13), taylor(15)];
const COSINE: [f64; 9] =
    [taylor(0), taylor(2), taylor(4), taylor(6), taylor(8), taylor(10), taylor(12), taylor(14), taylor(16)];

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;
    use crate::seed::Seed;
    use proptest::prelude::*;

    fn words(bytes: &[u8]) -> Vec<u64> {
        bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()
    }

    /// The transform by the functions of the standard library; the quadrant and the place in it are bits of
    /// the angle.
    fn transformed(words: &[u64]) -> Vec<f64> {
        let (radii, angles) = words.split_at(words.len() / 2);
        let polar = |trigonometric: fn(f64) -> f64| {
            radii.iter().zip(angles).map(move |(&radius, &angle)| {
                let place = (angle & ((1 << 52) - 1)) as f64 / (1u64 << 52) as f64 - 0.5;
                let theta = PI / 2.0 * ((angle >> 62) as f64 + place);
                // 74 bits of radius and angle, and a half: 2⁷⁴ − word is exact in 128.
                let fine = u128::from(radius) << 10 | u128::from(angle >> 52 & 0x3ff);
                let u = ((1u128 << 75) - 2 * fine - 1) as f64 / (1u128 << 75) as f64;
                (-2.0 * u.ln()).sqrt() * trigonometric(theta)
            })
        };
        polar(f64::cos).chain(polar(f64::sin)).collect()
    }

    proptest! {
        #[test]
        fn draws_are_the_transform_of_their_words(seed in any::<u64>(), extreme in 0usize..8) {
            let mut bytes = [0; BYTES];
            Seed::new(seed).rng().fill_bytes(&mut bytes);
            // The smallest and the largest u.
            bytes[8 * extreme..8 * (extreme + 1)].fill(if seed % 2 == 0 { 0 } else { 255 });
            let mut draws = [0.0; DRAWS];
            block(&bytes, &mut draws);
            for (got, want) in draws.into_iter().zip(transformed(&words(&bytes))) {
                prop_assert!((got - want).abs() < ERROR, "{} {}", got, want);
                prop_assert!(got.abs() < REACH);
            }
        }
    }

    #[test]
    fn the_tails_have_their_weight() {
        // The least u is 2⁻⁷⁵; there and at 2⁻⁵² + 2⁻⁷⁵ the radius is known.
        let u = |radius, angle| uniform(radius, angle);
        assert_eq!(u(u64::MAX, 0x3ff << 52), 2f64.powi(-75));
        assert_eq!(u(u64::MAX - 0xfff, 0), 2f64.powi(-52) - 2f64.powi(-75));
        let step = |n: i32, power: i32| f64::from(n) * 2f64.powi(power);
        assert_eq!(u(u64::MAX - 0x1fff, 0x3ff << 52), step(1, -51) - step(1023, -74) - step(1, -75));
        assert_eq!(u(0, 0), 1.0);
        assert!((-2.0 * u(u64::MAX, u64::MAX).ln()).sqrt() < REACH);
    }

    #[test]
    fn the_cpu_does_not_matter_and_short_vectors_begin_like_long_ones() {
        let mut long = vec![0.0; 1000];
        fill_f64(&mut Seed::new(1).rng(), &mut long);
        let (mut bytes, mut rng, mut plain) = ([0; BYTES], Seed::new(1).rng(), [0.0; DRAWS]);
        for part in long.chunks(DRAWS) {
            rng.fill_bytes(&mut bytes);
            block(&bytes, &mut plain);
            assert_eq!(part, &plain[..part.len()]);
        }
        let mut short = vec![0.0; 130];
        fill_f64(&mut Seed::new(1).rng(), &mut short);
        assert_eq!(short, long[..130]);
    }

    /// 2^20 draws in 64 cells of equal probability: χ² with 63 degrees of freedom, α = 10⁻⁶ for each of two
    /// precisions.
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
            for lag in [1, DRAWS / 2, DRAWS] {
                let product: f64 = draws.iter().zip(&draws[lag..]).map(|(x, y)| x * y).sum();
                assert!(product.abs() < 5.0 * (n as f64).sqrt(), "{lag}: {product}");
            }
        }
    }
}
