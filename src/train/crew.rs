//! Who trains and tests the clients of a run.

use std::path::Path;

use rayon::prelude::*;

use super::holdings::Own;
use super::turn::{Tested, Trained};
use super::work::{Here, Work};
use super::{LocalRound, Run, Setting, State};
use crate::config::Config;
use crate::data::Examples;
use crate::error::{Error, Result};
use crate::learn::{Device, Evaluation};
use crate::parallel::goes_on;

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

    /// Local training of `members` in the round of `state`, in their order, on the calling thread or threads
    /// of the crew's own.
    ///
    /// # Errors
    /// [`Error::Stopped`] where the run is to end, [`Error::Own`] where a learner of one's own fails. The
    /// round has then not been played.
    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>>;

    /// How a global model (d parameters) does after `round`.
    ///
    /// # Errors
    /// As [`Crew::train`].
    fn test(&self, run: &Run<'_>, round: u64, parameters: &[f32]) -> Result<Tested>;
}

/// This process alone.
pub struct Alone;

impl Crew for Alone {
    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        run.train_here(state, members)
    }

    fn test(&self, run: &Run<'_>, _round: u64, parameters: &[f32]) -> Result<Tested> {
        Ok(Tested { accuracies: run.test_here(parameters, &run.tested())?, ..run.evaluate(parameters)? })
    }
}

impl Run<'_> {
    /// Local training of `members` in this process: one per thread, or as many in one program as the device
    /// likes. Of `state` only the round, what the server sends and the members' own vectors are looked at.
    ///
    /// # Errors
    /// [`Error::Stopped`] before a client, where the run is to end.
    pub(super) fn train_here(&self, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        let Here { learner, dataset, holdings } = self.own_work()?;
        match learner.together() {
            1 => {
                let train = |&k: &u32| {
                    self.unless_stopped()?;
                    let Own { examples, shard } = holdings.own(dataset, k as usize)?;
                    Ok(self.local_round(state, k, &examples, &shard)?.train())
                };
                members.par_iter().map(train).collect()
            }
            together => {
                let train = |members: &[u32]| {
                    self.unless_stopped()?;
                    let (examples, shards) = holdings.of_several(dataset, members)?;
                    let rounds = members.iter().zip(&shards);
                    let rounds = rounds.map(|(&k, shard)| self.local_round(state, k, &examples, shard));
                    let rounds = rounds.collect::<Result<Vec<_>>>()?;
                    Ok(LocalRound::train_together(&rounds))
                };
                let trained: Vec<Vec<Trained>> =
                    members.chunks(together).map(train).collect::<Result<_>>()?;
                Ok(trained.into_iter().flatten().collect())
            }
        }
    }

    /// The work of client `k` on its own `shard` of `examples`.
    fn local_round<'b>(
        &'b self,
        state: &'b State,
        k: u32,
        examples: &'b Examples,
        shard: &'b [usize],
    ) -> Result<LocalRound<'b>> {
        let Setting { solver, config, .. } = self.setting;
        let k = k as usize;
        Ok(LocalRound {
            config,
            solver: &**solver,
            learner: &*self.own_work()?.learner,
            examples,
            shard,
            client: k,
            round: state.round,
            global: state.model_of(k),
            carried: state.clients.carried.get(k).map(Vec::as_slice),
            control: &state.server.control,
            own_control: state.clients.controls.get(k).map(Vec::as_slice),
            mean_count: self.setting.mean_count(),
            copies: self.copies(k),
        })
    }

    /// How many clients do the work of client `k`: every holder of a replicated shard trains on it; the same
    /// batches give all of them the same update.
    pub(super) fn copies(&self, k: usize) -> usize {
        self.aggregator.holders().map_or(1, |holders| holders[k].len())
    }

    /// What there is to do in this process.
    fn own_work(&self) -> Result<&Here> {
        match &self.setting.work {
            Work::Here(here) => Ok(here),
            Work::Elsewhere(_) => {
                let rule =
                    "the clients of this run are trained by another program; give it that program's crew";
                Err(Error::Refused(rule.into()))
            }
        }
    }

    /// How a global model does on the test examples.
    pub(super) fn evaluate(&self, parameters: &[f32]) -> Result<Tested> {
        let Here { learner, dataset, .. } = self.own_work()?;
        let Evaluation { loss, accuracy, metrics, .. } = learner.evaluate(parameters, &dataset.test);
        Ok(Tested { loss: Some(loss), accuracy, metrics, ..Tested::default() })
    }

    /// An error where the run is to end.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn unless_stopped(&self) -> Result<()> {
        goes_on(self.stop)
    }

    /// The clients that keep examples out of their training.
    pub(super) fn tested(&self) -> Vec<u32> {
        let holdings = self.setting.holdings();
        if holdings.are_tested() { (0..holdings.clients() as u32).collect() } else { Vec::new() }
    }

    /// The accuracy of a global model on what some clients keep out of their training, in this process.
    ///
    /// # Errors
    /// Examples that cannot be read any more.
    pub(super) fn test_here(&self, parameters: &[f32], clients: &[u32]) -> Result<Vec<f64>> {
        let Here { learner, dataset, holdings } = self.setting.here();
        let accuracy = |k: &u32| {
            let held_out = holdings.held_out(dataset, *k as usize)?;
            Ok(learner.evaluate(parameters, &held_out).accuracy.unwrap_or(f64::NAN))
        };
        clients.par_iter().map(accuracy).collect()
    }
}
