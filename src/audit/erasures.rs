//! Which erasures an audit assumes.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::bounds;
use crate::error::{Error, Result};
use crate::message::{LinkUse, PartyId, Phase, Role};
use crate::network::{LinkModel, Node};
use crate::privacy::Formal;
use crate::protocol::Aggregator;
use crate::seed::Seed;

/// Up to this many uses of links all patterns are tried.
const EXHAUSTIVE: usize = 12;

/// Uses of links whose formal messages are computed for the sampled patterns, about.
const EFFORT: usize = 4000;

/// A use of a link: attempt, [`LinkUse::transfer`], sender and receiver.
pub type Use = (u32, u8, PartyId, PartyId);

/// Links that lose exactly the listed uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost(pub HashSet<Use>);

impl LinkModel for Lost {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        !self.has(link.attempt, link.transfer, link.from, link.to)
    }

    fn erasure(&self, from: Node, to: Node, _: u64) -> f64 {
        f64::from(u8::from(self.has(0, 0, from, to)))
    }
}

impl Lost {
    fn has(&self, attempt: u32, transfer: u8, from: Node, to: Node) -> bool {
        let ends = from.party().zip(to.party());
        ends.is_some_and(|(from, to)| self.0.contains(&(attempt, transfer, from, to)))
    }

    /// Reads a CSV file with the header `from,to`, `from,to,attempt` or `from,to,attempt,transfer`: one lost
    /// message a line, clients from 1, helpers as h1, `server`, attempts from 1, transfers by the name of
    /// their phase. Without an attempt the link fails in all `attempts`, without a transfer in all that it
    /// has in `phases`.
    ///
    /// # Errors
    /// The file, the line and what is wrong with it.
    pub fn load(path: &Path, clients: usize, attempts: u32, phases: &[Phase]) -> Result<Self> {
        let bytes = bounds::read(path, 1 << 30, "a table of erasures").map_err(|error| match error {
            Error::Io { source, .. } => {
                let what = "not a table of erasures (give worst, actual or a CSV file)";
                Error::file(path, format!("{what}: {source}"))
            }
            other => other,
        })?;
        let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(&*bytes);
        let header: Vec<String> =
            reader.headers().map(|header| header.iter().map(Into::into).collect()).unwrap_or_default();
        const HEADER: [&str; 4] = ["from", "to", "attempt", "transfer"];
        if header.len() < 2 || !HEADER.iter().take(header.len()).eq(&header) || header.len() > HEADER.len() {
            let rule = "the first line must be `from,to`, `from,to,attempt` or `from,to,attempt,transfer`";
            return Err(Error::file(path, rule));
        }
        let mut lost = HashSet::new();
        for (line, record) in (2..).zip(reader.records()) {
            let refuse = |problem: String| Error::file(path, format!("line {line}: {problem}"));
            let record = record.map_err(|error| refuse(error.to_string()))?;
            let helper = |field: &str| field.strip_prefix('h')?.parse::<u16>().ok()?.checked_sub(1);
            let party = |field: &str| match (field, field.parse::<usize>()) {
                ("server", _) => Ok(PartyId::Server),
                (name, Err(_)) if helper(name).is_some() => Ok(PartyId::Helper(helper(name).unwrap_or(0))),
                (_, Ok(k)) if (1..=clients).contains(&k) => Ok(PartyId::Client((k - 1) as u16)),
                _ => Err(refuse(format!("`{field}` is neither `server` nor a client from 1 to {clients}"))),
            };
            let (Some(from), Some(to)) = (record.get(0), record.get(1)) else {
                return Err(refuse("give sender and receiver".into()));
            };
            let (from, to) = (party(from)?, party(to)?);
            let attempts = match record.get(2).filter(|field| !field.is_empty()) {
                None => 0..attempts,
                Some(field) => match field.parse::<u32>() {
                    Ok(attempt) if (1..=attempts).contains(&attempt) => attempt - 1..attempt,
                    _ => return Err(refuse(format!("`{field}` is not an attempt from 1 to {attempts}"))),
                },
            };
            let named = record.get(3).filter(|field| !field.is_empty());
            let transfers = transfers(phases, from, to, named).map_err(refuse)?;
            lost.extend(
                attempts.flat_map(|a| transfers.iter().map(move |&transfer| (a, transfer, from, to))),
            );
        }
        Ok(Self(lost))
    }
}

/// The transfers between two parties in these phases: the one of this name, or all.
fn transfers(phases: &[Phase], from: PartyId, to: PartyId, named: Option<&str>) -> Result<Vec<u8>, String> {
    let between = phases.iter().zip(Phase::transfers(phases));
    let between: Vec<(&str, u8)> = between
        .filter(|(phase, _)| (phase.from, phase.to) == (from.role(), to.role()))
        .map(|(phase, transfer)| (phase.name, transfer))
        .collect();
    let names = || between.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    match named {
        None => Ok(between.iter().map(|(_, transfer)| *transfer).collect()),
        Some(name) => {
            let found: Vec<u8> =
                between.iter().filter(|(of, _)| *of == name).map(|(_, transfer)| *transfer).collect();
            if found.is_empty() {
                let known = if between.is_empty() { "none".into() } else { names() };
                return Err(format!(
                    "`{name}` is no transfer from {from} to {to} of this protocol; it has {known}"
                ));
            }
            Ok(found)
        }
    }
}

/// The patterns of the worst case, the one without a loss first, and whether they are all there are.
///
/// A view that is contained in another reveals no more, so without a loss a scheme that sends nothing
/// *because* of a loss reveals the most; the others are tried for schemes that do, such as those that send
/// incomplete sums or go on without clients who dropped out between two transfers. With up to 12 uses of
/// links (`lossless` shows which there are) all patterns are tried; otherwise seeded ones of every density,
/// and with several attempts those in which every attempt but the last misses other uploads. See [`smallest`]
/// for sums over survivors.
#[must_use]
pub fn worst(lossless: &Formal, phases: &[Phase], attempts: u32, seed: Seed) -> (Vec<Lost>, bool) {
    let links = transfers_of(lossless, phases);
    let uses: Vec<Use> = (0..attempts)
        .flat_map(|attempt| links.iter().map(move |&(transfer, from, to)| (attempt, transfer, from, to)))
        .collect();
    if uses.len() <= EXHAUSTIVE {
        let pattern = |choice: usize| {
            Lost(
                uses.iter()
                    .enumerate()
                    .filter(|(i, _)| choice >> i & 1 == 1)
                    .map(|(_, &lost)| lost)
                    .collect(),
            )
        };
        return ((0..1 << uses.len()).map(pattern).collect(), true);
    }
    let sampled = (EFFORT / uses.len()).clamp(8, 200);
    let pattern = |index: usize| {
        let mut rng = seed.child("pattern", index as u64).rng();
        let density: f64 = rng.random();
        Lost(uses.iter().filter(|_| rng.random::<f64>() < density).copied().collect())
    };
    let clients = lossless.clients();
    let rotating = |size: usize| {
        let missing = (0..attempts.saturating_sub(1)).flat_map(|attempt| {
            let first = attempt as usize * size;
            (first..first + size)
                .map(move |k| (attempt, 0, PartyId::Client((k % clients) as u16), PartyId::Server))
        });
        Lost(missing.collect())
    };
    let rotating = (1..=if attempts > 1 { clients / 2 } else { 0 }).map(rotating);
    let dropping = drop_outs(&links, phases, clients, attempts, seed);
    let patterns = std::iter::once(Lost::default()).chain(rotating).chain(dropping);
    (patterns.chain((0..sampled).map(pattern)).collect(), false)
}

/// What may be sent in an attempt: what is sent when nothing is lost, and on the same links in the declared
/// phases that only a loss brings about.
fn transfers_of(lossless: &Formal, phases: &[Phase]) -> BTreeSet<(u8, PartyId, PartyId)> {
    let seen: BTreeSet<(u8, PartyId, PartyId)> =
        lossless.links().iter().map(|(link, _)| (link.transfer, link.from, link.to)).collect();
    let receivers: BTreeSet<PartyId> = seen.iter().map(|(_, _, to)| *to).collect();
    let mut all = seen.clone();
    for (phase, transfer) in phases.iter().zip(Phase::transfers(phases)) {
        let between = |(_, from, to): &&(u8, PartyId, PartyId)| {
            (phase.from, phase.to) == (from.role(), to.role()) && phase.from != Role::Server
        };
        let on_links = || seen.iter().filter(between);
        if on_links().all(|(other, ..)| *other != transfer) {
            all.extend(on_links().map(|&(_, from, to)| (transfer, from, to)));
        }
        if phase.from == Role::Helper && on_links().next().is_none() {
            let of_role = |role| receivers.iter().filter(move |party| party.role() == role);
            let pairs = of_role(phase.from).flat_map(|from| of_role(phase.to).map(move |to| (from, to)));
            all.extend(pairs.filter(|(from, to)| from != to).map(|(&from, &to)| (transfer, from, to)));
        }
    }
    all
}

/// Numbers of clients that drop out together, at most.
const SIZES: usize = 6;

/// Clients that fall silent between two transfers: for every phase in which clients send, and some numbers of
/// clients, who sends nothing from that phase of the first attempt on; and who is silent in that phase alone.
fn drop_outs(
    links: &BTreeSet<(u8, PartyId, PartyId)>,
    phases: &[Phase],
    clients: usize,
    attempts: u32,
    seed: Seed,
) -> Vec<Lost> {
    let transfers = Phase::transfers(phases);
    let place = |transfer: u8, from: PartyId, to: PartyId| {
        let is =
            |i: &usize| (phases[*i].from, phases[*i].to, transfers[*i]) == (from.role(), to.role(), transfer);
        (0..phases.len()).find(is).unwrap_or(0)
    };
    let sends = |i: &usize| phases[*i].from == Role::Client;
    let sending: Vec<usize> = (0..phases.len()).filter(sends).collect();
    if sending.len() < 2 {
        return Vec::new();
    }
    let mut patterns = Vec::new();
    let sizes = (1..clients).step_by(clients.div_ceil(SIZES).max(1));
    for (&phase, size) in sending.iter().flat_map(|phase| sizes.clone().map(move |size| (phase, size))) {
        let mut rng = seed.child("drop-out", (phase * clients + size) as u64).rng();
        let silent: BTreeSet<PartyId> = rand::seq::index::sample(&mut rng, clients, size)
            .iter()
            .map(|k| PartyId::Client(k as u16))
            .collect();
        let of = |lasting: bool| {
            let lost = links.iter().filter(|(transfer, from, to)| {
                let at = place(*transfer, *from, *to);
                silent.contains(from) && (at == phase || lasting && at > phase)
            });
            let first = lost.map(|&(transfer, from, to)| (0, transfer, from, to));
            let gone = links.iter().filter(|(_, from, _)| lasting && silent.contains(from));
            let later = (1..attempts)
                .flat_map(|a| gone.clone().map(move |&(transfer, from, to)| (a, transfer, from, to)));
            Lost(first.chain(later).collect())
        };
        patterns.extend([of(true), of(false)]);
    }
    patterns
}

/// Sets of clients of one size that are tried at most.
const SETS: usize = 120;

/// Sets of one size that are tried before the next size.
const PROBES: usize = 8;

/// Patterns in which some clients are heard in every attempt and the others never: sets of the smallest size
/// whose sum the server obtains, for schemes that sum over survivors. All of these sets, or 120 of them.
///
/// # Errors
/// As [`Aggregator::formal`].
pub fn smallest(scheme: &dyn Aggregator, lossless: &Formal, attempts: u32, seed: Seed) -> Result<Vec<Lost>> {
    let Some(least) = scheme.scheme().least_included else { return Ok(Vec::new()) };
    let clients = lossless.clients();
    let links = transfers_of(lossless, &scheme.phases());
    let silence = |heard: &Vec<u16>| {
        let silent = |from: PartyId| matches!(from, PartyId::Client(k) if !heard.contains(&k));
        let lost = links.iter().filter(|(_, from, _)| silent(*from));
        let in_all = |&(transfer, from, to)| (0..attempts).map(move |attempt| (attempt, transfer, from, to));
        Lost(lost.flat_map(in_all).collect())
    };
    for size in least.max(1)..clients {
        let sets = sets(clients, size, seed.child("sets", size as u64));
        let mut decodes = false;
        for heard in sets.iter().take(PROBES) {
            decodes |= scheme.formal(scheme.fullest(), &silence(heard), attempts)?.has_sum();
        }
        if decodes {
            return Ok(sets.iter().map(silence).collect());
        }
    }
    Ok(Vec::new())
}

/// All ascending sets of `size` of `clients` clients, or, where they are more than 120, neighbours in a ring
/// and seeded ones.
fn sets(clients: usize, size: usize, seed: Seed) -> Vec<Vec<u16>> {
    let count = (0..size).fold(1.0, |count, i| count * (clients - i) as f64 / (i + 1) as f64);
    if count < SETS as f64 + 0.5 {
        let mut all: Vec<Vec<u16>> = vec![Vec::new()];
        for place in 0..size {
            let longer = all.iter().flat_map(|set| {
                let next = set.last().map_or(0, |k| k + 1);
                let end = (clients - (size - place - 1)) as u16;
                (next..end).map(move |k| set.iter().copied().chain([k]).collect::<Vec<_>>())
            });
            all = longer.collect();
        }
        return all;
    }
    let mut rng = seed.rng();
    let mut ascending = |mut set: Vec<u16>| {
        set.sort_unstable();
        set
    };
    let ring = (0..clients).map(|first| (first..first + size).map(|k| (k % clients) as u16).collect());
    let mut sets: BTreeSet<Vec<u16>> = ring.map(&mut ascending).take(SETS / 2).collect();
    while sets.len() < SETS {
        let drawn = rand::seq::index::sample(&mut rng, clients, size);
        sets.insert(ascending(drawn.iter().map(|k| k as u16).collect()));
    }
    // Ring neighbours first would probe one kind of set only.
    let mut sets: Vec<Vec<u16>> = sets.into_iter().collect();
    sets.shuffle(&mut rng);
    sets
}
