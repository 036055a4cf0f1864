//! Rows in general position for the assignments.

use nalgebra::DMatrix;

use super::*;

/// An assignment and rows s_n that fit it, in the coordinates of the construction.
pub(super) struct Plan<F: Prime> {
    holders: Vec<Vec<usize>>,
    rows: DMatrix<F>,
    /// What the sum is in these coordinates: m × h.
    demand: DMatrix<F>,
}

/// Draws rows in general position.
pub(super) struct Draw {
    pub rng: Rng,
    pub reduction: usize,
}

impl Draw {
    fn matrix<F: Prime>(&mut self, rows: usize, columns: usize) -> DMatrix<F> {
        DMatrix::from_fn(rows, columns, |_, _| F::uniform(&mut self.rng))
    }

    /// The assignment, and the rows in coordinates of which the demand is the first m.
    pub fn demand_first<F: Prime>(&mut self, plan: Plan<F>) -> (Vec<Vec<usize>>, DMatrix<F>) {
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

    pub fn cyclic<F: Prime>(&mut self, n: usize, m: usize) -> Plan<F> {
        let holders = cyclic_holders(n, m);
        let h = n - m + self.reduction;
        Plan { holders, rows: self.matrix(n, h), demand: self.first(h) }
    }

    pub fn combined<F: Prime>(&mut self, n: usize, m: usize) -> Plan<F> {
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
            // The demand a in m coordinates, then those of (N − M, M/2) with its demand b: the halves of the
            // first M servers know a − b and 2a − b, the others what they know there.
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
            // The first M servers as in (M, 2M − N); what the others send contains nothing of the first N − M
            // datasets, which have the same F_k, random but for the demand.
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

    /// Scheme 3: y servers in m dimensions; N − M pairs (y + i, M + i) whose windows of datasets begin at the
    /// same one, the second window one shorter.
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
            // Coordinates (a, b, e) of m, m and c: the y servers in (a, −a, 0), the second of a pair (0, b,
            // e), the first (2b, −b, e), which is (0, b, e) but for a vector of the y servers' space. Those
            // who miss a dataset are c neighbours among the second and c − 1 of the same pairs among the
            // first, so that a first one may mix the (b, e) of two neighbours.
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
