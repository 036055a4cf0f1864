//! How strong the keys must be: the smallest power that meets a target at every layer for the worst client.

use std::sync::atomic::AtomicBool;

use super::{Adversaries, Assumptions, Audit, Entry, Erasures, audit_observed};
use crate::error::{Error, Result};
use crate::keys::KeyChoice;
use crate::parallel::{NEVER, goes_on};
use crate::protocol::{Keys, ProtocolConfig};
use crate::seed::Seed;

/// Upper bounds on what may leak.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    /// On ε over all rounds, see [`Entry::epsilon`].
    pub epsilon: Option<f64>,
    /// On LMIP, bits per coordinate.
    pub lmip_bits: Option<f64>,
}

impl Bounds {
    /// Whether a bound is set.
    #[must_use]
    pub fn any(&self) -> bool {
        self.epsilon.is_some() || self.lmip_bits.is_some()
    }

    /// Whether some keys could keep the bounds: none brings LMIP below what the sum alone tells.
    ///
    /// # Errors
    /// A bound on LMIP below the floor, which is named.
    pub fn possible(&self, audit: &Audit) -> Result<()> {
        let Some(bound) = self.lmip_bits else { return Ok(()) };
        let highest = |a: &Entry, b: &Entry| a.floor_bits.total_cmp(&b.floor_bits);
        match audit.entries.iter().rev().max_by(|a, b| highest(a, b)).filter(|entry| entry.floor_bits > bound)
        {
            None => Ok(()),
            Some(entry) => {
                let floor = match entry.floor_bits {
                    bits if bits.is_infinite() => "everything".into(),
                    bits => format!("{bits:.4} bits per coordinate"),
                };
                let rule = format!(
                    "{bound} is below what the sum alone tells ({}, client {}: {floor}), which no keys hide; give at least that, or examine \
                     fewer colluders",
                    entry.layer, entry.client
                );
                Err(Error::config("privacy.max_lmip_bits", rule))
            }
        }
    }

    /// The line of `audit` that exceeds a bound by the largest factor, as one sentence; `None` when all are
    /// kept.
    #[must_use]
    pub fn exceeded(&self, audit: &Audit) -> Option<String> {
        let over = |entry: &Entry| {
            let checks = [
                ("epsilon", entry.provable_epsilon(), self.epsilon, "privacy.max_ldp_epsilon"),
                ("LMIP", entry.provable_lmip_bits(), self.lmip_bits, "privacy.max_lmip_bits"),
            ];
            checks
                .into_iter()
                .filter_map(|(name, value, bound, key)| {
                    let bound = bound.filter(|bound| value > *bound)?;
                    let unit = if name == "LMIP" { " bits per coordinate" } else { "" };
                    let what =
                        if value.is_infinite() { "unbounded".into() } else { format!("{value:.4}{unit}") };
                    let line = format!(
                        "{}, client {}: {name} is {what}, above {key} = {bound}{}",
                        entry.layer,
                        entry.client,
                        if name == "LMIP" && entry.floor_bits > bound {
                            format!(" (the sum alone gives {:.4})", entry.floor_bits)
                        } else {
                            String::new()
                        }
                    );
                    Some((value / bound, line))
                })
                .collect::<Vec<_>>()
        };
        let all = audit.entries.iter().flat_map(over);
        all.reduce(|worst, next| if next.0 > worst.0 { next } else { worst }).map(|(_, line)| line)
    }
}

/// The weakest sufficient keys of one construction.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrated {
    /// The construction; `None` for independent noise.
    pub keys: Option<KeyChoice>,
    /// σ, rounded up: `protocol.key_std`. `None` when no σ meets the bounds.
    pub key_std: Option<f64>,
    /// Σ_k Var(u_k) per coordinate at that σ.
    pub total_power: Option<f64>,
    /// What stands in the way when no σ does.
    pub obstacle: Option<String>,
}

/// Relative precision of σ.
const PRECISION: f64 = 1e-4;

/// Keys stronger than this many times the scale of the updates are not tried.
const STRONGEST: f64 = 1e8;

/// The smallest σ of `protocol` that keeps `bounds`, for every construction of its keys.
///
/// Every measure falls as σ grows, so σ is found by bisection over whole audits, to a relative 10⁻⁴ from
/// above. Optimised keys are optimised anew for every σ, so that what does not count may grow with it: their
/// σ is sufficient, and the smallest where the bounds are those of the goal. Losses are the worst case, and
/// the bounds are kept under each of `cases`: one for every number of clients that a round may have. Link
/// keys stay as they are.
///
/// # Errors
/// No bound, a scheme without keys, a bound below what the sum alone tells, or what [`super::audit`] refuses.
pub fn calibrate(
    protocol: &ProtocolConfig,
    bounds: &Bounds,
    seed: Seed,
    attempts: u32,
    adversaries: &Adversaries,
    cases: &[Assumptions],
) -> Result<Vec<Calibrated>> {
    calibrate_until(&NEVER, protocol, bounds, seed, attempts, adversaries, cases)
}

/// [`calibrate`], until `stop` is set.
pub(crate) fn calibrate_until(
    stop: &AtomicBool,
    protocol: &ProtocolConfig,
    bounds: &Bounds,
    seed: Seed,
    attempts: u32,
    adversaries: &Adversaries,
    cases: &[Assumptions],
) -> Result<Vec<Calibrated>> {
    if !bounds.any() {
        return Err(Error::config(
            "privacy",
            "calibration needs a target; set max_ldp_epsilon or max_lmip_bits",
        ));
    }
    let scale = |case: &Assumptions| {
        let [_, most] = case.weights.range();
        most * case.clip.unwrap_or(0.0).max(case.input_std)
    };
    let clients = cases.iter().map(|case| case.weights.clients()).max().unwrap_or(0);
    let scale = cases.iter().map(scale).fold(0.0, f64::max);
    let mut own = protocol.clone();
    let kinds: Vec<Option<KeyChoice>> = match own.section_mut().keys() {
        Some(Keys { kind: Some(kind), .. }) => {
            let closed = [KeyChoice::Fair, KeyChoice::Pairwise, KeyChoice::Plain];
            let own = Some(*kind).filter(|kind| !closed.contains(kind));
            closed.into_iter().chain(own).map(Some).collect()
        }
        Some(_) => vec![None],
        None => {
            let rule = format!("{} has no keys to calibrate", protocol.kind());
            return Err(Error::config("protocol", rule));
        }
    };
    let mut results = Vec::new();
    for keys in kinds {
        let audits = |std: f64| -> Result<Vec<Audit>> {
            let mut audits = Vec::with_capacity(cases.len());
            for case in cases {
                let size = case.weights.clients();
                let protocol = with_keys(protocol, keys, std).fitted(size);
                let scheme = match protocol.build_for(size, seed, &case.public()) {
                    // A cohort without a scheme is an outage, in which nothing is sent.
                    Err(_) if size < clients => continue,
                    built => built.map_err(|error| error.within("protocol"))?,
                };
                let erasures = Erasures::Worst(seed);
                let scheme = (&*scheme, attempts);
                audits.push(audit_observed(
                    protocol.kind(),
                    scheme,
                    erasures,
                    adversaries,
                    case,
                    &mut |_, _, _| goes_on(stop),
                )?);
            }
            Ok(audits)
        };
        let fails = |std: f64| -> Result<Option<String>> {
            Ok(audits(std)?.iter().find_map(|audit| bounds.exceeded(audit)))
        };
        let power = |std: f64| match keys {
            Some(kind) => kind.total_power(clients, std),
            None => clients as f64 * std * std,
        };
        let strongest = STRONGEST * scale;
        let best = audits(strongest)?;
        best.iter().try_for_each(|audit| bounds.possible(audit))?;
        if let Some(obstacle) = best.iter().find_map(|audit| bounds.exceeded(audit)) {
            results.push(Calibrated { keys, key_std: None, total_power: None, obstacle: Some(obstacle) });
            continue;
        }
        let (mut low, mut high) = (0.0, scale);
        while fails(high)?.is_some() {
            (low, high) = (high, (4.0 * high).min(strongest));
        }
        while low == 0.0 && high > scale / STRONGEST {
            if fails(high / 4.0)?.is_some() { low = high / 4.0 } else { high /= 4.0 }
        }
        while low > 0.0 && high > (1.0 + PRECISION) * low {
            let middle = (low * high).sqrt();
            if fails(middle)?.is_some() { low = middle } else { high = middle }
        }
        results.push(Calibrated {
            keys,
            key_std: Some(high),
            total_power: Some(power(high)),
            obstacle: None,
        });
    }
    Ok(results)
}

/// The protocol with other keys.
fn with_keys(protocol: &ProtocolConfig, kind: Option<KeyChoice>, key_std: f64) -> ProtocolConfig {
    let mut protocol = protocol.clone();
    if let Some(keys) = protocol.section_mut().keys() {
        *keys.std = key_std;
        keys.kind.into_iter().zip(kind).for_each(|(own, kind)| *own = kind);
        // Other keys have no goal.
        keys.goal.filter(|_| kind != Some(KeyChoice::Optimised)).into_iter().for_each(|goal| *goal = None);
    }
    protocol
}
