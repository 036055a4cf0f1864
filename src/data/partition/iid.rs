//! Equal shares at random.

use serde::{Deserialize, Serialize};

use super::{Partition, deal, shuffled};
use crate::error::Result;
use crate::seed::Rng;

/// Every client gets a random share of equal size; sizes differ by one example at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Iid {}

impl Partition for Iid {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn divide(&self, labels: &[u16], _: usize, parts: &mut [Vec<usize>], rng: &mut Rng) -> Result<()> {
        let even = vec![1.0 / parts.len() as f64; parts.len()];
        deal(&shuffled(0..labels.len(), rng), parts, &even);
        Ok(())
    }

    fn least(&self) -> Option<usize> {
        None
    }

    fn remedy(&self) -> (&'static str, &'static str) {
        ("", "use fewer clients")
    }
}
