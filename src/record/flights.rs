//! Who computes on the model of which round, between two rounds of buffered aggregation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The clients at work, and the models that they took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flights {
    /// Who computes, or has and waits; who has computed first is first.
    pub aloft: BTreeSet<Flight>,
    /// Who takes part in the round that is played, by client. Empty between two rounds.
    pub landed: BTreeMap<u32, Flight>,
    /// Models that somebody took, d parameters each, by the rounds that had been played; not that of the last
    /// round.
    pub models: BTreeMap<u64, Arc<Vec<f32>>>,
}

/// A client's computing from one model. Moments are not negative: their bits are in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flight {
    done: u64,
    /// Who.
    pub client: u32,
    began: u64,
    /// Rounds that had been played when it began.
    pub version: u64,
}

impl Flight {
    /// Of a client that begins after `version` rounds, at these seconds.
    #[must_use]
    pub fn new(client: u32, version: u64, began: f64, done: f64) -> Self {
        Self { done: done.to_bits(), client, began: began.to_bits(), version }
    }

    /// Seconds at which it began.
    #[must_use]
    pub fn began(&self) -> f64 {
        f64::from_bits(self.began)
    }

    /// Seconds at which it has computed.
    #[must_use]
    pub fn done(&self) -> f64 {
        f64::from_bits(self.done)
    }
}

impl Flights {
    /// The older model from which client `k` computed, of those in the round; `None` where it had the last
    /// one.
    pub(super) fn model_of(&self, k: usize) -> Option<&Vec<f32>> {
        let flight = self.landed.get(&u32::try_from(k).ok()?)?;
        self.models.get(&flight.version).map(|model| &**model)
    }

    /// Ends a round: keeps its model, `before` it was played, for those who took that, and forgets models
    /// that nobody took or that are older than `oldest`.
    pub fn settle(&mut self, version: u64, before: Vec<f32>, oldest: u64) {
        self.landed.clear();
        self.models.insert(version, Arc::new(before));
        let taken: BTreeSet<u64> = self.aloft.iter().map(|flight| flight.version).collect();
        self.models.retain(|version, _| *version >= oldest && taken.contains(version));
    }
}
