//! Choices that are left to the network: the code of `"auto"`, and what a scheme takes the losses for.

use super::{ROUNDS, STACKED_ROUNDS, codes, network, reliability};
use crate::coding::CodeKind;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::message::HEADER_BYTES;
use crate::network::Network;
use crate::network::assumed::Assumed;
use crate::protocol::cogc::DecoderKind;
use crate::protocol::{Links, ProtocolConfig, Stragglers};
use crate::recover::{
    Outline, SOLVED_CLIENTS, Sizes, affordable_rounds, check_clients, coding, estimate, repeats,
    where_it_exists, with_code,
};
use crate::seed::Seed;

/// Replaces `stragglers = "default"` by its number, and `stragglers = "auto"` by the tolerance, and `code =
/// "auto"` beside it by the code, that need the fewest expected bytes per recovered round over the configured
/// network with the configured attempts, among those that keep `outage.at_most`; among equals the first in
/// the order of tolerance. What a scheme takes the losses for, where that is left open, becomes what the
/// network says. `protocol` replaces the configuration's own; any other protocol is returned as it is.
///
/// # Errors
/// A network over which no candidate recovers a round, or of which a scheme cannot be told what it needs.
pub fn resolve(protocol: &ProtocolConfig, config: &Config, coordinates: usize) -> Result<ProtocolConfig> {
    let clients = config.cohort.most(config.clients);
    let mut informed = protocol.clone();
    if let Some(links) = informed.section_mut().links() {
        if !config.is_everybody() {
            let rule = format!(
                "the weights of {} are for all clients; remove sample, rate, drop_after, buffered and devices.availability",
                protocol.kind()
            );
            return Err(Error::config("cohort", rule));
        }
        *links.assumed = assume(&links, config, coordinates)?;
        return Ok(informed);
    }
    match coding(protocol) {
        Ok((code, Stragglers::Default, decoder)) => {
            return with_code(protocol, code, Stragglers::Default.count(clients)?, decoder);
        }
        Ok((_, Stragglers::Auto, _)) => {}
        _ => return Ok(protocol.clone()),
    }
    let config = Config { protocol: protocol.clone(), ..config.clone() };
    check_clients(config.clients)?;
    let links = network(&config)?;
    let attempts = config.outage.attempts();
    if config.clients > SOLVED_CLIENTS && coding(protocol)?.2 == DecoderKind::Standard {
        return resolve_outlined(&config, &links, coordinates);
    }
    let mut best: Option<(f64, ProtocolConfig)> = None;
    let mut least = f64::INFINITY;
    let (_, _, decoder) = coding(protocol)?;
    for (family, stragglers) in codes(&config, false)? {
        let candidate = with_code(protocol, family, stragglers, decoder)?;
        let seed = Seed::new(config.seed).child("protocol", 0);
        let Some(scheme) = where_it_exists(&candidate, config.clients, seed)? else { continue };
        let Some(code) = scheme.code() else { continue };
        let sizes = Sizes::of(&*scheme, config.clients, coordinates)?;
        let rounds = affordable_rounds(code, if code.takes_incomplete() { STACKED_ROUNDS } else { ROUNDS });
        let measure = || Ok(estimate(code, &links, sizes, attempts, rounds));
        let (outage, bytes, _) = reliability(code, &links, sizes, attempts, measure)?;
        least = least.min(outage);
        let keeps = config.outage.at_most.is_none_or(|bound| outage <= bound);
        if keeps && bytes < best.as_ref().map_or(f64::INFINITY, |(least, _)| *least) {
            best = Some((bytes, candidate));
        }
    }
    best.map(|(_, protocol)| protocol).ok_or_else(|| none_is_left(&config, least))
}

/// What a scheme takes the losses of the configured network for, for messages of `coordinates` symbols.
fn assume(links: &Links<'_>, config: &Config, coordinates: usize) -> Result<Assumed> {
    let within = |error: Error| error.within("protocol.assumed");
    let network = match links.assumed.rounds().map_err(within)? {
        None => config.links()?,
        // Rounds of their own, before those of the run.
        Some(rounds) => {
            let seed = Seed::new(config.seed).child("counted", 0);
            let network = config.network.build(config.clients, rounds, seed);
            network.map_err(|error| error.within("network"))?
        }
    };
    let bytes = (HEADER_BYTES + coordinates * links.symbol_bytes) as u64;
    links.assumed.over(&network, config.clients, bytes).map_err(within)
}

/// No candidate recovers a round, or none with the probability that is asked for; the best has an outage with
/// the probability `least`.
fn none_is_left(config: &Config, least: f64) -> Error {
    match config.outage.at_most {
        Some(bound) if least < 1.0 => {
            let rule = format!(
                "\"auto\" finds no code with an outage of at most {bound} over this network, the least is {least:.3e}; raise it, or \
                 allow more attempts (outage.policy = \"retry\")"
            );
            Error::config("outage.at_most", rule)
        }
        _ => {
            let rule =
                "\"auto\" finds no code that recovers a round over this network; make the links better";
            Error::config("protocol.stragglers", rule)
        }
    }
}

/// [`resolve`] among many clients: of the outlines the cheapest whose code can be built.
fn resolve_outlined(config: &Config, links: &Network, coordinates: usize) -> Result<ProtocolConfig> {
    let sizes = Sizes::of_complete_sums(&config.protocol, coordinates)?;
    let attempts = config.outage.attempts();
    let mut all: Vec<(f64, CodeKind, usize)> = Vec::new();
    let mut least = f64::INFINITY;
    for (family, stragglers) in codes(config, false)? {
        let code = Outline::of(family, config.clients, stragglers).repeated(repeats(&config.protocol));
        let rounds = affordable_rounds(&code, ROUNDS);
        let measure = || Ok(estimate(&code, links, sizes, attempts, rounds));
        let (outage, bytes, _) = reliability(&code, links, sizes, attempts, measure)?;
        least = least.min(outage);
        if config.outage.at_most.is_none_or(|bound| outage <= bound) {
            all.push((bytes, family, stragglers));
        }
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (_, family, stragglers) in all.into_iter().filter(|(bytes, ..)| *bytes < f64::INFINITY) {
        let candidate = with_code(&config.protocol, family, stragglers, DecoderKind::Standard)?;
        let seed = Seed::new(config.seed).child("protocol", 0);
        if where_it_exists(&candidate, config.clients, seed)?.is_some() {
            return Ok(candidate);
        }
    }
    Err(none_is_left(config, least))
}
