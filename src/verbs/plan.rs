//! Which code and straggler tolerance suit a network.

use super::{Size, Step, Watch};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::plan::{Candidate, candidates_into};

/// The candidates for the configured network with each of the numbers of `attempts`, of which the
/// configuration's own is taken where there are none; `rounds` are played where something must be measured.
/// With `outage.at_most` only those that keep it.
///
/// # Errors
/// As [`crate::plan::candidates_as_found`]; no candidate that keeps the bound.
pub fn plan(
    config: &Config,
    size: &mut Size,
    attempts: &[u32],
    rounds: u64,
    watch: &mut Watch<'_>,
) -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    plan_into(&mut found, config, size, attempts, rounds, watch)?;
    Ok(found)
}

/// [`plan`] into `found`, which after an error holds what was found until then.
///
/// # Errors
/// As there.
pub fn plan_into(
    found: &mut Vec<Candidate>,
    config: &Config,
    size: &mut Size,
    attempts: &[u32],
    rounds: u64,
    watch: &mut Watch<'_>,
) -> Result<()> {
    let coordinates = size.of(config)?;
    let configured = [config.outage.attempts()];
    let attempts = if attempts.is_empty() { &configured[..] } else { attempts };
    let mut tell = |place, total, one: &Candidate| {
        let (code, s, outage) = (one.code.name(), one.stragglers, 100.0 * one.outage);
        let what = format!("{code} s = {s}, {}: outage {outage:.3} %", one.decoder);
        (watch.hear)(&Step { place, total, what: &what })
    };
    let ended = candidates_into(found, config, coordinates, attempts, rounds, watch.stop, &mut tell);
    let Some(bound) = config.outage.at_most else { return ended };
    let least = found.iter().map(|one| one.outage).fold(f64::INFINITY, f64::min);
    found.retain(|one| one.outage <= bound);
    ended?;
    if found.is_empty() {
        let rule = format!(
            "no code has an outage of at most {bound} over this network, the least is {least:.3e}; raise it, or allow more attempts"
        );
        return Err(Error::config("outage.at_most", rule));
    }
    Ok(())
}
