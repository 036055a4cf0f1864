//! Carries out rounds in one process: steps the parties, drops what the links drop, counts every byte that is
//! sent.
//!
//! Messages from the server always arrive: the server's announcements go the way of the global model, which a
//! client must receive to take part at all.

mod aggregate;
mod gate;
mod quantised;
mod released;
mod session;
mod singles;

use std::collections::HashMap;
use std::sync::Arc;

use super::{Input, Party, Protocol, Secret, Singles};
use crate::algebra::distributed::{Added, DistributedNoise};
use crate::algebra::grid::Grid;
use crate::algebra::{LinearForm, Real, Scalar, Symbol, Unknown};
use crate::coding::Code;
use crate::error::{Error, Result};
use crate::keys::KeySource;
use crate::keys::optimise::Optimum;
use crate::message::{
    Clock, Decoded, Envelope, HEADER_BYTES, LinkUse, Message, Observed, PartyId, Phase, Views,
};
use crate::network::LinkModel;
use crate::parallel;
use crate::privacy::Formal;
use crate::privacy::floating::Draws;
pub use aggregate::{Aggregate, Lost, Traffic};
pub use gate::{Refusal, admit};
#[cfg(any(feature = "parties", test))]
pub(crate) use quantised::Quantised;
#[cfg(any(feature = "parties", test))]
pub(crate) use session::Part;
pub(crate) use session::{Assemble, Given, Simulated};
pub use session::{FieldSession, PART_BYTES, Session, Setup, part_len};

/// Coordinates of all formal inputs together up to which views are computed; beyond, their ranks take
/// minutes.
pub const AUDITABLE: usize = 1024;

/// A client's update and its weight: the client's input is `weight · delta`.
#[derive(Clone, Debug)]
pub struct Update {
    /// The client's share of the examples times the number of clients: 1 when all clients hold equally many.
    pub weight: f64,
    /// What the client sends, before the weight: local model − global model, and what its solver needs beside
    /// it ([`crate::learn::solver`]).
    pub delta: Arc<Vec<f32>>,
}

impl Update {
    /// Whether weight and coordinates are finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.weight.is_finite() && crate::algebra::is_finite(&self.delta)
    }
}

/// Without a grid.
impl<S: Real> Input<S> for Update {
    fn len(&self) -> usize {
        self.delta.len()
    }

    fn add_to(&self, y: &mut [S]) {
        S::axpy_f32(y, self.weight, &self.delta, None);
    }
}

/// The formal input of one client, for audits: coordinate i is the unknown (client, i).
struct FormalInput {
    client: u16,
    len: u16,
}

impl<K: Scalar> Input<LinearForm<K>> for FormalInput {
    fn len(&self) -> usize {
        self.len.into()
    }

    fn add_to(&self, y: &mut [LinearForm<K>]) {
        let input: Vec<_> =
            (0..self.len).map(|i| LinearForm::unknown(Unknown::Input(self.client, i))).collect();
        LinearForm::axpy(y, K::ONE, &input);
    }
}

/// Inputs of equal length, one after the other.
struct Concatenated<'a, S>(Vec<&'a dyn Input<S>>);

impl<S> Input<S> for Concatenated<'_, S> {
    fn len(&self) -> usize {
        self.0.iter().map(|input| input.len()).sum()
    }

    fn add_to(&self, y: &mut [S]) {
        let mut rest = y;
        for input in &self.0 {
            let (first, others) = rest.split_at_mut(input.len());
            input.add_to(first);
            rest = others;
        }
    }
}

/// The names and numbers under which a scheme appears in tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scheme {
    /// Key construction, empty where there is none.
    pub keys: String,
    /// Gradient code, empty where there is none.
    pub code: String,
    /// Straggler tolerance s of the code.
    pub stragglers: Option<usize>,
    /// σ of the keys or of the noise.
    pub key_std: Option<f64>,
    /// Fewest clients whose sum the server may obtain; `None` where the sum is always over all.
    pub least_included: Option<usize>,
    /// Optimised keys, and how good they are.
    pub optimum: Option<Optimum>,
    /// η of a gradient code over replicated data: the entropy of all keys over that of an update, and the
    /// least that its assignment leaves to any linear scheme ([`crate::coding::assignment::ordered`]).
    pub key_size: Option<[f64; 2]>,
    /// What keys and noise are drawn from, where it is not what `keys` and `key_std` say.
    pub draws: Option<Draws>,
}

/// A protocol behind one face, whatever its messages and symbols: what the round loop knows.
pub trait Aggregator: Send + Sync {
    /// Runs one round with up to `attempts` attempts over `links`. An update that is not finite never enters
    /// a sum: nothing is sent, and the round is an outage for want of precision.
    ///
    /// # Errors
    /// [`Error::Broken`]: parts of the round that end differently.
    fn aggregate(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
    ) -> Result<Aggregate>;

    /// Whether the server sees single updates, which [`Aggregator::aggregate_singly`] then tells.
    fn shows_single_updates(&self) -> bool {
        false
    }

    /// [`Aggregator::aggregate`], and the update of each client whom the result includes, in that order, as
    /// the server received it: in single precision, without its weight, with the noise that the client added.
    ///
    /// # Errors
    /// As there; a scheme that shows the server a sum only.
    fn aggregate_singly(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
    ) -> Result<(Aggregate, Vec<Update>)> {
        let _ = (round, updates, links, attempts);
        Err(singles::hidden())
    }

    /// What is sent in an attempt, phase by phase.
    fn phases(&self) -> Vec<Phase>;

    /// Runs the same party code over the same links with formal symbols, on as few coordinates as the scheme
    /// can split.
    ///
    /// # Errors
    /// More than [`AUDITABLE`] formal coordinates.
    fn formal(&self, round: u64, links: &dyn LinkModel, attempts: u32) -> Result<Formal>;

    /// [`Aggregator::formal`] of a scheme over the reals.
    ///
    /// # Errors
    /// A scheme over a prime field.
    fn views(&self, round: u64, links: &dyn LinkModel, attempts: u32) -> Result<Views> {
        match self.formal(round, links, attempts)? {
            Formal::Real(views) => Ok(views),
            Formal::Field(_) => Err(over_field()),
        }
    }

    /// Runs the same round as [`Aggregator::aggregate`] in double precision and returns, in numbers, the
    /// vectors of every message that reached `party`, in the order of [`Aggregator::views`]: what an attack
    /// works on.
    ///
    /// # Errors
    /// A scheme over a prime field.
    fn received(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
        party: PartyId,
    ) -> Result<Vec<Vec<f64>>>;

    /// As [`Protocol::fullest`].
    fn fullest(&self) -> u64 {
        1
    }

    /// Coordinates of all formal inputs together: the number of clients, times what the scheme splits an
    /// input into. [`Aggregator::formal`] refuses more than [`AUDITABLE`].
    fn formal_coordinates(&self) -> usize;

    /// As [`Protocol::imprecision`].
    fn imprecision(&self, scale: f64, update: f64) -> Option<f64> {
        let _ = (scale, update);
        None
    }

    /// What every client has to add to its input, that a sum holds the noise.
    ///
    /// # Errors
    /// A scheme whose clients add none; colluders who may hold a whole sum; noise that the scheme's numbers
    /// cannot hold.
    fn share_of(&self, noise: &DistributedNoise) -> Result<Added> {
        let _ = noise;
        Err(no_noise())
    }

    /// Has every client add its share of noise to its input, within whatever hides that
    /// ([`crate::algebra::distributed`]): the same in all attempts of a round.
    ///
    /// # Errors
    /// As [`Aggregator::share_of`].
    fn add_noise(&mut self, noise: &DistributedNoise) -> Result<()> {
        let _ = noise;
        Err(no_noise())
    }

    /// What clients add to their inputs.
    fn added(&self) -> Option<Added> {
        None
    }

    /// Whether it computes in a prime field, exactly.
    fn is_over_field(&self) -> bool {
        false
    }

    /// The grid on which masked updates lie, if there is one.
    fn grid(&self) -> Option<Grid> {
        None
    }

    /// Whether the server estimates the sum over all clients ([`Decoded::Estimate`]) where others find a sum
    /// or nothing.
    fn estimates(&self) -> bool {
        false
    }

    /// As [`Protocol::resends`].
    fn resends(&self) -> bool {
        false
    }

    /// How the scheme appears in tables.
    fn scheme(&self) -> &Scheme;

    /// The gradient code, where there is one.
    fn code(&self) -> Option<&dyn Code> {
        None
    }

    /// The clients who hold each shard of the data and train on it, where shards are replicated.
    fn holders(&self) -> Option<&[Vec<usize>]> {
        None
    }
}

fn no_noise() -> Error {
    let rule = "clients add no noise to the inputs of this scheme; take by = \"server\", or another protocol";
    Error::config("privacy.release.by", rule)
}

fn over_field() -> Error {
    let rule = "this measure needs real numbers; over a field `seccogc audit` proves what leaks, with \
                arithmetic = \"f64\" it can be estimated";
    Error::config("arithmetic", rule)
}

/// Runs one round of a scheme for `clients` clients with formal symbols and the keys of `source`; see
/// [`Aggregator::formal`].
pub fn formal<K: Scalar, P: Protocol<LinearForm<K>>>(
    protocol: &P,
    clients: usize,
    round: u64,
    source: &impl KeySource<LinearForm<K>>,
    links: &dyn LinkModel,
    attempts: u32,
) -> Views<K> {
    let len = protocol.formal_len();
    let formal: Vec<FormalInput> =
        (0..clients as u16).map(|client| FormalInput { client, len: len as u16 }).collect();
    let inputs: Vec<&dyn Input<LinearForm<K>>> = formal.iter().map(|input| input as _).collect();
    let keys = protocol
        .parties()
        .into_iter()
        .zip(protocol.deal(round, len, source))
        .map(|(id, key)| {
            let held = key.held().into_iter().flatten().cloned();
            (id, held.chain(protocol.draws(id, round, len, source).into_iter().flatten()).collect())
        })
        .collect();
    let mut messages = Vec::new();
    let mut announced = None;
    let Outcome { decoded, .. } =
        run(protocol, round, &inputs, source, links, attempts, |sent, delivered, link| {
            announced = sent.announces().or(announced.take());
            messages.push(Observed {
                link,
                delivered,
                forms: sent.reveals().into_iter().flatten().collect(),
            });
        });
    let holds: Vec<Vec<u16>> = (0..clients as u16).map(|k| protocol.holds(k)).collect();
    let replicated = holds.iter().any(|holds| holds.len() > 1);
    let holds = if replicated { holds } else { Vec::new() };
    Views { clients, len, holds, messages, keys, announced, decoded }
}

/// How a round ended.
#[derive(Clone, Debug)]
pub struct Outcome<S> {
    /// The server's result.
    pub decoded: Decoded<S>,
    /// The inputs that it was made of, where the server sees them: see [`Party::singles`].
    pub singles: Vec<Arc<Vec<S>>>,
    /// Attempts used.
    pub attempts: u32,
    /// The messages that were not accepted, over all attempts.
    pub refused: Vec<Refusal>,
}

/// One round: deals keys, then repeats attempts until the server decodes or `attempts` are used up. `observe`
/// sees every message when it is sent.
pub fn run<S, P>(
    protocol: &P,
    round: u64,
    inputs: &[&dyn Input<S>],
    source: &impl KeySource<S>,
    links: &dyn LinkModel,
    attempts: u32,
    mut observe: impl FnMut(&P::Message, bool, LinkUse),
) -> Outcome<S>
where
    S: Symbol,
    P: Protocol<S>,
{
    play(protocol, round, inputs, source, attempts, |message, link| {
        let delivered = arrives(links, link);
        observe(message, delivered, link);
        delivered
    })
}

fn arrives(links: &dyn LinkModel, link: LinkUse) -> bool {
    link.from == PartyId::Server || links.delivers(link.into())
}

/// [`run`] where `carry` sees every message when it is sent, and tells whether it arrives.
fn play<S, P>(
    protocol: &P,
    round: u64,
    inputs: &[&dyn Input<S>],
    source: &impl KeySource<S>,
    attempts: u32,
    mut carry: impl FnMut(&P::Message, LinkUse) -> bool,
) -> Outcome<S>
where
    S: Symbol,
    P: Protocol<S>,
{
    let (ids, phases) = (protocol.parties(), protocol.phases());
    let shown = protocol.singles() != Singles::Hidden;
    let len = inputs.first().map_or(0, |input| input.len());
    let places: HashMap<PartyId, usize> = ids.iter().enumerate().map(|(place, &id)| (id, place)).collect();
    let input_of = |id| match id {
        PartyId::Client(k) => {
            Some(Concatenated(protocol.holds(k).into_iter().map(|k| inputs[usize::from(k)]).collect()))
        }
        PartyId::Helper(_) | PartyId::Server => None,
    };
    let keys = protocol.deal(round, len, source).into_iter();
    let mut parties: Vec<P::Party> = parallel::map(keys.zip(&ids), |(key, &id)| {
        let input = input_of(id);
        protocol.party(id, key, input.as_ref().map(|input| input as &dyn Input<S>))
    });

    let mut refused = Vec::new();
    for attempt in 0..attempts {
        let mut inboxes: Vec<Vec<(PartyId, Envelope<P::Message>)>> = ids.iter().map(|_| Vec::new()).collect();
        for phase in 0..=phases.len() {
            let clock = Clock { round, attempt, phase: phase as u8 };
            let stepping = parties.iter_mut().zip(&ids).zip(std::mem::take(&mut inboxes));
            let sent: Vec<_> = parallel::map(stepping, |((party, &id), arrived)| {
                let (inbox, refused) = admit(party, id, clock, |id| places.contains_key(&id), arrived);
                (party.step(clock, inbox), refused)
            });
            inboxes = ids.iter().map(|_| Vec::new()).collect();
            for (&from, (sent, refusals)) in ids.iter().zip(sent) {
                for refusal in refusals {
                    tracing::warn!("{refusal}");
                    refused.push(refusal);
                }
                for envelope in sent {
                    let to = envelope.to;
                    let bytes = (HEADER_BYTES + envelope.body.bytes()) as u64;
                    let transfer = Phase::transfer(&phases[..phase], from.role(), to.role());
                    let link = LinkUse { round, attempt, transfer, from, to, bytes };
                    if let (true, Some(&place)) = (carry(&envelope.body, link), places.get(&to)) {
                        inboxes[place].push((from, envelope));
                    }
                }
            }
        }
        let mut decides = parties.iter_mut().find_map(|party| Some((party.decoded()?, party)));
        let singles = match &mut decides {
            Some((decoded, server)) if decoded.reason().is_none() && shown => server.singles(),
            _ => Vec::new(),
        };
        let decoded = decides.map_or(Decoded::lost(), |(decoded, _)| decoded);
        if decoded.reason().is_none() || attempt + 1 == attempts {
            return Outcome { decoded, singles, attempts: attempt + 1, refused };
        }
    }
    Outcome { decoded: Decoded::lost(), singles: Vec::new(), attempts, refused }
}
