//! Protocols in simulation, behind the face that the round loop knows.

use std::marker::PhantomData;
use std::sync::Arc;

use super::{
    AUDITABLE, Aggregate, Aggregator, Formal, Outcome, Scheme, Traffic, Update, formal, over_field, run,
};
use crate::algebra::field::Prime;
use crate::algebra::quantise::Quantiser;
use crate::algebra::{LinearForm, Real, Sample};
use crate::coding::Code;
use crate::error::{Error, Result};
use crate::keys::{FormalKeys, SeededKeys};
use crate::network::{LinkModel, Perfect, round_seconds};
use crate::protocol::{Decoded, Input, Message, PartyId, Protocol};
use crate::seed::Seed;
use crate::wire::{Wire, WireSymbol};

/// What all schemes in simulation have.
pub struct Setup {
    /// Number of clients M.
    pub clients: usize,
    /// Whether the scheme runs over links that never fail.
    pub reliable: bool,
    /// Where the keys come from.
    pub seed: Seed,
    /// How it appears in tables.
    pub scheme: Scheme,
    /// Its gradient code.
    pub code: Option<Arc<dyn Code>>,
    /// The clients who hold each shard, where shards are replicated.
    pub holders: Option<Vec<Vec<usize>>>,
}

impl Setup {
    /// A scheme without a code over links that may fail.
    #[must_use]
    pub fn new(clients: usize, seed: Seed, scheme: Scheme) -> Self {
        Self { clients, reliable: false, seed, scheme, code: None, holders: None }
    }

    /// The same over links that never fail.
    #[must_use]
    pub fn reliable(self) -> Self {
        Self { reliable: true, ..self }
    }

    fn links<'a>(&self, links: &'a dyn LinkModel) -> &'a dyn LinkModel {
        if self.reliable { &Perfect } else { links }
    }

    fn aggregate<S: Sample, P: Protocol<S>>(
        &self,
        protocol: &P,
        round: u64,
        inputs: &[&dyn Input<S>],
        links: &dyn LinkModel,
        attempts: u32,
        numbers: impl FnOnce(Vec<S>) -> Vec<f64>,
    ) -> Aggregate {
        let links = self.links(links);
        let mut traffic = Traffic::default();
        let mut arrivals = 0;
        let mut sent = Vec::new();
        let keys = SeededKeys(self.seed);
        let Outcome { decoded, attempts, refused } =
            run(protocol, round, inputs, &keys, links, attempts, |_, delivered, link| {
                traffic.count(link);
                arrivals += u64::from(delivered && link.to == PartyId::Server);
                sent.push((link, delivered));
            });
        let seconds = round_seconds(links, self.clients, attempts, sent.iter().map(|(link, _)| *link));
        let decoded = match decoded {
            Decoded::Sum { sum, included } => Decoded::Sum { sum: numbers(sum), included },
            Decoded::Outage => Decoded::Outage,
        };
        Aggregate { decoded, attempts, arrivals, traffic, seconds, sent, refused }
    }
}

/// What is made of a scheme whose messages have a binary form, once its numbers are known: a session in simulation, or the parties of a
/// deployment.
pub(crate) trait Assemble {
    /// What is made.
    type Output;

    /// From a scheme over the reals, in `single` precision or double.
    fn real<P>(self, protocol: P, single: bool, setup: Setup) -> Self::Output
    where
        P: Protocol<f32, Message: Wire<f32>>
            + Protocol<f64, Message: Wire<f64>>
            + Protocol<LinearForm>
            + 'static;

    /// From a scheme over a prime field.
    fn field<F, P>(self, protocol: P, quantiser: Quantiser, setup: Setup) -> Self::Output
    where
        F: Prime + WireSymbol,
        P: Protocol<F, Message: Wire<F>> + Protocol<LinearForm<F>> + 'static;
}

/// Makes sessions in simulation.
pub(crate) struct Simulated;

impl Assemble for Simulated {
    type Output = Box<dyn Aggregator>;

    fn real<P>(self, protocol: P, single: bool, setup: Setup) -> Self::Output
    where
        P: Protocol<f32> + Protocol<f64> + Protocol<LinearForm> + 'static,
    {
        Box::new(Session { protocol, single, setup })
    }

    fn field<F: Prime, P>(self, protocol: P, quantiser: Quantiser, setup: Setup) -> Self::Output
    where
        P: Protocol<F> + Protocol<LinearForm<F>> + 'static,
    {
        Box::new(FieldSession::<_, F>::new(protocol, quantiser, setup))
    }
}

/// A protocol over the reals.
pub struct Session<P> {
    /// The scheme.
    pub protocol: P,
    /// Whether it computes and sends in single precision instead of double.
    pub single: bool,
    /// The rest.
    pub setup: Setup,
}

impl<P> Session<P> {
    fn numeric<S: Real>(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
    ) -> Aggregate
    where
        P: Protocol<S>,
    {
        let inputs: Vec<&dyn Input<S>> = updates.iter().map(|update| update as _).collect();
        self.setup.aggregate(&self.protocol, round, &inputs, links, attempts, S::into_f64)
    }
}

impl<P> Aggregator for Session<P>
where
    P: Protocol<f32> + Protocol<f64> + Protocol<LinearForm>,
{
    fn aggregate(&self, round: u64, updates: &[Update], links: &dyn LinkModel, attempts: u32) -> Aggregate {
        if self.single {
            self.numeric::<f32>(round, updates, links, attempts)
        } else {
            self.numeric::<f64>(round, updates, links, attempts)
        }
    }

    fn formal(&self, round: u64, links: &dyn LinkModel, attempts: u32) -> Result<Formal> {
        let links = self.setup.links(links);
        Ok(Formal::Real(formal(&self.protocol, self.setup.clients, round, &FormalKeys, links, attempts)))
    }

    fn received(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
        party: PartyId,
    ) -> Result<Vec<Vec<f64>>> {
        let links = self.setup.links(links);
        let inputs: Vec<&dyn Input<f64>> = updates.iter().map(|update| update as _).collect();
        let mut vectors = Vec::new();
        let keys = SeededKeys(self.setup.seed);
        run(&self.protocol, round, &inputs, &keys, links, attempts, |message, delivered, link| {
            if delivered && link.to == party {
                vectors.extend(message.reveals());
            }
        });
        Ok(vectors)
    }

    fn formal_coordinates(&self) -> usize {
        self.setup.clients
    }

    fn scheme(&self) -> &Scheme {
        &self.setup.scheme
    }

    fn code(&self) -> Option<&dyn Code> {
        self.setup.code.as_deref()
    }
}

/// A protocol over the prime field `F`, with quantised updates.
pub struct FieldSession<P, F> {
    /// The scheme.
    pub protocol: P,
    /// How updates become symbols.
    pub quantiser: Quantiser,
    /// The rest.
    pub setup: Setup,
    field: PhantomData<fn() -> F>,
}

impl<P, F> FieldSession<P, F> {
    /// Puts a session together.
    #[must_use]
    pub fn new(protocol: P, quantiser: Quantiser, setup: Setup) -> Self {
        Self { protocol, quantiser, setup, field: PhantomData }
    }
}

/// An update as field symbols.
pub(crate) struct Quantised<'a> {
    /// How it becomes symbols.
    pub quantiser: Quantiser,
    /// The update.
    pub update: &'a Update,
    /// Feeds stochastic rounding.
    pub seed: Seed,
}

impl<F: Prime> Input<F> for Quantised<'_> {
    fn len(&self) -> usize {
        self.update.delta.len()
    }

    fn add_to(&self, y: &mut [F]) {
        self.quantiser.add_to(y, self.update.weight, &self.update.delta, self.seed);
    }
}

impl<P, F> Aggregator for FieldSession<P, F>
where
    F: Prime,
    P: Protocol<F> + Protocol<LinearForm<F>>,
{
    fn aggregate(&self, round: u64, updates: &[Update], links: &dyn LinkModel, attempts: u32) -> Aggregate {
        let coins = self.setup.seed.child("quantise", round);
        let quantised: Vec<Quantised<'_>> = (0..)
            .zip(updates)
            .map(|(k, update)| Quantised {
                quantiser: self.quantiser,
                update,
                seed: coins.child("client", k),
            })
            .collect();
        let inputs: Vec<&dyn Input<F>> = quantised.iter().map(|input| input as _).collect();
        let numbers = |sum: Vec<F>| self.quantiser.real(&sum);
        self.setup.aggregate(&self.protocol, round, &inputs, links, attempts, numbers)
    }

    fn formal(&self, round: u64, links: &dyn LinkModel, attempts: u32) -> Result<Formal> {
        let coordinates = self.formal_coordinates();
        if coordinates > AUDITABLE {
            let rule = format!(
                "its formal inputs have {coordinates} coordinates, and ranks of more than {AUDITABLE} take too long; audit it with \
                 fewer clients, survivors or smaller groups"
            );
            return Err(Error::config("protocol", rule));
        }
        let links = self.setup.links(links);
        let views = formal::<F, P>(&self.protocol, self.setup.clients, round, &FormalKeys, links, attempts);
        Ok(Formal::Field(Box::new(views)))
    }

    fn received(&self, _: u64, _: &[Update], _: &dyn LinkModel, _: u32, _: PartyId) -> Result<Vec<Vec<f64>>> {
        Err(over_field())
    }

    fn formal_coordinates(&self) -> usize {
        self.setup.clients * Protocol::<LinearForm<F>>::formal_len(&self.protocol)
    }

    fn scheme(&self) -> &Scheme {
        &self.setup.scheme
    }

    fn code(&self) -> Option<&dyn Code> {
        self.setup.code.as_deref()
    }

    fn holders(&self) -> Option<&[Vec<usize>]> {
        self.setup.holders.as_deref()
    }
}
