//! The round loop.

mod broadcast;
mod buffered;
pub(crate) mod carrier;
mod clients;
mod cohort;
mod compression;
mod crew;
mod directory;
mod divergence;
mod experiment;
mod holdings;
mod imprecision;
mod locals;
pub(crate) mod observer;
#[cfg(feature = "mpi")]
pub(crate) mod ranks;
mod release;
mod row;
mod setting;
mod start;
mod step;
mod stopwatch;
mod turn;
mod work;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::cohort::Schemes;
use crate::config::OutagePolicy;
use crate::error::{Diverged, Result};
use crate::network::Replay;
use crate::participation::{Participation, ParticipationConfig};
use crate::privacy::{Formal, Leakage};
use crate::protocol::{Aggregate, Aggregator, ProtocolConfig};
pub use crate::record::State;
use crate::record::{ClientRow, ClientStates, Presence, Row, ServerState};
use crate::release::Release;
use carrier::{Carrier, Simulated};
pub(crate) use clients::LocalRound;
pub(crate) use clients::divide;
#[cfg(feature = "deploy")]
pub(crate) use clients::mean_count;
pub use clients::shards;
use cohort::Cohort;
pub use crew::{Alone, Crew};
#[cfg(feature = "deploy")]
pub(crate) use divergence::not_finite;
pub use experiment::Experiment;
pub use observer::{BEST, Observer, Over};
use row::Brought;
pub use setting::Setting;
pub use start::{last_weights, weights};
pub(crate) use step::relative_error;
use stopwatch::Stopwatch;
#[cfg(feature = "deploy")]
pub(crate) use turn::update;
pub use turn::{Tested, Trained, Turn};
pub use work::Elsewhere;

/// One protocol in a setting.
pub struct Run<'a> {
    setting: &'a Setting,
    /// What the protocol is called in tables.
    name: String,
    /// The configured protocol; `None` where the scheme is one's own.
    protocol: Option<ProtocolConfig>,
    /// The section `[participation]` of this run, where it has its own.
    participation: Option<ParticipationConfig>,
    /// How the server makes up for clients which do not arrive, if it does.
    rule: Option<Arc<dyn Participation>>,
    schemes: Schemes,
    aggregator: Arc<dyn Aggregator>,
    /// The noise in the sums, if there is any, and what they cost.
    release: Option<Release>,
    crew: &'a dyn Crew,
    /// Set when the run is to end before its next client.
    stop: &'a AtomicBool,
    /// The clients that were named because they diverged.
    warned: Mutex<BTreeSet<u32>>,
}

impl<'a> Run<'a> {
    /// The run with its clients trained and tested by `crew`.
    #[must_use]
    pub fn with_crew(self, crew: &'a dyn Crew) -> Self {
        Self { crew, ..self }
    }

    /// The run as one that ends before its next client once `stop` is set, with [`crate::Error::Stopped`] and
    /// the state of the last whole round.
    #[must_use]
    pub fn with_stop(self, stop: &'a AtomicBool) -> Self {
        Self { stop, ..self }
    }
}

impl Run<'_> {
    /// The scheme behind the run, that of the largest cohort.
    #[must_use]
    pub fn aggregator(&self) -> &dyn Aggregator {
        &*self.aggregator
    }

    /// The noise in its sums, if there is any.
    #[must_use]
    pub fn release(&self) -> Option<&Release> {
        self.release.as_ref()
    }

    /// Plays the configured number of rounds from the start; an error is the last item. [`Run::round`] plays
    /// them one by one and shows the state.
    pub fn rounds(&self) -> impl Iterator<Item = Result<Row>> + use<'_> {
        let mut state = Some(self.start());
        std::iter::from_fn(move || {
            let now = state.as_mut().filter(|state| state.round < self.setting.config.rounds)?;
            let played = match self.is_spent(now) {
                Ok(true) => return None,
                Ok(false) => self.round(now).map(|(row, _)| row),
                Err(error) => Err(error),
            };
            if played.is_err() {
                state = None;
            }
            Some(played)
        })
    }

    /// The state before the first round.
    #[must_use]
    pub fn start(&self) -> State {
        let Setting { config, solver, server, .. } = self.setting;
        let parameters = self.setting.first_model();
        let (residual, residuals) = self.setting.first_residuals();
        let controls = if solver.has_controls() { parameters.len() } else { 0 };
        let counts = config.cohort.drop_after.is_some() || config.outage.policy == OutagePolicy::Echo;
        let memory = |rule: &Arc<dyn Participation>| rule.start(config.clients, self.setting.updated());
        State {
            round: 0,
            server: ServerState {
                control: vec![0.0; controls],
                moments: server.start(parameters.len()),
                memory: self.rule.as_ref().map_or_else(Vec::new, memory),
                residual,
                clip: self.first_clip(),
                parameters,
            },
            presence: Presence {
                misses: if counts { vec![0; config.clients] } else { Vec::new() },
                ..Presence::default()
            },
            clients: ClientStates {
                controls: vec![Vec::new(); if controls > 0 { config.clients } else { 0 }],
                residuals,
                ..ClientStates::default()
            },
            ledger: self.first_ledger(),
        }
    }

    /// One communication round: local training, aggregation over failing links, server step, test.
    ///
    /// # Errors
    /// [`crate::Error::Diverged`] when the round brings what is not finite, [`crate::Error::Stopped`] and
    /// [`crate::Error::Own`] as the crew says; `state` is then that before the round. Beside that only
    /// defects; an outage is a [`Row`].
    pub fn round(&self, state: &mut State) -> Result<(Row, Vec<ClientRow>)> {
        self.round_by(&mut Simulated, state)
    }

    /// A round by any carrier.
    pub(crate) fn round_by(
        &self,
        carrier: &mut dyn Carrier,
        state: &mut State,
    ) -> Result<(Row, Vec<ClientRow>)> {
        let before = state.before();
        let played = self.play(carrier, state, &before.server.parameters);
        match &played {
            Ok(_) => carrier.look_after(self, state, before.server.parameters),
            Err(_) => state.rewind(before),
        }
        played
    }

    /// A round that leaves the clients' own vectors alone until nothing can diverge any more. `before` it the
    /// model was this.
    fn play(
        &self,
        carrier: &mut dyn Carrier,
        state: &mut State,
        before: &[f32],
    ) -> Result<(Row, Vec<ClientRow>)> {
        state.round += 1;
        let round = state.round;
        let diverged = |what| Diverged { round, client: None, what };
        let Some(mut carried) = carrier.carry(self, state)? else {
            return Ok((Row::lost(round), Vec::new()));
        };
        let formal = self.formal(&carried.cohort, round, &carried.aggregate)?;
        let told = self.charge(state, &carried.cohort, &mut carried.aggregate, formal.as_ref())?;
        self.adapt(state, &carried.updates, &mut carried.aggregate);

        let singles = std::mem::take(&mut carried.singles);
        let (outcome, recovery_error) = self.apply(state, &carried, singles).map_err(diverged)?;
        let mut clock = Stopwatch::start();
        let mut tested = self.test(state)?;
        let seconds_evaluation = clock.lap();

        let leakage = self.leakage(&carried.cohort, formal.as_ref(), &carried.silent.clients)?;
        let kept = self.kept(state, before, &carried);
        if let Some(kept) = &kept {
            tested.metrics.extend(self.test_locals(state, kept)?);
        }
        self.settle(state, &carried, outcome).map_err(diverged)?;
        let included = carried.aggregate.decoded.included();
        if let Some(compressed) = carried.compressed.take() {
            self.keep_rest(state, &carried.cohort.members, compressed, included);
        }
        if let Some(kept) = kept {
            self.keep(state, kept, included);
        }
        let waited = [carried.waited, carried.aggregate.seconds];
        let seconds_simulated = waited.into_iter().flatten().reduce(|a, b| a + b);
        state.presence.seconds += seconds_simulated.unwrap_or(0.0);
        let brought =
            Brought { outcome, recovery_error, told, tested, leakage, seconds_simulated, seconds_evaluation };
        self.rows(round, &carried, brought)
    }

    #[cfg(feature = "deploy")]
    pub(crate) fn setting(&self) -> &Setting {
        self.setting
    }

    /// What was sent and lost in a round, in formal symbols, where something is measured on it.
    fn formal(&self, cohort: &Cohort, round: u64, aggregate: &Aggregate) -> Result<Option<Formal>> {
        let Setting { config, .. } = self.setting;
        let Some(scheme) = &cohort.scheme else { return Ok(None) };
        let charged = |release: &Release| release.reads_views(&**scheme, cohort.members.len());
        if !config.privacy.measure && !self.release.as_ref().is_some_and(charged) {
            return Ok(None);
        }
        scheme.formal(round, &Replay::new(&aggregate.sent), config.outage.attempts()).map(Some)
    }

    /// What the messages of a round gave away; who was silent gave away nothing.
    fn leakage(&self, cohort: &Cohort, formal: Option<&Formal>, silent: &[u32]) -> Result<Option<Leakage>> {
        let Setting { config, .. } = self.setting;
        let Some(views) = formal.filter(|_| config.privacy.measure) else { return Ok(None) };
        let weights = cohort.members.iter().map(|&k| self.setting.weights[k as usize]);
        let stds: Vec<f64> = weights.map(|weight| weight * config.privacy.update_std).collect();
        let mut leakage = Leakage::measure(views, &stds)?;
        for k in silent.iter().filter_map(|k| cohort.members.binary_search(k).ok()) {
            (leakage.link[k], leakage.neighbour[k], leakage.server[k]) = (0.0, 0.0, 0.0);
        }
        Ok(Some(leakage))
    }
}
