//! What one adversary learns, as a function of the covariance of the keys, with its derivatives.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

use super::{Adversary, Goal, Measure};

/// Rows of which less than this fraction is left when those before are taken out depend on them.
const DEPENDENT: f64 = 1e-8;

/// 1ᵀ is seen where no more of it than this fraction lies outside the rows.
const SUM: f64 = 1e-6;

/// An adversary's view A x + C u, with the keys as C Q in coordinates of 1⊥.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    measure: Measure,
    /// C Q, a row for each thing that is seen.
    keys: DMatrix<f64>,
    /// A D Aᵀ.
    inputs: DMatrix<f64>,
    secrets: Vec<Secret>,
}

/// One client, or two of one sum.
#[derive(Clone, Debug)]
struct Secret {
    /// How the view moves with it.
    shift: DVector<f64>,
    /// w: adversary times client.
    counts: f64,
    /// What the sum tells of the client's variance, as a share.
    told: f64,
}

/// A view under some keys.
pub(super) struct Local {
    /// Qᵀ Cᵀ V⁻¹ C Q.
    pub(super) reach: DMatrix<f64>,
    pub(super) terms: Vec<Term>,
}

/// One number that is to be small, and how it changes with X: its gradient is −`slope` g gᵀ.
pub(super) struct Term {
    pub(super) value: f64,
    pub(super) slope: f64,
    /// The second derivative in the direction of g gᵀ.
    pub(super) bend: f64,
    /// Qᵀ Cᵀ V⁻¹ a.
    pub(super) along: DVector<f64>,
}

impl Sight {
    /// `updates` are in the unit of σ, `basis` is Q.
    pub(super) fn of(adversary: &Adversary, goal: &Goal, updates: &[f64], basis: &DMatrix<f64>) -> Self {
        let clients = updates.len();
        let honest: Vec<usize> = (0..clients).filter(|k| !adversary.holds.contains(k)).collect();
        let others = adversary.sees.select_columns(&honest);
        let mut rows = independent(&others);
        let squares = DVector::from_iterator(honest.len(), honest.iter().map(|&k| updates[k] * updates[k]));
        let ones = DVector::from_element(honest.len(), 1.0);
        let has_sum = rows.iter().fold(ones.clone(), |rest, row| &rest - row * row.dot(&rest)).norm()
            <= SUM * ones.norm();
        let total = squares.sum();
        if has_sum {
            // What is left beside the sum, independent of it.
            let beside: Vec<DVector<f64>> =
                rows.iter().map(|row| row - &ones * (row.dot(&squares) / total)).collect();
            let beside = DMatrix::from_fn(beside.len(), honest.len(), |i, k| beside[i][k]);
            let left = rows.len() - 1;
            rows = independent(&beside);
            rows.truncate(left);
        }
        let count = rows.len() + adversary.holds.len();
        let mut seen = DMatrix::zeros(count, clients);
        let mut inputs = DMatrix::zeros(count, count);
        for (i, row) in rows.iter().enumerate() {
            honest.iter().zip(row.iter()).for_each(|(&k, c)| seen[(i, k)] = *c);
            if goal.measure == Measure::Lmip {
                for (j, other) in rows.iter().enumerate() {
                    inputs[(i, j)] = row.component_mul(other).dot(&squares);
                }
            }
        }
        for (i, &k) in adversary.holds.iter().enumerate() {
            seen[(rows.len() + i, k)] = 1.0;
        }
        let column = |place: usize| {
            DVector::from_fn(count, |i, _| rows.get(i).map_or(0.0, |row: &DVector<f64>| row[place]))
        };
        let counts = |k: usize| adversary.counts * goal.levels[k];
        let mut secrets = Vec::new();
        for (place, &k) in honest.iter().enumerate() {
            if goal.measure == Measure::Epsilon && has_sum {
                for (other, &j) in honest[..place].iter().enumerate() {
                    let shift = (column(place) - column(other)) * updates[k].min(updates[j]);
                    secrets.push(Secret { shift, counts: counts(k).max(counts(j)), told: 0.0 });
                }
            } else {
                let told = if has_sum { squares[place] / total } else { 0.0 };
                secrets.push(Secret { shift: column(place) * updates[k], counts: counts(k), told });
            }
        }
        // Of a client who is alone in a sum nothing is left to hide, and of one who is not seen nothing is
        // told.
        secrets.retain(|secret| {
            secret.told < 1.0 && secret.shift.norm() > DEPENDENT * updates.iter().sum::<f64>()
        });
        Self { measure: goal.measure, keys: seen * basis, inputs, secrets }
    }

    /// How many numbers.
    pub(super) fn secrets(&self) -> usize {
        self.secrets.len()
    }

    /// V, decomposed.
    fn view(&self, x: &DMatrix<f64>) -> Option<Cholesky<f64, Dyn>> {
        (&self.inputs + &self.keys * x * self.keys.transpose()).cholesky()
    }

    /// (value, slope, bend) where e of a secret is told.
    fn measured(&self, secret: &Secret, e: f64) -> (f64, f64, f64) {
        let w = secret.counts;
        match self.measure {
            Measure::Lmip => {
                let whole = 1.0 - secret.told;
                let hidden = (whole - e).max(f64::MIN_POSITIVE);
                let slope = 0.5 * w / hidden;
                (-0.5 * w * (-e / whole).max(-1.0).ln_1p(), slope, slope / hidden)
            }
            Measure::Epsilon => (w * w * e, w * w, 0.0),
        }
    }

    /// The numbers at X; `None` where X is no covariance.
    pub(super) fn values(&self, x: &DMatrix<f64>) -> Option<Vec<f64>> {
        let view = self.view(x)?;
        let value = |secret: &Secret| {
            let mut half = secret.shift.clone();
            view.l_dirty().solve_lower_triangular_mut(&mut half);
            self.measured(secret, half.norm_squared()).0
        };
        Some(self.secrets.iter().map(value).collect())
    }

    /// The numbers at X with their derivatives.
    pub(super) fn local(&self, x: &DMatrix<f64>) -> Option<Local> {
        let view = self.view(x)?;
        let reach = self.keys.tr_mul(&view.solve(&self.keys));
        let term = |secret: &Secret| {
            let solved = view.solve(&secret.shift);
            let (value, slope, bend) = self.measured(secret, secret.shift.dot(&solved));
            Term { value, slope, bend, along: self.keys.tr_mul(&solved) }
        };
        Some(Local { reach, terms: self.secrets.iter().map(term).collect() })
    }
}

/// Orthonormal vectors that span the rows, by Gram and Schmidt with the longest first.
fn independent(rows: &DMatrix<f64>) -> Vec<DVector<f64>> {
    let mut left: Vec<DVector<f64>> = rows.row_iter().map(|row| row.transpose()).collect();
    let largest = left.iter().map(|row| row.norm()).fold(0.0, f64::max);
    let mut found: Vec<DVector<f64>> = Vec::new();
    while let Some(longest) = (0..left.len()).max_by(|&i, &j| left[i].norm().total_cmp(&left[j].norm())) {
        let mut row = left.swap_remove(longest);
        // Twice: the second pass removes the rounding of the first.
        for _ in 0..2 {
            for basis in &found {
                let along = basis.dot(&row);
                row.axpy(-along, basis, 1.0);
            }
        }
        let length = row.norm();
        if length <= DEPENDENT * largest {
            break;
        }
        row /= length;
        for other in &mut left {
            let along = row.dot(other);
            other.axpy(-along, &row, 1.0);
        }
        found.push(row);
    }
    found
}
