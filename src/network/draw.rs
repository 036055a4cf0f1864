//! Random numbers that belong to a use of a link, not to the moment at which somebody asks.

use super::LinkUse;
use crate::message::Node;
use crate::seed::{Seed, mix, unit};

/// The independent draws of one family of links, one per use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws(u64);

impl Draws {
    pub(super) fn new(seed: Seed) -> Self {
        Self(seed.word())
    }

    /// A uniform draw in [0, 1) that belongs to this use of the link.
    pub(super) fn uniform(self, link: LinkUse<Node>) -> f64 {
        let ends = u64::from(link.from.code()) << 32 | u64::from(link.to.code());
        // Uploads are odd: of parties that are all clients, an upload and a share never meet the same draw.
        let transfer = 2 * u64::from(link.transfer) + u64::from(link.to == Node::Server);
        let time = u64::from(link.attempt) << 8 | transfer;
        unit(mix(mix(mix(self.0 ^ link.round) ^ time) ^ ends))
    }

    /// The same draw as one of an exponential law with mean 1.
    pub(super) fn exponential(self, link: LinkUse<Node>) -> f64 {
        -(-self.uniform(link)).ln_1p()
    }
}
