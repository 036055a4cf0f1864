//! Amplified FedAvg: what several rounds moved the model by is moved again.
//!
//! Wang, Ji, *A Unified Analysis of Federated Learning with Arbitrary Client Participation*, NeurIPS 2022. We
//! read the abstract; with g₀ the model P rounds ago, every P rounds g ← g₀ + η̂ (g − g₀). P = 1 is FedAvg
//! with the rate η̂η, and η̂ = 1 FedAvg.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ServerRule, positive};
use crate::error::{Error, Result};

/// Most rounds between two amplifications: they are counted in single precision.
const MOST_ROUNDS: u32 = 1_000_000;

/// FedAvg whose movement over some rounds is amplified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Amplified {
    /// Step size η of every round, greater than 0.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
    /// Rounds P between two amplifications, 1 to 1000000; those without a sum do not count. It helps where
    /// every client is heard equally often within them.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub interval: u32,
    /// What the movement over these rounds is multiplied by, η̂, greater than 0.
    #[schemars(range(min = 0.0))]
    pub factor: f64,
}

impl Default for Amplified {
    fn default() -> Self {
        Self { learning_rate: 1.0, interval: 10, factor: 2.0 }
    }
}

impl ServerRule for Amplified {
    fn check(&self) -> Result<()> {
        positive("learning_rate", self.learning_rate)?;
        positive("factor", self.factor)?;
        if (1..=MOST_ROUNDS).contains(&self.interval) {
            return Ok(());
        }
        Err(Error::config("interval", format!("{} is out of range; give 1 to {MOST_ROUNDS}", self.interval)))
    }

    /// The movement since the last amplification, and how many rounds made it.
    fn start(&self, d: usize) -> Vec<Vec<f32>> {
        vec![vec![0.0; d], vec![0.0]]
    }

    fn step(&self, parameters: &mut [f32], kept: &mut [Vec<f32>], direction: &[f64]) {
        let [moved, rounds] = kept else { unreachable!("the movement and the rounds") };
        let [rounds] = &mut rounds[..] else { unreachable!("one number of rounds") };
        *rounds += 1.0;
        let amplifies = *rounds >= self.interval as f32;
        let (rate, more) = (self.learning_rate, self.factor - 1.0);
        let steps = parameters.par_iter_mut().zip(moved).zip(direction);
        steps.for_each(|((x, moved), delta)| {
            let all = f64::from(*moved) + rate * delta;
            let again = if amplifies { more * all } else { 0.0 };
            *x = (f64::from(*x) + rate * delta + again) as f32;
            *moved = if amplifies { 0.0 } else { all as f32 };
        });
        if amplifies {
            *rounds = 0.0;
        }
    }
}
