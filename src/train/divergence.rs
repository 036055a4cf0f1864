//! What is not finite never leaves a client: it ends the run, or its client is silent in the round.

use std::sync::Arc;

use rayon::prelude::*;

use super::{Run, Setting, Trained};
use crate::algebra::is_finite;
use crate::config::OnDivergence;
use crate::error::{Diverged, NotFinite};
use crate::learn::LocalUpdate;
use crate::protocol::Update;

/// The clients that send nothing in a round.
#[derive(Default)]
pub(super) struct Silent {
    /// Places in the cohort whose update or loss is not finite, ascending.
    pub updates: Vec<usize>,
    /// The clients that are silent for it, numbered among all: those of these places, and whoever else holds
    /// their data.
    pub clients: Vec<u32>,
}

impl Silent {
    /// What belongs to the other places of the cohort.
    pub fn others<'a, T>(&'a self, of_cohort: &'a [T]) -> impl Iterator<Item = &'a T> {
        let speaks = |(i, _): &(usize, &T)| self.updates.binary_search(i).is_err();
        of_cohort.iter().enumerate().filter(speaks).map(|(_, own)| own)
    }
}

/// What of a client's work is not finite, if anything. A client without examples has no loss.
pub(crate) fn not_finite(sent: &[f32], how: &LocalUpdate) -> Option<NotFinite> {
    if how.examples > 0 && !how.loss.is_finite() {
        Some(NotFinite::TrainingLoss)
    } else {
        (!is_finite(sent)).then_some(NotFinite::Update)
    }
}

impl Run<'_> {
    /// Finds the updates that are not finite: they become zero, and their clients are silent. An error where
    /// `outage.diverged` does not allow that, or nobody would be left to speak.
    pub(super) fn silence(
        &self,
        round: u64,
        members: &[u32],
        updates: &mut [Update],
        trained: &[Trained],
    ) -> Result<Silent, Diverged> {
        let works = updates.par_iter().zip(trained).enumerate();
        let found: Vec<(usize, NotFinite)> = works
            .filter_map(|(i, (update, trained))| Some((i, not_finite(&update.delta, &trained.how)?)))
            .collect();
        let Some(&(first, what)) = found.first() else { return Ok(Silent::default()) };
        let mut clients: Vec<u32> = match self.aggregator.holders() {
            Some(holders) => found.iter().flat_map(|&(i, _)| &holders[i]).map(|&k| k as u32).collect(),
            None => found.iter().map(|&(i, _)| members[i]).collect(),
        };
        clients.sort_unstable();
        clients.dedup();
        let Setting { config, .. } = self.setting;
        if config.outage.diverged == OnDivergence::Stop || clients.len() == members.len() {
            let client = (found.len() == 1).then(|| members[first] as usize + 1);
            return Err(Diverged { round, client, what });
        }
        for &(i, what) in &found {
            self.warn(members[i], round, what);
            updates[i].delta = Arc::new(vec![0.0; updates[i].delta.len()]);
        }
        Ok(Silent { updates: found.into_iter().map(|(i, _)| i).collect(), clients })
    }

    /// Names a client that is silent, the first time.
    fn warn(&self, client: u32, round: u64, what: NotFinite) {
        let mut warned = self.warned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if warned.insert(client) {
            let cause = Diverged { round, client: Some(client as usize + 1), what };
            let remedy = what.remedy();
            tracing::warn!("{cause}; it is silent in such rounds, which rounds.csv counts; {remedy}");
        }
    }
}
