//! Updates as noisy integers: what a scheme over a field adds where the sum is released.

use std::ops::Range;

use rayon::prelude::*;

use super::Update;
use crate::algebra::distributed::{Added, DistributedNoise, Integers, Law};
use crate::algebra::field::Prime;
use crate::error::{Error, Result};
use crate::noise::{self, Noise, Rounded, Rounder, Sum};
use crate::protocol::Input;
use crate::seed::Seed;

/// Steps that the standard deviation of a share has at most: finer ones only fill the field.
const FINEST: f64 = 65536.0;

/// b: with so much probability may a rounding be longer than its bound, and is made again.
const BIAS: f64 = 0.6;

/// The most probable that a coordinate of a round's sum wraps around.
const WRAPS: f64 = 1e-9;

/// How updates become integers of a bounded norm, and the noise that clients add to them.
#[derive(Clone, Debug)]
pub(super) struct Released {
    added: Added,
    step: f64,
    rounder: Rounder,
    noise: Noise,
}

impl Released {
    /// For sums over `inputs` of them in a field of this `modulus`, on multiples of `step` or, where noise
    /// covers those anyway, on coarser ones.
    ///
    /// # Errors
    /// Numbers that the field cannot hold, by their key in a configuration.
    pub fn new(
        added: Added,
        noise: &DistributedNoise,
        step: f64,
        inputs: usize,
        modulus: u64,
    ) -> Result<Self> {
        let kind = match added.law {
            Law::Skellam => noise::Kind::Skellam,
            Law::DiscreteGaussian => noise::Kind::DiscreteGaussian,
            Law::Gaussian => {
                let rule =
                    "Gaussian noise does not exist over a field; take \"skellam\" or \"discrete-gaussian\"";
                return Err(Error::config("privacy.release.noise", rule));
            }
        };
        let step = step.max(added.std / FINEST);
        let unfit = |error: Error| {
            let rule = format!(
                "updates up to {} and noise of {:.3e} do not fit steps of {step:.3e} ({error}); change quantisation.bits or clip",
                noise.norm, added.std
            );
            Error::config("protocol.quantisation", rule)
        };
        let rounder = Rounder::new(step.recip(), noise.norm, noise.coordinates, BIAS).map_err(unfit)?;
        let variance = noise::variance(step.recip(), added.std);
        let own = Noise::new(kind, variance).map_err(unfit)?;
        let (radius, coordinates) = (noise.norm / step, noise.coordinates);
        let all = inputs as f64 * variance;
        let sum =
            Sum { clients: inputs, coordinates, radius, kind, variance: all, flattened: noise.flattened };
        let wraps = sum.wraps(modulus);
        if wraps > WRAPS {
            let rule = format!(
                "a sum of {inputs} noisy updates may wrap around with a probability of up to {wraps:.1e}; take fewer bits, \
                 flatten = true, or modulus = \"2^61-1\""
            );
            return Err(Error::config("protocol.quantisation.bits", rule));
        }
        let (l2, l1) = rounder.sensitivity();
        let integers = Some(Integers { step, l2, l1, variance, wraps });
        Ok(Self { added: Added { integers, ..added }, step, rounder, noise: own })
    }

    /// What is added.
    pub fn added(&self) -> Added {
        self.added
    }

    /// The input of an update, whose noise is drawn from `seed`.
    pub fn input<'a>(&'a self, update: &'a Update, seed: Seed) -> Noisy<'a> {
        let rounded = self.rounder.round(update.weight, &update.delta[..], seed.child("rounding", 0));
        Noisy { rounded, noise: &self.noise, seed: seed.child("noise", 0), part: 0..update.delta.len() }
    }

    /// A sum as real numbers.
    pub fn real<F: Prime>(&self, sum: &[F]) -> Vec<f64> {
        sum.par_iter().map(|symbol| symbol.centred() as f64 * self.step).collect()
    }
}

/// Some coordinates of a rounded update with noise.
#[derive(Clone)]
pub(super) struct Noisy<'a> {
    rounded: Rounded<'a, f32>,
    noise: &'a Noise,
    /// Of the noise, whatever the attempt.
    seed: Seed,
    part: Range<usize>,
}

impl Noisy<'_> {
    /// Other coordinates of the same.
    pub fn part(&self, part: Range<usize>) -> Self {
        Self { part, ..self.clone() }
    }
}

impl<F: Prime> Input<F> for Noisy<'_> {
    fn len(&self) -> usize {
        self.part.len()
    }

    fn add_to(&self, y: &mut [F]) {
        self.rounded.add_to(y, self.part.start);
        self.noise.add_to(y, self.part.start, self.seed);
    }
}
