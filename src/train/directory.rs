//! A run in its folder: created, recorded, resumed.

use std::path::Path;

use super::{Run, Setting, State};
use crate::audit::lossless;
use crate::config::{Config, SweepConfig};
use crate::error::{Error, Result};
use crate::record::{Checkpoint, End, Fingerprint, Row, RunDir, RunInfo, to_csv, write_atomically};

impl Run<'_> {
    /// The description that goes into `run.json`.
    #[must_use]
    pub fn info(&self) -> RunInfo {
        let Setting { device, own, .. } = self.setting;
        let has_own = |section: &&str| *section != "participation" || self.participation.is_none();
        let mut own: Vec<String> = own.iter().copied().filter(has_own).map(str::to_owned).collect();
        own.extend(self.protocol.is_none().then(|| "protocol".to_owned()));
        RunInfo { own, ..RunInfo::now(device, &self.name, self.setting.parameters()) }
    }

    /// What a checkpoint of this run must agree with.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let Setting { config, learner, .. } = self.setting;
        Fingerprint {
            model: self.setting.name_of("model", config.model.kind()),
            layers: learner.layers(),
            clients: config.clients,
            solver: self.setting.name_of("solver", config.solver.kind()),
            server: self.setting.name_of("server", config.server.kind()),
        }
    }

    /// Runs the remaining rounds into a run directory, up to the last one, the one that reaches the target or
    /// the one that diverges, of which nothing is kept; `observe` sees every row.
    ///
    /// # Errors
    /// A run directory that cannot be written.
    pub fn record(
        &self,
        mut state: State,
        directory: &mut RunDir,
        observe: &mut dyn FnMut(&Row),
    ) -> Result<(State, End)> {
        let config = &self.setting.config;
        let checkpoint = directory.path().join("checkpoint.bin");
        let stop = config.evaluation.target.filter(|_| config.evaluation.stop_at_target);
        let reached = |row: &Row| stop.is_some_and(|accuracy| row.reaches(accuracy));
        let mut over = state.round == config.rounds || directory.rows()?.iter().any(reached);
        while !over {
            let (row, clients) = match self.round(&mut state) {
                Err(Error::Diverged { diverged, .. }) => {
                    state.save(&checkpoint, &self.fingerprint())?;
                    let end = directory.finish(config.evaluation.target, Some(diverged))?;
                    return Ok((state, end));
                }
                played => played?,
            };
            over = state.round == config.rounds || reached(&row);
            directory.append(&row, &clients)?;
            if state.round.is_multiple_of(config.record.checkpoint_every) || over {
                state.save(&checkpoint, &self.fingerprint())?;
            }
            observe(&row);
        }
        let end = directory.finish(config.evaluation.target, None)?;
        Ok((state, end))
    }

    /// The configuration of this run alone, which goes into `config.toml`.
    #[must_use]
    pub fn config(&self) -> Config {
        let config = self.setting.config.clone();
        Config {
            protocol: self.protocol.clone().unwrap_or_else(|| config.protocol.clone()),
            participation: self.participation.clone().unwrap_or_else(|| config.participation.clone()),
            sweep: SweepConfig::default(),
            compare: Vec::new(),
            ..config
        }
    }

    /// Creates a run directory, which must be new or empty.
    ///
    /// # Errors
    /// A folder that is not empty or cannot be written.
    pub fn create(&self, path: &Path) -> Result<(State, RunDir)> {
        let config = self.config();
        let directory = RunDir::create(path, &config.to_toml()?, &self.info(), config.record.tensorboard)?;
        if config.privacy.measure {
            let assumptions = self.setting.assumptions();
            let table = lossless(&self.name, &*self.aggregator, config.outage.attempts(), &assumptions)?;
            write_atomically(&path.join("leakage.csv"), &to_csv(&table)?)?;
        }
        Ok((self.start(), directory))
    }

    /// Opens an interrupted run directory at its last checkpoint, or at the start if it has none.
    ///
    /// # Errors
    /// A checkpoint that is damaged or belongs to another model; tables that cannot be read.
    pub fn resume(&self, path: &Path) -> Result<(State, RunDir)> {
        let info = path.join("run.json");
        let (had, has) = (RunInfo::load(&info)?.own, self.info().own);
        if had != has {
            let parts = |own: &[String]| if own.is_empty() { "none".into() } else { own.join(", ") };
            let problem = format!(
                "the run has parts of its own program ({}), here there are others ({}); resume it from that program",
                parts(&had),
                parts(&has)
            );
            return Err(Error::file(&info, problem));
        }
        let checkpoint = path.join("checkpoint.bin");
        let state = if checkpoint.exists() {
            let state = Checkpoint::load(&checkpoint, &self.fingerprint())?;
            if !state.same_shape(&self.start()) {
                let problem = "the checkpoint holds the state of another solver or rule; resume with its own configuration";
                return Err(Error::file(&checkpoint, problem));
            }
            state
        } else {
            self.start()
        };
        let directory = RunDir::resume(path, state.round, self.setting.config.record.tensorboard)?;
        Ok((state, directory))
    }
}
