//! Which code and which straggler tolerance suit a network: outage, cost, conditioning and leakage of every
//! candidate.
//!
//! A larger s tolerates more lost rows but makes every row depend on more links and costs s shares per
//! client, so neither end is best. [`candidates`] tabulates all, with the Pareto front; [`resolve`] replaces
//! `stragglers = "auto"` by the candidate with the fewest bytes per recovered round.
//!
//! Clients count as equally large: data is not looked at. Outage, bytes and time do not depend on that, the
//! leakage does, and an audit ([`crate::audits`]) takes the sizes of the partition.

use rayon::prelude::*;
use serde::Serialize;

use crate::audit::erasures::{Lost, worst};
use crate::coding::{Code, CodeKind, outage};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::network::{LinkModel, Network, Perfect};
use crate::privacy::Leakage;
use crate::protocol::cogc::DecoderKind;
use crate::protocol::{Aggregator, PartyId, ProtocolConfig, Stragglers};
use crate::recover::{Estimate, Sizes, closed_form, coding, estimate, where_it_exists, with_code};
use crate::seed::Seed;

/// Sets of rows in which the decoding amplification is measured.
const TRIED_SETS: usize = 300;

/// Rounds that are played where there is no closed form, by [`resolve`] ...
const ROUNDS: u64 = 10_000;

/// ... and with `gc-plus`, which solves a system for most of them.
const STACKED_ROUNDS: u64 = 2_000;

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
    /// Whether `outage` and `bytes` are computed rather than measured.
    pub exact: bool,
    /// Expected bytes per recovered round, those of lost rounds included; infinite when no round is
    /// recovered.
    pub bytes: f64,
    /// Simulated seconds per recovered round, measured; empty where messages take no time or no round was
    /// recovered.
    pub seconds: Option<f64>,
    /// Worst factor ‖a‖₂ by which decoding from M − s rows amplifies errors ([`Code::amplification`]).
    pub amplification: f64,
    /// Worst client's leakage to another client, nats per coordinate, among clients of equal size: when no
    /// message is lost, or with `gc-plus` over seeded patterns of losses.
    pub leakage_neighbour: f64,
    /// The same to the server.
    pub leakage_server: f64,
    /// Whether no other candidate is at least as good in outage, bytes, amplification and leakage, and better
    /// in one.
    pub pareto: bool,
}

fn code_name<S: serde::Serializer>(code: &CodeKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.name())
}

impl Candidate {
    /// What is to be small.
    fn costs(&self) -> [f64; 5] {
        [self.outage, self.bytes, self.amplification, self.leakage_neighbour, self.leakage_server]
    }
}

/// Whether costs `a` are nowhere larger than `b` and somewhere smaller.
fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b) && a.iter().zip(b).any(|(a, b)| a < b)
}

/// The links of planning: of the configured law, but not those that the run will meet.
fn network(config: &Config) -> Result<Network> {
    config.cohort.is_not_drawn()?;
    let seed = Seed::new(config.seed).child("plan", 0);
    config.network.build(config.clients, config.rounds, seed).map_err(|error| error.within("network"))
}

/// The codes to choose from: the configured family, or with "auto" all, for the configured tolerance or with
/// `all` for every one. Without stragglers all families are the same, and with M − 1 too: only the first of
/// them is listed.
fn codes(config: &Config, all: bool) -> Result<Vec<(CodeKind, usize)>> {
    let clients = config.clients;
    let (family, stragglers, _) = coding(&config.protocol)?;
    let families = if family == CodeKind::Auto { CodeKind::FAMILIES.to_vec() } else { vec![family] };
    let tolerances = match stragglers.count(clients) {
        Ok(s) if !all => s..s + 1,
        _ => 0..clients,
    };
    let mut codes = Vec::new();
    for s in tolerances {
        let existing = families.iter().copied().filter(|family| family.exists(clients, s));
        let most = if s == 0 || s + 1 == clients { 1 } else { usize::MAX };
        codes.extend(existing.take(most).map(|family| (family, s)));
    }
    Ok(codes)
}

/// Expected bytes of one attempt, for independent links.
fn bytes_per_attempt(code: &dyn Code, links: &dyn LinkModel, sizes: Sizes) -> f64 {
    let client = |k: usize| PartyId::Client(k as u16);
    let shares = (code.clients() * code.stragglers()) as f64 * sizes.share as f64;
    let erasure = |to, from| links.erasure(client(from), client(to), sizes.share);
    let complete = outage::complete_probability(code, erasure, |_| 0.0);
    shares + complete.iter().sum::<f64>() * sizes.upload as f64
}

/// Outage, bytes and whether they are computed. By Wald's identity the bytes of a round are those of an
/// attempt times the expected number of attempts, (1 − (1−P)^A)/P; per recovered round that is the bytes of
/// an attempt over P, whatever A is.
fn reliability(
    code: &dyn Code,
    links: &dyn LinkModel,
    sizes: Sizes,
    attempts: u32,
    measure: impl Fn() -> Estimate,
) -> (f64, f64, bool) {
    match (closed_form(code, links, sizes, attempts), closed_form(code, links, sizes, 1)) {
        (Some(recovered), Some(once)) => {
            (1.0 - recovered, bytes_per_attempt(code, links, sizes) / once, true)
        }
        _ => {
            let estimate = measure();
            let bytes = (estimate.bytes_client_client + estimate.bytes_client_server) as f64;
            (1.0 - estimate.probability(), bytes / estimate.recovered as f64, false)
        }
    }
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

/// Tabulates every code, tolerance and decoder for the configured network with each of the numbers of
/// `attempts`, by ascending bytes. `coordinates` is the length of an update; `rounds` are played where
/// something must be measured.
///
/// # Errors
/// A protocol without a gradient code, or a value that breaks a rule of the protocol or the network.
pub fn candidates(
    config: &Config,
    coordinates: usize,
    attempts: &[u32],
    rounds: u64,
) -> Result<Vec<Candidate>> {
    let links = network(config)?;
    let seed = Seed::new(config.seed);
    let timed = links.deadline(PartyId::Client(0), PartyId::Server).is_some()
        || links.deadline(PartyId::Client(0), PartyId::Client(config.clients as u16 - 1)).is_some();
    let mut found = Vec::new();
    for (family, stragglers) in codes(config, true)? {
        for decoder in decoders(&config.protocol) {
            let protocol = with_code(&config.protocol, family, stragglers, decoder)?;
            let scheme = where_it_exists(&protocol, config.clients, seed.child("protocol", 0))?;
            let Some(scheme) = scheme else { continue };
            let Some(code) = scheme.code() else { continue };
            let sizes = Sizes::of(&*scheme, config.clients, coordinates)?;
            let amplification = code.amplification(TRIED_SETS, seed.child("plan", 0));
            for &attempts in attempts {
                let measure = || estimate(code, &links, sizes, attempts, rounds);
                let (outage, bytes, exact) = reliability(code, &links, sizes, attempts, measure);
                let timing = timed.then(measure).filter(|estimate| estimate.recovered > 0);
                let [neighbour, server] = leakage(&*scheme, attempts, config)?;
                found.push(Candidate {
                    code: family,
                    stragglers,
                    decoder: decoder.name(),
                    attempts,
                    outage,
                    exact,
                    bytes,
                    seconds: timing.and_then(|t| Some(t.seconds? / t.recovered as f64)),
                    amplification,
                    leakage_neighbour: neighbour,
                    leakage_server: server,
                    pareto: false,
                });
            }
        }
    }
    let costs: Vec<_> = found.iter().map(Candidate::costs).collect();
    for (candidate, own) in found.iter_mut().zip(&costs) {
        candidate.pareto = !costs.iter().any(|other| dominates(other, own));
    }
    found.sort_by(|a, b| a.bytes.total_cmp(&b.bytes).then(a.outage.total_cmp(&b.outage)));
    Ok(found)
}

/// Replaces `stragglers = "default"` by its number, and `stragglers = "auto"` by the tolerance, and `code = "auto"` beside it by the code, that need the
/// fewest expected bytes per recovered round over the configured network with the configured attempts; among
/// equals the first in the order of tolerance. `protocol` replaces the configuration's own; any other
/// protocol is returned as it is.
///
/// # Errors
/// A network over which no candidate recovers a round.
pub fn resolve(protocol: &ProtocolConfig, config: &Config, coordinates: usize) -> Result<ProtocolConfig> {
    let clients = config.cohort.sample.unwrap_or(config.clients);
    match coding(protocol) {
        Ok((code, Stragglers::Default, decoder)) => {
            return with_code(protocol, code, Stragglers::Default.count(clients)?, decoder);
        }
        Ok((_, Stragglers::Auto, _)) => {}
        _ => return Ok(protocol.clone()),
    }
    let config = Config { protocol: protocol.clone(), ..config.clone() };
    let links = network(&config)?;
    let attempts = config.outage.attempts();
    let mut best: Option<(f64, ProtocolConfig)> = None;
    let (_, _, decoder) = coding(protocol)?;
    for (family, stragglers) in codes(&config, false)? {
        let candidate = with_code(protocol, family, stragglers, decoder)?;
        let seed = Seed::new(config.seed).child("protocol", 0);
        let Some(scheme) = where_it_exists(&candidate, config.clients, seed)? else { continue };
        let Some(code) = scheme.code() else { continue };
        let sizes = Sizes::of(&*scheme, config.clients, coordinates)?;
        let rounds = if code.takes_incomplete() { STACKED_ROUNDS } else { ROUNDS };
        let measure = || estimate(code, &links, sizes, attempts, rounds);
        let (_, bytes, _) = reliability(code, &links, sizes, attempts, measure);
        if bytes < best.as_ref().map_or(f64::INFINITY, |(least, _)| *least) {
            best = Some((bytes, candidate));
        }
    }
    best.map(|(_, protocol)| protocol).ok_or_else(|| {
        let rule = "\"auto\" finds no code that recovers a round over this network; make the links better";
        Error::config("protocol.stragglers", rule)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dominance_is_partial() {
        assert!(dominates(&[1.0, 2.0], &[1.0, 3.0]));
        assert!(!dominates(&[1.0, 2.0], &[1.0, 2.0]));
        assert!(!dominates(&[0.0, 4.0], &[1.0, 3.0]));
        assert!(dominates(&[1.0, 2.0], &[1.0, f64::INFINITY]));
    }
}
