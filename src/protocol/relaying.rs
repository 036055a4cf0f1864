//! Collaborative relaying: clients hand their updates to neighbours, and every client uploads a weighted sum
//! of what it heard, so that good uplinks carry what bad ones would lose.
//!
//! | scheme | source |
//! |---|---|
//! | `colrel` | Yemini, Saha, Ozfatura, Gündüz, Goldsmith, *Robust Semi-Decentralized Federated Learning via Collaborative Relaying*, IEEE Trans. Wireless Commun. 2024 |
//! | `pricer` | Saha, Seif, Yemini, Goldsmith, Poor, *Privacy Preserving Semi-Decentralized Mean Estimation over Intermittently-Connected Networks*, IEEE Trans. Signal Process. 2024 |
//!
//! α_jk is relay j's weight for the input of client k; τ_kj and τ_j say whether a message of phase 0 and an
//! upload arrived.
//!
//! | | `colrel` | `pricer` |
//! |---|---|---|
//! | phase 0, k to j with α_jk > 0 | x_k | α_jk x_k + n_kj, n_kj ~ N(0, σ_kj² I) |
//! | phase 1, j to the server | α_jj x_j + Σ_k τ_kj α_jk x_k | α_jj x_j + Σ_k τ_kj (α_jk x_k + n_kj) + own noise |
//! | server | Σ_j τ_j · upload | the same |
//!
//! The result is [`Decoded::Estimate`]: the divisor is the weight of all clients, whatever arrived, and
//! nothing at all is the estimate 0. It is unbiased where Σ_j p_j p_kj α_jk = 1 ([`weights`]). An upload
//! lists whose inputs are in it, M bits that the papers do without; nothing depends on them but reports.
//!
//! We read the authors' public programs, not the papers' texts. The optimal weights are found exactly instead
//! of by bisection or Adam; the noise of `pricer` follows from Gaussian differential privacy instead of the
//! classical bound, which fails for ε > 1; its privacy is a statement about real numbers, there is no grid.

mod config;
pub mod weights;

use std::sync::Arc;

use super::{Clock, Decoded, Envelope, Expects, Input, Party, PartyId, Phase, Protocol, Secret};
use crate::algebra::{KeyStream, Symbol};
use crate::keys::{self, KeySource};
use crate::message::Message;
use crate::wire::Form;
pub use config::{ColRel, PriCer};

/// A relaying scheme.
#[derive(Clone, Debug)]
pub struct Relaying {
    /// α, by relay and by client; known to all.
    pub weights: Arc<Vec<Vec<f64>>>,
    /// The noise of those who scale before they send; without it relays scale what they hear.
    pub noise: Option<Noise>,
}

/// Standard deviations of the senders' noise, per coordinate.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    /// σ_kj, by relay j and by client k.
    pub relayed: Arc<Vec<Vec<f64>>>,
    /// σ of what a client adds to its upload.
    pub own: f64,
}

/// What travels.
#[derive(Clone, Debug)]
pub struct Relayed<S> {
    /// In an upload, whose inputs are in it (ascending).
    pub of: Option<Vec<u16>>,
    /// M, so that the list takes M bits.
    clients: usize,
    /// d symbols.
    pub vector: Arc<Vec<S>>,
}

impl<S: Symbol> Message<S> for Relayed<S> {
    fn bytes(&self) -> usize {
        let list = if self.of.is_some() { self.clients.div_ceil(8) } else { 0 };
        list + self.vector.len() * S::BYTES
    }

    fn reveals(&self) -> Vec<Vec<S>> {
        vec![self.vector.to_vec()]
    }
}

/// What a party holds before the round.
pub enum Key<S> {
    /// A client's noise.
    Client {
        /// (j, n_kj) for every relay j that is sent to.
        relayed: Vec<(u16, Vec<S>)>,
        /// What it adds to its upload.
        own: Option<Vec<S>>,
    },
    /// Nothing but the length d of an update.
    Server(usize),
}

impl<S: Symbol> Secret<S> for Key<S> {
    fn held(&self) -> Vec<&[S]> {
        match self {
            Self::Client { relayed, own } => {
                relayed.iter().map(|(_, noise)| noise).chain(own).map(Vec::as_slice).collect()
            }
            Self::Server(_) => Vec::new(),
        }
    }
}

/// The two roles.
pub enum Role<S> {
    /// Sends to its relays, and relays.
    Client(Client<S>),
    /// Adds what arrives.
    Server(Server<S>),
}

/// A client's state.
pub struct Client<S> {
    index: u16,
    weights: Arc<Vec<Vec<f64>>>,
    /// Whether what arrives has been scaled by its sender.
    scaled: bool,
    input: Arc<Vec<S>>,
    relayed: Vec<(u16, Vec<S>)>,
    own: Option<Vec<S>>,
}

impl<S: Symbol<Scalar = f64>> Client<S> {
    fn weight(&self, relay: u16, client: u16) -> f64 {
        self.weights[usize::from(relay)][usize::from(client)]
    }

    /// What relay `to` gets; α_jk > 0.
    fn share(&self, to: u16) -> Arc<Vec<S>> {
        if !self.scaled {
            return Arc::clone(&self.input);
        }
        let noise = self.relayed.iter().find(|(relay, _)| *relay == to).map(|(_, noise)| noise);
        let mut share = noise.cloned().unwrap_or_else(|| vec![S::zero(); self.input.len()]);
        S::axpy(&mut share, self.weight(to, self.index), &self.input);
        Arc::new(share)
    }

    fn send(&self, sent: Clock) -> Vec<Envelope<Relayed<S>>> {
        let clients = self.weights.len();
        let relays = (0..clients as u16).filter(|&j| j != self.index && self.weight(j, self.index) > 0.0);
        relays
            .map(|j| Envelope {
                sent,
                from: PartyId::Client(self.index),
                to: PartyId::Client(j),
                body: Relayed { of: None, clients, vector: self.share(j) },
            })
            .collect()
    }

    /// The upload; `None` where there is nothing in it.
    fn upload(&self, inbox: &[Envelope<Relayed<S>>]) -> Option<Relayed<S>> {
        let own = self.weight(self.index, self.index);
        let mut terms = vec![(self.index, own, self.input.as_slice())];
        for envelope in inbox {
            if let PartyId::Client(k) = envelope.from {
                let weight = if self.scaled { 1.0 } else { self.weight(self.index, k) };
                terms.push((k, weight, envelope.body.vector.as_slice()));
            }
        }
        terms.retain(|(_, weight, _)| *weight > 0.0);
        terms.sort_by_key(|(k, ..)| *k);
        if terms.is_empty() {
            return None;
        }
        let of = Some(terms.iter().map(|(k, ..)| *k).collect());
        let terms: Vec<_> = terms.into_iter().map(|(_, weight, vector)| (weight, vector)).collect();
        let mut sum = S::combine(self.input.len(), &terms);
        if let Some(noise) = &self.own {
            S::axpy(&mut sum, 1.0, noise);
        }
        Some(Relayed { of, clients: self.weights.len(), vector: Arc::new(sum) })
    }

    fn refusal(&self, message: &Envelope<Relayed<S>>) -> Option<String> {
        let PartyId::Client(from) = message.from else {
            return Some("clients receive updates of clients only".into());
        };
        if message.body.of.is_some() || self.weight(self.index, from) == 0.0 {
            return Some("the receiver does not relay for the sender".into());
        }
        malformed(&message.body, self.input.len())
    }
}

fn malformed<S>(body: &Relayed<S>, want: usize) -> Option<String> {
    let got = body.vector.len();
    (got != want).then(|| format!("the vector has {got} symbols instead of {want}"))
}

/// The server's state.
pub struct Server<S> {
    clients: usize,
    /// d.
    len: usize,
    decoded: Option<Decoded<S>>,
}

impl<S: Symbol<Scalar = f64>> Server<S> {
    fn refusal(&self, message: &Envelope<Relayed<S>>) -> Option<String> {
        let PartyId::Client(_) = message.from else {
            return Some("uploads go from clients to the server".into());
        };
        let listed = |of: &Vec<u16>| {
            of.is_sorted_by(|a, b| a < b) && of.last().is_some_and(|&k| usize::from(k) < self.clients)
        };
        if !message.body.of.as_ref().is_some_and(listed) {
            return Some("the upload does not say whose updates are in it".into());
        }
        malformed(&message.body, self.len)
    }

    fn estimate(&self, inbox: &[Envelope<Relayed<S>>]) -> Decoded<S> {
        let mut uploads: Vec<_> = inbox.iter().collect();
        uploads.sort_by_key(|envelope| envelope.from);
        let terms: Vec<_> = uploads.iter().map(|envelope| (1.0, envelope.body.vector.as_slice())).collect();
        let mut included: Vec<u16> = uploads.iter().filter_map(|e| e.body.of.clone()).flatten().collect();
        included.sort_unstable();
        included.dedup();
        Decoded::Estimate { sum: S::combine(self.len, &terms), included }
    }
}

impl<S: Symbol<Scalar = f64>> Party<Relayed<S>, S> for Role<S> {
    fn refusal(&self, message: &Envelope<Relayed<S>>) -> Option<String> {
        match self {
            Self::Client(client) => client.refusal(message),
            Self::Server(server) => server.refusal(message),
        }
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Relayed<S>>>) -> Vec<Envelope<Relayed<S>>> {
        match (self, clock.phase) {
            (Self::Client(client), 0) => return client.send(clock),
            (Self::Client(client), 1) => {
                let (from, to) = (PartyId::Client(client.index), PartyId::Server);
                let upload = client.upload(&inbox);
                return upload.map(|body| Envelope { sent: clock, from, to, body }).into_iter().collect();
            }
            (Self::Server(server), 2) => server.decoded = Some(server.estimate(&inbox)),
            _ => {}
        }
        Vec::new()
    }

    fn decoded(&mut self) -> Option<Decoded<S>> {
        match self {
            Self::Client(_) => None,
            Self::Server(server) => server.decoded.take(),
        }
    }
}

impl Relaying {
    fn clients(&self) -> usize {
        self.weights.len()
    }

    /// Client k's noise.
    fn noise<S: Symbol<Scalar = f64>>(
        &self,
        k: u16,
        round: u64,
        len: usize,
        source: &impl KeySource<S>,
    ) -> Key<S> {
        let draw = |to: u16, std: f64| {
            let stream = KeyStream { purpose: "noise", round, a: k, b: to };
            keys::noise(stream, len, std, None, source)
        };
        let Some(noise) = &self.noise else { return Key::Client { relayed: Vec::new(), own: None } };
        let to = (0..self.clients() as u16).filter(|&j| j != k);
        let stds = to.map(|j| (j, noise.relayed[usize::from(j)][usize::from(k)]));
        let relayed = stds.filter(|(_, std)| *std > 0.0).map(|(j, std)| (j, draw(j, std))).collect();
        Key::Client { relayed, own: (noise.own > 0.0).then(|| draw(k, noise.own)) }
    }
}

impl<S: Symbol<Scalar = f64>> Protocol<S> for Relaying {
    type Message = Relayed<S>;
    type Key = Key<S>;
    type Party = Role<S>;

    fn parties(&self) -> Vec<PartyId> {
        (0..self.clients() as u16).map(PartyId::Client).chain([PartyId::Server]).collect()
    }

    fn phases(&self) -> Vec<Phase> {
        // Who has nothing to upload whatever it hears is not waited for.
        let all_upload = self.weights.iter().enumerate().all(|(j, row)| row[j] > 0.0);
        let waits = if all_upload { Expects::Everybody } else { Expects::Nobody };
        vec![Phase::shares("share", Expects::Nobody), Phase::upload("sum", waits)]
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        let clients = (0..self.clients() as u16).map(|k| self.noise(k, round, len, source));
        clients.chain([Key::Server(len)]).collect()
    }

    fn own_key(&self, id: PartyId, round: u64, len: usize, source: &impl KeySource<S>) -> Option<Key<S>> {
        Some(match id {
            PartyId::Client(k) => self.noise(k, round, len, source),
            PartyId::Helper(_) | PartyId::Server => Key::Server(len),
        })
    }

    fn form(&self, phase: u8, len: usize) -> (Form, usize) {
        let list = if phase == 1 { self.clients().div_ceil(8) } else { 0 };
        (Form { len, members: self.clients(), largest: f64::INFINITY }, list + len * S::BYTES)
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn party(&self, id: PartyId, key: Key<S>, input: Option<&dyn Input<S>>) -> Role<S> {
        match (id, key, input) {
            (PartyId::Client(index), Key::Client { relayed, own }, Some(input)) => {
                let mut vector = vec![S::zero(); input.len()];
                input.add_to(&mut vector);
                Role::Client(Client {
                    index,
                    weights: Arc::clone(&self.weights),
                    scaled: self.noise.is_some(),
                    input: Arc::new(vector),
                    relayed,
                    own,
                })
            }
            (_, Key::Server(len), _) => Role::Server(Server { clients: self.clients(), len, decoded: None }),
            _ => unreachable!("keys are dealt in the order of the parties"),
        }
    }
}
