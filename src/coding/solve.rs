//! Finding 1ᵀ, or another vector, in the span of given rows.

use nalgebra::{DMatrix, DVector};
use pulp::Arch;
use std::cmp::Reverse;

use super::triangular::Triangular;
use crate::algebra::columns::{add, dot, rotate};

/// Largest |(a·B_R − 1ᵀ)_k| that counts as decoded. A set of rows whose span misses 1ᵀ by more is an
/// outage; one that is accepted returns Σ_k (1 + e_k) y_k with |e_k| at most this.
pub const RESIDUAL_TOLERANCE: f64 = 1e-9;

/// Ratio of the diagonal entries of a QR factor above which the rows certainly are independent. Dependent
/// rows leave rounding errors, some 1e-16 times the condition number of the code.
const INDEPENDENT: f64 = 1e-8;

/// Sweeps of the Jacobi iteration, which needs about ten for a hundred columns.
const SWEEPS: usize = 60;

/// The vector a of least norm with a·`rows` = 1ᵀ, or `None` if 1ᵀ is not in the row span: if no vector leaves
/// a residual of at most [`RESIDUAL_TOLERANCE`] in every column.
///
/// `rows` is n × M with n, M ≥ 1: rows of any origin, for instance the received parts of incomplete sums from
/// all attempts of a round; duplicates, zero and dependent rows are welcome.
///
/// Independent rows have one candidate, by QR. Otherwise the rank is not guessed from a threshold on the
/// singular values: of the truncated solutions of every rank, the one with the smallest ‖residual‖₂ + ε‖a‖₂
/// is taken (ε the machine epsilon), the error of the decoded sum, from what is missed and from rounding, per
/// unit of what was summed.
#[must_use]
pub fn solve_ones(rows: &DMatrix<f64>) -> Option<DVector<f64>> {
    solve(rows, &DVector::from_element(rows.ncols(), 1.0))
}

/// [`solve_ones`] for another target of M entries in the place of 1ᵀ.
///
/// # Panics
/// If `target` does not have as many entries as `rows` has columns.
#[must_use]
pub fn solve(rows: &DMatrix<f64>, target: &DVector<f64>) -> Option<DVector<f64>> {
    let (n, clients) = rows.shape();
    assert_eq!(target.len(), clients, "one entry for each column");
    if n == 0 || clients == 0 || rows.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let a = solve_independent(rows, target).unwrap_or_else(|| solve_any(rows, target));
    // Entry by entry: amax() would skip a NaN left by an overflow.
    missed(rows, target, &a).iter().all(|e| e.abs() <= RESIDUAL_TOLERANCE).then_some(a)
}

/// target − Bᵀa.
fn missed(rows: &DMatrix<f64>, target: &DVector<f64>, a: &DVector<f64>) -> DVector<f64> {
    target - rows.tr_mul(a)
}

/// The least-squares solution by QR, or `None` if the rows might be dependent.
fn solve_independent(rows: &DMatrix<f64>, target: &DVector<f64>) -> Option<DVector<f64>> {
    let (n, clients) = rows.shape();
    if n > clients {
        return None;
    }
    let qr = rows.transpose().qr();
    let r = qr.r();
    let diagonal = r.diagonal().abs();
    if diagonal.min() <= INDEPENDENT * diagonal.max() {
        return None;
    }
    let mut turned = target.clone();
    qr.q_tr_mul(&mut turned);
    r.solve_upper_triangular(&turned.rows(0, n))
}

/// The best truncated least-squares solution of least norm, by singular values.
fn solve_any(rows: &DMatrix<f64>, target: &DVector<f64>) -> DVector<f64> {
    let n = rows.nrows();
    let mut best = DVector::zeros(n);
    let mut rest = missed(rows, target, &best);
    let (mut a, mut least) = (best.clone(), rest.norm());
    for (sigma, left, right) in singular_triples(rows) {
        // Against the rest, not against the target: this corrects earlier rounding.
        a.axpy(right.dot(&rest) / sigma, &left, 1.0);
        rest = missed(rows, target, &a);
        let error = rest.norm() + f64::EPSILON * a.norm();
        // A direction that matters gains orders of magnitude; one that only stirs rounding must not lengthen
        // a.
        if error < 0.5 * least {
            least = error;
            best.copy_from(&a);
        }
    }
    best
}

/// Matrices of more rows and columns are made triangular first.
const LARGE: usize = 32;

/// Diagonal entries of a pivoted QR factor below this fraction of the first are rounding.
const NEGLIGIBLE: f64 = 1e-15;

/// (σ, left, right) with σ > 0, largest first, by one-sided Jacobi rotations (Hestenes 1958). The bidiagonal
/// SVD of `nalgebra` 0.35 returns wrong factors for one in 25 sets of rows of small codes. Large matrices are
/// made triangular first, by QR with column pivoting: then fewer rotations are left to do, on as many columns
/// as the rank (Drmač & Veselić 2008).
pub(crate) fn singular_triples(rows: &DMatrix<f64>) -> Vec<(f64, DVector<f64>, DVector<f64>)> {
    let wide = rows.nrows() < rows.ncols();
    let image = if wide { rows.transpose() } else { rows.clone() };
    let triples = if image.ncols() > LARGE { triangular_first(image, true) } else { rotated(image) };
    triples
        .into_iter()
        .map(|(s, left, right)| if wide { (s, right, left) } else { (s, left, right) })
        .collect()
}

/// σ and left of [`singular_triples`].
pub(crate) fn left_singular(rows: &DMatrix<f64>) -> Vec<(f64, DVector<f64>)> {
    if rows.nrows() < rows.ncols() && rows.nrows() > LARGE {
        let of_transpose = triangular_first(rows.transpose(), false).into_iter();
        return of_transpose.map(|(sigma, _, right)| (sigma, right)).collect();
    }
    singular_triples(rows).into_iter().map(|(sigma, left, _)| (sigma, left)).collect()
}

/// [`singular_triples`] of a matrix of at least as many rows as columns, in A P = Q R by those of Rᵀ; without
/// left vectors where they are not `asked` for.
fn triangular_first(matrix: DMatrix<f64>, asked: bool) -> Vec<(f64, DVector<f64>, DVector<f64>)> {
    let qr = Triangular::of(matrix);
    let first = qr.diagonal().next().unwrap_or(0.0);
    let rank = qr.diagonal().take_while(|&d| d > NEGLIGIBLE * first).count();
    let triples = rotated(qr.transposed(rank)).into_iter();
    let q = if asked { qr.q() } else { DMatrix::zeros(0, 0) };
    triples.map(|(sigma, right, left)| (sigma, combined(&q, &left), right)).collect()
}

/// The sum of the first columns of a matrix, times as many numbers.
fn combined(matrix: &DMatrix<f64>, by: &DVector<f64>) -> DVector<f64> {
    let mut sum = DVector::zeros(matrix.nrows());
    Arch::new().dispatch(Combined(matrix.as_slice(), by.as_slice(), sum.as_mut_slice()));
    sum
}

/// Columns, numbers and the sum.
struct Combined<'a>(&'a [f64], &'a [f64], &'a mut [f64]);

impl pulp::NullaryFnOnce for Combined<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(columns, by, sum) = self;
        for (column, by) in columns.chunks_exact(sum.len().max(1)).zip(by) {
            add(sum, *by, column);
        }
    }
}

/// [`singular_triples`] of a matrix of at least as many rows as columns, by rotations of its columns.
fn rotated(mut image: DMatrix<f64>) -> Vec<(f64, DVector<f64>, DVector<f64>)> {
    let columns = image.ncols();
    let mut turned = DMatrix::identity(columns, columns);
    if columns > 1 {
        let (image, turned) = (image.as_mut_slice(), turned.as_mut_slice());
        Arch::new().dispatch(Rotations { image, turned, columns });
    }
    let mut triples: Vec<_> = (0..columns)
        .filter_map(|i| {
            let (sigma, turned) = (image.column(i).norm(), turned.column(i).into_owned());
            let image = image.column(i) / sigma;
            (sigma > 0.0).then_some((sigma, image, turned))
        })
        .collect();
    triples.sort_by_key(|(sigma, ..)| Reverse(sigma.to_bits()));
    triples
}

/// Makes the columns of `image` orthogonal; `turned` takes part.
struct Rotations<'a> {
    image: &'a mut [f64],
    turned: &'a mut [f64],
    columns: usize,
}

impl pulp::NullaryFnOnce for Rotations<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { image, turned, columns } = self;
        let rows = image.len() / columns;
        let mut squares = vec![0.0; columns];
        for (square, x) in squares.iter_mut().zip(image.chunks_exact(rows)) {
            *square = dot(x, x);
        }
        for _ in 0..SWEEPS {
            let mut orthogonal = true;
            for j in 1..columns {
                let (images, rest) = image.split_at_mut(j * rows);
                let y = &mut rest[..rows];
                let (turns, rest) = turned.split_at_mut(j * columns);
                let turn = &mut rest[..columns];
                for i in 0..j {
                    let x = &mut images[i * rows..][..rows];
                    let (xx, yy, xy) = (squares[i], squares[j], dot(x, y));
                    if xy.abs() <= f64::EPSILON * xx.sqrt() * yy.sqrt() {
                        continue;
                    }
                    orthogonal = false;
                    let zeta = (yy - xx) / (2.0 * xy);
                    let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
                    let cosine = tangent.hypot(1.0).recip();
                    (squares[i], squares[j]) = rotate(x, y, cosine, cosine * tangent);
                    rotate(&mut turns[i * columns..][..columns], turn, cosine, cosine * tangent);
                }
            }
            if orthogonal {
                break;
            }
        }
    }
}
