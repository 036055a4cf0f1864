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
use rayon::prelude::*;
use serde::Serialize;
use statrs::distribution::{Binomial, Discrete, DiscreteCDF};

use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::learn::LocalUpdate;
use seccogc::record::{Metrics, to_csv, write_atomically};
use seccogc::report::markdown;
use seccogc::seed::Seed;
use seccogc::train::{Crew, Elsewhere, Experiment, Run, State, Tested, Trained};

/// More than those among whom every message's part in what is told is computed: here the models tell.
const CLIENTS: usize = 250;
/// Coordinates that a canary has to itself.
const OWN: usize = 2;
const ROUNDS: u64 = 2;
/// Clients whose uploads are lost in every round: always the same, so that the sum is always decoded alike.
const LOST: usize = 25;
/// Independent runs, whose canaries count together: their clients are others. So many guesses that are all
/// right are needed against ε = 8, under which one in 3000 may be wrong.
const RUNS: u64 = 120;
const DELTA: f64 = 1e-6;
/// Of all coins so many are guessed.
const GUESSES: [usize; 5] = [100, 300, 1000, 3000, 30_000];
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

/// Clients who send their canary or zeros, by coins of the run: its rounds follow those of the one before.
struct Canaries;

/// The coins of run number `run`.
fn coins(run: u64) -> Vec<bool> {
    let mut draws = Seed::new(1).child("coins", run).rng();
    (0..CLIENTS).map(|_| draws.random()).collect()
}

impl Crew for Canaries {
    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        let coins = coins((state.round - 1) / ROUNDS);
        let train = |&client: &u32| {
            let k = client as usize;
            let mut model = state.server.parameters.clone();
            if coins[k] {
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

/// A model of nothing but the canaries' coordinates.
fn elsewhere() -> Elsewhere {
    Elsewhere {
        layers: vec![("canaries".into(), vec![CLIENTS * OWN])],
        start: vec![0.0; CLIENTS * OWN],
        examples: vec![1; CLIENTS],
    }
}

fn config(protocol: &str, release: &str) -> Result<Config> {
    let erasure: Vec<f64> = (0..CLIENTS).map(|k| if k < LOST { 1.0 } else { 0.0 }).collect();
    let text = format!(
        "rounds = {ROUNDS}\nclients = {CLIENTS}\n[solver]\nkind = \"sgd\"\nclip_norm = 1.0\n[privacy]\nmeasure = false\n\
         [privacy.release]\n{release}\ndelta = {DELTA:e}\nadjacency = \"zero-out\"\nagainst = \"observer\"\n\
         [network.client_server]\nerasure = {erasure:?}\n[protocol]\n{protocol}"
    );
    toml::from_str(&text).map_err(|error| Error::Refused(error.to_string()))
}

/// How far the models moved along each canary in run number `number`, and whether it was sent.
fn scores(run: &Run<'_>, number: u64) -> Result<Vec<(f64, bool)>> {
    let mut state = State { round: number * ROUNDS, ..run.start() };
    for _ in 0..ROUNDS {
        run.round(&mut state)?;
    }
    let along = |own: &[f32]| own.iter().map(|x| f64::from(*x)).sum();
    Ok(state.server.parameters.chunks(OWN).map(along).zip(coins(number)).collect())
}

/// The probability, at most, of `right` of `guesses` under (ε, δ) (their theorem 5.2, for `canaries` coins).
fn chance(epsilon: f64, right: usize, guesses: usize, canaries: usize) -> f64 {
    let Ok(law) = Binomial::new(1.0 / (1.0 + (-epsilon).exp()), guesses as u64) else { return 1.0 };
    let all = if right == 0 { 1.0 } else { law.sf(right as u64 - 1) };
    // The mean of the i probabilities below: it rises to its largest and falls from there.
    let (mut beyond, mut sum) = (0.0, 0.0);
    for i in 1..=right {
        sum += law.pmf((right - i) as u64);
        if sum / (i as f64) < beyond {
            break;
        }
        beyond = sum / i as f64;
    }
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

/// The noise multiplier that keeps ε.
fn multiplier(protocol: &str, claimed: f64) -> Result<f64> {
    let config = config(protocol, &format!("epsilon = {claimed:?}"))?;
    let setting = Experiment::new(config).elsewhere(elsewhere()).build()?;
    let run = setting.run(&setting.config().protocol)?;
    let release = run.release().ok_or_else(|| Error::Refused("nothing is promised".into()))?;
    Ok(release.noise_multiplier())
}

fn audit(scheme: &'static str, protocol: &str, claimed: f64, noise: f64) -> Result<Audit> {
    let release = format!("noise_multiplier = {:?}", noise * multiplier(protocol, claimed)?);
    let setting = Experiment::new(config(protocol, &release)?).elsewhere(elsewhere()).build()?;
    let run = setting.run(&setting.config().protocol)?.with_crew(&Canaries);
    let each = (0..RUNS).into_par_iter().map(|number| scores(&run, number));
    let mut all: Vec<(f64, bool)> = each.collect::<Result<Vec<_>>>()?.concat();
    // The surest first, from the middle of all scores.
    let middle = all.iter().map(|(score, _)| *score).sum::<f64>() / all.len() as f64;
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
            "kind = \"sec-cogc\"\nstragglers = 30\narithmetic = \"f64\"\nkey_std = 10.0",
        ),
        ("Fair-SecCoGC, Skellam", "kind = \"sec-cogc\"\nstragglers = 30\narithmetic = \"field\""),
    ];
    let mut audits = Vec::new();
    for (name, protocol) in schemes {
        for claimed in [1.0, 3.0, 8.0] {
            for noise in [1.0, 0.5, 0.125] {
                audits.push(audit(name, protocol, claimed, noise)?);
            }
        }
    }
    let line = |audit: &Audit| {
        vec![
            audit.scheme.to_owned(),
            format!("{}", audit.claimed),
            match audit.noise {
                1.0 => "all".into(),
                0.5 => "half".into(),
                _ => "an eighth".into(),
            },
            format!("{} of {}", audit.right, audit.guesses),
            format!("{:.2}", audit.epsilon_lower),
            (if audit.epsilon_lower <= audit.claimed { "stands" } else { "refuted" }).into(),
        ]
    };
    let header = ["scheme", "claimed ε", "noise", "right guesses", "ε is at least", "claim"];
    let table = markdown(&header, &[0, 2, 5], &audits.iter().map(line).collect::<Vec<_>>());
    println!("{table}");
    write_atomically(&folder.join("canaries.md"), table.as_bytes())?;
    write_atomically(&folder.join("canaries.csv"), &to_csv(&audits)?)
}
