//! What privacy costs: accuracy, leakage and recovery error against the strength σ of the keys.
//!
//! The numbers of privacy are those of [`crate::audit`] for a round without losses, in which the adversaries
//! see most.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::algebra::Sample;
use crate::algebra::grid::Public;
use crate::algebra::quantise::Quantisation;
use crate::audit::erasures::Lost;
use crate::audit::{Entry, lossless};
use crate::coding::CodeKind;
use crate::config::{Config, Contender, PrivacyConfig};
use crate::error::{Error, Result};
use crate::keys::{KeyChoice, KeyKind};
use crate::learn::Device;
use crate::protocol::cogc::SecCoGcConfig;
use crate::protocol::{Arithmetic, Decoded, PartyId, ProtocolConfig, Update};
use crate::record::{Measures, Played};
use crate::seed::Seed;
use crate::train::{Run, Setting, relative_error};

/// Coordinates of the random updates on which recovery is tried.
const COORDINATES: usize = 10_000;

/// Rounds of each measurement of recovery.
const TRIALS: u64 = 3;

/// One run: a line of `accuracy_privacy.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccuracyRow {
    /// Name of the contender.
    pub protocol: String,
    /// σ of the keys or of the noise; empty where there are none.
    pub key_std: Option<f64>,
    /// Seed of the run.
    pub seed: u64,
    /// Largest LMIP of a client against one link, one upload or one other client, bits per coordinate.
    pub lmip_bits: f64,
    /// Largest LMIP of a client against the server, bits per coordinate.
    pub lmip_server_bits: f64,
    /// What of it any exact sum gives away.
    pub lmip_sum_bits: f64,
    /// ε of one round against the worst single adversary: beyond the sum for one who obtains the sum, else on
    /// the view.
    pub epsilon: f64,
    /// The same over all rounds.
    pub epsilon_total: f64,
    /// `lmip_bits` of the bits that are sent ([`crate::privacy::floating`]), where a grid makes it provable;
    /// else the same as above.
    pub lmip_bits_provable: f64,
    /// `lmip_server_bits`, likewise.
    pub lmip_server_bits_provable: f64,
    /// `epsilon_total`, likewise.
    pub epsilon_provable: f64,
    /// δ of all ε.
    pub delta: f64,
    /// Rounds played.
    pub rounds: u64,
    /// Rounds in which the sum over all clients was decoded.
    pub recovered: u64,
    /// Test accuracy (fraction) of the last round; NaN when the run diverged.
    pub final_accuracy: f64,
    /// Highest test accuracy (fraction) of all tested rounds; NaN when the run diverged.
    pub best_accuracy: f64,
}

/// One client: a line of `leakage_per_client.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeakageRow {
    /// Key construction.
    pub keys: String,
    /// Its σ.
    pub key_std: f64,
    /// Σ_k Var(u_k) per coordinate, the same for every construction.
    pub total_power: f64,
    /// The client, from 1.
    pub client: usize,
    /// LMIP against the worst client-to-client link, bits per coordinate.
    pub link_bits: f64,
    /// LMIP against the worst other client, bits per coordinate.
    pub neighbour_bits: f64,
    /// LMIP against the server, bits per coordinate.
    pub server_bits: f64,
    /// What of the latter the sum alone gives away.
    pub sum_bits: f64,
}

/// One measurement of recovery: a line of `recovery_error.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecoveryRow {
    /// The gradient code.
    pub code: String,
    /// Its straggler tolerance s.
    pub stragglers: usize,
    /// Precision of the symbols.
    pub arithmetic: Arithmetic,
    /// σ of the keys, in units of the standard deviation of an update's coordinate.
    pub key_std: f64,
    /// ‖decoded mean − mean‖₂ / ‖mean‖₂, the largest of three rounds in each of which s random uploads are
    /// lost.
    pub relative_error: f64,
}

/// The runs of one seed as (index in `[[compare]]`, protocol): each protocol with keys at each σ, the others
/// once.
fn grid(config: &Config) -> Vec<(usize, ProtocolConfig)> {
    let of = |i, protocol: &ProtocolConfig| -> Vec<(usize, ProtocolConfig)> {
        let keyed = config.study.key_stds.iter().filter_map(|&std| protocol.with_key_std(std));
        let keyed: Vec<_> = keyed.map(|protocol| (i, protocol)).collect();
        if keyed.is_empty() { vec![(i, protocol.clone())] } else { keyed }
    };
    config.compare.iter().enumerate().flat_map(|(i, one)| of(i, &one.protocol)).collect()
}

/// Trains every protocol of `[[compare]]` at every σ and seed, paired in everything but the protocol, and
/// audits it. `observe` sees every line when its run ends; runs that have one among `known` are not played
/// again.
///
/// # Errors
/// A configuration value that breaks a rule; [`Error::Stopped`] once `stop` is set, and an error of
/// `observe`.
pub fn accuracy(
    config: &Config,
    seeds: &[u64],
    device: &Device,
    known: &[AccuracyRow],
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&AccuracyRow) -> Result<()>,
) -> Result<Vec<AccuracyRow>> {
    let mut table = Vec::new();
    for &seed in seeds {
        // The audit tells what each round's measurement would.
        let privacy = PrivacyConfig { measure: false, ..config.privacy.clone() };
        let setting = Setting::build(&Config { seed, privacy, ..config.clone() }, device.clone())?;
        let assumptions = setting.assumptions();
        let runs = grid(config).into_iter().map(|(i, protocol)| {
            let contender = Contender { protocol, ..config.compare[i].clone() };
            let run =
                setting.contender(&contender).map_err(|error| error.within(&format!("compare[{i}]")))?;
            Ok((config.compare[i].name.as_str(), run.with_stop(stop)))
        });
        // Every run is built before the first one starts, so that a wrong last one costs nothing.
        for (name, run) in runs.collect::<Result<Vec<_>>>()? {
            let scheme = run.aggregator();
            let same = |row: &&AccuracyRow| {
                row.protocol == name && row.key_std == scheme.scheme().key_std && row.seed == seed
            };
            if let Some(row) = known.iter().find(same) {
                table.push(row.clone());
                continue;
            }
            let entries = lossless(name, scheme, config.outage.attempts(), &assumptions)?;
            let measures = Measures::of(&play(&run, config.rounds)?, None);
            let worst = |server: bool, of: &dyn Fn(&Entry) -> f64| {
                entries.iter().filter(|entry| (entry.layer == "server") == server).map(of).fold(0.0, f64::max)
            };
            let all = |of: &dyn Fn(&Entry) -> f64| worst(true, of).max(worst(false, of));
            let row = AccuracyRow {
                protocol: name.to_owned(),
                key_std: scheme.scheme().key_std,
                seed,
                lmip_bits: worst(false, &|entry| entry.lmip_bits),
                lmip_server_bits: worst(true, &|entry| entry.lmip_bits),
                lmip_sum_bits: worst(true, &|entry| entry.floor_bits),
                epsilon: all(&|e| if e.sum { e.epsilon_beyond_sum } else { e.epsilon_view }),
                epsilon_total: all(&Entry::epsilon),
                lmip_bits_provable: worst(false, &Entry::provable_lmip_bits),
                lmip_server_bits_provable: worst(true, &Entry::provable_lmip_bits),
                epsilon_provable: all(&Entry::provable_epsilon),
                delta: assumptions.delta,
                rounds: measures.rounds_played,
                recovered: measures.recovered,
                final_accuracy: measures.final_accuracy,
                best_accuracy: measures.best_accuracy,
            };
            observe(&row)?;
            table.push(row);
        }
    }
    Ok(table)
}

/// So many rounds, fewer where one diverges.
fn play(run: &Run<'_>, rounds: u64) -> Result<Played> {
    let (mut state, mut played) = (run.start(), Played::default());
    while state.round < rounds {
        match run.round(&mut state) {
            Ok((row, _)) => played.rows.push(row),
            Err(Error::Diverged { diverged, .. }) => {
                played.diverged = Some(diverged.round);
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(played)
}

/// The first `sec-cogc` of `[[compare]]`, else the default one.
fn template(config: &Config) -> SecCoGcConfig {
    let found = config.compare.iter().find_map(|one| match &one.protocol {
        ProtocolConfig::SecCoGc(config) => Some(config.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

/// Leakage of every client under plain and fair keys of equal total power, that of fair keys at the smallest
/// σ of the grid. Clients count as equally large, so that only the keys make a difference.
///
/// # Errors
/// Parameters that break a rule of the scheme.
pub fn leakage(config: &Config) -> Result<Vec<LeakageRow>> {
    let clients = config.clients;
    let assumptions = config.assumptions(vec![1.0; clients]);
    let weakest = config.study.key_stds.first().copied().unwrap_or(1.0);
    let total_power = KeyKind::Fair.total_power(clients, weakest);
    let mut table = Vec::new();
    for keys in [KeyKind::Plain, KeyKind::Fair] {
        let key_std = (total_power / keys.total_power(clients, 1.0)).sqrt();
        let protocol = ProtocolConfig::SecCoGc(SecCoGcConfig {
            keys: keys.into(),
            key_std,
            optimise: None,
            ..template(config)
        });
        let scheme = protocol
            .build(clients, Seed::new(config.seed).child("protocol", 0))
            .map_err(|error| error.within("protocol"))?;
        let entries = lossless(keys.name(), &*scheme, config.outage.attempts(), &assumptions)?;
        for client in 1..=clients {
            let of = |layer: &str, value: fn(&Entry) -> f64| {
                let found = entries.iter().find(|entry| entry.layer == layer && entry.client == client);
                found.map_or(0.0, value)
            };
            table.push(LeakageRow {
                keys: keys.name().into(),
                key_std,
                total_power,
                client,
                link_bits: of("link", |entry| entry.lmip_bits),
                neighbour_bits: of("neighbour", |entry| entry.lmip_bits),
                server_bits: of("server", |entry| entry.lmip_bits),
                sum_bits: of("server", |entry| entry.floor_bits),
            });
        }
    }
    Ok(table)
}

/// Recovery error of random N(0, 1) updates through the real protocol, for every code and arithmetic, at
/// every σ of `key_stds`. Over the field σ has no meaning, and the error is that of quantising to 40 bits.
///
/// s is that of the first `sec-cogc` of `[[compare]]`, or the nearest for which the code exists. A code that
/// does not exist for any s from 1 to M − 2, where there is something to lose and to code, is left out.
///
/// # Errors
/// Parameters that break a rule of the scheme.
pub fn recovery(config: &Config, key_stds: &[f64]) -> Result<Vec<RecoveryRow>> {
    let clients = config.clients;
    let seed = Seed::new(config.seed).child("recovery", 0);
    let wanted = template(config);
    let nearest = wanted.stragglers.count(config.clients).map_err(|error| error.within("protocol"))?;
    let mut table = Vec::new();
    for code in CodeKind::FAMILIES {
        let possible = (1..clients.saturating_sub(1)).filter(|&s| code.exists(clients, s));
        let Some(stragglers) = possible.min_by_key(|s| s.abs_diff(nearest)) else { continue };
        for arithmetic in [Arithmetic::F32, Arithmetic::F64, Arithmetic::Field] {
            let quantisation = (arithmetic == Arithmetic::Field).then(|| Quantisation {
                clip: WIDEST,
                bits: 40,
                ..Quantisation::default()
            });
            for &key_std in key_stds {
                // Over a field all keys are alike.
                let (keys, optimise) = match arithmetic {
                    Arithmetic::Field => (KeyChoice::Fair, None),
                    _ => (wanted.keys, wanted.optimise.clone()),
                };
                let scheme = SecCoGcConfig {
                    keys,
                    optimise,
                    code,
                    stragglers: stragglers.into(),
                    arithmetic,
                    quantisation: quantisation.clone(),
                    key_std,
                    ..wanted.clone()
                };
                // However imprecise a sum is, its error is what is asked for.
                let public =
                    Public { tolerance: f64::INFINITY, coordinates: Some(COORDINATES), ..Public::default() };
                let seed_of_keys = seed.child("protocol", 0);
                let scheme = match ProtocolConfig::SecCoGc(scheme).build_for(clients, seed_of_keys, &public) {
                    // Not every code exists over a field.
                    Err(Error::NoCode { .. }) if quantisation.is_some() => continue,
                    built => built.map_err(|error| error.within("protocol"))?,
                };
                let mut worst: f64 = 0.0;
                for round in 1..=TRIALS {
                    let updates = random_updates(clients, seed.child("updates", round));
                    let lost = lost_uploads(clients, stragglers, seed.child("losses", round));
                    let decoded = scheme.aggregate(round, &updates, &lost, 1)?.decoded;
                    let Decoded::Sum { sum, .. } = decoded else {
                        let problem = format!("{} lost a sum at {stragglers} stragglers", code.name());
                        return Err(Error::Refused(problem));
                    };
                    worst = worst.max(relative_error(&sum, clients as f64, &updates));
                }
                table.push(RecoveryRow {
                    code: code.name().into(),
                    stragglers,
                    arithmetic,
                    key_std,
                    relative_error: worst,
                });
            }
        }
    }
    Ok(table)
}

/// Clip of the quantised N(0, 1) updates: beyond it is a coordinate in 10¹⁵.
const WIDEST: f64 = 8.0;

fn random_updates(clients: usize, seed: Seed) -> Vec<Update> {
    let update = |k| {
        let mut delta = vec![0.0f32; COORDINATES];
        f32::sample(&mut seed.child("client", k).rng(), &mut delta);
        Update { weight: 1.0, delta: Arc::new(delta) }
    };
    (0..clients as u64).map(update).collect()
}

fn lost_uploads(clients: usize, lost: usize, seed: Seed) -> Lost {
    let mut order: Vec<u16> = (0..clients as u16).collect();
    order.shuffle(&mut seed.rng());
    let uploads = order.into_iter().take(lost).map(|k| (0, 0, PartyId::Client(k), PartyId::Server));
    Lost(uploads.collect::<HashSet<_>>())
}
