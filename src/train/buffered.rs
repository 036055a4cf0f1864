//! Rounds of the clients that have computed next ([`Buffered`]).

use std::collections::HashSet;

use rand::RngExt;

use super::cohort::Cohort;
use super::{Run, Setting, State};
use crate::bounds;
use crate::cohort::{Buffered, LOOKS};
use crate::error::{Error, Result};
use crate::record::{Flight, Metrics};
use crate::seed::Rng;

/// Clients who begin in vain in a round, for each that computes at the same time, before the server looks
/// again later.
const IN_VAIN: usize = 100;

impl Setting {
    /// Refuses what does not go with clients that compute on models of different rounds; `singly`: where a
    /// rule makes up for absent ones.
    pub(super) fn check_buffered(&self, singly: bool) -> Result<()> {
        let Some(buffered) = &self.config.cohort.buffered else { return Ok(()) };
        let refuse = |rule: String| Err(Error::config("cohort.buffered", rule));
        if singly {
            return refuse(
                "late updates have a weight already; take participation.kind = \"none\", or remove it".into(),
            );
        }
        if self.solver.has_controls() {
            return refuse(format!(
                "the control vectors of {} belong to the last model; take another solver, or remove it",
                self.name_of("solver", self.config.solver.kind())
            ));
        }
        let models = buffered.max_staleness.saturating_add(1).min(buffered.concurrency as u64);
        bounds::check_memory(4 * models.saturating_mul(self.parameters() as u64)).map_err(|free| {
            let rule = format!("{models} models on which clients compute take {free}; give less");
            Error::config("cohort.buffered.max_staleness", rule)
        })
    }
}

impl Run<'_> {
    /// The next clients to have computed, and the scheme among them; nobody where too few are there.
    pub(super) fn buffer(&self, state: &mut State, buffered: &Buffered) -> Cohort {
        let Setting { config, seed, .. } = self.setting;
        let mut rng = seed.child("begin", state.round).rng();
        let mut busy: HashSet<u32> =
            state.presence.flights.aloft.iter().map(|flight| flight.client).collect();
        let (mut now, mut wasted, mut full) = (state.presence.seconds, 0, Vec::new());
        while full.len() < buffered.size && wasted < IN_VAIN * buffered.concurrency {
            while state.presence.flights.aloft.len() < buffered.concurrency
                && self.begin(state, now, &mut busy, &mut rng)
            {}
            let Some(next) = state.presence.flights.aloft.pop_first() else { break };
            now = now.max(next.done());
            if self.is_of_use(state, buffered, next) {
                full.push(next);
            } else {
                busy.remove(&next.client);
                wasted += 1;
            }
        }
        let scheme = self.schemes.of(buffered.size).filter(|_| full.len() == buffered.size);
        let waited = if scheme.is_some() { 0.0 } else { config.devices.wait };
        let seconds = Some(now - state.presence.seconds + waited);
        if scheme.is_none() {
            state.presence.flights.aloft.extend(full);
            return Cohort { seconds, wasted, ..Cohort::default() };
        }
        state.presence.flights.landed = full.into_iter().map(|flight| (flight.client, flight)).collect();
        let members = state.presence.flights.landed.keys().copied().collect();
        Cohort { members, scheme, seconds, wasted, left: Vec::new() }
    }

    /// Lets somebody begin who is there and has nothing to do. Returns whether somebody was found.
    fn begin(&self, state: &mut State, now: f64, busy: &mut HashSet<u32>, rng: &mut Rng) -> bool {
        let Setting { config, devices, .. } = self.setting;
        let mut draws = (0..LOOKS).map(|_| rng.random_range(0..config.clients as u32));
        let is_free = |k: &u32| !busy.contains(k) && devices.is_there(*k, now);
        let Some(client) = draws.find(is_free) else { return false };
        let done = now + self.seconds(client, state.round, now);
        state.presence.flights.aloft.insert(Flight::new(client, state.round - 1, now, done));
        busy.insert(client)
    }

    /// Whether a client did not leave before it had computed, on a model that is not too old.
    fn is_of_use(&self, state: &State, buffered: &Buffered, flight: Flight) -> bool {
        let stays = self.setting.devices.stays(flight.client, flight.began(), flight.done());
        stays && state.round - 1 - flight.version <= buffered.max_staleness
    }

    /// Weighs down what a client sends that did not compute on the last model.
    pub(super) fn discount(&self, state: &State, k: u32, sent: &mut [f32]) {
        let Some(flight) = state.presence.flights.landed.get(&k) else { return };
        let factor = Buffered::discount(state.round - 1 - flight.version) as f32;
        if factor < 1.0 {
            sent.iter_mut().for_each(|x| *x *= factor);
        }
    }

    /// The column `staleness` of `rounds.csv`: the mean over the clients of a round, of rounds.
    pub(super) fn staleness(&self, state: &State) -> Metrics {
        let landed = state.presence.flights.landed.values();
        let stale = landed.map(|flight| (state.round - 1 - flight.version) as f64);
        let count = stale.len() as f64;
        match count > 0.0 {
            true => vec![("staleness".into(), stale.sum::<f64>() / count)],
            false => Metrics::new(),
        }
    }

    /// Keeps the model of `before` the round for those who compute on it.
    pub(super) fn keep_taken(&self, state: &mut State, before: Vec<f32>) {
        if let Some(buffered) = &self.setting.config.cohort.buffered {
            let oldest = state.round.saturating_sub(buffered.max_staleness);
            state.presence.flights.settle(state.round - 1, before, oldest);
        }
    }
}
