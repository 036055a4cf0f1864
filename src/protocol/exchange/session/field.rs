//! Schemes over a prime field in simulation.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use super::super::quantised::{Quantised, lost};
use super::super::released::Released;
use super::super::singles::hidden;
use super::super::{AUDITABLE, Aggregate, Aggregator, Scheme, Update, formal, over_field};
use super::{Setup, Symbols};
use crate::algebra::LinearForm;
use crate::algebra::distributed::{Added, DistributedNoise};
use crate::algebra::field::Prime;
use crate::algebra::quantise::Quantiser;
use crate::coding::Code;
use crate::error::{Error, Result};
use crate::keys::FormalKeys;
use crate::message::{PartyId, Phase};
use crate::network::LinkModel;
use crate::privacy::Formal;
use crate::protocol::{Protocol, Singles};

/// A protocol over the prime field `F`, with quantised updates.
pub struct FieldSession<P, F> {
    /// The scheme.
    pub protocol: P,
    /// How updates become symbols.
    pub quantiser: Quantiser,
    /// The rest.
    pub setup: Setup,
    /// What clients add, if anything.
    released: Option<Released>,
    field: PhantomData<fn() -> F>,
    /// Whether it has said that quantising loses much.
    warned: AtomicBool,
}

impl<P, F> FieldSession<P, F> {
    /// Puts a session together.
    #[must_use]
    pub fn new(protocol: P, quantiser: Quantiser, setup: Setup) -> Self {
        let warned = AtomicBool::new(false);
        Self { protocol, quantiser, setup, released: None, field: PhantomData, warned }
    }
}

impl<P, F> FieldSession<P, F>
where
    F: Prime,
    P: Protocol<F>,
{
    fn released(&self, noise: &DistributedNoise) -> Result<Released> {
        let added = self.setup.share(noise, noise.discrete)?;
        let inputs = self.setup.holders.as_ref().map_or(self.setup.clients, Vec::len);
        Released::new(added, noise, self.quantiser.step(), inputs, F::MODULUS)
    }

    fn play(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
        singly: bool,
    ) -> Result<(Aggregate, Vec<Update>)> {
        let coins = self.setup.seed.child("quantise", round);
        if let Some(released) = &self.released
            && updates.iter().all(Update::is_finite)
        {
            let each = updates.iter().enumerate();
            let inputs: Vec<_> =
                each.map(|(k, update)| released.input(update, self.setup.noise_seed(round, k))).collect();
            let input = |k: usize, _, part: Range<usize>| inputs[k].part(part);
            let numbers = |sum: Vec<F>| released.real(&sum);
            let symbols = Symbols { input, numbers, singly };
            return self.setup.aggregate(&self.protocol, round, updates, links, attempts, &symbols);
        }
        let input = |k, update, part: Range<usize>| Quantised {
            quantiser: self.quantiser,
            update,
            part,
            seed: coins.child("client", k as u64),
        };
        let numbers = |sum: Vec<F>| self.quantiser.real(&sum);
        let symbols = Symbols { input, numbers, singly };
        let (aggregate, singles) =
            self.setup.aggregate(&self.protocol, round, updates, links, attempts, &symbols)?;
        let lost = Some(lost(&self.quantiser, updates, &self.warned));
        Ok((Aggregate { lost, ..aggregate }, singles))
    }
}

impl<P, F> Aggregator for FieldSession<P, F>
where
    F: Prime,
    P: Protocol<F> + Protocol<LinearForm<F>>,
{
    fn aggregate(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
    ) -> Result<Aggregate> {
        Ok(self.play(round, updates, links, attempts, false)?.0)
    }

    fn shows_single_updates(&self) -> bool {
        Protocol::<LinearForm<F>>::singles(&self.protocol) != Singles::Hidden
    }

    fn aggregate_singly(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
    ) -> Result<(Aggregate, Vec<Update>)> {
        if self.shows_single_updates() {
            self.play(round, updates, links, attempts, true)
        } else {
            Err(hidden())
        }
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

    fn is_over_field(&self) -> bool {
        true
    }

    fn share_of(&self, noise: &DistributedNoise) -> Result<Added> {
        Ok(self.released(noise)?.added())
    }

    fn add_noise(&mut self, noise: &DistributedNoise) -> Result<()> {
        self.released = Some(self.released(noise)?);
        Ok(())
    }

    fn added(&self) -> Option<Added> {
        self.released.as_ref().map(Released::added)
    }

    fn phases(&self) -> Vec<Phase> {
        Protocol::<LinearForm<F>>::phases(&self.protocol)
    }

    fn formal_coordinates(&self) -> usize {
        self.setup.clients * Protocol::<LinearForm<F>>::formal_len(&self.protocol)
    }

    fn fullest(&self) -> u64 {
        Protocol::<LinearForm<F>>::fullest(&self.protocol)
    }

    fn resends(&self) -> bool {
        Protocol::<LinearForm<F>>::resends(&self.protocol)
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
