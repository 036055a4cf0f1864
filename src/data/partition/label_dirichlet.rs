//! Classes in Dirichlet proportions.

use serde::{Deserialize, Serialize};

use super::{Partition, check_alpha, check_least, deal, dirichlet, draw_class, of_class, shuffled};
use crate::error::Result;
use crate::seed::Rng;

/// Clients differ in the classes they hold, as draws from a symmetric Dirichlet distribution do.
///
/// Every class is divided among the clients in proportions drawn from it (Yurochkin et al. 2019), so that
/// client sizes differ too: from a single owner of every class (alpha → 0) to IID (alpha → ∞). With
/// `balanced` all clients hold equally many examples, each client's classes in proportions drawn from it (Hsu
/// et al. 2019) until classes run out. Every example is used, so that clients which want the same class end
/// with what nobody wants: even for alpha → 0 most of them hold several classes, and a warning tells how many
/// examples that are. `classes-per-client` gives everybody exactly as many classes as it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dirichlet {
    /// Concentration, positive, without unit: small values give every client few classes. Default 0.5.
    #[schemars(range(min = 0.0))]
    pub alpha: f64,
    /// Whether all clients hold equally many examples, up to one. Default false.
    pub balanced: bool,
    /// Examples that every client gets at least: a draw that gives one fewer is thrown away, up to a thousand
    /// times. When left out, the first draw counts, and has to give every client one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub least: Option<usize>,
}

impl Default for Dirichlet {
    fn default() -> Self {
        Self { alpha: 0.5, balanced: false, least: None }
    }
}

/// Share of examples beyond which classes that ran out are worth a warning.
const MOST_DISPLACED: f64 = 0.3;

/// The share of examples that are of other classes than these proportions of every client ask for.
fn displaced(labels: &[u16], parts: &[Vec<usize>], proportions: &[Vec<f64>]) -> f64 {
    let excess = |(part, wanted): (&Vec<usize>, &Vec<f64>)| -> f64 {
        let mut counts = vec![0.0; wanted.len()];
        part.iter().for_each(|&example| counts[usize::from(labels[example])] += 1.0);
        let size = part.len() as f64;
        counts.iter().zip(wanted).map(|(count, share)| (count - share * size).max(0.0)).sum()
    };
    parts.iter().zip(proportions).map(excess).sum::<f64>() / labels.len() as f64
}

impl Partition for Dirichlet {
    fn check(&self) -> Result<()> {
        check_alpha(self.alpha)?;
        check_least(self.least)
    }

    fn needs_classes(&self) -> bool {
        true
    }

    fn divide(&self, labels: &[u16], classes: usize, parts: &mut [Vec<usize>], rng: &mut Rng) -> Result<()> {
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
        let displaced = displaced(labels, parts, &proportions);
        if displaced > MOST_DISPLACED {
            tracing::warn!(
                "partition.balanced: {:.0} % of the examples are of other classes than their clients drew at \
                 alpha = {}, as classes ran out; classes-per-client gives each exactly as many as it says",
                100.0 * displaced,
                self.alpha
            );
        }
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
