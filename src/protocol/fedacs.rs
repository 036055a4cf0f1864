//! FedACS: bad links are asked more often, so that every client arrives equally often.
//!
//! Weng, Ren, Xiao, Skoglund, *Heterogeneity-Aware Client Sampling for Optimal and Efficient Federated
//! Learning*, arXiv 2505.11304. We read the abstract; the rule is ours. Another paper's FedACS is not meant.
//!
//! | symbol | here | |
//! |---|---|---|
//! | K | `draws` | |
//! | v_k | `shares`, with the mean 1 | how often k arrives, relative to the others |
//! | q_k ∝ v_k/p_k | [`Draws`] | chance of each draw |
//! | y_k = w_k x_k | the input | d |
//!
//! Every round K clients are drawn independently with the chances q, by a seed that all know. Whoever is
//! drawn uploads y_k, once for every time, each over a use of its link of its own: the n-th in phase n. A
//! draw that arrives is k's with the probability q_k p_k / Σ q p = v_k/M, so that the mean of y_k/v_k over
//! the draws that arrived is (1/M) Σ_k y_k in expectation, whatever K is, given that any arrives; else the
//! round is an outage. Repeated draws must not share an upload: of K = 2 draws with p = (0.9, 0.5, 0.1)
//! client 1 would be 0.54 of the mean instead of 0.5.
//!
//! The paper also lets clients take different numbers of steps, which is here the affair of
//! `solver.kind = "fednova"`. Clients who are not drawn train in simulation, and nobody sees what.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, Given, Scheme, Session};
use super::section::{Coding, Keys, Links, SMALL, SchemeConfig};
use super::uncoded::{Upload, malformed, real};
use super::unkeyed::Key;
use super::{Arithmetic, Clock, Decoded, Envelope, Expects, Input, Numbers, Party, PartyId, Phase, Protocol};
use crate::algebra::Symbol;
use crate::algebra::grid::Public;
use crate::error::{Error, Result};
use crate::keys::KeySource;
use crate::network::assumed::Assumed;
use crate::seed::Seed;

/// As many as an attempt has phases for.
const MOST_DRAWS: u32 = 100;

/// No round has this number: audits look at it, and every draw is everybody.
const EVERYBODY: u64 = 0;

/// FedACS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedAcsConfig {
    /// Draws K of a round, 1 to 100; a client may be drawn several times.
    #[schemars(range(min = 1, max = 100))]
    pub draws: u32,
    /// How often each client is to arrive, relative to the others: one number each and above 0. Left out, all
    /// alike. The estimate is unbiased for any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<f64>,
    /// Precision of what is sent and summed: "f32" or "f64".
    pub arithmetic: Arithmetic,
    /// What the chances take the losses for; a table.
    pub assumed: Assumed,
}

impl Default for FedAcsConfig {
    fn default() -> Self {
        Self { draws: 5, shares: Vec::new(), arithmetic: Arithmetic::F32, assumed: Assumed::default() }
    }
}

impl SchemeConfig for FedAcsConfig {
    fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        let numbers = real(self.arithmetic, "shares are real numbers")?;
        if !(1..=MOST_DRAWS).contains(&self.draws) {
            let rule = format!("{} is out of range; give 1 to {MOST_DRAWS}", self.draws);
            return Err(Error::config("draws", rule));
        }
        let arrives = self.assumed.delivery(clients).map_err(|error| error.within("assumed"))?.up;
        let draws = Draws::new(&arrives, &self.shares, self.draws, seed.child("draws", 0))?;
        let setup = Given { clients, seed, public }.setup(Scheme::default(), None).estimating();
        let protocol = FedAcs(Arc::new(draws));
        Ok(Box::new(Session { protocol, single: numbers == Numbers::Real(true), setup }))
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        None
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        None
    }

    fn links(&mut self) -> Option<Links<'_>> {
        let symbol_bytes = if self.arithmetic == Arithmetic::F32 { 4 } else { 8 };
        Some(Links { symbol_bytes, assumed: &mut self.assumed })
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}

/// Who is drawn.
#[derive(Clone, Debug)]
pub struct Draws {
    /// K.
    count: u32,
    /// v_k, of mean 1.
    shares: Vec<f64>,
    /// Σ_{j≤k} q_j.
    below: Vec<f64>,
    seed: Seed,
}

impl Draws {
    /// `count` draws a round among clients whose uploads arrive with these probabilities; `shares` as in the
    /// configuration.
    ///
    /// # Errors
    /// Shares that are none or not one each; a client of whom nothing arrives.
    pub fn new(arrives: &[f64], shares: &[f64], count: u32, seed: Seed) -> Result<Self> {
        let clients = arrives.len();
        let shares = if shares.is_empty() { vec![1.0; clients] } else { shares.to_vec() };
        if shares.len() != clients {
            let rule = format!("{} numbers for {clients} clients; give one each", shares.len());
            return Err(Error::config("shares", rule));
        }
        let mean = shares.iter().sum::<f64>() / clients as f64;
        let shares: Vec<f64> = shares.iter().map(|share| share / mean).collect();
        if let Some(k) = shares.iter().position(|share| !(share.is_finite() && *share > 0.0)) {
            let rule = format!("that of client {} is no share; give finite numbers greater than 0", k + 1);
            return Err(Error::config("shares", rule));
        }
        if let Some(k) = arrives.iter().position(|p| *p <= 0.0) {
            let rule = format!(
                "no upload of client {} is expected to arrive, and no number of draws makes up for that",
                k + 1
            );
            return Err(Error::config("assumed.client_server", rule));
        }
        let asked: Vec<f64> = shares.iter().zip(arrives).map(|(share, p)| share / p).collect();
        let all: f64 = asked.iter().sum();
        let mut sum = 0.0;
        let mut below: Vec<f64> = Vec::with_capacity(clients);
        for own in asked {
            sum += own / all;
            below.push(sum);
        }
        Ok(Self { count, shares, below, seed })
    }

    /// q_k.
    #[must_use]
    pub fn chance(&self, k: usize) -> f64 {
        self.below[k] - k.checked_sub(1).map_or(0.0, |before| self.below[before])
    }

    /// How often each client is drawn in a round.
    #[must_use]
    pub fn of(&self, round: u64) -> BTreeMap<u16, u32> {
        let last = self.below.len() - 1;
        if round == EVERYBODY {
            return (0..=last as u16).map(|k| (k, self.count)).collect();
        }
        let mut rng = self.seed.child("round", round).rng();
        let mut drawn = BTreeMap::new();
        for _ in 0..self.count {
            let u: f64 = rng.random();
            // Rounding may leave the last sum below 1.
            let k = self.below.partition_point(|below| *below <= u).min(last);
            *drawn.entry(k as u16).or_default() += 1;
        }
        drawn
    }
}

/// The scheme.
#[derive(Clone, Debug)]
pub struct FedAcs(pub Arc<Draws>);

/// The two roles.
pub enum Role<S> {
    /// Uploads when it is drawn.
    Client(Client<S>),
    /// Averages.
    Server(Server<S>),
}

/// A client's state.
pub struct Client<S> {
    index: u16,
    draws: Arc<Draws>,
    /// Times that it is drawn in this round.
    times: u32,
    input: Arc<Vec<S>>,
}

/// The server's state.
pub struct Server<S> {
    draws: Arc<Draws>,
    /// d.
    len: usize,
    /// What arrived in this attempt, and how often.
    heard: BTreeMap<u16, (u32, Arc<Vec<S>>)>,
    decoded: Option<Decoded<S>>,
}

impl<S: Symbol<Scalar = f64>> Server<S> {
    fn refusal(&self, message: &Envelope<Upload<S>>) -> Option<String> {
        let PartyId::Client(k) = message.from else { return malformed(message, self.len) };
        let Clock { round, phase, .. } = message.sent;
        let times = self.draws.of(round).get(&k).copied().unwrap_or(0);
        if u32::from(phase) > times {
            return Some(format!("the sender is drawn {times} times in this round"));
        }
        malformed(message, self.len)
    }

    fn estimate(&self) -> Decoded<S> {
        let arrived: u32 = self.heard.values().map(|(times, _)| times).sum();
        if arrived == 0 {
            return Decoded::lost();
        }
        let each = self.draws.shares.len() as f64 / f64::from(arrived);
        let term = |(k, (times, upload)): (&u16, &(u32, Arc<Vec<S>>))| {
            (each * f64::from(*times) / self.draws.shares[usize::from(*k)], Arc::clone(upload))
        };
        let terms: Vec<(f64, Arc<Vec<S>>)> = self.heard.iter().map(term).collect();
        let terms: Vec<(f64, &[S])> =
            terms.iter().map(|(weight, upload)| (*weight, upload.as_slice())).collect();
        Decoded::Estimate {
            sum: S::combine(self.len, &terms),
            included: self.heard.keys().copied().collect(),
        }
    }
}

impl<S: Symbol<Scalar = f64>> Party<Upload<S>, S> for Role<S> {
    fn refusal(&self, message: &Envelope<Upload<S>>) -> Option<String> {
        match self {
            Self::Client(_) => Some("clients receive nothing".into()),
            Self::Server(server) => server.refusal(message),
        }
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Upload<S>>>) -> Vec<Envelope<Upload<S>>> {
        match self {
            Self::Client(client) => {
                if clock.phase == 0 {
                    client.times = client.draws.of(clock.round).get(&client.index).copied().unwrap_or(0);
                } else if u32::from(clock.phase) <= client.times {
                    let (from, body) = (PartyId::Client(client.index), Upload(Arc::clone(&client.input)));
                    return vec![Envelope { sent: clock, from, to: PartyId::Server, body }];
                }
            }
            Self::Server(server) => {
                if clock.phase == 0 {
                    server.heard.clear();
                }
                for Envelope { from, body, .. } in inbox {
                    if let PartyId::Client(k) = from {
                        server.heard.entry(k).or_insert((0, body.0)).0 += 1;
                    }
                }
                if u32::from(clock.phase) > server.draws.count {
                    server.decoded = Some(server.estimate());
                }
            }
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

impl<S: Symbol<Scalar = f64>> Protocol<S> for FedAcs {
    type Message = Upload<S>;
    type Key = Key;
    type Party = Role<S>;

    fn parties(&self) -> Vec<PartyId> {
        (0..self.0.shares.len() as u16).map(PartyId::Client).chain([PartyId::Server]).collect()
    }

    fn phases(&self) -> Vec<Phase> {
        // As under every protocol the first upload is a client's second step.
        let share = Phase::shares("share", Expects::Nobody);
        let draw = Phase::upload("draw", Expects::Nobody);
        [share].into_iter().chain((0..self.0.count).map(|_| draw)).collect()
    }

    fn deal(&self, _: u64, len: usize, _: &impl KeySource<S>) -> Vec<Key> {
        Key::deal(self.0.shares.len(), len)
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn fullest(&self) -> u64 {
        EVERYBODY
    }

    fn party(&self, id: PartyId, key: Key, input: Option<&dyn Input<S>>) -> Role<S> {
        let draws = Arc::clone(&self.0);
        match (id, key, input) {
            (PartyId::Client(index), Key::Client, Some(input)) => {
                let mut vector = vec![S::zero(); input.len()];
                input.add_to(&mut vector);
                Role::Client(Client { index, draws, times: 0, input: Arc::new(vector) })
            }
            (_, Key::Server(len), _) => {
                Role::Server(Server { draws, len, heard: BTreeMap::new(), decoded: None })
            }
            _ => unreachable!("keys are dealt in the order of the parties"),
        }
    }
}
