//! Secure gradient coding with replicated data: every shard of the data lies with several clients, and the
//! sum of all gradients comes from any N_r of them.
//!
//! *Secure gradient coding, minimum source key size*: the paper's servers are the clients here, its user is
//! the server.
//!
//! | paper | here | shape |
//! |---|---|---|
//! | N servers, K = N datasets | clients, one shard each to begin with | |
//! | N_r, m, M = N − N_r + m | `responders`, `reduction`, copies of a shard | |
//! | data assignment Z_n | [`ReplicatedCode::datasets`] | M shards a client |
//! | s_n F_k | [`ReplicatedCode::coefficients`] | m |
//! | Q, η = h/m − 1 updates in all | `source` draws | h − m times L/m |
//! | X_n = s_n (F W + \[0; Q\]) | [`Upload`] | L/m |
//!
//! Every client trains on each of its M shards by itself and sends one combination of the results, 1/m of an
//! update long, under a key of the same length from the key dealer. Any N_r transmissions give Σ_k W_k; all N
//! of them, in any number of attempts, show the server nothing else. Clients who hold a shard know its
//! gradient, and no collusion of clients with the server is covered.
//!
//! K a multiple of N is the same scheme: the shard of a client is then the union of K/N datasets, whose
//! gradient is the sum of theirs, and neither the transmissions nor the keys change.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, FieldSession, Scheme, Setup};
pub use super::uncoded::Upload;
use super::uncoded::malformed;
use super::{Clock, Decoded, Envelope, Expects, Input, OverField, Party, PartyId, Phase, Protocol, Secret};
use crate::algebra::field::Prime;
use crate::algebra::quantise::{Quantisation, Quantiser};
use crate::algebra::{KeyStream, Symbol};
use crate::coding::assignment::{AssignmentKind, ReplicatedCode, ordered};
use crate::coding::{Memory, check_pairs};
use crate::error::Result;
use crate::keys::KeySource;
use crate::parallel;
use crate::seed::Seed;

/// Secure gradient coding with replicated data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecureGcConfig {
    /// Responders N_r: transmissions of any so many clients give the sum; 1 to `clients`.
    #[schemars(range(min = 1))]
    pub responders: usize,
    /// Reduction m: a transmission has 1/m of an update's length, and every shard of the data lies with
    /// clients − responders + m clients, each of which trains on it; 1 to `responders`.
    #[schemars(range(min = 1))]
    pub reduction: usize,
    /// Which client holds which shards: "combined" (the fewest key symbols), "cyclic", or
    /// "fractional-repetition" (the copies of a shard must divide the number of clients).
    pub assignment: AssignmentKind,
    /// How updates become field symbols.
    pub quantisation: Quantisation,
}

impl Default for SecureGcConfig {
    fn default() -> Self {
        Self {
            responders: 8,
            reduction: 2,
            assignment: AssignmentKind::default(),
            quantisation: Quantisation::default(),
        }
    }
}

impl OverField for SecureGcConfig {
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
        let Self { assignment, responders, reduction, .. } = *self;
        check_pairs("secure-gc", clients, "sec-cogc with code = \"fractional-repetition\", or ")?;
        let (code, _) = ReplicatedCode::<F>::build(assignment, clients, responders, reduction, seed)?;
        let least = ordered(&code.holders, clients, reduction).servers.len();
        let scheme = Scheme {
            code: assignment.name().into(),
            stragglers: Some(clients - responders),
            key_size: Some([code.rank(), least].map(|h| h as f64 / reduction as f64 - 1.0)),
            ..Scheme::default()
        };
        let holders = Some(code.holders.clone());
        let setup = Setup { holders, ..Setup::new(clients, seed, scheme) };
        Ok(Box::new(FieldSession::<_, F>::new(SecureGc::new(code), quantiser, setup)))
    }
}

/// The protocol over the prime field `F`.
#[derive(Debug)]
pub struct SecureGc<F: Prime> {
    /// Assignment and code.
    pub code: Arc<ReplicatedCode<F>>,
    decoding: Arc<Memory<usize, Solved<F>>>,
}

impl<F: Prime> SecureGc<F> {
    /// With this code.
    #[must_use]
    pub fn new(code: ReplicatedCode<F>) -> Self {
        Self { code: Arc::new(code), decoding: Arc::default() }
    }
}

/// Weights of the transmissions in each part of the sum, by responders; `None` where those do not decode.
type Solved<F> = Option<Arc<Vec<Vec<F>>>>;

/// What a party holds before the round.
pub enum Key<S> {
    /// s_n \[0; Q\], ⌈L/m⌉ symbols.
    Client(Vec<S>),
    /// Nothing but the length of an update.
    Server(usize),
}

impl<S: Symbol> Secret<S> for Key<S> {
    fn held(&self) -> Vec<&[S]> {
        match self {
            Self::Client(key) => vec![key],
            Self::Server(_) => Vec::new(),
        }
    }
}

/// The two roles.
pub enum Role<S: Symbol<Scalar: Prime>> {
    /// Sends X_n.
    Client(PartyId, Arc<Vec<S>>),
    /// Decodes from what arrived in any attempt.
    Server(Server<S>),
}

/// The server's state.
pub struct Server<S: Symbol<Scalar: Prime>> {
    code: Arc<ReplicatedCode<S::Scalar>>,
    decoding: Arc<Memory<usize, Solved<S::Scalar>>>,
    len: usize,
    received: BTreeMap<usize, Arc<Vec<S>>>,
    decoded: Option<Decoded<S>>,
}

impl<S: Symbol<Scalar: Prime>> Server<S> {
    /// ⌈L/m⌉.
    fn part(&self) -> usize {
        self.len.div_ceil(self.code.reduction)
    }

    fn decode(&mut self, inbox: Vec<Envelope<Upload<S>>>) -> Decoded<S> {
        let part = self.part();
        for envelope in inbox {
            if let PartyId::Client(n) = envelope.from {
                self.received.insert(usize::from(n), envelope.body.0);
            }
        }
        let responders: Vec<usize> = self.received.keys().copied().collect();
        let Some(weights) = self.decoding.get(&responders, || self.code.decoding(&responders).map(Arc::new))
        else {
            return Decoded::lost();
        };
        let mut sum = Vec::with_capacity(part * weights.len());
        for weights in weights.iter() {
            let terms: Vec<_> =
                weights.iter().zip(self.received.values()).map(|(&a, x)| (a, x.as_slice())).collect();
            sum.extend(S::combine(part, &terms));
        }
        sum.truncate(self.len);
        Decoded::exact(sum, (0..self.code.holders.len() as u16).collect())
    }
}

impl<S: Symbol<Scalar: Prime>> Party<Upload<S>, S> for Role<S> {
    fn refusal(&self, message: &Envelope<Upload<S>>) -> Option<String> {
        let part = if let Self::Server(server) = self { server.part() } else { 0 };
        malformed(message, part)
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Upload<S>>>) -> Vec<Envelope<Upload<S>>> {
        match self {
            Self::Client(id, upload) if clock.phase == 1 => {
                let body = Upload(Arc::clone(upload));
                return vec![Envelope { sent: clock, from: *id, to: PartyId::Server, body }];
            }
            Self::Server(server) if clock.phase == 2 => server.decoded = Some(server.decode(inbox)),
            _ => {}
        }
        Vec::new()
    }

    fn decoded(&mut self) -> Option<Decoded<S>> {
        match self {
            Self::Client(..) => None,
            Self::Server(server) => server.decoded.take(),
        }
    }
}

impl<S: Symbol<Scalar: Prime>> Protocol<S> for SecureGc<S::Scalar> {
    type Message = Upload<S>;
    type Key = Key<S>;
    type Party = Role<S>;

    fn parties(&self) -> Vec<PartyId> {
        (0..self.code.servers() as u16).map(PartyId::Client).chain([PartyId::Server]).collect()
    }

    fn phases(&self) -> Vec<Phase> {
        // Data is shared before the run, and nothing in a round.
        vec![Phase::shares("share", Expects::Nobody), Phase::upload("upload", Expects::Everybody)]
    }

    fn holds(&self, client: u16) -> Vec<u16> {
        self.code.datasets(client.into()).into_iter().map(|k| k as u16).collect()
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        let (m, h) = (self.code.reduction, self.code.rank());
        let part = len.div_ceil(m);
        let sources: Vec<Vec<S>> = parallel::map(0..(h - m) as u16, |i| {
            source.draw(KeyStream { purpose: "source", round, a: i, b: i }, part)
        });
        let key = |n: usize| {
            let terms: Vec<_> =
                sources.iter().enumerate().map(|(i, q)| (self.code.rows[(n, m + i)], q.as_slice())).collect();
            Key::Client(S::combine(part, &terms))
        };
        (0..self.code.servers()).map(key).chain([Key::Server(len)]).collect()
    }

    fn formal_len(&self) -> usize {
        self.code.reduction
    }

    fn party(&self, id: PartyId, key: Key<S>, input: Option<&dyn Input<S>>) -> Role<S> {
        match (id, key, input) {
            (PartyId::Client(n), Key::Client(mut upload), Some(input)) => {
                let n = usize::from(n);
                let datasets = self.code.datasets(n);
                // The client's own gradients, one after the other.
                let mut gradients = vec![S::zero(); input.len()];
                input.add_to(&mut gradients);
                for (k, gradient) in
                    datasets.iter().zip(gradients.chunks((input.len() / datasets.len()).max(1)))
                {
                    let parts = gradient.chunks(upload.len().max(1));
                    for (a, part) in self.code.coefficients(n, *k).into_iter().zip(parts) {
                        S::axpy(&mut upload[..part.len()], a, part);
                    }
                }
                Role::Client(id, Arc::new(upload))
            }
            (_, Key::Server(len), _) => Role::Server(Server {
                code: Arc::clone(&self.code),
                decoding: Arc::clone(&self.decoding),
                len,
                received: BTreeMap::new(),
                decoded: None,
            }),
            _ => unreachable!("keys are dealt in the order of the parties"),
        }
    }
}
