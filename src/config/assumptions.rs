//! What an audit of a configuration assumes.

use super::Config;
use crate::audit::{Assumptions, Weights};
use crate::compress::size;
use crate::error::Result;

impl Config {
    /// What audits assume of clients of the given weights.
    #[must_use]
    pub fn assumptions(&self, weights: impl Into<Weights>) -> Assumptions {
        Assumptions {
            input_std: self.privacy.update_std,
            clip: self.solver.solver().clip_norm(),
            weights: weights.into(),
            delta: self.privacy.ldp_delta,
            rounds: self.rounds,
            coordinates: None,
        }
    }

    /// Coordinates of what is sent of an update of the configured model.
    ///
    /// # Errors
    /// Data that cannot be read, or a model that does not fit it.
    pub fn coordinates(&self) -> Result<usize> {
        Ok(self.sent(&self.model.tensors(&self.data)?))
    }

    /// Coordinates of what the configured solver and compression send of a model with tensors of these
    /// shapes.
    #[must_use]
    pub fn sent(&self, tensors: &[Vec<usize>]) -> usize {
        match self.compression.chosen() {
            Some(compression) => compression.coordinates(tensors),
            None => self.solver.solver().coordinates(size(tensors)),
        }
    }

    /// One for every number of clients that a round may have, the largest first; `weights` are those of the
    /// configuration's own division. Where it is drawn or left open who takes part, each client of a cohort
    /// may have any weight that occurs; clients with examples of their own (`deploy.names`) may have any
    /// weight of `deploy.weights`.
    #[must_use]
    pub fn cases(&self, weights: &[f64]) -> Vec<Assumptions> {
        let (cohort, deploy) = (&self.cohort, &self.deploy);
        let deployed = !deploy.names.is_empty();
        let largest = cohort.most(self.clients);
        let open = cohort.drop_after.is_some() || cohort.rate.is_some() || !self.devices.are_there();
        let varies = deployed || open;
        let smallest = if varies { cohort.least.clamp(1, largest) } else { largest };
        let least = weights.iter().copied().fold(f64::INFINITY, f64::min);
        let most = weights.iter().copied().fold(0.0, f64::max);
        let sizes = (smallest..=largest).rev();
        let of = |size: usize| match deploy.weights {
            _ if !deployed && size == weights.len() => Weights::from(weights.to_vec()),
            _ if !deployed => Weights::between(size, least, most),
            None => Weights::between(size, 0.0, size as f64),
            Some([least, most]) => Weights::between(size, least, most.min(size as f64)),
        };
        sizes.map(|size| self.assumptions(of(size))).collect()
    }
}
