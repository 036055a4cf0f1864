//! Classes in Dirichlet proportions.

use serde::{Deserialize, Serialize};

use super::{Partition, check_alpha, deal, dirichlet, draw_class, of_class, shuffled};
use crate::error::Result;
use crate::seed::Rng;

/// Clients differ in the classes they hold, as draws from a symmetric Dirichlet distribution do.
///
/// Every class is divided among the clients in proportions drawn from it (Yurochkin et al. 2019), so that
/// client sizes differ too. With `balanced` all clients hold equally many examples, each client's classes in
/// proportions drawn from it (Hsu et al. 2019), until classes run out. Both go from one class a client (alpha
/// → 0) to IID (alpha → ∞), and use every example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dirichlet {
    /// Concentration, positive, without unit: small values give every client few classes. Default 0.5.
    #[schemars(range(min = 0.0))]
    pub alpha: f64,
    /// Whether all clients hold equally many examples, up to one. Default false.
    pub balanced: bool,
}

impl Default for Dirichlet {
    fn default() -> Self {
        Self { alpha: 0.5, balanced: false }
    }
}

impl Partition for Dirichlet {
    fn check(&self) -> Result<()> {
        check_alpha(self.alpha)
    }

    fn divide(&self, labels: &[u8], classes: usize, parts: &mut [Vec<usize>], rng: &mut Rng) -> Result<()> {
        let clients = parts.len();
        if !self.balanced {
            for class in 0..classes {
                let examples = shuffled(of_class(labels, class), rng);
                deal(&examples, parts, &dirichlet(self.alpha, clients, rng));
            }
            return Ok(());
        }
        let mut stock: Vec<Vec<usize>> =
            (0..classes).map(|class| shuffled(of_class(labels, class), rng)).collect();
        let proportions: Vec<Vec<f64>> = (0..clients).map(|_| dirichlet(self.alpha, classes, rng)).collect();
        // In turns, so that a class which runs out is missed by all who want it.
        for example in 0..labels.len() {
            let client = example % clients;
            let class = draw_class(&proportions[client], &stock, rng);
            parts[client].extend(stock[class].pop());
        }
        Ok(())
    }

    fn remedy(&self) -> (&'static str, &'static str) {
        ("alpha", "raise alpha, use fewer clients or another seed")
    }
}
