//! What keys of one total power leave to links, uploads, neighbours and the server: plain, fair and optimised
//! ones, for the server and the neighbours weighted against each other, and for clients who ask for more.
//!
//! `cargo run --release --example keys [FOLDER]` writes `keys.csv`, `levels.csv`, their tables and a figure.

use std::path::PathBuf;

use serde::Serialize;

use seccogc::audit::{Assumptions, Entry, lossless};
use seccogc::coding::CodeKind;
use seccogc::error::{Error, Result};
use seccogc::keys::KeyChoice;
use seccogc::protocol::ProtocolConfig;
use seccogc::protocol::cogc::{Optimise, SecCoGcConfig};
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::{Graph, Scale, Trace, markdown, plot_graphs};
use seccogc::seed::Seed;

const M: usize = 10;

/// Codes and their tolerances.
const CODES: [(CodeKind, usize); 3] =
    [(CodeKind::CyclicMds, 7), (CodeKind::FractionalRepetition, 4), (CodeKind::CyclicRandom, 7)];

/// How many times what a neighbour learns counts against the server's knowledge beyond the sum.
const NEIGHBOURS: [f64; 12] = [0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.13, 0.17, 0.25, 1.0];

/// How many times what is learned of the first client counts.
const LEVELS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];

/// Of the power that is always spent as fair keys.
const FAIR_SHARE: f64 = 0.01;

/// Keys of the total power M, updates of N(0, 1): LMIP of the worst client in bits per coordinate.
#[derive(Debug, Serialize)]
struct Point {
    code: &'static str,
    stragglers: usize,
    keys: &'static str,
    /// Of optimised keys: how many times a neighbour counts, the server once.
    neighbour_counts: Option<f64>,
    link_bits: f64,
    upload_bits: f64,
    neighbour_bits: f64,
    server_bits: f64,
    /// Provable of the bits that are sent, which may tell the masked updates in a sum apart.
    server_bits_provable: f64,
    /// What the sum alone tells the server.
    sum_bits: f64,
    least_variance: f64,
    most_variance: f64,
    /// The largest that counts, nats per coordinate beyond the sum, and what no keys go below.
    counted_nats: Option<f64>,
    bound_nats: Option<f64>,
}

/// The first client counts more than the others.
#[derive(Debug, Serialize)]
struct Level {
    level: f64,
    first_variance: f64,
    first_link_bits: f64,
    others_link_bits: f64,
    first_neighbour_bits: f64,
    others_neighbour_bits: f64,
    first_server_bits: f64,
    others_server_bits: f64,
}

fn assumptions() -> Assumptions {
    Assumptions {
        input_std: 1.0,
        clip: None,
        weights: vec![1.0; M].into(),
        delta: 1e-5,
        rounds: 1,
        coordinates: None,
    }
}

/// What the party code leaks, the variances of the masks, and the optimum.
type Measured = (Vec<Entry>, Vec<f64>, Option<[f64; 2]>);

fn measure(
    (code, stragglers): (CodeKind, usize),
    keys: KeyChoice,
    optimise: Option<Optimise>,
) -> Result<Measured> {
    // All of the power Mσ² at σ = 1.
    let key_std = (M as f64 / keys.total_power(M, 1.0)).sqrt();
    let stragglers = stragglers.into();
    let config = SecCoGcConfig { keys, key_std, code, stragglers, optimise, ..SecCoGcConfig::default() };
    let scheme = ProtocolConfig::SecCoGc(config).build(M, Seed::new(1))?;
    let entries = lossless(keys.name(), &*scheme, 1, &assumptions())?;
    let optimum = scheme.scheme().optimum.as_ref();
    let variances = match (keys.closed(), optimum) {
        (Some(kind), _) => kind.variances(M, key_std),
        (None, Some(optimum)) => optimum.covariance.variances(key_std),
        (None, None) => Vec::new(),
    };
    Ok((entries, variances, optimum.map(|optimum| [optimum.leakage, optimum.bound])))
}

/// The worst of some clients of a layer, in bits.
fn worst(entries: &[Entry], layer: &str, counts: impl Fn(usize) -> bool) -> f64 {
    let of_layer = entries.iter().filter(|entry| entry.layer == layer && counts(entry.client));
    of_layer.map(|entry| entry.lmip_bits).fold(0.0, f64::max)
}

fn point(of: (CodeKind, usize), keys: KeyChoice, neighbour: Option<f64>) -> Result<Point> {
    let goal = neighbour.map(|neighbour| Optimise {
        server: 1.0,
        neighbour,
        link: 0.0,
        upload: 0.0,
        fair_share: FAIR_SHARE,
        ..Optimise::default()
    });
    let (entries, variances, optimum) = measure(of, keys, goal)?;
    let layer = |name: &str| worst(&entries, name, |_| true);
    let server = || entries.iter().filter(|entry| entry.layer == "server");
    Ok(Point {
        code: of.0.name(),
        stragglers: of.1,
        keys: keys.name(),
        neighbour_counts: neighbour,
        link_bits: layer("link"),
        upload_bits: layer("upload"),
        neighbour_bits: layer("neighbour"),
        server_bits: layer("server"),
        server_bits_provable: server().map(Entry::provable_lmip_bits).fold(0.0, f64::max),
        sum_bits: server().map(|entry| entry.floor_bits).fold(0.0, f64::max),
        least_variance: variances.iter().copied().fold(f64::INFINITY, f64::min),
        most_variance: variances.iter().copied().fold(0.0, f64::max),
        counted_nats: optimum.map(|[counted, _]| counted),
        bound_nats: optimum.map(|[_, bound]| bound),
    })
}

fn level(level: f64) -> Result<Level> {
    let mut levels = vec![1.0; M];
    levels[0] = level;
    let goal = Optimise { levels, fair_share: FAIR_SHARE, ..Optimise::default() };
    let (entries, variances, _) = measure(CODES[0], KeyChoice::Optimised, Some(goal))?;
    let first = |layer: &str| worst(&entries, layer, |client| client == 1);
    let others = |layer: &str| worst(&entries, layer, |client| client != 1);
    Ok(Level {
        level,
        first_variance: variances[0],
        first_link_bits: first("link"),
        others_link_bits: others("link"),
        first_neighbour_bits: first("neighbour"),
        others_neighbour_bits: others("neighbour"),
        first_server_bits: first("server"),
        others_server_bits: others("server"),
    })
}

/// The front of a code as a curve, and other keys as short dashes.
fn panel(code: &str, points: &[Point]) -> Graph {
    let of_code = || points.iter().filter(|point| point.code == code);
    let optimised = of_code().filter(|point| point.neighbour_counts.is_some());
    let mut front: Vec<_> = optimised.map(|point| (point.neighbour_bits, point.server_bits, None)).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut traces = vec![Trace { name: "optimised".into(), points: front }];
    for name in ["fair, pairwise", "plain"] {
        let point = of_code().find(|point| name.starts_with(point.keys));
        let dash = |point: &Point| {
            [0.97, 1.03].map(|by| (by * point.neighbour_bits, point.server_bits, None)).to_vec()
        };
        traces.extend(point.map(|point| Trace { name: name.into(), points: dash(point) }));
    }
    Graph {
        x: ("LMIP of the worst neighbour (bits)".into(), Scale::Linear),
        y: (format!("{code}: server (bits)"), Scale::Linear),
        traces,
    }
}

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("runs/keys"), PathBuf::from);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let mut points = Vec::new();
    for code in CODES {
        for keys in [KeyChoice::Plain, KeyChoice::Fair, KeyChoice::Pairwise] {
            points.push(point(code, keys, None)?);
        }
        for counts in NEIGHBOURS {
            points.push(point(code, KeyChoice::Optimised, Some(counts))?);
        }
    }
    let levels = LEVELS.into_iter().map(level).collect::<Result<Vec<_>>>()?;

    let bits = |value: f64| format!("{value:.4}");
    let line = |point: &Point| {
        let counts = point.neighbour_counts.map_or_else(String::new, |counts| format!("{counts}"));
        let gap = point.counted_nats.zip(point.bound_nats);
        vec![
            format!("{}, s = {}", point.code, point.stragglers),
            point.keys.to_owned(),
            counts,
            bits(point.link_bits),
            bits(point.upload_bits),
            bits(point.neighbour_bits),
            bits(point.server_bits),
            bits(point.server_bits_provable),
            format!("{:.3} – {:.3}", point.least_variance, point.most_variance),
            gap.map_or_else(String::new, |(counted, bound)| format!("{:.0e}", (counted - bound) / counted)),
        ]
    };
    let header = [
        "code",
        "keys",
        "a neighbour counts",
        "link",
        "upload",
        "neighbour",
        "server",
        "server, provable",
        "variances",
        "above the best, at most",
    ];
    let table = markdown(&header, &[0, 1], &points.iter().map(line).collect::<Vec<_>>());
    let line = |level: &Level| {
        let two = |first: f64, others: f64| format!("{first:.4}, {others:.4}");
        vec![
            format!("{}", level.level),
            format!("{:.3}", level.first_variance),
            two(level.first_link_bits, level.others_link_bits),
            two(level.first_neighbour_bits, level.others_neighbour_bits),
            two(level.first_server_bits, level.others_server_bits),
        ]
    };
    let header = ["client 1 counts", "its mask's variance", "link", "neighbour", "server"];
    let asked = markdown(&header, &[], &levels.iter().map(line).collect::<Vec<_>>());
    println!("{table}\n{asked}");
    write_atomically(&folder.join("keys.md"), table.as_bytes())?;
    write_atomically(&folder.join("levels.md"), asked.as_bytes())?;
    write_atomically(&folder.join("keys.csv"), &to_csv(&points)?)?;
    write_atomically(&folder.join("levels.csv"), &to_csv(&levels)?)?;
    let panels: Vec<Graph> = CODES.iter().map(|(code, _)| panel(code.name(), &points)).collect();
    plot_graphs(
        &panels,
        "Leakage to the server against leakage to a neighbour",
        "LMIP of one round per coordinate, worst client, at one total power; ten clients, updates and keys of variance 1",
        &folder.join("keys"),
    )
}
