//! Deadlines: a message takes time, and one that is late is lost.
//!
//! A message of b bytes takes latency + b/rate + an exponential variable with mean `jitter`, fresh for every
//! use: the shifted exponential law of Lee et al., *Speeding Up Distributed Machine Learning Using Codes*,
//! IEEE Transactions on Information Theory
//! 2018. With the slack t = deadline − latency − b/rate it is late with probability exp(−t/jitter), and
//!       always if t < 0. All messages of a phase travel at the same time; [`super::round_seconds`] adds the
//!       phases of a round up.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::draw::Draws;
use super::values::{NOT_NEGATIVE, POSITIVE, PerLink, Table};
use super::{LinkLaw, LinkModel, LinkUse, Side};
use crate::error::Result;
use crate::message::Node;

/// Messages that take time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Deadline {
    /// Seconds after the start of a phase at which the receivers stop waiting, greater than 0.
    #[schemars(range(min = 0.0))]
    pub deadline: f64,
    /// Transfer rate in bytes per second, greater than 0: one number, one per sending client, or (between
    /// clients) a CSV matrix.
    pub rate: PerLink,
    /// Fixed part of the delay in seconds, at least 0; like `rate`.
    pub latency: PerLink,
    /// Mean of the random, exponential part of the delay in seconds, at least 0; like `rate`.
    pub jitter: PerLink,
}

impl Default for Deadline {
    fn default() -> Self {
        Self {
            deadline: 5.0,
            rate: PerLink::Same(1e6),
            latency: PerLink::Same(0.05),
            jitter: PerLink::Same(0.5),
        }
    }
}

impl Deadline {
    /// Checks the numbers.
    ///
    /// # Errors
    /// See [`super::NetworkConfig::build`].
    pub fn model(&self, side: &Side) -> Result<Model> {
        Ok(Model {
            deadline: POSITIVE.check("deadline", self.deadline)?,
            rate: self.rate.load("rate", POSITIVE, side)?,
            latency: self.latency.load("latency", NOT_NEGATIVE, side)?,
            jitter: self.jitter.load("jitter", NOT_NEGATIVE, side)?,
            draws: Draws::new(side.seed),
        })
    }
}

impl LinkLaw for Deadline {
    fn resolve_paths(&mut self, folder: &Path) {
        for values in [&mut self.rate, &mut self.latency, &mut self.jitter] {
            values.resolve_path(folder);
        }
    }

    fn build(&self, side: &Side) -> Result<Box<dyn LinkModel>> {
        Ok(Box::new(self.model(side)?))
    }
}

/// Checked delays of one family of links.
#[derive(Clone, Debug)]
pub struct Model {
    deadline: f64,
    rate: Table,
    latency: Table,
    jitter: Table,
    draws: Draws,
}

impl Model {
    /// Seconds that a message of `bytes` bytes takes at least.
    fn least(&self, from: Node, to: Node, bytes: u64) -> f64 {
        self.latency.at(from, to) + bytes as f64 / self.rate.at(from, to)
    }

    /// Seconds that this message takes, in time or not.
    #[must_use]
    pub fn duration(&self, link: LinkUse<Node>) -> f64 {
        let jitter = self.jitter.at(link.from, link.to);
        self.least(link.from, link.to, link.bytes) + jitter * self.draws.exponential(link)
    }
}

impl LinkModel for Model {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        self.duration(link) <= self.deadline
    }

    fn erasure(&self, from: Node, to: Node, bytes: u64) -> f64 {
        let slack = self.deadline - self.least(from, to, bytes);
        let jitter = self.jitter.at(from, to);
        match slack {
            late if late < 0.0 => 1.0,
            _ if jitter == 0.0 => 0.0,
            slack => (-slack / jitter).exp(),
        }
    }

    fn seconds(&self, link: LinkUse<Node>) -> Option<f64> {
        Some(self.duration(link).min(self.deadline))
    }

    fn deadline(&self, _: Node, _: Node) -> Option<f64> {
        Some(self.deadline)
    }
}
