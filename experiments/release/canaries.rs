//! Canaries against the promise of `[privacy.release]`: one run tells as much as many (Steinke, Nasr,
//! Jagielski, *Privacy Auditing with One (1) Training Run*, NeurIPS 2023).
//!
//! Every client is a canary. A coin decides whether it sends its whole clipping norm in directions of its own
//! or zeros, the two sides of `zero-out`. Who sees the models adds up what they moved along those directions,
//! and guesses the coins of the clients of which it is surest. If it guesses better than ε allows, the claim
//! of ε is wrong.
//!
//! `cargo run --release --example canaries FOLDER`

use std::path::PathBuf;

use rand::RngExt;
use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF};

use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::learn::LocalUpdate;
use seccogc::record::{Metrics, to_csv, write_atomically};
use seccogc::report::markdown;
use seccogc::seed::Seed;
use seccogc::train::{Crew, Elsewhere, Experiment, Run, State, Tested, Trained};

const CLIENTS: usize = 100;
/// Coordinates that a canary has to itself.
const OWN: usize = 20;
const ROUNDS: u64 = 10;
/// Independent runs, whose canaries count together: their clients are others.
const RUNS: u64 = 10;
const DELTA: f64 = 1e-5;
/// Of all coins so many are guessed.
const GUESSES: [usize; 4] = [50, 100, 200, 400];
/// 1 − confidence of the lower bound, shared among the numbers of guesses.
const BETA: f64 = 0.05 / GUESSES.len() as f64;

/// One claim, and what the guesses say about it.
#[derive(Clone, Debug, Serialize)]
struct Audit {
    scheme: &'static str,
    claimed: f64,
    /// The noise that was really added, over what the claim needs.
    noise: f64,
    canaries: usize,
    guesses: usize,
    right: usize,
    /// ε is larger, with a confidence of 95 %.
    epsilon_lower: f64,
}

/// Clients who send their canary or zeros.
struct Canaries {
    sent: Vec<bool>,
}

impl Crew for Canaries {
    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        let train = |&client: &u32| {
            let k = client as usize;
            let mut model = state.parameters.clone();
            if self.sent[k] {
                // Far beyond the clip, which shortens it.
                model[k * OWN..(k + 1) * OWN].iter_mut().for_each(|x| *x += 1e3);
            }
            let how = LocalUpdate { delta: Vec::new(), loss: 0.0, examples: 1, steps: 1 };
            Ok(Trained { sent: run.update(state, client, model), how, metrics: Metrics::new() })
        };
        members.iter().map(train).collect()
    }

    fn test(&self, _: &Run<'_>, _: u64, _: &[f32]) -> Result<Tested> {
        Ok(Tested::default())
    }
}

fn config(protocol: &str, release: &str, seed: u64) -> Result<Config> {
    let text = format!(
        "seed = {seed}\nrounds = {ROUNDS}\nclients = {CLIENTS}\n[solver]\nkind = \"sgd\"\nclip_norm = 1.0\n[privacy]\nmeasure = false\n\
         [privacy.release]\n{release}\ndelta = {DELTA:e}\nadjacency = \"zero-out\"\nagainst = \"observer\"\n\
         [network.client_server]\nerasure = 0.2\n[protocol]\n{protocol}"
    );
    toml::from_str(&text).map_err(|error| Error::Refused(error.to_string()))
}

/// How far the models moved along each canary in one run, and whether it was sent.
fn scores(protocol: &str, release: &str, seed: u64) -> Result<Vec<(f64, bool)>> {
    let mut coins = Seed::new(seed).child("coins", 0).rng();
    let canaries = Canaries { sent: (0..CLIENTS).map(|_| coins.random()).collect() };
    let elsewhere = Elsewhere {
        layers: vec![("canaries".into(), vec![CLIENTS * OWN])],
        start: vec![0.0; CLIENTS * OWN],
        examples: vec![1; CLIENTS],
    };
    let setting = Experiment::new(config(protocol, release, seed)?).elsewhere(elsewhere).build()?;
    let run = setting.run(&setting.config().protocol)?.with_crew(&canaries);
    let mut state = run.start();
    while state.round < ROUNDS {
        run.round(&mut state)?;
    }
    let along = |k: usize| state.parameters[k * OWN..(k + 1) * OWN].iter().map(|x| f64::from(*x)).sum();
    Ok((0..CLIENTS).map(|k| (along(k), canaries.sent[k])).collect())
}

/// The probability, at most, of `right` of `guesses` under (ε, δ) (their theorem 5.2, for `canaries` coins).
fn chance(epsilon: f64, right: usize, guesses: usize, canaries: usize) -> f64 {
    let Ok(law) = Binomial::new(1.0 / (1.0 + (-epsilon).exp()), guesses as u64) else { return 1.0 };
    let at_least = |n: usize| if n == 0 { 1.0 } else { law.sf(n as u64 - 1) };
    let all = at_least(right);
    let beyond = (1..=right).map(|i| (at_least(right - i) - all) / i as f64).fold(0.0, f64::max);
    all + 2.0 * canaries as f64 * DELTA * beyond
}

/// The largest ε that so many right guesses refute.
fn lower(right: usize, guesses: usize, canaries: usize) -> f64 {
    let (mut low, mut high) = (0.0, 50.0);
    if chance(low, right, guesses, canaries) > BETA {
        return 0.0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if chance(middle, right, guesses, canaries) <= BETA { low = middle } else { high = middle }
    }
    low
}

fn audit(scheme: &'static str, protocol: &str, claimed: f64, noise: f64) -> Result<Audit> {
    let honest = format!("epsilon = {claimed:?}");
    let setting = Experiment::new(config(protocol, &honest, 1)?)
        .elsewhere(Elsewhere {
            layers: vec![("canaries".into(), vec![CLIENTS * OWN])],
            start: vec![0.0; CLIENTS * OWN],
            examples: vec![1; CLIENTS],
        })
        .build()?;
    let run = setting.run(&setting.config().protocol)?;
    let multiplier = run.release().map_or(0.0, |release| release.noise_multiplier());
    let release = match noise {
        1.0 => honest,
        _ => format!("noise_multiplier = {:?}", noise * multiplier),
    };
    let mut all = Vec::new();
    for seed in 1..=RUNS {
        all.extend(scores(protocol, &release, seed)?);
    }
    // The surest first, from the middle of all scores.
    let mut sorted: Vec<f64> = all.iter().map(|(score, _)| *score).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted[sorted.len() / 2];
    all.sort_by(|a, b| (b.0 - middle).abs().total_cmp(&(a.0 - middle).abs()));
    let of = |guesses: usize| {
        let right = all[..guesses].iter().filter(|(score, sent)| (*score > middle) == *sent).count();
        let epsilon_lower = lower(right, guesses, all.len());
        Audit { scheme, claimed, noise, canaries: all.len(), guesses, right, epsilon_lower }
    };
    let best =
        GUESSES.map(of).into_iter().reduce(|a, b| if b.epsilon_lower > a.epsilon_lower { b } else { a });
    best.ok_or_else(|| Error::Refused("nothing was guessed".into()))
}

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| Error::Refused("give a folder".into()))?;
    let schemes = [
        (
            "Fair-SecCoGC, Gaussian",
            "kind = \"sec-cogc\"\nstragglers = 70\narithmetic = \"f64\"\nkey_std = 10.0",
        ),
        ("Fair-SecCoGC, Skellam", "kind = \"sec-cogc\"\nstragglers = 70\narithmetic = \"field\""),
    ];
    let mut audits = Vec::new();
    for (name, protocol) in schemes {
        for claimed in [1.0, 3.0, 8.0] {
            for noise in [1.0, 0.125] {
                audits.push(audit(name, protocol, claimed, noise)?);
            }
        }
    }
    let line = |audit: &Audit| {
        vec![
            audit.scheme.to_owned(),
            format!("{}", audit.claimed),
            if audit.noise == 1.0 { "all".into() } else { "an eighth".into() },
            format!("{} of {}", audit.right, audit.guesses),
            format!("{:.2}", audit.epsilon_lower),
            (if audit.epsilon_lower <= audit.claimed { "kept" } else { "refuted" }).into(),
        ]
    };
    let header = ["scheme", "claimed ε", "noise", "right guesses", "ε is at least", "claim"];
    let table = markdown(&header, &[0, 2, 5], &audits.iter().map(line).collect::<Vec<_>>());
    println!("{table}");
    write_atomically(&folder.join("canaries.md"), table.as_bytes())?;
    write_atomically(&folder.join("canaries.csv"), &to_csv(&audits)?)
}
