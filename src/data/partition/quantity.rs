//! Shares of unequal size.

use serde::{Deserialize, Serialize};

use super::{Partition, check_alpha, check_least, deal, dirichlet, shuffled};
use crate::error::Result;
use crate::seed::Rng;

/// Client sizes have proportions drawn from a symmetric Dirichlet distribution; classes are mixed at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quantity {
    /// Concentration, positive, without unit: small values give few clients most examples. Default 1.
    #[schemars(range(min = 0.0))]
    pub alpha: f64,
    /// Examples that every client gets at least: a draw that gives one fewer is thrown away, up to a thousand
    /// times. When left out, the first draw counts, and has to give every client one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub least: Option<usize>,
}

impl Default for Quantity {
    fn default() -> Self {
        Self { alpha: 1.0, least: None }
    }
}

impl Partition for Quantity {
    fn check(&self) -> Result<()> {
        check_alpha(self.alpha)?;
        check_least(self.least)
    }

    fn divide(&self, labels: &[u16], _: usize, parts: &mut [Vec<usize>], rng: &mut Rng) -> Result<()> {
        let examples = shuffled(0..labels.len(), rng);
        deal(&examples, parts, &dirichlet(self.alpha, parts.len(), rng));
        Ok(())
    }

    fn least(&self) -> Option<usize> {
        self.least
    }

    fn remedy(&self) -> (&'static str, &'static str) {
        match self.least {
            None => ("alpha", "raise alpha, use fewer clients or another seed, or draw again with least = 1"),
            Some(_) => ("alpha", "raise alpha, use fewer clients or another seed"),
        }
    }
}
