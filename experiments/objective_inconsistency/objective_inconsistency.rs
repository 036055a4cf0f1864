//! Where FedAvg goes when links differ, on objectives whose optimum is known.
//!
//! Client k minimises ‖x − c_k‖²/2 by E steps of gradient descent with rate η, so that its update is (1 − (1
//! − η)ᴱ)(c_k − x). The sum of all objectives has its optimum at the mean of the c_k. The server's mean over
//! the updates that arrive, a set A, moves x on average by Σ_k w_k (c_k − x) with w_k = E\[1{k ∈ A}/|A|\]:
//! FedAvg converges to Σ w_k c_k / Σ w_k. A decoded sum holds everybody or nothing.
//!
//! `cargo run --release --example objective_inconsistency [FOLDER]` writes `objective_inconsistency.csv`, its
//! table and figure.

use std::path::PathBuf;
use std::sync::Arc;

use rand::RngExt;
use serde::Serialize;

use seccogc::error::{Error, Result};
use seccogc::network::{LinkModel, LinkUse, Node};
use seccogc::protocol::uncoded::{FedAvg, Ideal};
use seccogc::protocol::{Arithmetic, Decoded, ProtocolConfig, Update};
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::{Spread, markdown, plot_lines};
use seccogc::seed::Seed;

const CLIENTS: usize = 10;
const LOST: [f64; CLIENTS] = [0.05, 0.1, 0.1, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9, 0.95];
const BETWEEN: f64 = 0.1;
const ROUNDS: u64 = 4000;
/// Iterates before this round are on the way.
const SETTLED: u64 = 1000;
const STEPS: i32 = 5;
const RATE: f64 = 0.01;

/// Independent losses with the probabilities above.
struct Links(Seed);

impl LinkModel for Links {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let name = u64::from(link.from.code()) << 32 | u64::from(link.to.code());
        let coin: f64 = self.0.child("round", link.round).child("link", name).rng().random();
        coin >= self.erasure(link.from, link.to, link.bytes)
    }

    fn erasure(&self, from: Node, to: Node, _: u64) -> f64 {
        match (from, to) {
            (Node::Client(k), Node::Server) => LOST[k as usize],
            _ => BETWEEN,
        }
    }
}

#[derive(Serialize)]
struct Point {
    protocol: &'static str,
    round: u64,
    /// Distance of the model from the optimum.
    distance: f64,
    /// Distance of the mean of all models since round 1000, where there are any.
    distance_of_mean: Option<f64>,
}

/// c_k on a circle of radius 10, in the order of the links' quality.
fn centre(k: usize) -> [f64; 2] {
    let angle = std::f64::consts::TAU * k as f64 / CLIENTS as f64;
    [10.0 * angle.cos(), 10.0 * angle.sin()]
}

fn norm([x, y]: [f64; 2]) -> f64 {
    x.hypot(y)
}

/// Σ w_k c_k / Σ w_k over all 2¹⁰ sets of arrivals.
fn predicted() -> [f64; 2] {
    let mut weights = [0.0; CLIENTS];
    for set in 1u32..1 << CLIENTS {
        let holds = |k: usize| set >> k & 1 == 1;
        let probability: f64 = (0..CLIENTS).map(|k| if holds(k) { 1.0 - LOST[k] } else { LOST[k] }).product();
        (0..CLIENTS)
            .filter(|&k| holds(k))
            .for_each(|k| weights[k] += probability / f64::from(set.count_ones()));
    }
    let total: f64 = weights.iter().sum();
    let along = |i: usize| (0..CLIENTS).map(|k| weights[k] * centre(k)[i]).sum::<f64>() / total;
    [along(0), along(1)]
}

fn train(name: &'static str, protocol: &ProtocolConfig) -> Result<Vec<Point>> {
    let scheme = protocol.build(CLIENTS, Seed::new(1))?;
    let links = Links(Seed::new(2));
    let factor = 1.0 - (1.0 - RATE).powi(STEPS);
    // As far from the optimum as the clients are.
    let mut x = [10.0, 10.0];
    let mut sum_of_models = [0.0; 2];
    let mut points = Vec::new();
    for round in 1..=ROUNDS {
        let updates: Vec<Update> = (0..CLIENTS)
            .map(|k| {
                let delta = (0..2).map(|i| (factor * (centre(k)[i] - x[i])) as f32).collect();
                Update { weight: 1.0, delta: Arc::new(delta) }
            })
            .collect();
        if let Decoded::Sum { sum, included, .. } = scheme.aggregate(round, &updates, &links, 1)?.decoded {
            (0..2).for_each(|i| x[i] += sum[i] / included.len() as f64);
        }
        if round > SETTLED {
            (0..2).for_each(|i| sum_of_models[i] += x[i]);
        }
        let since = round.saturating_sub(SETTLED) as f64;
        let distance_of_mean = (round > SETTLED).then(|| norm(sum_of_models.map(|sum| sum / since)));
        points.push(Point { protocol: name, round, distance: norm(x), distance_of_mean });
    }
    Ok(points)
}

fn main() -> Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("runs/objective_inconsistency"), PathBuf::from);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let contenders = [
        // Near the optimum single precision ends: the sum of updates that cancel is smaller than what rounds
        // off.
        ("ideal", ProtocolConfig::Ideal(Ideal { arithmetic: Arithmetic::F64, ..Ideal::default() })),
        ("FedAvg", ProtocolConfig::FedAvg(FedAvg { arithmetic: Arithmetic::F64, ..FedAvg::default() })),
        ("CoGC", ProtocolConfig::CoGc(Default::default())),
        ("Fair-SecCoGC", ProtocolConfig::SecCoGc(Default::default())),
    ];
    let wrong = norm(predicted());
    let (mut all, mut lines, mut curves) = (Vec::new(), Vec::new(), Vec::new());
    for (name, protocol) in &contenders {
        let points = train(name, protocol)?;
        let settled = points.iter().filter(|point| point.round > SETTLED).map(|point| point.distance);
        let (mean, deviation) = Spread::Deviation.of(settled).unwrap_or_default();
        let end = points.last().and_then(|point| point.distance_of_mean).unwrap_or(f64::NAN);
        let expected = if *name == "FedAvg" { wrong } else { 0.0 };
        lines.push([
            (*name).to_owned(),
            format!("{expected:.3}"),
            format!("{end:.3}"),
            format!("{mean:.3} ± {:.3}", deviation.unwrap_or_default()),
        ]);
        let curve = points.iter().filter(|point| point.round % 10 == 1 && point.round <= SETTLED);
        curves.push(((*name).to_owned(), curve.map(|point| (point.round as f64, point.distance)).collect()));
        all.extend(points);
    }
    curves.push(("predicted for FedAvg".to_owned(), vec![(1.0, wrong), (SETTLED as f64, wrong)]));
    let header = ["protocol", "predicted", "distance of the mean model", "distance of a model"];
    let table = markdown(&header, &[0], &lines);
    println!("{table}");
    write_atomically(&folder.join("objective_inconsistency.md"), table.as_bytes())?;
    write_atomically(&folder.join("objective_inconsistency.csv"), &to_csv(&all)?)?;
    plot_lines(
        &curves,
        ["round", "distance from the optimum"],
        "Ten quadratic objectives over unequal links",
        "uploads lost with probability 0.05 to 0.95; centres on a circle of radius 10",
        &folder.join("objective_inconsistency"),
    )
}
