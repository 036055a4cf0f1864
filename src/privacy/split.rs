//! A view over the reals, taken apart: what it shows without keys, and what through keys.
//!
//! A view is V = A W + B K. What is seen without any key is decided by decompositions of B and of A alone, so that neither σ
//! nor the scale of the updates has a say in it; only then the numbers come in, divided by their largest first, so that
//! nothing overflows and nothing vanishes.

use nalgebra::{DMatrix, DVector, RowDVector};

use super::view::matrices;
use super::{RANK_TOLERANCE, SHIFT_TOLERANCE, SUM_TOLERANCE};
use crate::algebra::LinearForm;
use crate::coding::singular_triples;
use crate::error::{Error, Result};

/// A residual shorter than this is rounding: what remains unknown of a unit-variance input is then what the keys hide alone.
const ROUNDING: f64 = 1e-10;

/// Something did not stay a finite number.
pub(super) fn not_finite(what: &str) -> Error {
    Error::config(
        "privacy",
        format!(
            "{what} is not finite; bring update_std, clip_norm, weights and key_std within 10^±100 of each other"
        ),
    )
}

/// `value`, if it is a number; infinite ones are, where they mean that everything leaks.
pub(super) fn number(value: f64, what: &str) -> Result<f64> {
    if value.is_nan() { Err(not_finite(what)) } else { Ok(value) }
}

/// The largest power of two that is at most `x`; 1 for 0.
fn power_of_two(x: f64) -> f64 {
    if x > 0.0 { x.log2().floor().exp2().max(f64::MIN_POSITIVE) } else { 1.0 }
}

/// An orthonormal basis of what the keys reach in a view, with the strength of the keys along each direction.
pub(super) struct KeySpace {
    /// What all strengths are divided by.
    scale: f64,
    directions: Vec<(f64, DVector<f64>)>,
}

impl KeySpace {
    pub(super) fn of(b: &DMatrix<f64>) -> Self {
        let scale = power_of_two(if b.is_empty() { 0.0 } else { b.amax() });
        let triples = if b.is_empty() { Vec::new() } else { singular_triples(&(b / scale)) };
        let largest = triples.first().map_or(0.0, |(sigma, ..)| *sigma);
        let reached = triples.into_iter().filter(|(sigma, ..)| *sigma > RANK_TOLERANCE * largest);
        Self { scale, directions: reached.map(|(sigma, left, _)| (sigma, left)).collect() }
    }

    /// What of `shift` no key can hide.
    fn unhidden(&self, shift: &DVector<f64>) -> DVector<f64> {
        let mut rest = shift.clone();
        // Twice: the second pass removes the rounding of the first.
        for _ in 0..2 {
            for (_, direction) in &self.directions {
                let along = direction.dot(&rest);
                rest.axpy(-along, direction, 1.0);
            }
        }
        rest
    }

    /// ‖B⁺ shift‖₂; infinite when the keys do not reach `shift`.
    pub(super) fn distance(&self, shift: &DVector<f64>) -> f64 {
        if self.unhidden(shift).norm() > SHIFT_TOLERANCE * shift.norm() {
            return f64::INFINITY;
        }
        let along = self.directions.iter().map(|(sigma, left)| (left.dot(shift) / sigma).powi(2));
        along.sum::<f64>().sqrt() / self.scale
    }
}

/// A view, taken apart.
pub(super) struct Split {
    /// What every row of the view was divided by: a power of two near its largest input coefficient.
    rows: Vec<f64>,
    /// The rows' coefficients on the clients' inputs, divided.
    pub(super) a: DMatrix<f64>,
    pub(super) keys: KeySpace,
    /// The part of `a` that keys do not reach, in the same rows.
    pub(super) bare: DMatrix<f64>,
}

/// One independent thing that a view tells about inputs of unit variance: `right` · g + noise of deviation 1/`gain`.
struct Direction {
    /// Infinite for what is seen without keys.
    gain: f64,
    right: RowDVector<f64>,
    /// The combination of the rows of the view that shows it.
    left: DVector<f64>,
}

impl Direction {
    /// g²/(1 + g²) and 1/(1 + g²): the shares of the variance along `right` that are told and that are not.
    fn shares(&self) -> (f64, f64) {
        let inverse = self.gain.recip();
        if self.gain > 1.0 {
            let noise = inverse * inverse;
            ((1.0 + noise).recip(), noise / (1.0 + noise))
        } else {
            let signal = self.gain * self.gain;
            (signal / (1.0 + signal), (1.0 + signal).recip())
        }
    }
}

impl Split {
    /// Takes apart a view of `clients` inputs of one coordinate each.
    ///
    /// # Errors
    /// A coefficient that is not finite.
    pub(super) fn of(view: &[LinearForm], clients: usize) -> Result<Self> {
        let (mut a, mut b) = matrices(view, clients, 1);
        let rows: Vec<f64> = a.row_iter().map(|row| power_of_two(row.amax())).collect();
        for (i, by) in rows.iter().enumerate() {
            a.row_mut(i).unscale_mut(*by);
            b.row_mut(i).unscale_mut(*by);
        }
        if !a.iter().chain(b.iter()).all(|c| c.is_finite()) {
            return Err(not_finite("a coefficient of a message"));
        }
        let keys = KeySpace::of(&b);
        let mut bare = a.clone();
        for k in 0..clients {
            bare.set_column(k, &keys.unhidden(&a.column(k).into_owned()));
        }
        Ok(Self { rows, a, keys, bare })
    }

    /// An orthonormal basis of the combinations of inputs that are seen without a key, each with the rows that show it.
    fn seen(&self) -> Vec<(DVector<f64>, RowDVector<f64>)> {
        if self.bare.is_empty() {
            return Vec::new();
        }
        let triples = singular_triples(&self.bare).into_iter();
        triples
            .filter(|(sigma, ..)| *sigma > SHIFT_TOLERANCE)
            .map(|(sigma, left, right)| (left / sigma, right.transpose()))
            .collect()
    }

    /// Everything that the view tells about inputs of the standard deviations `stds`, in orthogonal directions.
    fn directions(&self, seen: &[(DVector<f64>, RowDVector<f64>)], stds: &[f64]) -> Vec<Direction> {
        let top = power_of_two(stds.iter().copied().fold(0.0, f64::max));
        let scaled = |row: &RowDVector<f64>| {
            RowDVector::from_iterator(row.len(), row.iter().zip(stds).map(|(q, std)| q * (std / top)))
        };
        let stack = |rows: &[RowDVector<f64>]| -> Vec<(f64, DVector<f64>, RowDVector<f64>)> {
            if rows.is_empty() {
                return Vec::new();
            }
            let triples = singular_triples(&DMatrix::from_rows(rows)).into_iter();
            triples.map(|(sigma, left, right)| (sigma, left, right.transpose())).collect()
        };
        let zero = || DVector::zeros(self.rows.len());
        let exact: Vec<RowDVector<f64>> = seen.iter().map(|(_, right)| scaled(right)).collect();
        let mut directions: Vec<Direction> = Vec::new();
        for (sigma, mix, right) in stack(&exact) {
            let mut left = zero();
            mix.iter().zip(seen).for_each(|(c, (row, _))| left.axpy(c / sigma / top, row, 1.0));
            directions.push(Direction { gain: f64::INFINITY, right, left });
        }
        let exact = directions.len();
        // Rows of noise 1 in units of the keys' scale, without what is known exactly.
        let reached = &self.keys.directions;
        let whole: Vec<RowDVector<f64>> = reached
            .iter()
            .map(|(sigma, left)| scaled(&(left.transpose() * &self.a).unscale(*sigma)))
            .collect();
        let mut known = vec![vec![0.0; exact]; whole.len()];
        let mut rest = whole;
        for (row, known) in rest.iter_mut().zip(&mut known) {
            // Every pass removes the rounding of the one before.
            for _ in 0..3 {
                for (direction, known) in directions.iter().zip(&mut *known) {
                    let along = direction.right.dot(row);
                    *row -= &direction.right * along;
                    *known += along;
                }
            }
        }
        let gain = top / self.keys.scale;
        for (sigma, mix, right) in stack(&rest) {
            let mut left = zero();
            for ((c, (strength, row)), known) in mix.iter().zip(reached).zip(&known) {
                left.axpy(c / (sigma * strength * top), row, 1.0);
                for (direction, along) in directions[..exact].iter().zip(known) {
                    left.axpy(-c * along / sigma, &direction.left, 1.0);
                }
            }
            directions.push(Direction { gain: sigma * gain, right, left });
        }
        directions
    }

    /// I(x_k; view) in nats for every client, under x_j ~ N(0, `stds[j]`²).
    pub(super) fn lmip(&self, stds: &[f64]) -> Result<Vec<f64>> {
        let seen = self.seen();
        let directions = self.directions(&seen, stds);
        (0..stds.len()).map(|k| information(k, stds.len(), &seen, &directions)).collect()
    }

    /// [`Split::lmip`] of one client.
    pub(super) fn lmip_of(&self, k: usize, stds: &[f64]) -> Result<f64> {
        let seen = self.seen();
        information(k, stds.len(), &seen, &self.directions(&seen, stds))
    }

    /// Weights of the view's rows in the best linear guess of x_k, see [`super::best_estimate`].
    pub(super) fn best_estimate(&self, k: usize, stds: &[f64]) -> Result<Option<Vec<f64>>> {
        let mut guess = DVector::zeros(self.rows.len());
        let mut leverage = 0.0;
        for direction in self.directions(&self.seen(), stds) {
            let (told, _) = direction.shares();
            leverage += direction.right[k].powi(2) * told;
            guess.axpy(direction.right[k] * told, &direction.left, 1.0);
        }
        if leverage == 0.0 {
            return Ok(None);
        }
        let weights = guess.iter().zip(&self.rows).map(|(c, by)| c * stds[k] / leverage / by);
        let weights: Vec<f64> = weights.collect();
        if weights.iter().all(|c| c.is_finite()) { Ok(Some(weights)) } else { Err(not_finite("a guess")) }
    }
}

/// −½ ln(1 − ρ_k²), from the share that is told where that is small and from the one that is not where it is large.
fn information(
    k: usize,
    clients: usize,
    seen: &[(DVector<f64>, RowDVector<f64>)],
    directions: &[Direction],
) -> Result<f64> {
    let mut unit = RowDVector::zeros(clients);
    unit[k] = 1.0;
    if spanned(&unit, seen.iter().map(|(_, right)| right)) {
        return Ok(f64::INFINITY);
    }
    let (mut told, mut hidden) = (0.0, 0.0);
    let mut rest = unit;
    for direction in directions {
        let along = direction.right[k];
        let (signal, noise) = direction.shares();
        told += along * along * signal;
        // A component of the size of rounding must not count as something that stays unknown.
        if along.abs() > ROUNDING {
            hidden += along * along * noise;
        }
        rest -= &direction.right * along;
    }
    let apart = rest.norm();
    if apart > ROUNDING {
        hidden += apart * apart;
    }
    let nats = if told < 0.5 { -0.5 * (-told).ln_1p() } else { -0.5 * hidden.min(1.0).ln() };
    number(nats, "the leakage of a view")
}

/// Whether an orthonormal basis spans a row.
pub(super) fn spanned<'a>(row: &RowDVector<f64>, basis: impl Iterator<Item = &'a RowDVector<f64>>) -> bool {
    let rest = basis.fold(row.clone(), |rest, basis| &rest - basis * rest.dot(basis));
    rest.norm() <= SUM_TOLERANCE * row.norm()
}
