//! Shares of unequal size.

use serde::{Deserialize, Serialize};

use super::{Partition, check_alpha, deal, dirichlet, shuffled};
use crate::error::Result;
use crate::seed::Rng;

/// Client sizes have proportions drawn from a symmetric Dirichlet distribution; classes are mixed at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quantity {
    /// Concentration, positive, without unit: small values give few clients most examples. Default 1.
    #[schemars(range(min = 0.0))]
    pub alpha: f64,
}

impl Default for Quantity {
    fn default() -> Self {
        Self { alpha: 1.0 }
    }
}

impl Partition for Quantity {
    fn check(&self) -> Result<()> {
        check_alpha(self.alpha)
    }

    fn divide(&self, labels: &[u8], _: usize, parts: &mut [Vec<usize>], rng: &mut Rng) -> Result<()> {
        let examples = shuffled(0..labels.len(), rng);
        deal(&examples, parts, &dirichlet(self.alpha, parts.len(), rng));
        Ok(())
    }

    fn remedy(&self) -> (&'static str, &'static str) {
        ("alpha", "raise alpha, use fewer clients or another seed")
    }
}
