//! Tables of numbers in CSV files: one example a line, one column with its class, or columns with its
//! responses.

mod columns;
mod labels;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use csv::StringRecord;
use serde::{Deserialize, Serialize};

use super::{Examples, Response, users};
use crate::error::count;
use crate::{Error, Result, bounds};
use columns::Layout;
pub use columns::{Column, Columns};
pub(super) use labels::{alike, check_classes, sort};

/// Most bytes of a line.
const LINE: usize = 16 << 20;

/// Fields without a value, unless `data.missing` lists others.
const MISSING: [&str; 7] = ["", "NA", "N/A", "NaN", "nan", "null", "?"];

/// What happens to an example without a value for one of its features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnMissing {
    /// The table is refused, with the place.
    #[default]
    Refuse,
    /// The example is left out, and one without class too; a warning counts them.
    Drop,
    /// The value is the mean of the feature over the training examples.
    Mean,
}

/// How tables are written.
pub(super) struct Format<'a> {
    /// Whether the first line names the columns; without it by what it holds.
    pub header: Option<bool>,
    pub delimiter: u8,
    /// What is to be learnt.
    pub response: Response,
    /// The column of the classes, or those of the responses; without any the last one.
    pub labels: &'a [Column],
    /// Columns that are left out.
    pub ignore: &'a [Column],
    /// The column that says whose each example is.
    pub user: Option<&'a Column>,
    /// Fields without a value; without it [`MISSING`].
    pub missing: Option<&'a [String]>,
    pub on_missing: OnMissing,
}

impl Format<'_> {
    fn is_missing(&self, field: &str) -> bool {
        match self.missing {
            Some(listed) => listed.iter().any(|one| one == field),
            None => MISSING.contains(&field),
        }
    }

    /// Classes may be called like [`MISSING`].
    fn is_no_label(&self, field: &str) -> bool {
        match self.response {
            Response::Class => field.is_empty() || (self.missing.is_some() && self.is_missing(field)),
            Response::Quantity | Response::Labels => self.is_missing(field),
        }
    }
}

/// A table as it stands in its file.
pub(super) struct Table {
    /// What its columns are.
    layout: Layout,
    /// Row by row; what is missing is not a number.
    features: Vec<f64>,
    /// The classes in the order of their first example.
    classes: Vec<String>,
    /// The position of the class of every row among `classes`, and the line where it stands.
    labels: Vec<(usize, u64)>,
    /// The responses of every row in the order of the layout; nothing where rows have classes.
    responses: Vec<f64>,
    /// Rows that were left out.
    dropped: usize,
    /// The user of every row, numbered in the order of their first example; nothing without such a column.
    users: Vec<usize>,
}

/// Where the names that were met so far stand.
#[derive(Default)]
struct Places {
    classes: HashMap<String, usize>,
    users: HashMap<String, usize>,
}

impl Table {
    /// Reads a file.
    pub fn read(path: &Path, format: &Format) -> Result<Self> {
        let refuse = |problem: String| Error::file(path, problem);
        let mut lines = lines_of(path, format, false)?;
        let unreadable = |error: csv::Error| refuse(readable(&error));
        let mut record = StringRecord::new();
        if !lines.read_record(&mut record).map_err(unreadable)? {
            return Err(refuse("no example; give one a line".into()));
        }
        let (layout, doubt) = Layout::of(&record, format).map_err(refuse)?;
        doubt.into_iter().for_each(|doubt| warn(path, doubt));
        let headed = !layout.names.is_empty();
        let mut table = Self {
            layout,
            features: Vec::new(),
            classes: Vec::new(),
            labels: Vec::new(),
            responses: Vec::new(),
            dropped: 0,
            users: Vec::new(),
        };
        let mut places = Places::default();
        if !headed {
            table.take(&record, format, &mut places).map_err(refuse)?;
        }
        while lines.read_record(&mut record).map_err(unreadable)? {
            table.take(&record, format, &mut places).map_err(refuse)?;
        }
        match (table.labels.len(), table.dropped) {
            (0, 0) => return Err(refuse("no example; give one a line".into())),
            (0, _) => return Err(refuse("no example without missing values".into())),
            (_, 0) => {}
            (kept, dropped) => {
                let all = count(kept + dropped, "example");
                warn(path, format!("{dropped} of {all} left out for missing values"));
            }
        }
        Ok(table)
    }

    /// Appends a line; `places` are those of the classes and users so far.
    fn take(&mut self, record: &StringRecord, format: &Format, places: &mut Places) -> Result<(), String> {
        let line = record.position().map_or(0, csv::Position::line);
        let Layout { width, user, .. } = self.layout;
        if record.len() != width {
            return Err(format!("line {line} has {} where {width} belong", count(record.len(), "field")));
        }
        let start = self.features.len();
        let mut missing = false;
        for (column, field) in record.iter().enumerate().filter(|(column, _)| !self.layout.ignored[*column]) {
            let at = || format!("line {line}, {}", self.layout.column(column));
            let is_label = self.layout.labels.contains(&column);
            let gap = if is_label { format.is_no_label(field) } else { format.is_missing(field) };
            match (gap, format.on_missing) {
                (true, OnMissing::Drop) => missing = true,
                (true, _) if is_label => return Err(format!("{}: {}", at(), nothing_to_learn(format))),
                (true, OnMissing::Refuse) => {
                    return Err(format!(
                        "{}: no value (`{field}`); data.on_missing = \"drop\" or \"mean\" goes on without it",
                        at()
                    ));
                }
                (true, OnMissing::Mean) => self.features.push(f64::NAN),
                (false, _) if is_label => {}
                (false, _) => {
                    let value = number(field).map_err(|problem| format!("{}: {problem}", at()));
                    self.features.push(value?);
                }
            }
        }
        if missing {
            self.features.truncate(start);
            self.dropped += 1;
            return Ok(());
        }
        if let Some(user) = user {
            if record[user].is_empty() {
                return Err(format!("line {line}, {}: no user; name one", self.layout.column(user)));
            }
            let next = places.users.len();
            self.users.push(*places.users.entry(record[user].to_owned()).or_insert(next));
        }
        if format.response == Response::Class {
            let name = &record[self.layout.labels[0]];
            let class = match places.classes.get(name) {
                Some(&place) => place,
                None => {
                    self.classes.push(name.to_owned());
                    places.classes.insert(name.to_owned(), self.classes.len() - 1);
                    self.classes.len() - 1
                }
            };
            self.labels.push((class, line));
            return Ok(());
        }
        for &column in &self.layout.labels {
            let value = response(&record[column], format.response);
            let at = || format!("line {line}, {}", self.layout.column(column));
            self.responses.push(value.map_err(|problem| format!("{}: {problem}", at()))?);
        }
        self.labels.push((0, line));
        Ok(())
    }

    /// The rows of a file as examples of no class, with the columns of `self`, the training table, of which
    /// that of the class may be missing; `means` stand where values are missing, if they may.
    pub fn unlabelled(&self, path: &Path, format: &Format, means: &[f64]) -> Result<Examples> {
        let refuse = |problem: String| Error::file(path, problem);
        let mut lines = lines_of(path, format, !self.layout.names.is_empty())?;
        let unreadable = |error: csv::Error| refuse(readable(&error));
        let header = lines.headers().map_err(unreadable)?.clone();
        let columns = self.layout.places(header.len()).map_err(refuse)?;
        if !self.layout.names.is_empty() {
            self.layout.check_names(&header, &columns).map_err(refuse)?;
        }
        let (mut features, mut rows, mut record) = (Vec::new(), 0, StringRecord::new());
        while lines.read_record(&mut record).map_err(unreadable)? {
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() != header.len() {
                let found = count(record.len(), "field");
                return Err(refuse(format!("line {line} has {found} where {} belong", header.len())));
            }
            for (feature, &column) in columns.iter().enumerate() {
                let field = &record[column];
                let name = self.layout.names.get(self.layout.of_feature(feature));
                let name = name.map_or_else(String::new, |name| format!(" (`{name}`)"));
                let at = || format!("line {line}, column {}{name}", column + 1);
                let value = match (format.is_missing(field), format.on_missing) {
                    (true, OnMissing::Mean) => means[feature],
                    (true, _) => return Err(refuse(format!("{}: no value (`{field}`)", at()))),
                    (false, _) => number(field).map_err(|problem| refuse(format!("{}: {problem}", at())))?,
                };
                features.push(value);
            }
            rows += 1;
        }
        match rows {
            0 => Err(refuse("no example; give one a line".into())),
            rows => Examples::of_features(features, vec![0; rows], columns.len()),
        }
    }

    /// Which of these rows, by their places among them, each user has; `None` where no column says so.
    pub fn users(&self, rows: &[usize]) -> Option<users::Places> {
        let all = self.users.iter().max()? + 1;
        let mut places = vec![Vec::new(); all];
        rows.iter().enumerate().for_each(|(place, &row)| places[self.users[row]].push(place));
        Some(places)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The names of all classes, in order: by value when all are numbers, else by letters; of responses those
    /// of their columns. Warns of what looks like a mistake.
    pub fn classes(&self, path: &Path) -> Result<Vec<String>> {
        if !self.responses.is_empty() {
            let name = |&column: &usize| self.layout.names.get(column).cloned();
            let name = |column| name(column).unwrap_or_else(|| format!("column {}", column + 1));
            return Ok(self.layout.labels.iter().map(name).collect());
        }
        let refuse = |problem: String| Error::file(path, problem);
        let mut names = self.classes.clone();
        labels::sort(&mut names);
        check_classes(&names).map_err(refuse)?;
        let doubt = labels::check_kind(&names, self.len()).map_err(refuse)?;
        doubt.into_iter().chain(alike(&names)).for_each(|doubt| warn(path, doubt));
        Ok(names)
    }

    /// Puts the means of the training `rows` where values are missing, and returns them.
    pub fn fill_by(&mut self, rows: &[usize], path: &Path) -> Result<Vec<f64>> {
        let means = self.means(rows, path)?;
        self.fill(&means);
        Ok(means)
    }

    /// The mean of every feature over these rows, without what is missing.
    fn means(&self, rows: &[usize], path: &Path) -> Result<Vec<f64>> {
        let columns = self.layout.features();
        let mut totals = vec![(0.0, 0usize); columns];
        for &row in rows {
            for (total, value) in totals.iter_mut().zip(&self.features[row * columns..]) {
                if !value.is_nan() {
                    *total = (total.0 + value, total.1 + 1);
                }
            }
        }
        let mean = |(feature, (sum, count)): (usize, (f64, usize))| match count {
            0 => {
                let column = self.layout.column(self.layout.of_feature(feature));
                let problem =
                    format!("{column} has no value in any training example; name it in data.ignore");
                Err(Error::file(path, problem))
            }
            count => Ok(sum / count as f64),
        };
        totals.into_iter().enumerate().map(mean).collect()
    }

    /// Puts `means` where values are missing.
    pub fn fill(&mut self, means: &[f64]) {
        for row in self.features.chunks_exact_mut(means.len()) {
            row.iter_mut()
                .zip(means)
                .filter(|(value, _)| value.is_nan())
                .for_each(|(value, mean)| *value = *mean);
        }
    }

    /// The rows as examples of `classes`, or with their responses.
    pub fn examples(self, path: &Path, classes: &[String]) -> Result<Examples> {
        let columns = self.layout.features();
        if !self.responses.is_empty() {
            let rows = Examples::of_features(self.features, vec![0; self.labels.len()], columns)?;
            return rows.with_responses(self.responses, self.layout.labels.len());
        }
        let known: Vec<Option<usize>> =
            self.classes.iter().map(|name| classes.iter().position(|class| class == name)).collect();
        let label = |&(class, line): &(usize, u64)| match known[class] {
            Some(label) => Ok(label as u16),
            None => {
                let name = &self.classes[class];
                let twin = labels::twin(name, classes).map(|twin| format!("; it is written `{twin}` there"));
                let twin = twin.unwrap_or_default();
                Err(Error::file(path, format!("line {line}: no training example is of class `{name}`{twin}")))
            }
        };
        let labels = self.labels.iter().map(label).collect::<Result<_>>()?;
        Examples::of_features(self.features, labels, columns)
    }

    /// Checks that `self`, of the file `path`, has the columns of the training table.
    pub fn check_beside(&self, training: &Self, path: &Path) -> Result<()> {
        let (own, wanted) = (&self.layout, &training.layout);
        if own.features() != wanted.features() {
            let columns = |layout: &Layout| layout.features() + layout.labels.len();
            let (own, wanted) = (count(columns(own), "column"), columns(wanted));
            return Err(Error::file(path, format!("{own} where the training table has {wanted}")));
        }
        let kept = |layout: &Layout| -> Vec<(usize, String)> {
            let named = layout.names.iter().cloned().enumerate();
            named.filter(|(column, _)| !layout.ignored[*column]).collect()
        };
        let (own, wanted) = (kept(own), kept(wanted));
        match own.iter().zip(&wanted).find(|((_, own), (_, wanted))| own != wanted) {
            None => Ok(()),
            Some(((column, own), (_, wanted))) => {
                let problem =
                    format!("column {} is `{own}`, but `{wanted}` in the training table", column + 1);
                Err(Error::file(path, problem))
            }
        }
    }
}

/// The lines of a file that fits into the memory as a table.
fn lines_of(path: &Path, format: &Format, headed: bool) -> Result<csv::Reader<Lines<File>>> {
    let (file, length) = bounds::open(path)?;
    // A number takes eight bytes, and rarely fewer than four in the file; its example is copied once.
    bounds::check_memory(length.saturating_mul(4)).map_err(|free| {
        let text = bounds::size(length);
        Error::file(path, format!("{text} of text; as a table they would take {free}"))
    })?;
    let mut reader = csv::ReaderBuilder::new();
    reader.has_headers(headed).delimiter(format.delimiter).flexible(true).trim(csv::Trim::All);
    Ok(reader.from_reader(Lines { file, length: 0 }))
}

/// Tells what about a file is in doubt.
pub(super) fn warn(path: &Path, doubt: String) {
    tracing::warn!("{}", Error::file(path, doubt));
}

/// What is missing in a line with nothing to learn.
fn nothing_to_learn(format: &Format) -> &'static str {
    match format.response {
        Response::Class => "no class; give every example one",
        Response::Quantity => "no value to learn; data.on_missing = \"drop\" goes on without the example",
        Response::Labels => "neither 0 nor 1; data.on_missing = \"drop\" goes on without the example",
    }
}

/// A field as what is to be learnt.
fn response(field: &str, response: Response) -> Result<f64, String> {
    match (response, field.to_ascii_lowercase().as_str()) {
        (Response::Labels, "true") => Ok(1.0),
        (Response::Labels, "false") => Ok(0.0),
        (Response::Labels, other) => match other.parse::<f64>() {
            Ok(value) if value == 0.0 || value == 1.0 => Ok(value.abs()),
            _ => Err(format!("`{field}` is neither 0 nor 1, which say whether the example has the label")),
        },
        _ => number(field),
    }
}

/// A field as a feature.
fn number(field: &str) -> Result<f64, String> {
    let value = field.parse().ok().filter(|x: &f64| (*x as f32).is_finite());
    value.ok_or_else(|| no_number(field))
}

/// Why a field is no feature.
fn no_number(field: &str) -> String {
    let shown: String = field.chars().take(40).collect();
    let cut = if shown.len() < field.len() { "…" } else { "" };
    let remedy = match field {
        _ if field.contains(',') && field.replace(',', ".").parse::<f64>().is_ok() => {
            "write decimals with a point".into()
        }
        _ => match field.chars().find(|c| [';', '\t', '|'].contains(c)) {
            Some(delimiter) => format!("is data.delimiter = {:?} meant?", delimiter.to_string()),
            None => "features must be numbers, and other columns named in data.ignore".into(),
        },
    };
    format!("`{shown}{cut}` is not a finite number; {remedy}")
}

fn readable(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { pos: Some(position), .. } => {
            format!("line {}: not UTF-8 text", position.line())
        }
        _ => error.to_string(),
    }
}

/// A file whose lines are bounded.
struct Lines<R> {
    file: R,
    /// Of the line so far.
    length: usize,
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.length = match buffer[..n].iter().rposition(|byte| b"\r\n".contains(byte)) {
            Some(end) => n - end - 1,
            None => self.length + n,
        };
        match self.length > LINE {
            true => Err(io::Error::other(format!(
                "a line is longer than {}; this is no table",
                bounds::size(LINE as u64)
            ))),
            false => Ok(n),
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
