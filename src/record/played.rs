//! One run as figures and tables see it.

use std::path::Path;

use super::{Row, RunInfo, read_rounds};
use crate::error::{Error, Result};

/// The rounds of a run, and where it diverged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Played {
    /// Its rounds, all of them finite.
    pub rows: Vec<Row>,
    /// The round after them that diverged, if one did.
    pub diverged: Option<u64>,
}

/// Whether runs are to be told apart by their loss: they were tested, and nothing was right or wrong.
#[cfg(feature = "cli")]
pub(crate) fn by_loss<'a>(runs: impl Iterator<Item = &'a Played> + Clone) -> bool {
    let mut rows = runs.flat_map(|run| &run.rows).filter(|row| row.is_tested()).peekable();
    rows.peek().is_some() && rows.all(|row| row.test_accuracy.is_none())
}

impl From<Vec<Row>> for Played {
    fn from(rows: Vec<Row>) -> Self {
        Self { rows, diverged: None }
    }
}

impl Played {
    /// Reads a run directory.
    ///
    /// # Errors
    /// A table that is missing, damaged or without a row, unless the first round diverged.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join("rounds.csv");
        let rows = read_rounds(&path)?;
        let info = run.join("run.json");
        let end = if info.is_file() { RunInfo::load(&info)?.end } else { None };
        let diverged = end.and_then(|end| end.diverged).map(|diverged| diverged.round);
        if rows.is_empty() && diverged.is_none() {
            return Err(Error::file(path, "holds no round; the run stopped before its first round ended"));
        }
        Ok(Self { rows, diverged })
    }

    #[cfg(feature = "cli")]
    /// The last round that was begun.
    pub(crate) fn last(&self) -> Option<u64> {
        self.rows.iter().map(|row| row.round).chain(self.diverged).max()
    }
}

/// What a label says of runs (seeds) that diverged, each in the round that is given; nothing where none did.
pub(crate) fn mark(diverged: &[Option<u64>]) -> Option<String> {
    let count = diverged.iter().flatten().count();
    match diverged {
        _ if count == 0 => None,
        [Some(round)] => Some(format!("diverged in round {round}")),
        all => Some(format!("{count} of {} seeds diverged", all.len())),
    }
}

/// The runs that a mean is over: those that did not diverge.
pub(crate) fn kept<T>(runs: &[T], diverged: impl Fn(&T) -> Option<u64>) -> Vec<&T> {
    runs.iter().filter(|run| diverged(run).is_none()).collect()
}
