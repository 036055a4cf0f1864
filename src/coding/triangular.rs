//! A P = Q R by reflections (Householder 1958), the column of the largest entry first.
//!
//! It is `nalgebra`'s decomposition to the bit, at the width of the CPU's registers.

use nalgebra::DMatrix;
use pulp::Arch;

use crate::algebra::columns::{add, dot, norm};

/// A matrix of at least as many rows as columns, decomposed.
pub(super) struct Triangular {
    /// R above the diagonal, and the axes of the reflections from there on.
    matrix: DMatrix<f64>,
    /// Diagonal of R, with the signs of the reflections.
    diagonal: Vec<f64>,
    /// The column that took each one's place.
    swaps: Vec<usize>,
}

impl Triangular {
    pub(super) fn of(matrix: DMatrix<f64>) -> Self {
        let columns = matrix.ncols();
        let mut of = Self { matrix, diagonal: vec![0.0; columns], swaps: vec![0; columns] };
        Arch::new().dispatch(Reflections(&mut of));
        of
    }

    /// Absolute values of the diagonal of R.
    pub(super) fn diagonal(&self) -> impl Iterator<Item = f64> + '_ {
        self.diagonal.iter().map(|d| d.abs())
    }

    /// The transpose of the first rows of R P⁻¹.
    pub(super) fn transposed(&self, rows: usize) -> DMatrix<f64> {
        let entry = |j: usize, i: usize| match j.cmp(&i) {
            std::cmp::Ordering::Less => 0.0,
            std::cmp::Ordering::Equal => self.diagonal[i].abs(),
            std::cmp::Ordering::Greater => self.matrix[(i, j)],
        };
        let mut transposed = DMatrix::from_fn(self.matrix.ncols(), rows, entry);
        for (i, &j) in self.swaps.iter().enumerate().rev() {
            transposed.swap_rows(i, j);
        }
        transposed
    }

    /// Q, as many columns as the matrix.
    pub(super) fn q(&self) -> DMatrix<f64> {
        let mut q = DMatrix::identity(self.matrix.nrows(), self.matrix.ncols());
        Arch::new().dispatch(Product(self, &mut q));
        q
    }
}

/// Reflects columns, from a row on, along an axis of length 1, and turns them by a sign.
#[inline(always)]
fn reflect(axis: &[f64], sign: f64, columns: &mut [f64], rows: usize, first: usize) {
    for column in columns.chunks_exact_mut(rows) {
        let column = &mut column[first..];
        let factor = dot(axis, column) * (sign * -2.0);
        if sign < 0.0 {
            column.iter_mut().for_each(|x| *x = -*x);
        }
        add(column, factor, axis);
    }
}

/// Takes a matrix apart in its place.
struct Reflections<'a>(&'a mut Triangular);

impl pulp::NullaryFnOnce for Reflections<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Triangular { matrix, diagonal, swaps } = self.0;
        let rows = matrix.nrows();
        for (i, (diagonal, swap)) in diagonal.iter_mut().zip(swaps).enumerate() {
            let (mut largest, mut at) = (f64::NEG_INFINITY, i);
            for (j, column) in matrix.as_slice().chunks_exact(rows).enumerate().skip(i) {
                let mut most = 0.0f64;
                for x in &column[i..] {
                    most = most.max(x.abs());
                }
                if most > largest {
                    (largest, at) = (most, j);
                }
            }
            matrix.swap_columns(i, at);
            *swap = at;
            let (column, others) = matrix.as_mut_slice()[i * rows..].split_at_mut(rows);
            let axis = &mut column[i..];
            let square = dot(axis, axis);
            let length = square.sqrt();
            let signed = if axis[0] >= 0.0 { length } else { -length };
            let factor = (square + axis[0].abs() * length) * 2.0;
            axis[0] += signed;
            if factor == 0.0 {
                *diagonal = signed;
                continue;
            }
            *diagonal = -signed;
            // The first division may leave an axis that is not quite of length 1.
            for divide in 0..2 {
                let by = if divide == 0 { factor.sqrt() } else { norm(axis) };
                for x in &mut *axis {
                    *x /= by;
                }
            }
            reflect(axis, diagonal.signum(), others, rows, i);
        }
    }
}

/// Applies the reflections to the unit matrix.
struct Product<'a>(&'a Triangular, &'a mut DMatrix<f64>);

impl pulp::NullaryFnOnce for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(Triangular { matrix, diagonal, .. }, q) = self;
        let rows = matrix.nrows();
        for (i, column) in matrix.as_slice().chunks_exact(rows).enumerate().rev() {
            reflect(&column[i..], diagonal[i].signum(), &mut q.as_mut_slice()[i * rows..], rows, i);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn the_bits_are_those_of_nalgebra() {
        let mut rng = Seed::new(6).rng();
        for (rows, columns, rank) in
            [(1, 1, 1), (9, 5, 5), (40, 40, 40), (111, 60, 60), (70, 50, 20), (40, 36, 0)]
        {
            let mut draw = |n, m| DMatrix::from_fn(n, m, |_, _| StandardNormal.sample(&mut rng));
            let (left, right): (DMatrix<f64>, DMatrix<f64>) = (draw(rows, rank), draw(rank, columns));
            let matrix = left * right;
            let (ours, theirs) = (Triangular::of(matrix.clone()), matrix.col_piv_qr());
            let mut r = theirs.r();
            let diagonal: Vec<f64> = r.diagonal().iter().copied().collect();
            assert_eq!(ours.diagonal().collect::<Vec<f64>>(), diagonal);
            theirs.p().inv_permute_columns(&mut r);
            assert_eq!(ours.transposed(columns), r.transpose());
            assert_eq!(ours.q(), theirs.q());
        }
    }
}
