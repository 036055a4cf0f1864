//! How what clients send in a round comes to the server.
//!
//! | carrier | cohort | local training | messages |
//! |---|---|---|---|
//! | [`Simulated`] | drawn, from clients that are simulated | in this process, or over the ranks of a [`Crew`](super::Crew) | over simulated links |
//! | that of `seccogc serve` | who is connected | on the clients' machines | over a network |
//!
//! What the server makes of it is one for all: [`Run::round_by`].

use std::sync::Arc;

use super::cohort::Cohort;
use super::compression::Compressed;
use super::divergence::Silent;
use super::stopwatch::Stopwatch;
use super::turn::Trained;
use super::{Run, Setting, State};
use crate::cohort::{CohortLinks, Silence};
use crate::error::Result;
use crate::protocol::{Aggregate, Reason, Update};
use crate::record::Metrics;

/// Brings what clients send in a round to the server.
pub(crate) trait Carrier {
    /// Plays the round of `state` up to what the server decodes. Nothing where the round was lost before
    /// anybody sent anything.
    ///
    /// # Errors
    /// What is not finite, and whatever keeps the round from being played.
    fn carry(&mut self, run: &Run<'_>, state: &mut State) -> Result<Option<Carried>>;

    /// Looks after the clients when the round is over, with the model of `before` it, d parameters.
    fn look_after(&mut self, _run: &Run<'_>, _state: &mut State, _before: Vec<f32>) {}
}

/// What came to the server in a round.
pub(crate) struct Carried {
    pub(super) cohort: Cohort,
    /// What the members of the cohort learned, of those who do not tell their weight only.
    pub(super) updates: Vec<Update>,
    /// How their training went; `None` where clients do not tell.
    pub(super) trained: Option<Vec<Trained>>,
    /// Clients who sent nothing since what they had was not finite.
    pub(super) diverged: usize,
    pub(super) silent: Silent,
    pub(super) compressed: Option<Compressed>,
    pub(super) aggregate: Aggregate,
    /// What a rule of participation reads.
    pub(super) singles: Vec<Update>,
    /// Σ w_k over all who might take part in a round.
    pub(super) total: f64,
    /// Bytes to the server beside the protocol's.
    pub(super) signs_of_life: u64,
    /// Simulated seconds before the exchange; `None` where that takes no time.
    pub(super) waited: Option<f64>,
    /// Columns of `rounds.csv` on who took part.
    pub(super) presence: Metrics,
    /// Seconds of local training, and of everything between it and the sum.
    pub(super) seconds: (f64, f64),
}

#[cfg(feature = "deploy")]
impl Carried {
    /// Of the clients `members`, with these `weights`, who tell nothing but what is in the sum; of them so
    /// many said that they had what is not finite. `seconds`: of everything between the model and the sum.
    pub fn untold(
        members: Vec<u32>,
        weights: &[f64],
        diverged: usize,
        aggregate: Aggregate,
        seconds: f64,
    ) -> Self {
        let update = |&weight: &f64| Update { weight, delta: Arc::default() };
        Self {
            cohort: Cohort { members, ..Cohort::default() },
            updates: weights.iter().map(update).collect(),
            trained: None,
            diverged,
            silent: Silent::default(),
            compressed: None,
            aggregate,
            singles: Vec::new(),
            total: weights.iter().sum(),
            signs_of_life: 0,
            waited: None,
            presence: Metrics::new(),
            seconds: (0.0, seconds),
        }
    }
}

/// Clients in this process, or in those of a crew, over simulated links.
pub(super) struct Simulated;

impl Carrier for Simulated {
    fn carry(&mut self, run: &Run<'_>, state: &mut State) -> Result<Option<Carried>> {
        let Setting { config, links, weights, .. } = run.setting;
        let round = state.round;
        let mut clock = Stopwatch::start();
        let cohort = run.cohort(state);
        let broadcast = run.broadcast(state, round, &cohort.members);
        let sit_out = run.sits_out(&broadcast.missed, &cohort.left);
        let (mut updates, trained, below) = run.train_clients(state, &cohort.members, &sit_out)?;
        let silent = run.silence(round, &cohort.members, &mut updates, &trained)?;
        let diverged = silent.updates.len();
        let silent = silent.and(&sit_out, &cohort.members);
        let seconds_local = clock.lap();

        let all_links = Silence { links: &**links, silent: &silent.clients };
        let links = CohortLinks { links: &all_links, members: &cohort.members };
        let signs_of_life = config.cohort.listen(&mut state.presence.misses, round, &all_links);
        let attempts = config.outage.attempts();
        let compressed = run.compressed(state, &cohort.members, &updates);
        let carried = compressed.as_ref().map_or(&updates, |compressed| &compressed.sent);
        let below = compressed.as_ref().map_or(&below, |compressed| &compressed.below);
        let entered = run.enter(state, carried, below);
        let sent = entered.as_ref().unwrap_or(carried);
        let (mut aggregate, singles) = match &cohort.scheme {
            Some(scheme) if run.rule.is_some() => scheme.aggregate_singly(round, sent, &links, attempts)?,
            Some(scheme) => (scheme.aggregate(round, sent, &links, attempts)?, Vec::new()),
            None => (Aggregate::nothing(Reason::TooFew), Vec::new()),
        };
        run.unflatten(round, &mut aggregate);
        let seconds_coding = clock.lap();
        Ok(Some(Carried {
            waited: [broadcast.seconds, cohort.seconds].into_iter().flatten().reduce(|a, b| a + b),
            presence: [run.missed(&broadcast), run.wasted(&cohort), run.staleness(state)].concat(),
            cohort,
            updates,
            trained: Some(trained),
            diverged,
            silent,
            compressed,
            aggregate,
            singles,
            total: weights.iter().sum(),
            signs_of_life,
            seconds: (seconds_local, seconds_coding),
        }))
    }

    fn look_after(&mut self, run: &Run<'_>, state: &mut State, before: Vec<f32>) {
        run.keep_missed(state, &before);
        run.keep_taken(state, before);
    }
}

impl Run<'_> {
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
}
