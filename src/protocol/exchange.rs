//! Carries out rounds in one process: steps the parties, drops what the links drop, counts every byte that is sent.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::{Arithmetic, Clock, Decoded, Envelope, Input, Message, Party, PartyId, Protocol, Secret};
use crate::algebra::{LinearForm, Sample, Symbol, Unknown};
use crate::coding::GradientCode;
use crate::error::Result;
use crate::keys::{FormalKeys, KeySource, SeededKeys};
use crate::network::{LinkModel, LinkUse, Perfect, round_seconds};
use crate::seed::Seed;

/// Bytes of an envelope's header: round (8), attempt (4), phase (1), kind (1), from (4), to (4), length (4).
pub const HEADER_BYTES: usize = 26;

/// A client's update and its weight: the client's input is `weight · delta`.
#[derive(Clone, Debug)]
pub struct Update {
    /// The client's share of the examples times the number of clients: 1 when all clients hold equally many.
    pub weight: f64,
    /// Local model − global model, d coordinates.
    pub delta: Arc<Vec<f32>>,
}

impl<S: Sample> Input<S> for Update {
    fn len(&self) -> usize {
        self.delta.len()
    }

    fn add_to(&self, y: &mut [S]) {
        S::axpy_f32(y, self.weight, &self.delta);
    }
}

/// The formal input of one client, for audits.
struct FormalInput(u16);

impl Input<LinearForm> for FormalInput {
    fn len(&self) -> usize {
        1
    }

    fn add_to(&self, y: &mut [LinearForm]) {
        LinearForm::axpy(y, 1.0, &[LinearForm::unknown(Unknown::Input(self.0))]);
    }
}

/// Bytes sent, counted where they are sent: a lost message has cost its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Between clients.
    pub client_client: u64,
    /// From clients to the server.
    pub client_server: u64,
}

/// What a scheme made of one round's updates.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// The sum that the server decoded, or the outage.
    pub decoded: Decoded<f64>,
    /// Attempts used, at least 1.
    pub attempts: u32,
    /// Messages that reached the server, over all attempts.
    pub arrivals: u64,
    /// Bytes sent, over all attempts.
    pub traffic: Traffic,
    /// Simulated seconds on the links, over all attempts; `None` where messages take no time.
    pub seconds: Option<f64>,
    /// Every message in the order in which it was sent, and whether it arrived.
    pub sent: Vec<(LinkUse, bool)>,
}

/// A message as the links saw it, in formal symbols.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Which link carried it, and when.
    pub link: LinkUse,
    /// Whether it arrived.
    pub delivered: bool,
    /// One form per symbol vector of the message.
    pub forms: Vec<LinearForm>,
}

/// Everything that was sent in one round and all key material, in formal symbols.
#[derive(Clone, Debug)]
pub struct Views {
    /// Number of clients.
    pub clients: usize,
    /// All messages in the order in which they were sent.
    pub messages: Vec<Observed>,
    /// The keys dealt to each party.
    pub keys: Vec<(PartyId, Vec<LinearForm>)>,
    /// The server's result.
    pub decoded: Decoded<LinearForm>,
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
}

/// A protocol behind one face, whatever its messages and symbols: what the round loop knows.
pub trait Aggregator: Send + Sync {
    /// Runs one round with up to `attempts` attempts over `links`.
    ///
    /// # Errors
    /// A message that the protocol forbids: in one process this is a defect.
    fn aggregate(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
    ) -> Result<Aggregate>;

    /// Runs the same party code over the same links with formal symbols, one coordinate.
    ///
    /// # Errors
    /// As [`Aggregator::aggregate`].
    fn views(&self, round: u64, links: &dyn LinkModel, attempts: u32) -> Result<Views>;

    /// Runs the same round as [`Aggregator::aggregate`] in double precision and returns, in numbers, the vectors of every message
    /// that reached `party`, in the order of [`Aggregator::views`]: what an attack works on.
    ///
    /// # Errors
    /// As [`Aggregator::aggregate`].
    fn received(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
        party: PartyId,
    ) -> Result<Vec<Vec<f64>>>;

    /// How the scheme appears in tables.
    fn scheme(&self) -> &Scheme;

    /// The gradient code, where there is one.
    fn code(&self) -> Option<&GradientCode> {
        None
    }
}

/// A protocol in simulation.
pub struct Session<P> {
    /// The scheme.
    pub protocol: P,
    /// Number of clients M.
    pub clients: usize,
    /// Precision of the symbols.
    pub arithmetic: Arithmetic,
    /// Whether the scheme runs over links that never fail.
    pub reliable: bool,
    /// Where the keys come from.
    pub seed: Seed,
    /// How it appears in tables.
    pub scheme: Scheme,
    /// Its gradient code.
    pub code: Option<Arc<GradientCode>>,
}

impl<P> Session<P> {
    fn links<'a>(&self, links: &'a dyn LinkModel) -> &'a dyn LinkModel {
        if self.reliable { &Perfect } else { links }
    }

    fn numeric<S>(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
    ) -> Result<Aggregate>
    where
        S: Sample,
        P: Protocol<S>,
    {
        let inputs: Vec<&dyn Input<S>> = updates.iter().map(|update| update as _).collect();
        let mut traffic = Traffic::default();
        let mut arrivals = 0;
        let mut sent = Vec::new();
        let (decoded, attempts) = run(
            &self.protocol,
            round,
            &inputs,
            &SeededKeys(self.seed),
            links,
            attempts,
            |_, delivered, link| {
                match link.to {
                    PartyId::Server => {
                        traffic.client_server += link.bytes;
                        arrivals += u64::from(delivered);
                    }
                    PartyId::Client(_) => traffic.client_client += link.bytes,
                }
                sent.push((link, delivered));
            },
        )?;
        let seconds = round_seconds(links, self.clients, attempts, sent.iter().map(|(link, _)| *link));
        let decoded = match decoded {
            Decoded::Sum { sum, included } => Decoded::Sum { sum: S::into_f64(sum), included },
            Decoded::Outage => Decoded::Outage,
        };
        Ok(Aggregate { decoded, attempts, arrivals, traffic, seconds, sent })
    }
}

impl<P> Aggregator for Session<P>
where
    P: Protocol<f32> + Protocol<f64> + Protocol<LinearForm>,
{
    fn aggregate(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
    ) -> Result<Aggregate> {
        let links = self.links(links);
        match self.arithmetic {
            Arithmetic::F32 => self.numeric::<f32>(round, updates, links, attempts),
            Arithmetic::F64 => self.numeric::<f64>(round, updates, links, attempts),
        }
    }

    fn views(&self, round: u64, links: &dyn LinkModel, attempts: u32) -> Result<Views> {
        let links = self.links(links);
        let formal: Vec<FormalInput> = (0..self.clients as u16).map(FormalInput).collect();
        let inputs: Vec<&dyn Input<LinearForm>> = formal.iter().map(|input| input as _).collect();
        let keys = Protocol::<LinearForm>::parties(&self.protocol)
            .into_iter()
            .zip(self.protocol.deal(round, 1, &FormalKeys))
            .map(|(id, key)| (id, key.held().into_iter().flatten().cloned().collect()))
            .collect();
        let mut messages = Vec::new();
        let (decoded, _) =
            run(&self.protocol, round, &inputs, &FormalKeys, links, attempts, |sent, delivered, link| {
                messages.push(Observed {
                    link,
                    delivered,
                    forms: sent.reveals().into_iter().flatten().collect(),
                });
            })?;
        Ok(Views { clients: self.clients, messages, keys, decoded })
    }

    fn received(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
        party: PartyId,
    ) -> Result<Vec<Vec<f64>>> {
        let links = self.links(links);
        let inputs: Vec<&dyn Input<f64>> = updates.iter().map(|update| update as _).collect();
        let mut vectors = Vec::new();
        run(
            &self.protocol,
            round,
            &inputs,
            &SeededKeys(self.seed),
            links,
            attempts,
            |message, delivered, link| {
                if delivered && link.to == party {
                    vectors.extend(message.reveals());
                }
            },
        )?;
        Ok(vectors)
    }

    fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    fn code(&self) -> Option<&GradientCode> {
        self.code.as_deref()
    }
}

/// One round: deals keys, then repeats attempts until the server decodes or `attempts` are used up. `observe` sees every
/// message when it is sent. Returns the result and the number of attempts used.
///
/// # Errors
/// A message that the protocol forbids.
pub fn run<S, P>(
    protocol: &P,
    round: u64,
    inputs: &[&dyn Input<S>],
    source: &impl KeySource<S>,
    links: &dyn LinkModel,
    attempts: u32,
    mut observe: impl FnMut(&P::Message, bool, LinkUse),
) -> Result<(Decoded<S>, u32)>
where
    S: Symbol,
    P: Protocol<S>,
{
    let ids = protocol.parties();
    let len = inputs.first().map_or(0, |input| input.len());
    let places: HashMap<PartyId, usize> = ids.iter().enumerate().map(|(place, &id)| (id, place)).collect();
    let input_of = |id| match id {
        PartyId::Client(k) => Some(inputs[usize::from(k)]),
        PartyId::Server => None,
    };
    let mut parties: Vec<P::Party> = protocol
        .deal(round, len, source)
        .into_par_iter()
        .zip(&ids)
        .map(|(key, &id)| protocol.party(id, key, input_of(id)))
        .collect();

    for attempt in 0..attempts {
        let mut inboxes: Vec<Vec<Envelope<P::Message>>> = ids.iter().map(|_| Vec::new()).collect();
        for phase in 0..=protocol.phases() {
            let clock = Clock { round, attempt, phase };
            let sent: Vec<_> = parties
                .par_iter_mut()
                .zip(std::mem::take(&mut inboxes))
                .map(|(party, inbox)| party.step(clock, inbox))
                .collect::<Result<_>>()?;
            inboxes = ids.iter().map(|_| Vec::new()).collect();
            for envelope in sent.into_iter().flatten() {
                let Envelope { phase, from, to, ref body } = envelope;
                let bytes = (HEADER_BYTES + body.bytes()) as u64;
                let link = LinkUse { round, attempt, phase, from, to, bytes };
                let delivered = links.delivers(link);
                observe(&envelope.body, delivered, link);
                if let (true, Some(&place)) = (delivered, places.get(&envelope.to)) {
                    inboxes[place].push(envelope);
                }
            }
        }
        let decoded = parties.iter_mut().find_map(Party::decoded).unwrap_or(Decoded::Outage);
        if decoded != Decoded::Outage || attempt + 1 == attempts {
            return Ok((decoded, attempt + 1));
        }
    }
    Ok((Decoded::Outage, attempts))
}
