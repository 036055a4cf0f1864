//! Random numbers that belong to a use of a link, not to the moment at which somebody asks.

use super::LinkUse;
use crate::message::Node;
use crate::seed::Seed;

/// A 64-bit finaliser with full avalanche (Stafford's variant 13, as in SplitMix64).
pub(super) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in [0, 1) from a hash.
pub(super) fn unit(word: u64) -> f64 {
    (word >> 11) as f64 * (-53f64).exp2()
}

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
