//! The two laws: logarithms of their probabilities, in double precision and to any precision.

use std::f64::consts::TAU;

use super::exact::{Enclosure, dyadic, ln, ln_factorial};
use crate::algebra::gaussian;

/// [`Law::log`] is closer than this to the exact logarithm within 32 σ of the mode; where one is below −10⁶,
/// so is about the other, which is all that is asked there.
pub(super) const ERROR: f64 = 1.0 / (1u64 << 24) as f64;

/// Up to this number a factorial is exact in double precision.
const FACTORIAL: i64 = 18;

/// A law on the integers whose probabilities rise up to a number and fall from there on, ever faster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Law {
    /// In proportion to exp(−k²/(2σ²)), of this σ².
    Gaussian(f64),
    /// λᵏ e^{−λ}/k! for k ≥ 0, of this λ.
    Poisson(f64),
}

impl Law {
    /// The most probable number.
    pub fn mode(self) -> i64 {
        match self {
            Self::Gaussian(_) => 0,
            Self::Poisson(mean) => mean as i64,
        }
    }

    /// The least number with a probability.
    pub fn least(self) -> i64 {
        match self {
            Self::Gaussian(_) => i64::MIN,
            Self::Poisson(_) => 0,
        }
    }

    /// σ², λ: about the variance.
    pub fn spread(self) -> f64 {
        let (Self::Gaussian(spread) | Self::Poisson(spread)) = self;
        spread
    }

    /// The logarithm of the probability of `k`, up to the constant of [`Law::enclose`].
    pub fn log(self, k: i64) -> f64 {
        let x = k as f64;
        match self {
            Self::Gaussian(variance) => -(x * x) / (2.0 * variance),
            Self::Poisson(mean) if k <= FACTORIAL => {
                let factorial = (2..=k).fold(1.0, |product, factor| product * factor as f64);
                x * gaussian::ln(mean) - mean - gaussian::ln(factorial)
            }
            Self::Poisson(mean) => -deviance(x, mean) - 0.5 * gaussian::ln(TAU * x) - stirling(x),
        }
    }

    /// The same to any precision.
    pub fn enclose(self, k: i64, bits: u32) -> Enclosure {
        let (m, e) = dyadic(self.spread());
        match self {
            Self::Gaussian(_) => {
                let square = num_bigint::BigInt::from(k).pow(2);
                Enclosure::ratio(&-square, &m, -1 - e, bits)
            }
            Self::Poisson(_) => {
                let k = k.unsigned_abs();
                let mean = Enclosure::ratio(&m.clone().into(), &1u8.into(), e, bits);
                ln(&m, e, bits).times(k) - mean - ln_factorial(k, bits)
            }
        }
    }
}

/// k ln(k/λ) + λ − k without cancellation (Loader, *Fast and accurate computation of binomial
/// probabilities*, 2000).
fn deviance(k: f64, mean: f64) -> f64 {
    let v = (k - mean) / (k + mean);
    if v.abs() > 1.0 / 7.0 {
        return k * gaussian::ln(k / mean) + mean - k;
    }
    // ln(k/λ) = 2 artanh v = 2 Σ v^{2j+1}/(2j + 1), whose first term and λ − k make (k − λ) v.
    let square = v * v;
    let series = (1..10).rev().fold(0.0, |sum, j| (sum + 1.0 / f64::from(2 * j + 1)) * square);
    (k - mean) * v + 2.0 * k * v * series
}

/// ln k! − ln(√(2πk) (k/e)ᵏ) for k > 18, to 2⁻³⁰.
fn stirling(k: f64) -> f64 {
    let square = k * k;
    (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * square)) / square) / k
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    /// The logarithm differs by less than a bound from the enclosed one.
    fn agrees(law: Law, k: i64) -> bool {
        const BITS: u32 = 160;
        let log = law.log(k);
        let (m, e) = dyadic(log.abs());
        let m = if log < 0.0 { -BigInt::from(m) } else { BigInt::from(m) };
        let float = Enclosure::ratio(&m, &1u8.into(), e, BITS);
        let bound = Enclosure::ratio(&1u8.into(), &1u8.into(), if log < -1e6 { 0 } else { -26 }, BITS);
        let exact = law.enclose(k, BITS);
        (float.clone() - exact.clone()).is_at_most(&bound) && (exact - float).is_at_most(&bound)
    }

    proptest! {
        #[test]
        fn floats_are_close_to_enclosures(power in -20.0f64..49.0, at in -16.0f64..16.0) {
            let spread = 2f64.powf(power);
            let reach = (at * spread.sqrt().max(32.0)) as i64;
            prop_assert!(agrees(Law::Gaussian(spread), reach));
            let poisson = Law::Poisson(spread);
            prop_assert!(agrees(poisson, (poisson.mode() + reach).max(0)));
        }
    }

    #[test]
    fn the_seams_of_the_formulas_are_close_too() {
        for mean in [1e-6, 0.5, 4.0, 17.3, 300.0, 1000.25, 4095.9, 4096.0] {
            for k in (0..40).chain(1020..1030).chain(4580..4610) {
                assert!(agrees(Law::Poisson(mean), k), "{mean} {k}");
            }
        }
    }

    #[test]
    fn probabilities_of_small_numbers() {
        let poisson = Law::Poisson(2.0);
        for (k, want) in
            [(0, 1.0), (1, 2.0), (2, 2.0), (3, 4.0 / 3.0), (20, 2f64.powi(20) / 2_432_902_008_176_640_000.0)]
        {
            let got = poisson.log(k).exp() * 2f64.exp();
            assert!((got - want).abs() < 1e-9 * want, "{k}: {got}");
        }
        assert_eq!(Law::Gaussian(2.0).log(-3), -2.25);
    }
}
