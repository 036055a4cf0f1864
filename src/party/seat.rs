//! One party of a scheme in a process of its own: the state machine of [`crate::protocol::Party`] with
//! messages as bytes.

use std::sync::Arc;

use super::agreement::Secrets;
use crate::algebra::field::Prime;
use crate::algebra::grid::{Grid, Public};
use crate::algebra::quantise::Quantiser;
use crate::algebra::{KeyStream, LinearForm, Real, Sample, Symbol};
use crate::coding::Code;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::keys::KeySource;
use crate::message::{Expects, HEADER_BYTES, Message};
use crate::protocol::exchange::{Assemble, Given, Part, Quantised, Setup, admit};
use crate::protocol::{
    Clock, Decoded, Envelope, Input, Party, PartyId, Phase, Protocol, ProtocolConfig, Update,
};
use crate::seed::Seed;
use crate::wire::{self, Form, Wire, WireSymbol};

/// A scheme among the clients of one cohort, who are numbered from 0.
pub trait Scheme: Send + Sync {
    /// As [`Protocol::phases`].
    fn phases(&self) -> &[Phase];

    /// The clients for whom `client` waits in a phase among clients, ascending.
    fn sources(&self, phase: usize, client: u16) -> Vec<u16>;

    /// Complete sums that are sure to suffice; `None` where the server takes all that it can get.
    fn enough(&self) -> Option<usize>;

    /// Bytes of the longest envelope of a phase, for vectors of `len` coordinates.
    fn envelope_bytes(&self, phase: usize, len: usize) -> usize;

    /// The state machine of `client` in `round`, with keys that it makes alone.
    ///
    /// # Errors
    /// Keys that need a dealer.
    fn client(&self, client: u16, round: u64, update: &Update, secrets: &Secrets) -> Result<Box<dyn Seat>>;

    /// The server's state machine in `round`, for vectors of `len` coordinates.
    fn server(&self, round: u64, len: usize) -> Box<dyn Seat>;
}

/// An envelope as bytes.
#[derive(Debug)]
pub struct Letter {
    /// The receiver.
    pub to: PartyId,
    /// Its binary form.
    pub bytes: Vec<u8>,
}

/// A party in one round.
pub trait Seat: Send {
    /// Takes what `from` sent in the previous phase.
    ///
    /// # Errors
    /// The broken rule: it is malformed, of another moment, from or for another party, or here already. It is
    /// not taken then.
    fn admit(&mut self, from: PartyId, bytes: &[u8]) -> Result<(), String>;

    /// The clients who go on, ascending, as the message says that was admitted in a phase of such a list
    /// ([`Phase::is_list`]); this client is among them.
    fn told(&self) -> Option<Vec<u16>>;

    /// Forgets what was admitted since the last step, as if it had been lost.
    fn forget(&mut self);

    /// Steps through the next phase with what was admitted.
    fn step(&mut self) -> Vec<Letter>;

    /// As [`Party::decoded`].
    fn decoded(&mut self) -> Option<Decoded<f64>>;
}

/// The scheme of a configured protocol for `clients` clients. Vectors whose coordinates have a root mean
/// square beyond `largest` are refused.
///
/// # Errors
/// A protocol whose parties cannot be apart, or parameters that break one of its rules.
pub fn scheme(
    protocol: &ProtocolConfig,
    clients: usize,
    seed: Seed,
    public: &Public,
    largest: f64,
) -> Result<Box<dyn Scheme>> {
    protocol.assemble(Given { clients, seed, public }, Apart { largest })?
}

/// What everybody knows of the updates of a cohort of clients with these weights, vectors of `coordinates`
/// numbers.
pub(crate) fn public_of(config: &Config, weights: &[f64], coordinates: usize) -> Public {
    Public {
        clip: config.solver.solver().clip_norm(),
        weight: weights.iter().copied().fold(0.0, f64::max),
        coordinates: Some(coordinates),
        tolerance: config.outage.recovery_tolerance,
        noise: None,
    }
}

/// The scheme of a cohort of `members` clients, of whose updates this is known; server and clients make the
/// same one.
pub(crate) fn scheme_of(config: &Config, members: usize, public: &Public) -> Result<Box<dyn Scheme>> {
    let protocol: ProtocolConfig =
        if members == config.clients { config.protocol.clone() } else { config.protocol.fitted(members) };
    let seed = Seed::new(config.seed).child("protocol", 0);
    scheme(&protocol, members, seed, public, config.deploy.largest).map_err(|error| error.within("protocol"))
}

/// Makes schemes whose parties are apart.
struct Apart {
    largest: f64,
}

impl Apart {
    fn table<P, S>(
        self,
        protocol: P,
        setup: Setup,
        input: InputOf<S>,
        numbers: Numbers<S>,
    ) -> Result<Box<dyn Scheme>>
    where
        S: Sample + WireSymbol,
        P: Protocol<S, Message: Wire<S>> + 'static,
    {
        if protocol.own_key(PartyId::Client(0), 0, 0, &Zeros).is_none() {
            let rule = "without a dealer keys are agreed by pairs of clients; take keys = \"pairwise\" and no link keys";
            return Err(Error::config("keys", rule));
        }
        let phases = protocol.phases();
        Ok(Box::new(Table {
            protocol: Arc::new(protocol),
            phases,
            clients: setup.clients as u16,
            code: setup.code,
            largest: self.largest,
            input,
            numbers: Arc::new(numbers),
        }))
    }
}

impl Assemble for Apart {
    type Output = Result<Box<dyn Scheme>>;

    const APART: bool = true;

    fn real<P>(self, protocol: P, single: bool, setup: Setup) -> Self::Output
    where
        P: Protocol<f32, Message: Wire<f32>>
            + Protocol<f64, Message: Wire<f64>>
            + Protocol<LinearForm>
            + 'static,
    {
        let grid = setup.grid;
        if single {
            self.table::<P, f32>(protocol, setup, whole(grid), Box::new(f32::into_f64))
        } else {
            self.table::<P, f64>(protocol, setup, whole(grid), Box::new(f64::into_f64))
        }
    }

    fn field<F, P>(self, protocol: P, quantiser: Quantiser, setup: Setup) -> Self::Output
    where
        F: Prime + WireSymbol,
        P: Protocol<F, Message: Wire<F>> + Protocol<LinearForm<F>> + 'static,
    {
        let input: InputOf<F> = Box::new(move |update, seed| {
            Box::new(Quantised { quantiser, update, part: 0..update.delta.len(), seed })
        });
        self.table::<P, F>(protocol, setup, input, Box::new(move |sum| quantiser.real(&sum)))
    }
}

/// A whole update as the input of a scheme over the reals.
fn whole<S: Real>(grid: Option<Grid>) -> InputOf<S> {
    Box::new(move |update, _| Box::new(Part { update, part: 0..update.delta.len(), grid, noise: None }))
}

/// Stands for keys of no coordinates.
struct Zeros;

impl<S: Sample> KeySource<S> for Zeros {
    fn fill(&self, _: KeyStream, _: usize, out: &mut [S]) {
        out.fill(S::zero());
    }

    fn noise(&self, _: KeyStream, _: usize, out: &mut [S::Draw]) {
        out.fill(S::Draw::zero());
    }

    fn coins(&self, _: KeyStream, _: usize, out: &mut [u8]) {
        out.fill(0);
    }
}

type InputOf<S> = Box<dyn for<'a> Fn(&'a Update, Seed) -> Box<dyn Input<S> + 'a> + Send + Sync>;
type Numbers<S> = Box<dyn Fn(Vec<S>) -> Vec<f64> + Send + Sync>;

/// A protocol over the symbols `S`.
struct Table<P, S> {
    protocol: Arc<P>,
    phases: Vec<Phase>,
    clients: u16,
    code: Option<Arc<dyn Code>>,
    largest: f64,
    /// An update as symbols; the seed feeds stochastic rounding.
    input: InputOf<S>,
    /// Symbols as numbers.
    numbers: Arc<Numbers<S>>,
}

impl<P, S> Table<P, S>
where
    S: Sample + WireSymbol,
    P: Protocol<S, Message: Wire<S>> + 'static,
{
    fn seat(&self, id: PartyId, round: u64, len: usize, party: P::Party) -> Box<dyn Seat> {
        let form = |phase| Form { largest: self.largest, ..self.protocol.form(phase, len).0 };
        let forms = (0..self.phases.len() as u8).map(form).collect();
        let numbers = Arc::clone(&self.numbers);
        let clock = Clock { round, attempt: 0, phase: 0 };
        Box::new(Seated::<P, S> { id, clock, forms, party, inbox: Vec::new(), numbers })
    }
}

impl<P, S> Scheme for Table<P, S>
where
    S: Sample + WireSymbol,
    P: Protocol<S, Message: Wire<S>> + 'static,
{
    fn phases(&self) -> &[Phase] {
        &self.phases
    }

    fn sources(&self, phase: usize, client: u16) -> Vec<u16> {
        let all: Vec<u16> = match (self.phases[phase].expects, &self.code) {
            (Expects::Nobody, _) => Vec::new(),
            (_, Some(code)) => code.support(client.into()).iter().map(|&k| k as u16).collect(),
            (_, None) => (0..self.clients).collect(),
        };
        all.into_iter().filter(|&k| k != client).collect()
    }

    fn enough(&self) -> Option<usize> {
        let code = self.code.as_ref()?;
        (!code.takes_incomplete()).then(|| code.clients() - code.stragglers())
    }

    fn envelope_bytes(&self, phase: usize, len: usize) -> usize {
        HEADER_BYTES + self.protocol.form(phase as u8, len).1
    }

    fn client(&self, client: u16, round: u64, update: &Update, secrets: &Secrets) -> Result<Box<dyn Seat>> {
        let (id, len) = (PartyId::Client(client), update.delta.len());
        let input = (self.input)(update, secrets.rounding());
        let key = self.protocol.own_key(id, round, len, secrets);
        let key = key.ok_or_else(|| Error::config("keys", "these keys need a dealer"))?;
        let party = self.protocol.party(id, key, Some(&*input));
        Ok(self.seat(id, round, len, party))
    }

    fn server(&self, round: u64, len: usize) -> Box<dyn Seat> {
        let key = self.protocol.own_key(PartyId::Server, round, len, &Zeros);
        let party = self.protocol.party(PartyId::Server, key.expect("the server holds no key"), None);
        self.seat(PartyId::Server, round, len, party)
    }
}

/// A party and what it waits for.
struct Seated<P: Protocol<S>, S: Sample> {
    id: PartyId,
    /// The next step.
    clock: Clock,
    /// What it may expect of every phase.
    forms: Vec<Form>,
    party: P::Party,
    inbox: Vec<Envelope<P::Message>>,
    numbers: Arc<Numbers<S>>,
}

impl<P, S> Seat for Seated<P, S>
where
    S: Sample + WireSymbol,
    P: Protocol<S, Message: Wire<S>>,
{
    fn admit(&mut self, from: PartyId, bytes: &[u8]) -> Result<(), String> {
        let sent = usize::from(self.clock.phase).checked_sub(1).and_then(|phase| self.forms.get(phase));
        let form = sent.ok_or("nothing was sent yet")?;
        let envelope = wire::decode::<S, P::Message>(bytes, form)?;
        if self.inbox.iter().any(|other| other.from == from) {
            return Err("second message in one phase".into());
        }
        let known = |_| true;
        let (accepted, refused) = admit(&self.party, self.id, self.clock, known, vec![(from, envelope)]);
        self.inbox.extend(accepted);
        refused.into_iter().next().map_or(Ok(()), |refusal| Err(refusal.rule))
    }

    fn told(&self) -> Option<Vec<u16>> {
        let PartyId::Client(own) = self.id else { return None };
        let mut clients = self.inbox.first()?.body.lists()?;
        if let Err(place) = clients.binary_search(&own) {
            clients.insert(place, own);
        }
        Some(clients)
    }

    fn forget(&mut self) {
        self.inbox.clear();
    }

    fn step(&mut self) -> Vec<Letter> {
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.sort_by_key(|envelope| envelope.from);
        let sent = self.party.step(self.clock, inbox);
        self.clock.phase += 1;
        let letter = |envelope: &Envelope<P::Message>| Letter {
            to: envelope.to,
            bytes: wire::encode::<S, _>(envelope),
        };
        sent.iter().map(letter).collect()
    }

    fn decoded(&mut self) -> Option<Decoded<f64>> {
        Some(self.party.decoded()?.map(&**self.numbers))
    }
}

#[cfg(test)]
mod own_key_tests;

#[cfg(test)]
mod tests;
