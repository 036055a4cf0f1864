//! What a round leaves behind.

use super::carrier::Carried;
use super::clients::Spread;
use super::turn::{Tested, Trained};
use super::{Run, Setting, State};
use crate::error::{Diverged, NotFinite, Result};
use crate::privacy::Leakage;
use crate::protocol::{Aggregate, Update};
use crate::record::{ClientRow, Metrics, Outcome, Row, column};

/// The columns that follow from the messages, the tests and the leakage of a round.
fn of(round: u64, aggregate: &Aggregate, tested: &Tested, leakage: Option<&Leakage>) -> Row {
    let worst = |of: fn(&Leakage) -> &Vec<f64>| leakage.and_then(|l| of(l).iter().copied().reduce(f64::max));
    let traffic = &aggregate.traffic;
    let helpers = traffic.client_helper > 0;
    let spread = Spread::of(&tested.accuracies);
    Row {
        attempts: aggregate.attempts,
        arrivals: aggregate.arrivals,
        saturated: aggregate.lost.map(|lost| lost.saturated),
        underflowed: aggregate.lost.map(|lost| lost.underflowed),
        bytes_client_client: traffic.client_client,
        bytes_client_helper: helpers.then_some(traffic.client_helper),
        bytes_helper_helper: helpers.then_some(traffic.helper_helper),
        bytes_helper_server: helpers.then_some(traffic.helper_server),
        test_loss: tested.loss,
        test_accuracy: tested.accuracy,
        client_accuracy_worst: spread.as_ref().map(|spread| spread.worst),
        client_accuracy_best: spread.as_ref().map(|spread| spread.best),
        client_accuracy_std: spread.as_ref().map(|spread| spread.std),
        leakage_link: worst(|l| &l.link),
        leakage_neighbour: worst(|l| &l.neighbour),
        leakage_server: worst(|l| &l.server),
        seconds_simulated: aggregate.seconds,
        ..Row::blank(round)
    }
}

/// What a round brought beside what was carried.
pub(super) struct Brought {
    pub outcome: Outcome,
    pub recovery_error: Option<f64>,
    /// Columns of what it cost, and of the clip.
    pub told: Metrics,
    pub tested: Tested,
    pub leakage: Option<Leakage>,
    pub seconds_simulated: Option<f64>,
    pub seconds_evaluation: f64,
}

impl Run<'_> {
    /// The rows of a round and of its clients, of whom there are none where they do not tell.
    pub(super) fn rows(
        &self,
        round: u64,
        carried: &Carried,
        brought: Brought,
    ) -> Result<(Row, Vec<ClientRow>)> {
        let Carried { cohort, updates, silent, aggregate, .. } = carried;
        let Brought { outcome, tested, leakage, .. } = brought;
        let trained = carried.trained.as_deref().unwrap_or_default();
        let of_examples = match carried.trained {
            Some(_) => self.of_examples(round)?,
            None => Metrics::new(),
        };
        let metrics = [
            self.metrics(&cohort.members, trained, &tested)?,
            carried.presence.clone(),
            brought.told,
            of_examples,
        ];
        let row = Row {
            outcome,
            reason: aggregate.decoded.reason().filter(|_| outcome == Outcome::Outage),
            cohort: cohort.members.len(),
            diverged: carried.diverged,
            recovery_error: brought.recovery_error,
            bytes_client_server: aggregate.traffic.client_server + carried.signs_of_life,
            train_loss: mean_loss(silent.others(trained)),
            metrics: metrics.concat(),
            seconds_simulated: brought.seconds_simulated,
            seconds_local: carried.seconds.0,
            seconds_coding: carried.seconds.1,
            seconds_evaluation: brought.seconds_evaluation,
            ..of(round, aggregate, &tested, leakage.as_ref())
        };
        let accuracies = &tested.accuracies;
        let mut clients =
            self.client_rows(round, &cohort.members, updates, trained, accuracies, leakage.as_ref());
        silent.updates.iter().for_each(|&i| clients[i].update_norm = f64::NAN);
        Ok((row, clients))
    }

    /// Whether a test is due after this round.
    fn is_tested(&self, round: u64) -> bool {
        let Setting { config, .. } = self.setting;
        round.is_multiple_of(config.evaluation.every) || round == config.rounds
    }

    /// Tests the model, where it is due after this round. An error where its loss is not finite.
    pub(crate) fn test(&self, state: &State) -> Result<Tested> {
        if !self.is_tested(state.round) {
            return Ok(Tested::default());
        }
        let tested = self.crew.test(self, state.round, &state.server.parameters)?;
        if tested.loss.is_some_and(|loss| !loss.is_finite()) {
            return Err(Diverged { round: state.round, client: None, what: NotFinite::TestLoss }.into());
        }
        Ok(tested)
    }

    /// How the mean of the local models does, given what they are apart from the global one, where a test is
    /// due.
    pub(super) fn test_locals(&self, state: &State, kept: &[Vec<f32>]) -> Result<Metrics> {
        if !self.is_tested(state.round) {
            return Ok(Metrics::new());
        }
        let tested = self.crew.test(self, state.round, &self.mean_of_locals(state, kept))?;
        if tested.loss.is_some_and(|loss| !loss.is_finite()) {
            return Err(Diverged { round: state.round, client: None, what: NotFinite::TestLoss }.into());
        }
        let named = [("locals_loss", tested.loss), ("locals_accuracy", tested.accuracy)];
        Ok(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }

    /// The columns of what a learner of one's own measured in a round of `members`, who trained like this.
    fn metrics(&self, members: &[u32], trained: &[Trained], tested: &Tested) -> Result<Metrics> {
        let mut means: Vec<(&str, f64, f64)> = Vec::new();
        for (k, own) in members.iter().zip(trained) {
            let weight = self.setting.count(*k) as f64;
            for (name, value) in &own.metrics {
                match means.iter_mut().find(|(known, ..)| known == name) {
                    Some((_, sum, all)) => (*sum, *all) = (*sum + weight * value, *all + weight),
                    None => means.push((name, weight * value, weight)),
                }
            }
        }
        let trained = means.into_iter().map(|(name, sum, all)| Ok((column("train", name)?, sum / all)));
        let tested = tested.metrics.iter().map(|(name, value)| Ok((column("test", name)?, *value)));
        trained.chain(tested).collect()
    }

    fn client_rows(
        &self,
        round: u64,
        members: &[u32],
        updates: &[Update],
        trained: &[Trained],
        accuracies: &[f64],
        leakage: Option<&Leakage>,
    ) -> Vec<ClientRow> {
        let rows = updates.iter().zip(trained).enumerate();
        let d = self.setting.parameters();
        rows.map(|(k, (update, trained))| ClientRow {
            round,
            client: members[k] as usize + 1,
            examples: self.setting.count(members[k]),
            train_loss: trained.how.loss,
            test_accuracy: accuracies.get(members[k] as usize).copied(),
            update_norm: update.delta[..d].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt(),
            leakage_link: leakage.map(|l| l.link[k]),
            leakage_neighbour: leakage.map(|l| l.neighbour[k]),
            leakage_server: leakage.map(|l| l.server[k]),
        })
        .collect()
    }
}

/// Over the examples on which the clients trained; who had none has no loss.
fn mean_loss<'a>(trained: impl Iterator<Item = &'a Trained>) -> f64 {
    let (sum, examples) = trained
        .map(|trained| &trained.how)
        .filter(|update| update.examples > 0)
        .fold((0.0, 0), |(sum, n), update| (sum + update.loss * update.examples as f64, n + update.examples));
    sum / examples as f64
}
