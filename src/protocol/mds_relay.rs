//! Coded cooperation: every client uploads its own update and combinations of those that it heard, and the
//! server solves for single ones.
//!
//! After Weng, Xiao, Ren, Skoglund, *Coded Cooperative Networks for Semi-Decentralized Federated Learning*,
//! IEEE Wireless Communications Letters, 2024 (supplement: arXiv 2406.19002): deterministic network codes of
//! maximum distance, which need to know nothing of the links, and a server that recovers some of the single
//! updates. What is sent and decoded here is the generic form of that; details are ours.
//!
//! | symbol | here | shape |
//! |---|---|---|
//! | M, n_c | `clients`, `combinations` | |
//! | x_k | input | d |
//! | G = (g_(k,m),i) | `generator`, row (n_c − 1) k + m − 1 for m = 1 … n_c − 1 | M (n_c − 1) × M |
//! | H_k, with k itself | `heard` of [`RelayMessage::Combination`] | M bits |
//! | D | `included` | |
//!
//! Phase 0: client k broadcasts x_k. Phase 1: it uploads x_k. Phase 1 + m: it uploads Σ_{i ∈ H_k} g_(k,m),i
//! x_i, with m and H_k. Every upload that arrives is a row of coefficients over the updates; the server finds
//! D, all i whose unit vector is in the span of the rows, and outputs Σ_D x_i, an outage if D is empty.
//!
//! G is a Cauchy matrix, so that [I | Gᵀ] generates an MDS code: where every broadcast is heard, any M
//! uploads show the server all updates. With n_c = 1 nothing is broadcast and the scheme is `fedavg`. Over a
//! prime field nothing is rounded and D has no tolerance; over the reals a large MDS code is too badly
//! conditioned for either, so that there is no such variant. Nobody's update is hidden from anybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, FieldSession, Scheme, Setup};
use super::unkeyed::Key;
use super::{
    Clock, Decoded, Envelope, Expects, Input, Message, OverField, Party, PartyId, Phase, Protocol, Reason,
    Singles, included,
};
use crate::algebra::field::Prime;
use crate::algebra::linear::{Echelon, cauchy};
use crate::algebra::quantise::{Quantisation, Quantiser};
use crate::algebra::{Scalar, Symbol};
use crate::error::{Error, Result};
use crate::keys::KeySource;
use crate::seed::Seed;

/// Most uploads of a client in a round.
const MOST_UPLOADS: usize = 100;

/// Coefficients of all uploads of a round, n_c M², up to which the server solves for updates: some seconds.
const COEFFICIENTS: usize = 1 << 20;

/// Coded cooperation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MdsRelayConfig {
    /// Uploads of every client in a round, n_c, 1 to 100: its own update, then n_c − 1 combinations of the
    /// updates that it heard. With 1 nothing is sent between clients.
    #[schemars(range(min = 1, max = 100))]
    pub combinations: usize,
    /// Fewest clients whose updates the server must find, 1 to `clients`, by default 1: the sum over fewer is
    /// an outage.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// How updates become field symbols.
    pub quantisation: Quantisation,
}

impl Default for MdsRelayConfig {
    fn default() -> Self {
        Self { combinations: 2, least_included: None, quantisation: Quantisation::default() }
    }
}

impl OverField for MdsRelayConfig {
    fn memory(&self) -> u64 {
        super::SMALL
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
        let least = included::visible(self.least_included, clients)?;
        let scheme = Scheme { least_included: Some(least), ..Scheme::default() };
        let protocol = MdsRelay::<F>::new(clients, self.combinations)?.with_at_least(least);
        Ok(Box::new(FieldSession::<_, F>::new(protocol, quantiser, Setup::new(clients, seed, scheme))))
    }
}

/// The scheme for fixed M and n_c.
#[derive(Clone, Debug)]
pub struct MdsRelay<F: Prime> {
    clients: usize,
    combinations: usize,
    /// Fewest clients in a sum.
    least: usize,
    /// G.
    generator: Arc<DMatrix<F>>,
}

impl<F: Prime> MdsRelay<F> {
    /// The scheme among `clients` clients, each with `combinations` uploads.
    ///
    /// # Errors
    /// n_c outside 1..=100, more coefficients than are solved for, a field with too few elements.
    pub fn new(clients: usize, combinations: usize) -> Result<Self> {
        let refuse = |rule: String| Err(Error::config("combinations", rule));
        if !(1..=MOST_UPLOADS).contains(&combinations) {
            return refuse(format!("{combinations} is out of range; give 1 to {MOST_UPLOADS}"));
        }
        let coefficients = clients.saturating_mul(clients).saturating_mul(combinations);
        if coefficients > COEFFICIENTS && combinations > 1 {
            return refuse(format!(
                "{combinations} uploads of each of {clients} clients have {coefficients} coefficients, and at most {COEFFICIENTS} are \
                 solved for; take fewer, or cohorts of fewer clients (cohort.sample)"
            ));
        }
        let Some(generator) = cauchy(clients * (combinations - 1), clients) else {
            let rule = format!(
                "a field of {} elements has no {clients} × {combinations} distinct points; take a larger modulus",
                F::MODULUS
            );
            return Err(Error::config("quantisation.modulus", rule));
        };
        Ok(Self { clients, combinations, least: 1, generator: Arc::new(generator) })
    }

    /// The same with a sum over at least so many clients.
    #[must_use]
    pub fn with_at_least(self, least: usize) -> Self {
        Self { least, ..self }
    }

    /// The same with combinations of one's own: a row of M coefficients for every client and every upload but
    /// its first, in this order.
    ///
    /// # Panics
    /// If `generator` is not M (n_c − 1) × M.
    #[must_use]
    pub fn with_generator(self, generator: DMatrix<F>) -> Self {
        assert_eq!(generator.shape(), self.generator.shape(), "a row for every combination");
        Self { generator: Arc::new(generator), ..self }
    }
}

/// The row of G for a client's upload `m`, from 1.
fn row(client: u16, m: usize, combinations: usize) -> usize {
    usize::from(client) * (combinations - 1) + m - 1
}

/// What travels.
#[derive(Clone, Debug)]
pub enum RelayMessage<S> {
    /// x_k, to every client and as the first upload; d symbols.
    Update(Arc<Vec<S>>),
    /// A later upload.
    Combination {
        /// m; a byte on the wire.
        number: u8,
        /// Whether client i is in H_k, by i; a bit each on the wire.
        heard: Arc<Vec<bool>>,
        /// Σ_{i ∈ H_k} g_(k,m),i x_i, d symbols.
        sum: Arc<Vec<S>>,
    },
}

impl<S> RelayMessage<S> {
    fn vector(&self) -> &Arc<Vec<S>> {
        match self {
            Self::Update(vector) | Self::Combination { sum: vector, .. } => vector,
        }
    }
}

impl<S: Symbol> Message<S> for RelayMessage<S> {
    fn bytes(&self) -> usize {
        let list = match self {
            Self::Update(_) => 0,
            Self::Combination { heard, .. } => 1 + heard.len().div_ceil(8),
        };
        list + self.vector().len() * S::BYTES
    }

    fn reveals(&self) -> Vec<Vec<S>> {
        vec![self.vector().to_vec()]
    }
}

/// The two roles.
pub enum Role<S: Symbol> {
    /// Broadcasts, then uploads.
    Client(Client<S>),
    /// Solves.
    Server(Server<S>),
}

/// A client's state.
pub struct Client<S: Symbol> {
    index: u16,
    combinations: usize,
    generator: Arc<DMatrix<S::Scalar>>,
    own: Arc<Vec<S>>,
    /// The updates of H_k, by client, in this attempt.
    heard: BTreeMap<u16, Arc<Vec<S>>>,
}

impl<S: Symbol> Client<S> {
    fn step(&mut self, sent: Clock, inbox: Vec<Envelope<RelayMessage<S>>>) -> Vec<Envelope<RelayMessage<S>>> {
        let from = PartyId::Client(self.index);
        let envelope = |to, body| Envelope { sent, from, to, body };
        let update = || RelayMessage::Update(Arc::clone(&self.own));
        match usize::from(sent.phase) {
            0 if self.combinations == 1 => Vec::new(),
            0 => {
                let others = (0..self.generator.ncols() as u16).filter(|&k| k != self.index);
                others.map(|k| envelope(PartyId::Client(k), update())).collect()
            }
            1 => {
                let upload = envelope(PartyId::Server, update());
                self.heard = BTreeMap::from([(self.index, Arc::clone(&self.own))]);
                for message in inbox {
                    if let (PartyId::Client(k), RelayMessage::Update(update)) = (message.from, message.body) {
                        self.heard.insert(k, update);
                    }
                }
                vec![upload]
            }
            phase if phase <= self.combinations => {
                vec![envelope(PartyId::Server, self.combination(phase - 1))]
            }
            _ => Vec::new(),
        }
    }

    fn combination(&self, m: usize) -> RelayMessage<S> {
        let row = self.generator.row(row(self.index, m, self.combinations));
        let terms: Vec<_> = self.heard.iter().map(|(&k, x)| (row[usize::from(k)], x.as_slice())).collect();
        let heard = (0..row.len() as u16).map(|k| self.heard.contains_key(&k)).collect();
        RelayMessage::Combination {
            number: m as u8,
            heard: Arc::new(heard),
            sum: Arc::new(S::combine(self.own.len(), &terms)),
        }
    }

    fn refusal(&self, message: &Envelope<RelayMessage<S>>) -> Option<String> {
        let (PartyId::Client(_), 0, RelayMessage::Update(update)) =
            (message.from, message.sent.phase, &message.body)
        else {
            return Some("clients receive broadcast updates of clients only".into());
        };
        let (got, want) = (update.len(), self.own.len());
        (got != want).then(|| format!("the update has {got} symbols instead of {want}"))
    }
}

/// The coefficients and the vector of an upload.
type Upload<S> = (Vec<<S as Symbol>::Scalar>, Arc<Vec<S>>);

/// The server's state.
pub struct Server<S: Symbol> {
    clients: usize,
    combinations: usize,
    least: usize,
    generator: Arc<DMatrix<S::Scalar>>,
    /// d.
    len: usize,
    /// Those of this attempt.
    uploads: Vec<Upload<S>>,
    /// (i, a) for i ∈ D, with Σ_u a_u · uploads\[u\] = x_i.
    solutions: Vec<(u16, Vec<S::Scalar>)>,
    decoded: Option<Decoded<S>>,
}

impl<S: Symbol<Scalar: Prime>> Server<S> {
    fn refusal(&self, message: &Envelope<RelayMessage<S>>) -> Option<String> {
        match (message.from, message.sent.phase, &message.body) {
            (PartyId::Client(_), 1, RelayMessage::Update(_)) => {}
            (PartyId::Client(k), 2.., RelayMessage::Combination { number, heard, .. }) => {
                if u16::from(message.sent.phase) != u16::from(*number) + 1 {
                    return Some(format!("combination {number} in phase {}", message.sent.phase));
                }
                if heard.len() != self.clients {
                    let got = heard.len();
                    return Some(format!(
                        "the list of updates has {got} entries instead of {}",
                        self.clients
                    ));
                }
                if !heard[usize::from(k)] {
                    return Some("the sender's own update is not in its combination".into());
                }
            }
            _ => return Some("the server receives updates of clients, then combinations".into()),
        }
        let (got, want) = (message.body.vector().len(), self.len);
        (got != want).then(|| format!("the upload has {got} symbols instead of {want}"))
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<RelayMessage<S>>>) {
        if clock.phase == 0 {
            self.uploads.clear();
        }
        for envelope in inbox {
            let PartyId::Client(k) = envelope.from else { continue };
            let mut coefficients = vec![S::Scalar::ZERO; self.clients];
            match &envelope.body {
                RelayMessage::Update(_) => coefficients[usize::from(k)] = S::Scalar::ONE,
                RelayMessage::Combination { number, heard, .. } => {
                    let of_upload = self.generator.row(row(k, usize::from(*number), self.combinations));
                    for (i, _) in heard.iter().enumerate().filter(|(_, heard)| **heard) {
                        coefficients[i] = of_upload[i];
                    }
                }
            }
            self.uploads.push((coefficients, Arc::clone(envelope.body.vector())));
        }
        if usize::from(clock.phase) > self.combinations {
            self.decoded = Some(self.decode());
        }
    }

    fn decode(&mut self) -> Decoded<S> {
        let rows: Vec<&[S::Scalar]> = self.uploads.iter().map(|(row, _)| row.as_slice()).collect();
        self.solutions = determined(&rows, self.clients);
        if self.solutions.is_empty() {
            return Decoded::lost();
        }
        if self.solutions.len() < self.least {
            return Decoded::Outage(Reason::TooFew);
        }
        let mut weights = vec![S::Scalar::ZERO; self.uploads.len()];
        for (_, solution) in &self.solutions {
            weights.iter_mut().zip(solution).for_each(|(weight, &a)| *weight = *weight + a);
        }
        Decoded::exact(self.combined(&weights), self.solutions.iter().map(|(i, _)| *i).collect())
    }

    /// Σ_u `weights`\[u\] · uploads\[u\].
    fn combined(&self, weights: &[S::Scalar]) -> Vec<S> {
        let uploads = weights.iter().zip(&self.uploads);
        let terms: Vec<_> = uploads
            .filter(|(a, _)| **a != S::Scalar::ZERO)
            .map(|(&a, (_, vector))| (a, vector.as_slice()))
            .collect();
        S::combine(self.len, &terms)
    }
}

/// The unknowns that rows of coefficients over `unknowns` of them determine, ascending, each with the weights
/// of the rows that make it.
#[must_use]
pub fn determined<F: Prime>(rows: &[&[F]], unknowns: usize) -> Vec<(u16, Vec<F>)> {
    let n = rows.len();
    let unit = |u: usize, v: usize| if u == v { F::ONE } else { F::ZERO };
    let system =
        DMatrix::from_fn(
            n,
            unknowns + n,
            |u, j| {
                if j < unknowns { rows[u][j] } else { unit(u, j - unknowns) }
            },
        );
    let echelon = Echelon::of(&system);
    // A unit vector in the span has 0 in all pivots but one, so that it is a row of the echelon form.
    let alone = |&(u, pivot): &(usize, usize)| {
        pivot < unknowns && (0..unknowns).all(|j| j == pivot || echelon.rows[(u, j)] == F::ZERO)
    };
    let weights = |u: usize| (unknowns..unknowns + n).map(|j| echelon.rows[(u, j)]).collect();
    let found = echelon.pivots.iter().copied().enumerate().filter(alone);
    found.map(|(u, pivot)| (pivot as u16, weights(u))).collect()
}

impl<S: Symbol<Scalar: Prime>> Party<RelayMessage<S>, S> for Role<S> {
    fn refusal(&self, message: &Envelope<RelayMessage<S>>) -> Option<String> {
        match self {
            Self::Client(client) => client.refusal(message),
            Self::Server(server) => server.refusal(message),
        }
    }

    fn step(
        &mut self,
        clock: Clock,
        inbox: Vec<Envelope<RelayMessage<S>>>,
    ) -> Vec<Envelope<RelayMessage<S>>> {
        match self {
            Self::Client(client) => client.step(clock, inbox),
            Self::Server(server) => {
                server.step(clock, inbox);
                Vec::new()
            }
        }
    }

    fn decoded(&mut self) -> Option<Decoded<S>> {
        match self {
            Self::Client(_) => None,
            Self::Server(server) => server.decoded.take(),
        }
    }

    fn singles(&mut self) -> Vec<Arc<Vec<S>>> {
        match self {
            Self::Client(_) => Vec::new(),
            Self::Server(server) => {
                let solutions = server.solutions.iter();
                solutions.map(|(_, weights)| Arc::new(server.combined(weights))).collect()
            }
        }
    }
}

impl<S: Symbol<Scalar: Prime>> Protocol<S> for MdsRelay<S::Scalar> {
    type Message = RelayMessage<S>;
    type Key = Key;
    type Party = Role<S>;

    fn parties(&self) -> Vec<PartyId> {
        (0..self.clients as u16).map(PartyId::Client).chain([PartyId::Server]).collect()
    }

    fn phases(&self) -> Vec<Phase> {
        let waits = if self.combinations > 1 { Expects::Everybody } else { Expects::Nobody };
        let combination = Phase::upload("combination", Expects::Everybody);
        [Phase::shares("broadcast", waits), Phase::upload("upload", Expects::Everybody)]
            .into_iter()
            .chain((1..self.combinations).map(|_| combination))
            .collect()
    }

    fn deal(&self, _: u64, len: usize, _: &impl KeySource<S>) -> Vec<Key> {
        Key::deal(self.clients, len)
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn singles(&self) -> Singles {
        Singles::Plain
    }

    fn party(&self, id: PartyId, key: Key, input: Option<&dyn Input<S>>) -> Role<S> {
        let generator = Arc::clone(&self.generator);
        match (id, key, input) {
            (PartyId::Client(index), Key::Client, Some(input)) => {
                let mut own = vec![S::zero(); input.len()];
                input.add_to(&mut own);
                let (own, heard) = (Arc::new(own), BTreeMap::new());
                Role::Client(Client { index, combinations: self.combinations, generator, own, heard })
            }
            (_, Key::Server(len), _) => Role::Server(Server {
                clients: self.clients,
                combinations: self.combinations,
                least: self.least,
                generator,
                len,
                uploads: Vec::new(),
                solutions: Vec::new(),
                decoded: None,
            }),
            _ => unreachable!("keys are dealt in the order of the parties"),
        }
    }
}
