//! Recorded losses, replayed from a CSV file.
//!
//! Line t of the file, which has no header, holds the states of all links in round t: 1 where messages arrive
//! and 0 where they are lost. Uploads have M columns, one per sending client; links between clients have M²
//! columns, column receiver · M + sender (both from 0), the diagonal ignored. All attempts of a round meet
//! the same states, and so do its transfers, unless a line has n times as many columns: then the first block
//! is for the first upload (or share) of an attempt, the second for the second, and the last for all that
//! follow.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Dependence, LinkLaw, LinkModel, LinkUse, Shape, Side};
use crate::bounds;
use crate::error::{Error, Result, count};
use crate::message::Node;
use crate::paths;

/// A recorded trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// CSV file without a header, one line per round: 1 for links that deliver, 0 for links that lose; M
    /// columns by sender for uploads, M × M columns by receiver and then sender between clients, or several
    /// such blocks, one for each transfer of an attempt. Relative to the configuration's folder.
    pub path: PathBuf,
    /// Whether a trace that is shorter than the run starts again from its first line.
    pub repeat: bool,
}

impl Trace {
    /// Reads the trace.
    ///
    /// # Errors
    /// A file that cannot be read, has a line of the wrong length or a value other than 0 and 1, or is too
    /// short.
    pub fn model(&self, side: &Side) -> Result<Model> {
        let path = &self.path;
        if path.as_os_str().is_empty() {
            return Err(Error::config("path", "a trace needs the CSV file to replay"));
        }
        let (columns, meaning) = match side.shape {
            Shape::Star => (side.clients, "one per client"),
            Shape::Mesh => (side.clients * side.clients, "one per receiver and sender"),
            Shape::ToHelpers | Shape::OfHelpers => {
                return Err(Error::config("", "links of helpers take no trace; take another kind"));
            }
        };
        let bytes = bounds::read(path, 1 << 30, "a trace")?;
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(&*bytes);
        let mut states = Vec::new();
        let mut width = columns;
        for (t, record) in reader.records().enumerate() {
            let line = t + 1;
            let record = record.map_err(|error| Error::file(path, format!("not a CSV file: {error}")))?;
            let values = record.len();
            if line == 1 && values > columns && values.is_multiple_of(columns) {
                width = values;
            }
            if values != width {
                let problem = format!("line {line} has {}, not {width}, {meaning}", count(values, "value"));
                return Err(Error::file(path, problem));
            }
            for (column, field) in record.iter().enumerate() {
                states.push(match field {
                    "0" => false,
                    "1" => true,
                    _ => {
                        let problem = format!(
                            "line {line}, column {}: `{field}` is neither 1 (arrives) nor 0 (lost)",
                            column + 1
                        );
                        return Err(Error::file(path, problem));
                    }
                });
            }
        }
        let rounds = states.len() / width;
        if rounds == 0 || ((rounds as u64) < side.rounds && !self.repeat) {
            let problem = format!(
                "the trace has {} for a run of {}; give a longer one, or set repeat = true",
                count(rounds, "round"),
                side.rounds
            );
            return Err(Error::file(path, problem));
        }
        let lost = (0..columns)
            .map(|column| {
                let lost = states.chunks(width).filter(|line| !line[column]).count();
                lost as f64 / rounds as f64
            })
            .collect();
        Ok(Model { clients: side.clients, columns, width, rounds: rounds as u64, states, lost })
    }
}

impl LinkLaw for Trace {
    fn resolve_paths(&mut self, folder: &Path) {
        if !self.path.as_os_str().is_empty() {
            self.path = paths::absolute(folder, &self.path);
        }
    }

    fn build(&self, side: &Side) -> Result<Box<dyn LinkModel>> {
        Ok(Box::new(self.model(side)?))
    }
}

/// A trace in memory.
#[derive(Clone, Debug)]
pub struct Model {
    clients: usize,
    /// Columns of a transfer.
    columns: usize,
    /// Columns of a line.
    width: usize,
    rounds: u64,
    states: Vec<bool>,
    /// Share of lost rounds by column, of the first transfer.
    lost: Vec<f64>,
}

impl Model {
    /// The column of a link; links from the server have none.
    fn column(&self, from: Node, to: Node) -> Option<usize> {
        match (from, to) {
            (Node::Client(k), Node::Client(m)) => Some(m as usize * self.clients + k as usize),
            (Node::Client(k), Node::Server) => Some(k as usize),
            _ => None,
        }
    }
}

impl LinkModel for Model {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let line = (link.round.saturating_sub(1) % self.rounds) as usize;
        let block = usize::from(link.transfer).min(self.width / self.columns - 1);
        let at = line * self.width + block * self.columns;
        self.column(link.from, link.to).is_none_or(|column| self.states[at + column])
    }

    fn erasure(&self, from: Node, to: Node, _: u64) -> f64 {
        self.column(from, to).map_or(0.0, |column| self.lost[column])
    }

    fn dependence(&self) -> Dependence {
        Dependence::Links
    }
}
