//! The interior point method.
//!
//! X = φ M/(M−1) I + Y. For a growing τ the least of τ t − Σ_i ln(t − I_i(X)) − ln det Y is found by Newton's
//! method over symmetric Y of given trace, or given variances, and t.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

use super::Problem;
use super::sight::Local;
use crate::parallel;

/// Relative difference of leakage and bound that is aimed at.
const PRECISION: f64 = 1e-5;

/// What τ is multiplied with when a centre is found.
const GROWTH: f64 = 10.0;

/// Centres, of which each brings the gap down by [`GROWTH`].
const CENTRES: usize = 14;

/// Newton's steps to a centre.
const STEPS: usize = 60;

/// Squared decrement of Newton's method at which a centre is reached.
const CENTRED: f64 = 1e-8;

/// Rounding of a smallest eigenvalue, relative to the norm.
const EIGENVALUE: f64 = 1e-13;

/// Symmetric matrices of n rows as vectors of n (n + 1)/2 numbers, with the same scalar product.
struct Symmetric(usize);

impl Symmetric {
    fn size(&self) -> usize {
        self.0 * (self.0 + 1) / 2
    }

    /// (row, column, what an entry is multiplied with) of every number.
    fn places(&self) -> impl Iterator<Item = (usize, usize, f64)> + Clone + use<> {
        let n = self.0;
        let scale = |i: usize, j: usize| if i == j { 1.0 } else { std::f64::consts::SQRT_2 };
        (0..n).flat_map(move |i| (0..=i).map(move |j| (i, j, scale(i, j))))
    }

    fn vector(&self, matrix: &DMatrix<f64>) -> DVector<f64> {
        DVector::from_iterator(self.size(), self.places().map(|(i, j, scale)| scale * matrix[(i, j)]))
    }

    /// The vector of v vᵀ.
    fn square(&self, v: &DVector<f64>) -> DVector<f64> {
        DVector::from_iterator(self.size(), self.places().map(|(i, j, scale)| scale * v[i] * v[j]))
    }

    fn matrix(&self, vector: &DVector<f64>) -> DMatrix<f64> {
        let mut matrix = DMatrix::zeros(self.0, self.0);
        for ((i, j, scale), value) in self.places().zip(vector.iter()) {
            (matrix[(i, j)], matrix[(j, i)]) = (value / scale, value / scale);
        }
        matrix
    }

    /// Adds to `to` the matrix of the quadratic form E ↦ tr(E k E w).
    fn add_product(&self, to: &mut DMatrix<f64>, k: &DMatrix<f64>, w: &DMatrix<f64>) {
        for (column, (i, j, of_column)) in self.places().enumerate() {
            for (row, (l, m, of_row)) in self.places().enumerate() {
                let four = k[(j, l)] * w[(i, m)]
                    + k[(i, l)] * w[(j, m)]
                    + k[(j, m)] * w[(i, l)]
                    + k[(i, m)] * w[(j, l)];
                to[(row, column)] += 0.25 * of_column * of_row * four;
            }
        }
    }
}

/// Where the method stands.
struct Point {
    y: DMatrix<f64>,
    t: f64,
}

/// All terms at a point, and ln det Y with its derivatives.
struct Around {
    locals: Vec<Local>,
    y: Cholesky<f64, Dyn>,
}

struct Barrier<'a> {
    problem: &'a Problem,
    space: Symmetric,
    /// What all terms are multiplied with.
    scale: f64,
    /// φ M/(M−1).
    floor: f64,
    /// tr Y.
    power: f64,
    /// A row for each condition on Y.
    conditions: DMatrix<f64>,
}

/// The best X, its largest term, and what that is at least.
pub(super) fn solve(problem: &Problem) -> (DMatrix<f64>, f64, f64) {
    let (m, n) = (problem.clients as f64, problem.clients - 1);
    let fair = DMatrix::identity(n, n) * (m / n as f64);
    let worst = problem.worst(&fair);
    let power = (1.0 - problem.fair_share) * m;
    // Keys that are fair, and an adversary whom no keys can tell anything.
    if power < 1e-9 * m || worst <= 0.0 {
        return (fair, worst, worst);
    }
    let space = Symmetric(n);
    let conditions = if problem.fair && space.size() >= problem.clients {
        let rows: Vec<_> =
            problem.basis.row_iter().map(|row| space.square(&row.transpose()).transpose()).collect();
        DMatrix::from_rows(&rows)
    } else {
        DMatrix::from_rows(&[space.vector(&DMatrix::identity(n, n)).transpose()])
    };
    let floor = problem.fair_share * m / n as f64;
    let barrier = Barrier { problem, space, scale: worst.recip(), floor, power, conditions };
    let (y, value, bound) = barrier.follow();
    (barrier.keys(&y), value * worst, bound * worst)
}

impl Barrier<'_> {
    /// X.
    fn keys(&self, y: &DMatrix<f64>) -> DMatrix<f64> {
        let n = self.space.0;
        y + DMatrix::identity(n, n) * self.floor
    }

    /// Follows the centres; of all that were found the best Y, its value and the highest bound.
    fn follow(&self) -> (DMatrix<f64>, f64, f64) {
        let n = self.space.0;
        let mut point = Point { y: DMatrix::identity(n, n) * (self.power / n as f64), t: 2.0 };
        let terms: usize = self.problem.sights.iter().map(|sight| sight.secrets()).sum();
        let mut best = (point.y.clone(), 1.0, 0.0);
        let mut tau = (terms + n) as f64;
        for _ in 0..CENTRES {
            let Some(multipliers) = self.centre(&mut point, tau) else { break };
            let Some(around) = self.around(&point.y) else { break };
            let (value, bound) = self.certificate(&point, &around, &multipliers);
            if value < best.1 {
                best.0.clone_from(&point.y);
                best.1 = value;
            }
            best.2 = bound.max(best.2);
            if best.1 - best.2 <= PRECISION * best.1 {
                break;
            }
            tau *= GROWTH;
        }
        best
    }

    fn around(&self, y: &DMatrix<f64>) -> Option<Around> {
        let x = self.keys(y);
        let locals = parallel::map(&self.problem.sights, |sight| sight.local(&x));
        Some(Around { locals: locals.into_iter().collect::<Option<_>>()?, y: y.clone().cholesky()? })
    }

    /// τ t − Σ ln(t − I_i) − ln det Y; `None` outside.
    fn height(&self, point: &Point, tau: f64) -> Option<f64> {
        let y = point.y.clone().cholesky()?;
        let x = self.keys(&point.y);
        let mut height = tau * point.t - 2.0 * y.l_dirty().diagonal().iter().map(|c| c.ln()).sum::<f64>();
        for values in parallel::map(&self.problem.sights, |sight| sight.values(&x)) {
            for value in values? {
                let room = point.t - self.scale * value;
                if room.is_nan() || room <= 0.0 {
                    return None;
                }
                height -= room.ln();
            }
        }
        Some(height)
    }

    /// Moves to the centre for τ; the multipliers of the conditions there, divided by τ.
    fn centre(&self, point: &mut Point, tau: f64) -> Option<DVector<f64>> {
        let size = self.space.size();
        let mut multipliers = None;
        for _ in 0..STEPS {
            let around = self.around(&point.y)?;
            let (gradient, curvature) = self.derivatives(point, &around, tau);
            let curvature = curvature.cholesky()?;
            let conditions = self.conditions.clone().insert_column(size, 0.0);
            let newton = curvature.solve(&gradient);
            let moved = curvature.solve(&conditions.transpose());
            let normal = (&conditions * &moved).cholesky()?;
            let held = normal.solve(&(-(&conditions * &newton)));
            let step = -(newton + moved * &held);
            multipliers = Some(held / tau);
            let decrease = gradient.dot(&step);
            if -decrease <= CENTRED {
                break;
            }
            let along = self.space.matrix(&step.rows(0, size).into_owned());
            let here = self.height(point, tau)?;
            let mut length = 1.0;
            loop {
                let next = Point { y: &point.y + &along * length, t: point.t + length * step[size] };
                match self.height(&next, tau) {
                    Some(height) if height <= here + 0.1 * length * decrease => {
                        *point = next;
                        break;
                    }
                    // Rounding: nothing better is found from here.
                    _ if length < 1e-9 => return multipliers,
                    _ => length *= 0.5,
                }
            }
        }
        multipliers
    }

    /// Gradient and second derivatives in (Y, t).
    fn derivatives(&self, point: &Point, around: &Around, tau: f64) -> (DVector<f64>, DMatrix<f64>) {
        let (n, size) = (self.space.0, self.space.size());
        let inverse = around.y.inverse();
        let mut gradient = -self.space.vector(&inverse);
        let mut curvature = DMatrix::zeros(size, size);
        self.space.add_product(&mut curvature, &inverse, &inverse);
        let (mut of_t, mut of_both) = (tau, DVector::zeros(size));
        let mut of_tt = 0.0;
        let mut squares: Vec<DVector<f64>> = Vec::new();
        for local in &around.locals {
            let mut weights = DMatrix::zeros(n, n);
            for term in &local.terms {
                let near = (point.t - self.scale * term.value).recip();
                let (slope, bend) = (self.scale * term.slope, self.scale * term.bend);
                let square = self.space.square(&term.along);
                gradient.axpy(-near * slope, &square, 1.0);
                of_both.axpy(near * near * slope, &square, 1.0);
                weights.ger(2.0 * near * slope, &term.along, &term.along, 1.0);
                squares.push(square * (near * bend + near * near * slope * slope).sqrt());
                of_t -= near;
                of_tt += near * near;
            }
            self.space.add_product(&mut curvature, &local.reach, &weights);
        }
        let squares = DMatrix::from_columns(&squares);
        curvature += &squares * squares.transpose();
        let mut all = DMatrix::zeros(size + 1, size + 1);
        all.view_mut((0, 0), (size, size)).copy_from(&curvature);
        all.view_mut((0, size), (size, 1)).copy_from(&of_both);
        all.view_mut((size, 0), (1, size)).copy_from(&of_both.transpose());
        all[(size, size)] = of_tt;
        (gradient.push(of_t), all)
    }

    /// The largest term, and a bound by duality.
    fn certificate(&self, point: &Point, around: &Around, multipliers: &DVector<f64>) -> (f64, f64) {
        let n = self.space.0;
        let terms = || around.locals.iter().flat_map(|local| &local.terms);
        let near = |value: f64| (point.t - self.scale * value).recip();
        let total: f64 = terms().map(|term| near(term.value)).sum();
        let (mut gradient, mut constant, mut largest) = (DMatrix::zeros(n, n), 0.0, 0.0f64);
        for term in terms() {
            let (value, weight) = (self.scale * term.value, near(term.value) / total);
            largest = largest.max(value);
            let slope = weight * self.scale * term.slope;
            constant += weight * value + slope * term.along.dot(&(&point.y * &term.along));
            gradient.ger(-slope, &term.along, &term.along, 1.0);
        }
        // What the conditions add is the same for all keys that keep them.
        let added = self.space.matrix(&self.conditions.tr_mul(multipliers));
        let held = multipliers.dot(&(&self.conditions * self.space.vector(&point.y)));
        let all = gradient + added;
        let rounding = EIGENVALUE * all.norm();
        let least = all.symmetric_eigenvalues().min() - rounding;
        (largest, constant + self.power * least - held)
    }
}
