//! A run that meets what is not finite ends with one line and exit code 3, or goes on without the client;
//! nothing of it enters a sum.

mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use seccogc::config::{Config, Contender};
use seccogc::data::{Augmentation, Dataset, Examples, Normalisation, Response};
use seccogc::error::Error;
use seccogc::error::{Diverged, NotFinite};
use seccogc::learn::{Evaluation, Learner, LocalUpdate, Task};
use seccogc::network::Perfect;
use seccogc::protocol::{Decoded, ProtocolConfig, Reason, Update};
use seccogc::record::{ClientRow, Outcome, Row, RunInfo, read_rows};
use seccogc::seed::Seed;
use seccogc::train::{Setting, State};

fn seccogc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seccogc")).args(args).output().unwrap()
}

struct Folder(tempfile::TempDir);

/// An MLP that explodes in its first round, in rounds of three steps.
const EXPLODING: [&str; 4] = ["model.kind=mlp", "solver.learning_rate=1e20", "solver.steps=3", "rounds=6"];

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `configs/mnist.toml` trained into the folder `out` with these settings.
    fn train(&self, out: &str, sets: &[&str]) -> Output {
        let out = self.path(out);
        let mut args = vec!["train", "configs/mnist.toml", "--quiet", "--out", out.to_str().unwrap()];
        sets.iter().for_each(|set| args.extend(["--set", set]));
        seccogc(&args)
    }

    /// [`Folder::train`] that must diverge: its one line, without the part that names the folder.
    fn diverges(&self, out: &str, sets: &[&str]) -> String {
        let output = self.train(out, sets);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{sets:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{sets:?}: {line}");
        let run = self.path(out).display().to_string();
        let (line, again) = line.trim_end().split_once(&format!(" in {run}/config.toml, then ")).unwrap();
        let rounds = self.rows(out).len();
        assert_eq!(again, format!("`seccogc train --resume {run}` goes on after round {rounds}"));
        line.to_owned()
    }

    fn rows(&self, out: &str) -> Vec<Row> {
        read_rows(&self.path(out).join("rounds.csv")).unwrap()
    }

    fn resume(&self, out: &str) -> Output {
        seccogc(&["train", "--resume", self.path(out).to_str().unwrap(), "--quiet"])
    }

    /// Replaces a line of the run's configuration.
    fn edit(&self, out: &str, from: &str, to: &str) {
        let path = self.path(out).join("config.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }
}

/// A table without its timings.
fn untimed(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        cells[..cells.len() - 3].join(",")
    };
    text.lines().map(line).collect()
}

#[test]
fn every_protocol_solver_and_optimiser_ends_in_one_line() {
    let folder = Folder::new();
    let of_all = "error: diverged in round 1: the training loss of several clients is not finite; \
                  lower solver.learning_rate or set solver.clip_norm";
    let cases: [&[&str]; 16] = [
        &["protocol.kind=ideal"],
        &["protocol.kind=fedavg"],
        &["protocol.arithmetic=f64"],
        &["protocol.arithmetic=field", "protocol.code=cyclic-random"],
        &["protocol.kind=sec-agg"],
        &["protocol.kind=gaussian", "participation.kind=mifa"],
        &["protocol.kind=secure-gc", "solver.steps=3"],
        &["solver.clip_norm=1.0"],
        &["solver.kind=adam", "solver.learning_rate=1e20", "protocol.kind=ideal"],
        &["solver.kind=fedprox", "solver.learning_rate=1e20"],
        &["solver.kind=scaffold", "solver.learning_rate=1e20"],
        &["solver.kind=fednova", "solver.learning_rate=1e20"],
        &["solver.kind=feddyn", "solver.learning_rate=1e20"],
        &["server.kind=fedavgm"],
        &["server.kind=fedadagrad"],
        &["server.kind=fedadam", "outage.policy=accumulate"],
    ];
    for (i, more) in cases.iter().enumerate() {
        let out = i.to_string();
        let line = folder.diverges(&out, &[&EXPLODING[..], more, &["solver.steps=3"]].concat());
        assert_eq!(line, of_all, "{more:?}");
        let end = RunInfo::load(&folder.path(&out).join("run.json")).unwrap().end.unwrap();
        assert_eq!((end.rounds, end.diverged.unwrap().round), (0, 1), "{more:?}");
    }
    let svg = fs::read_to_string(folder.path("0/accuracy.svg")).unwrap();
    assert!(svg.contains("diverged in round 1"));
}

/// A softmax model whose weights grow by about 10⁷ in every round.
const GROWING: [&str; 8] = [
    "model.kind=softmax",
    "protocol.kind=ideal",
    "solver.weight_decay=1",
    "solver.learning_rate=1e7",
    "solver.steps=1",
    "rounds=12",
    "evaluation.every=1",
    "record.tensorboard=true",
];

#[test]
fn a_run_goes_on_from_the_last_good_round_with_another_rate() {
    let folder = Folder::new();
    let line = folder.diverges("run", &GROWING);
    assert!(
        line.starts_with("error: diverged in round 6: the update of several clients is not finite; "),
        "{line}"
    );
    let svg = fs::read_to_string(folder.path("run/accuracy.svg")).unwrap();
    assert!(svg.contains("diverged in round 6"));
    let events = || fs::read(folder.path("run").join(seccogc::record::tensorboard::FILE)).unwrap();
    let marked = || events().windows(14).any(|tag| tag == b"round/diverged");
    let info = || RunInfo::load(&folder.path("run/run.json")).unwrap();
    assert!(marked());
    let before = untimed(&folder.path("run/rounds.csv"));
    assert_eq!(before.len(), 1 + 5);
    // As it is, it diverges again, and nothing has changed.
    let again = folder.resume("run");
    assert_eq!(again.status.code(), Some(3));
    assert_eq!(untimed(&folder.path("run/rounds.csv")), before);

    folder.edit("run", "learning_rate = 10000000.0\nmomentum", "learning_rate = 0.5\nmomentum");
    assert!(folder.resume("run").status.success());
    let rows = folder.rows("run");
    assert_eq!(rows.iter().map(|row| row.round).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    assert_eq!(untimed(&folder.path("run/rounds.csv"))[..6], before);
    assert!(rows.iter().all(|row| row.train_loss.is_finite() && row.test_loss.unwrap().is_finite()));
    assert!(rows[11].test_loss < rows[4].test_loss, "{rows:?}");
    let clients: Vec<ClientRow> = read_rows(&folder.path("run/clients.csv")).unwrap();
    assert_eq!(clients.len(), 12 * 10);
    let end = info().end.unwrap();
    assert_eq!((end.rounds, end.diverged), (12, None));
    let svg = fs::read_to_string(folder.path("run/accuracy.svg")).unwrap();
    assert!(!marked() && !svg.contains("diverged"));
}

#[test]
fn a_run_that_diverged_at_once_becomes_that_of_the_other_rate() {
    let folder = Folder::new();
    folder.diverges("run", &EXPLODING);
    folder.edit("run", "learning_rate = 100000000000000000000.0\nmomentum", "learning_rate = 0.05\nmomentum");
    assert!(folder.resume("run").status.success());
    let gentle = [&EXPLODING[..], &["solver.learning_rate=0.05"]].concat();
    assert!(folder.train("gentle", &gentle).status.success());
    assert_eq!(untimed(&folder.path("run/rounds.csv")), untimed(&folder.path("gentle/rounds.csv")));
}

/// The client with the one example of class c moves every weight by (c + 1)/4; some of them bring what is not
/// finite.
struct Odd(&'static [(u16, f64, f32)]);

const CLIENTS: u8 = 6;

/// The place of the client that has class 2, as classes are dealt with seed 1.
const AT: usize = 4;

impl Learner for Odd {
    fn parameters(&self) -> usize {
        5
    }

    fn layers(&self) -> Vec<(String, Vec<usize>)> {
        vec![("weights".into(), vec![5])]
    }

    fn init(&self, _: Seed) -> Vec<f32> {
        vec![0.0; 5]
    }

    fn solve(&self, _: &Task<'_>, data: &Examples, shard: &[usize], _: Seed) -> LocalUpdate {
        let own = data.labels()[shard[0]];
        let mut delta = vec![f32::from(own + 1) / 4.0; 5];
        let mut loss = 1.0;
        for &(client, bad_loss, bad_weight) in self.0.iter().filter(|(client, ..)| *client == own) {
            assert_eq!(client, own);
            (loss, delta[3]) = (bad_loss, bad_weight);
        }
        LocalUpdate { delta, loss, examples: 1, steps: 1 }
    }

    fn logits(&self, _: &[f32], _: &Examples) -> Vec<f32> {
        unreachable!("nobody asks")
    }

    fn evaluate(&self, _: &[f32], data: &Examples) -> Evaluation {
        Evaluation { loss: 1.0, accuracy: Some(0.5), metrics: Vec::new(), examples: data.len() }
    }
}

const NAN_LOSS: &[(u16, f64, f32)] = &[(2, f64::NAN, 0.0)];
const INFINITE_UPDATE: &[(u16, f64, f32)] = &[(2, 1.0, f32::INFINITY)];

fn setting(odd: &'static [(u16, f64, f32)], toml: &str) -> Setting {
    let perfect = "{ kind = \"bernoulli\", erasure = 0.0 }";
    let common = format!(
        "clients = {CLIENTS}\nrounds = 6\npartition = {{ kind = \"classes-per-client\" }}\n\
         network = {{ client_client = {perfect}, client_server = {perfect} }}\n"
    );
    let config: Config = toml::from_str(&format!("{common}{toml}")).unwrap();
    let examples =
        || Examples::new(vec![0; CLIENTS.into()], (0..CLIENTS.into()).collect(), [1, 1, 1]).unwrap();
    let dataset = Dataset {
        name: "odd",
        response: Response::Class,
        classes: CLIENTS.into(),
        scale: Normalisation::identity(CLIENTS.into()),
        class_names: (0..CLIENTS).map(|class| class.to_string()).collect(),
        train: examples(),
        test: examples(),
        normalisation: Normalisation { mean: vec![0.0], std: vec![1.0] },
        augmentation: Augmentation::default(),
        users: None,
    };
    Setting::of(&config, dataset, Box::new(Odd(odd))).unwrap()
}

const EXCLUDE: &str = "outage.diverged = \"exclude\"\n";

/// The rounds of a run, its last state, and how it diverged.
type Run = (Vec<(Row, Vec<ClientRow>)>, State, Option<Diverged>);

/// Plays until a round diverges.
fn play(setting: &Setting, protocol: &str) -> Run {
    play_with(setting, protocol, "none")
}

/// One of `[[compare]]` with a rule of participation.
fn contender(protocol: &str, rule: &str) -> Contender {
    let participation = Some(toml::from_str(&format!("kind = \"{rule}\"")).unwrap());
    Contender { name: rule.into(), protocol: toml::from_str(protocol).unwrap(), participation }
}

fn play_with(setting: &Setting, protocol: &str, rule: &str) -> Run {
    let run = setting.contender(&contender(protocol, rule)).unwrap();
    let (mut state, mut rows) = (run.start(), Vec::new());
    while state.round < 6 {
        match run.round(&mut state) {
            Ok(played) => rows.push(played),
            Err(Error::Diverged { diverged, .. }) => return (rows, state, Some(diverged)),
            Err(error) => panic!("{error}"),
        }
    }
    (rows, state, None)
}

#[test]
fn the_client_at_fault_is_named_and_the_state_is_that_before_the_round() {
    for (odd, what) in [(NAN_LOSS, NotFinite::TrainingLoss), (INFINITE_UPDATE, NotFinite::Update)] {
        let setting = setting(odd, "");
        let (rows, state, diverged) = play_with(&setting, "kind = \"fedavg\"", "mifa");
        assert_eq!(diverged, Some(Diverged { round: 1, client: Some(AT + 1), what }));
        assert!(rows.is_empty());
        let run = setting.contender(&contender("kind = \"fedavg\"", "mifa")).unwrap();
        assert_eq!(state, run.start());
    }
}

#[test]
fn an_excluded_client_sends_nothing_and_the_others_go_on() {
    // What clients send on their own is averaged without class 2: the mean of 1, 2, 4, 5, 6 quarters.
    let mean = (1.0 + 2.0 + 4.0 + 5.0 + 6.0) / 5.0 / 4.0;
    let field = "kind = \"fedavg\"\narithmetic = \"field\"\nquantisation = { clip = 2.0 }";
    for (protocol, rule, last) in [
        ("kind = \"ideal\"", "none", 6.0 * mean),
        ("kind = \"fedavg\"", "none", 6.0 * mean),
        (field, "none", 6.0 * mean),
        ("kind = \"sec-agg\"\nquantisation = { clip = 2.0 }", "none", 6.0 * mean),
        // Its memory of that client stays zero.
        ("kind = \"fedavg\"", "mifa", 6.0 * mean * 5.0 / 6.0),
        ("kind = \"ideal\"", "mifa", 6.0 * mean * 5.0 / 6.0),
        (field, "mifa", 6.0 * mean * 5.0 / 6.0),
        ("kind = \"fedavg\"", "fedau", 6.0 * mean * 5.0 / 6.0),
        // (x_k − y_k) over the five, and y_k over the six.
        ("kind = \"fedavg\"", "fedvarp", mean + 5.0 * mean * 5.0 / 6.0),
    ] {
        for odd in [NAN_LOSS, INFINITE_UPDATE] {
            let (rows, state, diverged) = play_with(&setting(odd, EXCLUDE), protocol, rule);
            assert_eq!((rows.len(), diverged), (6, None), "{protocol}");
            for (row, clients) in &rows {
                assert_eq!((row.outcome, row.diverged, row.cohort), (Outcome::Partial, 1, 6), "{protocol}");
                assert_eq!(row.train_loss, 1.0, "{protocol}");
                assert!(clients[AT].update_norm.is_nan() && clients[3].update_norm.is_finite());
                assert_eq!(
                    clients[AT].leakage_server,
                    Some(0.0),
                    "{protocol}: who sends nothing leaks nothing"
                );
            }
            let off =
                state.server.parameters.iter().map(|x| (f64::from(*x) - last).abs()).fold(0.0, f64::max);
            assert!(off < 1e-5, "{protocol}: {:?} for {last}", state.server.parameters);
        }
    }
}

/// What the library logs, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_silent_client_is_named_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        let (rows, ..) = play(&setting(NAN_LOSS, EXCLUDE), "kind = \"fedavg\"");
        assert_eq!(rows.len(), 6);
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = format!(
        "diverged in round 1: the training loss of client {} is not finite; it is silent in such rounds, which \
         rounds.csv counts; lower solver.learning_rate or set solver.clip_norm",
        AT + 1
    );
    assert_eq!((text.lines().count(), text.matches(&line).count()), (1, 1), "{text}");
}

#[test]
fn a_silent_client_costs_no_bytes_and_no_control_vector_moves_for_it() {
    let fedavg = "kind = \"fedavg\"";
    let bytes = |odd| play(&setting(odd, EXCLUDE), fedavg).0[0].0.bytes_client_server;
    assert_eq!(6 * bytes(NAN_LOSS), 5 * bytes(&[]));
    for solver in ["scaffold", "feddyn"] {
        let with = setting(NAN_LOSS, &format!("{EXCLUDE}solver = {{ kind = \"{solver}\" }}\n"));
        let (rows, state, diverged) = play(&with, fedavg);
        assert_eq!((rows.len(), diverged), (6, None));
        assert!(state.clients.controls[AT].iter().all(|x| *x == 0.0), "{solver}");
        assert!(state.clients.controls[3].iter().all(|x| x.is_finite() && *x != 0.0), "{solver}");
        assert!(state.server.is_finite(), "{solver}");
    }
}

#[test]
fn coded_schemes_see_an_excluded_client_as_silence() {
    let coded = "kind = \"sec-cogc\"\nstragglers = 2\ncode = \"cyclic-random\"\n";
    for more in ["", "arithmetic = \"field\"\nquantisation = { clip = 2.0 }"] {
        let protocol = format!("{coded}{more}");
        let (rows, state, _) = play(&setting(INFINITE_UPDATE, EXCLUDE), &protocol);
        assert!(rows.iter().all(|(row, _)| row.outcome == Outcome::Outage && row.diverged == 1), "{more}");
        assert_eq!(state.server.parameters, [0.0; 5]);
        // Left out after one silent round, heard again while it is out, back and silent again.
        let elastic = format!("{EXCLUDE}cohort.drop_after = 1\n");
        let (rows, state, _) = play(&setting(INFINITE_UPDATE, &elastic), &protocol);
        let seen: Vec<_> = rows.iter().map(|(row, _)| (row.cohort, row.diverged, row.outcome)).collect();
        let pair = [(6, 1, Outcome::Outage), (5, 0, Outcome::Recovered)];
        assert_eq!(seen, pair.repeat(3), "{more}");
        assert!(
            (state.server.parameters[0] - 3.0 * 18.0 / 20.0).abs() < 1e-5,
            "{:?}",
            state.server.parameters
        );
    }
}

#[test]
fn nobody_left_is_the_end_in_spite_of_exclusion() {
    const ALL: &[(u16, f64, f32)] = &[
        (0, f64::NAN, 0.0),
        (1, f64::NAN, 0.0),
        (2, f64::NAN, 0.0),
        (3, f64::NAN, 0.0),
        (4, f64::NAN, 0.0),
        (5, f64::NAN, 0.0),
    ];
    let (rows, _, diverged) = play(&setting(ALL, EXCLUDE), "kind = \"fedavg\"");
    assert_eq!(diverged, Some(Diverged { round: 1, client: None, what: NotFinite::TrainingLoss }));
    assert!(rows.is_empty());
    // Every update is finite, and the step overflows.
    let steep = format!("{EXCLUDE}server = {{ kind = \"fedavg\", learning_rate = 1e39 }}\n");
    let (_, state, diverged) = play(&setting(&[], &steep), "kind = \"ideal\"");
    assert_eq!(diverged, Some(Diverged { round: 1, client: None, what: NotFinite::Model }));
    assert_eq!((state.round, state.server.parameters), (0, vec![0.0; 5]));
    // v = Δ² overflows to infinity, by which an adaptive server would divide from then on.
    const LARGE: &[(u16, f64, f32)] = &[(0, 1.0, 1e25)];
    let adaptive = "server = { kind = \"fedadagrad\" }\n";
    let (_, _, diverged) = play(&setting(LARGE, adaptive), "kind = \"ideal\"");
    assert_eq!(diverged, Some(Diverged { round: 1, client: None, what: NotFinite::Model }));
}

#[test]
fn no_scheme_makes_a_finite_sum_of_what_is_not_finite() {
    let clients = 4;
    for protocol in [
        "kind = \"ideal\"",
        "kind = \"fedavg\"\narithmetic = \"field\"",
        "kind = \"sec-cogc\"\nstragglers = 1",
        "kind = \"sec-cogc\"\nstragglers = 1\narithmetic = \"field\"",
        "kind = \"sec-agg\"",
        "kind = \"light-sec-agg\"\nsurvivors = 3\ncolluders = 1",
        "kind = \"hierarchical\"",
        "kind = \"secure-gc\"\nresponders = 3",
    ] {
        let config: ProtocolConfig = toml::from_str(protocol).unwrap();
        let scheme = config.build(clients, Seed::new(1)).unwrap();
        let decoded = |bad: f32| {
            let update =
                |k| Update { weight: 1.0, delta: Arc::new(vec![0.25, if k == 1 { bad } else { 0.5 }]) };
            let updates: Vec<Update> = (0..clients).map(update).collect();
            scheme.aggregate(1, &updates, &Perfect, 3).unwrap().decoded
        };
        assert!(decoded(0.5).is_sum(), "{protocol}");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(decoded(bad), Decoded::Outage(Reason::Precision), "{protocol}");
        }
    }
}
