//! From run directories to figures and tables.
//!
//! A *run directory* holds `rounds.csv`. A *comparison directory* holds `summary.csv`, one [`Summary`] per
//! contender and seed, and the run directory of each under `<slug of the name>/seed-<seed>`. A *sweep
//! directory* ([`crate::sweep`]) holds `runs.csv`.
//!
//! A run that diverged is drawn up to where it did, with a cross at its end, and enters no mean: where seeds
//! diverged, tables say how many.

#[cfg(feature = "cli")]
mod audit;
#[cfg(feature = "cli")]
mod html;
mod pivot;
#[cfg(feature = "cli")]
mod plot;
mod privacy_levels;
mod runs;
mod spread;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(feature = "cli")]
pub(crate) use audit::aligned;
#[cfg(feature = "cli")]
pub use audit::audit_table;
#[cfg(feature = "cli")]
pub use html::{report_path, write_report};
pub use pivot::{Best, Pivot, Quantity, Table};
#[cfg(feature = "cli")]
pub use plot::heatmap::HeatMap;
#[cfg(feature = "cli")]
pub use plot::{
    Graph, Measured, Scale, Trace, plot_accuracy, plot_graphs, plot_images, plot_leakage, plot_lines,
    plot_privacy, plot_recovery, plot_roc, plot_run, plot_sweep, plot_time, plot_traffic,
};
pub use privacy_levels::{accuracy_table, leakage_table, recovery_table};
pub use runs::{Recorded, Runs};
pub use spread::{Spread, slope};
#[cfg(feature = "cli")]
pub(crate) use table::short;
pub use table::{markdown, table};

use crate::audit::Entry;
use crate::config::slug;
use crate::error::{Error, Result};
use crate::protocol::Scheme;
use crate::record::{Measures, Played, read_rows};
use crate::sweep::results::{self, Line, Results};

/// One curve: the runs (seeds) of one contender.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The label of the curve.
    pub name: String,
    /// The run of each seed.
    pub runs: Vec<Played>,
}

/// One run in one line of `summary.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the contender.
    pub protocol: String,
    /// See [`Scheme::keys`].
    pub keys: String,
    /// See [`Scheme::code`].
    pub code: String,
    /// See [`Scheme::stragglers`].
    pub stragglers: Option<usize>,
    /// See [`Scheme::key_std`].
    pub key_std: Option<f64>,
    /// Seed of the run.
    pub seed: u64,
    /// Rounds played.
    pub rounds: u64,
    /// Rounds in which the sum over all clients was decoded.
    pub recovered: u64,
    /// See [`Measures::final_accuracy`].
    pub final_accuracy: f64,
    /// See [`Measures::best_accuracy`].
    pub best_accuracy: f64,
    /// Bytes between clients, to helpers and between helpers, all rounds, lost messages included.
    pub bytes_client_client: u64,
    /// Bytes to the server, from clients or helpers, all rounds, lost messages included.
    pub bytes_client_server: u64,
    /// Wall-clock time of the run in seconds.
    pub seconds: f64,
    /// See [`Measures::rounds_to_target`].
    #[serde(default)]
    pub rounds_to_target: Option<u64>,
    /// See [`Measures::bytes_to_target`].
    #[serde(default)]
    pub bytes_to_target: Option<u64>,
    /// See [`Measures::seconds_to_target`].
    #[serde(default)]
    pub seconds_to_target: Option<f64>,
    /// See [`Measures::diverged`].
    #[serde(default)]
    pub diverged: Option<u64>,
    /// ε of the whole run in which nothing is lost, for the worst adversary without accomplices and the worst
    /// client, beyond the sum where that is seen ([`Entry::provable_epsilon`]); `inf` without clipped updates
    /// or keys, empty where it was not measured.
    #[serde(default)]
    pub epsilon: Option<f64>,
    /// See [`Measures::final_loss`].
    #[serde(default)]
    pub final_loss: Option<f64>,
}

impl Summary {
    /// With ε from the audit that a run keeps in its folder, if there is one.
    ///
    /// # Errors
    /// A damaged `leakage.csv`.
    pub fn with_leakage(self, run: &Path) -> Result<Self> {
        let path = run.join("leakage.csv");
        if !path.is_file() {
            return Ok(self);
        }
        let worst = read_rows::<Entry>(&path)?.iter().map(Entry::provable_epsilon).reduce(f64::max);
        Ok(Self { epsilon: worst, ..self })
    }
}

/// Sums up one run of `seconds` wall-clock time with this target accuracy.
#[must_use]
pub fn summarise(
    name: &str,
    scheme: &Scheme,
    seed: u64,
    played: &Played,
    seconds: f64,
    target: Option<f64>,
) -> Summary {
    let measures = Measures::of(played, target);
    Summary {
        protocol: name.into(),
        keys: scheme.keys.clone(),
        code: scheme.code.clone(),
        stragglers: scheme.stragglers,
        key_std: scheme.key_std,
        seed,
        rounds: measures.rounds_played,
        recovered: measures.recovered,
        final_accuracy: measures.final_accuracy,
        best_accuracy: measures.best_accuracy,
        bytes_client_client: measures.bytes_client_client,
        bytes_client_server: measures.bytes_client_server,
        seconds,
        rounds_to_target: measures.rounds_to_target,
        bytes_to_target: measures.bytes_to_target,
        seconds_to_target: measures.seconds_to_target,
        diverged: measures.diverged,
        epsilon: None,
        final_loss: measures.final_loss,
    }
}

/// Reads what `seccogc plot` was given: run directories, each a curve with the name of its folder, comparison
/// directories, each with one curve per contender, and sweep directories, each with one per point. Equal
/// names are told apart by their path.
///
/// # Errors
/// A path that is neither, a table that is missing, damaged or without a row.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Series>> {
    let mut found: Vec<(Series, &Path)> = Vec::new();
    for path in paths {
        if path.join("runs.csv").is_file() {
            let series = sweep_series(&results::read(path)?, path)?;
            found.extend(series.into_iter().map(|series| (series, path.as_path())));
        } else if path.join("summary.csv").is_file() {
            found.extend(comparison(path)?.into_iter().map(|series| (series, path.as_path())));
        } else if path.join("rounds.csv").is_file() {
            found.push((Series { name: folder_name(path), runs: vec![Played::read(path)?] }, path));
        } else {
            return Err(neither(path));
        }
    }
    let mut times = BTreeMap::new();
    for (series, _) in &found {
        *times.entry(series.name.clone()).or_insert(0) += 1;
    }
    let told_apart = |(mut series, path): (Series, &Path)| {
        if times[&series.name] > 1 {
            series.name = format!("{} ({})", series.name, path.display());
        }
        series
    };
    Ok(found.into_iter().map(told_apart).collect())
}

/// The refusal of a folder that holds nothing of ours.
fn neither(path: &Path) -> Error {
    let problem = if path.exists() {
        "neither a run (no rounds.csv) nor a comparison (no summary.csv) nor a sweep (no runs.csv); name a folder that \
         train, compare or sweep has written"
    } else {
        "no such folder; name one that train, compare or sweep has written"
    };
    Error::file(path, problem)
}

fn comparison(path: &Path) -> Result<Vec<Series>> {
    let summary = path.join("summary.csv");
    let mut all: Vec<Series> = Vec::new();
    for line in read_rows::<Summary>(&summary)? {
        let run = Played::read(&path.join(slug(&line.protocol)).join(format!("seed-{}", line.seed)))?;
        match all.iter_mut().find(|series| series.name == line.protocol) {
            Some(series) => series.runs.push(run),
            None => all.push(Series { name: line.protocol, runs: vec![run] }),
        }
    }
    if all.is_empty() {
        return Err(Error::file(summary, "holds no run; the comparison stopped before its first run ended"));
    }
    Ok(all)
}

/// One series per point of a sweep directory.
fn sweep_series(results: &Results, folder: &Path) -> Result<Vec<Series>> {
    let of_point = |(values, lines): (&[String], Vec<&Line>)| {
        let runs = lines.iter().map(|line| Played::read(&folder.join(&line.folder)));
        Ok(Series { name: results.label(values), runs: runs.collect::<Result<_>>()? })
    };
    results.points().into_iter().map(of_point).collect()
}

fn folder_name(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Mean and sample standard deviation (divisor n − 1) of the finite values: `None` without any, a
/// deviation only from two on.
fn mean_std(values: impl IntoIterator<Item = f64>) -> Option<(f64, Option<f64>)> {
    let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    let n = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt())))
}

#[cfg(all(test, feature = "cli"))]
mod tests;
