//! `[privacy.release] adaptive_clip` in whole runs.

use seccogc::config::Config;
use seccogc::train::Experiment;

use super::{played_to, protocol};
use crate::relaying::refused_run;

/// Twenty clients whose updates are far shorter than the largest clip.
fn config(scheme: &str, release: &str) -> Config {
    let text = format!(
        "rounds = 25\nclients = 20\n[partition]\nkind = 'iid'\n[model]\nkind = 'softmax'\n[solver]\nkind = 'sgd'\nclip_norm = 2.0\nsteps = 1\n\
         [network.client_server]\nerasure = 0.2\n[evaluation]\nevery = 25\n[privacy]\nmeasure = false\n[privacy.release]\n{release}"
    );
    let config: Config = toml::from_str(&text).unwrap();
    Config { protocol: protocol(scheme), ..config }
}

const CODED: &str = "kind = 'sec-cogc'\nstragglers = 12\narithmetic = 'f64'";
const FIELD: &str = "kind = 'sec-cogc'\nstragglers = 12\narithmetic = 'field'";
const SERVER: &str = "by = 'server'\nagainst = 'observer'";
/// Little noise: the clip and the steps are nearly those without.
const QUIET: &str = "noise_multiplier = 0.01";

/// The clip of every round and the share of the updates that were no longer; the columns of the running ε of
/// the last round.
fn played(config: Config) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let setting = Experiment::new(config).build().unwrap();
    let run = setting.run(&setting.config().protocol).unwrap();
    let mut state = run.start();
    let (mut clips, mut shares, mut told) = (Vec::new(), Vec::new(), Vec::new());
    while state.round < setting.config().rounds {
        let (row, clients) = run.round(&mut state).unwrap();
        let of = |name: &str| row.metrics.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        let clip = of("clip").unwrap_or(2.0);
        // Whoever was clipped is as long as the clip but for the margin of rounding.
        let below = clients.iter().filter(|row| row.update_norm < clip * (1.0 - 1e-6)).count();
        clips.push(clip);
        shares.push(below as f64 / clients.len() as f64);
        told = ["epsilon_server", "epsilon_observer"].into_iter().filter_map(of).collect();
    }
    (clips, shares, told)
}

/// The rule with exact shares, and a clip that comes to where γ of the clients are below it, in every kind of
/// sum: the noise of the count is 0.04 clients, of a share 0.002, and moves the logarithm of a clip by 0.2
/// times as much.
#[test]
fn the_clip_follows_the_quantile_through_every_kind_of_sum() {
    let adaptive = "adaptive_clip = { quantile = 0.7, rate = 1.0, count_std = 0.04 }";
    for (scheme, who) in [(CODED, ""), (FIELD, ""), (FIELD, "flatten = true"), ("kind = 'ideal'", SERVER)] {
        let (clips, shares, _) = played(config(scheme, &format!("{QUIET}\n{who}\n{adaptive}")));
        assert_eq!(clips[0], 2.0, "{scheme}");
        for round in 1..clips.len() {
            let moved = (clips[round] / clips[round - 1]).ln();
            let want = -(shares[round - 1] - 0.7);
            assert!((moved - want).abs() < 0.02 || clips[round] == 2.0, "{scheme}: {moved} for {want}");
        }
        let late: f64 = shares[15..].iter().sum::<f64>() / 10.0;
        assert!(clips[24] < 1.0 && (late - 0.7).abs() < 0.15, "{scheme}: {clips:?} {shares:?}");
    }
}

/// An update that nobody clips is what it was, but for noise of 10⁻⁶ a coordinate: the models of a run whose
/// clip stays large are those of a run with a fixed one.
#[test]
fn updates_come_out_as_they_went_in() {
    let models = |more: &str| {
        let release = format!("noise_multiplier = 1e-5\n{more}");
        let setting = Experiment::new(config(CODED, &release)).build().unwrap();
        let run = setting.run(&setting.config().protocol).unwrap();
        let mut state = run.start();
        let start = state.server.parameters.clone();
        while state.round < 3 {
            run.round(&mut state).unwrap();
        }
        (start, state.server.parameters)
    };
    let apart =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    let (start, fixed) = models("");
    let (_, moving) = models("adaptive_clip = { rate = 1e-3 }");
    let (noise, moved) = (apart(&fixed, &moving), apart(&fixed, &start));
    assert!(noise < 1e-3 && moved > 0.02, "{noise} {moved}");
}

/// The count costs nothing beyond the noise multiplier that is named: ε is that of a run without it, by the
/// server exactly, on a grid but for the rounding of one coordinate more.
#[test]
fn the_count_is_charged_within_the_multiplier() {
    let adaptive = "adaptive_clip = { count_std = 2.0 }";
    for (scheme, who) in [(CODED, ""), ("kind = 'ideal'", SERVER)] {
        let release = format!("noise_multiplier = 3.0\n{who}");
        let (_, _, plain) = played(config(scheme, &release));
        let (_, _, moving) = played(config(scheme, &format!("{release}\n{adaptive}")));
        assert!(!plain.is_empty());
        for (plain, moving) in plain.iter().zip(&moving) {
            assert!((moving / plain - 1.0).abs() < 1e-4, "{scheme}: {moving} for {plain}");
        }
    }
}

#[test]
fn a_run_that_goes_on_has_the_clip_that_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let release = "noise_multiplier = 0.5\nadaptive_clip = { initial = 0.3 }";
    let whole = Config { rounds: 6, ..config(CODED, release) };
    let rounds = |cut: bool, name: &str| {
        let path = folder.path().join(name);
        if cut {
            played_to(2, &whole, &path);
        }
        played_to(6, &whole, &path)
    };
    let ((once, rows), (again, others)) = (rounds(false, "once"), rounds(true, "again"));
    assert_eq!(once, again);
    assert!(once.server.clip.is_some_and(|clip| clip != 0.3), "{:?}", once.server.clip);
    let metrics =
        |rows: &[seccogc::record::Row]| rows.iter().map(|row| row.metrics.clone()).collect::<Vec<_>>();
    assert_eq!(metrics(&rows), metrics(&others));
    assert!(rows[0].metrics.contains(&("clip".to_owned(), 0.3)));
}

#[test]
fn what_an_adaptive_clip_does_not_go_with_is_refused() {
    let mut remembered = config("kind = 'fedavg'", "epsilon = 4.0\nadaptive_clip = {}");
    remembered.participation = toml::from_str("kind = 'mifa'").unwrap();
    assert_eq!(
        refused_run(remembered),
        "privacy.release.adaptive_clip: the server remembers single updates of rounds with other clips; remove it, or take \
         participation.kind = \"none\""
    );
    assert_eq!(
        refused_run(config(CODED, "epsilon = 0.1\nadaptive_clip = { count_std = 2.0 }")),
        "privacy.release.adaptive_clip.count_std: the count alone tells more than (0.1, 0.00001)-differential privacy allows; give \
         more, or take larger rounds"
    );
    assert_eq!(
        refused_run(config(CODED, "noise_multiplier = 2.0\nadaptive_clip = {}")),
        "privacy.release.adaptive_clip.count_std: 1 is too little beside the noise multiplier 2; give more than half of that, \
         or take larger rounds"
    );
    assert_eq!(
        refused_run(config(CODED, "epsilon = 4.0\nadaptive_clip = { initial = 3.0 }")),
        "privacy.release.adaptive_clip.initial: 3 is above solver.clip_norm = 2, which bounds it"
    );
}
