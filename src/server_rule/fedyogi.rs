//! FedYogi: the mean of the squares moves by at most their size.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ServerRule, adapt, decay, moments, positive};
use crate::error::Result;

/// Yogi.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedYogi {
    /// Step size η, greater than 0.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
    /// Decay β₁ of the mean of the directions, from 0 to below 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub beta1: f64,
    /// Decay β₂ of the mean of their squares, from 0 to below 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub beta2: f64,
    /// Adaptivity τ, greater than 0: the smaller, the more coordinates with small directions are stretched.
    #[schemars(range(min = 0.0))]
    pub tau: f64,
}

impl Default for FedYogi {
    fn default() -> Self {
        Self { learning_rate: 0.01, beta1: 0.9, beta2: 0.99, tau: 1e-3 }
    }
}

impl ServerRule for FedYogi {
    fn check(&self) -> Result<()> {
        positive("learning_rate", self.learning_rate)?;
        positive("tau", self.tau)?;
        decay("beta1", self.beta1)?;
        decay("beta2", self.beta2)
    }

    fn start(&self, d: usize) -> Vec<Vec<f32>> {
        moments(d, self.tau)
    }

    fn step(&self, parameters: &mut [f32], kept: &mut [Vec<f32>], direction: &[f64]) {
        let Self { learning_rate, beta1, beta2, tau } = *self;
        adapt(parameters, kept, direction, [learning_rate, beta1, tau], |v, square| {
            let sign = if v == square { 0.0 } else { (v - square).signum() };
            v - (1.0 - beta2) * square * sign
        });
    }
}
