//! Independent erasures: every use of a link fails with that link's probability, whatever happened before.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{LinkModel, LinkUse};
use crate::error::{Error, Result};
use crate::protocol::PartyId;
use crate::seed::Seed;

/// Independent Bernoulli erasures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bernoulli {
    /// Erasure probability of one use of a link, each in [0, 1]: one number for all links, a list with one number per
    /// sending client, or (between clients) the path of a CSV file with an M × M matrix, row = receiver, column = sender,
    /// relative to the configuration's folder.
    pub erasure: Erasure,
}

/// One probability for all links, one per sender, or a matrix in a CSV file.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Erasure {
    /// The same probability on every link.
    Same(f64),
    /// One probability per sending client.
    PerClient(Vec<f64>),
    /// A CSV file with the matrix `p[receiver][sender]`.
    Matrix(PathBuf),
}

impl Default for Erasure {
    fn default() -> Self {
        Self::Same(0.0)
    }
}

impl<'de> Deserialize<'de> for Erasure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Erasure;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a probability, a list of probabilities, or the path of a CSV matrix")
            }

            fn visit_f64<E: de::Error>(self, p: f64) -> Result<Erasure, E> {
                Ok(Erasure::Same(p))
            }

            fn visit_i64<E: de::Error>(self, p: i64) -> Result<Erasure, E> {
                Ok(Erasure::Same(p as f64))
            }

            fn visit_u64<E: de::Error>(self, p: u64) -> Result<Erasure, E> {
                Ok(Erasure::Same(p as f64))
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<Erasure, E> {
                Ok(Erasure::Matrix(path.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Erasure, A::Error> {
                let mut list = Vec::new();
                while let Some(p) = seq.next_element()? {
                    list.push(p);
                }
                Ok(Erasure::PerClient(list))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Which links a model serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Every client to every other client.
    Mesh,
    /// Every client to the server.
    Star,
}

impl Bernoulli {
    pub(super) fn resolve_paths(&mut self, folder: &Path) {
        if let Erasure::Matrix(path) = &mut self.erasure {
            let joined = folder.join(&*path);
            *path = std::path::absolute(&joined).unwrap_or(joined);
        }
    }

    /// Checks the probabilities for `clients` clients and loads a matrix.
    ///
    /// # Errors
    /// See [`super::NetworkConfig::build`].
    pub fn build(&self, clients: usize, shape: Shape, seed: Seed) -> Result<Model> {
        let check = |p: f64, place: String| {
            if (0.0..=1.0).contains(&p) {
                Ok(p)
            } else {
                Err(Error::config("erasure", format!("probability {p}{place} is outside [0, 1]")))
            }
        };
        let probabilities = match &self.erasure {
            Erasure::Same(p) => vec![check(*p, String::new())?; clients * clients],
            Erasure::PerClient(list) if list.len() == clients => {
                for (k, p) in list.iter().enumerate() {
                    check(*p, format!(" of client {}", k + 1))?;
                }
                list.repeat(clients)
            }
            Erasure::PerClient(list) => {
                return Err(Error::config(
                    "erasure",
                    format!(
                        "the list has {} probabilities for {clients} clients; give one per client, or one number for all",
                        list.len()
                    ),
                ));
            }
            Erasure::Matrix(_) if shape == Shape::Star => {
                return Err(Error::config(
                    "erasure",
                    "uploads take one number or one per client; a matrix file is for client-to-client links",
                ));
            }
            Erasure::Matrix(path) => read_matrix(path, clients)?,
        };
        Ok(Model { clients, probabilities, key: seed.word() })
    }
}

/// Reads an M × M matrix of probabilities without a header; the diagonal is ignored.
fn read_matrix(path: &Path, clients: usize) -> Result<Vec<f64>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(&*bytes);
    let mut matrix = Vec::with_capacity(clients * clients);
    let mut rows = 0;
    for (m, record) in reader.records().enumerate() {
        let record = record.map_err(|error| Error::file(path, format!("not a CSV file: {error}")))?;
        if record.len() != clients {
            return Err(Error::file(
                path,
                format!(
                    "line {} has {} values for {clients} clients; the matrix is {clients} × {clients}",
                    m + 1,
                    record.len()
                ),
            ));
        }
        for (k, field) in record.iter().enumerate() {
            match field.parse::<f64>() {
                Ok(p) if (0.0..=1.0).contains(&p) => matrix.push(p),
                _ => {
                    return Err(Error::file(
                        path,
                        format!("line {}, column {}: `{field}` is not a probability in [0, 1]", m + 1, k + 1),
                    ));
                }
            }
        }
        rows += 1;
    }
    if rows != clients {
        return Err(Error::file(
            path,
            format!("{rows} lines for {clients} clients; the matrix is {clients} × {clients}"),
        ));
    }
    Ok(matrix)
}

/// Checked erasure probabilities of one family of links.
#[derive(Clone, Debug)]
pub struct Model {
    clients: usize,
    /// p[receiver · M + sender]; an upload uses any row.
    probabilities: Vec<f64>,
    key: u64,
}

/// A 64-bit finaliser with full avalanche (Stafford's variant 13, as in SplitMix64).
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Model {
    /// A uniform draw in [0, 1) that belongs to this use of the link.
    fn uniform(&self, link: LinkUse) -> f64 {
        let ends = u64::from(link.from.code()) << 32 | u64::from(link.to.code());
        let time = u64::from(link.attempt) << 8 | u64::from(link.phase);
        let word = mix(mix(mix(self.key ^ link.round) ^ time) ^ ends);
        (word >> 11) as f64 * (-53f64).exp2()
    }
}

impl LinkModel for Model {
    fn delivers(&self, link: LinkUse) -> bool {
        self.uniform(link) >= self.erasure(link.from, link.to)
    }

    fn erasure(&self, from: PartyId, to: PartyId) -> f64 {
        match (from, to) {
            (PartyId::Client(k), PartyId::Client(m)) => {
                self.probabilities[usize::from(m) * self.clients + usize::from(k)]
            }
            (PartyId::Client(k), _) => self.probabilities[usize::from(k)],
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(erasure: Erasure, shape: Shape) -> Result<Model> {
        Bernoulli { erasure }.build(4, shape, Seed::new(5))
    }

    fn use_of(round: u64, attempt: u32, phase: u8, from: u16, to: u16) -> LinkUse {
        LinkUse { round, attempt, phase, from: PartyId::Client(from), to: PartyId::Client(to) }
    }

    #[test]
    fn frequency_and_independence_match_the_law() {
        // 40,000 uses per statistic, bounds of 4.5 standard errors: α < 10⁻⁵ each for a correct model.
        let p = 0.3;
        let model = model(Erasure::Same(p), Shape::Mesh).unwrap();
        let n = 40_000u64;
        let lost = |round, attempt, phase, from, to| !model.delivers(use_of(round, attempt, phase, from, to));
        let bound = 4.5 * (p * (1.0 - p) / n as f64).sqrt();
        let both_bound = 4.5 * (p * p * (1.0 - p * p) / n as f64).sqrt();
        let frequency = (1..=n).filter(|&r| lost(r, 0, 0, 0, 1)).count() as f64 / n as f64;
        assert!((frequency - p).abs() < bound, "{frequency}");
        type Use = (u32, u8, u16, u16);
        let neighbours: [Use; 5] = [(1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 0), (0, 0, 0, 2), (0, 0, 2, 1)];
        for (attempt, phase, from, to) in neighbours {
            let both = (1..=n).filter(|&r| lost(r, 0, 0, 0, 1) && lost(r, attempt, phase, from, to)).count()
                as f64
                / n as f64;
            assert!((both - p * p).abs() < both_bound, "{both}");
        }
        let both =
            (1..=n).filter(|&r| lost(r, 0, 0, 0, 1) && lost(r + 1, 0, 0, 0, 1)).count() as f64 / n as f64;
        assert!((both - p * p).abs() < both_bound, "{both}");
    }

    #[test]
    fn certain_links_are_certain() {
        let never = model(Erasure::Same(1.0), Shape::Mesh).unwrap();
        let always = model(Erasure::Same(0.0), Shape::Mesh).unwrap();
        for round in 0..1000 {
            assert!(!never.delivers(use_of(round, 0, 0, 0, 1)));
            assert!(always.delivers(use_of(round, 0, 0, 0, 1)));
        }
    }

    #[test]
    fn a_matrix_is_indexed_by_receiver_then_sender() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0,0.1,0.2,0.3\n0.4,0,0.5,0.6\n0.7,0.8,0,0.9\n1,1,1,0\n").unwrap();
        let model = model(Erasure::Matrix(file.path().into()), Shape::Mesh).unwrap();
        assert_eq!(model.erasure(PartyId::Client(2), PartyId::Client(0)), 0.2);
        assert_eq!(model.erasure(PartyId::Client(0), PartyId::Client(2)), 0.7);
    }

    #[test]
    fn bad_probabilities_are_refused_in_one_line() {
        let message = |erasure, shape| model(erasure, shape).unwrap_err().to_string();
        assert_eq!(message(Erasure::Same(1.5), Shape::Mesh), "erasure: probability 1.5 is outside [0, 1]");
        assert_eq!(
            message(Erasure::Same(f64::NAN), Shape::Mesh),
            "erasure: probability NaN is outside [0, 1]"
        );
        assert_eq!(
            message(Erasure::PerClient(vec![0.1, 0.2, -0.1, 0.0]), Shape::Star),
            "erasure: probability -0.1 of client 3 is outside [0, 1]"
        );
        assert_eq!(
            message(Erasure::PerClient(vec![0.1]), Shape::Star),
            "erasure: the list has 1 probabilities for 4 clients; give one per client, or one number for all"
        );
    }
}
