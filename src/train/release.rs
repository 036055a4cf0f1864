//! What a run releases: noise in its sums, and what they cost ([`crate::release`]).

use std::sync::Arc;

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
use crate::release::{Adversary, By, Known, Ledger, Promise, Release, ReleaseConfig};
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
        if singly && config.flatten {
            return at(
                ".flatten",
                "the server remembers single updates, each of another rotation; take false",
            );
        }
        let (sent, cohort) = (self.coordinates(), self.config.cohort.most(self.config.clients));
        let known = Known {
            clip,
            weight: self.public().weight,
            coordinates: if config.flatten { Hadamard::padded(sent) } else { sent },
            cohort,
            participations: match config.epsilon {
                Some(_) => participations(&self.config, self.seed),
                // Nothing follows from how many they are.
                None => self.config.rounds,
            },
            rounds: self.config.rounds,
            attempts: self.config.outage.attempts(),
            singly,
            sampling: sampling(&self.config),
        };
        Release::of(config, scheme, known).map(Some)
    }

    /// The weights n_k · M / N, none beyond `privacy.release.largest_weight`.
    pub(super) fn bounded(config: &Config, mut weights: Vec<f64>) -> Vec<f64> {
        let most = config.privacy.release.as_ref().and_then(|release: &ReleaseConfig| release.largest_weight);
        weights.iter_mut().for_each(|weight| *weight = weight.min(most.unwrap_or(f64::INFINITY)));
        weights
    }
}

/// How cohorts are drawn, where something is known of what that hides.
fn sampling(config: &Config) -> Sampling {
    let adjacency = config.privacy.release.as_ref().map(|release| release.adjacency);
    match (config.cohort.rate, config.cohort.sample) {
        _ if config.cohort.drop_after.is_some() => Sampling::None,
        (Some(rate), _) => Sampling::Poisson { rate },
        (None, Some(cohort)) if cohort < config.clients && adjacency == Some(Adjacency::ReplaceOne) => {
            Sampling::Fixed { cohort: cohort as u64, clients: config.clients as u64 }
        }
        _ => Sampling::None,
    }
}

/// Rounds in which the client takes part whom the draws of cohorts choose most often.
fn participations(config: &Config, seed: Seed) -> u64 {
    let everybody = config.cohort.sample.is_none() && config.cohort.rate.is_none();
    if everybody || config.cohort.drop_after.is_some() {
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

    /// Shortens what a client sends to the norm that the noise is made for, whoever made it.
    pub(super) fn bound(&self, sent: &mut [f32]) {
        if let Some(release) = &self.release {
            solver::clip(sent, release.clip());
        }
    }

    /// Charges the clients for what a round told, and adds the server's noise to its result if it is the
    /// server who does. Returns the columns of the running ε.
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
            for (&k, charge) in cohort.members.iter().zip(&charges) {
                state.ledger.charge(k, Adversary::Server, charge.server);
                if sampled.is_none() {
                    state.ledger.charge(k, Adversary::Observer, charge.observer);
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
            let source = SeededKeys(self.setting.seed.child("release", state.round));
            keys::add_noise(sum, SERVER, std, None, &source);
        }
        let shown = [Adversary::Server, Adversary::Observer].into_iter();
        let shown =
            shown.filter(|adversary| release.of_server().is_none() || *adversary == Adversary::Observer);
        shown
            .map(|adversary| {
                Ok((format!("epsilon_{}", adversary.name()), release.epsilon(&state.ledger, adversary)?))
            })
            .collect()
    }

    /// The column of what the rounds so far tell, at most, about a single example, where local steps are
    /// private ([`crate::learn::PrivateConfig`]): as if one client, of the fewest examples and the most
    /// steps, took part in every one.
    ///
    /// # Errors
    /// Steps that cannot be composed.
    pub(super) fn of_examples(&self, round: u64) -> Result<Metrics> {
        let Setting { config, solver, .. } = self.setting;
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

    /// What clients send in a round, turned by its rotation where that is to be; otherwise nothing.
    pub(super) fn flattened(&self, round: u64, updates: &[Update]) -> Option<Vec<Update>> {
        let rotation = self.rotation(round)?;
        let turned = |update: &Update| {
            let mut delta = update.delta.to_vec();
            delta.resize(Hadamard::padded(delta.len()), 0.0);
            rotation.rotate(&mut delta);
            Update { weight: update.weight, delta: Arc::new(delta) }
        };
        Some(updates.iter().map(turned).collect())
    }

    /// Turns the result of such a round back.
    pub(super) fn unflatten(&self, round: u64, aggregate: &mut Aggregate) {
        if let (Some(rotation), Decoded::Sum { sum, .. } | Decoded::Estimate { sum, .. }) =
            (self.rotation(round), &mut aggregate.decoded)
        {
            rotation.invert(sum);
            sum.truncate(self.setting.coordinates());
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
    pub(super) fn is_spent(&self, state: &State) -> Result<bool> {
        self.release.as_ref().map_or(Ok(false), |release| release.is_spent(&state.ledger))
    }

    /// What the rounds so far promise.
    ///
    /// # Errors
    /// As [`Run::is_spent`].
    pub(super) fn promise(&self, state: &State) -> Result<Option<Promise>> {
        self.release.as_ref().map(|release| release.promise(&state.ledger)).transpose()
    }
}
