//! Observers of a run: what they see, in which order, and how a run ends that they end.

use std::path::Path;

use seccogc::config::Config;
use seccogc::error::{Diverged, Error, NotFinite, Result};
use seccogc::learn::LocalUpdate;
use seccogc::record::{Row, RunInfo};
use seccogc::train::{Crew, Elsewhere, Experiment, Observer, Over, Run, Setting, State, Tested, Trained};

const CLIENTS: usize = 3;

/// Clients that add 1 to both parameters in every round, up to the one in which they are beyond all numbers.
struct Counts {
    diverges: u64,
}

impl Crew for Counts {
    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        let step = if state.round == self.diverges { f32::INFINITY } else { 1.0 };
        let train = |&k: &u32| {
            let model = run.local_start(state, k).into_iter().map(|x| x + step).collect();
            let how = LocalUpdate { delta: Vec::new(), loss: 1.0, examples: 1, steps: 1 };
            Trained { sent: run.update(state, k, model), how, metrics: Vec::new() }
        };
        Ok(members.iter().map(train).collect())
    }

    fn test(&self, _: &Run<'_>, round: u64, _: &[f32]) -> Result<Tested> {
        Ok(Tested { accuracy: Some(round as f64 / 10.0), ..Tested::default() })
    }
}

fn setting() -> Setting {
    let config = Config {
        clients: CLIENTS,
        rounds: 5,
        protocol: toml::from_str("kind = 'sec-cogc'\nstragglers = 1").unwrap(),
        evaluation: toml::from_str("every = 1").unwrap(),
        record: toml::from_str("checkpoint_every = 4").unwrap(),
        ..Config::default()
    };
    let layers = vec![("w".into(), vec![2])];
    let elsewhere = Elsewhere { layers, start: vec![0.0; 2], examples: vec![1; CLIENTS] };
    Experiment::new(config).elsewhere(elsewhere).build().unwrap()
}

/// Writes down what it is told, and ends the run after a round.
struct Diary {
    lines: Vec<String>,
    ends_after: u64,
}

impl Diary {
    fn ending_after(ends_after: u64) -> Self {
        Self { lines: Vec::new(), ends_after }
    }
}

impl Observer for Diary {
    fn begin(&mut self, _: &Run<'_>, state: &State, rows: &[Row]) -> Result<()> {
        self.lines.push(format!("begins after {} with {} rows", state.round, rows.len()));
        Ok(())
    }

    fn round(&mut self, over: &Over<'_>) -> Result<()> {
        let Over { state, rows, clients, is_last, .. } = *over;
        let (round, model) = (over.row.round, &state.server.parameters);
        assert_eq!((state.round, rows.len(), clients.len()), (round, round as usize, CLIENTS));
        self.lines.push(format!("{round}: {model:?}{}", if is_last { ", the last" } else { "" }));
        if round == self.ends_after { Err(Error::Own("enough".into())) } else { Ok(()) }
    }

    fn cut_off(&mut self, _: &Run<'_>, state: &State, diverged: Option<&Diverged>) -> Result<()> {
        self.lines.push(format!("cut off after {}: {:?}", state.round, diverged.map(|own| own.what)));
        Ok(())
    }
}

/// The round of the state that a folder holds.
fn saved(folder: &Path, run: &Run<'_>) -> u64 {
    State::load(&folder.join("checkpoint.bin"), &run.fingerprint()).unwrap().round
}

#[test]
fn an_observer_sees_every_round_once_over_interruptions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let (setting, crew) = (setting(), Counts { diverges: 0 });
    let run = setting.run(&setting.config().protocol).unwrap().with_crew(&crew);

    let mut diary = Diary::ending_after(2);
    let (state, mut directory) = run.go_on(&path).unwrap();
    let error = run.record_to(state, &mut directory, &mut [&mut diary]).unwrap_err();
    assert_eq!(error.to_string(), "enough");
    let first = ["begins after 0 with 0 rows", "1: [1.0, 1.0]", "2: [2.0, 2.0]", "cut off after 2: None"];
    assert_eq!(diary.lines, first);
    // Checkpoints are due after round 4; that of round 2 is kept since the run was cut off.
    assert_eq!(saved(&path, &run), 2);
    drop(directory);

    let (mut diary, mut accuracies) = (Diary::ending_after(0), Vec::new());
    let mut accuracy = |row: &Row| {
        accuracies.push(row.test_accuracy);
        Ok(())
    };
    let (state, mut directory) = run.go_on(&path).unwrap();
    let (last, _) = run.record_to(state, &mut directory, &mut [&mut diary, &mut accuracy]).unwrap();
    let then = ["begins after 2 with 2 rows", "3: [3.0, 3.0]", "4: [4.0, 4.0]", "5: [5.0, 5.0], the last"];
    assert_eq!(diary.lines, then);
    assert_eq!(accuracies, [Some(0.3), Some(0.4), Some(0.5)]);
    assert_eq!((last.server.parameters, saved(&path, &run)), (vec![5.0; 2], 5));
}

#[test]
fn an_observer_is_told_that_a_run_diverged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let (setting, crew) = (setting(), Counts { diverges: 3 });
    let run = setting.run(&setting.config().protocol).unwrap().with_crew(&crew);
    let mut diary = Diary::ending_after(0);
    let (state, mut directory) = run.go_on(&path).unwrap();
    let (last, end) = run.record_to(state, &mut directory, &mut [&mut diary]).unwrap();
    let lines =
        ["begins after 0 with 0 rows", "1: [1.0, 1.0]", "2: [2.0, 2.0]", "cut off after 2: Some(Update)"];
    assert_eq!(diary.lines, lines);
    assert_eq!((last.round, last.server.parameters, saved(&path, &run)), (2, vec![2.0; 2], 2));
    let diverged = Some(Diverged { round: 3, client: None, what: NotFinite::Update });
    assert_eq!(end.diverged, diverged);
    assert_eq!(RunInfo::load(&path.join("run.json")).unwrap().end.unwrap().diverged, diverged);
}
