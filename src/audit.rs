//! The audit of a scheme: every layer of adversaries, every client, every measure of [`crate::privacy`].

pub mod assumptions;
pub mod calibrate;
mod entry;
pub mod erasures;
mod learned;
mod rotation;

use std::collections::{BTreeSet, HashMap};

use rayon::prelude::*;
use serde::Serialize;

use crate::algebra::grid::Grid;
use crate::error::{Error, Result};
use crate::keys::KeyKind;
use crate::message::PartyId;
use crate::network::{LinkModel, Perfect};
use crate::privacy::Formal;
use crate::privacy::defect::{self, Finding};
use crate::privacy::floating::{self, Draws, Sampler};
use crate::privacy::view::Coalition;
use crate::protocol::{Aggregator, SharedKeys};
use crate::seed::Seed;
pub use assumptions::{Assumptions, Weights};
pub use entry::Entry;
use erasures::Lost;
use learned::Learned;
pub(crate) use rotation::Rotation;

/// What a coalition learned as a party to arithmetic over the reals, and, on a grid, from the bits that are
/// sent.
#[derive(Clone)]
struct Coalitions {
    ideal: Learned,
    floating: Option<Learned>,
}

impl Coalitions {
    fn see(
        &mut self,
        views: &Formal,
        masked: Option<&Formal>,
        assumptions: &Assumptions,
        repeated: bool,
    ) -> Result<()> {
        self.ideal.see(views, assumptions, repeated)?;
        match (&mut self.floating, masked) {
            (Some(floating), Some(masked)) => floating.see(masked, assumptions, repeated),
            // No claim about one round, no claim about the run.
            (floating, _) => {
                *floating = None;
                Ok(())
            }
        }
    }

    /// What this coalition learned when `first` learned that, before `times` rotations; `None` where
    /// something is seen without keys, whose smallest form is to be named.
    fn moved(
        &self,
        first: &Self,
        (views, masked): (&Formal, Option<&Formal>),
        (rotation, times): (Rotation, usize),
    ) -> Option<Self> {
        let moved = |own: &Learned, first: &Learned, views| {
            (first.symbols == 0).then(|| own.moved(first, views, rotation, times))
        };
        let floating = match (&self.floating, &first.floating, masked) {
            (Some(own), Some(first), Some(views)) => Some(moved(own, first, views)?),
            _ => None,
        };
        Some(Self { ideal: moved(&self.ideal, &first.ideal, views)?, floating })
    }
}

/// Lets everybody see one round; whom rotations map on each other, only the first of them.
fn see_alike(
    learned: &mut [(usize, Coalitions)],
    (views, masked): (&Formal, Option<&Formal>),
    rotation: Rotation,
    assumptions: &Assumptions,
) -> Result<()> {
    let coalitions: Vec<&Coalition> = learned.iter().map(|(_, one)| &one.ideal.coalition).collect();
    let first = rotation.first_alike(&coalitions);
    let is_first = |place: usize| first[place].0 == place;
    learned.par_iter_mut().enumerate().try_for_each(|(place, (_, one))| {
        if is_first(place) { one.see(views, masked, assumptions, true) } else { Ok(()) }
    })?;
    let seen: HashMap<usize, Coalitions> = (0..learned.len())
        .filter(|&place| is_first(place))
        .map(|place| (place, learned[place].1.clone()))
        .collect();
    learned.par_iter_mut().enumerate().filter(|(place, _)| !is_first(*place)).try_for_each(
        |(place, (_, one))| {
            let (first, times) = first[place];
            match one.moved(&seen[&first], (views, masked), (rotation, times)) {
                Some(moved) => *one = moved,
                None => one.see(views, masked, assumptions, true)?,
            }
            Ok(())
        },
    )
}

/// [`floating::masked`] of any views.
fn masked(views: &Formal) -> Option<Formal> {
    match views {
        Formal::Real(views) => floating::masked(views).map(Formal::Real),
        Formal::Field(_) => None,
    }
}

/// The grid and σ of a scheme whose keys lie on a grid.
fn masks(scheme: &dyn Aggregator) -> Option<(Grid, f64)> {
    scheme.grid().zip(scheme.scheme().key_std.filter(|std| *std > 0.0))
}

/// How far a scheme's keys are from ideal ones in a run of which this is assumed; `None` without keys, grid
/// or number of coordinates.
fn sampler(scheme: &dyn Aggregator, assumptions: &Assumptions) -> Option<Sampler> {
    let (grid, std) = masks(scheme)?;
    let clients = assumptions.weights.clients();
    let m = clients as f64;
    let described = scheme.scheme();
    let kind = KeyKind::named(&described.keys);
    let Draws { nodes, count, stds } = match (described.draws, &described.optimum, kind) {
        (Some(draws), ..) => draws,
        (None, Some(optimum), _) => {
            let (least, most) = optimum.covariance.stds(std);
            // The errors of M draws, whose factors have squares of the sum of one mask's variance.
            Draws { nodes: clients, count: m, stds: (least, most * m.sqrt()) }
        }
        (None, None, Some(kind @ KeyKind::Pairwise)) => {
            let (std, _) = kind.stds(clients, std);
            Draws { nodes: clients, count: m * (m - 1.0) / 2.0, stds: (std, std) }
        }
        (None, None, _) => Draws { nodes: clients, count: m, stds: (std, std) },
    };
    let draws = count * assumptions.coordinates? as f64 * assumptions.rounds as f64;
    Some(Sampler::of(&grid, nodes, stds, draws))
}

/// Clients of an audit: the time grows with their third power.
const CLIENTS: usize = 200;

/// Rounds whose views are held at once.
const BLOCK: usize = 64;

/// Coalitions that a thread examines before it is told how far the audit is.
const TOGETHER: usize = 4;

/// What an audit of agreed keys takes for granted: formal symbols have no cryptography.
const AGREED: &str = "agreed keys, what is expanded from them and ciphertexts count as independent uniform symbols: X25519, \
                      HKDF-SHA-256, ChaCha20 and ChaCha20-Poly1305 are taken for perfect";

/// Clients from which on coalitions that look alike are examined once: with fewer an audit is fast, and every
/// number keeps its own rounding.
const ALIKE: usize = 24;

/// Coalitions of one layer that an audit examines at most.
const COALITIONS: usize = 20_000;

/// Which messages are lost.
#[derive(Clone, Copy)]
pub enum Erasures<'a> {
    /// The links' own losses in rounds 1 to T.
    Actual(&'a dyn LinkModel),
    /// The worst over patterns of loss, see [`erasures::worst`].
    Worst(Seed),
    /// These, in every round.
    These(&'a Lost),
}

/// Which adversaries an audit examines beside one link, one upload, one client and the server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adversaries {
    /// All coalitions of 1 to this many clients, with and without the server.
    pub all: usize,
    /// One more.
    pub coalition: Option<Coalition>,
}

/// The result of an audit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// The protocol, by name.
    pub protocol: String,
    /// What was assumed about losses.
    pub erasures: String,
    /// Clients of a round.
    pub cohort: usize,
    /// The smallest and the largest weight that was assumed of a client.
    pub weights: [f64; 2],
    /// Whether each client may have any weight in between, its place in the cohort being open.
    pub open: bool,
    /// Fewest clients whose sum the server may obtain, where it is not always over all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// Whether the scheme computes over a prime field, so that LMIP is for uniform inputs and ε is 0 or
    /// infinite.
    pub exact: bool,
    /// The step of the grid on which masked updates lie, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// The rule of participation that reads the single updates in the server's view, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participation: Option<String>,
    /// Optimised keys: the largest that counts of what is learned, and what it is at least under any keys of
    /// that power, in nats per coordinate, or as a distance μ per unit of the updates' norm and of σ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimised: Option<[f64; 2]>,
    /// The entropy of all keys of a gradient code over replicated data, in updates, and the least that its
    /// assignment leaves to any linear scheme (Theorem 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_size: Option<[f64; 2]>,
    /// What stands in for the cryptography of the scheme; `None` where it has none. Whatever an attack on
    /// that would tell, and a wrong agreement that gives two groups one secret, is beyond this audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idealised: Option<&'static str>,
    /// Defects, none for a sound scheme.
    pub findings: Vec<Finding>,
    /// Layers in order, clients in order.
    pub entries: Vec<Entry>,
}

/// Runs the scheme's own party code with formal symbols and measures every layer.
///
/// From 24 clients on, coalitions that a rotation of the clients maps on each other are measured once, where
/// it leaves the formal messages, keys and weights as they are: the numbers are the same but for their
/// rounding. Losses after which nobody sees what the round without losses does not show are looked at no
/// further.
///
/// # Errors
/// Too many clients or coalitions to examine; more formal coordinates than
/// [`AUDITABLE`](crate::protocol::exchange::AUDITABLE); assumptions about other clients than the scheme's, or
/// a number that is not finite.
pub fn audit(
    name: &str,
    scheme: &dyn Aggregator,
    erasures: Erasures,
    attempts: u32,
    adversaries: &Adversaries,
    assumptions: &Assumptions,
) -> Result<Audit> {
    audit_observed(name, (scheme, attempts), erasures, adversaries, assumptions, &mut |_, _, _| Ok(()))
}

/// Takes note of how far an audit is: steps that are done, of all, and what they were about. An error ends
/// the audit.
pub type Observe<'a> = &'a mut dyn FnMut(usize, usize, &str) -> Result<()>;

/// [`audit`] of a scheme and a number of attempts, observed.
pub(crate) fn audit_observed(
    name: &str,
    scheme: (&dyn Aggregator, u32),
    erasures: Erasures,
    adversaries: &Adversaries,
    assumptions: &Assumptions,
    observe: Observe,
) -> Result<Audit> {
    audit_from(ALIKE, name, scheme, erasures, adversaries, assumptions, observe)
}

/// [`audit_observed`] that looks for coalitions that are alike from so many clients on.
fn audit_from(
    alike: usize,
    name: &str,
    (scheme, attempts): (&dyn Aggregator, u32),
    erasures: Erasures,
    adversaries: &Adversaries,
    assumptions: &Assumptions,
    observe: Observe,
) -> Result<Audit> {
    assumptions.check()?;
    check_size(assumptions.weights.clients())?;
    let round = scheme.fullest();
    let lossless = scheme.formal(round, &Perfect, attempts)?;
    let (clients, weighted) = (lossless.clients(), assumptions.weights.clients());
    if clients != weighted {
        return Err(Error::Refused(format!("an audit of {clients} clients was given {weighted} weights")));
    }
    let layers = layers(&lossless, adversaries)?;
    let on_grid = masks(scheme).is_some();
    let sampler = sampler(scheme, assumptions);
    let rounding = sampler
        .map_or(0.0, |sampler| sampler.step * assumptions.coordinates.map_or(0.0, |d| (d as f64).sqrt()));
    let mut learned: Vec<(usize, Coalitions)> = Vec::new();
    for (layer, (_, coalitions)) in layers.iter().enumerate() {
        learned.extend(coalitions.iter().map(|coalition| {
            let ideal = Learned::new(coalition.clone(), clients, 0.0);
            let floating = on_grid.then(|| Learned::new(coalition.clone(), clients, rounding));
            (layer, Coalitions { ideal, floating })
        }));
    }
    let mut findings: Vec<Finding> = Vec::new();
    let of_bits = |views: &Formal| on_grid.then(|| masked(views)).flatten();
    let see = |learned: &mut [(usize, Coalitions)],
               views: &[Formal],
               repeated: bool,
               seen: &mut dyn FnMut(usize, &str) -> Result<()>|
     -> Result<()> {
        let masked: Vec<Option<Formal>> = views.iter().map(of_bits).collect();
        if let ([views], [masked], true) = (views, &masked[..], repeated && clients >= alike)
            && assumptions.weights.are_alike()
            && learned.iter().all(|(_, one)| one.ideal.is_new())
            && let Some(rotation) = Rotation::of(views)
            && masked.as_ref().is_none_or(|masked| rotation.is_one_of(masked))
        {
            return see_alike(learned, (views, masked.as_ref()), rotation, assumptions);
        }
        let mut done = 0;
        for some in learned.chunks_mut(TOGETHER * rayon::current_num_threads()) {
            some.par_iter_mut().try_for_each(|(_, one)| {
                let mut views = views.iter().zip(&masked);
                views.try_for_each(|(views, masked)| one.see(views, masked.as_ref(), assumptions, repeated))
            })?;
            done += some.len();
            some.last().map_or(Ok(()), |(layer, _)| seen(done, &layers[*layer].0))?;
        }
        Ok(())
    };
    let coalitions = learned.len();
    let rounds: Vec<u64> = (1..=assumptions.rounds).collect();
    let erasures = match erasures {
        Erasures::Actual(links) => {
            for (done, block) in (0..).step_by(BLOCK).zip(rounds.chunks(BLOCK)) {
                let views: Result<Vec<Formal>> =
                    block.par_iter().map(|&round| scheme.formal(round, links, attempts)).collect();
                let views = views?;
                see(&mut learned, &views, false, &mut |_, _| observe(done, rounds.len(), "rounds"))?;
                findings.extend(views.iter().flat_map(defect::of_formal));
                findings.extend(views.windows(2).filter_map(|two| defect::of_rounds(&two[0], &two[1])));
                observe(done + block.len(), rounds.len(), "rounds")?;
            }
            format!("the links' own erasures in {} rounds", rounds.len())
        }
        Erasures::These(lost) => {
            let views = scheme.formal(round, lost, attempts)?;
            findings.extend(defect::of_formal(&views));
            see(&mut learned, &[views], true, &mut |done, layer| observe(done, coalitions, layer))?;
            format!("{} given erasures in every round", lost.0.len())
        }
        Erasures::Worst(seed) => {
            let (mut patterns, all) = erasures::worst(&lossless, &scheme.phases(), attempts, seed);
            if !all {
                patterns.extend(erasures::smallest(scheme, &lossless, attempts, seed)?);
            }
            // The first loses nothing.
            let steps = coalitions + patterns.len() - 1;
            see(&mut learned, std::slice::from_ref(&lossless), true, &mut |done, layer| {
                observe(done, steps, layer)
            })?;
            findings.extend(defect::of_formal(&lossless));
            for (done, block) in (coalitions..).step_by(BLOCK).zip(patterns[1..].chunks(BLOCK)) {
                let play = |lost: &Lost| -> Result<(Option<Formal>, Vec<Finding>)> {
                    let views = scheme.formal(round, lost, attempts)?;
                    // Whoever sees less than without losses learns nothing more.
                    let known = views.is_within(&lossless);
                    let found = if known { defect::of_sum(&views) } else { defect::of_formal(&views) };
                    Ok(((!known).then_some(views), found))
                };
                let played: Result<Vec<_>> = block.par_iter().map(play).collect();
                let (views, found): (Vec<_>, Vec<_>) = played?.into_iter().unzip();
                let views: Vec<Formal> = views.into_iter().flatten().collect();
                see(&mut learned, &views, true, &mut |_, _| observe(done, steps, "patterns of loss"))?;
                findings.extend(found.into_iter().flatten());
                observe(done + block.len(), steps, "patterns of loss")?;
            }
            let which = if all { "all" } else { "no loss, the smallest sums and seeded patterns, together" };
            format!("the worst case over erasures ({which} {})", patterns.len())
        }
    };
    findings.extend(defect::of_rounds(&lossless, &scheme.formal(2, &Perfect, attempts)?));
    let entries = layers.iter().enumerate().flat_map(|(layer, (layer_name, _))| {
        let of_layer: Vec<&Coalitions> =
            learned.iter().filter(|(l, _)| *l == layer).map(|(_, l)| l).collect();
        entry::entries((name, layer_name), &of_layer, sampler.as_ref(), clients, assumptions)
    });
    let entries = entries.collect();
    let exact = matches!(lossless, Formal::Field(_));
    let idealised = (scheme.scheme().keys == SharedKeys::Agreement.name()).then_some(AGREED);
    let findings = first_of_each(findings);
    Ok(Audit {
        protocol: name.to_owned(),
        erasures,
        cohort: clients,
        weights: assumptions.weights.range(),
        open: !assumptions.weights.are_known(),
        least_included: scheme.scheme().least_included,
        exact,
        step: scheme.grid().filter(|_| on_grid).map(|grid| grid.step()),
        participation: None,
        optimised: scheme.scheme().optimum.as_ref().map(|optimum| [optimum.leakage, optimum.bound]),
        key_size: scheme.scheme().key_size,
        idealised,
        findings,
        entries,
    })
}

/// Refuses what would not end.
pub(crate) fn check_size(clients: usize) -> Result<()> {
    if clients <= CLIENTS {
        return Ok(());
    }
    let rule = format!(
        "an audit takes apart what every one of {clients} clients sees of all others, and at most {CLIENTS} are computed with; \
         audit the same configuration with fewer (--set clients={CLIENTS}), or cohorts of that size (cohort.sample)"
    );
    Err(Error::config("clients", rule))
}

/// The lines of an audit in which nothing is lost, without coalitions: a run's `leakage.csv`.
///
/// # Errors
/// As [`audit`].
pub fn lossless(
    name: &str,
    scheme: &dyn Aggregator,
    attempts: u32,
    assumptions: &Assumptions,
) -> Result<Vec<Entry>> {
    let nothing = Erasures::These(&Lost(std::collections::HashSet::new()));
    Ok(audit(name, scheme, nothing, attempts, &Adversaries::default(), assumptions)?.entries)
}

/// One finding for each defect: the same defect under another pattern is no news.
fn first_of_each(mut findings: Vec<Finding>) -> Vec<Finding> {
    // A stable sort: of the same defect, the first evidence found stays first.
    findings.sort_by_key(|finding| finding.defect);
    findings.dedup_by_key(|finding| finding.defect);
    findings
}

/// The layers by name.
fn layers(lossless: &Formal, adversaries: &Adversaries) -> Result<Vec<(String, Vec<Coalition>)>> {
    let helpers: BTreeSet<PartyId> = lossless.links().into_iter().map(|(link, _)| link.to).collect();
    let helpers = helpers.into_iter().filter(|to| matches!(to, PartyId::Helper(_)));
    let clients: Vec<PartyId> = (0..lossless.clients() as u16).map(PartyId::Client).chain(helpers).collect();
    let member = if clients.len() > lossless.clients() { "client or helper" } else { "client" };
    let used: BTreeSet<(PartyId, PartyId)> =
        lossless.links().iter().map(|(link, _)| (link.from, link.to)).collect();
    let links = |to_server: bool| -> Vec<Coalition> {
        let of_kind = used.iter().filter(|(_, to)| (*to == PartyId::Server) == to_server);
        of_kind.map(|&(from, to)| Coalition::link(from, to)).collect()
    };
    let mut layers = vec![
        ("link".to_owned(), links(false)),
        ("upload".to_owned(), links(true)),
        ("neighbour".to_owned(), clients.iter().map(|&client| Coalition::of([client])).collect()),
        ("server".to_owned(), vec![Coalition::of([PartyId::Server])]),
    ];
    for size in 1..=adversaries.all.min(clients.len() - 1) {
        let sets = subsets(&clients, size).ok_or_else(|| {
            Error::Refused(format!(
                "more than {COALITIONS} coalitions of {size} of {} {member}s; lower --all-coalitions, or name one with --coalition",
                clients.len()
            ))
        })?;
        let plural = if size == 1 { member.to_owned() } else { format!("{member}s") };
        if size > 1 {
            layers.push((format!("{size} {member}s"), sets.iter().cloned().map(Coalition::of).collect()));
        }
        let with_server = sets.into_iter().map(|set| Coalition::of([PartyId::Server].into_iter().chain(set)));
        layers.push((format!("server + {size} {plural}"), with_server.collect()));
    }
    if let Some(coalition) = &adversaries.coalition {
        let ends = coalition.links.iter().flat_map(|(from, to)| [from, to]);
        let mut helpers =
            coalition.parties.iter().chain(ends).filter(|party| matches!(party, PartyId::Helper(_)));
        if let Some(stranger) = helpers.find(|helper| !clients.contains(helper)) {
            return Err(Error::Refused(format!("coalition `{coalition}`: the protocol has no {stranger}")));
        }
        layers.push((coalition.to_string(), vec![coalition.clone()]));
    }
    layers.retain(|(_, coalitions)| !coalitions.is_empty());
    Ok(layers)
}

/// All subsets of the given size, or `None` when they are too many.
fn subsets(of: &[PartyId], size: usize) -> Option<Vec<Vec<PartyId>>> {
    let mut sets: Vec<(usize, Vec<PartyId>)> = vec![(0, Vec::new())];
    for _ in 0..size {
        let longer = sets.iter().flat_map(|(next, set)| {
            (*next..of.len()).map(move |i| (i + 1, set.iter().copied().chain([of[i]]).collect::<Vec<_>>()))
        });
        sets = longer.take(COALITIONS + 1).collect();
        if sets.len() > COALITIONS {
            return None;
        }
    }
    Some(sets.into_iter().map(|(_, set)| set).collect())
}
