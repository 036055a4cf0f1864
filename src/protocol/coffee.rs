//! COFFEE: clients take some steps of an exact consensus, then upload the averages that they hold.
//!
//! *Communication-Efficient Semi-Decentralized Federated Learning in the Presence of Stragglers*, IEEE Trans.
//! Commun. 73(12), 13999–14013, 2025 (COFFEE, and A-COFFEE whose server adapts to the stragglers), over the
//! steps of Ding, Jin, Ying, Yuan, Yin, *DSGD-CECA: Decentralized SGD with Communication-Optimal Exact
//! Consensus Algorithm*, ICML 2023. Only the abstract of the first says how its server averages, and its
//! links between clients are reliable: the adaptive weights and what follows from a lost message are ours.
//!
//! | symbol | here | shape |
//! |---|---|---|
//! | M, τ, L | `clients`, `consensus(clients).len()`, `steps.len()` | τ bits of M − 1, L ≤ τ |
//! | W | grows with every [`Step`] | |
//! | I_i, E_i | `Client::with`, `Client::without` | d, and M bits |
//! | v | [`weights`] | as many as uploads |
//!
//! I_i starts as x_i and E_i as nothing, W as 0. In phase t, for the bit b of M − 1 (the highest first),
//! client i receives I_{i−W−1} if b = 1 and E_{i−W} if b = 0 (indices modulo M) and adds it to I_i and E_i;
//! then W ← 2W + b. So I_i is the sum of x_i, x_{i−1}, …, x_{i−W}: a window, and after τ steps all. Every
//! message carries the set of clients in it, and a lost one adds nothing. In phase L client i uploads I_i.
//!
//! The server estimates the mean by Σ_i v_i I_i with Σ_i v_i |I_i| = 1: with `mean` v_i = 1/(|S| |I_i|) over
//! the uploads S that arrived, with `adaptive` such that Σ_i v_i 1(I_i) is as near to 1/M as it can be. Given
//! that anything arrives, the mean is unbiased where all clients have the same chance: so a round without an
//! upload is an outage, and not an estimate of 0. Where chances differ and L < τ, it is biased.

use std::sync::Arc;

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, Given, Scheme, Session};
use super::section::{Coding, Keys, Links, SMALL, SchemeConfig};
use super::uncoded::real;
use super::unkeyed::Key;
use super::{
    Arithmetic, Clock, Decoded, Envelope, Expects, Input, Message, Numbers, Party, PartyId, Phase, Protocol,
};
use crate::algebra::grid::Public;
use crate::algebra::{Scalar, Symbol};
use crate::coding::{DENSE_CLIENTS, singular_triples};
use crate::error::{Error, Result};
use crate::keys::KeySource;
use crate::seed::Seed;

/// Singular values of a 0-1 matrix below this fraction of the largest are rounding.
const NEGLIGIBLE: f64 = 1e-10;

/// How the server weighs the sums that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Averaging {
    /// The mean of the averages (COFFEE).
    #[default]
    Mean,
    /// Weights for the windows that arrived (A-COFFEE): exact as soon as these can be combined into the sum.
    Adaptive,
}

/// COFFEE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CoffeeConfig {
    /// Steps L of the consensus before the upload, 0 to τ, the number of bits of clients − 1; τ − 1 by
    /// default. Every client sends one message a step; after τ steps each has the sum over all.
    #[schemars(range(min = 0, max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// What the server does with the averages that arrive: "mean" of them, or "adaptive" weights that make up
    /// for clients who are in several of them and in few.
    pub server: Averaging,
    /// Precision of what is sent and summed: "f32" or "f64".
    pub arithmetic: Arithmetic,
}

impl Default for CoffeeConfig {
    fn default() -> Self {
        Self { steps: None, server: Averaging::Mean, arithmetic: Arithmetic::F32 }
    }
}

impl SchemeConfig for CoffeeConfig {
    fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        let numbers = real(self.arithmetic, "an average is no element of a field")?;
        let protocol = Coffee::new(clients, self.steps, self.server)?;
        let setup = Given { clients, seed, public }.setup(Scheme::default(), None).estimating();
        Ok(Box::new(Session { protocol, single: numbers == Numbers::Real(true), setup }))
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        None
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        None
    }

    fn links(&mut self) -> Option<Links<'_>> {
        None
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}

/// A step of the consensus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Client i receives what client i − `distance` sends, modulo M.
    pub distance: usize,
    /// Whether the sender's own update is in it: I and not E.
    pub own: bool,
}

/// The τ steps after which every one of so many clients has the sum over all.
#[must_use]
pub fn consensus(clients: usize) -> Vec<Step> {
    let last = clients.saturating_sub(1);
    let mut window = 0;
    let step = |bit: u32| {
        let own = last >> bit & 1 == 1;
        let distance = window + usize::from(own);
        window += distance;
        Step { distance, own }
    };
    (0..usize::BITS - last.leading_zeros()).rev().map(step).collect()
}

/// v: the weights of the received sums of these sets of clients, none empty, with Σ_i v_i |set_i| = 1.
#[must_use]
pub fn weights(averaging: Averaging, sets: &[&[bool]]) -> Vec<f64> {
    let size = |set: &[bool]| set.iter().filter(|held| **held).count() as f64;
    if averaging == Averaging::Mean {
        return sets.iter().map(|set| (sets.len() as f64 * size(set)).recip()).collect();
    }
    let Some(clients) = sets.first().map(|set| set.len()) else { return Vec::new() };
    let rows = DMatrix::from_fn(sets.len(), clients, |i, k| f64::from(u8::from(sets[i][k])));
    // The solution of least norm of min ‖vᵀ rows − 1/M‖₂: equal windows have equal weights.
    let triples = singular_triples(&rows);
    let largest = triples.iter().map(|(sigma, ..)| *sigma).fold(0.0, f64::max);
    let mut v = vec![0.0; sets.len()];
    for (sigma, left, right) in triples.iter().filter(|(sigma, ..)| *sigma > NEGLIGIBLE * largest) {
        let along = right.sum() / clients as f64 / sigma;
        v.iter_mut().zip(left.iter()).for_each(|(v, left)| *v += along * left);
    }
    let total: f64 = v.iter().zip(sets).map(|(v, set)| v * size(set)).sum();
    v.iter().map(|v| v / total).collect()
}

/// The scheme for fixed M and L.
#[derive(Clone, Debug)]
pub struct Coffee {
    clients: usize,
    averaging: Averaging,
    /// Those that are taken.
    steps: Arc<Vec<Step>>,
}

impl Coffee {
    /// The scheme with L = `steps`, by default τ − 1.
    ///
    /// # Errors
    /// More steps than τ, more clients than windows are kept of.
    pub fn new(clients: usize, steps: Option<usize>, averaging: Averaging) -> Result<Self> {
        if clients > DENSE_CLIENTS {
            let rule = format!(
                "every message lists the clients in its window, and among {clients} these lists are too long; at most \
                 {DENSE_CLIENTS} clients are computed with: take cohorts of at most as many (cohort.sample)"
            );
            return Err(Error::config("kind", rule));
        }
        let mut taken = consensus(clients);
        let most = taken.len();
        let steps = steps.unwrap_or(most.saturating_sub(1));
        if steps > most {
            let rule = format!(
                "{steps} is out of range; {clients} clients have the sum after {most}; give 0 to {most}"
            );
            return Err(Error::config("steps", rule));
        }
        taken.truncate(steps);
        Ok(Self { clients, averaging, steps: Arc::new(taken) })
    }
}

/// What travels: the sum of the updates of some clients.
#[derive(Clone, Debug)]
pub struct Window<S> {
    /// Whether client i's update is in it, by i; a bit each on the wire.
    pub held: Arc<Vec<bool>>,
    /// Σ over them, d symbols.
    pub sum: Arc<Vec<S>>,
}

impl<S: Symbol> Window<S> {
    /// The sum of two.
    fn and(&self, other: &Self) -> Self {
        let mut sum = self.sum.to_vec();
        S::accumulate(&mut sum, &[(S::Scalar::ONE, &other.sum)]);
        let held = self.held.iter().zip(other.held.iter()).map(|(a, b)| *a || *b).collect();
        Self { held: Arc::new(held), sum: Arc::new(sum) }
    }

    fn meets(&self, other: &Self) -> bool {
        self.held.iter().zip(other.held.iter()).any(|(a, b)| *a && *b)
    }

    /// What is wrong with it for somebody who expects windows of `clients` clients and `len` symbols.
    fn malformed(&self, clients: usize, len: usize) -> Option<String> {
        if self.held.len() != clients {
            return Some(format!("its window is of {} clients instead of {clients}", self.held.len()));
        }
        if !self.held.contains(&true) {
            return Some("its window is empty".into());
        }
        let got = self.sum.len();
        (got != len).then(|| format!("the sum has {got} symbols instead of {len}"))
    }
}

impl<S: Symbol> Message<S> for Window<S> {
    fn bytes(&self) -> usize {
        self.held.len().div_ceil(8) + self.sum.len() * S::BYTES
    }

    fn reveals(&self) -> Vec<Vec<S>> {
        vec![self.sum.to_vec()]
    }
}

/// The two roles.
pub enum Role<S> {
    /// Takes the steps, then uploads.
    Client(Client<S>),
    /// Averages.
    Server(Server<S>),
}

/// A client's state.
pub struct Client<S> {
    index: usize,
    steps: Arc<Vec<Step>>,
    own: Window<S>,
    /// I.
    with: Window<S>,
    /// E; `None` while it is empty.
    without: Option<Window<S>>,
}

impl<S: Symbol> Client<S> {
    fn clients(&self) -> usize {
        self.own.held.len()
    }

    /// Whose message the step of this phase brings.
    fn source(&self, phase: u8) -> Option<usize> {
        let step = self.steps.get(usize::from(phase))?;
        Some((self.index + self.clients() - step.distance) % self.clients())
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Window<S>>>) -> Vec<Envelope<Window<S>>> {
        if clock.phase == 0 {
            (self.with, self.without) = (self.own.clone(), None);
        }
        for Envelope { body, .. } in inbox {
            self.with = self.with.and(&body);
            self.without = Some(self.without.as_ref().map_or(body.clone(), |window| window.and(&body)));
        }
        let phase = usize::from(clock.phase);
        let (to, body) = match self.steps.get(phase) {
            None if phase > self.steps.len() => return Vec::new(),
            None => (PartyId::Server, Some(self.with.clone())),
            Some(step) => {
                let to = PartyId::Client(((self.index + step.distance) % self.clients()) as u16);
                (to, if step.own { Some(self.with.clone()) } else { self.without.clone() })
            }
        };
        let from = PartyId::Client(self.index as u16);
        body.map(|body| Envelope { sent: clock, from, to, body }).into_iter().collect()
    }

    fn refusal(&self, message: &Envelope<Window<S>>) -> Option<String> {
        let source = self.source(message.sent.phase).map(|k| PartyId::Client(k as u16));
        if source != Some(message.from) {
            return Some("no step of the consensus brings this client a message of the sender".into());
        }
        let wrong = message.body.malformed(self.clients(), self.own.sum.len());
        wrong.or_else(|| self.with.meets(&message.body).then(|| "its window is here already".into()))
    }
}

/// The server's state.
pub struct Server<S> {
    clients: usize,
    averaging: Averaging,
    /// L, the phase of the upload.
    upload: u8,
    /// d.
    len: usize,
    decoded: Option<Decoded<S>>,
}

impl<S: Symbol<Scalar = f64>> Server<S> {
    fn refusal(&self, message: &Envelope<Window<S>>) -> Option<String> {
        let PartyId::Client(k) = message.from else {
            return Some("the server receives sums of clients".into());
        };
        if message.sent.phase != self.upload {
            return Some("sums are uploaded after the consensus".into());
        }
        let absent = || !message.body.held[usize::from(k)];
        let wrong = message.body.malformed(self.clients, self.len);
        wrong.or_else(|| absent().then(|| "the sender is not in its window".into()))
    }

    fn estimate(&self, inbox: &[Envelope<Window<S>>]) -> Decoded<S> {
        if inbox.is_empty() {
            return Decoded::lost();
        }
        let sets: Vec<&[bool]> = inbox.iter().map(|envelope| envelope.body.held.as_slice()).collect();
        let clients = self.clients as f64;
        let weights = weights(self.averaging, &sets).into_iter().map(|v| clients * v);
        let terms: Vec<_> = weights.zip(inbox.iter().map(|envelope| envelope.body.sum.as_slice())).collect();
        let heard = |k: &u16| sets.iter().any(|set| set[usize::from(*k)]);
        Decoded::Estimate {
            sum: S::combine(self.len, &terms),
            included: (0..self.clients as u16).filter(heard).collect(),
        }
    }
}

impl<S: Symbol<Scalar = f64>> Party<Window<S>, S> for Role<S> {
    fn refusal(&self, message: &Envelope<Window<S>>) -> Option<String> {
        match self {
            Self::Client(client) => client.refusal(message),
            Self::Server(server) => server.refusal(message),
        }
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Window<S>>>) -> Vec<Envelope<Window<S>>> {
        match self {
            Self::Client(client) => return client.step(clock, inbox),
            Self::Server(server) if clock.phase > server.upload => {
                server.decoded = Some(server.estimate(&inbox));
            }
            Self::Server(_) => {}
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

impl<S: Symbol<Scalar = f64>> Protocol<S> for Coffee {
    type Message = Window<S>;
    type Key = Key;
    type Party = Role<S>;

    fn parties(&self) -> Vec<PartyId> {
        (0..self.clients as u16).map(PartyId::Client).chain([PartyId::Server]).collect()
    }

    fn phases(&self) -> Vec<Phase> {
        let step = Phase::shares("consensus", Expects::Everybody);
        let upload = Phase::upload("average", Expects::Everybody);
        self.steps.iter().map(|_| step).chain([upload]).collect()
    }

    fn deal(&self, _: u64, len: usize, _: &impl KeySource<S>) -> Vec<Key> {
        Key::deal(self.clients, len)
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn party(&self, id: PartyId, key: Key, input: Option<&dyn Input<S>>) -> Role<S> {
        match (id, key, input) {
            (PartyId::Client(k), Key::Client, Some(input)) => {
                let mut sum = vec![S::zero(); input.len()];
                input.add_to(&mut sum);
                let held = Arc::new((0..self.clients as u16).map(|i| i == k).collect());
                let own = Window { held, sum: Arc::new(sum) };
                let (steps, with) = (Arc::clone(&self.steps), own.clone());
                Role::Client(Client { index: k.into(), steps, own, with, without: None })
            }
            (_, Key::Server(len), _) => Role::Server(Server {
                clients: self.clients,
                averaging: self.averaging,
                upload: self.steps.len() as u8,
                len,
                decoded: None,
            }),
            _ => unreachable!("keys are dealt in the order of the parties"),
        }
    }
}
