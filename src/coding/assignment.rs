//! Gradient coding with replicated datasets: who computes which gradient, and what each server sends of it.
//!
//! *Secure gradient coding, minimum source key size* (K = N datasets, N servers, any N_r of them suffice, each dataset on
//! M = N − N_r + m servers, transmissions of L/m symbols).
//!
//! Server n sends s_n F W: W holds the m parts of every gradient, the first m rows of F add up part j of all of them. The number of
//! rows h is what all servers together reveal, and h/m − 1 is the size of the keys that hide it. It is built in one order: first
//! the rows s_n, in general position within what the assignment asks for, then for every dataset k the h × m columns
//! F_k = \[I; B_k\] from s_n F_k = 0 for all n that do not hold k. That needs their rows to have rank h − m at most, and every N_r
//! rows to span the first m coordinates; no alignment of interference is needed.
//!
//! | assignment | h(N, M) | rows |
//! |---|---|---|
//! | cyclic | N_r | in general position |
//! | fractional repetition, M divides N | m N/M | N/M independent blocks |
//! | combined | the recursion of Theorem 3 | by scheme, see [`combined_rank`] |
//!
//! **Where the paper's (14) does not hold.** For (N, M, m) = (12, 7, 2) the paper's Example 1 claims h = 6. Its own Theorem 2, applied to
//! the servers (1, 2, 9, 10, 4, 3, 8) of its assignment, gives h ≥ 7: each of them holds a dataset that at most m − 1 = 1 of its
//! predecessors hold. With scheme 3, c = N − (3M−1)/2 ≥ 2, m ≥ 2 and M > 2m + 1 the rank that is reached is
//! min(2c + 2m − 1, N_r), and that is what [`combined_rank`] says.

use nalgebra::DMatrix;
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::algebra::field::Prime;
use crate::algebra::linear::{Echelon, inverse, null_space, product};
use crate::coding::{binomial, next_subset};
use crate::error::{Error, Result};
use crate::seed::{Rng, Seed};

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

/// The converse (11): h ≥ ⌈m N/M⌉ whatever the assignment, M = `copies`, m = `reduction`.
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
    /// Builds and checks the code of `servers` = N, any `responders` = N_r of which suffice, with reduction m.
    ///
    /// # Errors
    /// Parameters that break a rule, with keys of [`crate::protocol::secure_gc::SecureGcConfig`]; a draw whose code does not decode, which
    /// over a large field does not happen.
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

    /// Weights of the transmissions of `responders` in each of the m parts of the sum; `None` if they do not determine it.
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

    /// Whether every set of `responders` servers decodes, or of [`SAMPLED_SETS`] seeded ones where there are more than [`ALL_SETS`].
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

/// An assignment and rows s_n that fit it, in the coordinates of the construction.
struct Plan<F: Prime> {
    holders: Vec<Vec<usize>>,
    rows: DMatrix<F>,
    /// What the sum is in these coordinates: m × h.
    demand: DMatrix<F>,
}

/// Draws rows in general position.
struct Draw {
    rng: Rng,
    reduction: usize,
}

impl Draw {
    fn matrix<F: Prime>(&mut self, rows: usize, columns: usize) -> DMatrix<F> {
        DMatrix::from_fn(rows, columns, |_, _| F::uniform(&mut self.rng))
    }

    /// The assignment, and the rows in coordinates of which the demand is the first m.
    fn demand_first<F: Prime>(&mut self, plan: Plan<F>) -> (Vec<Vec<usize>>, DMatrix<F>) {
        let h = plan.rows.ncols();
        loop {
            let mut change = self.matrix(h, h);
            change.rows_mut(0, self.reduction).copy_from(&plan.demand);
            // The demand has rank m, so that a random completion fits almost surely.
            if let Some(inverse) = inverse(&change) {
                return (plan.holders, product(&plan.rows, &inverse));
            }
        }
    }

    /// The identity on the first m of `h` coordinates.
    fn first<F: Prime>(&self, h: usize) -> DMatrix<F> {
        DMatrix::from_fn(self.reduction, h, |i, j| if i == j { F::ONE } else { F::ZERO })
    }

    /// `count` rows within a subspace of dimension `dimension` of the space of `h` coordinates.
    fn within<F: Prime>(&mut self, count: usize, dimension: usize, h: usize) -> DMatrix<F> {
        let (weights, basis) = (self.matrix(count, dimension), self.matrix(dimension, h));
        product(&weights, &basis)
    }

    fn cyclic<F: Prime>(&mut self, n: usize, m: usize) -> Plan<F> {
        let holders = cyclic_holders(n, m);
        let h = n - m + self.reduction;
        Plan { holders, rows: self.matrix(n, h), demand: self.first(h) }
    }

    fn combined<F: Prime>(&mut self, n: usize, m: usize) -> Plan<F> {
        let h = combined_rank(n, m, self.reduction);
        let all = |range: std::ops::Range<usize>| range.collect::<Vec<usize>>();
        match step(n, m, self.reduction) {
            Step::Everything => {
                Plan { holders: vec![all(0..n); n], rows: self.matrix(n, h), demand: self.first(h) }
            }
            Step::Cyclic => self.cyclic(n, m),
            // The groups' rows share no coordinate; the demand is the sum of theirs.
            Step::Groups(groups) => {
                let rest = self.combined::<F>(n - groups * m, m);
                let (first, columns) = (groups * m, groups * self.reduction);
                let mut holders: Vec<Vec<usize>> =
                    (0..first).map(|k| all(k / m * m..(k / m + 1) * m)).collect();
                holders.extend(shifted(rest.holders, first));
                let mut rows = DMatrix::from_element(n, h, F::ZERO);
                let mut demand = DMatrix::from_element(self.reduction, h, F::ZERO);
                for group in 0..groups {
                    let (block, column) = (self.matrix(m, self.reduction), group * self.reduction);
                    rows.view_mut((group * m, column), block.shape()).copy_from(&block);
                    demand.columns_mut(column, self.reduction).copy_from(&self.first(self.reduction));
                }
                rows.view_mut((first, columns), rest.rows.shape()).copy_from(&rest.rows);
                demand.columns_mut(columns, h - columns).copy_from(&rest.demand);
                Plan { holders, rows, demand }
            }
            // The demand a in m coordinates, then those of (N − M, M/2) with its demand b: the halves of the first M servers know
            // a − b and 2a − b, the others what they know there.
            Step::Pairs => {
                let rest = self.combined::<F>(n - m, m / 2);
                let y = 2 * m - n;
                let pairs = shifted(rest.holders, m);
                let with = |half: std::ops::Range<usize>| {
                    pairs.iter().map(move |pair| [half.clone().collect(), pair.clone()].concat())
                };
                let holders = (0..y).map(|_| all(0..m)).chain(with(0..m / 2)).chain(with(m / 2..m)).collect();
                let mut rows = DMatrix::from_element(n, h, F::ZERO);
                let b = -rest.demand;
                for (first, factor) in [(0, F::ONE), (m / 2, F::ONE + F::ONE)] {
                    let block = self.matrix(m / 2, self.reduction);
                    let known = product(&block, &b);
                    rows.view_mut((first, self.reduction), known.shape()).copy_from(&known);
                    rows.view_mut((first, 0), block.shape()).copy_from(&block.map(|x| factor * x));
                }
                rows.view_mut((m, self.reduction), rest.rows.shape()).copy_from(&rest.rows);
                Plan { holders, rows, demand: self.first(h) }
            }
            Step::Windows(_) => self.windows(n, m, h),
            // The first M servers as in (M, 2M − N); what the others send contains nothing of the first N − M datasets, which have the
            // same F_k, random but for the demand.
            Step::Halves => {
                let rest = self.combined::<F>(m, 2 * m - n);
                let others = rest.holders.into_iter().map(|holders| [holders, all(m..n)].concat());
                let holders = (0..n - m).map(|_| all(0..m)).chain(others).collect();
                let mut rows = DMatrix::from_element(n, h, F::ZERO);
                rows.view_mut((0, 0), (m, h)).copy_from(&rest.rows);
                let blind = null_space(&self.matrix::<F>(self.reduction, h));
                let block = product(&self.matrix(n - m, h - self.reduction), &blind);
                rows.view_mut((m, 0), block.shape()).copy_from(&block);
                Plan { holders, rows, demand: rest.demand }
            }
        }
    }

    /// Scheme 3: y servers in m dimensions; N − M pairs (y + i, M + i) whose windows of datasets begin at the same one, the second
    /// window one shorter.
    fn windows<F: Prime>(&mut self, n: usize, m: usize, h: usize) -> Plan<F> {
        let (y, t, pairs, reduction) = (2 * m - n, (m - 1) / 2, n - m, self.reduction);
        let c = n - (3 * m - 1) / 2;
        let mut holders: Vec<Vec<usize>> = Vec::with_capacity(n);
        holders.extend((0..t).map(|_| (0..m).collect()));
        holders.extend((t..m).map(|_| (0..y).chain(m..n).collect()));
        holders.extend((0..pairs).map(|dataset| {
            let in_window = |i: usize, length: usize| (dataset + pairs - i) % pairs < length;
            let first = (0..pairs).filter(|&i| in_window(i, m - t)).map(|i| y + i);
            let second = (0..pairs).filter(|&i| in_window(i, t)).map(|i| m + i);
            first.chain(second).collect()
        }));
        let mut rows = DMatrix::from_element(n, h, F::ZERO);
        if h == c + 2 * reduction {
            // Coordinates (a, b, e) of m, m and c: the y servers in (a, −a, 0), the second of a pair (0, b, e), the first
            // (2b, −b, e), which is (0, b, e) but for a vector of the y servers' space. Those who miss a dataset are c neighbours among
            // the second and c − 1 of the same pairs among the first, so that a first one may mix the (b, e) of two neighbours.
            let block: DMatrix<F> = self.matrix(y, reduction);
            let second: DMatrix<F> = self.matrix(pairs, reduction + c);
            let first = if c == 1 {
                self.matrix(pairs, reduction + c)
            } else {
                let mix: DMatrix<F> = self.matrix(pairs, 2);
                DMatrix::from_fn(pairs, reduction + c, |i, j| {
                    mix[(i, 0)] * second[(i, j)] + mix[(i, 1)] * second[((i + 1) % pairs, j)]
                })
            };
            for j in 0..reduction {
                for i in 0..y {
                    (rows[(i, j)], rows[(i, reduction + j)]) = (block[(i, j)], -block[(i, j)]);
                }
                for i in 0..pairs {
                    let b = first[(i, j)];
                    (rows[(y + i, j)], rows[(y + i, reduction + j)]) = (b + b, -b);
                    rows[(m + i, reduction + j)] = second[(i, j)];
                }
            }
            for i in 0..pairs {
                for e in 0..c {
                    rows[(y + i, 2 * reduction + e)] = first[(i, reduction + e)];
                    rows[(m + i, 2 * reduction + e)] = second[(i, reduction + e)];
                }
            }
        } else {
            // h − m ≥ 2c − 1 + m: who does not hold a dataset of the windows is no obstacle.
            let parts = [(0, y, reduction), (y, pairs, h - reduction), (m, pairs, h - reduction)];
            for (first, count, dimension) in parts {
                let block = self.within(count, dimension, h);
                rows.view_mut((first, 0), block.shape()).copy_from(&block);
            }
        }
        Plan { holders, rows, demand: self.first(h) }
    }
}

/// Dataset k on the servers k − M + 1, …, k, modulo N.
fn cyclic_holders(n: usize, m: usize) -> Vec<Vec<usize>> {
    let holders = |k: usize| {
        let mut holders: Vec<usize> = (0..m).map(|i| (k + n - i) % n).collect();
        holders.sort_unstable();
        holders
    };
    (0..n).map(holders).collect()
}

fn shifted(holders: Vec<Vec<usize>>, by: usize) -> Vec<Vec<usize>> {
    holders.into_iter().map(|holders| holders.into_iter().map(|n| n + by).collect()).collect()
}
