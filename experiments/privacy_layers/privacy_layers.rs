//! Leakage by layer of adversaries against the power of the keys, for plain and fair keys, with the losses
//! that occur.
//!
//! `cargo run --release --example privacy_layers CONFIG [FOLDER]` writes `privacy_layers.csv`, its table and
//! figure.

use std::path::{Path, PathBuf};

use serde::Serialize;

use seccogc::audit::{Adversaries, Entry, Erasures, audit};
use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::{Graph, Scale, Trace, markdown, plot_graphs};
use seccogc::seed::Seed;

const KEY_STDS: [f64; 6] = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];
/// The key power of the table.
const SHOWN: f64 = 1.0;
const COLLUDERS: usize = 2;

/// One layer under one kind of keys.
#[derive(Clone, Debug, Serialize)]
struct Point {
    keys: &'static str,
    key_std: f64,
    layer: String,
    /// LMIP of one round, bits per coordinate: the client who loses least, and the one who loses most.
    lmip_bits_least: f64,
    lmip_bits_most: f64,
    /// What the sum alone tells this layer.
    floor_bits: f64,
    /// ε over all rounds, of the client who loses most: on the view, or beyond the sum where the layer
    /// obtains it.
    epsilon_most: f64,
    obtains_sum: bool,
    worst_adversary: String,
}

fn points(keys: &'static str, key_std: f64, entries: &[Entry]) -> Vec<Point> {
    let of_layer = |entries: &[Entry]| {
        let bits = entries.iter().map(|entry| entry.lmip_bits);
        let worst = entries.iter().max_by(|a, b| a.lmip_bits.total_cmp(&b.lmip_bits))?;
        Some(Point {
            keys,
            key_std,
            layer: worst.layer.clone(),
            lmip_bits_least: bits.fold(f64::INFINITY, f64::min),
            lmip_bits_most: worst.lmip_bits,
            floor_bits: entries.iter().map(|entry| entry.floor_bits).fold(0.0, f64::max),
            epsilon_most: entries.iter().map(Entry::epsilon).fold(0.0, f64::max),
            obtains_sum: worst.sum,
            worst_adversary: worst.adversary.clone(),
        })
    };
    entries.chunk_by(|a, b| a.layer == b.layer).filter_map(of_layer).collect()
}

fn measure(config: &Path, keys: &'static str, key_std: f64) -> Result<Vec<Point>> {
    let sets = [format!("protocol.keys={keys}"), format!("protocol.key_std={key_std:?}")];
    let config = Config::load(config, &sets)?;
    let (clients, seed) = (config.clients, Seed::new(config.seed));
    let links = config.network.build(clients, config.rounds, seed.child("links", 0))?;
    let scheme = config.protocol.build(clients, seed.child("protocol", 0))?;
    let adversaries = Adversaries { all: COLLUDERS, coalition: None };
    let assumptions = config.assumptions(vec![1.0; clients]);
    let found = audit(
        keys,
        &*scheme,
        Erasures::Actual(&links),
        config.outage.attempts(),
        &adversaries,
        &assumptions,
    )?;
    Ok(points(keys, key_std, &found.entries))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let config = arguments.next().ok_or_else(|| Error::Refused("give a configuration".into()))?;
    let folder = arguments.next().unwrap_or_else(|| "runs/privacy_layers".into());
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let mut all = Vec::new();
    for keys in ["plain", "fair"] {
        for key_std in KEY_STDS {
            all.extend(measure(&config, keys, key_std)?);
        }
    }
    let short = |value: f64| if value == 0.0 { "0".into() } else { format!("{value:.2e}") };
    let lines: Vec<Vec<String>> = all
        .iter()
        .filter(|point| point.key_std == SHOWN)
        .map(|point| {
            let range = format!("{} – {}", short(point.lmip_bits_least), short(point.lmip_bits_most));
            let which = if point.obtains_sum { "beyond the sum" } else { "on the view" };
            let epsilon = format!("{:.3} {which}", point.epsilon_most);
            vec![point.keys.into(), point.layer.clone(), range, short(point.floor_bits), epsilon]
        })
        .collect();
    let header = ["keys", "adversary", "LMIP, bits per coordinate", "of the sum", "ε over 100 rounds"];
    let table = markdown(&header, &[0, 1, 4], &lines);
    println!("{table}");
    write_atomically(&folder.join("privacy_layers.md"), table.as_bytes())?;
    write_atomically(&folder.join("privacy_layers.csv"), &to_csv(&all)?)?;

    let mut layers: Vec<&str> = Vec::new();
    for point in &all {
        if !layers.contains(&point.layer.as_str()) {
            layers.push(&point.layer);
        }
    }
    let panel = |keys: &str,
                 label: &str,
                 value: fn(&Point) -> f64,
                 band: fn(&Point) -> Option<(f64, f64)>| {
        let line = |layer: &&str| {
            let of_layer = all.iter().filter(|point| point.keys == keys && point.layer == **layer);
            let points = of_layer.map(|point| (point.key_std, value(point), band(point)));
            Trace { name: (*layer).to_owned(), points: points.filter(|(_, y, _)| y.is_finite()).collect() }
        };
        Graph {
            x: ("standard deviation σ of the keys".into(), Scale::Logarithmic),
            y: (format!("{keys} keys: {label}"), Scale::Logarithmic),
            traces: layers.iter().map(line).collect(),
        }
    };
    let lmip = |point: &Point| Some((point.lmip_bits_least, point.lmip_bits_most));
    let mut panels = Vec::new();
    for keys in ["plain", "fair"] {
        panels.push(panel(keys, "LMIP (bits)", |point| point.lmip_bits_most, lmip));
    }
    for keys in ["plain", "fair"] {
        panels.push(panel(keys, "ε, 100 rounds", |point| point.epsilon_most, |_| None));
    }
    plot_graphs(
        &panels,
        "Leakage by adversary against the power of the keys",
        "LMIP of one round per coordinate, from the client who loses least to the one who loses most; losses as they occur",
        &folder.join("privacy_layers"),
    )
}
