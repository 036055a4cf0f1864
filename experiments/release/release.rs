//! Tables and figure of the sweeps of `experiments/release`: accuracy against the ε of what is released.
//!
//! `cargo run --release --example release FOLDER` reads the sweeps `FOLDER/<data>-<network>` and, without
//! noise, `FOLDER/<data>-<network>-silent`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use seccogc::error::{Error, Result};
use seccogc::record::{Outcome, to_csv, write_atomically};
use seccogc::report::{Graph, Recorded, Runs, Scale, Spread, Trace, markdown, plot_graphs};

const DATA: [(&str, &str); 1] = [("mnist", "MNIST")];
/// What uploads lose.
const NETWORKS: [(&str, &str); 3] = [("good", "10 %"), ("moderate", "30 %"), ("poor", "50 %")];
const EPSILON: &str = "privacy.release.epsilon";

/// One scheme at one target, over the seeds.
#[derive(Clone, Debug, Serialize)]
struct Point {
    data: &'static str,
    network: &'static str,
    scheme: String,
    /// The target; none without noise.
    epsilon: Option<f64>,
    seeds: usize,
    /// Test accuracy (%) and the half width of its 95 % confidence band.
    accuracy: f64,
    accuracy_band: Option<f64>,
    /// Share (%) of the rounds that had a sum.
    recovered: f64,
    /// The largest ε that was spent, by adversary.
    epsilon_server: Option<f64>,
    epsilon_observer: Option<f64>,
}

fn spent(runs: &[&Recorded], column: &str) -> Option<f64> {
    let last = |run: &&Recorded| {
        let row = run.played.rows.last()?;
        row.metrics.iter().find(|(name, _)| name == column).map(|(_, value)| *value)
    };
    runs.iter().filter_map(last).reduce(f64::max)
}

fn points(data: &'static str, network: &'static str, folder: &Path) -> Result<Vec<Point>> {
    let mut points: Vec<Point> = Vec::new();
    for sweep in [folder.join(format!("{data}-{network}")), folder.join(format!("{data}-{network}-silent"))] {
        if !sweep.is_dir() {
            continue;
        }
        let runs = Runs::read(&[sweep])?.runs;
        let of =
            |run: &Recorded| (run.name.clone(), run.value(EPSILON).and_then(|epsilon| epsilon.parse().ok()));
        let mut cells: Vec<(String, Option<f64>)> = Vec::new();
        runs.iter().for_each(|run| {
            if !cells.contains(&of(run)) {
                cells.push(of(run))
            }
        });
        for (scheme, epsilon) in cells {
            let here: Vec<&Recorded> =
                runs.iter().filter(|run| of(run) == (scheme.clone(), epsilon)).collect();
            let last = |run: &&Recorded| run.played.rows.iter().rev().find_map(|row| row.test_accuracy);
            let reached: Vec<f64> = here.iter().filter_map(last).map(|accuracy| 100.0 * accuracy).collect();
            let Some((accuracy, accuracy_band)) = Spread::Confidence.of(reached.iter().copied()) else {
                continue;
            };
            let rows = here.iter().flat_map(|run| &run.played.rows);
            let (sums, all) = rows
                .fold((0, 0), |(sums, all), row| (sums + u32::from(row.outcome != Outcome::Outage), all + 1));
            points.push(Point {
                data,
                network,
                scheme,
                epsilon,
                seeds: reached.len(),
                accuracy,
                accuracy_band,
                recovered: 100.0 * f64::from(sums) / f64::from(all),
                epsilon_server: spent(&here, "epsilon_server"),
                epsilon_observer: spent(&here, "epsilon_observer"),
            });
        }
    }
    Ok(points)
}

/// One line per scheme and network, one column per ε.
fn table(points: &[Point]) -> String {
    let mut targets: Vec<f64> = points.iter().filter_map(|point| point.epsilon).collect();
    targets.sort_by(f64::total_cmp);
    targets.dedup();
    let mut lines: Vec<Vec<String>> = Vec::new();
    for (network, lost) in NETWORKS {
        let here: Vec<&Point> = points.iter().filter(|point| point.network == network).collect();
        let mut schemes: Vec<&str> = Vec::new();
        here.iter().for_each(|point| {
            if !schemes.contains(&point.scheme.as_str()) {
                schemes.push(&point.scheme)
            }
        });
        for scheme in schemes {
            let of = |epsilon: Option<f64>| {
                here.iter().find(|point| point.scheme == scheme && point.epsilon == epsilon)
            };
            let cell = |epsilon| {
                of(epsilon).map_or_else(String::new, |point| match point.accuracy_band {
                    Some(band) => format!("{:.1} ± {band:.1}", point.accuracy),
                    None => format!("{:.1}", point.accuracy),
                })
            };
            let recovered = here.iter().filter(|point| point.scheme == scheme).map(|point| point.recovered);
            let recovered = recovered.fold(f64::INFINITY, f64::min);
            let own = vec![lost.to_owned(), scheme.to_owned(), format!("{recovered:.0} %")];
            let cells = targets.iter().map(|&epsilon| cell(Some(epsilon))).chain([cell(None)]);
            lines.push(own.into_iter().chain(cells).collect());
        }
    }
    let targets: Vec<String> = targets.iter().map(|epsilon| format!("ε = {epsilon}")).collect();
    let header: Vec<&str> = ["uploads lost", "scheme", "rounds with a sum"]
        .into_iter()
        .chain(targets.iter().map(String::as_str))
        .chain(["no noise"])
        .collect();
    markdown(&header, &[0, 1], &lines)
}

/// One panel: accuracy against ε on one network.
fn panel(points: &[Point], network: &str, lost: &str) -> Option<Graph> {
    let mut traces: Vec<Trace> = Vec::new();
    for point in points.iter().filter(|point| point.network == network) {
        let Some(epsilon) = point.epsilon else { continue };
        let band = point.accuracy_band.map(|band| (point.accuracy - band, point.accuracy + band));
        let measured = (epsilon, point.accuracy, band);
        match traces.iter_mut().find(|trace| trace.name == point.scheme) {
            Some(trace) => trace.points.push(measured),
            None => traces.push(Trace { name: point.scheme.clone(), points: vec![measured] }),
        }
    }
    let x = ("ε of what is released (δ = 1e-5)".to_owned(), Scale::Logarithmic);
    let y = (format!("test accuracy (%), uploads lose {lost}"), Scale::Linear);
    (!traces.is_empty()).then_some(Graph { x, y, traces })
}

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| Error::Refused("give the folder of the sweeps".into()))?;
    let mut all = Vec::new();
    for (data, title) in DATA {
        let mut here = Vec::new();
        for (network, _) in NETWORKS {
            here.extend(points(data, network, &folder)?);
        }
        if here.is_empty() {
            continue;
        }
        let table = table(&here);
        println!("{title}\n\n{table}");
        write_atomically(&folder.join(format!("{data}.md")), table.as_bytes())?;
        let panels: Vec<Graph> =
            NETWORKS.iter().filter_map(|(network, lost)| panel(&here, network, lost)).collect();
        plot_graphs(
            &panels,
            &format!("Accuracy against ε, {title}"),
            "means over the seeds, with their 95 % confidence bands; ε for each client over the whole run, zero-out",
            &folder.join(data),
        )?;
        all.extend(here);
    }
    if all.is_empty() {
        return Err(Error::Refused("there is no finished sweep in the folder".into()));
    }
    write_atomically(&folder.join("release.csv"), &to_csv(&all)?)
}
