//! Which code and which straggler tolerance suit a network: outage, cost, conditioning and leakage of every
//! candidate.
//!
//! A larger s tolerates more lost rows but makes every row depend on more links and costs s shares per
//! client, so neither end is best. [`candidates`] tabulates all, with the Pareto front; [`resolve`] replaces
//! `stragglers = "auto"` by the candidate with the fewest bytes per recovered round.
//!
//! Among more than [`SOLVED_CLIENTS`] clients outage and bytes are those of [`Outline`]s, for some tolerances
//! and the standard decoder; conditioning and leakage are computed for the cheapest, and beyond 256 clients
//! for none.
//!
//! Clients count as equally large: data is not looked at. Outage, bytes and time do not depend on that, the
//! leakage does, and an audit ([`crate::audits`]) takes the sizes of the partition.

pub mod convergence;
mod resolve;

use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use serde::Serialize;

use crate::audit::Rotation;
use crate::audit::erasures::{Lost, worst};
use crate::coding::{Code, CodeKind, affordable, outage};
use crate::config::Config;
use crate::error::Result;
use crate::network::{LinkModel, Network, Node, Perfect};
use crate::parallel::{NEVER, goes_on};
use crate::privacy::view::{Coalition, View};
use crate::privacy::{Formal, Leakage, lmip};
use crate::protocol::cogc::DecoderKind;
use crate::protocol::{Aggregator, PartyId, ProtocolConfig};
use crate::recover::{
    Estimate, Outline, SOLVED_CLIENTS, Sizes, affordable_rounds, check_clients, closed_form, coding,
    estimate_until, repeats, tolerances, where_it_exists, with_code,
};
use crate::seed::Seed;
pub use resolve::resolve;

/// Sets of rows in which the decoding amplification is measured.
const TRIED_SETS: usize = 300;

/// Rounds that are played where there is no closed form, by [`resolve`] ...
const ROUNDS: u64 = 10_000;

/// ... and with `gc-plus`, which solves a system for most of them.
const STACKED_ROUNDS: u64 = 2_000;

/// Codes among many clients of which conditioning and leakage are computed, and up to how many clients.
const JUDGED: usize = 8;
const JUDGED_CLIENTS: usize = 256;

/// One way to run the coded protocol of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// Gradient code.
    #[serde(serialize_with = "code_name")]
    pub code: CodeKind,
    /// Straggler tolerance s.
    pub stragglers: usize,
    /// How the server decodes.
    pub decoder: &'static str,
    /// Attempts allowed per round.
    pub attempts: u32,
    /// Probability that a round is not recovered: computed where there is a closed form, otherwise measured.
    pub outage: f64,
    /// Whether `outage` and `bytes` are computed rather than measured. Among many clients what is computed
    /// for `cyclic-mds` is an upper bound, see [`Outline`].
    pub exact: bool,
    /// Expected bytes per recovered round, those of lost rounds included; infinite when no round is
    /// recovered.
    pub bytes: f64,
    /// Simulated seconds per recovered round, measured; empty where messages take no time or no round was
    /// recovered.
    pub seconds: Option<f64>,
    /// Worst factor ‖a‖₂ by which decoding from M − s rows amplifies errors ([`Code::amplification`]); NaN,
    /// like what leaks, and empty in tables where it is not computed.
    #[serde(serialize_with = "known")]
    pub amplification: f64,
    /// Worst client's leakage to another client, nats per coordinate, among clients of equal size: when no
    /// message is lost, or with `gc-plus` over seeded patterns of losses.
    #[serde(serialize_with = "known")]
    pub leakage_neighbour: f64,
    /// The same to the server.
    #[serde(serialize_with = "known")]
    pub leakage_server: f64,
    /// Whether no other candidate is at least as good in outage, bytes, amplification and leakage, and better
    /// in one; of those of which all is known, if there are any.
    pub pareto: bool,
}

fn code_name<S: serde::Serializer>(code: &CodeKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.name())
}

fn known<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_nan() { serializer.serialize_none() } else { serializer.serialize_f64(*value) }
}

impl Candidate {
    /// What is to be small.
    fn costs(&self) -> [f64; 5] {
        [self.outage, self.bytes, self.amplification, self.leakage_neighbour, self.leakage_server]
    }

    fn is_judged(&self) -> bool {
        !self.costs().iter().any(|cost| cost.is_nan())
    }
}

/// Whether costs `a` are nowhere larger than `b` and somewhere smaller.
fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b) && a.iter().zip(b).any(|(a, b)| a < b)
}

/// The links of planning: of the configured law, but not those that the run will meet.
fn network(config: &Config) -> Result<Network> {
    config.is_not_drawn()?;
    let seed = Seed::new(config.seed).child("plan", 0);
    crate::recover::links(config, config.rounds, seed)
}

/// The codes to choose from: the configured family, or with "auto" all, for the configured tolerance or with
/// `all` for every one. Without stragglers all families are the same, and with M − 1 too: only the first of
/// them is listed.
fn codes(config: &Config, all: bool) -> Result<Vec<(CodeKind, usize)>> {
    let clients = config.clients;
    let (family, stragglers, _) = coding(&config.protocol)?;
    let families = match family {
        // Of an outline no random code differs from a cyclic one.
        CodeKind::Auto if clients > SOLVED_CLIENTS => {
            vec![CodeKind::FractionalRepetition, CodeKind::CyclicMds]
        }
        CodeKind::Auto => CodeKind::FAMILIES.to_vec(),
        family => vec![family],
    };
    let range = match stragglers.count(clients) {
        Ok(s) if !all => s..s + 1,
        _ => 0..clients,
    };
    let of_family: Vec<(CodeKind, Vec<usize>)> =
        families.iter().map(|&family| (family, tolerances(family, clients))).collect();
    let some = |family: CodeKind| {
        of_family.iter().find(|(of, _)| *of == family).map_or(&[][..], |(_, some)| some.as_slice())
    };
    let mut codes = Vec::new();
    for s in range {
        let looked_at = |family: &CodeKind| family.exists(clients, s) && some(*family).contains(&s);
        let existing = families.iter().copied().filter(looked_at);
        let most = if s == 0 || s + 1 == clients { 1 } else { usize::MAX };
        codes.extend(existing.take(most).map(|family| (family, s)));
    }
    Ok(codes)
}

/// Expected bytes of one attempt, for independent links.
fn bytes_per_attempt(code: &dyn Code, links: &dyn LinkModel, sizes: Sizes) -> f64 {
    let client = |k: usize| Node::Client(k as u32);
    let shares = (code.clients() * code.stragglers()) as f64 * sizes.share as f64;
    let erasure = |to, from| links.erasure(client(from), client(to), sizes.share);
    let complete = outage::complete_probability(code, erasure, |_| 0.0);
    let uploads = if code.takes_incomplete() { code.clients() as f64 } else { complete.iter().sum() };
    f64::from(code.repeats()) * (shares + uploads * sizes.upload as f64)
}

/// Outage, bytes and whether they are computed. By Wald's identity the bytes of a round are those of an
/// attempt times the expected number of attempts, (1 − (1−P)^A)/P; per recovered round that is the bytes of
/// an attempt over P, whatever A is. With `gc-plus` attempts are not alike, and another one is made with the
/// probability that those before it did not recover.
fn reliability(
    code: &dyn Code,
    links: &dyn LinkModel,
    sizes: Sizes,
    attempts: u32,
    measure: impl Fn() -> Result<Estimate>,
) -> Result<(f64, f64, bool)> {
    Ok(match (closed_form(code, links, sizes, attempts), closed_form(code, links, sizes, 1)) {
        (Some(recovered), Some(_)) if code.takes_incomplete() => {
            let after = |attempts| closed_form(code, links, sizes, attempts).unwrap_or(0.0);
            let made: f64 = 1.0 + (1..attempts).map(|attempts| 1.0 - after(attempts)).sum::<f64>();
            (1.0 - recovered, bytes_per_attempt(code, links, sizes) * made / recovered, true)
        }
        (Some(recovered), Some(once)) => {
            (1.0 - recovered, bytes_per_attempt(code, links, sizes) / once, true)
        }
        _ => {
            let estimate = measure()?;
            let bytes = (estimate.bytes_client_client + estimate.bytes_client_server) as f64;
            (1.0 - estimate.probability(), bytes / estimate.recovered as f64, false)
        }
    })
}

/// The decoders that the protocol can use; link keys exclude `gc-plus`.
fn decoders(protocol: &ProtocolConfig) -> Vec<DecoderKind> {
    let mut own = protocol.clone();
    match own.section_mut().keys().and_then(|keys| keys.links) {
        Some(links) if *links > 0.0 => vec![DecoderKind::Standard],
        _ => vec![DecoderKind::Standard, DecoderKind::GcPlus],
    }
}

/// The worst client's leakage to another client and to the server: of complete sums when nothing is lost,
/// which shows the most; with `gc-plus` over patterns of losses too, since a loss makes a sum that would not
/// be sent otherwise. Clients count as equally large.
fn leakage(scheme: &dyn Aggregator, attempts: u32, config: &Config) -> Result<[f64; 2]> {
    let lossless = scheme.formal(1, &Perfect, attempts)?;
    let patterns = if scheme.code().is_some_and(|code| code.takes_incomplete()) {
        worst(&lossless, &scheme.phases(), attempts, Seed::new(config.seed).child("plan", 1)).0
    } else {
        vec![Lost::default()]
    };
    let stds = vec![config.privacy.update_std; config.clients];
    let largest = |leakage: &[f64]| leakage.iter().copied().fold(0.0, f64::max);
    let each: Vec<[f64; 2]> = patterns
        .par_iter()
        .map(|lost| {
            let views = scheme.formal(1, lost, attempts)?;
            let leakage = Leakage::measure(&views, &stds)?;
            Ok([largest(&leakage.neighbour), largest(&leakage.server)])
        })
        .collect::<Result<_>>()?;
    Ok(each.into_iter().fold([0.0; 2], |most, one| [most[0].max(one[0]), most[1].max(one[1])]))
}

/// The same of one of many clients, when nothing is lost; clients that a rotation maps on each other learn
/// the same.
fn leakage_among_many(scheme: &dyn Aggregator, attempts: u32, config: &Config) -> Result<[f64; 2]> {
    let formal = scheme.formal(1, &Perfect, attempts)?;
    let Formal::Real(views) = &formal else { return leakage(scheme, attempts, config) };
    let stds = vec![config.privacy.update_std; config.clients];
    let different = Rotation::of(&formal).map_or(config.clients, |rotation| rotation.step);
    let neighbour = |m: usize| {
        let view = View::of(views, Coalition::of([PartyId::Client(m as u16)]));
        let leaks = lmip(&view.rows, &stds)?.into_iter().enumerate();
        Ok(leaks.filter(|(k, _)| *k != m).map(|(_, leak)| leak).fold(0.0, f64::max))
    };
    let neighbours = (0..different).into_par_iter().map(neighbour).collect::<Result<Vec<f64>>>()?;
    let server = lmip(&View::with_result(views, Coalition::of([PartyId::Server])).rows, &stds)?;
    let largest = |leaks: Vec<f64>| leaks.into_iter().fold(0.0, f64::max);
    Ok([largest(neighbours), largest(server)])
}

/// Hears of a candidate when it is found: its place, how many there are, and the candidate. An error ends the
/// search.
pub type Found<'a> = &'a mut dyn FnMut(usize, usize, &Candidate) -> Result<()>;

/// Whether messages take time.
fn is_timed(links: &Network, clients: usize) -> bool {
    links.deadline(Node::Client(0), Node::Server).is_some()
        || links.deadline(Node::Client(0), Node::Client(clients as u32 - 1)).is_some()
}

/// Tabulates every code, tolerance and decoder for the configured network with each of the numbers of
/// `attempts`, by ascending bytes; among many clients some of them, see the [module](self). `coordinates` is
/// the length of an update; `rounds` are played where something must be measured.
///
/// # Errors
/// A protocol without a gradient code, a value that breaks a rule of the protocol or the network, or more
/// clients than [`DENSE_CLIENTS`](crate::coding::DENSE_CLIENTS).
pub fn candidates(
    config: &Config,
    coordinates: usize,
    attempts: &[u32],
    rounds: u64,
) -> Result<Vec<Candidate>> {
    candidates_as_found(config, coordinates, attempts, rounds, &NEVER, &mut |_, _, _| Ok(()))
}

/// [`candidates`], of which `found` hears one by one, until `stop` is set.
///
/// # Errors
/// As there; [`crate::Error::Stopped`], and an error of `found`.
pub fn candidates_as_found(
    config: &Config,
    coordinates: usize,
    attempts: &[u32],
    rounds: u64,
    stop: &AtomicBool,
    found: Found<'_>,
) -> Result<Vec<Candidate>> {
    let mut all = Vec::new();
    candidates_into(&mut all, config, coordinates, attempts, rounds, stop, found)?;
    Ok(all)
}

/// [`candidates_as_found`] into `all`, which after an error holds what was found until then, ranked alike.
///
/// # Errors
/// As there.
pub fn candidates_into(
    all: &mut Vec<Candidate>,
    config: &Config,
    coordinates: usize,
    attempts: &[u32],
    rounds: u64,
    stop: &AtomicBool,
    found: Found<'_>,
) -> Result<()> {
    check_clients(config.clients)?;
    let ended = if config.clients > SOLVED_CLIENTS {
        outlined(all, config, coordinates, attempts, rounds, stop, found)
    } else {
        solved(all, config, coordinates, attempts, rounds, stop, found)
    };
    rank(all);
    ended
}

/// Marks the Pareto front and sorts by bytes.
fn rank(all: &mut [Candidate]) {
    let judged = all.iter().any(Candidate::is_judged);
    // What is known of none counts for none.
    let known = |one: &Candidate| one.costs().map(|cost| if cost.is_nan() { 0.0 } else { cost });
    let competes = |one: &Candidate| !judged || one.is_judged();
    let costs: Vec<_> = all.iter().filter(|one| competes(one)).map(known).collect();
    for candidate in &mut *all {
        let own = known(candidate);
        candidate.pareto = competes(candidate) && !costs.iter().any(|other| dominates(other, &own));
    }
    all.sort_by(|a, b| a.bytes.total_cmp(&b.bytes).then(a.outage.total_cmp(&b.outage)));
}

/// A candidate of which nothing is known yet.
fn unjudged((code, stragglers): (CodeKind, usize), decoder: DecoderKind, attempts: u32) -> Candidate {
    Candidate {
        code,
        stragglers,
        decoder: decoder.name(),
        attempts,
        outage: f64::NAN,
        exact: false,
        bytes: f64::NAN,
        seconds: None,
        amplification: f64::NAN,
        leakage_neighbour: f64::NAN,
        leakage_server: f64::NAN,
        pareto: false,
    }
}

impl Candidate {
    /// With its outage, bytes and time over these links; `rounds` are played where one must be measured.
    fn over(
        self,
        code: &dyn Code,
        links: &Network,
        sizes: Sizes,
        rounds: u64,
        stop: &AtomicBool,
    ) -> Result<Self> {
        goes_on(stop)?;
        let measure = || estimate_until(stop, code, links, sizes, self.attempts, rounds);
        let (outage, bytes, exact) = reliability(code, links, sizes, self.attempts, measure)?;
        let timed = is_timed(links, code.clients());
        let timing = timed.then(measure).transpose()?.filter(|estimate| estimate.recovered > 0);
        let seconds = timing.and_then(|t| Some(t.seconds? / t.recovered as f64));
        Ok(Self { outage, bytes, exact, seconds, ..self })
    }
}

/// Candidates among many clients.
fn outlined(
    all: &mut Vec<Candidate>,
    config: &Config,
    coordinates: usize,
    attempts: &[u32],
    rounds: u64,
    stop: &AtomicBool,
    found: Found<'_>,
) -> Result<()> {
    let links = network(config)?;
    let sizes = Sizes::of_complete_sums(&config.protocol, coordinates)?;
    let codes = codes(config, true)?;
    for &(family, stragglers) in &codes {
        let code = Outline::of(family, config.clients, stragglers).repeated(repeats(&config.protocol));
        let rounds = affordable_rounds(&code, rounds);
        let of = |&attempts: &u32| {
            let candidate = unjudged((family, stragglers), DecoderKind::Standard, attempts);
            candidate.over(&code, &links, sizes, rounds, stop)
        };
        all.extend(attempts.iter().map(of).collect::<Result<Vec<_>>>()?);
    }
    all.sort_by(|a, b| a.bytes.total_cmp(&b.bytes));
    if config.clients <= JUDGED_CLIENTS {
        judge(config, all, stop, found)?;
    }
    Ok(())
}

/// Computes conditioning and leakage of the cheapest candidates, and takes out those that are conditioned too
/// badly to be built.
fn judge(config: &Config, all: &mut Vec<Candidate>, stop: &AtomicBool, found: Found<'_>) -> Result<()> {
    let seed = Seed::new(config.seed);
    let (mut place, mut judged) = (0, 0);
    while judged < JUDGED && place < all.len() {
        goes_on(stop)?;
        let candidate = &mut all[place];
        let (code, stragglers) = (candidate.code, candidate.stragglers);
        let protocol = with_code(&config.protocol, code, stragglers, DecoderKind::Standard)?;
        let scheme = where_it_exists(&protocol, config.clients, seed.child("protocol", 0))?;
        let Some((scheme, code)) = scheme.as_ref().and_then(|scheme| Some((scheme, scheme.code()?))) else {
            all.remove(place);
            continue;
        };
        candidate.amplification = code.amplification(affordable(config.clients), seed.child("plan", 0));
        let [neighbour, server] = leakage_among_many(&**scheme, candidate.attempts, config)?;
        (candidate.leakage_neighbour, candidate.leakage_server) = (neighbour, server);
        (place, judged) = (place + 1, judged + 1);
        found(judged, JUDGED.min(all.len()), &all[place - 1])?;
    }
    Ok(())
}

/// Candidates among few clients: all of them, with everything.
fn solved(
    all: &mut Vec<Candidate>,
    config: &Config,
    coordinates: usize,
    attempts: &[u32],
    rounds: u64,
    stop: &AtomicBool,
    report: Found<'_>,
) -> Result<()> {
    let links = network(config)?;
    let seed = Seed::new(config.seed);
    let (codes, decoders) = (codes(config, true)?, decoders(&config.protocol));
    let of_code = decoders.len() * attempts.len();
    let total = codes.len() * of_code;
    for (place, (family, stragglers)) in codes.into_iter().enumerate() {
        for &decoder in &decoders {
            let protocol = with_code(&config.protocol, family, stragglers, decoder)?;
            let scheme = where_it_exists(&protocol, config.clients, seed.child("protocol", 0))?;
            let Some(scheme) = scheme else { continue };
            let Some(code) = scheme.code() else { continue };
            let sizes = Sizes::of(&*scheme, config.clients, coordinates)?;
            let amplification = code.amplification(TRIED_SETS, seed.child("plan", 0));
            for &attempts in attempts {
                let candidate = unjudged((family, stragglers), decoder, attempts);
                let [leakage_neighbour, leakage_server] = leakage(&*scheme, attempts, config)?;
                let candidate = Candidate {
                    amplification,
                    leakage_neighbour,
                    leakage_server,
                    ..candidate.over(code, &links, sizes, rounds, stop)?
                };
                all.push(candidate);
                report((place + 1) * of_code, total, &all[all.len() - 1])?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
