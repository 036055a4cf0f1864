//! Secrets of pairs of clients without a dealer: X25519 (RFC 7748) → HKDF-SHA-256 (RFC 5869) → ChaCha.
//!
//! Every client makes a key pair from the operating system's randomness for one round and sends the public key with its
//! readiness for the round; the announcement of the round carries the public keys of the cohort. Client k derives from what it shares
//! with client j, bound to the run, the round and both public keys:
//!
//! | label | use |
//! |---|---|
//! | `mask` | the seed of the draw g_kj of `pairwise` keys ([`crate::keys::pairwise_mask`]) |
//! | `share` | ChaCha20-Poly1305 (RFC 8439) for the one share from k to j, another key for the one from j to k |
//!
//! A key encrypts one message, so the nonce is 0; the envelope's header is authenticated and not encrypted. Secrets are overwritten when
//! they are dropped. The server hands on the public keys: whoever certifies the server and runs it could replace them, so that shares are
//! secret from every router and eavesdropper, and from a server that follows the protocol.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use rand::SeedableRng;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::algebra::{KeyStream, Sample};
use crate::error::{Error, Result};
use crate::keys::KeySource;
use crate::protocol::exchange::HEADER_BYTES;
use crate::seed::Rng;

/// Bytes that encryption adds to an envelope.
pub const TAG_BYTES: usize = 16;

/// 32 bytes of the operating system's randomness.
///
/// # Errors
/// A system without randomness.
pub(crate) fn entropy() -> Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| Error::Refused(format!("the operating system gives no randomness: {error}")))?;
    Ok(bytes)
}

/// A client's key pair for one round.
pub struct KeyPair(StaticSecret);

impl KeyPair {
    /// A fresh pair.
    ///
    /// # Errors
    /// A system without randomness.
    pub fn generate() -> Result<Self> {
        Ok(Self(StaticSecret::from(*entropy()?)))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The secrets that client `own` of a cohort shares with every other one. `public` holds everybody's public keys, `context` names run and
    /// round.
    ///
    /// # Errors
    /// A public key of small order, which would make the shared secret public.
    pub fn agree(&self, own: u16, public: &[[u8; 32]], context: &[u8]) -> Result<Secrets> {
        let mine = self.public();
        let pairs = (0..).zip(public).map(|(peer, theirs): (u16, _)| {
            if peer == own {
                return Ok(None);
            }
            let shared = self.0.diffie_hellman(&PublicKey::from(*theirs));
            if !shared.was_contributory() {
                let problem = "a public key of small order".into();
                return Err(Error::Message { from: format!("client {}", peer + 1), problem });
            }
            let (low, high) = if own < peer { (&mine, theirs) } else { (theirs, &mine) };
            let salt = [context, low, high].concat();
            let pseudorandom = Hkdf::<Sha256>::extract(Some(&salt), shared.as_bytes()).0;
            Ok(Some(Zeroizing::new(pseudorandom.into())))
        });
        Ok(Secrets { own, noise: entropy()?, pairs: pairs.collect::<Result<_>>()? })
    }
}

/// The secret of `key` for the use that `label` names.
fn expand(key: &[u8; 32], label: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::from_prk(key).ok()?.expand(label, &mut *out).ok().map(|()| out)
}

/// What a client shares with the others of its cohort in one round, and its own noise.
pub struct Secrets {
    own: u16,
    noise: Zeroizing<[u8; 32]>,
    pairs: Vec<Option<Zeroizing<[u8; 32]>>>,
}

impl Secrets {
    fn derive(&self, peer: u16, label: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        expand(self.pairs.get(usize::from(peer))?.as_ref()?, label)
    }

    fn cipher(&self, from: u16, to: u16) -> Option<ChaCha20Poly1305> {
        let peer = if from == self.own { to } else { from };
        let label = [&b"seccogc share"[..], &from.to_le_bytes(), &to.to_le_bytes()].concat();
        Some(ChaCha20Poly1305::new(Key::from_slice(&*self.derive(peer, &label)?)))
    }

    /// Encrypts the envelope `bytes` for client `to`: header, ciphertext, tag. `None` for a stranger.
    #[must_use]
    pub fn seal(&self, to: u16, bytes: &[u8]) -> Option<Vec<u8>> {
        let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
        let payload = Payload { msg: body, aad: header };
        let sealed = self.cipher(self.own, to)?.encrypt(&Nonce::default(), payload).ok()?;
        Some([header, &sealed].concat())
    }

    /// Decrypts what client `from` sealed for this one. `None` when anybody else made it, or anything in it was changed.
    #[must_use]
    pub fn open(&self, from: u16, sealed: &[u8]) -> Option<Vec<u8>> {
        let (header, body) = sealed.split_at_checked(HEADER_BYTES)?;
        let payload = Payload { msg: body, aad: header };
        let body = self.cipher(from, self.own)?.decrypt(&Nonce::default(), payload).ok()?;
        Some([header, &body].concat())
    }
}

impl<S: Sample> KeySource<S> for Secrets {
    /// # Panics
    /// For a stream of other clients, which nobody but they can draw.
    fn draw(&self, name: KeyStream, len: usize) -> Vec<S> {
        let KeyStream { purpose, round, a, b } = name;
        let label = [b"seccogc ", purpose.as_bytes(), &round.to_le_bytes()].concat();
        let seed = match (a == self.own, b == self.own) {
            (true, true) => expand(&self.noise, &label),
            (true, false) => self.derive(b, &label),
            (false, true) => self.derive(a, &label),
            (false, false) => None,
        };
        let seed = seed.expect("own_key draws streams of the client and its pairs only");
        let mut draws = vec![S::zero(); len];
        S::sample(&mut Rng::from_seed(*seed), &mut draws);
        draws
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyKind, pairwise_mask};

    fn cohort(context: &[u8]) -> Vec<Secrets> {
        let pairs: Vec<KeyPair> = (0..5).map(|_| KeyPair::generate().unwrap()).collect();
        let public: Vec<[u8; 32]> = pairs.iter().map(KeyPair::public).collect();
        (0..).zip(&pairs).map(|(k, pair)| pair.agree(k, &public, context).unwrap()).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    /// Every stream of a cohort, from whichever of its two clients comes first: the dealer who knows all secrets.
    struct Dealer<'a>(&'a [Secrets]);

    impl<S: Sample> KeySource<S> for Dealer<'_> {
        fn draw(&self, name: KeyStream, len: usize) -> Vec<S> {
            self.0[usize::from(name.a)].draw(name, len)
        }
    }

    #[test]
    fn diffie_hellman_of_rfc_7748_section_6_1() {
        let key = |hex| <[u8; 32]>::try_from(bytes(hex)).unwrap();
        let alice = KeyPair(key("77076d0a7318a57d3c16c17251b26645df4c9c2a2f4dcd4f1d5ff1ac2c6f6e1a").into());
        let bob = KeyPair(key("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb").into());
        assert_eq!(alice.public(), key("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
        assert_eq!(bob.public(), key("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
        let shared = alice.0.diffie_hellman(&PublicKey::from(bob.public()));
        assert_eq!(
            *shared.as_bytes(),
            key("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
        );
    }

    #[test]
    fn hkdf_of_rfc_5869_appendix_a_1() {
        let (salt, info) = (bytes("000102030405060708090a0b0c"), bytes("f0f1f2f3f4f5f6f7f8f9"));
        let mut out = [0; 42];
        Hkdf::<Sha256>::new(Some(&salt), &[0x0b; 22]).expand(&info, &mut out).unwrap();
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
        assert_eq!(out[..], bytes(expected)[..]);
    }

    #[test]
    fn own_masks_are_those_of_a_dealer_and_cancel() {
        let secrets = cohort(b"run 1, round 3");
        let dealt = KeyKind::Pairwise.masks::<f64>(5, 40, 2.0, 3, &Dealer(&secrets));
        for (k, own) in secrets.iter().enumerate() {
            assert_eq!(pairwise_mask::<f64>(k, 5, 40, 2.0, 3, own), dealt[k]);
        }
        for i in 0..40 {
            let sum: f64 = dealt.iter().map(|mask| mask[i]).sum();
            assert!(sum.abs() < 1e-12 && dealt.iter().all(|mask| mask[i] != 0.0));
        }
        let other = cohort(b"run 1, round 3");
        assert_ne!(pairwise_mask::<f64>(0, 5, 40, 2.0, 3, &other[0]), dealt[0], "fresh in every agreement");
    }

    #[test]
    fn a_share_opens_for_its_receiver_only_and_only_whole() {
        let secrets = cohort(b"round 1");
        let envelope: Vec<u8> = (0..100).collect();
        let sealed = secrets[1].seal(3, &envelope).unwrap();
        assert_eq!(sealed.len(), envelope.len() + TAG_BYTES);
        assert_eq!(sealed[..HEADER_BYTES], envelope[..HEADER_BYTES]);
        assert_eq!(secrets[3].open(1, &sealed).unwrap(), envelope);
        for other in [0, 2, 4] {
            assert_eq!(secrets[other].open(1, &sealed), None);
            assert_eq!(secrets[3].open(other as u16, &sealed), None);
        }
        assert_eq!(secrets[1].open(3, &sealed), None, "not sent back");
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(secrets[3].open(1, &changed), None, "{place}");
            assert_eq!(secrets[3].open(1, &sealed[..place]), None);
        }
        assert!(secrets[1].seal(1, &envelope).is_none() && secrets[1].seal(9, &envelope).is_none());
    }

    #[test]
    fn other_context_other_secrets() {
        let pairs = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
        let public = [pairs[0].public(), pairs[1].public()];
        let mut seen = Vec::new();
        for context in [&b"run 1, round 1"[..], b"run 1, round 2", b"run 2, round 1"] {
            let (a, b) =
                (pairs[0].agree(0, &public, context).unwrap(), pairs[1].agree(1, &public, context).unwrap());
            let secret = a.derive(1, b"x").unwrap();
            assert_eq!(secret, b.derive(0, b"x").unwrap());
            assert!(!seen.contains(&secret));
            seen.push(secret);
        }
        let zero = pairs[0].agree(0, &[public[0], [0; 32]], b"").err().unwrap().to_string();
        assert_eq!(zero, "message from client 2: a public key of small order");
    }
}
