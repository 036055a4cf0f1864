//! How the clients of the SecAgg family make, share and expand their secrets: with cryptography here, with
//! uniform symbols in [`Uniform`].

use std::collections::BTreeMap;

use super::{Graph, Uniform};
use crate::algebra::field::{M61, Prime};
use crate::algebra::{KeyStream, LinearForm, Scalar, Symbol};
use crate::coding::shamir;
use crate::crypto::{self, KEY_BYTES, KeyPair, Secret as Bits, TAG_BYTES, context};
use crate::keys::KeySource;
use crate::protocol::Secret;

/// What a message of the key set-up is: bytes, and symbols where they are formal.
pub trait Content<S>: Clone + Send + Sync {
    /// Encoded size.
    fn bytes(&self) -> usize;

    /// The symbols that its reader learns.
    fn symbols(&self) -> Vec<Vec<S>> {
        Vec::new()
    }
}

/// What has a binary form of one size.
pub trait Encoded: Sized {
    /// The size.
    const BYTES: usize;

    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads it.
    ///
    /// # Errors
    /// Bytes of another size, or that mean nothing.
    fn take(bytes: &[u8]) -> Result<Self, String>;
}

/// What differs between real secrets and uniform ones.
pub trait Suite<S: Symbol>: Copy + Send + Sync + 'static {
    /// A client's secrets.
    type Secrets: Secret<S> + Send + Sync;
    /// What a client advertises.
    type Public: Content<S>;
    /// A share of one secret.
    type Share: Content<S>;
    /// A share of both secrets, for its holder only.
    type Sealed: Content<S>;
    /// What expands to a mask.
    type Seed: Send + Sync;

    /// The secrets of client `k`; only streams of its own and of pairs that contain it are drawn.
    fn secrets(
        k: u16,
        graph: &Graph,
        threshold: usize,
        round: u64,
        len: usize,
        source: &impl KeySource<S>,
    ) -> Self::Secrets;

    /// What `secrets` advertise.
    fn public(secrets: &Self::Secrets) -> Self::Public;

    /// Whether a key can be agreed with the owner of `public`.
    fn valid(public: &Self::Public) -> bool;

    /// The shares of the self mask's seed and of the secret key, for `holder`.
    fn shares(secrets: &Self::Secrets, holder: u16) -> [Self::Share; 2];

    /// Encrypts shares of `from` for `to`, of whom `secrets` has one and `public` is of the other.
    fn seal(
        secrets: &Self::Secrets,
        public: &Self::Public,
        from: u16,
        to: u16,
        shares: [Self::Share; 2],
    ) -> Self::Sealed;

    /// Whether what `from` sealed has the size that its neighbours and masks of `len` symbols fix.
    fn fits(sealed: &Self::Sealed, graph: &Graph, from: u16, len: usize) -> bool;

    /// Undoes [`Suite::seal`] at `to`; `None` if it was changed, or if the server has shown one of the two
    /// other keys than the other one has.
    fn open(
        secrets: &Self::Secrets,
        public: &Self::Public,
        from: u16,
        to: u16,
        sealed: &Self::Sealed,
    ) -> Option<[Self::Share; 2]>;

    /// What is needed of a share of a secret key to unmask the sum over `included`.
    fn needed(share: Self::Share, included: &[u16]) -> Self::Share;

    /// Whether a share, of a secret key or of a self mask's seed of `owner`, has the right form for masks of
    /// `len` symbols.
    fn well_formed(share: &Self::Share, key: bool, len: usize) -> bool;

    /// b_u.
    fn own(secrets: &Self::Secrets) -> Self::Seed;

    /// The seed that `me` shares with `peer`.
    fn pair(secrets: &Self::Secrets, public: &Self::Public, me: u16, peer: u16) -> Option<Self::Seed>;

    /// b_u from t shares by holder.
    fn recover_own(shares: &[(u16, &Self::Share)]) -> Option<Self::Seed>;

    /// The seeds that `of` shares with `peers`, from t shares of its secret key; `None` if that does not
    /// belong to `public`.
    fn recover_pairs(
        round: u64,
        of: (u16, &Self::Public),
        shares: &[(u16, &Self::Share)],
        peers: &[(u16, &Self::Public)],
    ) -> Option<Vec<Self::Seed>>;

    /// `y += Σ ± mask(seed)`; the terms are (whether to subtract, seed).
    fn add_masks(y: &mut [S], terms: &[(bool, Self::Seed)]);
}

/// X25519, Shamir's scheme on 256-bit secrets, ChaCha20-Poly1305 and ChaCha20.
#[derive(Clone, Copy, Debug)]
pub struct Cryptographic;

/// Limbs of 52 bits of a 256-bit secret: one element of F_p, p = 2⁶¹ − 1, each.
const LIMBS: usize = 5;

/// Bytes of a share on the wire.
const SHARE_BYTES: usize = 8 * LIMBS;

/// Bytes of a sealed share of both secrets.
pub(super) const SEALED_BYTES: usize = 2 * SHARE_BYTES + TAG_BYTES;

fn limbs(secret: &Bits) -> Vec<M61> {
    let bit = |i: usize| secret.bytes().get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
    (0..LIMBS).map(|limb| M61::new((0..52).map(|i| u64::from(bit(52 * limb + i)) << i).sum())).collect()
}

fn from_limbs(limbs: &[M61]) -> Bits {
    let mut bytes = [0u8; KEY_BYTES];
    for i in 0..8 * KEY_BYTES {
        bytes[i / 8] |= ((limbs[i / 52].residue() >> (i % 52) & 1) as u8) << (i % 8);
    }
    Bits::new(bytes)
}

/// A client's secrets of one round.
pub struct Keys {
    index: u16,
    round: u64,
    threshold: usize,
    /// b_u.
    own: Bits,
    /// (s_u^SK, s_u^PK), for masks.
    masking: KeyPair,
    /// (c_u^SK, c_u^PK), for encryption.
    channel: KeyPair,
    /// What it shared with each neighbour before the round: nobody else can seal in that one's name.
    known: BTreeMap<u16, Bits>,
    /// Coefficients of the polynomials of both secrets.
    noise: Vec<M61>,
}

impl<S> Secret<S> for Keys {
    /// No symbols: what is audited are [`Uniform`] keys.
    fn held(&self) -> Vec<&[S]> {
        Vec::new()
    }
}

/// c_u^PK and s_u^PK.
#[derive(Clone, Debug, PartialEq)]
pub struct PublicKeys {
    channel: [u8; KEY_BYTES],
    masking: [u8; KEY_BYTES],
}

impl<S> Content<S> for PublicKeys {
    fn bytes(&self) -> usize {
        2 * KEY_BYTES
    }
}

impl PublicKeys {
    /// These two keys.
    #[must_use]
    pub fn new(channel: [u8; KEY_BYTES], masking: [u8; KEY_BYTES]) -> Self {
        Self { channel, masking }
    }
}

/// One share of a 256-bit secret.
#[derive(Clone, Debug, PartialEq)]
pub struct ShortShare(pub Vec<M61>);

impl<S> Content<S> for ShortShare {
    fn bytes(&self) -> usize {
        8 * self.0.len()
    }
}

impl<S> Content<S> for Vec<u8> {
    fn bytes(&self) -> usize {
        self.len()
    }
}

/// Words below the modulus; `None` for others.
fn residues(bytes: &[u8]) -> Option<Vec<M61>> {
    let (words, rest) = bytes.as_chunks::<8>();
    let residue = |word: &[u8; 8]| Some(u64::from_le_bytes(*word)).filter(|&n| n < M61::MODULUS);
    rest.is_empty().then(|| words.iter().map(|word| residue(word).map(M61::new)).collect())?
}

fn another_size(got: usize, want: usize) -> String {
    format!("{got} bytes instead of {want}")
}

/// The channel's key, then the masks'.
impl Encoded for PublicKeys {
    const BYTES: usize = 2 * KEY_BYTES;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.channel);
        out.extend_from_slice(&self.masking);
    }

    fn take(bytes: &[u8]) -> Result<Self, String> {
        match bytes.as_chunks::<KEY_BYTES>() {
            (&[channel, masking], []) => Ok(Self { channel, masking }),
            _ => Err(another_size(bytes.len(), Self::BYTES)),
        }
    }
}

impl Encoded for ShortShare {
    const BYTES: usize = SHARE_BYTES;

    fn put(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|limb| out.extend_from_slice(&limb.residue().to_le_bytes()));
    }

    fn take(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() != SHARE_BYTES {
            return Err(another_size(bytes.len(), SHARE_BYTES));
        }
        residues(bytes).map(Self).ok_or_else(|| "a share with a number that is no residue".into())
    }
}

/// Sealed shares.
impl Encoded for Vec<u8> {
    const BYTES: usize = SEALED_BYTES;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() == SEALED_BYTES {
            Ok(bytes.into())
        } else {
            Err(another_size(bytes.len(), SEALED_BYTES))
        }
    }
}

impl Cryptographic {
    /// The key of what `from` seals for `to`, one of whom has `keys` and the other one `public`. Both the
    /// secret that the two have had before and all four public keys as they see them are in it: shares open
    /// only where the server has handed on the keys that were advertised.
    fn channel_key(keys: &Keys, public: &PublicKeys, from: u16, to: u16) -> Option<Bits> {
        let own = PublicKeys { channel: keys.channel.public(), masking: keys.masking.public() };
        let (peer, seen) = if keys.index == from { (to, [&own, public]) } else { (from, [public, &own]) };
        let mut name = context("channel", keys.round, from, to);
        let shared = keys.channel.agree(&public.channel, &name)?;
        seen.into_iter().for_each(|public| public.put(&mut name));
        Some(shared.bound(keys.known.get(&peer)?, &name))
    }

    fn pair_key(pair: &KeyPair, public: &PublicKeys, round: u64, a: u16, b: u16) -> Option<Bits> {
        pair.agree(&public.masking, &context("pair", round, a.min(b), a.max(b)))
    }

    fn recover(shares: &[(u16, &ShortShare)]) -> Bits {
        let shares: Vec<_> = shares.iter().map(|(holder, share)| (*holder, share.0.as_slice())).collect();
        from_limbs(&shamir::recover(&shares))
    }
}

impl<F: Prime> Suite<F> for Cryptographic {
    type Secrets = Keys;
    type Public = PublicKeys;
    type Share = ShortShare;
    type Sealed = Vec<u8>;
    type Seed = Bits;

    fn secrets(
        k: u16,
        graph: &Graph,
        threshold: usize,
        round: u64,
        _: usize,
        source: &impl KeySource<F>,
    ) -> Keys {
        let draw = |purpose| Bits::draw(KeyStream { purpose, round, a: k, b: k }, source);
        let pair = |&v: &u16| {
            let name = KeyStream { purpose: "known", round, a: k.min(v), b: k.max(v) };
            (v, Bits::toss(name, source))
        };
        let known = graph.neighbours(k).iter().map(pair).collect();
        let mut noise = vec![M61::ZERO; 2 * LIMBS * (threshold - 1)];
        crypto::add_masks(&mut noise, &[(false, &draw("noise"))]);
        let (masking, channel) = (KeyPair::new(&draw("masking")), KeyPair::new(&draw("channel")));
        Keys { index: k, round, threshold, own: draw("self"), masking, channel, known, noise }
    }

    fn public(keys: &Keys) -> PublicKeys {
        PublicKeys { channel: keys.channel.public(), masking: keys.masking.public() }
    }

    fn valid(public: &PublicKeys) -> bool {
        // Whether a point has small order does not depend on the secret: those are cleared of the cofactor.
        let any = KeyPair::new(&Bits::new([1; KEY_BYTES]));
        [public.channel, public.masking].iter().all(|key| any.agree(key, &[]).is_some())
    }

    fn shares(keys: &Keys, holder: u16) -> [ShortShare; 2] {
        let noise = |i: usize| {
            let half = LIMBS * (keys.threshold - 1);
            keys.noise[i * half..(i + 1) * half].chunks(LIMBS).collect::<Vec<_>>()
        };
        let share = |secret: &Bits, i| ShortShare(shamir::share(&limbs(secret), &noise(i), holder));
        [share(&keys.own, 0), share(&keys.masking.secret(), 1)]
    }

    fn seal(keys: &Keys, public: &PublicKeys, from: u16, to: u16, shares: [ShortShare; 2]) -> Vec<u8> {
        let symbols = shares.iter().flat_map(|share| &share.0);
        let plain: Vec<u8> = symbols.flat_map(|symbol| symbol.residue().to_le_bytes()).collect();
        Self::channel_key(keys, public, from, to).map_or_else(Vec::new, |key| crypto::seal(&key, &plain))
    }

    fn fits(sealed: &Vec<u8>, _: &Graph, _: u16, _: usize) -> bool {
        sealed.len() == 2 * SHARE_BYTES + crypto::TAG_BYTES
    }

    fn open(
        keys: &Keys,
        public: &PublicKeys,
        from: u16,
        to: u16,
        sealed: &Vec<u8>,
    ) -> Option<[ShortShare; 2]> {
        let plain = crypto::open(&Self::channel_key(keys, public, from, to)?, sealed)?;
        if plain.len() != 2 * SHARE_BYTES {
            return None;
        }
        let symbols = residues(&plain)?;
        let (own, key) = symbols.split_at(LIMBS);
        Some([ShortShare(own.to_vec()), ShortShare(key.to_vec())])
    }

    fn needed(share: ShortShare, _: &[u16]) -> ShortShare {
        share
    }

    fn well_formed(share: &ShortShare, _: bool, _: usize) -> bool {
        share.0.len() == LIMBS
    }

    fn own(keys: &Keys) -> Bits {
        keys.own.clone()
    }

    fn pair(keys: &Keys, public: &PublicKeys, me: u16, peer: u16) -> Option<Bits> {
        Self::pair_key(&keys.masking, public, keys.round, me, peer)
    }

    fn recover_own(shares: &[(u16, &ShortShare)]) -> Option<Bits> {
        Some(Self::recover(shares))
    }

    fn recover_pairs(
        round: u64,
        (k, public): (u16, &PublicKeys),
        shares: &[(u16, &ShortShare)],
        peers: &[(u16, &PublicKeys)],
    ) -> Option<Vec<Bits>> {
        let pair = KeyPair::new(&Self::recover(shares));
        if pair.public() != public.masking {
            return None;
        }
        peers.iter().map(|(peer, public)| Self::pair_key(&pair, public, round, k, *peer)).collect()
    }

    fn add_masks(y: &mut [F], terms: &[(bool, Bits)]) {
        let terms: Vec<_> = terms.iter().map(|(subtract, seed)| (*subtract, seed)).collect();
        crypto::add_masks(y, &terms);
    }
}

/// Which suite stands for a kind of keys over the symbols `S`.
pub trait Choice<S: Symbol>: Send + Sync + 'static {
    /// The suite.
    type Suite: Suite<S>;
}

impl<S: Symbol<Scalar: Prime>> Choice<S> for Uniform {
    type Suite = Self;
}

impl<F: Prime> Choice<F> for Cryptographic {
    type Suite = Self;
}

impl<F: Prime> Choice<LinearForm<F>> for Cryptographic {
    type Suite = Uniform;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sec_agg::Padded;
    use crate::seed::Seed;

    #[test]
    fn secrets_survive_their_limbs_and_shares() {
        let secret = Bits::new(std::array::from_fn(|i| (i * 37 + 200) as u8));
        assert!(from_limbs(&limbs(&secret)) == secret);
        assert!(from_limbs(&limbs(&Bits::new([255; KEY_BYTES]))) == Bits::new([255; KEY_BYTES]));
        let source = crate::keys::SeededKeys(Seed::new(1));
        let keys = <Cryptographic as Suite<M61>>::secrets(2, &Graph::complete(5), 3, 1, 0, &source);
        let shares: Vec<_> = (0..5).map(|k| <Cryptographic as Suite<M61>>::shares(&keys, k)).collect();
        for holders in [[0, 1, 2], [4, 0, 3], [2, 3, 4]] {
            let of = |i: usize| holders.map(|k: u16| (k, &shares[usize::from(k)][i]));
            assert!(Cryptographic::recover(&of(0)) == keys.own);
            assert!(Cryptographic::recover(&of(1)) == keys.masking.secret());
            assert!(Cryptographic::recover(&of(0)[..2]) != keys.own, "two of three");
        }
    }

    #[test]
    fn sealed_shares_have_one_size() {
        let (complete, sparse) = (Graph::complete(4), Graph::harary(5, 2, &mut Seed::new(1).rng()));
        // Two shares of five words and a tag.
        for (bytes, fits) in [(95, false), (96, true), (97, false), (0, false)] {
            assert_eq!(
                <Cryptographic as Suite<M61>>::fits(&vec![0; bytes], &complete, 0, 5),
                fits,
                "{bytes}"
            );
        }
        // The self mask's share and that of every neighbour's pair, of five symbols each.
        let fits = |symbols, peers: &[u16], graph, from| {
            <Uniform as Suite<M61>>::fits(&Padded(vec![M61::ONE; symbols], peers.to_vec()), graph, from, 5)
        };
        assert!(fits(20, &[0, 2, 3], &complete, 1));
        assert!(!fits(19, &[0, 2, 3], &complete, 1) && !fits(40, &[0, 2, 3], &complete, 1));
        assert!(!fits(20, &[0, 1, 3], &complete, 1), "its peers are others");
        assert!(!fits(25, &[0, 1, 2, 3], &complete, 1), "it has fewer peers");
        let peers = sparse.neighbours(1);
        assert!(fits(15, peers, &sparse, 1) && !fits(20, peers, &sparse, 1));
    }
}
