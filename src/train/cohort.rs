//! Who works in a round, and until when: the clients that are there, and how long they compute
//! ([`crate::devices`]).

use std::sync::Arc;

use super::{Run, Setting, State};
use crate::error::{Error, Result};
use crate::message::Node;
use crate::protocol::Aggregator;
use crate::record::Metrics;

/// The clients of a round and the scheme among them.
#[derive(Default)]
pub(super) struct Cohort {
    pub members: Vec<u32>,
    pub scheme: Option<Arc<dyn Aggregator>>,
    /// The members who leave before they have computed, ascending.
    pub left: Vec<u32>,
    /// Seconds until the last one who is waited for has computed; `None` where that takes no time.
    pub seconds: Option<f64>,
    /// Clients who compute for nothing: those who leave, and those who were too slow.
    pub wasted: usize,
}

/// A client's computing in a round.
struct Shift {
    client: u32,
    seconds: f64,
    /// Whether it leaves before.
    leaves: bool,
}

impl Setting {
    /// Refuses clients that come and go where time stands still, and what cannot be buffered.
    pub(super) fn check_devices(&self, singly: bool) -> Result<()> {
        self.check_buffered(singly)?;
        let devices = &self.config.devices;
        let passes = devices.take_time() || self.links.deadline(Node::Client(0), Node::Server).is_some();
        if devices.are_there() || passes {
            return Ok(());
        }
        let rule =
            "no time passes in which clients come and go; give devices.compute, or links with a deadline";
        Err(Error::config("devices.availability.kind", rule))
    }
}

impl Run<'_> {
    /// The clients of the round that begins, and their scheme; nobody where there is no scheme.
    pub(super) fn cohort(&self, state: &mut State) -> Cohort {
        let Setting { config, seed, devices, .. } = self.setting;
        if let Some(buffered) = &config.cohort.buffered {
            return self.buffer(state, buffered);
        }
        let (round, now) = (state.round, state.presence.seconds);
        let mut members = match config.devices.are_there() {
            true => config.cohort.members(config.clients, &state.presence.misses, round, *seed),
            false => config.cohort.present(config.clients, round, *seed, &|k| devices.is_there(k, now)),
        };
        let drawn = members.len();
        let mut shifts = Vec::new();
        if !config.devices.is_none() {
            shifts.extend(members.iter().map(|&k| self.shift(k, round, now)));
        }
        if config.cohort.over_select.is_some() {
            shifts.sort_by(|a, b| a.leaves.cmp(&b.leaves).then(a.seconds.total_cmp(&b.seconds)));
            shifts.truncate(config.cohort.most(config.clients));
            shifts.sort_by_key(|shift| shift.client);
            members = shifts.iter().map(|shift| shift.client).collect();
        }
        let scheme = self.schemes.of(members.len()).filter(|_| !members.is_empty());
        if scheme.is_none() {
            let seconds = (!config.devices.are_there()).then_some(config.devices.wait);
            return Cohort { seconds, ..Cohort::default() };
        }
        let left: Vec<u32> = shifts.iter().filter(|shift| shift.leaves).map(|shift| shift.client).collect();
        let seconds = shifts.iter().map(|shift| shift.seconds).reduce(f64::max);
        let wasted = drawn - members.len() + left.len();
        Cohort { members, scheme, left, seconds: seconds.filter(|_| config.devices.take_time()), wasted }
    }

    /// How client `k` would compute in a round that it begins at `now`.
    fn shift(&self, k: u32, round: u64, now: f64) -> Shift {
        let seconds = self.seconds(k, round, now);
        Shift { client: k, seconds, leaves: !self.setting.devices.stays(k, now, now + seconds) }
    }

    /// Seconds that client `k` computes in a round that it begins at `now`, on all that it holds.
    pub(super) fn seconds(&self, k: u32, round: u64, now: f64) -> f64 {
        let Setting { solver, devices, .. } = self.setting;
        let gradients = |shard: u32| solver.gradients(self.setting.count(shard));
        let gradients = match self.aggregator.holders() {
            Some(holders) => {
                let held = (0..).zip(holders).filter(|(_, holders)| holders.contains(&(k as usize)));
                held.map(|(shard, _)| gradients(shard)).sum()
            }
            None => gradients(k),
        };
        devices.seconds(k, round, now, gradients)
    }

    /// How many clients worked for nothing, where they may: the column `wasted` of `rounds.csv`.
    pub(super) fn wasted(&self, cohort: &Cohort) -> Metrics {
        let config = &self.setting.config;
        let cohorts = &config.cohort;
        let chosen = cohorts.over_select.is_some() || cohorts.buffered.is_some();
        let may = chosen || !config.devices.are_there();
        may.then(|| ("wasted".to_owned(), cohort.wasted as f64)).into_iter().collect()
    }
}
