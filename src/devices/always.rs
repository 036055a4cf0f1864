use serde::{Deserialize, Serialize};

use super::{Availability, AvailabilityLaw};
use crate::error::Result;
use crate::seed::Seed;

/// Clients that are always there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Always {}

impl AvailabilityLaw for Always {
    fn build(&self, _: usize, _: Seed) -> Result<Box<dyn Availability>> {
        Ok(Box::new(Self {}))
    }
}

impl Availability for Always {
    fn is_there(&self, _: u32, _: f64) -> bool {
        true
    }

    fn stays(&self, _: u32, _: f64, _: f64) -> bool {
        true
    }
}
