//! Protocols in simulation, behind the face that the round loop knows.

mod field;
mod input;

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::singles::{Gathered, hidden};
use super::{Aggregate, Aggregator, Outcome, Scheme, Traffic, Update, arrives, formal, play, run};
use crate::algebra::distributed::{Added, DistributedNoise, Law};
use crate::algebra::field::Prime;
use crate::algebra::grid::{Grid, Public};
use crate::algebra::quantise::Quantiser;
use crate::algebra::{CHUNK, LinearForm, Real, Sample};
use crate::coding::Code;
use crate::error::{Error, Result};
use crate::keys::{FormalKeys, Later, SeededKeys};
use crate::message::{LinkUse, Phase};
use crate::network::{LinkModel, Perfect, round_seconds};
use crate::precision;
use crate::privacy::Formal;
use crate::protocol::{Decoded, Input, Message, PartyId, Protocol, Reason, Singles};
use crate::seed::Seed;
use crate::wire::{Wire, WireSymbol};
pub use field::FieldSession;
pub(crate) use input::{Part, Share};

/// What all schemes in simulation have.
pub struct Setup {
    /// Number of clients M.
    pub clients: usize,
    /// Whether the scheme runs over links that never fail.
    pub reliable: bool,
    /// Whether it estimates the sum over all clients, where others find a sum or nothing.
    pub estimates: bool,
    /// Where the keys come from.
    pub seed: Seed,
    /// How it appears in tables.
    pub scheme: Scheme,
    /// Its gradient code.
    pub code: Option<Arc<dyn Code>>,
    /// The clients who hold each shard, where shards are replicated.
    pub holders: Option<Vec<Vec<usize>>>,
    /// Bytes that one vector of every client's takes at most in one part of a separable scheme; see
    /// [`part_len`].
    pub part_bytes: usize,
    /// The most that rounding may move a sum, relative to its norm.
    pub tolerance: f64,
    /// What weighted updates are rounded to, if there is a grid.
    pub grid: Option<Grid>,
    /// What is added to every input over the reals, if anything.
    pub noise: Option<Added>,
}

impl Setup {
    /// A scheme without a code over links that may fail.
    #[must_use]
    pub fn new(clients: usize, seed: Seed, scheme: Scheme) -> Self {
        Self {
            clients,
            reliable: false,
            estimates: false,
            seed,
            scheme,
            code: None,
            holders: None,
            part_bytes: PART_BYTES,
            tolerance: Public::default().tolerance,
            grid: None,
            noise: None,
        }
    }

    /// The same for inputs of which this is known, on a grid if there is one.
    #[must_use]
    pub fn for_inputs(self, public: &Public, grid: Option<Grid>) -> Self {
        Self { tolerance: public.tolerance, grid, ..self }
    }

    /// The same over links that never fail.
    #[must_use]
    pub fn reliable(self) -> Self {
        Self { reliable: true, ..self }
    }

    /// The same as a scheme that estimates.
    #[must_use]
    pub fn estimating(self) -> Self {
        Self { estimates: true, ..self }
    }

    /// What an input is given, as its share of `noise`, of this law.
    fn share(&self, noise: &DistributedNoise, law: Law) -> Result<Added> {
        let summands = self.scheme.least_included.unwrap_or(self.clients);
        let share = noise.share(summands).map(|std| Added { law, std, summands, integers: None });
        share.ok_or_else(|| {
            let rule = format!(
                "{} colluders may hold every share of a sum over {summands}; give fewer, or raise protocol.least_included",
                noise.colluders
            );
            Error::config("privacy.release.colluders", rule)
        })
    }

    /// What the noise of input `k` in a round is drawn from, the same in every attempt.
    fn noise_seed(&self, round: u64, k: usize) -> Seed {
        self.seed.child("release", round).child("input", k as u64)
    }

    /// That noise, over the reals.
    fn noise_of(&self, round: u64, k: usize) -> Option<Share> {
        self.noise.map(|added| Share { std: added.std, seed: self.noise_seed(round, k) })
    }

    fn links<'a>(&self, links: &'a dyn LinkModel) -> &'a dyn LinkModel {
        if self.reliable { &Perfect } else { links }
    }

    /// The streams of keys from the coordinate `start` on.
    fn keys(&self, start: usize) -> Later<SeededKeys> {
        Later { source: SeededKeys(self.seed), chunks: start / crate::keys::CHUNK }
    }

    /// Plays a round, part by part where the scheme treats all coordinates alike: with the same result, in
    /// less memory. The links carry whole messages in the first part, and those of the others meet the same
    /// fate. Returns the single updates that the server received, too, where they are asked for.
    fn aggregate<'u, S: Sample, P: Protocol<S>, I: Input<S>>(
        &self,
        protocol: &P,
        round: u64,
        updates: &'u [Update],
        links: &dyn LinkModel,
        attempts: u32,
        symbols: &Symbols<
            impl Fn(usize, &'u Update, Range<usize>) -> I,
            impl Fn(Vec<S>) -> Vec<f64> + Send + Sync,
        >,
    ) -> Result<(Aggregate, Vec<Update>)> {
        if let Some(refused) = refusal(updates) {
            return Ok((refused, Vec::new()));
        }
        let silent = |party: PartyId| links.is_silent(party.into());
        let links = self.links(links);
        let len = updates.first().map_or(0, |update| update.delta.len());
        let part = part_len(self.part_bytes, updates.len() * S::BYTES);
        let part = if protocol.is_separable() { part.min(len) } else { len };
        let from = |start: usize, attempts: u32, carry: &mut dyn FnMut(LinkUse) -> bool| {
            let own = start..len.min(start + part);
            let inputs: Vec<I> = updates
                .iter()
                .enumerate()
                .map(|(k, update)| (symbols.input)(k, update, own.clone()))
                .collect();
            let inputs: Vec<&dyn Input<S>> = inputs.iter().map(|input| input as _).collect();
            play(protocol, round, &inputs, &self.keys(start), attempts, |_, link| {
                !silent(link.from) && carry(link)
            })
        };
        let (mut traffic, mut arrivals, mut sent) = (Traffic::default(), 0, Vec::new());
        let Outcome { decoded, singles, attempts, refused } = from(0, attempts, &mut |link| {
            // The other parts' symbols; what the server sends holds none.
            let rest = if link.from == PartyId::Server { 0 } else { (len - part) * S::BYTES };
            let link = LinkUse { bytes: link.bytes + rest as u64, ..link };
            let delivered = arrives(links, link);
            traffic.count(link);
            arrivals += u64::from(delivered && link.to == PartyId::Server);
            sent.push((link, delivered));
            delivered
        });
        let uses = sent.iter().map(|(link, _)| *link);
        let seconds = round_seconds(links, &protocol.phases(), &protocol.parties(), attempts, uses);
        let mut gathered = symbols.singly.then(|| Gathered::new(updates));
        match &mut gathered {
            Some(gathered) => gathered.append::<P, _, _>(&decoded, singles, &symbols.numbers)?,
            None => drop(singles),
        }
        let mut decoded = decoded.map(&symbols.numbers);
        for start in (part..len).step_by(part.max(1)) {
            if decoded.reason().is_some() {
                break;
            }
            let mut fates = sent.iter().map(|(_, delivered)| *delivered);
            let next = from(start, attempts, &mut |_| fates.next().unwrap_or(false));
            if let Some(gathered) = &mut gathered {
                gathered.append::<P, _, _>(&next.decoded, next.singles, &symbols.numbers)?;
            }
            match (&mut decoded, next.decoded) {
                (
                    Decoded::Sum { sum, included, error },
                    Decoded::Sum { sum: more, included: same, error: of_part },
                ) if same == *included => {
                    *error = error.hypot(of_part);
                    sum.reserve_exact(len - sum.len());
                    sum.extend((symbols.numbers)(more));
                }
                (Decoded::Estimate { sum, included }, Decoded::Estimate { sum: more, included: same })
                    if same == *included =>
                {
                    sum.reserve_exact(len - sum.len());
                    sum.extend((symbols.numbers)(more));
                }
                _ => {
                    return Err(Error::broken::<P>(format!("parts of round {round} ended differently")));
                }
            }
        }
        let decoded = precision::checked(decoded, self.tolerance);
        let singles = gathered.map_or_else(Vec::new, |gathered| gathered.of(&decoded));
        let aggregate =
            Aggregate { decoded, attempts, arrivals, traffic, seconds, sent, refused, lost: None };
        Ok((aggregate, singles))
    }
}

/// The outage of a round with an update that is not finite, of which no sum could tell.
fn refusal(updates: &[Update]) -> Option<Aggregate> {
    let finite = updates.par_iter().all(Update::is_finite);
    (!finite).then(|| Aggregate::nothing(Reason::Precision))
}

/// How some coordinates of the update of a client become an input, and symbols become numbers.
struct Symbols<I, N> {
    input: I,
    numbers: N,
    /// Whether single inputs become numbers, too.
    singly: bool,
}

/// Coordinates of a part, of which the vectors of all clients take at most `part_bytes` where one coordinate
/// takes `each`: a power of 2, which an allocator need not round up. At least a [`CHUNK`], and a chunk of
/// keys for every thread, even if that takes more bytes.
#[must_use]
pub fn part_len(part_bytes: usize, each: usize) -> usize {
    let least = CHUNK.max((rayon::current_num_threads() * crate::keys::CHUNK).next_power_of_two());
    least.max(1 << (part_bytes / each.max(1)).max(1).ilog2())
}

/// [`Setup::part_bytes`] of every scheme.
pub const PART_BYTES: usize = 1 << 24;

// Keys and coins are drawn in whole chunks, so that parts have those of the whole.
const _: () = assert!(CHUNK.is_multiple_of(crate::keys::CHUNK));

/// What a scheme is made for.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    /// Number of clients M.
    pub clients: usize,
    /// What the code and the keys are drawn from.
    pub seed: Seed,
    /// What everybody knows of the inputs.
    pub public: &'a Public,
}

impl Given<'_> {
    /// A scheme without a code over links that may fail, on a grid if there is one.
    pub fn setup(self, scheme: Scheme, grid: Option<Grid>) -> Setup {
        Setup::new(self.clients, self.seed, scheme).for_inputs(self.public, grid)
    }
}

/// What is made of a scheme whose messages have a binary form, once its numbers are known: a session in
/// simulation, or the parties of a deployment.
pub(crate) trait Assemble {
    /// What is made.
    type Output;

    /// Whether parties are apart, so that nobody can draw keys for several of them.
    const APART: bool;

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

    const APART: bool = false;

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
        singly: bool,
    ) -> Result<(Aggregate, Vec<Update>)>
    where
        P: Protocol<S>,
    {
        // What arrives in the clear is the update itself, which needs no copy.
        let plain = self.protocol.singles() == Singles::Plain && self.setup.noise.is_none();
        let grid = self.setup.grid;
        let input = |k, update, part| Part { update, part, grid, noise: self.setup.noise_of(round, k) };
        let symbols = Symbols { input, numbers: S::into_f64, singly: singly && !plain };
        let (aggregate, gathered) =
            self.setup.aggregate(&self.protocol, round, updates, links, attempts, &symbols)?;
        let own = |&k: &u16| updates[usize::from(k)].clone();
        let singles = match singly && plain {
            true => aggregate.decoded.included().iter().map(own).collect(),
            false => gathered,
        };
        Ok((aggregate, singles))
    }

    fn play(
        &self,
        round: u64,
        updates: &[Update],
        links: &dyn LinkModel,
        attempts: u32,
        singly: bool,
    ) -> Result<(Aggregate, Vec<Update>)>
    where
        P: Protocol<f32> + Protocol<f64>,
    {
        if self.single {
            self.numeric::<f32>(round, updates, links, attempts, singly)
        } else {
            self.numeric::<f64>(round, updates, links, attempts, singly)
        }
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
        Ok(self.play(round, updates, links, attempts, false)?.0)
    }

    fn shows_single_updates(&self) -> bool {
        Protocol::<LinearForm>::singles(&self.protocol) != Singles::Hidden
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
        let links = self.setup.links(links);
        let views = formal(&self.protocol, self.setup.clients, round, &FormalKeys, links, attempts);
        Ok(Formal::Real(views))
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
        let (setup, grid) = (&self.setup, self.setup.grid);
        let whole = |k: usize| {
            let (update, noise) = (&updates[k], setup.noise_of(round, k));
            Part { update, part: 0..update.delta.len(), grid, noise }
        };
        let inputs: Vec<Part<'_>> = (0..updates.len()).map(whole).collect();
        let inputs: Vec<&dyn Input<f64>> = inputs.iter().map(|input| input as _).collect();
        let mut vectors = Vec::new();
        run(
            &self.protocol,
            round,
            &inputs,
            &self.setup.keys(0),
            links,
            attempts,
            |message, delivered, link| {
                if delivered && link.to == party {
                    vectors.extend(message.reveals());
                }
            },
        );
        Ok(vectors)
    }

    fn phases(&self) -> Vec<Phase> {
        Protocol::<LinearForm>::phases(&self.protocol)
    }

    fn share_of(&self, noise: &DistributedNoise) -> Result<Added> {
        self.setup.share(noise, Law::Gaussian)
    }

    fn add_noise(&mut self, noise: &DistributedNoise) -> Result<()> {
        self.setup.noise = Some(self.share_of(noise)?);
        Ok(())
    }

    fn added(&self) -> Option<Added> {
        self.setup.noise
    }

    fn formal_coordinates(&self) -> usize {
        self.setup.clients
    }

    fn imprecision(&self, scale: f64, update: f64) -> Option<f64> {
        if self.single {
            Protocol::<f32>::imprecision(&self.protocol, scale, update)
        } else {
            Protocol::<f64>::imprecision(&self.protocol, scale, update)
        }
    }

    fn estimates(&self) -> bool {
        self.setup.estimates
    }

    fn fullest(&self) -> u64 {
        Protocol::<LinearForm>::fullest(&self.protocol)
    }

    fn resends(&self) -> bool {
        Protocol::<LinearForm>::resends(&self.protocol)
    }

    fn grid(&self) -> Option<Grid> {
        self.setup.grid
    }

    fn scheme(&self) -> &Scheme {
        &self.setup.scheme
    }

    fn code(&self) -> Option<&dyn Code> {
        self.setup.code.as_deref()
    }
}

#[cfg(test)]
mod tests;
