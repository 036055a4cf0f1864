//! Numbers that belong to links: one for all, one per sender, or a matrix, as it stands or in a CSV file.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Shape, Side};
use crate::bounds;
use crate::error::{Error, Result, count};
use crate::message::Node;
use crate::paths;
use crate::seed::Seed;

/// One number for all links, one per sender, or (between clients) a matrix: as it stands, or in a CSV file.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum PerLink {
    /// The same number on every link.
    Same(f64),
    /// One number per sending client.
    PerClient(Vec<f64>),
    /// The M × M matrix: a list of rows, one per receiver, with a number per sender; the diagonal is ignored.
    Rows(Vec<Vec<f64>>),
    /// A CSV file with the M × M matrix, row = receiver, column = sender, without a header; the diagonal is
    /// ignored.
    Matrix(PathBuf),
}

/// An element of a list.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number, or a row of numbers")]
enum One {
    Number(f64),
    Row(Vec<f64>),
}

impl<'de> Deserialize<'de> for PerLink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = PerLink;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a list of numbers or of rows, or the path of a CSV matrix")
            }

            fn visit_f64<E: de::Error>(self, x: f64) -> Result<PerLink, E> {
                Ok(PerLink::Same(x))
            }

            fn visit_i64<E: de::Error>(self, x: i64) -> Result<PerLink, E> {
                Ok(PerLink::Same(x as f64))
            }

            fn visit_u64<E: de::Error>(self, x: u64) -> Result<PerLink, E> {
                Ok(PerLink::Same(x as f64))
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<PerLink, E> {
                Ok(PerLink::Matrix(path.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PerLink, A::Error> {
                let (mut list, mut rows) = (Vec::new(), Vec::new());
                while let Some(one) = seq.next_element()? {
                    match one {
                        One::Number(x) => list.push(x),
                        One::Row(row) => rows.push(row),
                    }
                    if !list.is_empty() && !rows.is_empty() {
                        return Err(de::Error::custom("a list has numbers or rows, not both"));
                    }
                }
                Ok(if rows.is_empty() { PerLink::PerClient(list) } else { PerLink::Rows(rows) })
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// What a number may be.
#[derive(Clone, Copy)]
pub(super) struct Quantity {
    noun: &'static str,
    bounds: &'static str,
    holds: fn(f64) -> bool,
}

/// A number in \[0, 1\].
pub(super) const PROBABILITY: Quantity =
    Quantity { noun: "probability", bounds: "[0, 1]", holds: |x| (0.0..=1.0).contains(&x) };
/// A number in \[0, 1).
pub(super) const SHARE: Quantity =
    Quantity { noun: "share", bounds: "[0, 1)", holds: |x| (0.0..1.0).contains(&x) };
/// A finite number above 0.
pub(super) const POSITIVE: Quantity =
    Quantity { noun: "number", bounds: "(0, ∞)", holds: |x| x > 0.0 && x < f64::INFINITY };
/// A finite number from 0 on.
pub(super) const NOT_NEGATIVE: Quantity =
    Quantity { noun: "number", bounds: "[0, ∞)", holds: |x| (0.0..f64::INFINITY).contains(&x) };
/// A mean number of rounds.
pub(super) const ROUNDS: Quantity =
    Quantity { noun: "number of rounds", bounds: "[1, ∞)", holds: |x| (1.0..f64::INFINITY).contains(&x) };

impl Quantity {
    /// `value` if it may be.
    pub(super) fn check(self, key: &str, value: f64) -> Result<f64> {
        self.check_at(key, value, "")
    }

    fn check_at(self, key: &str, value: f64, place: &str) -> Result<f64> {
        let Self { noun, bounds, holds } = self;
        if holds(value) {
            Ok(value)
        } else {
            Err(Error::config(key, format!("{noun} {value}{place} is outside {bounds}")))
        }
    }
}

impl PerLink {
    /// Makes the path of a matrix absolute: it is relative to the configuration's `folder`.
    pub(super) fn resolve_path(&mut self, folder: &Path) {
        if let Self::Matrix(path) = self {
            *path = paths::absolute(folder, path);
        }
    }

    /// Checks the numbers for the links of `side`.
    ///
    /// # Errors
    /// A number that `quantity` refuses, or a list or matrix of the wrong size.
    pub(super) fn load(&self, key: &str, quantity: Quantity, side: &Side) -> Result<Table> {
        match self {
            Self::PerClient(_) | Self::Rows(_) | Self::Matrix(_) if side.shape == Shape::OfHelpers => {
                Err(Error::config(key, "links of helpers take one number for all"))
            }
            Self::Rows(_) | Self::Matrix(_) if side.shape != Shape::Mesh => Err(Error::config(
                key,
                "uploads take one number or one per client; a matrix is for client-to-client links",
            )),
            Self::Rows(rows) => {
                Ok(Table::Matrix(side.clients, check_rows(key, quantity, rows, side.clients)?))
            }
            Self::Matrix(path) => Ok(Table::Matrix(side.clients, read_matrix(path, side.clients, quantity)?)),
            _ => self.load_per_client(key, quantity, side.clients),
        }
    }

    /// [`PerLink::load`] of numbers that stand in the configuration itself.
    ///
    /// # Errors
    /// As there; a file.
    pub(super) fn load_inline(
        &self,
        key: &str,
        quantity: Quantity,
        clients: usize,
        shape: Shape,
    ) -> Result<Table> {
        if matches!(self, Self::Matrix(_)) {
            return Err(Error::config(key, "takes a number, a list or rows, not a file"));
        }
        let seed = Seed::new(0);
        self.load(key, quantity, &Side { clients, rounds: 0, shape, seed, common: seed })
    }

    /// Positive numbers between `clients` clients, by receiver and by sender; the diagonal is not looked at.
    ///
    /// # Errors
    /// A number that is not positive, a list or rows of the wrong size, a file.
    pub(crate) fn between(&self, key: &str, clients: usize) -> Result<Vec<Vec<f64>>> {
        let table = self.load_inline(key, POSITIVE, clients, Shape::Mesh)?;
        let client = |k: usize| Node::Client(k as u32);
        let row = |m: usize| (0..clients).map(|k| table.at(client(k), client(m))).collect();
        Ok((0..clients).map(row).collect())
    }

    /// Checks numbers that belong to clients rather than to links.
    ///
    /// # Errors
    /// As [`PerLink::load`]; a matrix is refused.
    pub(super) fn load_per_client(&self, key: &str, quantity: Quantity, clients: usize) -> Result<Table> {
        match self {
            Self::Same(x) => Ok(Table::Same(quantity.check(key, *x)?)),
            Self::PerClient(list) if list.len() == clients => {
                for (k, x) in list.iter().enumerate() {
                    quantity.check_at(key, *x, &format!(" of client {}", k + 1))?;
                }
                Ok(Table::PerClient(list.clone()))
            }
            Self::PerClient(list) => Err(Error::config(
                key,
                format!(
                    "the list has {} for {}; give one per client, or one number for all",
                    count(list.len(), "number"),
                    count(clients, "client")
                ),
            )),
            Self::Rows(_) | Self::Matrix(_) => {
                Err(Error::config(key, "takes one number or one per client, not a matrix"))
            }
        }
    }
}

/// The rows one after the other.
fn check_rows(key: &str, quantity: Quantity, rows: &[Vec<f64>], clients: usize) -> Result<Vec<f64>> {
    let shape = |what: String| {
        let clients = count(clients, "client");
        Error::config(
            key,
            format!("the matrix has {what} for {clients}; give a row per receiver, a number per sender"),
        )
    };
    if rows.len() != clients {
        return Err(shape(count(rows.len(), "row")));
    }
    for (m, row) in rows.iter().enumerate() {
        if row.len() != clients {
            return Err(shape(format!("{} in row {}", count(row.len(), "number"), m + 1)));
        }
        for (k, x) in row.iter().enumerate().filter(|(k, _)| *k != m) {
            quantity.check_at(key, *x, &format!(" in row {}, column {}", m + 1, k + 1))?;
        }
    }
    Ok(rows.concat())
}

fn read_matrix(path: &Path, clients: usize, quantity: Quantity) -> Result<Vec<f64>> {
    let bytes = bounds::read(path, 1 << 30, "a matrix")?;
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(&*bytes);
    let mut matrix = Vec::with_capacity(clients * clients);
    let mut rows = 0;
    for (m, record) in reader.records().enumerate() {
        let record = record.map_err(|error| Error::file(path, format!("not a CSV file: {error}")))?;
        if record.len() != clients {
            let (line, values) = (m + 1, record.len());
            let problem = format!(
                "line {line} has {} for {}; the matrix is {clients} × {clients}",
                count(values, "value"),
                count(clients, "client")
            );
            return Err(Error::file(path, problem));
        }
        for (k, field) in record.iter().enumerate() {
            match field.parse::<f64>() {
                Ok(x) if m == k || (quantity.holds)(x) => matrix.push(x),
                _ => {
                    let Quantity { noun, bounds, .. } = quantity;
                    let problem =
                        format!("line {}, column {}: `{field}` is not a {noun} in {bounds}", m + 1, k + 1);
                    return Err(Error::file(path, problem));
                }
            }
        }
        rows += 1;
    }
    if rows != clients {
        let problem = format!(
            "{} for {}; the matrix is {clients} × {clients}",
            count(rows, "line"),
            count(clients, "client")
        );
        return Err(Error::file(path, problem));
    }
    Ok(matrix)
}

/// Checked numbers.
#[derive(Clone, Debug)]
pub(super) enum Table {
    Same(f64),
    PerClient(Vec<f64>),
    /// M and the numbers, [receiver · M + sender].
    Matrix(usize, Vec<f64>),
}

impl Table {
    /// The number of the link. Links from the server never fail and have no number: 0. Helpers are alike and
    /// have one for all.
    pub(super) fn at(&self, from: Node, to: Node) -> f64 {
        match (self, from, to) {
            (_, Node::Server, _) => 0.0,
            (Self::Same(x), ..) => *x,
            (_, Node::Helper(_), _) => 0.0,
            (Self::PerClient(list), Node::Client(k), _) => list[k as usize],
            (Self::Matrix(m, list), Node::Client(k), to) => match to {
                Node::Client(to) => list[to as usize * m + k as usize],
                Node::Helper(_) | Node::Server => 0.0,
            },
        }
    }

    /// The number of client `k`.
    pub(super) fn of(&self, k: u32) -> f64 {
        self.at(Node::Client(k), Node::Server)
    }

    /// Whether all links have the same number.
    pub(super) fn is_same(&self) -> bool {
        matches!(self, Self::Same(_))
    }
}
