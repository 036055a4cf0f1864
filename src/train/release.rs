//! What a run releases: noise in its sums, and what they cost ([`crate::release`]).

use std::sync::Arc;

use rayon::prelude::*;

use super::{Cohort, Run, Setting, State};
use crate::account::{Accountant, Adjacency, Sampling, Step};
use crate::algebra::KeyStream;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::keys::{self, SeededKeys};
use crate::learn::solver;
use crate::noise::Hadamard;
use crate::privacy::Formal;
use crate::protocol::{Aggregate, Aggregator, Decoded, Update};
use crate::record::Metrics;
use crate::release::{
    Adversary, By, Clipping, Correlated, Cost, Known, Ledger, Promise, Release, ReleaseConfig,
};
use crate::seed::Seed;

impl Setting {
    /// The noise of runs of `scheme`; `singly` where the model is made of single updates.
    pub(super) fn release(&self, scheme: &dyn Aggregator, singly: bool) -> Result<Option<Release>> {
        let Some(config) = &self.config.privacy.release else { return Ok(None) };
        let at = |key: &str, rule: &str| Err(Error::config(format!("privacy.release{key}"), rule));
        let Some(clip) = self.solver.clip_norm() else {
            return at("", "noise hides updates of a bounded norm only; set solver.clip_norm");
        };
        if config.adjacency == Adjacency::AddOrRemove && self.config.cohort.rate.is_none() {
            let rule = "without cohort.rate who takes part is known, and nobody is added or removed; take \"zero-out\"";
            return at(".adjacency", rule);
        }
        if singly && config.by == By::Server {
            let rule = "the server remembers single updates, which its noise in the mean does not cover; take \"clients\", or \
                        participation.kind = \"none\"";
            return at(".by", rule);
        }
        if singly && config.adaptive_clip.is_some() {
            let rule = "the server remembers single updates of rounds with other clips; remove it, or take participation.kind = \"none\"";
            return at(".adaptive_clip", rule);
        }
        if singly && config.flatten {
            return at(
                ".flatten",
                "the server remembers single updates, each of another rotation; take false",
            );
        }
        if config.bands.is_some() && self.config.rounds > MOST_ROUNDS {
            let rule =
                format!("noise is taken back over at most {MOST_ROUNDS} rounds; remove it or play fewer");
            return at(".bands", &rule);
        }
        let (entered, cohort) = (self.entered(), self.config.cohort.most(self.config.clients));
        let known = Known {
            clip,
            weight: self.public().weight,
            coordinates: if config.flatten { Hadamard::padded(entered) } else { entered },
            cohort,
            participations: match config.epsilon {
                Some(_) => participations(&self.config, self.seed),
                // Nothing follows from how many they are.
                None => self.config.rounds,
            },
            rounds: self.config.rounds,
            attempts: self.config.outage.attempts(),
            singly,
            sampling: if config.bands.is_some() { Sampling::None } else { sampling(&self.config) },
            distance: match (config.bands, config.epsilon) {
                (Some(bands), Some(_)) => distance(bands, &self.config, self.seed),
                _ => 1.0,
            },
        };
        Release::of(config, scheme, known).map(Some)
    }

    /// Coordinates of what enters a sum: those of an update, and a count where the clip follows that.
    pub(super) fn entered(&self) -> usize {
        let release = self.config.privacy.release.as_ref();
        self.coordinates() + usize::from(release.is_some_and(|release| release.adaptive_clip.is_some()))
    }

    /// The weights n_k · M / N, none beyond `privacy.release.largest_weight`.
    pub(super) fn bounded(config: &Config, mut weights: Vec<f64>) -> Vec<f64> {
        let most = config.privacy.release.as_ref().and_then(|release: &ReleaseConfig| release.largest_weight);
        weights.iter_mut().for_each(|weight| *weight = weight.min(most.unwrap_or(f64::INFINITY)));
        weights
    }
}

/// Most rounds over which noise is taken back.
const MOST_ROUNDS: u64 = 1_000_000;

/// How cohorts are drawn, where something is known of what that hides.
fn sampling(config: &Config) -> Sampling {
    let adjacency = config.privacy.release.as_ref().map(|release| release.adjacency);
    match (config.cohort.rate, config.cohort.sample) {
        // Who is there is known, to the observer too, and so is who is fast.
        _ if depends_on_clients(config) => Sampling::None,
        (Some(rate), _) => Sampling::Poisson { rate },
        (None, Some(cohort)) if cohort < config.clients && adjacency == Some(Adjacency::ReplaceOne) => {
            Sampling::Fixed { cohort: cohort as u64, clients: config.clients as u64 }
        }
        _ => Sampling::None,
    }
}

/// Whether every client may take part in every round, as far as is known.
fn may_all_take_part(config: &Config) -> bool {
    let everybody = config.cohort.sample.is_none() && config.cohort.rate.is_none();
    everybody || depends_on_clients(config)
}

/// The most that the turns of a client are away, of all to whom the draws of cohorts give turns.
fn distance(bands: usize, config: &Config, seed: Seed) -> f64 {
    let correlated = Correlated::new(bands, config.rounds);
    if may_all_take_part(config) {
        return correlated.distance(&(1..=config.rounds).collect::<Vec<_>>());
    }
    let mut turns = vec![Vec::new(); config.clients];
    for round in 1..=config.rounds {
        let members = config.cohort.members(config.clients, &[], round, seed);
        members.into_iter().for_each(|k| turns[k as usize].push(round));
    }
    turns.par_iter().map(|turns| correlated.distance(turns)).reduce(|| 0.0, f64::max)
}

/// Whether who takes part depends on more than a draw.
fn depends_on_clients(config: &Config) -> bool {
    let cohort = &config.cohort;
    cohort.drop_after.is_some() || cohort.over_select.is_some() || !config.devices.are_there()
}

/// Rounds in which the client takes part whom the draws of cohorts choose most often.
fn participations(config: &Config, seed: Seed) -> u64 {
    if may_all_take_part(config) {
        return config.rounds;
    }
    let mut counts = vec![0u64; config.clients];
    for round in 1..=config.rounds {
        let members = config.cohort.members(config.clients, &[], round, seed);
        members.into_iter().for_each(|k| counts[k as usize] += 1);
    }
    counts.into_iter().max().unwrap_or(0)
}

/// The stream of a server's noise.
const SERVER: KeyStream = KeyStream { purpose: "release by the server", round: 0, a: 0, b: 0 };

impl Run<'_> {
    /// What clients have paid before the first round.
    pub(super) fn first_ledger(&self) -> Ledger {
        self.release.as_ref().map_or_else(Ledger::default, |_| Ledger::new(self.setting.config.clients))
    }

    /// The clip before the first round, where it moves.
    pub(super) fn first_clip(&self) -> Option<f64> {
        self.release.as_ref()?.clipping().map(Clipping::initial)
    }

    /// How the clip moves, and where it is, if it does.
    fn clipping(&self, state: &State) -> Option<(&Clipping, f64)> {
        self.release.as_ref()?.clipping().zip(state.server.clip)
    }

    /// Shortens what a client sends to the norm that the noise is made for, whoever made it. Returns whether
    /// it was no longer.
    pub(super) fn bound(&self, state: &State, sent: &mut [f32]) -> bool {
        let Some(release) = &self.release else { return true };
        let clip = state.server.clip.unwrap_or(release.clip());
        let below = solver::norm(sent) <= clip;
        solver::clip(sent, clip);
        below
    }

    /// Charges the clients for what a round told, and adds the server's noise to its result if it is the
    /// server who does. Returns the columns of the running ε and of
    /// the clip, where that moves.
    pub(super) fn charge(
        &self,
        state: &mut State,
        cohort: &Cohort,
        aggregate: &mut Aggregate,
        formal: Option<&Formal>,
    ) -> Result<Metrics> {
        let Some(release) = &self.release else { return Ok(Metrics::new()) };
        if let Some(scheme) = &cohort.scheme {
            let weights: Vec<f64> =
                cohort.members.iter().map(|&k| self.setting.weights[k as usize]).collect();
            let charges = release.charges(&**scheme, formal, aggregate, &weights)?;
            let sampled = release.sampled(&charges);
            let correlated = release.correlated().is_some();
            for (&k, charge) in cohort.members.iter().zip(&charges) {
                state.ledger.charge(k, Adversary::Server, charge.server);
                if correlated && charge.observer != Cost::NOTHING {
                    state.ledger.take_part(k, state.round);
                } else if sampled.is_none() && !correlated {
                    state.ledger.charge(k, Adversary::Observer, charge.observer);
                }
            }
            if correlated && !matches!(aggregate.decoded, Decoded::Outage(_)) {
                for k in 0..state.ledger.turns().len() {
                    let cost =
                        release.of_turns(self.setting.weights[k], &state.ledger.turns()[k], state.round);
                    state.ledger.charge(k as u32, Adversary::Observer, cost);
                }
            }
            if let Some(cost) = sampled {
                (0..state.ledger.clients() as u32)
                    .for_each(|k| state.ledger.charge(k, Adversary::Observer, cost));
            }
        }
        if let (Some(std), Decoded::Sum { sum, .. } | Decoded::Estimate { sum, .. }) =
            (release.of_server(), &mut aggregate.decoded)
        {
            let own = Correlated::new(1, 1);
            for (round, factor) in release.correlated().unwrap_or(&own).parts(state.round) {
                let source = SeededKeys(self.setting.seed.child("release", round));
                keys::add_noise(sum, SERVER, factor * std, None, &source);
            }
        }
        let mut told = Metrics::new();
        for adversary in [Adversary::Server, Adversary::Observer] {
            if release.of_server().is_none() || adversary == Adversary::Observer {
                let epsilon = release.epsilon(&state.ledger, adversary)?;
                told.push((format!("epsilon_{}", adversary.name()), epsilon));
            }
        }
        told.extend(state.server.clip.map(|clip| ("clip".into(), clip)));
        Ok(told)
    }

    /// Takes the count out of a round's result, where the clip follows one, and moves the clip.
    pub(super) fn adapt(&self, state: &mut State, updates: &[Update], aggregate: &mut Aggregate) {
        let Some((clipping, clip)) = self.clipping(state) else { return };
        let weight = |k: &u16| updates[usize::from(*k)].weight;
        let (sum, weight) = match &mut aggregate.decoded {
            Decoded::Sum { sum, included, .. } => (sum, included.iter().map(weight).sum()),
            Decoded::Estimate { sum, .. } => (sum, updates.iter().map(|update| update.weight).sum()),
            Decoded::Outage(_) => return,
        };
        let below = 0.5 + clipping.leave(clip, sum) / self.divisor(weight);
        state.server.clip = Some(clipping.next(clip, below));
    }

    /// The column of what the rounds so far tell, at most, about a single example, where local steps are
    /// private ([`crate::learn::PrivateConfig`]): as if one client, of the fewest examples and the most
    /// steps, took part in every one.
    ///
    /// # Errors
    /// Steps that cannot be composed.
    pub(super) fn of_examples(&self, round: u64) -> Result<Metrics> {
        let Setting { config, solver, .. } = self.setting;
        if solver.shared().private.is_none() {
            return Ok(Metrics::new());
        }
        let counts = self.setting.counts().into_iter();
        let sampled: Vec<_> = counts.filter_map(|examples| solver.sampled(examples)).collect();
        let Some(first) = sampled.first() else { return Ok(Metrics::new()) };
        let rate = sampled.iter().map(|own| own.rate).fold(0.0, f64::max);
        let steps = sampled.iter().map(|own| own.steps).max().unwrap_or_default();
        let noise = first.noise_multiplier;
        let step = Step::gaussian(noise, Sampling::Poisson { rate }, Adjacency::AddOrRemove)?;
        let mut accountant = Accountant::new(Adjacency::AddOrRemove);
        accountant.add(&step, round.saturating_mul(steps as u64))?;
        let delta = config.privacy.release.as_ref().map_or(config.privacy.ldp_delta, |release| release.delta);
        Ok(vec![("epsilon_example".into(), accountant.running(delta)?)])
    }

    /// What enters the sum of a round, where that is not what clients send: with the count of those whose
    /// update was `below` the clip, turned by the rotation of the round.
    pub(super) fn enter(&self, state: &State, updates: &[Update], below: &[bool]) -> Option<Vec<Update>> {
        let (clipping, rotation) = (self.clipping(state), self.rotation(state.round));
        if clipping.is_none() && rotation.is_none() {
            return None;
        }
        let entered = |(update, &below): (&Update, &bool)| {
            let mut delta = match clipping {
                Some((clipping, clip)) => clipping.enter(clip, &update.delta, below),
                None => update.delta.to_vec(),
            };
            if let Some(rotation) = &rotation {
                delta.resize(Hadamard::padded(delta.len()), 0.0);
                rotation.rotate(&mut delta);
            }
            Update { weight: update.weight, delta: Arc::new(delta) }
        };
        Some(updates.iter().zip(below).map(entered).collect())
    }

    /// Turns the result of such a round back.
    pub(super) fn unflatten(&self, round: u64, aggregate: &mut Aggregate) {
        if let (Some(rotation), Decoded::Sum { sum, .. } | Decoded::Estimate { sum, .. }) =
            (self.rotation(round), &mut aggregate.decoded)
        {
            rotation.invert(sum);
            sum.truncate(self.setting.entered());
        }
    }

    fn rotation(&self, round: u64) -> Option<Hadamard> {
        let release = self.setting.config.privacy.release.as_ref().filter(|_| self.release.is_some())?;
        release.flatten.then(|| Hadamard::new(self.setting.seed.child("rotation", round)))
    }

    /// Whether a further round may cost more than the budget.
    ///
    /// # Errors
    /// Costs that cannot be composed.
    pub(crate) fn is_spent(&self, state: &State) -> Result<bool> {
        self.release.as_ref().map_or(Ok(false), |release| release.is_spent(&state.ledger, state.round))
    }

    /// What the rounds so far promise.
    ///
    /// # Errors
    /// As [`Run::is_spent`].
    pub(crate) fn promise(&self, state: &State) -> Result<Option<Promise>> {
        self.release.as_ref().map(|release| release.promise(&state.ledger, state.round)).transpose()
    }
}
