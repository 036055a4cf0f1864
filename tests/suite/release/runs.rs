//! `[privacy.release]` in whole runs: columns, budgets, rotations, cohorts that are drawn.

use seccogc::account::{Accountant, Adjacency, Sampling, Step};
use seccogc::config::Config;
use seccogc::train::Experiment;

use super::protocol;
use crate::relaying::refused_run;

fn config(more: &str) -> Config {
    let text = format!(
        "rounds = 6\n[partition]\nkind = 'iid'\n[model]\nkind = 'softmax'\n[solver]\nkind = 'sgd'\nclip_norm = 1.0\nsteps = 1\n\
         [network.client_client]\nerasure = 0.1\n[network.client_server]\nerasure = 0.4\n\
         [protocol]\nkind = 'sec-cogc'\nstragglers = 5\narithmetic = 'f64'\n{more}"
    );
    toml::from_str(&text).unwrap()
}

/// The columns of the running ε, round by round.
fn columns(config: Config) -> Vec<Vec<(String, f64)>> {
    let setting = Experiment::new(config).build().unwrap();
    let run = setting.run(&setting.config().protocol).unwrap();
    run.rounds().map(|row| row.unwrap().metrics).collect()
}

#[test]
fn a_run_shows_its_running_epsilon_and_ends_within_its_budget() {
    let rows = columns(config("[privacy.release]\nepsilon = 4.0"));
    assert_eq!(rows.len(), 6);
    let names: Vec<&str> = rows[0].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["epsilon_server", "epsilon_observer"]);
    let server: Vec<f64> = rows.iter().map(|row| row[0].1).collect();
    assert!(server.windows(2).all(|pair| pair[0] <= pair[1]), "{server:?}");
    let last = server.last().unwrap();
    assert!(*last <= 4.0 && *last > 0.0, "{server:?}");
    let short = columns(config("[privacy.release]\nepsilon = 4.0\nbudget = 2.5"));
    assert!(short.len() < 6 && !short.is_empty(), "{short:?}");
    assert_eq!(short[..], rows[..short.len()]);
    assert!(short.last().unwrap()[0].1 <= 2.5);
    let trusted = columns(config("[privacy.release]\nepsilon = 4.0\nby = 'server'\nagainst = 'observer'"));
    let names: Vec<&str> = trusted[0].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["epsilon_observer"]);
}

/// The loss of the last test.
fn loss(config: Config) -> f64 {
    let setting = Experiment::new(config).build().unwrap();
    let run = setting.run(&setting.config().protocol).unwrap();
    run.rounds().filter_map(|row| row.unwrap().test_loss).last().unwrap()
}

#[test]
fn a_rotation_is_turned_back() {
    let of = |protocol: &str, release: &str| {
        let mut config = config(release);
        config.protocol = super::protocol(protocol);
        config.network = toml::from_str("[client_server]\nerasure = 0.0").unwrap();
        loss(config)
    };
    let quiet = "[privacy.release]\nnoise_multiplier = 1e-4";
    for kind in ["field", "f64"] {
        let protocol = format!("kind = 'sec-cogc'\nstragglers = 2\narithmetic = '{kind}'");
        let silent = of(&protocol, "");
        let plain = of(&protocol, quiet);
        let turned = of(&protocol, &format!("{quiet}\nflatten = true"));
        let near = |loss: f64| (loss / silent - 1.0).abs() < 1e-2;
        assert!(near(plain) && near(turned) && plain != turned, "{kind}: {silent} {plain} {turned}");
    }
}

#[test]
fn cohorts_that_are_drawn_hide_who_takes_part_from_the_observer() {
    let of = |cohort: &str, release: &str| {
        let text = format!("[cohort]\n{cohort}\n[privacy.release]\nnoise_multiplier = 2.0\n{release}");
        let mut config = config(&text);
        config.clients = 20;
        config.protocol = protocol("kind = 'ideal'");
        columns(config)
    };
    let last = |rows: &[Vec<(String, f64)>]| (rows[5][0].1, rows[5][1].1);
    let whole = last(&of("", "adjacency = 'zero-out'"));
    let poisson = last(&of("rate = 0.3\nleast = 1", "adjacency = 'zero-out'"));
    assert!(poisson.1 < 0.7 * whole.1, "{poisson:?} {whole:?}");
    let fixed = last(&of("sample = 6", ""));
    let all = last(&of("", ""));
    assert!(fixed.1 < 0.9 * all.1, "{fixed:?} {all:?}");
    // Under zero-out a sample of fixed size has no bound of its own, and everybody pays for its own rounds.
    let fixed = of("sample = 6", "adjacency = 'zero-out'");
    assert!(last(&fixed).1 > poisson.1, "{fixed:?}");
}

#[test]
fn a_run_without_a_clip_or_in_a_deployment_has_no_such_noise() {
    let mut unclipped = config("[privacy.release]\nepsilon = 4.0");
    unclipped.solver = toml::from_str("kind = 'sgd'").unwrap();
    assert_eq!(
        refused_run(unclipped),
        "privacy.release: noise hides updates of a bounded norm only; set solver.clip_norm"
    );
    let mut remembered = config(
        "[participation]\nkind = 'mifa'\n[privacy.release]\nepsilon = 4.0\nby = 'server'\nagainst = 'observer'",
    );
    remembered.protocol = protocol("kind = 'fedavg'");
    assert_eq!(
        refused_run(remembered),
        "privacy.release.by: the server remembers single updates, which its noise in the mean does not cover; take \"clients\", or \
         participation.kind = \"none\""
    );
}

/// The accountant's number for the examples of the smallest of clients, whose rate is the largest.
#[test]
fn private_steps_show_what_they_tell_about_an_example() {
    let mut private = config("");
    private.solver = toml::from_str(
        "kind = 'sgd'\nsteps = 2\nbatch_size = 5\nprivate = { clip = 1.0, noise_multiplier = 1.5 }",
    )
    .unwrap();
    private.rounds = 3;
    let setting = Experiment::new(private.clone()).build().unwrap();
    let rate = 5.0 / *setting.counts().iter().min().unwrap() as f64;
    let rows = columns(private);
    for (round, row) in (1..).zip(&rows) {
        let step = Step::gaussian(1.5, Sampling::Poisson { rate }, Adjacency::AddOrRemove).unwrap();
        let mut accountant = Accountant::new(Adjacency::AddOrRemove);
        accountant.add(&step, 2 * round).unwrap();
        assert_eq!(row[0], ("epsilon_example".to_owned(), accountant.running(1e-5).unwrap()));
    }
    assert!(rows[0][0].1 < rows[2][0].1 && rows[2][0].1 < 1.0, "{rows:?}");
}
