//! Keys of uniform symbols.

use std::collections::BTreeMap;

use super::{Content, Graph, Suite};
use crate::algebra::field::Prime;
use crate::algebra::{KeyStream, Scalar, Symbol};
use crate::coding::shamir;
use crate::keys::KeySource;
use crate::protocol::Secret;

/// Keys of uniform symbols as long as the input: information-theoretic, and what an audit of
/// [`super::Cryptographic`] keys computes with.
///
/// A secret key is the list of what it agrees on with every peer, a seed is its own expansion, and encryption
/// is a one-time pad.
#[derive(Clone, Copy, Debug)]
pub struct Uniform;

/// A client's uniform keys of one round.
pub struct UniformKeys<S> {
    /// b_u, L symbols.
    own: Vec<S>,
    /// With every neighbour L symbols.
    pairs: BTreeMap<u16, Vec<S>>,
    /// t − 1 coefficients for each of `own` and `pairs`, in that order.
    noise: Vec<Vec<Vec<S>>>,
    /// Pads to and from every neighbour, (1 + neighbours of the sender) L symbols.
    pads: BTreeMap<(u16, u16), Vec<S>>,
}

impl<S: Send> Secret<S> for UniformKeys<S> {
    fn held(&self) -> Vec<&[S]> {
        let noise = self.noise.iter().flatten();
        [&self.own]
            .into_iter()
            .chain(self.pairs.values())
            .chain(noise)
            .chain(self.pads.values())
            .map(Vec::as_slice)
            .collect()
    }
}

impl<S> Content<S> for () {
    fn bytes(&self) -> usize {
        0
    }
}

/// A share of one secret, or of the keys with several peers: L symbols each.
#[derive(Clone, Debug, PartialEq)]
pub struct LongShare<S>(pub Vec<(u16, Vec<S>)>);

impl<S: Symbol> Content<S> for LongShare<S> {
    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, share)| share.len() * S::BYTES).sum()
    }

    fn symbols(&self) -> Vec<Vec<S>> {
        self.0.iter().map(|(_, share)| share.clone()).collect()
    }
}

/// Shares under a one-time pad: of the self mask, then with every peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Padded<S>(pub Vec<S>, pub Vec<u16>);

impl<S: Symbol> Content<S> for Padded<S> {
    fn bytes(&self) -> usize {
        self.0.len() * S::BYTES
    }

    fn symbols(&self) -> Vec<Vec<S>> {
        vec![self.0.clone()]
    }
}

impl<S: Symbol<Scalar: Prime>> Suite<S> for Uniform {
    type Secrets = UniformKeys<S>;
    type Public = ();
    type Share = LongShare<S>;
    type Sealed = Padded<S>;
    type Seed = Vec<S>;

    fn secrets(
        k: u16,
        graph: &Graph,
        threshold: usize,
        round: u64,
        len: usize,
        source: &impl KeySource<S>,
    ) -> UniformKeys<S> {
        let draw = |purpose, a, b, len| source.draw(KeyStream { purpose, round, a, b }, len);
        let peers = graph.neighbours(k);
        let pair = |&v: &u16| (v, draw("pair", k.min(v), k.max(v), len));
        // What v knows of them tells of its own key with k alone.
        let noise = |v: u16| {
            let all = draw("noise", k, v, (threshold - 1) * len);
            all.chunks(len.max(1)).map(<[S]>::to_vec).collect()
        };
        let pads = peers.iter().flat_map(|&v| [(k, v), (v, k)]);
        UniformKeys {
            own: draw("self", k, k, len),
            pairs: peers.iter().map(pair).collect(),
            noise: [k].into_iter().chain(peers.iter().copied()).map(noise).collect(),
            pads: pads
                .map(|(a, b)| ((a, b), draw("pad", a, b, (1 + graph.neighbours(a).len()) * len)))
                .collect(),
        }
    }

    fn public(_: &UniformKeys<S>) {}

    fn valid((): &()) -> bool {
        true
    }

    fn shares(keys: &UniformKeys<S>, holder: u16) -> [LongShare<S>; 2] {
        let share = |secret: &[S], noise: &Vec<Vec<S>>| {
            shamir::share(secret, &noise.iter().map(Vec::as_slice).collect::<Vec<_>>(), holder)
        };
        let pairs = keys.pairs.iter().zip(&keys.noise[1..]);
        [
            LongShare(vec![(0, share(&keys.own, &keys.noise[0]))]),
            LongShare(pairs.map(|((v, pair), noise)| (*v, share(pair, noise))).collect()),
        ]
    }

    fn seal(keys: &UniformKeys<S>, (): &(), from: u16, to: u16, shares: [LongShare<S>; 2]) -> Padded<S> {
        let peers = shares[1].0.iter().map(|(v, _)| *v).collect();
        let mut sealed: Vec<S> =
            shares.into_iter().flat_map(|share| share.0).flat_map(|(_, share)| share).collect();
        S::axpy(&mut sealed, S::Scalar::ONE, &keys.pads[&(from, to)]);
        Padded(sealed, peers)
    }

    fn fits(sealed: &Padded<S>, graph: &Graph, from: u16, len: usize) -> bool {
        let peers = graph.neighbours(from);
        sealed.1 == peers && sealed.0.len() == (1 + peers.len()) * len
    }

    fn open(
        keys: &UniformKeys<S>,
        (): &(),
        from: u16,
        to: u16,
        sealed: &Padded<S>,
    ) -> Option<[LongShare<S>; 2]> {
        let (pad, len) = (keys.pads.get(&(from, to))?, keys.own.len());
        if sealed.0.len() != pad.len() || pad.len() != (1 + sealed.1.len()) * len {
            return None;
        }
        let mut plain = sealed.0.clone();
        S::axpy(&mut plain, -S::Scalar::ONE, pad);
        let mut parts = plain.chunks(len.max(1)).map(<[S]>::to_vec);
        let own = LongShare(vec![(0, parts.next()?)]);
        Some([own, LongShare(sealed.1.iter().copied().zip(parts).collect())])
    }

    fn needed(share: LongShare<S>, included: &[u16]) -> LongShare<S> {
        LongShare(share.0.into_iter().filter(|(v, _)| included.binary_search(v).is_ok()).collect())
    }

    fn well_formed(share: &LongShare<S>, key: bool, len: usize) -> bool {
        (key || share.0.len() == 1)
            && share.0.is_sorted_by(|(a, _), (b, _)| a < b)
            && share.0.iter().all(|(_, share)| share.len() == len)
    }

    fn own(keys: &UniformKeys<S>) -> Vec<S> {
        keys.own.clone()
    }

    fn pair(keys: &UniformKeys<S>, (): &(), _: u16, peer: u16) -> Option<Vec<S>> {
        keys.pairs.get(&peer).cloned()
    }

    fn recover_own(shares: &[(u16, &LongShare<S>)]) -> Option<Vec<S>> {
        let shares: Option<Vec<_>> =
            shares.iter().map(|(holder, share)| Some((*holder, share.0.first()?.1.as_slice()))).collect();
        Some(shamir::recover(&shares?))
    }

    fn recover_pairs(
        _: u64,
        _: (u16, &()),
        shares: &[(u16, &LongShare<S>)],
        peers: &[(u16, &())],
    ) -> Option<Vec<Vec<S>>> {
        let with = |peer: u16| {
            let shares: Option<Vec<_>> = shares
                .iter()
                .map(|(holder, share)| {
                    let place = share.0.binary_search_by_key(&peer, |(v, _)| *v).ok()?;
                    Some((*holder, share.0[place].1.as_slice()))
                })
                .collect();
            Some(shamir::recover(&shares?))
        };
        peers.iter().map(|(peer, ())| with(*peer)).collect()
    }

    fn add_masks(y: &mut [S], terms: &[(bool, Vec<S>)]) {
        let sign = |subtract: bool| if subtract { -S::Scalar::ONE } else { S::Scalar::ONE };
        let terms: Vec<_> = terms.iter().map(|(subtract, mask)| (sign(*subtract), mask.as_slice())).collect();
        S::accumulate(y, &terms);
    }
}
