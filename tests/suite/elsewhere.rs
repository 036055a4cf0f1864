//! Clients that another program trains: rounds by hand, own metrics, and what fails or is stopped leaves a
//! run that goes on.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::learn::{LocalUpdate, SolverConfig};
use seccogc::protocol::ProtocolConfig;
use seccogc::record::{Outcome, Row, read_rounds};
use seccogc::train::{Crew, Elsewhere, Experiment, Run, Setting, State, Tested, Trained};

const CLIENTS: usize = 4;

/// Client k moves every parameter half of the way to k, and tells how far away it was.
#[derive(Default)]
struct Halves {
    /// The round and client that fails, once.
    fails: Mutex<Option<(u64, u32)>>,
    /// Clients trained, in order.
    trained: Mutex<Vec<(u64, u32)>>,
}

impl Crew for Halves {
    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        let train = |&k: &u32| {
            run.unless_stopped()?;
            if self.fails.lock().unwrap().take_if(|at| *at == (state.round, k)).is_some() {
                return Err(Error::Own(format!("no batch for client {k}").into()));
            }
            self.trained.lock().unwrap().push((state.round, k));
            let mut model = run.local_start(state, k);
            let away = f64::from(model[0] - k as f32);
            model.iter_mut().for_each(|x| *x = f32::midpoint(*x, k as f32));
            let how = LocalUpdate { delta: Vec::new(), loss: away.powi(2), examples: 1, steps: 0 };
            let metrics = if k < 2 { vec![("away".into(), away)] } else { Vec::new() };
            Ok(Trained { sent: run.update(state, k, model), how, metrics })
        };
        members.iter().map(train).collect()
    }

    fn test(&self, _: &Run<'_>, round: u64, parameters: &[f32]) -> Result<Tested> {
        let metrics = vec![("first".into(), f64::from(parameters[0])), ("round".into(), round as f64)];
        let accuracies = (0..CLIENTS).map(|k| k as f64 / 4.0).collect();
        Ok(Tested { loss: None, accuracy: Some(0.5), metrics, accuracies })
    }
}

fn config() -> Config {
    let protocol: ProtocolConfig = toml::from_str("kind = 'sec-cogc'\nstragglers = 1").unwrap();
    let evaluation = toml::from_str("every = 1").unwrap();
    Config { clients: CLIENTS, rounds: 6, protocol, evaluation, ..Config::default() }
}

/// Three parameters, starting at 8; clients of 1, 1, 1 and 5 examples.
fn elsewhere() -> Elsewhere {
    let layers = vec![("w".into(), vec![2]), ("b".into(), vec![])];
    Elsewhere { layers, start: vec![8.0; 3], examples: vec![1, 1, 1, 5] }
}

fn setting(config: &Config) -> Setting {
    Experiment::new(config.clone()).elsewhere(elsewhere()).build().unwrap()
}

/// What a run leaves, times aside.
fn tables(folder: &Path) -> (Vec<Row>, String) {
    let timeless = |row| Row { seconds_local: 0.0, seconds_coding: 0.0, seconds_evaluation: 0.0, ..row };
    let rows = read_rounds(&folder.join("rounds.csv")).unwrap().into_iter().map(timeless).collect();
    (rows, std::fs::read_to_string(folder.join("clients.csv")).unwrap())
}

#[test]
fn two_rounds_by_hand() {
    let setting = setting(&config());
    let crew = Halves::default();
    let run = setting.run(&setting.config().protocol).unwrap().with_crew(&crew);
    let mut state = run.start();
    let (row, clients) = run.round(&mut state).unwrap();
    // The mean target is (0 + 1 + 2 + 5·3)/8 = 2.25; half of the way from 8.
    assert_eq!(state.server.parameters, [5.125; 3]);
    assert_eq!((row.outcome, row.test_accuracy, row.test_loss), (Outcome::Recovered, Some(0.5), None));
    // Distances 8 and 7 of clients of one example each, squares over all four clients.
    assert_eq!(row.train_loss, (64.0 + 49.0 + 36.0 + 25.0) / 4.0);
    let named = |name: &str| row.metrics.iter().find(|(own, _)| own == name).unwrap().1;
    assert_eq!((named("train_away"), named("test_first"), named("test_round")), (7.5, 5.125, 1.0));
    assert_eq!((row.client_accuracy_worst, row.client_accuracy_best), (Some(0.0), Some(0.75)));
    assert_eq!(clients.iter().map(|client| client.examples).collect::<Vec<_>>(), [1, 1, 1, 5]);
    assert_eq!(clients[3].update_norm, (3.0f64 * 2.5 * 2.5).sqrt());
    run.round(&mut state).unwrap();
    assert_eq!(state.server.parameters, [3.6875; 3]);
}

#[test]
fn what_is_sent_is_clipped_and_learning_rates_follow_the_schedule() {
    let solver: SolverConfig = toml::from_str("clip_norm = 0.5\nlearning_rate = 0.25").unwrap();
    let schedule = toml::from_str("decay = { kind = 'exponential', factor = 0.5 }").unwrap();
    let setting = setting(&Config { solver, schedule, ..config() });
    let crew = Halves::default();
    let run = setting.run(&setting.config().protocol).unwrap().with_crew(&crew);
    let mut state = run.start();
    let (_, clients) = run.round(&mut state).unwrap();
    assert!(clients.iter().all(|client| client.update_norm <= 0.5 && client.update_norm > 0.4999));
    let turn = run.turn(3, 0);
    assert_eq!(turn.rate, 0.25 * turn.factor);
    assert_ne!(run.turn(1, 0).seed, run.turn(1, 1).seed);
    assert_ne!(run.turn(1, 0).seed, run.turn(2, 0).seed);
}

#[test]
fn a_client_that_fails_or_is_stopped_leaves_a_run_that_goes_on_as_if_nothing_had_been() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { record: toml::from_str("checkpoint_every = 4").unwrap(), ..config() };
    let setting = setting(&config);
    let play = |name: &str, crew: &Halves, stop: &AtomicBool, stops_after: u64| {
        let path = folder.path().join(name);
        let run = setting.run(&setting.config().protocol).unwrap().with_crew(crew).with_stop(stop);
        let (state, mut directory) = run.go_on(&path).unwrap();
        let played = AtomicU64::new(0);
        run.record(state, &mut directory, &mut |row| {
            played.store(row.round, Ordering::Relaxed);
            stop.store(row.round == stops_after, Ordering::Relaxed);
            if row.round == 5 && stops_after == 100 { Err(Error::Own("enough".into())) } else { Ok(()) }
        })
        .map(|_| played.into_inner())
    };
    let (never, crew) = (AtomicBool::new(false), Halves::default());
    assert_eq!(play("whole", &crew, &never, 0).unwrap(), 6);
    let whole = tables(&folder.path().join("whole"));

    let failing = Halves { fails: Mutex::new(Some((3, 2))), ..Halves::default() };
    let error = play("broken", &failing, &never, 0).unwrap_err();
    assert_eq!(error.to_string(), "no batch for client 2");
    assert_eq!(tables(&folder.path().join("broken")).0.len(), 2);
    assert_eq!(play("broken", &failing, &never, 0).unwrap(), 6);
    assert_eq!(tables(&folder.path().join("broken")), whole);
    // Rounds 1 and 2 were not played again, round 3 was.
    let again = |at| failing.trained.lock().unwrap().iter().filter(|own| **own == at).count();
    assert_eq!((again((2, 0)), again((3, 0)), again((3, 3))), (1, 2, 1));

    let stopped = Halves::default();
    assert!(matches!(play("stopped", &stopped, &never, 3), Err(Error::Stopped)));
    assert_eq!(stopped.trained.lock().unwrap().len(), 3 * CLIENTS);
    assert_eq!(play("stopped", &stopped, &AtomicBool::new(false), 0).unwrap(), 6);
    assert_eq!(tables(&folder.path().join("stopped")), whole);

    let watched = Halves::default();
    let never = AtomicBool::new(false);
    assert_eq!(play("watched", &watched, &never, 100).unwrap_err().to_string(), "enough");
    assert_eq!(play("watched", &watched, &never, 0).unwrap(), 6);
    assert_eq!(watched.trained.lock().unwrap().len(), 6 * CLIENTS);
    assert_eq!(tables(&folder.path().join("watched")), whole);
}

#[test]
fn the_program_says_what_another_one_cannot_bring() {
    let line = |config: Config, own: Elsewhere| {
        let built = Experiment::new(config).elsewhere(own).build();
        built.err().unwrap().to_string()
    };
    let fednova = Config { solver: toml::from_str("kind = 'fednova'").unwrap(), ..config() };
    assert_eq!(
        line(fednova, elsewhere()),
        "solver.kind: fednova makes steps that another program makes here; take sgd, of which learning_rate and clip_norm hold"
    );
    let cases = [
        (
            Elsewhere { start: vec![0.0; 2], ..elsewhere() },
            "model: layers of other sizes than the 2 parameters given",
        ),
        (
            Elsewhere { start: vec![0.0, f32::NAN, 0.0], ..elsewhere() },
            "model: parameter 1 is not a finite number before the first round",
        ),
        (
            Elsewhere { examples: vec![1; 3], ..elsewhere() },
            "clients: 4, but the learner has 3 clients; make them equal",
        ),
        (
            Elsewhere { examples: vec![1, 0, 1, 1], ..elsewhere() },
            "partition: client 2 has no example; give each at least one",
        ),
    ];
    for (own, want) in cases {
        assert_eq!(line(config(), own), want);
    }
    let secure: ProtocolConfig = toml::from_str("kind = 'secure-gc'\nresponders = 3").unwrap();
    assert_eq!(
        setting(&config()).run(&secure).err().unwrap().to_string(),
        "protocol.kind: secure-gc replicates the clients' examples, which are with another program here; take another protocol"
    );
    let setting = setting(&config());
    let alone = setting.run(&setting.config().protocol).unwrap();
    assert_eq!(
        alone.rounds().next().unwrap().unwrap_err().to_string(),
        "the clients of this run are trained by another program; give it that program's crew"
    );
}

#[test]
fn a_run_of_another_program_is_that_programs_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let setting = setting(&config());
    let crew = Halves::default();
    let run = setting.run(&setting.config().protocol).unwrap().with_crew(&crew);
    let (state, mut directory) = run.create(&path).unwrap();
    run.record(state, &mut directory, &mut |_| Ok(())).unwrap();
    drop(directory);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_seccogc"))
        .args(["train", "--resume", path.to_str().unwrap(), "--quiet"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("the run has parts of its own program (data, partition, model, solver)"), "{line}");
    // A table with own columns is drawn like any other.
    let plot = std::process::Command::new(env!("CARGO_BIN_EXE_seccogc"))
        .args(["plot", path.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(plot.status.code(), Some(0), "{}", String::from_utf8_lossy(&plot.stderr));
}
