//! Unreliable links: which messages arrive.
//!
//! A link model is a pure function of [`LinkUse`] = (round, attempt, phase, from, to) and its seed. It does not know what is
//! sent nor who asked first, so all protocols of a comparison see the same failures.

pub mod bernoulli;

use serde::Serialize;

use crate::config::choice;
use crate::error::Result;
use crate::protocol::PartyId;
use crate::seed::Seed;

/// One use of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkUse {
    /// Training round, from 1.
    pub round: u64,
    /// Attempt within the round, from 0.
    pub attempt: u32,
    /// Phase of the protocol, from 0.
    pub phase: u8,
    /// The sender.
    pub from: PartyId,
    /// The receiver.
    pub to: PartyId,
}

/// A law of message loss on a family of links.
pub trait LinkModel: Send + Sync {
    /// Whether the message of this use arrives.
    fn delivers(&self, link: LinkUse) -> bool;

    /// The marginal erasure probability of the link, in \[0, 1\].
    fn erasure(&self, from: PartyId, to: PartyId) -> f64;
}

choice! {
    /// A law of message loss, chosen by `kind`.
    LinkConfig by "kind" {
        /// Every use of a link fails independently with that link's probability.
        "bernoulli" => Bernoulli(bernoulli::Bernoulli),
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self::Bernoulli(bernoulli::Bernoulli::default())
    }
}

/// The links of the system, by their ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// Links between clients, used for gradient sharing.
    pub client_client: LinkConfig,
    /// Links from the clients to the server, used for uploads.
    pub client_server: LinkConfig,
}

impl NetworkConfig {
    /// Makes the paths of the section absolute: they are relative to the configuration's `folder`.
    pub(crate) fn resolve_paths(&mut self, folder: &std::path::Path) {
        for side in [&mut self.client_client, &mut self.client_server] {
            let LinkConfig::Bernoulli(bernoulli) = side;
            bernoulli.resolve_paths(folder);
        }
    }

    /// Builds the links of a system of `clients` clients.
    ///
    /// # Errors
    /// A probability outside \[0, 1\], a vector or matrix of the wrong size, or an unreadable matrix file.
    pub fn build(&self, clients: usize, seed: Seed) -> Result<Network> {
        let side = |config: &LinkConfig, name: &str, shape| -> Result<Box<dyn LinkModel>> {
            match config {
                LinkConfig::Bernoulli(bernoulli) => bernoulli
                    .build(clients, shape, seed.child(name, 0))
                    .map(|model| Box::new(model) as Box<dyn LinkModel>)
                    .map_err(|error| error.within(name)),
            }
        };
        Ok(Network {
            client_client: side(&self.client_client, "client_client", bernoulli::Shape::Mesh)?,
            client_server: side(&self.client_server, "client_server", bernoulli::Shape::Star)?,
        })
    }
}

/// The links of one system.
pub struct Network {
    client_client: Box<dyn LinkModel>,
    client_server: Box<dyn LinkModel>,
}

impl Network {
    fn model(&self, from: PartyId, to: PartyId) -> &dyn LinkModel {
        match (from, to) {
            (PartyId::Client(_), PartyId::Client(_)) => &*self.client_client,
            _ => &*self.client_server,
        }
    }
}

impl LinkModel for Network {
    fn delivers(&self, link: LinkUse) -> bool {
        self.model(link.from, link.to).delivers(link)
    }

    fn erasure(&self, from: PartyId, to: PartyId) -> f64 {
        self.model(from, to).erasure(from, to)
    }
}

/// Links that lose nothing.
#[derive(Clone, Copy, Debug)]
pub struct Perfect;

impl LinkModel for Perfect {
    fn delivers(&self, _: LinkUse) -> bool {
        true
    }

    fn erasure(&self, _: PartyId, _: PartyId) -> f64 {
        0.0
    }
}
