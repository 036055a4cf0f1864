use serde::{Deserialize, Serialize};

use super::{Participation, remember, remembered, sum, weight};
use crate::error::Result;
use crate::protocol::Update;

/// Memory of the last updates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mifa {}

impl Participation for Mifa {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn start(&self, clients: usize, d: usize) -> Vec<Vec<f32>> {
        vec![vec![0.0; d]; clients]
    }

    fn estimate(&self, memory: &mut [Vec<f32>], updates: &[Update], arrived: &[u32]) -> Option<Vec<f64>> {
        remember(memory, updates, arrived);
        let total = weight(updates, 0..updates.len());
        (!arrived.is_empty()).then(|| sum(&remembered(memory, updates, total)))
    }
}
