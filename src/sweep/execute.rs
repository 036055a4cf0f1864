//! Runs in parallel, each in its own directory, resumable one by one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rayon::prelude::*;

use super::{Sweep, SweepRun, blame, memory};
use crate::bounds;
use crate::config::Config;
use crate::data::{DataConfig, Dataset};
use crate::error::{Error, Result};
use crate::learn::Device;
use crate::record::{End, Played};
use crate::train::{Experiment, Setting};

/// What is known of a run before it is executed.
struct Task<'a> {
    run: &'a SweepRun,
    path: PathBuf,
    finished: bool,
    /// Estimate of its peak memory.
    bytes: u64,
}

/// A sweep whose runs have all been built once, so that a wrong one costs nothing.
pub struct Plan<'a> {
    tasks: Vec<Task<'a>>,
    datasets: Vec<(DataConfig, Arc<Dataset>)>,
    device: Device,
}

/// Sees what [`Plan::execute`] does, from the threads that play the runs.
pub trait Watch: Sync {
    /// So many of a run's rounds are over, or not needed any more.
    ///
    /// # Errors
    /// Whatever ends the sweep.
    fn rounds(&self, run: &SweepRun, rounds: u64) -> Result<()>;

    /// A run is over.
    ///
    /// # Errors
    /// Whatever ends the sweep.
    fn over(&self, run: &SweepRun, how: &Over<'_>) -> Result<()>;

    /// Is set when the sweep is to end before the next client of any run, with [`Error::Stopped`]; runs that
    /// are going on can be gone on with.
    fn stop(&self) -> &AtomicBool;
}

/// A run that is over, or has diverged.
pub struct Over<'a> {
    /// `rounds.csv`.
    pub played: &'a Played,
    /// How it ended.
    pub end: &'a End,
    /// Its run directory.
    pub folder: &'a Path,
    /// Wall-clock time of this call.
    pub seconds: f64,
}

impl<'a> Plan<'a> {
    /// Loads the data and builds every run of the sweep; those of `shard` (i of n, i from 0) are to be
    /// executed below `folder`.
    ///
    /// # Errors
    /// One line with the grid key whose value breaks a rule; a run directory of another configuration.
    pub fn new(sweep: &'a Sweep, folder: &Path, device: Device, (i, n): (usize, usize)) -> Result<Self> {
        let mut datasets: Vec<(DataConfig, Arc<Dataset>)> = Vec::new();
        for run in &sweep.runs {
            let data = &run.config.data;
            if !datasets.iter().any(|(config, _)| config == data) {
                datasets.push((data.clone(), Arc::new(data.load().map_err(|error| error.within("data"))?)));
            }
        }
        let mut plan = Self { tasks: Vec::new(), datasets, device };
        let build = |(index, run): (usize, &'a SweepRun)| -> Result<Option<Task<'a>>> {
            let wrong = |error: Error| blame(&run.origin, &error.to_string());
            let setting = plan.setting(&run.config).map_err(wrong)?;
            let built = setting.run(&run.config.protocol).map_err(wrong)?;
            if index % n != i {
                return Ok(None);
            }
            let path = folder.join(&run.folder);
            let bytes = memory::of_run(&run.config.protocol, run.config.clients, setting.parameters());
            let finished = built.ended(&path)?.is_some();
            Ok(Some(Task { run, path, finished, bytes }))
        };
        // In parallel, yet the first error in the order of the runs is the one that is told.
        let tasks: Vec<Result<Option<Task>>> = sweep.runs.par_iter().enumerate().map(build).collect();
        let wrong: Vec<bool> = tasks.iter().map(Result::is_err).collect();
        let tasks = tasks.into_iter().filter_map(Result::transpose).collect::<Result<_>>();
        plan.tasks = tasks.map_err(|error| name_seeds(error, &sweep.runs, &wrong))?;
        Ok(plan)
    }

    fn setting(&self, config: &Config) -> Result<Setting> {
        let known = self.datasets.iter().find(|(data, _)| *data == config.data);
        let dataset = known.map_or_else(|| config.data.load().map(Arc::new), |(_, data)| Ok(data.clone()))?;
        Experiment::new(config.clone()).on(self.device.clone()).loaded(dataset).build()
    }

    /// Number of runs.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.tasks.len()
    }

    /// Number of runs that are finished already.
    #[must_use]
    pub fn finished(&self) -> usize {
        self.tasks.iter().filter(|task| task.finished).count()
    }

    /// Rounds of the other runs.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.open().map(|task| task.run.config.rounds).sum()
    }

    fn open(&self) -> impl Iterator<Item = &Task<'a>> {
        self.tasks.iter().filter(|task| !task.finished)
    }

    /// How many runs go on at a time by default: as many as there are threads, and as fit into half of the
    /// memory that is free; one on a GPU.
    #[must_use]
    pub fn jobs(&self) -> usize {
        let largest = self.open().map(|task| task.bytes).max().unwrap_or(1);
        let fitting = bounds::available().map_or(usize::MAX, |bytes| (bytes / 2 / largest) as usize);
        let most = if self.device.name() == "wgpu" { 1 } else { rayon::current_num_threads() };
        most.min(fitting).clamp(1, self.open().count().max(1))
    }

    /// Executes the runs that are not finished, `jobs` at a time. An interrupted run goes on from its
    /// checkpoint, one that diverged is finished. The results do not depend on `jobs`.
    ///
    /// # Errors
    /// A run directory that cannot be written, an error of `watch`; runs that are going on end first, no
    /// other is started.
    pub fn execute(&self, jobs: usize, watch: &dyn Watch) -> Result<()> {
        let queue = Mutex::new(self.open());
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let lock = || failure.lock().unwrap_or_else(PoisonError::into_inner);
        // Not rayon's own threads: a thread of the pool that waits for a part of its run would start another
        // run meanwhile.
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while lock().is_none() {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some(task) = next else { break };
                        if let Err(error) = self.run(task, watch) {
                            lock().get_or_insert(error);
                        }
                    }
                });
            }
        });
        let failed = lock().take();
        failed.map_or(Ok(()), Err)
    }

    fn run(&self, task: &Task<'_>, watch: &dyn Watch) -> Result<()> {
        let Task { run, path, .. } = task;
        let clock = Instant::now();
        let setting = self.setting(&run.config)?;
        let built = setting.run(&run.config.protocol)?;
        let (state, mut directory) = built.go_on(path)?;
        watch.rounds(run, state.round)?;
        let built = built.with_stop(watch.stop());
        let (_, end) = built.record(state, &mut directory, &mut |_| watch.rounds(run, 1))?;
        watch.rounds(run, run.config.rounds - end.rounds)?;
        let played = Played::read(path)?;
        let seconds = clock.elapsed().as_secs_f64();
        watch.over(run, &Over { played: &played, end: &end, folder: path, seconds })
    }
}

/// The first error, and the seeds with which runs are `wrong`, where there are several and others are right.
fn name_seeds(first: Error, runs: &[SweepRun], wrong: &[bool]) -> Error {
    let seeds = |runs: &mut dyn Iterator<Item = &SweepRun>| -> BTreeSet<u64> {
        runs.map(|run| run.config.seed).collect()
    };
    let failed = seeds(&mut runs.iter().zip(wrong).filter(|(_, wrong)| **wrong).map(|(run, _)| run));
    if failed.len() < 2 || failed == seeds(&mut runs.iter()) {
        return first;
    }
    let list = failed.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    Error::Refused(format!("{first}; runs fail with seeds {list}"))
}
