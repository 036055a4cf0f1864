//! Which masks: in a configuration, and ready to be drawn.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Covariance, KeyKind, KeySource, Pairs, pairs};
use crate::algebra::Symbol;
use crate::algebra::grid::Grid;

/// The key construction of a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyChoice {
    /// [`KeyKind::Plain`].
    Plain,
    /// [`KeyKind::Fair`].
    #[default]
    Fair,
    /// [`KeyKind::Pairwise`].
    Pairwise,
    /// Of all covariances of the same total power the best one for a goal ([`super::optimise`]).
    Optimised,
}

impl KeyChoice {
    /// The name used in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.closed().map_or("optimised", KeyKind::name)
    }

    /// The construction, where it is one of those whose law does not depend on a goal.
    #[must_use]
    pub fn closed(self) -> Option<KeyKind> {
        match self {
            Self::Plain => Some(KeyKind::Plain),
            Self::Fair => Some(KeyKind::Fair),
            Self::Pairwise => Some(KeyKind::Pairwise),
            Self::Optimised => None,
        }
    }

    /// Σ_k Var(u_k) per coordinate for `clients` clients at key standard deviation `std`; optimised keys
    /// spend what fair ones do.
    #[must_use]
    pub fn total_power(self, clients: usize, std: f64) -> f64 {
        self.closed().unwrap_or(KeyKind::Fair).total_power(clients, std)
    }
}

impl From<KeyKind> for KeyChoice {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Plain => Self::Plain,
            KeyKind::Fair => Self::Fair,
            KeyKind::Pairwise => Self::Pairwise,
        }
    }
}

/// Masks whose law is known but for σ.
#[derive(Clone, Debug, PartialEq)]
pub enum Construction {
    /// One of the closed forms.
    Closed(KeyKind),
    /// Masks of this covariance, in units of σ².
    Correlated(Arc<Covariance>),
    /// Masks of pairs, each with a standard deviation of its own, in units of σ.
    Pairs(Arc<Pairs>),
}

impl From<KeyKind> for Construction {
    fn from(kind: KeyKind) -> Self {
        Self::Closed(kind)
    }
}

impl From<Covariance> for Construction {
    fn from(covariance: Covariance) -> Self {
        Self::Correlated(Arc::new(covariance))
    }
}

impl Construction {
    /// As [`KeyKind::stds`]; of correlated masks, which are not drawn one by one, [`Covariance::stds`].
    #[must_use]
    pub fn stds(&self, clients: usize, std: f64) -> (f64, f64) {
        match self {
            Self::Closed(kind) => kind.stds(clients, std),
            Self::Correlated(covariance) => covariance.stds(std),
            Self::Pairs(pairs) => {
                let most = pairs.variances(std).into_iter().fold(0.0, f64::max).sqrt();
                (pairs.draws(std).0, most)
            }
        }
    }

    /// As [`KeyKind::variances`].
    #[must_use]
    pub fn variances(&self, clients: usize, std: f64) -> Vec<f64> {
        match self {
            Self::Closed(kind) => kind.variances(clients, std),
            Self::Correlated(covariance) => covariance.variances(std),
            Self::Pairs(pairs) => pairs.variances(std),
        }
    }

    /// As [`KeyKind::masks`]; correlated masks are those of as many clients as their covariance has.
    #[must_use]
    pub fn masks<S: Symbol>(
        &self,
        clients: usize,
        len: usize,
        std: f64,
        grid: Option<&Grid>,
        round: u64,
        source: &impl KeySource<S>,
    ) -> Vec<Vec<S>> {
        match self {
            Self::Closed(kind) => kind.masks(clients, len, std, grid, round, source),
            Self::Correlated(covariance) => covariance.masks(len, std, grid, round, source),
            Self::Pairs(pairs) => {
                pairs::masks(clients, len, |k, j| pairs.std(k, j, std), grid, round, source)
            }
        }
    }

    /// The standard deviations at σ = `std` of the draws that the clients of pairs make their masks of, by
    /// client and by the other; `None` where somebody deals masks.
    #[must_use]
    pub fn of_pairs(&self, clients: usize, std: f64) -> Option<impl Fn(usize, usize) -> f64 + use<>> {
        let own = match self {
            Self::Closed(KeyKind::Pairwise) => None,
            Self::Pairs(pairs) => Some(Arc::clone(pairs)),
            Self::Closed(_) | Self::Correlated(_) => return None,
        };
        let alike = std / (clients as f64 - 1.0).sqrt();
        Some(move |k: usize, j: usize| own.as_ref().map_or(alike, |pairs| pairs.std(k, j, std)))
    }
}
