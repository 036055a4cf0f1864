//! Buffered asynchronous aggregation: nobody waits for the slowest.
//!
//! Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba, *Federated Learning with Buffered Asynchronous
//! Aggregation*, AISTATS 2022, algorithm 1 (FedBuff).
//!
//! | paper | here |
//! |---|---|
//! | K | [`Buffered::size`] |
//! | M_c | [`Buffered::concurrency`] |
//! | τ_i, s(τ) = 1/√(1 + τ) | the rounds since a client took its model, [`Buffered::discount`] |
//!
//! So many clients compute at the same time. Who has computed waits until K have, and they are the cohort of
//! a round: they play the protocol as any cohort does, each with its update times its discount. Whenever one
//! has computed another begins, from the model that there is.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Cohorts of the clients that have computed next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Buffered {
    /// Clients K of a round, at least `cohort.least`.
    #[schemars(range(min = 1))]
    pub size: usize,
    /// Clients who compute at the same time, from `size` to `clients`.
    #[schemars(range(min = 1))]
    pub concurrency: usize,
    /// Rounds that may have passed since a client took its model; the work of one that took longer is lost.
    pub max_staleness: u64,
}

impl Default for Buffered {
    fn default() -> Self {
        Self { size: 5, concurrency: 10, max_staleness: 20 }
    }
}

impl Buffered {
    /// What an update counts after `staleness` rounds.
    #[must_use]
    pub fn discount(staleness: u64) -> f64 {
        (1.0 + staleness as f64).sqrt().recip()
    }

    pub(super) fn check(&self, least: usize, clients: usize) -> Result<()> {
        let Self { size, concurrency, .. } = *self;
        let range = |key: &str, value: usize, from: String, to: String, fits: bool| match fits {
            true => Ok(()),
            false => Err(Error::config(key, format!("{value} is out of range; give {from} to {to}"))),
        };
        let (from, to) = (format!("{least} (`least`)"), format!("{concurrency} (`concurrency`)"));
        range("size", size, from, to, (least..=concurrency).contains(&size))?;
        let (from, to) = (format!("{size} (`size`)"), format!("{clients} (`clients`)"));
        range("concurrency", concurrency, from, to, concurrency <= clients)
    }
}
