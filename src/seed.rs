//! One seed; every random stream is a named child of it.
//!
//! A [`Seed`] is 256 bits. [`Seed::child`] hashes a name and an index into a new seed, so that a stream
//! depends on *what it is for* and never on the order in which threads ask for it:
//!
//! ```
//! use seccogc::seed::Seed;
//! use rand::RngExt;
//!
//! let root = Seed::new(7);
//! let mut batches = root.child("round", 3).child("batches", 0).rng();
//! let x: f64 = batches.random();
//! assert_eq!(x, Seed::new(7).child("round", 3).child("batches", 0).rng().random::<f64>());
//! ```

use chacha20::ChaCha8Rng;
use rand::SeedableRng;
use sha2::{Digest, Sha256};

/// The generator behind every simulated random stream: fast, portable and value-stable.
pub type Rng = ChaCha8Rng;

/// The root or a named child of the seed tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// The root of the tree for the user's `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Sha256::digest(seed.to_le_bytes()).into())
    }

    /// The child called `name` with index `index`; distinct (name, index) give independent streams.
    #[must_use]
    pub fn child(&self, name: &str, index: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(index.to_le_bytes());
        hash.update(name.as_bytes());
        Self(hash.finalize().into())
    }

    /// The random stream of this node.
    #[must_use]
    pub fn rng(&self) -> Rng {
        Rng::from_seed(self.0)
    }

    /// 64 bits of this node, for counter-based hashes and for libraries that take a `u64`.
    #[must_use]
    pub fn word(&self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("a seed has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices_separate_streams() {
        let root = Seed::new(1);
        let seeds = [
            root,
            Seed::new(2),
            root.child("a", 0),
            root.child("a", 1),
            root.child("b", 0),
            root.child("a", 0).child("a", 0),
        ];
        for (i, a) in seeds.iter().enumerate() {
            for b in &seeds[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn values_are_stable() {
        assert_eq!(Seed::new(0).child("links", 5).word(), 0xd304_262d_7c53_f7a6);
    }
}
