//! The average squared norm of the gradient over T rounds with learning rate c/√T, against T, on a network
//! that is not convex.
//!
//! The gradient of the whole objective is measured, not estimated: one step of every client with learning
//! rate 1 on all of its examples moves the model by it.
//!
//! `cargo run --release --example convergence_rate CONFIG [FOLDER]` writes `convergence_rate.csv`, its table
//! and figure.

use std::path::{Path, PathBuf};

use serde::Serialize;

use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::{Graph, Scale, Spread, Trace, markdown, plot_graphs, slope};
use seccogc::train::Setting;

const ROUNDS: [u64; 7] = [25, 50, 100, 200, 400, 800, 1600];
const SEEDS: [u64; 3] = [1, 2, 3];
/// The learning rate is this over √T.
const RATE: f64 = 0.5;
/// The gradient is measured before every so many rounds.
const EVERY: u64 = 5;

const VARIANTS: [(&str, &[&str]); 8] = [
    ("ideal", &["protocol.kind=ideal"]),
    ("Fair-SecCoGC, σ = 0.1", &["protocol.key_std=0.1"]),
    ("Fair-SecCoGC, σ = 100", &["protocol.key_std=100"]),
    ("the same, FedProx", &["protocol.key_std=100", "solver.kind=fedprox", "solver.steps=5"]),
    ("the same, SCAFFOLD", &["protocol.key_std=100", "solver.kind=scaffold", "solver.steps=5"]),
    ("ideal, one local step", &["protocol.kind=ideal", "solver.steps=1"]),
    ("Fair-SecCoGC, one local step", &["protocol.key_std=100", "solver.steps=1"]),
    ("FedAvg", &["protocol.kind=fedavg"]),
];

/// One run.
#[derive(Serialize)]
struct Run {
    variant: &'static str,
    seed: u64,
    rounds: u64,
    learning_rate: f64,
    recovered: u64,
    /// Mean over the rounds of ‖∇F‖² at the global model.
    mean_squared_gradient: f64,
}

fn squared_gradient(whole: &Setting, parameters: &[f32]) -> Result<f64> {
    let run = whole.run(&seccogc::protocol::ProtocolConfig::Ideal(Default::default()))?;
    let mut state = run.start();
    state.server.parameters.copy_from_slice(parameters);
    run.round(&mut state)?;
    let step =
        state.server.parameters.iter().zip(parameters).map(|(after, before)| f64::from(before - after));
    Ok(step.map(|g| g * g).sum())
}

fn measure(config: &Path, variant: (&'static str, &[&str]), rounds: u64, seed: u64) -> Result<Run> {
    let learning_rate = RATE / (rounds as f64).sqrt();
    let mut sets: Vec<String> = variant.1.iter().map(|set| (*set).to_owned()).collect();
    sets.extend([
        format!("seed={seed}"),
        format!("rounds={rounds}"),
        format!("solver.learning_rate={learning_rate}"),
    ]);
    let own = Config::load(config, &sets)?;
    let setting = Setting::build(&own, "cpu".parse()?)?;
    let whole = [
        format!("seed={seed}"),
        "protocol.kind=ideal".into(),
        "solver.learning_rate=1".into(),
        "solver.steps=1".into(),
        "solver.batch_size=100000".into(),
    ];
    let whole = Setting::build(&Config::load(config, &whole)?, "cpu".parse()?)?;
    let run = setting.run(&own.protocol)?;
    let mut state = run.start();
    let (mut sum, mut count, mut recovered) = (0.0, 0, 0);
    for round in 0..rounds {
        if round % EVERY == 0 {
            sum += squared_gradient(&whole, &state.server.parameters)?;
            count += 1;
        }
        let (row, _) = run.round(&mut state)?;
        recovered += u64::from(row.outcome == seccogc::record::Outcome::Recovered);
    }
    let mean_squared_gradient = sum / f64::from(count);
    Ok(Run { variant: variant.0, seed, rounds, learning_rate, recovered, mean_squared_gradient })
}

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let config = arguments.next().ok_or_else(|| Error::Refused("give a configuration".into()))?;
    let folder = arguments.next().unwrap_or_else(|| "runs/convergence_rate".into());
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let (mut runs, mut lines, mut traces) = (Vec::new(), Vec::new(), Vec::new());
    for variant in VARIANTS {
        let mut of_variant = Vec::new();
        for seed in SEEDS {
            for rounds in ROUNDS {
                of_variant.push(measure(&config, variant, rounds, seed)?);
            }
        }
        let logarithms = |seed| {
            let of_seed = of_variant.iter().filter(|run| run.seed == seed);
            let point = |run: &Run| ((run.rounds as f64).log10(), run.mean_squared_gradient.log10());
            of_seed.map(point).collect::<Vec<_>>()
        };
        let slopes = SEEDS.map(|seed| slope(&logarithms(seed)));
        let (mean, half) = Spread::Confidence.of(slopes).unwrap_or_default();
        let at = |rounds| {
            let values =
                of_variant.iter().filter(|run| run.rounds == rounds).map(|run| run.mean_squared_gradient);
            Spread::Confidence.of(values).unwrap_or_default()
        };
        let numbers = ROUNDS.map(|rounds| format!("{:.4}", at(rounds).0));
        let slope = format!("{mean:.2} ± {:.2}", half.unwrap_or_default());
        println!("{}: slope {slope}", variant.0);
        lines.push([vec![variant.0.to_owned()], numbers.into(), vec![slope]].concat());
        let points = ROUNDS.map(|rounds| {
            let (mean, half) = at(rounds);
            (rounds as f64, mean, half.map(|half| (mean - half, mean + half)))
        });
        traces.push(Trace { name: variant.0.to_owned(), points: points.to_vec() });
        runs.extend(of_variant);
    }
    // The claim's slope, through the first point of `ideal`.
    if let Some(&(x, y, _)) = traces[0].points.first() {
        let points = ROUNDS.map(|rounds| (rounds as f64, y * (x / rounds as f64).sqrt(), None));
        traces.push(Trace { name: "slope −0.5".into(), points: points.to_vec() });
    }
    let rounds = ROUNDS.map(|rounds| format!("T = {rounds}"));
    let header: Vec<&str> =
        ["variant"].into_iter().chain(rounds.iter().map(String::as_str)).chain(["slope (95 %)"]).collect();
    let table = markdown(&header, &[0], &lines);
    println!("{table}");
    write_atomically(&folder.join("convergence_rate.md"), table.as_bytes())?;
    write_atomically(&folder.join("convergence_rate.csv"), &to_csv(&runs)?)?;
    let graph = Graph {
        x: ("rounds T".into(), Scale::Logarithmic),
        y: ("mean squared norm of the gradient".into(), Scale::Logarithmic),
        traces,
    };
    plot_graphs(
        &[graph],
        "How the gradient falls with the number of rounds",
        "learning rate 0.5/√T; one digit a client, unequal links; mean and 95 % interval over three seeds",
        &folder.join("convergence_rate"),
    )
}
