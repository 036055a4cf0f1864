//! A run in its folder: created, recorded, resumed.

use std::fs;
use std::path::Path;

use super::carrier::{Carrier, Simulated};
use super::observer::{CHECKPOINT, Checkpoints, Observer, Over};
use super::{Run, Setting, State};
use crate::audit::lossless;
use crate::config::{Config, SweepConfig};
use crate::error::{Diverged, Error, Result};
use crate::record::{self, End, Fingerprint, Row, RunDir, RunInfo, TEMPORARY, to_csv, write_atomically};

/// The model before the first round, where it was not drawn.
const START: &str = "start.safetensors";

impl Run<'_> {
    /// The description that goes into `run.json`.
    #[must_use]
    pub fn info(&self) -> RunInfo {
        let own = self.own_parts();
        RunInfo { own, ..RunInfo::now(&self.setting.device, &self.name, self.setting.parameters()) }
    }

    /// Sections whose part is not the configured one.
    fn own_parts(&self) -> Vec<String> {
        let own = &self.setting.own;
        let has_own = |section: &&str| *section != "participation" || self.participation.is_none();
        let mut own: Vec<String> = own.iter().copied().filter(has_own).map(str::to_owned).collect();
        own.extend(self.protocol.is_none().then(|| "protocol".to_owned()));
        own
    }

    /// What a checkpoint of this run must agree with.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let Setting { config, .. } = self.setting;
        Fingerprint {
            model: self.setting.model_name(),
            layers: self.setting.layers(),
            clients: config.clients,
            solver: self.setting.name_of("solver", config.solver.kind()),
            server: self.setting.name_of("server", config.server.kind()),
        }
    }

    /// Runs the remaining rounds into a run directory, up to the last one, the one that reaches the target or
    /// exhausts the patience, or the one that diverges, of which nothing is kept; `observe` sees every row.
    ///
    /// # Errors
    /// A run directory that cannot be written; a crew that fails or is stopped, and whatever `observe` says:
    /// the run goes on after the last whole round.
    pub fn record(
        &self,
        state: State,
        directory: &mut RunDir,
        mut observe: &mut dyn FnMut(&Row) -> Result<()>,
    ) -> Result<(State, End)> {
        self.record_to(state, directory, &mut [&mut observe])
    }

    /// [`Run::record`] with observers that see more than rows, in their order.
    ///
    /// # Errors
    /// As there, and whatever an observer says.
    pub fn record_to(
        &self,
        mut state: State,
        directory: &mut RunDir,
        observers: &mut [&mut dyn Observer],
    ) -> Result<(State, End)> {
        let mut checkpoints =
            Checkpoints::new(directory, &state, self.setting.config.record.checkpoint_every);
        let mut all: Vec<&mut dyn Observer> = vec![&mut checkpoints];
        all.extend(observers.iter_mut().map(|observer| &mut **observer as &mut dyn Observer));
        let end = self.record_by(&mut Simulated, &mut state, directory, &mut all)?;
        Ok((state, end))
    }

    /// Plays the remaining rounds by a `carrier`; tables come before `observers`.
    ///
    /// # Errors
    /// As [`Run::record`].
    pub(crate) fn record_by(
        &self,
        carrier: &mut dyn Carrier,
        state: &mut State,
        directory: &mut RunDir,
        observers: &mut [&mut dyn Observer],
    ) -> Result<End> {
        let played = self.play_on(carrier, state, directory, observers);
        let mut cut_off = |state: &State, diverged: Option<&Diverged>| {
            observers.iter_mut().try_for_each(|own| own.cut_off(self, state, diverged))
        };
        let diverged = match played {
            Ok(()) => None,
            Err(Error::Diverged { diverged, .. }) => {
                cut_off(state, Some(&diverged))?;
                Some(diverged)
            }
            Err(error) => {
                cut_off(state, None)?;
                return Err(error);
            }
        };
        directory.finish(&self.setting.config.evaluation.stop(), diverged, self.promise(state)?)
    }

    /// The round loop.
    fn play_on(
        &self,
        carrier: &mut dyn Carrier,
        state: &mut State,
        directory: &mut RunDir,
        observers: &mut [&mut dyn Observer],
    ) -> Result<()> {
        let config = &self.setting.config;
        let stop = config.evaluation.stop();
        let mut rows = directory.rows()?;
        observers.iter_mut().try_for_each(|own| own.begin(self, state, &rows))?;
        let mut is_last = state.round >= config.rounds || stop.ends(&rows) || self.is_spent(state)?;
        while !is_last {
            let (row, clients) = self.round_by(carrier, state)?;
            rows.push(row.clone());
            is_last = state.round >= config.rounds || stop.ends(&rows) || self.is_spent(state)?;
            let over = Over { run: self, state, row: &row, rows: &rows, clients: &clients, is_last };
            directory.round(&over)?;
            observers.iter_mut().try_for_each(|own| own.round(&over))?;
        }
        Ok(())
    }

    /// The configuration of this run alone, which goes into `config.toml`.
    #[must_use]
    pub fn config(&self) -> Config {
        let config = self.setting.config.clone();
        Config {
            protocol: self.protocol.clone().unwrap_or_else(|| config.protocol.clone()),
            participation: self.participation.clone().unwrap_or_else(|| config.participation.clone()),
            start: self.setting.start.as_ref().map(|_| START.into()),
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
        let text = config.to_toml()?;
        let data = Some(self.setting.data_digest());
        let info = RunInfo { data, config: Some(text.clone()), ..self.info() };
        let directory = RunDir::create(path, &text, &info, config.record.tensorboard)?;
        if let Some(start) = &self.setting.start {
            let weights = self.setting.state_dict(start, 0);
            write_atomically(&path.join(START), &weights.to_safetensors()?)?;
        }
        if config.privacy.measure {
            let assumptions = self.setting.assumptions();
            let table = lossless(&self.name, &*self.aggregator, config.outage.attempts(), &assumptions)?;
            write_atomically(&path.join("leakage.csv"), &to_csv(&table)?)?;
        }
        Ok((self.start(), directory))
    }

    /// Goes on with the run that was left in a folder, from its start where it was interrupted before its
    /// first checkpoint; begins it where there is none.
    ///
    /// # Errors
    /// As [`Run::create`] and [`Run::resume`].
    pub fn go_on(&self, path: &Path) -> Result<(State, RunDir)> {
        if path.join(CHECKPOINT).exists() {
            return self.resume(path);
        }
        discard(path)?;
        self.create(path)
    }

    /// How this run ended, where a folder holds it and it is over.
    ///
    /// # Errors
    /// A run of another configuration; files that are damaged.
    pub fn ended(&self, path: &Path) -> Result<Option<End>> {
        let file = path.join("config.toml");
        if !file.exists() {
            return Ok(None);
        }
        let config = self.config();
        // `[deploy]` names files where the configuration lies; a simulated run reads none of them. A run's
        // folder holds the model that it starts from.
        let (deploy, start) = (config.deploy.clone(), config.start.clone());
        let held = Config { deploy, start, ..Config::load(&file, &[])? };
        if held != config {
            let problem = "holds a run of another configuration; name another folder with --out";
            return Err(Error::file(path, problem));
        }
        let info = path.join("run.json");
        Ok(if info.exists() { RunInfo::load(&info)?.end } else { None })
    }

    /// Opens an interrupted run directory at its last checkpoint, or at the start if it has none. What the
    /// configuration says otherwise than before is noted in `run.json`.
    ///
    /// # Errors
    /// A checkpoint that is damaged or belongs to another model; other data; a configuration in which
    /// something else is changed than what later rounds may do otherwise; tables that cannot be read.
    pub fn resume(&self, path: &Path) -> Result<(State, RunDir)> {
        let file = path.join("run.json");
        let info = RunInfo::load(&file)?;
        let has = self.own_parts();
        if info.own != has {
            let parts = |own: &[String]| if own.is_empty() { "none".into() } else { own.join(", ") };
            let problem = format!(
                "the run has parts of its own program ({}), here there are others ({}); resume it from that program",
                parts(&info.own),
                parts(&has)
            );
            return Err(Error::file(&file, problem));
        }
        let config = self.config();
        let text = config.to_toml()?;
        let mut changes = info.config.as_ref().map_or_else(Vec::new, |was| record::changes(was, &text));
        if let Some(problem) = record::refused(&changes) {
            return Err(Error::file(path.join("config.toml"), problem));
        }
        let checkpoint = path.join(CHECKPOINT);
        let state = if checkpoint.exists() {
            let state = State::load(&checkpoint, &self.fingerprint())?;
            if !state.same_shape(&self.start()) {
                let problem = "the checkpoint holds the state of another solver or rule; resume with its own configuration";
                return Err(Error::file(&checkpoint, problem));
            }
            state
        } else {
            self.start()
        };
        if config.rounds < state.round {
            let problem = format!(
                "rounds: the run has played {} rounds, and {} are fewer; give at least as many",
                state.round, config.rounds
            );
            return Err(Error::file(path.join("config.toml"), problem));
        }
        let data = self.setting.data_digest();
        if info.data.as_ref().is_some_and(|had| *had != data) {
            let problem = "the run was played with other data: the examples, or their division over the clients, are not those \
                           of its beginning; bring them back, or start a new run";
            return Err(Error::file(&file, problem));
        }
        changes.iter_mut().for_each(|change| change.after = state.round);
        let changes = [info.changes.clone(), changes].concat();
        let info = RunInfo { data: Some(data), config: Some(text.clone()), changes, ..info };
        let directory = RunDir::resume(path, state.round, &text, &info, config.record.tensorboard)?;
        Ok((state, directory))
    }
}

/// Removes what a run left that was interrupted before its first checkpoint: its tables, or a file that had
/// no name yet.
fn discard(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut entries = fs::read_dir(path).map_err(Error::io("read", path))?.flatten();
    let nameless = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with(TEMPORARY);
    if path.join("config.toml").exists() || entries.all(nameless) {
        fs::remove_dir_all(path).map_err(Error::io("remove", path))?;
    }
    Ok(())
}
