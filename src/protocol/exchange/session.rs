//! Protocols in simulation, behind the face that the round loop knows.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::{
    AUDITABLE, Aggregate, Aggregator, Formal, Lost, Outcome, Scheme, Traffic, Update, arrives, formal,
    over_field, play, run,
};
use crate::algebra::field::Prime;
use crate::algebra::grid::{Grid, Public};
use crate::algebra::quantise::Quantiser;
use crate::algebra::{CHUNK, LinearForm, Real, Sample};
use crate::coding::Code;
use crate::error::{Error, Result};
use crate::keys::{FormalKeys, Later, SeededKeys};
use crate::network::{LinkModel, LinkUse, Perfect, round_seconds};
use crate::precision;
use crate::protocol::{Decoded, Input, Message, PartyId, Protocol, Reason};
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
    /// Bytes that one vector of every client's takes at most in one part of a separable scheme; see [`part_len`].
    pub part_bytes: usize,
    /// The most that rounding may move a sum, relative to its norm.
    pub tolerance: f64,
    /// What weighted updates are rounded to, if there is a grid.
    pub grid: Option<Grid>,
}

impl Setup {
    /// A scheme without a code over links that may fail.
    #[must_use]
    pub fn new(clients: usize, seed: Seed, scheme: Scheme) -> Self {
        Self {
            clients,
            reliable: false,
            seed,
            scheme,
            code: None,
            holders: None,
            part_bytes: PART_BYTES,
            tolerance: Public::default().tolerance,
            grid: None,
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

    fn links<'a>(&self, links: &'a dyn LinkModel) -> &'a dyn LinkModel {
        if self.reliable { &Perfect } else { links }
    }

    /// The streams of keys from the coordinate `start` on.
    fn keys(&self, start: usize) -> Later<SeededKeys> {
        Later { source: SeededKeys(self.seed), chunks: start / crate::keys::CHUNK }
    }

    /// Plays a round, part by part where the scheme treats all coordinates alike: with the same result, in less memory. The links carry
    /// whole messages in the first part, and those of the others meet the same fate.
    fn aggregate<'u, S: Sample, P: Protocol<S>, I: Input<S>>(
        &self,
        protocol: &P,
        round: u64,
        updates: &'u [Update],
        links: &dyn LinkModel,
        attempts: u32,
        symbols: &Symbols<impl Fn(usize, &'u Update, Range<usize>) -> I, impl Fn(Vec<S>) -> Vec<f64>>,
    ) -> Aggregate {
        if let Some(refused) = refusal(updates) {
            return refused;
        }
        let silent = |party| links.is_silent(party);
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
        let Outcome { decoded, attempts, refused } = from(0, attempts, &mut |link| {
            // The other parts' symbols; what the server sends holds none.
            let rest = if link.from == PartyId::Server { 0 } else { (len - part) * S::BYTES };
            let link = LinkUse { bytes: link.bytes + rest as u64, ..link };
            let delivered = arrives(links, link);
            traffic.count(link);
            arrivals += u64::from(delivered && link.to == PartyId::Server);
            sent.push((link, delivered));
            delivered
        });
        let seconds = round_seconds(links, self.clients, attempts, sent.iter().map(|(link, _)| *link));
        let mut decoded = decoded.map(&symbols.numbers);
        for start in (part..len).step_by(part.max(1)) {
            let Decoded::Sum { sum, included, error } = &mut decoded else { break };
            let mut fates = sent.iter().map(|(_, delivered)| *delivered);
            match from(start, attempts, &mut |_| fates.next().unwrap_or(false)).decoded {
                Decoded::Sum { sum: more, included: same, error: of_part } if same == *included => {
                    *error = error.hypot(of_part);
                    sum.reserve_exact(len - sum.len());
                    sum.extend((symbols.numbers)(more));
                }
                _ => {
                    tracing::error!(
                        "round {round}: the parts of a round ended differently; its sum is given up"
                    );
                    decoded = Decoded::lost();
                }
            }
        }
        let decoded = precision::checked(decoded, self.tolerance);
        Aggregate { decoded, attempts, arrivals, traffic, seconds, sent, refused, lost: None }
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
}

/// Coordinates of a part, of which the vectors of all clients take at most `part_bytes` where one coordinate takes `each`: a power of 2, which
/// an allocator need not round up. At least a [`CHUNK`], and a chunk of keys for every thread, even if that takes more bytes.
#[must_use]
pub fn part_len(part_bytes: usize, each: usize) -> usize {
    let least = CHUNK.max((rayon::current_num_threads() * crate::keys::CHUNK).next_power_of_two());
    least.max(1 << (part_bytes / each.max(1)).max(1).ilog2())
}

/// [`Setup::part_bytes`] of every scheme.
pub const PART_BYTES: usize = 1 << 24;

// Keys and coins are drawn in whole chunks, so that parts have those of the whole.
const _: () = assert!(CHUNK.is_multiple_of(crate::keys::CHUNK));

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

/// Some coordinates of an update.
pub(crate) struct Part<'a> {
    /// The update.
    pub update: &'a Update,
    /// Which of its coordinates.
    pub part: Range<usize>,
    /// What the weighted coordinates are rounded to, if anything.
    pub grid: Option<Grid>,
}

impl<S: Real> Input<S> for Part<'_> {
    fn len(&self) -> usize {
        self.part.len()
    }

    fn add_to(&self, y: &mut [S]) {
        S::axpy_f32(y, self.update.weight, &self.update.delta[self.part.clone()], self.grid.as_ref());
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
        let grid = self.setup.grid;
        let symbols = Symbols { input: |_, update, part| Part { update, part, grid }, numbers: S::into_f64 };
        self.setup.aggregate(&self.protocol, round, updates, links, attempts, &symbols)
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
        let whole = |update| Part { update, part: 0..update.delta.len(), grid: self.setup.grid };
        let inputs: Vec<Part<'_>> = updates.iter().map(whole).collect();
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

/// A protocol over the prime field `F`, with quantised updates.
pub struct FieldSession<P, F> {
    /// The scheme.
    pub protocol: P,
    /// How updates become symbols.
    pub quantiser: Quantiser,
    /// The rest.
    pub setup: Setup,
    field: PhantomData<fn() -> F>,
    /// Whether it has said that quantising loses much.
    warned: AtomicBool,
}

/// Share of clipped coordinates above which a run is warned.
pub const MOST_SATURATED: f64 = 0.01;

/// Share of coordinates rounded to 0 above which a run is warned.
pub const MOST_UNDERFLOWED: f64 = 0.5;

impl<P, F> FieldSession<P, F> {
    /// Puts a session together.
    #[must_use]
    pub fn new(protocol: P, quantiser: Quantiser, setup: Setup) -> Self {
        Self { protocol, quantiser, setup, field: PhantomData, warned: AtomicBool::new(false) }
    }

    /// What quantising loses of `updates`; says so once when it is much.
    fn lost(&self, updates: &[Update]) -> Option<Lost> {
        let counts = updates.iter().map(|update| self.quantiser.lost(update.weight, &update.delta));
        let (clipped, vanished) = counts.fold((0, 0), |(a, b), (c, v)| (a + c, b + v));
        let all = updates.iter().map(|update| update.delta.len()).sum::<usize>().max(1) as f64;
        let lost = Lost { saturated: clipped as f64 / all, underflowed: vanished as f64 / all };
        let advice = if lost.saturated > MOST_SATURATED {
            Some((lost.saturated, "exceed quantisation.clip", "raise it"))
        } else if lost.underflowed > MOST_UNDERFLOWED {
            let change = "raise quantisation.bits or lower quantisation.clip";
            Some((lost.underflowed, "are rounded to 0", change))
        } else {
            None
        };
        if let Some((share, what, change)) = advice
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("{:.0} % of the updates' coordinates {what}; {change}", 100.0 * share);
        }
        Some(lost)
    }
}

/// An update as field symbols.
pub(crate) struct Quantised<'a> {
    /// How it becomes symbols.
    pub quantiser: Quantiser,
    /// The update.
    pub update: &'a Update,
    /// Which of its coordinates.
    pub part: Range<usize>,
    /// Feeds stochastic rounding.
    pub seed: Seed,
}

impl<F: Prime> Input<F> for Quantised<'_> {
    fn len(&self) -> usize {
        self.part.len()
    }

    fn add_to(&self, y: &mut [F]) {
        let delta = &self.update.delta[..self.part.end];
        self.quantiser.add_to(y, self.update.weight, delta, self.part.start, self.seed);
    }
}

impl<P, F> Aggregator for FieldSession<P, F>
where
    F: Prime,
    P: Protocol<F> + Protocol<LinearForm<F>>,
{
    fn aggregate(&self, round: u64, updates: &[Update], links: &dyn LinkModel, attempts: u32) -> Aggregate {
        let coins = self.setup.seed.child("quantise", round);
        let input = |k, update, part: Range<usize>| Quantised {
            quantiser: self.quantiser,
            update,
            part,
            seed: coins.child("client", k as u64),
        };
        let numbers = |sum: Vec<F>| self.quantiser.real(&sum);
        let symbols = Symbols { input, numbers };
        let aggregate = self.setup.aggregate(&self.protocol, round, updates, links, attempts, &symbols);
        Aggregate { lost: self.lost(updates), ..aggregate }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetworkConfig;
    use crate::protocol::ProtocolConfig;

    const CLIENTS: usize = 5;
    const LEN: usize = 2 * CHUNK + 301;

    /// Plays in parts of as many bytes.
    struct InParts(usize);

    impl Assemble for InParts {
        type Output = Box<dyn Aggregator>;

        fn real<P>(self, protocol: P, single: bool, setup: Setup) -> Self::Output
        where
            P: Protocol<f32, Message: Wire<f32>>
                + Protocol<f64, Message: Wire<f64>>
                + Protocol<LinearForm>
                + 'static,
        {
            Simulated.real(protocol, single, Setup { part_bytes: self.0, ..setup })
        }

        fn field<F, P>(self, protocol: P, quantiser: Quantiser, setup: Setup) -> Self::Output
        where
            F: Prime + WireSymbol,
            P: Protocol<F, Message: Wire<F>> + Protocol<LinearForm<F>> + 'static,
        {
            Simulated.field::<F, P>(protocol, quantiser, Setup { part_bytes: self.0, ..setup })
        }
    }

    fn updates() -> Vec<Update> {
        let update = |k: usize| {
            let delta = (0..LEN).map(|i| ((3 * k + i) as f32).sin()).collect();
            Update { weight: 1.0 + k as f64, delta: Arc::new(delta) }
        };
        (0..CLIENTS).map(update).collect()
    }

    /// The same messages, sizes, losses and seconds as in one piece, and the same sum bit for bit: with the same keys and coins.
    #[test]
    fn parts_make_the_whole() {
        let network = "client_client = { kind = 'bernoulli', erasure = 0.1 }\n\
                       client_server = { kind = 'deadline', deadline = 0.02, latency = 0.0, jitter = 0.005, rate = 1.8e7 }\n";
        let secure = |more: &str| format!("kind = 'sec-cogc'\nstragglers = 2\nkey_std = 3.0\n{more}");
        let cases = [
            secure("arithmetic = 'f64'"),
            secure("arithmetic = 'f64'\ndecoder = 'gc-plus'\nkeys = 'plain'"),
            secure("arithmetic = 'f32'\nlink_key_std = 1.0"),
            secure("arithmetic = 'field'\nquantisation = { clip = 8.0, bits = 20 }"),
            "kind = 'fedavg'\narithmetic = 'field'\nquantisation = { clip = 8.0, bits = 6, rounding = 'stochastic' }".into(),
            secure("arithmetic = 'field'\ndecoder = 'gc-plus'\nquantisation = { modulus = '2^31-1', clip = 8.0, bits = 20 }"),
            "kind = 'cogc'\nstragglers = 2\narithmetic = 'f32'".into(),
            "kind = 'zero-sum'\nkeys = 'pairwise'".into(),
            "kind = 'gaussian'".into(),
        ];
        let (updates, mut outages) = (updates(), 0);
        for case in cases {
            let config: ProtocolConfig = toml::from_str(&case).unwrap();
            let [whole, parts] = [usize::MAX, 0].map(|part_bytes| {
                config.assemble(CLIENTS, Seed::new(3), &Public::default(), InParts(part_bytes)).unwrap()
            });
            let network: NetworkConfig = toml::from_str(network).unwrap();
            let links = network.build(CLIENTS, 20, Seed::new(4)).unwrap();
            let mut sums = 0;
            for round in 1..=20 {
                let [a, b] = [&whole, &parts].map(|scheme| scheme.aggregate(round, &updates, &links, 2));
                assert_eq!(
                    (a.attempts, a.arrivals, a.traffic),
                    (b.attempts, b.arrivals, b.traffic),
                    "{case}"
                );
                assert_eq!((a.seconds, &a.sent), (b.seconds, &b.sent), "{case}");
                // The bound on what rounding did is wider where fewer coordinates are looked at together.
                match (&a.decoded, &b.decoded) {
                    (
                        Decoded::Sum { sum, included, error },
                        Decoded::Sum { sum: other, included: same, error: more },
                    ) => {
                        sums += 1;
                        assert_eq!(sum.len(), LEN);
                        assert!(sum == other && included == same, "{case}, round {round}");
                        assert!((*error..=1.1 * error).contains(more), "{error} {more}");
                    }
                    (Decoded::Outage(reason), Decoded::Outage(same)) if reason == same => outages += 1,
                    _ => panic!("{case}, round {round}"),
                }
            }
            assert!(sums > 0, "{case}");
        }
        assert!(outages > 0);
    }

    #[test]
    fn parts_are_whole_chunks_and_occupy_all_threads() {
        let on = |threads, work: fn()| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work);
        };
        on(2, || {
            assert_eq!(part_len(0, 80), CHUNK);
            assert_eq!(part_len(80 * (4 * CHUNK - 1), 80), 2 * CHUNK);
            assert_eq!(part_len(80 * 4 * CHUNK, 80), 4 * CHUNK);
        });
        on(9, || assert_eq!(part_len(0, 80), 16 * crate::keys::CHUNK));
    }
}
