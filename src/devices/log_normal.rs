use serde::{Deserialize, Serialize};

use super::{Compute, ComputeLaw, Draws, check};
use crate::error::Result;
use crate::seed::Seed;

/// Most seconds per example of the median device.
pub(super) const SLOWEST: f64 = 1e6;

/// Largest standard deviation of a logarithm: e¹⁰ is 22,000.
const WIDEST: f64 = 10.0;

/// Seconds per example of which the logarithm is normal over the devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogNormal {
    /// Seconds per example of the median device, greater than 0, at most 10⁶.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub median: f64,
    /// Standard deviation of the logarithm over the devices, 0 to 10: one in six takes more than e^σ times
    /// the median.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub sigma: f64,
    /// Standard deviation of the logarithm over the rounds of a device, 0 to 10.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub jitter: f64,
}

impl Default for LogNormal {
    fn default() -> Self {
        Self { median: 0.01, sigma: 1.0, jitter: 0.0 }
    }
}

impl ComputeLaw for LogNormal {
    fn build(&self, _: usize, seed: Seed) -> Result<Box<dyn Compute>> {
        let Self { median, sigma, jitter } = *self;
        check("median", median, "(0, 1000000]", median > 0.0 && median <= SLOWEST)?;
        check("sigma", sigma, "[0, 10]", (0.0..=WIDEST).contains(&sigma))?;
        let jitter = Jitter::new(jitter, seed)?;
        Ok(Box::new(Model { median, sigma, devices: Draws::new(seed, "devices"), jitter }))
    }
}

struct Model {
    median: f64,
    sigma: f64,
    devices: Draws,
    jitter: Jitter,
}

impl Compute for Model {
    fn seconds_per_example(&self, client: u32, round: u64, _: f64) -> f64 {
        self.median * (self.sigma * self.devices.normal(client, 0)).exp() * self.jitter.factor(client, round)
    }
}

/// How the speed of a device differs from round to round.
pub(super) struct Jitter {
    sigma: f64,
    rounds: Draws,
}

impl Jitter {
    /// By a factor of which the logarithm has the standard deviation `sigma`.
    ///
    /// # Errors
    /// A `jitter` out of its range.
    pub fn new(sigma: f64, seed: Seed) -> Result<Self> {
        check("jitter", sigma, "[0, 10]", (0.0..=WIDEST).contains(&sigma))?;
        Ok(Self { sigma, rounds: Draws::new(seed, "jitter") })
    }

    pub fn factor(&self, client: u32, round: u64) -> f64 {
        (self.sigma * self.rounds.normal(client, round)).exp()
    }
}
