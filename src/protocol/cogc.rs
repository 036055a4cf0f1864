//! Cooperative gradient coding, with secret keys (SecCoGC, Fair-SecCoGC) or without (CoGC).
//!
//! CoGC: Weng, Li, Xiao, Skoglund, *Cooperative Gradient Coding for Semi-Decentralized Federated Learning*,
//! GLOBECOM 2024; Weng et al., *Cooperative Gradient Coding*, IEEE Trans. Commun. 73(12), 2025.
//!
//! SecCoGC: Weng, Ren, Zhao, Xiao, Skoglund, *Coding-Enforced Robust Secure Aggregation for Federated
//! Learning Under Unreliable Communication*, arXiv 2507.07565, version 4, 2025; earlier versions:
//! *Secure Cooperative Gradient Coding: Optimality, Reliability, and Global Privacy*, sections III–IV.
//! Section numbers, here and elsewhere, are those of the earlier versions.
//!
//! | paper | here | shape |
//! |---|---|---|
//! | M, s | `code.clients()`, `code.stragglers()` | |
//! | B | `code` | M × M, s+1 non-zeros a row |
//! | x_k | `input` | d |
//! | u_k, Σ_k u_k = 0 | `Key::mask` | d |
//! | v_mk, Σ_k v_mk = 0 | `Key::links` | d for each row m that k is in |
//! | y_mk = b_mk (x_k + u_k) + v_mk | [`CoGcMessage::Share`] | d |
//! | S_m = Σ_k y_mk | [`CoGcMessage::Sum`], [`CoGcMessage::Partial`] | d |
//!
//! Phase 0, gradient sharing: client k sends y_mk to every m ≠ k whose row contains k. Phase 1, upload:
//! client m sends S_m when all its shares arrived. The server then looks for a with supp(a) in the received
//! rows and aᵀB = 1ᵀ and outputs Σ_m a_m S_m = Σ_k x_k, or an outage. The masks are added *before* coding;
//! that is what makes them cancel for every decoding vector (the key condition).
//!
//! With the decoder `gc-plus` ([`stack`]) client m sends what it has, with the list of the shares in it, and
//! the server decodes from the rows of all attempts of the round; with `gc-plus-partial` it takes the largest
//! partial sum where the sum over all is out of reach.
//!
//! With `repeats` = r both phases are played r times in an attempt, whatever arrives, before the server
//! decodes once from all of it: shares are sent in phases 0, 2, …, sums in phases 1, 3, ….

mod config;
mod message;
mod optimised;
mod server;
pub mod stack;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Clock, Decoded, Envelope, Expects, Input, Party, PartyId, Phase, Protocol, Secret};
use crate::algebra::grid::{Grid, Public};
use crate::algebra::{Scalar, Symbol};
use crate::coding::{Code, Coefficient, GradientCode};
use crate::keys::{Construction, KeyKind, KeySource, link_keys, pairs, pairwise_mask};
use crate::parallel;
use crate::precision::{Sizes, Weighted};
use crate::wire::Form;
pub use config::{CoGcConfig, DecoderKind, SecCoGcConfig};
pub use message::CoGcMessage;
pub use optimised::Optimise;
pub use server::Server;
pub use stack::Codes;

/// The protocol.
#[derive(Clone, Debug)]
pub struct CoGc<K = f64> {
    /// The gradient code B of every attempt.
    pub codes: Arc<Codes<K>>,
    /// Key construction and σ; `None` is CoGC.
    pub keys: Option<(Construction, f64)>,
    /// Standard deviation of the link keys v_mk; 0 for none, and with `gc-plus`.
    pub link_std: f64,
    /// What masked inputs are multiples of, if there is a grid.
    pub grid: Option<Grid>,
    /// What everybody knows of the inputs.
    pub public: Public,
    /// Fewest clients in a sum; only partial ones have fewer than all.
    pub least: usize,
}

impl<K: Coefficient> CoGc<K> {
    /// What the server knows of the sizes of masked inputs.
    fn sizes(&self) -> Sizes {
        let clients = self.codes.first().clients();
        let unkeyed = || vec![0.0; clients];
        let keys = self.keys.as_ref().map_or_else(unkeyed, |(masks, std)| masks.variances(clients, *std));
        let links = self.link_std * self.link_std;
        Sizes { keys, links, public: self.public, grid: self.grid }
    }
}

/// The phases of an attempt with a code of straggler tolerance s and as many repeats; with s = 0 nothing is
/// shared.
#[must_use]
pub fn phases(stragglers: usize, repeats: u32) -> Vec<Phase> {
    let waits = if stragglers > 0 { Expects::Everybody } else { Expects::Nobody };
    let once = [Phase::shares("share", waits), Phase::upload("sum", Expects::Everybody)];
    (0..repeats).flat_map(|_| once).collect()
}

/// What a party holds before the round.
pub enum Key<S> {
    /// A client's keys.
    Client {
        /// u_k; none without keys.
        mask: Option<Vec<S>>,
        /// (m, v_mk) for every row m that contains k.
        links: Vec<(usize, Vec<S>)>,
    },
    /// Nothing but the length d of an update.
    Server(usize),
}

impl<S: Symbol> Secret<S> for Key<S> {
    fn held(&self) -> Vec<&[S]> {
        match self {
            Self::Client { mask, links } => {
                mask.iter().chain(links.iter().map(|(_, key)| key)).map(Vec::as_slice).collect()
            }
            Self::Server(_) => Vec::new(),
        }
    }
}

/// The two roles.
pub enum Role<S: Symbol> {
    /// Shares, then sums what it received.
    Client(Client<S>),
    /// Decodes.
    Server(Box<Server<S>>),
}

/// A client's state.
pub struct Client<S: Symbol> {
    index: usize,
    codes: Arc<Codes<S::Scalar>>,
    incomplete: bool,
    /// x_k + u_k.
    masked: Arc<Vec<S>>,
    links: Vec<(usize, Vec<S>)>,
}

impl<S: Symbol<Scalar: Coefficient>> Client<S> {
    /// The share y_mk for row `row` of `code`.
    fn share(&self, code: &GradientCode<S::Scalar>, row: usize) -> CoGcMessage<S> {
        let scale = code.coefficient(row, self.index);
        match self.links.iter().find(|(m, _)| *m == row) {
            None => CoGcMessage::Share { scale, vector: Arc::clone(&self.masked) },
            Some((_, key)) => {
                let mut vector = key.clone();
                S::axpy(&mut vector, scale, &self.masked);
                CoGcMessage::Share { scale: S::Scalar::ONE, vector: Arc::new(vector) }
            }
        }
    }

    fn send_shares(&self, code: &GradientCode<S::Scalar>, sent: Clock) -> Vec<Envelope<CoGcMessage<S>>> {
        let rows = code.holders(self.index).iter().filter(|&&row| row != self.index);
        rows.map(|&row| Envelope {
            sent,
            from: PartyId::Client(self.index as u16),
            to: PartyId::Client(row as u16),
            body: self.share(code, row),
        })
        .collect()
    }

    fn refusal(&self, message: &Envelope<CoGcMessage<S>>) -> Option<String> {
        let (PartyId::Client(from), CoGcMessage::Share { vector, .. }) = (message.from, &message.body) else {
            return Some("clients receive shares of clients only".into());
        };
        if !self.codes.first().support(self.index).contains(&usize::from(from)) {
            return Some("the sender is not in the receiver's code row".into());
        }
        let (got, want) = (vector.len(), self.masked.len());
        (got != want).then(|| format!("the share has {got} symbols instead of {want}"))
    }

    /// S_m when every share of the row is there; with `gc-plus` what there is of it.
    fn sum(
        &self,
        code: &GradientCode<S::Scalar>,
        inbox: Vec<Envelope<CoGcMessage<S>>>,
    ) -> Option<CoGcMessage<S>> {
        let support = code.support(self.index);
        let mut shares: Vec<(usize, CoGcMessage<S>)> = vec![(self.index, self.share(code, self.index))];
        shares.extend(inbox.into_iter().filter_map(|envelope| match envelope.from {
            PartyId::Client(from) => Some((usize::from(from), envelope.body)),
            PartyId::Helper(_) | PartyId::Server => None,
        }));
        if shares.len() < support.len() && !self.incomplete {
            return None;
        }
        shares.sort_by_key(|(k, _)| *k);
        let terms: Vec<_> = shares
            .iter()
            .filter_map(|(_, share)| match share {
                CoGcMessage::Share { scale, vector } => Some((*scale, vector.as_slice())),
                CoGcMessage::Sum(_) | CoGcMessage::Partial { .. } => None,
            })
            .collect();
        let sum = Arc::new(S::combine(self.masked.len(), &terms));
        Some(if self.incomplete {
            let held = support.iter().map(|k| shares.iter().any(|(from, _)| from == k)).collect();
            CoGcMessage::Partial { held, sum }
        } else {
            CoGcMessage::Sum(sum)
        })
    }
}

impl<S: Symbol<Scalar: Coefficient>> Party<CoGcMessage<S>, S> for Role<S> {
    fn refusal(&self, message: &Envelope<CoGcMessage<S>>) -> Option<String> {
        match self {
            Self::Client(client) => client.refusal(message),
            Self::Server(server) => server.refusal(message),
        }
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<CoGcMessage<S>>>) -> Vec<Envelope<CoGcMessage<S>>> {
        let codes = match &*self {
            Self::Client(client) => &client.codes,
            Self::Server(server) => &server.codes,
        };
        let (repeats, phase) = (codes.repeats(), u32::from(clock.phase));
        // The server takes what was sent with the code of the repeat before.
        let repeat = if matches!(self, Self::Server(_)) { (phase / 2).saturating_sub(1) } else { phase / 2 };
        let code = codes.of(clock.attempt * repeats + repeat);
        match self {
            Self::Client(_) if phase == 2 * repeats => {}
            Self::Client(client) if phase.is_multiple_of(2) => return client.send_shares(&code, clock),
            Self::Client(client) => {
                let from = PartyId::Client(client.index as u16);
                let upload = client.sum(&code, inbox);
                let upload = upload.map(|body| Envelope { sent: clock, from, to: PartyId::Server, body });
                return upload.into_iter().collect();
            }
            Self::Server(server) if phase > 0 && phase.is_multiple_of(2) => {
                server.take(&code, &inbox);
                if phase == 2 * repeats {
                    server.decoded = Some(server.decode());
                }
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

impl<S: Symbol<Scalar: Coefficient>> Protocol<S> for CoGc<S::Scalar> {
    type Message = CoGcMessage<S>;
    type Key = Key<S>;
    type Party = Role<S>;

    fn parties(&self) -> Vec<PartyId> {
        (0..self.codes.first().clients() as u16).map(PartyId::Client).chain([PartyId::Server]).collect()
    }

    fn phases(&self) -> Vec<Phase> {
        phases(self.codes.first().stragglers(), self.codes.repeats())
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        let code = self.codes.first();
        let clients = code.clients();
        let masks: Vec<Option<Vec<S>>> = match &self.keys {
            None => vec![None; clients],
            Some((construction, std)) => construction
                .masks(clients, len, *std, self.grid.as_ref(), round, source)
                .into_iter()
                .map(Some)
                .collect(),
        };
        let mut links: Vec<Vec<(usize, Vec<S>)>> = vec![Vec::new(); clients];
        if self.link_std > 0.0 && code.stragglers() > 0 {
            let rows: Vec<Vec<Vec<S>>> = parallel::map(0..clients, |row| {
                link_keys(row, code.support(row), len, self.link_std, round, source)
            });
            for (row, row_keys) in rows.into_iter().enumerate() {
                for (&k, key) in code.support(row).iter().zip(row_keys) {
                    links[k].push((row, key));
                }
            }
        }
        let keys = masks.into_iter().zip(links).map(|(mask, links)| Key::Client { mask, links });
        keys.chain([Key::Server(len)]).collect()
    }

    fn form(&self, phase: u8, len: usize) -> (Form, usize) {
        let listed = phase % 2 == 1 && self.codes.takes_incomplete();
        let members = self.codes.first().stragglers() + 1;
        let list = if listed { members.div_ceil(8) } else { 0 };
        (Form { len, members, largest: f64::INFINITY }, list + len * S::BYTES)
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn imprecision(&self, scale: f64, update: f64) -> Option<f64> {
        let code = self.codes.first();
        let (masks, std) = self.keys.as_ref().filter(|_| S::ROUNDOFF > 0.0)?;
        let stds = masks.stds(code.clients(), scale * std);
        let keys = Some((masks.clone(), scale * std));
        let scaled = Self { keys, link_std: scale * self.link_std, ..self.clone() };
        let grid = self.grid.and_then(|_| Grid::new(code.clients(), stds, S::BYTES < 8, &self.public));
        // Consecutive rows are the worst for the cyclic codes.
        let rows: Vec<usize> = (0..code.clients() - code.stragglers()).collect();
        let rows = if code.decodes(&rows) { rows } else { (0..code.clients()).collect() };
        let weights = code.decode(&rows)?;
        let terms: Vec<Weighted<'_, S>> =
            rows.iter().zip(weights).map(|(&m, weight)| Weighted::of(code, m, weight, &[])).collect();
        Some(Sizes { grid, ..scaled.sizes() }.expected(update, &terms))
    }

    fn own_key(&self, id: PartyId, round: u64, len: usize, source: &impl KeySource<S>) -> Option<Key<S>> {
        let mask = match (id, &self.keys) {
            (PartyId::Helper(_) | PartyId::Server, _) => return Some(Key::Server(len)),
            (PartyId::Client(_), None) => None,
            (PartyId::Client(k), Some((Construction::Closed(KeyKind::Pairwise), std)))
                if self.link_std == 0.0 =>
            {
                let clients = self.codes.first().clients();
                Some(pairwise_mask(k.into(), clients, len, *std, self.grid.as_ref(), round, source))
            }
            (PartyId::Client(_), Some(_)) => return None,
        };
        Some(Key::Client { mask, links: Vec::new() })
    }

    fn draws(&self, id: PartyId, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Vec<S>> {
        let (PartyId::Client(k), Some((construction, std))) = (id, &self.keys) else { return Vec::new() };
        let (k, clients) = (usize::from(k), self.codes.first().clients());
        let of_pairs = construction.of_pairs(clients, *std);
        of_pairs.map_or_else(Vec::new, |std| pairs::draws_of(k, clients, len, |j| std(k, j), round, source))
    }

    fn party(&self, id: PartyId, key: Key<S>, input: Option<&dyn Input<S>>) -> Role<S> {
        match (id, key, input) {
            (PartyId::Client(k), Key::Client { mask, links }, Some(input)) => {
                let mut masked = mask.unwrap_or_else(|| vec![S::zero(); input.len()]);
                input.add_to(&mut masked);
                Role::Client(Client {
                    index: usize::from(k),
                    codes: Arc::clone(&self.codes),
                    incomplete: self.codes.takes_incomplete(),
                    masked: Arc::new(masked),
                    links,
                })
            }
            (_, Key::Server(len), _) => Role::Server(Box::new(Server {
                codes: Arc::clone(&self.codes),
                len,
                least: self.least,
                complete: BTreeMap::new(),
                standard: None,
                stack: self.codes.stack(),
                sizes: self.sizes(),
                decoded: None,
            })),
            _ => unreachable!("keys are dealt in the order of the parties"),
        }
    }
}
