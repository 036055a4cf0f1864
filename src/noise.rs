//! Noise for exact sums: integers that every client adds before the sum, so that the sum is private.
//!
//! | paper | here | shape, unit |
//! |---|---|---|
//! | σ² | [`Noise::variance`] | of one coordinate, in steps² |
//! | Sk(μ, μ) | [`Noise::skellam`] of variance 2μ | one integer |
//! | N_ℤ(0, σ²) | [`Noise::discrete_gaussian`] | one integer |
//! | H D/√d′ | [`Hadamard`] | d′ = 2^⌈log₂ d⌉ numbers |
//! | Δ₂, Δ₁ | [`norm_bound`], [`Rounder::sensitivity`] | steps |
//! | γ = 1/s | [`step`] | of the update |
//!
//! A client clips its weighted update, turns it by a public rotation if few bits are to do ([`Hadamard`]),
//! rounds it to integers of a bounded norm ([`Rounder`]) and adds noise. Sources: Agarwal, Kairouz, Liu, *The
//! Skellam Mechanism for Differentially Private Federated Learning*, NeurIPS 2021; Kairouz, Liu, Steinke,
//! *The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation*, ICML 2021;
//! Canonne, Kamath, Steinke, *The Discrete Gaussian for Differential Privacy*, NeurIPS 2020.
//!
//! **What is exact.** The variance is the dyadic rational that its `f64` is. Given uniform words, a draw has
//! the law of that variance: every decision is one between integers, or between enclosures that are refined
//! until they part, and no rounding decides any (but for numbers beyond 2⁶¹, of a probability below
//! exp(−2⁷⁰)). There is nothing to be learnt from low bits of a sum, as there is where Gaussian noise is
//! rounded (Mironov, *On Significance of the Least Significant Bits for Differential Privacy*, CCS 2012). The
//! words are those of a ChaCha generator, so that privacy rests on it, and on a secret seed. How long a draw
//! takes depends on it: who can time single draws is not an adversary that is withstood.

mod exact;
mod hadamard;
mod hat;
mod law;
mod rounding;
mod scale;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use hadamard::{Float, Hadamard};
pub use rounding::{Rounded, Rounder};
pub use scale::{Sum, norm_bound, step};

use crate::algebra::CHUNK;
use crate::algebra::field::Prime;
use crate::error::{Error, Result};
use crate::parallel;
use crate::seed::Seed;
use hat::{Hat, Words};
use law::Law;

/// The largest variance, in steps².
const LARGEST: f64 = (1u64 << 50) as f64;

/// The smallest one.
const SMALLEST: f64 = 1.0 / LARGEST;

/// The law of a noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The difference of two Poisson draws: sums of such noises are such noises.
    Skellam,
    /// In proportion to exp(−k²/(2σ²)): sums are close to such noises.
    DiscreteGaussian,
}

/// A noise on the integers, symmetric about 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    kind: Kind,
    variance: f64,
    hat: Arc<Hat>,
}

impl Noise {
    /// The Skellam noise of this variance, in steps², from 2⁻⁵⁰ to 2⁵⁰: a Poisson draw of half of it less
    /// another.
    ///
    /// # Errors
    /// [`Error::Config`] at the key `variance` for another.
    pub fn skellam(variance: f64) -> Result<Self> {
        Self::new(Kind::Skellam, variance)
    }

    /// The discrete Gaussian of this σ², in steps², from 2⁻⁵⁰ to 2⁵⁰. Its variance is not larger.
    ///
    /// # Errors
    /// As [`Noise::skellam`].
    pub fn discrete_gaussian(variance: f64) -> Result<Self> {
        Self::new(Kind::DiscreteGaussian, variance)
    }

    /// The noise of this kind and variance.
    ///
    /// # Errors
    /// As [`Noise::skellam`].
    pub fn new(kind: Kind, variance: f64) -> Result<Self> {
        if !(SMALLEST..=LARGEST).contains(&variance) {
            let rule = format!(
                "{variance} steps² are out of range; give {SMALLEST:e} to 2^50, by another noise or another scale"
            );
            return Err(Error::config("variance", rule));
        }
        let law = match kind {
            Kind::Skellam => Law::Poisson(variance / 2.0),
            Kind::DiscreteGaussian => Law::Gaussian(variance),
        };
        Ok(Self { kind, variance, hat: Arc::new(Hat::new(law)) })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// σ² in steps², as it was given.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.variance
    }

    /// Adds independent noise to the coordinates of a long vector from `start` on, a multiple of [`CHUNK`]:
    /// as many as `y` has. A coordinate's noise depends on `seed` and on its place alone, not on what part of
    /// the vector `y` is.
    pub fn add_to<F: Prime>(&self, y: &mut [F], start: usize, seed: Seed) {
        debug_assert!(start.is_multiple_of(CHUNK), "noise is drawn in whole chunks");
        parallel::for_each(y.chunks_mut(CHUNK).enumerate(), |(index, y)| {
            let mut words = self.words((start / CHUNK + index) as u64, seed);
            // A number as large as p is next to never drawn but in small fields.
            let symbol = |n: i64| if n.unsigned_abs() < F::MODULUS { F::signed(n) } else { F::integer(n) };
            match self.kind {
                Kind::Skellam => y.iter_mut().for_each(|y| {
                    *y = *y + symbol(self.hat.draw(&mut words) - self.hat.draw(&mut words));
                }),
                Kind::DiscreteGaussian => {
                    y.iter_mut().for_each(|y| *y = *y + symbol(self.hat.draw(&mut words)));
                }
            }
        });
    }

    fn words(&self, chunk: u64, seed: Seed) -> Words {
        Words::new(seed.child("noise", chunk).bulk(0))
    }
}

/// The variance of a noise of standard deviation `std` per coordinate on updates scaled by `scale`, in
/// steps²: rounded up.
#[must_use]
pub fn variance(scale: f64, std: f64) -> f64 {
    // Two roundings, and one of this product.
    (scale * std).powi(2) * (1.0 + 4.0 * f64::EPSILON)
}

#[cfg(test)]
mod tests;
