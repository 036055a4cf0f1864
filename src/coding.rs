//! Gradient codes: which combinations of updates the clients send, and how the server undoes them.
//!
//! A gradient code for M clients and s stragglers (Tandon, Lei, Dimakis & Karampatziakis 2017, "Gradient
//! Coding: Avoiding Stragglers in Distributed Learning") is an M×M encoding matrix B. Row m combines the
//! updates of the s+1 clients of its support N(m), m among them, and 1ᵀ lies in the row span of *any* M−s
//! rows: whichever rows R arrive, some a with a·B_R = 1ᵀ turns the received sums into the plain sum.
//!
//! | paper symbol | here | shape |
//! |---|---|---|
//! | M | [`GradientCode::clients`] | |
//! | s | [`GradientCode::stragglers`] | 0 ≤ s < M |
//! | B, b_mk | [`GradientCode::matrix`], [`GradientCode::coefficient`] | M × M, max_k \|b_mk\| = 1 |
//! | N(m) | [`GradientCode::support`] | s+1 clients |
//! | R, a | `rows` and result of [`GradientCode::decode`] | equal lengths |
//!
//! Decoding multiplies the rounding error of the received sums by about ‖a‖₂, so a badly conditioned code
//! destroys a strongly masked update. Rows are scaled to max_k |b_mk| = 1, so that ‖a‖₂ compares codes.
//! [`GradientCode::amplification`] measures this; [`CodeKind::Auto`] takes the code in which it is smallest.

use crate::error::{Error, Result};
use crate::seed::Seed;
use nalgebra::{DMatrix, DVector};
use rand::seq::index;
use serde::{Deserialize, Serialize};

mod construct;
pub mod outage;
mod solve;

pub(crate) use solve::singular_triples;
pub use solve::{RESIDUAL_TOLERANCE, solve_ones};

/// Number of random sets of rows in which a code under construction is tried: all there are up to M = 10.
const TRIED_SETS: usize = 300;

/// A family of gradient codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CodeKind {
    /// The best conditioned of the codes that exist for the numbers of clients and stragglers.
    #[default]
    Auto,
    /// Random rows from the null space of a random matrix (Tandon et al. 2017, Algorithms 1 and 2): exists
    /// for any numbers, often badly conditioned.
    CyclicRandom,
    /// Cyclic shifts of a generator polynomial of a real MDS code (Raviv, Tamo, Tandon & Dimakis 2018):
    /// exists for an even number of clients with odd stragglers and for an odd number with even ones.
    CyclicMds,
    /// Groups of s+1 clients who all send the sum of their group (Tandon et al. 2017, section 3): exists if
    /// s+1 divides the number of clients.
    FractionalRepetition,
}

impl CodeKind {
    /// The families, without [`CodeKind::Auto`], in the order in which it prefers equally good ones.
    pub const FAMILIES: [Self; 3] = [Self::FractionalRepetition, Self::CyclicMds, Self::CyclicRandom];

    /// The name in configuration files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::CyclicRandom => "cyclic-random",
            Self::CyclicMds => "cyclic-mds",
            Self::FractionalRepetition => "fractional-repetition",
        }
    }

    /// Whether this code exists for `clients` and `stragglers`. Without stragglers every family is the
    /// identity matrix, with M−1 the matrix of ones.
    #[must_use]
    pub fn exists(self, clients: usize, stragglers: usize) -> bool {
        stragglers < clients
            && match self {
                Self::Auto | Self::CyclicRandom => true,
                Self::CyclicMds => stragglers == 0 || (clients + stragglers) % 2 == 1,
                Self::FractionalRepetition => clients.is_multiple_of(stragglers + 1),
            }
    }
}

/// An encoding matrix with its supports; see the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct GradientCode {
    kind: CodeKind,
    stragglers: usize,
    matrix: DMatrix<f64>,
    support: Vec<Vec<usize>>,
    holders: Vec<Vec<usize>>,
}

impl GradientCode {
    /// Builds the code of `kind` for M = `clients` and s = `stragglers`. Only a `cyclic-random` matrix
    /// depends on `seed`; it is the best conditioned of several draws (see [`CodeKind::CyclicRandom`]).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] at `clients`, `stragglers` or `code` if s ≥ M, if the code does not exist for
    /// (M, s), or if every draw of it is too badly conditioned for double precision.
    pub fn build(kind: CodeKind, clients: usize, stragglers: usize, seed: Seed) -> Result<Self> {
        if clients == 0 {
            return Err(Error::config("clients", "must be at least 1; add clients"));
        }
        if stragglers >= clients {
            let most = clients - 1;
            let rule = format!(
                "{stragglers} stragglers of {clients} clients leave nobody to decode from; take at most {most}"
            );
            return Err(Error::config("stragglers", rule));
        }
        if !kind.exists(clients, stragglers) {
            return Err(Error::config("code", absence(kind, clients, stragglers)));
        }
        let mut best: Option<(f64, Self)> = None;
        for family in CodeKind::FAMILIES {
            if !matches!(kind, CodeKind::Auto) && family != kind || !family.exists(clients, stragglers) {
                continue;
            }
            let limit = best.as_ref().map_or(f64::INFINITY, |(worst, _)| *worst);
            if let Some(better) = construct::construct(family, clients, stragglers, seed, limit) {
                best = Some(better);
            }
        }
        best.map(|(_, code)| code).ok_or_else(|| {
            let (name, instead) =
                (kind.name(), if kind == CodeKind::Auto { "" } else { " or code = \"auto\"" });
            let rule = format!(
                "no {name} code for {clients} clients and {stragglers} stragglers is conditioned well enough \
                 for double precision; take other stragglers{instead}"
            );
            Error::config("code", rule)
        })
    }

    /// Wraps `matrix`, whose row m is non-zero exactly on `support[m]` (sorted).
    fn new(kind: CodeKind, stragglers: usize, matrix: DMatrix<f64>, support: Vec<Vec<usize>>) -> Self {
        let clients = matrix.nrows();
        let mut holders = vec![Vec::with_capacity(stragglers + 1); clients];
        for (row, clients) in support.iter().enumerate() {
            for &k in clients {
                holders[k].push(row);
            }
        }
        Self { kind, stragglers, matrix, support, holders }
    }

    /// The family of this code, never [`CodeKind::Auto`].
    #[must_use]
    pub fn kind(&self) -> CodeKind {
        self.kind
    }

    /// M, the number of clients, of rows and of columns.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.matrix.nrows()
    }

    /// s, the number of rows that may always be missing.
    #[must_use]
    pub fn stragglers(&self) -> usize {
        self.stragglers
    }

    /// N(m): the s+1 clients whose updates row `row` combines, sorted, `row` among them.
    ///
    /// # Panics
    ///
    /// If `row` ≥ M.
    #[must_use]
    pub fn support(&self, row: usize) -> &[usize] {
        &self.support[row]
    }

    /// The s+1 rows that contain client `k`, sorted, `k` among them.
    ///
    /// # Panics
    ///
    /// If `k` ≥ M.
    #[must_use]
    pub fn holders(&self, k: usize) -> &[usize] {
        &self.holders[k]
    }

    /// b_mk for m = `row`.
    ///
    /// # Panics
    ///
    /// If `row` or `k` ≥ M.
    #[must_use]
    pub fn coefficient(&self, row: usize, k: usize) -> f64 {
        self.matrix[(row, k)]
    }

    /// B, M × M.
    #[must_use]
    pub fn matrix(&self) -> &DMatrix<f64> {
        &self.matrix
    }

    /// The decoding vector a with a·B_R = 1ᵀ for R = `rows`, indexed like `rows`; of all such vectors the
    /// one of least norm. `None` is an outage: 1ᵀ is not in the row span of B_R (within
    /// [`RESIDUAL_TOLERANCE`]). Any M−s distinct rows decode; fewer do when they happen to span 1ᵀ.
    ///
    /// Fractional repetition is decoded exactly, without arithmetic on B: a averages the rows of each group.
    ///
    /// # Panics
    ///
    /// If a row is ≥ M.
    #[must_use]
    pub fn decode(&self, rows: &[usize]) -> Option<Vec<f64>> {
        if self.kind == CodeKind::FractionalRepetition {
            let size = self.stragglers + 1;
            let mut arrived = vec![0_usize; self.clients() / size];
            for &row in rows {
                arrived[row / size] += 1;
            }
            let complete = arrived.iter().all(|&n| n > 0);
            complete.then(|| rows.iter().map(|&row| 1.0 / arrived[row / size] as f64).collect())
        } else {
            let received = self.matrix.select_rows(rows);
            solve_ones(&received).map(|a| a.as_slice().to_vec())
        }
    }

    /// The worst decoding amplification ‖a‖₂ over sets of exactly M−s rows: over all of them if they are at
    /// most `samples`, otherwise over the M runs of cyclically consecutive rows, which are the worst for
    /// `cyclic-mds`, and over `samples` random sets. Infinite if one of them does not decode.
    #[must_use]
    pub fn amplification(&self, samples: usize, seed: Seed) -> f64 {
        self.amplification_until(samples, seed, f64::INFINITY)
    }

    /// [`Self::amplification`], except that the first value above `limit` ends the search.
    fn amplification_until(&self, samples: usize, seed: Seed, limit: f64) -> f64 {
        let (clients, size) = (self.clients(), self.clients() - self.stragglers);
        let mut worst = 0.0_f64;
        let mut meet = |rows: &[usize]| {
            let norm = self.decode(rows).map_or(f64::INFINITY, |a| DVector::from_vec(a).norm());
            worst = worst.max(norm);
            worst <= limit && worst < f64::INFINITY
        };
        if binomial(clients, self.stragglers) <= samples {
            let mut rows: Vec<usize> = (0..size).collect();
            while meet(&rows) && next_subset(&mut rows, clients) {}
        } else {
            let mut rng = seed.child("amplification", 0).rng();
            let runs = (0..clients).map(|first| (first..first + size).map(|m| m % clients).collect());
            let random = (0..samples).map(|_| index::sample(&mut rng, clients, size).into_vec());
            let _ended = runs.chain(random).all(|rows: Vec<usize>| meet(&rows));
        }
        worst
    }
}

/// Why `kind` does not exist for (M, s), and what to take instead.
fn absence(kind: CodeKind, clients: usize, stragglers: usize) -> String {
    let rule = match kind {
        CodeKind::FractionalRepetition => "stragglers + 1 to divide the number of clients",
        _ => "an even number of clients with odd stragglers, or an odd number with even ones",
    };
    let instead = CodeKind::FAMILIES
        .into_iter()
        .find(|family| family.exists(clients, stragglers))
        .unwrap_or(CodeKind::CyclicRandom);
    let nearest = (0..clients)
        .filter(|&s| s > 0 && kind.exists(clients, s))
        .min_by_key(|&s| s.abs_diff(stragglers))
        .map_or(String::new(), |s| format!(" or stragglers = {s}"));
    let (name, instead) = (kind.name(), instead.name());
    format!("{name} needs {rule}, not {clients} and {stragglers}; take code = \"{instead}\"{nearest}")
}

/// (n choose k), saturating.
fn binomial(n: usize, k: usize) -> usize {
    (1..=k.min(n - k)).try_fold(1_usize, |c, i| Some(c.checked_mul(n + 1 - i)? / i)).unwrap_or(usize::MAX)
}

/// Steps to the next subset of 0..n of the same size in lexicographic order; false after the last.
fn next_subset(subset: &mut [usize], n: usize) -> bool {
    let size = subset.len();
    let Some(i) = (0..size).rev().find(|&i| subset[i] < n - size + i) else { return false };
    subset[i] += 1;
    for j in i + 1..size {
        subset[j] = subset[j - 1] + 1;
    }
    true
}

#[cfg(test)]
mod tests;
