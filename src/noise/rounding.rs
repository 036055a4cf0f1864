//! Conditional stochastic rounding (Kairouz, Liu, Steinke 2021): integers whose norm is bounded.

use rand::Rng;

use super::hadamard::Float;
use super::scale::norm_bound;
use crate::algebra::field::Prime;
use crate::algebra::{CHUNK, is_finite};
use crate::error::{Error, Result};
use crate::parallel;
use crate::seed::Seed;

/// Tries are ended where all of them fail with a probability below two to this power, less.
const SURE: f64 = 64.0;

/// The largest norm in steps: integers up to it are exact in double precision, and so is what is below a
/// step.
const LARGEST: f64 = (1u64 << 48) as f64;

/// The largest b.
const MOST: f64 = 0.95;

/// What a clipped norm stays below its bound by, relatively: more than its computation is off.
const MARGIN: f64 = 1.0 / (1u64 << 20) as f64;

/// Bytes of a coin.
const COIN: usize = 4;

/// How updates become integers: clipped to ‖x‖₂ ≤ C, times s, and each coordinate up or down so that it is
/// right in the mean, all of them again until the norm is at most Δ̂.
///
/// A try fails with a probability of at most b, so that tries are ended after ⌈64 ln 2/ln(1/b)⌉; where all of
/// them fail, which has a probability below 2⁻⁶⁴, every coordinate is rounded to the side of 0. That makes
/// the norm no larger than that of the clipped update: the bound holds always, and b is a matter of bias
/// alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounder {
    scale: f64,
    clip: f64,
    coordinates: usize,
    /// ⌊Δ̂²⌋.
    most: u128,
    tries: u64,
}

impl Rounder {
    /// For updates of at most `clip` C, of so many `coordinates`, on steps of 1/`scale`. `bias` is b, the
    /// probability that a try may fail: 0 for none, whose bound is wider.
    ///
    /// # Errors
    /// [`Error::Config`] at the keys `scale`, `clip` and `bias` for what is out of range.
    pub fn new(scale: f64, clip: f64, coordinates: usize, bias: f64) -> Result<Self> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        if !positive(clip) {
            return Err(Error::config("clip", format!("{clip} must be a finite number above 0")));
        }
        if !(positive(scale) && scale * clip <= LARGEST && scale * clip >= 1.0) {
            let rule = format!(
                "{scale} times the clip {clip} must be from 1 to 2^48 steps; 16384 is a good scale for 1"
            );
            return Err(Error::config("scale", rule));
        }
        if !(0.0..=MOST).contains(&bias) {
            let rule =
                format!("{bias} is out of range; give 0 to {MOST}, such as 0.6 for the bound of the paper");
            return Err(Error::config("bias", rule));
        }
        let bound = norm_bound(scale * clip, coordinates, bias);
        let tries = if bias > 0.0 { (SURE * 2f64.ln() / -bias.ln()).ceil() as u64 } else { 1 };
        Ok(Self { scale, clip, coordinates, most: (bound * bound) as u128, tries })
    }

    /// Δ₂ and Δ₁ in steps: no client's integers have a larger norm. Leaving a client out moves a sum by as
    /// much, replacing one by twice as much.
    #[must_use]
    pub fn sensitivity(&self) -> (f64, f64) {
        let square = self.most as f64 * (1.0 + f64::EPSILON);
        let norm = square.sqrt() * (1.0 + f64::EPSILON);
        // |n| ≤ n² for integers.
        (norm, ((self.coordinates as f64).sqrt() * norm * (1.0 + f64::EPSILON)).min(square))
    }

    /// How many tries there are at most.
    #[must_use]
    pub fn tries(&self) -> u64 {
        self.tries
    }

    /// Looks for a try on `weight` · `x` whose norm is bounded. Nothing is kept but its number. `seed` is a
    /// secret of the client, and another one in every round.
    ///
    /// # Panics
    /// When `x` has more than the coordinates of this, or one that is not finite.
    pub fn round<'a, T: Float>(&self, weight: f64, x: &'a [T], seed: Seed) -> Rounded<'a, T> {
        assert!(x.len() <= self.coordinates, "{} coordinates for {}", x.len(), self.coordinates);
        assert!(is_finite(x), "what is not finite has no place among integers");
        let square = |x: &[T]| x.iter().map(|&x| (weight * x.into()).powi(2)).sum::<f64>();
        let norm = parallel::map(x.chunks(CHUNK), square).into_iter().sum::<f64>().sqrt();
        let bound = self.clip * (1.0 - MARGIN);
        let factor = weight * self.scale * if norm > bound { bound / norm } else { 1.0 };
        let of = |attempt: Option<u64>| Rounded { x, factor, seed, attempt };
        let tried = (0..self.tries).map(|attempt| of(Some(attempt)));
        tried.into_iter().find(|rounded| rounded.square() <= self.most).unwrap_or_else(|| of(None))
    }
}

/// An update on integers, computed where they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Rounded<'a, T> {
    x: &'a [T],
    /// Steps for 1.
    factor: f64,
    seed: Seed,
    attempt: Option<u64>,
}

impl<T: Float> Rounded<'_, T> {
    /// The number of the try that was taken, from 0; none where all coordinates are rounded to the side of 0.
    #[must_use]
    pub fn attempt(&self) -> Option<u64> {
        self.attempt
    }

    /// Adds the integers of the coordinates from `start` on, a multiple of [`CHUNK`]: as many as `y` has.
    pub fn add_to<F: Prime>(&self, y: &mut [F], start: usize) {
        debug_assert!(start.is_multiple_of(CHUNK), "coins are drawn in whole chunks");
        let chunks = y.chunks_mut(CHUNK).zip(self.x[start..].chunks(CHUNK)).enumerate();
        parallel::for_each(chunks, |(index, (y, x))| {
            let mut y = y.iter_mut();
            self.integers(start / CHUNK + index, x, |n| {
                if let Some(y) = y.next() {
                    *y = *y + if n.unsigned_abs() < F::MODULUS { F::signed(n) } else { F::integer(n) };
                }
            });
        });
    }

    /// The square of the norm.
    fn square(&self) -> u128 {
        let of_chunk = |(index, x): (usize, &[T])| {
            let mut sum = 0u128;
            self.integers(index, x, |n| sum += u128::from(n.unsigned_abs()) * u128::from(n.unsigned_abs()));
            sum
        };
        parallel::map(self.x.chunks(CHUNK).enumerate(), of_chunk).into_iter().sum()
    }

    /// Hands over the integers of chunk number `index`, which is `x`.
    fn integers(&self, index: usize, x: &[T], mut take: impl FnMut(i64)) {
        let Some(attempt) = self.attempt else {
            return x.iter().for_each(|&x| take((self.factor * x.into()).trunc() as i64));
        };
        let mut coins = [0; COIN * CHUNK];
        let coins = &mut coins[..COIN * x.len()];
        self.seed.child("rounding", attempt).child("chunk", index as u64).bulk(0).fill_bytes(coins);
        for (&x, coin) in x.iter().zip(coins.as_chunks::<COIN>().0) {
            let exact = self.factor * x.into();
            // A cast goes to the side of 0, and is faster than a floor.
            let cut = exact as i64;
            let below = cut - i64::from(cut as f64 > exact);
            // Up with the probability of what is above, to 2⁻³².
            let up = f64::from(u32::from_le_bytes(*coin)) < (exact - below as f64) * 4_294_967_296.0;
            take(below + i64::from(up));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::Symbol;
    use crate::algebra::field::{M31, M61};
    use proptest::prelude::*;

    fn integers(rounder: &Rounder, weight: f64, x: &[f32], seed: u64) -> Vec<i64> {
        let mut y = vec![M61::zero(); x.len()];
        rounder.round(weight, x, Seed::new(seed)).add_to(&mut y, 0);
        y.iter().map(|y| y.centred()).collect()
    }

    fn square(n: &[i64]) -> f64 {
        n.iter().map(|&n| (n * n) as f64).sum()
    }

    proptest! {
        /// Whatever is rounded: weights and clips that do not fit, coordinates below a step, vectors in one
        /// direction.
        #[test]
        fn the_norm_is_bounded_always(
            seed in any::<u64>(), len in 1usize..300, scale in 1.0f64..5000.0, size in -4i32..8,
            bias in 0.0f64..0.95, alike in any::<bool>(),
        ) {
            let rounder = Rounder::new(scale, 1.0, len, bias).unwrap();
            let mut x = vec![1.0f32; len];
            if !alike {
                crate::algebra::gaussian::fill_f32(&mut Seed::new(seed).rng(), &mut x);
            }
            let n = integers(&rounder, 10f64.powi(size), &x, seed);
            let (norm, sum) = rounder.sensitivity();
            prop_assert!(square(&n).sqrt() <= norm);
            prop_assert!(n.iter().map(|n| n.abs() as f64).sum::<f64>() <= sum);
            prop_assert!(norm <= norm_bound(scale, len, bias) * (1.0 + 1e-12));
            // What is far above the clip comes to its end, but for what rounding takes.
            prop_assert!(size < 4 || square(&n).sqrt() > 0.99 * scale - (len as f64).sqrt());
        }
    }

    #[test]
    fn where_no_try_succeeds_coordinates_go_to_the_side_of_zero() {
        let rounder = Rounder::new(8.0, 1.0, 100, 0.5).unwrap();
        assert_eq!(rounder.tries(), 64);
        // A bound that only the rounding to 0 keeps.
        let strict = Rounder { most: 10, ..rounder };
        let x: Vec<f32> = (0..100).map(|i| if i < 5 { 0.15 } else { -0.09 }).collect();
        let rounded = strict.round(1.0, &x, Seed::new(1));
        assert_eq!(rounded.attempt(), None);
        let n = integers(&strict, 1.0, &x, 1);
        assert_eq!(n, [vec![1; 5], vec![0; 95]].concat());
        // ‖x‖ = 0.93 is not clipped.
        let free = rounder.round(1.0, &x, Seed::new(1));
        assert_eq!(free.attempt(), Some(0));
        assert!(square(&integers(&rounder, 1.0, &x, 1)) > 10.0);
    }

    /// 400 halves are up 200 times in the mean; √(100 + 100 + √(−2 ln 0.95) · 20)² lets 206 pass. The share
    /// of seeds whose first try is more, P(Bin(400, ½) ≥ 207) = 0.258, to 5 standard errors.
    #[test]
    fn tries_are_repeated_as_often_as_they_fail() {
        let (x, n) = ([0.5f32; 400], 2000);
        let rounder = Rounder::new(1.0, 10.001, 400, 0.95).unwrap();
        let tries = (0..n).map(|seed| rounder.round(1.0, &x, Seed::new(seed)).attempt());
        let again = tries.filter(|attempt| *attempt > Some(0)).count() as f64 / n as f64;
        assert!((again - 0.258).abs() < 5.0 * (0.258 * 0.742 / n as f64).sqrt(), "{again}");
    }

    /// 3 · 10⁴ roundings of each of three coordinates, 4.9 standard errors (α = 10⁻⁶ each).
    #[test]
    fn rounding_has_no_bias() {
        let x: Vec<f32> = [0.3, -0.55, 0.8].repeat(30_000);
        for (scale, clip) in [(1.0, 1e3), (4.0, 250.0)] {
            let rounder = Rounder::new(scale, clip, x.len(), 0.6).unwrap();
            let n = integers(&rounder, 1.0, &x, 3);
            for (i, want) in [0.3f64, -0.55, 0.8].into_iter().enumerate() {
                let exact = scale * want;
                let mean = n.iter().skip(i).step_by(3).sum::<i64>() as f64 / 30_000.0;
                let part = exact - exact.floor();
                let error = (part * (1.0 - part) / 30_000.0).sqrt();
                assert!((mean - exact).abs() < 4.9 * error, "{mean} for {exact}");
            }
        }
    }

    #[test]
    fn parts_are_the_whole_and_whole_numbers_stay() {
        let len = 2 * CHUNK + 100;
        let x: Vec<f32> = (0..len).map(|i| (i as f32).sin() / 200.0).collect();
        let rounder = Rounder::new(1000.0, 1.0, len, 0.6).unwrap();
        let rounded = rounder.round(1.0, &x, Seed::new(4));
        let mut whole = vec![M31::zero(); len];
        rounded.add_to(&mut whole, 0);
        let mut parts = vec![M31::zero(); len];
        let (first, rest) = parts.split_at_mut(CHUNK);
        rounded.add_to(rest, CHUNK);
        rounded.add_to(first, 0);
        assert_eq!(whole, parts);
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let again = alone.install(|| rounder.round(1.0, &x, Seed::new(4)));
        assert_eq!(again.attempt(), rounded.attempt());
        let exact = Rounder::new(4.0, 100.0, 4, 0.0).unwrap();
        assert_eq!(integers(&exact, 0.5, &[0.5, -1.5, 10.0, 0.0], 5), [1, -3, 20, 0]);
    }

    #[test]
    fn every_rule_names_its_key() {
        for (scale, clip, bias, key) in [
            (0.0, 1.0, 0.5, "scale"),
            (f64::NAN, 1.0, 0.5, "scale"),
            (1e20, 1.0, 0.5, "scale"),
            (0.5, 1.0, 0.5, "scale"),
            (1.0, 0.0, 0.5, "clip"),
            (1.0, f64::INFINITY, 0.5, "clip"),
            (1.0, 1.0, 1.0, "bias"),
            (1.0, 1.0, -0.1, "bias"),
        ] {
            let error = Rounder::new(scale, clip, 10, bias).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{error}");
        }
    }
}
