//! Independent erasures: every use of a link fails with that link's probability, whatever happened before.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::draw::Draws;
use super::values::{PROBABILITY, PerLink, Table};
use super::{LinkLaw, LinkModel, LinkUse, Side};
use crate::error::Result;
use crate::message::Node;

/// Independent Bernoulli erasures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bernoulli {
    /// Erasure probability of one use of a link, each in [0, 1]: one number for all links, a list with one
    /// number per sending client, or (between clients) the path of a CSV file with an M × M matrix, row =
    /// receiver, column = sender, relative to the configuration's folder.
    pub erasure: PerLink,
}

impl Default for Bernoulli {
    fn default() -> Self {
        Self { erasure: PerLink::Same(0.0) }
    }
}

impl Bernoulli {
    /// Checks the probabilities and loads a matrix.
    ///
    /// # Errors
    /// See [`super::NetworkConfig::build`].
    pub fn model(&self, side: &Side) -> Result<Model> {
        Ok(Model {
            probabilities: self.erasure.load("erasure", PROBABILITY, side)?,
            draws: Draws::new(side.seed),
        })
    }
}

impl LinkLaw for Bernoulli {
    fn resolve_paths(&mut self, folder: &Path) {
        self.erasure.resolve_path(folder);
    }

    fn build(&self, side: &Side) -> Result<Box<dyn LinkModel>> {
        Ok(Box::new(self.model(side)?))
    }
}

/// Checked erasure probabilities of one family of links.
#[derive(Clone, Debug)]
pub struct Model {
    probabilities: Table,
    draws: Draws,
}

impl LinkModel for Model {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        self.draws.uniform(link) >= self.probabilities.at(link.from, link.to)
    }

    fn erasure(&self, from: Node, to: Node, _: u64) -> f64 {
        self.probabilities.at(from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::*;
    use crate::seed::Seed;

    fn model(erasure: PerLink, shape: Shape) -> Result<Model> {
        let (seed, common) = (Seed::new(5), Seed::new(6));
        Bernoulli { erasure }.model(&Side { clients: 4, rounds: 1000, shape, seed, common })
    }

    fn use_of(round: u64, attempt: u32, transfer: u8, from: u32, to: u32) -> LinkUse<Node> {
        LinkUse { round, attempt, transfer, from: Node::Client(from), to: Node::Client(to), bytes: 8 }
    }

    #[test]
    fn frequency_and_independence_match_the_law() {
        // 40,000 uses per statistic, bounds of 4.5 standard errors: α < 10⁻⁵ each for a correct model.
        let p = 0.3;
        let model = model(PerLink::Same(p), Shape::Mesh).unwrap();
        let n = 40_000u64;
        let lost =
            |round, attempt, transfer, from, to| !model.delivers(use_of(round, attempt, transfer, from, to));
        let bound = 4.5 * (p * (1.0 - p) / n as f64).sqrt();
        let both_bound = 4.5 * (p * p * (1.0 - p * p) / n as f64).sqrt();
        let frequency = (1..=n).filter(|&r| lost(r, 0, 0, 0, 1)).count() as f64 / n as f64;
        assert!((frequency - p).abs() < bound, "{frequency}");
        type Use = (u32, u8, u32, u32);
        let neighbours: [Use; 5] = [(1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 0), (0, 0, 0, 2), (0, 0, 2, 1)];
        for (attempt, transfer, from, to) in neighbours {
            let both = (1..=n)
                .filter(|&r| lost(r, 0, 0, 0, 1) && lost(r, attempt, transfer, from, to))
                .count() as f64
                / n as f64;
            assert!((both - p * p).abs() < both_bound, "{both}");
        }
        let both =
            (1..=n).filter(|&r| lost(r, 0, 0, 0, 1) && lost(r + 1, 0, 0, 0, 1)).count() as f64 / n as f64;
        assert!((both - p * p).abs() < both_bound, "{both}");
    }

    #[test]
    fn certain_links_are_certain() {
        let never = model(PerLink::Same(1.0), Shape::Mesh).unwrap();
        let always = model(PerLink::Same(0.0), Shape::Mesh).unwrap();
        for round in 0..1000 {
            assert!(!never.delivers(use_of(round, 0, 0, 0, 1)));
            assert!(always.delivers(use_of(round, 0, 0, 0, 1)));
        }
    }

    #[test]
    fn a_matrix_is_indexed_by_receiver_then_sender() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0,0.1,0.2,0.3\n0.4,0,0.5,0.6\n0.7,0.8,0,0.9\n1,1,1,0\n").unwrap();
        let model = model(PerLink::Matrix(file.path().into()), Shape::Mesh).unwrap();
        assert_eq!(model.erasure(Node::Client(2), Node::Client(0), 8), 0.2);
        assert_eq!(model.erasure(Node::Client(0), Node::Client(2), 8), 0.7);
    }

    #[test]
    fn bad_probabilities_are_refused_in_one_line() {
        let message = |erasure, shape| model(erasure, shape).unwrap_err().to_string();
        assert_eq!(message(PerLink::Same(1.5), Shape::Mesh), "erasure: probability 1.5 is outside [0, 1]");
        assert_eq!(
            message(PerLink::Same(f64::NAN), Shape::Mesh),
            "erasure: probability NaN is outside [0, 1]"
        );
        assert_eq!(
            message(PerLink::PerClient(vec![0.1, 0.2, -0.1, 0.0]), Shape::Star),
            "erasure: probability -0.1 of client 3 is outside [0, 1]"
        );
        assert_eq!(
            message(PerLink::PerClient(vec![0.1]), Shape::Star),
            "erasure: the list has 1 number for 4 clients; give one per client, or one number for all"
        );
    }
}
