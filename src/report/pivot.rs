//! Tables of runs: rows × columns by configuration keys, mean ± spread over seeds in each cell.

use super::{Recorded, Runs, Spread, markdown};
use crate::error::{Error, Result};
use crate::record::{Measures, kept, mark};
use crate::sweep::VARIANT;
use crate::sweep::results::label;

/// What stands in the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Quantity {
    /// Test accuracy (%) of the last tested round.
    FinalAccuracy,
    /// Highest test accuracy (%).
    BestAccuracy,
    /// Test loss of the last tested round.
    FinalLoss,
    /// Rounds (%) in which the sum over all clients was decoded.
    Recovered,
    /// Rounds up to the first test that saw the target accuracy.
    RoundsToTarget,
    /// Megabytes of all messages up to there.
    BytesToTarget,
    /// Simulated seconds up to there.
    SecondsToTarget,
    /// Megabytes of all messages, lost ones included.
    Bytes,
    /// Simulated seconds on the links.
    SecondsSimulated,
    /// Seconds of training, coding and testing.
    Seconds,
}

impl Quantity {
    fn of(self, measures: &Measures) -> Option<f64> {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        match self {
            Self::FinalAccuracy => Some(100.0 * measures.final_accuracy),
            Self::BestAccuracy => Some(100.0 * measures.best_accuracy),
            Self::Recovered => Some(100.0 * measures.recovered as f64 / measures.rounds_played as f64),
            Self::FinalLoss => measures.final_loss,
            Self::RoundsToTarget => measures.rounds_to_target.map(|rounds| rounds as f64),
            Self::BytesToTarget => measures.bytes_to_target.map(megabytes),
            Self::SecondsToTarget => measures.seconds_to_target,
            Self::Bytes => Some(megabytes(measures.bytes_client_client + measures.bytes_client_server)),
            Self::SecondsSimulated => measures.seconds_simulated,
            Self::Seconds => Some(measures.seconds),
        }
        .filter(|value| value.is_finite())
    }

    fn words(self) -> &'static str {
        match self {
            Self::FinalAccuracy => "final accuracy (%)",
            Self::BestAccuracy => "best accuracy (%)",
            Self::Recovered => "recovered (%)",
            Self::FinalLoss => "final loss",
            Self::RoundsToTarget => "rounds to target",
            Self::BytesToTarget => "traffic to target (MB)",
            Self::SecondsToTarget => "simulated seconds to target",
            Self::Bytes => "traffic (MB)",
            Self::SecondsSimulated => "simulated seconds",
            Self::Seconds => "seconds",
        }
    }

    fn decimals(self) -> usize {
        match self {
            Self::FinalAccuracy | Self::BestAccuracy => 2,
            Self::FinalLoss => 4,
            _ => 1,
        }
    }

    fn more_is_better(self) -> bool {
        matches!(self, Self::FinalAccuracy | Self::BestAccuracy | Self::Recovered)
    }
}

/// Among which cells the best is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Best {
    /// The cells of each column.
    Column,
    /// The cells of each row.
    Row,
    /// Nowhere.
    None,
}

/// What a table shows.
#[derive(Clone, Debug)]
pub struct Pivot {
    /// Keys whose values make the rows; [`VARIANT`] for names.
    pub rows: Vec<String>,
    /// Keys whose values make the columns.
    pub columns: Vec<String>,
    /// What stands in the cells.
    pub quantity: Quantity,
    /// What stands behind ±.
    pub spread: Spread,
    /// What is marked.
    pub best: Best,
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
struct Cell {
    /// Mean and spread, `None` when no run has the quantity.
    value: Option<(f64, Option<f64>)>,
    /// Runs that have the quantity, and all that did not diverge.
    counts: (usize, usize),
    /// What is to be said of those that did.
    mark: Option<String>,
    best: bool,
}

/// A table before it is written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Names of the rows' keys, then the columns.
    header: Vec<String>,
    /// How many of them are keys.
    keys: usize,
    /// Values of the rows' keys, then cells; `None` where there is no run.
    lines: Vec<(Vec<String>, Vec<Option<Cell>>)>,
    decimals: usize,
    caption: String,
}

impl Pivot {
    /// Rows and columns when none are asked for: the last swept key makes the columns, the others the rows. A
    /// key that none of the runs has does not count.
    #[must_use]
    pub fn default_keys(runs: &Runs) -> (Vec<String>, Vec<String>) {
        let known = |key: &&String| runs.runs.iter().any(|run| run.value(key).is_some());
        let keys: Vec<String> = runs.keys.iter().filter(known).cloned().collect();
        match &keys[..] {
            [] => (vec![VARIANT.to_owned()], vec![]),
            [one] => (vec![one.clone()], vec![]),
            [rows @ .., column] => (rows.to_vec(), vec![column.clone()]),
        }
    }

    /// Sorts the runs into cells.
    ///
    /// # Errors
    /// A key that no run has; runs in one cell that differ in more than their seeds, or not even in these.
    pub fn table(&self, runs: &Runs) -> Result<Table> {
        for key in self.rows.iter().chain(&self.columns) {
            if !runs.runs.iter().any(|run| run.value(key).is_some()) {
                let swept = runs.keys.join(", ");
                let rule = if swept.is_empty() {
                    "no run has this key; `seccogc config explain` lists them all".into()
                } else {
                    format!("no run has this key; these runs differ in {swept}")
                };
                return Err(Error::config(key, rule));
            }
        }
        let point = |run: &Recorded, keys: &[String]| -> Vec<String> {
            keys.iter().map(|key| run.value(key).unwrap_or_default().to_owned()).collect()
        };
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut columns: Vec<Vec<String>> = Vec::new();
        for run in &runs.runs {
            for (points, keys) in [(&mut rows, &self.rows), (&mut columns, &self.columns)] {
                let point = point(run, keys);
                if !points.contains(&point) {
                    points.push(point);
                }
            }
        }
        let mut lines = Vec::new();
        for row in &rows {
            let mut cells = Vec::new();
            for column in &columns {
                let of_cell = runs
                    .runs
                    .iter()
                    .filter(|run| point(run, &self.rows) == *row && point(run, &self.columns) == *column);
                cells.push(self.cell(&of_cell.collect::<Vec<_>>())?);
            }
            let texts = row.iter().map(|value| if value.is_empty() { "–".into() } else { value.clone() });
            lines.push((texts.collect(), cells));
        }
        self.mark(&mut lines);
        let names = columns.iter().map(|column| match &self.columns[..] {
            [] => self.quantity.words().into(),
            keys => label(keys, column),
        });
        let header = self.rows.iter().map(|key| short(key, &self.rows)).chain(names).collect();
        let caption = self.caption(&lines);
        Ok(Table { header, keys: self.rows.len(), lines, decimals: self.quantity.decimals(), caption })
    }

    fn cell(&self, runs: &[&Recorded]) -> Result<Option<Cell>> {
        let Some((first, others)) = runs.split_first() else { return Ok(None) };
        for (i, run) in others.iter().enumerate() {
            if let Some(key) = difference(first, run) {
                let (one, other) = (first.path.display(), run.path.display());
                let rule = format!(
                    "{one} and {other} differ in it and share a cell; give it in --rows or --columns, or choose with --only"
                );
                return Err(Error::config(key, rule));
            }
            if let Some(twin) = runs[..=i].iter().find(|twin| twin.seed() == run.seed()) {
                let (one, other) = (twin.path.display(), run.path.display());
                return Err(Error::config(
                    "seed",
                    format!("{one} and {other} are the same run; name one of them"),
                ));
            }
        }
        let diverged: Vec<Option<u64>> = runs.iter().map(|run| run.played.diverged).collect();
        let finite = kept(runs, |run| run.played.diverged);
        let values: Vec<f64> = finite.iter().filter_map(|run| self.quantity.of(&run.measures())).collect();
        let counts = (values.len(), finite.len());
        Ok(Some(Cell { value: self.spread.of(values), counts, mark: mark(&diverged), best: false }))
    }

    /// Marks the best cells. A cell in which some runs lack the quantity, or diverged, is not compared.
    fn mark(&self, lines: &mut [(Vec<String>, Vec<Option<Cell>>)]) {
        let decimals = self.quantity.decimals();
        let rounded = |cell: &Option<Cell>| {
            let complete = |cell: &&Cell| cell.counts.0 == cell.counts.1 && cell.mark.is_none();
            let cell = cell.as_ref().filter(complete)?;
            format!("{:.decimals$}", cell.value?.0).parse::<f64>().ok()
        };
        let better = |a: f64, b: f64| if self.quantity.more_is_better() { a.max(b) } else { a.min(b) };
        let columns = lines.first().map_or(0, |(_, cells)| cells.len());
        let groups: Vec<Vec<(usize, usize)>> = match self.best {
            Best::None => vec![],
            Best::Row => (0..lines.len()).map(|i| (0..columns).map(|j| (i, j)).collect()).collect(),
            Best::Column => (0..columns).map(|j| (0..lines.len()).map(|i| (i, j)).collect()).collect(),
        };
        for group in groups.into_iter().filter(|group| group.len() > 1) {
            let values: Vec<_> = group.iter().map(|&(i, j)| rounded(&lines[i].1[j])).collect();
            let best = values.iter().copied().flatten().reduce(better);
            for ((i, j), value) in group.into_iter().zip(values) {
                if let (true, Some(cell)) = (value.is_some() && value == best, &mut lines[i].1[j]) {
                    cell.best = true;
                }
            }
        }
    }

    fn caption(&self, lines: &[(Vec<String>, Vec<Option<Cell>>)]) -> String {
        let counts = lines.iter().flat_map(|(_, cells)| cells).flatten().map(|cell| cell.counts.1);
        let seeds = match (counts.clone().min(), counts.max()) {
            (_, None | Some(0 | 1)) => "one seed".into(),
            (Some(least), Some(most)) if least < most => {
                format!("mean ± {} over {least} to {most} seeds", self.spread.words())
            }
            (_, Some(most)) => format!("mean ± {} over {most} seeds", self.spread.words()),
        };
        let best = match self.best {
            Best::None => "",
            Best::Row => "; best of each row in bold",
            Best::Column => "; best of each column in bold",
        };
        format!("{}, {seeds}{best}", self.quantity.words())
    }
}

/// A key by its last part where this is unique.
fn short(key: &str, keys: &[String]) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let twins = keys.iter().filter(|other| last(other) == last(key)).count();
    if twins == 1 { last(key) } else { key.to_owned() }
}

/// The first key beside the seed in which two runs differ.
pub(super) fn difference<'a>(one: &'a Recorded, other: &'a Recorded) -> Option<&'a str> {
    let missing = |key: &&String| !one.config.contains_key(*key);
    let mut keys = one.config.keys().chain(other.config.keys().filter(missing));
    let differs = |key: &&String| *key != "seed" && one.config.get(*key) != other.config.get(*key);
    keys.find(differs).map(String::as_str)
}

impl Table {
    fn text(&self, cell: Option<&Cell>, bold: impl Fn(String) -> String) -> String {
        let decimals = self.decimals;
        let Some(cell) = cell else { return "–".into() };
        let Some((mean, spread)) = cell.value else {
            return cell.mark.clone().unwrap_or_else(|| "–".into());
        };
        let spread = spread.map_or_else(String::new, |spread| format!(" ± {spread:.decimals$}"));
        let (with, all) = cell.counts;
        let part = if with < all { format!(" ({with}/{all})") } else { String::new() };
        let mark = cell.mark.as_ref().map_or_else(String::new, |mark| format!(" ({mark})"));
        let text = format!("{mean:.decimals$}{spread}{part}{mark}");
        if cell.best { bold(text) } else { text }
    }

    fn lines<'a>(
        &'a self,
        plain: impl Fn(&str) -> String + 'a,
        bold: impl Fn(String) -> String + Copy + 'a,
    ) -> impl Iterator<Item = Vec<String>> + 'a {
        self.lines.iter().map(move |(values, cells)| {
            let values = values.iter().map(|value| plain(value));
            values.chain(cells.iter().map(|cell| self.text(cell.as_ref(), bold))).collect()
        })
    }

    /// As Markdown, aligned for a terminal too, with the caption below. `–`: no run has a value. A mean is
    /// over the runs that did not diverge; cells say how many did.
    #[must_use]
    pub fn markdown(&self) -> String {
        let escape = |text: &str| text.replace('|', "\\|").replace(|c: char| c.is_control(), " ");
        let header: Vec<String> = self.header.iter().map(|name| escape(name)).collect();
        let lines: Vec<Vec<String>> = self.lines(escape, |text| format!("**{text}**")).collect();
        let keys: Vec<usize> = (0..self.keys).collect();
        format!("{}\n{}\n", markdown(&header, &keys, &lines), self.caption)
    }

    /// As a LaTeX table; it needs the package booktabs.
    #[must_use]
    pub fn latex(&self) -> String {
        let row = |cells: Vec<String>| format!("    {} \\\\\n", cells.join(" & "));
        let header: Vec<String> = self.header.iter().map(|name| latex(name)).collect();
        let lines = self.lines(str::to_owned, |text| format!("\u{2}{text}\u{3}"));
        let body: String = lines.map(|cells| row(cells.iter().map(|cell| latex(cell)).collect())).collect();
        let columns = "l".repeat(self.keys) + &"r".repeat(self.header.len() - self.keys);
        format!(
            "\\begin{{table}}\n  \\centering\n  \\caption{{{}.}}\n  \\begin{{tabular}}{{{columns}}}\n    \\toprule\n{}    \\midrule\n{body}    \\bottomrule\n  \\end{{tabular}}\n\\end{{table}}\n",
            latex(&self.caption),
            row(header)
        )
    }
}

/// Text for LaTeX: its special characters, and the signs that its fonts lack.
fn latex(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\u{2}' => out += "\\textbf{",
            '\u{3}' => out += "}",
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '<' | '>' | '|' => out.extend(['$', c, '$']),
            '±' => out += "$\\pm$",
            '×' => out += "$\\times$",
            '→' => out += "$\\to$",
            '∞' => out += "$\\infty$",
            'σ' => out += "$\\sigma$",
            'ε' => out += "$\\varepsilon$",
            'δ' => out += "$\\delta$",
            '–' => out += "--",
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
#[path = "pivot_tests.rs"]
mod tests;
