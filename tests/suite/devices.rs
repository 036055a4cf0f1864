//! Devices: clients that come and go, and the time that they compute.

use std::path::Path;
use std::sync::Mutex;

use seccogc::Result;
use seccogc::cohort::CohortConfig;
use seccogc::config::Config;
use seccogc::learn::Device;
use seccogc::message::Reason;
use seccogc::record::{ClientRow, Outcome, Row};
use seccogc::train::{Crew, Run, Setting, State, Tested, Trained};

use crate::cohort::train;

const M: usize = 6;

/// Clients who compute two steps of five examples a round, by FedAvg over perfect links.
fn config(folder: &Path, sections: &str) -> Config {
    let text = format!(
        "clients = {M}\nrounds = 8\n[model]\nkind = \"softmax\"\n[privacy]\nmeasure = false\n\
         [solver]\nkind = \"sgd\"\nsteps = 2\nbatch_size = 5\n[protocol]\nkind = \"fedavg\"\n{sections}"
    );
    let path = folder.join("run.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path, &[]).unwrap()
}

/// The column `name` of a learner's own metrics or of the run.
fn column(row: &Row, name: &str) -> f64 {
    row.metrics.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("no {name}")).1
}

fn seconds(rows: &[(Row, Vec<ClientRow>)]) -> Vec<f64> {
    rows.iter().map(|(row, _)| row.seconds_simulated.unwrap()).collect()
}

/// Client k needs k/10 seconds for an example; all are there for a long time.
fn speeds(folder: &Path) -> &'static str {
    let line = |k: usize| format!("{k},0,1000000,{}\n", k as f64 / 10.0);
    let lines: String = (1..=M).map(line).collect();
    std::fs::write(folder.join("speeds.csv"), format!("client,from,to,seconds_per_example\n{lines}"))
        .unwrap();
    "[devices.compute]\nkind = \"trace\"\npath = \"speeds.csv\"\n"
}

#[test]
fn a_round_lasts_until_its_slowest_client_has_computed_and_sent() {
    let folder = tempfile::tempdir().unwrap();
    let speeds = speeds(folder.path());
    // Ten examples a client, 0.6 s each for client 6.
    let rows = train(&config(folder.path(), speeds));
    assert_eq!(seconds(&rows), [6.0; 8]);
    let links = "[network.client_server]\nkind = \"deadline\"\ndeadline = 100.0\njitter = 0.1\n";
    let (alone, both) =
        (train(&config(folder.path(), links)), train(&config(folder.path(), &(links.to_owned() + speeds))));
    for (alone, both) in seconds(&alone).iter().zip(seconds(&both)) {
        assert_eq!(6.0 + alone, both);
    }
    // The slowest of a sample.
    let rows = train(&config(folder.path(), &format!("[cohort]\nsample = 3\n{speeds}")));
    for (row, clients) in rows {
        let slowest = clients.iter().map(|client| client.client).max().unwrap();
        assert_eq!(row.seconds_simulated, Some(slowest as f64 / 10.0 * 10.0));
    }
}

#[test]
fn clients_come_and_go_by_the_clock_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let speeds = speeds(folder.path());
    // Clients 5 and 6 leave early, 1 comes late, and from 20 s to 50 s there are two.
    let text = "client,from,to\n1,6,20\n2,0,90\n3,0,90\n4,0,20\n4,50,90\n5,0,8\n6,0,3\n";
    std::fs::write(folder.path().join("there.csv"), text).unwrap();
    let there = "[devices]\nwait = 40.0\n[devices.availability]\nkind = \"trace\"\npath = \"there.csv\"\n";
    let rows = train(&config(folder.path(), &format!("{there}{speeds}")));
    let members = |i: usize| rows[i].1.iter().map(|client| client.client).collect::<Vec<_>>();
    // Client 6 leaves after 3 of its 6 seconds, and is waited for.
    assert_eq!((members(0), column(&rows[0].0, "wasted")), (vec![2, 3, 4, 5, 6], 1.0));
    assert_eq!((rows[0].0.outcome, rows[0].0.arrivals), (Outcome::Partial, 4));
    assert!(rows[0].1[4].train_loss.is_nan() && rows[0].1[3].train_loss.is_finite());
    // At 6 s client 1 is there; 5 leaves at 8 s and would have needed 5 s.
    assert_eq!((members(1), column(&rows[1].0, "wasted")), (vec![1, 2, 3, 4, 5], 1.0));
    // Who leaves at the moment in which it has computed has computed.
    assert_eq!((members(2), members(3)), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
    assert_eq!((rows[3].0.outcome, column(&rows[3].0, "wasted")), (Outcome::Recovered, 0.0));
    // At 19 s clients 1 and 4 leave in a second.
    assert_eq!((members(4), column(&rows[4].0, "wasted")), (vec![1, 2, 3, 4], 1.0));
    // At 23 s two are there, fewer than three: the server looks again after 40 s.
    assert_eq!((rows[5].0.outcome, rows[5].0.reason), (Outcome::Outage, Some(Reason::TooFew)));
    assert_eq!((rows[5].0.cohort, members(6)), (0, vec![2, 3, 4]));
    assert_eq!(seconds(&rows), [6.0, 5.0, 4.0, 4.0, 4.0, 40.0, 4.0, 4.0]);
}

#[test]
fn of_more_than_are_needed_the_fastest_stay() {
    let folder = tempfile::tempdir().unwrap();
    let speeds = speeds(folder.path());
    let rows = train(&config(folder.path(), &format!("[cohort]\nsample = 3\nover_select = 1.5\n{speeds}")));
    let drawn = Config {
        cohort: CohortConfig { sample: Some(5), ..Default::default() },
        ..config(folder.path(), speeds)
    };
    for ((row, clients), (_, drawn)) in rows.iter().zip(train(&drawn)) {
        // The same five clients are drawn, of whom the first three by their numbers are fastest.
        let numbers = |rows: &[ClientRow]| rows.iter().map(|client| client.client).collect::<Vec<_>>();
        assert_eq!(numbers(clients), numbers(&drawn)[..3]);
        assert_eq!((row.cohort, column(row, "wasted")), (3, 2.0));
        assert_eq!(row.seconds_simulated, Some(clients[2].client as f64 / 10.0 * 10.0));
    }
    // Client 1 leaves before it has computed, and another stays in its place.
    let text = "client,from,to\n1,0,0.5\n2,0,90\n3,0,90\n4,0,90\n5,0,90\n6,0,90\n";
    std::fs::write(folder.path().join("there.csv"), text).unwrap();
    let there = "[devices.availability]\nkind = \"trace\"\npath = \"there.csv\"\n";
    let all = format!("[cohort]\nsample = 4\nover_select = 1.5\n{there}{speeds}");
    let (row, clients) = &train(&config(folder.path(), &all))[0];
    assert_eq!(clients.iter().map(|client| client.client).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!((row.outcome, column(row, "wasted")), (Outcome::Recovered, 2.0));
}

/// A crew whose clients all learn the same, and who remembers from which models.
struct Ones(Mutex<Vec<Vec<f32>>>);

impl Crew for Ones {
    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        let from = members.iter().map(|&k| run.local_start(state, k)[0]).collect();
        self.0.lock().unwrap().push(from);
        let ones = |_| Trained::elsewhere(vec![1.0; state.server.parameters.len()], None, Vec::new());
        Ok(members.iter().map(ones).collect())
    }

    fn test(&self, _: &Run<'_>, _: u64, _: &[f32]) -> Result<Tested> {
        Ok(Tested::default())
    }
}

/// Six clients compute 1 to 6 seconds, all at the same time, and two make a round.
#[test]
fn buffers_are_filled_by_who_has_computed_next() {
    let folder = tempfile::tempdir().unwrap();
    let speeds = speeds(folder.path());
    let play = |max_staleness: u64| {
        let cohort = format!(
            "[cohort]\nleast = 1\n[cohort.buffered]\nsize = 2\nconcurrency = 6\nmax_staleness = {max_staleness}\n{speeds}"
        );
        let config = config(folder.path(), &cohort);
        let setting = Setting::build(&config, "cpu".parse::<Device>().unwrap()).unwrap();
        let crew = Ones(Mutex::default());
        let run = setting.run(&config.protocol).unwrap().with_crew(&crew);
        let mut state = run.start();
        let first = state.server.parameters[0];
        let mut rows = Vec::new();
        let models: Vec<f32> = (0..4)
            .map(|_| {
                rows.push(run.round(&mut state).unwrap());
                state.server.parameters[0] - first
            })
            .collect();
        let from =
            crew.0.lock().unwrap().iter().map(|from| from.iter().map(|x| x - first).collect()).collect();
        (rows, models, from)
    };
    let members = |rows: &[(Row, Vec<ClientRow>)]| {
        rows.iter()
            .map(|(_, clients)| clients.iter().map(|client| client.client).collect())
            .collect::<Vec<Vec<_>>>()
    };
    let columns = |rows: &[(Row, Vec<ClientRow>)], name: &str| {
        rows.iter().map(|(row, _)| column(row, name)).collect::<Vec<_>>()
    };
    let near =
        |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);

    let (rows, models, from): (_, Vec<f32>, Vec<Vec<f32>>) = play(20);
    // At 1 s and 2 s; then 1 and 3 have computed at 3 s, 1 and 2 at 4 s, as has 4, which waits for 1 at 5 s.
    assert_eq!(members(&rows), [[1, 2], [1, 3], [1, 2], [1, 4]]);
    assert_eq!(seconds(&rows), [2.0, 1.0, 1.0, 1.0]);
    assert_eq!(columns(&rows, "staleness"), [0.0, 0.5, 0.5, 1.5]);
    assert_eq!(columns(&rows, "wasted"), [0.0; 4]);
    // Clients have about as many examples: means of 1 and 1/√(1 + s), from the models of s rounds before.
    let half = |s: f32| (1.0 + (1.0 + s).sqrt().recip()) / 2.0;
    let steps = [1.0, half(1.0), half(1.0), half(3.0)];
    let want: Vec<f32> = (1..=4).map(|n| steps[..n].iter().sum()).collect();
    assert!(near(&models, &want), "{models:?}, {want:?}");
    let want = [[0.0, 0.0], [want[0], 0.0], [want[1], want[0]], [want[2], 0.0]];
    assert!(from.iter().zip(&want).all(|(from, want)| near(from, want)), "{from:?}");

    // What is a round old is lost: at 3 s the work of 3, at 4 s that of 4, at 5 s that of 5.
    let (rows, models, _) = play(0);
    assert_eq!(members(&rows)[..2], [[1, 2], [1, 2]]);
    assert_eq!(seconds(&rows)[..2], [2.0, 2.0]);
    assert_eq!(columns(&rows, "wasted")[..2], [0.0, 1.0]);
    assert_eq!(columns(&rows, "staleness"), [0.0; 4]);
    assert!(near(&models, &[1.0, 2.0, 3.0, 4.0]), "{models:?}");
}

/// Where all compute at the same time and equally long, nothing is stale.
#[test]
fn a_buffer_of_everybody_is_a_synchronous_round() {
    let folder = tempfile::tempdir().unwrap();
    let line = |k: usize| format!("{k},0,1000000,0.2\n");
    let lines: String = (1..=M).map(line).collect();
    std::fs::write(folder.path().join("same.csv"), format!("client,from,to,seconds_per_example\n{lines}"))
        .unwrap();
    let same = "[devices.compute]\nkind = \"trace\"\npath = \"same.csv\"\n";
    let buffered = format!("[cohort.buffered]\nsize = {M}\nconcurrency = {M}\n{same}");
    let play = |sections: &str| {
        let config = config(folder.path(), sections);
        let setting = Setting::build(&config, "cpu".parse::<Device>().unwrap()).unwrap();
        let run = setting.run(&config.protocol).unwrap();
        let mut state = run.start();
        (0..3).for_each(|_| drop(run.round(&mut state).unwrap()));
        (state.server.parameters, state.presence.seconds)
    };
    let (together, buffered) = (play(same), play(&buffered));
    assert_eq!(together, buffered);
    assert_eq!(together.1, 6.0);
}

/// What a cohort hides by its draw is lost where it is known who is there.
#[test]
fn nothing_is_amplified_where_it_is_known_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let release =
        "[privacy.release]\nnoise_multiplier = 2.0\nagainst = \"observer\"\nadjacency = \"replace-one\"\n";
    let epsilon = |more: &str| {
        let mut config = config(folder.path(), &format!("[cohort]\nsample = 3\n{release}{more}"));
        config.solver = toml::from_str("kind = \"sgd\"\nsteps = 2\nclip_norm = 1.0").unwrap();
        config.rounds = 1;
        column(&train(&config)[0].0, "epsilon_observer")
    };
    let there = "[devices.availability]\nkind = \"diurnal\"\nmean = 1.0\namplitude = 0.0\n[devices.compute]\nkind = \"pareto\"\n";
    let (drawn, known) = (epsilon(""), epsilon(there));
    assert!(drawn < 0.9 * known, "{drawn}, {known}");
    let fast = epsilon("[devices.compute]\nkind = \"pareto\"\n");
    assert_eq!(fast, drawn, "a draw hides who takes part, however long that computes");
}
