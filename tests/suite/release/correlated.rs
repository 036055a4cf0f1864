//! `[privacy.release] bands` in whole runs: a trusted server's noise that takes itself back.

use seccogc::config::Config;
use seccogc::record::Row;
use seccogc::train::Experiment;

use super::played_to;
use crate::relaying::refused_run;

const SERVER: &str = "by = 'server'\nagainst = 'observer'\nadjacency = 'zero-out'";

/// Four of twelve clients in each of twelve rounds.
fn config(rate: &str, release: &str) -> Config {
    let text = format!(
        "rounds = 12\nclients = 12\n[cohort]\nsample = 4\n[partition]\nkind = 'iid'\n[model]\nkind = 'softmax'\n\
         [solver]\nkind = 'sgd'\nclip_norm = 1.0\nsteps = 1\nlearning_rate = {rate}\n[evaluation]\nevery = 12\n\
         [privacy]\nmeasure = false\n[protocol]\nkind = 'ideal'\n[privacy.release]\n{release}"
    );
    toml::from_str(&text).unwrap()
}

/// The running ε of every round.
fn epsilons(rows: &[Row]) -> Vec<f64> {
    let of = |row: &Row| row.metrics.iter().find(|(name, _)| name == "epsilon_observer").unwrap().1;
    rows.iter().map(of).collect()
}

fn played(config: Config) -> Vec<Row> {
    let setting = Experiment::new(config).build().unwrap();
    let run = setting.run(&setting.config().protocol).unwrap();
    run.rounds().collect::<Result<_, _>>().unwrap()
}

/// Clients who move nothing leave the noise alone: of d = 7850 coordinates, 7850^(−½) = 0.011 is the standard
/// error of a correlation. Three bands are r = (1, −½, −⅛): variances 1 and 1 + ¼ and 1 + ¼ + 1/64, products
/// of neighbours −½ and −½ + 1/16, of the next but one −⅛, and 0 beyond.
#[test]
fn a_round_takes_back_what_the_rounds_before_added() {
    let setting = Experiment::new(config("1e-30", &format!("noise_multiplier = 2.0\nbands = 3\n{SERVER}")));
    let setting = setting.build().unwrap();
    let run = setting.run(&setting.config().protocol).unwrap();
    let mut state = run.start();
    let mut noises: Vec<Vec<f64>> = Vec::new();
    for _ in 0..6 {
        let before = state.server.parameters.clone();
        run.round(&mut state).unwrap();
        let moved = state.server.parameters.iter().zip(&before).map(|(x, y)| f64::from(x - y));
        noises.push(moved.collect());
    }
    let product = |a: usize, b: usize| -> f64 {
        noises[a].iter().zip(&noises[b]).map(|(x, y)| x * y).sum::<f64>() / noises[0].len() as f64
    };
    let unit = product(0, 0);
    for (a, b, want) in [
        (1, 1, 1.25),
        (2, 2, 1.25 + 1.0 / 64.0),
        (5, 5, 1.25 + 1.0 / 64.0),
        (0, 1, -0.5),
        (1, 2, -0.5 + 1.0 / 16.0),
        (4, 5, -0.5 + 1.0 / 16.0),
        (1, 3, -0.125),
        (0, 3, 0.0),
        (2, 5, 0.0),
    ] {
        let got = product(a, b) / unit;
        assert!((got - want).abs() < 0.1, "rounds {a} and {b}: {got} is not {want}");
    }
}

#[test]
fn a_target_is_met_by_the_turns_of_the_clients() {
    for bands in [1, 4, 12] {
        let config = config("0.1", &format!("epsilon = 3.0\nbands = {bands}\n{SERVER}"));
        let epsilons = epsilons(&played(config));
        assert!(epsilons.windows(2).all(|pair| pair[0] <= pair[1]), "{epsilons:?}");
        let last = *epsilons.last().unwrap();
        assert!(last <= 3.0 && last > 2.98, "{bands}: {last}");
        if bands > 1 {
            // A client pays for its turns in later rounds, too.
            assert!(epsilons.windows(2).all(|pair| pair[0] < pair[1]), "{epsilons:?}");
        }
    }
    // One band is noise as it always was.
    let plain = played(config("0.1", &format!("epsilon = 3.0\n{SERVER}")));
    let one = played(config("0.1", &format!("epsilon = 3.0\nbands = 1\n{SERVER}")));
    let loss = |rows: &[Row]| rows.last().unwrap().test_loss.unwrap();
    assert!((loss(&plain) - loss(&one)).abs() < 1e-3 * loss(&plain), "{} {}", loss(&plain), loss(&one));
    assert!((epsilons(&plain)[11] - epsilons(&one)[11]).abs() < 1e-3);
}

#[test]
fn a_budget_ends_a_run_before_it_is_exceeded() {
    let release = format!("epsilon = 3.0\nbands = 4\nbudget = 2.0\n{SERVER}");
    let epsilons = epsilons(&played(config("0.1", &release)));
    assert!(epsilons.len() < 12 && *epsilons.last().unwrap() <= 2.0, "{epsilons:?}");
}

#[test]
fn a_run_that_goes_on_takes_the_same_noise_back() {
    let folder = tempfile::tempdir().unwrap();
    let whole = config("0.1", &format!("noise_multiplier = 0.5\nbands = 4\n{SERVER}"));
    let rounds = |cuts: &[u64], name: &str| {
        let path = folder.path().join(name);
        cuts.iter().for_each(|&rounds| drop(played_to(rounds, &whole, &path)));
        played_to(8, &whole, &path)
    };
    let ((once, rows), (again, others)) = (rounds(&[], "once"), rounds(&[2, 5], "again"));
    assert_eq!(once, again);
    assert_eq!(epsilons(&rows), epsilons(&others));
}

#[test]
fn what_bands_do_not_go_with_is_refused() {
    assert_eq!(
        refused_run(config("0.1", "epsilon = 3.0\nbands = 4")),
        "privacy.release.bands: clients cannot take back what others added in earlier rounds; take by = \"server\" or remove it"
    );
    assert_eq!(
        refused_run(config("0.1", &format!("epsilon = 3.0\nbands = 0\n{SERVER}"))),
        "privacy.release.bands: 0 is out of range; give 1 to 1000"
    );
    assert_eq!(
        refused_run(config("0.1", &format!("epsilon = 3.0\nbands = 4\nadaptive_clip = {{}}\n{SERVER}"))),
        "privacy.release.bands: noise of rounds with other clips is not taken back; remove it or adaptive_clip"
    );
}
