//! The schemes without a code: every client sends one vector to the server, the server adds what arrives.
//!
//! McMahan et al., *Communication-Efficient Learning of Deep Networks from Decentralized Data*, AISTATS 2017, and the baselines
//! of Weng, *Secure Cooperative Gradient Coding*, section IX.
//!
//! | scheme | client k sends | server outputs |
//! |---|---|---|
//! | `ideal` | x_k, over links that never fail | Σ_k x_k |
//! | `fedavg` | x_k | Σ over arrivals |
//! | `gaussian` | x_k + σ g_k, g_k i.i.d. N(0, 1) | Σ over arrivals, noise included |
//! | `zero-sum` | x_k + u_k, Σ_k u_k = 0 | Σ over arrivals; the masks cancel only when all arrive |

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, Assemble, Scheme, Setup, Simulated};
use super::{
    Arithmetic, Clock, Decoded, Envelope, Input, Message, Numbers, Party, PartyId, Protocol, Reason, Secret,
    included,
};
use crate::algebra::field::{M31, M61};
use crate::algebra::quantise::{Modulus, Quantisation};
use crate::algebra::{KeyStream, Scalar, Symbol};
use crate::error::{Error, Result};
use crate::keys::{KeyKind, KeySource, pairwise_mask};
use crate::parallel;
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
    /// Fewest clients whose updates must arrive, 1 to `clients`, by default 1: the sum over fewer is an outage.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
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
    /// Fewest clients whose updates must arrive, 1 to `clients`, by default 1: the sum over fewer is an outage.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
}

impl Default for Ideal {
    fn default() -> Self {
        Self { arithmetic: Arithmetic::F32, quantisation: None }
    }
}

impl Default for FedAvg {
    fn default() -> Self {
        Self { arithmetic: Arithmetic::F32, quantisation: None, least_included: None }
    }
}

impl Default for Gaussian {
    fn default() -> Self {
        Self { key_std: 1.0, arithmetic: Arithmetic::F32, least_included: None }
    }
}

impl Default for ZeroSum {
    fn default() -> Self {
        Self { keys: KeyKind::default(), key_std: 1.0, arithmetic: Arithmetic::F64, least_included: None }
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

/// Zero-sum keys need somebody to cancel with.
pub(super) fn check_clients_for_keys(clients: usize) -> Result<()> {
    if clients >= 2 { Ok(()) } else { Err(Error::config("keys", "zero-sum keys need at least 2 clients")) }
}

impl Ideal {
    pub(super) fn build(&self, clients: usize, seed: Seed) -> Result<Box<dyn Aggregator>> {
        let numbers = self.arithmetic.numbers(self.quantisation.as_ref(), clients)?;
        Ok(session(Mask::None, numbers, Setup::new(clients, seed, Scheme::default()).reliable()))
    }
}

impl FedAvg {
    pub(super) fn assemble<A: Assemble>(&self, clients: usize, seed: Seed, to: A) -> Result<A::Output> {
        let numbers = self.arithmetic.numbers(self.quantisation.as_ref(), clients)?;
        let least_included = Some(included::visible(self.least_included, clients)?);
        let scheme = Scheme { least_included, ..Scheme::default() };
        Ok(assemble(Mask::None, numbers, Setup::new(clients, seed, scheme), to))
    }
}

impl Gaussian {
    pub(super) fn assemble<A: Assemble>(&self, clients: usize, seed: Seed, to: A) -> Result<A::Output> {
        check_std("key_std", self.key_std)?;
        let least_included = Some(included::visible(self.least_included, clients)?);
        let scheme = Scheme { key_std: Some(self.key_std), least_included, ..Scheme::default() };
        let numbers = real(self.arithmetic, "Gaussian noise does not exist over a field")?;
        Ok(assemble(Mask::Gaussian(self.key_std), numbers, Setup::new(clients, seed, scheme), to))
    }
}

impl ZeroSum {
    pub(super) fn assemble<A: Assemble>(&self, clients: usize, seed: Seed, to: A) -> Result<A::Output> {
        check_std("key_std", self.key_std)?;
        check_clients_for_keys(clients)?;
        let least_included = Some(included::visible(self.least_included, clients)?);
        let (keys, key_std) = (self.keys.name().into(), Some(self.key_std));
        let scheme = Scheme { keys, key_std, least_included, ..Scheme::default() };
        let rule = "one lost upload would leave a mask that is uniform over the field";
        let numbers = real(self.arithmetic, rule)?;
        Ok(assemble(Mask::ZeroSum(self.keys, self.key_std), numbers, Setup::new(clients, seed, scheme), to))
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
    assemble(mask, numbers, setup, Simulated)
}

fn assemble<A: Assemble>(mask: Mask, numbers: Numbers, setup: Setup, to: A) -> A::Output {
    let least = setup.scheme.least_included.unwrap_or(1);
    let protocol = Uncoded { clients: setup.clients, least, mask };
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
    /// What masks the updates.
    pub mask: Mask,
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
    /// Adds what arrives, d symbols each, from so many clients or more.
    Server(usize, usize, Option<Decoded<S>>),
}

impl<S: Symbol> Party<Upload<S>, S> for Role<S> {
    fn refusal(&self, message: &Envelope<Upload<S>>) -> Option<String> {
        let len = if let Self::Server(len, ..) = self { *len } else { 0 };
        malformed(message, len)
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Upload<S>>>) -> Vec<Envelope<Upload<S>>> {
        match self {
            Self::Client(id, masked) if clock.phase == 1 => {
                let body = Upload(Arc::clone(masked));
                return vec![Envelope { sent: clock, from: *id, to: PartyId::Server, body }];
            }
            Self::Server(_, least, decoded) if clock.phase == 2 => *decoded = Some(sum(&inbox, *least)),
            _ => {}
        }
        Vec::new()
    }

    fn decoded(&mut self) -> Option<Decoded<S>> {
        match self {
            Self::Client(..) => None,
            Self::Server(.., decoded) => decoded.take(),
        }
    }
}

fn sum<S: Symbol>(inbox: &[Envelope<Upload<S>>], least: usize) -> Decoded<S> {
    let included = inbox
        .iter()
        .filter_map(|envelope| match envelope.from {
            PartyId::Client(k) => Some(k),
            PartyId::Helper(_) | PartyId::Server => None,
        })
        .collect();
    let terms: Vec<_> = inbox.iter().map(|envelope| (S::Scalar::ONE, envelope.body.0.as_slice())).collect();
    match terms.first() {
        None => Decoded::lost(),
        Some(_) if terms.len() < least => Decoded::Outage(Reason::TooFew),
        Some((_, first)) => Decoded::exact(S::combine(first.len(), &terms), included),
    }
}

/// Client k's noise.
fn noise<S: Symbol>(k: u16, std: f64, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<S> {
    let mut noise = source.draw(KeyStream { purpose: "noise", round, a: k, b: k }, len);
    S::scale(&mut noise, S::Scalar::deviation(std));
    noise
}

impl<S: Symbol> Protocol<S> for Uncoded {
    type Message = Upload<S>;
    type Key = Key<S>;
    type Party = Role<S>;

    fn parties(&self) -> Vec<PartyId> {
        (0..self.clients as u16).map(PartyId::Client).chain([PartyId::Server]).collect()
    }

    fn phases(&self) -> u8 {
        2
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        let clients = self.clients;
        let mut keys: Vec<Key<S>> = match self.mask {
            Mask::None => (0..clients).map(|_| Key::Client(None)).collect(),
            Mask::Gaussian(std) => {
                parallel::map(0..clients as u16, |k| Key::Client(Some(noise(k, std, round, len, source))))
            }
            Mask::ZeroSum(kind, std) => {
                let masks = kind.masks(clients, len, std, round, source).into_iter();
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
            (PartyId::Client(k), Mask::Gaussian(std)) => Key::Client(Some(noise(k, std, round, len, source))),
            (PartyId::Client(k), Mask::ZeroSum(KeyKind::Pairwise, std)) => {
                Key::Client(Some(pairwise_mask(k.into(), self.clients, len, std, round, source)))
            }
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
            (Key::Server(len), _) => Role::Server(len, self.least, None),
            (Key::Client(_), None) => unreachable!("clients have inputs"),
        }
    }
}
