//! FedAvgM: momentum over the rounds.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ServerRule, decay, positive};
use crate::error::Result;

/// Momentum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedAvgM {
    /// Step size η, greater than 0.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
    /// Momentum β, from 0 to below 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
}

impl Default for FedAvgM {
    fn default() -> Self {
        Self { learning_rate: 1.0, momentum: 0.9 }
    }
}

impl ServerRule for FedAvgM {
    fn check(&self) -> Result<()> {
        positive("learning_rate", self.learning_rate)?;
        decay("momentum", self.momentum)
    }

    fn start(&self, d: usize) -> Vec<Vec<f32>> {
        vec![vec![0.0; d]]
    }

    fn step(&self, parameters: &mut [f32], kept: &mut [Vec<f32>], direction: &[f64]) {
        let [velocity] = kept else { unreachable!("one vector of momentum") };
        let Self { learning_rate, momentum } = *self;
        let moved = parameters.par_iter_mut().zip(velocity).zip(direction);
        moved.for_each(|((x, v), delta)| {
            let velocity = momentum * f64::from(*v) + delta;
            *v = velocity as f32;
            *x = (f64::from(*x) + learning_rate * velocity) as f32;
        });
    }
}
