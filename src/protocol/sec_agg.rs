//! Secure aggregation with pairwise masks, self masks and Shamir's scheme, over all pairs (SecAgg) or a
//! random graph (SecAgg+).
//!
//! Bonawitz et al., *Practical Secure Aggregation for Privacy-Preserving Machine Learning*, CCS 2017, figure
//! 4; Bell, Bonawitz, Gascón, Lepoint, Raykova, *Secure
//! Single-Server Aggregation with (Poly)Logarithmic Overhead*, CCS 2020, algorithm 2.
//!
//! | paper | here | size |
//! |---|---|---|
//! | n, t | clients, `threshold` | |
//! | G, N_G(u) | [`Graph`]: complete, or a Harary graph of `neighbours` over a fresh permutation of the clients in every round | |
//! | (c_u, s_u), b_u | [`Suite::Secrets`] | 32 bytes each |
//! | e_{u,v} | [`Suite::Sealed`]: shares of b_u and s_u^SK for v | 80 + 16 bytes |
//! | PRG | ChaCha20, [`crate::crypto::add_masks`] | d symbols |
//!
//! | phase | from → to | what |
//! |--:|---|---|
//! | 0 | client → server | public keys c_u^PK, s_u^PK |
//! | 1 | server → U_1 | the keys of the neighbours |
//! | 2 | client → server | e_{u,v} for every neighbour v in U_1 |
//! | 3 | server → U_2 | e_{v,u} |
//! | 4 | client → server | y_u = x_u + PRG(b_u) ± Σ PRG(s_{u,v}) over the neighbours v in U_2 |
//! | 5 | server → U_3 | U_3, whose masked inputs arrived |
//! | 6 | client → server | its shares of b_v for the neighbours v in U_3, of s_v^SK for those in U_2 ∖ U_3 |
//!
//! From t shares of each the server obtains Σ_{U_3} x_u; a lost message is a drop-out in that step. In SecAgg
//! everybody shares with everybody and itself, in SecAgg+ with its neighbours. A set is fixed for the round
//! when it is announced; in further attempts the same is sent again, and a client answers for one U_3 only,
//! so that nobody ever gives both shares of one client.
//!
//! Promise with `keys = "agreement"`: a server that follows the protocol learns Σ_{U_3} x_u and nothing more,
//! together with any clients of whom fewer than t hold shares of an honest client, as long as the other
//! survivors stay connected by edges of the graph (in SecAgg: fewer than t clients), even when lost messages
//! reach it after all. It holds against adversaries who cannot break Diffie–Hellman on Curve25519,
//! HKDF-SHA-256, ChaCha20 and ChaCha20-Poly1305. The audit is exact under the idealisation that agreed keys,
//! keystreams and ciphertexts are uniform and independent. With `keys = "uniform"` they are: masks are shared
//! symbol by symbol, as the experiment of Wan et al. (section VI) changes SecAgg.
//!
//! For random colluders and drop-outs, a fraction of γ together, SecAgg+ stays connected but for a
//! probability of K γ^{k/2}: in a Harary graph that takes a gap of k/2 neighbours in the permutation. With
//! k = 40, γ = 1/4 and K = 10⁴ that is 10⁻⁸.
//!
//! Sealed shares of a wrong size are refused by the server, and their sender counts as dropped out; a client
//! refuses them when they are forwarded. It also refuses what does not open, and drops out: shares are sealed
//! under all four public keys of the two as the sender sees them, and under a secret that the two have had
//! before. So a server that hands on another key than was advertised gets nothing that is masked. Wrong
//! shares of the right form are not detected, but that of a secret key that does not belong to its public
//! key; then the round is an outage.
//!
//! Against a server that deviates two steps of figure 4 are the deployment's: the secrets of pairs come from
//! keys that clients signed, and clients vote on U_2 and U_3 before they act on them (`deploy::vote`; on U_3
//! alone in SecAgg+, where a client hears of its neighbours only). With fewer than t colluders, and no more
//! than the vote withstands, all honest survivors then have masked with one U_2 and unmask one U_3, so that
//! the promise holds as it stands. In SecAgg+ that takes a larger threshold ([`any_graph`]). In one process
//! nobody lies, and nobody votes.

pub mod any_graph;
mod message;
mod parties;
mod server;
mod suite;
mod uniform;

use std::marker::PhantomData;
use std::sync::Arc;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, Assemble, FieldSession, Scheme, Setup, Simulated};
use super::{Deployable, Expects, Input, OverField, PartyId, Phase, Protocol, Secret, SharedKeys, included};
use crate::algebra::Symbol;
use crate::algebra::field::Prime;
use crate::algebra::quantise::{Quantisation, Quantiser};
use crate::coding::check_pairs;
use crate::error::{Error, Result};
use crate::keys::KeySource;
use crate::seed::{Rng, Seed};
use crate::wire::{Form, WireSymbol};
pub use message::{Each, SecAggMessage};
pub use parties::{Client, Role};
pub use server::Server;
pub use suite::{Choice, Content, Cryptographic, Keys, PublicKeys, ShortShare, Suite};
pub use uniform::{LongShare, Padded, Uniform, UniformKeys};

/// SecAgg.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecAggConfig {
    /// Number of clients t who must be left in every step, from 2 to the number of clients; the server
    /// together with t − 1 clients learns nothing but the sum. Without it two thirds of the clients.
    #[schemars(range(min = 2))]
    pub threshold: Option<usize>,
    /// Where masks come from: "agreement" (X25519, HKDF and ChaCha20) or "uniform" (symbols as long as the
    /// update, shared one by one).
    pub keys: SharedKeys,
    /// Fewest clients whose sum the server may learn, 1 to `clients`; with fewer left nothing is unmasked and
    /// the round is an outage. By default 3, or `threshold` + 1 where that is more, or all of fewer clients:
    /// what threshold − 1 colluders leave of a sum is then never one update.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// How updates become field symbols.
    pub quantisation: Quantisation,
}

/// SecAgg+.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecAggPlusConfig {
    /// Number of neighbours k of every client in the graph of each round, from 2 to the number of clients −
    /// 1; an odd one needs an even number of clients.
    #[schemars(range(min = 2))]
    pub neighbours: usize,
    /// Number of neighbours t who must be left in every step, from 2 to `neighbours`; with fewer colluders
    /// around every client the server learns nothing but the sum. Without it two thirds of the neighbours.
    #[schemars(range(min = 2))]
    pub threshold: Option<usize>,
    /// Where masks come from: "agreement" (X25519, HKDF and ChaCha20) or "uniform" (symbols as long as the
    /// update, shared one by one).
    pub keys: SharedKeys,
    /// Fewest clients whose sum the server may learn, 1 to `clients`; with fewer left nothing is unmasked and
    /// the round is an outage. By default 3, or `threshold` + 1 where that is more, or all of fewer clients:
    /// what threshold − 1 colluders leave of a sum is then never one update.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// How updates become field symbols.
    pub quantisation: Quantisation,
}

impl Default for SecAggPlusConfig {
    fn default() -> Self {
        Self {
            neighbours: 6,
            threshold: None,
            keys: SharedKeys::default(),
            least_included: None,
            quantisation: Quantisation::default(),
        }
    }
}

impl OverField for SecAggConfig {
    fn memory(&self) -> u64 {
        super::SMALL
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
        self.sizes(clients, seed).simulated::<F>(self.keys, quantiser)
    }
}

impl OverField for SecAggPlusConfig {
    fn memory(&self) -> u64 {
        super::SMALL
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
        self.sizes(clients, seed).simulated::<F>(self.keys, quantiser)
    }
}

impl Deployable for SecAggConfig {
    fn assemble_over<F: Prime + WireSymbol, A: Assemble>(
        &self,
        quantiser: Quantiser,
        clients: usize,
        seed: Seed,
        to: A,
    ) -> Result<A::Output> {
        self.keys.check_apart()?;
        self.sizes(clients, seed).assemble::<F, A>(quantiser, to)
    }
}

impl Deployable for SecAggPlusConfig {
    fn assemble_over<F: Prime + WireSymbol, A: Assemble>(
        &self,
        quantiser: Quantiser,
        clients: usize,
        seed: Seed,
        to: A,
    ) -> Result<A::Output> {
        self.keys.check_apart()?;
        self.sizes(clients, seed).assemble::<F, A>(quantiser, to)
    }
}

impl SecAggConfig {
    fn sizes(&self, clients: usize, seed: Seed) -> Sizes {
        let Self { threshold, least_included, .. } = *self;
        Sizes { clients, neighbours: None, threshold, least_included, seed }
    }
}

impl SecAggPlusConfig {
    fn sizes(&self, clients: usize, seed: Seed) -> Sizes {
        let Self { neighbours, threshold, least_included, .. } = *self;
        Sizes { clients, neighbours: Some(neighbours), threshold, least_included, seed }
    }
}

/// What the two schemes are made of.
struct Sizes {
    clients: usize,
    neighbours: Option<usize>,
    threshold: Option<usize>,
    least_included: Option<usize>,
    seed: Seed,
}

impl Sizes {
    fn protocol<C>(&self, keys: SharedKeys) -> Result<(SecAgg<C>, Setup)> {
        let graphs = self.seed.child("graph", 0);
        let protocol = SecAgg::new(self.clients, self.neighbours, self.threshold, graphs)?;
        let threshold = protocol.threshold();
        let least = included::masked(self.least_included, threshold - 1, self.clients)?;
        let least_included = Some(least.max(threshold));
        let scheme = Scheme { keys: keys.name().into(), least_included, ..Scheme::default() };
        Ok((protocol.with_at_least(least), Setup::new(self.clients, self.seed, scheme)))
    }

    fn simulated<F: Prime + WireSymbol>(
        &self,
        keys: SharedKeys,
        quantiser: Quantiser,
    ) -> Result<Box<dyn Aggregator>> {
        match keys {
            SharedKeys::Agreement => self.assemble::<F, _>(quantiser, Simulated),
            // Symbol by symbol they have no binary form.
            SharedKeys::Uniform => {
                let (protocol, setup) = self.protocol::<Uniform>(keys)?;
                Ok(Box::new(FieldSession::<_, F>::new(protocol, quantiser, setup)))
            }
        }
    }

    fn assemble<F: Prime + WireSymbol, A: Assemble>(&self, quantiser: Quantiser, to: A) -> Result<A::Output> {
        let (protocol, setup) = self.protocol::<Cryptographic>(SharedKeys::Agreement)?;
        Ok(to.field::<F, _>(protocol, quantiser, setup))
    }
}

/// Who shares masks and secrets with whom in one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    neighbours: Vec<Vec<u16>>,
    /// Whether a client holds a share of its own secrets, too.
    own: bool,
}

impl Graph {
    /// Everybody with everybody and itself.
    #[must_use]
    pub fn complete(clients: usize) -> Self {
        let all = 0..clients as u16;
        Self {
            neighbours: all.clone().map(|k| all.clone().filter(|&v| v != k).collect()).collect(),
            own: true,
        }
    }

    /// Harary's k-connected graph of `degree` k over a random order of the clients: everybody with the k/2
    /// next on either side, and with the client opposite if k is odd.
    #[must_use]
    pub fn harary(clients: usize, degree: usize, rng: &mut Rng) -> Self {
        let mut order: Vec<u16> = (0..clients as u16).collect();
        order.shuffle(rng);
        let mut neighbours = vec![Vec::with_capacity(degree); clients];
        for (place, &k) in order.iter().enumerate() {
            let at = |distance: usize| order[(place + distance) % clients];
            let sides = (1..=degree / 2).flat_map(|distance| [at(distance), at(clients - distance)]);
            let opposite = (degree % 2 == 1).then(|| at(clients / 2));
            let list = &mut neighbours[usize::from(k)];
            list.extend(sides.chain(opposite));
            list.sort_unstable();
        }
        Self { neighbours, own: false }
    }

    /// K.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.neighbours.len()
    }

    /// With whom client `k` shares masks, ascending.
    #[must_use]
    pub fn neighbours(&self, k: u16) -> &[u16] {
        &self.neighbours[usize::from(k)]
    }

    /// Whether `holder` holds shares of client `k`'s secrets; the relation is symmetric.
    #[must_use]
    pub fn holds(&self, holder: u16, k: u16) -> bool {
        if holder == k { self.own } else { self.neighbours(k).binary_search(&holder).is_ok() }
    }

    /// Number of clients in `set` who hold shares of client `k`.
    pub(super) fn holders(&self, k: u16, set: &[u16]) -> usize {
        set.iter().filter(|&&v| self.holds(v, k)).count()
    }
}

/// The protocol with the keys of `C`.
#[derive(Clone, Debug)]
pub struct SecAgg<C> {
    clients: usize,
    /// k; `None` is the complete graph.
    degree: Option<usize>,
    threshold: usize,
    /// Fewest clients in a sum.
    least: usize,
    graphs: Seed,
    choice: PhantomData<fn() -> C>,
}

impl<C> SecAgg<C> {
    /// Among `clients` clients over the complete graph, or over graphs of a degree drawn from `seed` in every
    /// round.
    ///
    /// # Errors
    /// A degree for which there is no graph; more clients than can all share with each other; a threshold
    /// above the number of holders of a secret or below 2.
    pub fn new(
        clients: usize,
        degree: Option<usize>,
        threshold: Option<usize>,
        graphs: Seed,
    ) -> Result<Self> {
        if let Some(k) = degree {
            if k < 2 || k >= clients {
                let rule = format!(
                    "{k} is out of range; of {clients} clients give 2 to {}",
                    clients.saturating_sub(1)
                );
                return Err(Error::config("neighbours", rule));
            }
            if k * clients % 2 == 1 {
                let rule = format!(
                    "no graph of {clients} clients has {k} neighbours everywhere; take an even number"
                );
                return Err(Error::config("neighbours", rule));
            }
        }
        if degree.is_none() {
            check_pairs("sec-agg", clients, "sec-agg-plus, where each has some neighbours, or ")?;
        }
        let (holders, whose) = degree.map_or((clients, "clients"), |k| (k, "neighbours"));
        let threshold = threshold.unwrap_or((2 * holders).div_ceil(3));
        if threshold < 2 || threshold > holders {
            let rule = format!(
                "{threshold} is out of range; of {holders} {whose} give 2 to {holders}: one share must not unmask, and more shares do \
                 not exist"
            );
            return Err(Error::config("threshold", rule));
        }
        Ok(Self { clients, degree, threshold, least: 1, graphs, choice: PhantomData })
    }

    /// With at least this many clients in a sum, even where t are fewer: a smaller set is not announced, and
    /// not answered.
    #[must_use]
    pub fn with_at_least(self, least: usize) -> Self {
        Self { least, ..self }
    }

    /// The graph of a round.
    #[must_use]
    pub fn graph(&self, round: u64) -> Graph {
        match self.degree {
            None => Graph::complete(self.clients),
            Some(degree) => Graph::harary(self.clients, degree, &mut self.graphs.child("round", round).rng()),
        }
    }

    /// t.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.threshold
    }
}

/// What a party holds before the round.
pub enum Key<T> {
    /// A client's secrets.
    Client(T, Arc<Graph>),
    /// The graph, the round and the length d of an input.
    Server(Arc<Graph>, u64, usize),
}

impl<S, T: Secret<S>> Secret<S> for Key<T> {
    fn held(&self) -> Vec<&[S]> {
        match self {
            Self::Client(secrets, _) => secrets.held(),
            Self::Server(..) => Vec::new(),
        }
    }
}

impl<S: Symbol, C: Choice<S>> Protocol<S> for SecAgg<C> {
    type Message = SecAggMessage<S, C::Suite>;
    type Key = Key<<C::Suite as Suite<S>>::Secrets>;
    type Party = Role<S, C::Suite>;

    fn parties(&self) -> Vec<PartyId> {
        (0..self.clients as u16).map(PartyId::Client).chain([PartyId::Server]).collect()
    }

    fn phases(&self) -> Vec<Phase> {
        let announcement = |name| Phase::announcement(name, crate::message::Role::Client);
        // In a sparse graph a client does not hear of all who shared.
        let sharers = if self.degree.is_none() { Phase::list } else { announcement };
        vec![
            Phase::upload("keys", Expects::Everybody),
            announcement("keys"),
            Phase::upload("shares", Expects::Addressed),
            sharers("shares"),
            Phase::upload("upload", Expects::Addressed),
            Phase::list("survivors"),
            Phase::upload("answer", Expects::Addressed),
        ]
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Self::Key> {
        let graph = Arc::new(self.graph(round));
        let client = |k| {
            let secrets = C::Suite::secrets(k, &graph, self.threshold, round, len, source);
            Key::Client(secrets, Arc::clone(&graph))
        };
        let server = Key::Server(Arc::clone(&graph), round, len);
        (0..self.clients as u16).map(client).chain([server]).collect()
    }

    fn own_key(&self, id: PartyId, round: u64, len: usize, source: &impl KeySource<S>) -> Option<Self::Key> {
        let graph = Arc::new(self.graph(round));
        Some(match id {
            PartyId::Client(k) => {
                Key::Client(C::Suite::secrets(k, &graph, self.threshold, round, len, source), graph)
            }
            PartyId::Helper(_) | PartyId::Server => Key::Server(graph, round, len),
        })
    }

    fn form(&self, phase: u8, len: usize) -> (Form, usize) {
        let form = Form { len, members: self.clients, largest: f64::INFINITY };
        (form, message::most::<S>(phase, &form))
    }

    fn party(&self, id: PartyId, key: Self::Key, input: Option<&dyn Input<S>>) -> Self::Party {
        match (id, key, input) {
            (PartyId::Client(index), Key::Client(secrets, graph), Some(input)) => {
                let mut x = vec![S::zero(); input.len()];
                input.add_to(&mut x);
                Role::Client(Box::new(Client::new(index, (self.threshold, self.least), graph, secrets, x)))
            }
            (_, Key::Server(graph, round, len), _) => {
                Role::Server(Box::new(Server::new((self.threshold, self.least), graph, round, len)))
            }
            (_, Key::Client(..), _) => unreachable!("clients, and only they, are dealt keys and have inputs"),
        }
    }
}
