//! Gradient coding with replicated datasets: who computes which gradient, and what each server sends of it.
//!
//! *Secure gradient coding, minimum source key size* (K = N datasets, N servers, any N_r of them suffice,
//! each dataset on M = N − N_r + m servers, transmissions of L/m symbols).
//!
//! Server n sends s_n F W: W holds the m parts of every gradient, the first m rows of F add up part j of all
//! of them. The number of rows h is what all servers together reveal, and h/m − 1 is the size of the keys
//! that hide it. It is built in one order: first the rows s_n, in general position within what the assignment
//! asks for, then for every dataset k the h × m columns F_k = \[I; B_k\] from s_n F_k = 0 for all n that do
//! not hold k. That needs their rows to have rank h − m at most, and every N_r rows to span the first m
//! coordinates; no alignment of interference is needed.
//!
//! | assignment | h(N, M) | rows |
//! |---|---|---|
//! | cyclic | N_r | in general position |
//! | fractional repetition, M divides N | m N/M | N/M independent blocks |
//! | combined | the recursion of Theorem 3 | by scheme, see [`combined_rank`] |
//!
//! **Where the paper's (14) does not hold.** For (N, M, m) = (12, 7, 2) the paper's Example 1 claims h = 6.
//! Its own Theorem 2, applied to the servers (1, 2, 9, 10, 4, 3, 8) of its assignment, gives h ≥ 7: each of
//! them holds a dataset that at most m − 1 = 1 of its predecessors hold. With scheme 3, c = N − (3M−1)/2 ≥ 2,
//! m ≥ 2 and M > 2m + 1 the rank that is reached is min(2c + 2m − 1, N_r), and that is what [`combined_rank`]
//! says.

mod draw;
mod ordered;

use nalgebra::DMatrix;
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::algebra::field::Prime;
use crate::algebra::linear::{Echelon, inverse, null_space, product};
use crate::coding::{binomial, next_subset};
use crate::error::{Error, Result};
use crate::seed::{Rng, Seed};
use draw::Draw;
pub use ordered::{Ordered, least_ordered, ordered};

/// Up to this many sets of N_r servers all are checked.
pub const ALL_SETS: u64 = 100_000;

/// Otherwise this many seeded ones.
pub const SAMPLED_SETS: u64 = 10_000;

/// Which servers hold which dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AssignmentKind {
    /// Server n holds the datasets n, …, n + M − 1.
    Cyclic,
    /// Groups of M servers that hold the same M datasets; M must divide N.
    FractionalRepetition,
    /// The paper's schemes 1 to 4: the fewest key symbols.
    #[default]
    Combined,
}

impl AssignmentKind {
    /// The name used in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cyclic => "cyclic",
            Self::FractionalRepetition => "fractional-repetition",
            Self::Combined => "combined",
        }
    }

    /// h for `servers` = N, `copies` = M and `reduction` = m; `None` where the assignment does not exist.
    #[must_use]
    pub fn rank(self, servers: usize, copies: usize, reduction: usize) -> Option<usize> {
        match self {
            Self::Cyclic => Some(servers - copies + reduction),
            Self::FractionalRepetition => {
                servers.is_multiple_of(copies).then(|| reduction * servers / copies)
            }
            Self::Combined => Some(combined_rank(servers, copies, reduction)),
        }
    }
}

/// What Theorem 3 does with (N, M) for m.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// N = M: everybody holds everything.
    Everything,
    /// Cyclic: M < 2m, or nothing is gained.
    Cyclic,
    /// N ≥ 2M: this many groups of fractional repetition, then the rest.
    Groups(usize),
    /// 1.5 M ≤ N < 2M, M even.
    Pairs,
    /// 1.5 M ≤ N < 2M, M odd, with the rank that is reached.
    Windows(usize),
    /// M < N < 1.5 M.
    Halves,
}

fn step(servers: usize, copies: usize, reduction: usize) -> Step {
    let (n, m) = (servers, copies);
    if n == m {
        Step::Everything
    } else if n >= 2 * m {
        Step::Groups(n / m - 1)
    } else if m < 2 * reduction {
        Step::Cyclic
    } else if 2 * n < 3 * m {
        Step::Halves
    } else if m.is_multiple_of(2) {
        Step::Pairs
    } else {
        let c = n - (3 * m - 1) / 2;
        let claimed = c + 2 * reduction;
        let refuted = reduction >= 2 && c >= 2 && m > 2 * reduction + 1;
        let reached = if refuted { 2 * c + 2 * reduction - 1 } else { claimed };
        if reached >= n - m + reduction { Step::Cyclic } else { Step::Windows(reached) }
    }
}

/// h(N, M) of Theorem 3 with (14) corrected, and at most N_r.
///
/// | case | scheme | h(N, M) |
/// |---|--:|---|
/// | N = M | – | m |
/// | N ≥ 2M | 1 | m (⌊N/M⌋ − 1) + h(N − (⌊N/M⌋ − 1) M, M) |
/// | M < 2m | – | N − M + m, cyclic |
/// | N < 1.5 M | 4 | h(M, 2M − N) |
/// | M even | 2 | m + h(N − M, M/2) |
/// | M odd | 3 | c + 2m, c = N − (3M − 1)/2; min(2c + 2m − 1, N_r) where that is refuted |
///
/// # Panics
/// Unless 1 ≤ `reduction` ≤ `copies` ≤ `servers`.
#[must_use]
pub fn combined_rank(servers: usize, copies: usize, reduction: usize) -> usize {
    assert!(1 <= reduction && reduction <= copies && copies <= servers, "1 ≤ m ≤ M ≤ N");
    match step(servers, copies, reduction) {
        Step::Everything => reduction,
        Step::Cyclic => servers - copies + reduction,
        Step::Groups(groups) => {
            reduction * groups + combined_rank(servers - groups * copies, copies, reduction)
        }
        Step::Pairs => reduction + combined_rank(servers - copies, copies / 2, reduction),
        Step::Windows(reached) => reached,
        Step::Halves => combined_rank(copies, 2 * copies - servers, reduction),
    }
}

/// The converse (11), Corollary 2: h ≥ ⌈m N/M⌉ whatever the assignment, M = `copies`, m = `reduction`.
#[must_use]
pub fn converse(servers: usize, copies: usize, reduction: usize) -> usize {
    (reduction * servers).div_ceil(copies)
}

/// An assignment and its code.
#[derive(Clone, Debug)]
pub struct ReplicatedCode<F: Prime> {
    /// m.
    pub reduction: usize,
    /// The servers that hold each dataset, ascending.
    pub holders: Vec<Vec<usize>>,
    /// Row n is s_n: N × h.
    pub rows: DMatrix<F>,
    /// F_k for every dataset: h × m, the identity on top.
    pub columns: Vec<DMatrix<F>>,
}

/// How decodability was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Every set of N_r servers, this many.
    All(u64),
    /// This many seeded sets.
    Sample(u64),
}

impl<F: Prime> ReplicatedCode<F> {
    /// Builds and checks the code of `servers` = N, any `responders` = N_r of which suffice, with reduction
    /// m.
    ///
    /// # Errors
    /// Parameters that break a rule, with keys of [`crate::protocol::secure_gc::SecureGcConfig`]; a draw
    /// whose code does not decode, which over a large field does not happen.
    pub fn build(
        kind: AssignmentKind,
        servers: usize,
        responders: usize,
        reduction: usize,
        seed: Seed,
    ) -> Result<(Self, Checked)> {
        if !(1..=servers).contains(&responders) {
            let rule = format!("{responders} is out of range; of {servers} clients give 1 to {servers}");
            return Err(Error::config("responders", rule));
        }
        if !(1..=responders).contains(&reduction) {
            let rule = format!(
                "{reduction} needs {} copies of every dataset among {servers} clients; give 1 to {responders} (responders)",
                servers - responders + reduction
            );
            return Err(Error::config("reduction", rule));
        }
        let copies = servers - responders + reduction;
        if kind.rank(servers, copies, reduction).is_none() {
            let rule = format!(
                "fractional-repetition needs the copies, clients − responders + reduction = {copies}, to divide the number of \
                 clients {servers}; take \"combined\""
            );
            return Err(Error::config("assignment", rule));
        }
        let mut draw = Draw { rng: seed.child("assignment", 0).rng(), reduction };
        let plan = match kind {
            AssignmentKind::Cyclic => draw.cyclic(servers, copies),
            AssignmentKind::FractionalRepetition | AssignmentKind::Combined => draw.combined(servers, copies),
        };
        let (holders, rows) = draw.demand_first(plan);
        let columns = holders
            .iter()
            .map(|holders| columns_of(&rows, holders, reduction))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(unlucky)?;
        let code = Self { reduction, holders, rows, columns };
        let checked = code.check(responders, seed).ok_or_else(unlucky)?;
        Ok((code, checked))
    }

    /// N.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.rows.nrows()
    }

    /// h.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rows.ncols()
    }

    /// The datasets that server `n` holds, ascending.
    #[must_use]
    pub fn datasets(&self, n: usize) -> Vec<usize> {
        (0..self.holders.len()).filter(|&k| self.holders[k].contains(&n)).collect()
    }

    /// s_n F_k: what server `n` multiplies the m parts of dataset k's gradient with.
    #[must_use]
    pub fn coefficients(&self, n: usize, k: usize) -> Vec<F> {
        let column = |j: usize| {
            (0..self.rank()).fold(F::ZERO, |sum, i| sum + self.rows[(n, i)] * self.columns[k][(i, j)])
        };
        (0..self.reduction).map(column).collect()
    }

    /// Weights of the transmissions of `responders` in each of the m parts of the sum; `None` if they do not
    /// determine it.
    #[must_use]
    pub fn decoding(&self, responders: &[usize]) -> Option<Vec<Vec<F>>> {
        // One elimination for all m parts: [Sᵀ | e_1 … e_m].
        let (n, h) = (responders.len(), self.rank());
        let unit = |i: usize, j: usize| if i == j { F::ONE } else { F::ZERO };
        let system = DMatrix::from_fn(h, n + self.reduction, |i, j| {
            if j < n { self.rows[(responders[j], i)] } else { unit(i, j - n) }
        });
        let echelon = Echelon::of(&system);
        if echelon.pivots.iter().any(|&pivot| pivot >= n) {
            return None;
        }
        let weights = (0..self.reduction).map(|j| {
            let mut weights = vec![F::ZERO; n];
            for (i, &pivot) in echelon.pivots.iter().enumerate() {
                weights[pivot] = echelon.rows[(i, n + j)];
            }
            weights
        });
        Some(weights.collect())
    }

    /// Whether every set of `responders` servers decodes, or of [`SAMPLED_SETS`] seeded ones where there are
    /// more than [`ALL_SETS`].
    #[must_use]
    pub fn check(&self, responders: usize, seed: Seed) -> Option<Checked> {
        let n = self.servers();
        let sets = binomial(n, responders) as u64;
        let decodes = |set: &[usize]| self.decoding(set).is_some();
        if sets <= ALL_SETS {
            let firsts: Vec<usize> = (0..=n - responders).collect();
            let all = firsts.into_par_iter().all(|first| {
                let mut set: Vec<usize> = (first..first + responders).collect();
                loop {
                    if !decodes(&set) {
                        return false;
                    }
                    if !next_subset(&mut set[1..], n) {
                        return true;
                    }
                }
            });
            return all.then_some(Checked::All(sets));
        }
        let all = (0..SAMPLED_SETS).into_par_iter().all(|index| {
            let mut rng = seed.child("responders", index).rng();
            let mut servers: Vec<usize> = (0..n).collect();
            (0..responders).for_each(|i| servers.swap(i, rng.random_range(i..n)));
            servers.truncate(responders);
            decodes(&servers)
        });
        all.then_some(Checked::Sample(SAMPLED_SETS))
    }
}

fn unlucky() -> Error {
    Error::config(
        "assignment",
        "the drawn code does not decode from every set of responders; take another seed",
    )
}

/// F_k = [I; B_k] with s_n F_k = 0 for all n that are not in `holders`.
fn columns_of<F: Prime>(rows: &DMatrix<F>, holders: &[usize], reduction: usize) -> Option<DMatrix<F>> {
    let others: Vec<usize> = (0..rows.nrows()).filter(|n| !holders.contains(n)).collect();
    // Combinations of the null vectors that are the unit vectors on the first m coordinates.
    let null = null_space(&rows.select_rows(&others));
    let top = Echelon::of(&null.columns(0, reduction).transpose());
    if top.rank() < reduction {
        return None;
    }
    let chosen = null.select_rows(&top.pivots);
    let to_unit = inverse(&chosen.columns(0, reduction).into_owned())?;
    Some(product(&to_unit, &chosen).transpose())
}
