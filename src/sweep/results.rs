//! The tables of a sweep directory.
//!
//! `sweep.csv` is tidy: the swept keys and the seed, then the columns of `rounds.csv` that any run has, one
//! line per run and round; where a run diverged, its last line has the round, `diverged` as outcome and
//! nothing else.
//! `runs.csv` has the swept keys, the seed, the run's folder and its [`Measures`], one line per run.

use std::path::{Path, PathBuf};

use csv::StringRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Sweep, SweepRun};
use crate::error::{Error, Result};
use crate::record::{Measures, Played, Row, RunInfo, csv_of, to_csv, write_atomically};

/// One run of a sweep, as `runs.csv` has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The value of each key; empty where the key does not belong to the run's variant.
    pub values: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// Its run directory within the sweep's.
    pub folder: PathBuf,
    /// Its numbers.
    pub measures: Measures,
}

/// `runs.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// What varies beside the seed.
    pub keys: Vec<String>,
    /// The runs, those of one point together.
    pub lines: Vec<Line>,
}

/// A serialised row: the names of its columns and their values.
fn fields(row: &impl Serialize) -> Result<(StringRecord, StringRecord)> {
    let bytes = to_csv(&[row])?;
    let refuse = |error: csv::Error| Error::Refused(format!("cannot write CSV: {error}"));
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    let header = reader.headers().map_err(refuse)?.clone();
    let record = reader.records().next().transpose().map_err(refuse)?.unwrap_or_default();
    Ok((header, record))
}

/// The runs of a sweep whose run directories below `folder` are finished, and those that are not.
///
/// # Errors
/// A damaged `run.json`.
pub fn finished<'a>(sweep: &'a Sweep, folder: &Path) -> Result<(Vec<&'a SweepRun>, Vec<&'a SweepRun>)> {
    let (mut done, mut open) = (Vec::new(), Vec::new());
    for run in &sweep.runs {
        let info = folder.join(&run.folder).join("run.json");
        let over = info.exists() && RunInfo::load(&info)?.end.is_some();
        if over { done.push(run) } else { open.push(run) }
    }
    Ok((done, open))
}

/// Writes `sweep.csv` and `runs.csv` of these runs.
///
/// # Errors
/// A table that is missing or damaged; a folder that cannot be written.
pub fn write(keys: &[String], runs: &[&SweepRun], folder: &Path) -> Result<()> {
    let mut rounds: Vec<Vec<String>> = Vec::new();
    // Of all runs: some have columns of their own behind the common ones.
    let mut columns: Vec<String> = Vec::new();
    let mut lines: Vec<Vec<String>> = Vec::new();
    let text = |record: &StringRecord| record.iter().map(str::to_owned).collect::<Vec<_>>();
    for run in runs {
        let place = folder.join(&run.folder);
        let path = place.join("rounds.csv");
        let played = Played::read(&place)?;
        let point: Vec<String> = run.values.iter().map(|value| value.clone().unwrap_or_default()).collect();
        let seed = vec![run.config.seed.to_string()];
        let damaged = |error: csv::Error| Error::file(&path, format!("not a table of this kind: {error}"));
        let mut reader = csv::Reader::from_path(&path).map_err(damaged)?;
        let mut header = reader.headers().map_err(damaged)?.clone();
        if header.is_empty() {
            // The first round diverged.
            header = fields(&Row::blank(1))?.0;
        }
        let places: Vec<usize> = header.iter().map(|name| place_of(&mut columns, name)).collect();
        let mut add = |cells: &[String]| {
            let mut row = vec![String::new(); columns.len()];
            places.iter().zip(cells).for_each(|(&place, cell)| row[place].clone_from(cell));
            rounds.push([point.clone(), seed.clone(), row].concat());
        };
        for record in reader.records() {
            add(&text(&record.map_err(damaged)?));
        }
        if let Some(round) = played.diverged {
            let cell = |column: &str| match column {
                "round" => round.to_string(),
                "outcome" => "diverged".into(),
                _ => String::new(),
            };
            add(&header.iter().map(cell).collect::<Vec<_>>());
        }
        let measures = Measures::of(&played, run.config.evaluation.target);
        let (header, record) = fields(&measures)?;
        if lines.is_empty() {
            lines.push([keys.to_vec(), vec!["seed".into(), "folder".into()], text(&header)].concat());
        }
        let at = vec![run.config.seed.to_string(), run.folder.to_string_lossy().into_owned()];
        lines.push([point, at, text(&record)].concat());
    }
    if !columns.is_empty() {
        rounds.insert(0, [keys.to_vec(), vec!["seed".into()], columns].concat());
        let width = rounds[0].len();
        rounds.iter_mut().for_each(|row| row.resize(width, String::new()));
    }
    write_atomically(&folder.join("sweep.csv"), &csv_of(rounds)?)?;
    write_atomically(&folder.join("runs.csv"), &csv_of(lines)?)
}

/// Where a column stands, behind all others if it is new.
fn place_of(columns: &mut Vec<String>, name: &str) -> usize {
    columns.iter().position(|own| own == name).unwrap_or_else(|| {
        columns.push(name.to_owned());
        columns.len() - 1
    })
}

/// Reads `runs.csv`.
///
/// # Errors
/// A file that is missing or damaged, or holds no run.
pub fn read(folder: &Path) -> Result<Results> {
    let path = folder.join("runs.csv");
    let damaged = |problem: &str| Error::file(&path, format!("not a table of runs: {problem}"));
    let wrong = |error: csv::Error| damaged(&error.to_string());
    let mut reader = csv::Reader::from_path(&path).map_err(wrong)?;
    let header = reader.headers().map_err(wrong)?.clone();
    let count = header.iter().position(|name| name == "seed").ok_or_else(|| damaged("no column seed"))?;
    let measures_header: StringRecord = header.iter().skip(count + 2).collect();
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let rest: StringRecord = record.iter().skip(count + 2).collect();
        let cell = |i: usize| record.get(i).unwrap_or_default();
        lines.push(Line {
            values: record.iter().take(count).map(str::to_owned).collect(),
            seed: cell(count).parse().map_err(|_| damaged("a seed is not a number"))?,
            folder: cell(count + 1).into(),
            measures: parse(&rest, &measures_header).map_err(wrong)?,
        });
    }
    if lines.is_empty() {
        return Err(damaged("it holds no run"));
    }
    Ok(Results { keys: header.iter().take(count).map(str::to_owned).collect(), lines })
}

fn parse<T: DeserializeOwned>(record: &StringRecord, header: &StringRecord) -> Result<T, csv::Error> {
    record.deserialize(Some(header))
}

impl Results {
    /// The points in order, each with its lines.
    #[must_use]
    pub fn points(&self) -> Vec<(&[String], Vec<&Line>)> {
        let mut points: Vec<(&[String], Vec<&Line>)> = Vec::new();
        for line in &self.lines {
            match points.iter_mut().find(|(values, _)| *values == line.values) {
                Some((_, lines)) => lines.push(line),
                None => points.push((&line.values, vec![line])),
            }
        }
        points
    }

    /// What tells a point from the others, for a legend: the variant, then `key = value` of the rest.
    #[must_use]
    pub fn label(&self, values: &[String]) -> String {
        label(&self.keys, values)
    }
}

/// `variant, key = value, …` without empty values; keys by their last part.
#[must_use]
pub fn label(keys: &[String], values: &[String]) -> String {
    let parts: Vec<String> = keys
        .iter()
        .zip(values)
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| match key.rsplit('.').next() {
            _ if key == super::VARIANT => value.clone(),
            Some(last) => format!("{last} = {value}"),
            None => value.clone(),
        })
        .collect();
    if parts.is_empty() { "all".into() } else { parts.join(", ") }
}
