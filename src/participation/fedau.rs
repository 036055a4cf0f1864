use serde::{Deserialize, Serialize};

use super::{Participation, indices, sum, weight};
use crate::error::{Error, Result};
use crate::protocol::Update;

/// Weights by the intervals between arrivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedAu {
    /// Rounds K after which an interval counts as ended although nothing arrived, at least 1; it bounds the
    /// weights.
    #[schemars(range(min = 1))]
    pub cutoff: u32,
}

impl Default for FedAu {
    fn default() -> Self {
        Self { cutoff: 50 }
    }
}

impl Participation for FedAu {
    fn check(&self) -> Result<()> {
        match self.cutoff {
            0 => Err(Error::config("cutoff", "0 is too small; give at least 1")),
            _ => Ok(()),
        }
    }

    /// ω_k, the intervals that it is the mean of, and the rounds of the current one.
    fn start(&self, clients: usize, _d: usize) -> Vec<Vec<f32>> {
        vec![vec![1.0, 0.0, 0.0]; clients]
    }

    fn estimate(&self, memory: &mut [Vec<f32>], updates: &[Update], arrived: &[u32]) -> Option<Vec<f64>> {
        let total = weight(updates, 0..updates.len());
        let terms: Vec<(f64, &[f32])> = indices(arrived)
            .map(|k| (updates[k].weight / total * f64::from(memory[k][0]), updates[k].delta.as_slice()))
            .collect();
        let estimate = (!arrived.is_empty()).then(|| sum(&terms));
        // The weight of the round is that of the rounds before it, which keeps it independent of who arrives.
        for (k, memory) in memory.iter_mut().enumerate() {
            let &mut [mean, intervals, rounds] = memory.as_mut_slice() else { unreachable!("three numbers") };
            let length = rounds + 1.0;
            let ended = arrived.binary_search(&(k as u32)).is_ok() || length >= self.cutoff as f32;
            let next = if ended {
                [(mean * intervals + length) / (intervals + 1.0), intervals + 1.0, 0.0]
            } else {
                [mean, intervals, length]
            };
            memory.copy_from_slice(&next);
        }
        estimate
    }
}
