//! What the sum of a round does to the state: first the server's part, then, when nothing can diverge any
//! more, the clients'.

use std::borrow::Borrow;
use std::sync::Arc;

use rayon::prelude::*;

use super::carrier::Carried;
use super::turn::rate;
use super::{Run, Setting, State};
use crate::algebra::{CHUNK, is_finite};
use crate::config::OutagePolicy;
use crate::error::NotFinite;
use crate::protocol::{Decoded, Update};
use crate::record::Outcome;

impl Run<'_> {
    /// The server's step; `singles` are what a rule of participation reads. Returns the outcome and the
    /// relative error of the mean that the server used, where it is known, or what is not finite.
    pub(super) fn apply(
        &self,
        state: &mut State,
        carried: &Carried,
        mut singles: Vec<Update>,
    ) -> Result<(Outcome, Option<f64>), NotFinite> {
        let Setting { weights, .. } = self.setting;
        let Carried { cohort, updates, trained, silent, aggregate, .. } = carried;
        let (members, compressed) = (&cohort.members, carried.compressed.as_ref());
        let included = aggregate.decoded.included();
        let error = |sum: &[f64], weight: f64, updates: &[&Update]| {
            trained.as_ref().map(|_| relative_error(sum, weight, updates))
        };
        let whole: Vec<&Update> = silent.others(updates).collect();
        let heard: Vec<&Update> =
            silent.others(compressed.map_or(updates, |compressed| &compressed.sent)).collect();
        if let Some(compressed) = compressed {
            compressed.expand(&mut singles);
        }
        let mut weight: f64 = included.iter().map(|&k| updates[usize::from(k)].weight).sum();
        let estimate = match (&self.rule, &aggregate.decoded) {
            (Some(rule), _) => {
                let absent = |weight: &f64| Update { weight: *weight, delta: Arc::default() };
                let mut everybody: Vec<Update> = weights.iter().map(absent).collect();
                let arrived: Vec<u32> = included.iter().map(|&i| members[usize::from(i)]).collect();
                arrived.iter().zip(singles).for_each(|(&k, single)| everybody[k as usize] = single);
                rule.estimate(&mut state.server.memory, &everybody, &arrived)
                    .map(|mean| (error(&mean, 1.0, &whole), mean))
            }
            (None, Decoded::Sum { sum, .. }) => {
                let divisor = self.divisor(weight);
                let mean = sum.par_iter().map(|s| divisor.recip() * s).collect();
                Some((error(sum, weight, &heard), mean))
            }
            // A fixed divisor: the weight of everybody who takes part.
            (None, Decoded::Estimate { sum, .. }) => {
                weight = self.divisor(updates.iter().map(|update| update.weight).sum());
                let mean = sum.par_iter().map(|s| weight.recip() * s).collect();
                Some((error(sum, weight, &heard), mean))
            }
            (None, Decoded::Outage(_)) => None,
        };
        let Some((error, mean)) = estimate else { return Ok((Outcome::Outage, None)) };
        let mean = match compressed.filter(|_| self.rule.is_none()) {
            Some(compressed) => compressed.take(&mean, state),
            None => mean,
        };
        self.step(state, mean, weight / carried.total)?;
        let outcome = match &aggregate.decoded {
            Decoded::Estimate { .. } => Outcome::Estimate,
            _ if included.len() == updates.len() => Outcome::Recovered,
            _ => Outcome::Partial,
        };
        Ok((outcome, error))
    }

    /// What a sum over clients of this weight is divided by: where each is drawn for itself, the weight that
    /// is expected.
    pub(super) fn divisor(&self, weight: f64) -> f64 {
        let Setting { config, weights, .. } = self.setting;
        config.cohort.rate.map_or(weight, |rate| rate * weights.iter().sum::<f64>())
    }

    /// The server's step along the `mean` of clients with this `share` of the weight. An error names what is
    /// not finite.
    fn step(&self, state: &mut State, mean: Vec<f64>, share: f64) -> Result<(), NotFinite> {
        let Setting { config, solver, server, .. } = self.setting;
        if !is_finite(&mean) {
            return Err(NotFinite::Sum);
        }
        let rate = rate(config, &**solver, state.round);
        let direction = solver.direction(&mut state.server.control, mean, share, rate);
        server.step(&mut state.server.parameters, &mut state.server.moments, &direction);
        if state.server.is_finite() { Ok(()) } else { Err(NotFinite::Model) }
    }

    /// The clients' step, when they learn whose updates entered the sum. An error names what is not finite
    /// and leaves them alone.
    pub(super) fn settle(
        &self,
        state: &mut State,
        carried: &Carried,
        outcome: Outcome,
    ) -> Result<(), NotFinite> {
        let Setting { config, solver, .. } = self.setting;
        let Carried { cohort, updates, aggregate, .. } = carried;
        let members = &cohort.members;
        if outcome == Outcome::Outage {
            if config.outage.policy == OutagePolicy::Accumulate {
                state.clients.carried = updates.iter().map(|update| update.delta.to_vec()).collect();
            }
            return Ok(());
        }
        let rate = rate(config, &**solver, state.round);
        let moves = |i: &usize| state.clients.controls.get(members[*i] as usize).is_some();
        let places: Vec<usize> =
            aggregate.decoded.included().iter().map(|&i| usize::from(i)).filter(moves).collect();
        let advance = |i: usize, own: &mut [f32]| solver.advance(own, &updates[i].delta, rate);
        let stays_finite = |&i: &usize| {
            let mut own = state.clients.controls[members[i] as usize].clone();
            own.resize(state.server.control.len(), 0.0);
            advance(i, &mut own);
            is_finite(&own)
        };
        if !places.iter().all(stays_finite) {
            return Err(NotFinite::Model);
        }
        for i in places {
            let own = &mut state.clients.controls[members[i] as usize];
            own.resize(state.server.control.len(), 0.0);
            advance(i, own);
        }
        state.clients.carried.clear();
        Ok(())
    }
}

/// ‖sum/weight − mean‖₂ / ‖mean‖₂ for the weighted mean of all updates; coordinates in order, so that the
/// value does not depend on the number of threads.
pub(crate) fn relative_error(sum: &[f64], weight: f64, updates: &[impl Borrow<Update> + Sync]) -> f64 {
    let updates: Vec<&Update> = updates.iter().map(Borrow::borrow).collect();
    let total: f64 = updates.iter().map(|update| update.weight).sum();
    let parts: Vec<(f64, f64)> = sum
        .par_chunks(CHUNK)
        .enumerate()
        .map(|(chunk, sum)| {
            let mut mean = vec![0.0f64; sum.len()];
            for update in &updates {
                let delta = &update.delta[chunk * CHUNK..][..sum.len()];
                mean.iter_mut()
                    .zip(delta)
                    .for_each(|(mean, x)| *mean += update.weight / total * f64::from(*x));
            }
            let pairs = mean.iter().zip(sum);
            pairs.fold((0.0, 0.0), |(error, norm), (mean, sum)| {
                (error + (sum / weight - mean).powi(2), norm + mean * mean)
            })
        })
        .collect();
    let (error, norm) = parts.iter().fold((0.0, 0.0), |(e, n), (error, norm)| (e + error, n + norm));
    (error / norm).sqrt()
}
