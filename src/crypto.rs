//! Cryptography of the schemes whose keys are computational: X25519 (RFC 7748), HKDF-SHA-256 (RFC 5869),
//! ChaCha20 and ChaCha20-Poly1305 (RFC 8439).
//!
//! Every key is 256 bits and has one use, which its context names: what for, in which round, between whom. A
//! single use lets messages be sealed with a fixed nonce. Secrets are erased when they are dropped. Agreement
//! and expansion are secure under the computational Diffie–Hellman assumption on Curve25519 with SHA-256 as a
//! random oracle, and ChaCha20 as a pseudo-random generator.

use chacha20::ChaCha20;
use chacha20poly1305::aead::Aead;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::algebra::field::Field;
use crate::algebra::{CHUNK, KeyStream, LinearForm, Scalar, Symbol};
use crate::keys::{FormalKeys, KeySource};
use crate::parallel;
use crate::seed::Bulk;

/// Bytes of a secret, of a public key and of a shared key.
pub const KEY_BYTES: usize = 32;

/// Bytes that sealing adds to a message.
pub const TAG_BYTES: usize = 16;

/// Symbols of a chunk that are expanded at once, so that the masks of several secrets meet in the first-level
/// cache.
const BLOCK: usize = 1024;

/// 256 secret bits.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; KEY_BYTES]);

impl Secret {
    /// These bits.
    #[must_use]
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// A secret of full entropy from uniform key symbols: the hash of 512 bits of them or more.
    pub fn draw<F: Field>(name: KeyStream, source: &impl KeySource<F>) -> Self {
        let symbols: Vec<F> = source.draw(name, 512usize.div_ceil(F::ORDER.ilog2() as usize));
        let mut hash = Sha256::new();
        for symbol in symbols {
            hash.update(symbol.index().to_le_bytes());
        }
        Self(hash.finalize().into())
    }

    /// A secret of full entropy: the coins of the stream `name`, whatever its symbols.
    pub fn toss<S: Symbol>(name: KeyStream, source: &impl KeySource<S>) -> Self {
        let mut secret = Self([0; KEY_BYTES]);
        source.coins(name, 0, &mut secret.0);
        secret
    }

    /// The bits.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Another secret that tells nothing about this one: HKDF with `context`.
    #[must_use]
    pub fn derive(&self, context: &[u8]) -> Self {
        hkdf(&[], &self.0, context)
    }

    /// A secret that takes this one and `other` to know: HKDF with `context`, salted with the other.
    #[must_use]
    pub fn bound(&self, other: &Self, context: &[u8]) -> Self {
        hkdf(&other.0, &self.0, context)
    }

    /// A secret from material of full entropy: HKDF with `context`.
    #[must_use]
    pub fn extract(material: &[u8], context: &[u8]) -> Self {
        hkdf(&[], material, context)
    }

    /// The keystream number `stream`.
    #[must_use]
    pub fn keystream(&self, stream: u64) -> Bulk<ChaCha20> {
        Bulk::new(&self.0, stream)
    }
}

fn hkdf(salt: &[u8], material: &[u8], context: &[u8]) -> Secret {
    let mut output = [0; KEY_BYTES];
    let expanded = Hkdf::<Sha256>::new(Some(salt), material).expand(context, &mut output);
    expanded.expect("HKDF-SHA-256 gives up to 8160 bytes");
    Secret(output)
}

/// `purpose` with a round and two parties, as the context of a key.
#[must_use]
pub fn context(purpose: &str, round: u64, a: u16, b: u16) -> Vec<u8> {
    let mut context = b"seccogc ".to_vec();
    context.extend(purpose.as_bytes());
    context.extend(round.to_le_bytes());
    context.extend(a.to_le_bytes());
    context.extend(b.to_le_bytes());
    context
}

/// An X25519 key pair.
#[derive(Clone)]
pub struct KeyPair {
    secret: StaticSecret,
    public: [u8; KEY_BYTES],
}

impl KeyPair {
    /// The pair of a secret.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let secret = StaticSecret::from(secret.0);
        let public = PublicKey::from(&secret).to_bytes();
        Self { secret, public }
    }

    /// What others may know.
    #[must_use]
    pub fn public(&self) -> [u8; KEY_BYTES] {
        self.public
    }

    /// What nobody else may know.
    #[must_use]
    pub fn secret(&self) -> Secret {
        Secret(self.secret.to_bytes())
    }

    /// The key shared with the owner of `public` for `context`; `None` if that is a point of small order,
    /// which would make it known to all.
    #[must_use]
    pub fn agree(&self, public: &[u8; KEY_BYTES], context: &[u8]) -> Option<Secret> {
        let shared = self.secret.diffie_hellman(&PublicKey::from(*public));
        shared.was_contributory().then(|| hkdf(&[], shared.as_bytes(), context))
    }
}

/// Encrypts and authenticates `message` under `key`, which must have no other use.
#[must_use]
pub fn seal(key: &Secret, message: &[u8]) -> Vec<u8> {
    let cipher = ChaCha20Poly1305::new(Key::from_slice(&key.0));
    cipher.encrypt(&Nonce::default(), message).expect("messages are shorter than 256 GiB")
}

/// What was sealed under `key`; `None` if it was not, or was changed since.
#[must_use]
pub fn open(key: &Secret, sealed: &[u8]) -> Option<Vec<u8>> {
    ChaCha20Poly1305::new(Key::from_slice(&key.0)).decrypt(&Nonce::default(), sealed).ok()
}

/// `y += Σ ± PRG(secret)` with ChaCha20 as the generator, one pass over `y`; the terms are (whether to
/// subtract, secret). The keystream becomes uniform symbols by rejection, without bias.
pub fn add_masks<F: Field>(y: &mut [F], terms: &[(bool, &Secret)]) {
    parallel::for_each(y.chunks_mut(CHUNK).enumerate(), |(stream, chunk)| {
        let mut streams: Vec<(F, Bulk<ChaCha20>)> = terms
            .iter()
            .map(|(subtract, secret)| {
                (if *subtract { -F::ONE } else { F::ONE }, secret.keystream(stream as u64))
            })
            .collect();
        let mut mask = [F::ZERO; BLOCK];
        for block in chunk.chunks_mut(BLOCK) {
            let mask = &mut mask[..block.len()];
            for (sign, stream) in &mut streams {
                F::sample(stream, mask);
                F::axpy(block, *sign, mask);
            }
        }
    });
}

/// Symbols whose keys can be expanded from 256 bits.
pub trait Expand: Symbol {
    /// The `len` key symbols of the stream `name` that `root` expands to. Formal ones are unknowns that carry
    /// the name: expansion is idealised as uniform and independent.
    fn expanded(root: &Secret, name: KeyStream, len: usize) -> Vec<Self>;

    /// The same, or drawn from `source` without a `root`. Formal symbols are always drawn.
    fn expand(
        root: Option<&Secret>,
        name: KeyStream,
        len: usize,
        source: &impl KeySource<Self>,
    ) -> Vec<Self> {
        root.map_or_else(|| source.draw(name, len), |root| Self::expanded(root, name, len))
    }
}

impl<F: Field> Expand for F {
    fn expanded(root: &Secret, name: KeyStream, len: usize) -> Vec<F> {
        let mut symbols = vec![F::ZERO; len];
        let secret = root.derive(&context(name.purpose, name.round, name.a, name.b));
        add_masks(&mut symbols, &[(false, &secret)]);
        symbols
    }
}

impl<K: Scalar> Expand for LinearForm<K> {
    fn expanded(_: &Secret, name: KeyStream, len: usize) -> Vec<Self> {
        FormalKeys.draw(name, len)
    }

    fn expand(_: Option<&Secret>, name: KeyStream, len: usize, source: &impl KeySource<Self>) -> Vec<Self> {
        source.draw(name, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::field::{M31, M61, Prime, Small};
    use crate::keys::SeededKeys;
    use crate::seed::Seed;
    use rand::Rng;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    fn key(hex: &str) -> [u8; KEY_BYTES] {
        bytes(hex).try_into().unwrap()
    }

    /// RFC 7748, section 6.1.
    #[test]
    fn key_agreement_of_the_rfc() {
        let alice =
            KeyPair::new(&Secret(key("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")));
        assert_eq!(alice.public(), key("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
        let bob =
            KeyPair::new(&Secret(key("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")));
        assert_eq!(bob.public(), key("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
        let shared = key("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(alice.secret.diffie_hellman(&PublicKey::from(bob.public())).to_bytes(), shared);
        let one = alice.agree(&bob.public(), b"x").unwrap();
        assert!(one == bob.agree(&alice.public(), b"x").unwrap() && one == hkdf(&[], &shared, b"x"));
        assert!(one != alice.agree(&bob.public(), b"y").unwrap(), "contexts separate keys");
        assert!(KeyPair::new(&alice.secret()).public() == alice.public());
        // The points of order 1 and 2.
        let mut small = [0; KEY_BYTES];
        assert!(alice.agree(&small, b"x").is_none());
        small[0] = 1;
        assert!(alice.agree(&small, b"x").is_none());
    }

    /// RFC 5869, appendix A.1 and A.3, first 32 bytes.
    #[test]
    fn key_derivation_of_the_rfc() {
        let material = [0x0b; 22];
        let okm = hkdf(&bytes("000102030405060708090a0b0c"), &material, &bytes("f0f1f2f3f4f5f6f7f8f9"));
        assert_eq!(okm.0, key("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"));
        let okm = hkdf(&[], &material, &[]);
        assert_eq!(okm.0, key("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"));
    }

    /// RFC 8439, appendix A.1, test vectors 1 and 2: two blocks under the key 0.
    #[test]
    fn keystream_of_the_rfc() {
        let mut stream = [0; 128];
        Secret([0; 32]).keystream(0).fill_bytes(&mut stream);
        assert_eq!(stream[..16], bytes("76b8e0ada0f13d90405d6ae55386bd28"));
        assert_eq!(stream[64..80], bytes("9f07e7be5551387a98ba977c732d080d"));
        let mut other = [0; 16];
        Secret([0; 32]).keystream(1).fill_bytes(&mut other);
        assert_ne!(other, stream[..16]);
    }

    #[test]
    fn sealed_messages_open_under_their_key_only() {
        let (one, two) = (Secret([1; 32]), Secret([2; 32]));
        let mut sealed = seal(&one, b"shares");
        assert_eq!(sealed.len(), 6 + TAG_BYTES);
        assert_eq!(open(&one, &sealed).unwrap(), b"shares");
        assert_eq!(open(&two, &sealed), None);
        assert_eq!(open(&one, &sealed[..sealed.len() - 1]), None);
        sealed[0] ^= 1;
        assert_eq!(open(&one, &sealed), None);
        assert_eq!(open(&one, &[]), None);
    }

    /// χ² over 16 equal cells with 10⁵ draws: below 44.3 with probability 1 − 10⁻⁴ for 15 degrees of freedom.
    fn uniform<F: Prime>(cells: u64) {
        let mut symbols = vec![F::ZERO; 100_000];
        add_masks(&mut symbols, &[(false, &Secret([3; 32]))]);
        let mut counts = vec![0f64; cells as usize];
        for symbol in &symbols {
            counts[(u128::from(symbol.residue()) * u128::from(cells) / u128::from(F::MODULUS)) as usize] +=
                1.0;
        }
        let want = 1e5 / cells as f64;
        let chi: f64 = counts.iter().map(|count| (count - want).powi(2) / want).sum();
        assert!(chi < 44.3, "{chi}");
    }

    #[test]
    fn masks_are_uniform_and_cancel() {
        uniform::<M61>(16);
        uniform::<M31>(16);
        uniform::<Small<7>>(7);
        let (a, b) = (Secret([4; 32]), Secret([5; 32]));
        let mut y = vec![M61::ONE; CHUNK + 3];
        add_masks(&mut y, &[(false, &a), (true, &b)]);
        assert!(y[0] != M61::ONE && y[0] != y[CHUNK], "chunks have keystreams of their own");
        add_masks(&mut y, &[(true, &a)]);
        add_masks(&mut y, &[(false, &b)]);
        assert!(y.iter().all(|y| *y == M61::ONE));
    }

    #[test]
    fn secrets_follow_their_names() {
        let name = |a| KeyStream { purpose: "test", round: 1, a, b: 0 };
        let source = SeededKeys(Seed::new(1));
        let draw = |a| Secret::draw::<M31>(name(a), &source);
        assert!(draw(0) == draw(0) && draw(0) != draw(1));
        let root = draw(0);
        let expanded = M61::expand(Some(&root), name(1), 5, &source);
        assert_eq!(expanded, M61::expand(Some(&root), name(1), 5, &source));
        assert_ne!(expanded, M61::expand(None, name(1), 5, &source));
        assert_ne!(expanded, M61::expand(Some(&root), name(2), 5, &source));
        let bound = root.bound(&draw(1), b"x");
        assert!(bound == draw(0).bound(&draw(1), b"x") && bound != root.bound(&draw(2), b"x"));
        assert!(bound != draw(2).bound(&draw(1), b"x") && bound != root.bound(&draw(1), b"y"));
    }
}
