//! The schemes without a code: every client sends one vector to the server, the server adds what arrives.
//!
//! McMahan et al., *Communication-Efficient Learning of Deep Networks from Decentralized Data*, AISTATS 2017,
//! and the baselines of Weng et al., arXiv 2507.07565 (see [`cogc`](super::cogc)), section IX.
//!
//! | scheme | client k sends | server outputs |
//! |---|---|---|
//! | `ideal` | x_k, over links that never fail | Σ_k x_k |
//! | `fedavg` | x_k | Σ over arrivals |
//! | `gaussian` | x_k + σ g_k, g_k i.i.d. N(0, 1) | Σ over arrivals, noise included |
//! | `zero-sum` | x_k + u_k, Σ_k u_k = 0 | Σ over arrivals; the masks cancel only when all arrive |
//!
//! With `transmissions` = n the server asks every client whose upload did not arrive for the same vector
//! again, up to n times: uploads are sent in phases 1, 3, …, requests in between.

mod config;
mod upload;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Clock, Decoded, Envelope, Expects, Input, Party, PartyId, Phase, Protocol, Reason, Secret, Singles,
};
use crate::algebra::grid::Grid;
use crate::algebra::{KeyStream, Scalar, Symbol};
use crate::keys::{self, KeyKind, KeySource, pairwise_mask};
use crate::parallel;
use crate::precision;
use crate::wire::Form;
pub use config::{FedAvg, Gaussian, Ideal, ZeroSum};
pub(super) use config::{check_clients_for_keys, check_std, grid, real};
pub use upload::Upload;

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

    fn singles(&mut self) -> Vec<Arc<Vec<S>>> {
        match self {
            Self::Client(..) => Vec::new(),
            Self::Server(server) => server.uploads.values().cloned().collect(),
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

    fn phases(&self) -> Vec<Phase> {
        // Nothing is shared: the phase is there so that the upload is a client's second step under every
        // protocol.
        let share = Phase::shares("share", Expects::Nobody);
        let asked = (1..self.transmissions).flat_map(|_| {
            [
                Phase::announcement("request", crate::message::Role::Client),
                Phase::upload("upload again", Expects::Addressed),
            ]
        });
        [share, Phase::upload("upload", Expects::Everybody)].into_iter().chain(asked).collect()
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

    fn form(&self, phase: u8, len: usize) -> (Form, usize) {
        // Requests are empty.
        let len = if phase % 2 == 1 { len } else { 0 };
        (Form { len, members: 0, largest: f64::INFINITY }, len * S::BYTES)
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn resends(&self) -> bool {
        true
    }

    fn singles(&self) -> Singles {
        match self.mask {
            Mask::None => Singles::Plain,
            Mask::Gaussian(_) => Singles::Noisy,
            Mask::ZeroSum(..) => Singles::Hidden,
        }
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
