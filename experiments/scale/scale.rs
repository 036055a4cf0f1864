//! How time and memory of one aggregation grow with the number of clients M and of parameters d, each point
//! in a process of its own.
//!
//! `cargo run --release --example scale FOLDER [LARGEST]` writes `scale.csv`, its tables and figure; LARGEST
//! M·d of a point, 2·10⁹ without it, for which 8 GB of memory are needed. Memory is the peak of the resident
//! set, as Linux tells it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use rand::RngExt;
use rayon::prelude::*;
use serde::Serialize;

use seccogc::error::{Error, Result};
use seccogc::network::Perfect;
use seccogc::protocol::exchange::{PART_BYTES, part_len};
use seccogc::protocol::{ProtocolConfig, Update};
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::{Graph, Scale, Trace, markdown, plot_graphs, slope};
use seccogc::seed::Seed;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name, `[protocol]` section, bytes of a number, and the vectors of such numbers that a scheme must hold for
/// each client beside its update: `fedavg` what is uploaded, `sec-cogc` the masked update and the sum of
/// shares.
const SCHEMES: [(&str, &str, usize, usize); 4] = [
    ("fedavg, f32", "kind = 'fedavg'\narithmetic = 'f32'", 4, 1),
    ("fedavg, f64", "kind = 'fedavg'\narithmetic = 'f64'", 8, 1),
    ("sec-cogc, s = 4, f32", SECURE[0], 4, 2),
    ("sec-cogc, s = 4, f64", SECURE[1], 8, 2),
];

const SECURE: [&str; 2] = [
    "kind = 'sec-cogc'\nstragglers = 4\ncode = 'fractional-repetition'\narithmetic = 'f32'",
    "kind = 'sec-cogc'\nstragglers = 4\ncode = 'fractional-repetition'\narithmetic = 'f64'",
];
const CLIENTS: [usize; 5] = [10, 30, 100, 300, 1000];
const PARAMETERS: [usize; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// What M is varied at, and what d is.
const AT: (usize, usize) = (10, 100_000);
/// The CNN of McMahan et al. 2017 among as many clients as above.
const LARGE: (usize, usize) = (1000, 1_663_370);
const ROUNDS: u64 = 3;

#[derive(Clone, Serialize)]
struct Point {
    scheme: &'static str,
    clients: usize,
    parameters: usize,
    /// Fastest of three rounds.
    seconds: f64,
    /// Peak of the process, bytes, less that of one that only starts.
    memory: f64,
    /// What the scheme must hold, bytes.
    needed: f64,
}

/// Peak of the resident set of this process, bytes.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(1024.0 * line.split_whitespace().nth(1)?.parse::<f64>().ok()?)
}

/// One point, in this process: prints the fastest round's seconds, and the peak of the memory before the work
/// and in all.
fn point(section: &str, clients: usize, parameters: usize) -> Result<()> {
    let start = peak().unwrap_or(f64::NAN);
    let protocol: ProtocolConfig =
        toml::from_str(section).map_err(|error| Error::Refused(error.message().to_owned()))?;
    let scheme = protocol.build(clients, Seed::new(1))?;
    let update = |k: usize| {
        let mut rng = Seed::new(2).child("update", k as u64).rng();
        let delta = (0..parameters).map(|_| 0.01 * (rng.random::<f32>() - 0.5)).collect();
        Update { weight: 1.0, delta: Arc::new(delta) }
    };
    let updates: Vec<Update> = (0..clients).into_par_iter().map(update).collect();
    let mut fastest = f64::INFINITY;
    for round in 1..=ROUNDS {
        let clock = Instant::now();
        let aggregate = scheme.aggregate(round, &updates, &Perfect, 1)?;
        fastest = fastest.min(clock.elapsed().as_secs_f64());
        if !aggregate.decoded.is_sum() {
            return Err(Error::Refused("nothing was decoded without a loss".into()));
        }
    }
    println!("{fastest} {} {}", start, peak().unwrap_or(f64::NAN));
    Ok(())
}

fn measure(index: usize, clients: usize, parameters: usize) -> Result<Point> {
    let scheme = SCHEMES[index].0;
    let own = std::env::current_exe().map_err(|error| Error::Refused(error.to_string()))?;
    let numbers = [index, clients, parameters].map(|number| number.to_string());
    let output = Command::new(own).arg("point").args(numbers).output();
    let output = output.map_err(|error| Error::Refused(format!("cannot start a process: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let values: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [seconds, start, peak] = values[..] else {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::Refused(format!("{scheme}, M = {clients}, d = {parameters}: {error}")));
    };
    let needed = needed(index, clients, parameters) as f64;
    Ok(Point { scheme, clients, parameters, seconds, memory: peak - start, needed })
}

/// Bytes that a scheme must hold: an update (f32) for every client, its vectors, all of them or those of a
/// part, and the sum (f64).
fn needed(index: usize, clients: usize, parameters: usize) -> usize {
    let (_, _, bytes, vectors) = SCHEMES[index];
    let each = clients * bytes;
    let vector = each * part_len(PART_BYTES, each).min(parameters);
    4 * clients * parameters + vectors * vector + 8 * parameters
}

/// The exponent of the power law through points.
fn exponent(points: &[(f64, f64)]) -> f64 {
    slope(&points.iter().map(|(x, y)| (x.ln(), y.ln())).collect::<Vec<_>>())
}

/// What is varied: its name, the sizes (M, d), and which of the two it is.
type Axis = (&'static str, Vec<(usize, usize)>, fn(&Point) -> f64);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, numbers @ ..] = &arguments[..]
        && verb == "point"
    {
        let numbers: Vec<usize> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
        let [index, clients, parameters] = numbers[..] else {
            return Err(Error::Refused("give scheme, clients and parameters".into()));
        };
        return point(SCHEMES[index].1, clients, parameters);
    }
    let folder = arguments.first().map_or_else(|| PathBuf::from("runs/scale"), PathBuf::from);
    let largest: f64 = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(2e9);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let by_clients = CLIENTS.map(|clients| (clients, AT.1)).to_vec();
    let by_parameters = PARAMETERS.map(|parameters| (AT.0, parameters)).to_vec();
    let (mut all, mut lines, mut graphs): (Vec<Point>, Vec<Vec<String>>, Vec<Graph>) = Default::default();
    let along: [Axis; 2] = [
        ("clients M, at d = 100,000", by_clients, |point| point.clients as f64),
        ("parameters d, at M = 10", by_parameters, |point| point.parameters as f64),
    ];
    for (label, sizes, x) in along {
        let mut traces = Vec::new();
        for (index, (scheme, ..)) in SCHEMES.into_iter().enumerate() {
            let fits = sizes.iter().filter(|(clients, parameters)| (clients * parameters) as f64 <= largest);
            let points = fits.map(|&(m, d)| measure(index, m, d)).collect::<Result<Vec<Point>>>()?;
            let of =
                |y: fn(&Point) -> f64| points.iter().map(|point| (x(point), y(point))).collect::<Vec<_>>();
            let last = points.last().cloned();
            let last = last.ok_or_else(|| Error::Refused("no point is so small".into()))?;
            lines.push(vec![
                scheme.into(),
                label.into(),
                format!("{:.2}", exponent(&of(|point| point.seconds))),
                format!("{:.2}", exponent(&of(|point| point.memory))),
                format!("{:.3}", last.seconds),
                format!("{:.2}", last.memory / 1e9),
                format!("{:.2}", last.memory / last.needed),
            ]);
            let trace = of(|point| point.seconds).into_iter().map(|(x, y)| (x, y, None)).collect();
            traces.push(Trace { name: scheme.into(), points: trace });
            all.extend(points);
        }
        let (x, y) = ((label.into(), Scale::Logarithmic), ("seconds a round".into(), Scale::Logarithmic));
        graphs.push(Graph { x, y, traces });
    }
    let header = [
        "protocol",
        "along",
        "exponent of time",
        "of memory",
        "s at the largest",
        "GB there",
        "GB / (what it must hold)",
    ];
    if (LARGE.0 * LARGE.1) as f64 <= largest {
        let mut lines = Vec::new();
        for (index, (scheme, _, bytes, vectors)) in SCHEMES.into_iter().enumerate() {
            let point = measure(index, LARGE.0, LARGE.1)?;
            let updates = (4 * LARGE.0 * LARGE.1) as f64;
            let whole = updates + (vectors * bytes * LARGE.0 * LARGE.1) as f64;
            lines.push([
                scheme.to_owned(),
                format!("{:.1}", point.seconds),
                format!("{:.2}", point.memory / 1e9),
                format!("{:.2}", updates / 1e9),
                format!("{:.2}", point.memory / point.needed),
                format!("{:.2}", whole / 1e9),
            ]);
            all.push(point);
        }
        let header = [
            "protocol",
            "s",
            "GB",
            "GB of updates",
            "GB / (what it must hold)",
            "GB it would hold in one piece",
        ];
        let table = markdown(&header, &[0], &lines);
        println!("{table}");
        write_atomically(&folder.join("large.md"), table.as_bytes())?;
    }
    let table = markdown(&header, &[0, 1], &lines);
    println!("{table}");
    write_atomically(&folder.join("scale.md"), table.as_bytes())?;
    write_atomically(&folder.join("scale.csv"), &to_csv(&all)?)?;
    let title = "Time of one aggregation";
    plot_graphs(
        &graphs,
        title,
        "fastest of three rounds; straight lines of slope 1 are linear growth",
        &folder.join("scale"),
    )
}
