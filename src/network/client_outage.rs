//! Clients that are down for a while: a message is lost when its sender or its receiver is down.
//!
//! Every client is up or down by a two-state Markov chain of its own that steps once a round; the length of
//! an outage is geometric. The chain of a client depends on the network's seed only: with the same
//! `down_share` and `duration` between clients and to the server, a client is down on both at once.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::draw::Draws;
use super::values::{PROBABILITY, PerLink, ROUNDS, SHARE, Table};
use super::{Dependence, LinkLaw, LinkModel, LinkUse, Shape, Side};
use crate::error::{Error, Result};
use crate::message::Node;
use crate::seed::mix;

/// Outages of whole clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientOutage {
    /// Share of rounds in which a client is down, in [0, 1): one number, or one per client.
    pub down_share: PerLink,
    /// Mean length of an outage in rounds, at least 1: one number, or one per client.
    pub duration: PerLink,
    /// Erasure probability of a use of a link whose ends are up, in [0, 1]: one number, one per sending
    /// client, or (between clients) a CSV matrix.
    pub erasure: PerLink,
}

impl Default for ClientOutage {
    fn default() -> Self {
        Self { down_share: PerLink::Same(0.1), duration: PerLink::Same(5.0), erasure: PerLink::Same(0.0) }
    }
}

impl ClientOutage {
    /// Checks the chains of all clients.
    ///
    /// # Errors
    /// See [`super::NetworkConfig::build`]; a chain without a stationary law.
    pub fn model(&self, side: &Side) -> Result<Model> {
        if side.shape == Shape::OfHelpers {
            return Err(Error::config("", "helpers are always up; take another kind for their links"));
        }
        let share = self.down_share.load_per_client("down_share", SHARE, side.clients)?;
        let duration = self.duration.load_per_client("duration", ROUNDS, side.clients)?;
        let chains = (0..side.clients as u32)
            .map(|k| {
                Chain::of_bursts(share.of(k), duration.of(k))
                    .map_err(|rule| Error::config("duration", format!("client {}: {rule}", k + 1)))
            })
            .collect::<Result<_>>()?;
        Ok(Model {
            chains,
            states: side.common.child("client-outage", 0).word(),
            erasure: self.erasure.load("erasure", PROBABILITY, side)?,
            draws: Draws::new(side.seed),
        })
    }
}

impl LinkLaw for ClientOutage {
    fn resolve_paths(&mut self, folder: &Path) {
        self.erasure.resolve_path(folder);
    }

    fn build(&self, side: &Side) -> Result<Box<dyn LinkModel>> {
        Ok(Box::new(self.model(side)?))
    }
}

/// The checked chains of all clients.
#[derive(Clone, Debug)]
pub struct Model {
    chains: Vec<Chain>,
    states: u64,
    erasure: Table,
    draws: Draws,
}

impl Model {
    /// Whether the party is down in the round.
    #[must_use]
    pub fn is_down(&self, party: Node, round: u64) -> bool {
        match party {
            Node::Client(k) => {
                self.chains[k as usize].is_bad(mix(self.states ^ u64::from(party.code())), round)
            }
            Node::Helper(_) | Node::Server => false,
        }
    }
}

impl LinkModel for Model {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        !self.is_down(link.from, link.round)
            && !self.is_down(link.to, link.round)
            && self.draws.uniform(link) >= self.erasure.at(link.from, link.to)
    }

    fn erasure(&self, from: Node, to: Node, _: u64) -> f64 {
        let up = |party| match party {
            Node::Client(k) => 1.0 - self.chains[k as usize].bad_share(),
            Node::Helper(_) | Node::Server => 1.0,
        };
        1.0 - up(from) * up(to) * (1.0 - self.erasure.at(from, to))
    }

    fn dependence(&self) -> Dependence {
        Dependence::Links
    }
}
