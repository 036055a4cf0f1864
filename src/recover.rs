//! How often a gradient code recovers a round over given links, and at what cost, without any learning.
//!
//! [`recover`] does it for a configuration. [`estimate`] plays rounds with link events only: a row of the
//! code is complete when all its shares arrive, and the round is recovered when the complete rows that reach
//! the server decode or, with `gc-plus`, all rows of the round so far; a partial sum (`gc-plus-partial`) is
//! no recovery. The events are those that a training run with the same seed meets. [`closed_form`] is the law
//! where there is one ([`crate::coding::outage`]), and [`bounds`] are about that of `gc-plus`
//! ([`crate::coding::stacked`]).

mod law;
mod outline;
mod row;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use crate::coding::{Code, CodeKind, DENSE_CLIENTS, Received};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::network::{LinkModel, LinkUse, MissedModel, Network, Node, round_seconds};
use crate::parallel::goes_on;
use crate::protocol::cogc::{self, DecoderKind};
use crate::protocol::{Aggregator, Coding, PartyId, ProtocolConfig, Stragglers, Update};
use crate::seed::Seed;
pub use law::{bounds, closed_form};
pub use outline::{Outline, SOLVED_CLIENTS, tolerances};
pub use row::RecoveryRow;

/// Rounds that are played at a point where no number is asked for.
pub const ROUNDS: u64 = 100_000;

/// Uses of links that this takes among more than [`SOLVED_CLIENTS`] clients, about.
const USES: u64 = 20_000_000;

/// Rounds that are played at least.
const LEAST_ROUNDS: u64 = 200;

/// Clients up to which `gc-plus`, which solves a system for most rounds, is played.
const STACKED_CLIENTS: usize = 128;

/// Rounds · M³ that this takes, about.
const STACKED_WORK: u64 = 1_000_000_000;

/// Rounds that one thread plays at a time; the result does not depend on it but for the rounding of seconds.
const BLOCK: u64 = 4096;

/// Blocks a thread that are played before anybody is asked whether to go on.
const BLOCKS: usize = 4;

/// Sizes of a scheme's messages in bytes, headers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// A share, client to client.
    pub share: u64,
    /// A sum, client to server.
    pub upload: u64,
}

/// Links on which nothing reaches the server, which then has nothing to solve.
struct Unanswered;

impl LinkModel for Unanswered {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        link.to != Node::Server
    }

    fn erasure(&self, _: Node, to: Node, _: u64) -> f64 {
        f64::from(u8::from(to == Node::Server))
    }
}

impl Sizes {
    /// Those of the coded protocol among any number of clients: the messages of complete sums do not depend
    /// on it.
    ///
    /// # Errors
    /// A rule that the section breaks.
    pub(crate) fn of_complete_sums(protocol: &ProtocolConfig, coordinates: usize) -> Result<Self> {
        let two = with_code(protocol, CodeKind::FractionalRepetition, 1, DecoderKind::Standard)?;
        let scheme = two.build(2, Seed::new(0)).map_err(|error| error.within("protocol"))?;
        Self::of(&*scheme, 2, coordinates)
    }

    /// Measures the messages of `scheme` for updates of `coordinates` coordinates: their size is a header and
    /// a fixed number of bytes per coordinate, so that two short rounds tell it.
    ///
    /// # Errors
    /// Only defects.
    pub fn of(scheme: &dyn Aggregator, clients: usize, coordinates: usize) -> Result<Self> {
        let measure = |len: usize| -> Result<[u64; 2]> {
            let updates: Vec<Update> =
                (0..clients).map(|_| Update { weight: 1.0, delta: Arc::new(vec![0.0; len]) }).collect();
            let sent = scheme.aggregate(1, &updates, &Unanswered, 1)?.sent;
            let largest = |to_server: bool| {
                let of_kind = sent.iter().filter(|(link, _)| (link.to == PartyId::Server) == to_server);
                of_kind.map(|(link, _)| link.bytes).max().unwrap_or(0)
            };
            Ok([largest(false), largest(true)])
        };
        let (one, two) = (measure(1)?, measure(2)?);
        let size = |i: usize| one[i] + (two[i] - one[i]) * (coordinates as u64 - 1);
        Ok(Self { share: size(0), upload: size(1) })
    }
}

/// Totals over many rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Rounds played.
    pub rounds: u64,
    /// Rounds that the server could decode.
    pub recovered: u64,
    /// Attempts used.
    pub attempts: u64,
    /// Bytes between clients, lost messages included.
    pub bytes_client_client: u64,
    /// Bytes to the server, lost messages included.
    pub bytes_client_server: u64,
    /// Simulated seconds; `None` where messages take no time.
    pub seconds: Option<f64>,
}

impl Estimate {
    /// The measured probability that a round is recovered.
    #[must_use]
    pub fn probability(&self) -> f64 {
        self.recovered as f64 / self.rounds as f64
    }

    /// The standard error of [`Estimate::probability`] for independent rounds.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        let p = self.probability();
        (p * (1.0 - p) / self.rounds as f64).sqrt()
    }

    fn add(self, other: Self) -> Self {
        Self {
            rounds: self.rounds + other.rounds,
            recovered: self.recovered + other.recovered,
            attempts: self.attempts + other.attempts,
            bytes_client_client: self.bytes_client_client + other.bytes_client_client,
            bytes_client_server: self.bytes_client_server + other.bytes_client_server,
            seconds: self.seconds.into_iter().chain(other.seconds).reduce(|a, b| a + b),
        }
    }
}

/// Whether `rows` decode, without solving where the answer is known.
fn decodes(code: &dyn Code, rows: &[usize]) -> bool {
    if rows.len() >= code.clients() - code.stragglers() {
        return true;
    }
    // Almost surely no smaller set of random rows spans 1ᵀ.
    !rows.is_empty() && code.kind() != CodeKind::CyclicRandom && code.decodes(rows)
}

/// Plays rounds 1 to `rounds` with up to `attempts` attempts each.
#[must_use]
pub fn estimate(
    code: &dyn Code,
    links: &dyn LinkModel,
    sizes: Sizes,
    attempts: u32,
    rounds: u64,
) -> Estimate {
    let blocks = 0..rounds.div_ceil(BLOCK);
    played(code, links, sizes, attempts, rounds, blocks).into_iter().fold(Estimate::default(), Estimate::add)
}

/// [`estimate`], until `stop` is set.
///
/// # Errors
/// [`Error::Stopped`].
pub fn estimate_until(
    stop: &AtomicBool,
    code: &dyn Code,
    links: &dyn LinkModel,
    sizes: Sizes,
    attempts: u32,
    rounds: u64,
) -> Result<Estimate> {
    let blocks = rounds.div_ceil(BLOCK);
    let together = BLOCKS * rayon::current_num_threads();
    let mut sum = Estimate::default();
    for first in (0..blocks).step_by(together) {
        goes_on(stop)?;
        let some = first..blocks.min(first + together as u64);
        sum = played(code, links, sizes, attempts, rounds, some).into_iter().fold(sum, Estimate::add);
    }
    Ok(sum)
}

fn played(
    code: &dyn Code,
    links: &dyn LinkModel,
    sizes: Sizes,
    attempts: u32,
    rounds: u64,
    blocks: Range<u64>,
) -> Vec<Estimate> {
    let of_block = |block| {
        let last = rounds.min((block + 1) * BLOCK);
        (block * BLOCK + 1..=last)
            .fold(Estimate::default(), |sum, round| sum.add(play(code, links, sizes, attempts, round)))
    };
    blocks.into_par_iter().map(of_block).collect()
}

fn play(code: &dyn Code, links: &dyn LinkModel, sizes: Sizes, attempts: u32, round: u64) -> Estimate {
    let clients = code.clients();
    let client = |k: usize| PartyId::Client(k as u16);
    let timed = links.deadline(client(0).into(), PartyId::Server.into()).is_some()
        || links.deadline(client(0).into(), client(clients - 1).into()).is_some();
    let (incomplete, repeats) = (code.takes_incomplete(), code.repeats());
    let mut uses: Vec<LinkUse> = Vec::new();
    let mut received: Vec<Received> = Vec::new();
    let mut result = Estimate { rounds: 1, ..Estimate::default() };
    for attempt in 0..attempts {
        result.attempts += 1;
        let (mut rows, mut recovered) = (Vec::with_capacity(clients), false);
        for repeat in 0..repeats {
            let transfer = repeat as u8;
            for row in 0..clients {
                let share = |k: usize| {
                    let (from, to, bytes) = (client(k), client(row), sizes.share);
                    LinkUse { round, attempt, transfer, from, to, bytes }
                };
                let arrives = |k: usize| k == row || links.delivers(share(k).into());
                result.bytes_client_client += code.stragglers() as u64 * sizes.share;
                if timed {
                    uses.extend(code.support(row).iter().filter(|&&k| k != row).map(|&k| share(k)));
                }
                let complete = code.support(row).iter().all(|&k| arrives(k));
                if !complete && !incomplete {
                    continue;
                }
                let (from, to, bytes) = (client(row), PartyId::Server, sizes.upload);
                let upload = LinkUse { round, attempt, transfer, from, to, bytes };
                result.bytes_client_server += sizes.upload;
                if timed {
                    uses.push(upload);
                }
                if links.delivers(upload.into()) {
                    if complete && !rows.contains(&row) {
                        rows.push(row);
                    }
                    if incomplete {
                        let held = code.support(row).iter().map(|&k| arrives(k)).collect();
                        received.push(Received { attempt: attempt * repeats + repeat, row, held });
                    }
                }
            }
            // With gc-plus other repeats have other codes.
            recovered |= (incomplete || repeat + 1 == repeats) && decodes(code, &rows);
            if incomplete {
                rows.clear();
            }
        }
        if recovered || incomplete && code.recovers(&received) {
            result.recovered = 1;
            break;
        }
    }
    if timed {
        let parties: Vec<PartyId> = (0..clients).map(client).chain([PartyId::Server]).collect();
        let phases = cogc::phases(code.stragglers(), repeats);
        result.seconds = round_seconds(links, &phases, &parties, result.attempts as u32, uses);
    }
    result
}

/// Code, straggler tolerance and decoder of a protocol that has a gradient code.
///
/// # Errors
/// A protocol without one.
pub fn coding(protocol: &ProtocolConfig) -> Result<(CodeKind, Stragglers, DecoderKind)> {
    let mut own = protocol.clone();
    match own.section_mut().coding() {
        Some(Coding { code, stragglers, decoder, .. }) => Ok((*code, *stragglers, *decoder)),
        None => {
            let rule = format!("`{}` has no gradient code; take cogc or sec-cogc", protocol.kind());
            Err(Error::config("protocol.kind", rule))
        }
    }
}

/// Times that shares and sums are sent in an attempt of a protocol that has a gradient code.
pub(crate) fn repeats(protocol: &ProtocolConfig) -> u32 {
    protocol.clone().section_mut().coding().map_or(1, |coding| coding.repeats)
}

/// The protocol with another gradient code and decoder.
///
/// # Errors
/// A protocol without a gradient code.
pub fn with_code(
    protocol: &ProtocolConfig,
    code: CodeKind,
    stragglers: usize,
    decoder: DecoderKind,
) -> Result<ProtocolConfig> {
    coding(protocol)?;
    let mut changed = protocol.clone();
    if let Some(own) = changed.section_mut().coding() {
        (*own.code, *own.stragglers, *own.decoder) = (code, Stragglers::Count(stragglers), decoder);
    }
    Ok(changed)
}

/// The scheme of `protocol` for `clients` clients; `None` where its family has no code of that tolerance, or
/// only a badly conditioned one.
///
/// # Errors
/// Any other rule that the section breaks.
pub(crate) fn where_it_exists(
    protocol: &ProtocolConfig,
    clients: usize,
    seed: Seed,
) -> Result<Option<Box<dyn Aggregator>>> {
    match protocol.build(clients, seed) {
        Ok(scheme) => Ok(Some(scheme)),
        Err(Error::NoCode { .. }) => Ok(None),
        Err(error) => Err(error.within("protocol")),
    }
}

/// Refuses more clients than can be looked at in some minutes.
pub(crate) fn check_clients(clients: usize) -> Result<()> {
    if clients <= DENSE_CLIENTS {
        return Ok(());
    }
    let rule = format!(
        "codes are compared among at most {DENSE_CLIENTS} clients, and these are {clients}; give fewer, as many as a cohort has"
    );
    Err(Error::config("clients", rule))
}

/// Rounds that are played with a code where no number is asked for.
pub(crate) fn affordable_rounds(code: &dyn Code, most: u64) -> u64 {
    let clients = code.clients() as u64;
    if code.clients() <= SOLVED_CLIENTS {
        return most;
    }
    let uses = clients * (code.stragglers() as u64 + 1);
    let solved = if code.takes_incomplete() { STACKED_WORK / clients.pow(3) } else { u64::MAX };
    (USES / uses).min(solved).max(LEAST_ROUNDS).min(most)
}

/// Hears of a point of a grid when it is found: its place, how many there are, and its row. An error ends the
/// search.
pub type Found<'a> = &'a mut dyn FnMut(usize, usize, &RecoveryRow) -> Result<()>;

/// How often the configured protocol recovers a round of the configured network: `rounds` rounds for each of
/// `tolerances`, or for every tolerance for which the configured code exists, among more than
/// [`SOLVED_CLIENTS`] for some of them. Messages have the size that updates of `coordinates` coordinates
/// need; the configuration's own rounds are not used. Without `rounds` they are [`ROUNDS`], and among many
/// clients as many as 20 million uses of links make. `found` hears of every row; once `stop` is set there are
/// no more.
///
/// Among many clients a code is an [`Outline`]: whether its numbers are conditioned well enough is not looked
/// at, and a `cyclic-mds` code counts as decoding from M − s sums or more only.
///
/// # Errors
/// A protocol without a gradient code, a code that does not exist for one of `tolerances`, cohorts that are
/// drawn, a network that cannot be built, more clients than [`DENSE_CLIENTS`], or with `gc-plus` than 128;
/// [`Error::Stopped`], and an error of `found`.
pub fn recover(
    config: &Config,
    coordinates: usize,
    tolerances: Option<&[usize]>,
    rounds: Option<u64>,
    stop: &AtomicBool,
    found: Found<'_>,
) -> Result<Vec<RecoveryRow>> {
    let mut rows = Vec::new();
    let mut keep = |place, total, row: RecoveryRow| -> Result<()> {
        found(place, total, &row)?;
        rows.push(row);
        Ok(())
    };
    recover_each(config, coordinates, tolerances, rounds, stop, &mut keep)?;
    Ok(rows)
}

/// [`recover`], which gives every row to `found` as soon as it is known, and keeps none.
///
/// # Errors
/// As there.
pub fn recover_each(
    config: &Config,
    coordinates: usize,
    tolerances: Option<&[usize]>,
    rounds: Option<u64>,
    stop: &AtomicBool,
    found: &mut dyn FnMut(usize, usize, RecoveryRow) -> Result<()>,
) -> Result<()> {
    config.is_not_drawn()?;
    let (family, _, decoder) = coding(&config.protocol)?;
    let (clients, seed, attempts) = (config.clients, Seed::new(config.seed), config.outage.attempts());
    check_clients(clients)?;
    if decoder.is_stacking() && clients > STACKED_CLIENTS {
        let rule = format!(
            "{} solves a system of {clients} columns in every round, and at most {STACKED_CLIENTS} clients are played; take \
             \"standard\", which recovers less",
            decoder.name()
        );
        return Err(Error::config("protocol.decoder", rule));
    }
    let most = rounds.unwrap_or(ROUNDS);
    let network = links(config, most, seed.child("links", 0))?;
    let asked = tolerances.map_or_else(|| outline::tolerances(family, clients), <[usize]>::to_vec);
    for (place, &stragglers) in asked.iter().enumerate() {
        let point = |code: &dyn Code, sizes: Sizes| -> Result<RecoveryRow> {
            let rounds = rounds.unwrap_or_else(|| affordable_rounds(code, ROUNDS));
            let estimate = estimate_until(stop, code, &network, sizes, attempts, rounds)?;
            let closed_form = closed_form(code, &network, sizes, attempts);
            let bounds = bounds(code, &network, sizes, attempts);
            Ok(RecoveryRow { bounds, ..RecoveryRow::new(code, attempts, &estimate, closed_form) })
        };
        let row = if clients > SOLVED_CLIENTS && decoder == DecoderKind::Standard {
            exists(family, clients, stragglers)?;
            let sizes = Sizes::of_complete_sums(&config.protocol, coordinates)?;
            point(&Outline::of(family, clients, stragglers).repeated(repeats(&config.protocol)), sizes)?
        } else {
            let protocol = with_code(&config.protocol, family, stragglers, decoder)?;
            let seed = seed.child("protocol", 0);
            let scheme = match tolerances {
                None => where_it_exists(&protocol, clients, seed)?,
                Some(_) => Some(protocol.build(clients, seed).map_err(|error| error.within("protocol"))?),
            };
            let Some(scheme) = scheme else { continue };
            let Some(code) = scheme.code() else { continue };
            point(code, Sizes::of(&*scheme, clients, coordinates)?)?
        };
        found(place + 1, asked.len(), row)?;
    }
    Ok(())
}

/// The configured links for so many rounds; none that combine copies of a message, of which a coded protocol
/// sends none.
pub(crate) fn links(config: &Config, rounds: u64, seed: Seed) -> Result<Network> {
    let links = config.network.build(config.clients, rounds, seed);
    let links = links.map_err(|error| error.within("network"))?;
    if links.combines() {
        let rule = "gradient codes send no message twice, and there is nothing to combine; take combining = \"none\"";
        return Err(Error::config("network", rule));
    }
    if config.network.missed_model == MissedModel::SitOut {
        let rule = "with somebody who sits out no code has a sum over all, and such rounds are not counted here; take \"old-model\", \
                    with which only uploads and shares decide";
        return Err(Error::config("network.missed_model", rule));
    }
    Ok(links)
}

/// Whether a family exists for (M, s).
fn exists(family: CodeKind, clients: usize, stragglers: usize) -> Result<()> {
    crate::coding::check(family, clients, stragglers).map_err(|error| error.within("protocol"))
}
