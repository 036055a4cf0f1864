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

use std::convert::Infallible;

use chacha20::cipher::{KeyIvInit, StreamCipher, consts::U12, consts::U32};
use chacha20::{ChaCha8, ChaCha8Rng};
use rand::{SeedableRng, TryRng};
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

    /// The random stream number `stream` of this node, for long vectors; number 0 is [`Seed::rng`].
    #[must_use]
    pub fn bulk(&self, stream: u64) -> Bulk<ChaCha8> {
        Bulk::new(&self.0, stream)
    }

    /// 64 bits of this node, for counter-based hashes and for libraries that take a `u64`.
    #[must_use]
    pub fn word(&self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("a seed has 32 bytes"))
    }
}

/// A 64-bit finaliser with full avalanche (Stafford's variant 13, as in SplitMix64), for draws of which there
/// are too many for a stream each.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in [0, 1) from a hash.
pub(crate) fn unit(word: u64) -> f64 {
    (word >> 11) as f64 * (-53f64).exp2()
}

/// The keystream of a ChaCha cipher as a generator. Its draws are those of the crate's generators, byte for
/// byte, but whole buffers come several times faster, from the widest vectors of the CPU, and single words
/// slower. It ends, with a panic, after 256 GiB.
pub struct Bulk<C>(C);

impl<C: KeyIvInit<KeySize = U32, IvSize = U12>> Bulk<C> {
    /// The keystream number `stream` under `key`.
    #[must_use]
    pub fn new(key: &[u8; 32], stream: u64) -> Self {
        // The words behind the counter's low half: its high half, which the generators count on in, and the
        // stream's number.
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&stream.to_le_bytes());
        Self(C::new(key.into(), &nonce.into()))
    }
}

impl<C: StreamCipher> TryRng for Bulk<C> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut word = [0; 4];
        self.0.write_keystream(&mut word);
        Ok(u32::from_le_bytes(word))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut word = [0; 8];
        self.0.write_keystream(&mut word);
        Ok(u64::from_le_bytes(word))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.write_keystream(bytes);
        Ok(())
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
    fn bulk_is_the_generator_byte_for_byte() {
        use rand::Rng as _;
        let seed = Seed::new(4);
        for stream in [0, 1, u64::MAX - 5] {
            let (mut rng, mut bulk) = (seed.rng(), seed.bulk(stream));
            rng.set_stream(stream);
            for length in [4, 1024, 60, 8, 4096, 12] {
                let (mut want, mut got) = (vec![0; length], vec![0; length]);
                rng.fill_bytes(&mut want);
                bulk.fill_bytes(&mut got);
                assert_eq!(want, got);
            }
            assert_eq!((rng.next_u32(), rng.next_u64()), (bulk.next_u32(), bulk.next_u64()));
        }
    }

    #[test]
    fn values_are_stable() {
        assert_eq!(Seed::new(0).child("links", 5).word(), 0xd304_262d_7c53_f7a6);
    }
}
