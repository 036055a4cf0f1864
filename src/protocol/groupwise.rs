//! Secure aggregation with keys that groups of clients share.
//!
//! Wan, Sun, Ji, Mi, Caire, *The Capacity Region of Information Theoretic Secure Aggregation with Uncoded
//! Groupwise Keys*, section V: R₁ = N/D, R₂ = 1/U, with N = C(K−1, S−1) and D = N − C(K−1−U, S−1).
//!
//! | paper | here | shape |
//! |---|---|---|
//! | K, U, S | clients, survivors, group size | |
//! | V | `groups`, in lexicographic order | C(K, S) |
//! | Z_{V,k} | `Key::groups`: for every V that holds the client, the sub-keys of its members, owned by one each | S of L/D a group |
//! | a_V | a column of [`coefficients`] | N |
//! | X_{k,j} | piece j of the upload; the pieces from D on hold no input (24) | L/D |
//! | s_{k,r} | `Encoder::known` | C(K−2, S−2) × N |
//! | S_k | rows of 1_U ⊗ s_k, combined by `Encoder::direct` and `Encoder::mixed` | D × U N |
//! | Y_k | [`Symbols`] | L/U |
//!
//! Keys are plain: every group agrees on its own, nobody deals. An upload is W_k + Σ a_V Z_{V,k}; what
//! remains of the keys in the sum over U_1, F = Σ_V a_V Z_V^{U_1}, is what the answers tell. The alternating
//! rule (25) aligns what client k does not know, so that it can compute C(K−2, S−2) combinations s_{k,r} F;
//! of the U parts of each it sends D mixtures, most of them of one part alone, which makes decoding cheap.
//!
//! The first vectors a_V, 1 ∈ V, are [1 0; B 1] with B uniform, (N−D) × D. That is the paper's uniform choice
//! up to a change of basis: invertible combinations among the pieces of either kind, and multiples of the
//! pieces without input on the others, change neither who can compute what nor what can be decoded. It makes
//! the coefficients of inputs 0 and ±1.
//!
//! Coefficients need a field that is not too small; [`Groupwise`] says how large, and how the second round is
//! made. Inputs over a prime as small as the paper's 7 run over an
//! [`Extension`](crate::algebra::extension::Extension), whose sums are those of the packed inputs.
//!
//! With `keys = "agreement"` the groups agree on a secret each before the first round ([`Agreement`]) and
//! expand the keys of a round from it: the promise then holds against adversaries who cannot break
//! Diffie–Hellman on Curve25519, HKDF-SHA-256 and ChaCha20, and the audit idealises the expanded keys as
//! uniform and independent, as which `keys = "uniform"` draws them.
//!
//! Nobody but the owner of a sub-key Z_{V,k} needs it until the second round. Clients that are apart
//! therefore agree on nothing beforehand: in a group of two the owner expands it from a secret of the pair;
//! in a larger one from a seed of its own, which it sends the other members in phase 0. Whoever misses a seed
//! cannot answer for a set with its sender, as in LightSecAgg, and who is gone in phase 0 is missed by
//! nobody. Audits look at the same keys as a dealer hands them out.
//!
//! Promise: the server learns Σ_{U_1} W_k and nothing more, even when lost messages reach it after all. **No
//! collusion is covered**: one client with the server already tells them more.

mod agreement;
mod coefficients;

use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, Assemble, Scheme, Setup, Simulated};
use super::two_round::{Rounds, Symbols, TwoRound};
use super::{Deployable, Message, OverField, Secret, SharedKeys, included};
use crate::algebra::field::{Field, Prime};
use crate::algebra::quantise::{Quantisation, Quantiser};
use crate::algebra::{KeyStream, Scalar, Symbol};
use crate::crypto::{Expand, KEY_BYTES, Secret as Bits, context};
use crate::error::Result;
use crate::keys::KeySource;
use crate::parallel;
use crate::seed::Seed;
use crate::wire::{Form, Wire, WireSymbol};
pub use agreement::Agreement;
pub use coefficients::{Groupwise, coefficients};

use std::fmt;
use std::sync::Arc;

/// Secure aggregation with groupwise keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GroupwiseConfig {
    /// Number of clients U whose uploads and answers suffice, from 1 to the number of clients: fewer in
    /// either round are an outage.
    #[schemars(range(min = 1))]
    pub survivors: usize,
    /// Number of clients S that share one key, from 2 to the number of clients. From clients − survivors + 1
    /// on uploads have the size of the update; with smaller groups they are larger. No collusion of clients
    /// and server is covered.
    #[schemars(range(min = 2))]
    pub group_size: usize,
    /// Where the keys of the groups come from: "agreement" (X25519, HKDF and ChaCha20) or "uniform".
    pub keys: SharedKeys,
    /// Fewest clients whose sum the server may learn, 1 to `clients`; with fewer uploads nothing is unmasked
    /// and the round is an outage. By default 3, or all of fewer clients: the sum over two shows each of them
    /// the other's update.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// How updates become field symbols.
    pub quantisation: Quantisation,
}

impl Default for GroupwiseConfig {
    fn default() -> Self {
        Self {
            survivors: 5,
            group_size: 2,
            keys: SharedKeys::default(),
            least_included: None,
            quantisation: Quantisation::default(),
        }
    }
}

impl OverField for GroupwiseConfig {
    fn memory(&self) -> u64 {
        super::LARGE
    }

    fn quantisation(&self) -> &Quantisation {
        &self.quantisation
    }

    fn over<F: Prime + WireSymbol>(
        &self,
        quantiser: Quantiser,
        clients: usize,
        seed: Seed,
    ) -> Result<Box<dyn Aggregator>> {
        self.assemble_over::<F, _>(quantiser, clients, seed, Simulated)
    }
}

impl Deployable for GroupwiseConfig {
    fn assemble_over<F: Prime + WireSymbol, A: Assemble>(
        &self,
        quantiser: Quantiser,
        clients: usize,
        seed: Seed,
        to: A,
    ) -> Result<A::Output> {
        if A::APART {
            self.keys.check_apart()?;
        }
        let least = included::masked(self.least_included, 0, clients)?;
        let setup = Setup::new(
            clients,
            seed,
            Scheme {
                keys: self.keys.name().into(),
                least_included: Some(least.max(self.survivors)),
                ..Scheme::default()
            },
        );
        let draws = seed.child("coefficients", 0);
        let mut scheme = Groupwise::<F>::new(clients, self.survivors, self.group_size, draws)?;
        if A::APART {
            scheme = scheme.apart();
        } else if self.keys == SharedKeys::Agreement {
            scheme.agree(seed.child("agreement", 0));
        }
        Ok(to.field::<F, _>(Rounds::new(scheme).with_at_least(least), quantiser, setup))
    }
}

/// Where the sub-keys of a round come from.
#[derive(Debug)]
pub(super) enum Origin {
    /// Drawn for everybody.
    Dealer,
    /// Expanded from the secrets that the groups agreed on.
    Agreement(Agreement),
    /// Made by their owners.
    Owners,
}

/// A client's keys of one round.
pub struct Key<S> {
    client: u16,
    round: u64,
    /// For every group that holds the client, in order: the sub-key of every member, in order; `None` until
    /// its owner has told.
    groups: Vec<Vec<Option<Arc<Vec<S>>>>>,
    /// What its own sub-keys are expanded from, a seed a group, where the others must be told.
    seeds: Vec<Bits>,
}

impl<S: Symbol> Secret<S> for Key<S> {
    fn held(&self) -> Vec<&[S]> {
        self.groups.iter().flatten().flatten().map(|key| key.as_slice()).collect()
    }
}

/// What the sub-keys of one client are expanded from, one seed for every group that holds the receiver too,
/// in order.
#[derive(Clone, PartialEq, Eq)]
pub struct Seeds(pub Vec<Bits>);

impl fmt::Debug for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seeds").field(&self.0.len()).finish()
    }
}

/// Seeds travel sealed, and what is audited are expanded keys: they show no symbols.
impl<S: Symbol> Message<S> for Seeds {
    fn bytes(&self) -> usize {
        KEY_BYTES * self.0.len()
    }

    fn reveals(&self) -> Vec<Vec<S>> {
        Vec::new()
    }
}

impl<S: WireSymbol> Wire<S> for Seeds {
    fn variant(&self) -> u8 {
        0
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|seed| out.extend_from_slice(seed.bytes()));
    }

    fn take(_: u8, body: &[u8], form: &Form) -> std::result::Result<Self, String> {
        let (seeds, rest) = body.as_chunks::<KEY_BYTES>();
        if seeds.len() != form.len || !rest.is_empty() {
            return Err(format!("{} bytes instead of {} seeds of {KEY_BYTES}", body.len(), form.len));
        }
        Ok(Self(seeds.iter().map(|&seed| Bits::new(seed)).collect()))
    }
}

/// The name of Z_{V,k}, `v` being the number of V.
fn sub_key(round: u64, v: usize, k: u16) -> KeyStream {
    KeyStream { purpose: "group", round, a: v as u16, b: k }
}

impl<F: Field> Groupwise<F> {
    /// The numbers of the groups of client `me` that hold `other`, each with its place among those of `me`.
    fn common(&self, me: u16, other: u16) -> impl Iterator<Item = (usize, usize)> + '_ {
        let own = self.encoders[usize::from(me)].groups.iter().copied().enumerate();
        own.filter(move |&(_, v)| self.groups[v].contains(&other))
    }

    /// The keys of client `k` as it makes them alone, for inputs of the padded length `len`.
    fn own<S: Expand<Scalar = F>>(
        &self,
        k: u16,
        round: u64,
        len: usize,
        source: &impl KeySource<S>,
    ) -> Key<S> {
        let toss = |a, b| Bits::toss(KeyStream { purpose: "group", round, a, b }, source);
        let (root, own) = (toss(k, k), &self.encoders[usize::from(k)].groups);
        let seed = |v: usize, owner: u16| match self.groups[v][..] {
            [a, b] => Some(toss(owner, if owner == a { b } else { a })),
            _ => (owner == k).then(|| root.derive(&context("group", v as u64, k, 0))),
        };
        let groups = parallel::map(own, |&v| {
            let key = |&owner: &u16| {
                let expanded = S::expanded(&seed(v, owner)?, sub_key(round, v, owner), len / self.data);
                Some(Arc::new(expanded))
            };
            self.groups[v].iter().map(key).collect()
        });
        let told = TwoRound::<S>::has_shares(self);
        let seeds = own.iter().filter(|_| told).filter_map(|&v| seed(v, k)).collect();
        Key { client: k, round, groups, seeds }
    }
}

impl<S: Expand<Scalar: Field>> TwoRound<S> for Groupwise<S::Scalar> {
    type Key = Key<S>;
    type Share = Seeds;
    type Answer = Symbols<S>;

    fn clients(&self) -> usize {
        self.clients
    }

    fn survivors(&self) -> usize {
        self.survivors
    }

    fn unit(&self) -> usize {
        self.survivors * self.data
    }

    fn mask_len(&self, len: usize) -> usize {
        len / self.data * self.pieces
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        let secrets = match &self.origin {
            Origin::Dealer => None,
            Origin::Agreement(agreement) => Some(&agreement.secrets),
            Origin::Owners => {
                return (0..self.clients as u16).map(|k| self.own(k, round, len, source)).collect();
            }
        };
        let keys: Vec<Vec<_>> = parallel::map(self.groups.iter().enumerate(), |(v, group)| {
            let root = secrets.map(|secrets| &secrets[v]);
            let expanded = |k| S::expand(root, sub_key(round, v, k), len / self.data, source);
            group.iter().map(|&k| Some(Arc::new(expanded(k)))).collect()
        });
        let of = |k: u16| self.encoders[usize::from(k)].groups.iter().map(|&v| keys[v].clone()).collect();
        let key = |client| Key { client, round, groups: of(client), seeds: Vec::new() };
        (0..self.clients as u16).map(key).collect()
    }

    fn own_key(&self, client: u16, round: u64, len: usize, source: &impl KeySource<S>) -> Option<Key<S>> {
        matches!(self.origin, Origin::Owners).then(|| self.own(client, round, len, source))
    }

    fn has_shares(&self) -> bool {
        matches!(self.origin, Origin::Owners) && self.groups.iter().any(|group| group.len() > 2)
    }

    fn shares(&self, client: u16, key: &Key<S>) -> Vec<(u16, Seeds)> {
        let others = (0..self.clients as u16).filter(|&other| other != client && !key.seeds.is_empty());
        let seeds = |other| self.common(client, other).map(|(place, _)| key.seeds[place].clone()).collect();
        others.map(|other| (other, Seeds(seeds(other)))).collect()
    }

    fn share_form(&self, _: usize) -> (usize, usize) {
        let seeds = self.told();
        (seeds, KEY_BYTES * seeds)
    }

    fn answer_len(&self, len: usize) -> usize {
        len / self.survivors
    }

    fn refusal(&self, key: &Key<S>, share: &Seeds) -> Option<String> {
        if key.seeds.is_empty() {
            return Some("this scheme has no shares".into());
        }
        let (got, want) = (share.0.len(), self.told());
        (got != want).then(|| format!("the share has {got} seeds instead of {want}"))
    }

    fn keep(&self, key: &mut Key<S>, from: u16, share: &Seeds) {
        let own = key.groups.iter().flatten().flatten().next();
        let piece = own.map_or(0, |key| key.len());
        for ((place, v), seed) in self.common(key.client, from).zip(&share.0) {
            let Ok(member) = self.groups[v].binary_search(&from) else { continue };
            key.groups[place][member]
                .get_or_insert_with(|| Arc::new(S::expanded(seed, sub_key(key.round, v, from), piece)));
        }
    }

    fn mask(&self, client: u16, key: &Key<S>) -> Vec<S> {
        let encoder = &self.encoders[usize::from(client)];
        let own: Vec<&[S]> = encoder
            .groups
            .iter()
            .zip(&key.groups)
            .flat_map(|(&v, key)| self.groups[v].iter().zip(key).filter(|(k, _)| **k == client))
            .filter_map(|(_, key)| key.as_deref().map(Vec::as_slice))
            .collect();
        let piece = own.first().map_or(0, |key| key.len());
        let mut mask = vec![S::zero(); piece * self.pieces];
        parallel::for_each(mask.chunks_mut(piece).zip(&encoder.upload), |(mask, row)| {
            let terms: Vec<_> = row.iter().map(|&(v, c)| (c, own[v])).collect();
            S::accumulate(mask, &terms);
        });
        mask
    }

    fn answer(&self, client: u16, key: &Key<S>, included: &[u16]) -> Option<Symbols<S>> {
        let encoder = &self.encoders[usize::from(client)];
        let piece = key.groups.iter().flatten().flatten().next().map_or(0, |key| key.len());
        // Z_V^{U_1} for the groups of this client.
        let sums: Vec<Option<Vec<S>>> = parallel::map(encoder.groups.iter().zip(&key.groups), |(&v, key)| {
            let members = self.groups[v].iter().zip(key);
            let terms: Option<Vec<_>> = members
                .filter(|(k, _)| included.binary_search(k).is_ok())
                .map(|(_, key)| Some((S::Scalar::ONE, key.as_ref()?.as_slice())))
                .collect();
            Some(S::combine(piece, &terms?))
        });
        let sums: Vec<Vec<S>> = sums.into_iter().collect::<Option<_>>()?;
        // s_{k,r} F, all U pieces at once.
        let known: Vec<Vec<S>> = parallel::map(&encoder.answer, |row| {
            let terms: Vec<_> = row.iter().map(|&(v, c)| (c, sums[v].as_slice())).collect();
            S::combine(piece, &terms)
        });
        let small = piece / self.survivors;
        let known: Vec<&[S]> = known.iter().map(Vec::as_slice).collect();
        let parts: Vec<&[S]> =
            known[encoder.direct.len()..].iter().flat_map(|known| known.chunks(small)).collect();
        let mut answer = vec![S::zero(); self.data * small];
        let (direct, mixed) = answer.split_at_mut(encoder.direct.len() * piece);
        S::add_product(direct.chunks_mut(piece).collect(), &encoder.direct, &known);
        S::add_product(mixed.chunks_mut(small).collect(), &encoder.mixed, &parts);
        Some(Symbols(answer))
    }

    fn malformed(&self, len: usize, _: &[u16], answer: &Symbols<S>) -> Option<String> {
        answer.malformed(len / self.survivors)
    }

    fn unmask(&self, sum: &mut [S], _: &[u16], answers: &[(u16, &Symbols<S>)]) -> bool {
        let answers = &answers[..self.survivors];
        let from: Vec<u16> = answers.iter().map(|(k, _)| *k).collect();
        let Some(decoder) = self.decoder(&from) else { return false };
        let piece = sum.len() / self.pieces;
        let small = piece / self.survivors;
        let (data, keys) = sum.split_at_mut(self.data * piece);
        let (direct, mixed): (Vec<&[S]>, Vec<&[S]>) =
            answers.iter().map(|(_, answer)| answer.0.split_at(self.data / self.survivors * piece)).unzip();
        let known = [direct, vec![&*keys]].concat();
        let mut free = vec![S::zero(); decoder.free.len() * piece];
        let parts: Vec<&[S]> = mixed.iter().chain(&known).flat_map(|rows| rows.chunks(small)).collect();
        S::add_product(free.chunks_mut(small).collect(), &decoder.mixed, &parts);
        let pieces: Vec<&[S]> =
            known.iter().copied().chain([free.as_slice()]).flat_map(|rows| rows.chunks(piece)).collect();
        let data = data.chunks_mut(piece).enumerate();
        let (rest, solved): (Vec<_>, Vec<_>) = data.partition(|(j, _)| decoder.free.contains(j));
        S::add_product(solved.into_iter().map(|(_, data)| data).collect(), &decoder.direct, &pieces);
        for ((_, data), free) in rest.into_iter().zip(free.chunks(piece)) {
            S::accumulate(data, &[(-S::Scalar::ONE, free)]);
        }
        true
    }
}
