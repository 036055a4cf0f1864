//! What one aggregation costs under every protocol: key dealing, coding and decoding of all parties in one
//! process, next to plain averaging of the same updates in the same run; and what a whole round costs, with
//! local training on complete MNIST.
//!
//! `cargo run --release --example round_cost [FOLDER]` writes `round_cost.csv` and `whole_round.csv` and
//! their tables.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rand::RngExt;
use serde::Serialize;

use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::network::Perfect;
use seccogc::protocol::{Aggregator, ProtocolConfig, Update};
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::markdown;
use seccogc::seed::Seed;
use seccogc::train::Setting;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLIENTS: usize = 10;
/// The parameters of the CNN of McMahan et al. 2017.
const PARAMETERS: usize = 1_663_370;
const ROUNDS: u64 = 7;

/// Name and `[protocol]` section; the first is what the others are measured against.
const SCHEMES: [(&str, &str); 18] = [
    ("fedavg", "kind = 'fedavg'"),
    ("gaussian", "kind = 'gaussian'\nkey_std = 1.0"),
    ("zero-sum", "kind = 'zero-sum'\nkey_std = 1.0"),
    ("cogc, s = 3", "kind = 'cogc'\nstragglers = 3"),
    ("sec-cogc, s = 3, f32", "kind = 'sec-cogc'\nstragglers = 3\narithmetic = 'f32'"),
    ("sec-cogc, s = 3", "kind = 'sec-cogc'\nstragglers = 3"),
    ("sec-cogc, s = 7", "kind = 'sec-cogc'\nstragglers = 7"),
    ("sec-cogc, s = 3, field", "kind = 'sec-cogc'\nstragglers = 3\narithmetic = 'field'"),
    (
        "hierarchical, N = 5, N_r = 4, T = 1",
        "kind = 'hierarchical'\nhelpers = 5\nthreshold = 4\ncolluding = 1",
    ),
    (
        "hierarchical, N = 5, N_r = 5, T = 2",
        "kind = 'hierarchical'\nhelpers = 5\nthreshold = 5\ncolluding = 2",
    ),
    ("secure-gc, N_r = 8, m = 2", "kind = 'secure-gc'\nresponders = 8\nreduction = 2"),
    ("secure-gc, N_r = 8, m = 1", "kind = 'secure-gc'\nresponders = 8\nreduction = 1"),
    ("zhao-sun, U = 6, T = 2", "kind = 'zhao-sun'\nsurvivors = 6\ncolluders = 2"),
    ("light-sec-agg, U = 6, T = 2", "kind = 'light-sec-agg'\nsurvivors = 6\ncolluders = 2"),
    ("groupwise, U = 6, S = 2", "kind = 'groupwise'\nsurvivors = 6\ngroup_size = 2"),
    ("groupwise, U = 6, S = 4", "kind = 'groupwise'\nsurvivors = 6\ngroup_size = 4"),
    ("sec-agg, t = 6", "kind = 'sec-agg'\nthreshold = 6"),
    ("sec-agg-plus, k = 8, t = 4", "kind = 'sec-agg-plus'\nneighbours = 8\nthreshold = 4"),
];

/// Ten clients with 6000 images each, the CNN of McMahan et al. 2017, one local epoch.
const TRAINING: &str = "data = { name = 'mnist' }\nmodel = { kind = 'cnn' }\nevaluation = { every = 1000 }\n\
                        solver = { kind = 'sgd', learning_rate = 0.05, batch_size = 32 }\nrounds = 1000\n";
/// As [`SCHEMES`].
const WHOLE: [(&str, &str); 4] = [
    ("fedavg", "kind = 'fedavg'"),
    ("Fair-SecCoGC, s = 3, f32", "kind = 'sec-cogc'\nstragglers = 3\narithmetic = 'f32'"),
    ("Fair-SecCoGC, s = 3", "kind = 'sec-cogc'\nstragglers = 3"),
    ("Fair-SecCoGC, s = 7", "kind = 'sec-cogc'\nstragglers = 7"),
];
const WHOLE_ROUNDS: u64 = 3;

/// As [`SCHEMES`], without their kind.
const GRIDS: [(&str, &str); 3] = [
    ("sec-cogc, s = 3", "stragglers = 3"),
    ("sec-cogc, s = 7", "stragglers = 7"),
    ("sec-cogc, s = 3, f32", "stragglers = 3\narithmetic = 'f32'"),
];
const PAIRS: u64 = 61;

/// A whole round.
#[derive(Serialize)]
struct Whole {
    scheme: &'static str,
    round: u64,
    seconds: f64,
    /// Over FedAvg in the same round.
    ratio: f64,
}

#[derive(Serialize)]
struct Point {
    scheme: &'static str,
    round: u64,
    seconds: f64,
    /// Over plain averaging in the same round.
    ratio: f64,
    /// All messages of a round.
    bytes: u64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `median (least – greatest)`.
fn spread(values: Vec<f64>, decimals: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{:.decimals$} ({least:.decimals$} – {most:.decimals$})", median(values))
}

/// A round of `sec-cogc` on a grid, and the same without one.
#[derive(Serialize)]
struct Pair {
    scheme: &'static str,
    pair: u64,
    /// Seconds without a grid.
    without: f64,
    /// Seconds on a grid.
    on: f64,
    ratio: f64,
}

/// Plays coding rounds on a grid and without, in turns.
fn grids(folder: &Path, updates: &[Update]) -> Result<()> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut lines = Vec::new();
    for (name, section) in GRIDS {
        let build = |grid: bool| -> Result<Box<dyn Aggregator>> {
            let text = format!("kind = 'sec-cogc'\n{section}\ngrid = {grid}");
            let protocol: ProtocolConfig =
                toml::from_str(&text).map_err(|error| Error::Refused(error.message().to_owned()))?;
            protocol.build(CLIENTS, Seed::new(2))
        };
        let (without, on) = (build(false)?, build(true)?);
        let seconds = |scheme: &dyn Aggregator, round: u64| -> Result<f64> {
            let clock = Instant::now();
            scheme.aggregate(round, updates, &Perfect, 1)?;
            Ok(clock.elapsed().as_secs_f64())
        };
        // Pair 0 warms up. Who begins changes from pair to pair.
        for pair in 0..=PAIRS {
            let (without, on) = if pair % 2 == 0 {
                let without = seconds(&*without, pair)?;
                (without, seconds(&*on, pair)?)
            } else {
                let on = seconds(&*on, pair)?;
                (seconds(&*without, pair)?, on)
            };
            if pair > 0 {
                pairs.push(Pair { scheme: name, pair, without, on, ratio: on / without });
            }
        }
        let of = |value: fn(&Pair) -> f64| -> Vec<f64> {
            pairs.iter().filter(|pair| pair.scheme == name).map(value).collect()
        };
        let milliseconds = |value: fn(&Pair) -> f64| format!("{:.1}", 1e3 * median(of(value)));
        lines.push(vec![
            name.to_owned(),
            milliseconds(|pair| pair.without),
            milliseconds(|pair| pair.on),
            format!("{:.3}", median(of(|pair| pair.ratio))),
        ]);
    }
    let header = ["scheme", "ms without a grid", "ms on a grid", "ratio (median of the pairs)"];
    let table = markdown(&header, &[0], &lines);
    println!("{table}");
    write_atomically(&folder.join("grid.md"), table.as_bytes())?;
    write_atomically(&folder.join("grid.csv"), &to_csv(&pairs)?)
}

/// Plays whole rounds, the schemes one after the other in each.
fn whole_rounds(folder: &Path) -> Result<()> {
    let refuse = |error: toml::de::Error| Error::Refused(error.message().to_owned());
    let config: Config = toml::from_str(TRAINING).map_err(refuse)?;
    let setting = Setting::build(&config, "cpu".parse()?)?;
    let mut runs = Vec::new();
    for (name, section) in WHOLE {
        let protocol: ProtocolConfig = toml::from_str(section).map_err(refuse)?;
        let run = setting.run(&protocol)?;
        runs.push((name, run.start(), run));
    }
    let mut points: Vec<Whole> = Vec::new();
    for round in 1..=WHOLE_ROUNDS {
        let mut plain = f64::NAN;
        for (name, state, run) in &mut runs {
            let clock = Instant::now();
            run.round(state)?;
            let seconds = clock.elapsed().as_secs_f64();
            plain = if *name == WHOLE[0].0 { seconds } else { plain };
            points.push(Whole { scheme: name, round, seconds, ratio: seconds / plain });
        }
    }
    let lines = WHOLE.map(|(name, _)| {
        let of = |value: fn(&Whole) -> f64| -> Vec<f64> {
            points.iter().filter(|point| point.scheme == name).map(value).collect()
        };
        let ratio = spread(of(|point| point.ratio), 3);
        vec![name.to_owned(), format!("{:.1}", median(of(|point| point.seconds))), ratio]
    });
    let table = markdown(&["protocol", "s a round", "over FedAvg"], &[0], &lines);
    println!("{table}");
    write_atomically(&folder.join("whole_round.md"), table.as_bytes())?;
    write_atomically(&folder.join("whole_round.csv"), &to_csv(&points)?)
}

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("runs/round_cost"), PathBuf::from);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let mut rng = Seed::new(1).child("updates", 0).rng();
    let updates: Vec<Update> = (0..CLIENTS)
        .map(|_| {
            let delta = (0..PARAMETERS).map(|_| 0.01 * (rng.random::<f32>() - 0.5)).collect();
            Update { weight: 1.0, delta: Arc::new(delta) }
        })
        .collect();
    let mut schemes: Vec<(&str, Box<dyn Aggregator>)> = Vec::new();
    for (name, section) in SCHEMES {
        let protocol: ProtocolConfig = toml::from_str(section)
            .map_err(|error| Error::Refused(format!("{name}: {}", error.message())))?;
        schemes.push((name, protocol.build(CLIENTS, Seed::new(2))?));
    }
    let mut points: Vec<Point> = Vec::new();
    // Round 0 warms up: decoding matrices are computed once and kept.
    for round in 0..=ROUNDS {
        let mut plain = f64::NAN;
        for (name, scheme) in &schemes {
            let clock = Instant::now();
            let aggregate = scheme.aggregate(round, &updates, &Perfect, 1)?;
            let seconds = clock.elapsed().as_secs_f64();
            if !aggregate.decoded.is_sum() {
                return Err(Error::Refused(format!("{name}: nothing was decoded without a loss")));
            }
            let of = aggregate.traffic;
            let bytes = of.client_client + of.client_server + of.server_client + of.client_helper;
            let bytes = bytes + of.helper_helper + of.helper_server;
            plain = if *name == SCHEMES[0].0 { seconds } else { plain };
            if round > 0 {
                points.push(Point { scheme: name, round, seconds, ratio: seconds / plain, bytes });
            }
        }
    }
    let lines: Vec<Vec<String>> = schemes
        .iter()
        .map(|(name, _)| {
            let of: Vec<&Point> = points.iter().filter(|point| point.scheme == *name).collect();
            vec![
                (*name).to_owned(),
                format!("{:.1}", of[0].bytes as f64 / 1e6),
                format!("{:.0}", 1e3 * median(of.iter().map(|point| point.seconds).collect())),
                spread(of.iter().map(|point| point.ratio).collect(), 1),
            ]
        })
        .collect();
    let table = markdown(&["protocol", "MB sent", "ms", "over plain averaging"], &[0], &lines);
    println!("{table}");
    write_atomically(&folder.join("round_cost.md"), table.as_bytes())?;
    write_atomically(&folder.join("round_cost.csv"), &to_csv(&points)?)?;
    grids(&folder, &updates)?;
    whole_rounds(&folder)
}
