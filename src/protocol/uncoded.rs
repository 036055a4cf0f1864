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
//! | `zero-sum`, `residual_std` = ς | x_k + u_k + ς g_k | the same, noise of those who arrive included |
//! | `zero-sum`, `split = "best"` | x_k + noise of pairs + noise of its own ([`split`]) | Σ y_k / p_k over arrivals, an estimate |
//!
//! With `transmissions` = n the server asks every client whose upload did not arrive for the same vector
//! again, up to n times: uploads are sent in phases 1, 3, …, requests in between.
//!
//! Noise of which a part cancels in the sum is that of Allouah, Koloskova, El Firdoussi, Jaggi, Guerraoui,
//! *The Privacy Power of Correlated Noise in Decentralized Learning*, ICML 2024 (DECOR), and of Rodio, Chen,
//! Larsson, *Whisper D-SGD / CorN-DSGD*, 2025, with a server in the place of gossip, as in Vithana, Cadambe,
//! Calmon, Jeong, *Correlated Privacy Mechanisms for Differentially Private Distributed Mean Estimation*,
//! 2024, whose decoder is another. We read the programs of the first two, and of the third the abstract. With
//! R the covariance of all noise of a coordinate, whoever reads every upload sees x_k through noise of
//! variance 1/\[R⁻¹\]_kk; lost uploads only make that more. A sum over n of M clients keeps the variance
//! nς² + n (M − n) σ²/(M − 1).

mod config;
pub mod split;
mod upload;
mod zero_sum;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Clock, Decoded, Envelope, Expects, Input, Party, PartyId, Phase, Protocol, Reason, Secret, Singles,
};
use crate::algebra::grid::Grid;
use crate::algebra::{KeyStream, Scalar, Symbol};
use crate::keys::{self, Construction, KeySource, pairs};
use crate::parallel;
use crate::precision;
use crate::wire::Form;
pub use config::{FedAvg, Gaussian, Ideal};
pub(super) use config::{check_clients_for_keys, check_std, grid, real};
pub use upload::Upload;
pub use zero_sum::{Budget, SplitKind, ZeroSum};

/// What a client adds to its update before it sends it.
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// Nothing.
    None,
    /// Independent Gaussian noise of standard deviation σ.
    Gaussian(f64),
    /// Zero-sum keys, and noise of its own.
    ZeroSum {
        /// How the keys are made.
        keys: Construction,
        /// σ of the keys.
        std: f64,
        /// Standard deviations of what each client adds alone; empty where it adds nothing.
        residual: Arc<[f64]>,
    },
}

impl Mask {
    /// Zero-sum keys and nothing else.
    #[must_use]
    pub fn zero_sum(keys: impl Into<Construction>, std: f64) -> Self {
        Self::ZeroSum { keys: keys.into(), std, residual: Arc::default() }
    }
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
    /// How many times each client's upload counts where the server estimates the sum over all; without it the
    /// server adds what arrives.
    pub weights: Option<Arc<[f64]>>,
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
    weights: Option<Arc<[f64]>>,
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
        if let Some(weights) = &self.weights {
            return self.estimate(weights);
        }
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

    /// Nothing that arrived is the estimate 0. There are no such weights over a field.
    fn estimate(&self, weights: &[f64]) -> Decoded<S> {
        let weight = |k: u16| S::Scalar::deviation(weights[usize::from(k)]);
        let terms: Vec<_> = self.uploads.iter().map(|(k, upload)| (weight(*k), upload.as_slice())).collect();
        let included = self.uploads.keys().copied().collect();
        Decoded::Estimate { sum: S::combine(self.len, &terms), included }
    }
}

/// The phase in which the server adds, after as many transmissions, each in an odd phase.
fn last_phase(transmissions: u32) -> u8 {
    (2 * transmissions) as u8
}

impl Uncoded {
    /// Updates in the clear, sent once.
    #[must_use]
    pub fn new(clients: usize) -> Self {
        Self { clients, least: 1, transmissions: 1, mask: Mask::None, grid: None, weights: None }
    }

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

    /// Client k's zero-sum mask with what it adds alone.
    fn with_residual<S: Symbol>(
        &self,
        k: u16,
        mut mask: Vec<S>,
        residual: &[f64],
        round: u64,
        source: &impl KeySource<S>,
    ) -> Key<S> {
        if let Some(std) = residual.get(usize::from(k)) {
            let noise = self.noise(k, *std, round, mask.len(), source);
            S::axpy(&mut mask, S::Scalar::ONE, &noise);
        }
        Key::Client(Some(mask))
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
        let mut keys: Vec<Key<S>> = match &self.mask {
            Mask::None => (0..clients).map(|_| Key::Client(None)).collect(),
            Mask::Gaussian(std) => parallel::map(0..clients as u16, |k| {
                Key::Client(Some(self.noise(k, *std, round, len, source)))
            }),
            Mask::ZeroSum { keys, std, residual } => {
                let masks = keys.masks(clients, len, *std, self.grid.as_ref(), round, source);
                parallel::map((0..).zip(masks), |(k, mask)| {
                    self.with_residual(k, mask, residual, round, source)
                })
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
            Mask::ZeroSum { .. } => Singles::Hidden,
        }
    }

    fn own_key(&self, id: PartyId, round: u64, len: usize, source: &impl KeySource<S>) -> Option<Key<S>> {
        let PartyId::Client(k) = id else { return Some(Key::Server(len)) };
        Some(match &self.mask {
            Mask::None => Key::Client(None),
            Mask::Gaussian(std) => Key::Client(Some(self.noise(k, *std, round, len, source))),
            Mask::ZeroSum { keys, std, residual } => {
                let (own, grid) = (usize::from(k), self.grid.as_ref());
                let of_pairs = keys.of_pairs(self.clients, *std)?;
                let with = |j: usize| of_pairs(own, j);
                let mask = pairs::mask_of(own, self.clients, len, with, grid, round, source);
                self.with_residual(k, mask, residual, round, source)
            }
        })
    }

    fn draws(&self, id: PartyId, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Vec<S>> {
        let (PartyId::Client(k), Mask::ZeroSum { keys, std, residual }) = (id, &self.mask) else {
            return Vec::new();
        };
        let own = usize::from(k);
        match keys.of_pairs(self.clients, *std) {
            Some(of_pairs) => pairs::draws_of(own, self.clients, len, |j| of_pairs(own, j), round, source),
            None => {
                residual.get(own).map(|std| self.noise(k, *std, round, len, source)).into_iter().collect()
            }
        }
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
                weights: self.weights.clone(),
                uploads: BTreeMap::new(),
                decoded: None,
            }),
            (Key::Client(_), None) => unreachable!("clients have inputs"),
        }
    }
}
