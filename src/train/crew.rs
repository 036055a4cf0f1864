//! Who trains and tests the clients of a run.

use std::path::Path;

use rayon::prelude::*;

use super::{LocalRound, Run, Setting, State, mean_count};
use crate::config::Config;
use crate::error::Result;
use crate::learn::{Device, LocalUpdate};

/// What a client sends, and how its training went.
pub type Trained = (Vec<f32>, LocalUpdate);

/// The processes over which the clients of a run are divided. None of them decides anything: every crew gives
/// the same results, on a GPU up to rounding.
pub trait Crew: Sync {
    /// Number of processes.
    fn size(&self) -> usize {
        1
    }

    /// Tells the other processes of the run that begins in `directory`, so that they prepare it at the same
    /// time as this one.
    ///
    /// # Errors
    /// They cannot be told.
    fn enlist(&self, _config: &Config, _device: &Device, _directory: &Path) -> Result<()> {
        Ok(())
    }

    /// Waits until the other processes are prepared.
    ///
    /// # Errors
    /// One of them could not prepare the run.
    fn muster(&self) -> Result<()> {
        Ok(())
    }

    /// Local training of `members` in the round of `state`, in their order.
    fn train(&self, run: &Run<'_>, state: &State, members: &[u16]) -> Vec<Trained>;

    /// The accuracy of a global model on what every client keeps out of its training; nothing when no client
    /// is tested.
    fn test(&self, run: &Run<'_>, parameters: &[f32]) -> Vec<f64>;
}

/// This process alone.
pub struct Alone;

impl Crew for Alone {
    fn train(&self, run: &Run<'_>, state: &State, members: &[u16]) -> Vec<Trained> {
        run.train_here(state, members)
    }

    fn test(&self, run: &Run<'_>, parameters: &[f32]) -> Vec<f64> {
        run.test_here(parameters, &run.tested())
    }
}

impl Run<'_> {
    /// Local training of `members` in this process: one per thread, or as many in one program as the device
    /// likes. Of `state` only the round, what the server sends and the members' own vectors are looked at.
    pub(super) fn train_here(&self, state: &State, members: &[u16]) -> Vec<Trained> {
        let Setting { learner, solver, dataset, shards, weights, config, .. } = self.setting;
        let mean_count = mean_count(&**solver, shards.iter().map(Vec::len), weights);
        let round = |&k: &u16| {
            let k = usize::from(k);
            LocalRound {
                config,
                solver: &**solver,
                learner: &**learner,
                examples: &dataset.train,
                shard: &shards[k],
                client: k,
                round: state.round,
                global: &state.parameters,
                carried: state.carried.get(k).map(Vec::as_slice),
                control: &state.control,
                own_control: state.controls.get(k).map(Vec::as_slice),
                mean_count,
                copies: self.copies(k),
            }
        };
        match learner.together() {
            1 => members.par_iter().map(|k| round(k).train()).collect(),
            together => members
                .chunks(together)
                .flat_map(|members| {
                    LocalRound::train_together(&members.iter().map(round).collect::<Vec<_>>())
                })
                .collect(),
        }
    }

    /// How many clients do the work of client `k`: every holder of a replicated shard trains on it; the same
    /// batches give all of them the same update.
    pub(super) fn copies(&self, k: usize) -> usize {
        self.aggregator.holders().map_or(1, |holders| holders[k].len())
    }

    /// The clients that keep examples out of their training.
    pub(super) fn tested(&self) -> Vec<u16> {
        (0..self.setting.held_out.len()).map(|k| k as u16).collect()
    }

    /// The accuracy of a global model on what some clients keep out of their training, in this process.
    pub(super) fn test_here(&self, parameters: &[f32], clients: &[u16]) -> Vec<f64> {
        let Setting { learner, held_out, .. } = self.setting;
        let accuracy = |k: &u16| learner.evaluate(parameters, &held_out[usize::from(*k)]).accuracy;
        clients.par_iter().map(accuracy).collect()
    }
}
