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
//! | B, b_mk | [`GradientCode::matrix`], [`GradientCode::coefficient`] | M × M, max_k \|b_mk\| = 1 over the reals |
//! | N(m) | [`GradientCode::support`] | s+1 clients |
//! | R, a | `rows` and result of [`GradientCode::decode`] | equal lengths |
//!
//! Decoding multiplies the rounding error of the received sums by about ‖a‖₂, so a badly conditioned code
//! destroys a strongly masked update. Rows are scaled to max_k |b_mk| = 1, so that ‖a‖₂ compares codes.
//! [`Code::amplification`] measures this; [`CodeKind::Auto`] takes the code in which it is smallest.
//!
//! The same codes exist over a prime field (`arithmetic = "field"`): there decoding is exact, whatever the
//! code.

use std::fmt;

use crate::algebra::field::Prime;
use crate::algebra::{Scalar, linear};
use crate::error::{Error, Result};
use crate::seed::Seed;
use nalgebra::{DMatrix, DVector};
use rand::seq::index;
use serde::{Deserialize, Serialize};

pub mod assignment;
mod construct;
mod memory;
pub mod outage;
pub mod partial;
pub mod shamir;
mod size;
mod solve;
pub mod stacked;
mod triangular;

pub(crate) use memory::Memory;
pub(crate) use size::check_pairs;
pub use size::{DENSE_CLIENTS, PAIRED_CLIENTS};
pub use solve::{RESIDUAL_TOLERANCE, solve, solve_ones};
pub(crate) use solve::{left_singular, singular_triples};

/// Number of random sets of rows in which a code under construction is tried: all there are up to M = 10.
/// Fewer for many clients ([`affordable`]).
const TRIED_SETS: usize = 300;

/// Tried sets · M³ at most, some seconds.
const TRIED_WORK: usize = TRIED_SETS * 64_usize.pow(3);

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

/// What a gradient code is made of: real numbers, or the elements of a prime field.
pub trait Coefficient: Scalar {
    /// The code of `kind`; see [`GradientCode::build`] and [`GradientCode::over_field`].
    ///
    /// # Errors
    /// As there.
    fn code(kind: CodeKind, clients: usize, stragglers: usize, seed: Seed) -> Result<GradientCode<Self>>;

    /// Some a with a · `rows` = `target`, or `None` if that is not in the row span. `target` has an entry for
    /// each column.
    fn solve(rows: &DMatrix<Self>, target: &[Self]) -> Option<Vec<Self>>;

    /// [`Coefficient::solve`] for 1ᵀ.
    fn solve_ones(rows: &DMatrix<Self>) -> Option<Vec<Self>> {
        Self::solve(rows, &vec![Self::ONE; rows.ncols()])
    }

    /// How good a pivot it is: its absolute value, and over a prime field 1 unless it is 0.
    fn magnitude(self) -> f64;

    /// The factor by which decoding with a amplifies rounding errors: ‖a‖₂, and 1 where nothing is rounded.
    fn amplification(a: &[Self]) -> f64;
}

impl Coefficient for f64 {
    fn code(kind: CodeKind, clients: usize, stragglers: usize, seed: Seed) -> Result<GradientCode<Self>> {
        GradientCode::build(kind, clients, stragglers, seed)
    }

    fn solve(rows: &DMatrix<Self>, target: &[Self]) -> Option<Vec<Self>> {
        solve(rows, &DVector::from_column_slice(target)).map(|a| a.as_slice().to_vec())
    }

    fn magnitude(self) -> f64 {
        self.abs()
    }

    fn amplification(a: &[Self]) -> f64 {
        a.iter().map(|a| a * a).sum::<Self>().sqrt()
    }
}

impl<F: Prime> Coefficient for F {
    fn code(kind: CodeKind, clients: usize, stragglers: usize, seed: Seed) -> Result<GradientCode<Self>> {
        GradientCode::over_field(kind, clients, stragglers, seed)
    }

    fn solve(rows: &DMatrix<Self>, target: &[Self]) -> Option<Vec<Self>> {
        linear::solve_left(rows, target)
    }

    fn magnitude(self) -> f64 {
        f64::from(u8::from(self != F::ZERO))
    }

    fn amplification(_: &[Self]) -> f64 {
        1.0
    }
}

/// What a sum that reached the server holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Received {
    /// The attempt of the round, from 0.
    pub attempt: u32,
    /// The code row, and the client who sent the sum.
    pub row: usize,
    /// Whether it contains the share of each of the s+1 clients of the row's support, in order.
    pub held: Vec<bool>,
}

/// A gradient code without its numbers: who combines whose updates, and which sets of rows decode.
pub trait Code: fmt::Debug + Send + Sync {
    /// The family, never [`CodeKind::Auto`].
    fn kind(&self) -> CodeKind;

    /// M, the number of clients, of rows and of columns.
    fn clients(&self) -> usize;

    /// s, the number of rows that may always be missing.
    fn stragglers(&self) -> usize;

    /// N(m): the s+1 clients whose updates row `row` < M combines, sorted, `row` among them.
    fn support(&self, row: usize) -> &[usize];

    /// The s+1 rows that contain client `k` < M, sorted, `k` among them.
    fn holders(&self, k: usize) -> &[usize];

    /// Whether the sums of `rows` determine the sum of all updates.
    fn decodes(&self, rows: &[usize]) -> bool;

    /// Whether fewer than M−s rows count as too few, whatever they span: then [`Code::decodes`] is a bound
    /// for codes that decode from some smaller sets.
    fn is_outlined(&self) -> bool {
        false
    }

    /// Whether incomplete sums are sent and decoded from, too (`gc-plus`).
    fn takes_incomplete(&self) -> bool {
        false
    }

    /// Times that shares and sums are sent in an attempt before the server decodes.
    fn repeats(&self) -> u32 {
        1
    }

    /// Whether all sums of a round so far determine the sum of all updates, when incomplete ones are taken.
    fn recovers(&self, _: &[Received]) -> bool {
        false
    }

    /// The worst decoding amplification ‖a‖₂ over sets of exactly M−s rows: over all of them if they are at
    /// most `samples`, otherwise over runs of cyclically consecutive rows, which are the worst for
    /// `cyclic-mds`, and over `samples` random sets. Infinite if one of them does not decode; 1 over a prime
    /// field.
    fn amplification(&self, samples: usize, seed: Seed) -> f64;
}

/// An encoding matrix with its supports; see the [module](self).
#[derive(Clone, PartialEq)]
pub struct GradientCode<K = f64> {
    kind: CodeKind,
    stragglers: usize,
    /// b_mk for the clients of `support[m]`, in order.
    rows: Vec<Vec<K>>,
    support: Vec<Vec<usize>>,
    holders: Vec<Vec<usize>>,
    solved: Memory<usize, Option<Vec<K>>>,
}

impl<K: fmt::Debug> fmt::Debug for GradientCode<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, stragglers, rows, support, .. } = self;
        write!(f, "{} (s = {stragglers}) {support:?} {rows:?}", kind.name())
    }
}

impl GradientCode {
    /// Builds the code of `kind` for M = `clients` and s = `stragglers` over the reals. Only a
    /// `cyclic-random` matrix depends on `seed`; it is the best conditioned of several draws (see
    /// [`CodeKind::CyclicRandom`]).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] at `clients` or `stragglers` if s ≥ M; [`Error::NoCode`] if the code does not exist
    /// for (M, s), if it is larger than [`DENSE_CLIENTS`] allow, or if every draw of it is too badly
    /// conditioned for double precision.
    pub fn build(kind: CodeKind, clients: usize, stragglers: usize, seed: Seed) -> Result<Self> {
        check(kind, clients, stragglers)?;
        let kind = size::buildable(kind, clients, stragglers)?;
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
            Error::no_code(rule)
        })
    }
}

impl<F: Prime> GradientCode<F> {
    /// Builds the code of `kind` over a prime field: `fractional-repetition`, or `cyclic-random` from a
    /// uniform H. [`CodeKind::Auto`] takes the first where it exists, because it decodes from more sets of
    /// rows.
    ///
    /// # Errors
    ///
    /// As [`GradientCode::build`]; `cyclic-mds` is a code over the reals.
    pub fn over_field(kind: CodeKind, clients: usize, stragglers: usize, seed: Seed) -> Result<Self> {
        check(kind, clients, stragglers)?;
        let kind = match size::buildable(kind, clients, stragglers)? {
            CodeKind::CyclicMds => {
                let rule = "cyclic-mds is made of real roots of unity; with arithmetic = \"field\" take \
                            cyclic-random, which has the same supports";
                return Err(Error::no_code(rule));
            }
            CodeKind::Auto if CodeKind::FractionalRepetition.exists(clients, stragglers) => {
                CodeKind::FractionalRepetition
            }
            CodeKind::Auto => CodeKind::CyclicRandom,
            kind => kind,
        };
        if kind == CodeKind::FractionalRepetition {
            return Ok(construct::fractional_repetition(clients, stragglers));
        }
        construct::search_field(clients, stragglers, seed).ok_or_else(|| {
            let p = F::MODULUS;
            let rule = format!(
                "no cyclic-random code for {clients} clients and {stragglers} stragglers found over the field of \
                 {p} elements; take a larger modulus"
            );
            Error::no_code(rule)
        })
    }
}

impl<K: Coefficient> GradientCode<K> {
    /// The code whose row m has the coefficients `rows[m]` at the clients `support[m]` (sorted), none of
    /// them 0.
    fn new(kind: CodeKind, stragglers: usize, rows: Vec<Vec<K>>, support: Vec<Vec<usize>>) -> Self {
        let mut holders = vec![Vec::with_capacity(stragglers + 1); rows.len()];
        for (row, clients) in support.iter().enumerate() {
            for &k in clients {
                holders[k].push(row);
            }
        }
        Self { kind, stragglers, rows, support, holders, solved: Memory::default() }
    }

    /// b_mk for m = `row`.
    ///
    /// # Panics
    ///
    /// If `row` ≥ M.
    #[must_use]
    pub fn coefficient(&self, row: usize, k: usize) -> K {
        self.support[row].binary_search(&k).map_or(K::ZERO, |place| self.rows[row][place])
    }

    /// B, M × M, written out.
    #[must_use]
    pub fn matrix(&self) -> DMatrix<K> {
        self.dense(&(0..self.rows.len()).collect::<Vec<_>>())
    }

    fn dense(&self, rows: &[usize]) -> DMatrix<K> {
        let mut dense = DMatrix::from_element(rows.len(), self.rows.len(), K::ZERO);
        for (i, &row) in rows.iter().enumerate() {
            for (&k, &b) in self.support[row].iter().zip(&self.rows[row]) {
                dense[(i, k)] = b;
            }
        }
        dense
    }

    /// The decoding vector a with a·B_R = 1ᵀ for R = `rows`, indexed like `rows`; over the reals, of all such
    /// vectors the one of least norm. `None` is an outage: 1ᵀ is not in the row span of B_R (over the reals
    /// within [`RESIDUAL_TOLERANCE`]). Any M−s distinct rows decode; fewer do when they happen to span 1ᵀ.
    ///
    /// Fractional repetition is decoded exactly, without arithmetic on B: a averages the rows of each group.
    /// The other codes solve a system for every new set and remember the result.
    ///
    /// # Panics
    ///
    /// If a row is ≥ M.
    #[must_use]
    pub fn decode(&self, rows: &[usize]) -> Option<Vec<K>> {
        if self.kind == CodeKind::FractionalRepetition {
            let size = self.stragglers + 1;
            let mut arrived = vec![0; self.rows.len() / size];
            for &row in rows {
                arrived[row / size] += 1;
            }
            let weight = |row: &usize| K::integer(arrived[row / size]).inverse();
            return arrived.iter().all(|&n| n > 0).then(|| rows.iter().map(weight).collect())?;
        }
        self.solved.get(rows, || self.solve(rows))
    }

    fn solve(&self, rows: &[usize]) -> Option<Vec<K>> {
        K::solve_ones(&self.dense(rows))
    }

    /// [`Code::amplification`], except that the first value above `limit` ends the search.
    fn amplification_until(&self, samples: usize, seed: Seed, limit: f64) -> f64 {
        let (clients, size) = (self.rows.len(), self.rows.len() - self.stragglers);
        let mut worst = 0.0_f64;
        let mut meet = |rows: &[usize]| {
            let a = if self.kind == CodeKind::FractionalRepetition {
                self.decode(rows)
            } else {
                self.solve(rows)
            };
            worst = worst.max(a.map_or(f64::INFINITY, |a| K::amplification(&a)));
            worst <= limit && worst < f64::INFINITY
        };
        if binomial(clients, self.stragglers) <= samples {
            let mut rows: Vec<usize> = (0..size).collect();
            while meet(&rows) && next_subset(&mut rows, clients) {}
        } else {
            let mut rng = seed.child("amplification", 0).rng();
            // The rows of a circulant matrix are alike.
            let starts = if self.kind == CodeKind::CyclicMds { 1 } else { clients.min(samples) };
            let runs = (0..starts)
                .map(|i| (0..size).map(|j| (i * clients / starts + j) % clients).collect::<Vec<_>>());
            let random = (0..samples).map(|_| index::sample(&mut rng, clients, size).into_vec());
            let _ended = runs.chain(random).all(|rows| meet(&rows));
        }
        worst
    }
}

impl<K: Coefficient> Code for GradientCode<K> {
    fn kind(&self) -> CodeKind {
        self.kind
    }

    fn clients(&self) -> usize {
        self.rows.len()
    }

    fn stragglers(&self) -> usize {
        self.stragglers
    }

    fn support(&self, row: usize) -> &[usize] {
        &self.support[row]
    }

    fn holders(&self, k: usize) -> &[usize] {
        &self.holders[k]
    }

    fn decodes(&self, rows: &[usize]) -> bool {
        self.decode(rows).is_some()
    }

    fn amplification(&self, samples: usize, seed: Seed) -> f64 {
        self.amplification_until(samples, seed, f64::INFINITY)
    }
}

/// The number of sets that are tried for a code of M clients: each costs about M³.
pub(crate) fn affordable(clients: usize) -> usize {
    (TRIED_WORK / clients.pow(3).max(1)).clamp(3, TRIED_SETS)
}

/// Whether there are clients and the code exists for (M, s).
pub(crate) fn check(kind: CodeKind, clients: usize, stragglers: usize) -> Result<()> {
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
    if kind.exists(clients, stragglers) {
        Ok(())
    } else {
        Err(Error::no_code(absence(kind, clients, stragglers)))
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
pub(crate) fn binomial(n: usize, k: usize) -> usize {
    (1..=k.min(n - k)).try_fold(1_usize, |c, i| Some(c.checked_mul(n + 1 - i)? / i)).unwrap_or(usize::MAX)
}

/// Steps to the next subset of 0..n of the same size in lexicographic order; false after the last.
pub(crate) fn next_subset(subset: &mut [usize], n: usize) -> bool {
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
