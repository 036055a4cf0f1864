//! FedAvg: the plain step.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ServerRule, positive};
use crate::error::Result;

/// A step along the direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedAvg {
    /// The global model moves by this factor η times the decoded direction; greater than 0.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
}

impl Default for FedAvg {
    fn default() -> Self {
        Self { learning_rate: 1.0 }
    }
}

impl ServerRule for FedAvg {
    fn check(&self) -> Result<()> {
        positive("learning_rate", self.learning_rate)
    }

    fn start(&self, _: usize) -> Vec<Vec<f32>> {
        Vec::new()
    }

    fn step(&self, parameters: &mut [f32], _: &mut [Vec<f32>], direction: &[f64]) {
        let rate = self.learning_rate;
        let moved = parameters.par_iter_mut().zip(direction);
        moved.for_each(|(x, delta)| *x = (f64::from(*x) + rate * delta) as f32);
    }
}
