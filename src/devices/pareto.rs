use serde::{Deserialize, Serialize};

use super::log_normal::{Jitter, SLOWEST};
use super::{Compute, ComputeLaw, Draws, check};
use crate::error::Result;
use crate::seed::Seed;

/// Least shape: with it one device in ten takes 10⁷ times the median.
const HEAVIEST: f64 = 0.1;

/// Seconds per example that have Pareto's law over the devices: a share (x/m)^(−shape)/2 takes more than x,
/// for x from m · 2^(−1/shape) on, with the median m.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pareto {
    /// Seconds per example of the median device, greater than 0, at most 10⁶.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub median: f64,
    /// The tail, at least 0.1: among ten times as many devices the slowest takes 10^(1/shape) times as long.
    /// Without a mean from 1 down, without a variance from 2 down.
    #[schemars(range(min = 0.1))]
    pub shape: f64,
    /// Standard deviation of the logarithm over the rounds of a device, 0 to 10.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub jitter: f64,
}

impl Default for Pareto {
    fn default() -> Self {
        Self { median: 0.01, shape: 1.5, jitter: 0.0 }
    }
}

impl ComputeLaw for Pareto {
    fn build(&self, _: usize, seed: Seed) -> Result<Box<dyn Compute>> {
        let Self { median, shape, jitter } = *self;
        check("median", median, "(0, 1000000]", median > 0.0 && median <= SLOWEST)?;
        check("shape", shape, "[0.1, ∞)", shape >= HEAVIEST)?;
        let jitter = Jitter::new(jitter, seed)?;
        Ok(Box::new(Model { median, shape, devices: Draws::new(seed, "devices"), jitter }))
    }
}

struct Model {
    median: f64,
    shape: f64,
    devices: Draws,
    jitter: Jitter,
}

impl Compute for Model {
    fn seconds_per_example(&self, client: u32, round: u64, _: f64) -> f64 {
        let above = 1.0 - self.devices.uniform(client, 0);
        self.median * (2.0 * above).powf(-self.shape.recip()) * self.jitter.factor(client, round)
    }
}
