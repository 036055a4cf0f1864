//! The schemes without a code: every client sends one vector to the server, the server adds what arrives.
//!
//! McMahan et al., *Communication-Efficient Learning of Deep Networks from Decentralized Data*, AISTATS 2017, and the baselines
//! of Weng et al., arXiv 2507.07565 (see [`cogc`](super::cogc)), section IX.
//!
//! | scheme | client k sends | server outputs |
//! |---|---|---|
//! | `ideal` | x_k, over links that never fail | Σ_k x_k |
//! | `fedavg` | x_k | Σ over arrivals |
//! | `gaussian` | x_k + σ g_k, g_k i.i.d. N(0, 1) | Σ over arrivals, noise included |
//! | `zero-sum` | x_k + u_k, Σ_k u_k = 0 | Σ over arrivals; the masks cancel only when all arrive |
//!
//! With `transmissions` = n the server asks every client whose upload did not arrive for the same vector again, up to n times: uploads
//! are sent in phases 1, 3, …, requests in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, Assemble, Scheme, Setup, Simulated};
use super::{
    Arithmetic, Clock, Decoded, Envelope, Input, Message, Numbers, Party, PartyId, Protocol, Reason, Secret,
    included,
};
use crate::algebra::field::{M31, M61};
use crate::algebra::grid::{Grid, Public};
use crate::algebra::quantise::{Modulus, Quantisation};
use crate::algebra::{KeyStream, Scalar, Symbol};
use crate::error::{Error, Result};
use crate::keys::{self, KeyKind, KeySource, pairwise_mask};
use crate::parallel;
use crate::precision;
use crate::seed::Seed;

/// Plain FedAvg over links that never fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ideal {
    /// What is sent and summed: "f32", "f64", or "field" (quantised updates over a prime field).
    pub arithmetic: Arithmetic,
    /// How updates become field symbols, with arithmetic = "field".
    pub quantisation: Option<Quantisation>,
}

/// FedAvg over the failing links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedAvg {
    /// What is sent and summed: "f32", "f64", or "field" (quantised updates over a prime field).
    pub arithmetic: Arithmetic,
    /// How updates become field symbols, with arithmetic = "field".
    pub quantisation: Option<Quantisation>,
    /// Fewest clients whose updates must arrive, 1 to `clients`, by default 1: the sum over fewer is an outage.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// Times that a client sends its upload at most, 1 to 100: the server asks again for what did not arrive.
    #[schemars(range(min = 1, max = 100))]
    pub transmissions: u32,
}

/// Local Gaussian noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gaussian {
    /// Standard deviation σ of the noise per coordinate, in the unit of the update; at least 0.
    #[schemars(range(min = 0.0))]
    pub key_std: f64,
    /// Precision of what is sent and summed: "f32" or "f64".
    pub arithmetic: Arithmetic,
    /// Whether updates and keys are rounded to a public grid of powers of two before they are added, so that what is sent hides them bit
    /// by bit and sums are exact; without one privacy is a statement about real numbers only.
    pub grid: bool,
    /// Fewest clients whose updates must arrive, 1 to `clients`, by default 1: the sum over fewer is an outage.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// Times that a client sends its upload at most, 1 to 100: the server asks again for what did not arrive.
    #[schemars(range(min = 1, max = 100))]
    pub transmissions: u32,
}

/// Zero-sum masks without a code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ZeroSum {
    /// Key construction: "plain", "fair" or "pairwise".
    pub keys: KeyKind,
    /// Standard deviation σ of the keys per coordinate, in the unit of the update; at least 0.
    #[schemars(range(min = 0.0))]
    pub key_std: f64,
    /// Precision of what is sent and summed: "f32" or "f64".
    pub arithmetic: Arithmetic,
    /// Whether updates and keys are rounded to a public grid of powers of two before they are added, so that what is sent hides them bit
    /// by bit and sums are exact; without one privacy is a statement about real numbers only.
    pub grid: bool,
    /// Fewest clients whose updates must arrive, 1 to `clients`, by default 1: the sum over fewer is an outage.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// Times that a client sends its upload at most, 1 to 100: the server asks again for what did not arrive.
    #[schemars(range(min = 1, max = 100))]
    pub transmissions: u32,
}

impl Default for Ideal {
    fn default() -> Self {
        Self { arithmetic: Arithmetic::F32, quantisation: None }
    }
}

impl Default for FedAvg {
    fn default() -> Self {
        Self { arithmetic: Arithmetic::F32, quantisation: None, least_included: None, transmissions: 1 }
    }
}

impl Default for Gaussian {
    fn default() -> Self {
        Self { key_std: 1.0, arithmetic: Arithmetic::F32, grid: true, least_included: None, transmissions: 1 }
    }
}

impl Default for ZeroSum {
    fn default() -> Self {
        Self {
            keys: KeyKind::default(),
            key_std: 1.0,
            arithmetic: Arithmetic::F64,
            grid: true,
            least_included: None,
            transmissions: 1,
        }
    }
}

/// A standard deviation is a finite number ≥ 0.
pub(super) fn check_std(key: &str, std: f64) -> Result<()> {
    if std.is_finite() && std >= 0.0 {
        Ok(())
    } else {
        Err(Error::config(key, format!("{std} is not a standard deviation; give a finite number ≥ 0")))
    }
}

/// As many as an attempt has phases for.
fn check_transmissions(transmissions: u32) -> Result<()> {
    if (1..=100).contains(&transmissions) {
        return Ok(());
    }
    Err(Error::config("transmissions", format!("{transmissions} is out of range; give 1 to 100")))
}

/// Zero-sum keys need somebody to cancel with.
pub(super) fn check_clients_for_keys(clients: usize) -> Result<()> {
    if clients >= 2 { Ok(()) } else { Err(Error::config("keys", "zero-sum keys need at least 2 clients")) }
}

impl Ideal {
    pub(super) fn build(&self, clients: usize, seed: Seed, public: &Public) -> Result<Box<dyn Aggregator>> {
        let numbers = self.arithmetic.numbers(self.quantisation.as_ref(), clients)?;
        let setup = Setup::new(clients, seed, Scheme::default()).reliable().for_inputs(public, None);
        Ok(session(Mask::None, numbers, setup))
    }
}

impl FedAvg {
    pub(super) fn assemble<A: Assemble>(
        &self,
        clients: usize,
        seed: Seed,
        public: &Public,
        to: A,
    ) -> Result<A::Output> {
        let numbers = self.arithmetic.numbers(self.quantisation.as_ref(), clients)?;
        check_transmissions(self.transmissions)?;
        let least_included = Some(included::visible(self.least_included, clients)?);
        let scheme = Scheme { least_included, ..Scheme::default() };
        let setup = Setup::new(clients, seed, scheme).for_inputs(public, None);
        Ok(assemble(Mask::None, numbers, self.transmissions, setup, to))
    }
}

impl Gaussian {
    pub(super) fn assemble<A: Assemble>(
        &self,
        clients: usize,
        seed: Seed,
        public: &Public,
        to: A,
    ) -> Result<A::Output> {
        check_std("key_std", self.key_std)?;
        check_transmissions(self.transmissions)?;
        let least_included = Some(included::visible(self.least_included, clients)?);
        let scheme = Scheme { key_std: Some(self.key_std), least_included, ..Scheme::default() };
        let numbers = real(self.arithmetic, "Gaussian noise does not exist over a field")?;
        let stds = (self.key_std, self.key_std);
        let grid = grid(self.grid, clients, stds, &numbers, public);
        let setup = Setup::new(clients, seed, scheme).for_inputs(public, grid);
        Ok(assemble(Mask::Gaussian(self.key_std), numbers, self.transmissions, setup, to))
    }
}

impl ZeroSum {
    pub(super) fn assemble<A: Assemble>(
        &self,
        clients: usize,
        seed: Seed,
        public: &Public,
        to: A,
    ) -> Result<A::Output> {
        check_std("key_std", self.key_std)?;
        check_transmissions(self.transmissions)?;
        check_clients_for_keys(clients)?;
        let least_included = Some(included::visible(self.least_included, clients)?);
        let (keys, key_std) = (self.keys.name().into(), Some(self.key_std));
        let scheme = Scheme { keys, key_std, least_included, ..Scheme::default() };
        let rule = "one lost upload would leave a mask that is uniform over the field";
        let numbers = real(self.arithmetic, rule)?;
        let stds = self.keys.stds(clients, self.key_std);
        let grid = grid(self.grid, clients, stds, &numbers, public);
        let setup = Setup::new(clients, seed, scheme).for_inputs(public, grid);
        Ok(assemble(Mask::ZeroSum(self.keys, self.key_std), numbers, self.transmissions, setup, to))
    }
}

/// The grid of a scheme whose keys have these smallest and largest standard deviations, if it is `wanted` and there are real numbers.
pub(super) fn grid(
    wanted: bool,
    clients: usize,
    stds: (f64, f64),
    numbers: &Numbers,
    public: &Public,
) -> Option<Grid> {
    match numbers {
        Numbers::Real(single) if wanted => Grid::new(clients, stds, *single, public),
        _ => None,
    }
}

/// Floating point, for schemes that make no sense over a field.
pub(super) fn real(arithmetic: Arithmetic, rule: &str) -> Result<Numbers> {
    match arithmetic {
        Arithmetic::Field => Err(Error::config("arithmetic", format!("{rule}; take \"f32\" or \"f64\""))),
        real => real.numbers(None, 0),
    }
}

pub(super) fn session(mask: Mask, numbers: Numbers, setup: Setup) -> Box<dyn Aggregator> {
    assemble(mask, numbers, 1, setup, Simulated)
}

fn assemble<A: Assemble>(mask: Mask, numbers: Numbers, transmissions: u32, setup: Setup, to: A) -> A::Output {
    let least = setup.scheme.least_included.unwrap_or(1);
    let protocol = Uncoded { clients: setup.clients, least, transmissions, mask, grid: setup.grid };
    match numbers {
        Numbers::Real(single) => to.real(protocol, single, setup),
        Numbers::Field(Modulus::M61, quantiser) => to.field::<M61, _>(protocol, quantiser, setup),
        Numbers::Field(Modulus::M31, quantiser) => to.field::<M31, _>(protocol, quantiser, setup),
    }
}

/// What a client adds to its update before it sends it; the number is σ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mask {
    /// Nothing.
    None,
    /// Independent Gaussian noise.
    Gaussian(f64),
    /// Zero-sum keys.
    ZeroSum(KeyKind, f64),
}

/// One upload per client, summed by the server.
#[derive(Clone, Debug)]
pub struct Uncoded {
    /// Number of clients M.
    pub clients: usize,
    /// Fewest clients in a sum.
    pub least: usize,
    /// Times that an upload is sent at most.
    pub transmissions: u32,
    /// What masks the updates.
    pub mask: Mask,
    /// What masks are rounded to, if anything.
    pub grid: Option<Grid>,
}

/// One vector, here a client's masked update of d symbols.
#[derive(Clone, Debug)]
pub struct Upload<S>(pub Arc<Vec<S>>);

impl<S: Symbol> Message<S> for Upload<S> {
    fn bytes(&self) -> usize {
        self.0.len() * S::BYTES
    }

    fn reveals(&self) -> Vec<Vec<S>> {
        vec![self.0.to_vec()]
    }
}

/// What a party holds before the round.
pub enum Key<S> {
    /// A mask, where there is one.
    Client(Option<Vec<S>>),
    /// Nothing but the length d of an update.
    Server(usize),
}

impl<S: Symbol> Secret<S> for Key<S> {
    fn held(&self) -> Vec<&[S]> {
        match self {
            Self::Client(mask) => mask.iter().map(Vec::as_slice).collect(),
            Self::Server(_) => Vec::new(),
        }
    }
}

/// What is wrong with an upload to the server that must have `len` symbols.
pub(super) fn malformed<S>(message: &Envelope<Upload<S>>, len: usize) -> Option<String> {
    let got = message.body.0.len();
    match (message.from, message.to) {
        (PartyId::Client(_), PartyId::Server) if got == len => None,
        (PartyId::Client(_), PartyId::Server) => {
            Some(format!("the upload has {got} symbols instead of {len}"))
        }
        _ => Some("uploads go from clients to the server".into()),
    }
}

/// The two roles.
pub enum Role<S> {
    /// Sends its masked update in phase 1.
    Client(PartyId, Arc<Vec<S>>),
    /// Adds what arrives.
    Server(Server<S>),
}

impl<S: Symbol> Party<Upload<S>, S> for Role<S> {
    fn refusal(&self, message: &Envelope<Upload<S>>) -> Option<String> {
        match self {
            Self::Server(server) => malformed(message, server.len),
            Self::Client(..) if message.from == PartyId::Server && message.body.0.is_empty() => None,
            Self::Client(..) => Some("clients receive requests of the server only".into()),
        }
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Upload<S>>>) -> Vec<Envelope<Upload<S>>> {
        match self {
            Self::Client(id, masked) if clock.phase == 1 || !inbox.is_empty() => {
                let body = Upload(Arc::clone(masked));
                return vec![Envelope { sent: clock, from: *id, to: PartyId::Server, body }];
            }
            Self::Server(server) => return server.step(clock, inbox),
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

/// The server's state.
pub struct Server<S> {
    clients: usize,
    /// d.
    len: usize,
    /// Fewest clients in a sum.
    least: usize,
    transmissions: u32,
    grid: Option<Grid>,
    /// What arrived in this attempt.
    uploads: BTreeMap<u16, Arc<Vec<S>>>,
    decoded: Option<Decoded<S>>,
}

impl<S: Symbol> Server<S> {
    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Upload<S>>>) -> Vec<Envelope<Upload<S>>> {
        if clock.phase == 0 {
            self.uploads.clear();
        }
        for envelope in inbox {
            if let PartyId::Client(k) = envelope.from {
                self.uploads.insert(k, envelope.body.0);
            }
        }
        if clock.phase == last_phase(self.transmissions) {
            self.decoded = Some(self.sum());
            return Vec::new();
        }
        // After every transmission but the last.
        let asks = clock.phase > 0 && clock.phase.is_multiple_of(2);
        let missing = (0..self.clients as u16).filter(|k| asks && !self.uploads.contains_key(k));
        let again = |k| Envelope {
            sent: clock,
            from: PartyId::Server,
            to: PartyId::Client(k),
            body: Upload(Arc::default()),
        };
        missing.map(again).collect()
    }

    fn sum(&self) -> Decoded<S> {
        if self.uploads.is_empty() {
            return Decoded::lost();
        }
        if self.uploads.len() < self.least {
            return Decoded::Outage(Reason::TooFew);
        }
        let uploads: Vec<&[S]> = self.uploads.values().map(|upload| upload.as_slice()).collect();
        let terms: Vec<_> = uploads.iter().map(|upload| (S::Scalar::ONE, *upload)).collect();
        let error = precision::of_plain_sum(&uploads, self.grid.as_ref());
        let included = self.uploads.keys().copied().collect();
        Decoded::Sum { sum: S::combine(self.len, &terms), included, error }
    }
}

/// The phase in which the server adds, after as many transmissions, each in an odd phase.
fn last_phase(transmissions: u32) -> u8 {
    (2 * transmissions) as u8
}

impl Uncoded {
    /// Client k's noise.
    fn noise<S: Symbol>(
        &self,
        k: u16,
        std: f64,
        round: u64,
        len: usize,
        source: &impl KeySource<S>,
    ) -> Vec<S> {
        let stream = KeyStream { purpose: "noise", round, a: k, b: k };
        keys::noise(stream, len, S::Scalar::deviation(std), self.grid.as_ref(), source)
    }
}

impl<S: Symbol> Protocol<S> for Uncoded {
    type Message = Upload<S>;
    type Key = Key<S>;
    type Party = Role<S>;

    fn parties(&self) -> Vec<PartyId> {
        (0..self.clients as u16).map(PartyId::Client).chain([PartyId::Server]).collect()
    }

    fn phases(&self) -> u8 {
        last_phase(self.transmissions)
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        let clients = self.clients;
        let mut keys: Vec<Key<S>> = match self.mask {
            Mask::None => (0..clients).map(|_| Key::Client(None)).collect(),
            Mask::Gaussian(std) => parallel::map(0..clients as u16, |k| {
                Key::Client(Some(self.noise(k, std, round, len, source)))
            }),
            Mask::ZeroSum(kind, std) => {
                let masks = kind.masks(clients, len, std, self.grid.as_ref(), round, source).into_iter();
                masks.map(|mask| Key::Client(Some(mask))).collect()
            }
        };
        keys.push(Key::Server(len));
        keys
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn own_key(&self, id: PartyId, round: u64, len: usize, source: &impl KeySource<S>) -> Option<Key<S>> {
        Some(match (id, self.mask) {
            (PartyId::Helper(_) | PartyId::Server, _) => Key::Server(len),
            (PartyId::Client(_), Mask::None) => Key::Client(None),
            (PartyId::Client(k), Mask::Gaussian(std)) => {
                Key::Client(Some(self.noise(k, std, round, len, source)))
            }
            (PartyId::Client(k), Mask::ZeroSum(KeyKind::Pairwise, std)) => Key::Client(Some(pairwise_mask(
                k.into(),
                self.clients,
                len,
                std,
                self.grid.as_ref(),
                round,
                source,
            ))),
            (PartyId::Client(_), Mask::ZeroSum(..)) => return None,
        })
    }

    fn party(&self, id: PartyId, key: Key<S>, input: Option<&dyn Input<S>>) -> Role<S> {
        match (key, input) {
            (Key::Client(mask), Some(input)) => {
                let mut masked = mask.unwrap_or_else(|| vec![S::zero(); input.len()]);
                input.add_to(&mut masked);
                Role::Client(id, Arc::new(masked))
            }
            (Key::Server(len), _) => Role::Server(Server {
                clients: self.clients,
                len,
                least: self.least,
                transmissions: self.transmissions,
                grid: self.grid,
                uploads: BTreeMap::new(),
                decoded: None,
            }),
            (Key::Client(_), None) => unreachable!("clients have inputs"),
        }
    }
}
