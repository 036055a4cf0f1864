//! `rounds.csv`: the columns of every run, and behind them those of a learner's own metrics.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::{Row, to_csv, write_atomically};
use crate::bounds;
use crate::error::{Error, Result};

/// The columns of every run.
static COLUMNS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let blank = to_csv(&[Row::blank(1)]).unwrap_or_default();
    let header = String::from_utf8_lossy(&blank);
    header.lines().next().unwrap_or_default().split(',').map(str::to_owned).collect()
});

/// The column of a metric, `train_NAME` or `test_NAME`.
///
/// # Errors
/// A name with other characters than letters, digits and `_.-`, of more than 64, or of a column that there is
/// already.
pub fn column(prefix: &str, name: &str) -> Result<String> {
    let column = format!("{prefix}_{name}");
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || column.len() > 64 || !name.chars().all(fits) {
        let rule = "must be made of at most 58 letters, digits and _.-; it names a column of rounds.csv";
        return Err(Error::Refused(format!("the metric `{name}`: {rule}")));
    }
    if COLUMNS.contains(&column) {
        let rule = format!("the column {column} of rounds.csv holds something else; take another name");
        return Err(Error::Refused(format!("the metric `{name}`: {rule}")));
    }
    Ok(column)
}

/// Reads a `rounds.csv`.
///
/// # Errors
/// A missing file, or a line that is not a round.
pub fn read_rounds(path: &Path) -> Result<Vec<Row>> {
    rows(path, false)
}

/// Rows as CSV with a header: every column that one of them has.
///
/// # Errors
/// A row that CSV cannot express.
pub fn rounds_csv(rows: &[Row]) -> Result<Vec<u8>> {
    let mut own: Vec<String> = Vec::new();
    rows.iter().for_each(|row| add_columns(&mut own, row));
    let mut bytes = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    write_header(&mut bytes, &own)?;
    rows.iter().try_for_each(|row| write_row(&mut bytes, &own, row))?;
    bytes.into_inner().map_err(|error| no_form(error.into_error().into()))
}

/// The table that a run appends to.
pub(super) struct Rounds {
    path: PathBuf,
    file: csv::Writer<File>,
    /// Columns behind those of every run.
    own: Vec<String>,
}

impl Rounds {
    pub fn open(path: &Path) -> Result<Self> {
        let refuse = |error| Error::io("write", path)(error);
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(refuse)?;
        let empty = file.metadata().map_err(Error::io("read", path))?.len() == 0;
        let mut file = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        let own =
            if empty { Vec::new() } else { open(path, false)?.1.into_iter().map(|(_, name)| name).collect() };
        if empty {
            write_header(&mut file, &own)?;
            file.flush().map_err(refuse)?;
        }
        Ok(Self { path: path.to_owned(), file, own })
    }

    /// Appends one round. A column that it is the first to have is added to the whole table.
    pub fn append(&mut self, row: &Row) -> Result<()> {
        let before = self.own.len();
        add_columns(&mut self.own, row);
        if self.own.len() > before {
            let rows = [read_rounds(&self.path)?, vec![row.clone()]].concat();
            write_atomically(&self.path, &rounds_csv(&rows)?)?;
            *self = Self::open(&self.path)?;
            return Ok(());
        }
        write_row(&mut self.file, &self.own, row)?;
        self.file.flush().map_err(Error::io("write", &self.path))
    }
}

/// Rewrites the table with the rounds up to this one. A line that was cut off by an interruption is dropped
/// too.
pub(super) fn keep_up_to(round: u64, path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut kept = rows(path, true)?;
    kept.retain(|row| row.round <= round);
    write_atomically(path, &rounds_csv(&kept)?)
}

/// `torn`: up to the first line that is not a round.
fn rows(path: &Path, torn: bool) -> Result<Vec<Row>> {
    let (mut reader, own) = open(path, torn)?;
    let header = reader.headers().map_err(|error| not_rounds(path, &error))?.clone();
    let row = |record: csv::Result<csv::StringRecord>| -> csv::Result<Row> {
        let record = record?;
        let metric =
            |(place, name): &(usize, String)| Some((name.clone(), record.get(*place)?.parse().ok()?));
        let metrics = own.iter().filter_map(metric).collect();
        Ok(Row { metrics, ..record.deserialize(Some(&header))? })
    };
    let records = reader.into_records().map(row);
    if torn {
        return Ok(records.map_while(Result::ok).collect());
    }
    records.collect::<Result<_, _>>().map_err(|error| not_rounds(path, &error))
}

/// Columns and their places.
type Places = Vec<(usize, String)>;

/// A table, and the columns that not every run has, with their places.
fn open(path: &Path, flexible: bool) -> Result<(csv::Reader<File>, Places)> {
    let (file, _) = bounds::open(path)?;
    let mut reader = csv::ReaderBuilder::new().flexible(flexible).from_reader(file);
    let header = reader.headers().map_err(|error| not_rounds(path, &error))?;
    let is_own = |(_, name): &(usize, &str)| !COLUMNS.iter().any(|known| known == name);
    let own =
        header.iter().enumerate().filter(is_own).map(|(place, name)| (place, name.to_owned())).collect();
    Ok((reader, own))
}

fn not_rounds(path: &Path, error: &csv::Error) -> Error {
    Error::file(path, format!("not a table of this kind: {error}"))
}

fn add_columns(own: &mut Vec<String>, row: &Row) {
    for (name, _) in &row.metrics {
        if !own.contains(name) {
            own.push(name.clone());
        }
    }
}

fn write_header<W: std::io::Write>(to: &mut csv::Writer<W>, own: &[String]) -> Result<()> {
    to.write_record(COLUMNS.iter().chain(own)).map_err(no_form)
}

fn write_row<W: std::io::Write>(to: &mut csv::Writer<W>, own: &[String], row: &Row) -> Result<()> {
    let value = |name: &String| row.metrics.iter().find(|(own, _)| own == name).map(|(_, value)| *value);
    let values: Vec<Option<f64>> = own.iter().map(value).collect();
    to.serialize((row, values)).map_err(no_form)
}

fn no_form(error: csv::Error) -> Error {
    Error::Refused(format!("cannot write CSV: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(round: u64, metrics: &[(&str, f64)]) -> Row {
        let metrics = metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Row { metrics, ..Row::blank(round) }
    }

    #[test]
    fn own_columns_stand_behind_those_of_every_run_and_survive_a_resumption() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rounds.csv");
        let rows = [
            row(1, &[]),
            row(2, &[("test_dice", 0.25)]),
            row(3, &[]),
            row(4, &[("train_bleu", 3.0), ("test_dice", 0.5)]),
        ];
        let mut table = Rounds::open(&path).unwrap();
        rows[..2].iter().for_each(|row| table.append(row).unwrap());
        drop(table);
        let mut table = Rounds::open(&path).unwrap();
        rows[2..].iter().for_each(|row| table.append(row).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        let ends: Vec<&str> = text.lines().map(|line| line.rsplit(',').next().unwrap()).collect();
        assert_eq!(ends, ["train_bleu", "", "", "", "3.0"]);
        assert!(text.lines().next().unwrap().ends_with("seconds_evaluation,test_dice,train_bleu"));
        let read = read_rounds(&path).unwrap();
        let of = |i: usize| read[i].metrics.clone();
        assert_eq!((of(0), of(1), of(2)), (rows[0].metrics.clone(), rows[1].metrics.clone(), Vec::new()));
        assert_eq!(of(3), [("test_dice".to_owned(), 0.5), ("train_bleu".to_owned(), 3.0)]);

        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        keep_up_to(9, &path).unwrap();
        assert_eq!(read_rounds(&path).unwrap().len(), 3);
        keep_up_to(2, &path).unwrap();
        assert_eq!(read_rounds(&path).unwrap(), rows[..2]);
    }

    #[test]
    fn a_table_without_own_columns_is_that_of_the_rows_alone() {
        let rows = [row(1, &[]), row(2, &[])];
        assert_eq!(rounds_csv(&rows).unwrap(), to_csv(&rows).unwrap());
        let none = rounds_csv(&[]).unwrap();
        assert!(String::from_utf8(none).unwrap().starts_with("round,attempts,"));
    }

    #[test]
    fn names_of_metrics_are_columns_of_their_own() {
        assert_eq!(column("test", "f1.macro").unwrap(), "test_f1.macro");
        for name in ["", "a b", "a,b", "ü", &"x".repeat(60)] {
            let line = column("test", name).unwrap_err().to_string();
            assert!(line.starts_with(&format!("the metric `{name}`: must be made of")), "{line}");
        }
        let line = column("test", "loss").unwrap_err().to_string();
        assert_eq!(
            line,
            "the metric `loss`: the column test_loss of rounds.csv holds something else; take another name"
        );
    }
}
