//! Which code and straggler tolerance suit a network.

use super::{Size, Step, Watch};
use crate::config::Config;
use crate::error::Result;
use crate::plan::{Candidate, candidates_as_found};

/// The candidates for the configured network with each of the numbers of `attempts`, of which the
/// configuration's own is taken where there are none; `rounds` are played where something must be measured.
///
/// # Errors
/// As [`candidates_as_found`].
pub fn plan(
    config: &Config,
    size: &mut Size,
    attempts: &[u32],
    rounds: u64,
    watch: &mut Watch<'_>,
) -> Result<Vec<Candidate>> {
    let coordinates = size.of(config)?;
    let configured = [config.outage.attempts()];
    let attempts = if attempts.is_empty() { &configured[..] } else { attempts };
    candidates_as_found(config, coordinates, attempts, rounds, watch.stop, &mut |place, total, one| {
        let (code, s, outage) = (one.code.name(), one.stragglers, 100.0 * one.outage);
        let what = format!("{code} s = {s}, {}: outage {outage:.3} %", one.decoder);
        (watch.hear)(&Step { place, total, what: &what })
    })
}
