use serde::{Deserialize, Serialize};

use super::{Participation, indices, sum, weight};
use crate::error::Result;
use crate::protocol::Update;

/// No rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Arrivals {}

/// What a server makes of the sum alone.
impl Participation for Arrivals {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn start(&self, _clients: usize, _d: usize) -> Vec<Vec<f32>> {
        Vec::new()
    }

    fn estimate(&self, _: &mut [Vec<f32>], updates: &[Update], arrived: &[u32]) -> Option<Vec<f64>> {
        let here = weight(updates, indices(arrived));
        let term = |k: usize| (updates[k].weight / here, updates[k].delta.as_slice());
        (!arrived.is_empty()).then(|| sum(&indices(arrived).map(term).collect::<Vec<_>>()))
    }
}
