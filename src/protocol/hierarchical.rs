//! Hierarchical secure coded gradient aggregation: clients reach the server through helpers, over links that
//! may straggle.
//!
//! Lu, Cheng, Kang, Liu, *Capacity of Hierarchical Secure Coded Gradient Aggregation with Straggling
//! Communication Links*, section IV.
//!
//! | paper | here | shape |
//! |---|---|---|
//! | K users, N helpers, N_r, T | `clients`, `helpers`, `threshold`, `colluding` | |
//! | α_1 … α_{N+N_r−1}, distinct and **not 0** | the `points` of [`Matrices::new`] | |
//! | l = L/(N_r − T), W_k padded with zeros | [`part_len`] | |
//! | V, (22) | [`Matrices::upload`] | N × N_r |
//! | S_n = V G_n⁻¹, (27) | [`Matrices::repair`] | N × N_r |
//! | S_n G̃, (28) | [`Matrices::masks`] | N × (N_r − 1) |
//! | X_{k,n}, (23) | [`HierarchicalMessage::Share`] | l |
//! | M_{n→i}, (29) | [`HierarchicalMessage::Repair`] | l for each client that i misses |
//! | Y_n, (32) | [`HierarchicalMessage::Sum`] | l |
//!
//! The paper asks for distinct α only; α_n = 0 would send W_{k,1} in the clear, so 0 is refused. It also
//! takes the pattern of arrivals as known to all. Here the helpers learn it from the server:
//!
//! | phase | from → to | what |
//! |--:|---|---|
//! | 0 | client → helper | a share of the update, coded with T parts of private randomness |
//! | 1 | helper → server | which clients' shares it holds, one bit a client |
//! | 2 | server → helper | the clients with N_r holders, and who holds what |
//! | 3 | helper → helper | masked shares for those who miss them |
//! | 4 | helper → server | the sum of the shares of these clients |
//!
//! Any N_r of these sums give Σ W_k over the announced clients; clients with fewer than N_r holders are left
//! out of the sum. The announced set is fixed for the round: sums over two different sets would show the
//! server their difference. Up to T helpers together with any clients learn nothing, and with the server no
//! more than the sum. A sum over fewer than `least_included` clients is not announced.
//!
//! A key dealer gives helper i the masks Z_{i,n}^{(k)} for every n ≠ i and every client, (N − 1) K l symbols
//! a round.

mod parties;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, FieldSession, Scheme, Setup};
use super::{
    Clock, Decoded, Envelope, Expects, Input, Message, OverField, Party, PartyId, Phase, Protocol, Secret,
    included,
};
use crate::algebra::field::Prime;
use crate::algebra::linear::{inverse, product, solve_left};
use crate::algebra::quantise::{Quantisation, Quantiser};
use crate::algebra::{KeyStream, Symbol};
use crate::error::{Error, Result};
use crate::keys::KeySource;
use crate::parallel;
use crate::seed::Seed;
pub use parties::{Helper, Server};

/// Aggregation through helpers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HierarchicalConfig {
    /// Number of helpers N, at least 2. Their links are `network.client_helper`, `network.helper_helper` and
    /// `network.helper_server`.
    #[schemars(range(min = 2, max = 1024))]
    pub helpers: usize,
    /// Resiliency threshold N_r: this many helpers must hold a client's share, and as many sums must reach
    /// the server; more than `colluding`, at most `helpers`. Every message has 1/(threshold − colluding) of
    /// an update's length.
    #[schemars(range(min = 1))]
    pub threshold: usize,
    /// Number T of helpers that may pool what they know, with each other, with the server and with any
    /// clients, and learn nothing.
    pub colluding: usize,
    /// Fewest clients whose sum the server may learn, 1 to `clients`; a smaller sum is not announced and the
    /// round is an outage. By default 3, or all of fewer clients: helpers hold no updates of their own, and
    /// the sum over two clients shows each the other's.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// How updates become field symbols.
    pub quantisation: Quantisation,
}

impl Default for HierarchicalConfig {
    fn default() -> Self {
        Self {
            helpers: 5,
            threshold: 4,
            colluding: 1,
            least_included: None,
            quantisation: Quantisation::default(),
        }
    }
}

impl OverField for HierarchicalConfig {
    fn memory(&self) -> u64 {
        super::LARGE
    }

    fn quantisation(&self) -> &Quantisation {
        &self.quantisation
    }

    fn over<F: Prime>(
        &self,
        quantiser: Quantiser,
        clients: usize,
        seed: Seed,
    ) -> Result<Box<dyn Aggregator>> {
        let protocol = Hierarchical::<F>::new(clients, self.helpers, self.threshold, self.colluding)?;
        let least = included::masked(self.least_included, 0, clients)?;
        let scheme = Scheme { least_included: Some(least), ..Scheme::default() };
        let (protocol, setup) = (protocol.with_at_least(least), Setup::new(clients, seed, scheme));
        Ok(Box::new(FieldSession::<_, F>::new(protocol, quantiser, setup)))
    }
}

/// The protocol over the prime field `F`.
#[derive(Clone, Debug)]
pub struct Hierarchical<F: Prime> {
    /// Number of clients K.
    pub clients: usize,
    /// Fewest clients in a sum.
    least: usize,
    /// What all parties know.
    pub matrices: Arc<Matrices<F>>,
}

impl<F: Prime> Hierarchical<F> {
    /// With α_i = i.
    ///
    /// # Errors
    /// Parameters that break a rule, keyed as in [`HierarchicalConfig`].
    pub fn new(clients: usize, helpers: usize, threshold: usize, colluding: usize) -> Result<Self> {
        if !(2..=1024).contains(&helpers) {
            return Err(Error::config("helpers", format!("{helpers} is out of range; give 2 to 1024")));
        }
        if !(1..=helpers).contains(&threshold) {
            let rule = format!("{threshold} is out of range; of {helpers} helpers give 1 to {helpers}");
            return Err(Error::config("threshold", rule));
        }
        if helpers as u64 + threshold as u64 > F::MODULUS {
            let rule =
                format!("needs {helpers} + {threshold} field elements, and the field has {}", F::MODULUS);
            return Err(Error::config("helpers", rule));
        }
        let points = (1..(helpers + threshold) as u64).map(F::new).collect();
        let matrices = Arc::new(Matrices::new(threshold, colluding, points)?);
        // The sum over one of several clients is that client's update.
        Ok(Self { clients, least: 2.min(clients), matrices })
    }

    /// With at least this many clients in a sum: a smaller set is not announced, and helpers do not add it.
    #[must_use]
    pub fn with_at_least(self, least: usize) -> Self {
        Self { least, ..self }
    }
}

/// The globally known matrices.
#[derive(Clone, Debug)]
pub struct Matrices<F: Prime> {
    /// N_r.
    pub threshold: usize,
    /// T.
    pub colluding: usize,
    /// V: row n holds the powers 0 … N_r − 1 of α_n.
    pub upload: DMatrix<F>,
    /// S_n, by helper n.
    pub repair: Vec<DMatrix<F>>,
    /// S_n G̃, by helper n; row n is 0.
    pub masks: Vec<DMatrix<F>>,
}

impl<F: Prime> Matrices<F> {
    /// From α_1 … α_{N + N_r − 1}: the helpers' N points, then the N_r − 1 that extend them.
    ///
    /// # Errors
    /// N_r ≤ T, too few points, a point 0 or two equal ones.
    pub fn new(threshold: usize, colluding: usize, points: Vec<F>) -> Result<Self> {
        if threshold <= colluding {
            let rule = format!(
                "{colluding} helpers that may collude could decode from the {threshold} shares that must suffice \
                 (threshold); take fewer than {threshold}"
            );
            return Err(Error::config("colluding", rule));
        }
        let distinct = points.iter().collect::<BTreeSet<_>>().len();
        if threshold == 0
            || points.len() < 2 * threshold - 1
            || distinct < points.len()
            || points.contains(&F::ZERO)
        {
            let rule = "the evaluation points must be N + N_r − 1 ≥ 2 N_r − 1 distinct field elements other than 0: \
                        at 0 a share is a part of the update in the clear";
            return Err(Error::config("helpers", rule));
        }
        let (own, extra) = points.split_at(points.len() + 1 - threshold);
        let powers = |points: &[F], columns: usize| {
            DMatrix::from_fn(points.len(), columns, |i, j| points[i].power(j as u64))
        };
        let upload = powers(own, threshold);
        let blind = powers(extra, threshold - 1).insert_row(0, F::ZERO);
        let repair: Vec<DMatrix<F>> = own
            .iter()
            .map(|&point| {
                let rows: Vec<F> = std::iter::once(point).chain(extra.iter().copied()).collect();
                // Vandermonde with distinct points.
                let inverse = inverse(&powers(&rows, threshold)).ok_or_else(singular)?;
                Ok(product(&upload, &inverse))
            })
            .collect::<Result<_>>()?;
        let masks = repair.iter().map(|repair| product(repair, &blind)).collect();
        Ok(Self { threshold, colluding, upload, repair, masks })
    }

    /// N.
    #[must_use]
    pub fn helpers(&self) -> usize {
        self.upload.nrows()
    }

    /// N_r − T.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.threshold - self.colluding
    }

    /// The weights of the masked shares of `holders` (N_r helpers) in helper n's missing share: e_1ᵀ (S_n
    /// rows)⁻¹, (30).
    ///
    /// # Errors
    /// Not N_r distinct helpers.
    pub fn missing_share(&self, n: usize, holders: &[usize]) -> Result<Vec<F>> {
        let mut first = vec![F::ZERO; self.threshold];
        first[0] = F::ONE;
        solve_left(&self.repair[n].select_rows(holders), &first).ok_or_else(singular)
    }

    /// Row j holds the weights of the sums of `holders` (N_r helpers) in part j of the decoded sum.
    ///
    /// # Errors
    /// Not N_r distinct helpers.
    pub fn decoding(&self, holders: &[usize]) -> Result<DMatrix<F>> {
        inverse(&self.upload.select_rows(holders)).ok_or_else(singular)
    }
}

fn singular() -> Error {
    Error::config("helpers", "the evaluation points do not give an invertible Vandermonde matrix")
}

/// l, the symbols of one of `parts` parts of an input of `len` coordinates.
#[must_use]
pub fn part_len(len: usize, parts: usize) -> usize {
    len.div_ceil(parts)
}

/// Who holds the share of each announced client: (client, helpers), both ascending.
pub type Holdings = Vec<(u16, Vec<u16>)>;

/// What travels.
#[derive(Clone, Debug)]
pub enum HierarchicalMessage<S> {
    /// Phase 0, client → helper: X_{k,n}, l symbols.
    Share(Arc<Vec<S>>),
    /// Phase 1, helper → server: whether it holds the share of each client; a bit each on the wire.
    Report(Vec<bool>),
    /// Phase 2, server → helper: whose sum is wanted, and who holds what; a bit for each pair on the wire.
    Announcement(Arc<Holdings>, usize),
    /// Phase 3, helper n → helper i: X_{k,n} + Z_{n,i}^{(k)} for each client k that i misses, l symbols each.
    Repair(Vec<(u16, Vec<S>)>),
    /// Phase 4, helper → server: Y_n, l symbols.
    Sum(Arc<Vec<S>>),
}

impl<S: Symbol> Message<S> for HierarchicalMessage<S> {
    fn bytes(&self) -> usize {
        match self {
            Self::Share(symbols) | Self::Sum(symbols) => symbols.len() * S::BYTES,
            Self::Report(held) => held.len().div_ceil(8),
            Self::Announcement(holdings, helpers) => holdings.len() * (2 + helpers.div_ceil(8)),
            Self::Repair(shares) => shares.iter().map(|(_, share)| 2 + share.len() * S::BYTES).sum(),
        }
    }

    fn reveals(&self) -> Vec<Vec<S>> {
        match self {
            Self::Share(symbols) | Self::Sum(symbols) => vec![symbols.to_vec()],
            Self::Report(_) | Self::Announcement(..) => Vec::new(),
            Self::Repair(shares) => shares.iter().map(|(_, share)| share.clone()).collect(),
        }
    }

    fn announces(&self) -> Option<Vec<u16>> {
        match self {
            Self::Announcement(holdings, _) => Some(holdings.iter().map(|(k, _)| *k).collect()),
            _ => None,
        }
    }
}

/// What a party holds before the round.
pub enum Key<S> {
    /// F_{k,1} … F_{k,T}, l symbols each: the client's own randomness.
    Client(Vec<Vec<S>>),
    /// Z_{i,n}^{(k)}, l symbols each, under (n, k); and l.
    Helper(BTreeMap<(u16, u16), Vec<S>>, usize),
    /// Nothing but the length of an input.
    Server(usize),
}

impl<S: Symbol> Secret<S> for Key<S> {
    fn held(&self) -> Vec<&[S]> {
        match self {
            Self::Client(parts) => parts.iter().map(Vec::as_slice).collect(),
            Self::Helper(masks, _) => masks.values().map(Vec::as_slice).collect(),
            Self::Server(_) => Vec::new(),
        }
    }
}

/// The three roles.
pub enum Role<S: Symbol<Scalar: Prime>> {
    /// Sends X_{k,n} to every helper n: (its index, the shares).
    Client(u16, Vec<Arc<Vec<S>>>),
    /// Repairs and sums.
    Helper(Helper<S>),
    /// Announces and decodes.
    Server(Server<S>),
}

impl<S: Symbol<Scalar: Prime>> Party<HierarchicalMessage<S>, S> for Role<S> {
    fn refusal(&self, message: &Envelope<HierarchicalMessage<S>>) -> Option<String> {
        match self {
            Self::Client(..) => Some("clients receive nothing".into()),
            Self::Helper(helper) => helper.refusal(message),
            Self::Server(server) => server.refusal(message),
        }
    }

    fn step(
        &mut self,
        clock: Clock,
        inbox: Vec<Envelope<HierarchicalMessage<S>>>,
    ) -> Vec<Envelope<HierarchicalMessage<S>>> {
        let to_server = |from, body: Option<HierarchicalMessage<S>>| {
            body.map(|body| Envelope { sent: clock, from, to: PartyId::Server, body }).into_iter().collect()
        };
        match (self, clock.phase) {
            (Self::Client(k, shares), 0) => (0..)
                .zip(shares)
                .map(|(n, share)| Envelope {
                    sent: clock,
                    from: PartyId::Client(*k),
                    to: PartyId::Helper(n),
                    body: HierarchicalMessage::Share(Arc::clone(share)),
                })
                .collect(),
            (Self::Helper(helper), 1) => to_server(helper.id(), Some(helper.report(inbox))),
            (Self::Server(server), 2) => server.announce(inbox, clock),
            (Self::Helper(helper), 3) => helper.repairs(inbox, clock),
            (Self::Helper(helper), 4) => to_server(helper.id(), helper.sum(inbox)),
            (Self::Server(server), 5) => {
                server.decoded = Some(server.decode(inbox));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn decoded(&mut self) -> Option<Decoded<S>> {
        match self {
            Self::Server(server) => server.decoded.take(),
            Self::Client(..) | Self::Helper(_) => None,
        }
    }
}

impl<S: Symbol<Scalar: Prime>> Protocol<S> for Hierarchical<S::Scalar> {
    type Message = HierarchicalMessage<S>;
    type Key = Key<S>;
    type Party = Role<S>;

    fn parties(&self) -> Vec<PartyId> {
        let helpers = (0..self.matrices.helpers() as u16).map(PartyId::Helper);
        (0..self.clients as u16).map(PartyId::Client).chain(helpers).chain([PartyId::Server]).collect()
    }

    fn phases(&self) -> Vec<Phase> {
        use crate::message::Role::{Client, Helper, Server};
        let phase = |name, from, to, expects| Phase { name, from, to, expects, is_list: false };
        vec![
            phase("share", Client, Helper, Expects::Everybody),
            phase("report", Helper, Server, Expects::Everybody),
            Phase::announcement("included", Helper),
            // The announcement says who sends to whom.
            phase("repair", Helper, Helper, Expects::Nobody),
            phase("sum", Helper, Server, Expects::Addressed),
        ]
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        let Matrices { threshold, colluding, masks, .. } = &*self.matrices;
        let helpers = self.matrices.helpers();
        let part = part_len(len, self.matrices.parts());
        let split =
            |symbols: Vec<S>| -> Vec<Vec<S>> { symbols.chunks(part.max(1)).map(<[S]>::to_vec).collect() };
        let mut keys: Vec<Key<S>> = parallel::map(0..self.clients as u16, |k| {
            let name = KeyStream { purpose: "blind", round, a: k, b: k };
            Key::Client(split(source.draw(name, colluding * part)))
        });
        // Fresh for every client and every helper that may miss its share; with N_r = N nobody who misses one
        // takes part.
        let targets: Vec<(u16, u16)> = (0..helpers as u16)
            .filter(|_| *threshold < helpers)
            .flat_map(|n| (0..self.clients as u16).map(move |k| (n, k)))
            .collect();
        let dealt: Vec<Vec<Vec<S>>> = parallel::map(&targets, |&(n, k)| {
            let name = KeyStream { purpose: "repair", round, a: n, b: k };
            let draws = split(source.draw(name, (threshold - 1) * part));
            let row = |i: usize| {
                let weights = masks[usize::from(n)].row(i);
                let terms: Vec<_> =
                    weights.iter().zip(&draws).map(|(&weight, draw)| (weight, draw.as_slice())).collect();
                S::combine(part, &terms)
            };
            (0..helpers).map(row).collect()
        });
        let mut of_helpers: Vec<BTreeMap<(u16, u16), Vec<S>>> = vec![BTreeMap::new(); helpers];
        for ((n, k), rows) in targets.into_iter().zip(dealt) {
            for (i, row) in rows.into_iter().enumerate().filter(|(i, _)| *i != usize::from(n)) {
                of_helpers[i].insert((n, k), row);
            }
        }
        keys.extend(of_helpers.into_iter().map(|masks| Key::Helper(masks, part)));
        keys.push(Key::Server(len));
        keys
    }

    fn formal_len(&self) -> usize {
        self.matrices.parts()
    }

    fn party(&self, id: PartyId, key: Key<S>, input: Option<&dyn Input<S>>) -> Role<S> {
        let (matrices, clients, least) = (Arc::clone(&self.matrices), self.clients, self.least);
        match (id, key, input) {
            (PartyId::Client(k), Key::Client(blinds), Some(input)) => {
                let part = part_len(input.len(), matrices.parts());
                let mut padded = vec![S::zero(); part * matrices.parts()];
                input.add_to(&mut padded[..input.len()]);
                let parts = padded.chunks(part.max(1)).chain(blinds.iter().map(Vec::as_slice));
                let parts: Vec<&[S]> = parts.collect();
                let share = |n: usize| {
                    let terms: Vec<_> = matrices
                        .upload
                        .row(n)
                        .iter()
                        .zip(&parts)
                        .map(|(&weight, part)| (weight, *part))
                        .collect();
                    Arc::new(S::combine(part, &terms))
                };
                Role::Client(k, (0..matrices.helpers()).map(share).collect())
            }
            (PartyId::Helper(index), Key::Helper(masks, part), _) => Role::Helper(Helper {
                index,
                clients,
                least,
                part,
                matrices,
                masks,
                shares: BTreeMap::new(),
                received: BTreeMap::new(),
                announced: None,
            }),
            (_, Key::Server(len), _) => Role::Server(Server {
                clients,
                least,
                too_few: false,
                len,
                matrices,
                included: None,
                sums: BTreeMap::new(),
                decoded: None,
            }),
            _ => unreachable!("keys are dealt in the order of the parties"),
        }
    }
}
