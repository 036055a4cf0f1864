//! The round loop.

mod broadcast;
mod buffered;
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
#[cfg(feature = "mpi")]
pub(crate) mod ranks;
mod release;
mod row;
mod setting;
mod start;
mod step;
mod turn;
mod work;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::cohort::{CohortLinks, Schemes, Silence};
use crate::config::OutagePolicy;
use crate::error::{Diverged, Result};
use crate::network::Replay;
use crate::participation::{Participation, ParticipationConfig};
use crate::privacy::{Formal, Leakage};
use crate::protocol::{Aggregate, Aggregator, ProtocolConfig, Reason, Update};
use crate::record::{Checkpoint, ClientRow, Flights, Outcome, Row};
use crate::release::Release;
pub(crate) use clients::LocalRound;
pub(crate) use clients::divide;
#[cfg(feature = "deploy")]
pub(crate) use clients::mean_count;
pub use clients::shards;
use cohort::Cohort;
pub use crew::{Alone, Crew};
pub use directory::BEST;
#[cfg(feature = "deploy")]
pub(crate) use divergence::not_finite;
pub use experiment::Experiment;
use row::{Stopwatch, mean_loss};
pub use setting::Setting;
pub use start::{last_weights, weights};
use step::Sent;
pub(crate) use step::relative_error;
#[cfg(feature = "deploy")]
pub(crate) use turn::update;
pub use turn::{Tested, Trained, Turn};
pub use work::Elsewhere;

/// The state between two rounds.
pub type State = Checkpoint;

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
        State {
            round: 0,
            carried: Vec::new(),
            control: vec![0.0; controls],
            controls: vec![Vec::new(); if controls > 0 { config.clients } else { 0 }],
            moments: server.start(parameters.len()),
            received: Vec::new(),
            memory: self
                .rule
                .as_ref()
                .map_or_else(Vec::new, |rule| rule.start(config.clients, self.setting.updated())),
            misses: match config.cohort.drop_after.is_some() || config.outage.policy == OutagePolicy::Echo {
                true => vec![0; config.clients],
                false => Vec::new(),
            },
            ledger: self.first_ledger(),
            clip: self.first_clip(),
            residual,
            residuals,
            seconds: 0.0,
            flights: Flights::default(),
            parameters,
        }
    }

    /// One communication round: local training, aggregation over failing links, server step, test.
    ///
    /// # Errors
    /// [`crate::Error::Diverged`] when the round brings what is not finite, [`crate::Error::Stopped`] and
    /// [`crate::Error::Own`] as
    /// the crew says; `state` is then that before the round. Beside that only defects; an outage is a
    /// [`Row`].
    pub fn round(&self, state: &mut State) -> Result<(Row, Vec<ClientRow>)> {
        let before = state.of_server();
        let played = self.play(state);
        match &played {
            Ok(_) => {
                self.keep_missed(state, &before.parameters);
                self.keep_taken(state, before.parameters);
            }
            Err(_) => state.restore(before),
        }
        played
    }

    /// A round that leaves the clients' own vectors alone until nothing can diverge any more.
    fn play(&self, state: &mut State) -> Result<(Row, Vec<ClientRow>)> {
        let Setting { config, links, .. } = self.setting;
        state.round += 1;
        let round = state.round;
        let diverged = |what| Diverged { round, client: None, what };

        let mut clock = Stopwatch::start();
        let before = config.outage.is_per_client().then(|| state.parameters.clone());
        let cohort = self.cohort(state);
        let broadcast = self.broadcast(state, round, &cohort.members);
        let sit_out = self.sits_out(&broadcast.missed, &cohort.left);
        let (mut updates, trained, below) = self.train_clients(state, &cohort.members, &sit_out)?;
        let silent = self.silence(round, &cohort.members, &mut updates, &trained)?;
        let excluded = silent.updates.len();
        let silent = silent.and(&sit_out, &cohort.members);
        let seconds_local = clock.lap();

        let all_links = Silence { links: &**links, silent: &silent.clients };
        let links = CohortLinks { links: &all_links, members: &cohort.members };
        let signs_of_life = config.cohort.listen(&mut state.misses, round, &all_links);
        let attempts = config.outage.attempts();
        let compressed = self.compressed(state, &cohort.members, &updates);
        let carried = compressed.as_ref().map_or(&updates, |compressed| &compressed.sent);
        let below = compressed.as_ref().map_or(&below, |compressed| &compressed.below);
        let entered = self.enter(state, carried, below);
        let sent = entered.as_ref().unwrap_or(carried);
        let (mut aggregate, singles) = match &cohort.scheme {
            Some(scheme) if self.rule.is_some() => scheme.aggregate_singly(round, sent, &links, attempts)?,
            Some(scheme) => (scheme.aggregate(round, sent, &links, attempts)?, Vec::new()),
            None => (Aggregate::nothing(Reason::TooFew), Vec::new()),
        };
        self.unflatten(round, &mut aggregate);
        let seconds_coding = clock.lap();

        let formal = self.formal(&cohort, round, &aggregate)?;
        let told = self.charge(state, &cohort, &mut aggregate, formal.as_ref())?;
        self.adapt(state, &updates, &mut aggregate);

        let sent = Sent { members: &cohort.members, updates: &updates, compressed: compressed.as_ref() };
        let (outcome, recovery_error) =
            self.apply(state, sent, &silent, &aggregate, singles).map_err(diverged)?;
        clock.lap();
        let mut tested = self.test(state)?;
        let seconds_evaluation = clock.lap();

        let leakage = self.leakage(&cohort, formal.as_ref(), &silent.clients)?;
        let kept = before.map(|before| self.kept(state, &before, &updates, aggregate.decoded.included()));
        if let Some(kept) = &kept {
            tested.metrics.extend(self.test_locals(state, kept)?);
        }
        self.settle(state, &cohort.members, &updates, &aggregate, outcome).map_err(diverged)?;
        if let Some(compressed) = compressed {
            self.keep_rest(state, &cohort.members, compressed, aggregate.decoded.included());
        }
        if let Some(kept) = kept {
            self.keep(state, kept, aggregate.decoded.included());
        }
        let parts = [broadcast.seconds, cohort.seconds, aggregate.seconds];
        let seconds_simulated = parts.into_iter().flatten().reduce(|a, b| a + b);
        state.seconds += seconds_simulated.unwrap_or(0.0);
        let row = Row {
            outcome,
            reason: aggregate.decoded.reason().filter(|_| outcome == Outcome::Outage),
            cohort: cohort.members.len(),
            diverged: excluded,
            recovery_error,
            bytes_client_server: aggregate.traffic.client_server + signs_of_life,
            train_loss: mean_loss(silent.others(&trained)),
            metrics: [
                self.metrics(&cohort.members, &trained, &tested)?,
                self.missed(&broadcast),
                self.wasted(&cohort),
                self.staleness(state),
                told,
                self.of_examples(round)?,
            ]
            .concat(),
            seconds_simulated,
            seconds_local,
            seconds_coding,
            seconds_evaluation,
            ..row::of(round, &aggregate, &tested, leakage.as_ref())
        };
        let accuracies = &tested.accuracies;
        let mut clients =
            self.client_rows(round, &cohort.members, &updates, &trained, accuracies, leakage.as_ref());
        silent.updates.iter().for_each(|&i| clients[i].update_norm = f64::NAN);
        Ok((row, clients))
    }

    /// Local training of the round's clients, of whom some sit out. Returns what they send, how it went,
    /// and whether each update was below its clip.
    fn train_clients(
        &self,
        state: &State,
        members: &[u32],
        sit_out: &[u32],
    ) -> Result<(Vec<Update>, Vec<Trained>, Vec<bool>)> {
        let weights = members.iter().map(|&k| self.setting.weights[k as usize]);
        let works = |k: &u32| sit_out.binary_search(k).is_err();
        let at_work: Vec<u32> = members.iter().copied().filter(works).collect();
        let mut trained = self.crew.train(self, state, &at_work)?.into_iter();
        let trained =
            members.iter().filter_map(|k| if works(k) { trained.next() } else { Some(self.idle()) });
        let mut below = Vec::with_capacity(members.len());
        let sent = weights.zip(trained).zip(members).map(|((weight, mut trained), &k)| {
            let mut sent = std::mem::take(&mut trained.sent);
            self.echo(state, k, &mut sent);
            self.discount(state, k, &mut sent);
            // What is compressed is bounded as it travels.
            below.push(self.setting.compressor.is_some() || self.bound(state, &mut sent));
            (Update { weight, delta: Arc::new(sent) }, trained)
        });
        let (updates, trained) = sent.unzip();
        Ok((updates, trained, below))
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
