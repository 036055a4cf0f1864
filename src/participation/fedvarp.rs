use serde::{Deserialize, Serialize};

use super::{Participation, indices, remember, remembered, sum, weight};
use crate::error::Result;
use crate::protocol::Update;

/// Variance reduction by the last updates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedVarp {}

impl Participation for FedVarp {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn start(&self, clients: usize, d: usize) -> Vec<Vec<f32>> {
        vec![vec![0.0; d]; clients]
    }

    fn estimate(&self, memory: &mut [Vec<f32>], updates: &[Update], arrived: &[u32]) -> Option<Vec<f64>> {
        if arrived.is_empty() {
            return None;
        }
        let total = weight(updates, 0..updates.len());
        let here = weight(updates, indices(arrived));
        let mut terms = remembered(memory, updates, total);
        for k in indices(arrived) {
            terms[k].0 -= updates[k].weight / here;
            terms.push((updates[k].weight / here, updates[k].delta.as_slice()));
        }
        let estimate = sum(&terms);
        remember(memory, updates, arrived);
        Some(estimate)
    }
}
