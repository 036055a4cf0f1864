//! Updates as integers: what a scheme over a prime field adds.
//!
//! A coordinate is clipped to ±C and rounded to a multiple of C/L, L = 2^(b−1) − 1, for b bits. The sum of M
//! inputs then is an integer of at most M·L in size; it is read off its residue mod p exactly when M·L ≤ (p −
//! 1)/2. Quantising is the only loss: rounding changes a coordinate of the sum by at most M·C/(2L) (nearest)
//! or M·C/L (stochastic, without bias).

use pulp::{Arch, NullaryFnOnce};
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::field::Prime;
use super::{CHUNK, is_finite};
use crate::error::{Error, Result};
use crate::parallel;
use crate::seed::Seed;

/// How a coordinate becomes a multiple of the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// To the nearest multiple, ties to even.
    #[default]
    Nearest,
    /// Up with the probability of the fractional part: unbiased.
    Stochastic,
}

/// The prime p of the field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Modulus {
    /// 2⁶¹ − 1, 8 bytes a symbol.
    #[default]
    #[serde(rename = "2^61-1")]
    M61,
    /// 2³¹ − 1, 4 bytes a symbol.
    #[serde(rename = "2^31-1")]
    M31,
}

impl Modulus {
    /// p.
    #[must_use]
    pub fn value(self) -> u64 {
        match self {
            Self::M61 => (1 << 61) - 1,
            Self::M31 => (1 << 31) - 1,
        }
    }
}

/// How updates become field symbols.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quantisation {
    /// Bound C on the size of one coordinate of a client's weighted update, above 0; what exceeds it is
    /// clipped.
    #[schemars(range(min = 0.0))]
    pub clip: f64,
    /// Bits b of a quantised coordinate, sign included, 2 to 53.
    #[schemars(range(min = 2, max = 53))]
    pub bits: u32,
    /// Rounding: "nearest" or "stochastic" (unbiased).
    pub rounding: Rounding,
    /// Prime of the field: "2^61-1" (8 bytes a symbol) or "2^31-1" (4 bytes a symbol).
    pub modulus: Modulus,
}

impl Default for Quantisation {
    fn default() -> Self {
        Self { clip: 1.0, bits: 24, rounding: Rounding::default(), modulus: Modulus::default() }
    }
}

impl Quantisation {
    /// Checks every value, and that the sum of `summands` inputs cannot overflow.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    pub fn quantiser(&self, summands: usize) -> Result<Quantiser> {
        if !(self.clip.is_finite() && self.clip > 0.0) {
            return Err(Error::config("clip", format!("{} must be a finite number above 0", self.clip)));
        }
        if !(2..=53).contains(&self.bits) {
            return Err(Error::config("bits", format!("{} is out of range; give 2 to 53", self.bits)));
        }
        let levels = (1i64 << (self.bits - 1)) - 1;
        let half = self.modulus.value() / 2;
        if summands as u128 * levels as u128 > u128::from(half) {
            let most = (half / summands as u64 + 1).ilog2() + 1;
            let rule = format!(
                "{} bits overflow: {summands} updates of up to {levels} steps exceed (p − 1)/2 = {half}; take at \
                 most {most} bits or a larger modulus",
                self.bits
            );
            return Err(Error::config("bits", rule));
        }
        Ok(Quantiser { clip: self.clip, levels, rounding: self.rounding })
    }
}

/// A checked [`Quantisation`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiser {
    clip: f64,
    levels: i64,
    rounding: Rounding,
}

impl Quantiser {
    /// The size C/L of a step.
    #[must_use]
    pub fn step(&self) -> f64 {
        self.clip / self.levels as f64
    }

    /// `y[i] += ` the quantised `weight · x[start + i]`, to the end of both; `start` is a multiple of
    /// [`CHUNK`]. `seed` feeds stochastic rounding, which is that of the coordinate wherever the slice
    /// starts.
    ///
    /// # Panics
    /// A coordinate that is not finite: NaN is not 0, and infinity is not the clip.
    pub fn add_to<F: Prime>(&self, y: &mut [F], weight: f64, x: &[f32], start: usize, seed: Seed) {
        debug_assert!(start.is_multiple_of(CHUNK), "coins are drawn in whole chunks");
        let (scale, bound) = (weight / self.step(), self.levels as f64);
        let (first, arch) = (start / CHUNK, Arch::new());
        parallel::for_each(
            y.chunks_mut(CHUNK).zip(x[start..].chunks(CHUNK)).enumerate(),
            |(index, (y, x))| {
                assert!(is_finite(x), "what is not finite has no place among finitely many symbols");
                match self.rounding {
                    Rounding::Nearest => arch.dispatch(Nearest { y, x, scale, bound }),
                    Rounding::Stochastic => {
                        let mut coins = seed.child("rounding", (first + index) as u64).rng();
                        for (y, &x) in y.iter_mut().zip(x) {
                            let exact = (f64::from(x) * scale).clamp(-bound, bound);
                            let steps = (exact + coins.random::<f64>()).floor().clamp(-bound, bound);
                            *y = *y + F::signed(steps as i64);
                        }
                    }
                }
            },
        );
    }

    /// How many coordinates of `weight · x` are clipped, and how many are not 0 and become 0 when they are
    /// rounded to the nearest.
    #[must_use]
    pub fn lost(&self, weight: f64, x: &[f32]) -> (usize, usize) {
        let (scale, bound) = (weight / self.step(), self.levels as f64);
        let of_chunk = |chunk: &[f32]| {
            chunk.iter().fold((0, 0), |(clipped, vanished), &x| {
                let steps = (f64::from(x) * scale).abs();
                (clipped + usize::from(steps > bound), vanished + usize::from(steps > 0.0 && steps <= 0.5))
            })
        };
        let counts = parallel::map(x.chunks(CHUNK), of_chunk);
        counts.into_iter().fold((0, 0), |(a, b), (c, v)| (a + c, b + v))
    }

    /// A sum of inputs as real numbers.
    #[must_use]
    pub fn real<F: Prime>(&self, sum: &[F]) -> Vec<f64> {
        let step = self.step();
        sum.par_iter().map(|symbol| symbol.centred() as f64 * step).collect()
    }
}

/// `y += ` the nearest multiples, with the widest vectors of the processor.
struct Nearest<'a, F> {
    y: &'a mut [F],
    x: &'a [f32],
    /// Steps for 1.
    scale: f64,
    /// The most steps, below p.
    bound: f64,
}

impl<F: Prime> NullaryFnOnce for Nearest<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            let exact = (f64::from(x) * self.scale).clamp(-self.bound, self.bound);
            *y = *y + F::signed(exact.round_ties_even() as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::Symbol;
    use crate::algebra::field::{M31, M61};

    fn quantiser(clip: f64, bits: u32, rounding: Rounding) -> Quantiser {
        Quantisation { clip, bits, rounding, ..Quantisation::default() }.quantiser(2).unwrap()
    }

    #[test]
    fn steps_by_hand() {
        // b = 3: L = 3 levels a side, C = 1.5: steps of 0.5.
        let quantiser = quantiser(1.5, 3, Rounding::Nearest);
        let x = [0.0, 0.24, 0.26, -0.26, 0.75, 1.5, 7.0, -7.0];
        let mut y = vec![M61::zero(); x.len()];
        quantiser.add_to(&mut y, 1.0, &x, 0, Seed::new(1));
        let steps: Vec<i64> = y.iter().map(|y| y.centred()).collect();
        assert_eq!(steps, [0, 0, 1, -1, 2, 3, 3, -3]);
        quantiser.add_to(&mut y, 2.0, &x, 0, Seed::new(1));
        let steps: Vec<i64> = y.iter().map(|y| y.centred()).collect();
        assert_eq!(steps, [0, 1, 2, -2, 5, 6, 6, -6]);
        assert_eq!(quantiser.real(&y)[..4], [0.0, 0.5, 1.0, -1.0]);
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for rounding in [Rounding::Nearest, Rounding::Stochastic] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let add = move || {
                    let mut y = vec![M61::zero(); 3];
                    quantiser(1.5, 3, rounding).add_to(&mut y, 1.0, &[0.0, bad, 0.0], 0, Seed::new(1));
                };
                assert!(std::panic::catch_unwind(add).is_err(), "{bad} with {rounding:?}");
            }
        }
    }

    #[test]
    fn stochastic_rounding_has_no_bias() {
        // 10⁵ roundings of 0.3 steps: mean 0.3, standard error √(0.21/10⁵); α = 10⁻⁵ at 4.42 of them.
        let quantiser = quantiser(3.0, 3, Rounding::Stochastic);
        let x = vec![0.3f32; 100_000];
        let mut y = vec![M31::zero(); x.len()];
        quantiser.add_to(&mut y, 1.0, &x, 0, Seed::new(2));
        assert!(y.iter().all(|y| (0..=1).contains(&y.centred())));
        let mean = y.iter().map(|y| y.centred() as f64).sum::<f64>() / 1e5;
        assert!((mean - 0.3).abs() < 4.42 * (0.21f64 / 1e5).sqrt(), "{mean}");
        let mut full = vec![M31::zero(); 100];
        quantiser.add_to(&mut full, 1.0, &[3.0; 100], 0, Seed::new(3));
        assert!(full.iter().all(|y| y.centred() == 3), "nothing beyond the clip");
    }

    #[test]
    fn the_largest_sum_that_is_allowed_is_exact() {
        // 2³⁰ − 1 = (p − 1)/2 for p = 2³¹ − 1; b = 28: L = 2²⁷ − 1, 8 L = 2³⁰ − 8.
        let config = Quantisation { bits: 28, modulus: Modulus::M31, ..Quantisation::default() };
        let quantiser = config.quantiser(8).unwrap();
        let mut y = vec![M31::zero(); 2];
        for k in 0..8 {
            quantiser.add_to(&mut y, 1.0, &[1.0, -1.0], 0, Seed::new(k));
        }
        assert_eq!(y.iter().map(|y| y.centred()).collect::<Vec<_>>(), [(1 << 30) - 8, 8 - (1 << 30)]);
        assert_eq!(
            config.quantiser(9).unwrap_err().to_string(),
            "bits: 28 bits overflow: 9 updates of up to 134217727 steps exceed (p − 1)/2 = 1073741823; take at most \
             27 bits or a larger modulus"
        );
        assert!(Quantisation { bits: 27, ..config }.quantiser(9).is_ok());
    }

    #[test]
    fn every_rule_names_its_key() {
        let ok = Quantisation::default();
        for (bad, key) in [
            (Quantisation { clip: 0.0, ..ok.clone() }, "clip"),
            (Quantisation { clip: f64::NAN, ..ok.clone() }, "clip"),
            (Quantisation { bits: 1, ..ok.clone() }, "bits"),
            (Quantisation { bits: 54, ..ok.clone() }, "bits"),
        ] {
            let error = bad.quantiser(10).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{error}");
        }
        ok.quantiser(65_535).unwrap();
    }
}
