//! Tables of the sweeps of `experiments/competitors`: one trajectory a run, cut at equal rounds, bytes and
//! simulated seconds.
//!
//! `cargo run --release --example competitors FOLDER` reads the sweeps `FOLDER/<network>`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use seccogc::error::{Error, Result};
use seccogc::record::{Row, to_csv, write_atomically};
use seccogc::report::{Recorded, Runs, Spread, markdown};

const NETWORKS: [&str; 6] = ["even", "uneven", "bursts", "dead", "reciprocal", "slow"];
/// The kind of partition, and its name in files.
const SKEWS: [(&str, &str); 2] = [("classes-per-client", "class"), ("dirichlet", "dirichlet")];
/// What the budgets of bytes and seconds are taken from: it sends each model once a round.
const CHEAPEST: &str = "FedAvg";
/// The accuracy of the mean of local models, where it is tested.
const LOCALS: &str = "test_locals_accuracy";

/// What a trajectory is cut at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Cut {
    Rounds,
    Bytes,
    Seconds,
}

impl Cut {
    const ALL: [(Self, &str); 3] =
        [(Self::Rounds, "equal rounds"), (Self::Bytes, "equal bytes"), (Self::Seconds, "equal seconds")];

    /// What a round costs; `None` where messages take no time.
    fn cost(self, row: &Row) -> Option<f64> {
        match self {
            Self::Rounds => Some(1.0),
            Self::Bytes => Some((row.bytes_client_client + row.bytes_client_server) as f64),
            Self::Seconds => row.seconds_simulated,
        }
    }

    /// What a whole run costs.
    fn total(self, run: &Recorded) -> Option<f64> {
        run.played.rows.iter().map(|row| self.cost(row)).sum()
    }

    /// The last accuracy that was reached within a budget, if any was measured.
    fn accuracy(self, run: &Recorded, budget: f64, of: fn(&Row) -> Option<f64>) -> Option<f64> {
        let mut spent = 0.0;
        let mut last = None;
        for row in &run.played.rows {
            spent += self.cost(row)?;
            if spent > budget {
                break;
            }
            last = of(row).or(last);
        }
        last
    }
}

/// One scheme under one setting, over the seeds.
#[derive(Clone, Debug, Serialize)]
struct Point {
    network: &'static str,
    skew: &'static str,
    scheme: String,
    cut: Cut,
    seeds: usize,
    /// Test accuracy (%) and its sample standard deviation.
    accuracy: f64,
    accuracy_std: Option<f64>,
}

fn locals(row: &Row) -> Option<f64> {
    row.metrics.iter().find(|(name, _)| name == LOCALS).map(|(_, value)| *value)
}

/// A scheme's name, and which accuracy stands behind it.
type Line = (String, String, fn(&Row) -> Option<f64>);

/// The schemes in the order of the sweep; those that keep local models twice.
fn lines(runs: &[Recorded]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for run in runs {
        if lines.iter().any(|(variant, ..)| *variant == run.name) {
            continue;
        }
        lines.push((run.name.clone(), run.name.clone(), |row| row.test_accuracy));
        if run.played.rows.iter().any(|row| locals(row).is_some()) {
            lines.push((run.name.clone(), format!("{}, mean of local models", run.name), locals));
        }
    }
    lines
}

fn points(network: &'static str, runs: &[Recorded]) -> Vec<Point> {
    let mut points = Vec::new();
    for (kind, skew) in SKEWS {
        let here = |run: &&Recorded| run.value("partition").is_some_and(|value| value.contains(kind));
        let of = |variant: &str| -> Vec<&Recorded> {
            runs.iter().filter(here).filter(|run| run.name == variant).collect()
        };
        for (cut, _) in Cut::ALL {
            let budget = of(CHEAPEST).into_iter().filter_map(|run| cut.total(run)).reduce(f64::min);
            let Some(budget) = budget else { continue };
            for (variant, scheme, accuracy) in lines(runs) {
                let runs = of(&variant).into_iter();
                let reached: Vec<f64> = runs.filter_map(|run| cut.accuracy(run, budget, accuracy)).collect();
                let percent = reached.iter().map(|accuracy| 100.0 * accuracy);
                let Some((accuracy, accuracy_std)) = Spread::Deviation.of(percent) else { continue };
                let seeds = reached.len();
                points.push(Point { network, skew, scheme, cut, seeds, accuracy, accuracy_std });
            }
        }
    }
    points
}

/// One line per scheme, one column per network.
fn table(points: &[Point], skew: &str, cut: Cut) -> Option<String> {
    let here: Vec<&Point> = points.iter().filter(|point| point.skew == skew && point.cut == cut).collect();
    let networks: Vec<&str> =
        NETWORKS.into_iter().filter(|network| here.iter().any(|point| point.network == *network)).collect();
    if networks.is_empty() {
        return None;
    }
    let mut schemes: Vec<&str> = Vec::new();
    for point in &here {
        if !schemes.contains(&point.scheme.as_str()) {
            schemes.push(&point.scheme);
        }
    }
    let cell = |scheme: &str, network: &str| {
        let point = here.iter().find(|point| point.scheme == scheme && point.network == network);
        point.map_or_else(
            || "–".into(),
            |point| match point.accuracy_std {
                Some(std) => format!("{:.1} ± {std:.1}", point.accuracy),
                None => format!("{:.1}", point.accuracy),
            },
        )
    };
    let lines: Vec<Vec<String>> = schemes
        .iter()
        .map(|scheme| {
            std::iter::once((*scheme).to_owned()).chain(networks.iter().map(|n| cell(scheme, n))).collect()
        })
        .collect();
    let header: Vec<&str> = std::iter::once("scheme").chain(networks.iter().copied()).collect();
    Some(markdown(&header, &[0], &lines))
}

/// The tables of one skew.
fn page(points: &[Point], skew: &str) -> String {
    let tables = Cut::ALL.into_iter().filter_map(|(cut, name)| {
        let table = table(points, skew, cut)?;
        Some(format!("Test accuracy (%) after {name}:\n\n{table}"))
    });
    tables.collect::<Vec<_>>().join("\n")
}

fn read(folder: &Path) -> Result<Vec<Point>> {
    let mut all = Vec::new();
    for network in NETWORKS {
        let sweep = folder.join(network);
        if sweep.is_dir() {
            all.extend(points(network, &Runs::read(&[sweep])?.runs));
        }
    }
    if all.is_empty() {
        Err(Error::Refused("there is no finished sweep in the folder".into()))
    } else {
        Ok(all)
    }
}

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| Error::Refused("give the folder of the sweeps".into()))?;
    let all = read(&folder)?;
    for (_, skew) in SKEWS {
        let page = page(&all, skew);
        println!("{skew}\n\n{page}");
        write_atomically(&folder.join(format!("{skew}.md")), page.as_bytes())?;
    }
    write_atomically(&folder.join("competitors.csv"), &to_csv(&all)?)
}
