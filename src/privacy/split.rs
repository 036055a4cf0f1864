//! A view over the reals, taken apart: what it shows without keys, and what through keys.
//!
//! A view is V = A W + B K. What is seen without any key is decided by decompositions of B and of A alone, so
//! that neither σ nor the scale of the updates has a say in it; only then the numbers come in, divided by
//! their largest first, so that nothing overflows and nothing vanishes.

use std::collections::HashMap;

use nalgebra::{DMatrix, DVector, RowDVector};
use pulp::Arch;

use super::draws::{Draws, FEW, Taken};
use super::view::matrices;
use super::{RANK_TOLERANCE, SHIFT_TOLERANCE, SUM_TOLERANCE};
use crate::algebra::LinearForm;
use crate::algebra::columns::{add, apart, column, dot, norm};
use crate::coding::{left_singular, singular_triples};
use crate::error::{Error, Result};

/// A residual shorter than this is rounding: what remains unknown of a unit-variance input is then what the
/// keys hide alone.
const ROUNDING: f64 = 1e-10;

/// What is seen through keys counts as nothing below this fraction of the largest such thing: rows that
/// depend on each other leave rounding.
const RANK_ROUNDING: f64 = 1e-13;

/// Standard deviations of inputs this many times apart are not computed with at once.
const APART: f64 = 1e5;

/// Among more clients what differs between two of them is taken from what is known of each.
const MANY: usize = 32;

/// Something did not stay a finite number.
pub(crate) fn not_finite(what: &str) -> Error {
    Error::config(
        "privacy",
        format!(
            "{what} is not finite; bring update_std, clip_norm, weights and key_std within 10^±100 of each other"
        ),
    )
}

/// `value`, if it is a number; infinite ones are, where they mean that everything leaks.
pub(crate) fn number(value: f64, what: &str) -> Result<f64> {
    if value.is_nan() { Err(not_finite(what)) } else { Ok(value) }
}

/// The largest power of two that is at most `x`; 1 for 0.
fn power_of_two(x: f64) -> f64 {
    if x > 0.0 { x.log2().floor().exp2().max(f64::MIN_POSITIVE) } else { 1.0 }
}

/// An orthonormal basis of what the keys reach in a view, with the strength of the keys along each direction.
pub(crate) struct KeySpace {
    /// What all strengths are divided by.
    scale: f64,
    directions: Vec<(f64, DVector<f64>)>,
}

impl KeySpace {
    pub(crate) fn of(b: &DMatrix<f64>) -> Self {
        let scale = power_of_two(if b.is_empty() { 0.0 } else { b.amax() });
        let pairs = if b.is_empty() { Vec::new() } else { left_singular(&(b / scale)) };
        let largest = pairs.first().map_or(0.0, |(sigma, _)| *sigma);
        let reached = pairs.into_iter().filter(|(sigma, _)| *sigma > RANK_TOLERANCE * largest);
        Self { scale, directions: reached.collect() }
    }

    /// What of every shift, a column, no key can hide.
    fn unhidden(&self, shifts: &DMatrix<f64>) -> DMatrix<f64> {
        let mut rests = shifts.clone();
        Arch::new().dispatch(Unhidden(&self.directions, &mut rests));
        rests
    }

    /// B⁺ of every column, times the scale.
    fn along(&self, columns: &DMatrix<f64>) -> DMatrix<f64> {
        let mut along = DMatrix::zeros(columns.ncols(), self.directions.len());
        Arch::new().dispatch(Along(&self.directions, &columns.transpose(), &mut along));
        along.transpose()
    }

    /// ‖B⁺ shift‖₂; infinite when the keys do not reach `shift`.
    pub(crate) fn distance(&self, shift: &DVector<f64>) -> f64 {
        let rest = self.unhidden(&DMatrix::from_column_slice(shift.len(), 1, shift.as_slice()));
        self.reach(shift.as_slice(), rest.as_slice())
    }

    /// [`KeySpace::distance`] of a shift of which no key hides `rest`.
    fn reach(&self, shift: &[f64], rest: &[f64]) -> f64 {
        if norm(rest) > SHIFT_TOLERANCE * norm(shift) {
            return f64::INFINITY;
        }
        let along = self.directions.iter().map(|(sigma, left)| (dot(left.as_slice(), shift) / sigma).powi(2));
        along.sum::<f64>().sqrt() / self.scale
    }
}

/// Takes directions out of columns.
struct Unhidden<'a>(&'a [(f64, DVector<f64>)], &'a mut DMatrix<f64>);

impl pulp::NullaryFnOnce for Unhidden<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(directions, rests) = self;
        for mut rest in rests.column_iter_mut() {
            let rest = rest.as_mut_slice();
            // Twice: the second pass removes the rounding of the first.
            for _ in 0..2 {
                for (_, direction) in directions {
                    let along = dot(direction.as_slice(), rest);
                    add(rest, -along, direction.as_slice());
                }
            }
        }
    }
}

/// Directions, what lies along them as rows, and the result, a column a direction.
struct Along<'a>(&'a [(f64, DVector<f64>)], &'a DMatrix<f64>, &'a mut DMatrix<f64>);

impl pulp::NullaryFnOnce for Along<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(directions, rows, along) = self;
        for ((sigma, left), mut along) in directions.iter().zip(along.column_iter_mut()) {
            let along = along.as_mut_slice();
            for (i, by) in left.iter().enumerate() {
                add(along, *by, column(rows, i));
            }
            for value in along {
                *value /= *sigma;
            }
        }
    }
}

/// Distances of inputs from each other that differ: what is known of each, and what keys hide of it.
struct Pairs<'a> {
    split: &'a Split,
    clients: &'a [usize],
    distances: &'a mut DMatrix<f64>,
}

impl pulp::NullaryFnOnce for Pairs<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { split: Split { a, bare, along, keys, .. }, clients, distances } = self;
        for (i, &k) in clients.iter().enumerate() {
            for &j in &clients[..i] {
                let rest = apart(column(bare, k), column(bare, j));
                let distance = if rest > SHIFT_TOLERANCE * apart(column(a, k), column(a, j)) {
                    f64::INFINITY
                } else {
                    apart(column(along, k), column(along, j)) / keys.scale
                };
                (distances[(k, j)], distances[(j, k)]) = (distance, distance);
            }
        }
    }
}

/// A view, taken apart.
pub(crate) struct Split {
    /// What every row of the view was divided by: a power of two near its largest input coefficient.
    scales: Vec<f64>,
    /// The rows of the view that are looked at, by their places.
    rows: Vec<usize>,
    /// What was taken out of these, see [`Draws::taken`].
    taken: Vec<Taken>,
    /// These rows' coefficients on the clients' inputs, divided.
    pub(crate) a: DMatrix<f64>,
    pub(crate) keys: KeySpace,
    /// The part of `a` that keys do not reach, in the same rows.
    pub(crate) bare: DMatrix<f64>,
    /// What keys reach of `a`, in units of their strength along each direction.
    along: DMatrix<f64>,
}

/// One independent thing that a view tells about inputs: `right` · inputs + noise of deviation 1/`gain`.
struct Direction {
    /// Infinite for what is seen without keys.
    gain: f64,
    /// Of length 1.
    right: RowDVector<f64>,
    /// The combination of the rows of the view that shows it; empty where nobody asks for it.
    left: DVector<f64>,
}

/// Singular triples with the right vectors as rows.
fn triples(matrix: &DMatrix<f64>) -> impl Iterator<Item = (f64, DVector<f64>, RowDVector<f64>)> + use<> {
    let triples = if matrix.is_empty() { Vec::new() } else { singular_triples(matrix) };
    triples.into_iter().map(|(sigma, left, right)| (sigma, left, right.transpose()))
}

/// Orthogonal directions, also to the `known` ones, from rows of noise 1 and the combinations of a view's
/// rows that show them; the gain of the result is its length.
fn orthogonal(known: &[Direction], rows: Vec<(RowDVector<f64>, DVector<f64>)>) -> Vec<Direction> {
    let Some(zero) = rows.first().map(|(_, left)| DVector::zeros(left.len())) else { return Vec::new() };
    let (rest, lefts): (Vec<RowDVector<f64>>, Vec<DVector<f64>>) = rows
        .into_iter()
        .map(|(mut row, mut left)| {
            // Every pass removes the rounding of the one before.
            for _ in 0..3 {
                for direction in known {
                    let along = direction.right.dot(&row);
                    row -= &direction.right * along;
                    left.axpy(-along, &direction.left, 1.0);
                }
            }
            (row, left)
        })
        .unzip();
    triples(&DMatrix::from_rows(&rest))
        .map(|(sigma, mix, right)| {
            let mut left = zero.clone();
            mix.iter().zip(&lefts).for_each(|(c, row)| left.axpy(c / sigma, row, 1.0));
            Direction { gain: sigma, right, left }
        })
        .collect()
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
    pub(crate) fn of(view: &[LinearForm], clients: usize) -> Result<Self> {
        Self::with_few(FEW, view, clients)
    }

    /// [`Split::of`] that looks for fewer draws of the same law where they are more than so many.
    pub(super) fn with_few(few: usize, view: &[LinearForm], clients: usize) -> Result<Self> {
        let (mut a, mut b, names) = matrices(view, clients, 1);
        let scales: Vec<f64> = a.row_iter().map(|row| power_of_two(row.amax())).collect();
        for (i, by) in scales.iter().enumerate() {
            a.row_mut(i).unscale_mut(*by);
            b.row_mut(i).unscale_mut(*by);
        }
        if !a.iter().chain(b.iter()).all(|c| c.is_finite()) {
            return Err(not_finite("a coefficient of a message"));
        }
        let Draws { rows, b, taken } =
            if names.len() > few { Draws::fewest(&a, b, &names) } else { Draws::all(b) };
        let a = if rows.len() < a.nrows() { a.select_rows(&rows) } else { a };
        let keys = KeySpace::of(&b);
        let (bare, along) = (keys.unhidden(&a), keys.along(&a));
        Ok(Self { scales, rows, taken, a, keys, bare, along })
    }

    /// [`KeySpace::distance`] of x_k.
    pub(crate) fn alone(&self, k: usize) -> f64 {
        self.keys.reach(column(&self.a, k), column(&self.bare, k))
    }

    /// [`KeySpace::distance`] of x_k − x_j for every two of these clients, by their numbers.
    pub(crate) fn between(&self, clients: &[usize]) -> DMatrix<f64> {
        let all = self.a.ncols();
        let mut distances = DMatrix::zeros(all, all);
        // Of inputs that look the same one stands for all: a link shows one of many.
        let mut alike: HashMap<Vec<u64>, usize> = HashMap::new();
        let mut first = vec![0; all];
        let mut different = Vec::new();
        for &k in clients {
            let parts = [&self.a, &self.bare, &self.along].map(|part| column(part, k));
            let bits = parts.concat().into_iter().map(f64::to_bits).collect();
            first[k] = *alike.entry(bits).or_insert_with(|| {
                different.push(k);
                k
            });
        }
        if all > MANY {
            Arch::new().dispatch(Pairs { split: self, clients: &different, distances: &mut distances });
        } else {
            for (i, &k) in different.iter().enumerate() {
                for &j in &different[..i] {
                    let distance = self.keys.distance(&(self.a.column(k) - self.a.column(j)));
                    (distances[(k, j)], distances[(j, k)]) = (distance, distance);
                }
            }
        }
        for (i, &k) in clients.iter().enumerate().filter(|_| different.len() < clients.len()) {
            for &j in &clients[..i] {
                let distance = distances[(first[k], first[j])];
                (distances[(k, j)], distances[(j, k)]) = (distance, distance);
            }
        }
        distances
    }

    /// The same view of inputs of which those of deviation 0 are known: what keys do not reach of it, and
    /// what they do.
    fn without_constants(&self, stds: &[f64]) -> (DMatrix<f64>, DMatrix<f64>) {
        let (mut bare, mut along) = (self.bare.clone(), self.along.clone());
        for k in (0..stds.len()).filter(|&k| stds[k] == 0.0) {
            bare.column_mut(k).fill(0.0);
            along.column_mut(k).fill(0.0);
        }
        (bare, along)
    }

    /// What the view shows of inputs x whatever their scale: orthonormal `right` with `right` · x seen
    /// exactly, or, with a finite `gain`, with noise of deviation 1/`gain` in units of the keys' scale; by
    /// which combinations of rows, where these are `asked` for.
    fn structure(&self, stds: &[f64], asked: bool) -> Vec<Direction> {
        let (bare, along) = self.without_constants(stds);
        let left = |left: &DVector<f64>, by: f64| if asked { left / by } else { DVector::zeros(0) };
        let bare = if is_hidden(&bare) { DMatrix::zeros(0, 0) } else { bare };
        let mut found: Vec<Direction> = triples(&bare)
            .filter(|(sigma, ..)| *sigma > SHIFT_TOLERANCE)
            .map(|(sigma, row, right)| Direction { gain: f64::INFINITY, right, left: left(&row, sigma) })
            .collect();
        let rows = along.row_iter().zip(&self.keys.directions);
        let rows: Vec<(RowDVector<f64>, DVector<f64>)> =
            rows.map(|(row, (strength, key))| (row.into_owned(), left(key, *strength))).collect();
        // Of the rows as they are: what is left of all of them may be rounding.
        let largest = rows.iter().map(|(row, _)| row.norm()).fold(0.0, f64::max);
        let through_keys = orthogonal(&found, rows);
        found.extend(through_keys.into_iter().filter(|direction| direction.gain > RANK_ROUNDING * largest));
        found
    }

    /// Everything that the view tells about inputs of the standard deviations `stds`, in orthogonal
    /// directions of inputs of unit variance.
    fn directions(&self, structure: &[Direction], stds: &[f64]) -> Vec<Direction> {
        let top = power_of_two(stds.iter().copied().fold(0.0, f64::max));
        let scaled = |direction: &Direction, by: f64| {
            let right = direction.right.iter().zip(stds).map(|(q, std)| by * q * (std / top));
            (RowDVector::from_iterator(stds.len(), right), &direction.left * by)
        };
        let (exact, noisy): (Vec<_>, Vec<_>) = structure.iter().partition(|found| found.gain.is_infinite());
        let mut found = orthogonal(&[], exact.into_iter().map(|row| scaled(row, 1.0)).collect());
        found.iter_mut().for_each(|direction| direction.gain = f64::INFINITY);
        let noisy = noisy.into_iter().map(|row| scaled(row, row.gain)).collect();
        let mut through_keys = orthogonal(&found, noisy);
        let gain = top / self.keys.scale;
        through_keys.iter_mut().for_each(|direction| direction.gain *= gain);
        found.extend(through_keys);
        found.iter_mut().for_each(|direction| direction.left.unscale_mut(top));
        found
    }

    /// I(x_k; view) in nats for every client, under x_j ~ N(0, `stds[j]`²).
    pub(crate) fn lmip(&self, stds: &[f64]) -> Result<Vec<f64>> {
        let positive = || stds.iter().copied().filter(|std| *std > 0.0);
        let (least, most) = (positive().fold(f64::INFINITY, f64::min), positive().fold(0.0, f64::max));
        if most > APART * least {
            return (0..stds.len()).map(|k| self.lmip_of(k, stds)).collect();
        }
        let structure = self.structure(stds, false);
        let directions = self.directions(&structure, stds);
        (0..stds.len()).map(|k| information(k, stds.len(), &structure, &directions)).collect()
    }

    /// [`Split::lmip`] of one client. Deviations of others that are out of all proportion are lowered, to
    /// what is out of proportion or to 0: the less the others hide, the more is seen.
    pub(crate) fn lmip_of(&self, k: usize, stds: &[f64]) -> Result<f64> {
        let near = |std: f64| match std / stds[k] {
            small if small * APART < 1.0 => 0.0,
            _ => std.min(APART * stds[k]),
        };
        let stds: Vec<f64> = stds.iter().map(|std| near(*std)).collect();
        let structure = self.structure(&stds, false);
        information(k, stds.len(), &structure, &self.directions(&structure, &stds))
    }

    /// Weights of the view's rows in the best linear guess of x_k, see [`super::best_estimate`].
    pub(crate) fn best_estimate(&self, k: usize, stds: &[f64]) -> Result<Option<Vec<f64>>> {
        let mut guess = DVector::zeros(self.rows.len());
        let mut leverage = 0.0;
        for direction in self.directions(&self.structure(stds, true), stds) {
            let (told, _) = direction.shares();
            leverage += direction.right[k].powi(2) * told;
            guess.axpy(direction.right[k] * told, &direction.left, 1.0);
        }
        if leverage == 0.0 {
            return Ok(None);
        }
        let mut weights = vec![0.0; self.scales.len()];
        for (&row, c) in self.rows.iter().zip(guess.iter()) {
            weights[row] = c * stds[k] / leverage;
        }
        for &(row, of, times) in &self.taken {
            weights[of] -= times * weights[row];
        }
        weights.iter_mut().zip(&self.scales).for_each(|(weight, by)| *weight /= by);
        if weights.iter().all(|c| c.is_finite()) { Ok(Some(weights)) } else { Err(not_finite("a guess")) }
    }
}

/// −½ ln(1 − ρ_k²), from the share that is told where that is small and from the one that is not where it is
/// large.
fn information(k: usize, clients: usize, structure: &[Direction], directions: &[Direction]) -> Result<f64> {
    let mut unit = RowDVector::zeros(clients);
    unit[k] = 1.0;
    let seen = structure.iter().filter(|found| found.gain.is_infinite()).map(|found| &found.right);
    if spanned(&unit, seen) {
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
        add(rest.as_mut_slice(), -along, direction.right.as_slice());
    }
    let apart = rest.norm();
    if apart > ROUNDING {
        hidden += apart * apart;
    }
    // Both shares are known: of a large one told, the rest bounds what is hidden.
    let hidden = hidden.min((1.0 - told).max(0.0) + ROUNDING);
    let nats = if told < 0.5 { -0.5 * (-told).ln_1p() } else { -0.5 * hidden.ln() };
    number(nats, "the leakage of a view")
}

/// Whether keys hide a part of a view's rows but for rounding: no singular value is larger than the norm.
pub(crate) fn is_hidden(bare: &DMatrix<f64>) -> bool {
    2.0 * bare.norm() <= SHIFT_TOLERANCE
}

/// Whether an orthonormal basis spans a row.
pub(crate) fn spanned<'a>(row: &RowDVector<f64>, basis: impl Iterator<Item = &'a RowDVector<f64>>) -> bool {
    let rest = basis.fold(row.clone(), |rest, basis| &rest - basis * rest.dot(basis));
    rest.norm() <= SUM_TOLERANCE * row.norm()
}
