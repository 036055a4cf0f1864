//! The server's model on its way to the clients, where links from the server may fail.
//!
//! Whoever misses the model of a round trains from the last one that it got, and sends how far it went from
//! there, or sits the round out (`network.missed_model`). The first model is known to all: it follows from
//! the configuration. What is sent is an update like any other, so that every protocol carries it; codes that
//! need everybody have an outage when somebody sits out.

use super::divergence::Silent;
use super::turn::Trained;
use super::{Run, Setting, State};
use crate::error::{Error, Result};
use crate::learn::LocalUpdate;
use crate::message::{HEADER_BYTES, LinkUse, Node};
use crate::network::MissedModel;
use crate::protocol::Aggregator;
use crate::record::Metrics;

/// How the model of a round arrived.
#[derive(Default)]
pub(super) struct Broadcast {
    /// The clients who miss it, ascending.
    pub missed: Vec<u32>,
    /// Seconds until the last one has it or gives up; `None` where messages take no time.
    pub seconds: Option<f64>,
}

impl Setting {
    /// Whether a scheme and this setting go with links from the server that fail.
    pub(super) fn check_downlinks(&self, name: &str, scheme: &dyn Aggregator) -> Result<()> {
        if self.links.downlinks().is_none() {
            return Ok(());
        }
        let refuse = |rule: String| Err(Error::config("network.server_client", rule));
        let policy = self.config.outage.policy.name();
        if self.config.outage.keeps_local_models() {
            return refuse(format!(
                "with outage.policy = \"{policy}\" clients go on from models of their own, and who misses the server's has no place \
                 in that; take skip or retry, or links that never fail"
            ));
        }
        if scheme.holders().is_some() {
            return refuse(format!(
                "{name} lets several clients make the same update from the same model; take another protocol, or links that never fail"
            ));
        }
        if self.config.network.missed_model == MissedModel::SitOut {
            return Ok(());
        }
        if self.solver.has_controls() {
            return refuse(format!(
                "the control vectors of {} come with the model that is missed; take another solver, or missed_model = \"sit-out\"",
                self.name_of("solver", self.config.solver.kind())
            ));
        }
        if !self.config.is_everybody() {
            return refuse(
                "the model goes to the clients of a round, and who is not among them has none to train from later; remove sample and \
                 drop_after, or take missed_model = \"sit-out\""
                    .into(),
            );
        }
        Ok(())
    }
}

impl Run<'_> {
    /// Sends `members` the model of a `round`, of as many bytes as that of `state` has.
    pub(super) fn broadcast(&self, state: &State, round: u64, members: &[u32]) -> Broadcast {
        let Some(links) = self.setting.links.downlinks().filter(|_| round > 1) else {
            return Broadcast::default();
        };
        let bytes = (HEADER_BYTES + 4 * (state.server.parameters.len() + state.server.control.len())) as u64;
        let link = |&k: &u32| {
            let (from, to) = (Node::Server, Node::Client(k));
            LinkUse { round, attempt: 0, transfer: 0, from, to, bytes }
        };
        let missed = members.iter().filter(|k| !links.delivers(link(k))).copied().collect();
        let seconds = members.iter().filter_map(|k| links.seconds(link(k))).reduce(f64::max);
        Broadcast { missed, seconds }
    }

    /// How many missed the model, where it may be missed: the column `missed_model` of `rounds.csv`.
    pub(super) fn missed(&self, broadcast: &Broadcast) -> Metrics {
        let missed = || ("missed_model".to_owned(), broadcast.missed.len() as f64);
        self.setting.links.downlinks().map(|_| missed()).into_iter().collect()
    }

    /// Those of whom `missed` the model or `left` who sit the round out, ascending.
    pub(super) fn sits_out(&self, missed: &[u32], left: &[u32]) -> Vec<u32> {
        let waits = self.setting.config.network.missed_model == MissedModel::SitOut;
        let mut sit_out = [left, if waits { missed } else { &[] }].concat();
        sit_out.sort_unstable();
        sit_out.dedup();
        sit_out
    }

    /// What stands for a client who does nothing in a round.
    pub(super) fn idle(&self) -> Trained {
        let how = LocalUpdate { delta: Vec::new(), loss: f64::NAN, examples: 0, steps: 0 };
        Trained { sent: vec![0.0; self.setting.updated()], how, metrics: Metrics::new() }
    }

    /// Lets those who will miss the model of the next round keep that of this one, `before` the server's
    /// step, or the older one that they have.
    pub(super) fn keep_missed(&self, state: &mut State, before: &[f32]) {
        let old = self.setting.config.network.missed_model == MissedModel::OldModel;
        if !old || self.setting.links.downlinks().is_none() {
            return;
        }
        let everybody: Vec<u32> = (0..self.setting.config.clients as u32).collect();
        let missed = self.broadcast(state, state.round + 1, &everybody).missed;
        state.clients.received.resize(everybody.len(), Vec::new());
        for (k, own) in everybody.iter().zip(&mut state.clients.received) {
            match missed.binary_search(k) {
                Ok(_) if own.is_empty() => *own = before.to_vec(),
                Ok(_) => {}
                Err(_) => own.clear(),
            }
        }
    }
}

impl Silent {
    /// The same, with `members` who sit out.
    pub fn and(mut self, sit_out: &[u32], members: &[u32]) -> Self {
        self.updates.extend(sit_out.iter().filter_map(|k| members.binary_search(k).ok()));
        self.clients.extend(sit_out);
        self.clients.sort_unstable();
        self.clients.dedup();
        self.updates.sort_unstable();
        self
    }
}
