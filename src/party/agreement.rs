//! Secrets of pairs of clients without a dealer, made of [`crate::crypto`].
//!
//! Every client makes a key pair from the operating system's randomness for one round. From what client k
//! shares with client j, bound to both public keys and to what all members must have seen alike, the round's
//! announcement, both derive
//!
//! | label | use |
//! |---|---|
//! | `mask` | the seed of the draw g_kj of `pairwise` keys ([`crate::keys::pairwise_mask`]) |
//! | `share` | the key that seals the one share of a phase from k to j, and another for the one from j to k |
//!
//! Its own noise and the coins of its rounding come from the pair too, so that a client which goes on in
//! another process, with the stored pair and the same update, sends the same bytes. Secrets are erased when
//! they are dropped. Where clients sign their public keys, shares are secret from the server too, as from
//! every router and eavesdropper: a key that it replaces has no signature of the client that it would stand
//! for, and members to whom it shows different things have no secret in common.

use zeroize::Zeroizing;

use crate::algebra::{KeyStream, Sample};
use crate::crypto::{self, KEY_BYTES, Secret};
use crate::error::{Error, Result};
use crate::keys::KeySource;
use crate::seed::Seed;

/// 256 bits of the operating system's randomness.
///
/// # Errors
/// A system without randomness.
pub fn entropy() -> Result<Secret> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Refused(format!("the operating system gives no randomness: {error}")))?;
    let secret = Secret::new(bytes);
    zeroize::Zeroize::zeroize(&mut bytes);
    Ok(secret)
}

/// Bytes of a stored [`KeyPair`].
pub const STORED_BYTES: usize = 3 * KEY_BYTES;

/// A client's key pair for one round, with what makes its own noise and coins.
pub struct KeyPair {
    agreed: crypto::KeyPair,
    noise: Secret,
    coins: Secret,
}

impl KeyPair {
    /// A fresh pair.
    ///
    /// # Errors
    /// A system without randomness.
    pub fn generate() -> Result<Self> {
        Ok(Self { agreed: crypto::KeyPair::new(&entropy()?), noise: entropy()?, coins: entropy()? })
    }

    /// The pair whose [`KeyPair::stored`] bytes these are.
    #[must_use]
    pub fn restored(stored: &[u8; STORED_BYTES]) -> Self {
        let secret = |i: usize| Secret::new(std::array::from_fn(|j| stored[i * KEY_BYTES + j]));
        Self { agreed: crypto::KeyPair::new(&secret(0)), noise: secret(1), coins: secret(2) }
    }

    /// Everything that is secret of it, for the same client in another process, and for the same round only.
    #[must_use]
    pub fn stored(&self) -> Zeroizing<[u8; STORED_BYTES]> {
        let agreed = self.agreed.secret();
        let all = [agreed.bytes(), self.noise.bytes(), self.coins.bytes()];
        Zeroizing::new(std::array::from_fn(|i| all[i / KEY_BYTES][i % KEY_BYTES]))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; KEY_BYTES] {
        self.agreed.public()
    }

    /// The secrets that client `own` of a cohort shares with every other one. `public` holds everybody's
    /// public keys, `context` is what all of them must have seen alike.
    ///
    /// # Errors
    /// A public key of small order, which would make the shared secret public.
    pub fn agree(&self, own: u16, public: &[[u8; KEY_BYTES]], context: &[u8]) -> Result<Secrets> {
        let mine = self.public();
        let pairs = (0..).zip(public).map(|(peer, theirs): (u16, _)| {
            if peer == own {
                return Ok(None);
            }
            let (low, high) = if own < peer { (&mine, theirs) } else { (theirs, &mine) };
            let shared = self.agreed.agree(theirs, &[context, low, high].concat());
            let small = || Error::Refused(format!("the public key of client {} is of small order", peer + 1));
            shared.map(Some).ok_or_else(small)
        });
        let own_of = |secret: &Secret, what: &[u8]| secret.derive(&[what, context].concat());
        Ok(Secrets {
            own,
            noise: own_of(&self.noise, b"seccogc noise"),
            coins: own_of(&self.coins, b"seccogc coins"),
            pairs: pairs.collect::<Result<_>>()?,
        })
    }
}

/// What a client shares with the others of its cohort in one round, its own noise, and the coins of its
/// rounding.
pub struct Secrets {
    own: u16,
    noise: Secret,
    coins: Secret,
    pairs: Vec<Option<Secret>>,
}

impl Secrets {
    /// The seed of stochastic rounding.
    pub(super) fn rounding(&self) -> Seed {
        Seed::new(u64::from_le_bytes(*self.coins.bytes().first_chunk().expect("a secret has 32 bytes")))
    }

    fn pair(&self, peer: u16) -> Option<&Secret> {
        self.pairs.get(usize::from(peer))?.as_ref()
    }

    fn share(&self, from: u16, to: u16, phase: u8) -> Option<Secret> {
        let pair = self.pair(if from == self.own { to } else { from })?;
        Some(pair.derive(&crypto::context("share", phase.into(), from, to)))
    }

    /// Encrypts the envelope of a phase for client `to`, the only one. `None` for a stranger.
    #[must_use]
    pub fn seal(&self, to: u16, phase: u8, envelope: &[u8]) -> Option<Vec<u8>> {
        Some(crypto::seal(&self.share(self.own, to, phase)?, envelope))
    }

    /// Decrypts what client `from` sealed for this one in a phase. `None` when anybody else made it, or
    /// anything in it was changed.
    #[must_use]
    pub fn open(&self, from: u16, phase: u8, sealed: &[u8]) -> Option<Vec<u8>> {
        crypto::open(&self.share(from, self.own, phase)?, sealed)
    }
}

impl<S: Sample> KeySource<S> for Secrets {
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [S]) {
        S::sample(&mut self.words(name, name.purpose, chunk), out);
    }

    fn noise(&self, name: KeyStream, chunk: usize, out: &mut [S::Draw]) {
        S::noise(&mut self.words(name, name.purpose, chunk), out);
    }

    fn coins(&self, name: KeyStream, chunk: usize, out: &mut [u8]) {
        rand::Rng::fill_bytes(&mut self.words(name, &format!("{} coins", name.purpose), chunk), out);
    }
}

impl Secrets {
    /// The generator of a chunk of the stream `name`, under another purpose of that of its own.
    ///
    /// # Panics
    /// For a stream of other clients, which nobody but they can draw.
    fn words(&self, name: KeyStream, purpose: &str, chunk: usize) -> impl rand::Rng + use<> {
        let KeyStream { round, a, b, .. } = name;
        let secret = match (a == self.own, b == self.own) {
            (true, true) => Some(&self.noise),
            (true, false) => self.pair(b),
            (false, true) => self.pair(a),
            (false, false) => None,
        };
        let secret = secret.expect("own_key draws streams of the client and its pairs only");
        let stream = secret.derive(&crypto::context(purpose, round, a, b));
        stream.keystream(chunk as u64)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::crypto::TAG_BYTES;
    use crate::keys::{KeyKind, pairwise_mask};

    fn cohort(context: &[u8]) -> Vec<Secrets> {
        cohort_of(5, context)
    }

    /// The secrets of so many clients who have agreed.
    pub(in crate::party) fn cohort_of(clients: u16, context: &[u8]) -> Vec<Secrets> {
        let pairs: Vec<KeyPair> = (0..clients).map(|_| KeyPair::generate().unwrap()).collect();
        let public: Vec<[u8; 32]> = pairs.iter().map(KeyPair::public).collect();
        (0..).zip(&pairs).map(|(k, pair)| pair.agree(k, &public, context).unwrap()).collect()
    }

    /// Every stream of a cohort, from whichever of its two clients comes first: the dealer who knows all
    /// secrets.
    pub(in crate::party) struct Dealer<'a>(pub &'a [Secrets]);

    impl<S: Sample> KeySource<S> for Dealer<'_> {
        fn fill(&self, name: KeyStream, chunk: usize, out: &mut [S]) {
            self.0[usize::from(name.a)].fill(name, chunk, out);
        }

        fn noise(&self, name: KeyStream, chunk: usize, out: &mut [S::Draw]) {
            KeySource::<S>::noise(&self.0[usize::from(name.a)], name, chunk, out);
        }

        fn coins(&self, name: KeyStream, chunk: usize, out: &mut [u8]) {
            KeySource::<S>::coins(&self.0[usize::from(name.a)], name, chunk, out);
        }
    }

    #[test]
    fn own_masks_are_those_of_a_dealer_and_cancel() {
        let secrets = cohort(b"run 1, round 3");
        let dealt = KeyKind::Pairwise.masks::<f64>(5, 40, 2.0, None, 3, &Dealer(&secrets));
        for (k, own) in secrets.iter().enumerate() {
            assert_eq!(pairwise_mask::<f64>(k, 5, 40, 2.0, None, 3, own), dealt[k]);
        }
        for i in 0..40 {
            let sum: f64 = dealt.iter().map(|mask| mask[i]).sum();
            assert!(sum.abs() < 1e-12 && dealt.iter().all(|mask| mask[i] != 0.0));
        }
        let other = cohort(b"run 1, round 3");
        assert_ne!(
            pairwise_mask::<f64>(0, 5, 40, 2.0, None, 3, &other[0]),
            dealt[0],
            "fresh in every agreement"
        );
    }

    #[test]
    fn a_share_opens_for_its_receiver_only_and_only_whole() {
        let secrets = cohort(b"round 1");
        let envelope: Vec<u8> = (0..100).collect();
        let sealed = secrets[1].seal(3, 0, &envelope).unwrap();
        assert_eq!(sealed.len(), envelope.len() + TAG_BYTES);
        assert_eq!(secrets[3].open(1, 0, &sealed).unwrap(), envelope);
        assert_eq!(secrets[3].open(1, 1, &sealed), None, "of another phase");
        for other in [0, 2, 4] {
            assert_eq!(secrets[other].open(1, 0, &sealed), None);
            assert_eq!(secrets[3].open(other as u16, 0, &sealed), None);
        }
        assert_eq!(secrets[1].open(3, 0, &sealed), None, "not sent back");
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(secrets[3].open(1, 0, &changed), None, "{place}");
            assert_eq!(secrets[3].open(1, 0, &sealed[..place]), None);
        }
        assert!(secrets[1].seal(1, 0, &envelope).is_none() && secrets[1].seal(9, 0, &envelope).is_none());
    }

    #[test]
    fn other_context_other_secrets() {
        let pairs = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
        let public = [pairs[0].public(), pairs[1].public()];
        let mut seen = Vec::new();
        for context in [&b"run 1, round 1"[..], b"run 1, round 2", b"run 2, round 1"] {
            let (a, b) =
                (pairs[0].agree(0, &public, context).unwrap(), pairs[1].agree(1, &public, context).unwrap());
            let secret = *a.pair(1).unwrap().bytes();
            assert_eq!(&secret, b.pair(0).unwrap().bytes());
            assert!(!seen.contains(&secret));
            seen.push(secret);
        }
        let zero = pairs[0].agree(0, &[public[0], [0; 32]], b"").err().unwrap().to_string();
        assert_eq!(zero, "the public key of client 2 is of small order");
    }
}
