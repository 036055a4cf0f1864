//! The audit of a scheme: every layer of adversaries, every client, every measure.

use std::collections::BTreeSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize, Serializer};

use super::defect::{self, Finding};
use super::erasures::{self, Lost};
use super::exact;
use super::ldp;
use super::lmip;
use super::rank::{Determined, KeySpace};
use super::view::{Coalition, View};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::network::{LinkModel, Perfect};
use crate::protocol::{Aggregator, Formal, PartyId, SharedKeys};
use crate::seed::Seed;

/// Rounds whose views are held at once.
const BLOCK: usize = 64;

/// What an audit of agreed keys takes for granted: formal symbols have no cryptography.
const AGREED: &str = "agreed keys, what is expanded from them and ciphertexts count as independent uniform symbols: X25519, \
                      HKDF-SHA-256, ChaCha20 and ChaCha20-Poly1305 are taken for perfect";

/// Coalitions of one layer that an audit examines at most.
const COALITIONS: usize = 20_000;

/// What the numbers are computed under.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumptions {
    /// Standard deviation σ_x of a coordinate of an update, for LMIP.
    pub input_std: f64,
    /// Bound C on ‖x_k‖₂; without one ε is infinite for everybody who sees anything.
    pub clip: Option<f64>,
    /// w_k of every client: its input is w_k x_k, so that its reach is w_k C.
    pub weights: Vec<f64>,
    /// δ of (ε, δ)-LDP.
    pub delta: f64,
    /// Rounds T over which ε is composed.
    pub rounds: u64,
}

impl Assumptions {
    /// Those of a configuration, for clients of the given weights.
    #[must_use]
    pub fn of(config: &Config, weights: Vec<f64>) -> Self {
        Self {
            input_std: config.privacy.update_std,
            clip: config.solver.clip_norm(),
            weights,
            delta: config.privacy.ldp_delta,
            rounds: config.rounds,
        }
    }
}

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

/// One layer and one client: each number is the worst over the layer's adversaries, and `adversary` is the one with the largest
/// LMIP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The protocol, by name.
    pub protocol: String,
    /// The layer: `link`, `upload`, `neighbour`, `server`, `server + 1 client`, …
    pub layer: String,
    /// The worst adversary.
    pub adversary: String,
    /// The client, from 1.
    pub client: usize,
    /// Local mutual information privacy, nats per coordinate, of the worst round.
    #[serde(serialize_with = "number")]
    pub lmip_nats: f64,
    /// The same in bits.
    #[serde(serialize_with = "number")]
    pub lmip_bits: f64,
    /// What the sum alone gives this adversary, bits per coordinate; 0 for one who does not obtain the sum. `inf` when all other
    /// clients collude.
    #[serde(serialize_with = "number")]
    pub floor_bits: f64,
    /// Field symbols leaked per coordinate: combinations of updates, beyond the sum and the colluders' own, that are seen without
    /// any key.
    pub symbols: usize,
    /// One of them, empty when there is none.
    pub counterexample: String,
    /// Whether the adversary obtains the sum.
    pub sum: bool,
    /// ε of one round on the view: `inf` when the sum, or the update itself, is seen.
    #[serde(serialize_with = "number")]
    pub epsilon_view: f64,
    /// The same over all rounds.
    #[serde(serialize_with = "number")]
    pub epsilon_view_total: f64,
    /// ε of one round beyond the sum.
    #[serde(serialize_with = "number")]
    pub epsilon_beyond_sum: f64,
    /// The same over all rounds.
    #[serde(serialize_with = "number")]
    pub epsilon_beyond_sum_total: f64,
    /// δ.
    pub delta: f64,
    /// Rounds T.
    pub rounds: u64,
}

impl Entry {
    /// ε over all rounds in the sense that applies: beyond the sum where the sum is seen, else on the view.
    #[must_use]
    pub fn epsilon(&self) -> f64 {
        if self.sum { self.epsilon_beyond_sum_total } else { self.epsilon_view_total }
    }
}

/// JSON has no infinity.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { serializer.serialize_f64(*value) } else { serializer.serialize_str("inf") }
}

/// The result of an audit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// The protocol, by name.
    pub protocol: String,
    /// What was assumed about losses.
    pub erasures: String,
    /// Whether the scheme computes over a prime field, so that LMIP is for uniform inputs and ε is 0 or infinite.
    pub exact: bool,
    /// What stands in for the cryptography of the scheme; `None` where it has none. Whatever an attack on that would tell, and a wrong
    /// agreement that gives two groups one secret, is beyond this audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idealised: Option<&'static str>,
    /// Defects, none for a sound scheme.
    pub findings: Vec<Finding>,
    /// Layers in order, clients in order.
    pub entries: Vec<Entry>,
}

/// What one view tells about one client.
#[derive(Clone, Copy, Debug, Default)]
struct Exposure {
    lmip: f64,
    /// μ of Gaussian differential privacy on the view, and beyond the sum.
    mu: [f64; 2],
    /// Σ μ² over the rounds so far.
    squares: [f64; 2],
}

/// What one coalition learned so far.
#[derive(Clone, Debug)]
struct Learned {
    coalition: Coalition,
    clients: Vec<Exposure>,
    symbols: usize,
    counterexample: String,
    sum: bool,
    /// Whether the views are over a prime field.
    exact: bool,
    /// The view without losses, when others are compared with it.
    largest: Option<View>,
}

impl Learned {
    fn see(&mut self, formal: &Formal, assumptions: &Assumptions, every_round_is_this: bool) {
        let views = match formal {
            Formal::Real(views) => views,
            Formal::Field(views) => {
                let exact = views.exposed(&self.coalition);
                if exact.symbols > self.symbols {
                    self.symbols = exact.symbols;
                    self.counterexample.clone_from(exact.counterexample.as_ref().unwrap_or(&String::new()));
                }
                self.sum |= exact.sum;
                self.exact = true;
                let told: Vec<(usize, f64, [f64; 2])> = (0..)
                    .zip(exact::measures(&**views, &exact))
                    .map(|(k, (lmip, distances))| (k, lmip, distances))
                    .collect();
                return self.add(&told, assumptions, every_round_is_this);
            }
        };
        let view = View::of(views, self.coalition.clone());
        if every_round_is_this && self.largest.is_none() {
            self.largest = Some(view.clone());
        } else if let Some(largest) = &self.largest
            && view.rows.iter().all(|row| largest.rows.contains(row))
        {
            return;
        }
        let (a, b) = view.matrices();
        let keys = KeySpace::of(&b);
        let determined = Determined::with(&view, &a, &keys);
        if determined.combinations.len() > self.symbols {
            self.symbols = determined.combinations.len();
            self.counterexample = determined.counterexample().unwrap_or_default();
        }
        self.sum |= determined.sum;
        let leak = lmip(&view.rows, view.clients, assumptions.input_std);
        let honest: Vec<usize> = view.honest().collect();
        let mut told = Vec::with_capacity(honest.len());
        for &k in &honest {
            let x = a.column(k).into_owned();
            let beyond = honest.iter().filter(|&&j| j != k).map(|&j| {
                let share = (assumptions.weights[j] / assumptions.weights[k]).min(1.0);
                share * keys.distance(&(&x - a.column(j)))
            });
            told.push((k, leak[k], [keys.distance(&x), beyond.fold(0.0, f64::max)]));
        }
        self.add(&told, assumptions, every_round_is_this);
    }

    /// Adds what one view tells: (k, LMIP in nats, ‖H⁺ shift‖ on the view and beyond the sum, per unit of client k's reach).
    fn add(&mut self, told: &[(usize, f64, [f64; 2])], assumptions: &Assumptions, every_round_is_this: bool) {
        for &(k, lmip, distances) in told {
            let total = &mut self.clients[k];
            total.lmip = total.lmip.max(lmip);
            for ((distance, most), squares) in
                distances.into_iter().zip(&mut total.mu).zip(&mut total.squares)
            {
                let mu = match assumptions.clip {
                    _ if distance == 0.0 => 0.0,
                    Some(clip) => 2.0 * assumptions.weights[k] * clip * distance,
                    None => f64::INFINITY,
                };
                *most = most.max(mu);
                *squares = if every_round_is_this {
                    assumptions.rounds as f64 * most.powi(2)
                } else {
                    *squares + mu.powi(2)
                };
            }
        }
    }

    fn floor_bits(&self) -> f64 {
        let honest = self.honest();
        // The sum of uniform field elements tells nothing about one of several.
        if !self.sum && !self.coalition.has(PartyId::Server) || self.exact && honest > 1 {
            0.0
        } else if honest == 1 {
            f64::INFINITY
        } else {
            super::Leakage::floor(honest) / std::f64::consts::LN_2
        }
    }

    fn honest(&self) -> usize {
        (0..self.clients.len()).filter(|&k| !self.coalition.has(PartyId::Client(k as u16))).count()
    }
}

/// Runs the scheme's own party code with formal symbols and measures every layer.
///
/// # Errors
/// Too many coalitions to examine; more formal coordinates than [`AUDITABLE`](crate::protocol::exchange::AUDITABLE).
pub fn audit(
    name: &str,
    scheme: &dyn Aggregator,
    erasures: Erasures,
    attempts: u32,
    adversaries: &Adversaries,
    assumptions: &Assumptions,
) -> Result<Audit> {
    let lossless = scheme.formal(1, &Perfect, attempts)?;
    let layers = layers(&lossless, adversaries)?;
    let mut learned: Vec<(usize, Learned)> = Vec::new();
    for (layer, (_, coalitions)) in layers.iter().enumerate() {
        learned.extend(coalitions.iter().map(|coalition| {
            let blank = Learned {
                coalition: coalition.clone(),
                clients: vec![Exposure::default(); lossless.clients()],
                symbols: 0,
                counterexample: String::new(),
                sum: false,
                exact: false,
                largest: None,
            };
            (layer, blank)
        }));
    }
    let mut findings: Vec<Finding> = Vec::new();
    let mut see = |views: &[Formal], repeated: bool| {
        learned.par_iter_mut().for_each(|(_, learned)| {
            for views in views {
                learned.see(views, assumptions, repeated);
            }
        });
        findings.extend(views.iter().flat_map(defect::of_formal));
        findings.extend(
            views.windows(2).filter(|_| !repeated).filter_map(|two| defect::of_rounds(&two[0], &two[1])),
        );
    };
    let rounds: Vec<u64> = (1..=assumptions.rounds).collect();
    let erasures = match erasures {
        Erasures::Actual(links) => {
            for block in rounds.chunks(BLOCK) {
                let views: Result<Vec<Formal>> =
                    block.par_iter().map(|&round| scheme.formal(round, links, attempts)).collect();
                see(&views?, false);
            }
            format!("the links' own erasures in {} rounds", rounds.len())
        }
        Erasures::These(lost) => {
            see(&[scheme.formal(1, lost, attempts)?], true);
            format!("{} given erasures in every round", lost.0.len())
        }
        Erasures::Worst(seed) => {
            let (patterns, all) = erasures::worst(&lossless, attempts, seed);
            for block in patterns.chunks(BLOCK) {
                let views: Result<Vec<Formal>> =
                    block.par_iter().map(|lost| scheme.formal(1, lost, attempts)).collect();
                see(&views?, true);
            }
            let which = if all { "all" } else { "no loss and seeded patterns, together" };
            format!("the worst case over erasures ({which} {})", patterns.len())
        }
    };
    findings.extend(defect::of_rounds(&lossless, &scheme.formal(2, &Perfect, attempts)?));
    let entries = layers.iter().enumerate().flat_map(|(layer, (layer_name, _))| {
        let of_layer: Vec<&Learned> = learned.iter().filter(|(l, _)| *l == layer).map(|(_, l)| l).collect();
        entries((name, layer_name), &of_layer, lossless.clients(), assumptions)
    });
    let entries = entries.collect();
    let exact = matches!(lossless, Formal::Field(_));
    let idealised = (scheme.scheme().keys == SharedKeys::Agreement.name()).then_some(AGREED);
    let findings = first_of_each(findings);
    Ok(Audit { protocol: name.to_owned(), erasures, exact, idealised, findings, entries })
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

/// The lines of one layer: every client that is outside at least one of its coalitions.
fn entries(
    (protocol, layer): (&str, &str),
    coalitions: &[&Learned],
    clients: usize,
    assumptions: &Assumptions,
) -> Vec<Entry> {
    let line = |k: usize| {
        let outside =
            || coalitions.iter().filter(move |learned| !learned.coalition.has(PartyId::Client(k as u16)));
        // The first of equals, so that the named adversary does not depend on rounding at the end of a list.
        let worst = outside().copied().reduce(|best, learned| {
            if learned.clients[k].lmip > best.clients[k].lmip * (1.0 + 1e-9) { learned } else { best }
        })?;
        let most = outside()
            .copied()
            .reduce(|best, learned| if learned.symbols > best.symbols { learned } else { best })?;
        let largest = |of: &dyn Fn(&Exposure) -> f64| {
            outside().map(|learned| of(&learned.clients[k])).fold(0.0, f64::max)
        };
        let epsilon = |mu: f64| ldp::epsilon(mu, assumptions.delta);
        let lmip_nats = worst.clients[k].lmip;
        Some(Entry {
            protocol: protocol.to_owned(),
            layer: layer.to_owned(),
            adversary: worst.coalition.to_string(),
            client: k + 1,
            lmip_nats,
            lmip_bits: lmip_nats / std::f64::consts::LN_2,
            floor_bits: worst.floor_bits(),
            symbols: most.symbols,
            counterexample: most.counterexample.clone(),
            sum: outside().any(|learned| learned.sum),
            epsilon_view: epsilon(largest(&|e| e.mu[0])),
            epsilon_view_total: epsilon(largest(&|e| e.squares[0]).sqrt()),
            epsilon_beyond_sum: epsilon(largest(&|e| e.mu[1])),
            epsilon_beyond_sum_total: epsilon(largest(&|e| e.squares[1]).sqrt()),
            delta: assumptions.delta,
            rounds: assumptions.rounds,
        })
    };
    (0..clients).filter_map(line).collect()
}
