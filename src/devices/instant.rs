use serde::{Deserialize, Serialize};

use super::{Compute, ComputeLaw};
use crate::error::Result;
use crate::seed::Seed;

/// Computing that takes no time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Instant {}

impl ComputeLaw for Instant {
    fn build(&self, _: usize, _: Seed) -> Result<Box<dyn Compute>> {
        Ok(Box::new(Self {}))
    }
}

impl Compute for Instant {
    fn seconds_per_example(&self, _: u32, _: u64, _: f64) -> f64 {
        0.0
    }
}
