//! Example-level differential privacy in local training: DP-SGD (Abadi, Chu, Goodfellow, McMahan, Mironov,
//! Talwar, Zhang, *Deep Learning with Differential Privacy*, CCS 2016, algorithm 1).
//!
//! | paper | here | shape, unit |
//! |---|---|---|
//! | q = L/N | [`SampledGaussian::rate`] | probability that an example is in a step's batch, each on its own |
//! | C | [`PrivateConfig::clip`] | norm of one example's gradient |
//! | σ | [`PrivateConfig::noise_multiplier`] | standard deviation of the noise over C |
//! | g̃ = (Σ_i g_i · min(1, C/‖g_i‖) + N(0, σ²C² I))/L | [`Sum`] | d numbers |
//!
//! What a client sends after these steps, and whatever is made of it, is private for the presence of each of
//! its examples, against everybody who knows all others and the number of examples: momentum, Adam, proximal
//! terms and control vectors are made of what is private already. The losses that a simulation writes down
//! are not.
//!
//! The noise is a normal draw in double precision that is added in double precision, and the result is
//! rounded to single precision: privacy is that of real numbers. An attack on low bits (Mironov, CCS 2012) is
//! not withstood.

use serde::{Deserialize, Serialize};

use rand::RngExt;

use crate::algebra::{CHUNK, gaussian};
use crate::error::{Error, Result};
use crate::seed::Seed;

/// DP-SGD: every step takes each example with probability batch_size over their number, clips its gradient,
/// and adds noise to the sum, which is divided by batch_size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivateConfig {
    /// Bound C on the L2 norm of the gradient of one example, above 0; a longer one is scaled down to it.
    #[schemars(range(min = 0.0))]
    pub clip: f64,
    /// Standard deviation of the noise on the sum of a batch's gradients over C, at least 0; with 0 nothing
    /// is private.
    #[schemars(range(min = 0.0))]
    pub noise_multiplier: f64,
}

/// The noisy steps of one client in one round, as an accountant counts them: Gaussian mechanisms on samples
/// in which every example is with the same probability, each on its own. Adjacent clients differ by one
/// example that one of them lacks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledGaussian {
    /// Probability q that an example is in a step's batch.
    pub rate: f64,
    /// Standard deviation of the noise over the bound on one example's gradient.
    pub noise_multiplier: f64,
    /// Steps.
    pub steps: usize,
}

impl PrivateConfig {
    pub(super) fn check(&self) -> Result<()> {
        let Self { clip, noise_multiplier } = *self;
        if !(clip > 0.0 && clip.is_finite()) {
            return Err(Error::config("clip", format!("must be a finite number above 0, not {clip}; try 1")));
        }
        if !(noise_multiplier >= 0.0 && noise_multiplier.is_finite()) {
            let rule = format!("must be a finite number of at least 0, not {noise_multiplier}; try 1");
            return Err(Error::config("noise_multiplier", rule));
        }
        Ok(())
    }
}

/// The examples of one step: each of `shard` with probability `batch_size` over their number, or 1.
pub(super) fn sample(shard: &[usize], batch_size: usize, seed: Seed) -> Vec<usize> {
    if batch_size >= shard.len() {
        return shard.to_vec();
    }
    let mut rng = seed.rng();
    shard.iter().copied().filter(|_| rng.random_range(0..shard.len()) < batch_size).collect()
}

/// Clipped gradients of single examples, added up.
pub(super) struct Sum {
    config: PrivateConfig,
    values: Vec<f64>,
}

impl Sum {
    /// Nothing yet, of d coordinates.
    pub fn new(config: PrivateConfig, d: usize) -> Self {
        Self { config, values: vec![0.0; d] }
    }

    /// Adds one example's gradient: parts that begin at these coordinates, 0 elsewhere. One that is not
    /// finite is left out, since no factor bounds it.
    pub fn add(&mut self, parts: &[(usize, &[f32])]) {
        let norm = parts.iter().map(|(_, part)| energy(part)).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return;
        }
        let factor = (self.config.clip / norm).min(1.0);
        for &(at, part) in parts {
            let values = &mut self.values[at..at + part.len()];
            values.iter_mut().zip(part).for_each(|(value, x)| *value += factor * f64::from(*x));
        }
    }

    /// The sum with its noise over `batch_size`.
    pub fn noisy(mut self, batch_size: usize, seed: Seed) -> Vec<f32> {
        let std = self.config.clip * self.config.noise_multiplier;
        let mut noise = vec![0.0; CHUNK.min(self.values.len())];
        for (index, values) in self.values.chunks_mut(CHUNK).enumerate().filter(|_| std > 0.0) {
            let noise = &mut noise[..values.len()];
            gaussian::fill_f64(&mut seed.bulk(index as u64), noise);
            values.iter_mut().zip(noise).for_each(|(value, noise)| *value += std * *noise);
        }
        self.values.iter().map(|value| (value / batch_size as f64) as f32).collect()
    }
}

/// Σ x², in lanes.
fn energy(x: &[f32]) -> f64 {
    let (blocks, rest) = x.as_chunks::<16>();
    let mut lanes = [0.0f64; 16];
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(lane, &x)| *lane += f64::from(x) * f64::from(x));
    }
    lanes.into_iter().chain(rest.iter().map(|&x| f64::from(x) * f64::from(x))).sum()
}

#[cfg(test)]
mod tests;
