//! What a run releases: noise in its sums, and what they cost ([`crate::release`]).

use super::{Cohort, Run, Setting, State};
use crate::algebra::KeyStream;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::keys::{self, SeededKeys};
use crate::learn::solver;
use crate::network::Replay;
use crate::protocol::{Aggregate, Aggregator, Decoded};
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
        if singly && config.by == By::Server {
            let rule = "the server remembers single updates, which its noise in the mean does not cover; take \"clients\", or \
                        participation.kind = \"none\"";
            return at(".by", rule);
        }
        let known = Known {
            clip,
            weight: self.public().weight,
            coordinates: self.coordinates(),
            participations: participations(&self.config, self.seed),
            rounds: self.config.rounds,
            attempts: self.config.outage.attempts(),
            singly,
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

/// Rounds in which the client takes part whom the draws of cohorts choose most often.
fn participations(config: &Config, seed: Seed) -> u64 {
    if config.cohort.sample.is_none() || config.cohort.drop_after.is_some() {
        return config.rounds;
    }
    let mut counts = vec![0u64; config.clients];
    for round in 1..=config.rounds {
        let members = config.cohort.members(config.clients, &[], round, seed);
        members.into_iter().for_each(|k| counts[usize::from(k)] += 1);
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
    ) -> Result<Metrics> {
        let Some(release) = &self.release else { return Ok(Metrics::new()) };
        let round = state.round;
        if let Some(scheme) = &cohort.scheme {
            let weights: Vec<f64> =
                cohort.members.iter().map(|&k| self.setting.weights[usize::from(k)]).collect();
            let links = Replay::new(&aggregate.sent);
            let charges = release.charges(&**scheme, &links, round, aggregate, &weights)?;
            state.ledger.charge(&cohort.members, &charges);
        }
        if let (Some(std), Decoded::Sum { sum, .. } | Decoded::Estimate { sum, .. }) =
            (release.of_server(), &mut aggregate.decoded)
        {
            let source = SeededKeys(self.setting.seed.child("release", round));
            keys::add_noise(sum, SERVER, std, None, &source);
        }
        let shown = [Adversary::Server, Adversary::Observer];
        let shown = shown
            .into_iter()
            .filter(|adversary| release.of_server().is_none() || *adversary == Adversary::Observer);
        let column = |adversary: Adversary| {
            (format!("epsilon_{}", adversary.name()), release.epsilon(&state.ledger, adversary))
        };
        Ok(shown.map(column).collect())
    }

    /// Whether a further round may cost more than the budget.
    pub(super) fn is_spent(&self, state: &State) -> bool {
        self.release.as_ref().is_some_and(|release| release.is_spent(&state.ledger))
    }

    /// What the rounds so far promise.
    pub(super) fn promise(&self, state: &State) -> Option<Promise> {
        self.release.as_ref().map(|release| release.promise(&state.ledger))
    }
}
