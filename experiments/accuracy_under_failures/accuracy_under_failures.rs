//! Tables and figures of the sweeps of `experiments/accuracy_under_failures`: final accuracy by method, level
//! of privacy, links and data.
//!
//! `cargo run --release --example accuracy_under_failures FOLDER` reads
//! `FOLDER/<dataset>/<even|uneven>/<network>/runs.csv`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use seccogc::error::{Error, Result};
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::{Graph, Scale, Spread, Trace, markdown, plot_graphs};

const DATASETS: [(&str, &str); 2] = [("mnist", "MNIST"), ("cifar10", "CIFAR-10")];
const NETWORKS: [&str; 3] = ["good", "moderate", "poor"];
/// The kind of partition, how it is called, and in the names of files.
const SKEWS: [(&str, &str, &str); 2] =
    [("classes-per-client", "one class a client", "class"), ("dirichlet", "Dirichlet(0.3)", "dirichlet")];
const METHODS: [&str; 8] =
    ["ideal", "CoGC", "SecCoGC", "Fair-SecCoGC", "FedAvg", "SecAgg", "Gaussian", "zero-sum"];
/// What hides single updates from the server and is not ours.
const OTHERS: [&str; 3] = ["SecAgg", "Gaussian", "zero-sum"];

/// A line of a sweep's runs.csv, as far as it is needed here.
#[derive(Deserialize)]
struct Run {
    variant: String,
    #[serde(rename = "protocol.key_std")]
    key_std: Option<f64>,
    partition: String,
    rounds_played: u64,
    recovered: u64,
    final_accuracy: f64,
    seconds: f64,
}

/// One method under one setting, over the seeds.
#[derive(Clone, Serialize)]
struct Point {
    dataset: &'static str,
    links: &'static str,
    network: &'static str,
    skew: &'static str,
    method: String,
    key_std: Option<f64>,
    seeds: usize,
    /// Rounds (%) in which the sum of all was decoded.
    recovered: f64,
    /// Final test accuracy (%) and its sample standard deviation.
    accuracy: f64,
    accuracy_std: f64,
}

fn read(path: &Path) -> Result<Vec<Run>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let runs: std::result::Result<Vec<Run>, _> = csv::Reader::from_reader(&bytes[..]).deserialize().collect();
    runs.map_err(|error| Error::file(path, error.to_string()))
}

fn points(dataset: &'static str, links: &'static str, network: &'static str, runs: &[Run]) -> Vec<Point> {
    let mut points = Vec::new();
    for (kind, skew, _) in SKEWS {
        for method in METHODS {
            let of_method = runs.iter().filter(|run| run.variant == method && run.partition.contains(kind));
            let mut levels: BTreeMap<u64, Vec<&Run>> = BTreeMap::new();
            of_method
                .for_each(|run| levels.entry(run.key_std.map_or(0, f64::to_bits)).or_default().push(run));
            for runs in levels.into_values() {
                let mean = |of: fn(&Run) -> f64| Spread::Deviation.of(runs.iter().map(|run| of(run)));
                let (accuracy, deviation) = mean(|run| 100.0 * run.final_accuracy).unwrap_or_default();
                let recovered = mean(|run| 100.0 * run.recovered as f64 / run.rounds_played as f64);
                points.push(Point {
                    dataset,
                    links,
                    network,
                    skew,
                    method: method.to_owned(),
                    key_std: runs[0].key_std,
                    seeds: runs.len(),
                    recovered: recovered.unwrap_or_default().0,
                    accuracy,
                    accuracy_std: deviation.unwrap_or_default(),
                });
            }
        }
    }
    points
}

fn label(method: &str, key_std: Option<f64>) -> String {
    key_std.map_or_else(|| method.to_owned(), |std| format!("{method}, σ = {std}"))
}

/// One line per method and level, one column per network; both kinds of links.
fn table(points: &[&Point]) -> String {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut columns: Vec<(&str, &str)> = points.iter().map(|point| (point.links, point.network)).collect();
    columns.sort_unstable();
    columns.dedup();
    for point in points {
        let name = label(&point.method, point.key_std);
        if !rows.iter().any(|row| row.0 == name) {
            let cells = columns.iter().map(|&(links, network)| {
                let cell = points.iter().find(|other| {
                    (other.links, other.network) == (links, network)
                        && label(&other.method, other.key_std) == name
                });
                cell.map_or_else(String::new, |cell| {
                    format!("{:.1} ± {:.1}", cell.accuracy, cell.accuracy_std)
                })
            });
            let cells = cells.collect();
            rows.push((name, cells));
        }
    }
    let names: Vec<String> = columns.iter().map(|(links, network)| format!("{network}, {links}")).collect();
    let header: Vec<&str> = ["method"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let lines: Vec<Vec<String>> =
        rows.into_iter().map(|(name, cells)| [vec![name], cells].concat()).collect();
    markdown(&header, &[0], &lines)
}

/// Percentage points by which Fair-SecCoGC is ahead of every other method that hides single updates, at each
/// level of privacy.
fn gains(points: &[Point]) -> String {
    let mut lines = Vec::new();
    for ours in points.iter().filter(|point| point.method == "Fair-SecCoGC") {
        let same = |point: &&Point| {
            (point.dataset, point.links, point.network, point.skew)
                == (ours.dataset, ours.links, ours.network, ours.skew)
                && (point.key_std.is_none() || point.key_std == ours.key_std)
        };
        let ahead = |method: &str| {
            let other = points.iter().filter(same).find(|point| point.method == method);
            other.map_or(f64::NAN, |other| ours.accuracy - other.accuracy)
        };
        let cells = OTHERS.map(|method| format!("{:+.1}", ahead(method)));
        let setting = [ours.dataset, ours.skew, ours.links, ours.network].map(str::to_owned);
        let level = format!("{}", ours.key_std.unwrap_or_default());
        lines.push([setting.to_vec(), vec![level, format!("{:.1}", ours.accuracy)], cells.to_vec()].concat());
    }
    let header =
        ["data", "clients", "links", "network", "σ", "Fair-SecCoGC", "− SecAgg", "− Gaussian", "− zero-sum"];
    markdown(&header, &[0, 1, 2, 3], &lines)
}

fn draw(points: &[&Point], title: &str, stem: &Path) -> Result<()> {
    let levels: Vec<f64> = points.iter().filter_map(|point| point.key_std).collect();
    let ends = levels.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &std| (low.min(std), high.max(std)));
    let panel = |network: &str| {
        let line = |method: &str| {
            let of = points.iter().filter(|point| point.network == network && point.method == method);
            let at = |point: &Point, x: f64| {
                let half = point.accuracy_std;
                (x, point.accuracy, Some((point.accuracy - half, point.accuracy + half)))
            };
            let points = of.flat_map(|point| match point.key_std {
                Some(std) => vec![at(point, std)],
                None => vec![at(point, ends.0), at(point, ends.1)],
            });
            Trace { name: method.to_owned(), points: points.collect() }
        };
        Graph {
            x: (
                "standard deviation σ of keys or noise: more private to the right".into(),
                Scale::Logarithmic,
            ),
            y: (format!("{network}: accuracy (%)"), Scale::FromZero),
            traces: METHODS.map(line).into_iter().filter(|line| !line.points.is_empty()).collect(),
        }
    };
    let has = |network: &&&str| points.iter().any(|point| point.network == **network);
    let panels: Vec<Graph> = NETWORKS.iter().filter(has).map(|network| panel(network)).collect();
    let caption = "mean ± one standard deviation over the seeds; without keys: from end to end";
    plot_graphs(&panels, title, caption, stem)
}

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| Error::Refused("give the folder of the sweeps".into()))?;
    let (mut all, mut seconds, mut runs) = (Vec::new(), 0.0, 0);
    for (dataset, name) in DATASETS {
        for links in ["even", "uneven"] {
            for network in NETWORKS {
                let path = folder.join(dataset).join(links).join(network).join("runs.csv");
                if path.is_file() {
                    let read = read(&path)?;
                    seconds += read.iter().map(|run| run.seconds).sum::<f64>();
                    runs += read.len();
                    all.extend(points(name, links, network, &read));
                }
            }
        }
        for (_, skew, short) in SKEWS {
            let here: Vec<&Point> =
                all.iter().filter(|point| (point.dataset, point.skew) == (name, skew)).collect();
            if here.is_empty() {
                continue;
            }
            let file = format!("{dataset}_{short}");
            write_atomically(&folder.join(format!("{file}.md")), table(&here).as_bytes())?;
            let uneven: Vec<&Point> = here.into_iter().filter(|point| point.links == "uneven").collect();
            draw(&uneven, &format!("{name}, {skew}, unequal links"), &folder.join(file))?;
        }
    }
    let text =
        format!("{runs} runs, {:.1} hours of local training, coding and testing in all.\n", seconds / 3600.0);
    print!("{text}");
    write_atomically(&folder.join("cost.md"), text.as_bytes())?;
    write_atomically(&folder.join("gains.md"), gains(&all).as_bytes())?;
    write_atomically(&folder.join("accuracy_under_failures.csv"), &to_csv(&all)?)
}
